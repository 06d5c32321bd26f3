"""Recorded funding rates: read from a file, and paid by the venue that is started on them."""

from __future__ import annotations

import argparse
import gzip
import json
from decimal import Decimal

import pytest

from twinleg.adapters.local.funding_files import read_funding
from twinleg.commands import venue as command
from twinleg.domain.errors import BadInput
from twinleg.paper.exchange import Exchange

D = Decimal
HOUR = 3_600_000
AT = 1_746_100_800_000
WHO = "0x" + "a1" * 20


def test_csv_and_json_say_the_same(tmp_path):
    csv, packed, answer = tmp_path / "a.csv", tmp_path / "b.csv.gz", tmp_path / "c.json"
    text = f"ts_ms,funding_rate\n{AT + HOUR + 15},-0.0001\n{AT + 20},0.0000125\n"
    csv.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    rows = [{"coin": "BTC", "fundingRate": "0.0000125", "premium": "0.0", "time": AT + 20}]
    rows.append({"coin": "BTC", "fundingRate": "-0.0001", "premium": "0.0", "time": AT + HOUR + 15})
    answer.write_text(json.dumps(rows))
    for path in (csv, packed, answer):
        assert read_funding(path) == [(AT + 20, D("0.0000125")), (AT + HOUR + 15, D("-0.0001"))]


BAD = {
    "no such file": (None, "cannot be read"),
    "empty": ("ts_ms,funding_rate\n", "no funding rate in it"),
    "no column": ("time,rate\n1,2\n", "has neither funding_rate nor fundingRate"),
    "no number": (f"ts_ms,funding_rate\n{AT},much\n", "row 1: must be a number, was 'much'"),
    "seconds": ("ts_ms,funding_rate\n1746100800,0.1\n", "must be in epoch milliseconds, was 1746100800"),
    "too large": (f"ts_ms,funding_rate\n{AT},0.05\n", "at most 0.04 an hour, was 0.05"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_file_is_one_clear_line(tmp_path, name):
    text, told = BAD[name]
    path = tmp_path / "rates.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=told) as caught:
        read_funding(path)
    assert str(path) in str(caught.value)


def prepared(*words: str):
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    return command.prepared(parser.parse_args(["venue", *words]))[0]


def test_the_venue_pays_the_recorded_rate(tmp_path):
    candles, rates = tmp_path / "btc.csv", tmp_path / "rates.csv"
    bars = "".join(f"{AT + 60_000 * n},100,100,100,100,5\n" for n in range(180))
    candles.write_text("ts_ms,open,high,low,close,volume\n" + bars)
    rates.write_text(f"ts_ms,funding_rate\n{AT + 3 * HOUR + 31},0.002\n")
    options = prepared("--candles", str(candles), "--funding", str(rates), "--manual", "--open-accounts")
    engine = Exchange(options)
    wire = {"a": 0, "b": True, "p": "101", "s": "10", "r": False, "t": {"limit": {"tif": "Ioc"}}}
    body = {"action": {"type": "order", "orders": [wire], "grouping": "na"}, "nonce": engine.state.now_ms}
    assert engine.execute(body, WHO)["status"] == "ok"
    engine.advance(AT + 3 * HOUR + 1)
    [row] = engine.info({"type": "userFunding", "user": WHO, "startTime": 0})[1]
    assert (row["delta"]["fundingRate"], row["delta"]["usdc"]) == ("0.002", "-2.0")


def test_rates_need_candles_and_no_more_files_than_markets(tmp_path):
    rates = tmp_path / "rates.csv"
    rates.write_text(f"ts_ms,funding_rate\n{AT},0.0001\n")
    with pytest.raises(BadInput, match="--funding is recorded beside candles"):
        prepared("--generate", "calm", "--funding", str(rates))
