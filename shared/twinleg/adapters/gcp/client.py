"""What the adapters of Google's services share: one client a process, made when first used, and words for errors."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, RetryError, ServiceUnavailable
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError

ERRORS = (GoogleAPICallError, RetryError, GoogleAuthError)
"""All that Google's clients raise for what a service or the network does."""
CHANNEL_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class PerProcess[Client]:
    """A client for every thread of a process. After a fork each process makes its own and leaves the parent's alone.

    Fork before the first call: gRPC does not reliably survive a fork of a process that has used it.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[tuple[int, Client]] = []  # this process's is the last

    def __call__(self) -> Client:
        with self._lock:
            if not self._made or self._made[-1][0] != os.getpid():
                self._made.append((os.getpid(), self._make()))
            return self._made[-1][1]

    def close(self) -> None:
        """Close this process's client, if there is one; the next use makes another."""
        with self._lock:
            if self._made and self._made[-1][0] == os.getpid():
                client: Any = self._made.pop()[1]
                client.transport.close()


def soon_again(timeout_seconds: float) -> Retry:
    """Try again within the time given when the service was not reached; for calls that may be repeated."""
    return Retry(predicate=if_exception_type(ServiceUnavailable), initial=0.05, maximum=0.5, timeout=timeout_seconds)


def words(error: Exception) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
