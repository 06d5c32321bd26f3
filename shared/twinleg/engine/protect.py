"""Looking after one open trade: legs that are gone, stops that are missing, the ladder and the other ways out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from twinleg.domain.control import Control, Halt
from twinleg.domain.errors import OutcomeUnknown
from twinleg.domain.messages import EventKind
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import AccountState, AckState, LegRole, Position, Purpose
from twinleg.domain.trades import ENDED, Leg, Trade, TradeState
from twinleg.domain.watched import Watched
from twinleg.engine.closing import why_gone
from twinleg.engine.legs import is_past_stop, read_leg, role_name, venue_of
from twinleg.engine.orderpath import BETWEEN_FINAL_READS_SECONDS
from twinleg.engine.pages import trade_document
from twinleg.engine.ports import AddMargin, Replace
from twinleg.engine.saga import Saga
from twinleg.engine.system import Engine
from twinleg.engine.watch import RESTING, Positions, Reading, Readings, is_alone, reason_to_leave, sizes, unguarded
from twinleg.risk import ladder
from twinleg.risk.limits import Limits

MARGIN_SEEN_SECONDS = 20
"""How long after margin was moved the ladder waits for it to be seen before it cuts: it runs within 15 s or never."""

FLATTENED = frozenset({TradeState.OPEN, TradeState.REDUCING, TradeState.NEEDS_A_PERSON})
"""States that FLATTEN turns into CLOSING; from the others a trade goes there by itself."""


@dataclass(frozen=True, slots=True)
class Protection:
    """Looks after trades, one at a time, from their records."""

    engine: Engine
    saga: Saga
    read: Callable[[str], Reading | None]
    """Reads an account again."""
    attempt: Callable[[Callable[[], None]], None]
    """Tries a step, so that its failure keeps nothing else from being looked after."""
    limits: Callable[[Watched, Readings], Limits]
    """A trade's limits, as its markets move now."""
    done: list[str]
    """What was done, in words."""

    def look_after(self, trade_id: str, control: Control, readings: Readings) -> None:
        """Do whatever the trade needs now."""
        trade, version = self.saga.book.load(trade_id)
        if trade.state in ENDED:
            return
        leaving = control.state is Halt.FLATTEN and trade.state in FLATTENED
        if trade.requests_waiting or not (leaving or trade.state in RESTING):
            self._take_up(trade)
            trade, version = self.saga.book.load(trade_id)
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
            limit = self.engine.limits(trade.strategy).person_after_seconds
            if (self.engine.now() - trade.updated_at).total_seconds() > limit:
                self.saga.needs_a_person(
                    *self.saga.book.load(trade.trade_id), f"undecided for over {limit} s: {unknown}"
                )
            raise

    def _protect(self, trade: Trade, version: str, main: Reading, hedge: Reading) -> None:
        """Each open trade, and each that waits for a person: nobody's absence keeps a leg from being protected."""
        if sizes(trade, main, hedge) != (trade.main.size_open, trade.hedge.size_open):
            self._changed(trade, version)
            main_again, hedge_again = self.read(trade.main.account), self.read(trade.hedge.account)
            trade, version = self.saga.book.load(trade.trade_id)
            if trade.state not in RESTING or main_again is None or hedge_again is None:
                return
            main, hedge = main_again, hedge_again
        if is_alone(trade):
            self._leave(trade, version, why_gone(trade) or "a leg is gone")
            return
        if not any(sizes(trade, main, hedge)):
            return
        found = {trade.main.account: main, trade.hedge.account: hedge}
        self.attempt(lambda: self._guard(trade, version, found))
        trade, version = self.saga.book.load(trade.trade_id)
        if trade.state not in RESTING:
            return
        positions = main.held(trade.main)[1], hedge.held(trade.hedge)[1]
        limits = self.limits(trade, found)
        equity = main.state.equity_usd + hedge.state.equity_usd
        reason = reason_to_leave(trade, positions, equity, self.engine.now(), limits)
        if reason:
            self._leave(trade, version, reason)
            return
        self._climb(trade, version, positions, main.state, hedge.state, limits)

    def _climb(
        self,
        trade: Trade,
        version: str,
        positions: Positions,
        main: AccountState,
        hedge: AccountState,
        limits: Limits,
    ) -> None:
        """The protection ladder: warn, add margin, cut both legs in proportion, close both."""
        reading = ladder.rung_of(trade, *positions, limits)
        step = ladder.step_of(trade, reading)
        trade = trade.marked(*positions, self.engine.now())
        if step is ladder.Step.CLOSE:
            self._leave(trade, version, f"ladder: {reading.reason}")
        elif step is ladder.Step.CUT and self._margin_is_on_its_way(trade):
            return
        elif step is ladder.Step.CUT:
            cut = trade.to(
                TradeState.REDUCING, why_closed=f"ladder cut: {reading.reason}", cut=True, rung=reading.rung.label,
                closing_fraction=limits.cut_percent / 100, sequence=trade.sequence + 1,
            )  # fmt: skip
            self.saga.book.write(trade, version, cut)
            self.saga.advance(trade.trade_id)
            self.done.append(f"cut {trade.trade_id}")
        elif step is ladder.Step.MARGIN:
            role = reading.leg or LegRole.MAIN
            position = positions[0] if role is LegRole.MAIN else positions[1]
            state = main if role is LegRole.MAIN else hedge
            self._add_margin(trade, version, role, position, state, limits, reading.reason)
        elif step is ladder.Step.NOTE:
            self.saga.book.write(trade, version, trade.model_copy(update={"rung": reading.rung.label}))
            if reading.rung is not ladder.Rung.NONE:
                self._say(EventKind.WARNED, trade, reading.reason)

    def _margin_is_on_its_way(self, trade: Trade) -> bool:
        """Whether margin was moved a moment ago, maybe by another sweep: what was read may be from before it."""
        age = (self.engine.now() - trade.updated_at).total_seconds()
        return trade.rung == ladder.Rung.MARGIN.label and age < MARGIN_SEEN_SECONDS

    def _add_margin(
        self,
        trade: Trade,
        version: str,
        role: LegRole,
        position: Position | None,
        state: AccountState,
        limits: Limits,
        reason: str,
    ) -> None:
        leg = trade.leg(role)
        rules = venue_of(self.engine, leg).rules(leg.market)
        usd = ladder.margin_to_add_usd(position, rules, limits, state.free_usd) if position else ZERO
        now = self.engine.now()
        added = trade.model_copy(update={"margin_added": True, "rung": ladder.Rung.MARGIN.label, "updated_at": now})
        if usd <= 0:
            self.saga.book.write(trade, version, added)
            self._say(EventKind.WARNED, trade, f"{role_name(role)}: no free collateral to add ({reason})")
            return
        record = self.saga.book.path.perform(
            AddMargin(leg.account, leg.market, usd),
            trade_id=trade.trade_id,
            claim=lambda _: [Replace("trades", trade.trade_id, trade_document(added), version)],
        )
        said = f"{plain(usd)} USD to the {role_name(role)}: {record.state} ({reason})"
        self._say(EventKind.MARGIN_ADDED, trade, said)
        self.done.append(f"added margin to {trade.trade_id}")

    def _leave(self, trade: Trade, version: str, reason: str) -> None:
        self.saga.book.write(trade, version, trade.to(TradeState.CLOSING, why_closed=reason))
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
            self.saga.book.write(trade, version, noted.to(TradeState.CLOSING, why_closed=why))
            self.saga.advance(trade.trade_id)
            self.done.append(f"closed {trade.trade_id}: {why}")
        elif noted != trade:
            self.saga.book.write(trade, version, noted)
            self._say(EventKind.CORRECTED, trade, "sizes corrected to what the venue holds")

    def _adopted(self, trade: Trade, role: LegRole, size: Decimal) -> Leg:
        """The leg with what the venue holds, believed when two reads at least 5 s apart agree (TRUTH)."""
        self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
        leg, again, _ = read_leg(self.engine, trade, trade.leg(role))
        if again != size or leg.size_open == again:
            return leg
        return leg.model_copy(update={"size_closed": leg.size_filled - again})

    def _guard(self, trade: Trade, version: str, readings: Readings) -> None:
        """Re-arm every stop that should rest at the venue and does not. Where none can rest, the trade is left.

        A stop that fired and found nobody to trade with is spent, and the venue takes no other at a price the mark
        has passed; nor may a leg stay open where the venue refuses its stop.
        """
        for role in LegRole:
            leg = trade.leg(role)
            position = unguarded(leg, readings.get(leg.account))
            if position is None:
                continue
            refused = f"its stop at {plain(leg.stop_price)} does not rest at the venue"
            if not is_past_stop(leg, position.mark_price):
                self.saga.closing.place_guards(trade, version, trade, leg)
                trade, version = self.saga.book.load(trade.trade_id)
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
