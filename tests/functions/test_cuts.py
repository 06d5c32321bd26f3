"""A cut takes off what was decided, however its orders fill, and one empty answer in the middle closes nothing."""

import pytest

from twinleg.domain.trades import TradeState

HALF = {"prev_position": "long", "position": "long", "prev_position_size": "2", "position_size": "1"}


def halved(w, before) -> None:
    w.alert("sell", "a2", **HALF)
    w.minutes(2)
    assert w.trade().state is TradeState.OPEN
    for account, size in before.items():
        assert w.position(account) / size == pytest.approx(0.5, abs=0.02)


def opened(w) -> dict:
    w.alert("buy", "a1")
    return {account: w.position(account) for account in ("main", "hedge")}


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_cut_that_fills_in_part_is_finished(world, account):
    w = world()
    before = opened(w)
    w.fault(kind="partial_fill", address=w.address(account), action="order", fraction="0.3", count=1)
    halved(w, before)


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_cut_that_fills_in_part_and_is_never_answered_is_finished_and_not_doubled(world, account):
    w = world()
    before = opened(w)
    w.fault(kind="partial_fill", address=w.address(account), action="order", fraction="0.3", count=1)
    w.fault(kind="lose_answer", address=w.address(account), action="order", count=1)
    halved(w, before)


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_one_empty_answer_during_a_cut_closes_nothing(world, account):
    w = world()
    before = opened(w)
    w.fault(kind="empty_read", address=w.address(account), action="clearinghouseState", count=1)
    halved(w, before)


def test_fills_that_are_seen_late_do_not_cut_twice(world):
    w = world()
    before = opened(w)
    w.fault(kind="lose_answer", address=w.address("main"), action="order", count=1)
    w.fault(kind="stale_read", address=w.address("main"), action="userFillsByTime", count=3)
    w.fault(kind="stale_read", address=w.address("main"), action="clearinghouseState", count=3)
    halved(w, before)
