"""``twinleg up --emulators``: Google Cloud's system on this machine, by the wall's clock, until it is told to stop."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from twinleg import logs
from twinleg.adapters.gcp.emulators import FIRESTORE_VARIABLE, PUBSUB_VARIABLE, Emulator
from twinleg.adapters.local.clocks import pause
from twinleg.bootstrap import PROJECT_VARIABLE, RUNTIME_VARIABLE
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.embedded.emulated import Emulated, Emulators, start_emulators
from twinleg.embedded.keeper import GRACE_SECONDS, Keeper
from twinleg.embedded.topology import FUNCTIONS
from twinleg.embedded.up import LEDGER, paper_venue
from twinleg.embedded.venue_process import VenueProcess
from twinleg.settings_read import CONFIG_VARIABLE

if TYPE_CHECKING:
    from twinleg.settings import Settings

LOCK, ENVIRONMENT = "emulators.lock", "emulators.env"
EARLIER_SECONDS_MAX = GRACE_SECONDS + 5.0
"""How long what an earlier life left behind is given to be gone."""
NEEDED_ELSEWHERE = (RUNTIME_VARIABLE, PROJECT_VARIABLE, FIRESTORE_VARIABLE, PUBSUB_VARIABLE, CONFIG_VARIABLE)
"""What a command in another shell must know to act on this system."""


def run_up_emulated(settings: Settings, environ: Mapping[str, str], port: int | None) -> int:
    """Start emulators, paper venue and function servers, call them each minute, and end all of it on a signal."""
    if settings.mode != "paper":
        raise BadInput(
            f"--emulators is for paper: the emulators forget all records at their end; mode was {settings.mode}"
        )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    folder = Path(settings.storage.path).parent
    folder.mkdir(parents=True, exist_ok=True)
    logs.to_file(folder / "logs" / "twinleg.jsonl")
    with ExitStack() as stack:
        try:
            _run(settings, environ, port, folder, stop, stack)
        except Unavailable:
            if not stop.is_set():
                raise
        if stop.is_set():
            _say("stopping: what is in flight is finished; the emulators forget the rest")
    return 0


def _run(
    settings: Settings,
    environ: Mapping[str, str],
    port: int | None,
    folder: Path,
    stop: threading.Event,
    stack: ExitStack,
) -> None:
    port = settings.webhook.port if port is None else port
    lock = stack.enter_context(_only_one(folder))
    _can_listen(port)
    keeper = Keeper(keep_open=[lock])
    stack.callback(keeper.close)
    emulators = start_emulators(environ, keeper)
    stack.callback(emulators.stop)
    _unless(stop)
    venue = _venue(settings, folder / "emulators", emulators, keeper)
    if venue is not None:
        stack.callback(venue.stop)
    _unless(stop)
    system = Emulated(settings, environ, emulators, keeper, logs=folder / "logs", say=_say_aside)
    stack.callback(system.stop)
    served = _webhook(system, port)
    system.start(stop.is_set)
    for name in ("ingest", "risk"):  # so that an alert in the first minute finds candles, and the sweep's look is now
        system.call(name)
    system.start_scheduler()
    shell = _write_environment(system, folder)
    stack.callback(shell.unlink, missing_ok=True)
    _say_all(system, served, folder, shell)
    while not stop.wait(0.5):
        _still_there(emulators, venue)


def _unless(stop: threading.Event) -> None:
    if stop.is_set():
        raise Unavailable("told to stop while starting")


# -- one at a time ---------------------------------------------------------------------------------


@contextmanager
def _only_one(folder: Path) -> Iterator[int]:
    """The lock of this folder. What an earlier life left behind holds it until it is gone."""
    path = folder / LOCK
    with path.open("a+") as file:
        for _ in range(int(EARLIER_SECONDS_MAX / 0.1)):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                pause(0.1)
        else:
            file.seek(0)
            raise Unavailable(
                f"twinleg up --emulators (process {file.read().strip() or 'unknown'}) runs on {folder} already: "
                "end it first, or give this one another storage.path"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


# -- parts -----------------------------------------------------------------------------------------


def _venue(settings: Settings, folder: Path, emulators: Emulators, keeper: Keeper) -> VenueProcess | None:
    """The paper venue. With empty records it begins anew too: positions that nobody remembers would be orphans."""
    folder.mkdir(parents=True, exist_ok=True)
    begins_anew = emulators.firestore.process is not None
    if begins_anew:
        for path in folder.glob(f"{LEDGER}*"):
            path.unlink()
    venue = paper_venue(settings, folder, keeper.watch)
    if venue is not None and venue.process is None and begins_anew and (fills := venue.control.ledger()["fills"]):
        raise Unavailable(
            f"the paper venue at {venue.control.url} (process {venue.control.status().get('pid')}) holds {len(fills)} "
            "fills that these emulators know nothing of: end it, or set another port in the venue's url"
        )
    return venue


def _webhook(system: Emulated, port: int) -> int:
    try:
        return system.serve_webhook(port)
    except OSError as error:
        raise _taken(port, error) from error


def _can_listen(port: int) -> None:
    """Say that the port is taken before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _taken(port, error) from error


def _taken(port: int, error: OSError) -> Unavailable:
    return Unavailable(f"the webhook cannot listen on 127.0.0.1:{port}: {error.strerror}; try --port")


def _still_there(emulators: Emulators, venue: VenueProcess | None) -> None:
    """Raise when an emulator or the venue has ended: what it held is gone, and going on would trade on nothing."""
    named: list[tuple[str, Emulator]] = [("Firestore", emulators.firestore), ("Pub/Sub", emulators.pubsub)]
    for name, emulator in named:
        if emulator.process is not None and emulator.process.poll() is not None:
            raise Unavailable(f"the {name} emulator ended with {emulator.process.returncode}; its records are gone")
    if venue is not None and venue.process is not None and venue.process.poll() is not None:
        raise Unavailable(f"the paper venue ended with {venue.process.returncode}")


# -- what a person is told -------------------------------------------------------------------------


def _write_environment(system: Emulated, folder: Path) -> Path:
    path = folder / ENVIRONMENT
    given = {name: system.environ[name] for name in NEEDED_ELSEWHERE if name in system.environ}
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in given.items()))
    return path


def _say_all(system: Emulated, port: int, folder: Path, shell: Path) -> None:
    settings = system.settings
    markets = ", ".join(m.market for m in settings.markets)
    _say(f"twinleg is up behind the emulators: {markets} in {settings.mode} mode")
    for name in (PROJECT_VARIABLE, FIRESTORE_VARIABLE, PUBSUB_VARIABLE):
        _say(f"  {name}={system.environ[name]}")
    _say(f"  {len(FUNCTIONS)} function servers; their logs: {folder / 'logs'}")
    _say(f"webhook: http://127.0.0.1:{port}/SECRET  (the secret is named {settings.webhook.secret})")
    _say(f"on paper the secret is 'paper' unless you set it: http://127.0.0.1:{port}/paper")
    _say(f"look at it from another shell: . {shell}; twinleg trades, twinleg accounts, twinleg tail; Ctrl-C ends it")


def _say(text: str) -> None:
    print(text, flush=True)


def _say_aside(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
