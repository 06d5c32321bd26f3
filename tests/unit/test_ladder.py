"""The protection ladder: rungs, hysteresis, escalation, the margin to add, and the other reasons to leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinleg.domain.markets import MarginTier, MarketRules
from twinleg.domain.messages import HedgedIntent, IntentAction, LegPlan
from twinleg.domain.orders import LegRole, Position, Side
from twinleg.domain.signals import Direction
from twinleg.domain.trades import Leg, Trade, TradeState
from twinleg.risk.ladder import (
    LadderReading,
    Rung,
    Step,
    distance_left,
    hedge_drift,
    margin_to_add_usd,
    net_pnl_usd,
    net_stop,
    net_target,
    rung_of,
    step_of,
    thresholds,
    time_limit,
)
from twinleg.risk.limits import Limits
from twinleg.risk.margin import isolated_liquidation_distance, liquidation_distance, liquidation_price

D = Decimal
NOW = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)
ETH = "hyperliquid:ETH"
LIMITS = Limits()
RULES = MarketRules(
    market=ETH, asset=1, lot=D("0.0001"), price_digits=5, price_decimals=2, notional_usd_min=D(10),
    max_leverage=25, taker_fee=D("0.00045"), tiers=(MarginTier(lower_bound_usd=D(0), max_leverage=25),),
)  # fmt: skip
INTENT = HedgedIntent(
    intent_id="t", action=IntentAction.OPEN, strategy="macd", market=ETH, direction=Direction.LONG,
    confidence=D(1), stop_percent=D(1), target_percent=D(2), budget_percent=D(5), holding_seconds_max=600,
    slippage_bps=D(50), range_percent=D("0.05"), reference_price=D(1000), trigger="x", trigger_at=NOW, reason="r",
    created_at=NOW, expires_at=NOW,
    main=LegPlan(role=LegRole.MAIN, account="main", market=ETH, side=Side.BUY, leverage=5, margin_share=D("0.8")),
    hedge=LegPlan(role=LegRole.HEDGE, account="hedge", market=ETH, side=Side.SELL, leverage=2, margin_share=D("0.2")),
)  # fmt: skip


def leg(role: LegRole, **changes: Any) -> Leg:
    plan = INTENT.main if role is LegRole.MAIN else INTENT.hedge
    values: dict[str, Any] = {
        "role": role, "account": plan.account, "market": ETH, "side": plan.side, "leverage": plan.leverage,
        "size_approved": D(1) if role is LegRole.MAIN else D("0.1"), "entry_limit_price": D(1000),
        "entry_price": D(1000), "entry_liquidation_distance": D("0.2"),
    }  # fmt: skip
    return Leg(**(values | changes))


def trade(**changes: Any) -> Trade:
    values: dict[str, Any] = {
        "trade_id": "t", "intent": INTENT, "state": TradeState.OPEN, "main": leg(LegRole.MAIN),
        "hedge": leg(LegRole.HEDGE), "created_at": NOW, "updated_at": NOW, "opened_at": NOW,
    }  # fmt: skip
    return Trade(**(values | changes))


def position(left: str | None = "1", *, ratio: str | None = None, long: bool = True, **changes: Any) -> Position:
    """A position with *left* of an entry distance of 0.2 to go, at a mark of 1000."""
    sign = 1 if long else -1
    values: dict[str, Any] = {
        "account": "main" if long else "hedge", "market": ETH, "size": sign * (D(1) if long else D("0.1")),
        "entry_price": D(1000), "mark_price": D(1000), "unrealised_usd": D(0),
        "liquidation_price": None if left is None else 1000 * (1 - sign * D(left) * D("0.2")),
        "margin_used_usd": D(ratio or 0), "maintenance_usd": D(1) if ratio else D(0), "leverage": 5,
        "isolated": True, "funding_paid_usd": D(0),
    }  # fmt: skip
    return Position(**(values | changes))


def rung(left: str | None = "1", ratio: str | None = None, **state: Any) -> Rung:
    return rung_of(trade(**state), position(left, ratio=ratio), None, LIMITS).rung


# -- rungs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ("3", Rung.NONE),
        ("1", Rung.NONE),
        ("0.5001", Rung.NONE),
        ("0.5", Rung.WARN),
        ("0.3501", Rung.WARN),
        ("0.35", Rung.MARGIN),
        ("0.2001", Rung.MARGIN),
        ("0.2", Rung.CUT),
        ("0.1001", Rung.CUT),
        ("0.1", Rung.CLOSE),
        ("0", Rung.CLOSE),
        ("-0.5", Rung.CLOSE),  # the mark is past the liquidation price
        (None, Rung.NONE),
    ],
)
@pytest.mark.parametrize("long", [True, False])
def test_by_distance(left: str | None, expected: Rung, long: bool) -> None:
    found = position(left, long=long)
    assert rung_of(trade(), found if long else None, None if long else found, LIMITS).rung is expected


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        ("3.01", Rung.NONE),
        ("3", Rung.WARN),
        ("2", Rung.MARGIN),
        ("1.5", Rung.CUT),
        ("1.26", Rung.CUT),
        ("1.25", Rung.CLOSE),
        ("0.9", Rung.CLOSE),
    ],
)
def test_by_margin_ratio(ratio: str, expected: Rung) -> None:
    assert rung("1", ratio) is expected


def test_a_cross_position_has_no_ratio_of_its_own() -> None:
    found = position("1", ratio="1.1", isolated=False)
    assert rung_of(trade(), found, None, LIMITS).rung is Rung.NONE


def test_the_worse_yardstick_and_the_worse_leg_decide() -> None:
    assert rung("0.4", "1.4") is Rung.CUT
    assert rung("0.15", "2.9") is Rung.CUT
    reading = rung_of(trade(), position("0.45"), position("0.3", long=False), LIMITS)
    assert (reading.rung, reading.leg, reading.fraction_left) == (Rung.MARGIN, LegRole.HEDGE, D("0.3"))
    reading = rung_of(trade(), position("0.30"), position("0.34", long=False), LIMITS)
    assert reading.leg is LegRole.MAIN
    reading = rung_of(trade(), position(None), position("2", long=False), LIMITS)
    assert (reading.rung, reading.leg) == (Rung.NONE, LegRole.HEDGE)


def test_nothing_held_is_no_danger() -> None:
    assert rung_of(trade(), None, None, LIMITS) == LadderReading(Rung.NONE, None, None, None, "no position is held")
    assert rung_of(trade(), position(size=D(0)), None, LIMITS).leg is None


def test_the_distance_is_measured_on_the_entrys_not_absolutely() -> None:
    near = trade(main=leg(LegRole.MAIN, entry_liquidation_distance=D("0.02")))
    assert rung_of(near, position("0.1"), None, LIMITS).rung is Rung.NONE  # 2 % away, as at entry
    far = trade(main=leg(LegRole.MAIN, entry_liquidation_distance=D("0.9")))
    assert rung_of(far, position("1"), None, LIMITS).rung is Rung.MARGIN  # 20 % away, of 90 %


@pytest.mark.parametrize("unknown", [None, D(0)])
def test_without_a_yardstick_the_leverage_gives_one(unknown: D | None) -> None:
    without = trade(main=leg(LegRole.MAIN, entry_liquidation_distance=unknown))
    assert rung_of(without, position("1"), None, LIMITS).fraction_left == 1  # 0.2 of 1 / 5
    assert rung_of(without, position("1", leverage=1), None, LIMITS).fraction_left == D("0.2")


def test_thresholds_follow_the_limits() -> None:
    found = thresholds(Limits(ladder_cut_percent=D(30), ratio_cut=D("1.4")))
    assert found[Rung.CUT] == (30, D("1.4"))
    assert found[Rung.CLOSE] == (15, D("1.2"))


def test_labels_are_what_a_trade_records() -> None:
    assert [r.label for r in Rung] == ["", "warn", "margin", "cut", "close"]
    assert [Rung.of(r.label) for r in Rung] == list(Rung)
    assert Rung.of("ladder") is Rung.NONE


def test_the_reason_has_the_numbers() -> None:
    assert rung_of(trade(), position("0.2", ratio="5"), None, LIMITS).reason == (
        "main leg: 20 % of its liquidation distance at entry is left, margin ratio 5; cut at 20 % or 1.5"
    )
    assert "cannot be liquidated" in rung_of(trade(), position(None), None, LIMITS).reason
    kept = rung_of(trade(rung="warn"), position("0.52"), None, LIMITS).reason
    assert kept == "main leg: 52 % of its liquidation distance at entry is left; still warn, left above 55 % and 3.15"
    kept = rung_of(trade(rung="close"), position("0.12"), None, LIMITS).reason
    assert kept.endswith("12 % of its liquidation distance at entry is left; still close, left above 15 % and 1.31")
    escalated = rung_of(trade(margin_added=True), position("0.3"), None, LIMITS).reason
    assert escalated.endswith("is left; margin at 35 % or 2, done before: cut")
    escalated = rung_of(trade(cut=True), position("0.3", ratio="1.4"), None, LIMITS).reason
    assert escalated.endswith("is left, margin ratio 1.4; cut at 20 % or 1.5, done before: close")
    settled = rung_of(trade(margin_added=True, cut=True), position("0.3"), None, LIMITS)
    assert settled.rung is Rung.MARGIN and settled.reason.endswith("; margin at 35 % or 2")


# -- hysteresis ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "left", "expected"),
    [
        ("warn", "0.55", Rung.WARN),
        ("warn", "0.5501", Rung.NONE),
        ("margin", "0.40", Rung.MARGIN),
        ("margin", "0.4001", Rung.WARN),
        ("margin", "0.56", Rung.NONE),
        ("cut", "0.25", Rung.CUT),
        ("cut", "0.2501", Rung.MARGIN),
        ("close", "0.15", Rung.CLOSE),
        ("close", "0.16", Rung.CUT),
        ("", "0.52", Rung.NONE),
        ("warn", "0.36", Rung.WARN),
        ("nonsense", "0.52", Rung.NONE),
    ],
)
def test_a_rung_is_left_only_beyond_it(held: str, left: str, expected: Rung) -> None:
    assert rung(left, rung=held) is expected


@pytest.mark.parametrize(
    ("held", "ratio", "expected"),
    [("warn", "3.15", Rung.WARN), ("warn", "3.16", Rung.NONE), ("cut", "1.57", Rung.CUT), ("cut", "1.58", Rung.MARGIN)],
)
def test_the_ratio_has_it_too(held: str, ratio: str, expected: Rung) -> None:
    assert rung("1", ratio, rung=held) is expected


def test_noise_around_a_threshold_rings_once() -> None:
    held, changes = "", 0
    for left in ("0.51", "0.499", "0.505", "0.495", "0.52", "0.49", "0.53"):
        found = rung(left, rung=held).label
        changes += found != held
        held = found
    assert (held, changes) == ("warn", 1)


# -- escalation ------------------------------------------------------------------------------------------


def test_each_remedy_is_used_once() -> None:
    assert rung("0.3") is Rung.MARGIN
    assert rung("0.3", margin_added=True, rung="margin") is Rung.CUT
    assert rung("0.3", margin_added=True, cut=True, rung="cut") is Rung.MARGIN  # nothing left to do but wait
    assert rung("0.2", margin_added=True) is Rung.CUT
    assert rung("0.2", cut=True) is Rung.CLOSE
    assert rung("0.2", margin_added=True, cut=True, rung="cut") is Rung.CLOSE
    assert rung("0.45", margin_added=True, cut=True) is Rung.WARN
    assert rung("0.3", margin_added=True, cut=True) is Rung.MARGIN


def test_what_hysteresis_holds_never_escalates() -> None:
    assert rung("0.38", margin_added=True, rung="margin") is Rung.MARGIN
    assert rung("0.24", cut=True, rung="cut") is Rung.MARGIN
    assert rung("0.45", margin_added=True, rung="cut") is Rung.WARN


def test_a_fall_through_all_rungs() -> None:
    held, margin_added, cut, seen = "", False, False, []
    for left in ("0.9", "0.48", "0.33", "0.31", "0.28", "0.22", "0.19"):
        found = rung(left, rung=held, margin_added=margin_added, cut=cut)
        margin_added = margin_added or found is Rung.MARGIN
        cut = cut or found is Rung.CUT
        held = found.label
        seen.append(found)
    assert seen == [Rung.NONE, Rung.WARN, Rung.MARGIN, Rung.CUT, Rung.MARGIN, Rung.MARGIN, Rung.CLOSE]


@given(
    left=st.decimals("-0.2", "2", places=3),
    worse=st.decimals("0", "0.5", places=3),
    ratio=st.none() | st.decimals("0.8", "6", places=2),
    held=st.sampled_from([r.label for r in Rung]),
    margin_added=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_nearer_is_never_a_lower_rung(left: D, worse: D, ratio: D | None, held: str, margin_added: bool) -> None:
    state: dict[str, Any] = {"rung": held, "margin_added": margin_added}
    thin = None if ratio is None else str(ratio)
    assert rung(str(left - worse), thin, **state) >= rung(str(left), thin, **state)
    assert rung(str(left), thin, **state) >= rung(str(left), thin)


def test_distance_left_minds_its_sign() -> None:
    assert distance_left(position(None)) is None
    assert distance_left(position("0.5")) == D("0.1")
    assert distance_left(position("0.5", long=False)) == D("0.1")
    assert distance_left(position("-0.5")) == 0


# -- what is done --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "state", "step"),
    [
        ("0.9", {}, Step.NONE),
        ("0.9", {"rung": "warn"}, Step.NOTE),
        ("0.45", {}, Step.NOTE),
        ("0.45", {"rung": "warn"}, Step.NONE),
        ("0.3", {}, Step.MARGIN),
        ("0.3", {"rung": "margin"}, Step.MARGIN),  # noted, and not added yet
        ("0.38", {"rung": "margin", "margin_added": True}, Step.NONE),
        ("0.3", {"margin_added": True, "cut": True}, Step.NOTE),
        ("0.3", {"margin_added": True}, Step.CUT),
        ("0.15", {}, Step.CUT),
        ("0.15", {"cut": True}, Step.CLOSE),
        ("0.05", {}, Step.CLOSE),
        ("0.05", {"state": TradeState.NEEDS_A_PERSON}, Step.CLOSE),
        ("0.15", {"state": TradeState.NEEDS_A_PERSON}, Step.CLOSE),
        ("0.3", {"state": TradeState.NEEDS_A_PERSON}, Step.MARGIN),
        ("0.9", {"state": TradeState.NEEDS_A_PERSON}, Step.NONE),
    ],
)
def test_what_a_rung_asks_for(left: str, state: dict[str, Any], step: Step) -> None:
    held = trade(**state)
    assert step_of(held, rung_of(held, position(left), None, LIMITS)) is step


# -- margin to add ---------------------------------------------------------------------------------------


def endangered(mark: str, *, long: bool = True, size: str = "1", leverage: int = 5, **changes: Any) -> Position:
    """An isolated position entered at 1000 whose mark is now *mark*, as the venue would report it."""
    side = Side.BUY if long else Side.SELL
    margin = D(size) * 1000 / leverage + side.sign * D(size) * (D(mark) - 1000)
    return position(
        long=long, size=side.sign * D(size), mark_price=D(mark), margin_used_usd=margin, leverage=leverage,
        maintenance_usd=RULES.maintenance_margin_usd(D(size) * D(mark)),
        liquidation_price=liquidation_price(D(mark), side, D(size), margin, RULES), **changes,
    )  # fmt: skip


@pytest.mark.parametrize(("mark", "long"), [("870", True), ("1115", False)])
def test_added_margin_restores_the_warn_level(mark: str, long: bool) -> None:
    side = Side.BUY if long else Side.SELL
    before = endangered(mark, long=long)
    entry = isolated_liquidation_distance(D(1000), side, D(1), 5, RULES)
    role = LegRole.MAIN if long else LegRole.HEDGE
    at_entry = trade(**{role.value: leg(role, entry_liquidation_distance=entry)})

    def read(found: Position, **changes: Any) -> Rung:
        state = at_entry.model_copy(update=changes)
        return rung_of(state, found if long else None, None if long else found, LIMITS).rung

    assert read(before) is Rung.MARGIN
    usd = margin_to_add_usd(before, RULES, LIMITS, D(10_000))
    margin = before.margin_used_usd + usd
    after = before.model_copy(
        update={
            "margin_used_usd": margin,
            "liquidation_price": liquidation_price(before.mark_price, side, D(1), margin, RULES),
        }
    )
    assert read(after, rung="margin", margin_added=True) is Rung.NONE
    less = before.model_copy(
        update={
            "margin_used_usd": margin - 5,
            "liquidation_price": liquidation_price(before.mark_price, side, D(1), margin - 5, RULES),
        }
    )
    assert liquidation_distance(before.mark_price, less.liquidation_price, side) < entry * D("0.555")
    assert usd == usd.quantize(D("0.01"))


@pytest.mark.parametrize("size", ["0.5", "1", "40"])
@pytest.mark.parametrize(("mark", "long"), [("870", True), ("1115", False)])
def test_a_long_and_a_short_are_each_given_what_their_own_liquidation_asks(mark: str, long: bool, size: str) -> None:
    usd = margin_to_add_usd(endangered(mark, long=long, size=size), RULES, LIMITS, D(10_000)) / D(size)
    # 56 % of the distance at entry; margin left 70 (long), 85 (short)
    distance = isolated_liquidation_distance(D(1000), Side.BUY if long else Side.SELL, D(1), 5, RULES) * D("0.56")
    at = D(mark) * (1 - distance if long else 1 + distance)
    wanted = at * D("0.02") + D(mark) * distance - (70 if long else 85)
    assert 0 <= wanted - usd < D("0.02")


def test_the_margin_ratio_may_ask_for_more_than_the_distance() -> None:
    thin = Limits(ladder_warn_percent=D(2), ladder_margin_percent=D(1), ratio_warn=D(8))
    before = endangered("900")
    usd = margin_to_add_usd(before, RULES, thin, D(10_000))
    # 1 % beyond the hysteresis of 5 %, in whole cents
    assert D("8.479") < (before.margin_used_usd + usd) / before.maintenance_usd <= D("8.48")


def test_never_more_than_free_nor_than_the_original_margin() -> None:
    before = endangered("850")
    whole = margin_to_add_usd(before, RULES, LIMITS, D(10_000))
    assert 0 < whole <= 200
    assert margin_to_add_usd(before, RULES, LIMITS, D("12.345")) == D("12.34")
    assert margin_to_add_usd(before, RULES, LIMITS, D("0.5")) == D("0.5")
    assert margin_to_add_usd(before, RULES, LIMITS, D(0)) == 0
    assert margin_to_add_usd(before, RULES, LIMITS, D(-1)) == 0
    greedy = Limits(ladder_warn_percent=D(99), ladder_hysteresis_percent=D(300))
    assert margin_to_add_usd(before, RULES, greedy, D(10_000)) == 200


def test_none_is_added_where_none_helps() -> None:
    assert margin_to_add_usd(endangered("1000"), RULES, LIMITS, D(1000)) == 0
    assert margin_to_add_usd(endangered("870", isolated=False), RULES, LIMITS, D(1000)) == 0
    assert margin_to_add_usd(position(size=D(0)), RULES, LIMITS, D(1000)) == 0


# -- the other reasons to leave --------------------------------------------------------------------------


def test_time_limit() -> None:
    assert time_limit(trade(), NOW + timedelta(seconds=599)) is None
    assert time_limit(trade(), NOW + timedelta(seconds=600)) == "held_seconds 600 >= holding_seconds_max 600"
    early = trade(close_by=NOW + timedelta(seconds=60))
    assert time_limit(early, NOW + timedelta(seconds=59)) is None
    assert time_limit(early, NOW + timedelta(seconds=61))
    assert time_limit(trade(opened_at=None), NOW + timedelta(seconds=600))
    opened = trade(opened_at=NOW + timedelta(seconds=20))
    assert time_limit(opened, NOW + timedelta(seconds=619)) is None
    assert time_limit(opened, NOW + timedelta(seconds=621)) == "held_seconds 601 >= holding_seconds_max 600"


def test_net_profit_is_of_both_legs_after_costs() -> None:
    held = trade(
        main=leg(LegRole.MAIN, realised_usd=D(10), fees_usd=D(2), funding_usd=D(7)),
        hedge=leg(LegRole.HEDGE, realised_usd=D(-3), fees_usd=D(1), funding_usd=D(5)),
    )
    main = position(unrealised_usd=D(20), funding_paid_usd=D(4))
    # main: 10 + 20 - 2 - 4 (the venue's funding while it is held); hedge, gone: -3 - 1 - 5 as recorded
    assert net_pnl_usd(held, main, None) == 24 - 9
    assert net_pnl_usd(held, None, None) == 1 - 9 == held.pnl_usd


@pytest.mark.parametrize(
    ("profit", "stops", "targets"),
    [("-15", True, False), ("-14.99", False, False), ("29.99", False, False), ("30", False, True)],
)
def test_net_stop_and_target(profit: str, stops: bool, targets: bool) -> None:
    main = position(unrealised_usd=D(profit))
    stop, target = (f(trade(), main, None, D(1000), LIMITS) for f in (net_stop, net_target))
    assert (stop is not None, target is not None) == (stops, targets)
    if stop:
        assert stop == "net_loss_usd 15 >= 15, net_stop_percent 1.5 of both"
    if target:
        assert target == "net_profit_usd 30 >= 30, net_target_percent 3 of both"


def test_without_equity_the_net_limits_say_nothing() -> None:
    for equity in (D(0), D(-5)):
        assert net_stop(trade(), position(unrealised_usd=D(-1000)), None, equity, LIMITS) is None
        assert net_target(trade(), position(unrealised_usd=D(1000)), None, equity, LIMITS) is None
    assert net_stop(trade(), position(unrealised_usd=D("-0.02")), None, D("0.9"), LIMITS)
    assert net_target(trade(), position(unrealised_usd=D("0.03")), None, D("0.9"), LIMITS)


def test_the_net_reasons_are_in_whole_cents() -> None:
    stop = net_stop(trade(), position(unrealised_usd=D("-15.126")), None, D("1000.55"), LIMITS)
    assert stop == "net_loss_usd 15.13 >= 15.01, net_stop_percent 1.5 of both"


@pytest.mark.parametrize(
    ("hedge_size", "drifts"), [("0.1", False), ("0.11", False), ("0.0901", False), ("0.1101", True), ("0.0899", True)]
)
def test_hedge_drift(hedge_size: str, drifts: bool) -> None:
    hedge = position(long=False, size=-D(hedge_size))
    found = hedge_drift(trade(), position(), hedge, LIMITS)
    assert (found is not None) is drifts
    if found:
        assert f"is beyond 10: hedge ratio {hedge_size}, approved 0.1" in found


def test_drift_is_of_the_ratio_so_that_a_cut_in_proportion_is_none() -> None:
    half = position(size=D("0.5")), position(long=False, size=D("-0.05"))
    assert hedge_drift(trade(), *half, LIMITS) is None
    only_main = position(size=D("0.5")), position(long=False)
    assert "hedge_drift_percent 100" in (hedge_drift(trade(), *only_main, LIMITS) or "")


def test_a_leg_that_is_gone_is_no_drift() -> None:
    assert hedge_drift(trade(), position(), None, LIMITS) is None
    assert hedge_drift(trade(), None, position(long=False), LIMITS) is None
    assert hedge_drift(trade(), position(size=D(0)), position(long=False), LIMITS) is None
    assert hedge_drift(trade(), position(), position(long=False, size=D(0)), LIMITS) is None
    assert hedge_drift(trade(), position(), position(size=D(1)), LIMITS), "one base unit of hedge is one"


@pytest.mark.parametrize("long", [True, False])
def test_where_a_higher_tier_begins_a_long_and_a_short_need_other_margins(long: bool) -> None:
    tiers = (MarginTier(lower_bound_usd=D(0), max_leverage=25), MarginTier(lower_bound_usd=D(1000), max_leverage=3))
    rules = RULES.model_copy(update={"tiers": tiers})
    side, mark = (Side.BUY, D(900)) if long else (Side.SELL, D(1080))
    before = endangered(str(mark), long=long)
    usd = margin_to_add_usd(before, rules, LIMITS, D(10_000))
    at_entry = isolated_liquidation_distance(D(1000), side, D(1), 5, rules)
    found = liquidation_price(mark, side, D(1), before.margin_used_usd + usd, rules)
    assert usd > 0 and abs(liquidation_distance(mark, found, side) / at_entry - D("0.56")) < D("0.001")


def test_without_an_approved_ratio_the_hedge_cannot_be_judged() -> None:
    bare = trade(hedge=leg(LegRole.HEDGE, size_approved=D(0)))
    assert hedge_drift(bare, position(), position(long=False), LIMITS) == "no approved hedge ratio is recorded"
    bare = trade(main=leg(LegRole.MAIN, size_approved=D(0)))
    assert hedge_drift(bare, position(), position(long=False), LIMITS) == "no approved hedge ratio is recorded"
    planned = trade(main=leg(LegRole.MAIN, entry_price=D(0)))
    assert hedge_drift(planned, position(), position(long=False), LIMITS) is None


def test_the_approved_ratio_is_of_the_prices_that_were_filled() -> None:
    """10 units approved at 10 and filled at 8; the hedge at 10: it should be a tenth of the notional, and is 12.5 %."""
    main = leg(LegRole.MAIN, size_approved=D(10), entry_limit_price=D(10), entry_price=D(8))
    hedge = leg(LegRole.HEDGE, size_approved=D(1), entry_limit_price=D(10), entry_price=D(10))
    held = position(size=D(10), mark_price=D(10)), position(long=False, size=D(-1), mark_price=D(10))
    found = hedge_drift(trade(main=main, hedge=hedge), *held, LIMITS)
    assert found == "hedge_drift_percent -20 is beyond 10: hedge ratio 0.1, approved 0.125"


def test_a_trade_of_less_than_a_dollar_has_a_ratio_too() -> None:
    small = {"entry_price": D("0.5"), "entry_limit_price": D("0.5")}
    held = trade(main=leg(LegRole.MAIN, **small), hedge=leg(LegRole.HEDGE, **small))
    assert hedge_drift(held, position(), position(long=False), LIMITS) is None
