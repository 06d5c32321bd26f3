"""Writes the tables of ``docs/cost.md`` and its picture from the prices and counts that ``twinleg cost`` uses.

Run it from the top of the repository after a change of either: ``.venv/bin/python bench/cost_pages.py``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from twinleg.cost.model import GROUPS, MINUTES, Bill, Plan, bill, money, prices, with_warm_default

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/cost.md"
PICTURES = {"light": ROOT / "docs/images/cost-light.svg", "dark": ROOT / "docs/images/cost-dark.svg"}
SIZES = ((1, 1), (10, 100), (100, 10_000))
COLUMNS = {
    "functions": ("running the functions",),
    "Firestore": ("Firestore's reads and writes",),
    "records kept": ("keeping records",),
    "figures and logs": ("logs and alarms",),
}


# -- the design that would be written first ------------------------------------------------------


def naive_usd(markets: int, positions: int) -> Decimal:
    """What a month of the obvious design costs, at the same prices.

    It writes a document a candle, reads 500 candles and every position for each candle, and reads and writes every
    position in each sweep. It fetches markets one by one, and reads its secret at each call. Seconds: a fetch 0.15, a
    document read 0.00018, written 0.0004, a call 0.2 to 0.3.
    """
    m, p = Decimal(markets), Decimal(positions)
    ingest = Decimal("0.3") + Decimal("0.15") * m
    signal = Decimal("0.2") + (500 + p) * Decimal("0.00018")
    risk = Decimal("0.3") + Decimal("0.00058") * p
    seconds = MINUTES * (ingest + m * signal + risk)
    used = {
        "cpu": seconds,
        "memory": seconds / 2,
        "requests": MINUTES * (m + 2),
        "reads": MINUTES * (m * (500 + p) + p),
        "writes": MINUTES * (2 * m + p),
        "secret_reads": Decimal(MINUTES * 2),
    }
    listed = prices().prices
    return sum(
        (
            max(Decimal(0), amount - listed[key].free) * listed[key].usd / listed[key].per
            for key, amount in used.items()
        ),
        Decimal(0),
    )


# -- tables --------------------------------------------------------------------------------------


def group_usd(made: Bill, groups: Sequence[str]) -> Decimal:
    return sum((line.usd for line in made.lines if GROUPS[line.price.key] in groups), Decimal(0))


def sizes_table() -> str:
    rows = [["markets / positions", *COLUMNS, "all else", "**together**", "the obvious design"]]
    for markets, positions in SIZES:
        made = bill(Plan(markets, positions))
        parts = [group_usd(made, groups) for groups in COLUMNS.values()]
        rest, naive = money(made.usd - sum(parts)), money(naive_usd(markets, positions))
        rows.append([f"{markets:,} / {positions:,}", *map(money, parts), rest, f"**{money(made.usd)}**", naive])
    return table(rows)


def ways_table() -> str:
    """One market and one position, run in several ways."""
    one = Plan(1, 1)
    later = max(price.since for price in prices().prices.values() if price.since)
    live = with_warm_default(replace(one, live=True), None)
    rows = [["one market, one position", "a month", "command"]]
    ways: list[tuple[str, Bill, str]] = [
        ("paper, as `paper.tfvars` deploys it", bill(one), ""),
        ("the webhook kept warm", bill(replace(one, warm=("webhook",))), " --warm webhook"),
        ("a fixed address", bill(replace(one, static_egress=True)), " --static-egress"),
        ("live: fixed address, `webhook` and `execute` warm", bill(live), " --live"),
        ("live, nothing kept warm", bill(replace(live, warm=())), " --live --warm none"),
        ("open trades judged each 5 s, at all times", bill(replace(one, sweep_every_seconds=5)), " --sweep-every 5"),
        (f"paper, from {later} on", bill(one, on=later), f" --on {later}"),
    ]
    for text, made, words in ways:
        rows.append([text, money(made.usd), f"`twinleg cost --markets 1 --positions 1{words}`"])
    return table(rows)


def prices_table() -> str:
    rows = [["line", "list price", "free a month", "how it was checked"]]
    for price in prices().prices.values():
        per = f"{price.per:,} {price.unit}" if price.per != 1 else price.unit.removesuffix("s")
        free = f"{price.free:,}" if price.free else ""
        rows.append([price.line, f"${price.usd:f} / {per}", free, price.checked])
    return table(rows)


def slopes_table() -> str:
    """What one more of each adds where nothing is free any more."""
    start = Plan(20, 100, accounts=4)
    rows = [["one more", "adds a month, beyond the free tiers"]]
    for text, more, count in (
        ("market (with a trade a day)", replace(start, markets=40), 20),
        ("account", replace(start, accounts=8), 4),
        ("position", replace(start, positions=10_100), 10_000),
        ("trade a day", replace(start, trades_per_day=40, alerts_per_day=20), 20),
    ):
        added = (bill(more).usd_without_free_tier - bill(start).usd_without_free_tier) / count
        rows.append([text, f"${added:.4f}" if added < Decimal("0.01") else money(added)])
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


TABLES: dict[str, Callable[[], str]] = {
    "sizes": sizes_table,
    "ways": ways_table,
    "slopes": slopes_table,
    "prices": prices_table,
}


def page(text: str) -> str:
    """The page with every table made anew, between the comments that name it."""
    for name, made in TABLES.items():
        start, end = f"<!-- {name}: bench/cost_pages.py -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"{PAGE.name} must hold {start} and {end}")
        text = f"{before}{start}\n\n{made()}\n\n{end}{after}"
    return text


# -- the picture ---------------------------------------------------------------------------------

COLOURS = {
    "light": "--ink: #1f2328; --soft: #59636e; --grid: #d1d9e0; --ours: #0969da; --naive: #9a6700;",
    "dark": "--ink: #f0f6fc; --soft: #9198a1; --grid: #3d444d; --ours: #4493f8; --naive: #d29922;",
}
LEFT, RIGHT, TOP, BOTTOM = 70, 530, 56, 330
POSITIONS, DOLLARS = (1, 10_000), (1, 10_000)
MARKETS = 10


def picture(theme: str) -> str:
    """Dollars a month over open positions, both on logarithmic scales."""
    ours = [(p, float(bill(Plan(MARKETS, p)).usd)) for p in samples()]
    naive = [(p, float(naive_usd(MARKETS, p))) for p in samples()]
    marks = [*grid(), curve("naive", naive), curve("ours", ours)]
    marks += [label("naive", naive[-1], "the obvious design"), label("ours", ours[-1], "twinleg")]
    return SVG.format(colours=COLOURS[theme], marks="\n  ".join(marks), markets=MARKETS, **words(ours, naive))


def words(ours: Sequence[tuple[int, float]], naive: Sequence[tuple[int, float]]) -> dict[str, str]:
    return {
        "few": f"{ours[0][1]:,.0f}", "many": f"{ours[-1][1]:,.0f}",
        "naive_few": f"{naive[0][1]:,.0f}", "naive_many": f"{naive[-1][1]:,.0f}",
    }  # fmt: skip


def samples() -> list[int]:
    return sorted({round(10 ** (step / 6)) for step in range(25)})


def x_of(positions: float) -> float:
    return LEFT + (RIGHT - LEFT) * math.log10(positions / POSITIONS[0]) / math.log10(POSITIONS[1] / POSITIONS[0])


def y_of(usd: float) -> float:
    share = math.log10(max(usd, DOLLARS[0]) / DOLLARS[0]) / math.log10(DOLLARS[1] / DOLLARS[0])
    return BOTTOM - (BOTTOM - TOP) * share


def grid() -> list[str]:
    marks = []
    for power in range(5):
        y, x = y_of(10**power), x_of(10**power)
        marks.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}"/>')
        marks.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">${10**power:,}</text>')
        marks.append(f'<text class="tick" x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">{10**power:,}</text>')
    middle = (LEFT + RIGHT) / 2
    marks.append(f'<text class="tick" x="{middle}" y="{BOTTOM + 42}" text-anchor="middle">open positions</text>')
    return marks


def curve(name: str, points: Sequence[tuple[int, float]]) -> str:
    path = " ".join(f"{x_of(p):.1f},{y_of(usd):.1f}" for p, usd in points)
    return f'<polyline class="{name}" points="{path}"/>'


def label(name: str, end: tuple[int, float], text: str) -> str:
    y = y_of(end[1])
    return f'<text class="{name}-name" x="{RIGHT + 10}" y="{y + 4:.1f}">{text}, ${end[1]:,.0f}</text>'


SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 390" width="780" height="390" role="img" \
aria-labelledby="title desc">
  <title id="title">Dollars a month over open positions</title>
  <desc id="desc">With {markets} markets, from one to ten thousand positions, twinleg goes from {few} to {many} dollars
  a month and the obvious design from {naive_few} to {naive_many}.</desc>
  <style>
    svg {{ {colours} }}
    text {{ font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }}
    .head {{ font-size: 16px; font-weight: 600; fill: var(--ink); }}
    .tick {{ font-size: 13px; fill: var(--soft); }}
    .grid {{ stroke: var(--grid); stroke-width: 1; }}
    .ours, .naive {{ fill: none; stroke-width: 2.5; stroke-linejoin: round; }}
    .ours {{ stroke: var(--ours); }} .naive {{ stroke: var(--naive); stroke-dasharray: 6 4; }}
    .ours-name, .naive-name {{ font-size: 14px; font-weight: 600; }}
    .ours-name {{ fill: var(--ours); }} .naive-name {{ fill: var(--naive); }}
  </style>
  <text class="head" x="20" y="28">Dollars a month, {markets} markets, list prices</text>
  {marks}
</svg>
"""


def main() -> int:
    PAGE.write_text(page(PAGE.read_text()))
    for theme, path in PICTURES.items():
        path.write_text(picture(theme))
    print(f"written: {PAGE.name}, {', '.join(path.name for path in PICTURES.values())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
