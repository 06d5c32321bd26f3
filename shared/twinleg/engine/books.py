"""The sweep's working memory, one packed document per account (``books/<account>``), and the pages a person reads.

A book holds the account's figures, its positions, what must be remembered from sweep to sweep, and the lines of the
trades whose main leg is there. Past `LINES_MAX` lines or `POSITIONS_MAX` positions it goes on in further documents,
``<account>~1`` and so on; a line stays in the document it was first put into. Every document is compared-and-set, and
each carries a seal: whatever of it is missing or was edited by hand, nothing of it is believed and the sweep looks at
everything afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from twinleg.domain.errors import Conflict
from twinleg.domain.ids import account_market
from twinleg.domain.money import ZERO, cents, plain
from twinleg.domain.orders import AccountState, OrderKind, Position, RestingOrder
from twinleg.domain.trades import ENDED, Trade
from twinleg.engine.lines import Line, line_of, packed, seal, unpacked
from twinleg.engine.pages import UNSWEPT, trade_document
from twinleg.engine.ports import Create, Document, Exists, Merge, Replace, Store, Stored, Write
from twinleg.engine.watch import Reading
from twinleg.risk.ladder import fraction_left
from twinleg.risk.own_figures import OwnFigures, OwnPrice

LINES_MAX = 600
POSITIONS_MAX = 1000
"""Of one document: together well under the 1 MiB that one may have (a line is about 450 bytes, a position 430)."""
TAKEN_BACK_MAX = 100
"""Marks of trades taken back in one commit; the others are looked at again in the next sweep."""
PAGES_MAX = 300
"""Pages of positions written in the commit of their book; more go before it."""

REMEMBERED = (
    "mode", "day", "day_started_at", "equity_day_start_usd", "equity_peak_usd", "unreadable_sweeps", "foreign",
)  # fmt: skip
"""What of an account must outlive the sweep; its page has it too, for when the book is lost."""
FIGURES = (
    "equity_usd", "free_usd", "margin_used_usd", "margin_ratio", "own_margin_ratio", "liquidation_distance",
    "liquidation_error_percent", "day_pnl_usd", "day_moved_usd",
)  # fmt: skip

NOTED = ("requests_left",)
"""What is asked of the venue only once in a while, kept until then."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A trade as it was read in this sweep: at rest, or ended."""

    trade: Trade
    version: str
    unswept: bool


@dataclass(slots=True)
class Shard:
    """One document of a book as it was read."""

    version: str | None = None
    lines: dict[str, Line] = field(default_factory=dict)


@dataclass(slots=True)
class Book:
    """An account's book as it was read. One that is not intact remembers no trade and no owner."""

    account: str
    intact: bool
    memory: Document
    """Without what is remembered of positions and trades."""
    positions: dict[str, Document]
    """What was last written of each, by market."""
    shards: list[Shard]

    @property
    def lines(self) -> dict[str, Line]:
        return {id: line for shard in self.shards for id, line in shard.lines.items()}

    @property
    def foreign(self) -> list[str]:
        return list(self.memory.get("foreign") or [])

    @property
    def unreadable_sweeps(self) -> int:
        return int(self.memory.get("unreadable_sweeps") or 0)

    @property
    def sweeps(self) -> int:
        return int(self.memory.get("sweeps") or 0)


# -- reading -------------------------------------------------------------------------------------


def read_book(store: Store, account: str) -> Book:
    """The account's book; rebuilt from the account's page, as far as that goes, when it is missing or was edited."""
    stored = store.get("books", account)
    if stored is not None:
        try:
            return _intact(store, account, stored)
        except _MEANINGLESS:
            pass
    page = store.get("accounts", account)
    return _lost(account, stored.version if stored else None, page.data if page else {})


class _Edited(Exception):
    pass


_MEANINGLESS = (_Edited, KeyError, TypeError, ValueError, ArithmeticError, AttributeError)


def _intact(store: Store, account: str, stored: Stored) -> Book:
    data = stored.data
    shards = int(data["shards"])
    book = Book(account, True, {k: v for k, v in data.items() if not k.startswith("z_")}, {}, [])
    for number in range(shards):
        part: Stored | None = stored if number == 0 else store.get("books", shard_id(account, number))
        if part is None or part.data["seal"] != _seal_of(part.data):
            raise _Edited
        if (part.data["account"], part.data["part"]) != (account, number):
            raise _Edited
        lines = [unpacked(row) for row in part.data["z_trades"]]
        book.shards.append(Shard(part.version, {line.trade_id: line for line in lines}))
        book.positions |= {str(row["market"]): row for row in part.data["z_positions"]}
    _check(book.memory)
    return book


def _check(memory: Mapping[str, Any]) -> None:
    """Raises what reading a number or a time of it raises."""
    _ = Decimal(str(memory["equity_day_start_usd"])), Decimal(str(memory["equity_peak_usd"]))
    _ = int(memory["unreadable_sweeps"]), memory["day_started_at"].tzinfo, list(memory["foreign"]), memory["mode"]


def _lost(account: str, version: str | None, page: Mapping[str, Any]) -> Book:
    memory = {name: page[name] for name in REMEMBERED if name in page}
    try:
        _check(memory)
    except _MEANINGLESS:
        memory = {}
    positions: dict[str, Document] = {str(market): {} for market in page.get("positions") or []}
    return Book(account, False, memory, positions, [Shard(version)])


def _seal_of(data: Mapping[str, Any]) -> str:
    remembered = [data.get(name) for name in REMEMBERED]
    times = [str(value.timestamp()) if isinstance(value, datetime) else value for value in remembered]
    return seal(data["z_trades"], data["account"], data["part"], data.get("shards"), times)


def shard_id(account: str, number: int) -> str:
    """The id of a document of a book."""
    return f"{account}~{number}" if number else account


# -- writing -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Part:
    """One document of a book as it shall be, with what must be written in its commit."""

    shard: Shard
    lines: dict[str, Line]
    taken_back: list[Seen] = field(default_factory=list)
    positions: list[Document] = field(default_factory=list)
    pages: list[Merge] = field(default_factory=list)

    def without_marks(self) -> Part:
        """As it shall be when one of its trades changed meanwhile: those stay marked, their lines as they were."""
        lines = dict(self.lines)
        for seen in self.taken_back:
            old = self.shard.lines.get(seen.trade.trade_id)
            if old is not None:
                lines[old.trade_id] = old
            else:
                lines.pop(seen.trade.trade_id, None)
        return Part(self.shard, lines, [], self.positions, self.pages)


def parts_of(book: Book, seen: Iterable[Seen]) -> list[Part]:
    """The book's documents with the lines of the trades seen: new, changed, or gone because the trade ended."""
    parts = [Part(shard, dict(shard.lines)) for shard in book.shards]
    home = {id: part for part in parts for id in part.lines}
    for one in seen:
        id = one.trade.trade_id
        part = home.get(id)
        if part is None and one.trade.state not in ENDED:
            part = next((p for p in parts if len(p.lines) < LINES_MAX), None)
            if part is None:
                parts.append(part := Part(Shard(), {}))
        part = part or parts[0]
        if one.unswept:
            if len(part.taken_back) >= TAKEN_BACK_MAX:
                continue
            part.taken_back.append(one)
        if one.trade.state in ENDED:
            part.lines.pop(id, None)
        else:
            part.lines[id] = line_of(one.trade)
    return parts


def write_book(store: Store, book: Book, parts: list[Part], memory: Document, more: Sequence[Write]) -> None:
    """Write the book's documents, the first one first. Raises Conflict when another sweep wrote meanwhile."""
    while len(parts) > 1 and not (parts[-1].lines or parts[-1].positions or parts[-1].taken_back):
        parts.pop()
    for number, part in enumerate(parts):
        if number >= len(book.shards):  # it may be left from when there were as many before
            left = store.get("books", shard_id(book.account, number))
            part.shard.version = left.version if left else None
    memory = memory | {"shards": len(parts)}
    for number, part in enumerate(parts):
        early = part.pages[PAGES_MAX:]
        for start in range(0, len(early), PAGES_MAX):
            store.batch(early[start : start + PAGES_MAX])
        beside = [*part.pages[:PAGES_MAX], *(more if number == 0 else ())]
        try:
            store.batch([*_part_writes(book.account, number, part, memory), *beside])
        except (Conflict, Exists):
            if not part.taken_back:
                raise Conflict(f"books/{book.account} was written by another sweep") from None
            try:
                store.batch([*_part_writes(book.account, number, part.without_marks(), memory), *beside])
            except (Conflict, Exists):
                raise Conflict(f"books/{book.account} was written by another sweep") from None


def _part_writes(account: str, number: int, part: Part, memory: Document) -> list[Write]:
    rows = [packed(line) for line in part.lines.values()]
    data: Document = {"part": number, "z_positions": part.positions, "z_trades": rows}
    data |= memory if number == 0 else {"account": account, "summary": f"{account}: continued", "at": memory["at"]}
    data["seal"] = _seal_of(data)
    id, version = shard_id(account, number), part.shard.version
    book: Write = Replace("books", id, data, version) if version else Create("books", id, data)
    swept = (
        Replace("trades", s.trade.trade_id, trade_document(s.trade) | {UNSWEPT: False}, s.version)
        for s in part.taken_back
    )
    return [book, *swept]


# -- what is remembered --------------------------------------------------------------------------


def memory_of(
    book: Book,
    reading: Reading,
    foreign: Sequence[str],
    parts: Sequence[Part],
    now: datetime,
    turn: int,
    own: OwnFigures,
    moved_usd: Decimal | None,
    noted: Document | None = None,
) -> Document:
    """The account's figures and what must be remembered of it; *noted* is what is asked only once in a while.

    *moved_usd* is what was paid in less paid out since the day's first reading: neither profit nor a new peak. None: it
    was not asked for in this sweep.
    """
    before, state = book.memory, reading.state
    trades = sum(len(part.lines) for part in parts)
    day = f"{now:%Y-%m-%d}"
    same_day = before.get("day") == day
    start = Decimal(str(before["equity_day_start_usd"])) if same_day else state.equity_usd
    moved_before = Decimal(str(before.get("day_moved_usd", "0"))) if same_day else ZERO
    moved = moved_before if moved_usd is None or not same_day else moved_usd
    peak = max(Decimal(str(before.get("equity_peak_usd", "0"))) + moved - moved_before, state.equity_usd)
    ratio = state.margin_ratio
    distances = [d for p in state.positions if (d := p.liquidation_distance) is not None]
    return _kept(before) | {
        "account": book.account,
        "at": now,
        "read_at": state.at,
        "mode": reading.mode,
        "equity_usd": plain(state.equity_usd),
        "free_usd": plain(state.free_usd),
        "margin_used_usd": plain(state.margin_used_usd),
        "margin_ratio": plain(cents(ratio, 4)) if ratio is not None else None,
        "own_margin_ratio": plain(cents(own.margin_ratio, 4)) if own.margin_ratio is not None else None,
        "liquidation_distance": plain(cents(min(distances))) if distances else None,
        "liquidation_error_percent": plain(cents(own.error_percent)) if own.error_percent is not None else None,
        "day": day,
        "equity_day_start_usd": plain(start),
        "day_started_at": before.get("day_started_at", state.at) if same_day else state.at,
        "day_pnl_usd": plain(state.equity_usd - start - moved),
        "day_moved_usd": plain(moved),
        "equity_peak_usd": plain(peak),
        "positions": len(state.positions),
        "trades": trades,
        "foreign": list(foreign),
        "unreadable_sweeps": 0,
        "sweeps": turn,
        "summary": f"{book.account}: {len(state.positions)} positions, {trades} trades, "
        f"equity {state.equity_usd:.2f}, mode {reading.mode}",
        **(noted or {}),
    }


def memory_unread(book: Book, now: datetime, turn: int) -> Document:
    """What is remembered of an account that could not be read."""
    missed = book.unreadable_sweeps + 1
    unknown = {"mode": "", "day": "", "day_started_at": now, "equity_day_start_usd": "0", "equity_peak_usd": "0"}
    return (
        unknown
        | {"foreign": []}
        | _kept(book.memory)
        | {
            "account": book.account,
            "at": now,
            "unreadable_sweeps": missed,
            "sweeps": turn,
            "summary": f"{book.account}: not readable for {missed} sweeps",
        }
    )


def _kept(memory: Document) -> Document:
    """What the next book takes over from the one before."""
    names = (*REMEMBERED, *FIGURES, "positions", "trades", "page_due", "page_equity_usd", "read_at", *NOTED)
    return {name: memory[name] for name in names if name in memory}


# -- the account's page --------------------------------------------------------------------------


def page_is_news(book: Book, memory: Document) -> bool:
    """Whether a person should not wait for this page's turn: mode, day, foreign positions, readability."""
    return not book.intact or any(
        book.memory.get(name) != memory.get(name) for name in ("mode", "day", "foreign", "unreadable_sweeps")
    )


def has_news(book: Book, parts: Sequence[Part], memory: Document) -> bool:
    """Whether the book must be written in this sweep: more than the figures of what it holds changed."""
    return (
        page_is_news(book, memory)
        or len(parts) != len(book.shards)
        or any(part.taken_back or part.pages or part.lines != part.shard.lines for part in parts)
    )


def page_is_due(book: Book, memory: Document, markets: Collection[str]) -> bool:
    """Whether the page should be written before others: other markets are held, or equity moved by 1 %."""
    if book.memory.get("page_due") or set(book.positions) != set(markets):
        return True
    written = Decimal(str(book.memory.get("page_equity_usd", "0")))
    return abs(Decimal(memory["equity_usd"]) - written) * 100 >= abs(written)


def page_write(memory: Document, reading: Reading | None) -> Write:
    """The account's page for a person, written blind: nothing is decided by it while the book is there."""
    name = str(memory["account"])
    if reading is None:
        said = {"unreadable_sweeps": memory["unreadable_sweeps"], "summary": memory["summary"]}
        return Merge("accounts", name, said | {"account": name, "tried_at": memory["at"]})
    equity, peak = Decimal(memory["equity_usd"]), Decimal(memory["equity_peak_usd"])
    page = {field: memory[field] for field in (*REMEMBERED, *FIGURES)} | {
        **{field: memory[field] for field in NOTED if field in memory},
        "account": name,
        "at": memory["read_at"],
        "drawdown_percent": plain(cents((1 - equity / peak) * 100, 4)) if peak > 0 else "0",
        "positions": [p.market for p in reading.state.positions],
        "summary": f"{name}: equity {equity:.2f}, day {Decimal(memory['day_pnl_usd']):+.2f} USD, mode {memory['mode']}",
    }
    return Replace("accounts", name, page)


# -- the positions' pages ------------------------------------------------------------------------


def fill_positions(
    book: Book,
    parts: list[Part],
    reading: Reading,
    owner: Callable[[Position], str],
    at_entry: Callable[[Position], Decimal | None],
    own: Mapping[str, OwnPrice],
) -> None:
    """Put the positions into the book's documents, and beside them the pages of those that changed."""
    rows: list[tuple[Document, Merge | None]] = []
    for market in dict.fromkeys([*sorted(reading.positions), *book.positions]):
        position = reading.positions.get(market)
        before = book.positions.get(market, {})
        orders = reading.orders.get(market, ())
        row = _row(position, owner, at_entry, orders, before, own.get(market)) if position else {}
        stops = row["stops"] if row else _stops(orders)
        changed = any(before.get(name) != row.get(name) for name in ("size", "stops", "left_percent"))
        page = _page(book.account, market, stops, row, reading.state) if changed or not row else None
        rows.append((row, page))
    kept = [row for row, _ in rows if row]
    while len(parts) * POSITIONS_MAX < len(kept):
        parts.append(Part(Shard(), {}))
    number = 0
    for row, page in rows:
        part = parts[min(number // POSITIONS_MAX, len(parts) - 1)]
        if page is not None:
            part.pages.append(page)
        if row:
            part.positions.append(row)
            number += 1


def carry_positions(book: Book, parts: list[Part]) -> None:
    """Keep what is remembered of the positions of an account that could not be read."""
    rows = [row for row in book.positions.values() if row]
    while len(parts) * POSITIONS_MAX < len(rows):
        parts.append(Part(Shard(), {}))
    for number, row in enumerate(rows):
        parts[number // POSITIONS_MAX].positions.append(row)


def _row(
    position: Position,
    owner: Callable[[Position], str],
    at_entry: Callable[[Position], Decimal | None],
    orders: Sequence[RestingOrder],
    before: Mapping[str, Any],
    own: OwnPrice | None,
) -> Document:
    distance, ratio = position.liquidation_distance, position.margin_ratio
    left = fraction_left(at_entry(position), position)
    return {
        "market": position.market,
        "size": plain(position.size),
        "entry_price": plain(position.entry_price),
        "mark_price": plain(position.mark_price),
        "unrealised_usd": plain(position.unrealised_usd),
        "liquidation_price": plain(position.liquidation_price) if position.liquidation_price else None,
        "own_liquidation_price": plain(cents(own.liquidation_price)) if own and own.liquidation_price else None,
        "liquidation_error_percent": plain(cents(own.error_percent)) if own else None,
        "liquidation_distance": plain(cents(distance)) if distance is not None else None,
        "margin_ratio": plain(cents(ratio, 4)) if ratio is not None else None,
        "left_percent": bucket(left, before.get("left_percent")),
        "owner": owner(position),
        "stops": _stops(orders),
    }


def _stops(orders: Sequence[RestingOrder]) -> list[str]:
    return [plain(o.trigger_price) for o in orders if o.kind is OrderKind.STOP and o.trigger_price]


def bucket(left: Decimal | None, before: object) -> int | None:
    """The share of the liquidation distance at entry that is left, in steps of 10 %; one is kept 3 % beyond its ends.

    Above 100 % it says 100. None: cannot be liquidated.
    """
    if left is None:
        return None
    percent = min(max(left, ZERO) * 100, Decimal("109.9"))
    if isinstance(before, int) and before - 3 <= percent < before + 13:
        return before
    return int(percent // 10) * 10


def _page(
    account: str,
    market: str,
    stops: list[str],
    row: Mapping[str, Any],
    state: AccountState,
) -> Merge:
    """What a person reads of a position. Who owns the slot is not touched: that is the trade's to write."""
    size, left = (str(row["size"]), row["left_percent"]) if row else ("0", None)
    share = f", {left} % of its liquidation distance left" if left is not None else ""
    return Merge(
        "positions",
        account_market(account, market),
        {
            "account": account,
            "market": market,
            "size": size,
            "stops": stops,
            "left_percent": left,
            "at": state.at,
            "entry_price": row.get("entry_price"),
            "liquidation_price": row.get("liquidation_price"),
            "own_liquidation_price": row.get("own_liquidation_price"),
            "liquidation_error_percent": row.get("liquidation_error_percent"),
            "summary": f"{account} {market}: {size}, stop {', '.join(stops) or 'none'}{share}",
        },
    )
