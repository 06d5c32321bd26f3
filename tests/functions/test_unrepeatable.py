"""Actions that are not the same twice, and settings that may not have been taken: margin and leverage."""

from typing import Any

import pytest

from twinleg.domain.trades import TradeState
from twinleg.engine.ports import Steps

KINDS = {
    "lost_before": {"kind": "lose_request"},
    "lost_after": {"kind": "lose_answer"},
    "arrives_late": {"kind": "arrive_late", "ms": 3000},
    "arrives_very_late": {"kind": "arrive_late", "ms": 14000},
    "502_carried_out": {"kind": "502html", "execute": True},
    "429": {"kind": "429"},
}
FALL = ["100000"] * 2 + [str(100_000 - 1_600 * n) for n in range(1, 16)] + ["76000"] * 20
WIDE = {"net_stop_percent": "50", "day_loss_reducing_percent": "80", "day_loss_flatten_percent": "90"}


class Death(BaseException):
    """The process is gone."""


def falling(world: Any) -> Any:
    """A trade whose main leg falls towards its liquidation, stops switched off: the ladder comes to add margin."""
    w = world(FALL, **WIDE)
    w.alert("buy", "a1")
    w.control.switches(triggers_enabled=False)
    return w


def added(w: Any) -> int:
    """How often margin was moved, by the venue's own count."""
    return int(w.control.ledger()["actions"].get("updateIsolatedMargin", 0))


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_margin_is_moved_once_at_most_whatever_is_lost(world, kind, count):
    w = falling(world)
    w.fault(action="updateIsolatedMargin", count=count, **KINDS[kind])
    while not w.trade().margin_added and w.trade().state is TradeState.OPEN:
        w.minutes()
    assert w.trade().margin_added
    w.minutes(3)
    w.control.clear_faults()
    w.minutes(2)
    moved, [record] = added(w), w.system.store.query("actions", {"kind": "AddMargin"})
    assert moved <= 1
    if record.data["state"] == "accepted":
        assert moved == 1
    if record.data["state"] in ("never_ran", "rejected"):
        assert moved == 0


@pytest.mark.parametrize("after", [False, True])
def test_margin_is_not_moved_again_by_a_sweep_after_the_one_that_died_moving_it(world, after):
    w = falling(world)
    died: list[str] = []

    def die(_: int, name: str) -> None:
        if not died and name == "hyperliquid.exchange" and w.system.store.query("actions", {"kind": "AddMargin"}):
            if after and not added(w):
                return
            died.append(name)
            raise Death

    w.restart(Steps(die))
    with pytest.raises(Death):
        for _ in range(40):
            w.minutes()
    w.restart()
    w.minutes(4)
    assert len(w.system.store.query("actions", {"kind": "AddMargin"})) == 1
    assert added(w) == (1 if after else 0)


# -- leverage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["main", "hedge"])
@pytest.mark.parametrize("kind", ["lost_before", "lost_after", "arrives_late", "429"])
def test_no_trade_rests_on_a_leverage_that_was_not_read_back(world, account, kind):
    """Whatever became of the request: what the venue says is set is what the legs trade at."""
    w = world()
    w.fault(action="updateLeverage", address=w.address(account), count=5, **KINDS[kind])
    w.alert("buy", "a1")
    w.minutes(2)
    trade, venue = w.trade(), w.system.venues.of(account)
    if trade.state is TradeState.OPEN:
        assert all(venue.leverage(leg.account, leg.market) == (leg.leverage, True) for leg in trade.legs)
    else:
        assert trade.state is TradeState.REFUSED
        assert w.position("main") == w.position("hedge") == 0 == len(w.fills("main"))


def test_a_venue_that_says_another_leverage_than_was_asked_for_gets_no_order(world):
    """An answer from before the change is as good as a change that was never made: nothing is entered."""
    w = world()
    asked = {"user": w.address("main"), "coin": w.coin}
    before = w.system.venues.of("main").leverage("main", w.market)
    assert before == (20, False), asked
    w.fault(kind="stale_read", action="activeAssetData", address=w.address("main"), count=9)
    w.alert("buy", "a1")
    trade = w.trade()
    assert trade.state is TradeState.REFUSED
    assert trade.why_closed.startswith("leverage: main leg: asked for ") and "read back 20x cross" in trade.why_closed
    assert not w.control.ledger()["orders"]
