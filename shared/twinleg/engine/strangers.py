"""What the venue holds and no open trade owns: positions and resting orders of somebody else, and orders left over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from twinleg.domain.control import Control, Halt
from twinleg.domain.ids import client_order_id
from twinleg.domain.messages import EventKind
from twinleg.domain.money import plain
from twinleg.domain.orders import AccountState, OrderKind, OrderRequest, Position, Purpose, RestingOrder, Side
from twinleg.domain.trades import ENDED
from twinleg.domain.watched import Watched
from twinleg.engine.legs import crossing_price
from twinleg.engine.orderpath import BETWEEN_FINAL_READS_SECONDS, OrderPath
from twinleg.engine.ports import CancelOrders, PlaceReduction
from twinleg.engine.system import Engine
from twinleg.engine.watch import Reading


@dataclass(frozen=True, slots=True)
class Strangers:
    """Says, and by the person's choice closes or cancels, what no open trade owns; one account at a time."""

    engine: Engine
    path: OrderPath
    holders: Mapping[tuple[str, str], Watched]
    """The trade that holds an account's market."""
    owner_of_slot: Callable[[str, str], list[str]]
    """The id of the trade that the records say holds an account's market, if one does."""
    done: list[str]
    """What was done, in words."""

    def positions(self, name: str, found: Sequence[Position], known: AbstractSet[str], control: Control) -> None:
        """Positions nobody recorded: said once, and closed when the person chose so (or under FLATTEN)."""
        for position in found:
            if position.market not in known:
                words = f"{name} holds {plain(position.size)} {position.market} that no trade of ours owns"
                self._say(words, name, position.market)
            if self.engine.desk.limits.foreign == "close" or control.state is Halt.FLATTEN:
                self._close_orphan(name, position)

    def orders(self, name: str, reading: Reading) -> None:
        """Resting orders nobody recorded that could add exposure: said once, and cancelled when the person chose so.

        The sweep finds none of ours but a limit entry that is being carried out. What only reduces is left alone: if
        it takes a leg, the other is closed as after any close by hand.
        """
        strange = [o for o in reading.resting if not o.reduce_only and not self._is_recorded(o)]
        for order in self.engine.memory.unsaid(name, strange):
            words = (
                f"{name}: a resting order to {order.side} {plain(order.size)} {order.market} at "
                f"{plain(order.limit_price)} is none of ours"
            )
            self._say(words, name, order.market)
        if strange and self.engine.desk.limits.foreign == "close":
            self.cancel(name, strange, "orphan")

    def left_over(self, name: str, reading: Reading) -> None:
        """Orders of trades that ended: cancelled, stops and targets only where two reads show nothing held.

        When their trade looked for what to cancel it was answered with a list from before they rested. They keep
        entries out of the slot, and would take what is entered there later; an entry would open what nobody guards.
        """
        idle = [o for o in reading.resting if not (o.reduce_only and self._is_held(name, o.market, reading.state))]
        left = [o for o in idle if self._has_ended(o)]
        self._clear(name, [o for o in left if not o.reduce_only])
        exits = [o for o in left if o.reduce_only]
        if exits:
            self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
            again = self.engine.venues.of(name).account(name)
            self._clear(name, [o for o in exits if not self._is_held(name, o.market, again)])

    def _clear(self, name: str, orders: Sequence[RestingOrder]) -> None:
        self.cancel(name, orders, "left over")
        for market in dict.fromkeys(order.market for order in orders):
            words = f"{name}: orders of ended trades still rested on {market}: cancelled"
            self.engine.announce(EventKind.CORRECTED, words, account=name, market=market)

    def cancel(self, name: str, orders: Sequence[RestingOrder], why: str = "flatten") -> None:
        """Cancel what rests, whoever placed it."""
        for market in dict.fromkeys(order.market for order in orders):
            ids = tuple(order.order_id for order in orders if order.market == market)
            tag = f"{why}:{name}:{market}"
            self.path.perform(CancelOrders(name, market, order_ids=ids), trade_id=tag, claim=lambda _: [])
            self.done.append(f"cancelled {len(ids)} orders of {name}")

    def _say(self, words: str, name: str, market: str) -> None:
        """A person is called, unless the person chose to leave such things alone."""
        ignored = self.engine.desk.limits.foreign == "ignore"
        kind, how = (EventKind.WARNED, "; it is left alone (foreign = ignore)") if ignored else (EventKind.ORPHAN, "")
        self.engine.announce(kind, words + how, account=name, market=market)

    def _is_recorded(self, order: RestingOrder) -> bool:
        id = order.client_order_id
        return id is not None and self.engine.store.get("orders", id) is not None

    def _is_held(self, name: str, market: str, state: AccountState) -> bool:
        return (name, market) in self.holders or state.position(market) is not None

    def _has_ended(self, order: RestingOrder) -> bool:
        """Whether an order is of a trade that ended."""
        page = self.engine.store.get("orders", order.client_order_id) if order.client_order_id else None
        trade = self.engine.store.get("trades", str(page.data["trade_id"])) if page else None
        return trade is not None and trade.data.get("state") in ENDED

    def _close_orphan(self, name: str, position: Position) -> None:
        """Close a position nobody owns, after a second read agrees that it is there and still nobody's."""
        venue = self.engine.venues.of(name)
        self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
        again = venue.account(name).position(position.market)
        if again is None or again.size != position.size or self.owner_of_slot(name, again.market):
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
        self.path.perform(PlaceReduction(name, (order,)), trade_id=tag, claim=lambda _: [])
        self.done.append(f"closed an orphan of {name}")
