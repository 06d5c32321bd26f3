"""Two functions on one trade at the same moment: each step is claimed once, whoever gets there first."""

import contextlib
from decimal import Decimal

import pytest

from twinleg.domain.errors import TwinlegError
from twinleg.domain.trades import TradeState
from twinleg.engine.ports import SignerRole, Steps
from twinleg.engine.sweep import on_sweep


class Interrupter:
    """Runs something once, at the n-th effect on the venue's /exchange or on the store."""

    def __init__(self, at: int, wanted: str, run) -> None:
        self.at, self.wanted, self.run, self.seen, self.done = at, wanted, run, 0, False

    def __call__(self, count: int, name: str) -> None:
        if self.done or self.wanted not in name:
            return
        self.seen += 1
        if self.seen == self.at:
            self.done = True
            self.run()


def entries_by_leg(w) -> dict[str, int]:
    """How many different opening orders filled on each account, by the venue's own ledger."""
    ledger = w.control.ledger()
    opening = {o["oid"] for o in ledger["orders"] if not o["reduceOnly"]}
    users = {w.address(a): a for a in ("main", "hedge")}
    oids = {(users[f["user"].lower()], f["oid"]) for f in ledger["fills"] if f["oid"] in opening}
    return {a: sum(account == a for account, _ in oids) for a in ("main", "hedge")}


@pytest.mark.parametrize("at", range(1, 13))
def test_a_sweep_in_the_middle_of_an_entry_doubles_nothing(world, at):
    w = world()
    other = w.new_system()

    def sweep() -> None:
        with contextlib.suppress(TwinlegError):
            on_sweep(other.engine(SignerRole.RISK))

    interrupter = Interrupter(at, "exchange", sweep)
    w.restart(Steps(interrupter))
    other.clock = w.system.clock
    w.alert("buy", "a1")
    for _ in range(3):
        w.minutes()
    assert entries_by_leg(w) == {"main": 1, "hedge": 1}
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert (w.position("main"), -w.position("hedge")) == (trade.main.size_filled, trade.hedge.size_filled)


@pytest.mark.parametrize("at", range(1, 60, 7))
def test_a_second_delivery_in_the_middle_of_the_first_doubles_nothing(world, at):
    from twinleg.domain.messages import HedgedIntent
    from twinleg.engine.execution import on_intent

    w = world()
    other = w.new_system()

    def again() -> None:
        stored = [i for i in other.store.query("intents") if i.data.get("decision") == "open"]
        if not stored:
            return
        with contextlib.suppress(TwinlegError):
            on_intent(other.engine(SignerRole.EXECUTE), HedgedIntent.model_validate_json(stored[0].data["z_message"]))

    w.restart(Steps(Interrupter(at, "store.batch", again)))
    other.clock = w.system.clock
    w.alert("buy", "a1")
    w.minutes()
    assert entries_by_leg(w) == {"main": 1, "hedge": 1}
    assert w.trade().state is TradeState.OPEN


@pytest.mark.parametrize("at", range(5, 10))
def test_a_second_delivery_in_the_middle_of_a_limit_entry_forgets_no_fill(world, at):
    """Both wait for it, both cancel what is left of it; the one that comes second writes nothing over the other."""
    from twinleg.domain.messages import HedgedIntent
    from twinleg.engine.execution import on_intent

    w = world(entry_order="limit", limit_order_seconds_max="5")
    w.control.switches(mark_gap="0.0005")  # at the mark there is somebody to trade with
    w.fault(kind="partial_fill", address=w.address("main"), action="order", fraction="0.4", count=1)
    other = w.new_system()

    def again() -> None:
        stored = [i for i in other.store.query("intents") if i.data.get("decision") == "open"]
        with contextlib.suppress(TwinlegError):
            on_intent(other.engine(SignerRole.EXECUTE), HedgedIntent.model_validate_json(stored[0].data["z_message"]))

    w.restart(Steps(Interrupter(at, "exchange", again)))
    other.clock = w.system.clock
    w.alert("buy", "a1")
    trade = w.trade()
    assert trade.main.size_filled == sum(Decimal(f["sz"]) for f in w.fills("main") if f["dir"].startswith("Open"))
    w.minutes()
    assert w.trade().state is TradeState.OPEN
    assert w.position("main") == w.trade().main.size_open
