"""The scheduled jobs: what a pause stops, what it never stops by accident, and what the command says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from twinleg.adapters.local.clocks import ReplayClock
from twinleg.adapters.local.schedule import StoreSchedule, heeding
from twinleg.adapters.local.scheduler import Scheduler
from twinleg.adapters.local.store import SqliteStore
from twinleg.cli import main
from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.embedded.replay import settings_text
from twinleg.engine.schedule import Pause, is_paused, note, pauses

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "twinleg.db", synchronous="NORMAL")


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TWINLEG_CONFIG", "TWINLEG_RUNTIME", "TWINLEG_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(w: Any, *arguments: str) -> tuple[int, str, str]:
        path: Path = w.folder / "twinleg.toml"
        path.write_text(settings_text(w.coin, w.server.url, {"market": {"strategies": '["tradingview"]'}}))
        capsys.readouterr()
        code = main([*arguments, "--config", str(path)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def states(run: Run, w: Any) -> dict[str, bool]:
    return {job["name"]: job["paused"] for job in json.loads(run(w, "schedule", "show", "--json")[1])}


# -- the scheduler heeds it ------------------------------------------------------------------------


class Machine:
    """A scheduler of two jobs by a clock that the test moves."""

    def __init__(self, store: SqliteStore) -> None:
        self.clock, self.ran = ReplayClock(NOON), list[str]()
        self.answers = {"ingest": 200, "risk": 200}
        jobs = [(name, 60, at, heeding(store, self.clock, name, self._job(name))) for name, at in
                (("ingest", 2), ("risk", 20))]  # fmt: skip
        self.scheduler = Scheduler(self.clock, jobs)

    def _job(self, name: str) -> Callable[[], int]:
        def run() -> int:
            self.ran.append(name)
            if self.answers[name] == 0:
                raise Unavailable("no venue")
            return self.answers[name]

        return run

    def minute(self) -> list[str]:
        self.ran.clear()
        self.clock.sleep(60)
        self.scheduler.run_due(self.clock.now())
        return list(self.ran)


def test_a_paused_job_does_not_run_and_the_other_does_until_it_is_resumed(store: SqliteStore) -> None:
    machine = Machine(store)
    assert machine.minute() == ["ingest", "risk"], "no document at all pauses nothing"
    note(store, "ingest", Pause(why="a test", by="ada", since=NOON))
    assert is_paused(store, "ingest") and not is_paused(store, "risk")
    assert [machine.minute() for _ in range(2)] == [["risk"], ["risk"]]
    note(store, "ingest", None)
    assert machine.minute() == ["ingest", "risk"]


def test_what_ran_when_and_how_it_ended_is_told(store: SqliteStore) -> None:
    machine = Machine(store)
    schedule = StoreSchedule(store, machine.clock)
    ingest, risk = schedule.jobs()
    assert (ingest.last_at, ingest.next_at, ingest.last_result) == (None, None, "")
    machine.answers = {"ingest": 503, "risk": 0}
    machine.minute()
    ingest, risk = schedule.jobs()
    at = machine.clock.now()
    assert (ingest.last_at, ingest.last_result, risk.last_at, risk.last_result) == (at, "answered 503", at, "failed")
    assert ingest.next_at == at + timedelta(minutes=1)
    note(store, "ingest", Pause(why="w", by="ada", since=NOON))
    machine.answers["risk"] = 200
    machine.minute()
    ingest, risk = schedule.jobs()
    assert (ingest.last_at, ingest.last_result, ingest.next_at) == (at, "answered 503", None)
    assert (risk.last_result, risk.next_at) == ("ok", machine.clock.now() + timedelta(minutes=1))
    machine.clock.sleep(600)
    assert schedule.jobs()[1].next_at is None, "nobody has run it for ten minutes"


@pytest.mark.parametrize(
    "data",
    [{}, {"paused": None}, {"paused": ["risk"]}, {"paused": {"risk": "yes"}}, {"paused": {"risk": {"since": "soon"}}}],
)
def test_a_document_that_means_nothing_pauses_nothing(store: SqliteStore, data: dict[str, Any]) -> None:
    store.create("control", "schedule", data)
    assert pauses(store) == {}
    assert Machine(store).minute() == ["ingest", "risk"]
    note(store, "ingest", Pause(why="w", by="ada", since=NOON))
    assert list(pauses(store)) == ["ingest"]


def test_a_store_that_cannot_be_reached_stops_no_sweep(tmp_path: Path) -> None:
    machine = Machine(SqliteStore(tmp_path))  # a folder is no file
    assert machine.minute() == ["ingest", "risk"]


def test_a_job_of_none_is_refused(store: SqliteStore) -> None:
    schedule = StoreSchedule(store, ReplayClock(NOON))
    for act in (lambda: schedule.pause("sweep", Pause()), lambda: schedule.resume("sweep")):
        with pytest.raises(BadInput, match="job must be one of ingest, risk, was 'sweep'"):
            act()


def test_the_running_system_heeds_it(world: Any) -> None:
    w = world()
    store = w.system.store
    note(store, "ingest", Pause(why="a test", by="ada", since=NOON))
    w.runtime.start()
    try:
        w.system.clock.sleep(60)
        deadline = time.monotonic() + 20
        while not (store.get("control", "job-ingest") and store.get("control", "job-risk")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        w.runtime.stop()
    ingest, risk = w.system.schedule.jobs()
    assert (ingest.paused, ingest.last_at, ingest.last_result) == (True, None, "")
    assert (risk.paused, risk.last_result) == (False, "ok") and risk.last_at and risk.next_at


# -- the command -----------------------------------------------------------------------------------


def test_show_tells_that_nothing_runs_the_jobs(world: Any, run: Run) -> None:
    w = world()
    code, out, err = run(w, "schedule", "show")
    assert (code, err) == (0, "")
    assert out.count("not paused, but nothing runs it at present") == 2 and "last run never" in out


def test_ingest_is_paused_and_resumed_and_the_audit_knows_who_and_why(world: Any, run: Run) -> None:
    w = world()
    code, out, err = run(w, "schedule", "pause", "ingest", "--why", "the feed is wrong", "--json")
    assert (code, err) == (0, "")
    ingest = json.loads(out)[0]
    assert (ingest["paused"], ingest["why"]) == (True, "the feed is wrong") and ingest["by"] and ingest["since"]
    assert "PAUSED by" in run(w, "schedule", "show")[1]
    assert states(run, w) == {"ingest": True, "risk": False}
    assert run(w, "schedule", "resume", "all")[0] == 0
    assert states(run, w) == {"ingest": False, "risk": False}
    said = w.events("schedule")
    assert any(f"job ingest paused by {ingest['by']}: the feed is wrong" in line for line in said)
    assert sum("resumed by" in line for line in said) == 2


@pytest.mark.parametrize("job", ["risk", "all"])
def test_the_sweep_is_not_paused_while_anything_is_or_may_come_to_be_open(world: Any, run: Run, job: str) -> None:
    w = world()
    code, out, err = run(w, "schedule", "pause", job)
    assert (code, out) == (2, "")
    assert "job risk guards what is open, and trading is ENABLED" in err and "--i-understand-nothing-guards" in err
    w.alert("buy", "a1")
    code, _, err = run(w, "schedule", "pause", job)
    assert code == 2 and f"1 trades are open ({w.trade().trade_id})" in err
    assert states(run, w) == {"ingest": False, "risk": False}, "not even in part"
    assert run(w, "schedule", "pause", job, "--i-understand-nothing-guards")[0] == 0
    assert states(run, w)["risk"]


def test_flat_and_halted_the_sweep_may_be_paused(world: Any, run: Run) -> None:
    w = world()
    w.alert("buy", "a1")
    run(w, "flatten")
    w.minutes(2)
    assert w.engine().control()[0].state is Halt.HALTED
    assert run(w, "schedule", "pause", "all")[0] == 0
    assert states(run, w) == {"ingest": True, "risk": True}


def test_nobody_trades_while_the_sweep_is_paused(world: Any, run: Run) -> None:
    w = world()
    run(w, "halt")
    run(w, "schedule", "pause", "risk", "--i-understand-nothing-guards")
    code, out, err = run(w, "resume")
    assert (code, out) == (2, "") and "job risk is paused, so that nothing would be guarded" in err
    assert w.engine().control()[0].state is Halt.HALTED
    run(w, "schedule", "resume", "risk")
    assert run(w, "resume")[0] == 0


def test_what_cannot_be_read_may_be_open(world: Any, run: Run) -> None:
    w = world()
    run(w, "halt")
    w.system.bus.database.write(
        """INSERT INTO documents VALUES ('control', 'desk', 1, '{"open_trades": 7}')
        ON CONFLICT DO UPDATE SET data = excluded.data"""
    )
    code, _, err = run(w, "schedule", "pause", "risk")
    assert code == 2 and "what is open cannot be read" in err


# -- with a halt -----------------------------------------------------------------------------------


def test_a_halt_may_stop_the_candles_never_the_sweep_and_resume_starts_them_again(world: Any, run: Run) -> None:
    w = world()
    code, out, _ = run(w, "halt", "--pause-jobs", "--why", "a storm")
    assert code == 0
    assert out.splitlines() == [
        "trading is HALTED: a storm",
        "ingest is paused: candles are not fetched until trading is resumed; the sweep goes on",
    ]
    assert states(run, w) == {"ingest": True, "risk": False}
    run(w, "halt", "--pause-jobs")
    code, out, _ = run(w, "resume", "--json")
    assert json.loads(out)["jobs"] == ["ingest runs again"]
    assert states(run, w) == {"ingest": False, "risk": False}
    assert json.loads(run(w, "resume", "--json")[1])["jobs"] == []


def test_a_pause_of_its_own_outlives_halt_and_resume(world: Any, run: Run) -> None:
    w = world()
    run(w, "schedule", "pause", "ingest", "--why", "the feed is wrong")
    run(w, "halt", "--pause-jobs")
    out = run(w, "resume")[1]
    assert "the feed is wrong" in out and "twinleg schedule show" in out
    assert states(run, w)["ingest"]


def test_only_a_halt_pauses_jobs(world: Any, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    w = world()
    for word in ("reduce", "flatten", "resume"):
        with pytest.raises(SystemExit) as ended:
            run(w, word, "--pause-jobs")
        assert ended.value.code == 2


def test_in_the_cloud_the_region_must_be_named(world: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    w = world()
    monkeypatch.setenv("TWINLEG_RUNTIME", "cloud")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "desk")
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    code, out, err = run(w, "schedule", "show")
    assert (code, out) == (2, "")
    assert err.startswith("twinleg: TWINLEG_REGION must name the region of the scheduled jobs, such as europe-west1")
