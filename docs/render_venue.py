"""Draws docs/images/candle-light.svg and -dark.svg: what the paper venue does inside a candle.

    .venv/bin/python docs/render_venue.py

Left, the points of the path through a quiet candle and a wide one; right, the book's depth in each of the two. Both
come from the venue's own code, so the pictures change only when its rules do.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from twinleg.domain.candles import MINUTE, Candle, ms_from_utc
from twinleg.paper.book import Book
from twinleg.paper.listings import listings
from twinleg.paper.options import BookShape
from twinleg.paper.path import Point, walk

IMAGES = Path(__file__).parent / "images"
COLOURS = {
    "light": "--ink: #1f2328; --soft: #59636e; --grid: #d1d9e0; --quiet: #0969da; --wide: #9a6700; --body: #eaeef2;",
    "dark": "--ink: #f0f6fc; --soft: #9198a1; --grid: #3d444d; --quiet: #4493f8; --wide: #d29922; --body: #212830;",
}
START = datetime(2026, 1, 5, tzinfo=UTC)
MINUTE_MS = 60_000
COIN = "BTC"


def candle(minute: int, *prices: int) -> Candle:
    o, h, low, c = map(Decimal, prices)
    return Candle(START + minute * MINUTE, o, h, low, c, Decimal(20))


QUIET = candle(0, 100_000, 100_080, 99_940, 100_040)
WIDE = candle(1, 100_040, 100_120, 98_900, 99_300)
LOW, HIGH = 98_800, 100_200
BPS_MAX, USD_MAX = 50, 1_200_000

Line = list[tuple[float, float]]


def points(of: Candle) -> list[Point]:
    return walk(of, ms_from_utc(of.opened_at), MINUTE_MS)


def depth(of: Candle) -> list[tuple[float, float]]:
    """(bps below the mid, USD bid down to there) once the candle has shown its whole range."""
    book = Book(listings()[COIN], BookShape(), [Decimal(1)])
    book.move(of.close, (of.high - of.low) / of.close, 0)
    total, out = 0.0, []
    for price, size in book.ladder(bids=True):
        bps = float((of.close - price) / of.close * 10_000)
        out.append((bps, total))
        total += float(price * size)
        out.append((bps, total))
    return out


def path_at(at_ms: int, price: Decimal) -> tuple[float, float]:
    seconds = (at_ms - ms_from_utc(START)) / 1000
    return 70 + seconds * 300 / 120, 330 - (float(price) - LOW) * 270 / (HIGH - LOW)


def depth_at(bps: float, usd: float) -> tuple[float, float]:
    return 470 + bps * 290 / BPS_MAX, 330 - usd * 270 / USD_MAX


def polyline(name: str, line: Sequence[tuple[float, float]]) -> str:
    return f'  <polyline class="{name}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in line)}"/>'


def dots(name: str, line: Sequence[tuple[float, float]]) -> list[str]:
    return [f'  <circle class="{name}-dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in line]


def text(kind: str, x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'  <text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def path_panel() -> list[str]:
    parts = [text("head", 20, 28, "The path: open, an extreme, the other, close")]
    for price in range(98_800, 100_201, 200):
        _, y = path_at(ms_from_utc(START), Decimal(price))
        parts += [f'  <line class="grid" x1="70" y1="{y:.1f}" x2="370" y2="{y:.1f}"/>']
        parts += [text("tick", 62, y + 4, f"{price:,}", "end")]
    for seconds in (0, 30, 60, 90, 120):
        parts += [text("tick", 70 + seconds * 2.5, 350, f"{seconds} s", "middle")]
    for name, of in (("quiet", QUIET), ("wide", WIDE)):
        begins = ms_from_utc(of.opened_at)
        (left, top), (right, bottom) = path_at(begins, of.high), path_at(begins + MINUTE_MS, of.low)
        box = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
        line = [path_at(at, price) for at, price in points(of)]
        parts += [f'  <rect class="body" {box}/>', polyline(name, line), *dots(name, line)]
    parts += [text("quiet-name", 74, 140, f"rises: {len(points(QUIET))} points")]
    parts += [text("wide-name", 282, 84, f"falls: {len(points(WIDE))} points")]
    return parts


def depth_panel() -> list[str]:
    parts = [text("head", 420, 28, f"{COIN} bids, summed, below the mid")]
    for usd in range(0, USD_MAX + 1, 200_000):
        _, y = depth_at(0, usd)
        parts += [f'  <line class="grid" x1="470" y1="{y:.1f}" x2="760" y2="{y:.1f}"/>']
        parts += [text("tick", 462, y + 4, f"${usd / 1e6:.1f}M" if usd else "0", "end")]
    for bps in range(0, BPS_MAX + 1, 10):
        x, _ = depth_at(bps, 0)
        parts += [text("tick", x, 350, f"{bps} bps", "middle")]
    for name, of in (("quiet", QUIET), ("wide", WIDE)):
        shown = [at for at in depth(of) if at[0] <= BPS_MAX]
        parts.append(polyline(name, [depth_at(*at) for at in shown]))
        x, y = depth_at(*shown[-1])
        bps = float((of.high - of.low) / of.close * 10_000)
        parts.append(text(f"{name}-name", min(x, 748), y - 8, f"range {bps:.0f} bps", "end"))
    return parts


def picture(colours: str) -> str:
    style = f"""  <style>
    svg {{ {colours} }}
    text {{ font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }}
    .head {{ font-size: 15px; font-weight: 600; fill: var(--ink); }}
    .tick {{ font-size: 12px; fill: var(--soft); }}
    .grid {{ stroke: var(--grid); stroke-width: 1; }}
    .body {{ fill: var(--body); }}
    .quiet, .wide {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}
    .quiet {{ stroke: var(--quiet); }} .wide {{ stroke: var(--wide); stroke-dasharray: 6 3; }}
    .quiet-dot {{ fill: var(--quiet); }} .wide-dot {{ fill: var(--wide); }}
    .quiet-name, .wide-name {{ font-size: 13px; font-weight: 600; }}
    .quiet-name {{ fill: var(--quiet); }} .wide-name {{ fill: var(--wide); }}
  </style>"""
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 370" width="780" height="370" role="img" '
        'aria-labelledby="title desc">\n'
        '  <title id="title">Inside a candle of the paper venue</title>\n'
        '  <desc id="desc">Left: the points that the price stops at in a quiet rising minute and a wide falling one.'
        " Right: the bids of the book, far fewer and further apart in the wide minute.</desc>"
    )
    return "\n".join([head, style, *path_panel(), *depth_panel(), "</svg>\n"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures (default docs/images)")
    out: Path = arguments.parse_args().out
    for name, colours in COLOURS.items():
        (out / f"candle-{name}.svg").write_text(picture(colours))


if __name__ == "__main__":
    main()
