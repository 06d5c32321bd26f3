"""The protection ladder: how near each leg is to liquidation, and what is to be done about it.

Two yardsticks, the worse decides: the share of the liquidation distance *at entry* that is left (an absolute
distance would call a 20x position in danger the moment it opens), and the margin ratio of an isolated position.

    none → warn → margin (add isolated margin, once a trade) → cut (both legs, once a trade) → close (both legs)

A rung is left only when the leg has recovered a little beyond it, so that noise does not ring twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum

from twinleg.domain.markets import MarketRules
from twinleg.domain.money import ONE, ZERO, cents, floor_to, plain
from twinleg.domain.orders import LegRole, Position, Side
from twinleg.domain.trades import TradeState
from twinleg.domain.watched import Watched, WatchedLeg
from twinleg.risk.limits import Limits
from twinleg.risk.margin import initial_margin_usd, isolated_liquidation_distance, margin_for_distance

HUNDRED = Decimal(100)
CENT = Decimal("0.01")


class Rung(IntEnum):
    """Ordered: a higher rung is the greater danger."""

    NONE = 0
    WARN = 1
    MARGIN = 2
    CUT = 3
    CLOSE = 4

    @property
    def label(self) -> str:
        """As a trade records it; empty for none."""
        return self.name.lower() if self else ""

    @classmethod
    def of(cls, label: str) -> Rung:
        """The rung a trade recorded; a word we do not know counts as none, and the reading decides afresh."""
        return next((rung for rung in cls if rung.label == label), cls.NONE)


@dataclass(frozen=True, slots=True)
class LadderReading:
    """The rung of the leg in the greater danger."""

    rung: Rung
    leg: LegRole | None
    """None when no position is held."""
    fraction_left: Decimal | None
    """Of the liquidation distance at entry: 1 = as at entry, 0 = liquidated. None: cannot be liquidated."""
    margin_ratio: Decimal | None
    reason: str


@dataclass(frozen=True, slots=True)
class _Gauge:
    """One leg read."""

    role: LegRole
    fraction: Decimal | None
    ratio: Decimal | None

    def zone(self, limits: Limits, held: Rung) -> Rung:
        """The worst rung whose threshold is reached; rungs up to *held* keep a wider one."""
        return max((r for r in Rung if r and self._reaches(r, limits, wide=r <= held)), default=Rung.NONE)

    def _reaches(self, rung: Rung, limits: Limits, *, wide: bool) -> bool:
        slack = limits.ladder_hysteresis_percent if wide else ZERO
        percent, ratio = thresholds(limits)[rung]
        near = self.fraction is not None and self.fraction * HUNDRED <= percent + slack
        thin = self.ratio is not None and self.ratio <= ratio * (ONE + slack / HUNDRED)
        return near or thin


def thresholds(limits: Limits) -> dict[Rung, tuple[Decimal, Decimal]]:
    """(per cent of the entry's liquidation distance left, margin ratio) at or under which each rung is reached.

    Close has no setting of its own: half of the cut's distance, or half of its way to the ratio of 1, is too near
    to cut first and look again a minute later.
    """
    return {
        Rung.WARN: (limits.ladder_warn_percent, limits.ratio_warn),
        Rung.MARGIN: (limits.ladder_margin_percent, limits.ratio_margin),
        Rung.CUT: (limits.ladder_cut_percent, limits.ratio_cut),
        Rung.CLOSE: (limits.ladder_cut_percent / 2, (limits.ratio_cut + ONE) / 2),
    }


def rung_of(trade: Watched, main: Position | None, hedge: Position | None, limits: Limits) -> LadderReading:
    """The rung of a trade from its positions as the venue reports them (None: that leg is not held).

    Each remedy is used once a trade: on the margin rung again after margin was added it is a cut, on the cut rung
    again after a cut it is a close. A rung kept only by hysteresis never escalates, and cut is never said again
    once the trade was cut: between the two it is margin, with nothing left to do there.
    """
    held = Rung.of(trade.rung)
    gauges = [
        _gauge(leg, position)
        for leg, position in ((trade.main, main), (trade.hedge, hedge))
        if position is not None and position.size != 0
    ]
    if not gauges:
        return LadderReading(Rung.NONE, None, None, None, "no position is held")
    readings = [_reading(gauge, trade, held, limits) for gauge in gauges]
    return max(readings, key=lambda r: (r.rung, -r.fraction_left if r.fraction_left is not None else -HUNDRED))


class Step(StrEnum):
    """What a rung asks for now."""

    NONE = "none"
    NOTE = "note"
    """The rung is another than the trade recorded, and nothing else is to be done."""
    MARGIN = "margin"
    CUT = "cut"
    CLOSE = "close"


def step_of(trade: Watched, reading: LadderReading) -> Step:
    """What is to be done on this rung; a trade that waits for a person is not cut but closed."""
    if reading.rung is Rung.CLOSE or (reading.rung is Rung.CUT and trade.state is TradeState.NEEDS_A_PERSON):
        return Step.CLOSE
    if reading.rung is Rung.CUT:
        return Step.CUT
    if reading.rung is Rung.MARGIN and not trade.margin_added:
        return Step.MARGIN
    return Step.NONE if reading.rung.label == trade.rung else Step.NOTE


def _reading(gauge: _Gauge, trade: Watched, held: Rung, limits: Limits) -> LadderReading:
    now, kept = gauge.zone(limits, Rung.NONE), gauge.zone(limits, held)
    due = _escalated(now, trade)
    rung = max(due, kept)
    if rung is Rung.CUT and trade.cut:
        rung = Rung.MARGIN
    reached = now if rung is due else rung
    return LadderReading(rung, gauge.role, gauge.fraction, gauge.ratio, _words(gauge, rung, now, reached, limits))


def _escalated(now: Rung, trade: Watched) -> Rung:
    if now is Rung.MARGIN and trade.margin_added and not trade.cut:
        return Rung.CUT
    if now is Rung.CUT and trade.cut:
        return Rung.CLOSE
    return now


def _gauge(leg: WatchedLeg, position: Position) -> _Gauge:
    return _Gauge(leg.role, fraction_left(leg.entry_liquidation_distance, position), position.margin_ratio)


def fraction_left(at_entry: Decimal | None, position: Position) -> Decimal | None:
    """Of the liquidation distance at entry (unknown: of 1 / leverage); None when it cannot be liquidated."""
    entry = at_entry if at_entry is not None and at_entry > 0 else ONE / max(1, position.leverage)
    distance = distance_left(position)
    return None if distance is None else distance / entry


def distance_left(position: Position) -> Decimal | None:
    """Liquidation distance with its sign minded: 0 once the mark is past the liquidation price."""
    if position.liquidation_price is None:
        return None
    sign = 1 if position.size > 0 else -1
    return max(ZERO, (position.mark_price - position.liquidation_price) * sign / position.mark_price)


def _words(gauge: _Gauge, rung: Rung, now: Rung, reached: Rung, limits: Limits) -> str:
    """*reached* is the rung whose numbers count: under *rung* where its own step was taken before."""
    left = "cannot be liquidated"
    if gauge.fraction is not None:
        left = f"{plain(cents(gauge.fraction * HUNDRED, 1))} % of its liquidation distance at entry is left"
    ratio = f", margin ratio {plain(cents(gauge.ratio, 2))}" if gauge.ratio is not None else ""
    text = f"{gauge.role.value} leg: {left}{ratio}"
    if not rung:
        return text
    percent, thin = thresholds(limits)[reached]
    if reached < rung:
        return f"{text}; {reached.label} at {plain(percent)} % or {plain(thin)}, done before: {rung.label}"
    if rung is now:
        return f"{text}; {rung.label} at {plain(percent)} % or {plain(thin)}"
    slack = limits.ladder_hysteresis_percent
    left_at = f"{plain(percent + slack)} % and {plain(cents(thin * (ONE + slack / HUNDRED), 2))}"
    return f"{text}; still {rung.label}, left above {left_at}"


# -- margin --------------------------------------------------------------------------------------


def margin_to_add_usd(position: Position, rules: MarketRules, limits: Limits, free_usd: Decimal) -> Decimal:
    """Isolated margin that takes a position back beyond the warn rung; 0 when none is needed or possible.

    Never more than the account's own free collateral, nor than the position's original margin (once a trade, so
    that a losing leg is not fed for ever). In whole cents.
    """
    size = abs(position.size)
    if not position.isolated or size == 0 or free_usd <= 0:
        return ZERO
    side = Side.BUY if position.size > 0 else Side.SELL
    entry = isolated_liquidation_distance(position.entry_price, side, size, position.leverage, rules)
    share = (limits.ladder_warn_percent + limits.ladder_hysteresis_percent + ONE) / HUNDRED
    by_distance = margin_for_distance(position.mark_price, side, size, entry * share, rules)
    slack = ONE + (limits.ladder_hysteresis_percent + ONE) / HUNDRED
    by_ratio = rules.maintenance_margin_usd(position.notional_usd) * limits.ratio_warn * slack
    missing = max(by_distance, by_ratio) - position.margin_used_usd
    original = initial_margin_usd(size, position.entry_price, position.leverage)
    return max(ZERO, floor_to(min(missing, free_usd, original), CENT))


# -- the other reasons to leave ------------------------------------------------------------------


def time_limit(trade: Watched, now: datetime) -> str | None:
    """Why the trade's time is up, or None."""
    since = trade.opened_at or trade.created_at
    close_by = trade.close_by or since + timedelta(seconds=trade.holding_seconds_max)
    if now < close_by:
        return None
    held = round((now - since).total_seconds())
    return f"held_seconds {held} >= holding_seconds_max {trade.holding_seconds_max}"


def net_pnl_usd(trade: Watched, main: Position | None, hedge: Position | None) -> Decimal:
    """Profit of both legs: realised and unrealised, less fees and funding paid."""
    total = ZERO
    for leg, position in ((trade.main, main), (trade.hedge, hedge)):
        funding = leg.funding_usd if position is None else position.funding_paid_usd
        unrealised = ZERO if position is None else position.unrealised_usd
        total += leg.realised_usd + unrealised - leg.fees_usd - funding
    return total


def net_stop(
    trade: Watched, main: Position | None, hedge: Position | None, equity_usd: Decimal, limits: Limits
) -> str | None:
    """Why the trade's net loss is enough, or None. *equity_usd* is that of both accounts."""
    net, most = net_pnl_usd(trade, main, hedge), equity_usd * limits.net_stop_percent / HUNDRED
    if equity_usd <= 0 or net > -most:
        return None
    return f"net_loss_usd {_usd(-net)} >= {_usd(most)}, net_stop_percent {limits.net_stop_percent} of both"


def net_target(
    trade: Watched, main: Position | None, hedge: Position | None, equity_usd: Decimal, limits: Limits
) -> str | None:
    """Why the trade's net profit is enough, or None. *equity_usd* is that of both accounts."""
    net, enough = net_pnl_usd(trade, main, hedge), equity_usd * limits.net_target_percent / HUNDRED
    if equity_usd <= 0 or net < enough:
        return None
    return f"net_profit_usd {_usd(net)} >= {_usd(enough)}, net_target_percent {limits.net_target_percent} of both"


def hedge_drift(trade: Watched, main: Position | None, hedge: Position | None, limits: Limits) -> str | None:
    """Why the hedge no longer fits the main leg, or None. A leg that is gone is no drift: that is handled elsewhere.

    The hedge ratio (hedge notional / main notional, at the marks) is compared with the approved one; the band is in
    per cent of the hedge's notional.
    """
    if main is None or hedge is None or main.size == 0 or hedge.size == 0:
        return None
    drift = drift_percent(trade, main, hedge)
    if drift is None:
        return "no approved hedge ratio is recorded"
    approved = _approved_usd(trade.hedge) / _approved_usd(trade.main)
    ratio = hedge.notional_usd / main.notional_usd
    if abs(drift) <= limits.hedge_drift_percent_max:
        return None
    return (
        f"hedge_drift_percent {plain(cents(drift, 1))} is beyond {plain(cents(limits.hedge_drift_percent_max, 1))}: "
        f"hedge ratio {plain(cents(ratio, 4))}, approved {plain(cents(approved, 4))}"
    )


def drift_percent(trade: Watched, main: Position, hedge: Position) -> Decimal | None:
    """How far the hedge ratio of two held positions is off the approved one; None when none was approved."""
    approved_main, approved_hedge = _approved_usd(trade.main), _approved_usd(trade.hedge)
    if approved_main <= 0 or approved_hedge <= 0:
        return None
    ratio = hedge.notional_usd / main.notional_usd
    return (ratio / (approved_hedge / approved_main) - ONE) * HUNDRED


def _approved_usd(leg: WatchedLeg) -> Decimal:
    return leg.size_approved * (leg.entry_price or leg.entry_limit_price)


def _usd(amount: Decimal) -> str:
    return plain(cents(amount, 2))
