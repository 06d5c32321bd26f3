"""Commands for the scheduled jobs: what runs each minute, and what is paused."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from twinleg.commands.common import Arguments, command, system_of, who, with_config
from twinleg.engine.ports import SignerRole

if TYPE_CHECKING:
    from twinleg.engine.schedule import Job

NAMES = ("ingest", "risk", "all")


def add(commands: Any) -> None:
    group = commands.add_parser("schedule", help="the jobs that run each minute: ingest (candles) and risk (the sweep)")
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    show = command(verbs, "show", "each job: when it ran and runs, what came of it, who paused it", _show)
    stop = command(verbs, "pause", "stop calling a job until it is resumed", _pause)
    stop.add_argument(
        "--i-understand-nothing-guards", action="store_true", dest="nothing_guards",
        help="pause risk although something is, or may come to be, open: nothing is protected then but by its stops",
    )  # fmt: skip
    go = command(verbs, "resume", "call a job again each minute", _resume)
    for made in (stop, go):
        made.add_argument("job", choices=NAMES)
        made.add_argument("--why", default="", help="recorded in the audit")
    for made in (show, stop, go):
        made.add_argument("--json", action="store_true", help="machine-readable output")
        with_config(made)


def _show(arguments: Arguments) -> int:
    _say(system_of(arguments).schedule.jobs(), arguments.json)
    return 0


def _pause(arguments: Arguments) -> int:
    from twinleg.engine.schedule import pause

    system = system_of(arguments)
    pause(
        system.engine(SignerRole.EXECUTE), system.schedule, _names(arguments), why=_why(arguments), by=who(),
        nothing_guards=arguments.nothing_guards,
    )  # fmt: skip
    _say(system.schedule.jobs(), arguments.json)
    return 0


def _resume(arguments: Arguments) -> int:
    from twinleg.engine.schedule import resume

    system = system_of(arguments)
    resume(
        system.engine(SignerRole.EXECUTE), system.schedule, _names(arguments), why=_why(arguments), by=who()
    )  # fmt: skip
    _say(system.schedule.jobs(), arguments.json)
    return 0


def _names(arguments: Arguments) -> tuple[str, ...]:
    from twinleg.engine.schedule import JOBS

    return JOBS if arguments.job == "all" else (arguments.job,)


def _why(arguments: Arguments) -> str:
    return str(arguments.why or f"twinleg schedule {arguments.verb} {arguments.job}")


def _say(jobs: list[Job], as_json: bool) -> None:
    if as_json:
        print(json.dumps([_as_json(job) for job in jobs], indent=2))
        return
    for job in jobs:
        print(f"{job.name:<7} {job.schedule}  {_state(job)}")
        print(f"        last run {_time(job.last_at)}{f': {job.last_result}' if job.last_result else ''}")


def _state(job: Job) -> str:
    if job.paused:
        pause = job.pause
        return f"PAUSED by {pause.by} since {_time(pause.since)}: {pause.why}" if pause else "PAUSED, nobody noted why"
    return f"next run {_time(job.next_at)}" if job.next_at else "not paused, but nothing runs it at present"


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z" if at else "never"


def _as_json(job: Job) -> dict[str, object]:
    pause = job.pause
    return {
        "name": job.name,
        "schedule": job.schedule,
        "paused": job.paused,
        "why": pause.why if pause else "",
        "by": pause.by if pause else "",
        "since": pause.since.isoformat() if pause and pause.since else None,
        "last_at": job.last_at.isoformat() if job.last_at else None,
        "next_at": job.next_at.isoformat() if job.next_at else None,
        "last_result": job.last_result,
    }
