"""The price with the trades on it: both legs' entries and exits, levels, and how each trade ended.

A marker above the price sold, one below it bought, its tip at the fill's price; so the two legs of one trade never
cover each other. Main legs are large, hedges small.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from twinleg.domain.candles import Candle
from twinleg.domain.messages import Event, EventKind
from twinleg.domain.money import plain
from twinleg.domain.orders import LegRole, Side
from twinleg.domain.trades import Leg, Trade
from twinleg.embedded.charts import (
    LEFT,
    POINTS_MAX,
    RIGHT,
    WIDTH,
    Axis,
    Panel,
    frame,
    grouped,
    label,
    nice_ticks,
    path,
    places_for,
    px,
    rule,
    seconds,
    spread,
    svg,
    tag,
    title,
)
from twinleg.embedded.report_data import Ending, ending

CANDLESTICKS_MAX = 260
"""With more candles than this a close line within its high-low band is drawn instead."""
FULL_MARKS_MAX = 40
"""With more trades than this on one chart they are drawn small and without their numbers."""
RAIL_KINDS = {
    EventKind.REFUSED: "refused",
    EventKind.CANDLE_SUSPECT: "suspect candle",
    EventKind.GAP: "missing candle",
    EventKind.BREAKER: "breaker",
    EventKind.HALTED: "halted",
    EventKind.ORPHAN: "orphan",
    EventKind.NEEDS_A_PERSON: "needs a person",
}
QUIET = (EventKind.REFUSED, EventKind.GAP)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One or more candles drawn as one."""

    at: float
    open: float
    high: float
    low: float
    close: float
    seconds: float


def buckets(candles: Sequence[Candle], limit: int = POINTS_MAX) -> list[Bucket]:
    """The candles, joined so that at most *limit* are drawn; highs and lows are never lost."""
    size = math.ceil(len(candles) / limit) or 1
    found = []
    for start in range(0, len(candles), size):
        part = candles[start : start + size]
        first, last = seconds(part[0].opened_at), seconds(part[-1].closed_at)
        high, low = max(c.high for c in part), min(c.low for c in part)
        found.append(Bucket(first, float(part[0].open), float(high), float(low), float(part[-1].close), last - first))
    return found


def price_chart(
    candles: Sequence[Candle],
    trades: Sequence[Trade],
    events: Sequence[Event],
    *,
    name: str,
    width: float = WIDTH,
    height: float = 400,
    numbers: Sequence[int] | None = None,
    limit: int = POINTS_MAX,
    highlight: tuple[datetime, datetime] | None = None,
) -> str:
    """The price over the candles' time with these trades on it (*numbers*: theirs; else from 1 in the order given)."""
    bars = buckets(candles, limit)
    if not bars:
        return svg(label(width / 2, 40, "no candles", "empty", "middle"), width, 80, name)
    span = (bars[0].at, bars[-1].at + bars[-1].seconds)
    low, high = _price_range(bars, trades)
    top, bottom = 14.0, height - 26
    panel = Panel(Axis(*span, LEFT, width - RIGHT), Axis(low, high, bottom, top), top, bottom)
    ticks = nice_ticks(low, high, max(3, round(height / 70)))
    places = places_for(ticks)
    clip = "c" + "".join(c for c in f"{name}{span[0]:.0f}" if c.isalnum())
    area = tag("rect", x=LEFT, y=0.0, width=float(width - RIGHT - LEFT), height=bottom)
    called = numbers or range(1, len(trades) + 1)
    compact = len(trades) > FULL_MARKS_MAX
    marks = "".join(
        _trade(trade, number, panel, events, bars, compact) for number, trade in zip(called, trades, strict=True)
    )
    content = (
        tag("defs", tag("clipPath", area, id=clip))
        + frame(panel, ticks, lambda value: grouped(value, places))
        + tag("g", _highlight(highlight, panel) + _price(bars, panel) + marks, clip_path=f"url(#{clip})")
        + _rail(events, panel)
        + label(LEFT - 8, top - 4, "USD", "unit", "end")
        + _last_price(bars, panel, places)
    )
    return svg(content, width, height, name, data_x0=span[0], data_x1=span[1])


def _highlight(stretch: tuple[datetime, datetime] | None, panel: Panel) -> str:
    """A stretch of time shaded, at least some pixels wide."""
    if stretch is None:
        return ""
    x1, x2 = panel.x(seconds(stretch[0])), panel.x(seconds(stretch[1]))
    wide = max(x2 - x1, 8.0)
    return tag("rect", x=(x1 + x2 - wide) / 2, y=panel.top, width=wide, height=panel.height, class_="highlight")


def _price_range(bars: Sequence[Bucket], trades: Sequence[Trade]) -> tuple[float, float]:
    """The candles' range, widened for stops and targets as far as that does not flatten the price."""
    low, high = min(b.low for b in bars), max(b.high for b in bars)
    room = max(high - low, high * 0.002) * 0.45
    levels = [
        float(level)
        for t in trades
        for level in (t.main.stop_price, t.main.target_price)
        if level and t.main.size_filled
    ]
    near = [level for level in levels if low - room <= level <= high + room]
    return spread([low, high, *near], 0.07)


def _price(bars: Sequence[Bucket], panel: Panel) -> str:
    if len(bars) <= CANDLESTICKS_MAX and len({b.seconds for b in bars}) <= 2:
        return _candlesticks(bars, panel)
    middle = [(panel.x(b.at + b.seconds / 2), b) for b in bars]
    above = [(x, panel.y(b.high)) for x, b in middle]
    below = [(x, panel.y(b.low)) for x, b in reversed(middle)]
    close = [(panel.x(b.at + b.seconds), panel.y(b.close)) for b in bars]
    return tag("path", d=path([*above, *below]) + "Z", class_="band") + tag("path", d=path(close), class_="line price")


def _candlesticks(bars: Sequence[Bucket], panel: Panel) -> str:
    wide = max(1.2, (panel.x(bars[0].at + bars[0].seconds) - panel.x(bars[0].at)) * 0.62)
    wicks: list[str] = []
    rising: list[str] = []
    falling: list[str] = []
    for bar in bars:
        x = panel.x(bar.at + bar.seconds / 2)
        wicks.append(f"M{px(x)} {px(panel.y(bar.high))}V{px(panel.y(bar.low))}")
        y, height = panel.y(max(bar.open, bar.close)), max(1.0, abs(panel.y(bar.open) - panel.y(bar.close)))
        body = f"M{px(x - wide / 2)} {px(y)}h{px(wide)}v{px(height)}h{px(-wide)}z"
        (rising if bar.close >= bar.open else falling).append(body)
    return (
        tag("path", d="".join(wicks), class_="wick")
        + (tag("path", d="".join(rising), class_="rising") if rising else "")
        + (tag("path", d="".join(falling), class_="falling") if falling else "")
    )


def _last_price(bars: Sequence[Bucket], panel: Panel, places: int) -> str:
    y = panel.y(bars[-1].close)
    return label(panel.x.at_high + 6, y + 4, grouped(bars[-1].close, places), "end price-end")


# -- trades ----------------------------------------------------------------------------------------


def _trade(
    trade: Trade, number: int, panel: Panel, events: Sequence[Event], bars: Sequence[Bucket], compact: bool
) -> str:
    start = seconds(trade.opened_at or trade.created_at)
    end = seconds(trade.closed_at) if trade.closed_at else panel.x.high
    if end < panel.x.low or start > panel.x.high or not trade.main.size_filled:
        return ""
    how = ending(trade)
    x1, x2 = panel.x(start), panel.x(end)
    if compact:
        words = f"#{number} {trade.intent.direction}: {how}, {grouped(float(trade.pnl_usd), 2)} USD"
        legs = [_leg(leg, how, start, end, panel, compact) for leg in reversed(trade.legs) if leg.size_filled]
        return tag("g", title(words) + "".join(legs), class_="trade compact")
    parts = [title(trade_words(trade, number))]
    for price, css in ((trade.main.stop_price, "stop"), (trade.main.target_price, "target")):
        if price:
            parts.append(rule(x1, panel.y(float(price)), max(x2, x1 + 3), panel.y(float(price)), f"level {css}"))
    parts += [_leg(leg, how, start, end, panel, compact) for leg in reversed(trade.legs) if leg.size_filled]
    parts += [
        _cut(seconds(e.at), panel, bars) for e in events if e.kind is EventKind.CUT and e.trade_id == trade.trade_id
    ]
    y = panel.y(float(trade.main.entry_price)) + (23 if trade.main.side is Side.BUY else -15)
    parts.append(label(x1, y, str(number), "number", "middle"))
    return tag("g", "".join(parts), class_=f"trade {how.name.lower().replace('_', '-')}")


def _leg(leg: Leg, how: Ending, start: float, end: float, panel: Panel, compact: bool) -> str:
    css = leg.role.value
    size = (6.5 if leg.role is LegRole.MAIN else 4.0) * (0.5 if compact else 1.0)
    x1, y1 = panel.x(start), panel.y(float(leg.entry_price))
    parts = []
    if leg.size_closed:
        x2, y2 = panel.x(end), panel.y(float(leg.exit_price))
        parts.append(rule(x1, y1, x2, y2, f"life {css}"))
        below = leg.side is Side.SELL
        parts.append(_exit_mark(how, x2, y2 + (size + 4 if below else -size - 4), size, css))
        parts.append(rule(x2, y2, x2, y2 + (4 if below else -4), f"life {css}"))
    else:
        parts.append(rule(x1, y1, panel.x(end), y1, f"life {css}"))
    parts.append(triangle(x1, y1, size, up=leg.side is Side.BUY, css=f"mark {css}"))
    return "".join(parts)


def _cut(at: float, panel: Panel, bars: Sequence[Bucket]) -> str:
    """A cut lies on the price of its time."""
    bar = bars[max(0, bisect_right(bars, at, key=lambda b: b.at) - 1)]
    return shape(Ending.LADDER, panel.x(at), panel.y(bar.close), 5.0, "mark cut")


def triangle(x: float, y: float, size: float, *, up: bool, css: str) -> str:
    """A triangle with its tip at (x, y): up = from below, a buy; else from above, a sell."""
    away = size * 1.7 if up else -size * 1.7
    return tag("path", d=path([(x, y), (x - size, y + away), (x + size, y + away)]) + "Z", class_=css)


def _exit_mark(how: Ending, x: float, y: float, size: float, css: str) -> str:
    return shape(how, x, y, size * 0.85, f"mark exit {css}")


def shape(how: Ending, x: float, y: float, size: float, css: str) -> str:
    """The shape of an ending: told by outline, not by colour."""
    s = size
    if how is Ending.TARGET:
        return tag("circle", cx=x, cy=y, r=s, class_=css) + tag("circle", cx=x, cy=y, r=s * 0.4, class_="pip")
    if how is Ending.SIGNAL:
        return tag("circle", cx=x, cy=y, r=s, class_=css)
    lines = {
        Ending.STOP: [[(x - s, y - s), (x + s, y + s)], [(x - s, y + s), (x + s, y - s)]],
        Ending.UNWOUND: [[(x + s, y - s), (x - s, y), (x + s, y + s)]],
        Ending.OTHER: [[(x - s, y), (x + s, y)], [(x, y - s), (x, y + s)]],
    }
    if how in lines:
        return tag("path", d="".join(path(points) for points in lines[how]), class_=f"{css} open")
    polygons = {
        Ending.TIME_LIMIT: [(x - s, y - s), (x + s, y - s), (x - s, y + s), (x + s, y + s)],
        Ending.LADDER: [(x, y - s * 1.25), (x + s * 1.25, y), (x, y + s * 1.25), (x - s * 1.25, y)],
        Ending.NET_LIMIT: [(x - s, y - s), (x + s, y - s), (x + s, y + s), (x - s, y + s)],
        Ending.LIQUIDATED: _star(x, y, s * 1.5),
    }
    return tag("path", d=path(polygons.get(how, polygons[Ending.NET_LIMIT])) + "Z", class_=css)


def _star(x: float, y: float, size: float) -> list[tuple[float, float]]:
    return [
        (x + math.sin(i * math.pi / 5) * r, y - math.cos(i * math.pi / 5) * r)
        for i in range(10)
        for r in (size if i % 2 == 0 else size * 0.45,)
    ]


def trade_words(trade: Trade, number: int) -> str:
    """The trade in a tooltip."""
    lines = [f"#{number} {trade.intent.direction} {trade.main.market}: {ending(trade)}", trade.trade_id]
    for leg in trade.legs:
        out = f" → {_price_text(leg.exit_price)}" if leg.size_closed else ""
        lines.append(
            f"{leg.role} {leg.side} {plain(leg.size_filled)} at {_price_text(leg.entry_price)}{out} on {leg.account}"
        )
    lines.append(f"stop {_price_text(trade.main.stop_price)}, target {_price_text(trade.main.target_price)}")
    lines.append(f"P&L {grouped(float(trade.pnl_usd), 2)} USD; {trade.why_closed}")
    return "\n".join(lines)


def _price_text(price: Decimal) -> str:
    return f"{float(price):,.10g}"


# -- events ----------------------------------------------------------------------------------------


def _rail(events: Sequence[Event], panel: Panel) -> str:
    """Small marks on the time axis for what was refused or went wrong, at most one a pixel and kind."""
    found: dict[tuple[int, EventKind], list[Event]] = {}
    for event in events:
        at = seconds(event.at)
        if event.kind in RAIL_KINDS and panel.x.low <= at <= panel.x.high:
            found.setdefault((round(panel.x(at)), event.kind), []).append(event)
    parts = []
    for (x, kind), same in sorted(found.items()):
        words = f"{RAIL_KINDS[kind]}{f' ×{len(same)}' if len(same) > 1 else ''}: {same[0].summary}"
        css = "rail quiet" if kind in QUIET else "rail loud"
        parts.append(rule(x, panel.bottom - 8, x, panel.bottom, css, title(words)))
    return "".join(parts)
