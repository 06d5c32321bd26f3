"""Many writers on one signer at the same moment: every action is written once, under a nonce of its own, and runs."""

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from twinleg.adapters.local.clocks import SystemClock
from twinleg.adapters.local.store import SqliteStore
from twinleg.domain.errors import Conflict
from twinleg.domain.ids import client_order_id
from twinleg.domain.orders import OrderKind, OrderRequest, Side
from twinleg.engine.orderpath import ActionState, OrderPath
from twinleg.engine.ports import Create, PlaceReduction, Store
from twinleg.engine.system import Engine

WRITERS = 50


@pytest.fixture(params=["sqlite", "firestore"])
def store_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Makes another view of one and the same database, as another instance has it."""
    made: list[Any] = []
    if request.param == "firestore":
        host, project = request.getfixturevalue("firestore_host"), f"t-{secrets.token_hex(6)}"
        from twinleg.adapters.gcp.firestore import FirestoreStore

    def make() -> Store:
        if request.param == "sqlite":
            made.append(SqliteStore(tmp_path / "shared.sqlite", synchronous="NORMAL"))
        else:
            made.append(FirestoreStore(project, emulator_host=host))
        return made[-1]

    yield make
    for store in made:
        store.close()


def reduction(number: int) -> PlaceReduction:
    """A close of what nobody holds: the venue takes the request and refuses its order."""
    order = OrderRequest(
        client_order_id=client_order_id(f"t{number}", "main", "close", 1, 1), market="hyperliquid:BTC", side=Side.SELL,
        size=Decimal("0.01"), limit_price=Decimal(90_000), kind=OrderKind.MARKET, reduce_only=True,
    )  # fmt: skip
    return PlaceReduction("main", (order,))


def written(path: OrderPath, number: int) -> str:
    """One step, claimed by the creation of a document, as a trade's step is by its version."""
    return path.write(reduction(number), trade_id=f"t{number}", claim=lambda id: [Create("steps", f"t{number}", {})])


def desk(world: Any) -> Engine:
    """Of a world whose venue takes the wall clock's nonces."""
    w = world()
    w.control.switches(nonce_window=False)
    return replace(w.engine(), clock=SystemClock())


def test_fifty_writers_at_once_all_write_and_none_collides(world, store_of):
    engine = desk(world)
    paths = [OrderPath(replace(engine, store=store_of())) for _ in range(4)]  # four instances
    start = threading.Barrier(WRITERS)

    def one(number: int) -> Any:
        path = paths[number % len(paths)]
        start.wait()
        return path.outcome(written(path, number))

    with ThreadPoolExecutor(WRITERS) as pool:
        records = list(pool.map(one, range(WRITERS)))
    assert Counter(r.state for r in records) == {ActionState.ACCEPTED: WRITERS}, {r.reason for r in records}
    assert len({r.nonce for r in records}) == WRITERS == len({r.id for r in records})
    store = paths[0]._engine.store
    assert len(store.query("actions")) == len(store.query("steps")) == WRITERS
    noted = store.get("signers", records[0].signer)
    assert noted is not None and noted.data["last_nonce"] == max(r.nonce for r in records)


def test_of_fifty_writers_of_one_step_one_writes_and_one_order_is_sent(world, store_of):
    engine = desk(world)
    paths = [OrderPath(replace(engine, store=store_of())) for _ in range(4)]
    start = threading.Barrier(WRITERS)

    def one(number: int) -> str:
        start.wait()
        try:
            return written(paths[number % len(paths)], 0)
        except Conflict:
            return ""

    with ThreadPoolExecutor(WRITERS) as pool:
        ids = [id for id in pool.map(one, range(WRITERS)) if id]
    store = paths[0]._engine.store
    assert [a.id for a in store.query("actions")] == ids and len(ids) == 1
