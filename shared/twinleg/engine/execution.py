"""on_intent and on_close: carry out what was decided, resuming whatever an earlier delivery had begun."""

from __future__ import annotations

from twinleg.domain.errors import Conflict, InvariantBroken, Unavailable
from twinleg.domain.messages import CloseTrade, HedgedIntent
from twinleg.domain.trades import ENDED, TradeState
from twinleg.engine.closing import asked_to_leave
from twinleg.engine.pages import trade_document
from twinleg.engine.ports import Exists
from twinleg.engine.saga import CONFLICTS_MAX, Saga, proposed
from twinleg.engine.system import Engine


def on_intent(engine: Engine, intent: HedgedIntent) -> str:
    """Make the trade of an intent, once. A delivery that finds the trade resumes it from its state.

    Raises Unavailable or OutcomeUnknown when a step could not be decided: the queue delivers again.
    """
    saga = Saga(engine)
    if intent.replaces:
        _close_first(saga, intent)
    try:
        engine.store.create("trades", intent.intent_id, trade_document(proposed(intent, engine.now())))
    except Exists:
        trade, _ = saga.book.load(intent.intent_id)
        if trade.intent != intent:
            raise InvariantBroken(f"trade {intent.intent_id} exists with other content") from None
    trade = saga.advance(intent.intent_id)
    return trade.summary


def _close_first(saga: Saga, intent: HedgedIntent) -> None:
    """For a reversal: the old trade must be flat, confirmed, before the new one is looked at."""
    old, version = saga.book.load(intent.replaces)
    if old.state is TradeState.OPEN:
        saga.book.write(old, version, old.to(TradeState.CLOSING, why_closed=f"reversed by {intent.intent_id}"))
    old = saga.advance(intent.replaces)
    if old.state not in ENDED:
        raise Unavailable(f"trade {old.trade_id} is {old.state}: the reversal waits")


def on_close(engine: Engine, request: CloseTrade) -> str:
    """Close a trade or a fraction of both its legs; the same request twice acts once.

    The request is in the trade's own record before the message is acknowledged: whatever happens to the message
    then, the sweep carries it out. Raises Unavailable when it could not be written, or the trade has not begun.
    """
    saga = Saga(engine)
    for _ in range(CONFLICTS_MAX):
        if engine.store.get("trades", request.trade_id) is None:
            raise Unavailable(f"trade {request.trade_id} has no record yet: its close waits for it")
        trade, version = saga.book.load(request.trade_id)
        known = {*trade.requests_done, *(r.request_id for r in trade.requests_waiting)}
        if request.request_id in known or trade.state in ENDED:
            break
        try:
            saga.book.write(trade, version, asked_to_leave(trade, request))
            break
        except Conflict:
            continue
    else:
        raise Conflict(f"trade {request.trade_id} changes too fast for its close to be written")
    return saga.advance(request.trade_id).summary
