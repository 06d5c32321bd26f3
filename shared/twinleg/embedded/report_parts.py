"""What a segment's charts show, worked out from its samples, trades and events."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from twinleg.domain.candles import Candle
from twinleg.domain.messages import Event, EventKind
from twinleg.domain.trades import Trade
from twinleg.embedded.charts import LEFT, RIGHT, WIDTH, Line, Point, Threshold, grouped, line_chart, seconds, thinned
from twinleg.embedded.price_chart import buckets
from twinleg.embedded.report_data import Sample, Segment, shown_trades
from twinleg.risk.ladder import Rung, thresholds
from twinleg.risk.limits import Limits

LOUD = frozenset(
    {
        EventKind.UNWOUND,
        EventKind.PROTECTED,
        EventKind.CUT,
        EventKind.MARGIN_ADDED,
        EventKind.CORRECTED,
        EventKind.BREAKER,
        EventKind.HALTED,
        EventKind.ORPHAN,
        EventKind.NEEDS_A_PERSON,
        EventKind.CANDLE_SUSPECT,
    }
)
LISTED = LOUD | {EventKind.OPENED, EventKind.CLOSED, EventKind.WARNED, EventKind.RESUMED, EventKind.GAP}
COUNTED = (EventKind.REFUSED, EventKind.SIGNAL_IGNORED, EventKind.ALERT_IGNORED)
AFTERMATH = timedelta(minutes=1)
"""What fires in the sweep after a bar belongs to that bar."""


@dataclass(frozen=True, slots=True)
class Curves:
    """A segment's accounts over time: name → class of its line, and its points."""

    css: dict[str, str]
    equity: dict[str, list[Point]]
    ratio: dict[str, list[Point]]
    left: dict[str, list[Point]]
    """Per cent of the liquidation distance at entry that is left: what the ladder watches."""


def curves(segment: Segment) -> Curves:
    css = _classes(segment)
    by_account: dict[str, list[Sample]] = {name: [] for name in css}
    for sample in sorted(segment.samples, key=lambda s: s.at):
        by_account.setdefault(sample.account, []).append(sample)
    at = {name: [seconds(s.at) for s in samples] for name, samples in by_account.items()}
    ratio: dict[str, list[Point]] = {
        name: [
            (t, float(s.margin_ratio) if s.margin_ratio is not None else None)
            for t, s in zip(at[name], of, strict=True)
        ]
        for name, of in by_account.items()
    }
    equity: dict[str, list[Point]] = {
        name: [(t, float(s.equity_usd)) for t, s in zip(at[name], of, strict=True)] for name, of in by_account.items()
    }
    left = {name: _distance_left(segment, name, samples) for name, samples in by_account.items()}
    return Curves(css, equity, ratio, left)


def _classes(segment: Segment) -> dict[str, str]:
    """Account → the class of its line. Without a trade to tell, the order of the samples does."""
    found: dict[str, str] = {}
    for trade in segment.trades:
        found.setdefault(trade.main.account, "main")
        found.setdefault(trade.hedge.account, "hedge")
    free = [css for css in ("main", "hedge") if css not in found.values()]
    for account in dict.fromkeys(sample.account for sample in segment.samples):
        if account not in found:
            found[account] = free.pop(0) if free else "third"
    return found


def _distance_left(segment: Segment, account: str, samples: Sequence[Sample]) -> list[Point]:
    """A stretch that no trade explains is measured against its own first reading."""
    lives = [
        (trade.created_at, trade.closed_at, leg.entry_liquidation_distance)
        for trade in shown_trades(segment)
        for leg in trade.legs
        if leg.account == account and leg.entry_liquidation_distance
    ]
    found: list[Point] = []
    reference: Decimal | None = None
    for sample in samples:
        while lives and (ended := lives[0][1]) is not None and ended < sample.at:
            lives.pop(0)
        distance = sample.liquidation_distance
        if distance is None:
            reference = None
            found.append((seconds(sample.at), None))
            continue
        known = lives[0][2] if lives and lives[0][0] <= sample.at else None
        reference = known or reference or distance
        found.append((seconds(sample.at), float(distance / reference * 100) if reference else None))
    return found


def last(values: list[float]) -> float:
    return values[-1]


def equity_change(found: Curves) -> list[Line]:
    """Each account's change since its first reading, and both together."""
    lines = []
    changes: dict[float, float] = {}
    for name, points in found.equity.items():
        if not points:
            continue
        start = points[0][1] or 0.0
        moved = [(at, value - start if value is not None else None) for at, value in points]
        lines.append(Line(found.css[name], name, thinned(moved, last)))
        for at, value in moved:
            changes[at] = changes.get(at, 0.0) + (value or 0.0)
    if len(lines) > 1:
        lines.insert(0, Line("both", "together", thinned(sorted(changes.items()), last)))
    return lines


def danger_lines(found: Curves, points: dict[str, list[Point]]) -> list[Line]:
    """One line per account, of which the lowest value of each stretch is kept."""
    return [Line(found.css[name], name, thinned(points[name], min)) for name in points if points[name]]


def ladder_marks(limits: Limits, *, ratio: bool) -> list[Threshold]:
    """The ladder's rungs on one of its two yardsticks."""
    return [
        Threshold(float(pair[1] if ratio else pair[0]), rung.label)
        for rung, pair in thresholds(limits).items()
        if rung is not Rung.NONE
    ]


def plain_number(value: float) -> str:
    return f"{value:g}"


def equity_chart(segment: Segment, found: Curves, span: tuple[float, float]) -> str:
    return line_chart(equity_change(found), span, name=f"{segment.label}: change of equity in USD")


def ratio_chart(segment: Segment, found: Curves, span: tuple[float, float], limits: Limits) -> str:
    return line_chart(
        danger_lines(found, found.ratio),
        span,
        name=f"{segment.label}: margin ratio",
        text=plain_number,
        thresholds=ladder_marks(limits, ratio=True),
        log=True,
        floor=1.0,
        height=210,
    )


def distance_chart(segment: Segment, found: Curves, span: tuple[float, float], limits: Limits) -> str:
    return line_chart(
        danger_lines(found, found.left),
        span,
        name=f"{segment.label}: liquidation distance left, per cent of that at entry",
        text=lambda value: f"{value:g} %",
        thresholds=ladder_marks(limits, ratio=False),
        floor=0.0,
        height=210,
    )


# -- the cursor's numbers --------------------------------------------------------------------------


def cursor_data(segment: Segment, found: Curves) -> str:
    """JSON for the time cursor: what every chart of the segment shows at each drawn time. Safe inside a script."""
    bars = buckets(segment.candles)
    times = [bar.at + bar.seconds for bar in bars]
    series: list[dict[str, object]] = [{"name": "close", "values": [f"{bar.close:,.10g}" for bar in bars]}]
    for word, curve, unit in (
        ("equity", found.equity, " USD"),
        ("margin ratio", found.ratio, ""),
        ("distance", found.left, " %"),
    ):
        for name, points in curve.items():
            series.append({"name": f"{name} {word}", "values": _at(points, times, unit)})
    data = {"left": LEFT, "right": WIDTH - RIGHT, "width": WIDTH, "times": times, "series": series}
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")


def _at(points: Sequence[Point], times: Sequence[float], unit: str) -> list[str | None]:
    """The value nearest after each time (at the end: the last)."""
    known = [at for at, _ in points]
    values: list[str | None] = []
    for time in times:
        if not known or time < known[0] - 60:
            values.append(None)
            continue
        value = points[min(bisect_left(known, time), len(known) - 1)][1]
        values.append(None if value is None else f"{grouped(value, 2)}{unit}")
    return values


# -- the worst bar and what happened ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorstBar:
    """The bar with the largest range, and what the system did in it."""

    candle: Candle
    range_percent: float
    around: Sequence[Candle]
    trades: Sequence[Trade]
    events: Sequence[Event]
    samples: Sequence[Sample]


def worst_bar(segment: Segment) -> WorstBar | None:
    """Only bars that were traded through count: not the history before the first reading."""
    first = min((s.at for s in segment.samples), default=None)
    played = [c for c in segment.candles if first is None or c.closed_at >= first]
    if not played:
        return None
    candle = max(played, key=lambda c: (c.high - c.low) / c.open)
    place = segment.candles.index(candle)
    until = candle.closed_at + AFTERMATH
    return WorstBar(
        candle,
        float((candle.high - candle.low) / candle.open * 100),
        segment.candles[max(0, place - 40) : place + 41],
        [t for t in shown_trades(segment) if lived_through(t, candle.opened_at, candle.closed_at)],
        [e for e in segment.events if candle.opened_at <= e.at <= until],
        [s for s in segment.samples if candle.closed_at <= s.at < until],
    )


def lived_through(trade: Trade, start: datetime, end: datetime) -> bool:
    """Whether the trade held something at any time between."""
    return (trade.opened_at or trade.created_at) <= end and (trade.closed_at is None or trade.closed_at >= start)


def reasons(events: Sequence[Event]) -> list[tuple[str, int]]:
    """Refused and ignored ones by reason, most frequent first: ``refused: stale`` and how often."""
    found: Counter[str] = Counter()
    for event in events:
        if event.kind is EventKind.REFUSED:
            found[f"refused: {event.summary.split(':', 1)[0].strip()[:60]}"] += 1
        elif event.kind in COUNTED:
            found[event.kind.value.replace("_", " ")] += 1
    return found.most_common()
