"""The Schedule port on Cloud Scheduler: its jobs, as far as a person needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]

from twinleg.adapters.gcp.client import ERRORS, PerProcess, soon_again, words
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.ports import Store
from twinleg.engine.schedule import JOBS, Job, Pause, note, pauses


class SchedulerControl:
    """The jobs of one project and region; *endpoint* is for a stand-in of the service on this machine.

    Scheduler is right about what is paused, also by somebody at the console; *store* holds who paused it and why.
    A run under way is finished. Needs the role roles/cloudscheduler.admin.
    """

    def __init__(
        self, project: str, region: str, store: Store, *, endpoint: str = "", timeout_seconds: float = 5.0
    ) -> None:
        self._store = store
        self._parent = f"projects/{project}/locations/{region}"
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds
        self._client = PerProcess(self._connected)

    def jobs(self) -> list[Job]:
        """Ours among the region's jobs."""
        with _translated("the jobs"):
            found = {_name(job): job for job in self._client().list_jobs(parent=self._parent, **self._call())}
        noted = pauses(self._store)
        return [_job(found[name], noted.get(name)) for name in JOBS if name in found]

    def pause(self, name: str, pause: Pause) -> None:
        note(self._store, _known(name), pause)  # first, because a note without a pause says nothing
        with _translated(f"job {name}"):
            self._client().pause_job(name=f"{self._parent}/jobs/{name}", **self._call())

    def resume(self, name: str) -> None:
        with _translated(f"job {_known(name)}"):
            self._client().resume_job(name=f"{self._parent}/jobs/{name}", **self._call())
        note(self._store, name, None)

    def close(self) -> None:
        """Close this process's connection; the next use opens one again."""
        self._client.close()

    def _call(self) -> dict[str, Any]:
        return {"retry": soon_again(self._timeout_seconds), "timeout": self._timeout_seconds}

    def _connected(self) -> CloudSchedulerClient:
        if not self._endpoint:
            return CloudSchedulerClient(transport="rest")
        return CloudSchedulerClient(
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            transport="rest",
            client_options=ClientOptions(api_endpoint=self._endpoint),
        )


def _name(job: Any) -> str:
    return str(job.name.rsplit("/", 1)[1])


def _known(name: str) -> str:
    if name not in JOBS:
        raise BadInput(f"job must be one of {', '.join(JOBS)}, was {name[:40]!r}")
    return name


def _job(job: Any, pause: Pause | None) -> Job:
    paused = job.state.name == "PAUSED"
    last_at = _time(job.last_attempt_time)
    return Job(
        name=_name(job),
        schedule=job.schedule,
        paused=paused,
        last_at=last_at,
        next_at=None if paused else _time(job.schedule_time),
        last_result=_result(job.status.code, job.status.message) if last_at else "",
        pause=pause if paused else None,
    )


def _result(code: int, message: str) -> str:
    if not code:
        return "ok"
    known = Code.Name(code) if code in Code.values() else str(code)
    return f"failed: {known} {message}".strip()[:200]


def _time(at: Any) -> datetime | None:
    return datetime.fromtimestamp(at.timestamp(), tz=at.tzinfo) if at else None


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (NotFound, FailedPrecondition, InvalidArgument) as error:
        raise BadInput(f"{what}: {words(error)}") from error
    except ERRORS as error:
        raise Unavailable(f"{what}: {words(error)}") from error
