"""The DeadLetters port's contract, on the bus of one machine and on Pub/Sub, and what a person does through it."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from twinleg import wire
from twinleg.adapters.gcp.dead_letters import PubSubDeadLetters
from twinleg.adapters.gcp.pubsub import PubSubBus
from twinleg.adapters.local.bus import LocalBus
from twinleg.adapters.local.clocks import ReplayClock, SystemClock
from twinleg.adapters.local.dead_letters import LocalDeadLetters
from twinleg.adapters.local.store import SqliteStore
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.domain.messages import CloseTrade, HedgedIntent
from twinleg.engine.config import Desk
from twinleg.engine.dead_letters import (
    SOURCES,
    DeadLetter,
    DeadLetters,
    about_death,
    as_json,
    drop,
    listed,
    replay,
    shown,
    warning,
)
from twinleg.engine.ports import Bus, SignerRole, Steps, Venues
from twinleg.engine.system import Engine
from twinleg.settings import example_text, parse
from twinleg.wire import to_bytes

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TRACE = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
CLOSE = to_bytes(CloseTrade(trade_id="BTC-macd-1", reason="a test", request_id="r1"))


@dataclass
class Place:
    """A bus, its dead letters, and the engine that a person's commands get."""

    bus: Bus
    letters: DeadLetters
    engine: Engine
    topic: Callable[[str], list[tuple[bytes, str, dict[str, str]]]]
    """Takes what was published to a topic: data, key, attributes."""

    def bury(self, source: str, data: bytes, *, key: str = "", **attributes: str) -> str:
        """As a function does with a permanent fault; the letter's id."""
        about = {**attributes, **about_death("a reason", topic=source, attempts=1)}
        return f"{source}/{self.bus.publish(f'{source}-dead', data, key=key, attributes=about)}"

    def ids(self, topic: str = "") -> list[str]:
        return [letter.id for letter in listed(self.letters, topic)[0]]

    def audit(self) -> list[str]:
        return [entry.data["summary"] for entry in self.engine.store.query("audit", order_by="at")]


def _engine(bus: Bus, store: SqliteStore) -> Engine:
    desk: Desk = parse(example_text(), {}).desk()
    return Engine(desk, SystemClock(), bus, store, Venues({}), SignerRole.EXECUTE)


def _local(request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    bus = LocalBus(request.getfixturevalue("tmp_path") / "twinleg.db", None, SystemClock(), synchronous="NORMAL")
    stack.callback(bus.close)

    def topic(name: str) -> list[tuple[bytes, str, dict[str, str]]]:
        return [(m.data, m.key, dict(m.attributes)) for m in bus.messages(name, 1000)]

    return Place(bus, LocalDeadLetters(bus), _engine(bus, SqliteStore(bus.database)), topic)


def _pubsub(request: pytest.FixtureRequest, stack: ExitStack) -> Place:
    host, project = request.getfixturevalue("pubsub_host"), f"t-{secrets.token_hex(6)}"
    url = f"http://{host}/v1/projects/{project}"
    for name in [name for source in SOURCES for name in (source, f"{source}-dead")]:
        requests.put(f"{url}/topics/{name}", json={}, timeout=5).raise_for_status()
        subscription = {"topic": f"projects/{project}/topics/{name}", "ackDeadlineSeconds": 60}
        requests.put(f"{url}/subscriptions/{name}", json=subscription, timeout=5).raise_for_status()
    bus = PubSubBus(project, emulator_host=host)
    letters = PubSubDeadLetters(project, emulator_host=host, wait_seconds=0.3)
    store = SqliteStore(request.getfixturevalue("tmp_path") / "twinleg.db", synchronous="NORMAL")
    for part in (bus, letters, store):
        stack.callback(part.close)

    def topic(name: str) -> list[tuple[bytes, str, dict[str, str]]]:
        found = PubSubDeadLetters(project, emulator_host=host, wait_seconds=0.3)
        got: list[tuple[bytes, str, dict[str, str]]] = []
        found._name = lambda source: f"projects/{project}/subscriptions/{source}"  # type: ignore[method-assign]
        found.each([name], lambda letter: not got.append((letter.data, letter.key, dict(letter.attributes))))  # type: ignore[func-returns-value]
        found.close()
        return got

    return Place(bus, letters, _engine(bus, store), topic)


DESKS: Mapping[str, Callable[[pytest.FixtureRequest, ExitStack], Place]] = {"sqlite": _local, "pubsub": _pubsub}


@pytest.fixture(params=list(DESKS))
def desk(request: pytest.FixtureRequest) -> Any:
    with ExitStack() as stack:
        yield DESKS[request.param](request, stack)


# -- looking -----------------------------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is(desk: Place) -> None:
    assert listed(desk.letters) == ([], True)
    with pytest.raises(BadInput, match="there is no dead letter intents/999"):
        shown(desk.letters, "intents/999")


def test_looking_takes_nothing_away_and_ids_stay(desk: Place) -> None:
    first = desk.bury("closes", CLOSE, kind="close")
    second = desk.bury("candles", b"{}", key="hyperliquid:BTC", kind="candle", **TRACE)
    for _ in range(3):
        assert desk.ids() == [first, second], "oldest first, and there for everybody at once"
    assert desk.ids("closes") == desk.ids("closes-dead") == [first]
    letter = shown(desk.letters, second)
    assert (letter.source, letter.kind, letter.key, letter.attempts) == ("candles", "candle", "hyperliquid:BTC", 1)
    assert letter.reason == "a reason"
    assert letter.original_attributes.items() >= {"kind": "candle", **TRACE}.items()
    assert not {"reason", "delivery_attempts", "source_topic"} & set(letter.original_attributes)
    assert abs((letter.published_at - datetime.now(UTC)).total_seconds()) < 60


def test_more_than_one_pull_s_worth_is_seen_and_a_limit_is_said(desk: Place) -> None:
    ids = {desk.bury("candles", f"{n}".encode()) for n in range(130)}
    found, complete = listed(desk.letters)
    assert ({letter.id for letter in found}, complete) == (ids, True)
    seen: list[str] = []

    def look(letter: DeadLetter) -> bool:
        seen.append(letter.id)
        return False

    assert desk.letters.each(["candles"], look, limit=50) is False
    assert len(seen) == len(set(seen)) == 50
    assert set(desk.ids()) == ids


# -- replaying ---------------------------------------------------------------------------------------


def test_a_replay_publishes_what_there_was_and_takes_the_letter_away(desk: Place) -> None:
    id = desk.bury("intents", b"{}", key="main:BTC", kind="intent", **TRACE)
    kept = desk.bury("intents", b"[]", key="main:ETH", kind="intent")
    (done,) = replay(desk.engine, desk.letters, [id], "", to="", by="ada")
    assert (done.letter.id, done.topic, done.warning) == (id, "intents", "")
    ((data, key, attributes),) = desk.topic("intents")
    attributes.pop(wire.ORDERING_KEY, None)
    assert (data, key, attributes) == (b"{}", "main:BTC", {"kind": "intent", **TRACE})
    assert desk.ids() == [kept]
    assert any(f"{id} replayed to intents by ada" in line for line in desk.audit())


def test_all_of_a_topic_are_replayed_in_order_and_no_other(desk: Place) -> None:
    for number in range(30):
        desk.bury("closes", f"{number}".encode())
    other = desk.bury("alerts", b"{}")
    assert len(replay(desk.engine, desk.letters, [], "closes", to="", by="ada")) == 30
    assert sorted(desk.topic("closes"), key=lambda m: int(m[0]))[29][0] == b"29"
    assert desk.ids() == [other]
    assert len(replay(desk.engine, desk.letters, [], "", to="", by="ada")) == 1
    assert desk.ids() == []
    assert replay(desk.engine, desk.letters, [], "", to="", by="ada") == []


def test_what_came_from_no_topic_is_replayed_to_a_named_one_only(desk: Place) -> None:
    push = {"message": {"data": b64encode(CLOSE).decode(), "messageId": "7", "attributes": {"kind": "close", **TRACE}}}
    readable = desk.bury("unknown", json.dumps(push).encode())
    garbage = desk.bury("unknown", b"\xff\xfe")
    with pytest.raises(BadInput, match=f"{garbage} came from no topic: name one with --to"):
        replay(desk.engine, desk.letters, [garbage], "", to="", by="ada")
    assert replay(desk.engine, desk.letters, [], "", to="", by="ada") == []
    assert sorted(desk.ids()) == sorted([readable, garbage])
    replay(desk.engine, desk.letters, [readable], "", to="closes", by="ada")
    ((data, _, attributes),) = desk.topic("closes")
    assert (data, attributes["kind"], attributes["traceparent"]) == (CLOSE, "close", TRACE["traceparent"])
    assert desk.ids() == [garbage]
    assert shown(desk.letters, garbage).content == {"base64": "//4="}


def test_what_has_a_topic_goes_nowhere_else(desk: Place) -> None:
    id = desk.bury("intents", b"{}")
    for to, reason in (("closes", "can be replayed there only"), ("intents-dead", "--to must be one of candles")):
        with pytest.raises(BadInput, match=reason):
            replay(desk.engine, desk.letters, [id], "", to=to, by="ada")
    assert desk.ids() == [id] and desk.topic("closes") == []


def test_an_id_of_none_is_named_and_the_others_are_done(desk: Place) -> None:
    id = desk.bury("closes", CLOSE)
    with pytest.raises(BadInput, match="no dead letter closes/424242"):
        replay(desk.engine, desk.letters, [id, "closes/424242"], "", to="", by="ada")
    assert desk.ids() == []
    for bad in ("17", "closes/", "/17", "gossip/17", ""):
        with pytest.raises(BadInput, match="a dead letter's id is like intents/17"):
            shown(desk.letters, bad)


def test_a_topic_of_none_is_refused(desk: Place) -> None:
    with pytest.raises(BadInput, match="topic must be one of candles, alerts"):
        listed(desk.letters, "gossip")


class _Down:
    """A bus whose topics cannot be reached."""

    def publish(self, topic: str, data: bytes, *, key: str = "", attributes: Mapping[str, str] | None = None) -> str:
        raise Unavailable(f"topic {topic} is not reached")


def test_a_letter_that_cannot_be_published_stays(desk: Place) -> None:
    id = desk.bury("closes", CLOSE)
    down = _engine(_Down(), desk.engine.store)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="topic closes is not reached"):
        replay(down, desk.letters, [id], "", to="", by="ada")
    assert desk.ids() == [id]


class Died(BaseException):
    pass


def test_a_death_between_publishing_and_removing_makes_a_message_twice_never_none(desk: Place) -> None:
    id = desk.bury("closes", CLOSE)

    def die(_: int, name: str) -> None:
        if name == "bus.remove closes-dead":
            raise Died

    desk.letters._steps = Steps(die)  # type: ignore[attr-defined]
    with pytest.raises(Died):
        replay(desk.engine, desk.letters, [id], "", to="", by="ada")
    desk.letters._steps = Steps()  # type: ignore[attr-defined]
    assert desk.ids() == [id]
    replay(desk.engine, desk.letters, [id], "", to="", by="ada")
    assert [data for data, _, _ in desk.topic("closes")] == [CLOSE, CLOSE]
    assert desk.ids() == []


def test_two_people_at_once_lose_nothing(desk: Place) -> None:
    ids = {desk.bury("closes", f"{n}".encode()) for n in range(20)}
    errors: list[Exception] = []

    def work() -> None:
        try:
            replay(desk.engine, desk.letters, [], "closes", to="", by="ada")
        except Exception as error:  # pragma: no cover
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert {data for data, _, _ in desk.topic("closes")} == {f"{n}".encode() for n in range(len(ids))}
    assert desk.ids() == []


# -- dropping ----------------------------------------------------------------------------------------


def test_what_is_dropped_is_gone_and_the_audit_says_who_and_why(desk: Place) -> None:
    id, kept = desk.bury("closes", CLOSE, kind="close"), desk.bury("unknown", b"garbage")
    for nothing in ("", "  "):
        with pytest.raises(BadInput, match="wants --why"):
            drop(desk.engine, desk.letters, [id], why=nothing, by="ada")
    assert [letter.id for letter in drop(desk.engine, desk.letters, [id], why="it was a test", by="ada")] == [id]
    assert desk.ids() == [kept]
    (said,) = desk.audit()
    assert (
        said
        == f"{id} dropped by ada: it was a test; it was close trade_id BTC-macd-1 fraction 1; dead because: a reason"
    )
    assert desk.topic("closes") == []


def test_nothing_is_dropped_that_the_audit_cannot_keep(desk: Place, tmp_path: Path) -> None:
    id = desk.bury("closes", CLOSE)
    nowhere = SqliteStore(tmp_path)  # a folder is no file
    with pytest.raises(Unavailable):
        drop(_engine(desk.bus, nowhere), desk.letters, [id], why="a test", by="ada")
    assert desk.ids() == [id]


# -- what is told ------------------------------------------------------------------------------------


def _letter(data: bytes, source: str = "closes", **attributes: str) -> DeadLetter:
    return DeadLetter(source, "17", data, "", attributes, NOW)


def test_the_native_policy_s_letters_say_where_to_look() -> None:
    native = {
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "execute-closes",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "desk",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-11-20T11:59:00.000+00:00",
    }
    letter = _letter(CLOSE, kind="close", **native)
    assert letter.reason == "5 deliveries failed; look in the log of execute before 2026-11-20 12:00:00Z"
    assert (letter.attempts, letter.original_attributes) == (5, {"kind": "close"})
    assert _letter(CLOSE).reason == "every delivery failed; look in the log before 2026-11-20 12:00:00Z"


@pytest.mark.parametrize(
    ("data", "summary"),
    [
        (CLOSE, "trade_id BTC-macd-1 fraction 1"),
        (b"", "0 bytes that are no message"),
        (b"\xff\xfe", "2 bytes that are no message"),
        (b"hello", "5 bytes that are no message"),
        (b"[1, 2]", "6 bytes that are no message"),
        (b"null", "4 bytes that are no message"),
        (b'{"a": 1, "secret": "hunter2"}', "an object with a, secret"),
        (b'{"text": "hunter2"}', "19 bytes that are no message"),
        (b'{"alert": {"alert_id": "t1", "market_ticker": "ETH", "action": "open_long", "text": "hunter2"}}',
         "alert_id t1 market_ticker ETH action open_long"),
        (b'{"trade_id": "a\\n' + b"x" * 100 + b'"}', "trade_id a " + "x" * 58),
        (b"[" * 100_000, "100000 bytes that are no message"),
    ],
)  # fmt: skip
def test_a_summary_shows_what_it_is_about_and_no_free_text(data: bytes, summary: str) -> None:
    letter = _letter(data)
    assert letter.summary == summary
    assert "hunter2" not in json.dumps(as_json(letter, NOW))


def test_an_intent_that_expired_is_warned_of(make_intent: Callable[..., HedgedIntent]) -> None:
    intent = make_intent(expires_at=NOW, created_at=NOW - timedelta(seconds=90))
    letter = _letter(to_bytes(intent), "intents")
    assert warning(letter, NOW - timedelta(seconds=1)) == ""
    assert warning(letter, NOW).startswith("the intent expired at 2026-11-20 12:00:00Z: ")
    assert warning(_letter(b"{}", "intents"), NOW) == "" == warning(_letter(CLOSE), NOW)
    assert as_json(letter, NOW + timedelta(hours=1))["age_seconds"] == 3600


# -- Pub/Sub's own -----------------------------------------------------------------------------------


def test_what_a_dead_process_had_leased_is_not_shown_until_its_lease_ends(
    request: pytest.FixtureRequest, pubsub_host: str
) -> None:
    with ExitStack() as stack:
        desk = _pubsub(request, stack)
        id = desk.bury("closes", CLOSE)
        letters: Any = desk.letters
        (held,) = letters.pull("closes", 10)
        assert desk.ids() == [], "somebody has it in hand: this is what a listing cannot promise"
        letters.lease("closes", [held.ack_id], 0)
        assert desk.ids() == [id]


def test_a_subscription_that_is_not_there_is_said_so(pubsub_host: str) -> None:
    letters = PubSubDeadLetters(f"t-{secrets.token_hex(6)}", emulator_host=pubsub_host, wait_seconds=0.2)
    with pytest.raises(Unavailable, match="subscription closes-dead is not there: terraform apply makes it"):
        listed(letters, "closes")
    letters.close()


def test_a_service_that_does_not_answer_is_not_taken_for_an_empty_one() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        letters = PubSubDeadLetters("p", emulator_host=host, timeout_seconds=0.3, wait_seconds=0.2)
        started = time.monotonic()
        with pytest.raises(Unavailable, match="subscription closes-dead"):
            listed(letters, "closes")
        assert time.monotonic() - started < 5
        letters.close()


def test_a_replay_s_own_trace_never_replaces_the_message_s(tmp_path: Path) -> None:
    bus = LocalBus(tmp_path / "x.db", None, ReplayClock(NOW), synchronous="NORMAL")
    desk = Place(bus, LocalDeadLetters(bus), _engine(bus, SqliteStore(bus.database)), lambda _: [])
    from twinleg import logs

    id = desk.bury("closes", CLOSE, **TRACE)
    with logs.handling("a person", {}):
        replay(desk.engine, desk.letters, [id], "", to="", by="ada")
    assert bus.messages("closes", 1)[0].attributes["traceparent"] == TRACE["traceparent"]
    bus.close()
