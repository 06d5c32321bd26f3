"""The decision table of the order path: what each answer proves, to the first copy, to a later one, and to noop."""

from datetime import UTC, datetime

import pytest

from twinleg.domain.orders import AckState, OrderAck
from twinleg.engine.orderpath import FINAL, ActionRecord, ActionState, Sent, judged
from twinleg.engine.ports import Outcome, SignerRole, Verdict

S, O = ActionState, Outcome  # noqa: E741
EXPIRED, REFUSED, FENCING = "expired_copy_sent", "refused_copy_sent", "noop_unanswered"


def record(*flags: str, **changes: object) -> ActionRecord:
    base = ActionRecord(
        id="0xa:1", state=S.WRITTEN, kind="PlaceEntry", account="main", market="hyperliquid:BTC", trade_id="t",
        adds_exposure=True, client_order_ids=("0x1",), signer="0xa", role=SignerRole.EXECUTE, nonce=1,
        expires_at=datetime(2025, 1, 1, tzinfo=UTC), body="{}", created_at=datetime(2025, 1, 1, tzinfo=UTC),
        reason="before",
    )  # fmt: skip
    return base.model_copy(update=dict.fromkeys(flags, True) | changes)


def answer(outcome: Outcome) -> Verdict:
    acks = (OrderAck(state=AckState.FILLED),) if outcome is O.ACCEPTED else ()
    return Verdict(outcome=outcome, acks=acks, reason="said so")


ACCEPTED = {"state": S.ACCEPTED, "acks": (OrderAck(state=AckState.FILLED),)}
REJECTED = {"state": S.REJECTED, "reason": "said so"}
NEVER_RAN = {"state": S.NEVER_RAN, "reason": "said so"}
ARRIVED = {"state": S.ARRIVED, "duplicate_seen": True}
NOTHING: dict[str, object] = {}

TABLE = [
    # The only copy ever sent.
    ("accepted", Sent.FIRST, (), O.ACCEPTED, ACCEPTED),
    ("refused as an action", Sent.FIRST, (), O.REJECTED, REJECTED),
    ("malformed", Sent.FIRST, (), O.MALFORMED, REJECTED),
    ("unknown signer", Sent.FIRST, (), O.UNKNOWN_SIGNER, REJECTED),
    ("nonce too low", Sent.FIRST, (), O.NONCE_TOO_LOW, REJECTED),
    ("429", Sent.FIRST, (), O.THROTTLED, NEVER_RAN),
    ("too late", Sent.FIRST, (), O.EXPIRED, NEVER_RAN),
    ("duplicate", Sent.FIRST, (), O.DUPLICATE, ARRIVED),
    ("5xx or silence", Sent.FIRST, (), O.UNKNOWN, {"reason": "said so"}),
    # A copy when another may have arrived, or may still.
    ("accepted", Sent.AGAIN, (), O.ACCEPTED, ACCEPTED),
    ("accepted after a refused copy", Sent.AGAIN, (REFUSED,), O.ACCEPTED, ACCEPTED),
    ("accepted after an expired copy", Sent.AGAIN, (EXPIRED,), O.ACCEPTED, ACCEPTED),
    ("accepted after an unanswered noop", Sent.AGAIN, (FENCING,), O.ACCEPTED, ACCEPTED),
    ("refused as an action: the other may run yet", Sent.AGAIN, (), O.REJECTED, {REFUSED: True, "reason": "said so"}),
    ("too late", Sent.AGAIN, (), O.EXPIRED, {EXPIRED: True}),
    ("duplicate: the other ran", Sent.AGAIN, (), O.DUPLICATE, ARRIVED),
    ("duplicate after our own expired copy", Sent.AGAIN, (EXPIRED,), O.DUPLICATE, {"duplicate_seen": True}),
    ("duplicate after our own refused copy", Sent.AGAIN, (REFUSED,), O.DUPLICATE, {"duplicate_seen": True}),
    ("duplicate after an unanswered noop", Sent.AGAIN, (FENCING,), O.DUPLICATE, {"duplicate_seen": True}),
    ("unknown signer", Sent.AGAIN, (), O.UNKNOWN_SIGNER, NOTHING),
    ("nonce too low", Sent.AGAIN, (), O.NONCE_TOO_LOW, NOTHING),
    ("429", Sent.AGAIN, (), O.THROTTLED, NOTHING),
    ("malformed", Sent.AGAIN, (), O.MALFORMED, NOTHING),
    ("5xx or silence", Sent.AGAIN, (), O.UNKNOWN, NOTHING),
    # A noop with the action's nonce. It was written down as unanswered before it was sent.
    ("accepted", Sent.NOOP, (FENCING,), O.ACCEPTED, {"state": S.NEVER_RAN, FENCING: False, "reason": "fenced by noop"}),
    (
        "accepted after an expired copy", Sent.NOOP, (FENCING, EXPIRED), O.ACCEPTED,
        {"state": S.NEVER_RAN, FENCING: False, "reason": "fenced by noop"},
    ),
    (
        "accepted after a refused copy", Sent.NOOP, (FENCING, REFUSED), O.ACCEPTED,
        {"state": S.NEVER_RAN, FENCING: False, "reason": "fenced by noop; before"},
    ),
    ("duplicate: it arrived", Sent.NOOP, (FENCING,), O.DUPLICATE, {**ARRIVED, FENCING: False}),
    ("duplicate after our own expired copy", Sent.NOOP, (FENCING, EXPIRED), O.DUPLICATE, NOTHING),
    ("duplicate after our own refused copy", Sent.NOOP, (FENCING, REFUSED), O.DUPLICATE, NOTHING),
    ("429: may be asked again", Sent.NOOP, (FENCING,), O.THROTTLED, {FENCING: False}),
    ("malformed", Sent.NOOP, (FENCING,), O.MALFORMED, {FENCING: False}),
    ("too late, which it cannot be", Sent.NOOP, (FENCING,), O.EXPIRED, NOTHING),
    ("refused", Sent.NOOP, (FENCING,), O.REJECTED, NOTHING),
    ("unknown signer", Sent.NOOP, (FENCING,), O.UNKNOWN_SIGNER, NOTHING),
    ("nonce too low", Sent.NOOP, (FENCING,), O.NONCE_TOO_LOW, NOTHING),
    ("5xx or silence", Sent.NOOP, (FENCING,), O.UNKNOWN, NOTHING),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[1]}: {row[0]}")
def test_what_an_answer_proves(row):
    _, sent, flags, outcome, changed = row
    before = record(*flags)
    assert judged(before, sent, answer(outcome)) == before.model_copy(update=changed)


def test_every_answer_to_every_sending_has_its_row():
    assert {(sent, outcome) for _, sent, _, outcome, _ in TABLE} == {(s, o) for s in Sent for o in Outcome}


@pytest.mark.parametrize("flags", [(), (EXPIRED,), (REFUSED,), (FENCING,), (EXPIRED, REFUSED, FENCING)])
@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not O.ACCEPTED])
def test_while_another_copy_may_run_nothing_but_an_acceptance_is_the_last_word(flags, outcome):
    assert judged(record(*flags), Sent.AGAIN, answer(outcome)).state not in FINAL


def test_an_order_of_an_action_that_never_ran_counts_as_rejected():
    never = record(state=S.NEVER_RAN, reason="fenced by noop")
    assert never.ack("0x1") == OrderAck(state=AckState.REJECTED, reason="fenced by noop")
