"""Getting out: cutting, closing and unwinding legs, always reduce-only, never the stop before the close."""

from __future__ import annotations

from decimal import Decimal

from twinleg.domain.control import CONTROL_ID, Control, Halt
from twinleg.domain.emergency import Danger, danger_of
from twinleg.domain.errors import OutcomeUnknown
from twinleg.domain.messages import CloseTrade, EventKind
from twinleg.domain.money import plain
from twinleg.domain.orders import AckState, Grouping, LegRole, OrderKind, OrderRequest, Position, Purpose
from twinleg.domain.trades import Leg, PlacedOrder, Trade, TradeState
from twinleg.engine.legs import confirmed_leg, crossing_price, guards, read_leg, role_name, venue_of, was_refused
from twinleg.engine.orderpath import BETWEEN_FINAL_READS_SECONDS
from twinleg.engine.ports import Replace, Write
from twinleg.engine.records import document
from twinleg.engine.system import Engine
from twinleg.engine.trade_figures import tell_closed
from twinleg.engine.tradebook import TradeBook, order_id_for
from twinleg.risk.breakers import unwind_breaker

CLOSE_SLIPPAGE_BPS_MAX = Decimal(900)
"""Below the 10 % at which market triggers stop; each further attempt doubles the bound up to this."""


LAG_SECONDS_MAX = 75.0
"""The longest a read may lag behind what happened, with a margin."""


class Closing:
    """The steps of REDUCING, CLOSING and UNWINDING."""

    def __init__(self, engine: Engine, book: TradeBook) -> None:
        self.engine = engine
        self.book = book

    # -- closing and unwinding -------------------------------------------------------------------

    def close(self, trade: Trade, version: str) -> None:
        """One step towards flat. A leg whose entry has no verdict yet does not hold up the other leg."""
        noted, unknown = self._noted_where_known(trade)
        for role in (LegRole.MAIN, LegRole.HEDGE):
            leg = noted.leg(role)
            if not leg.orders:
                continue
            leg, size, position = read_leg(self.engine, noted, leg)
            noted = noted.with_leg(leg)
            if size > 0 and position is not None:
                return self._send_close(trade, version, noted, leg, size, position.mark_price)
            try:
                noted = noted.with_leg(self.explained(noted, leg))
            except OutcomeUnknown as doubt:
                unknown = unknown or doubt
        if unknown is not None:
            raise unknown
        if self._cancel_leftovers(trade, version, noted):
            return None
        return self._close_book(trade, version, noted)

    def _noted_where_known(self, trade: Trade) -> tuple[Trade, OutcomeUnknown | None]:
        try:
            return self.book.noted(trade), None
        except OutcomeUnknown as unknown:
            return trade, unknown

    def _send_close(self, before: Trade, version: str, noted: Trade, leg: Leg, size: Decimal, mark: Decimal) -> None:
        purpose = Purpose.UNWIND if noted.state is TradeState.UNWINDING else Purpose.CLOSE
        tried = sum(o.purpose is purpose for o in leg.orders)
        self._send_reduction(before, version, noted, leg, purpose, size, mark, noted.sequence + 1, 1, tried)

    def _send_reduction(
        self,
        before: Trade,
        version: str,
        noted: Trade,
        leg: Leg,
        purpose: Purpose,
        size: Decimal,
        mark: Decimal,
        sequence: int,
        attempt: int,
        tried: int,
    ) -> None:
        """Claim and send one reduce-only IOC. Its verdict is noted by the next step, from the record."""
        rules = venue_of(self.engine, leg).rules(leg.market)
        limits = self.engine.limits(noted.intent.strategy)
        slippage_bps = min(limits.close_slippage_bps * 2**tried, CLOSE_SLIPPAGE_BPS_MAX)
        side = leg.side.opposite
        order = OrderRequest(
            client_order_id=order_id_for(noted, leg.role, purpose, sequence, attempt),
            market=leg.market,
            side=side,
            size=size,
            limit_price=crossing_price(rules, mark, side, slippage_bps),
            kind=OrderKind.MARKET,
            reduce_only=True,
        )
        action_id = self.book.place(
            before,
            version,
            noted.model_copy(update={"sequence": max(noted.sequence, sequence)}),
            leg,
            (order,),
            (purpose,),
            sequence=sequence,
            attempt=attempt,
        )
        self.book.path.outcome(action_id)

    def explained(self, trade: Trade, leg: Leg) -> Leg:
        """A leg that holds nothing: at once when its fills say why, otherwise when two reads agree (TRUTH).

        Raises OutcomeUnknown when they do not, or when its entry was answered as filled and that is not seen yet.
        """
        if leg.size_open == 0 and not leg.lacks_fills and (leg.size_filled > 0 or was_refused(leg)):
            return leg
        self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
        leg, size, _ = read_leg(self.engine, trade, leg)
        if leg.lacks_fills:
            raise OutcomeUnknown(f"trade {trade.trade_id}: the {role_name(leg.role)} was filled and is not seen yet")
        if leg.size_open == size == 0:
            return leg
        if size > 0:
            raise OutcomeUnknown(f"trade {trade.trade_id}: two reads of the {role_name(leg.role)} disagree")
        mark = venue_of(self.engine, leg).snapshot(leg.market).mark_price
        gone = leg.size_open
        self.engine.announce(
            EventKind.CORRECTED,
            f"{role_name(leg.role)}: {plain(gone)} {leg.market} is gone without a fill that explains it; "
            f"booked at the mark {plain(mark)}",
            trade_id=trade.trade_id,
            account=leg.account,
        )
        lost = (mark - leg.entry_price) * gone * leg.side.sign
        return leg.model_copy(
            update={"size_closed": leg.size_filled, "exit_price": mark, "realised_usd": leg.realised_usd + lost}
        )

    def _cancel_leftovers(self, before: Trade, version: str, noted: Trade) -> bool:
        """Cancel what of ours still rests once both legs are flat; whether there was anything.

        Stops that rest speak for a position: it is read once more before they are cancelled.
        """
        for leg in noted.legs:
            ours = {o.client_order_id for o in leg.orders}
            resting = venue_of(self.engine, leg).open_orders(leg.account) if ours else ()
            left = [o.client_order_id for o in resting if o.client_order_id in ours and o.market == leg.market]
            if left and read_leg(self.engine, noted, leg)[1] > 0:
                return True  # it is there after all: the next step closes it
            if left:
                self.book.cancel(before, version, leg, [id for id in left if id is not None])
                return True
        return False

    def _close_book(self, before: Trade, version: str, noted: Trade) -> None:
        """Both legs are flat: final figures, slots free again, and the unwinding counted if it was one."""
        now = self.engine.now()
        for leg in noted.legs:
            if leg.size_filled > 0:
                paid = venue_of(self.engine, leg).funding_paid_usd(
                    leg.account, leg.market, leg.entered_at or noted.created_at
                )
                noted = noted.with_leg(leg.model_copy(update={"funding_usd": paid}))
        unwound = noted.state is TradeState.UNWINDING
        closed = noted.to(TradeState.CLOSED, closed_at=now, why_closed=noted.why_closed or why_gone(noted) or "closed")
        desk, desk_version = self.book.desk()
        left = desk.model_copy(
            update={
                "open_trades": [t for t in desk.open_trades if t != noted.trade_id],
                "unwinds": [*desk.unwinds, now] if unwound else desk.unwinds,
            }
        )
        status = self.book.intent_status(noted, "closed", closed.why_closed)
        writes = [*self.book.slot_writes(noted, ""), self.book.desk_write(left, desk_version), status]
        unwinds = left.since(left.unwinds, now, 86_400)
        tripped = unwind_breaker(unwinds, self.engine.limits(noted.intent.strategy)) if unwound else None
        if tripped:
            writes += self._reducing(tripped.reason)
        self.book.write(before, version, closed, *writes)
        tell_closed(closed, now)
        self.engine.announce(
            EventKind.CLOSED,
            f"{closed.why_closed}; P&L {closed.pnl_usd:.2f} USD after fees and funding",
            trade_id=noted.trade_id,
            market=noted.main.market,
        )

    def _reducing(self, why: str) -> list[Write]:
        """The writes that turn ENABLED into REDUCING."""
        control, version = self.engine.control()
        if control.state is not Halt.ENABLED or version is None:
            return []
        data = document(Control(state=Halt.REDUCING, why=why, by="risk", since=self.engine.now()))
        return [Replace("control", CONTROL_ID, data | {"summary": f"REDUCING: {why}"}, version)]

    # -- cutting ---------------------------------------------------------------------------------

    def cut(self, trade: Trade, version: str) -> None:
        """Reduce both legs by ``closing_fraction``, under the sequence the decision was given."""
        if trade.asked_to_end:
            return self.book.write(trade, version, trade.to(TradeState.CLOSING, why_closed=trade.asked_to_end))
        noted = self.book.noted(trade)
        for role in (LegRole.MAIN, LegRole.HEDGE):
            leg, position = self._agreed(noted, noted.leg(role))
            noted = noted.with_leg(leg)
            if leg.size_open == 0 or position is None:
                return self._close_instead(trade, version, noted, f"{role_name(role)} is gone")
            cuts = [o for o in leg.orders if o.purpose is Purpose.CUT and o.sequence == noted.sequence]
            rules = venue_of(self.engine, leg).rules(leg.market)
            wanted = cuts[0].size if cuts else rules.size(leg.size_open * noted.closing_fraction)
            part = wanted - sum((self._taken_off(noted, o) for o in cuts), Decimal(0))
            least = rules.notional_usd_min
            if cuts and part * position.mark_price < least:
                continue  # what an order left of it is too small to be cut by itself
            if len(cuts) >= 3:
                return self._close_instead(trade, version, noted, f"the {role_name(role)} could not be cut")
            left = leg.size_open - part
            if part * position.mark_price < least or left * position.mark_price < least:
                return self._close_instead(
                    trade, version, noted, f"a cut of {plain(part)} {leg.market} would leave or be under {least} USD"
                )
            return self._send_reduction(
                trade, version, noted, leg, Purpose.CUT, part, position.mark_price,
                noted.sequence, len(cuts) + 1, len(cuts),
            )  # fmt: skip
        back = noted.to(TradeState.OPEN, closing_fraction=Decimal(0))
        self.book.write(trade, version, back)
        self.engine.announce(
            EventKind.CUT,
            f"{noted.why_closed}: {plain(noted.main.size_open)} and {plain(noted.hedge.size_open)} remain",
            trade_id=noted.trade_id,
            market=noted.main.market,
        )
        return None

    def _taken_off(self, trade: Trade, cut: PlacedOrder) -> Decimal:
        """How much a cut took off. Raises OutcomeUnknown while it ran and neither its answer nor fills say how much.

        Fills may be answered late, as old as a node may lag behind. After that what is not there was not filled.
        """
        if cut.state is AckState.REJECTED:
            return Decimal(0)
        taken = max(cut.filled_size, cut.filled_said)
        asked = cut.placed_at or trade.updated_at
        if taken == 0 and (self.engine.now() - asked).total_seconds() < LAG_SECONDS_MAX:
            raise OutcomeUnknown(f"trade {trade.trade_id}: the fills of a cut are not seen yet")
        return taken

    def _agreed(self, trade: Trade, leg: Leg) -> tuple[Leg, Position | None]:
        """The leg and its position, once fills and position agree. Raises OutcomeUnknown when they do not (TRUTH)."""
        try:
            return confirmed_leg(self.engine, trade, leg)
        except OutcomeUnknown:
            leg, size, _ = read_leg(self.engine, trade, leg)
            if size > 0:
                raise
            return self.explained(trade, leg), None

    def _close_instead(self, before: Trade, version: str, noted: Trade, reason: str) -> None:
        why = f"{noted.why_closed}; {reason}: closed whole" if noted.why_closed else f"{reason}: closed whole"
        self.book.write(before, version, noted.to(TradeState.CLOSING, why_closed=why))

    # -- guarding --------------------------------------------------------------------------------

    def place_guards(self, before: Trade, version: str, noted: Trade, leg: Leg) -> None:
        """Place a stop and target that follow the leg's position, and note whether the venue took them."""
        sequence = noted.sequence + 1
        rules = venue_of(self.engine, leg).rules(leg.market)
        requests = guards(noted, leg, rules, leg.size_open, sequence, 1)
        action_id = self.book.place(
            before,
            version,
            noted.model_copy(update={"sequence": sequence}),
            leg,
            requests,
            (Purpose.STOP, Purpose.TARGET),
            sequence=sequence,
            attempt=1,
            grouping=Grouping.POSITION,
        )
        self.book.path.outcome(action_id)
        placed, placed_version = self.book.load(noted.trade_id)
        self.book.write(placed, placed_version, self.book.noted(placed))


def asked_to_leave(trade: Trade, request: CloseTrade) -> Trade:
    """The trade as it is once a close or a cut was asked of it. One that cannot leave yet remembers the request."""
    done = (*trade.requests_done, request.request_id)
    if trade.state in (TradeState.CLOSING, TradeState.UNWINDING):
        return trade.model_copy(update={"requests_done": done})
    if trade.state not in (TradeState.OPEN, TradeState.NEEDS_A_PERSON):
        return trade.model_copy(update={"requests_waiting": (*trade.requests_waiting, request)})
    if request.fraction >= 1 or trade.state is TradeState.NEEDS_A_PERSON:
        return trade.to(TradeState.CLOSING, why_closed=request.reason, requests_done=done)
    return trade.to(
        TradeState.REDUCING,
        why_closed=request.reason,
        closing_fraction=request.fraction,
        requests_done=done,
        sequence=trade.sequence + 1,
    )


def why_gone(trade: Trade) -> str:
    """Why a leg is gone, from the order that last reduced it; empty while both are there.

    A leg that an emergency order closed only because the other was gone comes last.
    """
    followed = ""
    for leg in trade.legs:
        if leg.size_filled == 0 or leg.size_open != 0:
            continue
        name, price = role_name(leg.role), plain(leg.last_exit_price)
        if leg.liquidated:
            return f"{name} liquidated at {price}"
        if leg.deleveraged and leg.last_exit is None:
            return f"{name} auto-deleveraged by the venue at {price}"
        if leg.last_exit in (Purpose.STOP, Purpose.TARGET):
            return f"{name} {leg.last_exit} at {price}"
        if leg.last_exit is Purpose.EMERGENCY:
            order = leg.placed(Purpose.EMERGENCY)
            danger = danger_of(order.client_order_id) if order else None
            why = f"{name} closed at {price} while the records could not be read: {danger or 'it was in danger'}"
            if danger is not Danger.ALONE:
                return why
            followed = why
        if leg.last_exit is None and leg.last_exit_price > 0:
            return f"{name} closed at {price} by an order that is none of ours"
    return followed
