"""From an HTTP request to one handler and back: what every function's ``main.py`` calls.

The decoder, the handlers and the mapping of errors to answers are the same whether the request comes from
Pub/Sub, from Scheduler, or from the bus and scheduler of one process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twinleg import bootstrap, wire
from twinleg.domain.errors import BadInput, Rejected, TwinlegError
from twinleg.engine.ports import SignerRole

if TYPE_CHECKING:
    from flask import Request

    from twinleg.bootstrap import System

log = logging.getLogger("twinleg")

Body = tuple[str, int]


def serve(name: str, request: Request) -> Body:
    """Answer one request to the function *name*."""
    if name == "webhook":
        return _webhook(request)
    system = bootstrap.current()
    if name in SCHEDULED:
        return _scheduled(system, name)
    return _queued(system, name, request)


def _webhook(request: Request) -> Body:
    """Answer TradingView. A failure is logged here: the framework would log the path, which carries the secret."""
    try:
        return _received(bootstrap.current(), request)
    except Exception as error:
        log.critical("webhook failed: %s\n%s", wire.reason_for(error), wire.stack_of(error))
        return "the webhook failed; send it again", 500


def _received(system: System, request: Request) -> Body:
    from twinleg.engine.webhook import on_post

    headers, address = dict(request.headers), request.remote_addr or ""
    reply = on_post(system.intake(), request.method, request.path, headers, request.get_data(), address)
    system.refusals.count(reply.counted_as)
    level = logging.INFO if reply.status == 200 else logging.WARNING
    log.log(level, "webhook %s %s", reply.status, reply.counted_as)
    return f"{reply.text}\n", reply.status


def _ingest(system: System) -> str:
    from twinleg.engine.ingest import on_tick

    return on_tick(system.engine(SignerRole.EXECUTE))


def _risk(system: System) -> str:
    from twinleg.engine.sweep import on_sweep

    return on_sweep(system.engine(SignerRole.RISK))


SCHEDULED: dict[str, Callable[[System], str]] = {"ingest": _ingest, "risk": _risk}


def _scheduled(system: System, name: str) -> Body:
    try:
        return SCHEDULED[name](system), 200
    except TwinlegError as error:
        return _answer(name, error)


def _queued(system: System, name: str, request: Request) -> Body:
    """Handle a message. What can never be handled goes to the dead letters with the reason, and is acknowledged."""
    try:
        delivery = wire.decode(dict(request.headers), request.get_data(), request.path)
    except BadInput as error:
        return _dead(system, "unknown", request.get_data(), error)
    try:
        return QUEUED[name](system, delivery), 200
    except Rejected as error:
        return _dead(
            system, delivery.topic or delivery.attributes.get("kind", name), delivery.data, error, delivery.attributes
        )
    except TwinlegError as error:
        return _answer(name, error)


def _signal(system: System, delivery: wire.Delivery) -> str:
    from twinleg.domain.messages import AlertMessage, CandleClosed
    from twinleg.engine.signals import on_alert, on_candle

    engine = system.engine(SignerRole.EXECUTE)
    if _kind(delivery, "alert", "candle") == "alert":
        return on_alert(engine, wire.from_bytes(AlertMessage, delivery.data))
    return on_candle(engine, wire.from_bytes(CandleClosed, delivery.data))


def _execute(system: System, delivery: wire.Delivery) -> str:
    from twinleg.domain.messages import CloseTrade, HedgedIntent
    from twinleg.engine.execution import on_close, on_intent

    engine = system.engine(SignerRole.EXECUTE)
    if _kind(delivery, "intent", "close") == "close":
        return on_close(engine, wire.from_bytes(CloseTrade, delivery.data))
    return on_intent(engine, wire.from_bytes(HedgedIntent, delivery.data))


QUEUED: dict[str, Callable[[System, wire.Delivery], str]] = {"signal": _signal, "execute": _execute}
TOPIC_KINDS = {"candles": "candle", "alerts": "alert", "intents": "intent", "closes": "close"}


def _kind(delivery: wire.Delivery, *handled: str) -> str:
    """What the message is, from its attribute or its topic; one of those that this function handles."""
    kind = delivery.attributes.get("kind") or TOPIC_KINDS.get(delivery.topic, "")
    if kind not in handled:
        raise BadInput(f"message {delivery.message_id}: kind must be {' or '.join(handled)} here, was {kind[:40]!r}")
    return kind


def _dead(
    system: System, topic: str, data: bytes, error: Rejected, attributes: Mapping[str, str] | None = None
) -> Body:
    kinds = {kind: name for name, kind in TOPIC_KINDS.items()}
    name = kinds.get(topic, topic)
    system.bus.publish(f"{name}-dead", data, attributes={**(attributes or {}), "reason": str(error)[:1000]})
    log.error("dead letter on %s: %s", name, error)
    return f"dead letter: {error}", 200


def _answer(name: str, error: TwinlegError) -> Body:
    answer = wire.answer_for(error)
    log.log(getattr(logging, wire.severity_for(error), logging.ERROR), "%s %s: %s", name, type(error).__name__, error)
    return answer.body, answer.status
