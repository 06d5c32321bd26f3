"""What the cost command counts with is measured again here: the file it reads fails when it is no longer true."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from twinleg import bootstrap

ROOT = Path(__file__).resolve().parents[2]
EXACT = (
    "reads",
    "writes",
    "deletes",
    "store_calls",
    "publishes",
    "pushes",
    "events",
    "venue_calls",
    "secret_reads",
    "series",
)
NEAR = ("publish_bytes", "push_bytes", "event_bytes", "venue_bytes_out", "venue_bytes_in", "log_bytes")
BYTES_NEAR = 200
CPU_TIMES_MAX, CPU_SECONDS_MIN = 5, 0.05
"""Another machine is not this one; but a call that takes five times as long is another call."""


def bench(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / f"bench/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def measured(firestore_host: str, pubsub_host: str) -> dict[str, Any]:
    kept = list(bootstrap._current)
    try:
        made: dict[str, Any] = bench("operations").measure(firestore_host, pubsub_host)
        return made
    finally:
        bootstrap._current[:] = kept


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "shared/twinleg/cost/operations.json").read_text())
    return read


STALE = "the work changed: run bench/operations.py, then bench/cost_pages.py, and look at what it did to the bill"


def test_every_piece_of_work_uses_what_the_file_says(measured: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert set(measured["work"]) == set(recorded["work"]), STALE
    for name, work in recorded["work"].items():
        again = measured["work"][name]
        assert {n: again.get(n, 0) for n in EXACT} == {n: work.get(n, 0) for n in EXACT}, f"{name}: {STALE}"
        for quantity in NEAR:
            assert again.get(quantity, 0) == pytest.approx(work.get(quantity, 0), rel=0.2, abs=BYTES_NEAR), (
                f"{name}: {STALE}"
            )
        allowed = max(CPU_SECONDS_MIN, CPU_TIMES_MAX * work.get("cpu_seconds", 0))
        assert again.get("cpu_seconds", 0) < allowed, f"{name}: {STALE}"


def test_what_is_kept_is_as_large_as_the_file_says(measured: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert measured["documents_a_trade"] == recorded["documents_a_trade"], STALE
    for name, size in recorded["stored_bytes"].items():
        assert measured["stored_bytes"][name] == pytest.approx(size, rel=0.2), f"{name}: {STALE}"


def test_a_quiet_sweep_costs_what_accounts_cost_not_positions(measured: dict[str, Any]) -> None:
    def operations(run: str) -> float:
        return sum(measured["runs"][run].get(name, 0) for name in ("reads", "writes", "deletes"))

    assert operations("sweep 2 positions") == operations("sweep 10 positions") <= 2 + 5
    assert operations("sweep 4 accounts, 4 positions") <= 4 + 5
    assert operations("sweep 2 positions changed") <= 2 + 2 + 5


def test_a_minute_of_a_market_costs_the_same_for_each(measured: dict[str, Any]) -> None:
    one, five = measured["runs"]["ingest 1 market"], measured["runs"]["ingest 5 markets"]
    for name in ("reads", "writes", "publishes"):
        assert five[name] == 5 * one[name]
    asked_once = 1  # the venue's list of markets with their prices holds all of them
    assert five["venue_calls"] - asked_once == 5 * (one["venue_calls"] - asked_once)
