"""The whole enumeration of a group of scenes, on several processes, and the sums of it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from twinleg.simulate.enumerate_faults import CRASH, Fault, Step, kinds_at
from twinleg.simulate.enumerate_run import (
    Case,
    Part,
    Switched,
    Work,
    branch_at,
    done,
    faults_at,
    outcome_of,
    probed,
    stale_answers,
    unlike_faults,
    watched_steps,
)
from twinleg.simulate.enumerate_scenes import scenes
from twinleg.simulate.enumerate_stage import DELIVERIES
from twinleg.simulate.run import quieten

SHARE = 120
"""Cases in a share of work."""
ROUNDS_MAX = 8
"""How often steps that only faults showed are looked for: each round enumerates what the one before found."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is enumerated of a group; without a restriction, all of it."""

    group: str
    scenes: tuple[str, ...] = ()
    deliveries: tuple[str, ...] = tuple(DELIVERIES)
    kinds: tuple[str, ...] = ()
    pairs: bool = True
    deaths: bool = False
    """Whether, of the pairs, an answer is also followed by a death at a step off the order path."""
    singles: bool = True
    hidden: bool = True
    """Whether steps that only faults show are enumerated too."""
    afresh: bool = False
    """Whether every case is run from its beginning: slower, and the same."""
    switches: Switched = ()
    """What the venue does otherwise than documented."""
    part: tuple[int, int] = (1, 1)
    """Which share of the cases, of how many: each share can be run by itself, all of them together are the whole."""

    def bases(self) -> list[Case]:
        """The unharmed runs."""
        names = [scene.name for scene in scenes(self.group) if not self.scenes or scene.name in self.scenes]
        return [Case(self.group, name, delivery, (), self.switches) for name in names for delivery in self.deliveries]

    def allows(self, fault: Fault) -> bool:
        return not self.kinds or fault.kind in self.kinds


@dataclass
class Sum:
    """Everything that was enumerated."""

    choice: Choice
    part: Part
    hidden: Counter[int] = field(default_factory=Counter)
    """Sorts of steps that only faults showed, by the round that enumerated them."""
    missed: tuple[str, ...] = ()
    """Sorts of steps that were seen and at which no process died."""

    @property
    def failed(self) -> dict[str, list[str]]:
        """What is wrong, by case."""
        found: dict[str, list[str]] = {}
        for case, text in self.part.failures:
            found.setdefault(case, []).append(text)
        return found

    @property
    def ok(self) -> bool:
        return not self.part.failures and not self.missed

    def as_json(self, wall_seconds: float) -> dict[str, Any]:
        """Counts, failures with the line that shows each, and the longest time a leg stood alone."""
        part, failed = self.part, self.failed
        cases = part.cases.total()
        group = self.choice.group
        return {
            "group": group,
            "part": "{} of {}".format(*self.choice.part),
            "switches": dict(self.choice.switches),
            "cases": cases,
            "passed": cases - len(failed),
            "failed": len(failed),
            "steps": {name: count for name, count in part.steps.items()},
            "steps_total": part.steps.total(),
            "cases_by_kind": dict(part.cases),
            "cases_by_scene": dict(part.by_scene),
            "pairs": part.cases["pair"],
            "deaths_off_the_path_in_pairs": self.choice.pairs and self.choice.deaths,
            "sorts_of_steps": {"seen": len(part.seen), "enumerated": len(part.enumerated)},
            "sorts_only_faults_show": {str(number): count for number, count in self.hidden.items()},
            "seen_and_not_enumerated": list(self.missed),
            "ends": dict(part.ends.most_common()),
            "longest_unhedged_seconds": {"seconds": round(part.alone_seconds, 3), "case": part.alone_case},
            "failures": [
                {"case": case, "wrong": texts, "command": Case.of(group, case, self.choice.switches).command}
                for case, texts in failed.items()
            ],
            "wall_seconds": round(wall_seconds, 1),
        }


def enumerated(choice: Choice, jobs: int, progress: Progress = lambda _: None) -> Sum:
    """Run every case that was chosen."""
    total = Sum(choice, Part(choice.group))
    if jobs <= 1:
        _all(choice, total, _Here(), progress)
        return total
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=quieten) as pool:
        _all(choice, total, pool, progress)
    return total


class _Here:
    """Carries work out in this process."""

    def map(self, do: Callable[..., Any], *items: Sequence[Any]) -> Iterator[Any]:
        return map(do, *items)


def _all(choice: Choice, total: Sum, pool: Executor | _Here, progress: Progress) -> None:
    works: list[Work] = []
    bases = choice.bases()
    number, parts = choice.part
    for part, found, dies_at in pool.map(_begin, [(choice, base) for base in bases]):
        works += found
        if parts > 1 or not choice.singles:  # other shares leave none of these out
            total.part.enumerated |= dies_at
        if number == 1:
            total.part.merge(part)
    works = works[number - 1 :: parts]
    pairs = sum(work.pairs for work in works)
    steps = total.part.steps.total()
    progress(f"{len(bases)} unharmed runs of {steps} steps; to do: {_count(works) - pairs} cases of one fault")
    if pairs:
        progress(f"and {pairs} faults on the order path, each followed by every second one")
    _carry_out(works, total, pool, progress)
    if choice.hidden:
        _hidden(choice, total, pool, progress)


def _carry_out(works: Sequence[Work], total: Sum, pool: Executor | _Here, progress: Progress) -> None:
    said = 0
    for number, part in enumerate(pool.map(done, works), 1):
        for case, text in part.failures:
            progress(f"FAILED {case}: {text}")
        total.part.merge(part)
        if number * 50 // len(works) > said:
            said = number * 50 // len(works)
            done_of = f"{number} of {len(works)} shares of work ({100 * number // len(works)} %)"
            progress(f"{done_of}, {total.part.cases.total()} cases, {len(total.failed)} failed")


def _count(works: Sequence[Work]) -> int:
    return sum(len(work.branches) for work in works)


def _begin(given: tuple[Choice, Case]) -> tuple[Part, list[Work], set[str]]:
    """The unharmed run of a base, the shares that its steps make, and the sorts of steps at which processes die."""
    choice, base = given
    part, stage = Part(base.group), probed(base)
    part.add(outcome_of(base, stage), "unharmed")
    steps = watched_steps(stage)
    part.steps[f"{base.scene}/{base.delivery}"] = len(steps)
    every = faults_at if base.delivery == "once" else unlike_faults
    branches = [branch_at(s, f) for s in steps for f in every(s, stage.scene) if choice.allows(f)]
    works = [
        Work(base, tuple(branches[first : first + SHARE]), afresh=choice.afresh)
        for first in range(0, len(branches), SHARE)
    ]
    if not choice.singles:
        works.clear()
    if choice.pairs and base.delivery == "once":
        path = [s for s in steps if s.on_order_path]
        firsts = [branch_at(s, f) for s in path for f in unlike_faults(s, stage.scene) if choice.allows(f)]
        works += [
            Work(base, (first,), pairs=True, deaths=choice.deaths, sort="pair", afresh=choice.afresh)
            for first in firsts
        ]
    dies_at = {steps[branch.fault.step].sort for branch in branches if branch.fault.kind == CRASH}
    return part, works, dies_at


def _hidden(choice: Choice, total: Sum, pool: Executor | _Here, progress: Progress) -> None:
    """Steps that only a faulted run showed: enumerated after that fault, until no new sort appears."""
    part = total.part
    for number in range(1, ROUNDS_MAX + 1):
        new = {sort: where for sort, where in part.seen.items() if sort not in part.enumerated}
        if not new:
            break
        total.hidden[number] = len(new)
        progress(f"round {number}: {len(new)} sorts of steps that only faults show")
        works = [work for works in pool.map(_after, [(choice, *where) for where in new.values()]) for work in works]
        _carry_out(works, total, pool, progress)
    total.missed = tuple(sorted(set(part.seen) - part.enumerated))


def _after(given: tuple[Choice, Case, Step]) -> list[Work]:
    """Every fault at one step of a run in which something went wrong already: what did so before that step."""
    choice, shown_by, step = given
    base = replace(shown_by, faults=tuple(fault for fault in shown_by.faults if fault.step < step.number))
    if step.body and not (step.signed or step.after):
        step = probed(base).steps[step.number]  # what a node that lags would answer
    kinds = [kind for kind in kinds_at(step) if kind == CRASH or choice.allows(Fault(step.number, kind))]
    branches = tuple(branch_at(step, Fault(step.number, kind)) for kind in kinds)
    stale = tuple(stale_answers(base).items())
    return [Work(base, branches, stale, sort="after another", afresh=choice.afresh)]
