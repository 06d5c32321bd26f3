"""A backup as one file: gzipped lines of JSON, a header first, a trailer with counts and a checksum last.

Values keep their types as in `twinleg.adapters.documents`. A file under its name is whole: it is written beside it
and renamed. Signed actions are in it, so that it is readable by its owner only.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from twinleg.adapters.documents import DOCUMENT_BYTES_MAX, checked_id, decoded, encoded
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.backup import COLLECTIONS, Entry, Origin
from twinleg.engine.ports import Stored

FORMAT, VERSION = "twinleg backup", 1
LINE_BYTES_MAX = DOCUMENT_BYTES_MAX * 2 + 10_000
"""A document in JSON may be longer than Firestore counts it: every control character takes six."""


def write_backup(path: Path, origin: Origin, documents: Iterable[tuple[str, Stored]]) -> dict[str, int]:
    """Write a new file; how many documents of each collection are in it.

    Raises BadInput when there is a file of that name already or it cannot be made, Unavailable when the disk fails.
    """
    if path.exists():
        raise BadInput(f"{path} is there already: a backup never replaces another")
    part = path.with_name(f"{path.name}.part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as raw:
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6) as packed:
                counts = _write(packed, origin, documents)
            raw.flush()
            os.fsync(raw.fileno())
        part.rename(path)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return counts


def _write(packed: gzip.GzipFile, origin: Origin, documents: Iterable[tuple[str, Stored]]) -> dict[str, int]:
    digest, counts = hashlib.sha256(), dict.fromkeys(COLLECTIONS, 0)

    def line(text: str) -> None:
        data = f"{text}\n".encode()
        digest.update(data)
        packed.write(data)

    header = {
        "format": FORMAT,
        "version": VERSION,
        "twinleg": package_version("twinleg"),
        "made_at": origin.made_at.isoformat(),
        "source": origin.source,
        "live": origin.live,
        "accounts": origin.accounts,
        "collections": list(COLLECTIONS),
    }
    line(json.dumps(header))
    for collection, stored in documents:
        counts[collection] += 1
        name = f'"collection":{json.dumps(collection)},"id":{json.dumps(stored.id)}'
        line(f'{{{name},"data":{encoded(collection, stored.id, stored.data)}}}')
    line(json.dumps({"end": True, "counts": counts, "sha256": digest.hexdigest()}))
    return counts


class BackupFile:
    """A backup that was read to its end and found whole; reading it again gives its documents.

    Raises BadInput, when it is made, for a file that is damaged, cut off, of another kind or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise BadInput(f"{path} cannot be read: {error.strerror}") from None
        try:
            for _ in self._lines():
                pass
        except BaseException:
            self._raw.close()
            raise

    origin: Origin
    counts: dict[str, int]

    def entries(self) -> Iterator[Entry]:
        """The documents, in the order in which they are to be restored."""
        yield from self._lines()

    def close(self) -> None:
        self._raw.close()

    def _lines(self) -> Iterator[Entry]:
        self._raw.seek(0)
        reading = _Reading(self._path)
        with gzip.GzipFile(fileobj=self._raw) as packed:
            while text := reading.line(packed):
                entry = reading.entry(text)
                if entry is not None:
                    yield entry
        self.origin, self.counts = reading.finished()


class _Reading:
    """One reading of a file from its beginning to its end, checked line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self._digest = hashlib.sha256()
        self._origin: Origin | None = None
        self._counts = dict.fromkeys(COLLECTIONS, 0)
        self._last: tuple[int, str] = (-1, "")
        self._ended = False

    def line(self, packed: gzip.GzipFile) -> bytes:
        """The next line; empty at the end."""
        try:
            text = packed.readline(LINE_BYTES_MAX + 1)
        except EOFError:
            raise self._bad("is cut off: the end is missing") from None
        except (OSError, zlib.error):
            raise self._bad("is damaged, or no backup: it cannot be unpacked") from None
        self._number += 1
        if text and not text.endswith(b"\n"):
            raise self._bad(f"line {self._number} has no end")
        if text and self._ended:
            raise self._bad("goes on after its end")
        return text

    def entry(self, text: bytes) -> Entry | None:
        """The document in a line; None for the header and the trailer, once they were checked."""
        values = self._json(text)
        if self._origin is None:
            self._origin = self._header(values)
        elif values.get("end") is True:
            self._trailer(values)
        else:
            entry = self._document(values, len(text))
            self._digest.update(text)
            return entry
        self._digest.update(text)
        return None

    def finished(self) -> tuple[Origin, dict[str, int]]:
        if self._origin is None:
            raise self._bad("is empty")
        if not self._ended:
            raise self._bad("is cut off: its last line is missing")
        return self._origin, self._counts

    def _json(self, text: bytes) -> dict[str, Any]:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise self._bad(f"line {self._number} is not a JSON object")
        return values

    def _header(self, values: dict[str, Any]) -> Origin:
        if values.get("format") != FORMAT:
            raise self._bad("is no backup of twinleg")
        if values.get("version") != VERSION:
            raise self._bad(f"has version {str(values.get('version'))[:20]}, this twinleg reads {VERSION}")
        try:
            made_at = datetime.fromisoformat(values["made_at"])
            accounts = {str(name): str(account) for name, account in values["accounts"].items()}
            return Origin(made_at, str(values["source"]), bool(values["live"]), accounts)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._bad("has a damaged header") from None

    def _document(self, values: dict[str, Any], size_bytes: int) -> Entry:
        collection, id = values.get("collection"), values.get("id")
        if not isinstance(collection, str) or not isinstance(id, str):
            raise self._bad(f"line {self._number} names no document")
        if collection not in COLLECTIONS:
            raise self._bad(f"holds the collection {collection[:40]!r}, which this twinleg does not know")
        place = COLLECTIONS.index(collection), id
        if place <= self._last:
            raise self._bad(f"line {self._number} is out of order, or there twice")
        self._last = place
        self._counts[collection] += 1
        try:
            data = decoded(json.dumps(values.get("data")))
            encoded(collection, checked_id(collection, id), data)
        except (BadInput, TypeError, ValueError, RecursionError) as error:
            raise self._bad(f"line {self._number} holds no document: {str(error)[:200]}") from None
        return Entry(collection, id, data, size_bytes)

    def _trailer(self, values: dict[str, Any]) -> None:
        if values.get("counts") != self._counts or values.get("sha256") != self._digest.hexdigest():
            raise self._bad("is damaged: its content is not what its last line says")
        self._ended = True

    def _bad(self, what: str) -> BadInput:
        return BadInput(f"{self._path} {what}")
