"""The order path: how a signed action is carried so that ONCE holds.

1. One atomic write claims the step, allots a nonce unique for its signer and stores the signed bytes.
2. The bytes are sent once; a verdict is recorded. No verdict means unknown, which is not failed.
3. Unknown: the same bytes again (only well before their expiry), then ``noop`` with that very nonce.
   Accepted: the action never ran and never can. Duplicate, when only our own copies before expiry were
   sent: it arrived, and order status says what it did. Anything else leaves it unknown.
4. The other proof is the final read: past expiry by the venue's own time, twice, at least 5 s apart.

An action is carried whether it is an order, a cancel, leverage or margin.
Source of the venue facts: Hyperliquid docs, nonces and API wallets; the design notes in docs/order-path.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from twinleg.domain.candles import ms_from_utc
from twinleg.domain.errors import BadInput, Conflict, InvariantBroken, OutcomeUnknown, Unavailable
from twinleg.domain.ids import ClientOrderId
from twinleg.domain.messages import EventKind
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import AccountState, AckState, Fill, OrderAck, OrderReport, Position
from twinleg.domain.recorded import Recorded
from twinleg.engine.budget import back_off_seconds
from twinleg.engine.pages import action_document
from twinleg.engine.ports import (
    AddMargin,
    CancelOrders,
    Create,
    Exists,
    Noop,
    Outcome,
    PlaceEntry,
    PlaceReduction,
    Replace,
    SetLeverage,
    Signed,
    SignerRole,
    Venue,
    VenueAction,
    Verdict,
    Write,
)
from twinleg.engine.records import read
from twinleg.engine.system import Engine

log = logging.getLogger("twinleg.orders")

ALLOTMENT_TRIES = 60
RESEND_MARGIN = timedelta(seconds=2)
FINAL_MARGIN = timedelta(seconds=5)
BETWEEN_FINAL_READS_SECONDS = 5.0
LOOKS = 4


class ActionState(StrEnum):
    WRITTEN = "written"
    """Stored; may have been sent; no verdict."""
    ARRIVED = "arrived"
    """Its nonce was spent by it; what it did is not read yet."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NEVER_RAN = "never_ran"
    """Proved: it did not run and never can. Another attempt may be signed."""
    VANISHED = "vanished"
    """It can run no more, and whether it ran cannot be read: an entry that arrived and left no trace, where absence
    proves nothing; or a change of margin, leverage or orders that is not answered."""


FINAL = frozenset({ActionState.ACCEPTED, ActionState.REJECTED, ActionState.NEVER_RAN, ActionState.VANISHED})


class ActionRecord(Recorded):
    """The write-ahead record of one signed action. Id: ``signer:nonce``."""

    id: str
    state: ActionState
    kind: str
    account: str
    market: str
    trade_id: str
    adds_exposure: bool
    client_order_ids: tuple[ClientOrderId, ...]
    signer: str
    role: SignerRole
    nonce: int
    expires_at: datetime | None
    body: str
    created_at: datetime
    acks: tuple[OrderAck, ...] = ()
    reason: str = ""
    expired_copy_sent: bool = False
    refused_copy_sent: bool = False
    """A copy was refused as an action while another could be under way, which then can have run all the same."""
    noop_unanswered: bool = False
    duplicate_seen: bool = False
    asked: str = ""
    """What it asks for, in words, where no order says it."""
    transitions: tuple[str, ...] = ()
    summary: str = ""

    @property
    def signed(self) -> Signed:
        return Signed(
            account=self.account, signer=self.signer, nonce=self.nonce, expires_at=self.expires_at, body=self.body
        )

    @property
    def final(self) -> bool:
        return self.state in FINAL

    def ack(self, client_order_id: str) -> OrderAck:
        """What became of one of the orders; a refused or never-run action's orders are rejected."""
        if self.state is not ActionState.ACCEPTED:
            return OrderAck(state=AckState.REJECTED, reason=self.reason or self.state.value)
        index = self.client_order_ids.index(client_order_id)
        return self.acks[index] if index < len(self.acks) else OrderAck(state=AckState.REJECTED, reason="no answer")


Claim = Callable[[str], Sequence[Write]]
"""Given the action's id, the writes that claim the step it carries out."""


class OrderPath:
    """Carries signed actions for one function. Holds no state but what was written and not yet sent."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unsent: dict[str, ActionRecord] = {}
        self._throttled = 0
        """Times in a row that a venue took a request for one too many."""
        self._behind = timedelta(0)
        """How far our clock was found to be behind the venue's."""

    # -- writing ahead ---------------------------------------------------------------------------

    def write(self, action: VenueAction, *, trade_id: str, claim: Claim) -> str:
        """Store the signed action together with the step it claims; its id. Nothing is sent yet.

        Raises Conflict when the step was claimed by another, Unavailable when the store is not reached.
        """
        engine, venue = self._engine, self._engine.venues.of(action.account)
        role = self._role(action)
        signer = venue.signer(action.account, role)
        for _ in range(ALLOTMENT_TRIES):
            seen = engine.store.get("signers", signer)
            now = engine.now()
            nonce = max(ms_from_utc(now), int(seen.data.get("last_nonce", 0)) + 1 if seen else 0)
            if role is SignerRole.EMERGENCY:  # which may have been used without its record
                nonce = engine.memory.nonce(signer, nonce)
            expires_at = now + timedelta(seconds=engine.desk.limits.action_expiry_seconds)
            if not isinstance(action, PlaceEntry):  # with such a clock nothing is opened, and everything closed
                expires_at += self._behind
            record = self._sign(venue, action, role, nonce, expires_at, now, trade_id)
            last = (dict(seen.data) if seen else {}) | {
                "last_nonce": nonce, "account": action.account, "role": role.value, "at": now,
                "summary": f"{action.account} {role.value}: last nonce {nonce}",
            }  # fmt: skip
            allotment: Write = (
                Replace("signers", signer, last, seen.version) if seen else Create("signers", signer, last)
            )
            try:
                engine.store.batch(
                    [*claim(record.id), Create("actions", record.id, action_document(record)), allotment]
                )
            except (Conflict, Exists) as conflict:
                again = engine.store.get("signers", signer)
                if (again.version if again else None) == (seen.version if seen else None):
                    raise Conflict(f"trade {trade_id}: the step was claimed by another") from conflict
                continue
            self._unsent[record.id] = record
            return record.id
        raise Unavailable(f"signer {signer}: no nonce in {ALLOTMENT_TRIES} tries, too many writers at once")

    def _role(self, action: VenueAction) -> SignerRole:
        """Whose key signs: for what only reduces, the emergency key once the venue did not know the key of risk."""
        engine, venue = self._engine, self._engine.venues.of(action.account)
        if engine.role is not SignerRole.RISK or not isinstance(action, (PlaceReduction, CancelOrders)):
            return engine.role
        if not engine.memory.is_refused(venue.signer(action.account, SignerRole.RISK), engine.now()):
            return SignerRole.RISK
        try:
            emergency = venue.signer(action.account, SignerRole.EMERGENCY)
        except (BadInput, Unavailable):
            return SignerRole.RISK
        return SignerRole.RISK if engine.memory.is_refused(emergency, engine.now()) else SignerRole.EMERGENCY

    def _sign(
        self,
        venue: Venue,
        action: VenueAction,
        role: SignerRole,
        nonce: int,
        expires_at: datetime,
        now: datetime,
        trade_id: str,
    ) -> ActionRecord:
        signed = venue.sign(action, role, nonce, expires_at)
        return record_of(action, signed, role, now, trade_id)

    # -- the verdict -----------------------------------------------------------------------------

    def outcome(self, action_id: str) -> ActionRecord:
        """The action's final record: sends what this call's caller just wrote, or finds out what became of it.

        Raises OutcomeUnknown while nothing is proved. Never signs another order.
        """
        unsent = self._unsent.pop(action_id, None)
        if unsent is not None:
            verdict = self._venue(unsent).send(unsent.signed, len(unsent.client_order_ids))
            record, _ = self._load(action_id)
            if not record.final:  # somebody else may have taken it up meanwhile: then ours was not the only copy
                sent = Sent.FIRST if record == unsent else Sent.AGAIN
                record = self._save(record, judged(record, sent, verdict), verdict.outcome.value)
            self._slow_down(verdict)
            if verdict.outcome is Outcome.UNKNOWN_SIGNER:
                self._key_refused(unsent, verdict.reason)
            if verdict.outcome is Outcome.EXPIRED:
                self._behind = max(self._behind, self._venue(unsent).time() - self._engine.now())
            if record.final:
                return record
        record, _ = self._load(action_id)
        return record if record.final else self._resolve(record)

    def perform(self, action: VenueAction, *, trade_id: str, claim: Claim) -> ActionRecord:
        """Write, send, and find out; again under another key when the venue did not know this one."""
        record = self.outcome(self.write(action, trade_id=trade_id, claim=claim))
        if record.state is ActionState.REJECTED and self._role(action) is not record.role:
            return self.outcome(self.write(action, trade_id=trade_id, claim=claim))
        return record

    def _key_refused(self, record: ActionRecord, reason: str) -> None:
        """Said each time: a key that the venue does not know protects nothing until a person approves one."""
        engine = self._engine
        engine.memory.refuse(record.signer, engine.now())
        log.error("the venue does not know the key of %s for %s: %s", record.role, record.account, reason)
        if record.role is not SignerRole.EXECUTE:
            engine.announce(
                EventKind.EMERGENCY,
                f"the venue refuses the key of {record.role} ({record.signer}): {reason}",
                account=record.account,
                trade_id=record.trade_id,
            )

    def _slow_down(self, verdict: Verdict) -> None:
        """Wait before anything else is sent or decided, the longer the more often a venue was asked too much."""
        self._throttled = self._throttled + 1 if verdict.outcome is Outcome.THROTTLED else 0
        if self._throttled:
            self._engine.clock.sleep(back_off_seconds(self._throttled, self._engine.now().isoformat()))

    def _load(self, action_id: str) -> tuple[ActionRecord, str]:
        found = read(self._engine.store, "actions", action_id, ActionRecord)
        if found is None:
            raise InvariantBroken(f"action {action_id} has no record")
        return found

    def _venue(self, record: ActionRecord) -> Venue:
        return self._engine.venues.of(record.account)

    def _save(self, before: ActionRecord, after: ActionRecord, word: str) -> ActionRecord:
        """Record what was learned, if the record is still as it was read; a verdict recorded by another stands."""
        noted = after.model_copy(
            update={
                "transitions": (*before.transitions, f"{self._engine.now().isoformat()} {word} -> {after.state.value}")
            }
        )
        current, version = self._load(before.id)
        if current.final:
            return current
        if current != before:
            raise Conflict(f"action {before.id} was taken up by another")
        self._engine.store.batch([Replace("actions", noted.id, action_document(noted), version)])
        if noted.final:
            _write_line(noted, self._engine.now())
        return noted

    # -- unknown outcomes ------------------------------------------------------------------------

    def _resolve(self, record: ActionRecord) -> ActionRecord:
        venue = self._venue(record)
        if record.state is ActionState.WRITTEN and self._may_resend(record, venue):
            record = self._resend(record, venue)
        if record.state is ActionState.WRITTEN and not record.noop_unanswered and not record.duplicate_seen:
            record = self._fence(record, venue)
        if record.state is ActionState.ARRIVED and not record.client_order_ids:
            return self._save(record, record.model_copy(update={"state": ActionState.ACCEPTED}), "arrived")
        if not record.final:
            record = self._look(record)
        if not record.final:
            record = self._final_read(record, venue)
        return record

    def _may_resend(self, record: ActionRecord, venue: Venue) -> bool:
        return (
            record.expires_at is not None
            and not record.noop_unanswered
            and not record.expired_copy_sent
            and not record.refused_copy_sent
            and venue.time() < record.expires_at - RESEND_MARGIN
        )

    def _resend(self, record: ActionRecord, venue: Venue) -> ActionRecord:
        """Said before it is done: whoever sent the first copy must not take an answer to it for the last word."""
        record = self._save(record, record, "sending again")
        if record.final:
            return record
        verdict = venue.send(record.signed, len(record.client_order_ids))
        record = self._save(record, judged(record, Sent.AGAIN, verdict), f"sent again: {verdict.outcome.value}")
        self._slow_down(verdict)
        return record

    def _fence(self, record: ActionRecord, venue: Venue) -> ActionRecord:
        noop = self._noop(record, venue)
        if noop is None:
            return record
        record = self._save(record, record.model_copy(update={"noop_unanswered": True}), "noop written")
        verdict = venue.send(noop, 0)
        record = self._save(record, judged(record, Sent.NOOP, verdict), f"noop: {verdict.outcome.value}")
        self._slow_down(verdict)
        return record

    def _noop(self, record: ActionRecord, venue: Venue) -> Signed | None:
        """A noop under the record's own nonce and signer; None when that key is not ours (any more)."""
        try:
            same_key = venue.capability.noop and venue.signer(record.account, record.role) == record.signer
        except BadInput:
            return None
        return venue.sign(Noop(record.account), record.role, record.nonce, None) if same_key else None

    def _look(self, record: ActionRecord) -> ActionRecord:
        looks = LOOKS if record.state is ActionState.ARRIVED else 1
        for look in range(looks):
            acks = self._acks(record)
            if acks is not None:
                return self._save(
                    record, record.model_copy(update={"state": ActionState.ACCEPTED, "acks": acks}), "found"
                )
            if look + 1 < looks:
                self._engine.clock.sleep(0.5)
        return record

    def _acks(self, record: ActionRecord) -> tuple[OrderAck, ...] | None:
        """The orders' acknowledgements from what the venue says of them; None when it knows none of them.

        An entry that it does not know while it knows the entry's stop was asked of a node that lags: no verdict.
        """
        reports = self._reports(record)
        if all(report is None for report in reports) or (record.adds_exposure and reports[0] is None):
            return None
        return tuple(
            OrderAck(state=r.state, order_id=r.order_id, reason=r.status)
            if r
            else OrderAck(state=AckState.REJECTED, reason="the venue does not know it")
            for r in reports
        )

    def _reports(self, record: ActionRecord) -> list[OrderReport | None]:
        return [order_report(self._engine, record.account, id) for id in record.client_order_ids]

    def _final_read(self, record: ActionRecord, venue: Venue) -> ActionRecord:
        """By the venue's time in the very answer that says what is held: another node may lag behind."""
        for reading in range(2):
            state = venue.account(record.account)
            if record.expires_at is None or state.at < record.expires_at + FINAL_MARGIN:
                raise OutcomeUnknown(f"action {record.id} ({record.summary}) has no verdict yet")
            if any(self._reports(record)) or self._traces(record, venue, state):
                raise OutcomeUnknown(f"action {record.id} left a trace that was not there before; look again")
            if reading == 0:
                self._engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
        return self._save(record, _without_trace(record), "final read, twice: no trace")

    def _traces(self, record: ActionRecord, venue: Venue, state: AccountState) -> bool:
        ids = set(record.client_order_ids)
        fills = venue.fills(record.account, record.created_at - timedelta(minutes=1))
        return (
            any(o.client_order_id in ids for o in venue.open_orders(record.account))
            or any(f.client_order_id in ids for f in fills)
            or (record.adds_exposure and not _explained(state.position(record.market), record.market, fills))
        )


def _explained(position: Position | None, market: str, fills: Sequence[Fill]) -> bool:
    """Whether the position is the one that the last of these fills left, or, where there is none, there is none.

    What holds no position when it is entered has no other: then the order ran, and its fill is not shown yet.
    """
    of_market = [fill for fill in fills if fill.market == market]
    left = {f.start_position + f.size * f.side.sign for f in of_market if f.at == of_market[-1].at}
    return (position.size if position else ZERO) in (left or {ZERO})


def record_of(action: VenueAction, signed: Signed, role: SignerRole, now: datetime, trade_id: str) -> ActionRecord:
    """The record of a signed action before it is sent."""
    kind, market = type(action).__name__, _market(action)
    return ActionRecord(
        id=f"{signed.signer}:{signed.nonce}",
        state=ActionState.WRITTEN,
        kind=kind,
        account=action.account,
        market=market,
        trade_id=trade_id,
        adds_exposure=isinstance(action, PlaceEntry),
        client_order_ids=_client_order_ids(action),
        signer=signed.signer,
        role=role,
        nonce=signed.nonce,
        expires_at=signed.expires_at,
        body=signed.body,
        created_at=now,
        asked=_asked(action),
        transitions=(f"{now.isoformat()} written",),
        summary=f"{kind} {market} on {action.account} for {trade_id}",
    )


def order_report(engine: Engine, account: str, client_order_id: ClientOrderId) -> OrderReport | None:
    """What the venue says of an order. One whose status we do not know rests if it is among the resting orders.

    If it is not, in two reads 5 s apart, it is over, and its fills say what it did: nothing is guessed from the word.
    A person is told of it.
    """
    venue = engine.venues.of(account)
    report = venue.order(account, client_order_id)
    if report is None or report.known:
        return report

    def rests() -> bool:
        return any(o.client_order_id == client_order_id for o in venue.open_orders(account))

    state = AckState.RESTING
    if not rests():
        engine.clock.sleep(BETWEEN_FINAL_READS_SECONDS)
        state = AckState.RESTING if rests() else AckState.CANCELED
    engine.announce(
        EventKind.WARNED,
        f"order {client_order_id}: its status {report.status!r} is not known; by the list of resting orders it "
        f"{'rests' if state is AckState.RESTING else 'is over'}",
        account=account,
    )
    return report.model_copy(update={"state": state})


class Sent(StrEnum):
    """Which sending an answer belongs to."""

    FIRST = "first"
    """The only copy of the stored bytes ever sent."""
    AGAIN = "again"
    """A copy when another may have arrived, or may still."""
    NOOP = "noop"
    """A noop under the action's own nonce and key."""


def judged(record: ActionRecord, sent: Sent, verdict: Verdict) -> ActionRecord:
    """What the answer to one sending proves: the decision table of the order path, whole.

    What is not in it proves nothing. Of a copy that was not the only one, and of noop, only what names the nonce
    proves anything. A copy that was refused or came too late may have spent the nonce itself, or may not (venues are
    not known well enough to say): after it, "duplicate" does not mean that another copy ran.
    """
    spent_by_a_copy = record.expired_copy_sent or record.refused_copy_sent

    def found(**what: object) -> ActionRecord:
        return record.model_copy(update=what)

    match sent, verdict.outcome:
        case Sent.FIRST | Sent.AGAIN, Outcome.ACCEPTED:
            return found(state=ActionState.ACCEPTED, acks=verdict.acks)
        case Sent.FIRST, Outcome.REJECTED | Outcome.MALFORMED | Outcome.UNKNOWN_SIGNER | Outcome.NONCE_TOO_LOW:
            return found(state=ActionState.REJECTED, reason=verdict.reason)
        case Sent.FIRST, Outcome.THROTTLED | Outcome.EXPIRED:
            return found(state=ActionState.NEVER_RAN, reason=verdict.reason)
        case Sent.FIRST, Outcome.DUPLICATE:
            return found(state=ActionState.ARRIVED, duplicate_seen=True)
        case Sent.FIRST, Outcome.UNKNOWN:
            return found(reason=verdict.reason)
        case Sent.AGAIN, Outcome.REJECTED:
            return found(refused_copy_sent=True, reason=verdict.reason)
        case Sent.AGAIN, Outcome.EXPIRED:
            return found(expired_copy_sent=True)
        case Sent.AGAIN, Outcome.DUPLICATE if spent_by_a_copy or record.noop_unanswered:
            return found(duplicate_seen=True)
        case Sent.AGAIN, Outcome.DUPLICATE:
            return found(state=ActionState.ARRIVED, duplicate_seen=True)
        case Sent.NOOP, Outcome.ACCEPTED:
            reason = f"fenced by noop; {record.reason}" if record.refused_copy_sent else "fenced by noop"
            return found(state=ActionState.NEVER_RAN, noop_unanswered=False, reason=reason)
        case Sent.NOOP, Outcome.DUPLICATE if not spent_by_a_copy:
            return found(state=ActionState.ARRIVED, noop_unanswered=False, duplicate_seen=True)
        case Sent.NOOP, Outcome.THROTTLED | Outcome.MALFORMED:
            return found(noop_unanswered=False)
        case _:
            return record


def _without_trace(record: ActionRecord) -> ActionRecord:
    """What it proves that an action, past its expiry, left no trace: only of orders, which do leave one."""
    arrived = record.state is ActionState.ARRIVED or record.duplicate_seen
    if not record.client_order_ids:
        return record.model_copy(update={"state": ActionState.VANISHED, "reason": "whether it ran cannot be read"})
    if record.refused_copy_sent:  # which says who spent the nonce
        return record.model_copy(update={"state": ActionState.REJECTED})
    return record.model_copy(update={"state": ActionState.VANISHED if arrived else ActionState.NEVER_RAN})


LOUDNESS = {ActionState.REJECTED: logging.WARNING, ActionState.NEVER_RAN: logging.WARNING}


def _write_line(record: ActionRecord, now: datetime) -> None:
    """A signed action and its verdict as one log line; latency is from its writing, by the system's clock."""
    level = logging.ERROR if record.state is ActionState.VANISHED else LOUDNESS.get(record.state, logging.INFO)
    ids = record.client_order_ids
    about = {
        "action_id": record.id, "kind": record.kind, "outcome": record.state.value, "reason": record.reason,
        "latency_seconds": (now - record.created_at).total_seconds(), "trade_id": record.trade_id,
        "intent_id": record.trade_id, "account": record.account, "market": record.market,
        "client_order_id": ids[0] if ids else "", "client_order_ids": list(ids),
    }  # fmt: skip
    told = {name: value for name, value in about.items() if value not in ("", [])}
    log.log(level, "%s: %s", record.summary, record.state.value, extra=told)


def _client_order_ids(action: VenueAction) -> tuple[ClientOrderId, ...]:
    return tuple(o.client_order_id for o in action.orders) if isinstance(action, (PlaceEntry, PlaceReduction)) else ()


def _asked(action: VenueAction) -> str:
    match action:
        case SetLeverage():
            return f"{action.leverage}x, {'isolated' if action.isolated else 'cross'}"
        case AddMargin():
            return f"{plain(action.usd)} USD"
        case CancelOrders():
            return ", ".join((*action.client_order_ids, *action.order_ids))
    return ""


def _market(action: VenueAction) -> str:
    match action:
        case PlaceEntry() | PlaceReduction():
            return action.orders[0].market
        case CancelOrders() | SetLeverage() | AddMargin():
            return action.market
        case Noop():
            raise InvariantBroken("noop is not an action of its own: it fences another's nonce")
