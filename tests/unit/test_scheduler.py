from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from twinleg.adapters.local.clocks import ReplayClock, SystemClock
from twinleg.adapters.local.scheduler import Job, Scheduler
from twinleg.domain.errors import BadInput, InvariantBroken, Unavailable

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class Ran:
    def __init__(self) -> None:
        self.names: list[str] = []

    def job(self, name: str, every: int, offset: int) -> Job:
        return Job(name, every, offset, lambda: self.names.append(name))


@pytest.fixture
def ran() -> Ran:
    return Ran()


def test_jobs_run_on_whole_minutes_plus_their_offset_in_the_order_of_their_times(ran: Ran) -> None:
    scheduler = Scheduler(ReplayClock(_at(0)), [ran.job("risk", 60, 20), ran.job("ingest", 60, 2)])
    assert scheduler.run_due(_at(1.999)) == 0
    assert scheduler.run_due(_at(2)) == 1
    assert scheduler.run_due(_at(3)) == 0
    assert scheduler.next_due() == _at(20)
    assert scheduler.run_due(_at(85)) == 2
    assert ran.names == ["ingest", "ingest", "risk"]
    scheduler.run_due(_at(85 + 60))
    assert ran.names[3:] == ["ingest", "risk"]


def test_at_one_time_jobs_run_as_they_were_listed(ran: Ran) -> None:
    scheduler = Scheduler(ReplayClock(_at(-5)), [ran.job("b", 60, 0), ran.job("a", 300, 0), ran.job("c", 60, 0)])
    scheduler.run_due(_at(0))
    assert ran.names == ["b", "a", "c"]


def test_a_tick_at_the_very_start_counts_and_earlier_ones_do_not(ran: Ran) -> None:
    assert Scheduler(ReplayClock(_at(0)), [ran.job("a", 60, 0)]).run_due(_at(0)) == 1
    assert Scheduler(ReplayClock(_at(1)), [ran.job("a", 60, 0)]).run_due(_at(59)) == 0


def test_missed_ticks_are_one_run(ran: Ran) -> None:
    scheduler = Scheduler(ReplayClock(_at(0)), [ran.job("risk", 60, 0)])
    scheduler.run_due(_at(0))
    assert scheduler.run_due(_at(3600)) == 1
    assert scheduler.run_due(_at(3601)) == 0
    assert scheduler.next_due() == _at(3660)


@pytest.mark.parametrize(
    ("every", "offset", "now", "tick"),
    [(60, 0, 59.9, 0), (60, 2, 1.9, -58), (60, 2, 2, 2), (300, 15, 314, 15), (300, 15, 315, 315), (20, 0, 41, 40)],
)
def test_ticks_are_aligned_to_the_clock_not_to_the_start(every: int, offset: int, now: float, tick: float) -> None:
    assert Job("a", every, offset, lambda: None).tick(_at(now)) == _at(tick)


@pytest.mark.parametrize(("every", "offset"), [(0, 0), (-60, 0), (60, 60), (60, -1)])
def test_times_that_make_no_sense_are_refused_by_name(ran: Ran, every: int, offset: int) -> None:
    with pytest.raises(BadInput, match="job risk"):
        Scheduler(ReplayClock(NOON), [ran.job("risk", every, offset)])


@pytest.mark.parametrize(
    ("error", "level", "reason"),
    [
        (Unavailable("the store is away"), logging.WARNING, "Unavailable: the store is away"),
        (InvariantBroken("two legs"), logging.CRITICAL, "InvariantBroken: two legs"),
        (ValueError("the key 0xdeadbeef is bad"), logging.ERROR, "ValueError"),
    ],
)
def test_what_a_job_raises_is_logged_and_ends_nothing(
    ran: Ran, caplog: pytest.LogCaptureFixture, error: Exception, level: int, reason: str
) -> None:
    def fail() -> None:
        raise error

    scheduler = Scheduler(ReplayClock(NOON), [("bad", 60, 0, fail), ran.job("good", 60, 0)])
    assert scheduler.run_due(_at(0)) == 2 == scheduler.run_due(_at(60))
    assert ran.names == ["good", "good"]
    first = caplog.records[0]
    assert (first.levelno, first.job, first.reason) == (level, "bad", reason)  # type: ignore[attr-defined]
    assert "test_scheduler.py" in first.stack_trace  # type: ignore[attr-defined]
    assert "0xdeadbeef" not in caplog.text + first.stack_trace  # type: ignore[attr-defined]


def test_a_clock_that_was_set_back_does_not_stop_the_guard(ran: Ran) -> None:
    scheduler = Scheduler(ReplayClock(NOON), [ran.job("risk", 60, 0)])
    scheduler.run_due(_at(0))
    scheduler.run_due(_at(-3600 + 5))
    assert scheduler.run_due(_at(-3600 + 60)) == 1


def test_a_job_never_runs_over_itself() -> None:
    inside, gate, runs = threading.Event(), threading.Event(), []

    def slow() -> None:
        runs.append(1)
        inside.set()
        gate.wait(10)

    scheduler = Scheduler(ReplayClock(NOON), [("risk", 60, 0, slow)])
    first = threading.Thread(target=scheduler.run_due, args=(_at(0),))
    first.start()
    assert inside.wait(10)
    assert scheduler.run_due(_at(60)) == 0
    gate.set()
    first.join()
    assert scheduler.run_due(_at(60)) == 1 and len(runs) == 2


def test_by_the_wall_jobs_come_at_their_times_each_in_its_own_thread() -> None:
    stop, gate, clock = threading.Event(), threading.Event(), SystemClock()
    times: list[datetime] = []

    def quick() -> None:
        times.append(clock.now())
        if len(times) == 2:
            gate.set()

    scheduler = Scheduler(clock, [("stuck", 1, 0, lambda: gate.wait(10)), ("quick", 1, 0, quick)])
    thread = threading.Thread(target=scheduler.run, args=(stop,))
    thread.start()
    assert gate.wait(10), "a stuck job holds up no other"
    stop.set()
    started = time.monotonic()
    thread.join(10)
    assert time.monotonic() - started < 2
    assert all(at.microsecond < 300_000 for at in times)
    assert times[1] - times[0] > timedelta(seconds=0.6)


def test_no_jobs_no_work() -> None:
    scheduler = Scheduler(ReplayClock(NOON), [])
    assert (scheduler.run_due(NOON), scheduler.next_due()) == (0, None)
    scheduler.run(threading.Event())
