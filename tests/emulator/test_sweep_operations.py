"""What a sweep costs does not grow with the positions: counted where Firestore is asked, as it bills."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench/sweep.py"
ACCOUNTS = 2


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_sweep", BENCH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def operations(row: Any) -> int:
    return int(row.used.reads + row.used.writes + row.used.deletes)


@pytest.mark.parametrize("positions", [100, 1000])
def test_a_sweep_costs_what_accounts_and_changes_cost(bench: ModuleType, firestore_host: str, positions: int) -> None:
    desk = bench.SweepBench(positions, firestore_host)
    try:
        quiet = [desk.quiet() for _ in range(12)]
        risk, trades = desk.risk(), desk.cut()
        after = [desk.quiet() for _ in range(2)]
    finally:
        desk.close()
    assert max(map(operations, quiet)) <= ACCOUNTS + 5
    assert operations(risk) <= ACCOUNTS + 10 + 5
    assert max(trades.used.reads, trades.used.writes) <= ACCOUNTS + 10 + 5
    assert operations(trades) <= ACCOUNTS + 10 + 5 + 2 * 5 - 2  # and each of the 5 trades is read and unmarked once
    assert max(map(operations, after)) <= ACCOUNTS + 5
    assert max(row.seconds for row in quiet) < 5


def test_lost_books_are_rebuilt_in_one_sweep(bench: ModuleType, firestore_host: str) -> None:
    desk = bench.SweepBench(60, firestore_host)
    try:
        lost, after = desk.lost(), [desk.quiet() for _ in range(2)]
    finally:
        desk.close()
    assert operations(lost) > 60
    assert max(map(operations, after)) <= ACCOUNTS + 5
