"""What Firestore adds to the Store contract: real types in the console, edits by hand, forks, and its absence."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from google.cloud import firestore

from twinleg.adapters.gcp.firestore import MARK, FirestoreStore
from twinleg.domain.errors import BadInput, Conflict, Unavailable
from twinleg.engine.ports import Check, Create, Replace

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def project() -> str:
    return f"t-{secrets.token_hex(6)}"


@pytest.fixture
def store(firestore_host: str, project: str) -> Iterator[FirestoreStore]:
    made = FirestoreStore(project, emulator_host=firestore_host)
    yield made
    made.close()


@pytest.fixture
def console(firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[firestore.Client]:
    """Google's own client, as anybody else would use it on the same database."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    client = firestore.Client(project=project)
    yield client
    client.close()


def test_google_s_own_client_reads_real_types(store: FirestoreStore, console: firestore.Client) -> None:
    document: dict[str, Any] = {
        "at": NOON, "count": 3, "ratio": 1.5, "price": "100.10", "on": True, "note": None,
        "legs": [{"role": "main", "since": NOON}], "empty": {}, "none": [],
    }  # fmt: skip
    version = store.create("trades", "BTC-1", document)
    seen = console.collection("trades").document("BTC-1").get()
    data = seen.to_dict() or {}
    assert len(data.pop(MARK)) == 16 and data == document
    assert seen.update_time.timestamp_pb().ToJsonString() == version


def test_what_a_person_changed_by_hand_is_seen_and_ends_every_claim_on_the_old_version(
    store: FirestoreStore, console: firestore.Client
) -> None:
    version = store.create("control", "trading", {"state": "ENABLED"})
    console.collection("control").document("trading").update({"state": "HALTED"})
    with pytest.raises(Conflict):
        store.batch([Check("control", "trading", version), Create("actions", "1", {})])
    found = store.get("control", "trading")
    assert found is not None and found.data == {"state": "HALTED"} and store.get("actions", "1") is None
    store.compare_and_set("control", "trading", {"state": "REDUCING"}, found.version)


def test_claims_of_many_at_once_under_one_check_all_pass_while_it_holds(store: FirestoreStore) -> None:
    version = store.create("control", "trading", {"state": "ENABLED"})

    def claim(number: int) -> int:
        refused = 0
        while True:
            try:
                store.batch([Check("control", "trading", version), Create("actions", str(number), {})])
            except Conflict:  # they met in the database; nothing of this one was written
                refused += 1
            else:
                return refused

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(claim, range(40)))
    assert len(store.query("actions")) == 40
    assert store.get("control", "trading").version == version  # type: ignore[union-attr]


def test_of_two_claims_with_the_same_content_one_wins(store: FirestoreStore) -> None:
    version = store.create("trades", "a", {"state": "APPROVED"})
    barrier = threading.Barrier(8)

    def claim(_: int) -> bool:
        barrier.wait()
        try:
            store.batch([Replace("trades", "a", {"state": "MAIN_SENT"}, version)])
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_the_field_of_the_mark_is_the_store_s_own(store: FirestoreStore) -> None:
    with pytest.raises(BadInput, match="trades/a: the field _write"):
        store.create("trades", "a", {MARK: "mine"})


def test_a_commit_that_is_too_large_for_the_database_is_refused_or_unavailable_soon(store: FirestoreStore) -> None:
    with pytest.raises((BadInput, Unavailable)):
        store.batch([Create("t", str(number), {"v": "x" * 1_000_000}) for number in range(6)])
    assert store.query("t") == []


def test_a_database_that_does_not_answer_is_unavailable_in_the_time_given() -> None:
    with socket.socket() as silent:  # it takes connections and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = FirestoreStore("p", emulator_host=f"127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.3)
        for call in (
            lambda: store.get("t", "a"),
            lambda: store.create("t", "a", {}),
            lambda: store.compare_and_set("t", "a", {}, "2026-11-20T12:00:00Z"),
            lambda: store.batch([Create("t", "a", {}), Create("t", "b", {})]),
            lambda: store.query("t"),
        ):
            with pytest.raises(Unavailable):
                call()
        store.close()


def test_a_database_that_cannot_be_reached_is_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        store = FirestoreStore("p", emulator_host=f"127.0.0.1:{closed.getsockname()[1]}", timeout_seconds=0.5)
        with pytest.raises(Unavailable, match=r"store\.create t/a"):
            store.create("t", "a", {})
        store.close()


def test_a_store_that_was_closed_opens_again(store: FirestoreStore) -> None:
    store.create("t", "a", {})
    store.close()
    store.close()
    assert store.get("t", "a") is not None


_FORKER = """
import os, sys
from twinleg.adapters.gcp.firestore import FirestoreStore
store = FirestoreStore(sys.argv[2], emulator_host=sys.argv[1])
child = os.fork()
if not child:
    store.create("t", "child", {})
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
store.create("t", "parent", {})
print(*[found.id for found in store.query("t")])
"""


@pytest.mark.parametrize(("state", "ids"), [("fresh", "child parent\n")])
def test_after_a_fork_each_process_has_a_connection_of_its_own(
    firestore_host: str, project: str, state: str, ids: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKER, firestore_host, project, state],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ids), done.stderr


def test_the_databases_of_one_project_are_apart(firestore_host: str, project: str, store: FirestoreStore) -> None:
    other = FirestoreStore(project, "other", emulator_host=firestore_host)
    store.create("t", "a", {})
    assert other.get("t", "a") is None
    other.close()
