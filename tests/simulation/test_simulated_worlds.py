"""Whole worlds under one seed each: functions, queue, records, venue and clock, and everything that goes wrong."""

import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from twinleg.domain.errors import BadInput
from twinleg.simulate.faults import KINDS, Chosen, Dice
from twinleg.simulate.kernel import Kernel
from twinleg.simulate.run import Asked, quieten
from twinleg.simulate.world import Plan, World

FAILED_ONCE = (27, 78, 155, 164, 172, 283, 298, 299, 332, 345, 352, 443, 1342, 1423, 1508)
"""Seeds of whole runs that broke an invariant at some time, for good."""
NOON = datetime(2025, 6, 2, 12, tzinfo=UTC)
BY_PEOPLE = (
    "agent_replaced,agent_expires,mode_changed,deposited,withdrawn,hand_trade,halted,account_unreadable,store_down"
)


def world(seed: int, faults: str = "all", minutes: int = 90, market: str = "draw", scale: float = 1.0) -> World:
    quieten()
    made = World(Plan(seed, minutes, Dice(seed, Chosen.of(faults), scale=scale), market))
    made.run()
    return made


@pytest.mark.parametrize("seed", range(6))
def test_no_invariant_is_broken(seed: int) -> None:
    made = world(seed)
    assert [str(v) for v in made.judged()] == []
    assert made.dice.struck.total() >= 10


def test_a_seed_is_the_same_run_every_time() -> None:
    one, other = world(11), world(11)
    assert one.lines == other.lines
    assert one.venue.ledger() == other.venue.ledger()


def test_what_a_world_leaves_unfinished_ends_with_it_and_not_within_another() -> None:
    said: list[str] = []
    kernel = Kernel(NOON, lambda _: None)

    def waits_too_long() -> None:
        try:
            kernel.sleep(60)
            said.append("slept")
        finally:
            said.append("let go of")
            kernel.sleep(1)
            said.append("slept again")

    kernel.at(NOON + timedelta(seconds=30), lambda: None)
    kernel.spawn("unfinished", waits_too_long)
    kernel.run_until(NOON + timedelta(seconds=40))
    assert said == [] and kernel.running == 1
    kernel.close()
    assert said == ["let go of"] and kernel.running == 0


def test_without_faults_nothing_goes_wrong_and_trades_happen() -> None:
    made = world(3, "none", minutes=120, market="calm")
    assert made.judged() == [] and made.crashes == 0
    assert len(made.venue.ledger()["fills"]) >= 4
    assert not [line for line in made.lines if "FAULT" in line[2]]


def test_faults_are_chosen_by_name() -> None:
    assert Chosen.of("crash, answer_lost").kinds == {"crash", "answer_lost"}
    assert Chosen.of("all").kinds == set(KINDS)
    with pytest.raises(BadInput, match="'typo' is no kind of fault"):
        Chosen.of("crash,typo")


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_no_seed_fails_that_did_once(seed: int) -> None:
    assert [str(v) for v in world(seed, minutes=240).judged()] == []


@pytest.mark.parametrize("seed", [int(n) for n in os.environ["TWINLEG_TEST_SEEDS"].split()])
def test_a_seed_that_nobody_chose(seed: int) -> None:
    """Its number is in the test's name and in the last lines of every run of the tests."""
    assert [str(v) for v in world(seed, minutes=240).judged()] == [], Asked().command(seed)


@pytest.mark.parametrize("seed", range(3))
def test_what_people_do_and_outages_break_nothing(seed: int) -> None:
    made = world(seed, BY_PEOPLE, minutes=120, market="calm", scale=8)
    assert [str(v) for v in made.judged()] == []
    assert len(made.dice.struck) >= 6 and made.dice.struck.total() >= 12


def test_a_flattened_desk_ends_flat_and_halted() -> None:
    made = world(2, "halted", minutes=120, market="calm", scale=30)
    states = [state for _, state, _ in made.control]
    assert "FLATTEN" in states and "HALTED" in states and made.judged() == []


def test_each_kind_strikes_often_enough() -> None:
    """What people do is seldom, yet in every third run at least, so that many runs have each of it often."""
    made = [world(seed, minutes=240) for seed in range(20, 26)]
    times = {kind: sum(m.dice.struck[kind] for m in made) / len(made) for kind in KINDS}
    assert {kind: mean for kind, mean in times.items() if mean == 0} == {}
    assert sum(times.values()) >= 10
    assert sum(len(m.evidence().trades) for m in made) / len(made) >= 3
    per_minute = {kind: KINDS[kind][0] * (240 - 15) for kind in BY_PEOPLE.split(",")}
    assert min(per_minute.values()) >= 0.3


def test_the_timeline_shows_every_signed_action_and_every_change_of_the_trading_state() -> None:
    made = world(2, "halted", minutes=90, market="calm", scale=20)
    assert any("order normalTpsl: " in text for _, who, text in made.lines if who == "venue")
    assert any(who == "control" for _, who, _ in made.lines)
    assert all(earlier <= later for (earlier, *_), (later, *_) in pairwise(made.lines))
