"""Sizes and prices of both legs: the budget, the limits that make them smaller, and where each leg leaves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twinleg.domain.candles import Snapshot
from twinleg.domain.control import Control, Halt
from twinleg.domain.markets import MarginTier, MarketRules
from twinleg.domain.messages import HedgedIntent, IntentAction, LegPlan
from twinleg.domain.orders import AccountState, LegRole, Side
from twinleg.domain.signals import Direction
from twinleg.risk.approval import Refused
from twinleg.risk.book import Book
from twinleg.risk.limits import Limits
from twinleg.risk.margin import isolated_liquidation_price
from twinleg.risk.sizing import Sizes, limit_price, loss_per_unit, main_fill_min, needs, notional_usd_min, plan_sizes

D = Decimal
NOW = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)
ETH = "hyperliquid:ETH"


def rules(market: str = ETH, **changes: Any) -> MarketRules:
    return MarketRules.model_validate(
        {
            "market": market, "asset": 1, "lot": "0.0001", "price_digits": 5, "price_decimals": 2,
            "notional_usd_min": "10", "max_leverage": 25, "taker_fee": "0.00045",
            "tiers": (MarginTier(lower_bound_usd=D(0), max_leverage=25),),
        }
        | changes
    )  # fmt: skip


def account(name: str, equity: str = "5000", **changes: Any) -> AccountState:
    return AccountState.model_validate(
        {
            "account": name, "at": NOW, "equity_usd": equity, "free_usd": equity, "margin_used_usd": "0",
            "cross_equity_usd": equity, "cross_maintenance_usd": "0", "positions": (),
        }
        | changes
    )  # fmt: skip


def snapshot(market: str = ETH, mark: str = "3000") -> Snapshot:
    return Snapshot(
        market=market, at=NOW, mark_price=D(mark), oracle_price=D(mark), mid_price=D(mark),
        funding_rate_hourly=D(0), open_interest=D(1000), bid_depth=D(500), ask_depth=D(500),
    )  # fmt: skip


def book(**changes: Any) -> Book:
    fields: dict[str, Any] = {
        "now": NOW, "control": Control(state=Halt.ENABLED), "limits": Limits(),
        "main": account("main"), "hedge": account("hedge"), "main_mode": "disabled", "hedge_mode": "disabled",
        "main_snapshot": snapshot(), "hedge_snapshot": snapshot(), "main_rules": rules(), "hedge_rules": rules(),
        "open_trades": 0, "entries_last_hour": 0, "entries_last_day": 0, "unwinds_last_day": 0,
        "slots_taken": (), "foreign": (), "unresolved": (), "keys_expire_at": {"main": None, "hedge": None},
        "range_percent": D("0.05"), "weights": {"hyperliquid": (0, 1200)},
        "requests_left": {"main": None, "hedge": None},
    }  # fmt: skip
    return Book(**(fields | changes))


def intent(
    direction: Direction = Direction.LONG,
    *,
    leverage: int = 5,
    hedge_leverage: int = 2,
    hedge_market: str = ETH,
    main_share: str = "0.8",
    **changes: Any,
) -> HedgedIntent:
    side = Side.opening(direction)
    fields: dict[str, Any] = {
        "intent_id": "ETH-macd-1", "action": IntentAction.OPEN, "strategy": "macd", "market": ETH,
        "direction": direction, "confidence": D("0.7"),
        "main": LegPlan(
            role=LegRole.MAIN, account="main", market=ETH, side=side, leverage=leverage, margin_share=D(main_share)
        ),
        "hedge": LegPlan(
            role=LegRole.HEDGE, account="hedge", market=hedge_market, side=side.opposite,
            leverage=hedge_leverage, margin_share=1 - D(main_share),
        ),
        "stop_percent": D(1), "target_percent": D(2), "budget_percent": D(5), "holding_seconds_max": 3600,
        "slippage_bps": D(50), "range_percent": D("0.05"), "reference_price": D(3000),
        "trigger": "2025-01-06T12:00:00Z", "trigger_at": NOW, "reason": "test", "created_at": NOW,
        "expires_at": NOW + timedelta(seconds=90),
    }  # fmt: skip
    return HedgedIntent(**(fields | changes))


def sized(wanted: HedgedIntent | None = None, seen: Book | None = None) -> Sizes:
    found = plan_sizes(wanted or intent(), seen or book())
    assert isinstance(found, Sizes), found
    return found


def refused(wanted: HedgedIntent | None = None, seen: Book | None = None) -> Refused:
    found = plan_sizes(wanted or intent(), seen or book())
    assert isinstance(found, Refused), found
    return found


# -- the budget ----------------------------------------------------------------------------------------


def test_by_hand_a_long() -> None:
    # both accounts 10 000: budget 500; main margin 400 x 5 = 2000, hedge 100 x 2 = 200
    found = sized()
    assert (found.main.limit_price, found.hedge.limit_price) == (D(3015), D(2985))
    assert found.main.size == D("0.6633")  # 2000 / 3015, the dearer of mark and limit
    assert found.hedge.size == D("0.0666")  # 200 / 3000
    assert (found.main.stop_price, found.main.target_price) == (D(2970), D(3060))
    assert (found.hedge.stop_price, found.hedge.target_price) == (D(3060), D(2970))
    assert found.stop_percent == 1
    # loss per ETH of the main leg: 45 of price, 14.85 slippage out, 2.69325 fees
    main = found.main.size * (D(45) + D("14.85") + D("0.00045") * D(5985))
    hedge = found.hedge.size * (-D(15) + D("14.85") + D("0.00045") * D(5955))
    assert found.loss_at_stop_usd == main + hedge
    assert found.main.side is Side.BUY and found.hedge.side is Side.SELL
    assert found.summary == (
        "main buy 0.6633 hyperliquid:ETH at 3015 or better, 5x on main (margin 399.97 USD), stop 2970, target 3060, "
        "liquidation 18.4 % away; hedge sell 0.0666 hyperliquid:ETH at 2985 or better, 2x on hedge (margin 99.4 USD), "
        "stop 3060, target 2970, liquidation 47.1 % away; stop 1 % away, loss at it 41.65 of 100 USD; "
        "a main fill under 0.0339 is closed whole"
    )


def test_a_wide_range_makes_the_hedge_larger_and_the_main_leg_smaller_within_one_budget() -> None:
    # a range twice the calm one: shares 0.8 and 0.2 become 0.8 / 1.2 and 0.4 / 1.2 of the budget of 500
    limits = Limits(hedge_calm_range_percent=D("0.05"))
    calm, wild = sized(seen=book(limits=limits)), sized(seen=book(limits=limits, range_percent=D("0.1")))
    assert calm == sized()
    assert wild.main.size == D("0.5527")  # 333.33 x 5 / 3015
    assert wild.hedge.size == D("0.1111")  # 166.67 x 2 / 3000
    assert abs(wild.hedge.size / wild.main.size / (calm.hedge.size / calm.main.size) - 2) < D("0.01")
    margins = wild.main.margin_usd + wild.hedge.margin_usd
    assert margins <= calm.main.margin_usd + calm.hedge.margin_usd + 1
    assert wild.loss_at_stop_usd < calm.loss_at_stop_usd
    assert "hedge 2 times as large: one-minute range 0.1 % against a calm 0.05 %" in wild.summary


@given(range_percent=st.decimals("0", "3", places=3), leverage=st.integers(1, 10), hedge_leverage=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_whatever_the_range_no_limit_is_passed(range_percent: D, leverage: int, hedge_leverage: int) -> None:
    limits = Limits(hedge_calm_range_percent=D("0.05"), leverage_max=10)
    seen = book(limits=limits, range_percent=range_percent)
    found = plan_sizes(intent(leverage=leverage, hedge_leverage=hedge_leverage), seen)
    if isinstance(found, Refused):
        return
    assert found.main.margin_usd + found.hedge.margin_usd <= D("1.011") * 500  # of the budget, at the limit prices
    assert found.loss_at_stop_usd <= 100
    assert found.hedge.notional_usd >= 12 and found.main.notional_usd >= 12
    for leg in (found.main, found.hedge):
        assert leg.size % D("0.0001") == 0 and leg.margin_usd <= 1000


def test_by_hand_a_short() -> None:
    found = sized(intent(Direction.SHORT))
    assert (found.main.limit_price, found.hedge.limit_price) == (D(2985), D(3015))
    assert found.main.size == D("0.6666")  # 2000 / 3000
    assert (found.main.stop_price, found.main.target_price) == (D(3030), D(2940))
    assert (found.hedge.stop_price, found.hedge.target_price) == (D(2940), D(3030))
    assert found.stop_percent == 1
    twice = sized(intent(Direction.SHORT), book(limits=Limits(target_of_stop=D(3))))
    assert twice.main.target_price == D(2910)  # 3 x 1 %


@pytest.mark.parametrize(("direction", "target"), [(Direction.LONG, "3060.3"), (Direction.SHORT, "2939.7")])
def test_a_target_between_two_prices_is_the_nearer_to_the_mark(direction: Direction, target: str) -> None:
    assert sized(intent(direction, target_percent=D("2.012"))).main.target_price == D(target)


def test_one_account_is_counted_once() -> None:
    wanted = intent(hedge_market="hyperliquid:XETH")
    wanted = wanted.model_copy(update={"hedge": wanted.hedge.model_copy(update={"account": "main"})})
    seen = book(
        hedge=account("main"), hedge_rules=rules("hyperliquid:XETH"), hedge_snapshot=snapshot("hyperliquid:XETH")
    )
    assert seen.equity_usd(wanted) == 5000
    found = sized(wanted, seen)
    assert needs(found.main, found.hedge, rules(), rules())[0][:2] == (
        "main",
        found.main.margin_usd + found.hedge.margin_usd,
    )


def test_the_stricter_of_intent_and_limits_is_used() -> None:
    assert sized(intent(budget_percent=D(50))).main.size == sized().main.size
    assert sized(intent(budget_percent=D("2.5"))).main.size < sized().main.size
    assert sized(intent(slippage_bps=D(400))).main.limit_price == D(3015)
    assert sized(intent(slippage_bps=D(10))).main.limit_price == D(3003)


def test_a_budget_under_one_lot_is_refused() -> None:
    found = refused(seen=book(main=account("main", "1"), hedge=account("hedge", "1")))
    assert found.code == "too_small" and "less than one lot" in found.reason


def test_a_main_leg_under_one_lot_is_refused_though_the_hedge_has_some() -> None:
    found = refused(intent(hedge_market="hyperliquid:XETH"), book(
        main_rules=rules(lot="1"), hedge_rules=rules("hyperliquid:XETH"), hedge_snapshot=snapshot("hyperliquid:XETH"),
    ))  # fmt: skip
    assert found.code == "too_small" and "buys less than one lot" in found.reason


def test_each_market_has_its_own_minimum() -> None:
    other = "hyperliquid:XETH"

    def seen(main: str, hedge: str) -> Book:
        return book(
            main_rules=rules(notional_usd_min=main), hedge_rules=rules(other, notional_usd_min=hedge),
            hedge_snapshot=snapshot(other),
        )  # fmt: skip

    wanted = intent(hedge_market=other)
    assert sized(wanted, seen("1000", "10"))
    assert refused(wanted, seen("10", "1000")).reason.startswith("hedge notional_usd 198.8")


def test_a_leg_may_be_worth_exactly_the_minimum_but_never_nothing() -> None:
    bare = Limits(notional_margin_percent=D(0))
    worth = str(sized().hedge.notional_usd)
    assert sized(seen=book(limits=bare, hedge_rules=rules(notional_usd_min=worth), main_rules=rules()))
    free = rules(notional_usd_min="0")
    nothing = book(limits=bare, main_rules=free, hedge_rules=free, hedge=account("hedge", free_usd="0.01"))
    assert refused(seen=nothing).code == "too_small"


def test_a_hedge_without_leverage_is_refused() -> None:
    wanted = intent()
    none = wanted.model_copy(update={"hedge": wanted.hedge.model_copy(update={"leverage": 0})})
    assert refused(none) == Refused("leverage", "hedge leverage must be at least 1")


def test_a_hedge_under_the_venues_minimum_is_refused_with_the_numbers() -> None:
    found = refused(seen=book(main=account("main", "200"), hedge=account("hedge", "200")))
    assert found.code == "too_small"
    assert found.reason == "hedge notional_usd 7.76 < 12 (the venue's minimum 10 and 20 %)"


# -- prices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
@given(mark=st.decimals("0.01", "150000", places=6), bps=st.decimals("1", "500", places=0))
@settings(max_examples=100, deadline=None)
def test_a_limit_price_never_exceeds_the_slippage(side: Side, mark: D, bps: D) -> None:
    found = limit_price(rules(price_decimals=4), mark, side, bps)
    assert (found - mark) * side.sign <= mark * bps / 10000
    assert found == rules(price_decimals=4).price(found, up=True)


def test_the_stop_is_nearer_when_liquidation_is() -> None:
    # 20x on ETH: liquidation 3 % away for a fill at the limit, 60 % of it is about 1.84 %
    found = sized(
        intent(leverage=20, stop_percent=D(5), target_percent=D(10)),
        book(limits=Limits(leverage_max=20, leverage_above_10_allowed=True, loss_at_stop_percent_max=D(10))),
    )
    liquidation = isolated_liquidation_price(found.main.limit_price, Side.BUY, found.main.size, 20, rules())
    assert liquidation is not None
    allowed = found.main.limit_price - (found.main.limit_price - liquidation) * D("0.6")
    assert allowed <= found.main.stop_price < allowed + D("0.1") + D("0.1")
    assert found.stop_percent < 2


def test_the_stop_follows_the_range_when_asked() -> None:
    seen = book(limits=Limits(stop_ranges=D(10), target_of_stop=D(3)), range_percent=D("0.15"))
    found = sized(seen=seen)
    assert found.stop_percent == D("1.5")
    assert found.main.target_price == D(3135)  # 3 x 1.5 %
    assert sized(seen=book(limits=Limits(stop_ranges=D(10)), range_percent=D("0.05"))).stop_percent == 1


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"stop_percent": D("0.0001")}, "stop", "not beyond the mark"),
        ({"target_percent": D("0.4")}, "target", "worst entry price"),
        ({"direction": Direction.SHORT, "target_percent": D(100)}, "target", "no price above 0"),
    ],
)
def test_impossible_exits_are_refused(changes: dict[str, Any], code: str, words: str) -> None:
    seen = book(limits=Limits(stop_of_liquidation_percent=D("99.9")), main_rules=rules(price_decimals=0))
    direction = changes.pop("direction", Direction.LONG)
    found = refused(intent(direction, **changes), seen)
    assert (found.code, words in found.reason) == (code, True), found


def test_on_two_markets_the_exits_differ_by_the_basis() -> None:
    other = "hyperliquid:kETH"
    seen = book(hedge_rules=rules(other, price_decimals=4, lot="0.1"), hedge_snapshot=snapshot(other, "3.006"))
    found = sized(intent(hedge_market=other), seen)
    assert found.hedge.stop_price == D("3.0661")  # 3060 x 3.006 / 3000 = 3.06612, towards the mark
    assert found.hedge.target_price == D("2.976")  # 2970 x 3.006 / 3000 = 2.97594, towards the mark
    assert "basis" in found.summary


def test_a_hedge_market_too_coarse_for_the_stop_is_refused() -> None:
    other = "hyperliquid:kETH"
    seen = book(hedge_rules=rules(other, price_decimals=0, price_digits=1), hedge_snapshot=snapshot(other, "3"))
    assert refused(intent(hedge_market=other), seen).code == "stop"


# -- the hedge's own liquidation -----------------------------------------------------------------------


def test_the_hedges_leverage_is_lowered_until_its_liquidation_leaves_room() -> None:
    found = sized(intent(hedge_leverage=5, target_percent=D(20)))
    # short at 2985: 5x allows about 10 %, 4x about 13 %, 3x 18 %, 2x 28 % of the way; the target is 20.5 % away
    assert found.hedge.leverage == 2
    assert found.hedge.size < sized(intent(hedge_leverage=5)).hedge.size
    assert "lowered from 5x" in found.summary
    guard = found.hedge.limit_price * (1 + found.hedge.liquidation_distance * D("0.6"))
    assert found.hedge.stop_price < guard


def test_refused_when_even_one_times_leaves_no_room() -> None:
    found = refused(intent(target_percent=D(80)))
    assert found.code == "hedge_liquidation" and "even at 1x" in found.reason


def test_a_long_hedge_without_leverage_needs_no_room() -> None:
    found = sized(intent(Direction.SHORT, hedge_leverage=1, target_percent=D(55)))
    assert found.hedge.liquidation_distance == 1


def test_the_hedges_stop_may_lie_exactly_at_the_allowed_share_of_the_way_to_liquidation() -> None:
    """A long hedge without leverage, at 3015, is liquidated at zero: 60 % of the way is 1206."""
    found = sized(intent(Direction.SHORT, hedge_leverage=1, target_percent=D("59.8")))
    assert (found.hedge.stop_price, found.hedge.leverage) == (D(1206), 1)
    assert refused(intent(Direction.SHORT, hedge_leverage=1, target_percent=D("59.9"))).code == "hedge_liquidation"


# -- the limits that make both smaller -------------------------------------------------------------------


def assert_ratio_kept(found: Sizes, whole: Sizes) -> None:
    ratio, wanted = found.hedge.size / found.main.size, whole.hedge.size / whole.main.size
    lots = D("0.0001") / found.main.size + D("0.0001") / found.hedge.size
    assert abs(ratio / wanted - 1) <= lots + D("0.005")


def test_the_loss_at_the_stop_bounds_both() -> None:
    seen = book(limits=Limits(loss_at_stop_percent_max=D("0.2")))
    found = sized(seen=seen)
    assert D("19.5") < found.loss_at_stop_usd <= 20
    assert_ratio_kept(found, sized())
    assert "made smaller because loss_at_stop_usd" in found.summary


def test_room_for_a_little_more_or_exactly_enough_makes_nothing_smaller() -> None:
    whole = sized()
    needed = whole.main.margin_usd + whole.main.notional_usd * D("0.00045")
    for free in (needed, needed * D("1.5")):
        assert sized(seen=book(main=account("main", free_usd=free))) == whole
    least = Limits(loss_at_stop_percent_max=whole.loss_at_stop_usd / 100)  # of 10 000
    assert sized(seen=book(limits=least)).main.size == whole.main.size
    assert "smaller" not in sized(seen=book(limits=least)).summary


def test_a_loss_of_less_than_a_dollar_is_bounded_too() -> None:
    poor = {name: account(name, "40") for name in ("main", "hedge")}
    dust = {f"{name}_rules": rules(notional_usd_min="0.1") for name in ("main", "hedge")}
    found = sized(intent(stop_percent=D(5)), book(**poor, **dust))  # whole: 0.94, of 80
    assert D("0.7") < found.loss_at_stop_usd <= D("0.8")
    assert "made smaller because loss_at_stop_usd" in found.summary


def test_legs_that_lose_nothing_together_are_not_bounded_by_a_loss() -> None:
    free = {f"{name}_rules": rules(taker_fee="0") for name in ("main", "hedge")}
    found = sized(intent(leverage=2, main_share="0.5", slippage_bps=D(0)), book(**free))
    assert found.main.size == found.hedge.size and found.loss_at_stop_usd == 0


def test_the_margin_in_use_counts_what_is_there_already() -> None:
    seen = book(main=account("main", margin_used_usd="800", free_usd="4200"))
    found = sized(seen=seen)
    assert D(195) < found.main.margin_usd <= 200
    assert_ratio_kept(found, sized())
    assert "margin_in_use_percent_max" in found.summary


def test_each_account_answers_for_its_own_leg() -> None:
    seen = book(hedge=account("hedge", free_usd="50"))
    found = sized(seen=seen)
    assert D(48) < found.hedge.margin_usd + found.hedge.notional_usd * D("0.00045") <= 50
    assert_ratio_kept(found, sized())
    assert "hedge: margin and fees_usd" in found.summary


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (account("main", margin_used_usd="1000"), "margin_in_use"),
        (account("main", margin_used_usd="1001"), "margin_in_use"),
        (account("main", free_usd="0"), "free_margin"),
    ],
)
def test_no_room_at_all_is_refused(state: AccountState, code: str) -> None:
    assert refused(seen=book(main=state)).code == code


def test_what_is_left_may_be_too_small() -> None:
    found = refused(seen=book(hedge=account("hedge", free_usd="5")))
    assert found.code == "too_small" and "made smaller because hedge: margin" in found.reason


def test_a_hedge_that_gains_lets_the_main_leg_lose_more() -> None:
    seen = book(limits=Limits(loss_at_stop_percent_max=D("0.5")))
    wide = {"stop_percent": D(8), "target_percent": D(12)}
    covered = sized(intent(hedge_leverage=4, **wide), seen)
    alone = sized(intent(hedge_leverage=1, **wide), seen)
    assert covered.loss_at_stop_usd <= 50 and alone.loss_at_stop_usd <= 50
    assert covered.main.size > alone.main.size


# -- de minimis ----------------------------------------------------------------------------------------


def test_de_minimis_is_the_smallest_both_legs_may_have() -> None:
    found = sized(intent(de_minimis=True))
    assert 12 <= found.hedge.notional_usd < 12 + D("0.0001") * 3000
    # main : hedge = 0.8 x 5 : 0.2 x 2
    assert D("9.9") < found.main.notional_usd / found.hedge.notional_usd < D("10.1")
    assert found == sized(intent(), book(limits=Limits(de_minimis=True)))


def test_de_minimis_with_the_larger_hedge_respects_the_main_legs_minimum() -> None:
    found = sized(intent(de_minimis=True, main_share="0.1", leverage=1, hedge_leverage=2))
    assert 12 <= found.main.notional_usd < D("12.4")
    assert D("17.5") < found.hedge.notional_usd / found.main.notional_usd < D("18.5")


def test_what_was_not_made_smaller_is_not_said_to_have_been() -> None:
    whole = sized()
    needed = whole.main.margin_usd + whole.main.notional_usd * D("0.00045")
    high = rules(notional_usd_min="1000")
    for part, said in ((D(1), False), (D("1.5"), False), (D("0.9"), True)):
        found = refused(seen=book(main=account("main", free_usd=needed * part), hedge_rules=high))
        assert found.code == "too_small" and ("smaller because" in found.reason) is said


def test_de_minimis_wants_no_more_room_than_it_takes() -> None:
    whole = sized(intent(de_minimis=True))
    needed = whole.main.margin_usd + whole.main.notional_usd * D("0.00045")
    for free in (needed, needed * D("1.5")):
        assert sized(intent(de_minimis=True), book(main=account("main", free_usd=free))) == whole
    assert refused(intent(de_minimis=True), book(main=account("main", free_usd=needed * D("0.999"))))


def test_de_minimis_needs_room_too() -> None:
    roomy = Limits(loss_at_stop_percent_max=D(10))
    found = refused(intent(de_minimis=True), book(main=account("main", "50"), hedge=account("hedge", "50")))
    assert found.code == "loss_at_stop"
    found = refused(intent(de_minimis=True), book(main=account("main", "100"), limits=roomy))
    assert found.code == "margin_in_use" and "main: margin_usd 24" in found.reason
    found = refused(intent(de_minimis=True), book(main=account("main", free_usd="20")))
    assert found.code == "free_margin"


# -- what else is said ---------------------------------------------------------------------------------


def test_the_smallest_main_fill_leaves_the_hedge_its_minimum() -> None:
    found = sized()
    least = found.main_fill_min
    hedge = rules().size(found.hedge.size * least / found.main.size)
    assert hedge * found.hedge.limit_price >= 10
    below = rules().size(found.hedge.size * (least - D("0.0010")) / found.main.size)
    assert below * found.hedge.limit_price < 10
    assert main_fill_min(D(1), D("0.1"), D(100), rules(), rules()) == 1


def test_small_helpers() -> None:
    assert notional_usd_min(rules(), Limits()) == 12
    assert loss_per_unit(D(100), D(90), Side.BUY, D(0), D(0)) == 10
    assert loss_per_unit(D(100), D(90), Side.SELL, D(0), D(0)) == -10
    assert loss_per_unit(D(100), D(100), Side.BUY, D(100), D("0.001")) == D("1.2")


@pytest.mark.parametrize("missing", ["main", "hedge", "main_snapshot", "hedge_snapshot", "main_rules", "hedge_rules"])
def test_anything_missing_is_refused(missing: str) -> None:
    refused(seen=book(**{missing: None}))


@pytest.mark.parametrize("missing", ["limits", "range_percent"])
def test_missing_limits_are_refused(missing: str) -> None:
    assert refused(seen=book(**{missing: None})).code == "limits_missing"


@given(
    direction=st.sampled_from(Direction),
    leverage=st.integers(1, 10),
    hedge_leverage=st.integers(1, 10),
    share=st.decimals("0.5", "0.95", places=2),
    stop=st.decimals("0.2", "20", places=2),
    target=st.decimals("1", "40", places=2),
    equities=st.tuples(st.integers(50, 200_000), st.integers(50, 200_000)),
    used=st.tuples(st.decimals("0", "0.3", places=2), st.decimals("0", "0.3", places=2)),
    mark=st.decimals("0.5", "120000", places=2),
    loss=st.decimals("0.1", "3", places=1),
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_sized_is_within_every_limit(
    direction: Direction,
    leverage: int,
    hedge_leverage: int,
    share: D,
    stop: D,
    target: D,
    equities: tuple[int, int],
    used: tuple[D, D],
    mark: D,
    loss: D,
) -> None:
    limits = Limits(leverage_max=10, loss_at_stop_percent_max=loss)
    states = [
        account(name, str(equity), margin_used_usd=equity * part, free_usd=equity * (1 - part))
        for name, equity, part in zip(("main", "hedge"), equities, used, strict=True)
    ]
    seen = book(
        limits=limits, main=states[0], hedge=states[1],
        main_snapshot=snapshot(mark=str(mark)), hedge_snapshot=snapshot(mark=str(mark)),
    )  # fmt: skip
    wanted = intent(
        direction, leverage=leverage, hedge_leverage=hedge_leverage, main_share=str(share),
        stop_percent=stop, target_percent=target,
    )  # fmt: skip
    found = plan_sizes(wanted, seen)
    assume(isinstance(found, Sizes))
    assert isinstance(found, Sizes)
    equity = D(sum(equities))
    assert found.loss_at_stop_usd <= equity * loss / 100
    for leg, state in ((found.main, states[0]), (found.hedge, states[1])):
        assert leg.size == rules().size(leg.size) > 0
        assert leg.notional_usd >= 12
        assert leg.margin_usd + state.margin_used_usd <= state.equity_usd * D("0.2")
        assert leg.margin_usd + leg.notional_usd * D("0.00045") <= state.free_usd
        for price in (leg.limit_price, leg.stop_price, leg.target_price):
            assert price == rules().price(price, up=True) > 0
        away = (mark - leg.stop_price) * leg.side.sign
        assert away > 0 and (leg.target_price - mark) * leg.side.sign > 0
        liquidation = isolated_liquidation_price(leg.limit_price, leg.side, leg.size, leg.leverage, rules())
        if liquidation is not None:
            allowed = abs(leg.limit_price - liquidation) * D("0.6")
            assert (leg.limit_price - leg.stop_price) * leg.side.sign <= allowed
    assert (found.hedge.stop_price, found.hedge.target_price) == (found.main.target_price, found.main.stop_price)
    assert found.main.margin_usd + found.hedge.margin_usd <= equity * D("0.05")
