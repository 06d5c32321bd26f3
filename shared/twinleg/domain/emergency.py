"""Orders sent while the records could not be read: known as ours, and why they were sent, by their client order id."""

from __future__ import annotations

from enum import StrEnum

from twinleg.domain.ids import ClientOrderId, digest_of


class Danger(StrEnum):
    """What is dangerous without knowing any record."""

    NO_STOP = "no stop for the whole of it rested at the venue"
    NEAR_LIQUIDATION = "it was too near to its liquidation"
    ALONE = "the other leg was gone"


_TAG = digest_of("twinleg", "emergency")[:16]
_NUMBERS = {danger: f"{number:02x}" for number, danger in enumerate(Danger, 1)}
_DANGERS = {number: danger for danger, number in _NUMBERS.items()}


def emergency_order_id(danger: Danger, signer: str, nonce: int) -> ClientOrderId:
    """A client order id (``0x`` + 32 hex): 16 that every such order has, 2 for the danger, 14 of signer and nonce.

    An id that `client_order_id` makes begins like this once in 2^64.
    """
    return ClientOrderId(f"0x{_TAG}{_NUMBERS[danger]}{digest_of(signer, str(nonce))[:14]}")


def danger_of(client_order_id: str | None) -> Danger | None:
    """Why an order was sent without a record; None of any other order."""
    if client_order_id is None or not client_order_id.startswith(f"0x{_TAG}"):
        return None
    return _DANGERS.get(client_order_id[18:20])
