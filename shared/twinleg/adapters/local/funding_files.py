"""Hourly funding rates from a file on this machine: CSV with ``ts_ms,funding_rate``, or a fundingHistory answer.

Rates are per hour, positive when longs pay. A stamp belongs to the hour it lies in (the venue's lie some milliseconds
past it). Hours may be missing; of several rows of one hour the last counts.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from twinleg.domain.errors import BadInput

RATE_MAX = Decimal("0.04")
"""Hyperliquid's cap of an hour's rate. Source: Hyperliquid docs, funding."""
BYTES_MAX = 1 << 26
_TIMES = ("ts_ms", "time")
_RATES = ("funding_rate", "fundingRate")


def read_funding(path: Path) -> list[tuple[int, Decimal]]:
    """(epoch ms, rate) of each row, oldest first. BadInput names the file, the row, the value and the limit."""
    found = dict(_rates(path))
    if not found:
        raise BadInput(f"{path}: no funding rate in it")
    return sorted(found.items())


def _rates(path: Path) -> Iterator[tuple[int, Decimal]]:
    text = _text(path)
    rows = _json_rows(path, text) if ".json" in path.suffixes else list(csv.DictReader(text.splitlines()))
    for number, row in enumerate(rows, 1):
        at, rate = (_field(path, number, row, names) for names in (_TIMES, _RATES))
        if at != at.to_integral_value() or not 10**12 <= at < 10**13:
            raise BadInput(f"{path}: row {number}: time must be in epoch milliseconds, was {at}")
        if abs(rate) > RATE_MAX:
            raise BadInput(f"{path}: row {number}: funding rate must be at most {RATE_MAX} an hour, was {rate}")
        yield int(at), rate


def _field(path: Path, number: int, row: Any, names: tuple[str, ...]) -> Decimal:
    value = next((row[name] for name in names if type(row) is dict and row.get(name) is not None), None)
    if value is None:
        raise BadInput(f"{path}: row {number}: has neither {' nor '.join(names)}")
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite():
        raise BadInput(f"{path}: row {number}: must be a number, was {value!r}")
    return found


def _json_rows(path: Path, text: str) -> list[Any]:
    try:
        rows = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise BadInput(f"{path}: must be JSON ({error})") from None
    if type(rows) is not list:
        raise BadInput(f"{path}: must be a list of rates, was {type(rows).__name__}")
    return rows


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > BYTES_MAX:
            raise BadInput(f"{path}: {path.stat().st_size} bytes, at most {BYTES_MAX} are read")
        raw = path.read_bytes()
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                raw = packed.read(BYTES_MAX + 1)
        if len(raw) > BYTES_MAX:
            raise BadInput(f"{path}: decompresses to more than {BYTES_MAX} bytes")
        return raw.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read ({error})") from None
