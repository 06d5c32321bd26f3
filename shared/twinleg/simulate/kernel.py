"""Virtual time, and tasks of which exactly one runs at any moment: the same seed gives the same run, step by step.

Each invocation of a function is a task on a stack of its own (a greenlet). It runs until it waits (for time, or
because a step of its I/O takes some), then whatever is due next runs. All of it is one thread of one process, so
that the process can be forked at any step. Nothing here reads a wall clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta

from greenlet import GreenletExit, getcurrent, greenlet


class Killed(BaseException):
    """The process died here. Not an Exception: nothing may handle it, as nothing handles SIGKILL."""


class Task:
    """One invocation, running or waiting; ``killed`` once its process died."""

    def __init__(self, name: str, carry: Callable[[Task], None]) -> None:
        self.name = name
        self.killed = False
        self.done = False
        self._stack = greenlet(lambda: carry(self))

    def go_on(self) -> None:
        """Run it until it waits or ends."""
        self._stack.parent = getcurrent()
        self._stack.switch()

    def end(self) -> None:
        """Unwind its stack: it does nothing more."""
        self._stack.parent = getcurrent()
        self._stack.throw()

    def wait(self) -> None:
        """On the task's own stack: back to whoever let it go on."""
        parent = self._stack.parent
        assert parent is not None
        parent.switch()


class Kernel:
    """The clock of one simulated world and everything that is due in it."""

    def __init__(self, start: datetime, moved: Callable[[datetime], None]) -> None:
        self.now = start
        self.running = 0
        """Tasks begun and not ended."""
        self._moved = moved
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._number = 0
        self._current: Task | None = None
        self._tasks: dict[Task, None] = {}
        self._closed = False
        self._failure: BaseException | None = None

    @property
    def current(self) -> Task | None:
        """The task that runs now; None in the driver itself."""
        return self._current

    @property
    def due(self) -> int:
        """How much is still to be done at some time: waiting tasks too."""
        return len(self._due)

    def at(self, when: datetime, do: Callable[[], None]) -> None:
        """Have something done at a time (now, when that has passed); of equal times the earlier asked is first."""
        self._number += 1
        heapq.heappush(self._due, (max(when, self.now), self._number, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(self.now + timedelta(seconds=seconds), do)

    def run_until(self, end: datetime) -> None:
        """Do everything that is due up to *end*, and stand there. Raises what a task could not handle."""
        while self._failure is None and self._due and self._due[0][0] <= end:
            when, _, do = heapq.heappop(self._due)
            self._move(when)
            do()
        if self._failure is not None:
            raise self._failure
        self._move(end)

    def spawn(self, name: str, body: Callable[[], None]) -> Task:
        """Begin a task now; it runs until it first waits. *body* handles its own errors; Killed just ends it."""

        def carry(task: Task) -> None:
            try:
                body()
            except (Killed, GreenletExit):
                pass  # its process died, or its world is gone
            except BaseException as error:
                self._failure = error
            finally:
                self.running -= 1
                del self._tasks[task]
                task.done = True

        task = Task(name, carry)
        self._tasks[task] = None
        self.running += 1
        self._resume(task)
        return task

    def sleep(self, seconds: float) -> None:
        """Wait: in a task others run meanwhile, in the driver time just moves."""
        if self._closed:
            raise Killed
        wake = self.now + timedelta(seconds=seconds)
        task = self._current
        if task is None or not self._due or self._due[0][0] > wake:
            self._move(wake)
            return
        self.at(wake, lambda: self._resume(task))
        task.wait()
        if task.killed:
            raise Killed

    def close(self) -> None:
        """End the world: what its unfinished tasks still hold is let go of here and not within another world."""
        self._closed = True
        for task in list(self._tasks):
            task.end()

    def _resume(self, task: Task) -> None:
        outer, self._current = self._current, task
        task.go_on()
        self._current = outer

    def _move(self, when: datetime) -> None:
        if when > self.now:
            self.now = when
            self._moved(when)


class KernelClock:
    """The Clock of one process: the kernel's time, as far off, and in such steps, as that machine's clock is."""

    def __init__(self, kernel: Kernel, skew_seconds: float = 0.0, tick_ms: int = 0) -> None:
        self._kernel = kernel
        self._skew = timedelta(seconds=skew_seconds)
        self._tick = timedelta(milliseconds=tick_ms)

    def now(self) -> datetime:
        now = self._kernel.now + self._skew
        return now - timedelta(microseconds=now.microsecond) % self._tick if self._tick else now

    def sleep(self, seconds: float) -> None:
        self._kernel.sleep(seconds)
