"""``twinleg up``: everything on this machine, by the wall's clock, until it is told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twinleg import logs
from twinleg.bootstrap import local_system
from twinleg.domain.errors import BadInput
from twinleg.domain.ids import coin_of
from twinleg.embedded.runtime import Runtime, prepare
from twinleg.embedded.venue_process import VenueProcess, running_venue, start_venue, write_candles

if TYPE_CHECKING:
    from twinleg.settings import Settings


LEDGER = "venue.sqlite"


def run_up(settings: Settings, environ: Mapping[str, str], port: int | None) -> int:
    """Start the paper venue if there is none yet, prepare its accounts, serve, and end cleanly on a signal."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    logs.to_file(Path(settings.storage.path).parent / "logs" / "twinleg.jsonl")
    venue = paper_venue(settings, Path(settings.storage.path).parent)
    try:
        system = local_system(settings, environ)
        prepare(system)
        runtime = Runtime(system)
        runtime.call("ingest")  # so that an alert in the first minute finds candles, and the sweep's first look is now
        runtime.call("risk")
        served = runtime.serve_webhook(settings.webhook.port if port is None else port)
        runtime.start()
        _say(settings, served)
        stop.wait()
        print("stopping: what is in flight is finished, the rest resumes at the next start", flush=True)
        runtime.stop()
    finally:
        if venue is not None:
            venue.stop()
    return 0


def paper_venue(settings: Settings, folder: Path, started: Callable[[int], None] | None = None) -> VenueProcess | None:
    """The paper venue at the configured address: the one that runs already, or a new process of its own.

    It keeps its own ledger in *folder*, so that a death of ours finds it as it was. *started* is told its process id.
    """
    paper = [venue for venue in settings.venues.values() if venue.network == "paper"]
    if not paper:
        return None
    url = str(paper[0].url)
    note = folder / "venue.pid"
    running = running_venue(url)
    if running is not None:
        pid = running.status().get("pid")
        ours = note.is_file() and note.read_text().strip() == str(pid)
        return VenueProcess(running, None, int(str(pid)) if ours else None)
    arguments = ["--port", url.rsplit(":", 1)[1], "--volume-gates", "--open-accounts"]
    arguments += ["--equity", str(settings.paper.equity)]
    arguments += ["--speed", str(settings.paper.speed), "--ledger", str(folder / LEDGER)]
    arguments += ["--candles", str(_candles(settings, folder)), "--market", coin_of(str(settings.paper.market))]
    venue = start_venue(arguments, folder / "venue.log", detached=True, started=started)
    note.write_text(str(venue.control.status().get("pid")))
    return venue


def _candles(settings: Settings, folder: Path) -> Path:
    """The recorded candles that paper trading plays from now on."""
    named = str(settings.paper.candles)
    if named != "packaged":
        if not Path(named).is_file():
            raise BadInput(f"paper.candles: there is no file {named!r}")
        return Path(named)
    from twinleg.adapters.local.candle_files import packaged_candles

    return write_candles(folder / "packaged-candles.csv", packaged_candles())


def _say(settings: Settings, port: int) -> None:
    markets = ", ".join(m.market for m in settings.markets)
    print(f"twinleg is up: {markets} in {settings.mode} mode; records in {settings.storage.path}", flush=True)
    print(f"webhook: http://127.0.0.1:{port}/SECRET  (the secret is named {settings.webhook.secret})", flush=True)
    if settings.mode == "paper":
        print(f"on paper the secret is 'paper' unless you set it: http://127.0.0.1:{port}/paper", flush=True)
    print("look at it from another shell: twinleg trades, twinleg accounts, twinleg audit; Ctrl-C ends it", flush=True)
