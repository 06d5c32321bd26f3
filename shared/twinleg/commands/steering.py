"""Commands that steer trading, and the one that examines it."""

from __future__ import annotations

import json
from typing import Any

from twinleg.commands.common import Arguments, command, system_of, who, with_config
from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput
from twinleg.engine.ports import SignerRole

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
        with_config(made)
    close = command(commands, "close", "close a trade, both legs", _close)
    close.add_argument("trade", nargs="?", default="", help="the trade's id")
    close.add_argument("--all", action="store_true", help="every open trade")
    close.add_argument("--json", action="store_true")
    with_config(close)
    doctor = command(commands, "doctor", "check configuration, hedge, accounts, venue, clock, keys, secrets", _doctor)
    doctor.add_argument("--json", action="store_true")
    with_config(doctor)


def _halt(arguments: Arguments) -> int:
    from twinleg.engine.control import set_trading

    engine = system_of(arguments).engine(SignerRole.EXECUTE)
    control = set_trading(engine, arguments.state, why=arguments.why or f"twinleg {arguments.command}", by=who())
    said = {"state": control.state.value, "why": control.why, "by": control.by, "since": control.since}
    print(json.dumps(said, default=str) if arguments.json else f"trading is {control.state}: {control.why}")
    return 0


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

    findings = examine(system_of(arguments))
    if arguments.json:
        print(json.dumps([f.as_json() for f in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.subject}: {finding.text}")
    return 0 if all(f.ok for f in findings) else 1
