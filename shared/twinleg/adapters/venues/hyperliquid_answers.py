"""What Hyperliquid's answer to a signed action proves: one table, and anything not in it proves nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twinleg.adapters.venues.hyperliquid_reads import number
from twinleg.domain.orders import AckState, OrderAck
from twinleg.engine.ports import Outcome, Verdict

REASON_CHARS_MAX = 300
MALFORMED_CODES = frozenset({400, 415, 422})

REFUSALS: tuple[tuple[str, Outcome], ...] = (
    ("Invalid nonce: duplicate nonce", Outcome.DUPLICATE),
    ("Invalid nonce: nonce too low", Outcome.NONCE_TOO_LOW),
    ("Invalid nonce: nonce too high", Outcome.NONCE_TOO_LOW),
    ("Invalid nonce", Outcome.UNKNOWN),
    ("Action already expired", Outcome.EXPIRED),
    ("User or API Wallet ", Outcome.UNKNOWN_SIGNER),
    ("Must deposit before performing actions", Outcome.UNKNOWN_SIGNER),
    ("Unable to recover signer", Outcome.UNKNOWN_SIGNER),
    ("Mainnet and testnet require different signature", Outcome.UNKNOWN_SIGNER),
    ("User has pending agent removal", Outcome.UNKNOWN_SIGNER),
    ("Too many cumulative requests sent", Outcome.THROTTLED),
    ("Vault not registered", Outcome.MALFORMED),
    ("Nonce mismatch", Outcome.MALFORMED),
)
"""Refusals of a whole request, by how their text begins.

Those that come before the nonce is looked at must not read as REJECTED: of an earlier copy they prove
nothing. Every text not listed is the action itself being refused (Source: Hyperliquid docs, error responses,
and replies recorded on its test network).
"""


def verdict(status_code: int, text: str, order_count: int, answer_type: str = "") -> Verdict:
    """What an HTTP answer from ``/exchange`` proves about the action, and about each of its *order_count* parts.

    *answer_type* (``order``, ``cancel`` or ``default``) is what the action should be answered with; an
    answer of another type proves nothing. Empty: not checked.
    """
    if status_code == 429:
        return _proves(Outcome.THROTTLED, "HTTP 429")
    if status_code in MALFORMED_CODES and "<html" not in text.lower():
        return _proves(Outcome.MALFORMED, f"HTTP {status_code}: {text}")
    if status_code != 200:
        return _proves(Outcome.UNKNOWN, f"HTTP {status_code}: {text}")
    try:
        return _of_answer(json.loads(text), order_count, answer_type) or _unknown(text)
    except (ValueError, ArithmeticError, RecursionError):
        return _unknown(text)


def _of_answer(answer: Any, order_count: int, answer_type: str) -> Verdict | None:
    match answer:
        case {"status": "err", "response": str(reason)}:
            return _proves(_refusal(reason), reason)
        case {"status": "ok", "response": {"type": "default"}} if answer_type in ("", "default"):
            return Verdict(outcome=Outcome.ACCEPTED, acks=(OrderAck(state=AckState.DONE),))
        case {"status": "ok", "response": {"type": "order" | "cancel" as kind, "data": {"statuses": list(statuses)}}}:
            if answer_type not in ("", kind):
                return None
            acks = _acks(kind, statuses, order_count)
            return Verdict(outcome=Outcome.ACCEPTED, acks=acks, reason=_first_reason(acks)) if acks else None
    return None


def _refusal(reason: str) -> Outcome:
    text = reason.removeprefix("L1 error: ")
    return next((outcome for start, outcome in REFUSALS if text.startswith(start)), Outcome.REJECTED)


def _acks(kind: str, statuses: Sequence[Any], order_count: int) -> tuple[OrderAck, ...] | None:
    if len(statuses) == order_count:
        acks = [_order_ack(status) if kind == "order" else _cancel_ack(status) for status in statuses]
    elif len(statuses) == 1 and _is_error_of_all(statuses[0]):
        acks = [_error_ack(statuses[0]) for _ in range(order_count)]
    else:
        return None
    known = tuple(ack for ack in acks if ack is not None)
    return known if len(known) == order_count and known else None


def _is_error_of_all(status: Any) -> bool:
    """One error for the whole batch comes from checks made before matching, which name no asset."""
    match status:
        case {"error": str(reason)}:
            return " asset=" not in reason
    return False


def _order_ack(status: Any) -> OrderAck | None:
    match status:
        case {"resting": {"oid": int(order_id)}}:
            return OrderAck(state=AckState.RESTING, order_id=str(order_id))
        case {"filled": {"oid": int(order_id), "totalSz": str(size), "avgPx": str(price)}}:
            return OrderAck(
                state=AckState.FILLED,
                order_id=str(order_id),
                filled_size=number(size),
                average_price=number(price),
            )
        case "waitingForFill" | "waitingForTrigger":
            return OrderAck(state=AckState.WAITING)
    return _error_ack(status)


def _cancel_ack(status: Any) -> OrderAck | None:
    return OrderAck(state=AckState.DONE) if status == "success" else _error_ack(status)


def _error_ack(status: Any) -> OrderAck | None:
    match status:
        case {"error": str(reason)}:
            return OrderAck(state=AckState.REJECTED, reason=reason[:REASON_CHARS_MAX])
    return None


def _first_reason(acks: Sequence[OrderAck]) -> str:
    return next((ack.reason for ack in acks if ack.reason), "")


def _proves(outcome: Outcome, reason: str) -> Verdict:
    return Verdict(outcome=outcome, reason=reason[:REASON_CHARS_MAX])


def _unknown(text: str) -> Verdict:
    return _proves(Outcome.UNKNOWN, f"an answer in an unknown shape: {text}")
