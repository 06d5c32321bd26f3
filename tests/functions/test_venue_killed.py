"""``twinleg venue`` killed with SIGKILL while two SDK clients trade: what it answered is still so when it is back."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.utils.types import Cloid

SEED = 20261121
KILLS = 4
SPEED = 60
"""Of the venue's clock while they trade: resting orders fill between the requests too, and while it is down."""
EQUITY = 10_000
AFTER_RESTING = ("open", "filled", "canceled", "selfTradeCanceled")
"""What a resting order may have become: each wallet draws both sides, so it meets its own orders too."""
NETWORK = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
READY_SECONDS = 30


class Recorded(Exchange):
    """The SDK's own client; every signed body it sends is kept, with its answer or None."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.sent: list[list[Any]] = []
        super().__init__(*args, **kwargs)

    def post(self, url_path: str, payload: Any = None) -> Any:
        if url_path == "/exchange":
            self.sent.append([payload, None])
        answer = super().post(url_path, payload)
        if url_path == "/exchange":
            self.sent[-1][1] = answer
        return answer


class Trader(threading.Thread):
    """One wallet that trades until the venue is gone, and notes what it was told."""

    def __init__(self, number: int, wallet: Any, url: str, draw: random.Random, told: Told) -> None:
        super().__init__(daemon=True)
        self.number, self.url, self.draw, self.told = number, url, draw, told
        self.client = Recorded(wallet, url, timeout=10)
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while True:
                self.draw.choice((self.rest, self.rest, self.take, self.take, self.cancel, self.move, self.steer))()
        except NETWORK:
            pass
        except BaseException as error:
            self.failure = error

    def rest(self) -> None:
        mid = float(self.client.info.all_mids()["BTC"])
        buys = self.draw.random() < 0.5
        self.place(buys, 0.001, round(mid * (1 + self.draw.choice((0.0003, 0.3)) * (-1 if buys else 1))), "Gtc")

    def take(self) -> None:
        buys = self.draw.random() < 0.5
        self.place(buys, self.draw.choice((0.001, 0.002)), 130_000 if buys else 70_000, "Ioc")

    def place(self, buys: bool, size: float, price: float, tif: str) -> None:
        cloid = self.told.cloid()
        answer = self.client.order("BTC", buys, size, price, {"limit": {"tif": tif}}, cloid=cloid)
        (status,) = answer["response"]["data"]["statuses"]
        assert "error" not in status, status
        self.told.placed[cloid.to_raw()] = status
        if "resting" in status:
            self.told.resting[self.number].append(cloid)

    def cancel(self) -> None:
        mine = self.told.resting[self.number]
        if mine:
            cloid = mine.pop()
            answer = self.client.cancel_by_cloid("BTC", cloid)
            if answer["response"]["data"]["statuses"] == ["success"]:
                self.told.cancelled.add(cloid.to_raw())

    def move(self) -> None:
        amount = self.told.amount()
        answer = self.client.usd_class_transfer(float(amount), False)
        assert answer["status"] == "ok", answer
        self.told.moved.add(amount)

    def steer(self) -> None:
        answer = requests.post(f"{self.url}/_sim/clock", json={"step_ms": 7_000}, timeout=10).json()
        self.told.now_ms = max(self.told.now_ms, answer["now_ms"])
        address = self.client.wallet.address
        self.told.fills[address] = shown_fills(self.url, address)


class Told:
    """What the venue answered, over all of its lives."""

    def __init__(self) -> None:
        self.placed: dict[str, Any] = {}
        self.resting: tuple[list[Cloid], list[Cloid]] = ([], [])
        self.cancelled: set[str] = set()
        self.moved: set[str] = set()
        self.fills: dict[str, dict[int, Any]] = {}
        """Per address, by trade id."""
        self.now_ms = 0
        self.lock = threading.Lock()
        self.count = 0

    def cloid(self) -> Cloid:
        with self.lock:
            self.count += 1
            return Cloid.from_int(self.count)

    def amount(self) -> str:
        """An amount that is moved only once, so that it can be told from every other."""
        with self.lock:
            self.count += 1
            return f"{1 + self.count / 10_000:.4f}"


class Process:
    """The venue as a process, on the same port and ledger in each of its lives."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.arguments = ["--port", str(port), "--ledger", str(folder / "ledger.sqlite")]
        self.made = ["--generate", "calm", "--open-accounts", "--minutes", "600", "--history", "5"]
        self.running: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """The first life makes the market; the others have it from the ledger."""
        arguments, self.made = [*self.arguments, *self.made], []
        command = [sys.executable, "-m", "twinleg", "venue", *arguments]
        self.running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.running.stdout is not None and self.running.stderr is not None
        line = self.running.stdout.readline()
        assert line == f"paper venue listening on {self.url}\n", self.running.stderr.read()

    def clock(self, **values: Any) -> None:
        assert requests.post(f"{self.url}/_sim/clock", json=values, timeout=10).status_code == 200

    def kill(self) -> None:
        assert self.running is not None
        os.kill(self.running.pid, signal.SIGKILL)
        self.running.communicate(timeout=READY_SECONDS)

    def ledger(self) -> Any:
        return requests.get(f"{self.url}/_sim/ledger", timeout=10).json()


@pytest.fixture
def venue(tmp_path: Path):
    process = Process(tmp_path)
    process.start()
    yield process
    if process.running is not None and process.running.poll() is None:
        process.kill()


def trade_until_killed(venue: Process, wallets: list[Any], draw: random.Random, told: Told) -> list[list[Any]]:
    """Every signed body sent in this life, with its answer, or None where none came."""
    traders = [
        Trader(number, wallet, venue.url, random.Random(draw.random()), told) for number, wallet in enumerate(wallets)
    ]
    for trader in traders:
        trader.start()
    enough, later = draw.randint(8, 40), draw.uniform(0, 0.01)
    while sum(len(trader.client.sent) for trader in traders) < enough and all(trader.is_alive() for trader in traders):
        time.sleep(0.001)
    time.sleep(later)
    venue.kill()
    for trader in traders:
        trader.join(READY_SECONDS)
        if trader.failure is not None:
            raise trader.failure
    return [pair for trader in traders for pair in trader.client.sent]


def still_true(ledger: Any, told: Told) -> None:
    """Every answer of every life, against the ledger of the present one."""
    orders = {order["cloid"]: order for order in ledger["orders"] if order["cloid"]}
    cloids = Counter(order["cloid"] for order in ledger["orders"] if order["cloid"])
    assert not [cloid for cloid, times in cloids.items() if times > 1], "an order was doubled"
    filled: Counter[int] = Counter()
    for fill in ledger["fills"]:
        filled[fill["oid"]] += Decimal(fill["sz"])
    for cloid, status in told.placed.items():
        ((_, said),) = status.items()
        assert orders[cloid]["oid"] == said["oid"]
        if "filled" in status:
            assert orders[cloid]["status"] == "filled" and filled[said["oid"]] == Decimal(said["totalSz"])
        elif cloid in told.cancelled:
            assert orders[cloid]["status"] == "canceled"
        else:
            assert orders[cloid]["status"] in AFTER_RESTING
    moved = Counter(
        f"{Decimal(line['delta']['usdc']):.4f}" for line in ledger["transfers"] if line["delta"].get("usdc")
    )
    assert [moved[amount] for amount in told.moved] == [1] * len(told.moved)
    tids = Counter((fill["tid"], fill["user"]) for fill in ledger["fills"])
    assert all(times == 1 for times in tids.values())
    assert ledger["now_ms"] >= told.now_ms
    assert ledger["books"]["total"] == "0.0"
    for address, account in ledger["accounts"].items():
        kinds = ledger["books"]["by_kind"][address].values()
        assert Decimal(account["balance"]) == sum(map(Decimal, kinds))


def shown_fills(url: str, address: str) -> dict[int, Any]:
    rows = requests.post(f"{url}/info", json={"type": "userFills", "user": address}, timeout=10).json()
    return {fill["tid"]: fill for fill in rows}


def refused(url: str, body: Any) -> str:
    answer = requests.post(f"{url}/exchange", json=body, timeout=10).json()
    return "" if answer["status"] == "ok" else answer["response"]


def test_what_it_answered_is_so_after_every_kill_and_nothing_is_doubled(venue, tmp_path):
    draw, told, venue_time = random.Random(SEED), Told(), []
    wallets = [Account.from_key("0x" + digits * 32) for digits in ("31", "32")]
    unanswered = carried_out = 0
    for _ in range(KILLS):
        venue.clock(speed=SPEED)
        sent = trade_until_killed(venue, wallets, draw, told)
        venue.start()
        venue.clock(speed=0)
        ledger = venue.ledger()
        venue_time.append(ledger["now_ms"])
        still_true(ledger, told)
        for address, fills in told.fills.items():
            now = shown_fills(venue.url, address)
            assert {tid: now.get(tid) for tid in fills} == fills, "a fill that was shown is gone or another"
        for body, answer in sent:
            if answer is not None:
                assert refused(venue.url, body) == f"Invalid nonce: duplicate nonce {body['nonce']}"
        assert venue.ledger() == ledger, "signed bytes that were answered changed something when they came again"
        for body, answer in sent:
            if answer is None:
                unanswered += 1
                carried_out += refused(venue.url, body) == f"Invalid nonce: duplicate nonce {body['nonce']}"
                assert refused(venue.url, body) == f"Invalid nonce: duplicate nonce {body['nonce']}"
        still_true(venue.ledger(), told)
    before = venue.ledger()
    venue.kill()
    venue.start()
    assert venue.ledger() == before
    assert len(told.placed) > 20 and told.moved and told.cancelled and told.fills
    assert venue_time == sorted(set(venue_time)) and before["now_ms"] == venue_time[-1], "it runs on, and stands still"
    print(json.dumps({"placed": len(told.placed), "unanswered": unanswered, "carried_out": carried_out}))
