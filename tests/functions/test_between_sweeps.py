"""Faster than a minute: between two sweeps open trades are judged by account states alone."""

from datetime import timedelta
from typing import Any

import pytest

from twinleg.domain.errors import Unavailable
from twinleg.domain.orders import OrderKind
from twinleg.domain.trades import TradeState
from twinleg.engine.between import LAST_TURN_SECONDS
from twinleg.engine.ports import Steps

WIDE = {
    "net_stop_percent": "80", "net_target_percent": "80", "day_loss_reducing_percent": "80",
    "day_loss_flatten_percent": "90", "hedge_drift_percent_max": "90",
}  # fmt: skip


def opened(world: Any, closes: list[str], **limits: str) -> Any:
    w = world(["100000"] * 3 + closes, **limits)
    w.alert("buy", "a1")
    w.minutes()
    assert w.trade().state is TradeState.OPEN
    return w


def crash(world: Any, every: str) -> Any:
    """A fall by half within two minutes, beyond liquidation, with the stops at the venue asleep."""
    w = opened(world, ["75000", "50000"] + ["50000"] * 10, sweep_every_seconds=every, **WIDE)
    w.control.switches(triggers_enabled=False)
    w.minutes(4)
    return w


def test_a_fall_within_a_minute_is_met_before_liquidation(world):
    slow, fast = crash(world, "0"), crash(world, "5")
    assert slow.trade().main.liquidated
    trade = fast.trade()
    assert trade.state is TradeState.CLOSED and not trade.main.liquidated
    assert trade.why_closed.startswith("ladder")
    assert trade.pnl_usd > slow.trade().pnl_usd
    assert fast.position("main") == fast.position("hedge") == 0


def test_it_is_the_same_each_time(world):
    one, other = crash(world, "7"), crash(world, "7")
    told = [[(f["time"], f["px"], f["sz"]) for f in w.control.ledger()["fills"]] for w in (one, other)]
    assert told[0] == told[1]


@pytest.mark.parametrize(("every", "turns"), [("0", 0), ("5", 9), ("20", 2), ("40", 1)])
def test_a_quiet_turn_reads_two_account_states_and_no_record(world, every, turns):
    w = opened(world, ["100000"] * 20, sweep_every_seconds=every)
    steps: list[str] = []
    w.restart(Steps(lambda _, name: steps.append(name)))
    w.minutes(2)
    steps.clear()
    began = w.system.clock.now()
    assert w.sweep() == 200
    assert timedelta(0) <= w.system.clock.now() - began <= timedelta(seconds=LAST_TURN_SECONDS)
    last_write = max(n for n, name in enumerate(steps) if name.startswith("store."))
    after = [name for name in steps[last_write + 1 :] if not name.endswith("done")]
    assert after == ["hyperliquid clearinghouseState"] * 2 * 2 * turns  # two accounts, before and after each call


def test_a_stop_that_vanished_waits_for_the_sweep_and_a_closed_leg_does_not(world):
    w = opened(world, ["100000"] * 20, sweep_every_seconds="5")
    acted: list[str] = []

    def hand(_: int, name: str) -> None:
        if name == "hyperliquid clearinghouseState" and w.system.clock.now().second == 16 and not acted:
            acted.append(name)
            buy_back(w)

    w.restart(Steps(hand))
    w.minutes()
    assert acted
    closed_at = w.trade().closed_at
    assert w.trade().state is TradeState.CLOSED and closed_at and closed_at.second < 40
    assert w.position("main") == 0


def buy_back(w: Any) -> None:
    """The whole hedge is bought back by a stranger's order under the emergency key."""
    from twinleg.domain.candles import ms_from_utc
    from twinleg.domain.orders import OrderRequest, Side
    from twinleg.engine.ports import PlaceReduction, SignerRole

    venue = w.system.venues.of("hedge")
    order = OrderRequest(
        client_order_id="0x" + "cd" * 16, market=w.market, side=Side.BUY, size=abs(w.position("hedge")),
        limit_price=110_000, kind=OrderKind.MARKET, reduce_only=True,
    )  # fmt: skip
    nonce = ms_from_utc(w.system.clock.now()) + 500
    assert venue.send(venue.sign(PlaceReduction("hedge", (order,)), SignerRole.EMERGENCY, nonce, None)).outcome


@pytest.mark.parametrize("question", ["clearinghouseState"])
@pytest.mark.parametrize("kind", ["empty_read", "500", "429"])
def test_answers_that_fail_or_are_empty_between_sweeps_close_nothing(world, question, kind):
    w = opened(world, ["100000"] * 20, sweep_every_seconds="5")
    failed: list[str] = []

    def blind(_: int, name: str) -> None:
        if name == f"hyperliquid {question}" and w.system.clock.now().second in (11, 26) and len(failed) < 2:
            failed.append(name)
            w.fault(kind=kind, address=w.address("main"), action=question, count=1)

    w.restart(Steps(blind))
    w.minutes(2)
    assert failed
    assert w.trade().state is TradeState.OPEN and not w.events("corrected")


def test_records_that_fail_between_sweeps_leave_it_to_the_next(world):
    w = opened(world, ["100000"] * 20, sweep_every_seconds="10")
    acted: list[str] = []

    def down(_: int, name: str) -> None:
        if name.startswith("store.") and 12 <= w.system.clock.now().second < 55:
            raise Unavailable("down")
        if name == "hyperliquid clearinghouseState" and w.system.clock.now().second == 21 and not acted:
            acted.append(name)
            buy_back(w)

    w.restart(Steps(down))
    now = w.system.clock.now().replace(second=0, microsecond=0)
    w.system.clock.advance_to(now + timedelta(minutes=1, seconds=1))
    assert w.runtime.call("risk") == 503
    assert w.position("main") > 0
    w.minutes()
    assert w.trade().state is TradeState.CLOSED and w.position("main") == 0
