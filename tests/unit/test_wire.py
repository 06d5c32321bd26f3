from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent
from flask import Flask, request
from functions_framework import event_conversion
from hypothesis import given
from hypothesis import strategies as st

from twinleg import wire
from twinleg.domain.errors import (
    BadInput,
    Conflict,
    InvariantBroken,
    OutcomeUnknown,
    Rejected,
    TwinlegError,
    Unavailable,
)
from twinleg.domain.messages import CandleClosed, CloseTrade, Event, EventKind
from twinleg.engine.ports import Exists
from twinleg.logs import stack_of

AT = datetime(2026, 11, 20, 12, 0, 0, 492_000, tzinfo=UTC)
DATA = b'{"market":"hyperliquid:ETH"}'
BASE64 = base64.b64encode(DATA).decode()
PRODUCTION = {
    "message": {
        "data": BASE64,
        "messageId": "1981947010177954",
        "message_id": "1981947010177954",
        "publishTime": "2026-11-20T12:00:00.492Z",
        "publish_time": "2026-11-20T12:00:00.492Z",
        "attributes": {"kind": "candle"},
        "orderingKey": "hyperliquid:ETH",
    },
    "subscription": "projects/p/subscriptions/signal-candles",
    "deliveryAttempt": 2,
}
EVENTARC = {
    "ce-id": "1981947010177954",
    "ce-source": "//pubsub.googleapis.com/projects/p/topics/candles",
    "ce-specversion": "1.0",
    "ce-time": "2026-11-20T12:00:00.492Z",
    "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
    "content-type": "application/json",
}


def _decode(body: Any, headers: dict[str, str] | None = None, path: str = "/") -> wire.Delivery:
    return wire.decode(headers or {"Content-Type": "application/json"}, json.dumps(body).encode(), path)


# -- shapes --------------------------------------------------------------------------------------


def test_a_production_push_is_read_whole() -> None:
    assert _decode(PRODUCTION) == wire.Delivery(
        data=DATA,
        attributes={"kind": "candle"},
        key="hyperliquid:ETH",
        message_id="1981947010177954",
        topic="candles",
        attempt=2,
        published_at=AT,
    )


def test_what_a_push_leaves_out_is_empty() -> None:
    delivery = _decode({"message": {"messageId": "1"}})
    assert delivery == wire.Delivery(b"", message_id="1")
    assert (delivery.attempt, delivery.key, delivery.topic, delivery.published_at) == (0, "", "", None)


def test_eventarc_says_the_topic_in_its_source() -> None:
    delivery = _decode(PRODUCTION | {"subscription": "projects/p/subscriptions/eventarc-us-sub-072"}, EVENTARC)
    assert (delivery.topic, delivery.key, delivery.attempt) == ("candles", "hyperliquid:ETH", 2)
    assert _decode(PRODUCTION, {name.upper(): value for name, value in EVENTARC.items()}).topic == "candles"


def test_the_emulators_push_has_its_key_in_an_attribute() -> None:
    recorded = (
        rb'{"subscription":"projects\/demo\/subscriptions\/s-ce","message":{"publishTime":"2026-11-20T12:00:00.492Z",'
        rb'"data":"' + BASE64.encode() + rb'","publish_time":"2026-11-20T12:00:00.492Z","messageId":"1",'
        rb'"attributes":{"ordering_key":"hyperliquid:ETH","kind":"candle"},"message_id":"1"}}'
    )
    headers = {"Content-Type": "application/json", "User-Agent": "Java/17.0.15", "Connection": "keep-alive"}
    delivery = wire.decode(headers, recorded, "/?")
    assert (delivery.data, delivery.key, delivery.attempt) == (DATA, "hyperliquid:ETH", 0)
    assert (delivery.message_id, delivery.published_at) == ("1", AT)
    empty = _decode({"message": {"data": "", "messageId": "2", "attributes": {"tick": "1"}}, "subscription": "s"})
    assert (empty.data, empty.attributes) == (b"", {"tick": "1"})


def test_a_structured_cloud_event_carries_the_message_in_data() -> None:
    event = {
        "specversion": "1.0",
        "id": "e1",
        "source": "//pubsub.googleapis.com/projects/p/topics/intents",
        "type": "google.cloud.pubsub.topic.v1.messagePublished",
        "time": "2026-11-20T12:00:00.492Z",
        "data": PRODUCTION,
    }
    headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
    delivery = _decode(event, headers)
    assert (delivery.data, delivery.key, delivery.topic, delivery.attempt) == (DATA, "hyperliquid:ETH", "intents", 2)
    encoded = {name: value for name, value in event.items() if name != "data"}
    encoded["data_base64"] = base64.b64encode(json.dumps(PRODUCTION).encode()).decode()
    assert _decode(encoded, headers) == delivery


def test_a_structured_cloud_event_may_carry_the_bare_data() -> None:
    event = {
        "specversion": "1.0", "id": "e1", "source": "//pubsub.googleapis.com/projects/p/topics/closes", "type": "t",
        "time": "2026-11-20T12:00:00.492Z", "partitionkey": "k", "data_base64": BASE64,
    }  # fmt: skip
    assert _decode(event) == wire.Delivery(DATA, {}, "k", "e1", "closes", 0, AT)


def test_unwrapped_push_has_the_data_as_body_and_the_rest_in_headers() -> None:
    headers = {
        "X-Goog-Pubsub-Message-Id": "77",
        "X-Goog-Pubsub-Publish-Time": "2026-11-20T12:00:00.492Z",
        "X-Goog-Pubsub-Subscription-Name": "projects/p/subscriptions/execute-intents",
        "X-Goog-Ordering-Key": "main:ETH",
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": "28",
        "User-Agent": "APIs-Google",
        "Host": "127.0.0.1:1",
        "Accept-Encoding": "gzip",
        "Authorization": "Bearer x",
        "Kind": "intent",
    }
    assert wire.decode(headers, DATA) == wire.Delivery(DATA, {"kind": "intent"}, "main:ETH", "77", "intents", 0, AT)
    assert wire.decode({"x-goog-pubsub-message-id": "1"}, b"\xff\x00 not JSON").data == b"\xff\x00 not JSON"


def _converted(body: dict[str, Any], path: str) -> CloudEvent:
    app = Flask("framework")
    with app.test_request_context(path, method="POST", json=body):
        return event_conversion.background_event_to_cloud_event(request)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # the framework's own
@pytest.mark.parametrize("to_http", [to_binary, to_structured])
def test_what_the_functions_framework_makes_of_a_push_is_read_too(to_http: Any) -> None:
    body = json.loads(json.dumps(PRODUCTION))
    body["message"]["attributes"]["ordering_key"] = "hyperliquid:ETH"
    event = _converted(body, "/projects/p/topics/candles?__GCP_CloudEventsMode=CUSTOM_PUBSUB_projects%2Fp%2Ftopics")
    headers, payload = to_http(event)
    delivery = wire.decode(headers, payload)
    assert (delivery.data, delivery.key, delivery.topic) == (DATA, "hyperliquid:ETH", "candles")
    assert delivery.message_id == "1981947010177954" and delivery.published_at == AT


def test_the_frameworks_older_event_shape_is_read_too() -> None:
    old = {
        "context": {
            "eventId": "9", "timestamp": "2026-11-20T12:00:00.492Z", "eventType": "google.pubsub.topic.publish",
            "resource": {"service": "pubsub.googleapis.com", "name": "projects/p/topics/alerts", "type": "x"},
        },
        "data": {"@type": "type.googleapis.com/google.pubsub.v1.PubsubMessage", "data": BASE64},
    }  # fmt: skip
    assert _decode(old) == wire.Delivery(DATA, {}, "", "9", "alerts", 0, AT)
    old["context"]["resource"] = "projects/p/topics/alerts"  # type: ignore[index]
    assert _decode(old).topic == "alerts"


def test_a_request_as_flask_hands_it_over_decodes() -> None:
    seen: list[wire.Delivery] = []
    app = Flask("probe")

    @app.post("/<path:rest>")
    def probe(rest: str) -> tuple[str, int]:
        seen.append(wire.decode(dict(request.headers), request.get_data(), request.path))
        return "", 204

    body = wire.push_body(data=DATA, message_id="5", topic="candles", key="k", attempt=1, published_at=AT)
    assert app.test_client().post("/push/topics/candles", json=body).status_code == 204
    assert seen == [wire.Delivery(DATA, {}, "k", "5", "candles", 1, AT)]


_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@given(
    data=st.binary(max_size=60),
    key=_TEXT,
    attributes=st.dictionaries(_TEXT.filter(lambda name: name not in ("topic", "ordering_key")), _TEXT, max_size=3),
    attempt=st.integers(0, 100),
    ms=st.integers(0, 10**12),
)
def test_what_the_bus_pushes_is_what_a_function_reads(
    data: bytes, key: str, attributes: dict[str, str], attempt: int, ms: int
) -> None:
    at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    body = wire.push_body(
        data=data, message_id="5", topic="closes", key=key, attributes=attributes, attempt=attempt, published_at=at
    )
    assert _decode(body) == wire.Delivery(data, attributes, key, "5", "closes", attempt, at)


def test_a_push_leaves_out_what_production_leaves_out() -> None:
    body = wire.push_body(data=b"", message_id="1", topic="events")
    assert set(body) == {"message", "subscription"} and set(body["message"]) == {"messageId", "message_id"}


# -- topics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "attributes", "subscription", "topic"),
    [
        ("/projects/p/topics/candles?x=1", {}, "", "candles"),
        ("/topics/intents-dead", {}, "", "intents-dead"),
        ("/push/alerts", {}, "", "alerts"),
        ("/push/alerts/", {}, "", "alerts"),
        ("/", {"topic": "closes"}, "projects/p/subscriptions/x", "closes"),
        ("/", {}, "projects/p/subscriptions/candles", "candles"),
        ("/", {}, "projects/p/subscriptions/execute-intents-v2", "intents"),
        ("/", {}, "projects/p/subscriptions/intents-dead", "intents-dead"),
        ("/", {}, "projects/candles/subscriptions/other", ""),
        ("/", {}, "projects/p/subscriptions/candles-alerts", ""),
        ("/robots", {}, "", ""),
    ],
)
def test_where_the_topic_is_told(path: str, attributes: dict[str, str], subscription: str, topic: str) -> None:
    body = {"message": {"messageId": "1", "attributes": attributes}, "subscription": subscription}
    assert _decode(body, path=path).topic == topic


@pytest.mark.parametrize(
    "text",
    ["2026-11-20T12:00:00.492Z", "2026-11-20T12:00:00.492000000Z", "2026-11-20T21:00:00.492+09:00"],
)
def test_times_are_read_with_any_number_of_decimals_and_any_zone(text: str) -> None:
    assert _decode({"message": {"messageId": "1", "publishTime": text}}).published_at == AT


# -- what is no message --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"market=ETH", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "object, was list"),
        (b"null", "object"),
        (b"{}", "nothing in it"),
        (b'{"source":"scheduler"}', "source"),
        (b'{"message":"hello"}', "message"),
        (b'{"message":{"data":"%%%"}}', "message.data must be base64"),
        (b'{"message":{"data":7}}', "message.data"),
        (b'{"message":{"data":"eA==","attributes":{"a":1}}}', "attributes"),
        (b'{"message":{"attributes":[]}}', "attributes"),
        (b'{"message":{"messageId":7}}', "messageId must be text"),
        (b'{"message":{"publishTime":"yesterday"}}', "publishTime.*yesterday"),
        (b'{"message":{"publishTime":"2026-11-20T12:00:00"}}', "zone"),
        (b'{"message":{},"deliveryAttempt":"many"}', "deliveryAttempt"),
        (b'{"message":{},"deliveryAttempt":true}', "deliveryAttempt"),
        (b'{"specversion":"1.0","id":"e1"}', "e1.*data"),
        (b'{"specversion":"1.0","id":"e1","data":{"a":1}}', "message"),
        (b'{"specversion":"1.0","id":"e1","data_base64":"?"}', "data_base64"),
    ],
)
def test_anything_else_is_refused_in_one_clear_line(body: bytes, word: str) -> None:
    with pytest.raises(BadInput, match=word) as caught:
        wire.decode({"Content-Type": "application/json"}, body)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_an_event_of_another_kind_is_refused_by_its_type() -> None:
    with pytest.raises(BadInput, match=r"google\.cloud\.storage"):
        _decode({"bucket": "b"}, EVENTARC | {"ce-type": "google.cloud.storage.object.v1.finalized"})


@given(body=st.binary(max_size=80) | st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["message", "data", "context", "specversion", "data_base64", "attributes", "messageId",
                         "subscription", "deliveryAttempt", "publishTime", "resource", "source"]), inner, max_size=4),
    max_leaves=10,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_nothing_anybody_posts_makes_the_decoder_fail_otherwise(body: bytes) -> None:
    try:
        wire.decode({}, body, "/")
    except BadInput as error:
        assert "\n" not in str(error)


# -- messages ------------------------------------------------------------------------------------

CANDLE = CandleClosed(
    market="hyperliquid:ETH", opened_at=datetime(2026, 11, 20, 12, tzinfo=UTC), interval_seconds=60,
    open=Decimal("3000.10"), high=Decimal("3001"), low=Decimal("2999.5"), close=Decimal("3000"),
    volume=Decimal("12.5"), received_at=AT,
)  # fmt: skip


def test_a_message_is_json_with_decimals_as_text_and_comes_back_equal() -> None:
    data = wire.to_bytes(CANDLE)
    document = json.loads(data)
    assert (document["open"], document["opened_at"]) == ("3000.10", "2026-11-20T12:00:00Z")
    assert wire.from_bytes(CandleClosed, data) == CANDLE


@pytest.mark.parametrize("version", [2, 0, "1", None, "absent"])
def test_an_unknown_schema_version_is_never_guessed_at(version: object) -> None:
    document = json.loads(wire.to_bytes(CANDLE))
    if version == "absent":
        del document["schema_version"]
    else:
        document["schema_version"] = version
    with pytest.raises(BadInput, match="CandleClosed schema_version must be 1, was"):
        wire.from_bytes(CandleClosed, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"open": "much"}, r"CandleClosed\.open: .*'much'"),
        ({"open": None}, r"CandleClosed\.open"),
        ({"passphrase": "hunter2"}, r"CandleClosed\.passphrase"),
        ({"opened_at": "noon"}, r"CandleClosed\.opened_at"),
    ],
)
def test_a_wrong_field_is_named_and_an_unexpected_value_never_repeated(change: dict[str, Any], word: str) -> None:
    document = json.loads(wire.to_bytes(CANDLE)) | change
    with pytest.raises(BadInput, match=word) as caught:
        wire.from_bytes(CandleClosed, json.dumps(document).encode())
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_that_are_no_message_are_refused() -> None:
    for data in (b"", b"\x00", b"[]", b'{"schema_version":1}'):
        with pytest.raises(BadInput):
            wire.from_bytes(CloseTrade, data)


def test_events_cross_too() -> None:
    event = Event(kind=EventKind.OPENED, at=AT, who="execute", summary="ETH long opened")
    assert wire.from_bytes(Event, wire.to_bytes(event)) == event


# -- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "queue", "client", "severity"),
    [
        (None, 204, 200, "INFO"),
        (Rejected("notional_usd 6200 > notional_usd_max 5000"), 200, 422, "WARNING"),
        (BadInput("market must be known, was 'x'"), 200, 400, "WARNING"),
        (Unavailable("the store is away"), 503, 503, "WARNING"),
        (Conflict("trades/a moved"), 503, 503, "INFO"),
        (OutcomeUnknown("no verdict"), 503, 503, "ERROR"),
        (InvariantBroken("two main legs"), 500, 500, "CRITICAL"),
        (TwinlegError("odd"), 500, 500, "ERROR"),
        (Exists("trades", "a"), 500, 500, "ERROR"),
        (ValueError("hunter2"), 500, 500, "ERROR"),
        (KeyboardInterrupt(), 500, 500, "ERROR"),
    ],
)
def test_each_kind_of_error_has_one_answer(error: BaseException | None, queue: int, client: int, severity: str) -> None:
    assert (wire.answer_for(error).status, wire.answer_for_client(error).status) == (queue, client)
    assert wire.severity_for(error) == severity


def test_our_own_words_are_answered_in_one_line_and_foreign_ones_never() -> None:
    assert wire.answer_for(Rejected("no\nroom")).body == "Rejected: no room"
    assert wire.answer_for(Unavailable("later")).body == "Unavailable: later"
    assert wire.answer_for(ValueError("hunter2")).body == "ValueError"
    assert (wire.answer_for(None).body, wire.answer_for_client(None).body) == ("", "ok")


def test_a_stack_says_where_and_not_what() -> None:
    try:
        raise ValueError("hunter2")
    except ValueError as error:
        stack = stack_of(error)
    # The source line is quoted, as in any traceback; the text of the error is not added to it.
    assert "test_wire.py" in stack and stack.endswith("ValueError")
