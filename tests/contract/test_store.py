"""The Store port's contract: what every adapter must do, on one machine and in the cloud."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinleg.adapters.local.sqlite import Database
from twinleg.adapters.local.store import SqliteStore
from twinleg.domain.errors import BadInput, Conflict, InvariantBroken, Unavailable
from twinleg.engine.ports import Check, Create, Exists, Merge, Replace, Steps, Store
from twinleg.simulate.store import Documents, MemoryStore

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


Make = Callable[[Steps], Any]


def _file(request: pytest.FixtureRequest, steps: Steps) -> SqliteStore:
    folder: Path = request.getfixturevalue("tmp_path")
    return SqliteStore(folder / "state" / "twinleg.db", steps, synchronous="NORMAL")


def _memory(request: pytest.FixtureRequest, steps: Steps) -> SqliteStore:
    return SqliteStore(":memory:", steps)


def _simulated(request: pytest.FixtureRequest, steps: Steps) -> MemoryStore:
    return MemoryStore(Documents(), steps)


def _firestore(request: pytest.FixtureRequest, steps: Steps) -> Any:
    host = request.getfixturevalue("firestore_host")
    from twinleg.adapters.gcp.firestore import FirestoreStore

    return FirestoreStore(f"t-{secrets.token_hex(6)}", steps=steps, emulator_host=host)


ADAPTERS: dict[str, Callable[[pytest.FixtureRequest, Steps], Any]] = {
    "sqlite file": _file,
    "sqlite memory": _memory,
    "simulated": _simulated,
    "firestore": _firestore,
}


@pytest.fixture(params=list(ADAPTERS))
def make_store(request: pytest.FixtureRequest) -> Iterator[Make]:
    made = []

    def make(steps: Steps) -> Any:
        made.append(ADAPTERS[request.param](request, steps))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: Make) -> Store:
    return make_store(Steps())  # type: ignore[no-any-return]


# -- one document --------------------------------------------------------------------------------


def test_what_was_created_is_read_back_with_its_version(store: Store) -> None:
    assert store.get("trades", "ETH-1") is None
    version = store.create("trades", "ETH-1", {"state": "PROPOSED", "at": NOON})

    stored = store.get("trades", "ETH-1")
    assert stored is not None
    assert (stored.id, stored.data, stored.version) == ("ETH-1", {"state": "PROPOSED", "at": NOON}, version)


def test_creating_what_exists_changes_nothing(store: Store) -> None:
    store.create("trades", "ETH-1", {"n": 1})
    with pytest.raises(Exists) as caught:
        store.create("trades", "ETH-1", {"n": 2})
    assert (caught.value.collection, caught.value.id) == ("trades", "ETH-1")
    assert store.get("trades", "ETH-1").data == {"n": 1}  # type: ignore[union-attr]


def test_collections_do_not_share_ids(store: Store) -> None:
    store.create("trades", "1", {"n": 1})
    store.create("orders", "1", {"n": 2})
    assert store.get("orders", "1").data == {"n": 2}  # type: ignore[union-attr]


def test_compare_and_set_replaces_whole_and_only_at_the_version_read(store: Store) -> None:
    first = store.create("trades", "ETH-1", {"n": 1, "old": True})
    second = store.compare_and_set("trades", "ETH-1", {"n": 2}, first)
    assert second != first
    with pytest.raises(Conflict):
        store.compare_and_set("trades", "ETH-1", {"n": 3}, first)
    assert store.get("trades", "ETH-1").data == {"n": 2}  # type: ignore[union-attr]
    third = store.compare_and_set("trades", "ETH-1", {"n": 3}, second)
    assert len({first, second, third}) == 3


def test_the_same_content_written_again_is_a_new_version(store: Store) -> None:
    """Two claims of one step may have the same content; only one of them may win."""
    first = store.create("trades", "ETH-1", {"n": 1})
    second = store.compare_and_set("trades", "ETH-1", {"n": 1}, first)
    assert second != first
    with pytest.raises(Conflict):
        store.compare_and_set("trades", "ETH-1", {"n": 1}, first)
    store.batch([Replace("trades", "ETH-1", {"n": 1})])
    with pytest.raises(Conflict):
        store.batch([Replace("trades", "ETH-1", {"n": 1}, second)])


@pytest.mark.parametrize("version", ["1", "0", "-1", "", "soon", "1e0", " 1", "99999999999999999999"])
def test_compare_and_set_on_what_is_not_there_conflicts(store: Store, version: str) -> None:
    with pytest.raises(Conflict):
        store.compare_and_set("trades", "nobody", {"n": 1}, version)
    assert store.get("trades", "nobody") is None


def test_what_is_read_is_the_callers_own(store: Store) -> None:
    data = {"legs": [{"size": "1"}]}
    store.create("trades", "a", data)
    data["legs"].append({"size": "2"})
    read = store.get("trades", "a")
    assert read is not None
    read.data["legs"].clear()
    assert store.get("trades", "a").data == {"legs": [{"size": "1"}]}  # type: ignore[union-attr]


# -- batches -------------------------------------------------------------------------------------


def test_a_batch_writes_everything(store: Store) -> None:
    version = store.create("trades", "a", {"n": 1})
    store.batch(
        [
            Create("orders", "o1", {"n": 1}),
            Replace("trades", "a", {"n": 2}, version),
            Replace("orders", "o2", {"n": 3}),
            Check("orders", "o3", None),
        ]
    )
    assert store.get("trades", "a").data == {"n": 2}  # type: ignore[union-attr]
    assert [found.id for found in store.query("orders")] == ["o1", "o2"]


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (Create("trades", "a", {"n": 9}), Exists),
        (Replace("trades", "a", {"n": 9}, "77"), Conflict),
        (Replace("trades", "missing", {"n": 9}, "1"), Conflict),
        (Check("trades", "a", "77"), Conflict),
        (Check("trades", "a", None), Conflict),
        (Check("trades", "missing", "1"), Conflict),
        (Create("trades", "b", {"n": Decimal(1)}), BadInput),
        (Create("trades", "b/c", {"n": 1}), BadInput),
        (Create("orders", "o1", {"n": 2}), BadInput),
    ],
)
def test_a_batch_that_fails_leaves_no_trace(store: Store, last: Any, error: type[Exception]) -> None:
    store.create("trades", "a", {"n": 1})
    version = store.create("trades", "c", {"n": 1})
    with pytest.raises(error):
        store.batch([Create("orders", "o1", {"n": 1}), Replace("trades", "c", {"n": 2}, version), last])
    stored = store.get("trades", "c")
    assert stored is not None and (stored.data, stored.version) == ({"n": 1}, version)
    assert store.query("orders") == []
    store.create("trades", "next", {"n": 1})


def test_a_check_holds_the_batch_to_what_was_read(store: Store) -> None:
    halt = store.create("control", "trading", {"state": "ENABLED"})
    store.batch([Check("control", "trading", halt), Create("actions", "1", {"n": 1})])
    store.compare_and_set("control", "trading", {"state": "HALTED"}, halt)
    with pytest.raises(Conflict):
        store.batch([Check("control", "trading", halt), Create("actions", "2", {"n": 2})])
    assert [found.id for found in store.query("actions")] == ["1"]


def test_a_check_changes_neither_content_nor_version(store: Store) -> None:
    version = store.create("control", "trading", {"state": "ENABLED"})
    for number in range(3):
        store.batch(
            [Check("control", "trading", version), Check("control", "other", None), Create("t", f"{number}", {})]
        )
    stored = store.get("control", "trading")
    assert stored is not None and (stored.data, stored.version) == ({"state": "ENABLED"}, version)
    assert store.get("control", "other") is None


def test_of_many_creates_in_a_batch_the_one_that_exists_is_named(store: Store) -> None:
    store.create("slots", "main:ETH", {})
    with pytest.raises(Exists) as caught:
        store.batch([Create("trades", "a", {}), Create("slots", "main:ETH", {}), Create("orders", "o", {})])
    assert (caught.value.collection, caught.value.id) == ("slots", "main:ETH")


@pytest.mark.parametrize("version", ["2026-11-20T12:00:00Z", "2026-11-20", "…"])
def test_a_version_of_another_store_is_never_the_current_one(store: Store, version: str) -> None:
    store.create("trades", "a", {"n": 1})
    with pytest.raises(Conflict):
        store.compare_and_set("trades", "a", {"n": 2}, version)


# -- values --------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT
    | st.sampled_from(["$at", "$", '"$at":', "2026-11-20T12:00:00+00:00"])
    | st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0))
)
_NAMES = (_TEXT | st.sampled_from(["$at", "$", "$$at", "$at$"])).filter(
    lambda name: name and name[:2] != "__" and name != "_write"  # which the Firestore store keeps for itself
)


def _no_list(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values.filter(lambda value: not isinstance(value, list))


_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(_no_list(inner), max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(document=st.dictionaries(_NAMES, _VALUES, max_size=6))
def test_a_document_comes_back_as_it_was(store: Store, document: dict[str, Any]) -> None:
    try:
        store.create("any", "one", document)
    except Exists:
        store.compare_and_set("any", "one", document, store.get("any", "one").version)  # type: ignore[union-attr]
    read = store.get("any", "one").data  # type: ignore[union-attr]
    assert read == document
    assert repr(_sorted(read)) == repr(_sorted(document)), "1, 1.0 and True are equal but not the same"


def _sorted(value: Any) -> Any:
    """The order of names in a map is no part of a document."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def test_times_come_back_in_utc_and_enums_as_their_text(store: Store) -> None:
    class State(StrEnum):
        OPEN = "OPEN"

    at = NOON.astimezone(timezone(timedelta(hours=9)))
    store.create("t", "a", {"at": at, "s": State.OPEN, "all": [State.OPEN], "by": {State.OPEN: 1}})
    read = store.get("t", "a").data  # type: ignore[union-attr]
    assert read["at"] == NOON and read["at"].utcoffset() == timedelta(0)
    assert type(read["s"]) is str and type(read["all"][0]) is str and read["s"] == "OPEN"
    assert read["by"] == {"OPEN": 1}


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (Decimal("1.5"), "decimals as text"),
        (NOON.replace(tzinfo=None), "zone"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        (2**63, "64 bits"),
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        ({1: "one"}, "names are text"),
        ({"": "empty"}, "not empty"),
        ({"__a__": "theirs"}, "reserved"),
        ([[1]], "list inside a list"),
        ("\ud800", "surrogate"),
        (reduce(lambda inside, _: {"in": inside}, range(300), {}), "nested"),
        ("x" * 1_048_577, "1048576"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(store: Store, value: Any, word: str) -> None:
    for place in ({"legs": [{"size": value}]}, {"legs": [{"size": {"of": value}}]}):
        with pytest.raises(BadInput, match=word) as caught:
            store.create("trades", "a", place)
        assert "trades/a" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 200
    assert store.get("trades", "a") is None


@pytest.mark.parametrize("id", ["", "a/b", ".", "..", "x" * 1501, "__a__"])
def test_ids_that_the_cloud_refuses_are_refused_here(store: Store, id: str) -> None:
    with pytest.raises(BadInput):
        store.create("trades", id, {})
    with pytest.raises(BadInput):
        store.create(id, "a", {})
    with pytest.raises(BadInput):
        store.get("trades", id)


# -- some fields ---------------------------------------------------------------------------------


def test_a_merge_sets_its_fields_and_keeps_the_others(store: Store) -> None:
    store.create("positions", "main:ETH", {"owner": "t1", "size": "1", "seen": {"a": 1, "b": 2}})
    store.batch([Merge("positions", "main:ETH", {"size": "2", "seen": {"a": 3}, "at": NOON, "note": None})])
    assert store.get("positions", "main:ETH").data == {  # type: ignore[union-attr]
        "owner": "t1", "size": "2", "seen": {"a": 3}, "at": NOON, "note": None,
    }  # fmt: skip


def test_a_merge_makes_the_document_that_is_not_there(store: Store) -> None:
    store.batch([Merge("positions", "main:ETH", {"size": "2"})])
    assert store.get("positions", "main:ETH").data == {"size": "2"}  # type: ignore[union-attr]
    with pytest.raises(Exists):
        store.create("positions", "main:ETH", {"size": "3"})


@pytest.mark.parametrize("field", ["$at", "a.b", "it's", "é", "a b", "`", "-"])
def test_a_merge_takes_fields_with_odd_names(store: Store, field: str) -> None:
    store.create("t", "a", {field: 1, "a": {"b": 1}})
    store.batch([Merge("t", "a", {field: 2})])
    assert store.get("t", "a").data == {field: 2, "a": {"b": 1}}  # type: ignore[union-attr]


def test_a_merge_is_a_write_whoever_compares_a_version_it_met_conflicts(store: Store) -> None:
    version = store.create("positions", "main:ETH", {"owner": "", "size": "1"})
    for _ in range(2):  # also one that changes nothing
        store.batch([Merge("positions", "main:ETH", {"size": "1"})])
        found = store.get("positions", "main:ETH")
        assert found is not None and found.version != version
        with pytest.raises(Conflict):
            store.compare_and_set("positions", "main:ETH", {"owner": "t1"}, version)
        with pytest.raises(Conflict):
            store.batch([Check("positions", "main:ETH", version), Create("t", "a", {})])
        version = found.version
    assert store.get("t", "a") is None


def test_a_merge_in_a_batch_that_conflicts_writes_nothing(store: Store) -> None:
    version = store.create("books", "main", {"n": 1})
    store.compare_and_set("books", "main", {"n": 2}, version)
    for stale in (Replace("books", "main", {"n": 3}, version), Create("books", "main", {})):
        for batch in ([Merge("positions", "a", {"n": 1}), stale], [stale, Merge("positions", "a", {"n": 1})]):
            with pytest.raises((Conflict, Exists)):
                store.batch(batch)
    assert store.get("positions", "a") is None
    assert store.get("books", "main").data == {"n": 2}  # type: ignore[union-attr]


def test_merges_of_two_at_once_both_stay(store: Store) -> None:
    _together(2, lambda n: [store.batch([Merge("t", "a", {f"f{n}": at})]) for at in range(20)])
    assert store.get("t", "a").data == {"f0": 19, "f1": 19}  # type: ignore[union-attr]


def test_a_merge_obeys_the_rules_of_documents(store: Store) -> None:
    store.create("t", "a", {"n": "x" * 600_000})
    for fields, word in (({"v": Decimal(1)}, "decimals as text"), ({"": 1}, "names are text")):
        with pytest.raises(BadInput, match=word):
            store.batch([Merge("t", "a", fields)])
    with pytest.raises(BadInput):
        store.batch([Merge("t", "a", {"m": "x" * 600_000})])
    with pytest.raises(BadInput, match="more often"):
        store.batch([Merge("t", "a", {"v": 1}), Replace("t", "a", {})])
    assert store.get("t", "a").data == {"n": "x" * 600_000}  # type: ignore[union-attr]


# -- queries -------------------------------------------------------------------------------------


def _ids(found: list[Any]) -> list[str]:
    return [stored.id for stored in found]


def test_a_query_without_conditions_is_the_collection_in_the_order_of_ids(store: Store) -> None:
    for id in ("b", "a", "c", "Ä", "Z"):
        store.create("t", id, {"n": id})
    assert _ids(store.query("t")) == ["Z", "a", "b", "c", "Ä"]
    assert _ids(store.query("t", descending=True, limit=2)) == ["Ä", "c"]
    assert _ids(store.query("t", limit=0)) == []
    assert store.query("nothing") == []


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ("1", ["text"]),
        (1, ["float", "int"]),
        (1.0, ["float", "int"]),
        (True, ["true"]),
        (False, ["false"]),
        (None, ["null"]),
        (NOON, ["time"]),
        (NOON.astimezone(timezone(timedelta(hours=-5))), ["time"]),
        (NOON.isoformat(timespec="microseconds"), ["timetext"]),
        ('O\'Hara "x" \\ é', ["odd"]),
        ("nobody", []),
    ],
)
def test_equality_keeps_types_apart(store: Store, wanted: object, ids: list[str]) -> None:
    values = {
        "text": "1", "int": 1, "float": 1.0, "true": True, "false": False, "null": None, "time": NOON,
        "timetext": NOON.isoformat(timespec="microseconds"), "odd": "O'Hara \"x\" \\ é", "list": [1], "map": {"v": 1},
    }  # fmt: skip
    for id, value in values.items():
        store.create("t", id, {"v": value})
    store.create("t", "absent", {"w": 1})
    assert _ids(store.query("t", {"v": wanted})) == ids


def test_conditions_are_joined_and_found_documents_have_their_versions(store: Store) -> None:
    store.create("t", "a", {"state": "OPEN", "market": "hyperliquid:ETH"})
    store.create("t", "b", {"state": "OPEN", "market": "hyperliquid:BTC"})
    (found,) = store.query("t", {"state": "OPEN", "market": "hyperliquid:BTC"})
    store.compare_and_set("t", found.id, {"state": "CLOSED"}, found.version)
    assert _ids(store.query("t", {"state": "OPEN"})) == ["a"]


def test_ordering_by_a_field_leaves_out_who_lacks_it_and_breaks_ties_by_id(store: Store) -> None:
    for id, value in {"a": 2, "b": 10, "c": 2, "d": -1, "e": 1.5}.items():
        store.create("t", id, {"v": value})
    store.create("t", "without", {"w": 1})
    assert _ids(store.query("t", order_by="v")) == ["d", "e", "a", "c", "b"]
    assert _ids(store.query("t", order_by="v", descending=True)) == ["b", "c", "a", "e", "d"]
    assert _ids(store.query("t", order_by="v", limit=2)) == ["d", "e"]


def test_times_order_as_times_and_types_keep_their_order(store: Store) -> None:
    values = {"a": "text", "b": NOON, "c": NOON - timedelta(days=1), "d": 5, "e": True, "f": None, "g": False}
    for id, value in values.items():
        store.create("t", id, {"v": value})
    assert _ids(store.query("t", order_by="v")) == ["f", "g", "e", "d", "c", "b", "a"]


@pytest.mark.parametrize("field", ["$at", "a.b", "it's", "é", "a b", "n?", "-"])
def test_fields_with_odd_names_can_be_queried(store: Store, field: str) -> None:
    store.create("t", "a", {field: "yes"})
    store.create("t", "b", {field: "no", "a": {"b": "yes"}})
    assert _ids(store.query("t", {field: "yes"}, order_by=field)) == ["a"]


def test_queries_that_mean_nothing_are_refused(store: Store) -> None:
    for where in ({"v": [1]}, {"v": Decimal(1)}, {"v": NOON.replace(tzinfo=None)}, {'a"b': 1}, {"": 1}):
        with pytest.raises(BadInput):
            store.query("t", where)
    with pytest.raises(BadInput):
        store.query("t", order_by='v"; DROP TABLE documents')


# -- writers at the same time --------------------------------------------------------------------


def _together(count: int, work: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_64_creates_exactly_one_wins(store: Store) -> None:
    def create(number: int) -> bool:
        try:
            store.create("intents", "same", {"by": number})
        except Exists:
            return False
        return True

    wins = _together(64, create)
    assert sum(wins) == 1
    assert store.get("intents", "same").data == {"by": wins.index(True)}  # type: ignore[union-attr]


def _count_up(store: Store, times: int) -> None:
    for _ in range(times):
        while True:
            stored = store.get("signers", "0xabc")
            assert stored is not None
            try:
                store.compare_and_set("signers", "0xabc", {"nonce": stored.data["nonce"] + 1}, stored.version)
                break
            except Conflict:
                continue


def test_a_counter_by_compare_and_set_loses_nothing(store: Store) -> None:
    store.create("signers", "0xabc", {"nonce": 0})
    _together(8, lambda _: _count_up(store, 25))
    assert store.get("signers", "0xabc").data == {"nonce": 200}  # type: ignore[union-attr]


def test_of_batches_that_share_a_document_one_wins_and_the_rest_leave_nothing(store: Store) -> None:
    def claim(number: int) -> bool:
        try:
            store.batch([Create("actions", f"n{number}", {"n": 1}), Create("slots", "main:ETH", {"by": number})])
        except Exists:
            return False
        return True

    assert sum(_together(16, claim)) == 1
    assert len(store.query("actions")) == 1


# Firestore answers a query from one snapshot; its emulator reads one document after the other, which shows here.
@pytest.mark.parametrize("make_store", ["sqlite file", "sqlite memory"], indirect=True)
def test_a_reader_never_sees_half_a_batch(store: Store) -> None:
    store.batch([Create("t", "a", {"n": 0}), Create("t", "b", {"n": 0})])
    stop = threading.Event()
    torn = []

    def read(_: int) -> None:
        while not stop.is_set():
            first, second = (found.data["n"] for found in store.query("t"))
            if first != second:
                torn.append((first, second))

    def write(_: int) -> None:
        for n in range(1, 150):
            store.batch([Replace("t", "a", {"n": n}), Replace("t", "b", {"n": n})])
        stop.set()

    _together(2, lambda number: (read, write)[number](number))
    assert torn == []


_CREATOR = """
import sys
from twinleg.adapters.local.store import SqliteStore
from twinleg.domain.errors import Conflict
from twinleg.engine.ports import Exists
store = SqliteStore(sys.argv[1], synchronous="NORMAL")
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
won = 0
for number in range(64):
    try:
        store.create("intents", f"i{number}", {"by": sys.argv[2]}); won += 1
    except Exists:
        pass
for _ in range(100):
    while True:
        stored = store.get("signers", "0xabc")
        try:
            store.compare_and_set("signers", "0xabc", {"nonce": stored.data["nonce"] + 1}, stored.version); break
        except Conflict:
            pass
print(won)
"""


def test_two_processes_on_one_new_file_share_the_wins_and_lose_no_count(tmp_path: Path) -> None:
    path = tmp_path / "twinleg.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _CREATOR, str(path), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    store = SqliteStore(path, synchronous="NORMAL")
    store.create("signers", "0xabc", {"nonce": 0})
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    wins = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(wins) == 64 == len(store.query("intents"))
    assert store.get("signers", "0xabc").data == {"nonce": 200}  # type: ignore[union-attr]
    store.close()


_OPENER = """
import sys
from twinleg.adapters.local.store import SqliteStore
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
SqliteStore(sys.argv[1]).create("t", sys.argv[2], {})
"""


def test_processes_that_open_a_new_file_at_the_same_moment_all_get_in(tmp_path: Path) -> None:
    path = tmp_path / "new" / "twinleg.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _OPENER, str(path), f"p{number}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    store = SqliteStore(path)
    assert _ids(store.query("t")) == ["p0", "p1", "p2", "p3"]
    store.close()


_FORKER = """
import os, sys
from twinleg.adapters.local.store import SqliteStore
from twinleg.domain.errors import InvariantBroken
store, memory = SqliteStore(sys.argv[1]), SqliteStore(":memory:")
store.create("t", "before", {}); memory.create("t", "before", {})
child = os.fork()
if not child:
    store.create("t", "child", {})
    try:
        memory.get("t", "before")
    except InvariantBroken:
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
store.create("t", "parent", {})
print(*[found.id for found in store.query("t")])
"""


def test_after_a_fork_each_process_has_connections_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKER, str(tmp_path / "twinleg.db")], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "before child parent\n", "")


# -- the world outside ---------------------------------------------------------------------------


def test_every_outside_effect_is_counted_before_and_after(make_store: Make) -> None:
    names: list[str] = []
    store = make_store(Steps(lambda _, name: names.append(name)))
    version = store.create("t", "a", {})
    store.get("t", "a")
    store.compare_and_set("t", "a", {}, version)
    store.batch([Create("t", "b", {}), Check("t", "c", None)])
    store.query("t")
    assert [name for name in names if not name.endswith(" done")] == [
        "store.create t/a", "store.get t/a", "store.compare_and_set t/a", "store.batch t/b t/c", "store.query t",
    ]  # fmt: skip
    assert names[1::2] == [f"{name} done" for name in names[::2]]


class _PowerCut(BaseException):
    pass


def test_a_death_before_a_write_leaves_nothing_and_after_it_everything(make_store: Make) -> None:
    def cut(_: int, name: str) -> None:
        if name in dying:
            raise _PowerCut

    dying: set[str] = set()
    store = make_store(Steps(cut))
    writes = [Create("t", "a", {"n": 1}), Create("u", "b", {"n": 1})]
    for moment, found in (("store.batch t/a u/b", 0), ("store.batch t/a u/b done", 1)):
        dying.add(moment)
        with pytest.raises(_PowerCut):
            store.batch(writes)
        dying.clear()
        assert len(store.query("t")) == len(store.query("u")) == found


def test_a_constructor_touches_nothing(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "not" / "yet" / "there.db")
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_its_owners_alone_and_outlives_the_store(tmp_path: Path) -> None:
    path = tmp_path / "twinleg.db"
    first = SqliteStore(path)
    first.create("t", "a", {"n": 1})
    assert path.stat().st_mode & 0o077 == 0
    first.close()
    second = SqliteStore(path)
    assert second.get("t", "a").data == {"n": 1}  # type: ignore[union-attr]
    second.close()


def test_a_locked_file_is_unavailable_for_writes_and_readable_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "twinleg.db"
    other = Database(path)
    store = SqliteStore(Database(path, busy_seconds=0.05))
    store.create("t", "a", {"n": 1})
    with other.transaction():
        with pytest.raises(Unavailable, match="locked"):
            store.create("t", "b", {})
        with pytest.raises(Unavailable):
            store.batch([Create("t", "b", {})])
        assert store.get("t", "a") is not None
    store.create("t", "b", {})
    store.close()
    other.close()


def test_a_path_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        SqliteStore(tmp_path / "file" / "twinleg.db").get("t", "a")


def test_a_damaged_file_stops_the_system(tmp_path: Path) -> None:
    (tmp_path / "twinleg.db").write_bytes(b"this is not a database, it only sits where one should be" * 100)
    with pytest.raises(InvariantBroken, match="damaged"):
        SqliteStore(tmp_path / "twinleg.db").get("t", "a")


def test_a_file_of_a_newer_twinleg_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "twinleg.db")
    database.write("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(BadInput, match="schema 99"):
        SqliteStore(tmp_path / "twinleg.db").get("t", "a")


def test_a_durability_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="FULL or NORMAL"):
        Database(tmp_path / "a.db", synchronous="OFF")  # type: ignore[arg-type]
