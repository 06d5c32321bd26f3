"""``twinleg simulate``: try to break the invariants, seed by seed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from twinleg.commands.common import Arguments, command, count
from twinleg.domain.errors import BadInput

if TYPE_CHECKING:
    from twinleg.simulate.run import Asked, Result

SEEDS_MAX = 1_000_000


def add(commands: Any) -> None:
    text = "simulate whole worlds with faults, and check every invariant against the venue's ledger"
    made = command(commands, "simulate", text, _simulate)
    made.add_argument("--seeds", type=_seeds, default=None, help="e.g. 0-999 (default 0-99)")
    made.add_argument("--seed", type=_seed, default=None, help="one seed alone")
    made.add_argument("--minutes", type=count, default=240, help="simulated minutes of each (default 240)")
    made.add_argument("--faults", default="all", help="all, none, or kinds separated by commas")
    made.add_argument("--market", default="draw", help="calm, trend, crash, draw (by seed), or a candle file")
    made.add_argument("--jobs", type=count, default=2, help="processes (default 2)")
    made.add_argument("--timeline", action="store_true", help="with --seed: the run, step by step")
    made.add_argument("--json", action="store_true")


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < SEEDS_MAX):
        raise argparse.ArgumentTypeError(f"must be a whole number below {SEEDS_MAX}, was {text!r}")
    return int(text)


def _seeds(text: str) -> range:
    first, dash, last = text.partition("-")
    found = range(_seed(first), _seed(last if dash else first) + 1)
    if not found:
        raise argparse.ArgumentTypeError(f"must be FIRST-LAST with FIRST not above LAST, was {text!r}")
    return found


def _simulate(arguments: Arguments) -> int:
    from twinleg.adapters.local.clocks import stopwatch
    from twinleg.simulate.run import Asked, quieten, tallied

    asked = Asked(arguments.minutes, arguments.faults, arguments.market).checked()
    quieten()
    if arguments.timeline:
        return _timeline(arguments, asked)
    seeds = [arguments.seed] if arguments.seed is not None else arguments.seeds or range(100)
    watch = stopwatch()
    tally = tallied(asked, seeds, arguments.jobs, _Progress(asked, watch).after)
    said = tally.as_json(watch())
    if arguments.json:
        print(json.dumps(said, indent=2))
    else:
        _table(said)
    return 1 if tally.broken else 0


class _Progress:
    """How far a run is, on standard error: a line that counts at a terminal, else one for every twentieth part.

    A broken invariant is told at once, with the line that shows that seed step by step.
    """

    def __init__(self, asked: Asked, watch: Callable[[], float]) -> None:
        self.asked, self.watch = asked, watch
        self.done = self.broken = 0
        self.counts = sys.stderr.isatty()

    def after(self, result: Result, total: int) -> None:
        self.done += 1
        self.broken += bool(result.violations)
        for text in result.violations:
            self._say(f"seed {result.seed}: {text}\n  {self.asked.command(result.seed)}")
        seconds = self.watch()
        left = timedelta(seconds=round(seconds / self.done * (total - self.done)))
        line = f"{self.done} of {total} seeds, {self.broken} broken, {left} left"
        if self.counts:
            print(f"\r{line:<60}", end="\n" if self.done == total else "", file=sys.stderr, flush=True)
        elif total >= 20 and self.done % max(1, total // 20) == 0:
            self._say(line)

    def _say(self, text: str) -> None:
        print(("\r" if self.counts else "") + text, file=sys.stderr, flush=True)


def _timeline(arguments: Arguments, asked: Any) -> int:
    from twinleg.simulate.run import simulated

    if arguments.seed is None:
        raise BadInput("--timeline needs --seed N")
    world = simulated(asked, arguments.seed)
    for at, who, text in world.lines:
        print(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}  {who:<12} {' '.join(text.split())}")
    violations = world.judged()
    for violation in violations:
        print(f"VIOLATION {violation}")
    print(f"seed {arguments.seed}, {world.kind} market: {len(violations)} violations")
    return 1 if violations else 0


def _table(said: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Faults injected", title_justify="left")
    table.add_column("kind")
    table.add_column("times", justify="right")
    for kind, times in said["faults"].items():
        table.add_row(kind, str(times))
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(table)
    for name in ("runs", "intents", "orders", "fills", "crashes", "trades_by_state", "faults_total"):
        console.print(f"{name}: {said[name]}")
    for name in ("liquidations", "liquidations_of_guarded_positions", "unhedged_seconds", "wall_seconds"):
        console.print(f"{name}: {said[name]}")
    for line in said["guarded_liquidated"]:
        console.print(f"  {line}")
    console.print(f"[bold]violations: {said['violations']}[/bold]")
