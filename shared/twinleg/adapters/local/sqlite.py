"""One SQLite file that holds a whole machine's state: documents and messages, in WAL mode.

A commit is atomic and survives the death of the process at any instruction. With ``synchronous="FULL"``
(the default) it also survives the loss of power; with ``"NORMAL"`` a power cut may take the last commits.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twinleg.adapters.local.clocks import pause
from twinleg.domain.errors import BadInput, InvariantBroken, Unavailable

Synchronous = Literal["FULL", "NORMAL"]
Row = tuple[Any, ...]

MEMORY = ":memory:"
SCHEMA_VERSION = 1
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS documents (
  collection TEXT NOT NULL,
  id         TEXT NOT NULL,
  version    INTEGER NOT NULL,
  data       TEXT NOT NULL,
  PRIMARY KEY (collection, id)
);
CREATE TABLE IF NOT EXISTS messages (
  seq          INTEGER PRIMARY KEY AUTOINCREMENT,
  topic        TEXT NOT NULL,
  key          TEXT NOT NULL,
  data         BLOB NOT NULL,
  attributes   TEXT NOT NULL,
  published_us INTEGER NOT NULL,
  attempt      INTEGER NOT NULL DEFAULT 0,
  due_us       INTEGER NOT NULL,
  done         INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS waiting ON messages (topic, seq) WHERE done = 0;
CREATE INDEX IF NOT EXISTS waiting_by_key ON messages (topic, key, seq) WHERE done = 0;
CREATE INDEX IF NOT EXISTS by_topic ON messages (topic, seq);
PRAGMA user_version = 1;
COMMIT;
"""
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class _Open:
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    pid: int


class Database:
    """A SQLite file (or ``:memory:``), opened at first use, shared by every thread of a process.

    One connection writes and, for a file, a second one reads, so that reading never waits for a
    commit to reach the disk. After a fork each process opens its own.

    Errors: Unavailable (locked longer than *busy_seconds*, disk full, unreadable path; nothing was
    written), InvariantBroken (the file is damaged), BadInput (the file is of a newer twinleg).
    """

    def __init__(self, path: str | Path, *, synchronous: Synchronous = "FULL", busy_seconds: float = 5.0) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise BadInput(f"synchronous must be FULL or NORMAL, was {synchronous!r}")
        self.path = str(path)
        self.synchronous = synchronous
        self.busy_seconds = busy_seconds
        self._in_memory = self.path == MEMORY
        self._open: _Open | None = None
        self._close_open: Callable[[], object]
        self._inherited: list[_Open] = []
        self._open_lock, self._write_lock = threading.Lock(), threading.RLock()
        self._read_lock = self._write_lock if self._in_memory else threading.RLock()

    @classmethod
    def of(cls, path: str | Path | Database, synchronous: Synchronous = "FULL") -> Database:
        """The database itself, or a new one at a path."""
        return path if isinstance(path, Database) else cls(path, synchronous=synchronous)

    def read(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of one SELECT, as of the last commit of any process."""
        with self._read_lock, self._translated():
            return self._connections().reader.execute(sql, values).fetchall()

    def write(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """One statement, committed before this returns."""
        with self._write_lock, self._translated():
            return self._connections().writer.execute(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Several statements, all or none; an exception inside rolls back. Never nested."""
        with self._write_lock, self._translated():
            connection = self._connections().writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[Callable[[str, Sequence[object]], list[Row]]]:
        """Reads that all see the database as it is now, whatever is written meanwhile.

        An in-memory database is not written meanwhile: writers wait.
        """
        if self._in_memory:
            with self._write_lock:
                yield self.read
            return
        self.read("SELECT 1")  # that there is a file with our tables in it
        connection = self._connection()
        try:
            with self._translated():
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # the first read takes the snapshot

            def read(sql: str, values: Sequence[object] = ()) -> list[Row]:
                with self._translated():
                    return connection.execute(sql, values).fetchall()

            yield read
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections; the next use opens them again (an in-memory database is gone)."""
        with self._write_lock, self._read_lock, self._open_lock:
            if self._open is not None and self._open.pid == os.getpid():
                self._close_open()
                self._open = None

    def _connections(self) -> _Open:
        opened = self._open
        if opened is not None and opened.pid == os.getpid():
            return opened
        with self._open_lock:
            if self._open is not None and self._open.pid != os.getpid():
                if self._in_memory:
                    raise InvariantBroken("an in-memory database does not survive a fork")
                self._inherited.append(self._open)  # the parent's: never closed from here
                self._open = None
            if self._open is None:
                self._open = self._connect()
                self._close_open = weakref.finalize(self, _close, self._open)
            return self._open

    def _connect(self) -> _Open:
        if not self._in_memory:
            _create_private(Path(self.path))
        writer = self._connection()
        try:
            self._prepare(writer)
            return _Open(writer, writer if self._in_memory else self._connection(), os.getpid())
        except BaseException:
            writer.close()
            raise

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self.busy_seconds, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise BadInput(f"{self.path} has schema {version}, this twinleg knows {SCHEMA_VERSION}: upgrade twinleg")
        if not self._in_memory:
            # Switching to WAL does not wait for another process that is switching, however long the timeout.
            _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"), self.busy_seconds)
            connection.execute("PRAGMA journal_size_limit = 67108864")
        if version < SCHEMA_VERSION:
            connection.executescript(_SCHEMA)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
            raise Unavailable(f"the store file {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise InvariantBroken(f"the store file {self.path} is damaged: {error}") from error
        except OSError as error:
            raise Unavailable(f"the store file {self.path}: {error}") from error


def _close(opened: _Open) -> None:
    """Close what this very process opened; a database nobody refers to any more closes itself by it."""
    if opened.pid == os.getpid():
        opened.reader.close()
        opened.writer.close()


def _create_private(path: Path) -> None:
    """Signed actions are in it: readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _patiently(attempt: Callable[[], object], seconds: float) -> None:
    tries = max(1, int(seconds / _PAUSE_SECONDS))
    for left in reversed(range(tries)):
        try:
            attempt()
            return
        except sqlite3.OperationalError as error:
            if not left or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            pause(_PAUSE_SECONDS)
