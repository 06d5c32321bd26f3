"""The two-leg saga: how an intent becomes a trade with both legs, or none.

    PROPOSED → APPROVED → MAIN_SENT → MAIN_FILLED_UNHEDGED → HEDGE_SENT → OPEN
                  ↓           ↓                ↓                  ↓
               REFUSED     REFUSED         UNWINDING  ←────── UNWINDING → CLOSED

Each step is claimed by compare-and-set on the trade's version and derived from the record alone, so a
process that dies anywhere is resumed by whoever reads the trade next: a redelivered message, or the sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from twinleg.domain.control import Control, Halt
from twinleg.domain.errors import Conflict, OutcomeUnknown, Unavailable
from twinleg.domain.messages import EventKind, HedgedIntent
from twinleg.domain.money import plain
from twinleg.domain.orders import (
    AckState,
    Grouping,
    LegRole,
    OrderKind,
    OrderRequest,
    Purpose,
    Side,
)
from twinleg.domain.trades import Leg, PlacedOrder, Trade, TradeState
from twinleg.engine.closing import Closing, asked_to_leave
from twinleg.engine.gate_words import gate_saw
from twinleg.engine.keys import keys_expire_at, own_key, own_key_expires_at
from twinleg.engine.legs import (
    confirmed_leg,
    crossing_price,
    guards,
    is_guarded,
    role_name,
    venue_of,
)
from twinleg.engine.orderpath import ActionRecord, ActionState, order_report
from twinleg.engine.ports import Check, SetLeverage, Write
from twinleg.engine.survey import survey, unresolved_actions
from twinleg.engine.system import Engine
from twinleg.engine.trade_figures import tell_filled, tell_opened
from twinleg.engine.tradebook import TradeBook, order_id_for
from twinleg.risk.approval import ApprovedLeg, Refused
from twinleg.risk.gate import approved_again, review
from twinleg.risk.limits import Limits

STEPS_MAX = 60
CONFLICTS_MAX = 8
ENTRY_ATTEMPTS_MAX = 2
GUARD_ATTEMPTS_MAX = 3


class Saga:
    """Advances trades. One instance per invocation."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.book = TradeBook(engine)
        self.closing = Closing(engine, self.book)
        self._steps: dict[TradeState, Callable[[Trade, str], None]] = {
            TradeState.PROPOSED: self._review,
            TradeState.APPROVED: self._send_main,
            TradeState.MAIN_SENT: self._confirm_main,
            TradeState.MAIN_FILLED_UNHEDGED: self._send_hedge,
            TradeState.HEDGE_SENT: self._confirm_hedge,
            TradeState.REDUCING: self.closing.cut,
            TradeState.CLOSING: self.closing.close,
            TradeState.UNWINDING: self.closing.close,
        }

    def advance(self, trade_id: str) -> Trade:
        """Take every step that can be taken now; the trade as it then rests.

        Raises OutcomeUnknown or Unavailable when a step could not be decided: deliver again, or let the
        sweep go on. Nothing is lost by calling it twice, or from two places at once.
        """
        conflicts = 0
        for _ in range(STEPS_MAX):
            trade, version = self.book.load(trade_id)
            step = self._steps.get(trade.state)
            if trade.state in (TradeState.OPEN, TradeState.NEEDS_A_PERSON) and trade.requests_waiting:
                step = self._honour
            if step is None:
                return trade
            try:
                step(trade, version)
            except Conflict:
                conflicts += 1
                if conflicts > CONFLICTS_MAX:
                    raise
        raise Unavailable(f"trade {trade_id}: still {trade.state} after {STEPS_MAX} steps")

    # -- PROPOSED --------------------------------------------------------------------------------

    def _review(self, trade: Trade, version: str) -> None:
        late = self._no_more(trade)
        if late:  # known without asking a venue, which may not answer for as long
            return self._refuse(trade, version, *late)
        control, control_version = self.engine.control()
        desk, desk_version = self.book.desk()
        keys = {leg.account: own_key(self.engine, leg.account) for leg in trade.legs}
        waiting = unresolved_actions(self.engine, self.book.path, trade)
        expiries = keys_expire_at(self.engine, keys)
        book = survey(self.engine, trade, control, desk, self.book.slots(trade), expiries, waiting)
        verdict, saw = review(trade.intent, book), gate_saw(trade.intent, book)
        if isinstance(verdict, Refused):
            return self._refuse(trade, version, verdict.code, verdict.reason, saw)
        approved = trade.to(
            TradeState.APPROVED,
            main=_approved_leg(trade.main, verdict.main),
            hedge=_approved_leg(trade.hedge, verdict.hedge),
        )
        now = self.engine.now()
        counted = desk.model_copy(
            update={"open_trades": [*desk.open_trades, trade.trade_id], "entries": [*desk.entries, now]}
        )
        self.book.write(
            trade,
            version,
            approved,
            *self.book.slot_writes(trade, trade.trade_id),
            self.book.desk_write(counted, desk_version),
            Check("control", "trading", control_version),
            self.book.intent_status(trade, "approved", verdict.reason, saw),
            *keys.values(),
        )
        self.engine.announce(
            EventKind.APPROVED,
            verdict.reason,
            trade_id=trade.trade_id,
            market=trade.main.market,
            account=trade.main.account,
        )
        return None

    def _refuse(self, trade: Trade, version: str, code: str, reason: str, saw: str = "") -> None:
        """End a trade that holds nothing, giving back what it claimed."""
        writes: list[Write] = [self.book.intent_status(trade, f"refused: {code}", reason, saw)]
        if trade.state is not TradeState.PROPOSED:
            desk, desk_version = self.book.desk()
            left = desk.model_copy(update={"open_trades": [t for t in desk.open_trades if t != trade.trade_id]})
            writes += [*self.book.slot_writes(trade, ""), self.book.desk_write(left, desk_version)]
        ended = trade.to(TradeState.REFUSED, why_closed=f"{code}: {reason}", closed_at=self.engine.now())
        self.book.write(trade, version, ended, *writes)
        self.engine.announce(EventKind.REFUSED, f"{code}: {reason}", trade_id=trade.trade_id, market=trade.main.market)

    # -- APPROVED --------------------------------------------------------------------------------

    def _send_main(self, trade: Trade, version: str) -> None:
        control, control_version = self.engine.control()
        stale = self._stale(trade, control)
        if stale:
            return self._refuse(trade, version, *stale)
        for leg in trade.legs:
            mismatch = self._set_leverage(trade, version, leg)
            if mismatch:
                return self._refuse(trade, version, "leverage", mismatch)
        self._place_entry(
            trade,
            version,
            trade.main,
            trade.to(TradeState.MAIN_SENT),
            self._main_price(trade),
            trade.main.size_approved,
            Check("control", "trading", control_version),
        )
        return None

    def _main_price(self, trade: Trade) -> Decimal:
        """A market entry may pay up to the approved limit; a limit entry waits at the mark, never beyond that limit."""
        main = trade.main
        if trade.intent.order_kind is OrderKind.MARKET:
            return main.entry_limit_price
        venue = venue_of(self.engine, main)
        at_mark = crossing_price(
            venue.rules(main.market), venue.snapshot(main.market).mark_price, main.side, Decimal(0)
        )
        return min(at_mark, main.entry_limit_price) if main.side is Side.BUY else max(at_mark, main.entry_limit_price)

    def _stale(self, trade: Trade, control: Control) -> tuple[str, str] | None:
        """FRESH and HALT, asked again right before the first order that adds exposure."""
        if control.state is not Halt.ENABLED:
            return "halted", f"trading is {control.state}: {control.why}"
        return self._no_more(trade) or self._key_expiry(trade)

    def _key_expiry(self, trade: Trade) -> tuple[str, str] | None:
        """A key that was replaced since the gate asked may expire before the trade has to end."""
        until = self.engine.now() + timedelta(seconds=trade.intent.holding_seconds_max)
        for leg in trade.legs:
            expires_at = own_key_expires_at(self.engine, leg.account)
            if expires_at is not None and expires_at < until:
                text = f"{leg.account}: the key expires {expires_at.isoformat()}, before {until.isoformat()}"
                return "key_expiry", text
        return None

    def _no_more(self, trade: Trade) -> tuple[str, str] | None:
        """Why an entry that was wanted is wanted no more."""
        if trade.asked_to_end:
            return "asked_to_close", trade.asked_to_end
        now = self.engine.now()
        if now > trade.intent.expires_at:
            return "expired", f"now {now.isoformat()} is past the intent's expiry {trade.intent.expires_at.isoformat()}"
        return None

    def _set_leverage(self, trade: Trade, version: str, leg: Leg) -> str | None:
        """Set leverage and isolated margin and read them back; the mismatch, if there is one."""
        venue = venue_of(self.engine, leg)
        wanted = (leg.leverage, True)
        if venue.leverage(leg.account, leg.market) == wanted:
            return None
        record = self.book.path.perform(
            SetLeverage(leg.account, leg.market, leg.leverage, True),
            trade_id=trade.trade_id,
            claim=lambda _: [Check("trades", trade.trade_id, version)],
        )
        found = venue.leverage(leg.account, leg.market)
        if found == wanted:
            return None
        return (
            f"{role_name(leg.role)}: asked for {leg.leverage}x isolated on {leg.account} {leg.market}, "
            f"read back {found[0]}x {'isolated' if found[1] else 'cross'} ({record.reason or record.state})"
        )

    def _place_entry(
        self, trade: Trade, version: str, leg: Leg, after: Trade, price: Decimal, size: Decimal, *more: Write
    ) -> None:
        sequence = trade.sequence + 1
        attempt = 1 + sum(o.purpose is Purpose.ENTRY for o in leg.orders)
        rules = venue_of(self.engine, leg).rules(leg.market)
        entry = OrderRequest(
            client_order_id=order_id_for(trade, leg.role, Purpose.ENTRY, sequence, attempt),
            market=leg.market,
            side=leg.side,
            size=size,
            limit_price=price,
            kind=trade.intent.order_kind if leg.role is LegRole.MAIN else OrderKind.MARKET,
            reduce_only=False,
        )
        self.book.place(
            trade,
            version,
            after.model_copy(update={"sequence": sequence}),
            leg,
            (entry, *guards(trade, leg, rules, size, sequence, attempt)),
            (Purpose.ENTRY, Purpose.STOP, Purpose.TARGET),
            sequence=sequence,
            attempt=attempt,
            grouping=Grouping.WITH_PARENT,
            approved=approved_again(after),
            more=more,
        )

    # -- MAIN_SENT -------------------------------------------------------------------------------

    def _confirm_main(self, trade: Trade, version: str) -> None:
        record = self._entry_outcome(trade.main)
        if record.state is ActionState.VANISHED:
            return self.needs_a_person(trade, version, f"the main order arrived and left no trace ({record.id})")
        if record.state is ActionState.NEVER_RAN and self._retry_main(trade, version):
            return None
        noted = self.book.noted(trade)
        entry = noted.main.placed(Purpose.ENTRY)
        assert entry is not None
        if entry.kind is OrderKind.LIMIT and not self._is_over(noted, entry):
            return self._wait_for_limit(noted, version, trade)
        try:
            leg, position = confirmed_leg(self.engine, noted, noted.main)
        except OutcomeUnknown as unknown:
            if (self.engine.now() - trade.updated_at).total_seconds() > self._limits(trade).hedge_seconds_max:
                return self._unwind(trade, version, f"the main leg could not be confirmed in time: {unknown}", noted)
            return None
        if leg.size_filled == 0:
            report = None if entry.reason else order_report(self.engine, leg.account, entry.client_order_id)
            why = entry.reason or (f"nothing filled: {report.status}" if report else "nothing filled")
            return self._refuse(noted.with_leg(leg), version, "main_rejected", why)
        # It may have stood alone since its order was written (or its remainder cancelled), whoever reads this when.
        filled = noted.with_leg(
            leg.model_copy(
                update={"entry_liquidation_distance": position.liquidation_distance if position else None}
            ).marked(position, self.engine.now())
        ).to(TradeState.MAIN_FILLED_UNHEDGED, unhedged_since=trade.updated_at)
        self.book.write(trade, version, filled)
        tell_filled(filled, self.engine.now())
        self.engine.announce(
            EventKind.MAIN_FILLED,
            f"{leg.side} {plain(leg.size_filled)} of {plain(leg.size_approved)} {leg.market} at {leg.entry_price:.6g}",
            trade_id=trade.trade_id,
            market=leg.market,
            account=leg.account,
        )
        return None

    def _entry_outcome(self, leg: Leg) -> ActionRecord:
        entry = leg.placed(Purpose.ENTRY)
        if entry is None:
            raise Unavailable(f"{leg.role} has no entry order")
        return self.book.path.outcome(entry.action_id)

    def _retry_main(self, trade: Trade, version: str) -> bool:
        """The first order provably never ran: another, under its own client order id, while the intent is fresh."""
        control, control_version = self.engine.control()
        tried = sum(o.purpose is Purpose.ENTRY for o in trade.main.orders)
        if tried >= ENTRY_ATTEMPTS_MAX or self._stale(trade, control):
            return False
        noted = self.book.noted(trade)
        self._place_entry(
            noted,
            version,
            noted.main,
            noted,
            self._main_price(noted),
            noted.main.size_approved,
            Check("control", "trading", control_version),
        )
        return True

    def _wait_for_limit(self, noted: Trade, version: str, before: Trade) -> None:
        """A resting entry lives a bounded time in one invocation, while trading goes on; then it is cancelled."""
        leg, clock = noted.main, self.engine.clock
        entry = leg.placed(Purpose.ENTRY)
        assert entry is not None
        deadline = limit_entry_ends(noted, self._limits(noted))
        while clock.now() < deadline and self._still_wanted(noted) and not self._is_over(noted, entry):
            clock.sleep(1.0)
        if not self._is_over(noted, entry):
            self.book.cancel(before, version, leg, [entry.client_order_id])
            before, version = self.book.load(noted.trade_id)
            if before.state is not TradeState.MAIN_SENT:  # another delivery was first, and took it further
                return
            noted = self.book.noted(before)
            leg = noted.main
            entry = leg.placed(Purpose.ENTRY)
            assert entry is not None
        report = order_report(self.engine, leg.account, entry.client_order_id)
        if report is None or report.state in (AckState.RESTING, AckState.WAITING):
            raise OutcomeUnknown(f"trade {noted.trade_id}: the limit entry is not terminal yet")
        settled = leg.with_order(entry.model_copy(update={"state": report.state, "reason": report.status}))
        self.book.write(before, version, noted.with_leg(settled).model_copy(update={"sequence": noted.sequence + 1}))

    def _still_wanted(self, trade: Trade) -> bool:
        return self.engine.control()[0].state is Halt.ENABLED and not self.book.load(trade.trade_id)[0].asked_to_end

    def _is_over(self, trade: Trade, entry: PlacedOrder) -> bool:
        """Whether a limit entry cannot fill any more.

        That it is not among the resting orders proves nothing: the list may be older than the order. What its own
        status says is final once it says so, however old that answer is.
        """
        if entry.state in (AckState.REJECTED, AckState.CANCELED) or entry.filled_said >= entry.size:
            return True
        report = venue_of(self.engine, trade.main).order(trade.main.account, entry.client_order_id)
        return report is not None and report.state not in (AckState.RESTING, AckState.WAITING)

    # -- MAIN_FILLED_UNHEDGED --------------------------------------------------------------------

    def _send_hedge(self, trade: Trade, version: str) -> None:
        control, control_version = self.engine.control()
        reason = self._why_not_hedge(trade, control)
        if reason:
            return self._unwind(trade, version, reason)
        main, hedge = trade.legs
        if self._unguarded_partial(main):
            if sum(o.purpose is Purpose.STOP for o in main.orders) >= GUARD_ATTEMPTS_MAX:
                return self._unwind(trade, version, "the main leg's stop is refused by the venue")
            return self.closing.place_guards(trade, version, trade, main)
        venue = venue_of(self.engine, hedge)
        rules = venue.rules(hedge.market)
        mark = venue.snapshot(hedge.market).mark_price
        size = rules.size(hedge.size_approved * main.size_filled / main.size_approved) - hedge.size_filled
        price = crossing_price(rules, mark, hedge.side, trade.intent.slippage_bps)
        if size * price < rules.notional_usd_min:
            return self._unwind(
                trade,
                version,
                f"hedge notional_usd {plain(size * price)} < the venue's minimum {rules.notional_usd_min}",
            )
        self._place_entry(
            trade,
            version,
            hedge,
            trade.to(TradeState.HEDGE_SENT),
            price,
            size,
            Check("control", "trading", control_version),
        )
        return None

    def _why_not_hedge(self, trade: Trade, control: Control) -> str | None:
        if control.state is not Halt.ENABLED:
            return f"trading is {control.state}: a trade between its legs is unwound, never hedged"
        if trade.asked_to_end:
            return f"asked to close between its legs: {trade.asked_to_end}"
        if trade.main.size_open == 0:
            return "the main leg is gone already"
        tried = [o for o in trade.hedge.orders if o.purpose is Purpose.ENTRY]
        late = self._unhedged_seconds(trade) > self._limits(trade).hedge_seconds_max
        if len(tried) >= ENTRY_ATTEMPTS_MAX or (tried and late):
            return f"the hedge could not be placed: {tried[-1].reason or 'no verdict in time'}"
        if late:
            return (
                f"unhedged_seconds {self._unhedged_seconds(trade):.0f} > "
                f"hedge_seconds_max {self._limits(trade).hedge_seconds_max}"
            )
        return None

    def _unhedged_seconds(self, trade: Trade) -> float:
        since: datetime = trade.unhedged_since or trade.created_at
        return (self.engine.now() - since).total_seconds()

    def _unguarded_partial(self, leg: Leg) -> bool:
        """Children of an entry wake only when it is fully filled, so a partial fill needs a stop of its own.

        So does a leg that took two entries: the children of the second are for its part only.
        """
        stop, entry = leg.placed(Purpose.STOP), leg.placed(Purpose.ENTRY)
        if stop is None or entry is None or stop.state not in (AckState.WAITING, AckState.RESTING):
            return True
        own = stop.action_id != entry.action_id
        return not (own or leg.size_filled == entry.size)

    # -- HEDGE_SENT ------------------------------------------------------------------------------

    def _confirm_hedge(self, trade: Trade, version: str) -> None:
        try:
            record = self._entry_outcome(trade.hedge)
        except OutcomeUnknown:
            if self._unhedged_seconds(trade) > self._limits(trade).hedge_seconds_max:
                return self._unwind(trade, version, "the hedge has no verdict in time and may still appear")
            self.engine.clock.sleep(1.0)
            return None
        if record.state is ActionState.VANISHED:
            return self._unwind(trade, version, f"the hedge order arrived and left no trace ({record.id})")
        noted = self.book.noted(trade)
        try:
            hedge, position = confirmed_leg(self.engine, noted, noted.hedge)
        except OutcomeUnknown as unknown:
            if self._unhedged_seconds(trade) > self._limits(trade).hedge_seconds_max:
                return self._unwind(trade, version, f"the hedge could not be confirmed in time: {unknown}", noted)
            return None
        noted = noted.with_leg(hedge)
        if hedge.size_filled > 0 and hedge.size_open == 0:
            return self._unwind(trade, version, "the hedge is gone already", noted)
        wanted = noted.hedge.size_approved * noted.main.size_filled / noted.main.size_approved
        band = 1 - self._limits(noted).hedge_drift_percent_max / 100
        if hedge.size_filled < wanted * band:
            self.book.write(trade, version, noted.to(TradeState.MAIN_FILLED_UNHEDGED))
            return None
        if self._unguarded_partial(hedge) and sum(o.purpose is Purpose.STOP for o in hedge.orders) < GUARD_ATTEMPTS_MAX:
            return self.closing.place_guards(trade, version, noted, hedge)
        unguarded = self._unguarded(noted)
        if unguarded:
            return self._unwind(trade, version, f"no stop seen at the venue for the {role_name(unguarded)}", noted)
        now = self.engine.now()
        distance = position.liquidation_distance if position else None
        opened = noted.with_leg(
            hedge.model_copy(update={"entry_liquidation_distance": distance}).marked(position, now)
        ).to(
            TradeState.OPEN,
            opened_at=now,
            close_by=now + timedelta(seconds=noted.intent.holding_seconds_max),
        )
        self.book.write(
            trade, version, opened, self.book.intent_status(trade, "opened", "both legs filled and guarded")
        )
        tell_opened(opened, now)
        self.engine.announce(
            EventKind.OPENED,
            f"{opened.intent.direction} {plain(opened.main.size_filled)} {opened.main.market} at "
            f"{plain(opened.main.entry_price)}, hedge {plain(hedge.size_filled)} at {plain(hedge.entry_price)}, "
            f"unhedged for {self._unhedged_seconds(trade):.1f} s",
            trade_id=trade.trade_id,
            market=trade.main.market,
        )
        return None

    def _unguarded(self, trade: Trade) -> LegRole | None:
        """The leg whose stop is not seen at the venue within the time allowed."""
        deadline = self.engine.now() + timedelta(seconds=self._limits(trade).stop_seen_seconds_max)
        while True:
            unseen = next(
                (
                    leg.role
                    for leg in trade.legs
                    if not is_guarded(leg, venue_of(self.engine, leg).open_orders(leg.account))
                ),
                None,
            )
            if unseen is None or self.engine.now() >= deadline:
                return unseen
            self.engine.clock.sleep(1.0)

    # -- OPEN ------------------------------------------------------------------------------------

    def _honour(self, trade: Trade, version: str) -> None:
        """Act on the first close request that came while the trade was between two states."""
        first, *others = trade.requests_waiting
        waiting = trade.model_copy(update={"requests_waiting": tuple(others)})
        self.book.write(trade, version, asked_to_leave(waiting, first))

    # -- ways out --------------------------------------------------------------------------------

    def _unwind(self, trade: Trade, version: str, reason: str, noted: Trade | None = None) -> None:
        unwinding = (noted or trade).to(TradeState.UNWINDING, why_closed=f"unwound: {reason}")
        self.book.write(trade, version, unwinding)
        self.engine.announce(
            EventKind.UNWOUND, reason, trade_id=trade.trade_id, market=trade.main.market, account=trade.main.account
        )

    def needs_a_person(self, trade: Trade, version: str, reason: str) -> None:
        """Stop here, loudly: what happened cannot be decided from what the venue says."""
        now = self.engine.now()
        self.book.write(trade, version, trade.to(TradeState.NEEDS_A_PERSON, person_since=now, why_closed=reason))
        self.engine.announce(
            EventKind.NEEDS_A_PERSON,
            reason,
            trade_id=trade.trade_id,
            market=trade.main.market,
            account=trade.main.account,
        )

    def _limits(self, trade: Trade) -> Limits:
        return self.engine.limits(trade.intent.strategy)


def proposed(intent: HedgedIntent, now: datetime) -> Trade:
    """The record of a trade that is only wanted yet."""
    main, hedge = (
        Leg(role=plan.role, account=plan.account, market=plan.market, side=plan.side, leverage=plan.leverage)
        for plan in (intent.main, intent.hedge)
    )
    return Trade(
        trade_id=intent.intent_id,
        intent=intent,
        state=TradeState.PROPOSED,
        main=main,
        hedge=hedge,
        created_at=now,
        updated_at=now,
    )


def limit_entry_ends(trade: Trade, limits: Limits) -> datetime:
    """Until when a resting entry may wait for a fill. What else is written to its trade meanwhile adds nothing."""
    entry = trade.main.placed(Purpose.ENTRY)
    placed_at = entry.placed_at if entry else None
    return (placed_at or trade.updated_at) + timedelta(seconds=limits.limit_order_seconds_max)


def _approved_leg(leg: Leg, approved: ApprovedLeg) -> Leg:
    return leg.model_copy(
        update={
            "leverage": approved.leverage,
            "size_approved": approved.size,
            "entry_limit_price": approved.entry_limit_price,
            "stop_price": approved.stop_price,
            "target_price": approved.target_price,
            "entry_liquidation_distance": approved.liquidation_distance,
        }
    )
