"""Secret Manager and Scheduler have no emulator: Google's real clients, against an HTTP service of the test."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify
from werkzeug.serving import make_server

from twinleg.adapters.gcp.scheduler import SchedulerControl
from twinleg.adapters.gcp.secret_manager import SecretManagerSecrets
from twinleg.adapters.local.clocks import ReplayClock
from twinleg.adapters.local.store import SqliteStore
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.ports import Steps
from twinleg.engine.schedule import Pause, note

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = "0x4c0883a69102937d6231471b5dbb6204fe512961708279"


class Google:
    """The few answers of the two services' REST interfaces that we use."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], bytes] = {}
        self.paused: dict[str, bool] = {"ingest": False, "risk": False}
        self.asked: list[str] = []
        self.failing = 0
        app = Flask(__name__)
        app.get("/v1/projects/desk/secrets/<name>/versions/<version>:access")(self._access)
        app.get("/v1/projects/desk/locations/europe-west1/jobs")(self._jobs)
        app.post("/v1/projects/desk/locations/europe-west1/jobs/<name>:<verb>")(self._verb)
        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _access(self, name: str, version: str) -> Any:
        self.asked.append(f"{name}/{version}")
        if self.failing:
            return _error(self.failing, f"failing with {KEY} in hand")
        value = self.secrets.get((name, version))
        if value is None:
            return _error(404, f"Secret [{name}] not found, {KEY}")
        return jsonify(name=f"x/versions/{version}", payload={"data": base64.b64encode(value).decode()})

    def _jobs(self) -> Any:
        return jsonify(jobs=[self._job(name) for name in reversed(self.paused)])

    def _verb(self, name: str, verb: str) -> Any:
        if self.failing:
            return _error(self.failing, "no")
        if name not in self.paused:
            return _error(404, "Job not found")
        self.paused[name] = verb == "pause"
        return jsonify(self._job(name))

    def _job(self, name: str) -> dict[str, Any]:
        job: dict[str, Any] = {
            "name": f"projects/desk/locations/europe-west1/jobs/{name}",
            "schedule": "* * * * *",
            "state": "PAUSED" if self.paused[name] else "ENABLED",
        }
        if name == "risk":
            job |= {"lastAttemptTime": "2026-11-20T12:00:00Z", "status": {"code": 4, "message": "too slow"}}
        return job if self.paused[name] else job | {"scheduleTime": "2026-11-20T12:01:00Z"}


def _error(code: int, words: str) -> Any:
    return jsonify(error={"code": code, "message": words, "status": "X"}), code


@pytest.fixture
def google() -> Iterator[Google]:
    made = Google()
    yield made
    made.stop()


# -- secrets -------------------------------------------------------------------------------------


def _secrets(google: Google, clock: ReplayClock | None = None, **more: Any) -> SecretManagerSecrets:
    return SecretManagerSecrets("desk", clock or ReplayClock(NOON), endpoint=google.url, timeout_seconds=1, **more)


def test_a_secret_is_asked_for_once_until_it_is_old(google: Google) -> None:
    clock, names = ReplayClock(NOON), list[str]()
    secrets = _secrets(google, clock, steps=Steps(lambda _, name: names.append(name)))
    google.secrets["MAIN_KEY", "latest"] = f"{KEY}\n".encode()
    assert secrets.read("MAIN_KEY") == secrets.read("MAIN_KEY") == KEY
    google.secrets["MAIN_KEY", "latest"] = b"rotated"
    clock.sleep(299)
    assert secrets.read("MAIN_KEY") == KEY
    clock.sleep(1)
    assert secrets.read("MAIN_KEY") == "rotated"
    assert google.asked == ["MAIN_KEY/latest"] * 2
    assert names == ["secrets.read MAIN_KEY", "secrets.read MAIN_KEY done"] * 2


def test_a_pinned_version_is_the_one_that_is_read(google: Google) -> None:
    google.secrets["A", "3"], google.secrets["B", "latest"] = b"third", b"newest"
    secrets = _secrets(google, versions={"A": "3"})
    assert (secrets.read("A"), secrets.read("B")) == ("third", "newest")


@pytest.mark.parametrize("value", [None, b"", b"\n", b"\xff\xfe"])
def test_a_missing_empty_or_unreadable_secret_is_named_and_not_kept(google: Google, value: bytes | None) -> None:
    secrets = _secrets(google)
    if value is not None:
        google.secrets["MAIN_KEY", "latest"] = value
    with pytest.raises(BadInput, match="secret MAIN_KEY") as caught:
        secrets.read("MAIN_KEY")
    assert KEY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    google.secrets["MAIN_KEY", "latest"] = b"now it is there"
    assert secrets.read("MAIN_KEY") == "now it is there"


def test_a_name_that_would_be_another_address_is_not_asked_for(google: Google) -> None:
    for name in ("a/versions/1:access?x=", "", "..", "a b"):
        with pytest.raises(BadInput):
            _secrets(google).read(name)
    assert google.asked == []


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_service_that_fails_is_unavailable_and_its_words_are_not_repeated(google: Google, status: int) -> None:
    google.failing = status
    google.secrets["MAIN_KEY", "latest"] = KEY.encode()
    with pytest.raises(Unavailable, match="secret MAIN_KEY: Secret Manager failed") as caught:
        _secrets(google).read("MAIN_KEY")
    assert KEY not in str(caught.value) and caught.value.__suppress_context__


def test_a_secret_that_was_read_survives_an_outage_until_it_is_old(google: Google) -> None:
    clock = ReplayClock(NOON)
    secrets = _secrets(google, clock)
    google.secrets["A", "latest"] = b"v"
    secrets.read("A")
    google.failing = 500
    assert secrets.read("A") == "v"
    clock.sleep(300)
    with pytest.raises(Unavailable):
        secrets.read("A")


def test_no_representation_shows_a_value(google: Google) -> None:
    google.secrets["A", "latest"] = KEY.encode()
    secrets = _secrets(google)
    secrets.read("A")
    assert f"{secrets!r} {secrets}" == "SecretManagerSecrets('desk') SecretManagerSecrets('desk')"


# -- scheduler -----------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "twinleg.db", synchronous="NORMAL")
    yield made
    made.close()


def _control(google: Google, store: SqliteStore) -> SchedulerControl:
    return SchedulerControl("desk", "europe-west1", store, endpoint=google.url, timeout_seconds=1)


PAUSE = Pause(why="a test", by="ada", since=NOON)


def test_jobs_are_listed_paused_and_resumed(google: Google, store: SqliteStore) -> None:
    control = _control(google, store)
    google.paused["somebody-elses"] = False
    ingest, risk = control.jobs()
    assert (ingest.name, ingest.schedule, ingest.paused, ingest.pause) == ("ingest", "* * * * *", False, None)
    assert (ingest.next_at, ingest.last_at, ingest.last_result) == (NOON.replace(minute=1), None, "")
    assert (risk.name, risk.last_at, risk.last_result) == ("risk", NOON, "failed: DEADLINE_EXCEEDED too slow")
    for _ in range(2):
        control.pause("ingest", PAUSE)
        ingest, risk = control.jobs()
        assert (ingest.paused, ingest.pause, ingest.next_at) == (True, PAUSE, None)
        assert not risk.paused
    for _ in range(2):
        control.resume("ingest")
        assert [(job.paused, job.pause) for job in control.jobs()] == [(False, None)] * 2
    control.close()


def test_scheduler_is_right_about_what_is_paused(google: Google, store: SqliteStore) -> None:
    """Somebody used the console: a pause nobody noted is one, and a note without a pause is none."""
    control = _control(google, store)
    google.paused["risk"] = True
    note(store, "ingest", PAUSE)
    assert [(job.name, job.paused, job.pause) for job in control.jobs()] == [
        ("ingest", False, None), ("risk", True, None),
    ]  # fmt: skip


def test_a_job_that_is_not_there_is_named_and_an_outage_is_unavailable(google: Google, store: SqliteStore) -> None:
    control = _control(google, store)
    for job in ("sweep", "risk:run?x="):
        with pytest.raises(BadInput, match="job must be one of ingest, risk"):
            control.pause(job, PAUSE)
    del google.paused["ingest"]
    with pytest.raises(BadInput, match="job ingest"):
        control.resume("ingest")
    for google.failing in (403, 503):
        with pytest.raises(Unavailable, match="job risk"):
            control.resume("risk")
        with pytest.raises(Unavailable, match="job risk"):
            control.pause("risk", PAUSE)
