"""A resting entry is waited for by whoever placed it; the sweep, which has others to look after, does not wait too."""

from typing import Any

import pytest

from twinleg.domain.control import Halt
from twinleg.domain.trades import ENDED, TradeState
from twinleg.embedded.replay import alert_json
from twinleg.engine.control import set_trading
from twinleg.engine.ports import Merge, Steps

RISING = ["100000"] * 2 + [str(100_000 + 60 * n) for n in range(1, 40)]


class Death(BaseException):
    """The process is gone."""


def waiting(world: Any, **fault: str) -> Any:
    """An open trade whose hedge has lost its stop, and a limit entry whose process died as it began to wait."""
    w = world(RISING, also=["ETH"], entry_order="limit", limit_order_seconds_max="45")
    w.control.switches(mark_gap="0.0005")  # at the mark there is somebody to trade with
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.OPEN, w.trade().summary

    def die(_: int, name: str) -> None:
        if name == "hyperliquid orderStatus" and any(t.state is TradeState.MAIN_SENT for t in w.trades()):
            raise Death

    w.minutes(2)
    w.system.clock.sleep(30)
    if fault:
        w.fault(address=w.address("main"), action="order", count=1, **fault)
    else:
        w.control.switches(mark_gap="0")
    w.restart(Steps(die))
    w.post(alert_json("ETH", "buy", w.system.clock.now(), "b1"))
    with pytest.raises(Death):
        w.deliver()
    w.restart()
    assert w.trade().state is TradeState.MAIN_SENT and entries(w)
    state = w.server.venue.engine.state
    [stop] = [o for o in state.orders.values() if o.live and o.user == w.address("hedge") and o.tpsl == "sl"]
    state.set_status(stop, "canceled")
    return w


def entries(w: Any) -> list[Any]:
    return [o for o in w.system.venues.of("main").open_orders("main") if not o.reduce_only]


def test_others_are_looked_after_while_an_entry_rests_and_then_it_is_cancelled(world):
    w = waiting(world)
    began = w.system.clock.now()
    w.sweep()
    took = (w.system.clock.now() - began).total_seconds()
    assert w.events("protected") and took < 10, took
    assert entries(w) and w.trade().state is TradeState.MAIN_SENT
    w.minutes(2)
    assert not entries(w) and w.trade().state in ENDED


@pytest.mark.parametrize("why", ["filled in part", "halted"])
def test_one_that_is_filled_or_no_longer_wanted_is_taken_up_at_once(world, why):
    w = waiting(world, **({"kind": "partial_fill", "fraction": "0.4"} if why == "filled in part" else {}))
    if why == "halted":
        set_trading(w.engine(), Halt.HALTED, why="a test", by="a test")
    w.sweep()
    trade = w.trade()
    assert not entries(w) and not [o for o in trade.main.orders if o.state == "resting"]
    if why == "halted":
        assert trade.state is TradeState.REFUSED
        return
    assert trade.state is TradeState.OPEN, trade.summary
    assert trade.main.size_filled > 0 and trade.hedge.size_filled > 0


def test_an_entry_that_outlives_its_trade_is_cancelled_by_the_next_sweep(world):
    """However it came to that: nothing would guard what it fills."""
    w = waiting(world)
    w.system.store.batch([Merge("trades", w.trade().trade_id, {"state": "REFUSED"})])
    w.sweep()
    assert not entries(w) and w.position("main") > 0, "and the other trade is as it was"
    assert not w.events("orphan")
