"""``twinleg up --emulators`` as a person runs it: a webhook, an alert that trades, and nothing left behind."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from twinleg.adapters.gcp.emulators import FIRESTORE_VARIABLE, PUBSUB_VARIABLE, free_port
from twinleg.embedded.topology import FUNCTIONS
from twinleg.settings import example_text

SECRET = "story-Secret-9k2w"
START_SECONDS_MAX, SECONDS_MAX = 90, 40
pytestmark = pytest.mark.usefixtures(
    "firestore_host", "pubsub_host"
)  # skipped, or failed in CI, where they are missing


def wait_for[T](look: Callable[[], T], seconds: float = SECONDS_MAX) -> T:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return found


class Desk:
    """A configuration in a folder of its own, and the command that runs it; everything it starts bears a mark."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.mark = folder, free_port(), f"mark-{secrets.token_hex(8)}"
        self.config, self.shell = folder / "twinleg.toml", folder / "data" / "emulators.env"
        text = example_text().replace("http://127.0.0.1:8790", f"http://127.0.0.1:{free_port()}")
        self.config.write_text(text.replace('strategies = ["macd", "tradingview"]', 'strategies = ["tradingview"]', 1))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TWINLEG_")}
        self.environ = kept | {"TWINLEG_WEBHOOK_SECRET": SECRET, "DESK_MARK": self.mark}
        for name in (FIRESTORE_VARIABLE, PUBSUB_VARIABLE):
            self.environ.pop(name, None)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environ: str) -> None:
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.environ | environ,
                                            stdout=log, stderr=log)  # fmt: skip
        wait_for(lambda: "twinleg is up" in self.said() or self.process.poll() is not None, START_SECONDS_MAX)
        assert self.process.poll() is None, self.said()

    def fails(self, **environ: str) -> str:
        """What it says when it cannot start: one line."""
        done = subprocess.run(self.command, cwd=self.folder, env=self.environ | environ, capture_output=True,
                              text=True, timeout=START_SECONDS_MAX, check=False)  # fmt: skip
        assert done.returncode in (1, 2), done
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    @property
    def command(self) -> list[str]:
        made = [sys.executable, "-m", "twinleg", "up", "--emulators", "--config", str(self.config)]
        return [*made, "--port", str(self.port)]

    def said(self) -> str:
        return (self.folder / "up.log").read_text()

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(SECONDS_MAX)

    def running(self) -> list[str]:
        """Every process that was started by this desk and still runs."""
        shown = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
        return [line for line in shown.stdout.splitlines() if self.mark in line]

    def post(self, body: str, secret: str = SECRET) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{secret}", data=body.encode())
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return refusal.code

    def alert(self, action: str, id: str) -> str:
        fired = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return json.dumps({"ticker": "BTCUSDT.P", "action": action, "timenow": fired, "id": id})

    def listed(self, what: str) -> list[dict[str, Any]]:
        """What a command in another shell shows, told by the file where this system is."""
        script = f". {shlex.quote(str(self.shell))} && exec {shlex.quote(sys.executable)} -m twinleg {what} --json"
        done = subprocess.run(["sh", "-c", script], env=self.environ, capture_output=True, text=True, timeout=60,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.wait(SECONDS_MAX)


def test_an_alert_trades_both_legs_behind_the_emulators_and_nothing_is_left_at_the_end(desk: Desk) -> None:
    desk.start()
    assert desk.post("{}", "wrong") == 401
    assert desk.post(desk.alert("buy", "story-1")) == 200
    wait_for(lambda: [trade["state"] for trade in desk.listed("trades")] == ["OPEN"])
    [trade] = desk.listed("trades")
    assert trade["main"]["size_filled"] == trade["main"]["size_approved"] != "0"
    assert (trade["main"]["side"], trade["hedge"]["side"]) == ("buy", "sell")

    # kill -9 of the webhook's server, its workers too: the next alert waits for a new one, or is asked to come again
    killed = [int(line.split()[0]) for line in desk.running() if "--target webhook" in line]
    assert len(killed) == 2, "a server and its worker"
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    closing = desk.alert("close", "story-2")
    wait_for(lambda: desk.post(closing) == 200)
    wait_for(lambda: [trade["state"] for trade in desk.listed("trades")] == ["CLOSED"])
    assert "webhook ended with -9; it is started again" in desk.said()

    assert desk.end(signal.SIGTERM) == 0
    assert desk.running() == []
    assert "Traceback" not in desk.said() and "stopping" in desk.said()
    assert not desk.shell.exists()
    logs = {path.stem for path in (desk.folder / "data" / "logs").glob("*.jsonl")}
    assert logs >= set(FUNCTIONS)
    for path in (p for p in desk.folder.rglob("*") if p.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path


def test_after_a_kill_9_all_that_it_started_ends_and_the_next_one_starts(desk: Desk) -> None:
    desk.start()
    assert len(desk.running()) >= 2 * len(FUNCTIONS) + 5  # each a server and a worker; us, keeper, venue, emulators
    assert desk.end(signal.SIGKILL) == -signal.SIGKILL
    (desk.folder / "up.log").unlink()
    desk.start()  # at once: it waits for what is still ending
    assert desk.end(signal.SIGINT) == 0
    assert wait_for(lambda: desk.running() == [])


def test_a_port_in_use_is_said_in_one_line_and_leaves_nothing_behind(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", desk.port))
        taken.listen()
        assert f"127.0.0.1:{desk.port}" in desk.fails()
    assert desk.running() == []


def test_where_the_emulators_are_missing_it_says_how_to_get_them(desk: Desk, tmp_path: Path) -> None:
    said = desk.fails(PATH=str(tmp_path))
    assert "gcloud components install" in said
    assert desk.running() == []


def test_live_trading_on_records_that_are_forgotten_is_refused(desk: Desk) -> None:
    text = (
        desk.config.read_text()
        .replace('mode = "paper" ', 'mode = "live" ')
        .replace('network = "paper"', 'network = "testnet"')
    )
    text = text.replace('url = "http', '# url = "http').replace('# address = "0x..."', 'address = "0x{}"')
    main, hedge = "11" * 20, "22" * 20
    first, second = text.split("[accounts.hedge]")
    desk.config.write_text(
        first.replace("0x{}", f"0x{main}") + "[accounts.hedge]" + second.replace("0x{}", f"0x{hedge}")
    )
    assert "--emulators is for paper" in desk.fails()
