"""Which messages are handled is known, and in a replay they are handed over in the order of publishing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from twinleg.adapters.gcp.emulated_queues import EmulatedQueues
from twinleg.adapters.gcp.pubsub import PubSubBus
from twinleg.adapters.local.clocks import ReplayClock
from twinleg.embedded.deliveries import Deliveries
from twinleg.embedded.front_door import Answer, Call, FrontDoor
from twinleg.embedded.last_attempt import LastAttempts
from twinleg.embedded.topology import DEAD_TOPICS, PUSHED, TOPICS

DONE, REFUSED, DIED = Answer(200), Answer(503), Answer(503, died=True)


class Desk:
    """A project with all topics, pushed to a door whose pushes wait for their turn."""

    def __init__(self, host: str) -> None:
        project = f"t-{secrets.token_hex(6)}"
        self.queues = EmulatedQueues(host, project)
        self.bus = PubSubBus(project, emulator_host=host)
        self.last_attempts = LastAttempts(self.bus, project)
        self.clock = ReplayClock(datetime(2025, 1, 6, tzinfo=UTC))
        self.deliveries = Deliveries(self.queues, self.clock)
        self.door = FrontDoor(lambda name, seconds: None, lambda _, call: self.deliveries.park(call))
        port = self.door.listen()
        for topic in (*TOPICS, *DEAD_TOPICS):
            self.queues.make_topic(topic)
        self.deliveries.make_subscriptions()
        for topic, name in PUSHED.items():
            attempts = TOPICS[topic].attempts if TOPICS[topic].ordered else 5
            self.queues.make_push(
                f"{name}-{topic}", topic, f"http://127.0.0.1:{port}/{name}/topics/{topic}",
                ack_seconds=60, ordered=TOPICS[topic].ordered, attempts=attempts, backoff_seconds=(0, 1),
            )  # fmt: skip

    def publish(self, topic: str, text: str, key: str = "") -> int:
        return int(self.bus.publish(topic, text.encode(), key=key))

    def next(self) -> Call | None:
        self.deliveries.look(PUSHED)
        return self.deliveries.next_push()

    def handed_over(self, answer: Answer = DONE) -> list[int]:
        """Everything that is due, in the order in which it came."""
        found: list[int] = []
        while (call := self.next()) is not None:
            found.append(call.number)
            self.settle(call, answer)
        return found

    def settle(self, call: Call, answer: Answer) -> None:
        self.deliveries.settle(call, self.last_attempts.after(call, answer))

    def close(self) -> None:
        self.deliveries.let_go()
        self.door.close()
        self.bus.close()


@pytest.fixture
def desk(pubsub_host: str) -> Iterator[Desk]:
    made = Desk(pubsub_host)
    yield made
    made.close()


def test_messages_of_all_topics_come_in_the_order_of_publishing(desk: Desk) -> None:
    topics = ["intents", "closes", "alerts", "closes", "candles", "intents"]
    published = [desk.publish(topic, f"{n}", key=topic if topic != "closes" else "") for n, topic in enumerate(topics)]
    first = desk.next()
    assert first is not None and (first.name, first.topic, first.number) == ("execute", "intents", published[0])
    assert sorted(desk.deliveries.open()) == published
    assert desk.handed_over() == published
    assert desk.deliveries.open() == {} and desk.next() is None


def test_one_that_is_refused_comes_again_later_and_holds_back_its_own_key_only(desk: Desk) -> None:
    first, second = desk.publish("candles", "1", key="a"), desk.publish("candles", "2", key="a")
    other = desk.publish("candles", "3", key="b")
    refused = desk.next()
    assert refused is not None and refused.number == first
    desk.settle(refused, REFUSED)
    assert desk.handed_over() == [other]
    assert sorted(desk.deliveries.open()) == [first, second]
    desk.clock.sleep(1)
    assert desk.handed_over() == [first, second]


def test_one_whose_server_died_comes_again_at_the_same_time(desk: Desk) -> None:
    number = desk.publish("closes", "x")
    died = desk.next()
    assert died is not None
    desk.settle(died, DIED)
    assert desk.handed_over() == [number]


def test_one_that_pub_sub_gives_up_is_dead_and_waited_for_no_longer(desk: Desk) -> None:
    desk.publish("closes", "kills whoever reads it")
    later = desk.publish("closes", "harmless")
    for _ in range(5):
        call = desk.next()
        assert call is not None and call.number != later
        desk.settle(call, DIED)
    assert desk.handed_over() == [later]
    assert desk.deliveries.open() == {}
    assert [dead.data for dead in desk.deliveries.dead("closes")] == [b"kills whoever reads it"]
    assert desk.deliveries.dead("intents") == []


def test_an_ordered_one_is_given_up_with_pub_sub_s_attributes_and_its_key_goes_on(desk: Desk) -> None:
    first = desk.publish("intents", "kills whoever reads it", key="main")
    second = desk.publish("intents", "harmless", key="main")
    for _ in range(TOPICS["intents"].attempts):
        call = desk.next()
        assert call is not None and call.number == first
        desk.settle(call, DIED)
    assert desk.handed_over() == [second]
    assert desk.deliveries.open() == {}
    [dead] = desk.deliveries.dead("intents")
    assert (dead.data, dead.key, dead.attributes["ordering_key"]) == (b"kills whoever reads it", "main", "main")
    assert dead.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "10"
    assert dead.attributes["CloudPubSubDeadLetterSourceSubscription"] == "execute-intents"


def test_a_reason_of_ours_is_kept_with_the_dead_letter(desk: Desk) -> None:
    desk.bus.publish("intents-dead", b"bad", attributes={"reason": "field x"})
    assert [(dead.data, dead.attributes["reason"]) for dead in desk.deliveries.dead("intents")] == [(b"bad", "field x")]
    assert [dead.data for dead in desk.deliveries.dead("intents")] == [b"bad"]
