"""The scheduled jobs as a person steers them: which run each minute, which are paused, by whom and why.

The document ``control/schedule`` holds who paused what and why. On one machine it *is* the pause, read each minute;
in the cloud Cloud Scheduler is right about what is paused, and the document only tells why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput, Conflict, TwinlegError
from twinleg.domain.messages import EventKind
from twinleg.engine.audit import recorded
from twinleg.engine.ports import Create, Exists, Replace, Store, Write
from twinleg.engine.records import DESK_ID, DeskBook, document, read
from twinleg.engine.system import Engine

INGEST, RISK = "ingest", "risk"
JOBS = (INGEST, RISK)
"""Every scheduled job: fetch candles; guard what is open."""
EVERY_MINUTE = "* * * * *"
SCHEDULE_ID = "schedule"
"""Of the document in ``control`` that holds the pauses."""
WRITE_TRIES = 10


class Pause(BaseModel):
    """Why a job does not run. ``with_halt``: it was paused by a halt and runs again when a person resumes trading."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    why: str = ""
    by: str = ""
    since: datetime | None = None
    with_halt: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A job: its schedule (cron, UTC), when it ran and runs, what came of it, and its pause."""

    name: str
    schedule: str
    paused: bool
    last_at: datetime | None
    next_at: datetime | None
    """None while it is paused, or nothing runs it."""
    last_result: str
    """``ok``, or what went wrong; empty when it never ran."""
    pause: Pause | None = None


class Schedule(Protocol):
    """The scheduler of one system.

    Errors: BadInput (no such job), Unavailable (not reached, or not permitted).
    """

    def jobs(self) -> list[Job]:
        """Those of `JOBS` that there are, by name."""

    def pause(self, name: str, pause: Pause) -> None:
        """Run the job no more until resumed; pausing what is paused changes who and why."""

    def resume(self, name: str) -> None:
        """Run it again from the next minute; resuming what is not paused changes nothing."""


# -- the document ----------------------------------------------------------------------------------


def pauses(store: Store) -> dict[str, Pause]:
    """The pauses noted by job. What a person's edit left unreadable pauses nothing: a sweep too many does no harm."""
    stored = store.get("control", SCHEDULE_ID)
    noted = stored.data.get("paused") if stored else None
    found: dict[str, Pause] = {}
    for name, data in noted.items() if isinstance(noted, dict) else ():
        try:
            found[name] = Pause.model_validate(data)
        except ValidationError:
            continue
    return found


def is_paused(store: Store, name: str) -> bool:
    """Whether the document pauses this job."""
    return name in pauses(store)


def note(store: Store, name: str, pause: Pause | None) -> None:
    """Write a job's pause into the document, or take it out."""
    for _ in range(WRITE_TRIES):
        stored, noted = store.get("control", SCHEDULE_ID), pauses(store)
        if noted.get(name) == pause:
            return
        left = {job: why for job, why in noted.items() if job != name} | ({name: pause} if pause else {})
        said = "; ".join(f"{job} paused by {why.by}: {why.why}" for job, why in sorted(left.items()))
        data = {"paused": {job: document(why) for job, why in left.items()}, "summary": said or "nothing is paused"}
        write: Write = (
            Replace("control", SCHEDULE_ID, data, stored.version) if stored else Create("control", SCHEDULE_ID, data)
        )
        try:
            store.batch([write])
            return
        except (Conflict, Exists):
            continue
    raise Conflict("the schedule's document changes too fast to be written")


# -- what a person does ----------------------------------------------------------------------------


def pause(
    engine: Engine, schedule: Schedule, names: Sequence[str], *, why: str, by: str, nothing_guards: bool = False
) -> None:
    """Pause jobs. Without *nothing_guards* the sweep is paused only where there is, and can come, nothing to guard."""
    if RISK in names and not nothing_guards and (reason := _guarded(engine)):
        raise BadInput(
            f"job {RISK} guards what is open, and {reason}: flatten first, or add --i-understand-nothing-guards"
        )
    for name in names:
        recorded(engine, EventKind.SCHEDULE, f"job {name} paused by {by}: {why}", by)
        schedule.pause(name, Pause(why=why, by=by, since=engine.now()))


def resume(engine: Engine, schedule: Schedule, names: Sequence[str], *, why: str, by: str) -> None:
    """Let jobs run again."""
    for name in names:
        recorded(engine, EventKind.SCHEDULE, f"job {name} resumed by {by}: {why}", by)
        schedule.resume(name)


def pause_with_halt(engine: Engine, schedule: Schedule, *, why: str, by: str) -> None:
    """Stop fetching candles along with a halt; the sweep is never stopped this way. A pause of its own stays."""
    if INGEST in pauses(engine.store):
        return
    recorded(engine, EventKind.SCHEDULE, f"job {INGEST} paused by {by} with the halt: {why}", by)
    schedule.pause(INGEST, Pause(why=why, by=by, since=engine.now(), with_halt=True))


def paused_with_halt(store: Store) -> list[str]:
    """The jobs that a halt paused."""
    return [name for name, pause in pauses(store).items() if pause.with_halt]


def _guarded(engine: Engine) -> str:
    """Why the sweep is needed; empty when it is not. What cannot be read may be open."""
    try:
        control, _ = engine.control()
        desk = read(engine.store, "control", DESK_ID, DeskBook)
        accounts = [engine.store.get("accounts", name) for name in engine.desk.accounts]
    except TwinlegError as error:
        return f"what is open cannot be read ({error})"
    if desk and desk[0].open_trades:
        return f"{len(desk[0].open_trades)} trades are open ({', '.join(desk[0].open_trades)[:200]})"
    held = [f"{a.id} {market}" for a in accounts if a for market in a.data.get("positions", [])]
    if held:
        return f"positions are held ({', '.join(held)[:200]})"
    if control.state is not Halt.HALTED:
        return f"trading is {control.state}"
    return ""
