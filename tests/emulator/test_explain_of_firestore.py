"""A trade's story is the same told from Firestore as from SQLite."""

from __future__ import annotations

import json
import secrets
from typing import Any

from twinleg.adapters.gcp.firestore import FirestoreStore
from twinleg.engine.story import story_of
from twinleg.engine.story_records import records_of


def test_the_same_records_tell_the_same_story(world: Any, firestore_host: str) -> None:
    w = world()
    w.alert("buy", "a1")
    w.alert("close", "a2")
    trade = w.trade()
    cloud = FirestoreStore(f"t-{secrets.token_hex(6)}", emulator_host=firestore_host)
    for collection in ("trades", "intents", "orders", "actions", "audit"):
        for stored in w.system.store.query(collection):
            cloud.create(collection, stored.id, stored.data)
    told = json.dumps(story_of(records_of(w.system.store, trade.trade_id)).as_json(), default=str)
    ids = [trade.trade_id, trade.trade_id[:-3], trade.main.orders[0].client_order_id, trade.main.orders[0].action_id]
    for id in [*ids, trade.intent.trigger]:
        assert json.dumps(story_of(records_of(cloud, id)).as_json(), default=str) == told
    cloud.close()
