"""on_intent and on_close: carry out what was decided, resuming whatever an earlier delivery had begun."""

from __future__ import annotations

from twinleg.domain.errors import Conflict, InvariantBroken, Unavailable
from twinleg.domain.messages import CloseTrade, HedgedIntent
from twinleg.domain.trades import ENDED, Trade, TradeState
from twinleg.engine.ports import Exists
from twinleg.engine.records import document
from twinleg.engine.saga import Saga, proposed
from twinleg.engine.system import Engine


def on_intent(engine: Engine, intent: HedgedIntent) -> str:
    """Make the trade of an intent, once. A delivery that finds the trade resumes it from its state.

    Raises Unavailable or OutcomeUnknown when a step could not be decided: the queue delivers again.
    """
    saga = Saga(engine)
    if intent.replaces:
        _close_first(saga, intent)
    try:
        engine.store.create("trades", intent.intent_id, document(proposed(intent, engine.now())))
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
    """Close a trade or a fraction of both its legs; the same request twice acts once."""
    saga = Saga(engine)
    for _ in range(5):
        trade, version = saga.book.load(request.trade_id)
        if request.request_id in trade.requests_done or trade.state in ENDED:
            break
        if trade.state not in (TradeState.OPEN, TradeState.NEEDS_A_PERSON):
            raise Unavailable(f"trade {trade.trade_id} is {trade.state}: the close waits for it to rest")
        try:
            saga.book.write(trade, version, asked_to_leave(trade, request))
            break
        except Conflict:
            continue
    return saga.advance(request.trade_id).summary


def asked_to_leave(trade: Trade, request: CloseTrade) -> Trade:
    """The trade as it is once a close or a cut was asked of it."""
    done = (*trade.requests_done, request.request_id)
    if request.fraction >= 1 or trade.state is TradeState.NEEDS_A_PERSON:
        return trade.to(TradeState.CLOSING, why_closed=request.reason, requests_done=done)
    return trade.to(
        TradeState.REDUCING,
        why_closed=request.reason,
        closing_fraction=request.fraction,
        requests_done=done,
        sequence=trade.sequence + 1,
    )
