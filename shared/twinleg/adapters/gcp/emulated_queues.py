"""Topics and subscriptions at the Pub/Sub emulator, where no Terraform makes them; its REST face."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinleg.adapters.venues.hyperliquid_http import Channel, NetworkFault
from twinleg.domain.errors import Unavailable

CALL_SECONDS_MAX = 20.0
PULLED_MAX = 1000
ATTEMPTS_MIN, ATTEMPTS_MAX = 5, 100
"""What Pub/Sub accepts as max_delivery_attempts."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A message as a pull delivers it. The emulator numbers all messages in the order of publishing."""

    number: int
    topic: str
    data: bytes
    key: str
    attributes: Mapping[str, str]
    published_at: str


class EmulatedQueues:
    """One project of a running emulator. Errors: Unavailable."""

    def __init__(self, host: str, project: str) -> None:
        self._project = f"projects/{project}"
        self._channel = Channel(f"http://{host}", CALL_SECONDS_MAX)

    def make_topic(self, name: str) -> None:
        self._call("PUT", self._topic(name), {})

    def make_pull(self, name: str, topic: str, ack_seconds: int = 600) -> None:
        """A subscription that is pulled."""
        self._call("PUT", self._subscription(name), {"topic": self._topic(topic), "ackDeadlineSeconds": ack_seconds})

    def make_push(
        self,
        name: str,
        topic: str,
        endpoint: str,
        *,
        ack_seconds: int,
        ordered: bool,
        attempts: int,
        backoff_seconds: tuple[int, int],
    ) -> None:
        """A subscription that is pushed to *endpoint*; after so many attempts a message goes to ``<topic>-dead``.

        One that is there from an earlier start is told where to push now.
        """
        there = self._call(
            "PUT",
            self._subscription(name),
            {
                "topic": self._topic(topic),
                "pushConfig": {"pushEndpoint": endpoint},
                "ackDeadlineSeconds": ack_seconds,
                "enableMessageOrdering": ordered,
                "retryPolicy": {
                    "minimumBackoff": f"{backoff_seconds[0]}s",
                    "maximumBackoff": f"{backoff_seconds[1]}s",
                },
                "deadLetterPolicy": {
                    "deadLetterTopic": self._topic(f"{topic}-dead"),
                    "maxDeliveryAttempts": max(ATTEMPTS_MIN, min(attempts, ATTEMPTS_MAX)),
                },
            },
        )
        if there is None:
            where = {"pushConfig": {"pushEndpoint": endpoint}}
            self._call("POST", f"{self._subscription(name)}:modifyPushConfig", where)

    def pull(self, name: str, topic: str) -> list[Pulled]:
        """Take what waits in a subscription, acknowledged. It sees all that was published before it was asked."""
        found: list[Pulled] = []
        while True:
            body = {"returnImmediately": True, "maxMessages": PULLED_MAX}
            answer = self._call("POST", f"{self._subscription(name)}:pull", body) or {}
            received = answer.get("receivedMessages", [])
            if not received:
                return found
            found += [_pulled(topic, one["message"]) for one in received]
            ids = [one["ackId"] for one in received]
            self._call("POST", f"{self._subscription(name)}:acknowledge", {"ackIds": ids})
            if len(received) < PULLED_MAX:
                return found

    def _topic(self, name: str) -> str:
        return f"{self._project}/topics/{name}"

    def _subscription(self, name: str) -> str:
        return f"{self._project}/subscriptions/{name}"

    def _call(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer; None when what was to be made is there already."""
        try:
            status, text = self._channel.request(method, f"/v1/{path}", json.dumps(body).encode())
        except NetworkFault as fault:
            raise Unavailable(f"the pubsub emulator: {fault}") from fault
        if status == 409:
            return None
        if status != 200:
            raise Unavailable(f"the pubsub emulator: {method} {path}: HTTP {status}: {' '.join(text.split())[:200]}")
        answer: dict[str, Any] = json.loads(text or "{}")
        return answer


def _pulled(topic: str, message: Mapping[str, Any]) -> Pulled:
    return Pulled(
        number=int(message["messageId"]),
        topic=topic,
        data=base64.b64decode(message.get("data", "")),
        key=message.get("orderingKey", ""),
        attributes=message.get("attributes", {}),
        published_at=message.get("publishTime", ""),
    )
