"""The records of a simulated world: the Store port in this process's memory, with the rules of every other store.

Simulated worlds write and read a few thousand times a second; a database would take more time than all they do. What
a document may hold, and what each call answers, is held to the same contract as the others.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from twinleg.adapters.documents import (
    TIME,
    checked_batch,
    checked_field,
    checked_id,
    checked_wanted,
    decoded,
    encoded_write,
    merged,
    time_text,
)
from twinleg.domain.errors import Conflict
from twinleg.engine.ports import Check, Create, Document, Exists, Merge, Replace, Steps, Stored, Write

if TYPE_CHECKING:
    from twinleg.engine.backup import Snapshot


@dataclass(slots=True)
class _Kept:
    """One document: its JSON and version. ``plain`` is the JSON read, for queries only; it is never handed out."""

    text: str
    version: int
    plain: dict[str, Any] | None = None

    def value(self, name: str) -> Any:
        """A field as JSON has it; `_ABSENT` when there is none."""
        if self.plain is None:
            self.plain = orjson.loads(self.text)
        return self.plain.get(name, _ABSENT)

    def stored(self, id: str) -> Stored:
        return Stored(id, decoded(self.text), str(self.version))


@dataclass
class Documents:
    """What all stores of one world share: collection → id → document."""

    collections: dict[str, dict[str, _Kept]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def text(self, collection: str, id: str) -> str | None:
        """A document's JSON."""
        kept = self.kept(collection, id)
        return kept.text if kept else None

    def kept(self, collection: str, id: str) -> _Kept | None:
        return self.collections.get(collection, {}).get(id)

    def put(self, collection: str, id: str, kept: _Kept) -> None:
        self.collections.setdefault(collection, {})[id] = kept


class MemoryStore:
    """The Store port over `Documents`. A version is the text of a counter per document."""

    def __init__(self, documents: Documents, steps: Steps | None = None) -> None:
        self._documents, self._steps = documents, steps or Steps()

    def get(self, collection: str, id: str) -> Stored | None:
        checked_id(collection, id)
        where = f"store.get {collection}/{id}"
        self._steps.step(where)
        kept = self._documents.kept(collection, id)
        self._steps.step(where + " done")
        return kept.stored(id) if kept else None

    def create(self, collection: str, id: str, data: Document) -> str:
        self._write("create", (Create(collection, checked_id(collection, id), data),))
        return "1"

    def compare_and_set(self, collection: str, id: str, data: Document, version: str) -> str:
        self._write("compare_and_set", (Replace(collection, id, data, version),))
        return str(int(version) + 1)

    def batch(self, writes: Sequence[Write]) -> None:
        self._write("batch", checked_batch(writes))

    def _write(self, call: str, writes: Sequence[Write]) -> None:
        """All or nothing. A precondition that does not hold is said after the step, as a database's answer."""
        texts = [encoded_write(write) for write in writes]
        where = f"store.{call} " + " ".join(f"{write.collection}/{write.id}" for write in writes)
        self._steps.step(where)
        refused: Exists | Conflict | None = None
        with self._documents.lock:
            try:
                new = [self._after(write, text) for write, text in zip(writes, texts, strict=True)]
            except (Exists, Conflict) as broken:
                refused = broken
            else:
                for write, kept in zip(writes, new, strict=True):
                    if kept is not None:
                        self._documents.put(write.collection, write.id, kept)
        if refused is not None and call == "batch":  # it rolls back before it answers
            raise refused
        self._steps.step(where + " done")
        if refused is not None:
            raise refused

    def _after(self, write: Write, text: str) -> _Kept | None:
        """The document after a write; None where nothing is written. Raises Exists, Conflict."""
        kept = self._documents.kept(write.collection, write.id)
        version = kept.version if kept else 0
        match write:
            case Create():
                if kept:
                    raise Exists(write.collection, write.id)
            case Replace(version=str(wanted)):
                if not kept or str(version) != wanted:
                    raise Conflict(f"{write.collection}/{write.id} is no longer at version {wanted}")
            case Merge():
                text = merged(write.collection, write.id, kept.text, text) if kept else text
            case Check():
                now = str(version) if kept else None
                if now != write.version:
                    raise Conflict(f"{write.collection}/{write.id} is at version {now}, not {write.version}")
                return None
        return _Kept(text, version + 1)

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
        tests = [(_named(name), checked_wanted(name, value)) for name, value in (where or {}).items()]
        by = _named(order_by) if order_by is not None else None
        self._steps.step(f"store.query {collection}")
        with self._documents.lock:
            there = self._documents.collections.get(collection, {})
            ids = [id for id, kept in there.items() if all(_equals(kept.value(name), value) for name, value in tests)]
            if by is None:
                ids.sort(reverse=descending)
            else:
                keys = {id: (*_order(value), id) for id in ids if (value := there[id].value(by)) is not _ABSENT}
                ids = sorted(keys, key=keys.__getitem__, reverse=descending)
            found = [(id, there[id]) for id in ids[:limit]]
        self._steps.step(f"store.query {collection} done")
        return [kept.stored(id) for id, kept in found]

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The documents as they are now; what is written meanwhile is not in them."""
        with self._documents.lock:
            yield _Pages({name: dict(there) for name, there in self._documents.collections.items()})

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Pages:
    collections: Mapping[str, Mapping[str, _Kept]]

    def page(self, collection: str, after: str, limit: int) -> list[Stored]:
        there = self.collections.get(collection, {})
        return [there[id].stored(id) for id in sorted(id for id in there if id > after)[:limit]]


# -- queries -------------------------------------------------------------------------------------

_ABSENT: Any = object()


def _named(name: str) -> str:
    """A field's name as the JSON has it."""
    return "$" + name if checked_field(name)[0] == "$" else name


def _equals(value: Any, wanted: object) -> bool:
    if wanted is None or isinstance(wanted, bool):
        return value is wanted
    if isinstance(wanted, str):
        return isinstance(value, str) and value == wanted
    if isinstance(wanted, datetime):
        return isinstance(value, dict) and value.get(TIME) == time_text(wanted)
    return isinstance(value, int | float) and not isinstance(value, bool) and value == wanted


def _order(value: Any) -> tuple[int, Any]:
    """Null, booleans, numbers, times, text, then the rest: Firestore's order of types."""
    match value:
        case None:
            return 0, 0
        case bool():
            return 1, value
        case int() | float():
            return 2, value
        case dict():
            return 3, value.get(TIME) or json.dumps(value, separators=(",", ":"))
        case str():
            return 4, value
    return 5, json.dumps(value, separators=(",", ":"))
