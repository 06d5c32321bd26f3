"""The Bus port on Pub/Sub: one request a message, answered before `publish` returns.

The batching publisher of Google's library is passed by: its threads do not survive a fork, a function's CPU
stops when it has answered, and a key of it that failed once stays blocked until it is resumed. One request
per message costs a round trip, which publishing durably costs in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.api_core.exceptions import InvalidArgument
from google.pubsub_v1 import PublisherClient, PubsubMessage
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from twinleg.adapters.gcp.client import CHANNEL_OPTIONS, ERRORS, PerProcess, soon_again, words
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.steps import Steps
from twinleg.logs import traced
from twinleg.wire import ORDERING_KEY

ATTRIBUTE_BYTES_MAX = 1024
"""Pub/Sub's limit of an attribute's value; a longer one (a reason) is cut there rather than refused."""


class PubSubBus:
    """Publishes to the topics of one project; subscriptions, retries and dead letters are the service's own.

    A message with a key is ordered by it, and carries it in the attribute ``ordering_key`` too, because a
    push from the emulator leaves the key itself out. Every call ends within *timeout_seconds*. One whose answer was
    lost is Unavailable although the message may have arrived: delivery is at least once.

    Errors: Unavailable (also for a topic that is not there yet), BadInput (Pub/Sub refuses the message itself).
    """

    def __init__(
        self, project: str, steps: Steps | None = None, *, emulator_host: str = "", timeout_seconds: float = 5.0
    ) -> None:
        self._project = project
        self._steps = steps or Steps()
        self._emulator_host = emulator_host
        self._timeout_seconds = timeout_seconds
        self._client = PerProcess(self._connected)

    def publish(self, topic: str, data: bytes, *, key: str = "", attributes: Mapping[str, str] | None = None) -> str:
        """Durable when it returns; the message's id."""
        about = _attributes(traced(attributes or {})) | ({ORDERING_KEY: key} if key else {})
        message = PubsubMessage(data=data, attributes=about, ordering_key=key)
        call: dict[str, Any] = {"timeout": self._timeout_seconds, "retry": soon_again(self._timeout_seconds)}
        self._steps.step(f"bus.publish {topic}")
        try:
            answer = self._client().publish(
                topic=f"projects/{self._project}/topics/{topic}", messages=[message], **call
            )
        except InvalidArgument as error:
            raise BadInput(f"topic {topic}: {words(error)}") from error
        except ERRORS as error:
            raise Unavailable(f"topic {topic}: {words(error)}") from error
        self._steps.step(f"bus.publish {topic} done")
        return str(answer.message_ids[0])

    def close(self) -> None:
        """Close this process's connection; the next use opens one again."""
        self._client.close()

    def _connected(self) -> PublisherClient:
        if not self._emulator_host:
            return PublisherClient()
        channel = grpc.insecure_channel(self._emulator_host, options=CHANNEL_OPTIONS)
        return PublisherClient(transport=PublisherGrpcTransport(channel=channel))


def _attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    for name, value in attributes.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise BadInput(f"the attribute {name!r} must be text, was {value!r}")
    return {name: value.encode()[:ATTRIBUTE_BYTES_MAX].decode(errors="ignore") for name, value in attributes.items()}
