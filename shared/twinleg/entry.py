"""From an HTTP request to one handler and back: what every function's ``main.py`` calls.

The decoder, the handlers and the mapping of errors to answers are the same whether the request comes from
Pub/Sub, from Scheduler, or from the bus and scheduler of one process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twinleg import bootstrap, logs, wire
from twinleg.adapters.local.clocks import stopwatch
from twinleg.domain.errors import BadInput, Rejected, TwinlegError
from twinleg.domain.words import SignerRole
from twinleg.engine.measures import measure
from twinleg.settings import environment

if TYPE_CHECKING:
    from twinleg.bootstrap import System

log = logging.getLogger("twinleg")

bootstrap.set_up_logs(environment())  # before the server starts, so that its own lines go the same way

Body = tuple[str, int]


class Posted(Protocol):
    """What a function needs of a request: Flask's, or one that never crossed a socket."""

    @property
    def headers(self) -> Any: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def remote_addr(self) -> str | None: ...
    def get_data(self) -> bytes: ...


def ready(name: str) -> bool:
    """Load what the function's first request needs, where a process serves one function: in the cloud. Else False.

    A configuration with a fault ends the process here, so that a new revision of the service never takes over.
    """
    if not bootstrap.is_cloud(environment()):
        return False
    bootstrap.preload(name)
    return True


def serve(name: str, request: Posted) -> tuple[str, int, dict[str, str]]:
    """Answer one request to the function *name*. Every line written meanwhile says which request it is about."""
    with logs.handling(name, dict(request.headers)):
        seconds, headers = stopwatch(), {}
        try:
            text, status = answer(bootstrap.current(), name, request)
        except Exception as error:
            text, status = _failed(name, error)
            headers = {"X-Google-Status": "crash"}
        measure("handled_seconds", seconds(), function=name, status=str(status))
        return text, status, headers


def answer(system: System, name: str, request: Posted) -> Body:
    """The answer of the function *name*, served by *system*."""
    if name == "webhook":
        return _webhook(system, request)
    if name in SCHEDULED:
        return _scheduled(system, name)
    return _queued(system, name, request)


def _failed(name: str, error: Exception) -> Body:
    """Say what nobody foresaw, once. The framework would log the path, which ends with the webhook's secret, and the
    error's text, which may quote anything.
    """
    level = max(logging.ERROR, logging.getLevelNamesMapping()[wire.severity_for(error)])
    log.log(level, "%s failed: %s", name, wire.reason_for(error), extra={"stack_trace": logs.stack_of(error)})
    text = "the webhook failed; send it again" if name == "webhook" else f"{name} failed: {wire.reason_for(error)}"
    return text, 500


def _webhook(system: System, request: Posted) -> Body:
    from twinleg.engine.webhook import on_post

    headers, address = dict(request.headers), request.remote_addr or ""
    reply = on_post(system.intake(), request.method, request.path, headers, request.get_data(), address)
    system.refusals.count(reply.counted_as)
    level = logging.INFO if reply.status == 200 else logging.WARNING
    said = {"status": str(reply.status), "reason": reply.counted_as}
    log.log(level, "webhook %s %s", reply.status, reply.counted_as, extra=said)
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
        return _done(name, SCHEDULED[name](system))
    except TwinlegError as error:
        return _answer(name, error)


def _queued(system: System, name: str, request: Posted) -> Body:
    """Handle a message. What can never be handled goes to the dead letters with the reason, and is acknowledged."""
    try:
        delivery = wire.decode(dict(request.headers), request.get_data(), request.path)
    except BadInput as error:
        return _dead(system, wire.Delivery(request.get_data()), error)
    _bind(system, name, delivery)
    try:
        return _done(name, QUEUED[name](system, delivery))
    except Rejected as error:
        return _dead(system, delivery, error)
    except TwinlegError as error:
        return _answer(name, error)


def _bind(system: System, name: str, delivery: wire.Delivery) -> None:
    """Say on every line which message is handled, in the trace it carries; and how long it waited."""
    topic = delivery.topic or _topic_of(delivery)
    logs.follow(delivery.attributes)
    logs.note(message_id=delivery.message_id, topic=topic)
    if delivery.published_at:
        waited = (system.clock.now() - delivery.published_at).total_seconds()
        measure("queue_seconds", max(0.0, waited), function=name, topic=topic)


def _topic_of(delivery: wire.Delivery) -> str:
    """The topic of a message that only says its kind; empty when it does not say that either."""
    topics = {kind: topic for topic, kind in TOPIC_KINDS.items()}
    return topics.get(delivery.attributes.get("kind", ""), "")


def _signal(system: System, delivery: wire.Delivery) -> str:
    from twinleg.domain.messages import AlertMessage, CandleClosed
    from twinleg.engine.signals import on_alert, on_candle

    engine = system.engine(SignerRole.EXECUTE)
    if _kind(delivery, "alert", "candle") == "alert":
        alert = wire.from_bytes(AlertMessage, delivery.data)
        logs.note(alert_id=alert.alert.alert_id)
        return on_alert(engine, alert)
    candle = wire.from_bytes(CandleClosed, delivery.data)
    logs.note(market=candle.market)
    return on_candle(engine, candle)


def _execute(system: System, delivery: wire.Delivery) -> str:
    from twinleg.domain.messages import CloseTrade, HedgedIntent
    from twinleg.engine.execution import on_close, on_intent

    engine = system.engine(SignerRole.EXECUTE)
    if _kind(delivery, "intent", "close") == "close":
        request = wire.from_bytes(CloseTrade, delivery.data)
        logs.note(trade_id=request.trade_id, intent_id=request.trade_id)
        return on_close(engine, request)
    intent = wire.from_bytes(HedgedIntent, delivery.data)
    logs.note(trade_id=intent.intent_id, intent_id=intent.intent_id, market=intent.market, account=intent.main.account)
    return on_intent(engine, intent)


QUEUED: dict[str, Callable[[System, wire.Delivery], str]] = {"signal": _signal, "execute": _execute}
TOPIC_KINDS = {"candles": "candle", "alerts": "alert", "intents": "intent", "closes": "close"}


def _kind(delivery: wire.Delivery, *handled: str) -> str:
    """What the message is, from its attribute or its topic; one of those that this function handles."""
    kind = delivery.attributes.get("kind") or TOPIC_KINDS.get(delivery.topic, "")
    if kind not in handled:
        raise BadInput(f"message {delivery.message_id}: kind must be {' or '.join(handled)} here, was {kind[:40]!r}")
    return kind


def _dead(system: System, delivery: wire.Delivery, error: Rejected) -> Body:
    """Put a message that can never be handled where a person finds it, with all that is needed to send it again."""
    from twinleg.engine.dead_letters import SOURCES, UNKNOWN, about_death

    source = delivery.topic or _topic_of(delivery)
    source = source if source in SOURCES else UNKNOWN
    about = about_death(
        str(error)[:1000],
        topic=delivery.topic,
        message_id=delivery.message_id,
        published_at=delivery.published_at,
        attempts=delivery.attempt,
    )
    system.bus.publish(f"{source}-dead", delivery.data, key=delivery.key, attributes={**delivery.attributes, **about})
    log.error("dead letter on %s: %s", source, error, extra={"dead_letter": source})
    return f"dead letter: {error}", 200


def _done(name: str, text: str) -> Body:
    log.info("%s 200: %s", name, text, extra={"status": "200"})
    return text, 200


def _answer(name: str, error: TwinlegError) -> Body:
    answer = wire.answer_for(error)
    level = logging.getLevelNamesMapping()[wire.severity_for(error)]
    log.log(level, "%s %s: %s", name, type(error).__name__, error, extra={"status": str(answer.status)})
    return answer.body, answer.status
