"""Killed with SIGKILL at seeded moments and started again, a run ends with the fills of the run that was never killed.

The venue is a process of its own and lives on. Each life of ours is a real process that kills itself, without
warning, immediately before or after one of its effects on the store, the bus or the venue.
"""

import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from twinleg.adapters.local.clocks import ReplayClock
from twinleg.adapters.local.store import SqliteStore
from twinleg.bootstrap import function_app, local_system
from twinleg.domain.candles import MINUTE, Candle
from twinleg.embedded.replay import alert_json, settings_text, venue_now
from twinleg.embedded.runtime import Runtime, prepare
from twinleg.embedded.venue_process import VenueControl, VenueProcess, start_venue, write_candles
from twinleg.engine.ports import Steps
from twinleg.settings import parse

START = datetime(2025, 1, 6, 0, 0, tzinfo=UTC)
HISTORY, MINUTES = 30, 40
KILLS = 100
SCRIPT = {
    "limits": {"entries_per_hour_max": "30", "holding_seconds_max": "420"},
    "market": {"strategies": '["tradingview"]'},
}
ALERTS = {
    2: ("buy", "k1"),
    8: ("close", "k2"),
    10: ("sell", "k3"),
    20: ("buy", "k4"),
    26: ("buy", "k5"),
    31: ("sell", "k6"),
}


def candles() -> list[Candle]:
    """Calm, with a fall that reaches a stop and a rise that reaches a target."""
    wander, price, found = random.Random(11), 100_000, []
    for number in range(HISTORY + MINUTES + 2):
        minute = number - HISTORY
        step = {22: -900, 23: -900, 28: 1300, 29: 1300}.get(minute, wander.randint(-20, 20))
        close = price + step
        high, low = max(price, close) + 5, min(price, close) - 5
        found.append(Candle(START + number * MINUTE, *map(Decimal, (price, high, low, close, 10))))
        price = close
    return found


@contextmanager
def venue(folder: Path) -> Iterator[VenueProcess]:
    folder.mkdir()
    first = START + HISTORY * MINUTE
    arguments = [
        "--manual", "--open-accounts", "--candles", str(write_candles(folder / "c.csv", candles())),
        "--market", "BTC", "--ledger", str(folder / "venue.sqlite"), "--start", first.isoformat(),
    ]  # fmt: skip
    running = start_venue(arguments, folder / "venue.log")
    try:
        yield running
    finally:
        running.stop()


def life(url: str, folder: Path, die_at: int | None) -> None:
    """One life: take up the run wherever it stands, and go on to its end, or to the step we die at."""

    def on_step(count: int, name: str) -> None:
        if count == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    control = VenueControl(url)
    clock = ReplayClock(venue_now(control))
    clock.follow(control.advance_to)
    steps = Steps(on_step)
    system = local_system(
        parse(settings_text("BTC", url, SCRIPT), {}), {}, clock=clock, steps=steps, path=folder / "t.sqlite"
    )
    runtime = Runtime(system)
    prepare(system)
    webhook = function_app("webhook").test_client()
    first = START + HISTORY * MINUTE
    reached = int((clock.now() - first) / MINUTE)
    for minute in range(max(1, reached), MINUTES + 1):
        closed_at = first + minute * MINUTE
        runtime.minute(closed_at + timedelta(seconds=1))
        if minute in ALERTS:
            action, id = ALERTS[minute]
            webhook.post("/paper", data=alert_json("BTC", action, closed_at, id))
            runtime.bus.deliver_due(clock.now())
    (folder / "done").touch()
    (folder / "steps").write_text(str(steps.count))


def run(folder: Path, rng: random.Random | None, mean_steps: int = 0) -> tuple[Counter, int]:
    """A whole run, killed whenever *rng* says so; the fills per trade, leg and purpose, and the kills."""
    context = multiprocessing.get_context("fork")
    kills = 0
    with venue(folder) as running:
        while not (folder / "done").exists():
            die_at = rng.randint(1, 2 * mean_steps) if rng and kills < KILLS else None
            process = context.Process(target=life, args=(running.control.url, folder, die_at))
            process.start()
            process.join(120)
            if process.exitcode == -signal.SIGKILL:
                kills += 1
            else:
                assert process.exitcode == 0, f"life ended with {process.exitcode}"
        return fills_per_trade(running.control, folder), kills


def fills_per_trade(control: VenueControl, folder: Path) -> Counter:
    """(trade, leg, purpose, side) → size filled, from the venue's ledger; our records only name the client ids."""
    orders = {o.id: o.data for o in SqliteStore(folder / "t.sqlite").query("orders")}
    found: Counter = Counter()
    for fill in control.ledger()["fills"]:
        order = orders.get(fill.get("cloid"))
        key = (order["trade_id"], order["leg"], order["purpose"]) if order else ("?", fill["user"], fill.get("cloid"))
        found[(*key, fill["side"])] += Decimal(fill["sz"])
    return found


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory) -> tuple[Counter, int]:
    folder = tmp_path_factory.mktemp("unkilled") / "run"
    fills, _ = run(folder, None)
    return fills, int((folder / "steps").read_text())


def test_the_run_itself_opens_and_closes_trades(unkilled):
    fills, steps = unkilled
    assert len({key[0] for key in fills}) >= 4
    assert {key[2] for key in fills} >= {"entry", "close", "stop"}
    assert steps > 10 * KILLS


@pytest.mark.parametrize("seed", [1])
def test_a_hundred_kills_change_no_fill(unkilled, tmp_path, seed):
    expected, steps = unkilled
    fills, kills = run(tmp_path / "run", random.Random(seed), max(2, steps // KILLS))
    print(f"seed {seed}: {kills} kills over a run of {steps} steps")
    assert kills == KILLS
    assert fills == expected, f"seed {seed}"
