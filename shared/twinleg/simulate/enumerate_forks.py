"""Many cases that begin alike, run once up to where they part: there the process is forked, a child for each.

A child is the run itself, with everything in memory, in which one more thing is going to go wrong; it goes on to the
end, is judged, and tells its parent what came of it. Nothing is copied or restored by us, so that nothing can be
forgotten. A run can be split at any of its steps: all of it is one thread.
"""

from __future__ import annotations

import gc
import os
import pickle
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from twinleg.domain.errors import InvariantBroken
from twinleg.simulate.enumerate_faults import Fault
from twinleg.simulate.enumerate_stage import Stage

T = TypeVar("T")

CAN_FORK = hasattr(os, "fork")


@dataclass(frozen=True, slots=True)
class Branch:
    """One more fault in a run: at what point the run is split for it, and the answer of a stale read."""

    point: int
    fault: Fault
    stale: str | None = None


class Split:
    """A run, split at every branch's point. ``each`` is called in the child at its end; the parent gets its answer."""

    def __init__(self, stage: Stage, branches: Sequence[Branch], each: Callable[[Stage, Branch], T]) -> None:
        self._stage, self._each = stage, each
        self._waiting: dict[int, list[Branch]] = {}
        for branch in branches:
            self._waiting.setdefault(branch.point, []).append(branch)
        self._found: dict[Branch, object] = {}
        self._mine: tuple[Branch, int] | None = None

    def run(self) -> Mapping[Branch, object]:
        """Run all of it. What a child could not say is the text of its error."""
        stage = self._stage
        stage.at_point = self._at
        stage.run()
        if self._mine is not None:
            self._tell()
        if self._waiting:
            raise InvariantBroken(f"a run did not come to the points {sorted(self._waiting)}")
        return self._found

    def _at(self, point: int) -> None:
        for branch in self._waiting.pop(point, ()):
            if self._is_child(branch):
                return
        if not self._waiting:
            self._stage.at_point = None
            self._stage.end_here()

    def _is_child(self, branch: Branch) -> bool:
        """Split the run. In the parent, wait for what the child says."""
        reads, writes = os.pipe()
        child = os.fork()
        if child:
            os.close(writes)
            with os.fdopen(reads, "rb") as pipe:
                said = pipe.read()
            os.waitpid(child, 0)
            self._found[branch] = pickle.loads(said) if said else "the process of this case ended without a word"
            return False
        gc.disable()  # it lives for some milliseconds
        os.close(reads)
        stage = self._stage
        self._mine, stage.at_point = (branch, writes), None
        stage.strike_at(branch.fault, branch.stale)
        return True

    def _tell(self) -> None:
        """At the end of a child."""
        assert self._mine is not None
        branch, writes = self._mine
        try:
            said: object = self._each(self._stage, branch)
        except Exception:
            said = traceback.format_exc()
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(pickle.dumps(said))
        os._exit(0)
