"""The mutation score: how many small wrong changes to a module its tests notice.

    ./dev mutants                        the risk and order-path modules
    ./dev mutants risk/gate risk/sizing  some of them
    ./dev mutants engine/orderpath:176   what is changed in one line

A mutant is the module with one change (``mutations.py``). It is *killed* when a test fails on it, *timed out* when the
tests do not end, and *survived* when every test that comes to the changed statement passes.

pytest collects the tests once, in a process that has imported everything. One child of it runs them unchanged and
notes by test which lines of the modules it came to, and for how long it ran. Then each mutant gets a child of its own:
it puts the changed code into the functions that are loaded, runs the tests that come to the statement, quickest first,
and ends at the first failure. What takes effect at import (constants, classes) is tried in a child that imports our
packages and tests anew. No file is changed.
"""

from __future__ import annotations

import argparse
import enum
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "shared" / "twinleg"
MODULES = ("risk/*", "engine/orderpath", "engine/budget")
TESTS_SECONDS_MAX = 60.0
"""Of tests that one mutant is tried with, by what they took unchanged: the quickest first."""
TIMES_LONGER_MAX, SECONDS_MORE_MAX = 5.0, 10.0
"""A mutant whose tests use more processor time than this allows does not end."""
WALL_TIMES = 8.0
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"
TOOL = 4


@dataclass(slots=True)
class Subject:
    """A module under test."""

    name: str
    module: ModuleType
    source: bytes
    mutants: list[Mutant]
    survivors: list[Mutant] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def path(self) -> str:
        return str(self.module.__file__)

    @property
    def score(self) -> float:
        total = self.counts.total()
        return 100 * (total - self.counts[SURVIVED]) / total if total else 100.0


def subjects_of(wanted: Sequence[str]) -> list[Subject]:
    """The modules asked for, each as PACKAGE/MODULE or PACKAGE/MODULE:LINE, with what is to be tried of them."""
    found: dict[str, Subject] = {}
    for word in wanted or MODULES:
        pattern, _, line = word.partition(":")
        paths = sorted(PACKAGE.glob(f"{pattern}.py"))
        if not paths:
            raise SystemExit(f"mutants: no module {pattern} in {PACKAGE.relative_to(ROOT)}")
        for path in paths:
            name, source = str(path.relative_to(PACKAGE).with_suffix("")), path.read_bytes()
            module = importlib.import_module(f"twinleg.{name.replace('/', '.')}")
            tried = [m for m in mutants(source, enums_of(module)) if not line or m.line == int(line)]
            if tried:
                found.setdefault(name, Subject(name, module, source, [])).mutants += tried
    return list(found.values())


def enums_of(module: ModuleType) -> dict[str, list[str]]:
    """The members of our enumerations that a module names."""
    named = {n: v for n, v in vars(module).items() if isinstance(v, enum.EnumType) and "twinleg" in v.__module__}
    return {name: list(members.__members__) for name, members in named.items()}


def tests_for(subjects: Sequence[Subject]) -> list[str]:
    """The unit tests that name a subject, or, for one of risk, another rule of risk.

    Not those of whole desks: they notice more, and take a hundred times as long.
    """
    found: set[Path] = set()
    for subject in subjects:
        names = re.escape(subject.module.__name__) + (
            r"|twinleg\.risk\.(?!limits)" if subject.name.startswith("risk/") else ""
        )
        unit = (ROOT / "tests" / "unit").glob("test_*.py")
        found.update(p for p in unit if re.search(rf"^\s*(?:from|import) (?:{names})\b", p.read_text(), re.MULTILINE))
    return [str(p.relative_to(ROOT)) for p in sorted(found)]


# -- children --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Child:
    """A process that came from this one and says how its work ended by its exit code."""

    pid: int
    ends_by: float

    @classmethod
    def doing(cls, work: Callable[[], int], seconds: float) -> Child:
        """*seconds* of processor time, and some times as much by the clock: others use the machine too."""
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                gc.disable()
                whole = int(seconds) + 1
                resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
                nothing = os.open(os.devnull, os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(nothing, stream)
                code = work()
            finally:
                os._exit(code)
        return cls(pid, time.monotonic() + seconds * WALL_TIMES)

    def ended(self) -> str | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() < self.ends_by:
                return None
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return TIMED_OUT
        if os.WIFSIGNALED(status):
            return TIMED_OUT if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else KILLED
        return KILLED if os.WEXITSTATUS(status) else SURVIVED


def run_until_failure(items: Sequence[pytest.Item]) -> int:
    for number, item in enumerate(items):
        following = items[number + 1] if number + 1 < len(items) else None
        if any(report.failed for report in runtestprotocol(item, nextitem=following, log=False)):
            return 1
    return 0


# -- which tests come where ------------------------------------------------------------------------


def functions_in(paths: set[str]) -> Iterator[FunctionType]:
    for found in gc.get_objects():
        if isinstance(found, FunctionType) and found.__code__.co_filename in paths:
            yield found


def nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def observe(items: Sequence[pytest.Item], paths: set[str], report: Path) -> int:
    """Run every test as it is, and note by test its seconds and the lines it came to."""
    lines: set[tuple[str, int]] = set()
    monitoring = sys.monitoring

    def came_to(code: CodeType, line: int) -> Any:
        lines.add((code.co_filename, line))
        return monitoring.DISABLE

    monitoring.use_tool_id(TOOL, "mutants")
    monitoring.register_callback(TOOL, monitoring.events.LINE, came_to)
    for function in functions_in(paths):
        for code in nested(function.__code__):
            monitoring.set_local_events(TOOL, code, monitoring.events.LINE)
    seen = []
    for number, item in enumerate(items):
        following = items[number + 1] if number + 1 < len(items) else None
        lines.clear()
        monitoring.restart_events()
        began = time.process_time(), time.monotonic()
        reports = runtestprotocol(item, nextitem=following, log=False)
        seconds = max(time.process_time() - began[0], (time.monotonic() - began[1]) / 4)
        seen.append({"seconds": seconds, "lines": sorted(lines), "failed": any(r.failed for r in reports)})
    report.write_text(json.dumps({"tests": seen, "modules": sorted(sys.modules)}))
    return 0


# -- putting a change in place ---------------------------------------------------------------------


def swap(subject: Subject, mutant: Mutant) -> bool:
    """Give the loaded function its changed code. False when it cannot take it, because other names are in it now."""
    changed = compile(mutant.applied(subject.source), subject.path, "exec")
    code = next(c for c in nested(changed) if c.co_qualname == mutant.function)
    held = [f for f in functions_in({subject.path}) if f.__code__.co_qualname == mutant.function]
    if not held or any(f.__code__.co_freevars != code.co_freevars for f in held):
        return False
    for function in held:
        function.__code__ = code
    return True


class Changed(importlib.abc.MetaPathFinder):
    """Imports the subject with the change in it."""

    def __init__(self, subject: Subject, mutant: Mutant) -> None:
        self.subject, self.mutant = subject, mutant

    def find_spec(self, fullname: str, *_: object) -> Any:
        if fullname != self.subject.module.__name__:
            return None
        changed = compile(self.mutant.applied(self.subject.source), self.subject.path, "exec")
        loader = importlib.machinery.SourceFileLoader(fullname, self.subject.path)
        loader.get_code = lambda _: changed  # type: ignore[method-assign, assignment]
        return importlib.util.spec_from_file_location(fullname, self.subject.path, loader=loader)


def anew(subject: Subject, mutant: Mutant, items: Sequence[pytest.Item], basetemp: str) -> int:
    """Run the tests after importing everything of ours again: first the files that bear the module's name."""
    near = [i for i in items if subject.name.split("/")[-1] in i.path.stem]
    far = [i for i in items if i not in near]
    return next((code for part in (near, far) if part and (code := _anew(subject, mutant, part, basetemp))), 0)


def _anew(subject: Subject, mutant: Mutant, items: Sequence[pytest.Item], basetemp: str) -> int:
    tests = str(ROOT / "tests")
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "twinleg" or str(getattr(module, "__file__", None)).startswith(tests):
            del sys.modules[name]
    sys.meta_path.insert(0, Changed(subject, mutant))
    return int(pytest.main([*options(basetemp), "-x", *(i.nodeid for i in items)], plugins=[Steady()]))


def options(basetemp: str) -> list[str]:
    return [
        "-s", "-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib",
        "-o", "tmp_path_retention_policy=none", f"--basetemp={basetemp}", f"--rootdir={ROOT}",
    ]  # fmt: skip


class Steady:
    """Property tests draw the same cases each time, or the score would be another each time."""

    def pytest_configure(self) -> None:
        from hypothesis import settings

        settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
        settings.load_profile("mutants")


# -- the run ---------------------------------------------------------------------------------------


class Trial(Steady):
    """Takes the place of pytest's own loop over the tests."""

    def __init__(self, subjects: list[Subject], folder: str, jobs: int) -> None:
        self.subjects, self.folder, self.jobs = subjects, folder, jobs
        self.out = os.fdopen(os.dup(1), "w", buffering=1)
        self.seconds: list[float] = []
        self.tests_by_line: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.problem = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = session.items
        self.problem = "the tests cannot be collected" if session.testsfailed else self._observe()
        if not self.problem:
            self._try_all()
        return True

    def _observe(self) -> str:
        """What is wrong, if anything. Tests that fail without any change are said and left out."""
        report = Path(self.folder) / "observed.json"
        paths = {s.path for s in self.subjects}
        self.note(f"{len(self.items)} tests as they are …")
        child = Child.doing(lambda: observe(self.items, paths, report), 3600)
        while (said := child.ended()) is None:
            time.sleep(0.05)
        if said is not SURVIVED:
            return "the tests could not be run as they are"
        told = json.loads(report.read_text())
        for number, test in enumerate(told["tests"]):
            self.seconds.append(test["seconds"])
            if test["failed"]:
                self.out.write(f"left out, because it fails as it is: {self.items[number].nodeid}\n")
            for path, line in [] if test["failed"] else test["lines"]:
                self.tests_by_line[path, line].add(number)
        for name in told["modules"]:  # so that no child has to
            if name not in sys.modules and not name.startswith(("twinleg.data", "main")):
                try:
                    importlib.import_module(name)
                except BaseException:
                    continue
        return ""

    def _try_all(self) -> None:
        waiting = [(s, m) for s in self.subjects for m in s.mutants][::-1]
        total, running = len(waiting), list[tuple[Subject, Mutant, Child]]()
        while waiting or running:
            while waiting and len(running) < self.jobs:
                subject, mutant = waiting.pop()
                tests = self._tests(subject, mutant)
                if tests:
                    running.append((subject, mutant, self._child(subject, mutant, tests)))
                else:
                    self._ended(subject, mutant, SURVIVED)
            time.sleep(0.004)
            for one in list(running):
                said = one[2].ended()
                if said:
                    running.remove(one)
                    self._ended(one[0], one[1], said)
            self.note(f"{total - len(waiting) - len(running)} of {total}")
        self.note("")

    def _tests(self, subject: Subject, mutant: Mutant) -> list[int]:
        """Those that come to the statement (at import: to the module), quickest first, up to some time."""
        if mutant.function is None:
            found = {t for (path, _), tests in self.tests_by_line.items() if path == subject.path for t in tests}
            found = found or set(range(len(self.items)))  # a module of nothing but values
        else:
            found = {t for line in mutant.lines for t in self.tests_by_line.get((subject.path, line), ())}
        chosen, seconds = [], 0.0
        for test in sorted(found, key=lambda t: (self.seconds[t], t)):
            seconds += self.seconds[test]
            if chosen and seconds > TESTS_SECONDS_MAX:
                break
            chosen.append(test)
        return chosen

    def _child(self, subject: Subject, mutant: Mutant, tests: list[int]) -> Child:
        items = [self.items[t] for t in tests]
        at_import = 0.0 if mutant.function else 10.0
        seconds = sum(self.seconds[t] for t in tests) * TIMES_LONGER_MAX + SECONDS_MORE_MAX + at_import
        basetemp = str(Path(self.folder) / f"anew{subject.mutants.index(mutant)}")

        def work() -> int:
            # A child of its own, or it takes away the folders of those that run beside it.
            items[0].config._tmp_path_factory._given_basetemp = Path(f"{basetemp}-swapped")  # type: ignore[attr-defined]
            if mutant.function and swap(subject, mutant):
                return run_until_failure(items)
            return anew(subject, mutant, items, basetemp)

        return Child.doing(work, seconds)

    def _ended(self, subject: Subject, mutant: Mutant, said: str) -> None:
        subject.counts[said] += 1
        if said is SURVIVED:
            subject.survivors.append(mutant)
            self.out.write("\r\033[K" if self.out.isatty() else "")
            where = f"{Path(subject.path).relative_to(ROOT)}:{mutant.line}"
            self.out.write(f"{where}: survived, in {mutant.function or 'the module'}\n")
            self.out.writelines(f"    {line}\n" for line in mutant.shown(subject.source))

    def note(self, text: str) -> None:
        if self.out.isatty():
            self.out.write(f"\r\033[K{text}")


def table(subjects: Sequence[Subject]) -> str:
    rows = [("module", "mutants", "killed", "timed out", "survived", "score")]
    total = Subject("all", sys, b"", [], counts=sum((s.counts for s in subjects), Counter()))
    for s in [*subjects, total] if len(subjects) > 1 else subjects:
        numbers = (s.counts.total(), s.counts[KILLED], s.counts[TIMED_OUT], s.counts[SURVIVED])
        rows.append((s.name, *map(str, numbers), f"{s.score:.1f} %"))
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help=f"PACKAGE/NAME[:LINE]; without: {' '.join(MODULES)}"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at the same time")
    parser.add_argument("--sample", type=int, metavar="N", help="only N mutants of each module, the same each time")
    parser.add_argument("--tests", nargs="+", metavar="FILE", help="instead of those that name the modules")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="PERCENT", help="end with 1 under this score")
    asked = parser.parse_args()
    os.chdir(ROOT)
    subjects = subjects_of(asked.modules)
    for subject in subjects:
        if asked.sample and asked.sample < len(subject.mutants):
            subject.mutants = random.Random(subject.name).sample(subject.mutants, asked.sample)
    tests = asked.tests or tests_for(subjects)
    if not tests:
        raise SystemExit("mutants: no unit test imports any of these modules; name tests with --tests")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="twinleg-mutants-") as folder:
        trial = Trial(subjects, folder, asked.jobs)
        code = pytest.main([*options(f"{folder}/tests"), *tests], plugins=[trial])
    if code or trial.problem:
        print(f"mutants: {trial.problem or 'pytest could not run'}", file=sys.stderr)
        return 2
    print(table(subjects))
    print(f"{time.monotonic() - began:.0f} s")
    return int(any(s.score < asked.at_least for s in subjects))


if __name__ == "__main__":
    sys.exit(main())
