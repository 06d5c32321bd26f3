"""Ends what a process started when that process has ended, in whatever way: a kill -9 included.

The keeper is a small process of its own that reads a pipe from us. When our end of it closes, because we said so
or because we are gone, it ends the process groups it was told of. It loads the standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

GRACE_SECONDS = 5.0
"""How long what was left behind is given to end by itself."""
_DONE = "done"


class Keeper:
    """Our end of it: ``watch`` every process group we start, ``forget`` those that ended, ``close`` at our end."""

    def __init__(self, keep_open: Sequence[int] = ()) -> None:
        """*keep_open* are descriptors (of a lock) that stay open until the keeper has ended everything."""
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )

    def watch(self, group: int) -> None:
        """A process that leads a group of its own was started."""
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        """It, and its group, have ended."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """End at once what is still there of what was watched, and then the keeper."""
        with self._lock:
            if self._process.stdin is None or self._process.stdin.closed:
                return
            try:
                self._process.stdin.write(f"{_DONE}\n")
                self._process.stdin.close()
            except OSError:  # it was killed: there is nobody to tell
                pass
        self._process.wait()

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._process.stdin is not None and not self._process.stdin.closed:
                try:
                    self._process.stdin.write(f"{line}\n")
                    self._process.stdin.flush()
                except OSError:
                    pass


def end_groups(groups: Sequence[int], grace_seconds: float) -> None:
    """SIGTERM, a while to obey, SIGKILL."""
    left = [group for group in groups if _signal(group, signal.SIGTERM)]
    pause = threading.Event()
    for _ in range(int(grace_seconds / 0.05)):
        left = [group for group in left if _signal(group, 0)]
        if not left:
            return
        pause.wait(0.05)
    for group in left:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _keep() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, None] = {}
    grace = GRACE_SECONDS
    for line in sys.stdin:
        word = line.strip()
        if word == _DONE:
            grace = 0.0
        elif word.startswith("+"):
            groups[int(word)] = None
        else:
            groups.pop(-int(word), None)
    end_groups(list(groups), grace)


if __name__ == "__main__":
    _keep()
