"""Streams of what happened to one account: fills, order updates, funding and transfers, each told once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from twinleg.paper.accounts import Account
from twinleg.paper.exchange import Exchange
from twinleg.paper.feed import SNAPSHOT_ROWS, message, parts
from twinleg.paper.numbers import text, usd

Json = Any
Row = dict[str, Any]


# Reading how far an account has come


class Reader:
    """Reads what one account has done since the last look. An address without an account has done nothing yet."""

    def __init__(self, engine: Exchange, address: str) -> None:
        self._engine = engine
        self.address = address
        self._counts: dict[str, int] = {}
        self._latest: Row | None = None
        self.missed = False
        """Whether the order history has forgotten statuses that were not read yet."""
        for name in ("fills", "fundings", "transfers", "liquidations", "statuses", "twap_history"):
            self.new(name)

    @property
    def account(self) -> Account | None:
        return self._engine.state.accounts.get(self.address)

    def rows(self, name: str) -> Sequence[Row]:
        """One of the lists, whole, oldest first: the account's own, its order statuses, everybody's liquidations."""
        if name == "liquidations":
            return self._engine.state.liquidations
        account = self.account
        if account is None:
            return ()
        found: Sequence[Row] = list(account.history)[::-1] if name == "statuses" else getattr(account, name)
        return found

    def new(self, name: str) -> list[Row]:
        """What one of the lists has gained."""
        if name == "statuses":
            return self._new_statuses()
        rows = self.rows(name)
        before = self._counts.get(name, 0)
        self._counts[name] = len(rows)
        return list(rows[before:]) if len(rows) > before else []

    def _new_statuses(self) -> list[Row]:
        """Of the history, which is capped by count and newest first, what lies before the latest that was read."""
        account = self.account
        history = () if account is None else account.history
        found: list[Row] = []
        for entry in history:
            if entry is self._latest:
                self.missed = False
                break
            found.append(entry)
        else:
            self.missed = len(found) >= self._engine.state.switches.order_memory
        if found:
            self._latest = found[0]
        return found[::-1]


# Events


class ListFeed:
    """A list that starts with a snapshot: ``{"isSnapshot": true, "user": ..., name: [...]}``, then what is new."""

    def __init__(self, reader: Reader, source: str, channel: str, name: str, shaped: Callable[[list[Row]], Json]):
        self._reader = reader
        self._source, self._channel, self._name, self._shaped = source, channel, name, shaped

    def first(self) -> list[str]:
        rows = self._shaped(list(self._reader.rows(self._source)[-SNAPSHOT_ROWS:]))
        return [message(self._channel, {"isSnapshot": True, "user": self._reader.address, self._name: rows})]

    def news(self, _: float) -> list[str]:
        rows = self._shaped(self._reader.new(self._source))
        return [message(self._channel, {"user": self._reader.address, self._name: part}) for part in parts(rows)]


def plain(rows: list[Row]) -> list[Row]:
    """As they are."""
    return rows


def payments(rows: list[Row]) -> list[Row]:
    """Funding payments as the WebSocket tells them."""
    names = ("coin", "usdc", "szi", "fundingRate", "nSamples")
    return [{"time": row["time"], **{name: row["delta"][name] for name in names}} for row in rows]


def slices(rows: list[Row]) -> list[Row]:
    """Those fills that are parts of TWAP orders."""
    return [{"fill": row, "twapId": row["twapId"]} for row in rows if row["twapId"] is not None]


class OrderUpdates:
    """Every status of every order of one account, without a snapshot.

    An order that is filled, or taken out, in the request that placed it is told ``open`` first. A partial fill of a
    resting order is told as ``open`` with what is left, unless a switch says no. Of statuses that the order history
    has forgotten since the last look (a long step, or a small ``order_memory``) each order's last is told.
    """

    def __init__(self, engine: Exchange, address: str) -> None:
        self._state = engine.state
        self._reader = Reader(engine, address)
        account = self._reader.account
        self._open: set[int] = set() if account is None else set(account.orders)
        self._known_oid = engine.state.next_oid

    def first(self) -> list[str]:
        return []

    def news(self, _: float) -> list[str]:
        out: list[Row] = []
        shown: dict[int, str] = {}
        for entry in self._reader.new("statuses"):
            out += self._told(entry)
            shown[entry["order"]["oid"]] = entry["order"]["sz"]
        for entry in self._forgotten(shown) if self._reader.missed else ():
            out += self._told(entry)
            shown[entry["order"]["oid"]] = entry["order"]["sz"]
        self._known_oid = self._state.next_oid
        filled = {fill["oid"]: fill["time"] for fill in self._reader.new("fills")}
        if self._state.switches.ws_partial_fill_updates:
            for oid, at in filled.items():
                order = self._state.orders[oid]
                if order.phase == "book" and shown.get(oid) != text(order.size):
                    out.append({"order": _basic(order.shown()), "status": "open", "statusTimestamp": at})
        return [message("orderUpdates", part) for part in parts(out)]

    def _forgotten(self, told: Collection[int]) -> list[Row]:
        """Where orders stand that have ended or begun since the last look and were not told of."""
        found = []
        for oid in sorted((*self._open, *range(self._known_oid + 1, self._state.next_oid + 1))):
            order = self._state.orders.get(oid)
            if order is None or order.user != self._reader.address or oid in told or (oid in self._open and order.live):
                continue
            found.append({"order": order.shown(), "status": order.status, "statusTimestamp": order.status_ms})
        return found

    def _told(self, entry: Row) -> Iterator[Row]:
        order, status = entry["order"], entry["status"]
        oid = order["oid"]
        alive = status in ("open", "triggered")
        if not alive and oid not in self._open and not status.lower().endswith("rejected"):
            whole = {**_basic(order), "sz": order["origSz"]}
            yield {"order": whole, "status": "open", "statusTimestamp": order["timestamp"]}
        if alive:
            self._open.add(oid)
        else:
            self._open.discard(oid)
        yield {"order": _basic(order), "status": status, "statusTimestamp": entry["statusTimestamp"]}


def _basic(order: Row) -> Row:
    """The short form of an order."""
    row = {k: order[k] for k in ("coin", "side", "limitPx", "sz", "oid", "timestamp", "origSz")}
    if order["cloid"] is not None:
        row["cloid"] = order["cloid"]
    if order["reduceOnly"]:
        row["reduceOnly"] = True
    return row


NON_USER_CANCELS = frozenset(
    ("marginCanceled", "selfTradeCanceled", "liquidatedCanceled", "openInterestCapCanceled", "delistedCanceled")
)
"""A reduce-only order that its position outlived is not among them (measured)."""
LIQUIDATOR = "0x" + "1d" * 20
"""Stands for the venue's liquidator."""


class UserEvents:
    """Fills, TWAP orders, funding, liquidations and cancels that the user did not ask for, one kind a message."""

    def __init__(self, engine: Exchange, address: str) -> None:
        self._reader = Reader(engine, address)

    def first(self) -> list[str]:
        return []

    def news(self, _: float) -> list[str]:
        reader = self._reader
        fills = reader.new("fills")
        events: list[tuple[int, str, Json]] = [(fill["time"], "fills", fill) for fill in fills]
        events += [(part["fill"]["time"], "twapSliceFills", part) for part in slices(fills)]
        events += [(row["time"] * 1000, "twapHistory", row) for row in reader.new("twap_history")]
        events += [
            (entry["statusTimestamp"], "nonUserCancel", {k: entry["order"][k] for k in ("coin", "oid")})
            for entry in reader.new("statuses")
            if entry["status"] in NON_USER_CANCELS
        ]
        events += [(row["time"], "funding", row) for row in payments(reader.new("fundings"))]
        count = len(reader.rows("liquidations"))
        rows = reader.new("liquidations")
        for number, row in enumerate(rows, count - len(rows) + 1):
            if row["user"] == reader.address:
                events.append((row["time"], "liquidation", _liquidation(number, row)))
        events.sort(key=itemgetter(0))
        return [message("user", data) for data in _bundled(events)]


def _bundled(events: list[tuple[int, str, Json]]) -> Iterator[Json]:
    """Fills, cancels and the like of one instant together, funding and liquidations one by one."""
    for (_, kind), group in groupby(events, key=itemgetter(0, 1)):
        items = [item for _, _, item in group]
        if kind in ("funding", "liquidation"):
            yield from ({kind: item} for item in items)
        else:
            yield {kind: items}


def _liquidation(number: int, row: Row) -> Row:
    notional = abs(Decimal(row["size"])) * Decimal(row["markPx"])
    return {
        "lid": number,
        "liquidator": LIQUIDATOR,
        "liquidated_user": row["user"],
        "liquidated_ntl_pos": usd(notional),
        "liquidated_account_value": row["accountValue"],
    }
