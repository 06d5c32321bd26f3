"""``twinleg enumerate``: every I/O step × every answer × every delivery, and all pairs on the order path."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from twinleg.commands.common import Arguments, command, count
from twinleg.domain.errors import BadInput

GROUPS = ("execute", "risk", "halt")
PARTS_MAX = 1000
SHOWN_MAX = 20
"""Failures that are printed; --json has all."""


def add(commands: Any) -> None:
    text = "try every fault at every I/O step of an execution, of each risk action or of each halt level"
    made = command(commands, "enumerate", text, _enumerate)
    made.add_argument("group", choices=GROUPS, help="what is run: execute, risk or halt")
    made.add_argument("--scene", action="append", default=[], help="one scene alone (may be given again)")
    made.add_argument("--delivery", action="append", default=[], help="once, twice or later alone")
    made.add_argument("--kind", action="append", default=[], help="one kind of fault alone, e.g. crash")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--no-pairs", action="store_true", help="no pairs of faults")
    which.add_argument("--only-pairs", action="store_true", help="the pairs of faults alone")
    made.add_argument("--far-deaths", action="store_true", help="pairs too of an answer and a death off the path")
    made.add_argument(
        "--switch", action="append", default=[], metavar="NAME=VALUE",
        help="a switch of the paper venue (may be given again); opposite: each undecided one not as documented",
    )  # fmt: skip
    made.add_argument("--no-rounds", action="store_true", help="do not look for steps that only faults show")
    made.add_argument("--part", type=_part, default=(1, 1), help="a share of the cases alone, e.g. 3/8", metavar="N/OF")
    made.add_argument("--afresh", action="store_true", help="run every case from its beginning (slower, the same)")
    made.add_argument("--jobs", type=count, default=2, help="processes (default 2)")
    made.add_argument("--case", default=None, help="one case alone, e.g. market/once/45:answer_lost")
    made.add_argument("--timeline", action="store_true", help="with --case: the run, step by step")
    made.add_argument("--json", action="store_true")


def _enumerate(arguments: Arguments) -> int:
    from twinleg.adapters.local.clocks import stopwatch
    from twinleg.simulate.enumerate_all import enumerated
    from twinleg.simulate.run import quieten

    quieten()
    if arguments.case is not None:
        return _one(arguments)
    if arguments.timeline:
        raise BadInput("--timeline needs --case SCENE/DELIVERY/STEP:KIND")
    watch, choice = stopwatch(), _choice(arguments)

    def progress(text: str) -> None:
        print(f"{watch():7.0f} s  {text}", file=sys.stderr, flush=True)

    total = enumerated(choice, arguments.jobs, progress)
    said = total.as_json(watch())
    if arguments.json:
        print(json.dumps(said, indent=2))
    else:
        _table(said)
    return 0 if total.ok else 1


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts) <= PARTS_MAX):
        raise argparse.ArgumentTypeError(f"must be N/OF, from 1/1 to {PARTS_MAX}/{PARTS_MAX}, was {text!r}")
    return int(number), int(parts)


def _choice(arguments: argparse.Namespace) -> Any:
    from twinleg.simulate.enumerate_all import Choice
    from twinleg.simulate.enumerate_faults import KINDS
    from twinleg.simulate.enumerate_run import switched
    from twinleg.simulate.enumerate_scenes import scene_of
    from twinleg.simulate.enumerate_stage import DELIVERIES

    if arguments.no_pairs and arguments.far_deaths:
        raise BadInput("--no-pairs leaves out what --far-deaths adds to the pairs: give one of them")
    for name in arguments.scene:
        scene_of(arguments.group, name)
    for name in arguments.delivery:
        if name not in DELIVERIES:
            raise BadInput(f"--delivery must be one of {', '.join(DELIVERIES)}, was {name!r}")
    for name in arguments.kind:
        if name not in KINDS:
            raise BadInput(f"--kind must be one of {', '.join(KINDS)}, was {name!r}")
    deliveries = tuple(arguments.delivery) or tuple(DELIVERIES)
    return Choice(
        arguments.group,
        tuple(arguments.scene),
        deliveries,
        tuple(arguments.kind),
        pairs=not arguments.no_pairs,
        deaths=arguments.far_deaths,
        singles=not arguments.only_pairs,
        hidden=not arguments.no_rounds,
        afresh=arguments.afresh,
        switches=switched(arguments.switch),
        part=arguments.part,
    )


def _one(arguments: Arguments) -> int:
    from twinleg.simulate.enumerate_run import Case, outcome_of, staged, stale_answers, switched

    case = Case.of(arguments.group, arguments.case, switched(arguments.switch))
    stage = staged(case, stale=stale_answers(case))
    found = outcome_of(case, stage)
    if arguments.timeline:
        for at, who, text in stage.lines:
            print(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}  {who:<12} {' '.join(text.split())}")
    for text in found.failures:
        print(f"FAILED {text}")
    ends = ", ".join(found.ends) or "none"
    print(
        f"{case}: {len(found.steps)} steps, trades: {ends}, a leg alone for {found.alone_seconds:.1f} s at most, "
        f"{len(found.failures)} failures"
    )
    return 1 if found.failures else 0


def _table(said: dict[str, Any]) -> None:
    for name in ("steps_total", "pairs", "sorts_of_steps", "sorts_only_faults_show", "ends", "cases_by_scene"):
        print(f"{name}: {said[name]}")
    print(f"cases: {said['cases']}, passed: {said['passed']}, failed: {said['failed']}")
    longest = said["longest_unhedged_seconds"]
    print(
        f"longest unhedged time: {longest['seconds']} s ({longest['case'] or 'none'}); {said['wall_seconds']} s in all"
    )
    for sort in said["seen_and_not_enumerated"]:
        print(f"SEEN AND NOT ENUMERATED {sort}")
    for failure in said["failures"][:SHOWN_MAX]:
        print(f"FAILED {failure['case']}: {'; '.join(failure['wrong'])}\n  {failure['command']}")
    if len(said["failures"]) > SHOWN_MAX:
        print(f"… and {len(said['failures']) - SHOWN_MAX} more")
