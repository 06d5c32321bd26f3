"""What a run is judged by: the venue's ledger, the intents with the sizes approved for them, and who did what when."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from twinleg.domain.candles import utc_from_ms
from twinleg.domain.ids import client_order_id
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import LegRole, Purpose
from twinleg.domain.trades import Trade

ORDERS = ("PlaceEntry", "PlaceReduction")
ATTEMPTS = 4
"""How many client order ids are tried per leg, purpose and decision, and for a few more decisions than were taken."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold, in words with numbers."""

    invariant: str
    at: datetime
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at:%H:%M:%S}: {self.text}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """One call of risk: when it began and ended, and whether it saw everything and said that all is well."""

    began: datetime
    ended: datetime
    clean: bool


@dataclass(slots=True)
class Span:
    """A time in which something dangerous stood; ``ended`` None while it still does."""

    what: str
    user: str
    coin: str
    began: datetime
    ended: datetime | None = None
    entering: bool = False
    """It began with the entry of a trade."""


@dataclass(frozen=True, slots=True)
class Entered:
    """An entry fill as the venue had it: the leverage and margin mode of the position it made."""

    at: datetime
    user: str
    coin: str
    cloid: str
    leverage: int
    isolated: bool


@dataclass(frozen=True, slots=True)
class Liquidated:
    """A liquidation as the venue had it, and what stood before it at the last point of the price's path."""

    at: datetime
    user: str
    coin: str
    size: Decimal
    stop: Decimal | None
    """Where a stop rested inside the liquidation price; None: the position was not guarded."""
    mark_before: Decimal
    mark: Decimal

    def __str__(self) -> str:
        stop = "none" if self.stop is None else plain(self.stop)
        return (
            f"{self.at:%H:%M:%S} {self.user[:8]} {plain(self.size)} {self.coin}: stop {stop}, "
            f"mark from {plain(self.mark_before)} to {plain(self.mark)}"
        )


@dataclass(frozen=True, slots=True)
class Closed:
    """A time in which an account (an address, or "store") could not be read, or not be traded in its mode."""

    what: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """An audit entry: when, what kind, of which trade."""

    at: datetime
    kind: str
    trade_id: str


@dataclass(frozen=True, slots=True)
class Said:
    """What our record of a signed action says came of it."""

    id: str
    state: str
    kind: str
    orders: bool
    at: datetime

    @classmethod
    def of(cls, id: str, data: Mapping[str, Any]) -> Said:
        return cls(id, data["state"], data["kind"], data["kind"] in ORDERS, data["created_at"])


@dataclass(frozen=True, slots=True)
class Known:
    """Whose an order is."""

    trade: Trade
    role: LegRole
    purpose: Purpose
    sequence: int


@dataclass(frozen=True, slots=True)
class Filled:
    """One fill of the ledger; sizes are signed."""

    at: datetime
    user: str
    coin: str
    cloid: str
    oid: int
    size: Decimal
    start: Decimal
    by_hand: bool
    """A person's: it carries no client id and liquidated nobody."""

    @property
    def end(self) -> Decimal:
        return self.start + self.size

    @property
    def slot(self) -> tuple[str, str]:
        return self.user, self.coin


@dataclass(frozen=True, slots=True)
class Held:
    """A time in which a slot (address, coin) held something, and what opened it: a trade, or nobody of ours."""

    since: datetime
    until: datetime | None
    opener: str
    """Trade id; empty: a person."""

    def covers(self, began: datetime, ended: datetime) -> bool:
        return self.since <= began and (self.until is None or self.until >= ended)


@dataclass(frozen=True)
class Evidence:
    """Everything the checker judges by."""

    dump: Mapping[str, Any]
    trades: Sequence[Trade]
    addresses: Mapping[str, str]
    """account → address."""
    sweeps: Sequence[Sweep]
    control: Sequence[tuple[datetime, str, str]]
    """(when, state, by whom) of every change of the trading state."""
    naked: Sequence[Span]
    uncovered: Sequence[Span]
    """Positions that lost their stop by a cancel of ours."""
    entered: Sequence[Entered]
    liquidated: Sequence[Liquidated]
    unwritten: Sequence[tuple[datetime, str]]
    """Signed actions that were sent with no record of them, or with another's record."""
    raised: Sequence[tuple[datetime, str]]
    """What functions raised that nobody foresaw."""
    unreadable: Sequence[Closed]
    moded: Sequence[Closed]
    apart: Sequence[Closed]
    """When a market's mark stood further off its oracle than is allowed; ``what`` is the coin."""
    leaked: Sequence[tuple[datetime, str]]
    """Where a secret was found in what was written, sent or logged: its name, never itself."""
    keys: Mapping[str, tuple[datetime, datetime]]
    """Agent address → when the venue stops accepting it, where that was set, and from when on it must be known."""
    carried: Collection[str]
    """``signer:nonce`` of every action that the venue carried out."""
    verdicts: Sequence[Said]
    signed_by: Mapping[str, str]
    """Client order id → the signer whose action carried it."""
    told: Sequence[Told]
    disturbed: Sequence[tuple[datetime, datetime]] | None
    """From when until when faults were at work; None: not known."""
    foreign: str
    """What the person chose for positions nobody recorded: stop, close, ignore."""
    open_positions: Mapping[tuple[str, str], Decimal]
    ended_at: datetime
    calm_since: datetime

    @cached_property
    def known(self) -> dict[str, Known]:
        """The client order ids of the ledger that a decision of these trades could have, and whose they are.

        A trade that was never approved can have none.
        """
        sought = {line.get("cloid") for line in (*self.dump["orders"], *self.dump["fills"])} - {None, ""}
        trades = [trade for trade in self.trades if trade.main.size_approved]
        found: dict[str, Known] = {}
        for sequence in range(1, max(map(_sequences, trades), default=1)):
            for trade in trades:
                if sequence < _sequences(trade):
                    for id, role, purpose in _possible_ids(trade.trade_id, sequence):
                        if id in sought:
                            found[id] = Known(trade, role, purpose, sequence)
            if len(found) == len(sought):
                break
        return found

    @cached_property
    def fills(self) -> list[Filled]:
        ours = set(self.addresses.values())
        return [_filled(line) for line in self.dump["fills"] if line["user"] in ours]

    @cached_property
    def slots(self) -> dict[tuple[str, str], list[Filled]]:
        """The fills of each (address, coin)."""
        found: dict[tuple[str, str], list[Filled]] = {}
        for fill in self.fills:
            found.setdefault(fill.slot, []).append(fill)
        return found

    @cached_property
    def held(self) -> dict[tuple[str, str], list[Held]]:
        """Per slot, when it held something and who opened it. A position a hand turned round is the hand's."""
        return {slot: list(self._held(fills)) for slot, fills in self.slots.items()}

    def _held(self, fills: Sequence[Filled]) -> Iterator[Held]:
        since: datetime | None = None
        opener = ""
        for fill in fills:
            if since is not None and fill.start * fill.end <= 0:
                yield Held(since, fill.at, opener)
                since = None
            if since is None and fill.end:
                whose = self.known.get(fill.cloid)
                since, opener = fill.at, whose.trade.trade_id if whose else ""
        if since is not None:
            yield Held(since, None, opener)

    def is_foreign(self, user: str, coin: str, at: datetime) -> bool:
        """Whether the slot then held what a person opened."""
        return any(
            h.opener == "" and h.since <= at and (h.until is None or at <= h.until)
            for h in self.held.get((user, coin), ())
        )

    def size_at(self, slot: tuple[str, str], at: datetime) -> Decimal:
        """What the slot held after the fills up to then."""
        size = ZERO
        for fill in self.slots.get(slot, ()):
            if fill.at > at:
                break
            size = fill.end
        return size

    def clean_between(self, began: datetime, ended: datetime) -> list[Sweep]:
        """The sweeps wholly within a time that saw everything and ended well."""
        return [s for s in self.sweeps if s.clean and s.began >= began and s.ended <= ended]

    def undisturbed(self, began: datetime, seconds: float) -> bool:
        """Whether nothing at all went wrong from a minute before until so many seconds after."""
        first, last = began - timedelta(seconds=60), began + timedelta(seconds=seconds)
        return self.disturbed is not None and not any(
            since <= last and until >= first for since, until in self.disturbed
        )


def _sequences(trade: Trade) -> int:
    """Up to which number decisions of a trade are looked for: some more than it says it took."""
    return trade.sequence // 8 * 8 + 16


def _possible_ids(trade_id: str, sequence: int) -> Iterator[tuple[str, LegRole, Purpose]]:
    """Every client order id that one decision of a trade could have, and whose it is."""
    for role in LegRole:
        for purpose in Purpose:
            for attempt in range(1, ATTEMPTS):
                yield client_order_id(trade_id, role.value, purpose.value, sequence, attempt), role, purpose


def _filled(line: Mapping[str, Any]) -> Filled:
    return Filled(
        at=utc_from_ms(line["time"]),
        user=line["user"],
        coin=line["coin"],
        cloid=line.get("cloid") or "",
        oid=line["oid"],
        size=Decimal(line["sz"]) * (1 if line["side"] == "B" else -1),
        start=Decimal(line["startPosition"]),
        by_hand=not line.get("cloid") and "liquidation" not in line,
    )
