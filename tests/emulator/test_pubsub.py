"""Published with our bus, pushed by Pub/Sub to real functions: what arrives, what comes again, what ends dead."""

from __future__ import annotations

import base64
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from flask import Flask, request
from werkzeug.serving import make_server

from twinleg import wire
from twinleg.adapters.gcp.pubsub import PubSubBus
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.ports import Steps


class Topics:
    """The topics and subscriptions of one project, by the emulator's REST interface."""

    def __init__(self, host: str) -> None:
        self.project = f"t-{secrets.token_hex(6)}"
        self.url = f"http://{host}/v1/projects/{self.project}"

    def topic(self, name: str) -> None:
        requests.put(f"{self.url}/topics/{name}", json={}, timeout=5).raise_for_status()

    def subscription(self, topic: str, name: str = "", **settings: Any) -> None:
        body = {"topic": f"projects/{self.project}/topics/{topic}", "ackDeadlineSeconds": 10} | settings
        requests.put(f"{self.url}/subscriptions/{name or topic}", json=body, timeout=5).raise_for_status()

    def pulled(self, subscription: str) -> list[dict[str, Any]]:
        url = f"{self.url}/subscriptions/{subscription}:pull"
        answer = requests.post(url, json={"maxMessages": 10, "returnImmediately": True}, timeout=5)
        return [received["message"] for received in answer.json().get("receivedMessages", [])]


@pytest.fixture
def topics(pubsub_host: str) -> Topics:
    return Topics(pubsub_host)


@pytest.fixture
def bus(pubsub_host: str, topics: Topics) -> Iterator[PubSubBus]:
    made = PubSubBus(topics.project, emulator_host=pubsub_host)
    yield made
    made.close()


@dataclass
class Receiver:
    """A web application at an address of its own, for the length of a test."""

    app: Any
    server: Any = field(init=False)

    def __enter__(self) -> str:
        self.server = make_server("127.0.0.1", 0, self.app, threaded=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


def _inbox(answer: Callable[[wire.Delivery], int]) -> tuple[Flask, list[wire.Delivery]]:
    app, got = Flask(__name__), []

    @app.post("/", defaults={"path": ""})
    @app.post("/<path:path>")
    def receive(path: str) -> tuple[str, int]:
        got.append(wire.decode(dict(request.headers), request.get_data(), request.path))
        return "", answer(got[-1])

    return app, got


def until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_pushed_message_carries_data_key_attributes_and_topic(bus: PubSubBus, topics: Topics) -> None:
    app, got = _inbox(lambda _: 204)
    with Receiver(app) as url:
        topics.topic("candles")
        push = {"pushEndpoint": f"{url}/topics/candles"}
        topics.subscription("candles", pushConfig=push, enableMessageOrdering=True)
        ids = [
            bus.publish("candles", f"{n}".encode(), key="hyperliquid:ETH", attributes={"kind": "candle"})
            for n in range(20)
        ]
        until(lambda: len(got) == 20)
    assert [delivery.data for delivery in got] == [f"{n}".encode() for n in range(20)], "in the order of the key"
    assert [delivery.message_id for delivery in got] == ids
    assert {delivery.key for delivery in got} == {"hyperliquid:ETH"}
    assert got[0].topic == "candles" and got[0].attributes["kind"] == "candle"


def test_what_is_refused_comes_again_and_holds_back_its_own_key_only(bus: PubSubBus, topics: Topics) -> None:
    refused: list[bytes] = []

    def once(delivery: wire.Delivery) -> int:
        if delivery.data == b"eth 1" and not refused:
            refused.append(delivery.data)
            return 503
        return 200

    app, got = _inbox(once)
    with Receiver(app) as url:
        topics.topic("candles")
        topics.subscription("candles", pushConfig={"pushEndpoint": url}, enableMessageOrdering=True)
        for data, key in (("eth 1", "ETH"), ("eth 2", "ETH"), ("btc 1", "BTC")):
            bus.publish("candles", data.encode(), key=key)
        until(lambda: len(got) == 4)
    order = [delivery.data.decode() for delivery in got]
    assert [data for data in order if data.startswith("eth")] == ["eth 1", "eth 1", "eth 2"]
    assert order.index("btc 1") < order.index("eth 2"), "another key does not wait"


def test_what_is_never_taken_ends_in_the_dead_letter_topic(bus: PubSubBus, topics: Topics) -> None:
    app, got = _inbox(lambda _: 500)
    with Receiver(app) as url:
        for name in ("intents", "intents-dead"):
            topics.topic(name)
        topics.subscription("intents-dead")
        dead = {"deadLetterTopic": f"projects/{topics.project}/topics/intents-dead", "maxDeliveryAttempts": 5}
        topics.subscription("intents", pushConfig={"pushEndpoint": url}, deadLetterPolicy=dead)
        bus.publish("intents", b"poison", key="main:ETH", attributes={"kind": "intent"})
        found: list[dict[str, Any]] = []
        until(lambda: bool(found.extend(topics.pulled("intents-dead")) or found), 30)
    assert len(got) == 5
    (message,) = found
    assert base64.b64decode(message["data"]) == b"poison"
    assert message["attributes"]["kind"] == "intent" and message["attributes"][wire.ORDERING_KEY] == "main:ETH"
    assert message["attributes"]["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"


def test_every_publish_is_counted_before_and_after(pubsub_host: str, topics: Topics) -> None:
    names: list[str] = []
    topics.topic("events")
    bus = PubSubBus(topics.project, Steps(lambda _, name: names.append(name)), emulator_host=pubsub_host)
    bus.publish("events", b"x")
    assert names == ["bus.publish events", "bus.publish events done"]
    bus.close()


def test_after_a_failure_the_same_key_goes_on(bus: PubSubBus, topics: Topics) -> None:
    with pytest.raises(Unavailable, match="topic candles: NotFound"):
        bus.publish("candles", b"1", key="ETH")
    topics.topic("candles")
    topics.subscription("candles")
    bus.publish("candles", b"2", key="ETH")
    assert [base64.b64decode(message["data"]) for message in topics.pulled("candles")] == [b"2"]


def test_a_reason_that_is_too_long_for_an_attribute_is_cut(bus: PubSubBus, topics: Topics) -> None:
    topics.topic("intents-dead")
    topics.subscription("intents-dead")
    bus.publish("intents-dead", b"x", attributes={"reason": "é" * 1000})
    (message,) = topics.pulled("intents-dead")
    assert message["attributes"]["reason"] == "é" * 512


def test_what_pub_sub_refuses_for_ever_is_bad_input(bus: PubSubBus, topics: Topics) -> None:
    topics.topic("candles")
    with pytest.raises(BadInput, match="topic candles: InvalidArgument"):
        bus.publish("candles", b"")


def test_a_service_that_does_not_answer_is_unavailable_in_the_time_given() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bus = PubSubBus("p", emulator_host=f"127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.3)
        with pytest.raises(Unavailable, match="topic events"):
            bus.publish("events", b"x")
        bus.close()
