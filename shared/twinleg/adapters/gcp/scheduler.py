"""Cloud Scheduler's jobs, as far as a person needs them: list, pause, resume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud.scheduler_v1 import CloudSchedulerClient

from twinleg.adapters.gcp.client import ERRORS, PerProcess, soon_again, words
from twinleg.domain.errors import BadInput, Unavailable


@dataclass(frozen=True, slots=True)
class Job:
    """A scheduled call. ``next_at`` is when it is due; ``status`` 0 means its last call was answered with success."""

    name: str
    schedule: str
    paused: bool
    next_at: datetime | None
    last_at: datetime | None
    status: int


class SchedulerControl:
    """The jobs of one project and region; *endpoint* is for a stand-in of the service on this machine.

    Pausing ``risk`` stops the sweep that guards open positions: pause ``ingest``, or halt trading, instead.

    Errors: BadInput (no such job), Unavailable (not reached, or not permitted).
    """

    def __init__(self, project: str, region: str, *, endpoint: str = "", timeout_seconds: float = 5.0) -> None:
        self._parent = f"projects/{project}/locations/{region}"
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds
        self._client = PerProcess(self._connected)

    def jobs(self) -> list[Job]:
        """Every job, by name."""
        with _translated("the jobs"):
            found = [_job(job) for job in self._client().list_jobs(parent=self._parent, **self._call())]
        return sorted(found, key=lambda job: job.name)

    def pause(self, name: str) -> Job:
        """Stop calling until resumed; pausing what is paused changes nothing."""
        with _translated(f"job {name}"):
            return _job(self._client().pause_job(name=f"{self._parent}/jobs/{name}", **self._call()))

    def resume(self, name: str) -> Job:
        """Call again from the next time it is due."""
        with _translated(f"job {name}"):
            return _job(self._client().resume_job(name=f"{self._parent}/jobs/{name}", **self._call()))

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


def _job(job: Any) -> Job:
    return Job(
        name=job.name.rsplit("/", 1)[1],
        schedule=job.schedule,
        paused=job.state.name == "PAUSED",
        next_at=_time(job.schedule_time),
        last_at=_time(job.last_attempt_time),
        status=job.status.code,
    )


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
