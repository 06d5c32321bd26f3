"""``twinleg up`` as a person runs it: a process, its webhook, its venue beside it, and what survives which death."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from twinleg.domain.errors import Unavailable
from twinleg.embedded.venue_process import VenueControl, running_venue
from twinleg.settings import example_text

SECRET = "story-Secret-7h3e"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("TWINLEG_")}
ENVIRON["TWINLEG_WEBHOOK_SECRET"] = SECRET


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def twinleg(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twinleg", *arguments], cwd=folder, env=ENVIRON, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def wait_for[T](look: Callable[[], T], seconds: float = 60) -> T:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return found


class Desk:
    """A configuration in a folder of its own, and the process that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, venue_port = folder, free_port(), free_port()
        self.config = folder / "twinleg.toml"
        self.venue = VenueControl(f"http://127.0.0.1:{venue_port}")
        text = example_text().replace("http://127.0.0.1:8790", self.venue.url)
        self.config.write_text(text.replace('strategies = ["macd", "tradingview"]', 'strategies = ["tradingview"]', 1))
        self.process: subprocess.Popen[bytes] | None = None
        self.venue_pids: set[int] = set()

    def start(self) -> None:
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "twinleg", "up", "--config", str(self.config), "--port", str(self.port)],
                cwd=self.folder, env=ENVIRON, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self.answers, 40)
        self.venue_pids.add(self.venue_pid())

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return self.post("{}", "wrong") == 401
        except urllib.error.URLError:
            return False

    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    def venue_pid(self) -> int:
        return int(self.venue.status()["pid"])

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def post(self, body: str, secret: str = SECRET) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{secret}", data=body.encode())
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return refusal.code

    def alert(self, action: str, id: str) -> str:
        fired = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return json.dumps({"ticker": "BTCUSDT.P", "action": action, "timenow": fired, "id": id})

    def listed(self, what: str) -> list[dict[str, Any]]:
        done = twinleg(what, "--json", "--config", str(self.config), folder=self.folder)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def states(self) -> list[str]:
        return [trade["state"] for trade in self.listed("trades")]

    def fills(self) -> list[tuple[str, str, str, str]]:
        return [(f["user"], f["side"], f["sz"], f["cloid"]) for f in self.venue.ledger()["fills"]]

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.venue_pids:
            if running_venue(self.venue.url) is not None and self.venue_pid() == pid:
                os.kill(pid, signal.SIGTERM)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.clean_up()


def is_gone(venue: VenueControl) -> bool:
    try:
        venue.status()
    except Unavailable:
        return True
    return False


def test_an_alert_is_a_hedged_trade_within_seconds_once_whatever_is_repeated_or_killed(desk):
    desk.start()
    first_venue = desk.venue_pid()
    buy = desk.alert("buy", "story-1")
    assert desk.post(buy, "wrong") == 401
    assert desk.post(buy, "") == 401
    assert desk.listed("trades") == []
    assert desk.post(buy) == 200
    wait_for(lambda: desk.states() == ["OPEN"])
    [trade] = desk.listed("trades")
    assert trade["direction"] == "long"
    assert trade["main"]["size_filled"] == trade["main"]["size_approved"] != "0"
    assert trade["hedge"]["size_filled"] == trade["hedge"]["size_approved"] != "0"
    assert (trade["main"]["side"], trade["hedge"]["side"]) == ("buy", "sell")
    positions = {p["id"]: p for p in desk.listed("positions")}
    assert {p["owner"] for p in positions.values()} == {trade["id"]}
    fills = desk.fills()
    assert len({user for user, *_ in fills}) == 2

    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(desk.post, [buy] * 10)) == {200}
    wait_for(lambda: sum(e["kind"] == "alert_duplicate" for e in desk.listed("audit")) == 10)
    assert desk.fills() == fills

    assert desk.end(signal.SIGKILL) == -signal.SIGKILL
    assert desk.venue_pid() == first_venue
    desk.start()
    assert desk.venue_pid() == first_venue
    assert desk.post(buy) == 200
    wait_for(lambda: sum(e["kind"] == "alert_duplicate" for e in desk.listed("audit")) == 11)
    [again] = desk.listed("trades")
    assert (again["id"], again["state"]) == (trade["id"], "OPEN")
    assert desk.fills() == fills

    done = twinleg("close", "--all", "--config", str(desk.config), folder=desk.folder)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: desk.states() == ["CLOSED"])
    assert len(desk.fills()) == 2 * len(fills)

    assert desk.end(signal.SIGTERM) == 0
    assert "Traceback" not in desk.log()
    for path in (p for p in desk.folder.rglob("*") if p.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
    wait_for(lambda: is_gone(desk.venue), 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told_to_and_takes_its_venue_along(desk, number):
    desk.start()
    assert desk.end(number) == 0
    assert "stopping" in desk.log()
    assert "Traceback" not in desk.log()
    [path] = desk.folder.rglob("logs/twinleg.jsonl")
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"ingest", "risk"} <= {line.get("function") for line in written}
    wait_for(lambda: is_gone(desk.venue), 10)


def test_a_venue_that_somebody_else_runs_is_used_and_left_running(desk):
    candles = desk.folder / "candles.csv"
    minute = int(time.time()) // 60 * 60_000 - 400 * 60_000
    rows = [f"{minute + n * 60_000},100000,100010,99990,100000,10" for n in range(900)]
    candles.write_text("\n".join(["ts_ms,open,high,low,close,volume", *rows]))
    theirs = subprocess.Popen(
        [sys.executable, "-m", "twinleg", "venue", "--port", desk.venue.url.rsplit(":", 1)[1], "--candles",
         str(candles), "--open-accounts"],
        cwd=desk.folder, env=ENVIRON, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: running_venue(desk.venue.url))
        desk.start()
        assert desk.venue_pid() == theirs.pid
        assert desk.end(signal.SIGTERM) == 0
        assert theirs.poll() is None
        assert desk.venue_pid() == theirs.pid
    finally:
        theirs.terminate()
        theirs.wait(10)


def test_a_port_in_use_is_said_in_one_line_and_leaves_nothing_behind(desk):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", desk.port))
        taken.listen()
        done = twinleg("up", "--config", str(desk.config), "--port", str(desk.port), folder=desk.folder)
    assert done.returncode in (1, 2)
    assert str(desk.port) in done.stderr
    assert "Traceback" not in done.stderr
    wait_for(lambda: is_gone(desk.venue), 10)
