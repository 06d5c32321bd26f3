"""A refusal of one copy while another is under way: ONCE holds whichever of them spends the nonce."""

import itertools
from typing import Any

import pytest

from twinleg.engine import orderpath
from twinleg.engine.ports import Outcome
from twinleg.simulate.enumerate_faults import Fault
from twinleg.simulate.enumerate_run import Case, outcome_of
from twinleg.simulate.enumerate_scenes import scene_of
from twinleg.simulate.enumerate_stage import Stage

SWITCHES = [
    {"rejected_action_spends_nonce": refused, "expired_action_spends_nonce": expired}
    for refused, expired in itertools.product((True, False), repeat=2)
]
FIRST = ("arrives_after_3s", "arrives_after_13s", "answer_lost")
AGAIN = ("refused", "expired")


def staged(faults: tuple[Fault, ...], switches: dict[str, bool]) -> Stage:
    stage = Stage(scene_of("execute", "market"), "once", faults)
    stage.venue.engine.set_switches(switches)
    stage.run()
    return stage


def entries(stage: Stage) -> list[int]:
    """The steps at which an order that may add exposure is sent."""
    return [s.number for s in stage.steps if s.signed and not s.after and b'"r":false' in s.body.replace(b" ", b"")]


def failures(faults: tuple[Fault, ...], switches: dict[str, bool]) -> list[str]:
    return outcome_of(Case("execute", "market", "once", faults), staged(faults, switches)).failures


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "/".join(k for k, v in s.items() if v) or "neither")
@pytest.mark.parametrize("leg", [0, 1], ids=["main", "hedge"])
def test_a_second_copy_that_is_refused_is_not_the_last_word(leg: int, switches: dict[str, bool]) -> None:
    at = entries(staged((), switches))[leg]
    for first, again in itertools.product(FIRST, AGAIN):
        once = (Fault(at, first),)
        copies = [n for n in entries(staged(once, switches)) if n > at]
        if copies:  # the same bytes again
            faults = (*once, Fault(copies[0], again))
            assert failures(faults, switches) == [], (first, again)


def test_were_it_the_last_word_an_order_recorded_as_refused_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = orderpath.judged

    def credulous(record: Any, sent: orderpath.Sent, verdict: Any) -> Any:
        return honest(record, orderpath.Sent.FIRST if verdict.outcome is Outcome.REJECTED else sent, verdict)

    monkeypatch.setattr(orderpath, "judged", credulous)
    at = entries(staged((), SWITCHES[-1]))[0]
    copy = entries(staged((Fault(at, FIRST[0]),), SWITCHES[-1]))[1]
    found = failures((Fault(at, FIRST[0]), Fault(copy, "refused")), SWITCHES[-1])
    assert any(text.startswith("ONCE") for text in found), found
