"""Reading and writing trades: one record, one version, every step claimed by compare-and-set on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from twinleg.domain.errors import Conflict, InvariantBroken
from twinleg.domain.ids import ClientOrderId, account_market, client_order_id
from twinleg.domain.money import plain
from twinleg.domain.orders import (
    Grouping,
    LegRole,
    OrderRequest,
    Purpose,
)
from twinleg.domain.trades import ENDED, Leg, PlacedOrder, Trade
from twinleg.engine.orderpath import OrderPath
from twinleg.engine.pages import intent_page, order_page, trade_document
from twinleg.engine.ports import (
    CancelOrders,
    Create,
    Exists,
    PlaceEntry,
    PlaceReduction,
    Replace,
    Stored,
    VenueAction,
    Write,
)
from twinleg.engine.records import DESK_ID, DeskBook, document, read
from twinleg.engine.system import Engine
from twinleg.risk.approval import Approved


class TradeBook:
    """The trades of one engine, and the placing of their orders."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.path = OrderPath(engine)

    def load(self, trade_id: str) -> tuple[Trade, str]:
        """A trade and its version."""
        found = read(self.engine.store, "trades", trade_id, Trade)
        if found is None:
            raise InvariantBroken(f"trade {trade_id} has no record")
        return found

    def write(self, before: Trade, version: str, after: Trade, *more: Write) -> None:
        """Replace the trade read at *version*, with everything that must agree with it. Raises Conflict."""
        try:
            self.engine.store.batch([*self._writes(before, version, after), *more])
        except Exists as exists:  # a slot or the desk was made by another meanwhile
            raise Conflict(f"trade {before.trade_id}: {exists}") from exists

    def _writes(self, before: Trade, version: str, after: Trade) -> list[Write]:
        now = self.engine.now()
        noted = after.model_copy(
            update={"updated_at": now, "summary": summary_of(after), "history": _history(before, after, now)}
        )
        writes: list[Write] = [Replace("trades", noted.trade_id, trade_document(noted), version)]
        known = {o.client_order_id: o for leg in before.legs for o in leg.orders}
        ends = noted.state in ENDED
        changed = [(leg, o) for leg in noted.legs for o in leg.orders if ends or known.get(o.client_order_id) != o]
        return [*writes, *(Replace("orders", o.client_order_id, order_page(noted, leg, o)) for leg, o in changed)]

    # -- placing ---------------------------------------------------------------------------------

    def place(
        self,
        trade: Trade,
        version: str,
        after: Trade,
        leg: Leg,
        orders: Sequence[OrderRequest],
        purposes: Sequence[Purpose],
        *,
        sequence: int,
        attempt: int,
        grouping: Grouping = Grouping.NONE,
        approved: Approved | None = None,
        more: Sequence[Write] = (),
    ) -> str:
        """Claim a step of the trade and store the signed orders that carry it out; the action's id.

        *after* is the trade as it will be, without the orders; they are added to *leg*. Nothing is sent:
        ``path.outcome`` does that. Raises Conflict when another was first.
        """
        requests = tuple(orders)
        action: VenueAction = (
            PlaceEntry(leg.account, approved, requests, grouping)
            if approved
            else PlaceReduction(leg.account, requests, grouping)
        )

        def claim(action_id: str) -> Sequence[Write]:
            placed = leg
            for request, purpose in zip(requests, purposes, strict=True):
                placed = placed.with_order(_placed(request, purpose, sequence, attempt, action_id, self.engine.now()))
            return [*self._writes(trade, version, after.with_leg(placed)), *more]

        return self.path.write(action, trade_id=trade.trade_id, claim=claim)

    def cancel(self, trade: Trade, version: str, leg: Leg, ids: Sequence[ClientOrderId]) -> None:
        """Cancel resting orders of a leg. A cancel that comes too late is no fault: what rests is read again."""
        after = trade.model_copy(update={"sequence": trade.sequence + 1})
        self.path.perform(
            CancelOrders(leg.account, leg.market, tuple(ids)),
            trade_id=trade.trade_id,
            claim=lambda _: self._writes(trade, version, after),
        )

    def noted(self, trade: Trade) -> Trade:
        """The trade with the state of every order whose action has its verdict. Raises OutcomeUnknown."""
        for leg in trade.legs:
            for order in leg.orders:
                if order.state is None:
                    ack = self.path.outcome(order.action_id).ack(order.client_order_id)
                    said = {"state": ack.state, "reason": ack.reason, "filled_said": ack.filled_size}
                    leg = leg.with_order(order.model_copy(update=said))
            trade = trade.with_leg(leg)
        return trade

    def intent_status(self, trade: Trade, status: str, reason: str, gate_saw: str = "") -> Write:
        """What became of the intent, beside the decision it was, and by which numbers it was judged."""
        id = trade.intent.intent_id
        stored = self.engine.store.get("intents", id)
        data = dict(stored.data) if stored else intent_page(trade.intent)
        if gate_saw:
            data["gate_saw"] = gate_saw
        return Replace(
            "intents", id, data | {"status": status, "status_reason": reason, "summary": f"{status}: {reason}"}
        )

    # -- slots and caps --------------------------------------------------------------------------

    def slots(self, trade: Trade) -> list[tuple[str, Stored | None]]:
        """The two (account, market) slots of a trade, as stored."""
        ids = [account_market(leg.account, leg.market) for leg in trade.legs]
        return [(id, self.engine.store.get("positions", id)) for id in ids]

    def slot_writes(self, trade: Trade, owner: str) -> list[Write]:
        """Give both slots to *owner* (empty: release), if they are as they were read."""
        writes: list[Write] = []
        for (id, stored), leg in zip(self.slots(trade), trade.legs, strict=True):
            data = dict(stored.data) if stored else {"account": leg.account, "market": leg.market, "size": "0"}
            data |= {"owner": owner, "summary": f"{id}: " + (f"held for {owner}" if owner else "free")}
            writes.append(Replace("positions", id, data, stored.version) if stored else Create("positions", id, data))
        return writes

    def desk(self) -> tuple[DeskBook, str | None]:
        """What the caps count, and its version."""
        found = read(self.engine.store, "control", DESK_ID, DeskBook)
        return found if found else (DeskBook(), None)

    def desk_write(self, book: DeskBook, version: str | None) -> Write:
        data = document(book.pruned(self.engine.now())) | {"at": self.engine.now()}
        return Replace("control", DESK_ID, data, version) if version else Create("control", DESK_ID, data)


def order_id_for(trade: Trade, role: LegRole, purpose: Purpose, sequence: int, attempt: int) -> ClientOrderId:
    """The client order id of one attempt at one decision."""
    return client_order_id(trade.trade_id, role.value, purpose.value, sequence, attempt)


def summary_of(trade: Trade) -> str:
    """One line a person reads in a list."""
    main, hedge = trade.legs
    text = (
        f"{trade.state} {trade.intent.direction} {plain(main.size_filled or main.size_approved)} {main.market} "
        f"on {main.account}, hedge {plain(hedge.size_filled or hedge.size_approved)} on {hedge.account}"
    )
    return f"{text}: {trade.why_closed}" if trade.why_closed else text


def _history(before: Trade, after: Trade, now: datetime) -> tuple[str, ...]:
    """What the trade went through, with the step from *before* to *after* if it is one into another state."""
    if before.state is after.state and before.why_closed == after.why_closed:
        return before.history
    why = after.why_closed if after.why_closed != before.why_closed else ""
    return (*before.history, f"{now.isoformat()} {after.state} {why}".rstrip())


def _placed(
    request: OrderRequest, purpose: Purpose, sequence: int, attempt: int, action_id: str, at: datetime
) -> PlacedOrder:
    return PlacedOrder(
        client_order_id=request.client_order_id,
        purpose=purpose,
        sequence=sequence,
        attempt=attempt,
        kind=request.kind,
        side=request.side,
        size=request.size,
        limit_price=request.limit_price,
        trigger_price=request.trigger_price,
        action_id=action_id,
        placed_at=at,
    )
