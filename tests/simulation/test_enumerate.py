"""A bounded part of the enumeration: every scene unharmed, every death in an execution, and that it has teeth."""

import os
from dataclasses import replace

import pytest

from twinleg.domain.errors import BadInput
from twinleg.engine import orderpath
from twinleg.engine.ports import Outcome, Verdict
from twinleg.simulate import enumerate_all, enumerate_forks
from twinleg.simulate.enumerate_all import Choice, enumerated
from twinleg.simulate.enumerate_faults import CRASH, KINDS, Fault, kinds_at
from twinleg.simulate.enumerate_run import Case, outcome_of, probed, staged, switched, watched_steps
from twinleg.simulate.enumerate_scenes import GROUPS, scenes

SCENES = [Case(group, scene.name, "once") for group in GROUPS for scene in scenes(group)]


@pytest.mark.parametrize("case", SCENES, ids=lambda case: f"{case.group}-{case.scene}")
def test_a_scene_in_which_nothing_goes_wrong_ends_as_it_says(case: Case) -> None:
    stage = staged(case)
    assert outcome_of(case, stage).failures == []
    assert stage.counted == len(stage.steps) > 0


@pytest.mark.parametrize(("scene", "delivery"), [("market", "once"), ("close", "twice")])
def test_a_death_at_any_step_breaks_nothing(scene: str, delivery: str) -> None:
    total = enumerated(Choice("execute", (scene,), (delivery,), (CRASH,), pairs=False, hidden=False), jobs=1)
    assert total.failed == {}
    steps = watched_steps(probed(Case("execute", scene, delivery)))
    if delivery != "once":  # to die after a step is to die before the next, and the same if nothing was done since
        steps = [step for step in steps if not (step.after or step.idle)]
    assert total.part.cases[CRASH] == len(steps) >= 100 and total.part.steps.total() >= 200


@pytest.mark.parametrize("scene", ["market", "close"])
def test_a_lost_answer_to_any_signed_action_breaks_nothing(scene: str) -> None:
    total = enumerated(Choice("execute", (scene,), ("once",), ("answer_lost",), pairs=False, hidden=False), jobs=1)
    assert total.failed == {} and total.part.cases["answer_lost"] >= 2


def test_the_answer_to_one_of_two_copies_is_not_the_last_word() -> None:
    """While one delivery sends an action for the first time, another may send its bytes again, and they may run."""
    choice = Choice("execute", ("market",), ("twice",), ("throttled", "unknown_signer"), pairs=False, hidden=False)
    total = enumerated(choice, jobs=1)
    assert total.failed == {} and total.part.cases["throttled"] > 4


def test_steps_that_only_faults_show_are_enumerated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice("execute", ("reduce",), ("once",), ("throttled",), pairs=False)
    monkeypatch.setattr(enumerate_all, "ROUNDS_MAX", 0)
    total = enumerated(choice, jobs=1)
    assert total.missed and not total.ok and total.part.failures == []
    assert set(total.missed) == set(total.part.seen) - total.part.enumerated


def test_a_step_shown_by_a_run_with_a_halt_at_it_is_enumerated_without_the_halt() -> None:
    """One fault a step: what strikes at the step itself, or later, did not lead there."""
    halted = Case("halt", "any_step", "once", (Fault(8, "throttled"), Fault(9, "set_reducing")))
    (work,) = enumerate_all._after((Choice("halt"), halted, probed(halted).steps[9]))
    assert work.base.faults == halted.faults[:1]
    assert {branch.fault.step for branch in work.branches} == {9}


def test_a_wrong_proof_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were an action without a verdict taken for one that never ran, its order would be placed again."""
    honest = orderpath.judged

    def credulous(record: orderpath.ActionRecord, sent: orderpath.Sent, verdict: Verdict) -> orderpath.ActionRecord:
        if verdict.outcome is Outcome.UNKNOWN:
            return record.model_copy(update={"state": orderpath.ActionState.NEVER_RAN})
        return honest(record, sent, verdict)

    monkeypatch.setattr(orderpath, "judged", credulous)
    total = enumerated(Choice("execute", ("market",), ("once",), ("answer_lost",), pairs=False, hidden=False), jobs=1)
    assert any(text.startswith("ONCE") for texts in total.failed.values() for text in texts)


def test_every_kind_of_fault_has_a_step_where_it_is_tried() -> None:
    tried: set[str] = set()
    for case in (Case("execute", "market", "once"), Case("execute", "limit", "once")):
        tried |= {kind for step in watched_steps(probed(case)) for kind in kinds_at(step)}
    tried |= {kind for scene in scenes("halt") for kind in scene.extra_kinds}
    assert tried == set(KINDS)


def test_cases_split_off_a_common_run_are_judged_as_when_each_is_run_by_itself() -> None:
    """Twice at once: from where two invocations overlap a run cannot be split, and is split off before."""
    for scene, delivery, kinds in (("market", "once", ("answer_late", "read_stale")), ("close", "twice", ("slow",))):
        split, afresh = (
            enumerated(Choice("execute", (scene,), (delivery,), kinds, pairs=False, hidden=False, afresh=each), jobs=1)
            for each in (False, True)
        )
        assert split.part == afresh.part and split.part.cases.total() > 2


def test_a_case_whose_process_ends_without_a_word_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enumerate_forks.Split, "_tell", lambda self: os._exit(1))
    choice = Choice("execute", ("reduce",), ("once",), ("answer_lost",), pairs=False, hidden=False)
    total = enumerated(choice, jobs=1)
    assert not total.ok and len(total.failed) == 2
    assert all("ended without a word" in text for texts in total.failed.values() for text in texts)


@pytest.mark.parametrize("same", [("any_step", "market"), ("any_step_limit", "limit_unfilled")], ids="-".join)
def test_where_people_halt_at_any_step_the_run_is_else_one_of_an_execution(same: tuple[str, str]) -> None:
    halt, execute = (staged(Case(group, name, "once")) for group, name in zip(("halt", "execute"), same, strict=True))
    assert halt.lines == execute.lines
    assert [step.sort for step in halt.steps] == [step.sort for step in execute.steps]


def test_the_parts_of_an_enumeration_are_together_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enumerate_all, "SHARE", 2)
    whole = Choice("execute", ("reduce",), ("once",), ("request_lost", "throttled"), pairs=False, hidden=False)
    parts = [enumerated(replace(whole, part=(number, 3)), jobs=1).part for number in (1, 2, 3)]
    together = parts[0]
    for part in parts[1:]:
        together.merge(part)
    assert together.cases == enumerated(whole, jobs=1).part.cases


def test_what_the_documents_leave_open_can_be_turned() -> None:
    turned = switched(["opposite", "order_status_size=fresh"])
    assert dict(turned)["rejected_action_spends_nonce"] is False and dict(turned)["order_status_size"] == "fresh"
    case = Case.of("execute", "market/once/115:refused", turned)
    stage = staged(case)
    assert outcome_of(case, stage).failures == [] and stage.venue.engine.state.switches == stage.switches
    assert "--switch rejected_action_spends_nonce=false" in case.command


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no_such=1", "'no_such' is not a switch"),
        ("order_status_size", "must be NAME=VALUE"),
        ("order_status_size=x", "must be one of"),
    ],
)
def test_a_switch_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        switched([text])


def test_a_case_is_the_same_run_every_time() -> None:
    case = Case.of("execute", "market/twice/150:answer_late")
    one, other = staged(case), staged(case)
    assert one.lines == other.lines and one.venue.ledger() == other.venue.ledger()
    assert Case.of("execute", str(case)) == case and case.faults == (Fault(150, "answer_late"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere/once/1:crash", "'nowhere' is no scene of execute"),
        ("market/thrice/1:crash", "'thrice' is no delivery"),
        ("market/once/1:typo", "must be STEP:KIND, was '1:typo'"),
    ],
)
def test_a_case_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Case.of("execute", text)
