"""The Schedule port on one machine: pauses in a document of the store, which the scheduler reads before each run.

It works on any store: of one machine, or of the emulators.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from twinleg.domain.errors import BadInput, TwinlegError
from twinleg.engine.ports import Clock, Document, Replace, Store
from twinleg.engine.schedule import EVERY_MINUTE, JOBS, Job, Pause, is_paused, note, pauses

LOG = logging.getLogger(__name__)

RUNNING_SECONDS_MAX = 150
"""A job that last ran (or was skipped) longer ago is run by nobody at present."""
OK, SKIPPED = "ok", "skipped: paused"


def job_id(name: str) -> str:
    """The document in ``control`` that holds when a job ran last, and what came of it."""
    return f"job-{name}"


def heeding(store: Store, clock: Clock, name: str, run: Callable[[], int]) -> Callable[[], None]:
    """The job's run for a `Scheduler`: unless it is paused, and noting what came of it.

    *run* returns an HTTP status. A store that cannot be reached pauses nothing and loses the note only: the sweep
    guards by what the venue says.
    """

    def once() -> None:
        started_at = clock.now()
        if _told(lambda: is_paused(store, name)):
            _told(lambda: _note_run(store, started_at, name, SKIPPED))
            return
        result = "failed"
        try:
            status = run()
            result = OK if status < 400 else f"answered {status}"
        finally:
            _told(lambda: _note_run(store, started_at, name, result))

    return once


def _told[Answer](ask: Callable[[], Answer]) -> Answer | None:
    try:
        return ask()
    except TwinlegError as error:
        LOG.warning("the schedule's records: %s", error)
        return None


def _note_run(store: Store, at: datetime, name: str, result: str) -> None:
    """When the job came, and, unless it was skipped, that it ran and what came of it."""
    summary = f"{name}: {result} at {at:%Y-%m-%d %H:%M:%S}"
    data: Document = {"at": at, "ran_at": at, "result": result, "summary": summary}
    if result == SKIPPED:
        before = store.get("control", job_id(name))
        last = before.data if before else {}
        data |= {"ran_at": last.get("ran_at"), "result": last.get("result", "")}
    store.batch([Replace("control", job_id(name), data)])


class StoreSchedule:
    """The jobs of a scheduler that heeds the store's document, in this process or another.

    A pause is obeyed from the next minute on: a run under way is finished.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def jobs(self) -> list[Job]:
        paused = pauses(self._store)
        return [self._job(name, paused.get(name)) for name in JOBS]

    def pause(self, name: str, pause: Pause) -> None:
        note(self._store, _known(name), pause)

    def resume(self, name: str) -> None:
        note(self._store, _known(name), None)

    def _job(self, name: str, pause: Pause | None) -> Job:
        now, stored = self._clock.now(), self._store.get("control", job_id(name))
        data = stored.data if stored else {}
        return Job(
            name=name,
            schedule=EVERY_MINUTE,
            paused=pause is not None,
            last_at=data.get("ran_at"),
            next_at=_next(data.get("at"), now) if pause is None else None,
            last_result=str(data.get("result", "")),
            pause=pause,
        )


def _next(last: object, now: datetime) -> datetime | None:
    """A whole number of minutes after it last came; None when that is so long ago that nobody runs it."""
    if not isinstance(last, datetime) or now - last >= timedelta(seconds=RUNNING_SECONDS_MAX):
        return None
    return last.replace(microsecond=0) + timedelta(minutes=max(0, (now - last) // timedelta(minutes=1)) + 1)


def _known(name: str) -> str:
    if name not in JOBS:
        raise BadInput(f"job must be one of {', '.join(JOBS)}, was {name[:40]!r}")
    return name
