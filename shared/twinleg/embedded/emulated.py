"""The system of Google Cloud on one machine: both emulators, and each function a server process of its own.

Topics, subscriptions, retries, dead letters and limits are those of ``infra/terraform``. What is not Google's is
beside it: a front door for Cloud Run's, a scheduler for Cloud Scheduler, the paper venue for the exchange.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinleg.adapters.gcp import emulators
from twinleg.adapters.gcp.emulated_queues import EmulatedQueues, Pulled
from twinleg.adapters.gcp.emulators import FIRESTORE_VARIABLE, PUBSUB_VARIABLE, Emulator
from twinleg.adapters.local.clocks import pause, stopwatch
from twinleg.adapters.local.schedule import heeding
from twinleg.adapters.local.scheduler import Scheduler
from twinleg.bootstrap import (
    PROJECT_VARIABLE,
    REPLAY_CLOCK_VARIABLE,
    RUNTIME_VARIABLE,
    System,
    cloud_system,
)
from twinleg.domain.errors import Unavailable
from twinleg.embedded.deliveries import Deliveries
from twinleg.embedded.front_door import Answer, Call, FrontDoor
from twinleg.embedded.function_servers import FunctionServers
from twinleg.embedded.keeper import Keeper
from twinleg.embedded.last_attempt import LastAttempts
from twinleg.embedded.runtime import prepare
from twinleg.embedded.topology import DEAD_TOPICS, FUNCTIONS, PUSHED, SCHEDULED, TOPICS
from twinleg.settings_read import CONFIG_VARIABLE

if TYPE_CHECKING:
    from twinleg.settings import Settings

PROJECT = "demo-twinleg"
"""No real project can be called demo-…: nothing here can reach one."""
DRIVER_CALL_SECONDS_MAX = 20.0
AGAIN_MAX = 5
QUIET_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Emulators:
    """Both emulators, running."""

    firestore: Emulator
    pubsub: Emulator

    def stop(self) -> None:
        """End those that we started."""
        self.firestore.stop()
        self.pubsub.stop()


def start_emulators(environ: Mapping[str, str], keeper: Keeper) -> Emulators:
    """Those that the environment names, and our own in place of the others. Raises EmulatorsMissing."""
    with ThreadPoolExecutor(2) as pool:
        starting = [pool.submit(start, environ, keeper.watch) for start in (emulators.firestore, emulators.pubsub)]
    failed = [error for one in starting if (error := one.exception()) is not None]
    if failed:
        for one in starting:
            if one.exception() is None:
                one.result().stop()
        raise failed[0]
    return Emulators(*(one.result() for one in starting))


def project_named(text: str) -> str:
    """A project id of our own, from any text."""
    return f"{PROJECT}-{re.sub('[^a-z0-9]+', '-', text.lower()).strip('-')}"[:60].rstrip("-")


class Emulated:
    """The five functions, running behind the emulators.

    *ordered*: messages are handled one at a time in the order of publishing, as in one process, and only
    when ``deliver`` is called; for replays. Otherwise as they are pushed. *watched*: what is published and
    handled is kept account of, so that ``wait_until_quiet`` knows; always when ordered.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        running: Emulators,
        keeper: Keeper,
        *,
        logs: Path,
        project: str = PROJECT,
        replay_clock: str = "",
        ordered: bool = False,
        watched: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings, self.project, self.ordered = settings, project, ordered
        self.environ = _environment(settings, environ, running, project, replay_clock)
        self.system: System = cloud_system(settings, self.environ, call_seconds_max=DRIVER_CALL_SECONDS_MAX)
        self.servers = FunctionServers(self.environ, logs, keeper, say)
        self.queues = EmulatedQueues(running.pubsub.host, project)
        self.deliveries = Deliveries(self.queues, self.system.clock) if ordered or watched else None
        self.door = FrontDoor(self.servers.port, self._on_push)
        self._last_attempts = LastAttempts(self.system.bus, project)
        self._say = say
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    # -- life ------------------------------------------------------------------------------------

    def start(self, told_to_stop: Callable[[], bool] = lambda: False) -> None:
        """Make topics and subscriptions, start all servers; returns when all five answer."""
        self.servers.launch()
        self._make_topics()
        self._make_subscriptions(self.door.listen())
        prepare(self.system)
        self.servers.wait_until_ready(told_to_stop)

    def serve_webhook(self, port: int) -> int:
        """Listen for alerts on 127.0.0.1; the port."""
        return self.door.listen_for_alerts(port)

    def start_scheduler(self) -> None:
        """Call ``ingest`` and ``risk`` each minute, by the system's clock, unless a person has paused them."""
        store, clock = self.system.store, self.system.clock
        jobs = [(name, 60, at, heeding(store, clock, name, partial(self.call, name))) for name, at in SCHEDULED.items()]
        scheduler = Scheduler(clock, jobs)
        thread = threading.Thread(target=lambda: scheduler.run(self._stop), name="scheduler", daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """End all servers. What is in flight is finished, or was not acknowledged."""
        self._stop.set()
        if self.deliveries is not None:
            self.deliveries.let_go()
        self.servers.stop()
        self.door.close()
        for thread in self._threads:
            thread.join(timeout=5)
        parts: list[Any] = [self.system.store, self.system.bus]
        for part in parts:
            part.close()

    # -- calling functions -----------------------------------------------------------------------

    def call(self, name: str) -> int:
        """Scheduler's call of ``ingest`` or ``risk``; the HTTP status.

        In a replay a call whose server died is made again in the same minute, which does not end before it is done.
        """
        answer = self.door.forward(Call(name))
        for _ in range(AGAIN_MAX if self.ordered else 0):
            if not answer.died:
                break
            answer = self.door.forward(Call(name))
        if not answer.is_done:
            self._say(f"{name} answered {answer.status}: {answer.body.decode(errors='replace').strip()[:200]}")
        return answer.status

    def minute(self, at: datetime) -> None:
        """One replayed minute: the clock moves, then ingest, everything it sets off, and the sweep."""
        clock = self.system.clock
        now = clock.now()
        if at > now:
            clock.sleep((at - now).total_seconds())
        self.call("ingest")
        self.deliver()
        self.call("risk")
        self.deliver(after="risk")

    def deliver(self, after: str = "") -> None:
        """Ordered: hand over what waits, one by one, until nothing is due. *after* a function: what it may publish."""
        deliveries = self._watched()
        deliveries.look(_watchable(after) if after else PUSHED)
        while (call := deliveries.next_push()) is not None:
            answer = self._last_attempts.after(call, self.door.forward(call))
            deliveries.settle(call, answer)
            deliveries.look(_watchable(call.name))

    def wait_until_quiet(self, seconds_max: float = QUIET_SECONDS_MAX) -> None:
        """Return when everything published was handled or is dead, and no function is busy. Raises Unavailable."""
        deliveries, waited = self._watched(), stopwatch()
        while True:
            if self.ordered:
                self.deliver()
            was_quiet = self.door.is_idle() and not deliveries.open()
            deliveries.look(PUSHED)
            if was_quiet and not deliveries.open():
                return
            if waited() > seconds_max:
                left = ", ".join(f"{topic} {number}" for number, topic in deliveries.open().items())
                raise Unavailable(f"not handled within {seconds_max:g} s: {left or 'a call'}")
            pause(0.02)

    # -- disturbing ------------------------------------------------------------------------------

    def kill(self, name: str, *, stay_down: bool = False) -> None:
        """kill -9 of a function's server. It is started again at once, unless it is to stay down."""
        self.servers.kill(name, stay_down=stay_down)

    def restart(self, name: str) -> None:
        """Kill it if it runs; returns when a new one answers."""
        self.servers.restart(name)

    def publish(self, topic: str, data: bytes, *, key: str = "", attributes: Mapping[str, str] | None = None) -> str:
        """Publish a message as any function would; its id."""
        return self.system.bus.publish(topic, data, key=key, attributes=attributes)

    def dead(self, topic: str) -> list[Pulled]:
        """What could not be handled of a topic so far, oldest first."""
        return self._watched().dead(topic)

    # -- inside ----------------------------------------------------------------------------------

    def _on_push(self, door: FrontDoor, call: Call) -> Answer:
        if self.deliveries is not None and self.ordered:
            return self.deliveries.park(call)
        answer = self._last_attempts.after(call, door.forward(call))
        if self.deliveries is not None:
            self.deliveries.settle(call, answer)
        return answer

    def _watched(self) -> Deliveries:
        if self.deliveries is None:
            raise Unavailable("what is published is not kept account of here")
        return self.deliveries

    def _make_topics(self) -> None:
        for topic in (*TOPICS, *DEAD_TOPICS):
            self.queues.make_topic(topic)
        for topic in DEAD_TOPICS:
            self.queues.make_pull(topic, topic, ack_seconds=60)
        if self.deliveries is not None:
            self.deliveries.make_subscriptions()

    def _make_subscriptions(self, port: int) -> None:
        for topic, name in PUSHED.items():
            row = TOPICS[topic]
            self.queues.make_push(
                f"{name}-{topic}",
                topic,
                f"http://127.0.0.1:{port}/{name}/topics/{topic}",
                ack_seconds=FUNCTIONS[name].ack_seconds or 60,
                ordered=row.ordered,
                attempts=row.attempts,
                backoff_seconds=row.backoff_seconds,
            )


def _watchable(name: str) -> list[str]:
    """The pushed topics that a function may have published to."""
    return [topic for topic in FUNCTIONS[name].publishes if topic in PUSHED]


def _environment(
    settings: Settings, environ: Mapping[str, str], running: Emulators, project: str, replay_clock: str
) -> dict[str, str]:
    """What each function's process is given, and what a command in another shell needs."""
    kept = {name: value for name, value in environ.items() if name != REPLAY_CLOCK_VARIABLE}
    made = {
        RUNTIME_VARIABLE: "cloud",
        PROJECT_VARIABLE: project,
        FIRESTORE_VARIABLE: running.firestore.host,
        PUBSUB_VARIABLE: running.pubsub.host,
    }
    if Path(settings.source).is_file():
        made[CONFIG_VARIABLE] = str(Path(settings.source).resolve())
    if replay_clock:
        made[REPLAY_CLOCK_VARIABLE] = replay_clock
    if settings.mode == "paper":
        made[settings.webhook.secret] = environ.get(settings.webhook.secret) or "paper"
    return kept | made
