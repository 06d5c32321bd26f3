"""Backup and restore: what is in the file, what is refused before anything is written, and what happens afterwards."""

from __future__ import annotations

import ast
import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twinleg
from twinleg.adapters.local.backup_file import BackupFile, write_backup
from twinleg.adapters.local.store import SqliteStore
from twinleg.bootstrap import local_system
from twinleg.cli import main
from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput, Conflict, Unavailable
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import settings_text
from twinleg.embedded.runtime import Runtime
from twinleg.engine.backup import COLLECTIONS, OF_ITS_PLACE, Origin, documents, refuse_other_desk, restore
from twinleg.engine.ports import CancelOrders, Replace, SignerRole, Store
from twinleg.engine.schedule import Pause, note

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ORIGIN = Origin(NOON, "sqlite x", False, {})
Run = Callable[..., tuple[int, str, str]]


def quiet(_: str, __: int) -> None:
    pass


def contents(store: Store) -> dict[str, dict[str, Any]]:
    return {name: {s.id: s.data for s in store.query(name)} for name in COLLECTIONS}


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TWINLEG_CONFIG", "TWINLEG_RUNTIME", "TWINLEG_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def config_of(w: Any, name: str = "twinleg") -> Path:
    """A configuration of the world's desk with a store file of its own."""
    folder = w.folder / f"at-{name}"
    folder.mkdir(exist_ok=True)
    path: Path = folder / "twinleg.toml"
    path.write_text(settings_text(w.coin, w.server.url, {"market": {"strategies": '["tradingview"]'}}))
    if name == "twinleg":
        path = w.folder / "twinleg.toml"
        path.write_text(settings_text(w.coin, w.server.url, {"market": {"strategies": '["tradingview"]'}}))
    return path


# -- what is in it ---------------------------------------------------------------------------------


def written_collections() -> set[str]:
    """Every collection that the package's source writes to by name."""
    package = Path(twinleg.__file__).parent
    found: set[str] = set()
    for path in [*(package / "engine").rglob("*.py"), *(package / "adapters" / "local").glob("sched*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            writes = {"Create", "Replace", "Merge", "create", "compare_and_set", "_put"}
            if called in writes and isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(first.value)
    return found


def test_every_collection_the_code_writes_is_known() -> None:
    found = written_collections()
    assert {"trades", "actions", "control", "audit", "signers", "markets"} <= found
    assert found <= set(COLLECTIONS), f"add {found - set(COLLECTIONS)} to engine/backup.py"


def test_every_collection_of_a_desk_that_traded_is_known(world: Any) -> None:
    w = world()
    w.alert("buy", "a1")
    w.minutes(2)
    w.alert("close", "a2")
    rows = w.system.bus.database.read("SELECT DISTINCT collection FROM documents")
    assert {row[0] for row in rows} <= set(COLLECTIONS)


VALUES: dict[str, Any] = {
    "text": "é\u2028\"\\ \x00", "decimal": "0.10", "int": -(2**63), "float": 1.0, "small": 5e-324, "true": True,
    "none": None, "at": NOON.replace(microsecond=1, tzinfo=timezone(timedelta(hours=5))), "empty": {}, "list": [],
    "nested": {"a": [{"b": [1, "2", None]}, NOON], "$at": "not a time", "$": {"$at": NOON}},
}  # fmt: skip


def test_every_type_comes_back_as_it_was(tmp_path: Path) -> None:
    store = SqliteStore(":memory:")
    store.create("trades", "hyperliquid:BTC é", VALUES)
    path = tmp_path / "x.gz"
    counts = write_backup(path, ORIGIN, documents(store, quiet))
    backup = BackupFile(path)
    (entry,) = backup.entries()
    backup.close()
    assert (entry.collection, entry.id, entry.data) == ("trades", "hyperliquid:BTC é", VALUES)
    assert [type(entry.data[name]) for name in VALUES] == [
        datetime if name == "at" else type(value) for name, value in VALUES.items()
    ]
    assert (backup.origin, backup.counts["trades"], counts) == (ORIGIN, 1, backup.counts)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["x.gz"]


def test_more_than_a_page_as_of_one_instant_while_others_write(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a.db", synchronous="NORMAL")
    for number in range(1201):
        store.create("audit", f"{number:05}", {"n": number})
    store.create("control", "desk", {"n": 0})
    store.create("control", "job-risk", {"n": 0})
    seen = []
    for collection, stored in documents(store, quiet):
        seen.append((collection, stored.id, stored.data["n"]))
        store.batch([Replace("control", "desk", {"n": 7}), Replace("audit", "99999", {"n": 7})])
    assert seen == [("audit", f"{n:05}", n) for n in range(1201)] + [("control", "desk", 0)]


def test_progress_is_told(tmp_path: Path) -> None:
    store = SqliteStore(":memory:")
    for number in range(700):
        store.create("trades", f"{number:05}", {"n": number})
    told: list[tuple[str, int]] = []
    assert len(list(documents(store, lambda name, count: told.append((name, count))))) == 700
    assert told == [("trades", 500), ("trades", 700)]


# -- a desk with an open trade ---------------------------------------------------------------------


def adopt(w: Any, config: Path) -> None:
    """The world's functions serve the records beside this configuration from now on, as a new process would."""
    w.system = local_system(w.system.settings, {}, clock=w.system.clock, path=config.parent / "twinleg.sqlite")
    w.runtime = Runtime(w.system)


def stops(w: Any, account: str) -> list[Any]:
    return [o.trigger_price for o in w.system.venues.of(account).open_orders(account) if o.kind == "stop"]


def take_stops_away(w: Any, account: str) -> None:
    venue = w.system.venues.of(account)
    action = CancelOrders(account, w.market, tuple(o.client_order_id for o in venue.open_orders(account)))
    nonce = int(w.system.clock.now().timestamp() * 1000) + 500
    assert venue.send(venue.sign(action, SignerRole.EMERGENCY, nonce, None), 2).outcome == "accepted"
    assert not stops(w, account)


def test_a_desk_with_an_open_trade_is_restored_and_guarded_and_nothing_is_doubled(world: Any, run: Run) -> None:
    w = world()
    w.alert("buy", "a1")
    w.minutes(2)
    trade, guards = w.trade(), {a: stops(w, a) for a in ("main", "hedge")}
    file, there = w.folder / "desk.gz", config_of(w, "there")
    code, out, err = run("backup", file, "--config", config_of(w))
    assert (code, err) == (0, "") and "1 trades" in out
    before, fills = contents(w.system.store), {a: w.fills(a) for a in ("main", "hedge")}

    code, out, err = run("restore", file, "--into-empty", "--config", there)
    assert (code, err) == (0, "")
    assert "trading is HALTED: restored from a backup of sqlite " in out and "twinleg doctor" in out
    adopt(w, there)
    after = contents(w.system.store)
    assert after["control"].pop("trading")["state"] == "HALTED" and before["control"].pop("trading")
    (mark,) = set(after["audit"]) - set(before["audit"])
    assert after["audit"].pop(mark)["kind"] == "restored"
    assert before.pop("books") and not after.pop("books"), "which the sweep makes anew"
    assert after == before, "every other document, to the last type"

    orders = sorted(after["orders"])
    w.minutes(2)
    assert [t.state for t in w.trades()] == [TradeState.OPEN]
    assert {a: w.fills(a) for a in ("main", "hedge")} == fills, "nothing was bought or sold"
    assert {a: stops(w, a) for a in guards} == guards and sorted(contents(w.system.store)["orders"]) == orders
    take_stops_away(w, "main")
    w.minutes()
    assert stops(w, "main") == guards["main"], "it is guarded from the restored records"
    w.alert("buy", "a1")
    w.alert("buy", "a9")
    assert len(w.fills("main")) == len(fills["main"]) and w.engine().control()[0].state is Halt.HALTED
    w.alert("close", "a10")
    w.minutes()
    assert (w.trades()[0].trade_id, w.trades()[0].state) == (trade.trade_id, TradeState.CLOSED)
    assert w.position("main") == w.position("hedge") == 0


def test_what_happened_after_the_backup_is_set_right_by_the_sweep(world: Any, run: Run) -> None:
    """The trade of the backup is closed by now, and another is open of which the backup knows nothing."""
    w = world()
    w.alert("buy", "a1")
    file, there = w.folder / "desk.gz", config_of(w, "there")
    assert run("backup", file, "--config", config_of(w))[0] == 0
    w.alert("close", "a2")
    assert w.trade().state is TradeState.CLOSED
    assert run("restore", file, "--into-empty", "--config", there)[0] == 0
    adopt(w, there)
    assert w.trade().state is TradeState.OPEN, "so the records say"
    w.minutes(2)
    assert w.trade().state is TradeState.CLOSED
    assert w.position("main") == w.position("hedge") == 0


def test_a_position_that_no_restored_record_owns_is_reported_as_one(world: Any, run: Run) -> None:
    w = world()
    file, there = w.folder / "desk.gz", config_of(w, "there")
    assert run("backup", file, "--config", config_of(w))[0] == 0
    w.alert("buy", "a1")
    assert run("restore", file, "--into-empty", "--config", there)[0] == 0
    adopt(w, there)
    w.minutes(2)
    assert len(w.events("orphan")) == 2 and w.position("main") > 0, "told, and left to a person"
    assert w.engine().control()[0].state is Halt.HALTED


# -- what is refused -------------------------------------------------------------------------------


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    store = SqliteStore(":memory:")
    for number in range(3):
        store.create("trades", f"t{number}", {"n": number, "at": NOON})
    store.create("control", "desk", {"open_trades": []})
    path = tmp_path / "good.gz"
    write_backup(path, ORIGIN, documents(store, quiet))
    return path


def lines(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines(keepends=True)


def repacked(path: Path, changed: bytes) -> Path:
    out = path.with_name("changed.gz")
    out.write_bytes(gzip.compress(changed))
    return out


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        BackupFile(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def test_a_file_that_is_cut_off_anywhere_is_refused(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    for length in {*range(0, len(whole), 7), len(whole) - 1, 1, 18}:
        part = tmp_path / "part.gz"
        part.write_bytes(whole[:length])
        refused(part)
    all_lines = lines(backup)
    for count in range(len(all_lines)):
        assert "cut off" in refused(repacked(backup, b"".join(all_lines[:count]))) or count == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_with_any_byte_changed_is_refused(data: st.DataObject) -> None:
    import tempfile

    store = SqliteStore(":memory:")
    store.create("trades", "t1", {"n": "a text", "at": NOON})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gz"
        write_backup(path, ORIGIN, documents(store, quiet))
        plain = bytearray(gzip.decompress(path.read_bytes()))
        place = data.draw(st.integers(0, len(plain) - 1))
        plain[place] ^= data.draw(st.integers(1, 255))
        refused(repacked(path, bytes(plain)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ls: [ls[0].replace(b'"version": 1', b'"version": 2'), *ls[1:]], "has version 2, this twinleg reads 1"),
        (lambda ls: [ls[0].replace(b"twinleg backup", b"other"), *ls[1:]], "is no backup of twinleg"),
        (lambda ls: [b'{"format": "twinleg backup", "version": 1}\n', *ls[1:]], "has a damaged header"),
        (lambda ls: [*ls[:1], ls[2], ls[1], *ls[3:]], "out of order, or there twice"),
        (lambda ls: [*ls[:2], ls[1], *ls[2:]], "out of order, or there twice"),
        (lambda ls: [*ls, ls[1]], "goes on after its end"),
        (lambda ls: [*ls[:1], ls[1].replace(b'"trades"', b'"gossip"'), *ls[2:]], "'gossip', which this twinleg does"),
        (lambda ls: [*ls[:1], ls[1].replace(b'"t0"', b'"t/0"'), *ls[2:]], "line 2 holds no document"),
        (lambda ls: [*ls[:1], ls[1].replace(b'"n":0', b'"n":[[0]]'), *ls[2:]], "line 2 holds no document"),
        (lambda ls: [*ls[:1], ls[1].replace(b"2026-11-20T", b"x"), *ls[2:]], "line 2 holds no document"),
        (lambda ls: [*ls[:1], ls[1].replace(b'"n":0', b'"n":1'), *ls[2:]], "is damaged: its content is not"),
        (lambda ls: [*ls[:1], b'{"id": 7}\n', *ls[2:]], "line 2 names no document"),
        (lambda ls: [*ls[:1], b"[1]\n", *ls[2:]], "line 2 is not a JSON object"),
        (lambda ls: [*ls[:1], *ls[2:]], "is damaged"),
        (lambda ls: [*ls[:1], b'{"x": "' + b"a" * 3_000_000 + b'"}\n', *ls[1:]], "line 2 has no end"),
    ],
)  # fmt: skip
def test_a_file_that_was_tampered_with_is_refused_with_the_reason(
    backup: Path, change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    assert said in refused(repacked(backup, b"".join(change(lines(backup)))))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x1f\x8b", gzip.compress(b""), gzip.compress(b"\xff\xfe\n")],
    ids=["empty", "text", "cut", "nothing packed", "no text packed"],
)
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    refused(path)
    for nothing in (tmp_path / "nowhere.gz", tmp_path):
        refused(nothing)


@pytest.fixture
def empty(world: Any) -> tuple[Any, Path]:
    w = world()
    return w, config_of(w, "empty")


def held(config: Path) -> int:
    path = config.parent / "twinleg.sqlite"
    return sum(map(len, contents(SqliteStore(path)).values())) if path.exists() else 0


def test_a_store_that_is_somebody_s_is_refused_before_anything_is_written(empty: Any, run: Run) -> None:
    w, config = empty
    file = w.folder / "desk.gz"
    assert run("backup", file, "--config", config_of(w))[0] == 0
    for collection, id in (("control", "trading"), ("trades", "t"), ("actions", "a:1"), ("intents", "i")):
        store = SqliteStore(config.parent / "twinleg.sqlite")
        store.create(collection, id, {})
        code, out, err = run("restore", file, "--into-empty", "--config", config)
        assert (code, out) == (2, "") and f"the store is not empty: it has {collection}/{id}" in err
        assert held(config) == 1
        store.database.write("DELETE FROM documents")
        store.close()
    store = SqliteStore(config.parent / "twinleg.sqlite")
    store.create("markets", "hyperliquid:BTC", {})  # what the next minute writes anew is in nobody's way
    note(store, "ingest", Pause(why="w", by="ada"))
    assert run("restore", file, "--into-empty", "--config", config)[0] == 0
    assert store.get("markets", "hyperliquid:BTC").data["summary"]  # type: ignore[union-attr]
    assert store.get("control", "schedule").data["paused"], "what is paused here stays so"  # type: ignore[union-attr]
    code, _, err = run("restore", file, "--into-empty", "--config", config)
    assert code == 2 and "the store is not empty" in err


def test_a_damaged_file_writes_nothing(empty: Any, run: Run) -> None:
    w, config = empty
    file = w.folder / "desk.gz"
    run("backup", file, "--config", config_of(w))
    file.write_bytes(file.read_bytes()[:-20])
    code, out, err = run("restore", file, "--into-empty", "--config", config)
    assert (code, out) == (2, "") and err.count("\n") == 1 and "cut off" in err
    assert held(config) == 0


def test_other_money_or_other_accounts_are_refused(world: Any) -> None:
    w = world()
    engine = w.engine()
    for other, said in (
        (Origin(NOON, "x", True, {}), "the backup is of mode live, this configuration's mode is paper"),
        (Origin(NOON, "x", False, {"third": "hyperliquid"}), "account third of the backup is hyperliquid"),
        (Origin(NOON, "x", False, {"main": "hyperliquid 0xabc"}), "account main of the backup is hyperliquid 0xabc"),
    ):
        with pytest.raises(BadInput, match=said):
            refuse_other_desk(engine, other)


def test_while_the_jobs_run_nothing_is_restored(empty: Any, run: Run) -> None:
    w, config = empty
    file = w.folder / "desk.gz"
    run("backup", file, "--config", config_of(w))
    store = SqliteStore(config.parent / "twinleg.sqlite")
    store.create("control", "job-risk", {"at": datetime.now(UTC), "result": "ok"})
    code, out, err = run("restore", file, "--into-empty", "--config", config)
    assert (code, out) == (2, "") and "risk run every minute: twinleg schedule pause all" in err
    note(store, "risk", Pause(why="w", by="ada"))
    assert run("restore", file, "--into-empty", "--config", config)[0] == 0


def test_restore_wants_its_flag_and_backup_replaces_no_file(empty: Any, run: Run) -> None:
    w, config = empty
    file = w.folder / "desk.gz"
    assert run("backup", file, "--config", config_of(w))[0] == 0
    code, out, err = run("restore", file, "--config", config)
    assert (code, out) == (2, "") and "restore wants --into-empty" in err
    was = file.read_bytes()
    code, out, err = run("backup", file, "--config", config_of(w))
    assert (code, out) == (2, "") and "is there already: a backup never replaces another" in err
    assert file.read_bytes() == was
    code, out, err = run("backup", w.folder / "no" / "x.gz", "--config", config_of(w))
    assert (code, out) == (2, "") and "cannot be written" in err


def test_as_json_it_says_what_there_is(empty: Any, run: Run) -> None:
    w, config = empty
    file = w.folder / "desk.gz"
    said = json.loads(run("backup", file, "--json", "--config", config_of(w))[1])
    assert said["counts"]["control"] >= 1 and set(said["counts"]) == set(COLLECTIONS)
    said = json.loads(run("restore", file, "--into-empty", "--json", "--config", config)[1])
    assert said["state"] == "HALTED" and said["counts"]["control"] >= 1


# -- what goes wrong on the way --------------------------------------------------------------------


class Failing(SqliteStore):
    """A store that is not reached now and then."""

    fails: Iterator[bool]

    def batch(self, writes: Any) -> None:
        if next(self.fails, False):
            raise Unavailable("not reached")
        super().batch(writes)


def _restored_into(store: SqliteStore, w: Any, path: Path) -> None:
    engine = replace(w.engine(), store=store)
    with closing(BackupFile(path)) as backup:
        restore(engine, backup.origin, backup.entries(), by="ada", progress=quiet)


def test_a_store_that_is_lost_for_a_moment_is_written_to_again(world: Any, backup: Path, tmp_path: Path) -> None:
    store = Failing(tmp_path / "f.db", synchronous="NORMAL")
    store.fails = iter([False, True, True, False, True])
    _restored_into(store, world(), backup)
    assert [s.id for s in store.query("trades")] == ["t0", "t1", "t2"]


def test_a_restore_that_breaks_off_leaves_a_halted_store_that_is_not_taken_for_whole(
    world: Any, backup: Path, tmp_path: Path
) -> None:
    w, store = world(), Failing(tmp_path / "f.db", synchronous="NORMAL")
    store.fails = iter([False, *[True] * 50])
    with pytest.raises(Unavailable):
        _restored_into(store, w, backup)
    control = store.get("control", "trading")
    assert control is not None and control.data["state"] == "HALTED"
    assert "has begun and has not ended" in control.data["why"]
    with pytest.raises(BadInput, match="not empty"):
        store.fails = iter([])
        _restored_into(store, w, backup)
    assert store.query("trades") == []


def test_what_describes_a_place_stays_there() -> None:
    store = SqliteStore(":memory:")
    for id in OF_ITS_PLACE:
        store.create("control", id, {})
    assert list(documents(store, quiet)) == []
    assert {"schedule", "job-ingest", "job-risk"} == OF_ITS_PLACE


def test_large_documents_are_written_in_batches_that_firestore_takes(world: Any, tmp_path: Path) -> None:
    source = SqliteStore(":memory:")
    for number in range(12):
        source.create("actions", f"0x1:{number:03}", {"body": "x" * 400_000})
    path = tmp_path / "big.gz"
    write_backup(path, ORIGIN, documents(source, quiet))

    class Counting(SqliteStore):
        def batch(self, writes: Any) -> None:
            sizes.append(sum(len(json.dumps(write.data, default=str)) for write in writes))
            super().batch(writes)

    sizes: list[int] = []
    store = Counting(tmp_path / "c.db", synchronous="NORMAL")
    _restored_into(store, world(), path)
    assert len(store.query("actions")) == 12 and max(sizes) < 1_100_000 and len(sizes) >= 8


def test_conflicts_are_no_reason_to_go_on_for_ever(world: Any, backup: Path, tmp_path: Path) -> None:
    class Contested(SqliteStore):
        def batch(self, writes: Any) -> None:
            if any(isinstance(w, Replace) for w in writes):
                raise Conflict("somebody else")
            super().batch(writes)

    with pytest.raises(Conflict):
        _restored_into(Contested(tmp_path / "c.db", synchronous="NORMAL"), world(), backup)
