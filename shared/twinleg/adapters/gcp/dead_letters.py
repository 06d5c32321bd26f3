"""The DeadLetters port on Pub/Sub: the pull subscriptions ``<source>-dead``, which nobody reads but a person.

Looking is taking for a while: a pulled message is leased, and is nobody else's until the lease ends. So everything
that is only looked at is given back at the end, at once, and what a process that died had leased comes back by itself
after the subscription's deadline (a minute).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.api_core.exceptions import DeadlineExceeded, NotFound
from google.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from twinleg.adapters.gcp.client import CHANNEL_OPTIONS, ERRORS, PerProcess, soon_again, words
from twinleg.domain.errors import Unavailable
from twinleg.engine.dead_letters import LOOKED_AT_MAX, DeadLetter
from twinleg.engine.ports import Steps
from twinleg.wire import ORDERING_KEY

PULLED_AT_ONCE = 100
RENEWED_EVERY = 25
"""After so many visits the leases of the others are prolonged: a visit publishes, which takes a moment."""
LEASE_SECONDS = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PubSubDeadLetters:
    """The dead letters of one project, pulled until a pull has waited *wait_seconds* for nothing.

    What is shown was there. What is not shown may be there all the same: leased by somebody who looks at this moment
    (the console, another terminal, a process that died within the last minute), or not yet given out by Pub/Sub. So
    an empty listing right after another one proves little; a second look a minute later does. Removed is what
    Pub/Sub took the acknowledgement of; in rare cases it shows a message once more.

    Errors: Unavailable (not reached, not permitted, or the subscription is not there). Needs the role
    roles/pubsub.subscriber and roles/pubsub.viewer on the subscriptions.
    """

    def __init__(
        self,
        project: str,
        steps: Steps | None = None,
        *,
        emulator_host: str = "",
        timeout_seconds: float = 5.0,
        wait_seconds: float = 3.0,
    ) -> None:
        self._project = project
        self._steps = steps or Steps()
        self._emulator_host = emulator_host
        self._timeout_seconds = timeout_seconds
        self._wait_seconds = wait_seconds
        self._client = PerProcess(self._connected)

    def each(
        self,
        sources: Sequence[str],
        visit: Callable[[DeadLetter], bool],
        *,
        ids: Collection[str] | None = None,
        limit: int = LOOKED_AT_MAX,
    ) -> bool:
        leases = [_Leased(self, source, ids, limit) for source in sources]
        with ThreadPoolExecutor(max(1, len(leases))) as pool:
            try:
                for done in wait([pool.submit(leased.collect) for leased in leases]).done:
                    done.result()
                for leased in leases:
                    leased.show(visit)
            finally:
                list(pool.map(_Leased.give_back, leases))
        return all(leased.complete for leased in leases)

    def close(self) -> None:
        """Close this process's connection; the next use opens one again."""
        self._client.close()

    # -- calls -----------------------------------------------------------------------------------

    def _connected(self) -> SubscriberClient:
        if not self._emulator_host:
            return SubscriberClient()
        channel = grpc.insecure_channel(self._emulator_host, options=CHANNEL_OPTIONS)
        return SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))

    def _name(self, source: str) -> str:
        return f"projects/{self._project}/subscriptions/{source}-dead"

    def _call(self) -> dict[str, Any]:
        return {"timeout": self._timeout_seconds, "retry": soon_again(self._timeout_seconds)}

    def look_up(self, source: str) -> None:
        """Make sure that the subscription is there and answers: a pull that waits in vain looks like an empty one."""
        with _translated(source):
            self._client().get_subscription(subscription=self._name(source), **self._call())

    def pull(self, source: str, most: int) -> list[Any]:
        """Messages as they were received; none when none came in time."""
        with _translated(source):
            try:
                answer = self._client().pull(
                    subscription=self._name(source), max_messages=most, timeout=self._wait_seconds, retry=None
                )
            except DeadlineExceeded:
                return []
        return list(answer.received_messages)

    def lease(self, source: str, handles: list[str], seconds: int) -> None:
        """Keep what was pulled for so long; 0 gives it back."""
        for some in _parts(handles):
            with _translated(source):
                self._client().modify_ack_deadline(
                    subscription=self._name(source), ack_ids=some, ack_deadline_seconds=seconds, **self._call()
                )

    def remove(self, source: str, handle: str) -> None:
        self._steps.step(f"bus.remove {source}-dead")
        with _translated(source):
            self._client().acknowledge(subscription=self._name(source), ack_ids=[handle], **self._call())
        self._steps.step(f"bus.remove {source}-dead done")


class _Leased:
    """What is leased of one subscription: by message id, because one may be given out twice."""

    def __init__(self, pubsub: PubSubDeadLetters, source: str, ids: Collection[str] | None, limit: int) -> None:
        self._pubsub, self._source, self._limit = pubsub, source, limit
        self._wanted = None if ids is None else {id for id in ids if id.partition("/")[0] == source}
        self._letters: dict[str, DeadLetter] = {}
        self._handles: dict[str, str] = {}
        self.complete = True

    def collect(self) -> None:
        """Pull until nothing new comes, the limit is reached, or all that is wanted was found."""
        self._pubsub.look_up(self._source)
        while True:
            if self._wanted is not None and self._wanted <= set(self._letters):
                return
            if len(self._letters) >= self._limit:
                self.complete = False
                return
            received = self._pubsub.pull(self._source, min(PULLED_AT_ONCE, self._limit - len(self._letters)))
            letters = [_letter(self._source, one.message) for one in received]
            news = [letter.id for letter in letters if letter.id not in self._letters]
            for letter, one in zip(letters, received, strict=True):
                self._letters[letter.id], self._handles[letter.id] = letter, one.ack_id
            if not news:
                return

    def show(self, visit: Callable[[DeadLetter], bool]) -> None:
        """Show what was collected, oldest first; remove what *visit* is done with."""
        wanted = [id for id in self._letters if self._wanted is None or id in self._wanted]
        for number, id in enumerate(sorted(wanted, key=lambda id: self._letters[id].published_at), 1):
            if visit(self._letters[id]):
                self._pubsub.remove(self._source, self._handles[id])
                del self._handles[id]
            if number % RENEWED_EVERY == 0:
                self._pubsub.lease(self._source, list(self._handles.values()), LEASE_SECONDS)

    def give_back(self) -> None:
        """Let others see what was not removed. Should that fail, the leases end by themselves."""
        with suppress(Unavailable):
            self._pubsub.lease(self._source, list(self._handles.values()), 0)


def _letter(source: str, message: Any) -> DeadLetter:
    attributes = dict(message.attributes)
    return DeadLetter(
        source=source,
        message_id=message.message_id,
        data=bytes(message.data),
        key=message.ordering_key or attributes.get(ORDERING_KEY, ""),
        attributes=attributes,
        published_at=_time(message.publish_time),
    )


def _time(at: Any) -> datetime:
    return _EPOCH + (at - _EPOCH) if at else _EPOCH


def _parts(handles: list[str]) -> Iterator[list[str]]:
    """In requests of a size that Pub/Sub takes."""
    for start in range(0, len(handles), PULLED_AT_ONCE):
        yield handles[start : start + PULLED_AT_ONCE]


@contextmanager
def _translated(source: str) -> Iterator[None]:
    try:
        yield
    except DeadlineExceeded as error:
        raise Unavailable(f"subscription {source}-dead: no answer in time") from error
    except NotFound as error:
        raise Unavailable(f"subscription {source}-dead is not there: terraform apply makes it") from error
    except ERRORS as error:
        raise Unavailable(f"subscription {source}-dead: {words(error)}") from error
