"""What each answer of Hyperliquid to a signed action proves."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinleg.adapters.venues.hyperliquid_answers import verdict
from twinleg.domain.orders import AckState
from twinleg.engine.ports import Outcome

D = Decimal

A, R = Outcome.ACCEPTED, Outcome.REJECTED
USER = "0x5e9ee1089755c3435139848e47e6635505d5a13a"


def orders(*statuses) -> str:
    return json.dumps({"status": "ok", "response": {"type": "order", "data": {"statuses": list(statuses)}}})


def cancels(*statuses) -> str:
    return json.dumps({"status": "ok", "response": {"type": "cancel", "data": {"statuses": list(statuses)}}})


def err(text: str) -> str:
    return json.dumps({"status": "err", "response": text})


RESTING = {"resting": {"oid": 77738308}}
FILLED = {"filled": {"totalSz": "93.4", "avgPx": "0.26786", "oid": 293001091352}}
NO_MATCH = {"error": "Order could not immediately match against any resting orders. asset=3"}
LATE_CANCEL = {"error": "Order was never placed, already canceled, or filled. asset=0"}
DEFAULT = '{"status":"ok","response":{"type":"default"}}'

TABLE = [
    # status, text, parts, outcome, states of the parts
    (200, orders(RESTING), 1, A, [AckState.RESTING]),
    (200, orders(FILLED), 1, A, [AckState.FILLED]),
    (200, orders({"resting": {"oid": 1, "cloid": "0x1"}}), 1, A, [AckState.RESTING]),
    (200, orders(NO_MATCH), 1, A, [AckState.REJECTED]),
    (200, orders(FILLED, "waitingForFill", "waitingForTrigger"), 3, A,
     [AckState.FILLED, AckState.WAITING, AckState.WAITING]),
    (200, orders(FILLED, NO_MATCH, RESTING), 3, A, [AckState.FILLED, AckState.REJECTED, AckState.RESTING]),
    # one error made before matching stands for the whole batch
    (200, orders({"error": "Order has invalid price."}), 3, A, [AckState.REJECTED] * 3),
    (200, orders({"error": "Order price cannot be more than 80% away from the reference price"}), 2, A,
     [AckState.REJECTED] * 2),
    # too few statuses otherwise prove nothing
    (200, orders(NO_MATCH), 3, Outcome.UNKNOWN, []),
    (200, orders(RESTING), 2, Outcome.UNKNOWN, []),
    (200, orders(RESTING, RESTING), 1, Outcome.UNKNOWN, []),
    (200, orders(), 1, Outcome.UNKNOWN, []),
    (200, orders(), 0, Outcome.UNKNOWN, []),
    (200, cancels("success"), 1, A, [AckState.DONE]),
    (200, cancels("success", LATE_CANCEL), 2, A, [AckState.DONE, AckState.REJECTED]),
    (200, DEFAULT, 1, A, [AckState.DONE]),
    (200, DEFAULT, 0, A, [AckState.DONE]),
    # the whole request refused
    (200, err("Invalid nonce: duplicate nonce 1700000000000"), 1, Outcome.DUPLICATE, []),
    (200, err("Invalid nonce: nonce too low 1 < 2"), 1, Outcome.NONCE_TOO_LOW, []),
    (200, err("Invalid nonce: nonce too high 3 > 2"), 1, Outcome.NONCE_TOO_LOW, []),
    (200, err("Invalid nonce: some new rule"), 1, Outcome.UNKNOWN, []),
    (200, err("Action already expired"), 1, Outcome.EXPIRED, []),
    (200, err(f"User or API Wallet {USER} does not exist."), 1, Outcome.UNKNOWN_SIGNER, []),
    (200, err(f"L1 error: User or API Wallet {USER} does not exist."), 1, Outcome.UNKNOWN_SIGNER, []),
    (200, err(f"Must deposit before performing actions. User: {USER}"), 1, Outcome.UNKNOWN_SIGNER, []),
    (200, err("Unable to recover signer."), 1, Outcome.UNKNOWN_SIGNER, []),
    (200, err("Mainnet and testnet require different signature."), 1, Outcome.UNKNOWN_SIGNER, []),
    (200, err("Too many cumulative requests sent (37986 > 10436) for cumulative volume traded $437.92."), 1,
     Outcome.THROTTLED, []),
    (200, err(f"Vault not registered: {USER}"), 1, Outcome.MALFORMED, []),
    (200, err("Nonce mismatch."), 1, Outcome.MALFORMED, []),
    (200, err("Invalid leverage value"), 1, R, []),
    (200, err("Cannot switch leverage type with open position."), 1, R, []),
    (200, err("Signed action over weight limit of 200."), 201, R, []),
    (200, err("Position does not use isolated margin."), 1, R, []),
    # refused before the venue looked at it
    (429, "null", 1, Outcome.THROTTLED, []),
    (429, "", 1, Outcome.THROTTLED, []),
    (400, "Failed to parse the request body as JSON", 1, Outcome.MALFORMED, []),
    (415, "Expected request with `Content-Type: application/json`", 1, Outcome.MALFORMED, []),
    (422, "Failed to deserialize the JSON body into the target type", 1, Outcome.MALFORMED, []),
    # doubt
    (400, "<html><head><title>400 Bad Request</title>", 1, Outcome.UNKNOWN, []),
    (403, "Forbidden", 1, Outcome.UNKNOWN, []),
    (404, "", 1, Outcome.UNKNOWN, []),
    (408, "", 1, Outcome.UNKNOWN, []),
    (302, "", 1, Outcome.UNKNOWN, []),
    (204, "", 1, Outcome.UNKNOWN, []),
    (500, "null", 1, Outcome.UNKNOWN, []),
    (502, "<html>bad gateway</html>", 1, Outcome.UNKNOWN, []),
    (503, "", 1, Outcome.UNKNOWN, []),
    (504, orders(RESTING), 1, Outcome.UNKNOWN, []),
    (200, "", 1, Outcome.UNKNOWN, []),
    (200, "null", 1, Outcome.UNKNOWN, []),
    (200, "<html>", 1, Outcome.UNKNOWN, []),
    (200, "[]", 1, Outcome.UNKNOWN, []),
    (200, '"ok"', 1, Outcome.UNKNOWN, []),
    (200, '{"status":"ok"}', 1, Outcome.UNKNOWN, []),
    (200, '{"status":"ok","response":null}', 1, Outcome.UNKNOWN, []),
    (200, '{"status":"err","response":null}', 1, Outcome.UNKNOWN, []),
    (200, '{"status":"unknownOid"}', 1, Outcome.UNKNOWN, []),
    (200, '{"status":"ok","response":{"type":"order"}}', 1, Outcome.UNKNOWN, []),
    (200, '{"status":"ok","response":{"type":"order","data":{"statuses":null}}}', 1, Outcome.UNKNOWN, []),
    (200, '{"status":"ok","response":{"type":"createSubAccount","data":"0x1"}}', 1, Outcome.UNKNOWN, []),
    (200, orders({"resting": {}}), 1, Outcome.UNKNOWN, []),
    (200, orders({"resting": {"oid": "x"}}), 1, Outcome.UNKNOWN, []),
    (200, orders({"filled": {"totalSz": "x", "avgPx": "1", "oid": 1}}), 1, Outcome.UNKNOWN, []),
    (200, orders({"filled": {"totalSz": "NaN", "avgPx": "1", "oid": 1}}), 1, Outcome.UNKNOWN, []),
    (200, orders({"filled": {"avgPx": "1", "oid": 1}}), 1, Outcome.UNKNOWN, []),
    (200, orders("success"), 1, Outcome.UNKNOWN, []),
    (200, orders("queued"), 1, Outcome.UNKNOWN, []),
    (200, orders(None), 1, Outcome.UNKNOWN, []),
    (200, orders(RESTING, "queued"), 2, Outcome.UNKNOWN, []),
    (200, cancels("waitingForFill"), 1, Outcome.UNKNOWN, []),
    (200, cancels(RESTING), 1, Outcome.UNKNOWN, []),
    (200, "[" * 100_000, 1, Outcome.UNKNOWN, []),
]  # fmt: skip


@pytest.mark.parametrize("status, text, parts, outcome, states", TABLE)
def test_every_class_of_answer_has_its_verdict(status, text, parts, outcome, states):
    found = verdict(status, text, parts)
    assert found.outcome is outcome
    if outcome is A:
        assert [ack.state for ack in found.acks] == states
    else:
        assert found.acks == () and found.reason


def test_a_fill_says_how_much_was_filled_and_at_what_price():
    ack = verdict(200, orders(FILLED), 1).acks[0]
    assert (ack.order_id, ack.filled_size, ack.average_price) == ("293001091352", D("93.4"), D("0.26786"))


def test_a_rejected_order_carries_the_venues_words():
    found = verdict(200, orders(RESTING, NO_MATCH), 2)
    assert found.acks[1].reason == NO_MATCH["error"] == found.reason


@pytest.mark.parametrize("text, wanted", [(orders(RESTING), "default"), (DEFAULT, "order"), (DEFAULT, "cancel"),
                                          (cancels("success"), "order"), (orders(NO_MATCH), "cancel")])  # fmt: skip
def test_an_answer_to_another_kind_of_action_proves_nothing(text, wanted):
    assert verdict(200, text, 1, wanted).outcome is Outcome.UNKNOWN


def test_reasons_are_kept_short():
    assert len(verdict(502, "x" * 100_000, 1).reason) <= 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    | st.sampled_from(["ok", "err", "order", "default", "success", "waitingForFill"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["status", "response", "type", "data", "statuses", "resting", "filled", "error", "oid"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(status=st.sampled_from([200, 200, 200, 204, 400, 429, 500]), answer=JSON, parts=st.integers(0, 4))
def test_no_answer_raises_and_only_a_whole_one_is_accepted(status, answer, parts):
    found = verdict(status, json.dumps(answer), parts)
    if found.outcome is Outcome.ACCEPTED:
        assert status == 200 and answer["status"] == "ok" and found.acks
