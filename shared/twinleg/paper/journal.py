"""The durable ledger: a SQLite file that holds the venue's beginning and everything it was asked to do since.

Every change is written before its answer leaves, so killing the process loses nothing that was answered. On
restart the entries are played again at the times they came; the venue's state depends on nothing else. Each entry
keeps a checksum of its answer, so that a replay that came out differently is noticed rather than traded on.
A crash of the whole machine may lose the last moments (the file is not synced on every write).
"""

from __future__ import annotations

import json
import sqlite3
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from twinleg.domain.candles import Candle, ms_from_utc, utc_from_ms
from twinleg.domain.errors import BadInput
from twinleg.paper.options import BookShape, VenueOptions
from twinleg.paper.path import POINTS_MIN

VERSION = 3
"""Raised whenever a change of the rules would replay an old ledger to another result."""

Json = Any


class Entry(NamedTuple):
    """One thing the venue did, at its own time. ``checksum`` is of the answer it gave."""

    now_ms: int
    kind: str
    payload: Json
    checksum: int


class Journal:
    """One ledger file, held exclusively while the venue lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.5, check_same_thread=False)
            weakref.finalize(self, self._db.close)  # also when this or the venue's start fails
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(
                "CREATE TABLE IF NOT EXISTS setup (name TEXT PRIMARY KEY, value BLOB);"
                "CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, now_ms INTEGER NOT NULL,"
                " kind TEXT NOT NULL, payload TEXT NOT NULL, checksum INTEGER NOT NULL);"
                "CREATE TABLE IF NOT EXISTS clock (id INTEGER PRIMARY KEY CHECK (id = 1), now_ms INTEGER NOT NULL);"
            )
        except sqlite3.OperationalError as error:
            why = "; is another venue running on it?" if "locked" in str(error) else ""
            raise BadInput(f"ledger {path}: cannot be opened ({error}){why}") from None
        except sqlite3.DatabaseError as error:
            raise BadInput(f"ledger {path}: is not a ledger of this venue ({error})") from None

    def beginning(self) -> VenueOptions | None:
        """The options the ledger was begun with, or None when it is new."""
        row = self._db.execute("SELECT value FROM setup WHERE name = 'options'").fetchone()
        if row is None:
            return None
        stored = json.loads(zlib.decompress(row[0]))
        if stored["version"] != VERSION:
            raise BadInput(f"ledger {self._path}: version must be {VERSION}, was {stored['version']}")
        return _options_of(stored)

    def begin(self, options: VenueOptions) -> None:
        """Write down how the venue starts."""
        packed = zlib.compress(json.dumps(_packed(options)).encode())
        self._db.execute("INSERT INTO setup VALUES ('options', ?)", (packed,))

    def write(self, entry: Entry) -> None:
        """Append one entry."""
        payload = json.dumps(entry.payload, separators=(",", ":"))
        self._db.execute(
            "INSERT INTO entries (now_ms, kind, payload, checksum) VALUES (?, ?, ?, ?)",
            (entry.now_ms, entry.kind, payload, entry.checksum),
        )

    def write_clock(self, now_ms: int) -> None:
        """Remember where a manual clock stands."""
        self._db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (now_ms,))

    def clock(self) -> int | None:
        """Where the manual clock stood, if it was ever moved."""
        row = self._db.execute("SELECT now_ms FROM clock").fetchone()
        return None if row is None else int(row[0])

    def entries(self) -> Iterator[Entry]:
        """Every entry, in order."""
        for now_ms, kind, payload, checksum in self._db.execute(
            "SELECT now_ms, kind, payload, checksum FROM entries ORDER BY seq"
        ):
            yield Entry(now_ms, kind, json.loads(payload), checksum)

    def close(self) -> None:
        self._db.close()


def checksum(answer: Json) -> int:
    """CRC-32 of an answer."""
    return zlib.crc32(json.dumps(answer, sort_keys=True).encode())


def _packed(options: VenueOptions) -> Json:
    return {
        "version": VERSION,
        "clock": options.clock,
        "speed": str(options.speed),
        "open_accounts": options.open_accounts,
        "equity": str(options.equity),
        "start_ms": options.start_ms,
        "seed": options.seed,
        "history_candles": options.history_candles,
        "path_points_min": options.path_points_min,
        "switches": options.switches.as_json(),
        "book": {k: str(v) if isinstance(v, Decimal) else v for k, v in asdict(options.book).items()},
        "candles": {coin: [_row(c) for c in series] for coin, series in options.candles.items()},
        "intervals": {coin: round(s[0].interval.total_seconds() * 1000) for coin, s in options.candles.items()},
        "funding_rates": {coin: [[ms, str(rate)] for ms, rate in rows] for coin, rows in options.funding_rates.items()},
    }


def _row(candle: Candle) -> list[Json]:
    return [ms_from_utc(candle.opened_at), *map(str, candle[1:6])]


def _options_of(stored: Json) -> VenueOptions:
    defaults = BookShape()
    shape = {k: type(getattr(defaults, k))(v) for k, v in stored["book"].items()}
    options = VenueOptions(
        candles={
            coin: [_candle(row, stored["intervals"][coin]) for row in rows] for coin, rows in stored["candles"].items()
        },
        clock=stored["clock"],
        speed=Decimal(stored["speed"]),
        open_accounts=stored["open_accounts"],
        equity=Decimal(stored["equity"]),
        start_ms=stored["start_ms"],
        seed=stored["seed"],
        history_candles=stored["history_candles"],
        book=BookShape(**shape),
        path_points_min=stored.get("path_points_min", POINTS_MIN),
        funding_rates={
            coin: [(ms, Decimal(rate)) for ms, rate in rows] for coin, rows in stored["funding_rates"].items()
        },
    )
    return replace(options, switches=options.switches.changed(stored["switches"]))


def _candle(row: Json, interval_ms: int) -> Candle:
    opened, high, low, close, volume = (Decimal(v) for v in row[1:])
    return Candle(utc_from_ms(row[0]), opened, high, low, close, volume, timedelta(milliseconds=interval_ms))
