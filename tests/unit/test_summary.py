"""The summary's numbers, each against a hand-made ledger: once clean, once with exactly that fault."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from twinleg.domain.errors import BadInput
from twinleg.domain.messages import HedgedIntent, IntentAction, LegPlan
from twinleg.domain.orders import LegRole, Side
from twinleg.domain.signals import Direction
from twinleg.domain.trades import Leg, Trade, TradeState
from twinleg.embedded.summary import Pair, Records, summarise
from twinleg.embedded.venue_ledger import Ledger, alone, double_orders, read_ledger

MAIN = "0xAaAa000000000000000000000000000000000001"
HEDGE = "0xbBbB000000000000000000000000000000000002"
PAIR = Pair("main", MAIN, "hedge", HEDGE)
START = datetime(2025, 11, 10, 12, 0, tzinfo=UTC)
T0 = round(START.timestamp() * 1000)


class Book:
    """Writes a ledger the way the venue does: every fill knows the position before it."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Decimal] = {}
        self.dump: dict[str, Any] = {"accounts": {}, "fills": [], "orders": [], "funding": [], "liquidations": []}

    def fill(self, user: str, size: str, seconds: float, oid: int, *, asked: str | None = None, **more: Any) -> Book:
        """A fill of signed *size*; the order's entry is written with its first fill."""
        coin = more.pop("coin", "BTC")
        reduce_only = more.pop("reduce_only", False)
        change, start = Decimal(size), self.held.get((user, coin), Decimal(0))
        self.held[user, coin] = start + change
        if all(order["oid"] != oid for order in self.dump["orders"]):
            self.dump["orders"].append(
                {"user": user, "coin": coin, "oid": oid, "reduceOnly": reduce_only, "origSz": asked or str(abs(change))}
            )
        self.dump["fills"].append(
            {
                "user": user,
                "coin": coin,
                "px": more.pop("px", "100000.0"),
                "sz": str(abs(change)),
                "side": "B" if change > 0 else "A",
                "time": T0 + round(seconds * 1000),
                "startPosition": str(start),
                "closedPnl": more.pop("closed", "0.0"),
                "fee": more.pop("fee", "0.1"),
                "oid": oid,
            }
            | more
        )
        return self

    def pair(self, at: float = 0, late: float = 1.5, until: float = 600, oid: int = 1) -> Book:
        """One clean trade: the hedge *late* seconds after the main leg, both closed within a second."""
        self.fill(MAIN, "0.01", at, oid).fill(HEDGE, "-0.002", at + late, oid + 1)
        self.fill(MAIN, "-0.01", until, oid + 2, reduce_only=True, closed="5.0")
        return self.fill(HEDGE, "0.002", until + 1, oid + 3, reduce_only=True, closed="-1.0")

    def read(self, seconds: float = 3600) -> Ledger:
        return read_ledger(self.dump, START + timedelta(seconds=seconds))


def risk(**ledgers: Ledger) -> dict[str, Any]:
    return summarise(records=Records({}, 0), ledgers=ledgers, pairs=[PAIR], wall_seconds=1.0)


def trade(state: TradeState = TradeState.CLOSED, why: str = "main leg target at 101000", n: int = 1) -> Trade:
    plans = [
        LegPlan(
            role=role, account=role.value, market="hyperliquid:BTC", side=side, leverage=3, margin_share=Decimal("0.5")
        )
        for role, side in ((LegRole.MAIN, Side.BUY), (LegRole.HEDGE, Side.SELL))
    ]
    intent = HedgedIntent(
        intent_id=f"BTC-alerts-{n}", action=IntentAction.OPEN, strategy="alerts", market="hyperliquid:BTC",
        direction=Direction.LONG, confidence=Decimal("0.6"), main=plans[0], hedge=plans[1], stop_percent=Decimal(1),
        target_percent=Decimal(2), budget_percent=Decimal(5), holding_seconds_max=3600, slippage_bps=Decimal(50),
        range_percent=Decimal("0.1"), reference_price=Decimal(100000), trigger="t1", trigger_at=START,
        reason="test", created_at=START, expires_at=START + timedelta(seconds=90),
    )  # fmt: skip
    main, hedge = (
        Leg(role=p.role, account=p.account, market=p.market, side=p.side, leverage=p.leverage) for p in plans
    )
    filled = {"fees_usd": Decimal("0.2"), "entry_price": Decimal(100000), "exit_price": Decimal("100500")}
    main = main.model_copy(
        update=filled
        | {"size_filled": Decimal("0.01"), "size_closed": Decimal("0.01"), "realised_usd": Decimal(5),
           "funding_usd": Decimal("0.05")}
    )  # fmt: skip
    hedge = hedge.model_copy(
        update=filled | {"size_filled": Decimal("0.002"), "size_closed": Decimal("0.002"), "realised_usd": Decimal(-1)}
    )
    return Trade(
        trade_id=intent.intent_id, intent=intent, state=state, main=main, hedge=hedge, created_at=START,
        updated_at=START, opened_at=START, closed_at=START + timedelta(minutes=10), why_closed=why,
    )  # fmt: skip


def test_a_clean_pair_counts_nothing_but_its_unhedged_second() -> None:
    found = risk(replay=Book().pair().read())
    assert (found["liquidations"], found["orphans"], found["double_orders"]) == (0, 0, 0)
    assert found["unhedged_seconds_max"] == 1.5
    listed = found["segments"]["replay"]["unhedged_list"]
    assert [(gap["account"], gap["seconds"]) for gap in listed] == [("main", 1.5), ("hedge", 1.0)]
    assert listed[0]["since"] == "2025-11-10T12:00:00Z"


def test_an_empty_ledger_is_all_zero() -> None:
    found = risk(replay=read_ledger({}))
    assert (found["liquidations"], found["orphans"], found["double_orders"]) == (0, 0, 0)
    assert found["unhedged_seconds_max"] == 0


# -- liquidations ----------------------------------------------------------------------------------


def liquidated() -> Book:
    book = Book().fill(MAIN, "0.01", 0, 1).fill(HEDGE, "-0.002", 1, 2)
    mark = {"liquidatedUser": MAIN, "markPx": "81000.0", "method": "market"}
    book.fill(MAIN, "-0.01", 60, 3, reduce_only=True, liquidation=mark, px="81010.0")
    book.fill(HEDGE, "0.002", 90, 4, reduce_only=True)
    return book


def test_a_listed_liquidation_is_counted_once_with_account_coin_time_and_price() -> None:
    book = liquidated()
    book.dump["liquidations"] = [
        {"user": MAIN, "coin": "BTC", "time": T0 + 60_000, "szi": "0.01", "size": "0.01", "markPx": "81000.0",
         "method": "market"}
    ]  # fmt: skip
    found = risk(replay=book.read())
    assert found["liquidations"] == 1
    [entry] = found["liquidation_list"]
    assert (entry["account"], entry["coin"], entry["time"], entry["price"]) == (
        "main", "BTC", "2025-11-10T12:01:00Z", 81000.0,
    )  # fmt: skip


def test_a_liquidation_that_only_a_fill_tells_of_is_counted() -> None:
    assert risk(replay=liquidated().read())["liquidations"] == 1


def test_the_other_side_of_somebody_elses_liquidation_is_not_ours() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1, liquidation={"liquidatedUser": "0xcc", "markPx": "1"})
    assert risk(replay=book.read())["liquidations"] == 0


def test_a_liquidation_in_the_stress_does_not_hide() -> None:
    found = risk(replay=Book().pair().read(), stress=liquidated().read())
    assert found["liquidations"] == 1
    assert found["segments"]["replay"]["liquidations"] == 0
    assert found["segments"]["stress"]["liquidations"] == 1
    assert [entry["segment"] for entry in found["liquidation_list"]] == ["stress"]


# -- double orders ---------------------------------------------------------------------------------


def doubles(book: Book) -> list[tuple[int, int]]:
    return [(d.oid, d.first_oid) for d in double_orders(book.read(), [MAIN, HEDGE])]


def test_a_second_order_on_a_complete_position_is_double() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1).fill(MAIN, "0.01", 3, 2)
    assert doubles(book) == [(2, 1)]
    assert risk(replay=book.read())["double_order_list"][0]["size_beyond"] == 0.01


def test_one_order_that_fills_in_pieces_is_not_double() -> None:
    assert doubles(Book().fill(MAIN, "0.004", 0, 1, asked="0.01").fill(MAIN, "0.006", 0, 1)) == []


def test_the_second_attempt_at_what_the_first_left_is_not_double() -> None:
    partial = Book().fill(HEDGE, "-0.002", 0, 1, asked="0.005")
    assert doubles(partial.fill(HEDGE, "-0.003", 4, 2)) == []


def test_a_second_attempt_beyond_what_the_first_left_is_double() -> None:
    partial = Book().fill(HEDGE, "-0.002", 0, 1, asked="0.005")
    assert doubles(partial.fill(HEDGE, "-0.004", 4, 2)) == [(2, 1)]


def test_without_the_orders_a_smaller_later_order_is_a_top_up_and_an_equal_one_is_double() -> None:
    smaller = Book().fill(HEDGE, "-0.005", 0, 1).fill(HEDGE, "-0.002", 4, 2)
    equal = Book().fill(HEDGE, "-0.005", 0, 1).fill(HEDGE, "-0.005", 4, 2)
    smaller.dump["orders"], equal.dump["orders"] = [], []
    assert doubles(smaller) == []
    assert doubles(equal) == [(2, 1)]


def test_a_new_position_after_flat_is_not_double() -> None:
    assert doubles(Book().pair(oid=1).pair(at=700, until=900, oid=10)) == []


def test_a_cut_does_not_make_room_for_more() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1).fill(MAIN, "-0.005", 60, 2, reduce_only=True)
    assert doubles(book.fill(MAIN, "0.005", 90, 3)) == [(3, 1)]


def test_a_turn_through_zero_begins_a_new_stay() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1).fill(MAIN, "-0.03", 60, 2)
    assert doubles(book) == []
    assert doubles(book.fill(MAIN, "-0.02", 61, 3)) == [(3, 2)]


def test_one_client_id_filled_by_two_orders_is_double_even_after_flat() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1, cloid="0xa").fill(MAIN, "-0.01", 10, 2, reduce_only=True)
    assert doubles(book.fill(MAIN, "0.01", 20, 3, cloid="0xa")) == [(3, 1)]


def test_accounts_and_coins_do_not_add_to_each_other() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1).fill(HEDGE, "0.01", 0, 2).fill(MAIN, "1", 0, 3, coin="ETH")
    assert doubles(book) == []


# -- orphans and unhedged time ---------------------------------------------------------------------


def test_a_position_left_at_the_end_without_its_opposite_is_an_orphan() -> None:
    found = risk(replay=Book().fill(MAIN, "0.01", 0, 1).read(seconds=10))
    assert found["orphans"] == 1
    assert found["orphan_list"][0]["left_at_end"] is True
    assert found["unhedged_seconds_max"] == 10


def test_both_legs_left_at_the_end_are_no_orphan() -> None:
    assert risk(replay=Book().fill(MAIN, "0.01", 0, 1).fill(HEDGE, "-0.002", 2, 2).read())["orphans"] == 0


@pytest.mark.parametrize(("late", "orphans"), [(65, 0), (65.001, 1)])
def test_a_leg_alone_for_longer_than_a_sweep_is_an_orphan(late: float, orphans: int) -> None:
    found = risk(replay=Book().pair(late=late).read())
    assert (found["orphans"], found["unhedged_seconds_max"]) == (orphans, late)


def test_two_legs_the_same_way_hedge_nothing() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1).fill(HEDGE, "0.002", 0, 2)
    [gap] = alone(book.read(seconds=30), MAIN, HEDGE)
    assert (gap.seconds, gap.left_at_end) == (30, True)


def test_fills_of_one_instant_leave_no_leg_alone() -> None:
    assert alone(Book().pair(late=0, until=60).read(), MAIN, HEDGE)[0].holder == HEDGE.lower()


def test_time_alone_does_not_begin_anew_when_the_other_leg_takes_over() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1)
    book.fill(MAIN, "-0.01", 40, 2, reduce_only=True).fill(HEDGE, "-0.002", 40, 3)
    [gap] = alone(book.read(seconds=70), MAIN, HEDGE)
    assert (gap.seconds, gap.is_orphan) == (70, True)


@pytest.mark.parametrize(
    "positions",
    [{"BTC": {"szi": "0.01"}}, [{"coin": "BTC", "size": "0.01"}], [{"position": {"coin": "BTC", "szi": "0.01"}}]],
)
def test_a_position_that_no_fill_explains_is_seen_in_the_accounts(positions: Any) -> None:
    book = Book().pair()
    book.dump["accounts"] = {MAIN: {"positions": positions}, HEDGE: {"positions": {}}}
    assert risk(replay=book.read())["orphans"] == 1


def test_each_coin_is_judged_alone() -> None:
    book = Book().fill(MAIN, "0.01", 0, 1).fill(HEDGE, "-0.1", 0, 2, coin="ETH")
    assert {gap.coin for gap in alone(book.read(), MAIN, HEDGE)} == {"BTC", "ETH"}


# -- counts and rows -------------------------------------------------------------------------------


def test_counts_rows_and_the_venues_own_profit() -> None:
    book = Book().pair()
    book.dump["funding"] = [{"user": MAIN, "coin": "BTC", "usdc": "-0.05", "time": T0}]
    records = Records(
        trades={
            "replay": [
                trade(),
                trade(TradeState.REFUSED, "stale: age_seconds 120 > 90", 2),
                trade(TradeState.REFUSED, "stale: age_seconds 95 > 90", 3),
                trade(TradeState.REFUSED, "loss_at_stop: 60 > 50", 4),
            ]
        },
        candles=721,
        events={"signal": 4, "alert_ignored": 2},
        webhook={"accepted": 5, "unauthenticated": 2, "not_understood": 1},
        alerts_duplicate=3,
    )
    found = summarise(records=records, ledgers={"replay": book.read()}, pairs=[PAIR], wall_seconds=12.3456)
    assert json.loads(json.dumps(found)) == found
    assert (found["candles"], found["signals"], found["intents"]) == (721, 4, 4)
    assert (found["alerts_received"], found["alerts_refused"], found["alerts_duplicate"]) == (8, 3, 3)
    assert found["refused"] == {"stale": 2, "loss_at_stop": 1}
    assert found["wall_seconds"] == 12.346
    [row] = found["trades"]
    assert (row["id"], row["segment"], row["direction"], row["state"]) == ("BTC-alerts-1", "replay", "long", "CLOSED")
    assert row["main"]["address"] == MAIN.lower()
    assert (row["main"]["side"], row["hedge"]["side"]) == ("buy", "sell")
    assert (row["main"]["entry_price"], row["main"]["exit_price"], row["main"]["size"]) == (100000, 100500, 0.01)
    assert (row["main"]["pnl_usd"], row["hedge"]["pnl_usd"], row["pnl_usd"]) == (4.75, -1.2, 3.55)
    assert found["segments"]["replay"]["venue_pnl_usd"] == 3.55
    assert found["segments"]["replay"]["pnl_difference_usd"] == 0


def test_trades_without_a_ledger_are_not_called_safe() -> None:
    with pytest.raises(BadInput, match="stress"):
        summarise(records=Records({"stress": [trade()]}, 1), ledgers={}, pairs=[PAIR], wall_seconds=1)
    with pytest.raises(BadInput, match="pairs"):
        summarise(records=Records({}, 1), ledgers={}, pairs=[], wall_seconds=1)
