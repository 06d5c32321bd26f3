"""Commands that steer trading, and the one that examines it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twinleg.commands import probe
from twinleg.commands.common import Arguments, command, system_of, who, with_config
from twinleg.domain.control import Control, Halt
from twinleg.domain.errors import BadInput
from twinleg.engine.ports import SignerRole

if TYPE_CHECKING:
    from twinleg.bootstrap import System

HALTS: dict[str, tuple[Halt, str]] = {
    "halt": (Halt.HALTED, "nothing but protection"),
    "reduce": (Halt.REDUCING, "no new entries; exits and protection run"),
    "flatten": (Halt.FLATTEN, "close everything, then halt"),
    "resume": (Halt.ENABLED, "trade again"),
}


def add(commands: Any) -> None:
    for name, (state, text) in HALTS.items():
        made = command(commands, name, text, _halt)
        made.set_defaults(state=state)
        made.add_argument("--why", default="", help="recorded in the audit")
        made.add_argument("--json", action="store_true")
        if state is Halt.HALTED:
            made.add_argument("--pause-jobs", action="store_true", help="stop fetching candles too, until resume")
        with_config(made)
    close = command(commands, "close", "close a trade, both legs", _close)
    close.add_argument("trade", nargs="?", default="", help="the trade's id")
    close.add_argument("--all", action="store_true", help="every open trade")
    close.add_argument("--json", action="store_true")
    with_config(close)
    doctor = command(commands, "doctor", "check configuration, hedge, accounts, venue, clock, keys, secrets", _doctor)
    doctor.add_argument("--json", action="store_true")
    probe.add_options(doctor)
    with_config(doctor)


def _halt(arguments: Arguments) -> int:
    from twinleg.engine.control import set_trading

    system = system_of(arguments)
    engine = system.engine(SignerRole.EXECUTE)
    if arguments.state is Halt.ENABLED:
        _refuse_without_sweep(system)
    control = set_trading(engine, arguments.state, why=arguments.why or f"twinleg {arguments.command}", by=who())
    if not arguments.json:  # said at once: whatever becomes of the jobs, this stands
        print(f"trading is {control.state}: {control.why}", flush=True)
    jobs = _jobs_too(system, arguments, control)
    if arguments.json:
        said = {"state": control.state.value, "why": control.why, "by": control.by, "since": control.since}
        print(json.dumps(said | {"jobs": jobs}, default=str))
    else:
        print(*jobs, sep="\n", end="\n" if jobs else "")
    return 0


def _refuse_without_sweep(system: System) -> None:
    """Nobody trades while the sweep is paused: what is opened then would be guarded by its stops alone."""
    from twinleg.engine.schedule import RISK, pauses

    if RISK in pauses(system.store) and any(job.name == RISK and job.paused for job in system.schedule.jobs()):
        raise BadInput(
            "job risk is paused, so that nothing would be guarded: twinleg schedule resume risk, then resume"
        )


def _jobs_too(system: System, arguments: Arguments, control: Control) -> list[str]:
    """What a halt or a resume does to the scheduled jobs, once it has been written: said one by one."""
    from twinleg.engine import schedule

    engine = system.engine(SignerRole.EXECUTE)
    if control.state is Halt.HALTED and arguments.pause_jobs:
        schedule.pause_with_halt(engine, system.schedule, why=control.why, by=control.by)
        return ["ingest is paused: candles are not fetched until trading is resumed; the sweep goes on"]
    if control.state is not Halt.ENABLED:
        return []
    halted = schedule.paused_with_halt(system.store)
    if halted:
        schedule.resume(engine, system.schedule, halted, why=control.why, by=control.by)
    left = {name: pause for name, pause in schedule.pauses(system.store).items() if name not in halted}
    return [f"{name} runs again" for name in halted] + [
        f"{name}: a pause by {pause.by} is noted ({pause.why}); see twinleg schedule show"
        for name, pause in left.items()
    ]


def _close(arguments: Arguments) -> int:
    from twinleg.engine.control import request_close

    if bool(arguments.trade) == arguments.all:
        raise BadInput("close needs one trade's id, or --all")
    engine = system_of(arguments).engine(SignerRole.EXECUTE)
    said = request_close(engine, "all" if arguments.all else arguments.trade, by=who())
    print(json.dumps({"said": said.splitlines()}) if arguments.json else said)
    return 0


def _doctor(arguments: Arguments) -> int:
    from twinleg.embedded.doctor import examine

    if probe.asked(arguments):
        return probe.probe(arguments)
    findings = examine(system_of(arguments))
    if arguments.json:
        print(json.dumps([f.as_json() for f in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.subject}: {finding.text}")
    return 0 if all(f.ok for f in findings) else 1
