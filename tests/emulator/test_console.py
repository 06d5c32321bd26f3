"""The records as Firestore itself holds them: what the console shows, sorts by, and lets a hand change."""

from __future__ import annotations

import runpy
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from twinleg.adapters.gcp.firestore import FirestoreStore
from twinleg.domain.control import Halt
from twinleg.domain.trades import Trade
from twinleg.engine.pages import EXPIRING
from twinleg.engine.ports import Create, Store
from twinleg.engine.records import read
from twinleg.engine.system import Engine

RENDER = runpy.run_path(str(Path(__file__).resolve().parents[2] / "docs" / "render_console.py"))
COLLECTIONS = RENDER["COLLECTIONS"]
OWNER = {"Authorization": "Bearer owner"}


class Console:
    """Firestore's own REST interface, which the console stands on."""

    def __init__(self, host: str, project: str) -> None:
        self.url = f"http://{host}/v1/projects/{project}/databases/(default)/documents"

    def documents(self, collection: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.url}/{collection}", params={"pageSize": 300}, headers=OWNER, timeout=10)
        answer.raise_for_status()
        return list(answer.json().get("documents", []))

    def fields(self, collection: str, id: str) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/{collection}/{id}", headers=OWNER, timeout=10)
        answer.raise_for_status()
        return dict(answer.json()["fields"])

    def edit(self, collection: str, id: str, **texts: str) -> None:
        """Change fields of a document by hand, as one does in the console."""
        answer = requests.patch(
            f"{self.url}/{collection}/{id}",
            params=[("updateMask.fieldPaths", name) for name in texts],
            json={"fields": {name: {"stringValue": text} for name, text in texts.items()}},
            headers=OWNER,
            timeout=10,
        )
        answer.raise_for_status()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store: Store = RENDER["records"](tmp_path_factory.mktemp("run"))
    return store


@pytest.fixture(scope="module")
def kept(run: Store, firestore_host: str) -> Iterator[tuple[FirestoreStore, Console]]:
    """The records of a short run in Firestore."""
    project = f"t-{secrets.token_hex(6)}"
    store = FirestoreStore(project, emulator_host=firestore_host)
    for collection in COLLECTIONS:
        store.batch([Create(collection, stored.id, stored.data) for stored in run.query(collection)])
    yield store, Console(firestore_host, project)
    store.close()


def kinds(fields: dict[str, Any]) -> dict[str, str]:
    return {name: next(iter(value)) for name, value in fields.items()}


def test_times_are_timestamps_figures_numbers_and_money_text(kept: tuple[FirestoreStore, Console]) -> None:
    _, console = kept
    for collection in COLLECTIONS:
        for document in console.documents(collection):
            for name, kind in kinds(document["fields"]).items():
                if name.endswith("_at"):
                    assert kind in ("timestampValue", "nullValue"), f"{document['name']} {name}"
                if name.endswith(("_usd", "_price")):
                    assert kind in ("stringValue", "nullValue"), f"{document['name']} {name}"
                if kind == "mapValue":
                    assert name.startswith("z_"), f"{document['name']} {name}"
    for collection in EXPIRING:
        assert {kinds(d["fields"])["expire_at"] for d in console.documents(collection)} == {"timestampValue"}


def test_ids_come_sorted_as_text(kept: tuple[FirestoreStore, Console], run: Store) -> None:
    _, console = kept
    for collection in COLLECTIONS:
        ids = [document["name"].rsplit("/", 1)[1] for document in console.documents(collection)]
        assert ids == sorted(ids) == [stored.id for stored in run.query(collection)]


def test_trades_can_be_sorted_by_what_they_made(kept: tuple[FirestoreStore, Console]) -> None:
    store, _ = kept
    trades = store.query("trades", order_by="pnl_cents")
    made = [Trade.model_validate(stored.data).pnl_usd for stored in trades]
    assert made == sorted(made) and len(made) > 2 and made[0] < 0 < made[-1]


def test_what_is_read_back_is_what_was_written(kept: tuple[FirestoreStore, Console], run: Store) -> None:
    store, _ = kept
    for stored in run.query("trades"):
        found = read(store, "trades", stored.id, Trade)
        assert found is not None and found[0] == Trade.model_validate(stored.data)


def test_a_trade_edited_by_hand_is_still_what_its_record_says(kept: tuple[FirestoreStore, Console]) -> None:
    store, console = kept
    [open_trade] = store.query("trades", {"state": "OPEN"})
    before = Trade.model_validate(open_trade.data)
    console.edit("trades", open_trade.id, state="CLOSED", main_size="0", main_account="somebody")
    found = read(store, "trades", open_trade.id, Trade)
    assert found is not None and found[0] == before and found[1] != open_trade.version


def test_a_hand_at_the_switch_is_obeyed_and_a_misspelt_word_halts(
    kept: tuple[FirestoreStore, Console], world: Callable[..., Any]
) -> None:
    store, console = kept
    parts = world().engine()
    engine = Engine(parts.desk, parts.clock, parts.bus, store, parts.venues, parts.role)
    for word in ("REDUCING", "FLATTEN", "HALTED", "ENABLED"):
        console.edit("control", "trading", state=word, by="a person", why="tried in the console")
        control, _ = engine.control()
        assert (control.state, control.by) == (Halt(word), "a person")
    for word in ("enabled", "ENABLE", "", "RUNNING"):
        console.edit("control", "trading", state=word)
        assert engine.control()[0].state is Halt.HALTED
