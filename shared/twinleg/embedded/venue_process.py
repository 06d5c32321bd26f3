"""The paper venue beside us: started as a process of its own, found again after our death, and steered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from twinleg.adapters.venues.hyperliquid_http import Channel, NetworkFault
from twinleg.domain.candles import Candle, ms_from_utc
from twinleg.domain.errors import Unavailable

READY_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class VenueControl:
    """The paper venue's own controls, which no real venue has (``/_sim/…``)."""

    url: str
    channel: Channel = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", Channel(self.url, 120.0))

    def advance_to(self, at: datetime) -> None:
        """Move the venue's clock: it walks the candles' path up to *at*."""
        self._post("/_sim/clock", {"now_ms": ms_from_utc(at)})

    def status(self) -> dict[str, Any]:
        return self._get("/_sim/status")

    def ledger(self) -> dict[str, Any]:
        """Everything the venue has booked: what our claims are checked against."""
        return self._get("/_sim/ledger")

    def faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Inject faults: lost answers, delays, refusals, partial fills."""
        self._post("/_sim/faults", list(rules))

    def clear_faults(self) -> None:
        self._request("DELETE", "/_sim/faults", b"")

    def switches(self, **values: Any) -> None:
        self._post("/_sim/switches", values)

    def _post(self, path: str, body: object) -> dict[str, Any]:
        return self._request("POST", path, json.dumps(body).encode())

    def _get(self, path: str) -> dict[str, Any]:
        return self._request("GET", path, None)

    def _request(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        try:
            status, text = self.channel.request(method, path, body)
        except NetworkFault as fault:
            raise Unavailable(f"paper venue at {self.url}: {fault}") from fault
        if status != 200:
            raise Unavailable(f"paper venue {path}: HTTP {status}: {text[:200]}")
        answer: dict[str, Any] = json.loads(text or "{}")
        return answer


@dataclass
class VenueProcess:
    """A running ``twinleg venue``. It outlives us unless it is told to stop."""

    control: VenueControl
    process: subprocess.Popen[str] | None
    left_behind: int | None = None
    """The process id of a venue that an earlier life of ours started and did not live to end."""

    def stop(self) -> None:
        """End the venue if we started it, in this life or an earlier one; anybody else's stays."""
        if self.left_behind is not None:
            os.kill(self.left_behind, signal.SIGTERM)
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start_venue(
    arguments: Sequence[str], log: Path, *, detached: bool = False, started: Callable[[int], None] | None = None
) -> VenueProcess:
    """Start ``twinleg venue ARGUMENTS`` and wait until it listens. *detached*: our death is not its death.

    *started* is told its process id as soon as it runs.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "twinleg", "venue", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=detached,
        )
    if started is not None:
        started(process.pid)
    assert process.stdout is not None
    line = process.stdout.readline()
    if "listening on " not in line:
        process.wait(timeout=READY_SECONDS_MAX)
        raise Unavailable(f"the paper venue did not start: {log.read_text()[-500:].strip() or line.strip()}")
    return VenueProcess(VenueControl(line.rsplit("listening on ", 1)[1].strip()), process)


def running_venue(url: str) -> VenueControl | None:
    """The paper venue that already answers at *url*, or None."""
    control = VenueControl(url)
    try:
        return control if control.status().get("ready") else None
    except Unavailable:
        return None


def write_candles(path: Path, candles: Sequence[Candle]) -> Path:
    """A candle file for a venue process to read."""
    rows = [f"{ms_from_utc(c.opened_at)},{c.open},{c.high},{c.low},{c.close},{c.volume}" for c in candles]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["ts_ms,open,high,low,close,volume", *rows]) + "\n")
    return path
