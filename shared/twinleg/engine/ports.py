"""What the engine needs of the world. Each port is a small Protocol, owned here, and has one contract test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from twinleg.domain.candles import Candle, Snapshot
from twinleg.domain.ids import ClientOrderId
from twinleg.domain.markets import MarketRules
from twinleg.domain.orders import (
    AccountState,
    Fill,
    Frozen,
    Grouping,
    OrderAck,
    OrderReport,
    OrderRequest,
    RestingOrder,
)
from twinleg.domain.words import SignerRole as SignerRole
from twinleg.engine.steps import Steps as Steps
from twinleg.risk.approval import Approved

Document = dict[str, Any]
"""Flat, JSON-like: text, numbers, booleans, datetimes (UTC), lists and maps; decimals as text."""


# -- clock ---------------------------------------------------------------------------------------


class Clock(Protocol):
    """Time is asked of a clock; the replay clock never reads the wall."""

    def now(self) -> datetime: ...

    def sleep(self, seconds: float) -> None:
        """Wait; on a replay clock, time (and the paper venue's clock with it) moves on instead."""


# -- store ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as read, with the version a compare-and-set needs."""

    id: str
    data: Document
    version: str


@dataclass(frozen=True, slots=True)
class Create:
    """Write a document that must not exist."""

    collection: str
    id: str
    data: Document


@dataclass(frozen=True, slots=True)
class Replace:
    """Write a document whole. With a version: only if it is still at that version."""

    collection: str
    id: str
    data: Document
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """Set these fields of a document, whatever it holds beside them; it is made when it is not there.

    Without a precondition, so that it needs no read. A field is replaced whole, also one that is a map. It is a
    write like any other: whoever compares the version it met conflicts.
    """

    collection: str
    id: str
    fields: Document


@dataclass(frozen=True, slots=True)
class Check:
    """Nothing is written, but the batch fails unless the document is still at this version (None: absent)."""

    collection: str
    id: str
    version: str | None


Write = Create | Replace | Merge | Check


class Exists(Exception):
    """A Create met a document with that id. ``existing`` is it."""

    def __init__(self, collection: str, id: str) -> None:
        super().__init__(f"{collection}/{id} exists")
        self.collection, self.id = collection, id


class Store(Protocol):
    """Documents in collections. Every write names its precondition; no read-modify-write inside.

    Errors: Exists (a Create met a document), Conflict (a version or Check no longer holds; nothing of
    the batch was written), Unavailable (not reached; a write may be repeated, its precondition decides).
    """

    def get(self, collection: str, id: str) -> Stored | None: ...

    def create(self, collection: str, id: str, data: Document) -> str:
        """Write a new document; its version. Raises Exists."""

    def compare_and_set(self, collection: str, id: str, data: Document, version: str) -> str:
        """Replace a document read at *version*; the new version. Raises Conflict."""

    def batch(self, writes: Sequence[Write]) -> None:
        """All or nothing, in one atomic write."""

    def query(
        self,
        collection: str,
        where: Mapping[str, object] | None = None,
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Stored]:
        """Documents whose fields equal *where*, ordered by one field (or by id)."""


# -- bus -----------------------------------------------------------------------------------------


class Bus(Protocol):
    """Publishes a message durably before it returns. Delivery is at least once, in order per key."""

    def publish(self, topic: str, data: bytes, *, key: str = "", attributes: Mapping[str, str] | None = None) -> str:
        """The message's id. Raises Unavailable when it is not durable."""


# -- secrets -------------------------------------------------------------------------------------


class Secrets(Protocol):
    """Reads secrets by name, only when used. Errors name the secret, never its value."""

    def read(self, name: str) -> str:
        """Raises BadInput when the secret does not exist, Unavailable when it cannot be reached."""


# -- venue ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlaceEntry:
    """Orders that may add exposure (with their reduce-only children). Only the gate's Approved opens this door."""

    account: str
    approved: Approved
    orders: tuple[OrderRequest, ...]
    grouping: Grouping

    def __post_init__(self) -> None:
        self.approved.must_cover(self.account, self.orders)


@dataclass(frozen=True, slots=True)
class PlaceReduction:
    """Orders that can only reduce: every one is reduce-only."""

    account: str
    orders: tuple[OrderRequest, ...]
    grouping: Grouping = Grouping.NONE

    def __post_init__(self) -> None:
        if not all(order.reduce_only for order in self.orders):
            raise ValueError("every order of a reduction must be reduce-only")


@dataclass(frozen=True, slots=True)
class CancelOrders:
    """Cancel resting orders, by our client order id or (foreign ones) by the venue's order id."""

    account: str
    market: str
    client_order_ids: tuple[ClientOrderId, ...] = ()
    order_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetLeverage:
    account: str
    market: str
    leverage: int
    isolated: bool


@dataclass(frozen=True, slots=True)
class AddMargin:
    """Move *usd* of the account's own free collateral behind its isolated position."""

    account: str
    market: str
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Noop:
    """Spends a nonce and does nothing: accepted means whatever else had that nonce can never run."""

    account: str


VenueAction = PlaceEntry | PlaceReduction | CancelOrders | SetLeverage | AddMargin | Noop


class Signed(Frozen):
    """A signed action: the very bytes that are stored first and sent, however often, unchanged."""

    account: str
    signer: str
    nonce: int
    expires_at: datetime | None
    body: str


class Outcome(StrEnum):
    """What an answer to a signed action proves."""

    ACCEPTED = "accepted"
    """The action ran; each order has its own acknowledgement (which may be a rejection)."""
    REJECTED = "rejected"
    """The venue refused the whole action; nothing ran."""
    DUPLICATE = "duplicate"
    """The nonce is spent: something with it arrived before."""
    NONCE_TOO_LOW = "nonce_too_low"
    EXPIRED = "expired"
    """This copy came too late. An earlier copy may have run."""
    UNKNOWN_SIGNER = "unknown_signer"
    """The key is not (or no longer) an agent of the account; proves nothing of earlier copies."""
    THROTTLED = "throttled"
    """Refused before it was looked at (HTTP 429); nothing ran."""
    MALFORMED = "malformed"
    """Refused as unreadable (HTTP 4xx); nothing ran, and the fault is ours."""
    UNKNOWN = "unknown"
    """No verdict: timeout, 5xx, unreadable answer. It may have run."""


class Verdict(Frozen):
    outcome: Outcome
    acks: tuple[OrderAck, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Capability:
    """What a venue offers towards ONCE; the strength of the guarantee is stated from this."""

    unique_nonce: bool
    noop: bool
    expiry: bool
    client_id_forever: bool
    instant_transfer: bool


class Venue(Protocol):
    """One venue: signing (no I/O), sending (once, no retry inside) and reading.

    Reads raise Unavailable when the venue cannot be reached or answers nonsense.
    """

    name: str
    capability: Capability

    def signer(self, account: str, role: SignerRole) -> str:
        """The address of the key that *role* signs with for this account."""

    def sign(
        self, action: VenueAction, role: SignerRole, nonce: int, expires_at: datetime | None, client_tag: str = ""
    ) -> Signed:
        """The signed bytes of an action. No I/O but the secret's read."""

    def send(self, signed: Signed, orders: int = 1) -> Verdict:
        """Send the bytes once. Never raises for what the venue or the network does: it is a Verdict."""

    def time(self) -> datetime:
        """The venue's own time, from its answer."""

    def rules(self, market: str) -> MarketRules: ...

    def snapshot(self, market: str) -> Snapshot: ...

    def candles(self, market: str, start: datetime, end: datetime) -> list[Candle]:
        """Closed one-minute candles with start <= opened_at and closed_at <= end, oldest first."""

    def account(self, account: str) -> AccountState: ...

    def mode(self, account: str) -> str:
        """The account's abstraction mode; anything but ``disabled`` stops entries."""

    def leverage(self, account: str, market: str) -> tuple[int, bool]:
        """(leverage, isolated) as set at the venue, with or without a position."""

    def open_orders(self, account: str) -> tuple[RestingOrder, ...]: ...

    def order(self, account: str, client_order_id: str) -> OrderReport | None:
        """What became of an order; None when the venue does not know it (which proves little by itself)."""

    def fills(self, account: str, since: datetime) -> list[Fill]:
        """Fills at or after *since*, oldest first."""

    def funding_paid_usd(self, account: str, market: str, since: datetime) -> Decimal:
        """Funding paid (positive) or received (negative) in a market since then."""

    def net_deposits_usd(self, account: str, since: datetime) -> Decimal:
        """Deposits and transfers in, less those out, since then."""

    def requests_left(self, account: str) -> int | None:
        """Requests that the venue still takes for the account before it slows them down; None: it counts none."""

    def weight(self) -> tuple[int, int]:
        """(weight of what this process sent within the last minute, what the venue takes a minute; 0: no limit)."""

    def key_expires_at(self, account: str, role: SignerRole) -> datetime | None:
        """When the venue will stop accepting this key; None when it never expires or is not listed."""


@dataclass(frozen=True, slots=True)
class Venues:
    """The configured venues by name; an account belongs to exactly one."""

    by_name: Mapping[str, Venue]
    account_venue: Mapping[str, str] = field(default_factory=dict)

    def of(self, account: str) -> Venue:
        return self.by_name[self.account_venue[account]]

    def market(self, market: str) -> Venue:
        return self.by_name[market.split(":", 1)[0]]
