"""How fast the parts are that run for every candle, each against plain work on the same candles in the same run.

    python bench/speed.py [--repetitions 5]

    read      a month of minutes from a CSV file, checked      against csv.reader and Decimal alone
    decide    one decision of the MACD strategy                against a plain EMA loop over the same closes
    advance   one minute of the paper venue with a position    against building one candle of the same numbers

Of each the fastest of the repetitions counts, in processor time: other programs on the machine change it least.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from twinleg.adapters.local.candle_files import read_candles
from twinleg.domain.candles import Candle
from twinleg.paper.exchange import Exchange
from twinleg.paper.options import VenueOptions
from twinleg.strategy.macd import Macd

MONTH = 44_640
START = datetime(2026, 1, 5, tzinfo=UTC)
USER = "0x" + "a1" * 20
HEADER = "time,open,high,low,close,volume"


def candle(minute: int) -> Candle:
    low, high = Decimal(99_000 + minute % 89), Decimal(101_000 + minute % 97)
    prices = (Decimal(100_000 + minute % 61), high, low, Decimal(100_000 + minute % 53))
    return Candle(START + timedelta(minutes=minute), *prices, Decimal(100))


@contextmanager
def month_file(candles: list[Candle]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "month.csv"
        rows = (f"{c.opened_at.timestamp() * 1000:.0f},{c.open},{c.high},{c.low},{c.close},{c.volume}" for c in candles)
        path.write_text("\n".join([HEADER, *rows]))
        yield path


def fastest(work: Callable[[], object], repetitions: int, units: int = 1) -> float:
    """Seconds of processor time for one unit of work, at best."""
    spent = []
    for _ in range(repetitions):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent) / units


def plain_read(path: Path) -> int:
    with path.open() as file:
        return sum(1 for row in csv.reader(file) if row[0] != "time" and [Decimal(text) for text in row])


def plain_average(candles: list[Candle]) -> float:
    average = 0.0
    for c in candles:
        average += (float(c.close) - average) * 0.2
    return average


def venue(candles: list[Candle]) -> Exchange:
    start_ms = round(START.timestamp() * 1000)
    exchange = Exchange(VenueOptions(candles={"BTC": candles}, start_ms=start_ms))
    order = {"a": 0, "b": True, "p": "101000", "s": "0.01", "r": False, "t": {"limit": {"tif": "Ioc"}}}
    exchange.execute({"action": {"type": "order", "orders": [order], "grouping": "na"}, "nonce": start_ms}, USER)
    return exchange


def minutes(exchange: Exchange, count: int) -> None:
    start_ms = round(START.timestamp() * 1000)
    for minute in range(1, count):
        exchange.advance(start_ms + minute * 60_000)


def measured(repetitions: int) -> Iterator[tuple[str, float, float]]:
    candles = [candle(n) for n in range(MONTH)]
    with month_file(candles) as path:
        ours = fastest(lambda: read_candles(path), repetitions, MONTH)
        yield "read", ours, fastest(lambda: plain_read(path), repetitions, MONTH)
    strategy, window = Macd(), candles[: Macd().lookback]
    ours = fastest(lambda: [strategy.decide("BTC", window) for _ in range(50)], repetitions, 50)
    yield "decide", ours, fastest(lambda: [plain_average(window) for _ in range(50)], repetitions, 50)
    count = 3000
    ours = fastest(lambda: minutes(venue(candles), count), repetitions, count)
    yield "advance", ours, fastest(lambda: [candle(n) for n in range(count)], repetitions, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    print(f"{'':10}{'ours':>12}{'plain':>12}{'ratio':>8}")
    for name, ours, plain in measured(parser.parse_args().repetitions):
        print(f"{name:10}{ours * 1e6:>9.1f} µs{plain * 1e6:>9.1f} µs{ours / plain:>8.1f}")


if __name__ == "__main__":
    main()
