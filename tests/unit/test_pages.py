"""What a person reads in the Firestore console: laid out the same everywhere, small, and never what is decided by."""

from __future__ import annotations

import re
import runpy
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from twinleg.adapters.documents import DOCUMENT_BYTES_MAX, checked_id, encoded
from twinleg.bootstrap import paper_key
from twinleg.domain.candles import Candle, Snapshot
from twinleg.domain.messages import CloseTrade, Event, EventKind
from twinleg.domain.orders import AckState, Fill, LegRole, OrderKind, Position, Purpose, Side
from twinleg.domain.recorded import RECORD
from twinleg.domain.trades import PlacedOrder, Trade, TradeState
from twinleg.engine import pages
from twinleg.engine.orderpath import ActionRecord, ActionState
from twinleg.engine.ports import SignerRole, Store, Stored
from twinleg.engine.records import document
from twinleg.engine.window import engine_field, market_document, packed, rows_of
from twinleg.strategy.macd import MacdParameters

D = Decimal
ROOT = Path(__file__).resolve().parents[2]
AT = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)
RENDER = runpy.run_path(str(ROOT / "docs" / "render_console.py"))
COLLECTIONS = RENDER["COLLECTIONS"]

FIELDS_MAX = {"trades": 48}
FIELDS_MAX_ELSEWHERE = 30
TIMES = {"at", "since", "watermark", "close_by"}
NUMBERS = re.compile(r"_(?:percent|ratio|seconds)$|^(?:hedge_effectiveness|hedge_ratio|margin_ratio)$")


# -- every document of a run -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def run(folder: Path) -> Store:
    """The records of the short run that the pictures are drawn from."""
    store: Store = RENDER["records"](folder)
    return store


@pytest.fixture(scope="module")
def documents(run: Store) -> list[tuple[str, Stored]]:
    found = [(collection, stored) for collection in COLLECTIONS for stored in run.query(collection)]
    assert {collection for collection, _ in found} == set(COLLECTIONS)
    return found


def named(documents: list[tuple[str, Stored]]) -> Iterator[tuple[str, str, Any]]:
    """Every field that is for people: where it is, its name, its value."""
    for collection, stored in documents:
        for name, value in stored.data.items():
            if not name.startswith("z_"):
                yield f"{collection}/{stored.id}.{name}", name, value


def test_a_run_writes_no_collection_that_the_page_does_not_show(run: Store, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "twinleg.sqlite")) as file:
        rows = file.execute("SELECT DISTINCT collection FROM documents").fetchall()
    assert {row[0] for row in rows} == set(COLLECTIONS)


def test_each_document_says_in_one_line_what_it_is(documents: list[tuple[str, Stored]]) -> None:
    for collection, stored in documents:
        summary = stored.data["summary"]
        assert summary and "\n" not in summary and len(summary) < 400, f"{collection}/{stored.id}"


def test_fields_are_flat_few_and_named_with_care(documents: list[tuple[str, Stored]]) -> None:
    for collection, stored in documents:
        shown = [name for name in stored.data if not name.startswith("z_")]
        assert len(shown) <= FIELDS_MAX.get(collection, FIELDS_MAX_ELSEWHERE), f"{collection}/{stored.id}"
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in stored.data), f"{collection}/{stored.id}"
    for where, _, value in named(documents):
        assert not isinstance(value, dict), f"{where}: a map is closed in the console: use a prefix"
        assert not (isinstance(value, list) and any(isinstance(item, dict | list) for item in value)), where


def test_times_are_times_and_every_document_has_one(documents: list[tuple[str, Stored]]) -> None:
    for where, name, value in named(documents):
        is_time = name in TIMES or name.endswith("_at")
        assert not is_time or value is None or isinstance(value, datetime), where
        assert is_time or not isinstance(value, datetime), f"{where}: a time's name ends in _at"
        epoch = isinstance(value, int) and not isinstance(value, bool) and value > 10**9
        assert not epoch or name in ("nonce", "last_nonce"), f"{where}: times are timestamps, never counted seconds"
    for collection, stored in documents:
        assert any(isinstance(value, datetime) for value in stored.data.values()), f"{collection}/{stored.id}"


def test_no_money_price_or_size_is_a_float(documents: list[tuple[str, Stored]]) -> None:
    for where, name, value in named(documents):
        assert not isinstance(value, float) or NUMBERS.search(name), where
        assert not re.search(r"_(?:usd|price)$|^size", name) or value is None or isinstance(value, str), where
    for collection, stored in documents:
        assert not floats(stored.data.get(RECORD)), f"{collection}/{stored.id}"


def floats(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(floats, value.values()))
    return any(map(floats, value)) if isinstance(value, list) else isinstance(value, float)


def test_ids_can_be_ids_and_documents_are_small(documents: list[tuple[str, Stored]]) -> None:
    for collection, stored in documents:
        checked_id(collection, stored.id)
        assert len(encoded(collection, stored.id, stored.data)) < 32_768, f"{collection}/{stored.id}"


def test_what_is_long_has_no_index_and_what_expires_a_policy(documents: list[tuple[str, Stored]]) -> None:
    long = {f"{collection}.{name}" for collection, stored in documents for name in stored.data if name[:2] == "z_"}
    assert long <= set(pages.UNINDEXED)
    assert {c for c, stored in documents if "expire_at" in stored.data} == set(pages.EXPIRING)
    terraform = (ROOT / "infra/terraform/firestore.tf").read_text()
    assert all(f'"{name}"' in terraform for name in pages.UNINDEXED)
    assert re.search(r"for_each = toset\(\[" + ", ".join(f'"{name}"' for name in pages.EXPIRING), terraform)


def test_links_lead_to_documents(run: Store, documents: list[tuple[str, Stored]]) -> None:
    homes = {"trade_id": "trades", "intent_id": "intents", "action_id": "actions", "owner": "trades"}
    walked = 0
    for where, name, value in named(documents):
        if name in homes and value:
            assert run.get(homes[name], value) is not None, where
            walked += 1
        for id in value if name == "order_ids" else ():
            assert run.get("orders", id) is not None, where
    assert walked > 50


# -- the page and its pictures ---------------------------------------------------------------------


def test_each_collection_is_on_the_page_with_its_picture() -> None:
    text = (ROOT / "docs" / "console.md").read_text()
    for collection in COLLECTIONS:
        assert f"(images/console-{collection}.svg)" in text and re.search(rf"^## {collection}\b", text, re.MULTILINE)


def test_pictures_can_be_read_and_tell_no_secret(run: Store) -> None:
    pictures = sorted((ROOT / "docs" / "images").glob("console-*.svg"))
    assert {picture.stem.removeprefix("console-") for picture in pictures} == {s.name for s in RENDER["shots"](run)}
    keys = [paper_key(account, role) for account in ("main", "hedge") for role in SignerRole]
    for picture in pictures:
        text = picture.read_text()
        ElementTree.fromstring(text)
        assert len(text) < 40_000 and "signature" not in text and "/tmp" not in text, picture.name
        assert not any(key.removeprefix("0x") in text for key in keys), picture.name


def test_a_field_too_long_for_the_picture_goes_on_in_the_next_line() -> None:
    lines = RENDER["wrapped"]("a word and " * 40, 200, 300)
    assert len(lines) == 3 and lines[-1].endswith("…")
    assert RENDER["wide"](lines[0]) <= 200 and max(map(RENDER["wide"], lines[1:])) <= 300
    assert RENDER["wrapped"]("short", 200, 300) == ["short"]


# -- what is read back -----------------------------------------------------------------------------


def filled_trade(make_trade: Any, **changes: Any) -> Trade:
    trade: Trade = make_trade(**changes)
    main = trade.main.model_copy(update={"size_filled": D(2), "entry_price": D(100), "stop_price": D(99)})
    hedge = trade.hedge.model_copy(update={"size_filled": D("0.5"), "entry_price": D(100)})
    return trade.with_leg(main).with_leg(hedge)


def test_a_trade_is_read_from_its_record_alone(make_trade: Any) -> None:
    trade = filled_trade(make_trade, state=TradeState.OPEN, opened_at=AT)
    stored = pages.trade_document(trade)
    assert Trade.model_validate(stored) == trade
    edited = stored | {"state": "CLOSED", "main_size": "0", "main_stop_price": "1", "hedge_account": "other"}
    assert Trade.model_validate(edited) == trade


def test_a_trade_stored_before_there_were_pages_is_read(make_trade: Any) -> None:
    trade = filled_trade(make_trade)
    assert Trade.model_validate(document(trade)) == trade


def action(**changes: Any) -> ActionRecord:
    values: dict[str, Any] = {
        "id": "0xabc:1", "state": ActionState.WRITTEN, "kind": "PlaceEntry", "account": "main",
        "market": "hyperliquid:BTC", "trade_id": "t", "adds_exposure": True, "client_order_ids": ("0x1",),
        "signer": "0xabc", "role": SignerRole.EXECUTE, "nonce": 1, "expires_at": AT, "body": "{}", "created_at": AT,
        "transitions": (f"{AT.isoformat()} written",),
    }  # fmt: skip
    return ActionRecord(**(values | changes))


def test_an_action_is_read_from_its_record_alone() -> None:
    record = action()
    assert ActionRecord.model_validate(pages.action_document(record) | {"state": "accepted", "nonce": 9}) == record
    assert ActionRecord.model_validate(document(record)) == record


def test_an_action_expires_only_after_its_verdict() -> None:
    for state in ActionState:
        record = action(state=state)
        expected = AT + timedelta(days=400) if record.final else None
        assert pages.action_page(record)["expire_at"] == expected


def test_an_action_s_life_is_told_in_words() -> None:
    later = (AT + timedelta(milliseconds=1500)).isoformat()
    record = action(transitions=(f"{AT.isoformat()} written", f"{later} accepted -> accepted",
                                 f"{later} noop: accepted -> never_ran"))  # fmt: skip
    assert pages.action_page(record)["transitions"] == [
        "2025-01-06 12:00:00.000 signed and written, not sent yet",
        "2025-01-06 12:00:01.500 sent: accepted",
        "2025-01-06 12:00:01.500 noop: accepted ⇒ never ran and never can",
    ]
    assert pages.action_page(record)["summary"] == "open hyperliquid:BTC on main for t: no verdict yet"


def test_every_kind_and_state_of_action_has_words() -> None:
    for state in ActionState:
        for kind in ("PlaceEntry", "PlaceReduction", "CancelOrders", "SetLeverage", "AddMargin"):
            assert pages.action_page(action(state=state, kind=kind))["summary"]


def test_an_audit_entry_is_its_event_without_what_it_does_not_have() -> None:
    event = Event(kind=EventKind.OPENED, at=AT, who="execute", summary="long", trade_id="t")
    stored = pages.audit_document(event)
    assert set(stored) == {"kind", "at", "who", "summary", "trade_id", "expire_at"}
    assert Event.model_validate(stored) == event


def test_a_decision_is_published_as_it_was_made_also_one_of_before(make_intent: Any) -> None:
    intent = make_intent()
    kept = {"strategy": "macd", "market": intent.market, "reason": "a crossing", "at": AT, "cause": "a candle"}
    stored = pages.decision_document(intent, **kept)
    assert pages.message_of(stored) == pages.message_of({"message": stored["z_message"]}) == intent.model_dump_json()
    assert (stored["decision"], stored["status"], stored["main_leverage"]) == ("open", "proposed", 4)
    close = pages.decision_document(CloseTrade(trade_id="t", reason="r", request_id="q"), **kept)
    assert (close["decision"], close["trade_id"], close["fraction"]) == ("close", "t", "1")
    assert pages.decision_document(None, **kept)["status"] == "ignored"


def test_a_market_s_record_of_before_is_read() -> None:
    old = Stored("m", {"candles": "a\nb", "missing_ms": [1], "unpublished_ms": [2]}, "1")
    assert rows_of(old) == ["a", "b"] and engine_field(old, "missing_ms") == [1]


def test_the_longest_window_fits_its_document() -> None:
    longest = MacdParameters(fast=499, slow=500, signal=500, atr=500).lookback_settled
    most = max(longest, 7_500)
    with pytest.raises(ValueError, match="7500"):
        MacdParameters(lookback=7_501)
    price = D("123456.78901")
    row = packed(Candle(AT, price, price, price, price, D("123456789.12345")), True)
    snapshot = Snapshot(
        market="hyperliquid:BTC", at=AT, mark_price=price, oracle_price=price, mid_price=price,
        funding_rate_hourly=D(0), open_interest=price, bid_depth=price, ask_depth=price,
    )  # fmt: skip
    stored = market_document("hyperliquid:BTC", [row] * most, [row] * 1440, [1] * 1440, snapshot, AT)
    assert len(encoded("markets", "m", stored)) < 0.8 * DOCUMENT_BYTES_MAX


# -- a trade's figures -----------------------------------------------------------------------------


def closed(trade: Trade, main_usd: str, hedge_usd: str) -> Trade:
    main = trade.main.model_copy(update={"size_closed": D(2), "realised_usd": D(main_usd), "fees_usd": D(1)})
    hedge = trade.hedge.model_copy(update={"size_closed": D("0.5"), "realised_usd": D(hedge_usd)})
    return trade.with_leg(main).with_leg(hedge)


@pytest.mark.parametrize(
    ("main_usd", "hedge_usd", "share"),
    [("-100", "25", D("0.25")), ("-100", "-10", D("-0.1")), ("80", "-20", D("0.25")), ("0", "5", None)],
    ids=["a loss offset", "both lost", "a gain given up", "came out even"],
)
def test_hedge_effectiveness_is_the_share_of_the_main_leg_s_result_that_the_hedge_took_back(
    make_trade: Any, main_usd: str, hedge_usd: str, share: D | None
) -> None:
    assert pages.hedge_effectiveness(closed(filled_trade(make_trade), main_usd, hedge_usd)) == share


def test_what_is_not_known_yet_is_null(make_trade: Any) -> None:
    page = pages.trade_page(make_trade())
    assert [page[name] for name in ("hedge_effectiveness", "hedge_ratio", "margin_ratio", "held_seconds")] == [None] * 4
    assert page["main_entry_price"] is None and page["unhedged_seconds"] is None and page["pnl_usd"] == "0.00"


def test_a_trade_s_page_adds_up(make_trade: Any) -> None:
    trade = closed(
        filled_trade(make_trade, opened_at=AT, closed_at=AT + timedelta(seconds=90), unhedged_since=AT),
        "-100",
        "25.005",
    )
    page = pages.trade_page(trade)
    assert (page["pnl_usd"], page["pnl_cents"], page["fees_usd"]) == ("-76.00", -7600, "1.00")
    assert (page["main_pnl_usd"], page["hedge_pnl_usd"]) == ("-101.00", "25.00")
    assert (page["held_seconds"], page["unhedged_seconds"], page["hedge_ratio"]) == (90.0, 0.0, 0.25)
    assert page["hedge_effectiveness"] == 0.25


def test_the_leg_nearer_to_liquidation_is_shown_while_it_is_open(make_trade: Any) -> None:
    def position(size: str, liquidation: str, margin: str) -> Position:
        return Position(
            account="main", market="hyperliquid:BTC", size=D(size), entry_price=D(100), mark_price=D(100),
            unrealised_usd=D(0), liquidation_price=D(liquidation), margin_used_usd=D(margin), maintenance_usd=D(2),
            leverage=5, isolated=True, funding_paid_usd=D(0),
        )  # fmt: skip

    trade = filled_trade(make_trade).marked(position("2", "80", "40"), position("-0.5", "145", "24"), AT)
    page = pages.trade_page(trade)
    assert (page["liquidation_distance_percent"], page["margin_ratio"], page["marked_at"]) == (20.0, 12.0, AT)
    assert pages.trade_page(closed(trade, "1", "1"))["margin_ratio"] is None


# -- orders ----------------------------------------------------------------------------------------


def order(**changes: Any) -> PlacedOrder:
    values: dict[str, Any] = {
        "client_order_id": "0x1", "purpose": Purpose.STOP, "sequence": 1, "attempt": 1, "kind": OrderKind.STOP,
        "side": Side.SELL, "size": D(2), "limit_price": D(90), "trigger_price": D(99), "action_id": "0xabc:1",
        "state": AckState.WAITING, "placed_at": AT,
    }  # fmt: skip
    return PlacedOrder(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "state", "of_trade"),
    [
        ({}, "waiting", TradeState.OPEN),
        ({}, "ended", TradeState.CLOSED),
        ({"state": None}, "no_verdict", TradeState.MAIN_SENT),
        ({"state": AckState.REJECTED, "reason": "too small"}, "rejected", TradeState.CLOSED),
        ({"filled_size": D(1), "filled_price": D(99)}, "partly_filled", TradeState.OPEN),
        ({"filled_size": D(2), "filled_price": D(99)}, "filled", TradeState.CLOSED),
    ],
)
def test_an_order_s_state_is_what_became_of_it(
    make_trade: Any, changes: dict[str, Any], state: str, of_trade: TradeState
) -> None:
    trade = make_trade(state=of_trade)
    page = pages.order_page(trade, trade.main, order(**changes))
    assert page["state"] == state and state.replace("_", " ") in page["summary"]
    assert page["trade_id"] == trade.trade_id and page["trigger"] == trade.intent.trigger


def test_fills_are_told_apart_by_order_and_never_become_fewer(make_trade: Any) -> None:
    def fill(id: str, size: str, price: str, side: Side, seconds: int) -> Fill:
        return Fill(
            fill_id=f"{id}{seconds}", order_id="1", client_order_id=id, market="hyperliquid:BTC", side=side,  # type: ignore[arg-type]
            size=D(size), price=D(price), fee_usd=D(0), closed_pnl_usd=D(0), start_position=D(0),
            at=AT + timedelta(seconds=seconds),
        )  # fmt: skip

    trade = make_trade()
    entry = order(client_order_id="0x2", purpose=Purpose.ENTRY, kind=OrderKind.MARKET, side=Side.BUY)
    leg = trade.leg(LegRole.MAIN).with_order(entry).with_order(order())
    fills = [
        fill("0x2", "1", "100", Side.BUY, 1),
        fill("0x2", "1", "101", Side.BUY, 2),
        fill("0x1", "2", "99", Side.SELL, 3),
    ]
    seen = leg.with_fills(fills)
    first, second = seen.orders
    assert (first.filled_size, first.filled_price, first.filled_at) == (D(2), D("100.5"), fills[1].at)
    assert (second.filled_size, second.filled_price) == (D(2), D(99))
    assert seen.with_fills(fills[:1]).orders == seen.orders
