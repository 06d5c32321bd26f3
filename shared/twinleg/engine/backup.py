"""Backup and restore of the records, through the Store port: what they hold, and when they may be written back.

A restore never trades: it ends in HALTED, because actions that were signed after the backup was made are not in it.
What the accounts hold by then only the venues know; the next sweep reconciles the records with that (TRUTH), closes
what has only one leg left, and reports positions that no record owns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from twinleg.domain.control import CONTROL_ID, Control, Halt
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.domain.messages import EventKind
from twinleg.engine.audit import recorded
from twinleg.engine.ports import Create, Document, Exists, Replace, Store, Stored, Write
from twinleg.engine.records import document
from twinleg.engine.schedule import JOBS, SCHEDULE_ID, Schedule
from twinleg.engine.system import Engine

COLLECTIONS = (
    "trades", "positions", "actions", "signers", "orders", "intents", "alerts", "accounts", "books", "markets", "audit",
    "control",
)  # fmt: skip
"""Every collection there is, in the order in which they are restored: what a position belongs to comes first."""
DECISIVE = ("control", "trades", "actions", "intents", "orders", "signers", "positions")
"""A store with anything in one of these is somebody's. The others are written anew by the next minute."""
OF_ITS_PLACE = frozenset((SCHEDULE_ID, *(f"job-{name}" for name in JOBS)))
"""Documents in ``control`` about the scheduler of one place: neither backed up nor in the way of a restore."""
NOT_RESTORED = ("books",)
"""What the sweep remembers from one minute to the next: it makes it anew by looking at everything, as it should."""
PAGE = 500
BATCH_DOCUMENTS_MAX, BATCH_BYTES_MAX = 200, 1_000_000
WRITE_TRIES = 4
RETRY_SECONDS = 1.0


class Snapshot(Protocol):
    """A store as it was at one instant, read in pages."""

    def page(self, collection: str, after: str, limit: int) -> list[Stored]:
        """The documents of a collection whose ids come after *after* (empty: the first ones), in order of their ids.

        Ids are ordered by their UTF-8 bytes.
        """


@runtime_checkable
class Snapshots(Protocol):
    """A store that can be read as it is at one instant, while others go on writing."""

    def snapshot(self) -> AbstractContextManager[Snapshot]: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A document in a backup, and roughly its size."""

    collection: str
    id: str
    data: Document
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What a backup says of itself."""

    made_at: datetime
    source: str
    live: bool
    accounts: dict[str, str]
    """account → ``venue address``, as far as the configuration names addresses."""


Progress = Callable[[str, int], None]
"""Told now and then: the collection, and how many of its documents are done."""


def origin(engine: Engine, source: str) -> Origin:
    """What a backup made now would say of itself."""
    accounts = {name: f"{account.venue} {account.address}".strip() for name, account in engine.desk.accounts.items()}
    return Origin(engine.now(), source, engine.desk.live, accounts)


def documents(store: Store, progress: Progress) -> Iterator[tuple[str, Stored]]:
    """Every document of every collection, all as they are at one instant."""
    with snapshot_of(store) as snapshot:
        for collection in COLLECTIONS:
            count, after = 0, ""
            while page := snapshot.page(collection, after, PAGE):
                for stored in page:
                    if not (collection == "control" and stored.id in OF_ITS_PLACE):
                        count += 1
                        yield collection, stored
                after = page[-1].id
                progress(collection, count)


def snapshot_of(store: Store) -> AbstractContextManager[Snapshot]:
    if not isinstance(store, Snapshots):
        raise BadInput(f"a {type(store).__name__} cannot be read as of one instant")
    return store.snapshot()


# -- restoring -------------------------------------------------------------------------------------


def refuse_other_desk(engine: Engine, backup: Origin) -> None:
    """BadInput when the backup is of other money or other accounts than this configuration's."""
    here = origin(engine, "")
    if backup.live != here.live:
        raise BadInput(f"the backup is of mode {_mode(backup.live)}, this configuration's mode is {_mode(here.live)}")
    for name, account in sorted(backup.accounts.items()):
        if here.accounts.get(name) != account:
            found = here.accounts.get(name, "not there")
            raise BadInput(f"account {name} of the backup is {account}, in this configuration it is {found}")


def _mode(live: bool) -> str:
    return "live" if live else "paper"


def refuse_unless_empty(store: Store) -> None:
    """BadInput when the store holds records of a desk already."""
    with snapshot_of(store) as snapshot:
        for collection in DECISIVE:
            page = snapshot.page(collection, "", len(OF_ITS_PLACE) + 1)
            held = [stored.id for stored in page if not (collection == "control" and stored.id in OF_ITS_PLACE)]
            if held:
                raise BadInput(
                    f"the store is not empty: it has {collection}/{held[0]}. "
                    "Restore into a new file, or a new database or project"
                )


def refuse_while_called(schedule: Schedule) -> None:
    """BadInput while a job runs: a sweep in the middle of a restore would take what is not there yet for nobody's."""
    if running := [job.name for job in schedule.jobs() if not job.paused and job.next_at is not None]:
        raise BadInput(f"{' and '.join(running)} run every minute: twinleg schedule pause all, then restore")


def restore(engine: Engine, backup: Origin, entries: Iterable[Entry], *, by: str, progress: Progress) -> Control:
    """Write a backup's documents into an empty store; trading is HALTED from the first write on.

    Raises Unavailable when the store is lost on the way: what was written is there and halted, and cannot be
    restored into again.
    """
    begun = _halted(engine, f"a restore from {_told(backup)} has begun and has not ended", by)
    try:
        engine.store.batch([Create("control", CONTROL_ID, begun)])
    except Exists:
        raise BadInput("the store is not empty: it has control/trading. Somebody else was quicker") from None
    for collection, batch, done in _batches(entries):
        _write(engine, [Replace(entry.collection, entry.id, entry.data) for entry in batch])
        progress(collection, done)
    why = f"restored from {_told(backup)}: a person resumes after twinleg doctor"
    recorded(engine, EventKind.RESTORED, f"by {by}: {why}", by)
    data = _halted(engine, why, by)
    _write(engine, [Replace("control", CONTROL_ID, data)])
    return Control.model_validate(data)


def _told(backup: Origin) -> str:
    return f"a backup of {backup.source} of {backup.made_at:%Y-%m-%d %H:%M:%S}Z"


def _halted(engine: Engine, why: str, by: str) -> dict[str, Any]:
    control = Control(state=Halt.HALTED, why=why, by=by, since=engine.now())
    return document(control) | {"summary": f"{Halt.HALTED} by {by}: {why}"}


def _batches(entries: Iterable[Entry]) -> Iterator[tuple[str, list[Entry], int]]:
    """The documents of one collection in batches that any store takes at once, but for those that stay behind."""
    batch: list[Entry] = []
    done: dict[str, int] = {}
    size = 0
    for entry in entries:
        of_its_own = entry.collection == "control" and (entry.id == CONTROL_ID or entry.id in OF_ITS_PLACE)
        if of_its_own or entry.collection in NOT_RESTORED:
            continue
        full = len(batch) >= BATCH_DOCUMENTS_MAX or size + entry.size_bytes > BATCH_BYTES_MAX
        if batch and (full or entry.collection != batch[0].collection):
            yield batch[0].collection, batch, done[batch[0].collection]
            batch, size = [], 0
        batch.append(entry)
        size += entry.size_bytes
        done[entry.collection] = done.get(entry.collection, 0) + 1
    if batch:
        yield batch[0].collection, batch, done[batch[0].collection]


def _write(engine: Engine, writes: list[Write]) -> None:
    """Write it, more than once if need be: the same document again is the same."""
    for attempt in range(1, WRITE_TRIES + 1):
        try:
            engine.store.batch(writes)
            return
        except Unavailable:
            if attempt == WRITE_TRIES:
                raise
            engine.clock.sleep(RETRY_SECONDS * attempt)
