"""The Store port on one SQLite file: documents as JSON, every write with its precondition.

It keeps Firestore's rules where the two could differ, so that what works here works there: a document
without the ordering field is not in an ordered query, true is not 1, text is not a number, null is
not absence, integers have 64 bits, ids have no slash, a document has at most 1 MiB.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from twinleg.adapters.local.sqlite import Database, Synchronous
from twinleg.domain.errors import BadInput, Conflict
from twinleg.engine.ports import Check, Create, Document, Exists, Replace, Steps, Stored, Write

DOCUMENT_BYTES_MAX = 1_048_576
_INT_MAX = 2**63 - 1
_TIME = "$at"
_PLAIN = frozenset((str, bool, type(None)))
_FIELD = re.compile(r'[^"\\\x00-\x1f]+')


class SqliteStore:
    """Documents in a SQLite file, or in memory with ``:memory:``; see `Database` for durability and errors.

    Values are text, 64-bit integers, finite floats, booleans, None, datetimes with a zone (they come
    back in UTC), lists and maps of these. Anything else, a Decimal or a naive datetime above all, is a
    BadInput that names the field. A version is the text of a counter per document.
    """

    def __init__(
        self, path: str | Path | Database, steps: Steps | None = None, *, synchronous: Synchronous = "FULL"
    ) -> None:
        self.database = Database.of(path, synchronous)
        self._steps = steps or Steps()

    def get(self, collection: str, id: str) -> Stored | None:
        where = f"store.get {collection}/{id}"
        self._steps.step(where)
        rows = self.database.read(
            "SELECT data, version FROM documents WHERE collection = ? AND id = ?", (collection, id)
        )
        self._steps.step(where + " done")
        return Stored(id, decoded(rows[0][0]), str(rows[0][1])) if rows else None

    def create(self, collection: str, id: str, data: Document) -> str:
        values = (collection, _id(collection, id), encoded(collection, id, data))
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
        texts = [
            "" if isinstance(write, Check) else encoded(write.collection, write.id, write.data) for write in writes
        ]
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

    def close(self) -> None:
        self.database.close()


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
            if not connection.execute(_CREATE, (write.collection, _id(write.collection, write.id), text)).rowcount:
                raise Exists(write.collection, write.id)
        case Replace(version=None):
            connection.execute(_PUT, (write.collection, _id(write.collection, write.id), text))
        case Replace(version=str(version)):
            values = (text, write.collection, write.id, _counter(version))
            if not connection.execute(_REPLACE_AT, values).rowcount:
                raise Conflict(f"{name} is no longer at version {version}")
        case Check():
            sql = "SELECT version FROM documents WHERE collection = ? AND id = ?"
            row = connection.execute(sql, (write.collection, write.id)).fetchone()
            now = str(row[0]) if row else None
            if now != write.version:
                raise Conflict(f"{name} is at version {now}, not {write.version}")


def _counter(version: str) -> int:
    """The counter in a version; -1, which no document has, for a version that is none of ours."""
    return int(version) if version.isascii() and version.isdigit() and len(version) < 19 else -1


def _id(collection: str, id: str) -> str:
    for name, what in ((collection, "collection"), (id, f"id in {collection}")):
        if not name or "/" in name or name in (".", "..") or len(name.encode()) > 1500:
            raise BadInput(f"{what} must be 1 to 1500 bytes without a slash, was {name[:60]!r}")
    return id


# -- values --------------------------------------------------------------------------------------


def encoded(collection: str, id: str, data: Document) -> str:
    """A document as JSON. BadInput names the field that cannot be stored, and why."""
    if not isinstance(data, dict):
        raise BadInput(f"{collection}/{id} must be a map, was {type(data).__name__}")
    try:
        text = json.dumps(_encode_map(data, ""), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except _Unstorable as error:
        raise BadInput(f"{collection}/{id}: {error}") from None
    except UnicodeEncodeError:
        raise BadInput(f"{collection}/{id}: text must be valid Unicode, has a lone surrogate") from None
    if size > DOCUMENT_BYTES_MAX:
        raise BadInput(f"{collection}/{id}: document bytes {size} > {DOCUMENT_BYTES_MAX}")
    return text


def decoded(text: str) -> Document:
    """The document of a JSON text."""
    document: Document = json.loads(text) if '"$' not in text else _decode(json.loads(text))
    return document


class _Unstorable(Exception):
    pass


def _encode(value: Any, at: str) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):  # an enum's text
        return str.__str__(value)
    if isinstance(value, int):
        if not -_INT_MAX - 1 <= value <= _INT_MAX:
            raise _Unstorable(f"{at} must fit 64 bits, was {value}: store it as text")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Unstorable(f"{at} must be finite, was {value}")
        return float(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _Unstorable(f"{at} must carry its zone, was {value.isoformat()}")
        return {_TIME: _time_text(value)}
    if isinstance(value, dict):
        return _encode_map(value, at)
    if isinstance(value, list | tuple):
        return [item if type(item) is str else _encode(item, f"{at}[{n}]") for n, item in enumerate(value)]
    hint = ": store decimals as text" if isinstance(value, Decimal) else ""
    raise _Unstorable(f"{at} cannot hold a {type(value).__name__}{hint}")


def _encode_map(values: dict[Any, Any], at: str) -> dict[str, Any]:
    out = {}
    for name, value in values.items():
        if not isinstance(name, str) or not name:
            raise _Unstorable(f"{at or 'a field'} has the name {name!r}: names are text, not empty")
        out["$" + name if name[0] == "$" else name] = (
            value if type(value) in _PLAIN else _encode(value, f"{at}.{name}" if at else name)
        )
    return out


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if _TIME in value:
            return datetime.fromisoformat(value[_TIME])
        return {name[1:] if name[0] == "$" else name: _decode(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value


def _time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


# -- queries -------------------------------------------------------------------------------------


def _path(field: str) -> str:
    if not _FIELD.fullmatch(field):
        raise BadInput(f"a query's field must be a plain name, was {field!r}")
    name = "$" + field if field[0] == "$" else field
    return '$."' + name.replace("'", "''") + '"'


def _equals(field: str, wanted: object) -> tuple[str, list[Any]]:
    path = _path(field)
    kind, value = f"json_type(data, '{path}')", f"json_extract(data, '{path}')"
    if wanted is None or isinstance(wanted, bool):
        return f"{kind} = ?", [json.dumps(wanted)]
    if isinstance(wanted, str):
        return f"{kind} = 'text' AND {value} = ?", [str.__str__(wanted)]
    if isinstance(wanted, int | float):
        return f"{kind} IN ('integer', 'real') AND {value} = ?", [wanted]
    if isinstance(wanted, datetime) and wanted.tzinfo is not None:
        return f"json_extract(data, '{path}.\"{_TIME}\"') = ?", [_time_text(wanted)]
    raise BadInput(f"{field} can be compared to text, a number, a boolean, None or a UTC time, was {wanted!r}")


def _order(path: str, direction: str) -> str:
    """Null, booleans, numbers, times, text, then the rest: Firestore's order of types."""
    rank = (
        f"CASE json_type(data, '{path}') WHEN 'null' THEN 0 WHEN 'false' THEN 1 WHEN 'true' THEN 1 "
        "WHEN 'integer' THEN 2 WHEN 'real' THEN 2 WHEN 'object' THEN 3 WHEN 'text' THEN 4 ELSE 5 END"
    )
    value = f"coalesce(json_extract(data, '{path}.\"{_TIME}\"'), json_extract(data, '{path}'))"
    return f"{rank} {direction}, {value} {direction}"
