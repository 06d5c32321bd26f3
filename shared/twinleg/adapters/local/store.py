"""The Store port on one SQLite file: documents as JSON, every write with its precondition.

It keeps Firestore's rules where the two could differ, so that what works here works there: a document
without the ordering field is not in an ordered query, true is not 1, text is not a number, null is
not absence, integers have 64 bits, ids have no slash, a document has at most 1 MiB.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinleg.adapters.documents import (
    TIME,
    checked_batch,
    checked_field,
    checked_id,
    checked_wanted,
    decoded,
    encoded,
    encoded_write,
    merged,
    time_text,
)
from twinleg.adapters.local.sqlite import Database, Row, Synchronous
from twinleg.domain.errors import Conflict
from twinleg.engine.ports import Check, Create, Document, Exists, Merge, Replace, Steps, Stored, Write

if TYPE_CHECKING:
    from twinleg.engine.backup import Snapshot


class SqliteStore:
    """Documents in a SQLite file, or in memory with ``:memory:``; see `Database` for durability and errors.

    What a document may hold is in `twinleg.adapters.documents`. A version is the text of a counter per document.
    """

    def __init__(
        self, path: str | Path | Database, steps: Steps | None = None, *, synchronous: Synchronous = "FULL"
    ) -> None:
        self.database = Database.of(path, synchronous)
        self._steps = steps or Steps()

    def get(self, collection: str, id: str) -> Stored | None:
        checked_id(collection, id)
        where = f"store.get {collection}/{id}"
        self._steps.step(where)
        rows = self.database.read(
            "SELECT data, version FROM documents WHERE collection = ? AND id = ?", (collection, id)
        )
        self._steps.step(where + " done")
        return Stored(id, decoded(rows[0][0]), str(rows[0][1])) if rows else None

    def create(self, collection: str, id: str, data: Document) -> str:
        values = (collection, checked_id(collection, id), encoded(collection, id, data))
        where = f"store.create {collection}/{id}"
        self._steps.step(where)
        written = self.database.write(_CREATE, values).rowcount
        self._steps.step(where + " done")
        if not written:
            raise Exists(collection, id)
        return "1"

    def compare_and_set(self, collection: str, id: str, data: Document, version: str) -> str:
        values = (encoded(collection, id, data), collection, id, _counter(version))
        where = f"store.compare_and_set {collection}/{id}"
        self._steps.step(where)
        written = self.database.write(_REPLACE_AT, values).rowcount
        self._steps.step(where + " done")
        if not written:
            raise Conflict(f"{collection}/{id} is no longer at version {version}")
        return str(int(version) + 1)

    def batch(self, writes: Sequence[Write]) -> None:
        texts = [encoded_write(write) for write in checked_batch(writes)]
        where = "store.batch " + " ".join(f"{write.collection}/{write.id}" for write in writes)
        self._steps.step(where)
        with self.database.transaction() as connection:
            for write, text in zip(writes, texts, strict=True):
                _apply(connection, write, text)
        self._steps.step(where + " done")

    def query(
        self,
        collection: str,
        where: Mapping[str, object] | None = None,
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Stored]:
        """As the port says; a tie in *order_by* is broken by id, in the same direction."""
        sql = "SELECT id, data, version FROM documents WHERE collection = ?"
        values: list[object] = [collection]
        for field, wanted in (where or {}).items():
            condition, arguments = _equals(field, wanted)
            sql, values = f"{sql} AND {condition}", [*values, *arguments]
        direction = "DESC" if descending else "ASC"
        if order_by is None:
            sql += f" ORDER BY id {direction}"
        else:
            path = _path(order_by)
            sql += f" AND json_type(data, '{path}') IS NOT NULL ORDER BY {_order(path, direction)}, id {direction}"
        if limit is not None:
            sql, values = f"{sql} LIMIT ?", [*values, limit]
        self._steps.step(f"store.query {collection}")
        rows = self.database.read(sql, values)
        self._steps.step(f"store.query {collection} done")
        return [Stored(id, decoded(text), str(version)) for id, text, version in rows]

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The documents as they are now, read in pages while others go on writing."""
        with self.database.snapshot() as read:
            yield _Pages(read)

    def close(self) -> None:
        self.database.close()


@dataclass(frozen=True, slots=True)
class _Pages:
    read: Callable[[str, Sequence[object]], list[Row]]

    def page(self, collection: str, after: str, limit: int) -> list[Stored]:
        rows = self.read(_PAGE, (collection, after, limit))
        return [Stored(id, decoded(text), str(version)) for id, text, version in rows]


_PAGE = "SELECT id, data, version FROM documents WHERE collection = ? AND id > ? ORDER BY id LIMIT ?"
_CREATE = "INSERT INTO documents (collection, id, version, data) VALUES (?, ?, 1, ?) ON CONFLICT DO NOTHING"
_REPLACE_AT = "UPDATE documents SET data = ?, version = version + 1 WHERE collection = ? AND id = ? AND version = ?"
_PUT = (
    "INSERT INTO documents (collection, id, version, data) VALUES (?, ?, 1, ?) "
    "ON CONFLICT DO UPDATE SET data = excluded.data, version = version + 1"
)


def _apply(connection: sqlite3.Connection, write: Write, text: str) -> None:
    name = f"{write.collection}/{write.id}"
    match write:
        case Create():
            if not connection.execute(_CREATE, (write.collection, write.id, text)).rowcount:
                raise Exists(write.collection, write.id)
        case Replace(version=None):
            connection.execute(_PUT, (write.collection, write.id, text))
        case Replace(version=str(version)):
            values = (text, write.collection, write.id, _counter(version))
            if not connection.execute(_REPLACE_AT, values).rowcount:
                raise Conflict(f"{name} is no longer at version {version}")
        case Merge():
            sql = "SELECT data FROM documents WHERE collection = ? AND id = ?"
            row = connection.execute(sql, (write.collection, write.id)).fetchone()
            if row:
                text = merged(write.collection, write.id, row[0], text)
            connection.execute(_PUT, (write.collection, write.id, text))
        case Check():
            sql = "SELECT version FROM documents WHERE collection = ? AND id = ?"
            row = connection.execute(sql, (write.collection, write.id)).fetchone()
            now = str(row[0]) if row else None
            if now != write.version:
                raise Conflict(f"{name} is at version {now}, not {write.version}")


def _counter(version: str) -> int:
    """The counter in a version; -1, which no document has, for a version that is none of ours."""
    return int(version) if version.isascii() and version.isdigit() and len(version) < 19 else -1


# -- queries -------------------------------------------------------------------------------------


def _path(field: str) -> str:
    name = "$" + field if checked_field(field)[0] == "$" else field
    return '$."' + name.replace("'", "''") + '"'


def _equals(field: str, wanted: object) -> tuple[str, list[Any]]:
    path = _path(field)
    kind, value = f"json_type(data, '{path}')", f"json_extract(data, '{path}')"
    wanted = checked_wanted(field, wanted)
    if wanted is None or isinstance(wanted, bool):
        return f"{kind} = ?", [json.dumps(wanted)]
    if isinstance(wanted, str):
        return f"{kind} = 'text' AND {value} = ?", [wanted]
    if isinstance(wanted, datetime):
        return f"json_extract(data, '{path}.\"{TIME}\"') = ?", [time_text(wanted)]
    return f"{kind} IN ('integer', 'real') AND {value} = ?", [wanted]


def _order(path: str, direction: str) -> str:
    """Null, booleans, numbers, times, text, then the rest: Firestore's order of types."""
    rank = (
        f"CASE json_type(data, '{path}') WHEN 'null' THEN 0 WHEN 'false' THEN 1 WHEN 'true' THEN 1 "
        "WHEN 'integer' THEN 2 WHEN 'real' THEN 2 WHEN 'object' THEN 3 WHEN 'text' THEN 4 ELSE 5 END"
    )
    value = f"coalesce(json_extract(data, '{path}.\"{TIME}\"'), json_extract(data, '{path}'))"
    return f"{rank} {direction}, {value} {direction}"
