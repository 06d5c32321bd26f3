"""Every case of a scene: every step × every kind of fault × every delivery, pairs, and steps that only faults show."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import get_args, get_type_hints

from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput
from twinleg.domain.trades import ENDED, TradeState
from twinleg.engine.ports import SignerRole
from twinleg.engine.tradebook import TradeBook
from twinleg.paper.options import UNDECIDED, Switches
from twinleg.simulate.checker import alone, check
from twinleg.simulate.enumerate_faults import ALIKE, CRASH, Fault, Step, kinds_at
from twinleg.simulate.enumerate_forks import CAN_FORK, Branch, Split
from twinleg.simulate.enumerate_scenes import ENDED_WELL, scene_of
from twinleg.simulate.enumerate_stage import COIN, DELIVERIES, Scene, Stage

PAIR_SECONDS = 60.0
"""How long after the watched time the second of two faults may strike."""
SPENDS_THE_NONCE = frozenset({"refused", "expired", "arrives_after_40s"})
"""Refusals that spend the nonce of what they refuse; the last is refused when it arrives, as expired."""

Switched = tuple[tuple[str, object], ...]
"""Switches of the paper venue that are not as documented: name and value."""
FALSE = ("read_empty", "read_stale")
"""Answers that are readable and wrong."""
AGREE_SECONDS = 5.0
"""Two answers that far apart are believed when they agree."""
BOTH_HELD = "both legs were held"
"""What the checker says of a trade that was closed because a leg of it was gone, and was not."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run: a scene, how often messages come, and what goes wrong where."""

    group: str
    scene: str
    delivery: str
    faults: tuple[Fault, ...] = ()
    switches: Switched = ()
    """What the venue does otherwise than documented, where the documents leave it open."""

    def __str__(self) -> str:
        return "/".join((self.scene, self.delivery, "+".join(map(str, self.faults)) or "unharmed"))

    @property
    def command(self) -> str:
        """The line that shows it, step by step."""
        turned = "".join(f" --switch {name}={json.dumps(value).strip(chr(34))}" for name, value in self.switches)
        return f"twinleg enumerate {self.group} --case {self}{turned} --timeline"

    @classmethod
    def of(cls, group: str, text: str, switches: Switched = ()) -> Case:
        """Of its own text; BadInput says what is wrong with it."""
        scene, _, rest = text.partition("/")
        delivery, _, faults = rest.partition("/")
        scene_of(group, scene)
        if delivery not in DELIVERIES:
            raise BadInput(f"--case: {delivery!r} is no delivery; there are {', '.join(DELIVERIES)}")
        found = () if faults in ("", "unharmed") else tuple(Fault.of(part) for part in faults.split("+"))
        return cls(group, scene, delivery, found, switches)

    def with_fault(self, fault: Fault) -> Case:
        return replace(self, faults=(*self.faults, fault))


def switched(texts: Sequence[str]) -> Switched:
    """Of NAME=VALUE, or ``opposite``: every undecided switch in another position. BadInput says what is wrong."""
    found: dict[str, object] = {}
    documented = Switches()
    for text in texts:
        name, given, value = text.partition("=")
        if text == "opposite":
            found |= {undecided: _other(getattr(documented, undecided), undecided) for undecided in UNDECIDED}
        elif not given:
            raise BadInput(f"--switch must be NAME=VALUE or opposite, was {text!r}")
        else:
            found[name] = {"true": True, "false": False}.get(value, int(value) if value.isdecimal() else value)
    documented.changed(found)
    return tuple(found.items())


def _other(value: object, name: str) -> object:
    """Another position of a switch than this."""
    if isinstance(value, bool):
        return not value
    return next(choice for choice in get_args(get_type_hints(Switches)[name]) if choice != value)


@dataclass(slots=True)
class Outcome:
    """What one case came to."""

    case: Case
    failures: list[str]
    alone_seconds: float
    ends: tuple[str, ...]
    steps: list[Step]


def staged(case: Case, probes: Sequence[tuple[timedelta, bytes]] = (), stale: Mapping[int, str] | None = None) -> Stage:
    """The world of a case, at its end."""
    stage = stage_of(case, stale)
    stage.network.probes = list(probes)
    stage.run()
    return stage


def stage_of(case: Case, stale: Mapping[int, str] | None = None) -> Stage:
    """The world of a case, before its beginning."""
    switches = Switches().changed(dict(case.switches))
    return Stage(scene_of(case.group, case.scene), case.delivery, case.faults, stale, switches)


def probed(case: Case) -> Stage:
    """The same, run twice, so that its reads know what a node that lags would have answered."""
    first = staged(case, stale=stale_answers(case))
    started = first.network.began - first.start
    reads = [s for s in first.steps if s.body and not s.signed]
    again = staged(case, [(timedelta(seconds=s.second) - started, s.body) for s in reads], stale_answers(case))
    for one, other in zip(first.steps, again.steps, strict=True):
        if one.body and not one.signed and not one.after:
            one.stale = again.network.stale(other, timedelta(seconds=other.second) - started)
    return first


def stale_answers(case: Case) -> dict[int, str]:
    """What the stale reads of a case are answered: found by running it without them first."""
    wanted = [fault for fault in case.faults if fault.kind == "read_stale"]
    found: dict[int, str] = {}
    for fault in wanted:
        before = replace(case, faults=tuple(f for f in case.faults if f.step < fault.step))
        text = probed(before).steps[fault.step].stale
        if text is not None:
            found[fault.step] = text
    return found


# -- judging ---------------------------------------------------------------------------------------


def outcome_of(case: Case, stage: Stage) -> Outcome:
    """Judge a run: the invariants, and that everything is at rest where it should be."""
    evidence = stage.evidence()
    misled = _misled(case, stage)
    failures = [str(found) for found in check(evidence) if not (misled and BOTH_HELD in found.text)]
    if stage.surprise:
        failures.append(f"a function raised {stage.surprise}")
    failures += _unsettled(stage, case)
    if not case.faults and case.delivery == "once":
        failures += [text for text in [stage.scene.ends(stage)] if text]
    missed = [str(fault) for fault in case.faults if fault not in stage.struck]
    if missed:
        failures.append(f"did not happen: {', '.join(missed)}")
    if not case.faults and stage.counted != _ports_count(stage):
        failures.append(f"{stage.counted} steps were seen, the ports counted {_ports_count(stage)}")
    spans = [((s.ended or evidence.ended_at) - s.began).total_seconds() for s in alone(evidence)]
    ends = tuple(sorted(trade.state.value for trade in evidence.trades))
    return Outcome(case, failures, max(spans, default=0.0), ends, stage.steps)


def _ports_count(stage: Stage) -> int:
    """What the ports of every instance counted, less what came before the watched time."""
    counted = sum(i.system.steps.count for name, found in stage.instances.items() if name != "ingest" for i in found)
    return counted - stage.uncounted


def _leaves_doubt(fault: Fault, stage: Stage, faults: int) -> bool:
    """Whether an entry's nonce may be known to be spent, and nothing shows by what: then a person is asked for.

    So it is when a refusal that spends it is lost too, or is still to come when the process cannot go on, and when the
    network delivers our noop twice.
    """
    if fault.kind in SPENDS_THE_NONCE:
        return faults > 1
    if fault.kind != "delivered_twice" or fault.step >= len(stage.steps):
        return False
    return b'"noop"' in stage.steps[fault.step].body


def _misled(case: Case, stage: Stage) -> bool:
    """Whether an account was answered falsely twice, in the same way, at least 5 s apart: then a leg counts as gone."""
    for kind in FALSE:
        times = [stage.steps[f.step].second for f in case.faults if f.kind == kind and f.step < len(stage.steps)]
        if times and round(max(times) - min(times), 3) >= AGREE_SECONDS:
            return True
    return False


def _unsettled(stage: Stage, case: Case) -> Iterator[str]:
    """What is not at rest at the end: trades between states, messages, slots, orders without a position."""
    asked = any(_leaves_doubt(fault, stage, len(case.faults)) for fault in case.faults)
    trades = stage.trades()
    for trade in trades:
        if trade.state not in ENDED_WELL and not (asked and trade.state is TradeState.NEEDS_A_PERSON):
            yield f"trade {trade.trade_id[-12:]} is left at {trade.state}: {trade.why_closed}"
    if len(trades) > len(stage.scene.alerts):
        yield f"{len(stage.scene.alerts)} alerts made {len(trades)} trades"
    if stage.queue.pending():
        yield f"{stage.queue.pending()} messages were never handled"
    store, engine = stage.person.store, stage.person.engine(SignerRole.RISK)
    held = {t.trade_id for t in trades if t.state not in (*ENDED, TradeState.PROPOSED)}
    desk = set(TradeBook(engine).desk()[0].open_trades)
    if desk != held:
        yield f"the caps count {sorted(desk)}, open are {sorted(held)}"
    for slot in store.query("positions"):
        owner = slot.data.get("owner") or ""
        if owner and owner not in held:
            yield f"the slot {slot.id} is still held for {owner}"
    for name, address in stage.addresses.items():
        account = stage.venue.engine.state.accounts.get(address)
        if account and not account.size(COIN):
            for order in account.orders.values():
                yield f"{name} holds nothing, and an order of it rests: {order.cloid}"
    if engine.control()[0].state is Halt.FLATTEN:
        yield "trading is FLATTEN still"


# -- which cases -----------------------------------------------------------------------------------


def watched_steps(stage: Stage) -> list[Step]:
    """The steps of a run that are within the watched time of its scene."""
    return [step for step in stage.steps if step.second <= stage.scene.watched[1]]


def faults_at(step: Step, scene: Scene) -> list[Fault]:
    """Everything that can go wrong at a step."""
    more = scene.extra_kinds if step.function == "execute" else ()
    return [Fault(step.number, kind) for kind in (*kinds_at(step), *more)]


@dataclass(slots=True)
class Part:
    """The outcomes of some cases, added up. It crosses between processes."""

    group: str
    cases: Counter[str] = field(default_factory=Counter)
    """By kind of fault, or of pair."""
    by_scene: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(case, what is wrong)."""
    alone_seconds: float = 0.0
    alone_case: str = ""
    seen: dict[str, tuple[Case, Step]] = field(default_factory=dict)
    """Every sort of step that was seen: where first."""
    enumerated: set[str] = field(default_factory=set)
    """Every sort of step at which a process died."""
    steps: Counter[str] = field(default_factory=Counter)
    """Steps enumerated, by scene and delivery."""

    def add(self, found: Outcome, sort: str) -> None:
        case = found.case
        self.cases[sort] += 1
        self.by_scene[case.scene] += 1
        self.ends[" ".join(found.ends) or "no trade"] += 1
        self.failures += [(str(case), text) for text in found.failures]
        if found.alone_seconds > self.alone_seconds:
            self.alone_seconds, self.alone_case = found.alone_seconds, str(case)
        for step in found.steps:
            if (sort_of_step := step.sort) not in self.seen:
                self.seen[sort_of_step] = (case, replace(step, answer="", stale=None))

    def judge(self, case: Case, stage: Stage, sort: str) -> None:
        """Judge the world of a case, at its end."""
        found = outcome_of(case, stage)
        self.add(found, sort)
        for fault in case.faults:
            if fault.kind == CRASH and fault.step < len(found.steps):
                self.enumerated.add(found.steps[fault.step].sort)

    def merge(self, other: Part) -> None:
        self.cases += other.cases
        self.by_scene += other.by_scene
        self.ends += other.ends
        self.failures += other.failures
        self.steps += other.steps
        self.enumerated |= other.enumerated
        if other.alone_seconds > self.alone_seconds:
            self.alone_seconds, self.alone_case = other.alone_seconds, other.alone_case
        for sort, where in other.seen.items():
            self.seen.setdefault(sort, where)


def run_case(case: Case, stale: Mapping[int, str], part: Part, sort: str) -> None:
    """Run and judge one case, from its beginning."""
    part.judge(case, staged(case, stale=stale), sort)


@dataclass(frozen=True, slots=True)
class Work:
    """A share of the enumeration that one process does: cases that begin alike."""

    base: Case
    branches: tuple[Branch, ...]
    stale: tuple[tuple[int, str], ...] = ()
    """What stale reads of the base itself are answered, by step."""
    pairs: bool = False
    """Whether each of the faults is followed by every second one."""
    deaths: bool = False
    """Whether, of such pairs, an answer is also followed by a death off the order path."""
    sort: str = "single"
    afresh: bool = False
    """Whether every case is run from its beginning, instead of from where it parts from the base."""


def done(work: Work) -> Part:
    """Carry out a share."""
    part = Part(work.base.group)
    if not work.pairs:
        _run_branches(work, part)
        return part
    for branch in work.branches:
        _pairs(work, work.base.with_fault(branch.fault), part)
    return part


def _run_branches(work: Work, part: Part) -> None:
    """Every case of a share, each from where it parts from the others."""

    def sort_of(branch: Branch) -> str:
        return branch.fault.kind if work.sort == "single" else work.sort

    base, stale = work.base, dict(work.stale)
    if work.afresh or not CAN_FORK:
        for branch in work.branches:
            own = {branch.fault.step: branch.stale} if branch.stale is not None else {}
            run_case(base.with_fault(branch.fault), stale | own, part, sort_of(branch))
        return
    known = frozenset(part.seen)

    def each(stage: Stage, branch: Branch) -> Part:
        said = Part(base.group)
        said.judge(base.with_fault(branch.fault), stage, sort_of(branch))
        said.seen = {sort: where for sort, where in said.seen.items() if sort not in known}
        return said

    for branch, said in Split(stage_of(base, stale), work.branches, each).run().items():
        if isinstance(said, Part):
            part.merge(said)
        else:
            part.failures.append((str(base.with_fault(branch.fault)), str(said)))


def unlike_faults(step: Step, scene: Scene) -> list[Fault]:
    """The faults of a step that differ from each other and from its neighbours': for pairs, and for a second delivery.

    To die after a step is to die before the next one, to die when nothing but records was read since is to die before
    reading them, and a read that fails is a read whose answer is lost.
    """
    return [
        fault
        for fault in faults_at(step, scene)
        if fault.kind not in ALIKE
        and not (fault.kind == CRASH and (step.after or step.idle))
        and not (step.after and step.reads_records)
    ]


def _pairs(work: Work, first: Case, part: Part) -> None:
    """Every second fault on the order path after a first one, and, if asked for, a death at every step after an answer.

    Where people halt as a fault of its own, one of the two is that: without it, the run is one of ``execute``.
    """
    stage = probed(first)
    fault, halting = first.faults[-1], stage.scene.extra_kinds
    answered = work.deaths and stage.steps[fault.step].signed and fault.kind != CRASH
    ends = stage.scene.watched[1] + PAIR_SECONDS
    branches = [
        branch_at(step, second)
        for step in stage.steps[fault.step + 1 :]
        if step.second <= ends
        for second in unlike_faults(step, stage.scene)
        if step.on_order_path or (answered and second.kind == CRASH and step.function == "execute")
        if not halting or fault.kind in halting or second.kind in halting
    ]
    if branches:
        stale = tuple(stale_answers(first).items())
        _run_branches(Work(first, tuple(branches), stale, sort="pair", afresh=work.afresh), part)


def branch_at(step: Step, fault: Fault) -> Branch:
    """A fault at a step, split off at the last point before it."""
    return Branch(step.point, fault, step.stale if fault.kind == "read_stale" else None)
