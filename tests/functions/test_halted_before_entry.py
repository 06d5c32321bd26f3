"""Trading is stopped after the gate approved and before the first order: nothing is sent, and nothing stays claimed."""

import pytest

from twinleg.domain.control import Halt
from twinleg.domain.trades import TradeState
from twinleg.engine.control import set_trading
from twinleg.engine.ports import SignerRole, Steps


@pytest.mark.parametrize("state", [Halt.REDUCING, Halt.HALTED])
def test_a_halt_between_the_approval_and_the_first_order_ends_the_trade_without_one(world, state):
    w = world()
    person = w.new_system()
    asked: list[str] = []

    def halt(_: int, name: str) -> None:
        if not asked and any(t.data["state"] == TradeState.APPROVED for t in person.store.query("trades")):
            asked.append(name)
            set_trading(person.engine(SignerRole.RISK), state, why="enough for today", by="a person")

    w.restart(Steps(halt))
    w.alert("buy", "a1")
    w.minutes(2)
    assert asked
    trade = w.trade()
    assert trade.state is TradeState.REFUSED and trade.why_closed.startswith(f"halted: trading is {state}: enough")
    assert not any(leg.orders for leg in trade.legs)
    assert w.fills("main") == w.fills("hedge") == [] and w.position("main") == 0
    set_trading(person.engine(SignerRole.RISK), Halt.ENABLED, why="", by="a person")
    w.alert("buy", "a2")
    assert w.trade().state is TradeState.OPEN, "its slots and its place among the open trades are free again"
