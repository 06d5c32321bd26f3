"""The Store port on Firestore: one commit with preconditions per write, never a read-modify-write transaction.

A Check is a write too, one that changes nothing: it clears a field that no document has (or deletes a document
that must be absent) under its precondition, and Firestore leaves the update time of an unchanged document as it
was. So a batch needs no read and holds no lock while we think. The other way round, content written again
unchanged would keep its version, and two claims with the same content would both win; so every document carries
a random mark of its last write. Source: Google Cloud API reference, google.firestore.v1 Write and WriteResult.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc  # type: ignore[import-untyped]
from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

from twinleg.adapters.documents import (
    checked_batch,
    checked_field,
    checked_id,
    checked_wanted,
    decoded,
    encoded_write,
)
from twinleg.adapters.gcp.client import CHANNEL_OPTIONS, ERRORS, PerProcess, soon_again, words
from twinleg.domain.errors import BadInput, Conflict, Unavailable
from twinleg.engine.ports import Check, Create, Document, Exists, Merge, Replace, Steps, Stored, Write

if TYPE_CHECKING:
    from twinleg.engine.backup import Snapshot

MARK = "_write"
"""The field that holds the mark of the last write; nobody reads it."""
_NO_FIELD = "_check"
PAGE_SECONDS_MAX = 60.0
"""How long a page of a snapshot may take: a person waits for it, no function does."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Operations as Firestore bills them: documents read (one for a query that finds nothing), written, deleted.

    A Check counts as the write (or, of a document that must be absent, the delete) that it is. Source: Google Cloud
    documentation, "Understand Cloud Firestore billing". A commit that was refused counts as if it had been done.
    """

    reads: int = 0
    writes: int = 0
    deletes: int = 0

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(self.reads - earlier.reads, self.writes - earlier.writes, self.deletes - earlier.deletes)


class FirestoreStore:
    """Documents in one Firestore database (Native mode), reached at first use, shared by every thread of a process.

    A version is the document's update time in RFC 3339 with all its digits. Every call ends within
    *timeout_seconds*; reads are tried again within it, a write is sent once.

    Errors: those of the port, and BadInput for what Firestore refuses whatever is tried. A write whose
    answer was lost is Unavailable too: repeating it meets its own precondition (Exists or Conflict).
    """

    def __init__(
        self,
        project: str,
        database: str = "(default)",
        steps: Steps | None = None,
        *,
        emulator_host: str = "",
        timeout_seconds: float = 5.0,
    ) -> None:
        self._database = f"projects/{project}/databases/{database}"
        self._steps = steps or Steps()
        self._emulator_host = emulator_host
        self._timeout_seconds = timeout_seconds
        self._read_again = soon_again(timeout_seconds)
        self._metadata = [("authorization", "Bearer owner")] if emulator_host else []
        self._client = PerProcess(self._connected)
        self._counting, self._counts = threading.Lock(), Counts()

    @property
    def counts(self) -> Counts:
        """The operations of this store since it was made, tries of a read that failed left out."""
        return self._counts

    # -- the port --------------------------------------------------------------------------------

    def get(self, collection: str, id: str) -> Stored | None:
        checked_id(collection, id)
        where = f"store.get {collection}/{id}"
        request = types.BatchGetDocumentsRequest(database=self._database, documents=[self._name(collection, id)])
        self._steps.step(where)
        with _reading(where):
            answers = list(self._client().batch_get_documents(request=request, **self._reads()))
        self._count(reads=1)
        self._steps.step(where + " done")
        found = _documents(answers, "found")
        return _stored(found[0]) if found else None

    def create(self, collection: str, id: str, data: Document) -> str:
        write = self._write(Create(collection, id, data))
        return self._commit(f"store.create {collection}/{id}", [write], [(collection, id)])

    def compare_and_set(self, collection: str, id: str, data: Document, version: str) -> str:
        write = self._write(Replace(collection, id, data, version))
        return self._commit(f"store.compare_and_set {collection}/{id}", [write], [])

    def batch(self, writes: Sequence[Write]) -> None:
        where = "store.batch " + " ".join(f"{write.collection}/{write.id}" for write in writes)
        creates = [(write.collection, write.id) for write in writes if isinstance(write, Create)]
        self._commit(where, [self._write(write) for write in checked_batch(writes)], creates)

    def query(
        self,
        collection: str,
        where: Mapping[str, object] | None = None,
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Stored]:
        """As the port says; a tie in *order_by* is broken by id, in the same direction.

        Descending by id alone reads the whole collection, because Firestore scans ids upwards only.
        """
        checked_id(collection, "any")
        filters = [_equals(field, wanted) for field, wanted in (where or {}).items()]
        turned = descending and order_by is None
        directions = types.StructuredQuery.Direction
        direction = directions.DESCENDING if descending and not turned else directions.ASCENDING
        fields = [_path(order_by), "__name__"] if order_by is not None else ["__name__"]
        query = types.StructuredQuery(
            from_=[{"collection_id": collection}],
            where={"composite_filter": {"op": "AND", "filters": filters}} if filters else None,
            order_by=[{"field": {"field_path": field}, "direction": direction} for field in fields],
            limit=None if turned else limit or None,
        )
        request = types.RunQueryRequest(parent=f"{self._database}/documents", structured_query=query)
        self._steps.step(f"store.query {collection}")
        answers: list[Any] = []
        if limit != 0:
            with _reading(f"store.query {collection}"):
                answers = list(self._client().run_query(request=request, **self._reads()))
        found = [_stored(document) for document in _documents(answers, "document")]
        self._count(reads=max(1, len(found)))
        self._steps.step(f"store.query {collection} done")
        return found[::-1][:limit] if turned else found

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The documents as they are now, read in pages while others go on writing.

        Firestore keeps what was for an hour (for seven days where point-in-time recovery is on): reading that takes
        longer fails. Source: Google Cloud documentation, Firestore "Point-in-time recovery".
        """
        request = types.BatchGetDocumentsRequest(database=self._database, documents=[self._name("control", "trading")])
        with _reading("store.snapshot"):
            first = next(iter(self._client().batch_get_documents(request=request, **self._patient())))
        yield _Pages(self, types.BatchGetDocumentsResponse.pb(first).read_time)

    def page(self, at: Timestamp, collection: str, after: str, limit: int) -> list[Stored]:
        """Documents as of an instant; see `Snapshot`."""
        checked_id(collection, "any")
        request = types.RunQueryRequest.pb()(parent=f"{self._database}/documents", read_time=at)
        query = request.structured_query
        query.from_.add(collection_id=collection)
        query.order_by.add(direction=types.StructuredQuery.Direction.ASCENDING).field.field_path = "__name__"
        query.limit.value = limit
        if after:
            query.start_at.values.add().reference_value = self._name(collection, after)
        with _reading(f"store.page {collection}"):
            answers = list(self._client().run_query(request=types.RunQueryRequest.wrap(request), **self._patient()))
        return [_stored(document) for document in _documents(answers, "document")]

    def _patient(self) -> dict[str, Any]:
        return self._reads() | {"retry": soon_again(PAGE_SECONDS_MAX), "timeout": PAGE_SECONDS_MAX}

    def close(self) -> None:
        """Close this process's connection; the next use opens one again."""
        self._client.close()

    # -- calls -----------------------------------------------------------------------------------

    def _connected(self) -> FirestoreClient:
        if not self._emulator_host:
            return FirestoreClient()
        channel = grpc.insecure_channel(self._emulator_host, options=CHANNEL_OPTIONS)
        return FirestoreClient(transport=FirestoreGrpcTransport(channel=channel))

    def _count(self, reads: int = 0, writes: int = 0, deletes: int = 0) -> None:
        with self._counting:
            now = self._counts
            self._counts = Counts(now.reads + reads, now.writes + writes, now.deletes + deletes)

    def _reads(self) -> dict[str, Any]:
        return {"retry": self._read_again, "timeout": self._timeout_seconds, "metadata": self._metadata}

    def _commit(self, where: str, writes: list[Any], creates: Sequence[tuple[str, str]]) -> str:
        """Commit all or nothing; the version of the last document written."""
        request = types.CommitRequest.pb()(database=self._database, writes=writes)
        deletes = sum(bool(write.delete) for write in writes)
        self._count(writes=len(writes) - deletes, deletes=deletes)
        self._steps.step(where)
        try:
            answer = self._client().commit(
                request=types.CommitRequest.wrap(request),
                retry=None,
                timeout=self._timeout_seconds,
                metadata=self._metadata,
            )
        except AlreadyExists as error:
            only = creates if len(writes) == 1 else self._existing(creates)
            raise Exists(*only[0]) if only else Conflict(f"{where}: {words(error)}") from error
        except (FailedPrecondition, NotFound, Aborted) as error:
            raise Conflict(f"{where}: {words(error)}") from error
        except InvalidArgument as error:
            raise BadInput(f"{where}: {words(error)}") from error
        except ERRORS as error:
            raise Unavailable(f"{where}: {words(error)}") from error
        self._steps.step(where + " done")
        results = types.CommitResponse.pb(answer).write_results
        return _version(results[-1].update_time) if results else ""

    def _existing(self, creates: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Which of the documents to be created are there; a refusal names the document to people only."""
        names = {self._name(*create): create for create in creates}
        request = types.BatchGetDocumentsRequest(database=self._database, documents=list(names))
        with _reading("store.batch"):
            answers = list(self._client().batch_get_documents(request=request, **self._reads())) if names else []
        self._count(reads=len(names))
        return [names[document.name] for document in _documents(answers, "found")]

    # -- writes ----------------------------------------------------------------------------------

    def _name(self, collection: str, id: str) -> str:
        return f"{self._database}/documents/{collection}/{id}"

    def _write(self, write: Write) -> Any:
        """One write of a commit, with its precondition."""
        made = types.Write.pb()()
        name = self._name(write.collection, checked_id(write.collection, write.id))
        if isinstance(write, Check):
            if write.version is None:
                made.delete = name
            else:
                made.update.name = name
                made.update_mask.field_paths.append(_NO_FIELD)
        else:
            made.update.name = name
            fields = decoded(encoded_write(write))
            if MARK in fields:
                raise BadInput(f"{write.collection}/{write.id}: the field {MARK} is the store's own")
            _fill(made.update.fields, fields)
            made.update.fields[MARK].string_value = secrets.token_hex(8)
            if isinstance(write, Merge):
                made.update_mask.field_paths.extend([*(_path(field) for field in fields), MARK])
                return made
        if isinstance(write, Create) or (isinstance(write, Check) and write.version is None):
            made.current_document.exists = False
        elif write.version is not None:
            made.current_document.update_time.CopyFrom(_time_of(write, write.version))
        return made


@dataclass(frozen=True, slots=True)
class _Pages:
    store: FirestoreStore
    at: Timestamp

    def page(self, collection: str, after: str, limit: int) -> list[Stored]:
        return self.store.page(self.at, collection, after, limit)


# -- values --------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _fill(fields: Any, data: Document) -> None:
    for name, value in data.items():
        _put(fields[name], value)


def _put(slot: Any, value: Any) -> None:
    match value:
        case None:
            slot.null_value = 0
        case bool():
            slot.boolean_value = value
        case str():
            slot.string_value = value
        case int():
            slot.integer_value = value
        case float():
            slot.double_value = value
        case datetime():
            slot.timestamp_value.FromDatetime(value)
        case dict():
            slot.map_value.SetInParent()
            _fill(slot.map_value.fields, value)
        case list():
            slot.array_value.SetInParent()
            for item in value:
                _put(slot.array_value.values.add(), item)


def _value(slot: Any) -> Any:
    kind = slot.WhichOneof("value_type")
    value = getattr(slot, kind)
    match kind:
        case "null_value":
            return None
        case "timestamp_value":
            return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
        case "map_value":
            return {name: _value(item) for name, item in value.fields.items()}
        case "array_value":
            return [_value(item) for item in value.values]
    return value


def _documents(answers: Iterable[Any], field: str) -> list[Any]:
    """The documents in a stream of answers; some only say that one is missing, or what time it is."""
    raw = [type(answer).pb(answer) for answer in answers]
    return [getattr(answer, field) for answer in raw if answer.HasField(field)]


def _stored(document: Any) -> Stored:
    data = {name: _value(slot) for name, slot in document.fields.items() if name != MARK}
    return Stored(document.name.rsplit("/", 1)[1], data, _version(document.update_time))


def _version(at: Any) -> str:
    return str(Timestamp(seconds=at.seconds, nanos=at.nanos).ToJsonString())


def _time_of(write: Write, version: str) -> Timestamp:
    at = Timestamp()
    try:
        at.FromJsonString(version)
    except ValueError:
        raise Conflict(f"{write.collection}/{write.id} was never at version {version[:40]!r}") from None
    return at


# -- queries -------------------------------------------------------------------------------------


def _path(field: str) -> str:
    return "`" + checked_field(field).replace("`", "\\`") + "`"


def _equals(field: str, wanted: object) -> dict[str, Any]:
    path = {"field_path": _path(field)}
    value = checked_wanted(field, wanted)
    if value is None:
        return {"unary_filter": {"field": path, "op": "IS_NULL"}}
    slot = types.Value.pb()()
    _put(slot, value)
    return {"field_filter": {"field": path, "op": "EQUAL", "value": types.Value.wrap(slot)}}


# -- errors --------------------------------------------------------------------------------------


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """No verdict about a document can come of a read: whatever fails, the store was not reached."""
    try:
        yield
    except ERRORS as error:
        raise Unavailable(f"{where}: {words(error)}") from error
