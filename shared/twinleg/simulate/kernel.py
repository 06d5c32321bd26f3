"""Virtual time, and tasks of which exactly one runs at any moment: the same seed gives the same run, step by step.

Each invocation of a function is a task with a thread of its own. It runs until it waits (for time, or because a
step of its I/O takes some), then whatever is due next runs. Nothing here reads a wall clock.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from twinleg.domain.errors import InvariantBroken

STACK_BYTES = 1 << 20
SILENT_SECONDS_MAX = 120.0


class Killed(BaseException):
    """The process died here. Not an Exception: nothing may handle it, as nothing handles SIGKILL."""


class Task:
    """One invocation, running or waiting; ``killed`` once its process died."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.killed = False
        self.done = False
        self.go = threading.Lock()
        self.go.acquire()


class Kernel:
    """The clock of one simulated world and everything that is due in it."""

    def __init__(self, start: datetime, moved: Callable[[datetime], None]) -> None:
        self.now = start
        self.running = 0
        """Tasks begun and not ended."""
        self.silent_seconds_max = SILENT_SECONDS_MAX
        """For how long, by the wall's clock, a task may neither wait nor end."""
        self._moved = moved
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._number = 0
        self._back = threading.Lock()
        self._back.acquire()
        self._idle: list[_Worker] = []
        self._current: Task | None = None
        self._failure: BaseException | None = None

    @property
    def current(self) -> Task | None:
        """The task that runs now; None in the driver itself."""
        return self._current

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
        task = Task(name)
        self.running += 1
        worker = self._idle.pop() if self._idle else _Worker(self)
        worker.give(task, body)
        self._resume(task)
        return task

    def close(self) -> None:
        """Let the threads of a finished world end."""
        for worker in self._idle:
            worker.end()
        self._idle.clear()

    def drive_anew(self, drive: Callable[[], None]) -> None:
        """In a forked process, which has none but the thread that forked: go on with that thread alone.

        To be called by the driver while no task is under way, or by the only one that is. Then the driver's place is
        taken by a new thread: once the task waits or ends, it calls *drive*, which may go on with `run_until`.
        """
        self._idle.clear()
        if self._current is None:
            return
        self._back = threading.Lock()
        self._back.acquire()

        def driver() -> None:
            try:
                self._taken_back("that was forked")
            except InvariantBroken as error:
                self._failure = error
            self._current = None
            drive()

        threading.Thread(target=driver, daemon=True).start()

    def _carry(self, worker: _Worker, task: Task, body: Callable[[], None]) -> None:
        """On the worker's thread: the whole of a task, from its first step to its end."""
        task.go.acquire()
        try:
            body()
        except Killed:
            pass
        except BaseException as error:
            self._failure = error
        finally:
            self.running -= 1
            task.done = True
            self._current = None
            self._idle.append(worker)
            self._back.release()

    def sleep(self, seconds: float) -> None:
        """Wait: in a task others run meanwhile, in the driver time just moves."""
        wake = self.now + timedelta(seconds=seconds)
        task = self._current
        if task is None or not self._due or self._due[0][0] > wake:
            self._move(wake)
            return
        self.at(wake, lambda: self._resume(task))
        self._current = None
        self._back.release()
        task.go.acquire()
        if task.killed:
            raise Killed

    def _resume(self, task: Task) -> None:
        outer, self._current = self._current, task
        task.go.release()
        self._taken_back(task.name)
        self._current = outer

    def _taken_back(self, name: str) -> None:
        """Wait until the task that runs waits or ends."""
        if not self._back.acquire(timeout=self.silent_seconds_max):
            raise InvariantBroken(f"task {name} neither waits nor ends")

    def _move(self, when: datetime) -> None:
        if when > self.now:
            self.now = when
            self._moved(when)


class _Worker:
    """A thread that carries one task after the other."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._given: tuple[Task, Callable[[], None]] | None = None
        self._go = threading.Lock()
        self._go.acquire()
        threading.Thread(target=self._run, daemon=True).start()

    def give(self, task: Task, body: Callable[[], None]) -> None:
        self._given = (task, body)
        self._go.release()

    def end(self) -> None:
        self._given = None
        self._go.release()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._given is None:
                return
            self._kernel._carry(self, *self._given)


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
