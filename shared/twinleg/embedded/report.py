"""A run as one self-contained page: no other file, no network, complete without a script, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any

from twinleg.domain.candles import Candle
from twinleg.domain.messages import Event
from twinleg.domain.money import ZERO
from twinleg.domain.trades import Trade
from twinleg.embedded.charts import seconds, svg, tag
from twinleg.embedded.price_chart import FULL_MARKS_MAX, price_chart, shape, triangle
from twinleg.embedded.report_data import Ending, ReportData, Sample, Segment, ending, shown_trades
from twinleg.embedded.report_parts import (
    LISTED,
    LOUD,
    WorstBar,
    cursor_data,
    curves,
    distance_chart,
    equity_chart,
    lived_through,
    ratio_chart,
    reasons,
    worst_bar,
)
from twinleg.embedded.report_style import SCRIPT, STYLE
from twinleg.embedded.report_table import DASH, card, figure, signed, trade_table
from twinleg.risk.limits import Limits

__all__ = ["ReportData", "Sample", "Segment", "render_report"]

EVENTS_MAX = 400
CLOSE_UPS_MAX = 12
CLOSE_UP_BARS_MAX = 240
DAY_BARS_MAX = 480
DAY_TRADES_MAX = 300


def render_report(data: ReportData) -> str:
    """The page. Everything that came from outside is escaped; risk numbers that were not measured say so."""
    body = (
        tag("h1", escape(data.title))
        + _lead(data)
        + _kpis(data)
        + _counts(data.summary)
        + "".join(_segment(segment, data.limits) for segment in data.segments)
        + _footer()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(data.title)}</title><style>{STYLE}</style></head>"
        f'<body><div class="page">{body}</div><script>{SCRIPT}</script></body></html>\n'
    )


# -- the head --------------------------------------------------------------------------------------


def _lead(data: ReportData) -> str:
    spans = [
        f"{segment.label}: {len(segment.candles):,} candles of {segment.market}"
        + (f", {_span(segment.candles[0].opened_at, segment.candles[-1].closed_at)}" if segment.candles else "")
        for segment in data.segments
    ]
    return tag("p", "<br>".join(escape(span) for span in spans), class_="lead")


def _span(start: datetime, end: datetime) -> str:
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


def _kpis(data: ReportData) -> str:
    trades = [trade for segment in data.segments for trade in shown_trades(segment)]
    real = [s for s in data.segments if not s.synthetic] or data.segments
    pnl = sum((trade.pnl_usd for segment in real for trade in shown_trades(segment)), ZERO)
    by_segment = [(s.name, shown_trades(s)) for s in data.segments]
    cards = [
        _kpi("trades", str(len(trades)), "", _by([(name, str(len(of))) for name, of in by_segment])),
        _kpi(
            "P&L after costs, USD",
            signed(pnl),
            "",
            _by([(name, signed(sum((t.pnl_usd for t in of), ZERO))) for name, of in by_segment]),
            "good" if pnl > 0 else ("bad" if pnl < 0 else ""),
        ),
    ]
    for name, words in (
        ("liquidations", "liquidations"),
        ("orphans", "orphaned legs"),
        ("double_orders", "double orders"),
        ("unhedged_seconds_max", "longest leg alone"),
    ):
        cards.append(_risk(data.summary, name, words))
    return tag("div", "".join(cards), class_="kpis")


def _risk(summary: Mapping[str, Any], name: str, words: str) -> str:
    """A number that ought to be 0 (or small); one that is missing is not called 0."""
    value = summary.get(name)
    if value is None:
        return _kpi(words, DASH, "", ("not measured",), "bad")
    unit = "s" if name == "unhedged_seconds_max" else ""
    parts = [
        (key, f"{segment[name]:,g} {unit}".strip())
        for key, segment in (summary.get("segments") or {}).items()
        if name in segment
    ]
    css = "" if unit else ("good" if value == 0 else "bad")
    return _kpi(words, f"{value:,g}", unit, _by(parts), css)


def _by(parts: Sequence[tuple[str, str]]) -> Sequence[str]:
    return [f"{name} {value}" for name, value in parts] if len(parts) > 1 else ()


def _kpi(words: str, value: str, unit: str, by: Sequence[str], css: str = "") -> str:
    shown = escape(value) + (tag("small", f" {escape(unit)}") if unit else "")
    inner = tag("span", escape(words), class_="what") + tag("b", shown, class_=css or None)
    return tag("div", inner + "".join(tag("span", escape(part), class_="by") for part in by), class_="kpi")


def _counts(summary: Mapping[str, Any]) -> str:
    names = (
        ("candles", "candles"), ("alerts_received", "alerts received"), ("alerts_refused", "refused at the door"),
        ("alerts_duplicate", "duplicates"), ("signals", "signals"), ("intents", "intents"),
    )  # fmt: skip
    parts = [f"<b>{summary[key]:,}</b> {words}" for key, words in names if isinstance(summary.get(key), int)]
    refused = summary.get("refused")
    if isinstance(refused, Mapping) and refused:
        why = ", ".join(f"{escape(str(code))} {count}" for code, count in refused.items())
        parts.append(f"<b>{sum(refused.values()):,}</b> intents refused by the gate ({why})")
    if isinstance(summary.get("wall_seconds"), (int, float)):
        parts.append(f"<b>{summary['wall_seconds']:,.1f}</b> s of wall time")
    return tag("p", " · ".join(parts), class_="counts") if parts else ""


# -- one segment -----------------------------------------------------------------------------------


def _segment(segment: Segment, limits: Limits) -> str:
    trades = shown_trades(segment)
    badge = (
        tag("span", "synthetic, made from a seed: not a market", class_="badge synthetic")
        if segment.synthetic
        else tag("span", "real candles", class_="badge real")
    )
    head = tag("header", tag("h2", escape(segment.label)) + badge)
    cards = _charts(segment, trades, limits) + _what_happened(segment, trades) + trade_table(trades)
    css = "segment synthetic" if segment.synthetic else "segment"
    return tag("section", head + cards + _close_ups(segment, trades), class_=css)


def _scroll(inner: str) -> str:
    return tag("div", inner, class_="scroll timed")


def _charts(segment: Segment, trades: Sequence[Trade], limits: Limits) -> str:
    found = curves(segment)
    span = (0.0, 1.0)
    if segment.candles:
        span = (seconds(segment.candles[0].opened_at), seconds(segment.candles[-1].closed_at))
    price = price_chart(segment.candles, trades, segment.events, name=f"{segment.label}: price and trades")
    zoom = _stretches(segment, trades) if len(trades) > FULL_MARKS_MAX else ""
    readout = tag("div", "Move over a chart to read its values; rest on a trade for its story.", class_="readout")
    data = f'<script type="application/json">{cursor_data(segment, found)}</script>'
    return (
        card(f"{segment.market}, USD", "", readout + _scroll(price) + _legend(trades) + zoom + data)
        + card("Equity", "Change since the start, USD, per account.", _scroll(equity_chart(segment, found, span)))
        + card(
            "Margin ratio",
            "Account value ÷ maintenance margin of each leg's account, logarithmic; liquidated at 1. "
            "Dotted: the protection ladder's rungs.",
            _scroll(ratio_chart(segment, found, span, limits)),
        )
        + card(
            "Liquidation distance left",
            "Per cent of the distance at entry, which is what the ladder watches: 100 as opened, 0 liquidated.",
            _scroll(distance_chart(segment, found, span, limits)),
        )
    )


def _stretches(segment: Segment, trades: Sequence[Trade]) -> str:
    """A run of many trades again, day by day, where each trade has its number.

    Of very many trades only the days that moved the most money are drawn, so that the page stays small.
    """
    days: dict[datetime, list[int]] = {}
    for place, trade in enumerate(trades):
        opened = trade.opened_at or trade.created_at
        days.setdefault(opened.replace(hour=0, minute=0, second=0, microsecond=0), []).append(place)
    chosen: list[datetime] = []
    drawn = 0
    for day in sorted(days, key=lambda day: -sum(abs(trades[place].pnl_usd) for place in days[day])):
        if drawn + len(days[day]) <= DAY_TRADES_MAX:
            chosen.append(day)
            drawn += len(days[day])
    charts = "".join(_day(segment, day, [(n + 1, trades[n]) for n in days[day]]) for day in sorted(chosen))
    which = (
        "each day" if len(chosen) == len(days) else f"the {len(chosen)} of {len(days)} days that moved the most money"
    )
    return tag("p", f"Many trades, so their marks are small; in full for {which}:", class_="note") + charts


def _day(segment: Segment, day: datetime, within: Sequence[tuple[int, Trade]]) -> str:
    until = day + timedelta(days=1)
    candles = [c for c in segment.candles if day <= c.opened_at < until]
    if not candles:
        return ""
    chart = price_chart(
        candles, [t for _, t in within], [e for e in segment.events if day <= e.at < until],
        name=f"{segment.label}: {day:%Y-%m-%d}", height=300, numbers=[n for n, _ in within], limit=DAY_BARS_MAX,
    )  # fmt: skip
    words = f"{day:%d %b %Y}: trades {within[0][0]} to {within[-1][0]}"
    return tag("details", tag("summary", escape(words)) + tag("div", chart, class_="scroll"))


def _legend(trades: Sequence[Trade]) -> str:
    """The marks in words; of the endings only those that occur."""
    items = [
        (triangle(9, 3, 5.5, up=True, css="mark main"), "main leg buys"),
        (triangle(9, 13, 5.5, up=False, css="mark main"), "main leg sells"),
        (triangle(9, 13, 3.6, up=False, css="mark hedge"), "hedge (small, opposite)"),
        ('<line x1="1" y1="8" x2="17" y2="8" class="level stop"></line>', "stop"),
        ('<line x1="1" y1="8" x2="17" y2="8" class="level target"></line>', "target"),
    ]
    seen = {ending(trade) for trade in trades}
    items += [
        (shape(how, 9, 8, 5, "mark legend"), f"closed: {how}")
        for how in Ending
        if how in seen and how is not Ending.OPEN
    ]
    if any(trade.cut for trade in trades):
        items.append((shape(Ending.LADDER, 9, 8, 4.5, "mark cut"), "cut by the ladder"))
    items.append(('<line x1="9" y1="3" x2="9" y2="13" class="rail quiet"></line>', "refused, gap"))
    items.append(
        ('<line x1="9" y1="3" x2="9" y2="13" class="rail loud"></line>', "suspect candle, orphan, breaker, halt")
    )
    return tag(
        "ul",
        "".join(tag("li", svg(icon, 18, 16, "", "icon") + escape(words)) for icon, words in items),
        class_="legend",
    )


# -- what happened ---------------------------------------------------------------------------------


def _what_happened(segment: Segment, trades: Sequence[Trade]) -> str:
    worst = worst_bar(segment)
    return tag("div", (_worst(worst, trades) if worst else "") + _timeline(segment), class_="two")


def _worst(worst: WorstBar, trades: Sequence[Trade]) -> str:
    candle, numbers = worst.candle, {trade.trade_id: n for n, trade in enumerate(trades, 1)}
    minutes = candle.interval == timedelta(minutes=1)
    chart = price_chart(
        worst.around, worst.trades, worst.events, name=f"around {candle.opened_at}", width=560, height=230,
        numbers=[numbers[t.trade_id] for t in worst.trades], highlight=(candle.opened_at, candle.closed_at),
    )  # fmt: skip
    rows = [
        ("when", f"{candle.opened_at:%Y-%m-%d %H:%M} UTC"),
        ("range", f"{worst.range_percent:.2f} % ({figure(candle.low)} to {figure(candle.high)})"),
        ("open, close", f"{figure(candle.open)}, {figure(candle.close)}"),
        (
            "held",
            "; ".join(f"#{numbers[t.trade_id]} {t.intent.direction}, {ending(t)}" for t in worst.trades) or "nothing",
        ),
    ]
    for sample in worst.samples:
        if sample.margin_ratio is not None:
            distance = sample.liquidation_distance
            far = f", {float(distance) * 100:.1f} % from liquidation" if distance is not None else ""
            rows.append((sample.account, f"margin ratio {float(sample.margin_ratio):.2f}{far}"))
    fired = [event for event in worst.events if event.kind in LISTED] or list(worst.events)
    facts = "".join(tag("dt", escape(name)) + tag("dd", escape(value)) for name, value in rows)
    listed = tag("ul", "".join(_event(e) for e in fired[:12]), class_="events")
    said = listed if fired else tag("p", "Nothing fired in it, nor in the sweep after it.", class_="note")
    heading = (
        "The worst minute" if minutes else f"The worst bar of {round(candle.interval.total_seconds() / 60)} minutes"
    )
    inner = (
        tag("div", chart, class_="scroll small")
        + tag("dl", facts)
        + tag("h3", "What fired", style="margin-top:12px")
        + said
    )
    return card(heading, "The largest range of any bar that was traded through.", inner)


def _timeline(segment: Segment) -> str:
    events = sorted(segment.events, key=lambda e: e.at)
    notable = [event for event in events if event.kind in LISTED]
    left_out = 0
    if len(notable) > EVENTS_MAX:
        loud = [event for event in notable if event.kind in LOUD][:EVENTS_MAX]
        left_out, notable = len(notable) - len(loud), loud
    counted = " · ".join(f"{words} ×{count}" for words, count in reasons(events)[:12])
    note = counted or "Nothing was refused or ignored."
    if left_out:
        note += f" · {left_out:,} openings, closings and warnings are left out of this list"
    listed = "".join(_event(event) for event in notable)
    inner = tag("ul", listed, class_="events") if listed else tag("p", "Nothing else of note.", class_="note")
    return card("What happened", note, inner)


def _event(event: Event) -> str:
    css = "kind loud" if event.kind in LOUD else "kind"
    return tag(
        "li",
        tag("time", f"{event.at:%d %b %H:%M:%S}", datetime=event.at.isoformat())
        + tag("span", escape(event.kind.value.replace("_", " ")), class_=css)
        + tag("span", escape(event.summary)),
    )


# -- close-ups -------------------------------------------------------------------------------------


def _close_ups(segment: Segment, trades: Sequence[Trade]) -> str:
    """Each trade on its own candles; of many, those with the largest gain or loss."""
    chosen = sorted(enumerate(trades, 1), key=lambda pair: -abs(pair[1].pnl_usd))[:CLOSE_UPS_MAX]
    charts = [card for number, trade in sorted(chosen) if (card := _close_up(segment, number, trade))]
    if not charts:
        return ""
    note = "" if len(trades) <= CLOSE_UPS_MAX else f"The {CLOSE_UPS_MAX} of {len(trades)} that moved the most money."
    grid = tag("div", "".join(charts), class_="two")
    return tag("h3", "Each trade close up") + (tag("p", escape(note), class_="note") if note else "") + grid


def _close_up(segment: Segment, number: int, trade: Trade) -> str:
    if not trade.main.size_filled or not segment.candles:
        return ""
    start, end = trade.opened_at or trade.created_at, trade.closed_at or segment.candles[-1].closed_at
    margin = max(timedelta(minutes=10), (end - start) / 4)
    around: list[Candle] = [c for c in segment.candles if c.closed_at >= start - margin and c.opened_at <= end + margin]
    chart = price_chart(
        around, [trade], [e for e in segment.events if e.trade_id == trade.trade_id], name=f"trade {trade.trade_id}",
        width=560, height=230, numbers=[number], limit=CLOSE_UP_BARS_MAX,
    )  # fmt: skip
    others = sum(lived_through(t, start, end) for t in shown_trades(segment)) - 1
    words = f"{signed(trade.pnl_usd)} USD · {trade.why_closed or trade.state.value}"
    words += f" · stop {figure(trade.main.stop_price)}, target {figure(trade.main.target_price)}"
    if others > 0:
        words += f" · {others} more held meanwhile"
    heading = f"#{number} {trade.intent.direction}: {ending(trade)}"
    return card(heading, words, tag("div", chart, class_="scroll small"))


def _footer() -> str:
    return tag(
        "footer",
        "Liquidations, orphaned legs, double orders and time alone are counted from the venue’s own ledger of orders, "
        "fills and positions, not from twinleg’s records. Margin ratio and liquidation distance are what each minute’s "
        "sweep read. Times are the venue’s: in a replay a signed action takes a modelled 0.2 s, and its clock "
        "otherwise moves only where twinleg waits. "
        "Paper venue: no money was at risk, and none of this says what a market will do.",
    )
