"""on_sweep: each minute, reconcile what we recorded with what the venues hold, and protect it.

In this order: read every account; take up trades that rest between states; protect each open trade
(leg gone, stop missing, ladder, time and net limits); look for positions nobody recorded; breakers;
FLATTEN. One trade's or account's trouble never keeps the others from being looked after.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from twinleg.domain.control import CONTROL_ID, Control, Halt
from twinleg.domain.errors import Conflict, InvariantBroken, OutcomeUnknown, TwinlegError
from twinleg.domain.ids import account_market, client_order_id
from twinleg.domain.messages import EventKind
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import (
    AccountState,
    AckState,
    LegRole,
    OrderKind,
    OrderRequest,
    Position,
    Purpose,
    RestingOrder,
    Side,
)
from twinleg.domain.trades import ENDED, Leg, Trade, TradeState
from twinleg.engine.books import account_writes
from twinleg.engine.closing import why_gone
from twinleg.engine.legs import crossing_price, held, is_guarded, is_past_stop, read_leg, role_name, venue_of
from twinleg.engine.orderpath import BETWEEN_FINAL_READS_SECONDS
from twinleg.engine.pages import trade_document
from twinleg.engine.ports import AddMargin, CancelOrders, PlaceReduction, Replace, Stored
from twinleg.engine.records import document
from twinleg.engine.saga import Saga
from twinleg.engine.system import Engine
from twinleg.risk import breakers, ladder
from twinleg.risk.limits import Limits

log = logging.getLogger("twinleg")

UNREADABLE_SWEEPS_MAX = 3
"""An account that cannot be read this many sweeps in a row stops entries until a person resumes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One account as read in this sweep."""

    state: AccountState
    resting: tuple[RestingOrder, ...]
    mode: str


def on_sweep(engine: Engine) -> str:
    """One sweep; a line that says what was seen and done. Raises the first failure after everything was tried."""
    return Sweep(engine).run()


class Sweep:
    """One sweep over all accounts and trades."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.saga = Saga(engine)
        self.book = self.saga.book
        self.failures: list[TwinlegError] = []
        self.done: list[str] = []

    def run(self) -> str:
        control, _ = self.engine.control()
        accounts = {name: self.engine.store.get("accounts", name) for name in self.engine.desk.accounts}
        readings = {name: self._read(name) for name in self.engine.desk.accounts}
        for trade_id in self._trade_ids(readings):
            self._attempt(partial(self._look_after, trade_id, control, readings))
        if self.done:  # what was read before is no longer what is there
            readings = {name: self._read(name) for name in readings}
        for name, reading in readings.items():
            if reading is not None:
                self._attempt(partial(self._foreign, name, reading, accounts[name], control))
        self._attempt(lambda: self._breakers(control, readings, accounts))
        self._attempt(lambda: self._record(readings, accounts))
        if control.state is Halt.FLATTEN:
            self._attempt(self._flat_yet)
        if self.failures:
            raise self.failures[0]
        return "; ".join(self.done) or "nothing to do"

    def _attempt(self, step: Callable[[], None]) -> None:
        """Try a step. Whatever goes wrong in it, foreseen or not, keeps nothing else from being looked after."""
        try:
            step()
        except TwinlegError as failure:
            self.failures.append(failure)
        except Exception as surprise:
            where = "".join(traceback.format_tb(surprise.__traceback__))  # not its text, which may quote anything
            log.critical("a step of the sweep failed:\n%s%s", where, type(surprise).__name__)
            broken = InvariantBroken(f"a step of the sweep failed with {type(surprise).__name__}")
            broken.__cause__ = surprise
            self.failures.append(broken)

    def _trade_ids(self, readings: dict[str, Reading | None]) -> list[str]:
        """Every open trade: those listed, and those that own a position although no list names them (any more)."""
        listed: list[str] = []
        self._attempt(lambda: listed.extend(self.book.desk()[0].open_trades))
        positions = [p for reading in readings.values() if reading for p in reading.state.positions]
        return list(dict.fromkeys([*listed, *(owner for p in positions if (owner := self._owner(p)))]))

    def _read(self, name: str) -> Reading | None:
        venue = self.engine.venues.of(name)
        try:
            return Reading(venue.account(name), venue.open_orders(name), venue.mode(name))
        except TwinlegError as failure:
            self.failures.append(failure)
            return None

    # -- trades ----------------------------------------------------------------------------------

    def _look_after(self, trade_id: str, control: Control, readings: dict[str, Reading | None]) -> None:
        trade, version = self.book.load(trade_id)
        if trade.state in ENDED:
            return
        leaving = control.state is Halt.FLATTEN and trade.state in FLATTENED
        if trade.requests_waiting or not (leaving or trade.state in RESTING):
            self._take_up(trade)
            trade, version = self.book.load(trade_id)
            leaving = control.state is Halt.FLATTEN and trade.state in FLATTENED
            if not leaving:
                return
        if leaving:
            self._leave(trade, version, f"FLATTEN by {control.by}: {control.why}")
            return
        main, hedge = readings.get(trade.main.account), readings.get(trade.hedge.account)
        if main is None or hedge is None:
            self._guard(trade, version, readings)
            return
        self._protect(trade, version, main, hedge)

    def _take_up(self, trade: Trade) -> None:
        """Go on with a trade that rests between states; one that stays undecided too long is a person's."""
        self.done.append(f"took up {trade.trade_id} at {trade.state}")
        try:
            self.saga.advance(trade.trade_id)
        except OutcomeUnknown as unknown:
            limit = self.engine.limits(trade.intent.strategy).person_after_seconds
            if (self.engine.now() - trade.updated_at).total_seconds() > limit:
                self.saga.needs_a_person(*self.book.load(trade.trade_id), f"undecided for over {limit} s: {unknown}")
            raise

    def _protect(self, trade: Trade, version: str, main: Reading, hedge: Reading) -> None:
        """Each open trade, and each that waits for a person: nobody's absence keeps a leg from being protected."""
        if _sizes(trade, main, hedge) != (trade.main.size_open, trade.hedge.size_open):
            self._changed(trade, version)
            main_again, hedge_again = self._read(trade.main.account), self._read(trade.hedge.account)
            trade, version = self.book.load(trade.trade_id)
            if trade.state not in RESTING or main_again is None or hedge_again is None:
                return
            main, hedge = main_again, hedge_again
        if not any(_sizes(trade, main, hedge)):
            return
        self._attempt(partial(self._guard, trade, version, {trade.main.account: main, trade.hedge.account: hedge}))
        trade, version = self.book.load(trade.trade_id)
        if trade.state not in RESTING:
            return
        positions = held(trade.main, main.state)[1], held(trade.hedge, hedge.state)[1]
        equity = main.state.equity_usd + hedge.state.equity_usd
        limits = self.engine.limits(trade.intent.strategy)
        reason = (
            ladder.time_limit(trade, self.engine.now())
            or ladder.net_stop(trade, *positions, equity, limits)
            or ladder.net_target(trade, *positions, equity, limits)
            or ladder.hedge_drift(trade, *positions, limits)
        )
        if reason:
            self._leave(trade, version, reason)
            return
        self._climb(trade, version, positions, main.state, hedge.state, limits)

    def _climb(
        self,
        trade: Trade,
        version: str,
        positions: tuple[Position | None, Position | None],
        main: AccountState,
        hedge: AccountState,
        limits: Limits,
    ) -> None:
        """The protection ladder: warn, add margin, cut both legs in proportion, close both."""
        reading = ladder.rung_of(trade, *positions, limits)
        trade = trade.marked(*positions, self.engine.now())
        rung = ladder.Rung
        if reading.rung is rung.CLOSE or (reading.rung is rung.CUT and trade.state is TradeState.NEEDS_A_PERSON):
            self._leave(trade, version, f"ladder: {reading.reason}")
        elif reading.rung is rung.CUT:
            cut = trade.to(
                TradeState.REDUCING, why_closed=f"ladder cut: {reading.reason}", cut=True, rung=reading.rung.label,
                closing_fraction=limits.cut_percent / 100, sequence=trade.sequence + 1,
            )  # fmt: skip
            self.book.write(trade, version, cut)
            self.saga.advance(trade.trade_id)
            self.done.append(f"cut {trade.trade_id}")
        elif reading.rung is rung.MARGIN and not trade.margin_added:
            role = reading.leg or LegRole.MAIN
            position = positions[0] if role is LegRole.MAIN else positions[1]
            self._add_margin(trade, version, role, position, main if role is LegRole.MAIN else hedge, limits)
        elif reading.rung.label != trade.rung:
            self.book.write(trade, version, trade.model_copy(update={"rung": reading.rung.label}))
            if reading.rung is not rung.NONE:
                self._say(EventKind.WARNED, trade, reading.reason)

    def _add_margin(
        self,
        trade: Trade,
        version: str,
        role: LegRole,
        position: Position | None,
        state: AccountState,
        limits: Limits,
    ) -> None:
        leg = trade.leg(role)
        rules = venue_of(self.engine, leg).rules(leg.market)
        usd = ladder.margin_to_add_usd(position, rules, limits, state.free_usd) if position else ZERO
        added = trade.model_copy(update={"margin_added": True, "rung": ladder.Rung.MARGIN.label})
        if usd <= 0:
            self.book.write(trade, version, added)
            self._say(EventKind.WARNED, trade, f"{role_name(role)}: no free collateral to add")
            return
        record = self.book.path.perform(
            AddMargin(leg.account, leg.market, usd),
            trade_id=trade.trade_id,
            claim=lambda _: [Replace("trades", trade.trade_id, trade_document(added), version)],
        )
        self._say(EventKind.MARGIN_ADDED, trade, f"{plain(usd)} USD to the {role_name(role)}: {record.state}")
        self.done.append(f"added margin to {trade.trade_id}")

    def _leave(self, trade: Trade, version: str, reason: str) -> None:
        self.book.write(trade, version, trade.to(TradeState.CLOSING, why_closed=reason))
        self.saga.advance(trade.trade_id)
        self.done.append(f"closed {trade.trade_id}: {reason}")

    def _changed(self, trade: Trade, version: str) -> None:
        """A leg is not what the record says: read its fills; when it is gone, close the other."""
        noted = trade
        gone = False
        for role in LegRole:
            leg, size, _ = read_leg(self.engine, trade, trade.leg(role))
            if size == 0 and leg.size_open != 0:
                leg = self.saga.closing.explained(noted, leg)
            elif leg.size_open != size:
                leg = self._adopted(trade, role, size)
            gone = gone or leg.size_open == 0
            noted = noted.with_leg(leg)
        if gone:
            why = why_gone(noted) or "a leg is gone"
            self.book.write(trade, version, noted.to(TradeState.CLOSING, why_closed=why))
            self.saga.advance(trade.trade_id)
            self.done.append(f"closed {trade.trade_id}: {why}")
        elif noted != trade:
            self.book.write(trade, version, noted)
            self._say(EventKind.CORRECTED, trade, "sizes corrected to what the venue holds")

    def _adopted(self, trade: Trade, role: LegRole, size: Decimal) -> Leg:
        """The leg with what the venue holds, believed when two reads at least 5 s apart agree (TRUTH)."""
        self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
        leg, again, _ = read_leg(self.engine, trade, trade.leg(role))
        if again != size or leg.size_open == again:
            return leg
        return leg.model_copy(update={"size_closed": leg.size_filled - again})

    def _guard(self, trade: Trade, version: str, readings: dict[str, Reading | None]) -> None:
        """Re-arm every stop that should rest at the venue and does not. Where none can rest, the trade is left.

        A stop that fired and found nobody to trade with is spent, and the venue takes no other at a price the mark
        has passed; nor may a leg stay open where the venue refuses its stop.
        """
        for role in LegRole:
            leg = trade.leg(role)
            reading = readings.get(leg.account)
            if reading is None or leg.size_open == 0 or is_guarded(leg, reading.resting):
                continue
            position = held(leg, reading.state)[1]
            if position is None:
                continue
            refused = f"its stop at {plain(leg.stop_price)} does not rest at the venue"
            if not is_past_stop(leg, position.mark_price):
                self.saga.closing.place_guards(trade, version, trade, leg)
                trade, version = self.book.load(trade.trade_id)
                stop = trade.leg(role).placed(Purpose.STOP)
                if stop and stop.state in (AckState.WAITING, AckState.RESTING):
                    self._say(
                        EventKind.PROTECTED, trade, f"{role_name(role)}: its stop was missing and is placed again"
                    )
                    self.done.append(f"re-armed {trade.trade_id}")
                    continue
                refused = f"{refused} and is refused: {stop.reason if stop else 'no answer'}"
            self._leave(trade, version, f"{role_name(role)}: {refused}, mark {plain(position.mark_price)}")
            return

    def _say(self, kind: EventKind, trade: Trade, summary: str) -> None:
        self.engine.announce(kind, summary, trade_id=trade.trade_id, market=trade.main.market)

    # -- orphans ---------------------------------------------------------------------------------

    def _foreign(self, name: str, reading: Reading, account: Stored | None, control: Control) -> None:
        """Positions nobody recorded: said once, and closed when the person chose so (or under FLATTEN)."""
        found = [p for p in reading.state.positions if not self._owned(p)]
        known = set(account.data.get("foreign", [])) if account else set()
        for position in found:
            if position.market not in known:
                self.engine.announce(
                    EventKind.ORPHAN,
                    f"{name} holds {plain(position.size)} {position.market} that no trade of ours owns",
                    account=name,
                    market=position.market,
                )
            if self.engine.desk.limits.foreign == "close" or control.state is Halt.FLATTEN:
                self._close_orphan(name, position)

    def _owned(self, position: Position) -> bool:
        return bool(self._owner(position))

    def _owner(self, position: Position) -> str:
        """The id of the trade that holds the position's slot; empty when none does."""
        slot = self.engine.store.get("positions", account_market(position.account, position.market))
        return str(slot.data.get("owner") or "") if slot else ""

    def _close_orphan(self, name: str, position: Position) -> None:
        """Close a position nobody owns, after a second read agrees that it is there and still nobody's."""
        venue = self.engine.venues.of(name)
        self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
        again = venue.account(name).position(position.market)
        if again is None or again.size != position.size or self._owned(again):
            return
        side = Side.SELL if again.size > 0 else Side.BUY
        limits = self.engine.desk.limits
        price = crossing_price(venue.rules(again.market), again.mark_price, side, limits.close_slippage_bps)
        tag = f"orphan:{name}:{again.market}:{self.engine.now().isoformat()}"
        order = OrderRequest(
            client_order_id=client_order_id(tag, "orphan", Purpose.ORPHAN.value, 1, 1),
            market=again.market,
            side=side,
            size=abs(again.size),
            limit_price=price,
            kind=OrderKind.MARKET,
            reduce_only=True,
        )
        self.book.path.perform(PlaceReduction(name, (order,)), trade_id=tag, claim=lambda _: [])
        self.done.append(f"closed an orphan of {name}")

    # -- breakers and records --------------------------------------------------------------------

    def _breakers(
        self, control: Control, readings: dict[str, Reading | None], accounts: dict[str, Stored | None]
    ) -> None:
        now = self.engine.now()
        trip = self._unreadable(readings, accounts) or self._day_loss(now, readings, accounts)
        if trip is None or _as_severe(control.state, trip.state):
            return
        if control.state is Halt.HALTED and not self.book.desk()[0].open_trades:
            return  # halted and flat already: the day's loss stays what it is
        if all(readings.values()):  # a loss is believed when a second reading shows it too (TRUTH)
            self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
            trip = self._day_loss(now, {name: self._read(name) for name in readings}, accounts)
            if trip is None or _as_severe(control.state, trip.state):
                return
        control, version = self.engine.control()
        if _as_severe(control.state, trip.state):
            return  # somebody was quicker, and severer, while the accounts were read again
        data = document(Control(state=trip.state, why=trip.reason, by="risk", since=now))
        summary = {"summary": f"{trip.state}: {trip.reason}"}
        self.engine.store.batch([Replace("control", CONTROL_ID, data | summary, version)])
        self.engine.announce(EventKind.BREAKER, f"{control.state} -> {trip.state}: {trip.reason}")

    def _unreadable(
        self, readings: dict[str, Reading | None], accounts: dict[str, Stored | None]
    ) -> breakers.BreakerTripped | None:
        for name, reading in readings.items():
            stored = accounts[name]
            missed = int(stored.data.get("unreadable_sweeps", 0)) + 1 if stored else 1
            if reading is None and missed >= UNREADABLE_SWEEPS_MAX:
                return breakers.BreakerTripped(Halt.REDUCING, f"{name} could not be read for {missed} sweeps")
        return None

    def _day_loss(
        self, now: datetime, readings: dict[str, Reading | None], accounts: dict[str, Stored | None]
    ) -> breakers.BreakerTripped | None:
        limits = self.engine.desk.limits
        starts: list[Decimal] = []
        equities: list[Decimal] = []
        for name, reading in readings.items():
            stored = accounts[name]
            if reading is None or reading.mode != "disabled":
                return None  # in another mode the equity of perpetuals is not the account's: unreadable is no loss
            if stored is None or stored.data.get("day") != f"{now:%Y-%m-%d}":
                return None
            starts.append(Decimal(str(stored.data["equity_day_start_usd"])))
            equities.append(reading.state.equity_usd)
        # Asked each time: a deposit would hide a loss, as a withdrawal would look like one.
        moved = sum((self._moved_since_start_usd(n, accounts[n]) for n in readings), ZERO)
        return breakers.day_breaker(sum(equities, ZERO), sum(starts, ZERO), moved, limits)

    def _moved_since_start_usd(self, name: str, account: Stored | None) -> Decimal:
        """Paid in less paid out since the day's first reading; what came before is in that reading."""
        started_at = account.data["day_started_at"] if account else self.engine.now()
        return self.engine.venues.of(name).net_deposits_usd(name, started_at + timedelta(milliseconds=1))

    def _record(self, readings: dict[str, Reading | None], accounts: dict[str, Stored | None]) -> None:
        """Write what a person reads: accounts, books and the positions that changed."""
        trades: list[Trade] = []
        for trade_id in self._trade_ids(readings):
            self._attempt(partial(lambda id: trades.append(self.book.load(id)[0]), trade_id))
        try:
            for name, stored in accounts.items():
                reading = readings[name]
                state = reading.state if reading else None
                resting = reading.resting if reading else ()
                mode = reading.mode if reading else ""
                self.engine.store.batch(account_writes(self.engine, name, state, resting, mode, trades, stored))
        except Conflict:
            self.done.append("records were written by another sweep")

    def _flat_yet(self) -> None:
        """FLATTEN ends in HALTED when nothing of ours is open and two reads at least 5 s apart find no position."""
        if self.book.desk()[0].open_trades:
            return
        for reading in range(2):
            for name in self.engine.desk.accounts:
                venue = self.engine.venues.of(name)
                entries = [o for o in venue.open_orders(name) if not o.reduce_only]
                self._cancel_entries(name, entries)
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

    def _cancel_entries(self, name: str, entries: list[RestingOrder]) -> None:
        """Cancel what could still open a position, whoever placed it."""
        for market in dict.fromkeys(order.market for order in entries):
            ids = tuple(order.order_id for order in entries if order.market == market)
            tag = f"flatten:{name}:{market}"
            self.book.path.perform(CancelOrders(name, market, order_ids=ids), trade_id=tag, claim=lambda _: [])
            self.done.append(f"cancelled {len(ids)} entries of {name}")


def _sizes(trade: Trade, main: Reading, hedge: Reading) -> tuple[Decimal, Decimal]:
    return held(trade.main, main.state)[0], held(trade.hedge, hedge.state)[0]


RESTING = frozenset({TradeState.OPEN, TradeState.NEEDS_A_PERSON})
"""States that nothing takes further by itself: what is open then is protected."""
FLATTENED = frozenset({TradeState.OPEN, TradeState.REDUCING, TradeState.NEEDS_A_PERSON})
"""States that FLATTEN turns into CLOSING; from the others a trade goes there by itself."""
SEVERITY = {Halt.ENABLED: 0, Halt.REDUCING: 1, Halt.FLATTEN: 3, Halt.HALTED: 2}


def _as_severe(current: Halt, wanted: Halt) -> bool:
    """Whether the present state already stops at least as much. HALTED yields to FLATTEN, not to REDUCING."""
    return SEVERITY[current] >= SEVERITY[wanted]
