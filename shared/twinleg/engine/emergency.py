"""When the records cannot be read: what is dangerous by the venue alone is closed under the emergency key.

Without records nothing is known of a trade: not its stop, nor its distance at entry, nor who asked for what. So only
three things are dangerous, and each only when two reads show it whose own times are 5 s apart: a position without a
stop for the whole of it, one too near to its liquidation, and one whose other leg is gone. Then both legs of that pair
are closed with reduce-only orders that do not rest, and nothing else is done but to cancel entries that still rest.

This is the one exception to writing ahead: there is nowhere to write. What keeps it from harm is that every order is
reduce-only, ends by itself within seconds, and that the position is read again before another is sent. What was sent
is known by its client order ids (`domain.emergency`): fills find their trade by them, whatever became of this process.
What the process remembers is recorded by the next sweep that reaches the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from twinleg.domain.candles import ms_from_utc
from twinleg.domain.emergency import Danger, emergency_order_id
from twinleg.domain.errors import OutcomeUnknown, TwinlegError, Unavailable
from twinleg.domain.ids import ClientOrderId, account_market, time_ordered_id
from twinleg.domain.messages import Event, EventKind
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import AccountState, OrderKind, OrderRequest, Position, RestingOrder, Side
from twinleg.engine.closing import CLOSE_SLIPPAGE_BPS_MAX
from twinleg.engine.legs import crossing_price
from twinleg.engine.orderpath import BETWEEN_FINAL_READS_SECONDS, ActionRecord, OrderPath, Sent, judged, record_of
from twinleg.engine.pages import action_document, audit_document
from twinleg.engine.ports import (
    CancelOrders,
    Create,
    Exists,
    Merge,
    Outcome,
    PlaceReduction,
    SignerRole,
    Venue,
    Verdict,
)
from twinleg.engine.system import Engine
from twinleg.engine.watch import Reading
from twinleg.risk.ladder import HUNDRED, fraction_left

LOOK_AGAIN_SECONDS = BETWEEN_FINAL_READS_SECONDS + 1
CLOSES_MAX = 3
"""Orders for one leg in one sweep, each within twice the slippage of the one before."""
OLD_ANSWERS_MAX = 5
LONGEST_BEFORE = timedelta(days=1)
"""How long before the longest holding time an opening fill is looked for."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A leg's place: an account and a market of a configured pair."""

    account: str
    market: str

    def __str__(self) -> str:
        return account_market(self.account, self.market)


Pair = tuple[Slot, Slot]
Looked = Mapping[str, Reading | None]
"""By account; None where it could not be read."""
Found = dict[tuple[Danger, Slot], str]
"""What is dangerous, in words."""


class Emergency:
    """One look at the venues without records, and what has to be done about it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.done: list[str] = []
        self.failures: list[str] = []
        plans = engine.desk.markets.values()
        self.pairs: list[Pair] = [
            (Slot(p.main_account, p.market), Slot(p.hedge_account, p.hedge_market)) for p in plans
        ]

    def run(self) -> str:
        """Look, look again, act; in words. Raises nothing: the venues' failures are in the words."""
        first = self._look()
        self._cancel_entries(first)
        suspects = [(pair, found) for pair in self.pairs if (found := self._dangers(pair, first))]
        if suspects:
            self.engine.clock.sleep(LOOK_AGAIN_SECONDS)
            again = self._look()
            self._cancel_entries(again)
            for pair, found in suspects:
                if self._are_apart(pair, first, again):
                    self._attempt(partial(self._act, pair, found, self._dangers(pair, again)))
        said = "; ".join(self.done) or "nothing was done"
        return f"{said} ({'; '.join(self.failures)})" if self.failures else said

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except TwinlegError as failure:
            self.failures.append(str(failure))

    # -- looking ---------------------------------------------------------------------------------

    def _look(self) -> Looked:
        return {name: self._read(name) for name in {slot.account: None for pair in self.pairs for slot in pair}}

    def _read(self, name: str) -> Reading | None:
        try:
            venue = self.engine.venues.of(name)
            return Reading.of(venue.account(name), venue.open_orders(name), "")
        except TwinlegError as failure:
            self.failures.append(str(failure))
            return None

    def _are_apart(self, pair: Pair, first: Looked, again: Looked) -> bool:
        """Whether the second read is the later one by the venue's own time: of another node it may be older."""
        for slot in pair:
            before, after = first[slot.account], again[slot.account]
            if before and after and (after.state.at - before.state.at).total_seconds() < BETWEEN_FINAL_READS_SECONDS:
                return False
        return True

    def _dangers(self, pair: Pair, looked: Looked) -> Found:
        found: Found = {}
        for slot, other in (pair, pair[::-1]):
            reading, beside = looked[slot.account], looked[other.account]
            position = reading.positions.get(slot.market) if reading else None
            if reading is None or position is None or position.size == 0:
                continue
            found |= {(danger, slot): words for danger, words in self._of_a_leg(slot, position, reading)}
            if beside is not None and not _opposite(position, beside.positions.get(other.market)):
                found[Danger.ALONE, slot] = f"{slot} holds {plain(position.size)} and {other} does not hold against it"
        return found

    def _of_a_leg(self, slot: Slot, position: Position, reading: Reading) -> Iterator[tuple[Danger, str]]:
        if not _is_stopped(position, reading.orders.get(slot.market, ())):
            yield Danger.NO_STOP, f"{slot}: no stop rests for the whole of {plain(position.size)}"
        limits, ratio, left = self.engine.desk.limits, position.margin_ratio, fraction_left(None, position)
        if ratio is not None and ratio <= limits.emergency_ratio:
            yield (
                Danger.NEAR_LIQUIDATION,
                f"{slot}: margin ratio {ratio:.2f} <= emergency_ratio {limits.emergency_ratio}",
            )
        elif left is not None and left * HUNDRED <= limits.emergency_distance_percent:
            yield (
                Danger.NEAR_LIQUIDATION,
                f"{slot}: {left * HUNDRED:.0f} % of 1 / leverage is left to its liquidation <= "
                f"emergency_distance_percent {limits.emergency_distance_percent}",
            )

    # -- acting ----------------------------------------------------------------------------------

    def _cancel_entries(self, looked: Looked) -> None:
        """Cancel resting orders in our slots that a program placed and that could add exposure."""
        for slot in {slot: None for pair in self.pairs for slot in pair}:
            reading = looked[slot.account]
            orders = reading.orders.get(slot.market, ()) if reading else ()
            ids = tuple(o.client_order_id for o in orders if not o.reduce_only and o.client_order_id)
            if ids:
                self._attempt(partial(self._cancel, CancelOrders(slot.account, slot.market, client_order_ids=ids)))

    def _cancel(self, action: CancelOrders) -> None:
        verdict = self._send(action, self.engine.memory.nonce(*self._least(action.account)))
        self._say(
            f"{account_market(action.account, action.market)}: cancel of {len(action.client_order_ids)} entries "
            f"sent without the records: {verdict.outcome} {verdict.reason}".rstrip(),
            action,
        )

    def _act(self, pair: Pair, first: Found, again: Found) -> None:
        """Close both legs of a pair that is in the same danger in both reads."""
        agreed = [danger for danger in first if danger in again]
        if not agreed:
            return
        (danger, _), why = agreed[0], again[agreed[0]]
        for slot in pair:
            self._attempt(partial(self._close, slot, danger, why))

    def _close(self, slot: Slot, danger: Danger, why: str) -> None:
        """Close one leg. The position is read before each order, and again after the last."""
        venue, seen = self.engine.venues.of(slot.account), None
        for attempt in range(CLOSES_MAX):
            seen = self._state(venue, slot.account, seen)
            position = seen.position(slot.market)
            if position is None or position.size == 0 or (attempt == 0 and not self._is_ours(venue, slot)):
                return
            signer, least = self._least(slot.account)
            nonce = self.engine.memory.nonce(signer, least)
            id = emergency_order_id(danger, signer, nonce)
            action = PlaceReduction(slot.account, (self._order(venue, position, id, attempt),))
            verdict = self._send(action, nonce, seen.at)
            self._say(
                f"{slot}: close of {plain(abs(position.size))} sent without the records because {why}: "
                f"{verdict.outcome} {verdict.reason}".rstrip(),
                action,
            )
            unknown = verdict.outcome not in (Outcome.ACCEPTED, Outcome.REJECTED)
            self.engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS if unknown else 1.0)
        left = self._state(venue, slot.account, seen).position(slot.market)
        if left is not None and left.size != 0:
            self.failures.append(f"{slot} still holds {plain(left.size)}")

    def _order(self, venue: Venue, position: Position, id: ClientOrderId, attempt: int) -> OrderRequest:
        side = Side.SELL if position.size > 0 else Side.BUY
        slippage = min(self.engine.desk.limits.close_slippage_bps * 2**attempt, CLOSE_SLIPPAGE_BPS_MAX)
        return OrderRequest(
            client_order_id=id,
            market=position.market,
            side=side,
            size=abs(position.size),
            limit_price=crossing_price(venue.rules(position.market), position.mark_price, side, slippage),
            kind=OrderKind.MARKET,
            reduce_only=True,
        )

    def _state(self, venue: Venue, account: str, before: AccountState | None) -> AccountState:
        """The account, as of later than *before* by the venue's own time."""
        for _ in range(OLD_ANSWERS_MAX):
            state = venue.account(account)
            if before is None or state.at > before.at:
                return state
            self.engine.clock.sleep(1.0)
        raise Unavailable(f"{account}: only states from before the last order are answered")

    def _is_ours(self, venue: Venue, slot: Slot) -> bool:
        """Whether a program opened the position: the fill that did carries a client order id, which no hand's has."""
        plans = self.engine.desk.strategies.values()
        limits = [self.engine.desk.limits, *(plan.limits for plan in plans)]
        since = self.engine.now() - LONGEST_BEFORE - timedelta(seconds=max(x.holding_seconds_max for x in limits))
        opener = None
        for fill in venue.fills(slot.account, since):
            after = fill.start_position + fill.size * fill.side.sign
            if fill.market == slot.market and (fill.start_position == 0 or fill.start_position * after < 0):
                opener = fill
        if opener is None or opener.client_order_id is None:
            self.done.append(f"{slot} was left alone: no order of ours is seen to have opened it")
            return False
        return True

    # -- sending ---------------------------------------------------------------------------------

    def _least(self, account: str) -> tuple[str, int]:
        """The emergency key's address and the least nonce it may use now."""
        signer = self.engine.venues.of(account).signer(account, SignerRole.EMERGENCY)
        return signer, ms_from_utc(self.engine.now())

    def _send(self, action: CancelOrders | PlaceReduction, nonce: int, seen_at: datetime | None = None) -> Verdict:
        """Sign and send once; remembered before it is sent."""
        engine, venue = self.engine, self.engine.venues.of(action.account)
        now = engine.now()
        expires_at = max(now, seen_at or now) + timedelta(seconds=engine.desk.limits.action_expiry_seconds)
        signed = venue.sign(action, SignerRole.EMERGENCY, nonce, expires_at)
        record = record_of(action, signed, SignerRole.EMERGENCY, now, "")
        sent = engine.memory.sent
        sent.append(record)
        verdict = venue.send(signed, len(record.client_order_ids))
        sent[-1] = judged(record, Sent.FIRST, verdict)
        return verdict

    def _say(self, summary: str, action: CancelOrders | PlaceReduction) -> None:
        market = action.market if isinstance(action, CancelOrders) else action.orders[0].market
        event = Event(
            kind=EventKind.EMERGENCY, at=self.engine.now(), who=SignerRole.EMERGENCY.value, summary=summary,
            account=action.account, market=market,
        )  # fmt: skip
        self.engine.memory.untold.append(event)
        self.engine.tell(event)
        self.done.append(summary)


def _opposite(position: Position, other: Position | None) -> bool:
    return other is not None and position.size * other.size < 0


def _is_stopped(position: Position, orders: tuple[RestingOrder, ...]) -> bool:
    """Whether reduce-only stops for the whole position rest, at whatever price: the records would say which."""
    side = Side.SELL if position.size > 0 else Side.BUY
    stops = [o for o in orders if o.kind is OrderKind.STOP and o.reduce_only and o.side is side]
    if any(o.follows_position for o in stops):
        return True
    return sum((o.size for o in stops), ZERO) >= abs(position.size)


# -- afterwards ----------------------------------------------------------------------------------


def record_later(engine: Engine, path: OrderPath) -> None:
    """Record what was sent without a record, and find out what became of it. What was recorded is forgotten."""
    memory = engine.memory
    while memory.untold:
        event = memory.untold[0]
        owner = _owner(engine, event.account, event.market, event.at)
        said = {"summary": f"{event.summary} (recorded later)", "trade_id": owner, "intent_id": owner}
        entry = time_ordered_id(event.at, event.kind, event.summary, event.account)
        with suppress(Exists):
            engine.store.create("audit", entry, audit_document(event.model_copy(update=said)))
        memory.untold.pop(0)
    while memory.sent:
        record = _of_trade(engine, memory.sent[0])
        with suppress(Exists):
            engine.store.batch([Create("actions", record.id, action_document(record)), _nonce_note(record)])
        memory.sent.pop(0)
        if not record.final:
            with suppress(OutcomeUnknown):  # its record says so, and the position was read before another was sent
                path.outcome(record.id)


def _of_trade(engine: Engine, record: ActionRecord) -> ActionRecord:
    owner = _owner(engine, record.account, record.market, record.created_at)
    noted = f"{engine.now().isoformat()} recorded later -> {record.state.value}"
    return record.model_copy(
        update={
            "trade_id": owner,
            "summary": f"{record.kind} {record.market} on {record.account} in an emergency, for {owner or 'no trade'}",
            "transitions": (*record.transitions, noted),
        }
    )


def _nonce_note(record: ActionRecord) -> Merge:
    note = {
        "account": record.account, "role": record.role.value, "last_nonce": record.nonce, "at": record.created_at,
        "summary": f"{record.account} {record.role.value}: last nonce {record.nonce}, used without the records",
    }  # fmt: skip
    return Merge("signers", record.signer, note)


def _owner(engine: Engine, account: str, market: str, at: datetime) -> str:
    """The trade that held the slot then, if it holds it still: one made since then is another."""
    slot = engine.store.get("positions", account_market(account, market))
    owner = str(slot.data.get("owner") or "") if slot else ""
    trade = engine.store.get("trades", owner) if owner else None
    return owner if trade is not None and trade.data["created_at"] <= at else ""
