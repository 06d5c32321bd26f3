"""The crash report: guarded trades on small crashes made for the purpose, and the command that prints it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from twinleg.cli import main
from twinleg.domain.candles import MINUTE, Candle
from twinleg.domain.errors import BadInput
from twinleg.simulate.crash import DayRuns, as_json, hedge_cost, leverages_of, run_day
from twinleg.simulate.crash_days import (
    HISTORY,
    CrashDay,
    coin_of_file,
    days_of_file,
    deepest_fall,
    minute_candles,
    synthetic_days,
)
from twinleg.simulate.crash_page import page, verdict
from twinleg.simulate.crash_run import EQUITY_USD, Liquidated

D = Decimal
REAL = Path(__file__).parents[3] / "shared" / "data" / "dev" / "candles"
"""Recordings that are not part of the product: an extra where they are at hand."""
START = datetime(2025, 1, 6, 12, tzinfo=UTC)


def day_of(*moves: tuple[float, float], quiet: int = 12, coin: str = "BTC") -> CrashDay:
    """A quiet stretch, then these minutes (jump at the open, move within, as fractions), then a quiet one again."""
    price, candles = 100_000.0, []
    for number, (jump, move) in enumerate([(0.0, 0.0)] * (HISTORY + quiet) + list(moves) + [(0.0, 0.0)] * quiet):
        opened = price * (1 + jump)
        price = opened * (1 + move)
        o, c = D(f"{opened:.0f}"), D(f"{price:.0f}")
        wick = D(60)  # enough for the gate to see a market that moves
        at = START + (number - HISTORY) * MINUTE
        candles.append(Candle(at, o, max(o, c) + wick, min(o, c) - wick, c, D(10)))
    low_at, fall = deepest_fall(candles[HISTORY:])
    return CrashDay("made", coin, "a test", True, tuple(candles), low_at, fall)


def ran(day: CrashDay, *leverages: int) -> DayRuns:
    return run_day(day, leverages, {}, lambda _: None)


@pytest.fixture(scope="module")
def fall() -> DayRuns:
    """12 % in four minutes."""
    return ran(day_of(*[(0.0, -0.03)] * 4), 10, 40)


def test_no_guarded_position_is_liquidated_where_bare_ones_are(fall: DayRuns) -> None:
    for run in fall.runs:
        assert run.guarded.trades and not run.guarded.liquidated and not run.alone.liquidated
        assert run.bare.liquidated, "without a stop the fall would have taken the main leg"
        assert run.guarded.points_per_candle >= 20
        assert min(equity for _, equity in run.guarded.curve) >= min(equity for _, equity in run.alone.curve)
    said = as_json([fall])
    assert (said["guarded_liquidations"], said["exceptions"]) == (0, [])
    assert "no position reached liquidation" in verdict([fall])


def test_where_no_trade_was_made_nothing_is_claimed(fall: DayRuns) -> None:
    refused = [
        replace(r, guarded=replace(r.guarded, trades=[], refused=Counter(depth=n))) for n, r in enumerate(fall.runs, 2)
    ]
    assert verdict([replace(fall, runs=refused)]) == "No trade was made, so that nothing is shown. Refused: depth 5."


def test_what_the_hedge_cost_adds_up_to_the_difference_it_made(fall: DayRuns) -> None:
    """Both runs trade the same main legs, so the two curves end apart by the hedge's net cost (and by slippage)."""
    for run in fall.runs:
        cost = run.hedge
        assert cost == hedge_cost(run.guarded.trades) and cost.fees > 0 and cost.gained > 0
        assert cost.net == cost.fees + cost.funding + cost.given_up - cost.gained
        apart = run.alone.curve[-1][1] - run.guarded.curve[-1][1]
        assert abs(apart - cost.net) < D("0.0005") * 2 * EQUITY_USD


def test_every_run_trades_at_the_leverage_asked_for(fall: DayRuns) -> None:
    assert [{trade.main.leverage for trade in run.guarded.trades} for run in fall.runs] == [{10}, {40}]
    assert leverages_of("ETH", (5, 25, 40)) == [5, 25], "the venue allows 25 for ETH"


def test_a_gap_past_stop_and_liquidation_at_once_is_listed_with_the_jump() -> None:
    """30 % between two candles: the mark is beyond liquidation at the point where the stop first hears of it."""
    one = ran(day_of((-0.30, 0.0)), 40)
    [run] = one.runs
    [row] = run.guarded.liquidated
    assert row.jumped and not run.without_jump
    first = [next(at for at, equity in c if equity < 19_960) for c in (run.alone.curve, run.bare.curve)]
    assert len(set(first)) == 1, "the curves are of the same moments"
    assert [at for at, _ in run.guarded.curve] == [at for at, _ in run.alone.curve] == [at for at, _ in run.bare.curve]
    assert row.stop_price is not None and row.liquidation_price is not None
    assert row.mark_before > row.stop_price > row.liquidation_price > row.mark_after
    said = as_json([one])
    assert said["guarded_liquidations"] == 1 and said["guarded_liquidations_without_jump"] == 0
    [listed] = said["exceptions"]
    assert listed["jumped"] and listed["mark_before"] == str(row.mark_before) and listed["leverage"] == 40
    assert "jumped past stop and liquidation" in row.words and row.words in page([one]).replace("&gt;", ">")


def test_a_stop_that_fired_and_found_nobody_is_no_excuse() -> None:
    """At 5x the same gap first fires the stop, whose order finds no price within its limit: said, and no jump."""
    [run] = ran(day_of((-0.30, 0.0)), 5).runs
    assert run.guarded.liquidated and run.without_jump == run.guarded.liquidated
    assert "NO JUMP" in run.without_jump[0].words


def test_what_counts_as_a_jump() -> None:
    def row(before: str, after: str, size: str = "1", stop: str | None = "90", liquidation: str = "80") -> Liquidated:
        stopped = None if stop is None else D(stop)
        return Liquidated(START, "main", "BTC", D(size), D(before), D(after), stopped, D(liquidation))

    assert row("91", "80").jumped
    assert not row("91", "81").jumped, "not beyond liquidation"
    assert not row("90", "70").jumped, "the stop had fired before"
    assert not row("91", "70", stop=None).jumped
    assert row("99", "121", size="-1", stop="110", liquidation="120").jumped
    assert not row("111", "121", size="-1", stop="110", liquidation="120").jumped


# -- days ----------------------------------------------------------------------------------------


def written(path: Path, candles: Sequence[Candle]) -> Path:
    rows = [f"{round(c.opened_at.timestamp() * 1000)},{c.open},{c.high},{c.low},{c.close},{c.volume}" for c in candles]
    path.write_text("\n".join(["ts_ms,open,high,low,close,volume", *rows]) + "\n")
    return path


def test_the_deepest_falls_of_a_file_are_found_apart_from_each_other(tmp_path: Path) -> None:
    first, second = day_of((0.0, -0.08), quiet=400), day_of((0.0, -0.12), quiet=400)
    later = [c._replace(opened_at=c.opened_at + timedelta(days=1)) for c in second.candles]
    between = [
        Candle(first.candles[-1].closed_at + n * MINUTE, *(D(92_000),) * 4, D(1))
        for n in range(round((later[0].opened_at - first.candles[-1].closed_at) / MINUTE))
    ]
    path = written(tmp_path / "hl_btc_1m.csv", [*first.candles, *between, *later])
    days = days_of_file(path, "BTC", 120, 2)
    assert [round(day.fall_percent) for day in days] == [12, 8]
    for day in days:
        assert day.minutes == 120 and day.start <= day.low_at < day.start + 120 * MINUTE
        assert all(b.opened_at - a.opened_at == MINUTE for a, b in pairwise(day.candles))
    [chosen] = days_of_file(path, "BTC", 120, 1, first.start, first.start + timedelta(hours=2))
    assert chosen.start == first.start and chosen.minutes == 120


def test_longer_bars_are_split_along_their_path() -> None:
    bar = Candle(START, D(100), D(104), D(90), D(95), D(60), timedelta(minutes=30))
    minutes = minute_candles([bar])
    assert len(minutes) == 30 and sum(c.volume for c in minutes) == 60
    assert (minutes[0].open, minutes[-1].close) == (100, 95)
    assert (max(c.high for c in minutes), min(c.low for c in minutes)) == (104, 90)
    assert next(c.opened_at for c in minutes if c.high == 104) < next(c.opened_at for c in minutes if c.low == 90)
    assert all(a.close == b.open for a, b in pairwise(minutes))
    assert [c.checked() for c in minutes]


@pytest.mark.parametrize(
    ("name", "coin"),
    [("binance_um_eth_1m_202105.csv.gz", "ETH"), ("SOLUSDT-1m.csv", "SOL"), ("prices.csv", "BTC")],
)
def test_the_coin_is_told_by_the_files_name(name: str, coin: str) -> None:
    assert coin_of_file(Path(name)) == coin


def test_synthetic_days_are_the_same_for_the_same_seed() -> None:
    once, again = synthetic_days(3, 60), synthetic_days(3, 60)
    assert [d.candles for d in once] == [d.candles for d in again]
    assert [d.candles for d in once] != [d.candles for d in synthetic_days(4, 60)]
    assert all(d.synthetic and d.fall_percent > 8 for d in once)


def test_a_file_without_enough_around_the_fall_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "short.csv", day_of((0.0, -0.1), quiet=2).candles)
    with pytest.raises(BadInput, match="without a hole"):
        days_of_file(path, "BTC", 240, 1)


# -- the command ---------------------------------------------------------------------------------


def test_the_command_prints_json_and_writes_the_page(tmp_path: Path, capsys: Any) -> None:
    path = written(tmp_path / "btc.csv", day_of((0.0, -0.04), (0.0, -0.05), quiet=40).candles)
    report = tmp_path / "out" / "crash.html"
    asked = ["crash", "--market", str(path), "--hours", "1", "--leverage", "20", "--out", str(report), "--json"]
    assert main(asked) == 0
    told = capsys.readouterr()
    said = json.loads(told.out)
    [run] = said["days"][0]["runs"]
    assert run["leverage"] == 20 and run["trades"] > 0 and run["hedged"]["liquidations"] == 0
    assert run["hedged"]["kept_worst_percent"] <= run["hedged"]["kept_end_percent"] < 102
    assert set(run["hedge_usd"]) == {"fees", "funding", "given_up", "gained", "net_cost"}
    assert "20x" in told.err
    text = report.read_text()
    assert text.count("<svg") == 2 and "no position reached liquidation" in text and "http" not in text


def test_a_liquidation_that_a_stop_had_time_to_prevent_is_printed_and_fails_the_command(tmp_path: Path, capsys: Any):
    path = written(tmp_path / "btc.csv", day_of((-0.30, 0.0), quiet=30).candles)
    report = tmp_path / "crash.html"
    assert main(["crash", "--market", str(path), "--hours", "1", "--leverage", "5", "--out", str(report)]) == 1
    lines = capsys.readouterr().out.splitlines()
    [listed] = [line for line in lines if line.startswith("liquidated: 5x, BTC 2025-01-06: ")]
    assert ": mark 87254 -> 79814, no stop rested, liquidation 81011: NO JUMP" in listed
    assert any("1 liquidated, 1 of them WITHOUT a jump" in line for line in lines)
    assert lines[-1] == f"wrote {report}"


def test_the_deepest_hour_of_a_real_crash(tmp_path: Path) -> None:
    """ETH on 2021-05-19, where the recording is at hand."""
    for path in REAL.glob("binance_um_eth_1m_202105*.csv.gz"):
        [day] = days_of_file(path, "ETH", 60, 1)
        [run] = ran(day, 10).runs
        assert day.fall_percent > 40 and run.guarded.points_per_candle >= 20
        assert run.guarded.trades and run.bare.liquidated and not run.without_jump


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--days", "2"], "--days is about a file of candles: --market FILE is missing"),
        (["--coin", "ETH"], "--coin is about a file of candles"),
        (["--from", "2025-01-02"], "--from is about a file of candles"),
        (["--from", "2025-01-02", "--to", "2025-01-09"], "--from and --to must be at most 72 hours apart, were 168"),
        (["--out", "/"], "--out: / cannot be written: Is a directory"),
        (["--hours", "100"], "--hours must be at most 72"),
        (["--coin", "NOPE"], "--coin must be a coin"),
        (["--stop", "100"], "--stop must be above 0 and below 100"),
        (["--from", "2025-01-02", "--to", "2025-01-01"], "--from must be before --to"),
    ],
)
def test_what_cannot_be_understood_is_said(more: list[str], words: str, capsys: Any) -> None:
    assert main(["crash", *more]) == 2
    assert words in capsys.readouterr().err
