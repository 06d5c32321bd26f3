"""Each function as Cloud Run loads it: from its own ``main.py``, by real requests, in every shape Pub/Sub delivers."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from functions_framework import create_app

from twinleg.bootstrap import functions_folder
from twinleg.domain.messages import CandleClosed, HedgedIntent
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import alert_json
from twinleg.engine.window import rows_of, unpacked
from twinleg.wire import to_bytes

NAMES = ("ingest", "signal", "execute", "risk", "webhook")
DATA = b'{"symbol":"BTC"}'


def app(name: str):
    return create_app(name, str(functions_folder() / name / "main.py"))


def client(name: str):
    return app(name).test_client()


# -- the shapes of gcp push ------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """A request: path, headers and body."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/"

    def send(self, name: str):
        headers = {"Content-Type": "application/json"} | self.headers
        return client(name).post(self.path, data=self.body, headers=headers)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def message(data: bytes, attributes: dict[str, str] | None, **more: object) -> dict[str, object]:
    at = "2026-11-21T04:06:14.109Z"
    found: dict[str, object] = {
        "data": b64(data), "messageId": "1981947010177954", "message_id": "1981947010177954",
        "publishTime": at, "publish_time": at,
    }  # fmt: skip
    return found | ({"attributes": attributes} if attributes else {}) | more


def direct(topic: str, kind: str, data: bytes) -> Shape:
    pushed = {
        "message": message(data, {"kind": kind, "ordering_key": "BTC"}, orderingKey="BTC"),
        "subscription": f"projects/p/subscriptions/{topic}",
        "deliveryAttempt": 2,
    }
    return Shape(json.dumps(pushed).encode(), {"Authorization": "Bearer a.b.c"})


def bare(topic: str, kind: str, data: bytes) -> Shape:
    """No attributes, no key, no attempt: only the subscription says what it is."""
    pushed = {"message": message(data, None), "subscription": f"projects/p/subscriptions/signal-{topic}"}
    return Shape(json.dumps(pushed).encode())


def topic_in_path(topic: str, kind: str, data: bytes) -> Shape:
    pushed = {"message": message(data, None), "subscription": "projects/p/subscriptions/s-1"}
    return Shape(json.dumps(pushed).encode(), path=f"/projects/p/topics/{topic}?x=1")


def eventarc(topic: str, kind: str, data: bytes) -> Shape:
    pushed = {"message": message(data, None), "subscription": "projects/p/subscriptions/eventarc-europe-west1-sub-072"}
    headers = {
        "ce-id": "1981947010177954", "ce-source": f"//pubsub.googleapis.com/projects/p/topics/{topic}",
        "ce-specversion": "1.0", "ce-time": "2026-11-21T04:06:14.109Z",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished", "from": "noreply@google.com",
        "user-agent": "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)",
    }  # fmt: skip
    return Shape(json.dumps(pushed).encode(), headers)


def structured(topic: str, kind: str, data: bytes) -> Shape:
    event = {
        "specversion": "1.0", "id": "1981947010177954", "type": "google.cloud.pubsub.topic.v1.messagePublished",
        "source": f"//pubsub.googleapis.com/projects/p/topics/{topic}", "time": "2026-11-21T04:06:14.109Z",
        "datacontenttype": "application/json",
        "data": {"message": message(data, {"kind": kind}), "subscription": "projects/p/subscriptions/s-1"},
    }  # fmt: skip
    return Shape(json.dumps(event).encode(), {"Content-Type": "application/cloudevents+json"})


def emulator(topic: str, kind: str, data: bytes) -> Shape:
    """The emulator escapes slashes and drops the ordering key; the attribute repeats it."""
    pushed = {
        "subscription": "projects/demo/subscriptions/s-ce",
        "message": {
            "publishTime": "2026-11-21T02:51:02.492Z", "data": b64(data), "publish_time": "2026-11-21T02:51:02.492Z",
            "messageId": "1", "attributes": {"kind": kind, "ordering_key": "BTC"}, "message_id": "1",
        },
    }  # fmt: skip
    text = json.dumps(pushed).replace("/", "\\/")
    assert "\\/" in text
    accept = "text/html, image/gif, image/jpeg, */*; q=0.2"
    return Shape(text.encode(), {"User-Agent": "Java/17.0.15", "Accept": accept}, path="/?")


def unwrapped(topic: str, kind: str, data: bytes) -> Shape:
    """Attributes become headers, whose case is lost, and the emulator calls the body a form."""
    headers = {
        "X-Goog-Pubsub-Message-Id": "1", "X-Goog-Pubsub-Publish-Time": "2026-11-21T02:51:02.492Z",
        "X-Goog-Pubsub-Subscription-Name": "projects/demo/subscriptions/s-raw", "X-Goog-Ordering-Key": "BTC",
        "Kind": kind, "Content-Type": "application/x-www-form-urlencoded",
    }  # fmt: skip
    return Shape(data, headers)


SHAPES: list[Callable[[str, str, bytes], Shape]] = [
    direct, bare, topic_in_path, eventarc, structured, emulator, unwrapped,
]  # fmt: skip
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)


def alert_data(w, action: str = "buy", id: str = "a1") -> bytes:
    """The message that the webhook publishes for an alert, still in the queue."""
    body = alert_json(w.coin, action, w.system.clock.now(), id)
    assert w.post(body) == [200]
    return w.system.bus.messages("alerts", 1)[0].data


def candle_data(w) -> bytes:
    """The message of the newest candle that ingest stored."""
    candle, _ = unpacked(rows_of(w.system.store.get("markets", w.market))[-1])
    return to_bytes(
        CandleClosed(
            market=w.market, opened_at=candle.opened_at, interval_seconds=60, open=candle.open, high=candle.high,
            low=candle.low, close=candle.close, volume=candle.volume, received_at=w.system.clock.now(),
        )
    )  # fmt: skip


def decided(w) -> list[dict[str, object]]:
    return [i.data for i in w.system.store.query("intents") if i.data.get("decision")]


@each_shape
def test_signal_understands_an_alert_in_every_shape(world, shape):
    w = world()
    answer = shape("alerts", "alert", alert_data(w)).send("signal")
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("open: long hyperliquid:BTC")
    assert [d["decision"] for d in decided(w)] == ["open"]
    published = w.system.bus.messages("intents", 10)
    assert [(m.key, m.attributes["kind"]) for m in published] == [("main:hyperliquid:BTC", "intent")]


@each_shape
def test_signal_understands_a_candle_in_every_shape(world, shape):
    w = world()
    answer = shape("candles", "candle", candle_data(w)).send("signal")
    assert (answer.status_code, answer.text) == (200, "no signal")


@each_shape
def test_execute_carries_out_intents_and_closes_in_every_shape(world, shape):
    w = world()
    direct("alerts", "alert", alert_data(w)).send("signal")
    intent = w.system.bus.messages("intents", 1)[0].data
    answer = shape("intents", "intent", intent).send("execute")
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("OPEN long")
    assert w.position("main") > 0 > w.position("hedge")
    again = shape("intents", "intent", intent).send("execute")
    assert (again.status_code, again.text) == (200, answer.text)
    assert len(w.fills("main")) == len(w.fills("hedge")) == 1

    w.system.clock.sleep(1)
    direct("alerts", "alert", alert_data(w, "close", "a2")).send("signal")
    close = w.system.bus.messages("closes", 1)[0].data
    answer = shape("closes", "close", close).send("execute")
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("CLOSED")
    assert w.position("main") == w.position("hedge") == 0


@pytest.mark.parametrize("name", ["ingest", "risk"])
@pytest.mark.parametrize("request_body", [b"", b"{}", b"not json"])
def test_scheduled_functions_work_whatever_the_scheduler_says(world, name, request_body):
    world()
    answer = client(name).post("/", data=request_body, headers={"User-Agent": "Google-Cloud-Scheduler"})
    assert answer.status_code == 200, answer.text
    assert answer.text


# -- what can never be handled ---------------------------------------------------------------------


def dead(w, topic: str) -> list[tuple[bytes, str]]:
    return [(m.data, m.attributes["reason"]) for m in w.system.bus.dead(topic)]


def pushed(data: str, kind: str = "alert") -> bytes:
    return json.dumps({"message": {"data": data, "messageId": "7", "attributes": {"kind": kind}}}).encode()


POISON = [
    pytest.param(b"\xff\xfe", "unknown", "must be JSON", id="no-json"),
    pytest.param(b"[1, 2]", "unknown", "must be a JSON object", id="a-list"),
    pytest.param(b'{"hello": 1}', "unknown", "a Pub/Sub push with a message", id="no-push"),
    pytest.param(pushed("!!!"), "unknown", "message.data must be base64", id="bad-base64"),
    pytest.param(pushed(b64(b"[]")), "alerts", "must be a JSON object", id="payload-no-object"),
    pytest.param(pushed(b64(b'{"schema_version": 2}')), "alerts", "schema_version must be 1, was 2", id="schema"),
    pytest.param(pushed(b64(b'{"schema_version": 1}')), "alerts", "AlertMessage.alert", id="missing-field"),
    pytest.param(pushed(b64(DATA), "candle"), "candles", "schema_version", id="no-version"),
    pytest.param(pushed(b64(DATA), "gossip"), "unknown", "must be alert or candle here, was 'gossip'", id="gossip"),
    pytest.param(pushed(""), "alerts", "0 bytes", id="attribute-only"),
    pytest.param(
        json.dumps({"message": {"messageId": "7", "attributes": {"kind": "alert"}}}).encode(),
        "alerts", "0 bytes", id="attribute-only-without-data",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "topic", "reason"), POISON)
def test_poison_is_acknowledged_and_kept_with_the_reason(world, caplog, body, topic, reason):
    w = world()
    answer = Shape(body).send("signal")
    assert answer.status_code == 200
    assert answer.text.startswith("dead letter: ")
    [(_, said)] = dead(w, topic)
    assert reason in said
    assert [r.levelname for r in caplog.records if "dead letter" in r.message] == ["ERROR"]
    assert not decided(w)


@pytest.mark.parametrize(
    ("name", "topic", "kind"), [("signal", "intents", "intent"), ("signal", "closes", "close"),
                                ("execute", "alerts", "alert"), ("execute", "candles", "candle")],
)  # fmt: skip
def test_a_message_for_another_function_is_not_taken_for_ones_own(world, name, topic, kind):
    """A subscription pointed at the wrong function must neither act nor lose the message."""
    w = world()
    data = alert_data(w) if kind == "alert" else candle_data(w)
    if kind in ("intent", "close"):
        direct("alerts", "alert", alert_data(w)).send("signal")
        data = w.system.bus.messages("intents", 1)[0].data
    answer = direct(topic, kind, data).send(name)
    assert answer.status_code == 200
    assert [d for d, _ in dead(w, topic)] == [data]
    assert f"was '{kind}'" in answer.text
    assert not w.trades()


def test_a_dead_letter_keeps_the_very_bytes(world):
    w = world()
    data = b'{"schema_version": 99, "text": "\xc3\xa9"}'
    direct("intents", "intent", data).send("execute")
    assert [d for d, _ in dead(w, "intents")] == [data]


# -- what should come again ------------------------------------------------------------------------


def test_what_may_be_repeated_is_answered_503(world, caplog):
    """A candle that the window does not hold yet: nothing was attempted."""
    w = world()
    early = json.loads(candle_data(w)) | {"opened_at": "2025-01-06T23:00:00Z"}
    answer = direct("candles", "candle", json.dumps(early).encode()).send("signal")
    assert answer.status_code == 503
    assert "Unavailable" in answer.text
    assert not dead(w, "candles")
    assert [r.levelname for r in caplog.records if r.name == "twinleg"] == ["WARNING"]


def test_a_venue_that_cannot_be_reached_makes_execute_ask_again_and_then_it_trades(world):
    w = world()
    direct("alerts", "alert", alert_data(w)).send("signal")
    intent = w.system.bus.messages("intents", 1)[0].data
    w.fault(kind="429", path="/info", count=1)
    assert direct("intents", "intent", intent).send("execute").status_code == 503
    assert w.trade().state is TradeState.PROPOSED
    assert direct("intents", "intent", intent).send("execute").status_code == 200
    assert w.trade().state is TradeState.OPEN


def test_a_broken_invariant_is_answered_500_and_said_loudly(world, caplog):
    """The same intent id with other content: no retry can help, a person must look."""
    w = world()
    direct("alerts", "alert", alert_data(w)).send("signal")
    first = HedgedIntent.model_validate_json(w.system.bus.messages("intents", 1)[0].data)
    direct("intents", "intent", to_bytes(first)).send("execute")
    other = first.model_copy(update={"budget_percent": first.budget_percent * 2})
    answer = direct("intents", "intent", to_bytes(other)).send("execute")
    assert answer.status_code == 500
    assert "InvariantBroken" in answer.text
    assert any(r.levelname == "CRITICAL" for r in caplog.records)
    assert w.trade().intent == first


def test_a_fault_nobody_foresaw_is_answered_500_so_that_the_message_comes_again(world):
    w = world()
    data = candle_data(w)
    stored = w.system.store.get("markets", w.market)
    w.system.store.compare_and_set("markets", w.market, {"z_candles": "no,such,row"}, stored.version)
    answer = direct("candles", "candle", data).send("signal")
    assert answer.status_code == 500
    assert answer.headers["X-Google-Status"] == "crash"
    assert "no,such,row" not in answer.text
    assert not dead(w, "candles")


def test_the_queue_redelivers_what_was_answered_with_a_failure_until_it_works(world):
    """The local bus stands in for Pub/Sub: it delivers the same body again after a 503."""
    w = world()
    w.fault(kind="429", path="/info", count=1)
    w.alert("buy", "a1")
    w.system.clock.sleep(3)
    w.deliver()
    assert w.trade().state is TradeState.OPEN
    assert len(w.fills("main")) == 1


# -- the files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_main_is_short_and_alone_in_its_folder(name):
    folder = functions_folder() / name
    assert [path.name for path in folder.iterdir() if path.name != "__pycache__"] == ["main.py"]
    assert len((folder / "main.py").read_text().splitlines()) < 40


@pytest.mark.parametrize("name", NAMES)
def test_a_crawler_wakes_no_function(world, name):
    w = world()
    before = w.system.steps.count
    assert client(name).get("/robots.txt").status_code == 404
    assert w.system.steps.count == before
