"""The life of a trade: its transitions, and legs that are what their fills say."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from twinleg.domain.errors import InvariantBroken
from twinleg.domain.orders import AckState, Fill, LegRole, OrderKind, Purpose, Side
from twinleg.domain.trades import ALLOWED, ENDED, Leg, PlacedOrder, TradeState

D = Decimal
AT = datetime(2025, 1, 1, tzinfo=UTC)


def leg(side: Side = Side.BUY, *ids: str) -> Leg:
    orders = tuple(
        PlacedOrder(
            client_order_id=id, purpose=Purpose.ENTRY, sequence=n, attempt=1, kind=OrderKind.MARKET, side=side,
            size=D(1), limit_price=D(100), action_id=f"0xa:{n}", state=AckState.FILLED,
        )
        for n, id in enumerate(ids)
    )  # fmt: skip
    return Leg(role=LegRole.MAIN, account="main", market="hyperliquid:BTC", side=side, leverage=3, orders=orders)


def fill(side: Side, size: str, price: str, id: str | None, **more: object) -> Fill:
    return Fill(
        **{
            "fill_id": "1", "order_id": "1", "client_order_id": id, "market": "hyperliquid:BTC", "side": side,
            "size": D(size), "price": D(price), "fee_usd": D("0.1"), "closed_pnl_usd": D(0),
            "start_position": D(0), "at": AT, **more,
        }
    )  # fmt: skip


def test_every_state_has_its_ways_out_and_ended_states_have_none():
    assert set(ALLOWED) == set(TradeState)
    assert all(not ALLOWED[state] for state in ENDED)
    reachable = {TradeState.PROPOSED}
    for _ in TradeState:
        reachable |= {after for state in reachable for after in ALLOWED[state]}
    assert reachable == set(TradeState)


def test_open_can_be_reached_only_through_a_hedge():
    assert {s for s, after in ALLOWED.items() if TradeState.OPEN in after} == {
        TradeState.HEDGE_SENT,
        TradeState.REDUCING,
    }


def test_a_transition_that_a_trade_does_not_have_raises(make_trade):
    with pytest.raises(InvariantBroken, match="PROPOSED cannot become OPEN"):
        make_trade().to(TradeState.OPEN)


def test_a_leg_is_what_its_own_fills_say():
    fills = [
        fill(Side.BUY, "0.6", "100", "0x1"),
        fill(Side.BUY, "0.4", "110", "0x1"),
        fill(Side.BUY, "5", "100", "0xother"),
        fill(Side.SELL, "0.5", "120", "0x2"),
    ]
    found = leg(Side.BUY, "0x1", "0x2").with_fills(fills)
    assert (found.size_filled, found.entry_price) == (D(1), D(104))
    assert (found.size_closed, found.size_open, found.exit_price) == (D("0.5"), D("0.5"), D(120))
    assert found.realised_usd == D(8)
    assert found.fees_usd == D("0.3")


def test_a_short_leg_profits_when_the_price_falls():
    found = leg(Side.SELL, "0x1", "0x2").with_fills(
        [fill(Side.SELL, "2", "100", "0x1"), fill(Side.BUY, "2", "90", "0x2")]
    )
    assert found.realised_usd == D(20)


def test_liquidations_and_closes_by_hand_count_but_additions_by_others_do_not():
    fills = [
        fill(Side.BUY, "1", "100", "0x1"),
        fill(Side.BUY, "3", "100", None),
        fill(Side.SELL, "1", "80", None, liquidation=True),
    ]
    found = leg(Side.BUY, "0x1").with_fills(fills)
    assert (found.size_filled, found.size_open, found.liquidated) == (D(1), D(0), True)


def test_fills_of_another_market_are_not_ours():
    other = fill(Side.BUY, "1", "100", "0x1", market="hyperliquid:ETH")
    assert leg(Side.BUY, "0x1").with_fills([other]).size_filled == 0


def test_profit_is_after_fees_and_funding_of_both_legs(make_trade):
    trade = make_trade()
    main = trade.main.model_copy(update={"realised_usd": D(10), "fees_usd": D(1), "funding_usd": D(2)})
    hedge = trade.hedge.model_copy(update={"realised_usd": D(-3), "fees_usd": D("0.5"), "funding_usd": D(-1)})
    assert trade.with_leg(main).with_leg(hedge).pnl_usd == D("4.5")
