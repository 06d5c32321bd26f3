"""The Bus port's contract, and what the local bus promises of delivery: at least once, in order per key."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from twinleg.adapters.local.bus import Envelope, LocalBus
from twinleg.adapters.local.clocks import ReplayClock, SystemClock
from twinleg.adapters.local.sqlite import Database
from twinleg.adapters.local.store import SqliteStore
from twinleg.domain.errors import BadInput, InvariantBroken, Rejected, Unavailable
from twinleg.engine.ports import Bus, Clock, Steps

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def _file(folder: Path, clock: Clock, steps: Steps | None = None) -> LocalBus:
    return LocalBus(folder / "twinleg.db", steps, clock, synchronous="NORMAL")


def _memory(folder: Path, clock: Clock, steps: Steps | None = None) -> LocalBus:
    return LocalBus(":memory:", steps, clock)


ADAPTERS = {"sqlite file": _file, "sqlite memory": _memory}


@pytest.fixture
def clock() -> ReplayClock:
    return ReplayClock(NOON)


@pytest.fixture(params=list(ADAPTERS))
def bus(request: pytest.FixtureRequest, tmp_path: Path, clock: ReplayClock) -> Iterator[LocalBus]:
    made = ADAPTERS[request.param](tmp_path, clock)
    yield made
    made.close()


Topic = Callable[[], list[tuple[str, bytes, str, dict[str, str]]]]
"""What was published to the topic ``candles`` so far: id, data, key, attributes."""


def _local(request: pytest.FixtureRequest, make: Callable[..., LocalBus]) -> tuple[Bus, Topic]:
    bus = make(request.getfixturevalue("tmp_path"), ReplayClock(NOON))
    request.addfinalizer(bus.close)
    return bus, lambda: [(e.message_id, e.data, e.key, dict(e.attributes)) for e in bus.messages("candles", 100)]


def _pubsub(request: pytest.FixtureRequest) -> tuple[Bus, Topic]:
    host = request.getfixturevalue("pubsub_host")
    from twinleg.adapters.gcp.pubsub import PubSubBus

    project = f"t-{secrets.token_hex(6)}"
    url, bus = f"http://{host}/v1/projects/{project}", PubSubBus(project, emulator_host=host)
    request.addfinalizer(bus.close)
    requests.put(f"{url}/topics/candles", json={}, timeout=5).raise_for_status()
    subscription = {"topic": f"projects/{project}/topics/candles"}
    requests.put(f"{url}/subscriptions/candles", json=subscription, timeout=5).raise_for_status()

    def pull() -> list[tuple[str, bytes, str, dict[str, str]]]:
        answer = requests.post(f"{url}/subscriptions/candles:pull", json={"maxMessages": 100}, timeout=5).json()
        messages = [received["message"] for received in answer.get("receivedMessages", [])]
        return [
            (m["messageId"], b64decode(m["data"]), m.get("orderingKey", ""), m.get("attributes", {})) for m in messages
        ]

    return bus, pull


PUBLISHERS: dict[str, Callable[[pytest.FixtureRequest], tuple[Bus, Topic]]] = {
    "sqlite file": partial(_local, make=_file),
    "sqlite memory": partial(_local, make=_memory),
    "pubsub": _pubsub,
}


@pytest.fixture(params=list(PUBLISHERS))
def publisher(request: pytest.FixtureRequest) -> tuple[Bus, Topic]:
    return PUBLISHERS[request.param](request)


class Inbox:
    """A handler that keeps what it was given and answers what it is told to, 200 unless told otherwise."""

    def __init__(self, answer: Callable[[Envelope], int] = lambda _: 200) -> None:
        self.envelopes: list[Envelope] = []
        self.answer = answer

    def __call__(self, envelope: Envelope) -> int:
        self.envelopes.append(envelope)
        return self.answer(envelope)

    @property
    def data(self) -> list[str]:
        return [envelope.data.decode() for envelope in self.envelopes]


# -- publishing, on every bus ----------------------------------------------------------------------


def test_what_publish_returned_is_kept_with_its_key_and_attributes(publisher: tuple[Bus, Topic]) -> None:
    bus, topic = publisher
    given = {"kind": "candle", "é": "ü"}
    id = bus.publish("candles", b"\x00\xff{}", key="hyperliquid:ETH", attributes=given)
    ((kept_id, data, key, attributes),) = topic()
    assert (kept_id, data, key) == (id, b"\x00\xff{}", "hyperliquid:ETH")
    assert given.items() <= attributes.items()


def test_publishing_the_same_twice_is_two_messages(publisher: tuple[Bus, Topic]) -> None:
    bus, topic = publisher
    ids = [bus.publish("candles", b"same", key="k"), bus.publish("candles", b"same", key="k")]
    assert [message[0] for message in topic()] == ids and len(set(ids)) == 2


def test_published_attributes_are_text(publisher: tuple[Bus, Topic]) -> None:
    bus, _ = publisher
    with pytest.raises(BadInput, match="attempt"):
        bus.publish("candles", b"", attributes={"attempt": 1})  # type: ignore[dict-item]


# -- publishing and delivering -------------------------------------------------------------------


def test_a_message_arrives_as_it_was_published_and_once(bus: LocalBus, clock: ReplayClock) -> None:
    inbox = Inbox()
    bus.subscribe("candles", inbox)
    id = bus.publish("candles", b"\x00\xff{}", key="hyperliquid:ETH", attributes={"kind": "candle", "é": "ü"})
    assert bus.pending() == 1
    assert bus.deliver_due(clock.now()) == 1
    assert bus.deliver_due(clock.now()) == 0 == bus.pending()
    assert inbox.envelopes == [
        Envelope("candles", id, b"\x00\xff{}", "hyperliquid:ETH", {"kind": "candle", "é": "ü"}, 1, NOON)
    ]


def test_ids_differ_and_publishing_twice_is_two_messages(bus: LocalBus, clock: ReplayClock) -> None:
    inbox = Inbox()
    bus.subscribe("alerts", inbox)
    assert bus.publish("alerts", b"same") != bus.publish("alerts", b"same")
    assert bus.deliver_due(clock.now()) == 2


def test_topics_are_delivered_in_the_order_of_publishing_until_nothing_is_left(
    bus: LocalBus, clock: ReplayClock
) -> None:
    seen: list[str] = []

    def signal_(envelope: Envelope) -> int:
        seen.append(envelope.data.decode())
        bus.publish("intents", b"intent of " + envelope.data, key="main:ETH")
        return 204

    def execute(envelope: Envelope) -> int:
        seen.append(envelope.data.decode())
        return 200

    bus.subscribe("intents", execute)
    bus.subscribe("candles", signal_)
    bus.publish("candles", b"1", key="ETH")
    bus.publish("intents", b"before 2")
    bus.publish("candles", b"2", key="ETH")
    assert bus.deliver_due(clock.now()) == 5
    assert seen == ["1", "before 2", "2", "intent of 1", "intent of 2"]


def test_topics_without_a_subscriber_keep_their_messages_for_a_later_one(bus: LocalBus, clock: ReplayClock) -> None:
    bus.publish("events", b"opened")
    assert (bus.deliver_due(clock.now()), bus.pending(), bus.next_due()) == (0, 0, None)
    assert [envelope.data for envelope in bus.messages("events", 10)] == [b"opened"]
    inbox = Inbox()
    bus.subscribe("events", inbox)
    assert bus.pending() == 1 == bus.deliver_due(clock.now())


def test_one_topic_has_one_subscriber(bus: LocalBus) -> None:
    bus.subscribe("candles", Inbox())
    with pytest.raises(BadInput, match="candles"):
        bus.subscribe("candles", Inbox())


# -- failing -------------------------------------------------------------------------------------


def test_what_failed_comes_again_with_growing_pauses(bus: LocalBus, clock: ReplayClock) -> None:
    times: list[float] = []

    def refuse(envelope: Envelope) -> int:
        times.append((clock.now() - NOON).total_seconds())
        assert envelope.delivery_attempt == len(times)
        return 503

    bus.subscribe("intents", refuse)
    bus.publish("intents", b"x")
    bus.deliver_due(clock.now())
    while (due := bus.next_due()) is not None:
        assert bus.deliver_due(due - timedelta(microseconds=1)) == 0, "nothing comes before its time"
        clock.advance_to(due)
        assert bus.deliver_due(clock.now()) == 1
    assert times == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]
    assert bus.pending() == 0 and len(bus.dead("intents")) == 1


def test_a_failing_message_holds_back_its_own_key_only(bus: LocalBus, clock: ReplayClock) -> None:
    broken = True
    inbox = Inbox(lambda envelope: 503 if broken and envelope.data == b"eth 1" else 200)
    bus.subscribe("candles", inbox)
    for data, key in (("eth 1", "ETH"), ("eth 2", "ETH"), ("btc 1", "BTC"), ("free", ""), ("eth 3", "ETH")):
        bus.publish("candles", data.encode(), key=key)
    bus.deliver_due(clock.now())
    assert inbox.data == ["eth 1", "btc 1", "free"]
    clock.sleep(1)
    broken = False
    bus.deliver_due(clock.now())
    assert inbox.data[3:] == ["eth 1", "eth 2", "eth 3"]


def test_messages_without_a_key_wait_for_nobody(bus: LocalBus, clock: ReplayClock) -> None:
    inbox = Inbox(lambda envelope: 500 if envelope.data == b"1" else 200)
    bus.subscribe("closes", inbox)
    for data in (b"1", b"2", b"3"):
        bus.publish("closes", data)
    bus.deliver_due(clock.now())
    assert inbox.data == ["1", "2", "3"] and bus.pending() == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Unavailable("the venue did not answer"), "Unavailable: the venue did not answer"),
        (Rejected("no"), "Rejected: no"),
        (InvariantBroken("two main legs"), "InvariantBroken: two main legs"),
        (KeyError("the passphrase hunter2"), "KeyError"),
        (None, "answered 500"),
    ],
)
def test_after_its_last_attempt_a_message_is_dead_with_the_reason(
    tmp_path: Path, clock: ReplayClock, fault: Exception | None, reason: str
) -> None:
    bus = LocalBus(":memory:", None, clock, max_delivery_attempts=3)

    def fail(envelope: Envelope) -> int:
        if fault:
            raise fault
        return 500

    inbox = Inbox(lambda envelope: fail(envelope) if envelope.data == b"bad" else 200)
    bus.subscribe("intents", inbox)
    id = bus.publish("intents", b"bad", key="main:ETH", attributes={"kind": "intent"})
    bus.publish("intents", b"good", key="main:ETH")
    for _ in range(3):
        bus.deliver_due(clock.now())
        clock.sleep(60)
    assert inbox.data == ["bad", "bad", "bad", "good"], "the key goes on when its message is dead"
    (dead,) = bus.dead("intents")
    assert (dead.topic, dead.data, dead.key) == ("intents-dead", b"bad", "main:ETH")
    assert dead.attributes == {
        "kind": "intent",
        "reason": reason,
        "source_topic": "intents",
        "source_message_id": id,
        "source_published_at": NOON.isoformat(),
        "delivery_attempts": "3",
    }
    assert (bus.pending(), bus.deliver_due(clock.now())) == (0, 0)
    bus.close()


def test_a_handler_that_answers_nonsense_has_failed(bus: LocalBus, clock: ReplayClock) -> None:
    bus.subscribe("alerts", lambda _: None)  # type: ignore[arg-type,return-value]
    bus.publish("alerts", b"x")
    assert bus.deliver_due(clock.now()) == 1 == bus.pending()


def test_a_handler_that_moves_the_clock_sees_what_becomes_due(bus: LocalBus, clock: ReplayClock) -> None:
    def slow(envelope: Envelope) -> int:
        clock.sleep(2)
        if envelope.delivery_attempt == 1:
            bus.publish("events", envelope.data)
        return 200 if envelope.delivery_attempt == 2 else 503

    events = Inbox()
    bus.subscribe("intents", slow)
    bus.subscribe("events", events)
    bus.publish("intents", b"a")
    bus.publish("intents", b"b")
    bus.deliver_due(NOON)
    assert events.data == ["a", "b"]
    assert bus.pending() == 0, "each came due again while the other was handled"
    assert clock.now() == NOON + timedelta(seconds=8)


# -- deaths --------------------------------------------------------------------------------------


class _PowerCut(BaseException):
    pass


def test_at_whatever_step_the_process_dies_nothing_is_lost_and_order_holds(tmp_path: Path) -> None:
    """The world stops at every single step in turn; the next process finds the same file."""
    step = 0
    while True:
        step += 1
        path = tmp_path / f"{step}.db"
        clock = ReplayClock(NOON)

        def die(count: int, name: str, at: int = step) -> None:
            if count == at:
                raise _PowerCut

        first = LocalBus(path, Steps(die), clock, synchronous="NORMAL")
        published: list[str] = []
        handled: list[str] = []

        def handle(envelope: Envelope, handled: list[str] = handled) -> int:
            handled.append(envelope.data.decode())
            return 503 if envelope.data == b"2" and envelope.delivery_attempt == 1 else 200

        first.subscribe("candles", handle)
        cut = False
        try:
            for data in ("1", "2", "3"):
                first.publish("candles", data.encode(), key="ETH")
                published.append(data)
            first.deliver_due(clock.now())
            clock.sleep(60)
            first.deliver_due(clock.now())
        except _PowerCut:
            cut = True
        first.close()

        second = LocalBus(path, None, clock, synchronous="NORMAL")
        second.subscribe("candles", handle)
        clock.sleep(60)
        second.deliver_due(clock.now())
        clock.sleep(60)
        second.deliver_due(clock.now())
        assert set(published) <= set(handled), f"lost at step {step}"
        last_times = sorted(set(handled), key=lambda data: len(handled) - handled[::-1].index(data))
        assert last_times == sorted(last_times), f"out of order at step {step}: {handled}"
        assert second.pending() == 0 and second.dead("candles") == []
        second.close()
        if not cut:
            break
    assert step > 20


def test_a_message_that_kills_its_process_ends_among_the_dead(tmp_path: Path, clock: ReplayClock) -> None:
    def die(_: Envelope) -> int:
        raise _PowerCut

    path = tmp_path / "twinleg.db"
    LocalBus(path, None, clock).publish("intents", b"poison", key="k")
    for _ in range(3):
        bus = LocalBus(path, None, clock, max_delivery_attempts=3)
        bus.subscribe("intents", die)
        with pytest.raises(_PowerCut):
            bus.deliver_due(clock.now())
        bus.close()
    bus = LocalBus(path, None, clock, max_delivery_attempts=3)
    bus.subscribe("intents", die)
    bus.deliver_due(clock.now())
    (dead,) = bus.dead("intents")
    assert (dead.data, dead.attributes["delivery_attempts"]) == (b"poison", "3")
    assert "process ended" in dead.attributes["reason"]
    bus.close()


_VICTIM = """
import sys, threading
from twinleg.adapters.local.bus import LocalBus
from twinleg.adapters.local.clocks import SystemClock
bus = LocalBus(sys.argv[1], None, SystemClock())
def handle(envelope):
    print(f"handling {envelope.data.decode()}", flush=True)
    if envelope.data == b"3":
        threading.Event().wait()
    return 200
bus.subscribe("intents", handle)
for number in range(1, 7):
    print("published", bus.publish("intents", b"%d" % number, key="main:ETH"), flush=True)
bus.run(threading.Event())
"""


def test_nothing_is_lost_to_kill_9_in_the_middle_of_a_delivery(tmp_path: Path) -> None:
    path = tmp_path / "twinleg.db"
    victim = subprocess.Popen([sys.executable, "-c", _VICTIM, str(path)], stdout=subprocess.PIPE, text=True)
    assert victim.stdout is not None
    for line in victim.stdout:
        if line == "handling 3\n":
            break
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=10)

    bus, inbox = LocalBus(path, None, SystemClock()), Inbox()
    bus.subscribe("intents", inbox)
    assert bus.deliver_due(SystemClock().now()) == 4
    assert inbox.data == ["3", "4", "5", "6"]
    assert [envelope.delivery_attempt for envelope in inbox.envelopes] == [2, 1, 1, 1]
    bus.close()


def test_publishing_that_could_not_be_made_durable_is_unavailable(tmp_path: Path, clock: ReplayClock) -> None:
    path = tmp_path / "twinleg.db"
    other = Database(path)
    bus = LocalBus(Database(path, busy_seconds=0.02), None, clock)
    with other.transaction(), pytest.raises(Unavailable):
        bus.publish("intents", b"x")
    assert bus.messages("intents", 1) == []
    bus.close()
    other.close()


# -- many messages -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    plan=st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.lists(st.booleans(), max_size=3)), max_size=12),
)
def test_whatever_fails_every_message_is_handled_and_keys_keep_their_order(
    plan: list[tuple[str, list[bool]]],
) -> None:
    clock = ReplayClock(NOON)
    bus = LocalBus(":memory:", None, clock)
    done: list[int] = []

    def handle(envelope: Envelope) -> int:
        answers = plan[int(envelope.data)][1]
        if envelope.delivery_attempt <= len(answers) and not answers[envelope.delivery_attempt - 1]:
            return 500
        done.append(int(envelope.data))
        return 200

    bus.subscribe("t", handle)
    for number, (key, _) in enumerate(plan):
        bus.publish("t", str(number).encode(), key=key)
    bus.deliver_due(clock.now())
    while due := bus.next_due():
        clock.advance_to(due)
        bus.deliver_due(due)
    assert sorted(done) == list(range(len(plan)))
    for key in ("a", "b"):
        of_key = [number for number in done if plan[number][0] == key]
        assert of_key == sorted(of_key)
    bus.close()


def test_old_messages_make_room_and_what_waits_never_does(clock: ReplayClock) -> None:
    bus = LocalBus(":memory:", None, clock, kept={"events": 50}, handled_kept=20)
    bus.subscribe("candles", Inbox())
    for number in range(700):
        bus.publish("events", str(number).encode())
        bus.publish("candles", str(number).encode())
        bus.publish("intents", b"for another process")
        bus.publish("candles-dead", b"for a person")
    bus.deliver_due(clock.now())
    events, candles = bus.messages("events", 10_000), bus.messages("candles", 10_000)
    assert 50 <= len(events) < 400 and events[-1].data == b"699"
    assert 20 <= len(candles) < 400 and candles[-1].data == b"699"
    assert len(bus.messages("intents", 10_000)) == len(bus.messages("candles-dead", 10_000)) == 700
    assert [envelope.data for envelope in bus.messages("events", 2)] == [b"698", b"699"]
    bus.close()


def test_store_and_bus_share_one_file(tmp_path: Path, clock: ReplayClock) -> None:
    database = Database(tmp_path / "twinleg.db", synchronous="NORMAL")
    store, bus = SqliteStore(database), LocalBus(database, None, clock)
    store.create("trades", "a", {"n": 1})
    bus.publish("events", b"x")
    assert store.get("trades", "a") is not None and len(bus.messages("events", 9)) == 1
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["twinleg.db"] * 3
    database.close()


def test_every_outside_effect_is_counted_before_and_after(tmp_path: Path, clock: ReplayClock) -> None:
    names: list[str] = []
    bus = LocalBus(":memory:", Steps(lambda _, name: names.append(name)), clock, max_delivery_attempts=2)
    bus.subscribe("t", lambda envelope: 200 if envelope.data == b"good" else 500)
    bus.publish("t", b"good")
    bus.publish("t", b"bad")
    for _ in range(2):
        bus.deliver_due(clock.now())
        clock.sleep(1)
    assert names[::2] == [
        "bus.publish t", "bus.publish t", "bus.attempt t", "bus.acknowledge t", "bus.attempt t", "bus.postpone t",
        "bus.attempt t", "bus.bury t",
    ]  # fmt: skip
    assert names[1::2] == [f"{name} done" for name in names[::2]]
    bus.close()


# -- by the wall's clock -------------------------------------------------------------------------


class Running:
    """A bus delivering in threads, for the length of a with block."""

    def __init__(self, bus: LocalBus) -> None:
        self.bus, self.stop = bus, threading.Event()
        self.thread = threading.Thread(target=bus.run, args=(self.stop,))

    def __enter__(self) -> LocalBus:
        self.thread.start()
        return self.bus

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.bus.close()


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def _has(things: list[float], count: int) -> bool:
    return len(things) == count


@pytest.fixture(params=list(ADAPTERS))
def wall_bus(request: pytest.FixtureRequest, tmp_path: Path) -> LocalBus:
    return ADAPTERS[request.param](tmp_path, SystemClock())


def test_running_it_delivers_what_is_published_soon(wall_bus: LocalBus) -> None:
    arrived: list[float] = []

    def note(_: Envelope) -> int:
        arrived.append(time.monotonic())
        return 200

    wall_bus.subscribe("alerts", note)
    with Running(wall_bus) as bus:
        time.sleep(0.05)
        for number in range(5):
            asked = time.monotonic()
            bus.publish("alerts", b"x")
            _until(partial(_has, arrived, number + 1))
            assert arrived[-1] - asked < 0.2, "a publish wakes its worker rather than wait for the poll"


def test_running_it_keeps_the_order_of_keys_with_many_publishers_and_workers(wall_bus: LocalBus) -> None:
    seen: dict[str, list[int]] = {f"k{n}": [] for n in range(4)}
    inside: dict[str, int] = dict.fromkeys(seen, 0)
    overlaps = []

    def handle(envelope: Envelope) -> int:
        inside[envelope.key] += 1
        if inside[envelope.key] > 1:
            overlaps.append(envelope.key)
        time.sleep(0.0005)
        seen[envelope.key].append(int(envelope.data))
        inside[envelope.key] -= 1
        return 200

    wall_bus.subscribe("t", handle, workers=4)
    with Running(wall_bus) as bus:
        publishers = [
            threading.Thread(target=lambda k=key: [bus.publish("t", str(n).encode(), key=k) for n in range(25)])
            for key in seen
        ]
        for publisher in publishers:
            publisher.start()
        for publisher in publishers:
            publisher.join()
        _until(lambda: bus.pending() == 0)
    assert overlaps == []
    assert all(numbers == list(range(25)) for numbers in seen.values())


def test_a_slow_topic_holds_up_no_other_and_workers_share_one_topic(wall_bus: LocalBus) -> None:
    gate, inbox = threading.Event(), Inbox()
    both = threading.Barrier(2, timeout=10)

    def blocked(_: Envelope) -> int:
        both.wait()
        gate.wait(10)
        return 200

    wall_bus.subscribe("intents", blocked, workers=2)
    wall_bus.subscribe("closes", inbox)
    with Running(wall_bus) as bus:
        bus.publish("intents", b"1", key="main:ETH")
        bus.publish("intents", b"2", key="main:BTC")
        bus.publish("closes", b"now")
        _until(lambda: inbox.data == ["now"])
        gate.set()
        _until(lambda: bus.pending() == 0)


def test_running_it_tries_again_and_survives_its_handlers(wall_bus: LocalBus) -> None:
    def clumsy(envelope: Envelope) -> int:
        if envelope.delivery_attempt == 1:
            raise RuntimeError("the first time")
        return 200

    inbox = Inbox(clumsy)
    wall_bus.subscribe("t", inbox)
    with Running(wall_bus) as bus:
        bus.publish("t", b"x")
        _until(lambda: len(inbox.envelopes) == 2 and bus.pending() == 0)
    first, second = inbox.envelopes
    assert (first.delivery_attempt, second.delivery_attempt) == (1, 2)


def test_a_locked_file_delays_delivery_and_does_not_end_it(tmp_path: Path) -> None:
    path, inbox = tmp_path / "twinleg.db", Inbox()
    other = Database(path)
    running = LocalBus(Database(path, busy_seconds=0.01), None, SystemClock())
    running.subscribe("closes", inbox)
    running.publish("closes", b"x")
    with ExitStack() as lock:
        lock.enter_context(other.transaction())
        with Running(running) as bus:
            time.sleep(0.1)
            assert inbox.data == []
            lock.close()
            _until(lambda: bus.pending() == 0)
    assert inbox.data == ["x"]
    other.close()


def test_another_process_can_publish_to_a_running_bus(tmp_path: Path) -> None:
    inbox = Inbox()
    running = _file(tmp_path, SystemClock())
    running.subscribe("closes", inbox)
    with Running(running):
        script = (
            "import sys; from twinleg.adapters.local.bus import LocalBus;"
            "from twinleg.adapters.local.clocks import SystemClock;"
            "LocalBus(sys.argv[1], None, SystemClock()).publish('closes', b'by hand')"
        )
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "twinleg.db")], check=True, timeout=30)
        _until(lambda: inbox.data == ["by hand"])
