"""The market record: the window of closed candles packed in one document, the watermark, the last snapshot."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from twinleg.domain.candles import MINUTE, Candle, Snapshot, ms_from_utc, utc_from_ms
from twinleg.domain.money import plain
from twinleg.engine.ports import Document, Stored


def packed(candle: Candle, suspect: bool) -> str:
    """``opened_ms,open,high,low,close,volume,s`` with s = 1 for a suspect candle."""
    numbers = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return ",".join([str(ms_from_utc(candle.opened_at)), *(plain(n) for n in numbers), "1" if suspect else "0"])


@lru_cache(maxsize=4096)
def unpacked(row: str) -> tuple[Candle, bool]:
    """A packed candle and whether it is suspect."""
    ms, *numbers, suspect = row.split(",")
    opened, high, low, close, volume = (Decimal(n) for n in numbers)
    return Candle(utc_from_ms(int(ms)), opened, high, low, close, volume), suspect == "1"


def rows_of(stored: Stored | None) -> list[str]:
    """The packed candles of a market's record, oldest first."""
    text = str(engine_field(stored, "candles")) if stored else ""
    return text.split("\n") if text else []


def engine_field(stored: Stored, name: str) -> Any:
    """A field that only the program reads (``z_…``), also of a record stored before these came last."""
    return stored.data[f"z_{name}" if f"z_{name}" in stored.data else name]


def row_ms(row: str) -> int:
    return int(row.split(",", 1)[0])


def market_document(
    market: str, rows: list[str], unpublished: list[str], missing: list[int], snapshot: Snapshot | None, now: datetime
) -> Document:
    """The market's record as a person reads it."""
    last = unpacked(rows[-1])[0] if rows else None
    data: Document = {
        "market": market,
        "candles_kept": len(rows),
        "candles_missing": len(missing),
        "last_price": plain(last.close) if last else None,
        "updated_at": now,
        "watermark": last.closed_at if last else None,
        "z_candles": "\n".join(rows),
        "z_missing_ms": missing,
        "z_unpublished_ms": [row_ms(row) for row in unpublished],
    }
    if snapshot:
        data |= {
            "mark_price": plain(snapshot.mark_price),
            "oracle_price": plain(snapshot.oracle_price),
            "funding_rate_hourly": plain(snapshot.funding_rate_hourly),
            "open_interest": plain(snapshot.open_interest),
            "snapshot_at": snapshot.at,
        }
    price = plain(last.close) if last else "no candle yet"
    data["summary"] = f"{market} {price}, {len(rows)} candles to {last.closed_at:%Y-%m-%d %H:%M}" if last else market
    return data


def candles_until(rows: list[str], opened_at: datetime, count: int) -> list[Candle]:
    """The last *count* candles up to and including the one opened then."""
    last_ms = ms_from_utc(opened_at)
    end = len(rows)
    while end and row_ms(rows[end - 1]) > last_ms:
        end -= 1
    return [unpacked(row)[0] for row in rows[max(0, end - count) : end]]


def missing_between(before_ms: int, after_ms: int) -> list[int]:
    """Open times of the minutes absent between two candles."""
    step = int(MINUTE.total_seconds() * 1000)
    return list(range(before_ms + step, after_ms, step))


def recent_range_percent(candles: list[Candle], count: int = 14) -> Decimal:
    """The mean high-low range of the last candles in per cent of their close."""
    last = candles[-count:]
    if not last:
        return Decimal(0)
    return sum(((c.high - c.low) / c.close for c in last), Decimal(0)) / len(last) * 100
