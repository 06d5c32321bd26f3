"""The decision table of the order path: what each answer proves, to the first copy, to a later one, and to noop."""

from datetime import UTC, datetime

import pytest

from twinleg.domain.orders import AckState, OrderAck
from twinleg.engine.orderpath import (
    ActionRecord,
    ActionState,
    fence_verdict,
    first_verdict,
    later_verdict,
)
from twinleg.engine.ports import Outcome, SignerRole, Verdict

S, O = ActionState, Outcome  # noqa: E741


def record(**changes: object) -> ActionRecord:
    base = ActionRecord(
        id="0xa:1", state=S.WRITTEN, kind="PlaceEntry", account="main", market="hyperliquid:BTC", trade_id="t",
        adds_exposure=True, client_order_ids=("0x1",), signer="0xa", role=SignerRole.EXECUTE, nonce=1,
        expires_at=datetime(2025, 1, 1, tzinfo=UTC), body="{}", created_at=datetime(2025, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    return base.model_copy(update=changes)


def answer(outcome: Outcome) -> Verdict:
    acks = (OrderAck(state=AckState.FILLED),) if outcome is O.ACCEPTED else ()
    return Verdict(outcome=outcome, acks=acks, reason="said so")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (O.ACCEPTED, S.ACCEPTED),
        (O.REJECTED, S.REJECTED),
        (O.MALFORMED, S.REJECTED),
        (O.UNKNOWN_SIGNER, S.REJECTED),
        (O.NONCE_TOO_LOW, S.REJECTED),
        (O.THROTTLED, S.NEVER_RAN),
        (O.EXPIRED, S.NEVER_RAN),
        (O.DUPLICATE, S.ARRIVED),
        (O.UNKNOWN, S.WRITTEN),
    ],
)
def test_the_answer_to_the_only_copy(outcome, state):
    assert first_verdict(record(), answer(outcome)).state is state


@pytest.mark.parametrize(
    ("outcome", "before", "state"),
    [
        (O.ACCEPTED, {}, S.ACCEPTED),
        (O.REJECTED, {}, S.REJECTED),
        (O.DUPLICATE, {}, S.ARRIVED),
        (O.DUPLICATE, {"expired_copy_sent": True}, S.WRITTEN),
        (O.DUPLICATE, {"noop_unanswered": True}, S.WRITTEN),
        (O.EXPIRED, {}, S.WRITTEN),
        (O.UNKNOWN_SIGNER, {}, S.WRITTEN),
        (O.NONCE_TOO_LOW, {}, S.WRITTEN),
        (O.THROTTLED, {}, S.WRITTEN),
        (O.MALFORMED, {}, S.WRITTEN),
        (O.UNKNOWN, {}, S.WRITTEN),
    ],
)
def test_the_answer_to_a_copy_when_an_earlier_one_may_have_arrived(outcome, before, state):
    after = later_verdict(record(**before), answer(outcome))
    assert after.state is state
    assert after.expired_copy_sent == (before.get("expired_copy_sent", False) or outcome is O.EXPIRED)
    assert after.duplicate_seen == (outcome is O.DUPLICATE)


@pytest.mark.parametrize(
    ("outcome", "before", "state", "unanswered"),
    [
        (O.ACCEPTED, {}, S.NEVER_RAN, False),
        (O.ACCEPTED, {"expired_copy_sent": True}, S.NEVER_RAN, False),
        (O.DUPLICATE, {}, S.ARRIVED, False),
        (O.DUPLICATE, {"expired_copy_sent": True}, S.WRITTEN, True),
        (O.THROTTLED, {}, S.WRITTEN, False),
        (O.MALFORMED, {}, S.WRITTEN, False),
        (O.UNKNOWN, {}, S.WRITTEN, True),
        (O.UNKNOWN_SIGNER, {}, S.WRITTEN, True),
        (O.NONCE_TOO_LOW, {}, S.WRITTEN, True),
    ],
)
def test_the_answer_to_noop_with_the_actions_nonce(outcome, before, state, unanswered):
    after = fence_verdict(record(noop_unanswered=True, **before), answer(outcome))
    assert (after.state, after.noop_unanswered) == (state, unanswered)


def test_an_order_of_an_action_that_never_ran_counts_as_rejected():
    never = record(state=S.NEVER_RAN, reason="fenced by noop")
    assert never.ack("0x1") == OrderAck(state=AckState.REJECTED, reason="fenced by noop")
