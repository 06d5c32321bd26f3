"""Each function as a functions-framework server of its own, as in its container: started, watched, started again."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from twinleg.adapters.gcp.emulators import free_port
from twinleg.adapters.local.clocks import pause
from twinleg.bootstrap import functions_folder
from twinleg.domain.errors import Unavailable
from twinleg.embedded.keeper import Keeper
from twinleg.embedded.topology import FUNCTIONS
from twinleg.logs import FILE_BYTES_MAX

READY_SECONDS_MAX = 90.0
ENDING_SECONDS_MAX = 10.0
LOOK_SECONDS = 0.1
WAIT_SECONDS_MAX = 30.0
"""Before a server that ends again and again without ever answering is started once more."""
_OF_THE_SERVER = ("HOST", "PORT", "DEBUG", "WORKERS", "THREADS", "CLOUD_RUN_TIMEOUT_SECONDS")
_OF_THE_PLATFORM = ("FUNCTION_", "K_", "GUNICORN_")


class FunctionServer:
    """One function's server on 127.0.0.1, at another port after each start. What it writes goes to its log file."""

    def __init__(self, name: str, environ: Mapping[str, str], log: Path, keeper: Keeper) -> None:
        self.name, self.log = name, log
        self._keeper = keeper
        self._environ = _environment(name, environ)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._answered = False

    def start(self) -> None:
        """Start it; it answers a second or two later."""
        self.clear_up()
        self._port, self._answered = free_port(), False
        source = functions_folder() / self.name / "main.py"
        command = [sys.executable, "-m", "functions_framework", "--target", self.name, "--source", str(source)]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.is_file() and self.log.stat().st_size > FILE_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".jsonl.1"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self._port)],
                env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._keeper.watch(self._process.pid)

    def ended(self) -> int | None:
        """With what it ended; None while it runs."""
        return self._process.poll() if self._process is not None else 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def port(self) -> int | None:
        """Where it answers; None while it does not."""
        if self.ended() is not None:
            return None
        if not self._answered:
            self._answered = _answers(self._port)
        return self._port if self._answered else None

    @property
    def has_answered(self) -> bool:
        """Whether this start of it ever answered."""
        return self._answered

    def kill(self) -> None:
        """SIGKILL to it and all its workers."""
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def clear_up(self) -> None:
        """Take what is left of an ended one along: its workers outlive it by a moment."""
        if self._process is not None:
            self.kill()
            self._keeper.forget(self._process.pid)
            self._process = None

    def ask_to_end(self) -> None:
        """SIGTERM: it finishes what it is handling."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """End it, at the latest after ENDING_SECONDS_MAX."""
        self.ask_to_end()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING_SECONDS_MAX)
        self.clear_up()

    def last_words(self) -> str:
        """The last line of its log, and where the others are."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.is_file() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")
        return f"{last[:300]} (its log: {self.log})"


class FunctionServers:
    """All five, each started again when it dies, as Cloud Run would."""

    def __init__(self, environ: Mapping[str, str], logs: Path, keeper: Keeper, say: Callable[[str], None]) -> None:
        self.by_name = {name: FunctionServer(name, environ, logs / f"{name}.jsonl", keeper) for name in FUNCTIONS}
        self.restarts = dict.fromkeys(FUNCTIONS, 0)
        self._say = say
        self._down: set[str] = set()
        self._locks = {name: threading.Lock() for name in FUNCTIONS}
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="function-servers", daemon=True)

    def launch(self) -> None:
        """Start them side by side."""
        for server in self.by_name.values():
            server.start()

    def wait_until_ready(self, told_to_stop: Callable[[], bool] = lambda: False) -> None:
        """Return when all answer. Raises Unavailable with what the one that does not said."""
        for server in self.by_name.values():
            self._wait_for_first_answer(server, told_to_stop)
        self._watcher.start()

    def port(self, name: str, wait_seconds: float) -> int | None:
        """Where the function answers, waiting a while for one that is being started."""
        for _ in range(max(1, int(wait_seconds / 0.02))):
            found = self.by_name[name].port()
            if found is not None or self._stop.is_set():
                return found
            pause(0.02)
        return None

    def kill(self, name: str, *, stay_down: bool = False) -> None:
        """kill -9 of a function, workers and all. It is started again at once, unless it is to stay down."""
        with self._locks[name]:
            if stay_down:
                self._down.add(name)
            self.by_name[name].kill()

    def restart(self, name: str) -> None:
        """Kill it if it runs; returns when a new one answers."""
        with self._locks[name]:
            self._down.discard(name)
            self.by_name[name].start()
            self.restarts[name] += 1
        if self.port(name, READY_SECONDS_MAX) is None:
            raise Unavailable(f"{name} does not answer: {self.by_name[name].last_words()}")

    def stop(self) -> None:
        """End them all; none is started again."""
        self._stop.set()
        if self._watcher.is_alive():
            self._watcher.join()
        for server in self.by_name.values():
            server.ask_to_end()
        for server in self.by_name.values():
            server.stop()

    def _wait_for_first_answer(self, server: FunctionServer, told_to_stop: Callable[[], bool]) -> None:
        for _ in range(int(READY_SECONDS_MAX / 0.05)):
            if server.port() is not None:
                return
            if server.ended() is not None:
                raise Unavailable(f"{server.name} ended at its start with {server.ended()}: {server.last_words()}")
            if told_to_stop():
                raise Unavailable("told to stop while starting")
            pause(0.05)
        raise Unavailable(f"{server.name} did not answer within {READY_SECONDS_MAX:g} s: {server.last_words()}")

    def _watch(self) -> None:
        waits = dict.fromkeys(FUNCTIONS, 0.0)
        quiet = dict.fromkeys(FUNCTIONS, 0.0)
        while not self._stop.wait(LOOK_SECONDS):
            for name, server in self.by_name.items():
                quiet[name] = max(0.0, quiet[name] - LOOK_SECONDS)
                if name in self._down or server.ended() is None or quiet[name] > 0:
                    continue
                waits[name] = 0.0 if server.has_answered else min(max(2 * waits[name], 1.0), WAIT_SECONDS_MAX)
                quiet[name] = waits[name]
                self._start_again(name, server)

    def _start_again(self, name: str, server: FunctionServer) -> None:
        with self._locks[name]:
            code = server.ended()
            if code is None or name in self._down or self._stop.is_set():
                return
            self._say(f"{name} ended with {code}; it is started again (its log: {server.log})")
            server.start()
            self.restarts[name] += 1


def _environment(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a function's container: ours, without what would make it another server."""
    kept = {
        variable: value
        for variable, value in environ.items()
        if variable not in _OF_THE_SERVER and not variable.startswith(_OF_THE_PLATFORM)
    }
    return kept | {
        "FUNCTION_TARGET": name,
        "THREADS": str(FUNCTIONS[name].concurrency),
        "PYTHONUNBUFFERED": "1",
    }


def _answers(port: int) -> bool:
    """Whether the server is there. The framework answers this path itself; no function sees it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/robots.txt")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return
