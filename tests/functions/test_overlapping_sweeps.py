"""Two sweeps at once, the second in the middle of the first: each rung of the ladder is taken once, in its turn."""

import contextlib
from decimal import Decimal
from typing import Any

import pytest

from twinleg.domain.errors import TwinlegError
from twinleg.domain.trades import ENDED, TradeState
from twinleg.engine.ports import SignerRole, Steps
from twinleg.engine.sweep import on_sweep

FALL = ["100000"] * 2 + [str(100_000 - 1_600 * n) for n in range(1, 14)] + ["79400"] * 3 + [
    str(79_400 - 500 * n) for n in range(1, 40)
]  # fmt: skip
WIDE = {"net_stop_percent": "50", "day_loss_reducing_percent": "80", "day_loss_flatten_percent": "90"}


def overlapping(world: Any, kind: str, wanted: str) -> Any:
    """Falls until an action of this kind is written; then another sweep runs at that step of the first."""
    w = world(FALL, **WIDE)
    w.alert("buy", "a1")
    w.control.switches(triggers_enabled=False)
    done: list[str] = []

    def sweep(_: int, name: str) -> None:
        if done or wanted not in name or not any(a.data["kind"] == kind for a in actions(w)):
            return
        done.append(name)
        other = w.new_system()
        other.clock = w.system.clock
        with contextlib.suppress(TwinlegError):
            on_sweep(other.engine(SignerRole.RISK))

    w.restart(Steps(sweep))
    while not done and w.trade().state not in ENDED:
        w.minutes()
    assert done
    return w


def actions(w: Any) -> list[Any]:
    return [a for a in w.system.store.query("actions") if a.data["role"] == "risk"]


def count(w: Any, kind: str) -> int:
    return sum(a.data["kind"] == kind for a in actions(w))


@pytest.mark.parametrize("wanted", ["exchange", "store.batch actions", "store.create audit"])
def test_margin_that_is_being_added_is_not_followed_by_a_cut_at_once(world, wanted):
    w = overlapping(world, "AddMargin", wanted)
    assert count(w, "AddMargin") == 1
    assert not w.trade().cut and w.trade().state is TradeState.OPEN, w.trade().summary


@pytest.mark.parametrize("every", [1, 3])
def test_sweeps_that_overlap_all_the_way_down_take_each_rung_once(world, every):
    w = world(FALL, **WIDE)
    w.alert("buy", "a1")
    size = {leg.account: leg.size_filled for leg in w.trade().legs}
    w.control.switches(triggers_enabled=False)
    seen = [0]
    busy: list[bool] = []

    def sweep(_: int, name: str) -> None:
        seen[0] += "exchange" in name
        if busy or "exchange" not in name or seen[0] % every:
            return
        busy.append(True)
        other = w.new_system()
        other.clock = w.system.clock
        with contextlib.suppress(TwinlegError):
            on_sweep(other.engine(SignerRole.RISK))
        busy.clear()

    w.restart(Steps(sweep))
    for _ in range(45):
        if w.trade().state in ENDED:
            break
        w.minutes()
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and w.position("main") == w.position("hedge") == 0
    assert count(w, "AddMargin") == 1
    for leg in trade.legs:
        cut = sum(o.filled_size for o in leg.orders if o.purpose == "cut")
        assert abs(cut / size[leg.account] - Decimal("0.5")) < Decimal("0.01"), "cut by half, once"
        assert leg.size_closed == leg.size_filled == size[leg.account]
