"""Whole worlds under one seed each: functions, queue, records, venue and clock, and everything that goes wrong."""

import pytest

from twinleg.domain.errors import BadInput
from twinleg.simulate.faults import KINDS, Chosen, Dice
from twinleg.simulate.world import Plan, World


def world(seed: int, faults: str = "all", minutes: int = 90, market: str = "draw") -> World:
    made = World(Plan(seed, minutes, Dice(seed, Chosen.of(faults)), market))
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
