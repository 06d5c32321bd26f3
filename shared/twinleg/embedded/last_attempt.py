"""Dead letters of ordered subscriptions, which the Pub/Sub emulator forgets.

Pub/Sub publishes a message that failed too often to the dead-letter topic. The emulator (0.8.20) does so for unordered
subscriptions only: on an ordered one the message is delivered no more, is nowhere, and holds back its key for good.
So the front door counts for ordered topics, buries the message as Pub/Sub would, and acknowledges it.
Source of the attributes: Pub/Sub docs, dead-letter topics.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter

from twinleg.domain.errors import TwinlegError
from twinleg.embedded.front_door import Answer, Call
from twinleg.embedded.topology import TOPICS
from twinleg.engine.ports import Bus
from twinleg.wire import ORDERING_KEY

NATIVE = "CloudPubSubDeadLetterSource"
NATIVE_SUBSCRIPTION, NATIVE_PUBLISHED = f"{NATIVE}Subscription", f"{NATIVE}TopicPublishTime"
"""Attributes of a message that Pub/Sub gave up: whose it was, and when it was published first."""


class LastAttempts:
    """Counts the failed deliveries of ordered messages in one project."""

    def __init__(self, bus: Bus, project: str) -> None:
        self._bus, self._project = bus, project
        self._lock = threading.Lock()
        self._failed: Counter[int] = Counter()

    def after(self, call: Call, answer: Answer) -> Answer:
        """What Pub/Sub is told of a push: the function's answer, or that it is settled because it is buried now."""
        row = TOPICS[call.topic]
        if not row.ordered:
            return answer
        with self._lock:
            if answer.is_done:
                self._failed.pop(call.number, None)
                return answer
            self._failed[call.number] += 1
            attempts = self._failed[call.number]
        if attempts < row.attempts or not self._bury(call, attempts):
            return answer
        with self._lock:
            self._failed.pop(call.number, None)
        return Answer(200, body=b"given up\n")

    def _bury(self, call: Call, attempts: int) -> bool:
        message = json.loads(call.body)["message"]
        attributes: dict[str, str] = message.get("attributes", {})
        about = {
            f"{NATIVE}DeliveryCount": str(attempts),
            NATIVE_SUBSCRIPTION: f"{call.name}-{call.topic}",
            f"{NATIVE}SubscriptionProject": self._project,
            NATIVE_PUBLISHED: str(message.get("publishTime", "")),
        }
        data = base64.b64decode(message.get("data", ""))
        try:
            self._bus.publish(
                f"{call.topic}-dead", data, key=attributes.get(ORDERING_KEY, ""), attributes=attributes | about
            )
        except TwinlegError:
            return False
        return True
