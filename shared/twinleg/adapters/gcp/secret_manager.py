"""The Secrets port on Secret Manager, for secrets a function was not given in its environment."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud.secretmanager_v1 import SecretManagerServiceClient

from twinleg.adapters.gcp.client import ERRORS, PerProcess, soon_again
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.ports import Clock, Steps

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")


class SecretManagerSecrets:
    """Secrets of one project, kept in this process for *ttl_seconds* so that a rotated one is soon seen.

    The newest version is read, or the one that *versions* pins for a name. *endpoint* is for a
    stand-in of the service on this machine, and is called without credentials.

    Errors name the secret and the kind of failure, never what the service said: it may quote anything.
    """

    def __init__(
        self,
        project: str,
        clock: Clock,
        steps: Steps | None = None,
        *,
        ttl_seconds: int = 300,
        versions: Mapping[str, str] | None = None,
        endpoint: str = "",
        timeout_seconds: float = 5.0,
    ) -> None:
        self._project = project
        self._clock = clock
        self._steps = steps or Steps()
        self._ttl = timedelta(seconds=ttl_seconds)
        self._versions = dict(versions or {})
        self._endpoint = endpoint
        self._timeout_seconds = timeout_seconds
        self._client = PerProcess(self._connected)
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[datetime, str]] = {}

    def read(self, name: str) -> str:
        now = self._clock.now()
        with self._lock:
            read_at, value = self._kept.get(name, (None, ""))
        if read_at is not None and now - read_at < self._ttl:
            return value
        value = self._fetched(name)
        with self._lock:
            self._kept[name] = (now, value)
        return value

    def close(self) -> None:
        """Close this process's connection; the next use opens one again."""
        self._client.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._project!r})"

    def _fetched(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise BadInput(f"secret {name[:60]!r} has no name that Secret Manager could know")
        version = self._versions.get(name, "latest")
        self._steps.step(f"secrets.read {name}")
        try:
            answer = self._client().access_secret_version(
                name=f"projects/{self._project}/secrets/{name}/versions/{version}",
                retry=soon_again(self._timeout_seconds),
                timeout=self._timeout_seconds,
            )
            value = answer.payload.data.decode().rstrip("\r\n")
        except (NotFound, FailedPrecondition, InvalidArgument):
            raise BadInput(f"secret {name} is not in Secret Manager, or its version {version} is disabled") from None
        except UnicodeDecodeError:
            raise BadInput(f"secret {name} is not text") from None
        except ERRORS as error:
            raise Unavailable(f"secret {name}: Secret Manager failed ({type(error).__name__})") from None
        self._steps.step(f"secrets.read {name} done")
        if not value:
            raise BadInput(f"secret {name} is empty")
        return value

    def _connected(self) -> SecretManagerServiceClient:
        if not self._endpoint:
            return SecretManagerServiceClient(transport="rest")
        return SecretManagerServiceClient(
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            transport="rest",
            client_options=ClientOptions(api_endpoint=self._endpoint),
        )
