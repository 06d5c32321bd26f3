"""Candles from a file on this machine: CSV, Parquet, Feather, and Hyperliquid's candleSnapshot JSON.

What a file must hold: one market, one interval, one row a bar, the bar's *open* time in UTC, prices in
quote currency and (optionally) volume in base currency. A file without a volume column is read with
volume 0. Rows run oldest first or newest first. Identical rows are dropped, rows that give one time two
meanings are refused, and missing bars stay missing: nothing is filled in.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from twinleg.domain.candles import Candle
from twinleg.domain.errors import BadInput
from twinleg.domain.instants import (
    FIRST_YEAR,
    LAST_YEAR,
    MICROSECOND,
    TIME_AFTER,
    TIME_FIRST,
    UNITS,
    epoch_unit,
    is_number,
    microseconds_of,
    utc_of,
)

FILE_BYTES_MAX = 1 << 29
"""Of the file, and of what it decompresses to."""
PRICE_MIN, PRICE_MAX = Decimal("1e-12"), Decimal("1e12")
VOLUME_MAX = Decimal("1e18")
INTERVAL_MIN, INTERVAL_MAX = timedelta(seconds=1), timedelta(days=7)

_TIME_NAMES = ("ts_ms", "open_time", "opened_at", "timestamp", "unix", "time", "date", "t")
_PRICE_NAMES = {"open": ("open", "o"), "high": ("high", "h"), "low": ("low", "l"), "close": ("close", "c")}
_VOLUME_NAMES = ("volume", "v")
_BINANCE_VISION = (
    "open_time", "open", "high", "low", "close", "volume", "close_time",
    "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip


class _Table(NamedTuple):
    path: Path
    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[int]
    word: str

    def fail(self, index: int, reason: str) -> NoReturn:
        raise BadInput(f"{_shown(self.path)}: {self.word} {self.rows[index]}: {reason}")


def read_candles(path: Path, *, start: datetime | None = None, end: datetime | None = None) -> list[Candle]:
    """The candles of a file, oldest first, whose open time is in [start, end). Prices exactly as written.

    The name's ending says the format: .csv, .csv.gz, .parquet, .feather, .json, .json.gz. The interval is
    the most common step between rows. BadInput, in one line, names the file, the row, the value and the limit.
    """
    if start is not None and end is not None and start >= end:
        raise BadInput(f"from must be before to, was {start:%Y-%m-%dT%H:%M} and {end:%Y-%m-%dT%H:%M}")
    candles = _candles(_table(path))
    kept = [c for c in candles if (start is None or c.opened_at >= start) and (end is None or c.opened_at < end)]
    if not kept:
        raise BadInput(
            f"{_shown(path)}: no candle in the time asked for; the file covers "
            f"{candles[0].opened_at:%Y-%m-%dT%H:%M} to {candles[-1].closed_at:%Y-%m-%dT%H:%M} UTC"
        )
    return kept


def packaged_candles() -> list[Candle]:
    """Half a day of real one-minute bitcoin bars: Kraken XBT/USDT, 2025-11-10 12:17 to 2025-11-11 00:18 UTC."""
    with as_file(files("twinleg").joinpath("data", "btc_1m_kraken_20251110.csv.gz")) as path:
        return read_candles(path)


def parse_instant(text: str) -> datetime:
    """A UTC time from ISO 8601 (no offset means UTC; a bare date its first instant) or epoch s, ms or µs."""
    try:
        microseconds = microseconds_of(text.strip())
    except ValueError:
        raise BadInput(f"time must look like 2021-05-19T10:00 (UTC), was {_value(text)}") from None
    if not TIME_FIRST <= microseconds < TIME_AFTER:
        raise BadInput(f"time must be in {FIRST_YEAR}-{LAST_YEAR}, was {_value(text)}")
    return utc_of(microseconds)


def _table(path: Path) -> _Table:
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return _csv_table(path, _text(path))
    if name.endswith((".json", ".json.gz")):
        return _json_table(path, _text(path))
    if name.endswith((".parquet", ".feather")):
        return _arrow_table(path, _bytes(path), feather=name.endswith(".feather"))
    raise BadInput(f"{_shown(path)}: the name must end in .csv, .csv.gz, .parquet, .feather, .json or .json.gz")


def _bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise BadInput(f"{_shown(path)}: is a directory, must be a file of candles")
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise BadInput(f"{_shown(path)}: {size} bytes, at most {FILE_BYTES_MAX} are read")
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{_shown(path)}: no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name is not a valid one"
        raise BadInput(f"{_shown(path)}: cannot be read: {reason}") from None
    if not content:
        raise BadInput(f"{_shown(path)}: is empty")
    return content


def _text(path: Path) -> str:
    content = _bytes(path)
    if path.name.lower().endswith(".gz"):
        content = _decompressed(path, content)
    elif content.startswith(b"\x1f\x8b"):
        raise BadInput(f"{_shown(path)}: is gzip-compressed; its name must end in .gz")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{_shown(path)}: is not UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        raise BadInput(f"{_shown(path)}: is not text (a zero byte at character {text.index(chr(0))})")
    if not text.strip():
        raise BadInput(f"{_shown(path)}: is empty")
    return text


def _decompressed(path: Path, content: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as file:
            plain = file.read(FILE_BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error):
        raise BadInput(f"{_shown(path)}: is not a whole gzip file") from None
    if len(plain) > FILE_BYTES_MAX:
        raise BadInput(f"{_shown(path)}: decompresses to more than {FILE_BYTES_MAX} bytes")
    return plain


def _csv_table(path: Path, text: str) -> _Table:
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise BadInput(f"{_shown(path)}: is not CSV: {error}") from None
    lines = [number for number, row in enumerate(rows, 1) if row]
    rows = [row for row in rows if row]
    header = [name.strip().lower() for name in rows[0]]
    if is_number(header[0]):
        if len(header) != len(_BINANCE_VISION):
            raise BadInput(
                f"{_shown(path)}: has no header line; only the {len(_BINANCE_VISION)} columns of Binance Vision "
                f"are known without one, was {len(header)}"
            )
        header = list(_BINANCE_VISION)
    else:
        rows, lines = rows[1:], lines[1:]
    if len(header) == 1:
        used = next((mark for mark in ";\t|" if mark in header[0]), None)
        raise BadInput(f"{_shown(path)}: columns must be separated by ',', was {used or 'one column'!r}")
    if repeated := [name for name, count in Counter(header).items() if count > 1 and name]:
        raise BadInput(f"{_shown(path)}: column {_value(repeated[0])} appears twice")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise BadInput(f"{_shown(path)}: line {line}: {len(row)} fields, must be {len(header)}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())
    return _Table(path, columns, lines, "line")


def _json_table(path: Path, text: str) -> _Table:
    def refuse(constant: str) -> NoReturn:
        raise BadInput(f"{_shown(path)}: numbers must be finite, was {constant}")

    try:
        rows = json.loads(text, parse_float=Decimal, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise BadInput(f"{_shown(path)}: line {error.lineno}: is not JSON: {error.msg}") from None
    except (RecursionError, ValueError):
        raise BadInput(f"{_shown(path)}: is not JSON: nested too deep or a number too long") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{_shown(path)}: must be a JSON list of candles such as {{t, T, s, i, o, h, l, c, v, n}}")
    names = list(rows[0]) if rows else []
    for number, row in enumerate(rows, 1):
        if missing := [name for name in names if name not in row]:
            raise BadInput(f"{_shown(path)}: row {number}: field {_value(missing[0])} is missing")
        for name in ("s", "i"):
            if row.get(name) != rows[0].get(name):
                told = f"{_value(rows[0].get(name))}, was {_value(row.get(name))}"
                raise BadInput(f"{_shown(path)}: row {number}: {name} must be the same in every row, {told}")
    columns = {name: [row[name] for row in rows] for name in names}
    return _Table(path, columns, range(1, len(rows) + 1), "row")


def _arrow_table(path: Path, content: bytes, *, feather: bool) -> _Table:
    try:
        import pyarrow as arrow
        from pyarrow import feather as feather_format
        from pyarrow import parquet as parquet_format
    except ImportError:
        raise BadInput(f"{_shown(path)}: needs pyarrow: pip install 'twinleg[candles]'") from None
    try:
        source = arrow.BufferReader(content)
        table = feather_format.read_table(source) if feather else parquet_format.read_table(source)
        columns = {}
        for name in table.column_names:
            column, kind = table.column(name), table.schema.field(name).type
            if arrow.types.is_date(kind):
                column, kind = column.cast(arrow.timestamp("ms")), arrow.timestamp("ms")
            if arrow.types.is_timestamp(kind):
                columns[name.strip().lower()] = column.cast(arrow.timestamp("us")).cast(arrow.int64()).to_pylist()
            elif arrow.types.is_floating(kind):
                columns[name.strip().lower()] = [None if x is None else repr(x) for x in column.to_pylist()]
            else:
                columns[name.strip().lower()] = column.to_pylist()
    except (arrow.ArrowException, OSError, ValueError):
        kind_name = "Feather" if feather else "Parquet"
        raise BadInput(f"{_shown(path)}: is not a whole {kind_name} file of candles") from None
    return _Table(path, columns, range(1, table.num_rows + 1), "row")


def _candles(table: _Table) -> list[Candle]:
    time_name = _column(table, "time", _TIME_NAMES)
    prices = {name: _column(table, name, names) for name, names in _PRICE_NAMES.items()}
    volume_name = next((name for name in _VOLUME_NAMES if name in table.columns), None)
    if volume_name is None and (similar := [n for n in table.columns if n.startswith("vol")]):
        raise BadInput(f"{_shown(table.path)}: name the base-currency volume column 'volume', was {_value(similar[0])}")
    if len(table.rows) < 2:
        raise BadInput(f"{_shown(table.path)}: must hold at least 2 candles, was {len(table.rows)}")
    times = _times(table, time_name)
    opens, highs, lows, closes = (_decimals(table, prices[name]) for name in _PRICE_NAMES)
    zero = Decimal(0)
    volumes = [zero] * len(times) if volume_name is None else _decimals(table, volume_name)
    values = list(zip(opens, highs, lows, closes, volumes, strict=True))
    _check_values(table, values)
    keep = _in_order(table, times, values)
    interval = _interval(table, times, keep)
    return [Candle(utc_of(times[i]), *values[i], interval) for i in keep]


def _column(table: _Table, wanted: str, names: Sequence[str]) -> str:
    found = next((name for name in names if name in table.columns), None)
    if found is None:
        have = ", ".join(_value(name) for name in list(table.columns)[:12])
        raise BadInput(f"{_shown(table.path)}: has no column {wanted} ({' or '.join(names)}); it has {have or 'none'}")
    return found


def _times(table: _Table, name: str) -> list[int]:
    """The open times in epoch microseconds, all in one unit."""
    texts = [str(value).strip() if not isinstance(value, bool) else "" for value in table.columns[name]]
    times: list[int] = []
    try:
        unit = epoch_unit(int(texts[0]))
        multiplier, divisor = UNITS[unit] if unit else (1, 1)
        times = [int(text) * multiplier // divisor for text in texts]
    except ValueError:
        unit = None
        for index, text in enumerate(texts):
            try:
                times.append(microseconds_of(text))
            except ValueError:
                what = "epoch s, ms or µs, or ISO 8601"
                table.fail(index, f"{name} must be a time ({what}), was {_value(table.columns[name][index])}")
    if name == "ts_ms" and unit in ("s", "µs", "ns"):
        table.fail(0, f"ts_ms must be in milliseconds, was {_value(texts[0])}")
    for index, at in enumerate(times):
        if not TIME_FIRST <= at < TIME_AFTER:
            other = epoch_unit(int(texts[index])) if is_number(texts[index]) and unit else None
            if other is not None:
                table.fail(index, f"{name} {texts[index]} is in {other} where the first row is in {unit}")
            table.fail(index, f"{name} must be in {FIRST_YEAR}-{LAST_YEAR}, was {_value(texts[index])}")
    return times


def _decimals(table: _Table, name: str) -> list[Decimal]:
    values = table.columns[name]
    try:
        joined = "".join(values)
        numbers = list(map(Decimal, values)) if joined.isascii() and "_" not in joined else None
    except (TypeError, InvalidOperation):
        numbers = None
    if numbers is None:
        numbers = [_decimal(table, index, name) for index in range(len(values))]
    for index, number in enumerate(numbers):
        if not number.is_finite():
            table.fail(index, f"{name} must be finite, was {_value(values[index])}")
    return numbers


def _decimal(table: _Table, index: int, name: str) -> Decimal:
    value = table.columns[name][index]
    try:
        if isinstance(value, (bool, float)) or not isinstance(value, (str, int, Decimal)):
            raise InvalidOperation
        if isinstance(value, str) and (not value.isascii() or "_" in value):
            raise InvalidOperation
        return Decimal(value)
    except InvalidOperation:
        table.fail(index, f"{name} must be a number, was {_value(value)}")


def _check_values(table: _Table, values: Sequence[tuple[Decimal, Decimal, Decimal, Decimal, Decimal]]) -> None:
    for index, (opened, high, low, close, volume) in enumerate(values):
        if PRICE_MIN <= low <= opened <= high <= PRICE_MAX and low <= close <= high and 0 <= volume <= VOLUME_MAX:
            continue
        for name, price in (("open", opened), ("high", high), ("low", low), ("close", close)):
            if price <= 0:
                table.fail(index, f"{name} must be above 0, was {_value(price)}")
            if not PRICE_MIN <= price <= PRICE_MAX:
                table.fail(index, f"{name} must be in {PRICE_MIN} to {PRICE_MAX}, was {_value(price)}")
        if not 0 <= volume <= VOLUME_MAX:
            table.fail(index, f"volume must be in 0 to {VOLUME_MAX}, was {_value(volume)}")
        if high < low:
            table.fail(index, f"high {_clip(high)} is below low {_clip(low)}")
        inside, limits = f"open {_clip(opened)} and close {_clip(close)}", f"low {_clip(low)} and high {_clip(high)}"
        table.fail(index, f"{limits} must enclose {inside}")


def _in_order(table: _Table, times: Sequence[int], values: Sequence[tuple[Decimal, ...]]) -> list[int]:
    """The rows to keep, oldest first, each time once."""
    newest_first = times[0] > times[-1]
    order = range(len(times) - 1, -1, -1) if newest_first else range(len(times))
    keep = [order[0]]
    for index in order[1:]:
        before = keep[-1]
        if times[index] > times[before]:
            keep.append(index)
        elif times[index] < times[before]:
            direction = "newest first" if newest_first else "oldest first"
            late = max(index, before)
            table.fail(late, f"time {utc_of(times[late]):%Y-%m-%dT%H:%M:%S} is out of order (the file is {direction})")
        elif values[index] != values[before]:
            row = table.rows[min(index, before)]
            table.fail(max(index, before), f"has the time of {table.word} {row} but other prices or volume")
    return keep


def _interval(table: _Table, times: Sequence[int], keep: Sequence[int]) -> timedelta:
    if len(keep) < 2:
        raise BadInput(f"{_shown(table.path)}: must hold at least 2 different times, was 1")
    counts = Counter(times[after] - times[before] for before, after in pairwise(keep))
    most = max(counts.values())
    step = min(step for step, count in counts.items() if count == most)
    interval = step * MICROSECOND
    if not INTERVAL_MIN <= interval <= INTERVAL_MAX:
        limits = f"{INTERVAL_MIN.total_seconds():.0f} s to {INTERVAL_MAX.days} d"
        raise BadInput(f"{_shown(table.path)}: the interval must be {limits}, was {interval.total_seconds()} s")
    if any(other % step for other in counts):
        for before, after in pairwise(keep):
            if (times[after] - times[before]) % step:
                apart = (times[after] - times[before]) / 1e6
                table.fail(after, f"{apart:g} s from the row before, must be a multiple of {step / 1e6:g} s")
    return interval


def _value(value: object) -> str:
    return _clip(repr(str(value) if isinstance(value, Decimal) else value))


def _clip(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() else repr(text)
