"""What crosses between functions: every shape in which Pub/Sub delivers a message, and what we answer.

One decoder for all shapes, because the functions framework's own event decorators drop the ordering
key or refuse a raw push. One table from errors to answers, so that exactly what should come again does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from twinleg.domain.errors import (
    BadInput,
    Conflict,
    InvariantBroken,
    OutcomeUnknown,
    Rejected,
    TwinlegError,
    Unavailable,
)
from twinleg.domain.words import Topic

ORDERING_KEY = "ordering_key"
"""The attribute that repeats a message's ordering key, because the emulator's push leaves the key itself out."""

# -- deliveries ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it reached a function, whatever the shape it came in."""

    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    message_id: str = ""
    topic: str = ""
    """Empty when neither path, source, attributes nor subscription tells."""
    attempt: int = 0
    """1 for the first delivery; 0 when the sender does not count (no dead-letter policy)."""
    published_at: datetime | None = None


def decode(headers: Mapping[str, str], body: bytes, path: str = "/") -> Delivery:
    """The message in a request: a direct push (wrapped or not), Eventarc, a CloudEvent, or the emulator's push.

    A path that contains ``topics/<topic>`` (or ends in a known topic's name) says the topic. Raises
    BadInput for anything that is not a Pub/Sub message. Source of the shapes: Google Cloud documentation,
    "Receive push messages" and "CloudEvents - HTTP protocol binding", and the framework's converter.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if "x-goog-pubsub-message-id" in lower:
        return _unwrapped(lower, body, path)
    document = _json_object(body)
    if "specversion" in document:
        return _structured(document, path)
    if isinstance(document.get("context"), dict) and isinstance(document.get("data"), dict):
        return _background(document, path)
    return _wrapped(document, path, source=lower.get("ce-source", ""), event_type=lower.get("ce-type", ""))


def push_body(
    *,
    data: bytes,
    message_id: str,
    topic: str,
    key: str = "",
    attributes: Mapping[str, str] | None = None,
    attempt: int = 0,
    published_at: datetime | None = None,
    subscription: str = "",
) -> dict[str, Any]:
    """What a production push subscription would POST. Absent when empty, as there: key, attributes, data, attempt."""
    at = _time_text(published_at) if published_at else None
    message: dict[str, Any] = {"messageId": message_id, "message_id": message_id}
    if data:
        message["data"] = base64.b64encode(data).decode()
    if at:
        message |= {"publishTime": at, "publish_time": at}
    if attributes:
        message["attributes"] = dict(attributes)
    if key:
        message["orderingKey"] = key
    body: dict[str, Any] = {
        "message": message,
        "subscription": subscription or f"projects/local/subscriptions/{topic}",
    }
    return body | {"deliveryAttempt": attempt} if attempt else body


def _wrapped(document: Mapping[str, Any], path: str, *, source: str = "", event_type: str = "") -> Delivery:
    message = document.get("message")
    if not isinstance(message, dict):
        kind = f"an event of type {event_type}" if event_type else f"an object with {_names(document)}"
        raise BadInput(f"the request's body must be a Pub/Sub push with a message, was {kind}")
    attributes = _attributes(message.get("attributes"))
    return Delivery(
        data=_base64(message.get("data"), "message.data"),
        attributes=attributes,
        key=_text(message, "orderingKey", "ordering_key") or attributes.get(ORDERING_KEY, ""),
        message_id=_text(message, "messageId", "message_id"),
        topic=_topic(path, source, attributes, _text(document, "subscription")),
        attempt=_attempt(document.get("deliveryAttempt")),
        published_at=_time(_text(message, "publishTime", "publish_time"), "message.publishTime"),
    )


def _structured(event: Mapping[str, Any], path: str) -> Delivery:
    source, event_type = _text(event, "source"), _text(event, "type")
    data = event.get("data")
    if isinstance(data, dict):
        return _wrapped(data, path, source=source, event_type=event_type)
    if "data_base64" not in event:
        raise BadInput(f"the CloudEvent {_text(event, 'id')!r} must have data.message or data_base64")
    payload = _base64(event["data_base64"], "data_base64")
    try:
        inner = _json_object(payload)
    except BadInput:
        inner = {}
    if isinstance(inner.get("message"), dict):
        return _wrapped(inner, path, source=source, event_type=event_type)
    return Delivery(
        data=payload,
        key=_text(event, "partitionkey"),
        message_id=_text(event, "id"),
        topic=_topic(path, source, {}, ""),
        published_at=_time(_text(event, "time"), "time"),
    )


def _background(document: Mapping[str, Any], path: str) -> Delivery:
    """The framework's older event shape: the message under ``data``, its id and time in ``context``."""
    context, message = document["context"], dict(document["data"])
    message.setdefault("messageId", context.get("eventId"))
    message.setdefault("publishTime", context.get("timestamp"))
    resource = context.get("resource")
    name = resource.get("name") if isinstance(resource, dict) else resource
    return _wrapped({"message": message}, path, source=name if isinstance(name, str) else "")


_NOT_ATTRIBUTES = re.compile(
    r"(x-goog-|x-cloud-|x-forwarded-|x-serverless-|x-appengine-|x-request-|ce-|sec-|accept|content-|user-agent$|host$"
    r"|connection$|authorization$|from$|forwarded$|via$|traceparent$|tracestate$|transfer-encoding$|cache-control$"
    r"|pragma$|expect$|date$|te$|cookie$|origin$|referer$|upgrade|keep-alive$|function-execution-id$)"
)


def _unwrapped(headers: Mapping[str, str], body: bytes, path: str) -> Delivery:
    """Push without wrapping: the body is the data and attributes are headers, so that their case is lost."""
    attributes = {name: value for name, value in headers.items() if not _NOT_ATTRIBUTES.match(name)}
    return Delivery(
        data=body,
        attributes=attributes,
        key=headers.get("x-goog-ordering-key") or headers.get("x-goog-pubsub-ordering-key")
        or attributes.get(ORDERING_KEY, ""),
        message_id=headers["x-goog-pubsub-message-id"],
        topic=_topic(path, "", attributes, headers.get("x-goog-pubsub-subscription-name", "")),
        attempt=_attempt(headers.get("x-goog-pubsub-delivery-attempt")),
        published_at=_time(headers.get("x-goog-pubsub-publish-time", ""), "X-Goog-Pubsub-Publish-Time"),
    )  # fmt: skip


_IN_PATH = re.compile(r"topics/([A-Za-z][\w.~+%-]*)")
_TOPICS = frozenset(str(topic.value) for topic in Topic) | frozenset(topic.dead for topic in Topic)


def _topic(path: str, source: str, attributes: Mapping[str, str], subscription: str) -> str:
    for place in (path.split("?")[0], source):
        if found := _IN_PATH.search(place):
            return found[1]
    last = path.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    if last in _TOPICS:
        return last
    return attributes.get("topic") or _topic_of_subscription(subscription)


def _topic_of_subscription(subscription: str) -> str:
    """A subscription is named after its topic: ``candles``, ``signal-candles``, ``intents-dead`` …"""
    name = subscription.rsplit("/", 1)[-1]
    words = re.split(r"[^A-Za-z]+", name.lower())
    found = [topic for topic in Topic if topic.value in words]
    if len(found) != 1:
        return ""
    return found[0].dead if "dead" in words else found[0].value


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadInput(f"the request's body must be JSON, was {len(body)} bytes that are not") from None
    if not isinstance(document, dict):
        raise BadInput(f"the request's body must be a JSON object, was {type(document).__name__}")
    return document


def _names(document: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, document))[:5])[:80] or "nothing in it"


def _text(document: Mapping[str, Any], *names: str) -> str:
    for name in names:
        value = document.get(name)
        if value is not None and not isinstance(value, str):
            raise BadInput(f"{name} must be text, was {type(value).__name__}")
        if value:
            return value
    return ""


def _base64(value: object, name: str) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise BadInput(f"{name} must be base64 text, was {type(value).__name__}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput(f"{name} must be base64, was {len(value)} characters that are not") from None


def _attributes(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise BadInput("message.attributes must be a map of texts")
    return value


def _attempt(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isdecimal():
        raise BadInput(f"deliveryAttempt must be a whole number, was {str(value)[:20]!r}")
    return int(value)


def _time(text: str, name: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(_NANOSECONDS.sub(r"\1", text))
    except ValueError:
        raise BadInput(f"{name} must be an RFC 3339 time, was {text[:40]!r}") from None
    if at.tzinfo is None:
        raise BadInput(f"{name} must carry its zone, was {text[:40]!r}")
    return at.astimezone(UTC)


_NANOSECONDS = re.compile(r"(\.\d{6})\d+")


def _time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- messages ------------------------------------------------------------------------------------


def to_bytes(message: BaseModel) -> bytes:
    """A message as JSON: decimals as text, times as RFC 3339."""
    return message.model_dump_json().encode()


def from_bytes[Message: BaseModel](cls: type[Message], data: bytes) -> Message:
    """The message in *data*. BadInput names the field that is wrong, or the schema version that is not known."""
    document = _json_object(data)
    known = cls.model_fields.get("schema_version")
    if known is not None and document.get("schema_version") != known.default:
        version = str(document.get("schema_version"))[:20]
        raise BadInput(f"{cls.__name__} schema_version must be {known.default}, was {version}")
    try:
        return cls.model_validate_json(data)
    except ValidationError as error:
        raise BadInput(f"{cls.__name__}{_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = "".join(f".{part}" for part in fault["loc"])
    value = fault["input"]
    # A field nobody expects may be anything, a secret too: its value is not repeated.
    shown = fault["type"] != "extra_forbidden" and isinstance(value, str | int | float)
    return f"{where}: {fault['msg']}" + (f", was {str(value)[:60]!r}" if shown else "")


# -- answers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: the status and one line."""

    status: int
    body: str = ""


def answer_for(error: BaseException | None) -> Answer:
    """What a message's sender (Pub/Sub, the scheduler) is told: 2xx takes it from the queue, the rest brings it again.

    A verdict is recorded and acknowledged; repeating would change nothing. Unavailable and
    OutcomeUnknown come again soon; a broken invariant and anything unforeseen end in the dead letters.
    """
    if error is None:
        return Answer(204)
    if isinstance(error, Rejected):
        return Answer(200, reason_for(error))
    return _failure(error)


def answer_for_client(error: BaseException | None) -> Answer:
    """What a program or person that waits for the answer (the webhook's sender, the API's user) is told."""
    if error is None:
        return Answer(200, "ok")
    if isinstance(error, BadInput):
        return Answer(400, reason_for(error))
    if isinstance(error, Rejected):
        return Answer(422, reason_for(error))
    return _failure(error)


def _failure(error: BaseException) -> Answer:
    return Answer(503 if isinstance(error, Unavailable | OutcomeUnknown) else 500, reason_for(error))


def severity_for(error: BaseException | None) -> str:
    """How loud a log line about it is: Google Cloud's severities."""
    if error is None or isinstance(error, Conflict):
        return "INFO"
    if isinstance(error, Rejected | Unavailable):
        return "WARNING"
    return "CRITICAL" if isinstance(error, InvariantBroken) else "ERROR"


def reason_for(error: BaseException) -> str:
    """An error as one line for an answer, a dead letter or a log.

    Of an error that is not ours only the kind is told: its text may quote anything, a secret too.
    """
    kind = type(error).__name__
    return " ".join(f"{kind}: {error}".split()) if isinstance(error, TwinlegError) else kind
