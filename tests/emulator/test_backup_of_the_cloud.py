"""Backups of Firestore: our own file, between projects and to one machine, and Google's own export and import."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from twinleg.adapters.gcp.firestore import FirestoreStore
from twinleg.adapters.local.backup_file import BackupFile, write_backup
from twinleg.adapters.local.store import SqliteStore
from twinleg.bootstrap import Once, System, cloud_system
from twinleg.domain.control import Halt
from twinleg.domain.trades import TradeState
from twinleg.embedded.runtime import Runtime
from twinleg.engine.backup import COLLECTIONS, NOT_RESTORED, documents, origin, refuse_unless_empty, restore
from twinleg.engine.control import set_trading
from twinleg.engine.ports import Replace, SignerRole, Store

MakeStore = Callable[[], FirestoreStore]


def quiet(_: str, __: int) -> None:
    pass


def contents(store: Store) -> dict[str, dict[str, Any]]:
    return {name: {s.id: s.data for s in store.query(name)} for name in COLLECTIONS if name not in NOT_RESTORED}


@pytest.fixture
def firestore(firestore_host: str) -> Iterator[MakeStore]:
    """Makes stores, each in a project of its own."""
    made: list[FirestoreStore] = []

    def make() -> FirestoreStore:
        made.append(FirestoreStore(f"t-{secrets.token_hex(6)}", emulator_host=firestore_host, timeout_seconds=20))
        return made[-1]

    yield make
    for store in made:
        store.close()


def serve(w: Any, store: Store) -> None:
    """The world's functions keep their records in this store from now on."""
    w.system = replace(w.new_system(), make_store=Once(lambda: store))
    w.runtime = Runtime(w.system)


def traded(world: Callable[..., Any], store: Store) -> Any:
    """A desk whose records are in Firestore, with one trade open."""
    w = world()
    serve(w, store)
    set_trading(w.engine(), Halt.ENABLED, why="a test", by="ada")
    w.minutes()
    w.alert("buy", "a1")
    w.minutes()
    assert [t.state for t in w.trades()] == [TradeState.OPEN]
    return w


def backed_up(w: Any, folder: Path) -> Path:
    path = folder / "desk.gz"
    write_backup(path, origin(w.engine(), "firestore here"), documents(w.system.store, quiet))
    return path


def restored(w: Any, path: Path, store: Store) -> None:
    refuse_unless_empty(store)
    with closing(BackupFile(path)) as backup:
        restore(replace(w.engine(), store=store), backup.origin, backup.entries(), by="ada", progress=quiet)


def guarded_and_not_doubled(w: Any, fills: dict[str, Any]) -> None:
    w.minutes(2)
    assert [t.state for t in w.trades()] == [TradeState.OPEN]
    assert {a: w.fills(a) for a in fills} == fills
    assert w.engine().control()[0].state is Halt.HALTED
    assert w.system.store.get("books", "main").data["positions"]
    w.alert("close", "a2")
    assert [t.state for t in w.trades()] == [TradeState.CLOSED]
    assert w.position("main") == w.position("hedge") == 0


@pytest.mark.parametrize("target", ["another project", "one machine"])
def test_an_open_trade_goes_on_from_a_backup_elsewhere(
    world: Callable[..., Any], firestore: MakeStore, tmp_path: Path, target: str
) -> None:
    w = traded(world, firestore())
    path, fills = backed_up(w, tmp_path), {a: w.fills(a) for a in ("main", "hedge")}
    before = contents(w.system.store)
    there = firestore() if target == "another project" else SqliteStore(tmp_path / "there.db", synchronous="NORMAL")
    restored(w, path, there)
    after = contents(there)
    for records in (before, after):
        del records["control"]["trading"]
    assert len(after["audit"]) == len(before["audit"]) + 1
    after["audit"] = {id: after["audit"][id] for id in before["audit"]}
    assert after == before
    serve(w, there)
    guarded_and_not_doubled(w, fills)


def test_a_backup_is_of_one_instant_and_of_more_than_a_page(firestore: MakeStore) -> None:
    store = firestore()
    for start in range(0, 600, 300):
        store.batch([Replace("audit", f"{n:05}", {"n": n}) for n in range(start, start + 300)])
    seen = []
    for _, stored in documents(store, quiet):
        if not seen:
            store.batch([Replace("audit", "00599", {"n": -1}), Replace("audit", "99999", {"n": -1})])
            store.create("control", "desk", {"n": -1})
        seen.append((stored.id, stored.data["n"]))
    assert seen == [(f"{n:05}", n) for n in range(600)]


def test_google_s_own_export_is_imported_elsewhere_and_the_trade_goes_on(
    world: Callable[..., Any], firestore: MakeStore, firestore_host: str, tmp_path: Path
) -> None:
    """An import brings trading back as it was: so it is halted there first, which is the runbook's first step."""
    here, there = firestore(), firestore()
    w = traded(world, here)
    fills = {a: w.fills(a) for a in ("main", "hedge")}
    emulator = f"http://{firestore_host}/emulator/v1"

    def ask(store: FirestoreStore, what: str, **more: str) -> None:
        project, database = store._database.split("/")[1], store._database
        body = {"database": database} | more
        requests.post(f"{emulator}/projects/{project}:{what}", json=body, timeout=30).raise_for_status()

    ask(here, "export", export_directory=str(tmp_path), export_name="nightly")
    before = contents(here)
    ask(there, "import", export_directory=str(tmp_path / "nightly" / "nightly.overall_export_metadata"))
    assert contents(there) == before, "the very documents, and each write's mark"
    serve(w, there)
    assert w.engine().control()[0].state is Halt.ENABLED
    set_trading(w.engine(), Halt.HALTED, why="restored from an export", by="ada")
    guarded_and_not_doubled(w, fills)


def test_the_command_s_system_can_be_backed_up(firestore_host: str, world: Callable[..., Any], tmp_path: Path) -> None:
    environ = {"GOOGLE_CLOUD_PROJECT": f"t-{secrets.token_hex(6)}", "FIRESTORE_EMULATOR_HOST": firestore_host}
    w = world()
    system: System = cloud_system(w.system.settings, environ, clock=w.system.clock, call_seconds_max=10)
    system.store.create("control", "trading", {"state": "HALTED"})
    engine = system.engine(SignerRole.EXECUTE)
    counts = write_backup(tmp_path / "x.gz", origin(engine, "firestore"), documents(system.store, quiet))
    assert counts["control"] == 1
    assert [job.paused for job in system.schedule.jobs()] == [False, False], "beside an emulator, this machine's"
    system.store.close()  # type: ignore[attr-defined]
