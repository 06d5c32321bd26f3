"""What the venue's own ledger proves of a run: liquidations, double orders, legs left alone.

Nothing here looks at our records: a fault of ours that we did not notice must still be counted.
Fills are taken in the ledger's order, positions from each fill's ``startPosition``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from twinleg.domain.candles import utc_from_ms
from twinleg.domain.money import ZERO

ORPHAN_SECONDS = 65
"""One sweep (60 s) and a little: a leg alone for longer was not seen by the sweep that should have closed it."""


@dataclass(frozen=True, slots=True)
class VenueFill:
    """One fill as the venue wrote it; ``size`` is signed, positive bought; ``start`` is the position before it."""

    user: str
    coin: str
    price: Decimal
    size: Decimal
    start: Decimal
    ms: int
    oid: int
    cloid: str | None
    closed_pnl_usd: Decimal
    fee_usd: Decimal
    liquidation: bool

    @property
    def end(self) -> Decimal:
        """The position after it."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class VenueOrder:
    """An order as the venue kept it; ``original`` is the size asked for, None when the ledger does not say."""

    oid: int
    reduce_only: bool
    original: Decimal | None


@dataclass(frozen=True, slots=True)
class Liquidation:
    """The venue took a position, or a part of it, away."""

    user: str
    coin: str
    at: datetime
    price: Decimal
    size: Decimal
    method: str


@dataclass(frozen=True, slots=True)
class DoubleOrder:
    """An order that filled on top of an exposure that was complete already."""

    user: str
    coin: str
    at: datetime
    oid: int
    first_oid: int
    size: Decimal
    """Base units beyond what the first order asked for."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A time in which one address of a pair held a position and the other did not hold its opposite."""

    coin: str
    holder: str
    since: datetime
    until: datetime
    left_at_end: bool

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()

    @property
    def is_orphan(self) -> bool:
        """Left behind at the end of the run, or longer than a sweep should have allowed."""
        return self.left_at_end or self.seconds > ORPHAN_SECONDS


@dataclass(frozen=True, slots=True)
class Ledger:
    """A paper venue's dump, read. ``ended_ms`` is the last time it knows of."""

    fills: tuple[VenueFill, ...] = ()
    orders: Mapping[int, VenueOrder] | None = None
    liquidations: tuple[Liquidation, ...] = ()
    funding_usd: Mapping[str, Decimal] | None = None
    """Received by address; negative = paid."""
    positions: Mapping[tuple[str, str], Decimal] | None = None
    """Held at the end, by (address, coin); None when the dump does not list them."""
    ended_ms: int = 0


def read_ledger(dump: Mapping[str, Any], ended_at: datetime | None = None) -> Ledger:
    """A ledger from the JSON of ``GET /_sim/ledger``. Fields it does not need may be missing.

    *ended_at*: when the run ended, if later than the last entry.
    """
    fills = tuple(_fill(f) for f in sorted(_list(dump, "fills"), key=lambda f: int(f["time"])))
    orders = {order.oid: order for order in (_order(o) for o in _list(dump, "orders"))}
    funding: dict[str, Decimal] = {}
    for entry in _list(dump, "funding") or _list(dump, "fundings"):
        user = _address(entry)
        delta = entry.get("delta", entry)
        funding[user] = funding.get(user, ZERO) + Decimal(str(delta["usdc"]))
    known = [int(dump.get(name) or 0) for name in ("time", "now", "now_ms")]
    known += [f.ms for f in fills[-1:]] + ([round(ended_at.timestamp() * 1000)] if ended_at else [])
    return Ledger(fills, orders, _liquidations(dump, fills), funding, _positions(dump), max(known))


def _list(dump: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = dump.get(name) or []
    return list(found.values()) if isinstance(found, Mapping) else list(found)


def _address(entry: Mapping[str, Any]) -> str:
    return str(entry.get("user", "")).lower()


def _fill(line: Mapping[str, Any]) -> VenueFill:
    user = _address(line)
    mark = line.get("liquidation") or {}
    return VenueFill(
        user=user,
        coin=str(line["coin"]),
        price=Decimal(str(line["px"])),
        size=Decimal(str(line["sz"])) * (1 if line["side"] == "B" else -1),
        start=Decimal(str(line["startPosition"])),
        ms=int(line["time"]),
        oid=int(line["oid"]),
        cloid=line.get("cloid"),
        closed_pnl_usd=Decimal(str(line.get("closedPnl", "0"))),
        fee_usd=Decimal(str(line.get("fee", "0"))),
        liquidation=bool(mark) and str(mark.get("liquidatedUser", user)).lower() == user,
    )


def _order(line: Mapping[str, Any]) -> VenueOrder:
    inner = line.get("order", line)
    original = inner.get("origSz")
    asked = Decimal(str(original)) if original is not None else None
    return VenueOrder(int(inner["oid"]), bool(inner.get("reduceOnly", False)), asked)


def _liquidations(dump: Mapping[str, Any], fills: Sequence[VenueFill]) -> tuple[Liquidation, ...]:
    """Those the venue listed, and those only its fills tell of."""
    listed = [
        Liquidation(
            _address(entry),
            str(entry["coin"]),
            utc_from_ms(int(entry["time"])),
            Decimal(str(entry.get("markPx") or entry.get("price") or "0")),
            abs(Decimal(str(entry.get("size") or entry.get("sz") or entry.get("szi") or "0"))),
            str(entry.get("method", "")),
        )
        for entry in _list(dump, "liquidations")
    ]
    told = {(entry.user, entry.coin, entry.at) for entry in listed}
    for fill in fills:
        key = (fill.user, fill.coin, utc_from_ms(fill.ms))
        if fill.liquidation and key not in told:
            told.add(key)
            listed.append(Liquidation(*key, fill.price, abs(fill.size), "fill"))
    return tuple(sorted(listed, key=lambda entry: entry.at))


def _positions(dump: Mapping[str, Any]) -> dict[tuple[str, str], Decimal] | None:
    """What each account holds, from any of the shapes in which a venue lists positions."""
    accounts = dump.get("accounts")
    if not isinstance(accounts, Mapping):
        return None
    found: dict[tuple[str, str], Decimal] = {}
    told = False
    for address, account in accounts.items():
        positions = account.get("positions", account.get("assetPositions"))
        if positions is None:
            continue
        told = True
        named = positions.items() if isinstance(positions, Mapping) else ((None, p) for p in positions)
        for coin, entry in named:
            inner = entry.get("position", entry) if isinstance(entry, Mapping) else {"szi": entry}
            size = Decimal(str(inner.get("szi") or inner.get("size") or "0"))
            if size:
                found[(str(address).lower(), str(coin or inner["coin"]))] = size
    return found if told else None


# -- double orders ---------------------------------------------------------------------------------


def double_orders(ledger: Ledger, addresses: Sequence[str]) -> list[DoubleOrder]:
    """Orders that added exposure beyond what the first of their stay in the market asked for.

    A *stay* is the time an address is long, or short, in a coin without being flat in between. Its first
    order is the one that opened it. Another order (another oid, not reduce-only) that fills the same way is
    no fault while first and later fills together stay within the size the first one asked for: that is the
    second attempt at a leg that filled in part. Beyond that it is a double order, however small. Where the
    ledger does not say what the first asked for, what it filled is the measure, and a smaller later order a
    top-up. Two filled orders under one client id are a double order in any case, flat in between or not.
    """
    found: dict[int, DoubleOrder] = {}
    wanted = {address.lower() for address in addresses}
    for (user, _), fills in _by_holder(ledger.fills):
        if user in wanted:
            for double in _doubled(ledger, list(fills)):
                found.setdefault(double.oid, double)
    return sorted(found.values(), key=lambda double: double.at)


def _by_holder(fills: Sequence[VenueFill]) -> Iterator[tuple[tuple[str, str], Iterator[VenueFill]]]:
    return groupby(sorted(fills, key=lambda f: (f.user, f.coin)), key=lambda f: (f.user, f.coin))


def _doubled(ledger: Ledger, fills: list[VenueFill]) -> Iterator[DoubleOrder]:
    orders = ledger.orders or {}
    carried: dict[str, int] = {}
    first: VenueFill | None = None
    own = later = ZERO
    for fill in fills:
        if fill.cloid is not None and carried.setdefault(fill.cloid, fill.oid) != fill.oid:
            yield _double(fill, carried[fill.cloid], abs(fill.size))
        order = orders.get(fill.oid)
        adds = abs(fill.end) > abs(fill.start) or fill.start * fill.end < 0
        if fill.liquidation or not adds or (order is not None and order.reduce_only):
            first = first if fill.end * fill.start > 0 else None
            continue
        if first is None or fill.start * fill.size <= 0:
            first, own, later = fill, abs(fill.end), ZERO
        elif fill.oid == first.oid:
            own += abs(fill.size)
        else:
            later += abs(fill.size)
            opener = orders.get(first.oid)
            asked = opener.original if opener is not None else None
            beyond = own + later - asked if asked else (later if later >= own else ZERO)
            if beyond > 0:
                yield _double(fill, first.oid, beyond)


def _double(fill: VenueFill, first_oid: int, size: Decimal) -> DoubleOrder:
    return DoubleOrder(fill.user, fill.coin, utc_from_ms(fill.ms), fill.oid, first_oid, size)


# -- legs alone ------------------------------------------------------------------------------------


def alone(ledger: Ledger, main: str, hedge: str) -> list[Alone]:
    """The times in which the pair's two addresses did not hold opposite positions although one held one.

    Both holding the same way counts as well, for the main address. Times of no length are left out.
    """
    pair = (main.lower(), hedge.lower())
    coins = {f.coin for f in ledger.fills if f.user in pair}
    coins |= {coin for user, coin in ledger.positions or {} if user in pair}
    return sorted((gap for coin in coins for gap in _alone_in(ledger, pair, coin)), key=lambda gap: gap.since)


def _alone_in(ledger: Ledger, pair: tuple[str, str], coin: str) -> Iterator[Alone]:
    fills = [f for f in ledger.fills if f.coin == coin and f.user in pair]
    held = {user: next((f.start for f in fills if f.user == user), ZERO) for user in pair}
    holder, since = _holder(held, pair), fills[0].ms if fills else ledger.ended_ms
    for ms, together in groupby(fills, key=lambda f: f.ms):
        for fill in together:
            held[fill.user] = fill.end
        now = _holder(held, pair)
        if now is None and holder is not None and ms > since:
            yield Alone(coin, holder, utc_from_ms(since), utc_from_ms(ms), left_at_end=False)
        if now is None or holder is None:
            holder, since = now, ms
    if ledger.positions is not None:
        at_end = _holder({user: ledger.positions.get((user, coin), ZERO) for user in pair}, pair)
        holder = at_end and (holder or at_end)
    if holder is not None:
        yield Alone(coin, holder, utc_from_ms(since), utc_from_ms(max(ledger.ended_ms, since)), left_at_end=True)


def _holder(held: Mapping[str, Decimal], pair: tuple[str, str]) -> str | None:
    """Who of the two stands without an opposite; None when nobody does."""
    main, hedge = held[pair[0]], held[pair[1]]
    if main * hedge < 0 or not (main or hedge):
        return None
    return pair[0] if main else pair[1]


def venue_pnl_usd(ledger: Ledger, addresses: Sequence[str]) -> Decimal:
    """What the venue booked to these addresses: realised, less fees, plus funding received."""
    wanted = {address.lower() for address in addresses}
    realised = sum((f.closed_pnl_usd - f.fee_usd for f in ledger.fills if f.user in wanted), ZERO)
    funding = ledger.funding_usd or {}
    return realised + sum((usd for user, usd in funding.items() if user in wanted), ZERO)
