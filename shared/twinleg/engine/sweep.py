"""on_sweep: each minute, reconcile what we recorded with what the venues hold, and protect it.

In this order: read every account; find the trades that need a look; protect each of them (leg gone, stop missing,
ladder, time and net limits) or take it up where it rests between states; look for positions nobody recorded;
breakers; FLATTEN. One trade's or account's trouble never keeps the others from being looked after.

A quiet minute costs a few documents, however many positions there are. The books remember a line of each trade, and
every line is judged against what the venues hold by the very rules that judge the trade itself (`watch.is_quiet`). A
trade is read and looked after when its line is not quiet, when somebody wrote it since its line was made (its document
is marked `unswept`), when it owns a position that no line explains, and once in a while in its turn. Under FLATTEN,
and whenever a book is missing, edited or unreadable, everything is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from twinleg.domain.control import CONTROL_ID, Control, Halt
from twinleg.domain.errors import Conflict, InvariantBroken, TwinlegError, Unavailable
from twinleg.domain.ids import account_market
from twinleg.domain.messages import EventKind
from twinleg.domain.money import ZERO
from twinleg.domain.orders import OrderKind, Position
from twinleg.domain.trades import ENDED, Trade, TradeState
from twinleg.domain.watched import Watched, WatchedLeg
from twinleg.engine.between import Between
from twinleg.engine.books import (
    Book,
    Part,
    Seen,
    carry_positions,
    fill_positions,
    has_news,
    memory_of,
    memory_unread,
    page_is_due,
    page_is_news,
    page_write,
    parts_of,
    read_book,
    write_book,
)
from twinleg.engine.emergency import Emergency, record_later
from twinleg.engine.keys import NOTED_EVERY_SWEEPS, note_key
from twinleg.engine.legs import rules_if_listed
from twinleg.engine.lines import Line, line_of
from twinleg.engine.measures import measure
from twinleg.engine.moving import limits_now
from twinleg.engine.orderpath import BETWEEN_FINAL_READS_SECONDS
from twinleg.engine.pages import UNSWEPT
from twinleg.engine.ports import Document, Merge, Replace, Stored, Write
from twinleg.engine.protect import Protection
from twinleg.engine.records import document, parsed
from twinleg.engine.saga import Saga, limit_entry_ends
from twinleg.engine.strangers import Strangers
from twinleg.engine.system import Engine
from twinleg.engine.watch import Reading, Readings, at_rest, is_quiet
from twinleg.logs import stack_of
from twinleg.risk import breakers, ladder
from twinleg.risk.limits import Limits
from twinleg.risk.own_figures import OwnFigures, own_figures

log = logging.getLogger("twinleg")

UNREADABLE_SWEEPS_MAX = 3
"""An account that cannot be read this many sweeps in a row stops entries until a person resumes."""
RECORDS_TRIES, RECORDS_AGAIN_SECONDS = 3, 2.0
"""How often, and after how long, the records are asked for before the sweep goes on without them."""


def on_sweep(engine: Engine) -> str:
    """One sweep; a line that says what was seen and done. Raises the first failure after everything was tried.

    Where the records cannot be read it looks for emergencies at the venues, and raises Unavailable all the same.
    """
    started = engine.now()
    try:
        control = _control(engine)
    except Unavailable as unreachable:
        done = Emergency(engine).run()
        raise Unavailable(f"the records could not be read: {unreachable}; without them: {done}") from unreachable
    sweep = Sweep(engine)
    sweep.run(control)
    Between(sweep, started).run()
    if sweep.failures:
        raise sweep.failures[0]
    return "; ".join(sweep.done) or "nothing to do"


def _control(engine: Engine) -> Control:
    """The trading state, by which it is known too whether the records can be read. Raises Unavailable."""
    for _ in range(RECORDS_TRIES - 1):
        try:
            return engine.control()[0]
        except Unavailable:
            engine.clock.sleep(RECORDS_AGAIN_SECONDS)
    return engine.control()[0]


class Sweep:
    """One sweep over all accounts and trades."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.saga = Saga(engine)
        self.book = self.saga.book
        self.failures: list[TwinlegError] = []
        self.done: list[str] = []
        self.protection = Protection(engine, self.saga, self.read, self.attempt, self.limits, self.done)
        self.readings: dict[str, Reading | None] = {}
        self.books: dict[str, Book] = {}
        self.asked = self.checked = False
        self.unswept: dict[str, Stored] = {}
        self.seen: dict[str, Seen] = {}
        self.noted: dict[str, Document] = {}
        """What was asked of the venue beside the sweep, by account."""
        self.moved: dict[str, Decimal] = {}
        """Paid in less paid out since the day's first reading, by account, as far as it was asked for."""
        self.own: dict[str, OwnFigures] = {}
        self.holders: dict[tuple[str, str], Watched] = {}
        """The trade that holds an account's market, as far as lines and the trades read in this sweep say."""
        self.strangers = Strangers(engine, self.book.path, self.holders, self._owner_of_slot, self.done)

    def run(self, control: Control) -> None:
        """All of one sweep; what failed is in `failures`, what was done in `done`."""
        started = self.engine.now()
        self.attempt(lambda: record_later(self.engine, self.book.path))
        self.readings = self._read_all()
        self._remember()
        everything = control.state is Halt.FLATTEN or not self._remembered
        for trade_id in self._worth_a_look(everything):
            self.attempt(partial(self._consider, trade_id, control))
        if self.done:  # what was read before is no longer what is there
            self.readings = self._read_all()
        foreign = {name: list(book.foreign) for name, book in self.books.items()}
        for name, reading in self.readings.items():
            if reading is not None:
                self.attempt(partial(self._foreign, name, reading, control, everything, foreign))
        for name in self._keys_to_note:
            self.attempt(partial(self._note_requests, name))
        self.attempt(lambda: self._breakers(control))
        self.attempt(lambda: self._record(foreign))
        if control.state is Halt.FLATTEN:
            self.attempt(self._flat_yet)
        for name in self._keys_to_note:
            self.attempt(partial(note_key, self.engine, name))
        self._measure(started)

    def attempt(self, step: Callable[[], None]) -> None:
        """Try a step. Whatever goes wrong in it, foreseen or not, keeps nothing else from being looked after."""
        try:
            step()
        except TwinlegError as failure:
            self.failures.append(failure)
        except Exception as surprise:
            kind = type(surprise).__name__  # not its text, which may quote anything
            log.critical("a step of the sweep failed: %s", kind, extra={"stack_trace": stack_of(surprise)})
            broken = InvariantBroken(f"a step of the sweep failed with {kind}")
            broken.__cause__ = surprise
            self.failures.append(broken)

    # -- what is there, and what we remember -----------------------------------------------------

    def _read_all(self) -> dict[str, Reading | None]:
        return {name: self.read(name) for name in self.engine.desk.accounts}

    def read(self, name: str) -> Reading | None:
        venue = self.engine.venues.of(name)
        try:
            return Reading.of(venue.account(name), venue.open_orders(name), venue.mode(name))
        except TwinlegError as failure:
            self.failures.append(failure)
            return None

    def _remember(self) -> None:
        """Which trades were written since their line was made, and then the books: in this order.

        A mark is taken back in the very commit that stores the line. So a trade without a mark when we ask has its
        line in every book we read afterwards.
        """
        self.attempt(self._ask)
        for name in self.engine.desk.accounts:
            self.attempt(partial(self._open_book, name))
        for line in self._lines().values():
            self._holds(line)
        for stored in self.unswept.values():
            with suppress(TwinlegError):  # said when it is considered
                trade = parsed("trades", stored, Trade)
                if trade.state in ENDED:
                    self._holds_no_more(trade)
                elif trade.state is not TradeState.PROPOSED:
                    self._holds(trade)

    def _ask(self) -> None:
        self.unswept = {s.id: s for s in self.engine.store.query("trades", {UNSWEPT: True})}
        self.asked = True

    def _open_book(self, name: str) -> None:
        self.books[name] = read_book(self.engine.store, name)

    @property
    def _remembered(self) -> bool:
        """Whether the books can be believed."""
        books = self.books.values()
        return self.asked and len(books) == len(self.readings) and all(book.intact for book in books)

    def _lines(self) -> dict[str, Line]:
        return {id: line for book in self.books.values() for id, line in book.lines.items()}

    def _holds(self, trade: Watched) -> None:
        for leg in (trade.main, trade.hedge):
            self.holders[leg.account, leg.market] = trade

    def _holds_no_more(self, trade: Trade) -> None:
        for leg in trade.legs:
            holder = self.holders.get((leg.account, leg.market))
            if holder is not None and holder.trade_id == trade.trade_id:
                del self.holders[leg.account, leg.market]

    # -- trades ----------------------------------------------------------------------------------

    def _worth_a_look(self, everything: bool) -> list[str]:
        """The trades whose records are read in this sweep."""
        ids = dict.fromkeys(self.unswept)
        lines = self._lines()
        if everything:
            self.attempt(lambda: ids.update(dict.fromkeys(self.book.desk()[0].open_trades)))
            ids |= dict.fromkeys(lines)
        else:
            ids |= {id: None for id, line in lines.items() if id not in ids and not self.is_quiet(line, self.readings)}
            self.attempt(lambda: ids.update(dict.fromkeys(self._in_turn(lines))))
        for position in self._positions():
            if everything or not (self._holder(position) or self._known_foreign(position)):
                self.attempt(partial(lambda p: ids.update(dict.fromkeys(self._slot_owner(p))), position))
        return list(ids)

    def is_quiet(self, trade: Watched, readings: Readings) -> bool:
        """Whether the trade needs nothing, as far as these readings say."""
        main, hedge = readings.get(trade.main.account), readings.get(trade.hedge.account)
        return is_quiet(trade, main, hedge, self.engine.now(), self.limits(trade, readings))

    def limits(self, trade: Watched, readings: Readings) -> Limits:
        """The trade's limits, as its markets move now."""
        return limits_now(self.engine.limits(trade.strategy), trade, readings, self.books)

    @property
    def _turn(self) -> int:
        """Counts the sweeps: what is done only once in a while goes by it."""
        return 1 + max((book.sweeps for book in self.books.values()), default=0)

    @property
    def _keys_to_note(self) -> list[str]:
        """The accounts whose key is noted: all in the first sweep, then each in one of 60 that checks nothing else."""
        accounts = list(self.engine.desk.accounts)
        if self._turn <= NOTED_EVERY_SWEEPS:
            return accounts if self._turn == 1 else []
        return accounts[self._turn % NOTED_EVERY_SWEEPS :: NOTED_EVERY_SWEEPS]

    def _in_turn(self, lines: dict[str, Line]) -> list[str]:
        """In a quiet sweep, one line or known foreign position is held against its record, however quiet it is.

        So a hand's edit of a trade is taken up, though nobody marked it: it is marked now, and looked after.
        """
        strange = [(name, market) for name, book in self.books.items() for market in book.foreign]
        checks: list[str | tuple[str, str]] = [*sorted(lines.keys() - self.unswept.keys()), *sorted(strange)]
        busy = self.unswept or any(book.memory.get("page_due") for book in self.books.values())
        if not checks or busy or self._keys_to_note or self._turn % PAGE_EVERY == 0:
            return []
        self.checked = True
        check = checks[self._turn % len(checks)]
        if isinstance(check, tuple):
            return self._owner_of_slot(*check)
        stored = self.engine.store.get("trades", check)
        if stored is not None:
            trade = parsed("trades", stored, Trade)
            if at_rest(trade) and line_of(trade) == lines[check]:
                return []
            if not stored.data.get(UNSWEPT):
                self.engine.store.batch([Merge("trades", check, {UNSWEPT: True})])
        return [check]

    def _consider(self, trade_id: str, control: Control) -> None:
        """Read a trade, and look after it unless it needs nothing."""
        stored = self.unswept.get(trade_id) or self._stored(trade_id)
        trade = parsed("trades", stored, Trade)
        if trade.state is TradeState.PROPOSED and self.engine.now() <= trade.intent.expires_at:
            return  # its message is being carried out
        if self._is_waited_for(trade, control):
            return
        if not self._needs_nothing(trade, control):
            self.protection.look_after(trade_id, control, self.readings)
            stored = self._stored(trade_id)
            trade = parsed("trades", stored, Trade)
        if trade.state in ENDED:
            self._holds_no_more(trade)
        elif at_rest(trade):
            self._holds(trade)
        else:
            return
        self.seen[trade_id] = Seen(trade, stored.version, stored.data.get(UNSWEPT) is not False)

    def _is_waited_for(self, trade: Trade, control: Control) -> bool:
        """Whether a limit entry rests unfilled and has time left: who placed it waits, and others cannot wait here.

        If that process died, the next sweep cancels the entry.
        """
        if trade.state is not TradeState.MAIN_SENT or trade.intent.order_kind is not OrderKind.LIMIT:
            return False
        reading = self.readings.get(trade.main.account)
        unfilled = reading is not None and trade.main.market not in reading.positions
        ends = limit_entry_ends(trade, self.engine.limits(trade.strategy))
        wanted = control.state is Halt.ENABLED and not trade.asked_to_end
        return unfilled and wanted and self.engine.now() < ends

    def _needs_nothing(self, trade: Trade, control: Control) -> bool:
        if trade.state in ENDED:
            return True
        return control.state is not Halt.FLATTEN and at_rest(trade) and self.is_quiet(trade, self.readings)

    def _stored(self, trade_id: str) -> Stored:
        stored = self.engine.store.get("trades", trade_id)
        if stored is None:
            raise InvariantBroken(f"trade {trade_id} has no record")
        return stored

    # -- positions and orphans -------------------------------------------------------------------

    def _positions(self) -> list[Position]:
        return [p for reading in self.readings.values() if reading for p in reading.state.positions]

    def _holder(self, position: Position) -> Watched | None:
        return self.holders.get((position.account, position.market))

    def _known_foreign(self, position: Position) -> bool:
        """Whether the book says that nobody owns it. A trade that took the slot since then is marked, and holds it."""
        book = self.books.get(position.account)
        return book is not None and book.intact and position.market in book.foreign

    def _slot_owner(self, position: Position) -> list[str]:
        return self._owner_of_slot(position.account, position.market)

    def _owner_of_slot(self, account: str, market: str) -> list[str]:
        """The id of the trade that holds the slot, if one does."""
        slot = self.engine.store.get("positions", account_market(account, market))
        owner = str(slot.data.get("owner") or "") if slot else ""
        return [owner] if owner else []

    def _foreign(
        self, name: str, reading: Reading, control: Control, everything: bool, foreign: dict[str, list[str]]
    ) -> None:
        """Positions and resting orders nobody recorded, and orders that outlived their trade."""
        book = self.books.get(name)
        found = [p for p in reading.state.positions if self._is_nobodys(p, everything)]
        foreign[name] = [p.market for p in found]
        self.strangers.positions(name, found, set(book.foreign) if book else set(), control)
        self.strangers.orders(name, reading)
        self.strangers.left_over(name, reading)

    def _is_nobodys(self, position: Position, everything: bool) -> bool:
        if self._holder(position):
            return False
        return (self._known_foreign(position) and not everything) or not self._slot_owner(position)

    # -- breakers --------------------------------------------------------------------------------

    def _breakers(self, control: Control) -> None:
        now, readings = self.engine.now(), self.readings
        trip = self._unreadable() or self._day_loss(now, readings)
        if trip is None or _as_severe(control.state, trip.state):
            return
        if control.state is Halt.HALTED and not self.book.desk()[0].open_trades:
            return  # halted and flat already: the day's loss stays what it is
        if all(readings.values()):  # a loss is believed when a second reading shows it too (TRUTH)
            self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
            trip = self._day_loss(now, self._read_all())
            if trip is None or _as_severe(control.state, trip.state):
                return
        control, version = self.engine.control()
        if _as_severe(control.state, trip.state):
            return  # somebody was quicker, and severer, while the accounts were read again
        data = document(Control(state=trip.state, why=trip.reason, by="risk", since=now))
        summary = {"summary": f"{trip.state}: {trip.reason}"}
        self.engine.store.batch([Replace("control", CONTROL_ID, data | summary, version)])
        self.engine.announce(EventKind.BREAKER, f"{control.state} -> {trip.state}: {trip.reason}")

    def _unreadable(self) -> breakers.BreakerTripped | None:
        for name, reading in self.readings.items():
            missed = self.books[name].unreadable_sweeps + 1 if name in self.books else 1
            if reading is None and missed >= UNREADABLE_SWEEPS_MAX:
                return breakers.BreakerTripped(Halt.REDUCING, f"{name} could not be read for {missed} sweeps")
        return None

    def _day_loss(self, now: datetime, readings: dict[str, Reading | None]) -> breakers.BreakerTripped | None:
        limits = self.engine.desk.limits
        starts: list[Decimal] = []
        equities: list[Decimal] = []
        for name, reading in readings.items():
            book = self.books.get(name)
            if reading is None or reading.mode != "disabled":
                return None  # in another mode the equity of perpetuals is not the account's: unreadable is no loss
            if book is None or book.memory.get("day") != f"{now:%Y-%m-%d}":
                return None
            starts.append(Decimal(str(book.memory["equity_day_start_usd"])))
            equities.append(reading.state.equity_usd)
        # Asked each time: a deposit would hide a loss, as a withdrawal would look like one.
        self.moved = {name: self._moved_since_start_usd(name) for name in readings}
        return breakers.day_breaker(sum(equities, ZERO), sum(starts, ZERO), sum(self.moved.values(), ZERO), limits)

    def _moved_since_start_usd(self, name: str) -> Decimal:
        """Paid in less paid out since the day's first reading; what came before is in that reading."""
        started_at: datetime = self.books[name].memory["day_started_at"]
        return self.engine.venues.of(name).net_deposits_usd(name, started_at + timedelta(milliseconds=1))

    # -- records ---------------------------------------------------------------------------------

    def _record(self, foreign: dict[str, list[str]]) -> None:
        """Write the books that have news, and in turn the others' figures; of the pages what is news, else one."""
        plans: dict[str, Plan] = {}
        for name, book in self.books.items():
            self.attempt(partial(self._plan, plans, book, foreign.get(name, [])))
        pages = self._pages(plans)
        for name in self._written(plans, pages):
            (parts, memory), reading = plans[name], self.readings[name]
            memory["page_due"] = name not in pages and self._page_is_due(name, memory)
            if name in pages and reading:
                memory["page_equity_usd"] = memory["equity_usd"]
            beside = [page_write(memory, reading)] if name in pages else []
            self.attempt(partial(self._write_book, self.books[name], parts, memory, beside))

    def _note_requests(self, name: str) -> None:
        """Note how many requests the venue still takes for an account; when there are few a person has to know."""
        left, least = self.engine.venues.of(name).requests_left(name), self.engine.desk.limits.requests_left_min
        self.noted[name] = {"requests_left": left}
        if left is not None and left < least:
            summary = f"{name}: requests_left {left} < requests_left_min {least}: nothing is entered"
            self.engine.announce(EventKind.WARNED, summary, account=name)

    def _written(self, plans: dict[str, Plan], pages: set[str]) -> list[str]:
        """The accounts whose book is written: every sweep `BOOKS_A_SWEEP` at least, however many there are."""
        names = list(plans)
        wanted = {name for name, (parts, memory) in plans.items() if has_news(self.books[name], parts, memory)} | pages
        others = [name for name in _rotated(names, self._turn * BOOKS_A_SWEEP) if name not in wanted]
        wanted.update(others[: max(0, BOOKS_A_SWEEP - len(wanted))])
        return [name for name in names if name in wanted]

    def _plan(self, plans: dict[str, Plan], book: Book, foreign: list[str]) -> None:
        name, now = book.account, self.engine.now()
        parts = parts_of(book, (s for s in self.seen.values() if s.trade.main.account == name))
        reading = self.readings[name]
        if reading is None:
            carry_positions(book, parts)
            plans[name] = parts, memory_unread(book, now, self._turn)
            return
        own = own_figures(reading.state, partial(rules_if_listed, self.engine, name))
        self.own[name] = own
        fill_positions(book, parts, reading, self._owner_id, self._distance_at_entry, own.prices)
        beside = self.moved.get(name), self.noted.get(name)
        plans[name] = parts, memory_of(book, reading, foreign, parts, now, self._turn, own, *beside)

    def _pages(self, plans: dict[str, Plan]) -> set[str]:
        """The accounts whose page is written: those with news; else one, due or in its turn, when nothing else is."""
        news = {name for name, (_, memory) in plans.items() if page_is_news(self.books[name], memory)}
        if news or not plans or self._keys_to_note:
            return news
        names = _rotated(list(plans), self._turn // PAGE_EVERY)
        waiting = [name for name in names if self.books[name].memory.get("page_due")]
        if waiting or self.checked or any(part.taken_back for parts, _ in plans.values() for part in parts):
            return set(waiting[:1])
        due = [name for name in names if self._page_is_due(name, plans[name][1])]
        return set(due[:1]) or set(names[:1] if self._turn % PAGE_EVERY == 0 else ())

    def _page_is_due(self, name: str, memory: Document) -> bool:
        reading = self.readings[name]
        return reading is not None and page_is_due(self.books[name], memory, reading.positions)

    def _write_book(self, book: Book, parts: list[Part], memory: Document, beside: list[Write]) -> None:
        try:
            write_book(self.engine.store, book, parts, memory, beside)
        except Conflict:
            self.done.append("records were written by another sweep")

    def _owner_id(self, position: Position) -> str:
        holder = self._holder(position)
        return holder.trade_id if holder else ""

    def _distance_at_entry(self, position: Position) -> Decimal | None:
        holder = self._holder(position)
        legs: tuple[WatchedLeg, ...] = (holder.main, holder.hedge) if holder else ()
        place = (position.account, position.market)
        return next((g.entry_liquidation_distance for g in legs if (g.account, g.market) == place), None)

    def _measure(self, started: datetime) -> None:
        """A line for the sweep, two for each account, and one for the worst hedge."""
        for name, reading in self.readings.items():
            if reading and reading.state.margin_ratio is not None:
                measure("margin_ratio", reading.state.margin_ratio, account=name)
            if name in self.own and (error := self.own[name].error_percent) is not None:
                measure("liquidation_error_percent", error, account=name)
        drifts = [abs(drift) for trade in self.holders.values() if (drift := self._drift(trade)) is not None]
        if drifts:
            measure("hedge_drift_percent", max(drifts))
        measure("sweep_seconds", (self.engine.now() - started).total_seconds(), function="risk")

    def _drift(self, trade: Watched) -> Decimal | None:
        main, hedge = self.readings.get(trade.main.account), self.readings.get(trade.hedge.account)
        held = main.held(trade.main)[1] if main else None, hedge.held(trade.hedge)[1] if hedge else None
        return ladder.drift_percent(trade, held[0], held[1]) if held[0] and held[1] else None

    # -- FLATTEN ---------------------------------------------------------------------------------

    def _flat_yet(self) -> None:
        """FLATTEN ends in HALTED when nothing of ours is open and two reads at least 5 s apart find no position."""
        if self.book.desk()[0].open_trades:
            return
        for reading in range(2):
            for name in self.engine.desk.accounts:
                venue = self.engine.venues.of(name)
                entries = [o for o in venue.open_orders(name) if not o.reduce_only]
                self.strangers.cancel(name, entries)
                if entries or venue.account(name).positions:
                    return
            if reading == 0:
                self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
        control, version = self.engine.control()
        if control.state is not Halt.FLATTEN:
            return
        why = f"flat, read twice; was FLATTEN by {control.by}: {control.why}"
        data = document(Control(state=Halt.HALTED, why=why, by="risk", since=self.engine.now()))
        self.engine.store.batch([Replace("control", CONTROL_ID, data | {"summary": f"HALTED: {why}"}, version)])
        self.engine.announce(EventKind.HALTED, why)


Plan = tuple[list[Part], Document]
"""A book as it shall be: its documents, and what is remembered of the account."""
BOOKS_A_SWEEP = 2
"""Books whose figures are written each minute though nothing in them is news; with more accounts they take turns."""
PAGE_EVERY = 10
"""Every so many sweeps an account's page is written in its turn; in the others a trade's line is checked."""
SEVERITY = {Halt.ENABLED: 0, Halt.REDUCING: 1, Halt.FLATTEN: 3, Halt.HALTED: 2}


def _rotated(names: list[str], turn: int) -> list[str]:
    start = turn % len(names) if names else 0
    return [*names[start:], *names[:start]]


def _as_severe(current: Halt, wanted: Halt) -> bool:
    """Whether the present state already stops at least as much. HALTED yields to FLATTEN, not to REDUCING."""
    return SEVERITY[current] >= SEVERITY[wanted]
