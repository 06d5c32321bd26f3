"""Hyperliquid's answers to reads, as our values: recorded shapes and the identities that hold on them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from twinleg.adapters.venues import hyperliquid_reads as reads
from twinleg.domain.errors import Unavailable
from twinleg.domain.orders import AckState, OrderKind, Side

D = Decimal

USER = "0x5e9ee1089755c3435139848e47e6635505d5a13a"
OTHER = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"

META = {
    "universe": [
        {"szDecimals": 5, "name": "BTC", "maxLeverage": 40, "marginTableId": 56},
        {"szDecimals": 4, "name": "ETH", "maxLeverage": 25, "marginTableId": 55},
        {"szDecimals": 2, "name": "ATOM", "maxLeverage": 5, "marginTableId": 5},
        {"szDecimals": 1, "name": "MATIC", "maxLeverage": 20, "marginTableId": 20, "isDelisted": True},
        {"szDecimals": 0, "name": "NEW", "maxLeverage": 3, "marginTableId": 3, "marginMode": "strictIsolated"},
    ],
    "marginTables": [
        [55, {"description": "tiered 25x", "marginTiers": [
            {"lowerBound": "0.0", "maxLeverage": 25}, {"lowerBound": "100000000.0", "maxLeverage": 15}]}],
        [56, {"description": "tiered 40x", "marginTiers": [
            {"lowerBound": "0.0", "maxLeverage": 40}, {"lowerBound": "150000000.0", "maxLeverage": 20}]}],
    ],
    "collateralToken": 0,
}  # fmt: skip
LISTED = reads.listings(META, "hyperliquid")

CROSS = {
    "marginSummary": {
        "accountValue": "38252.7", "totalNtlPos": "377667.0", "totalRawUsd": "-339414.3", "totalMarginUsed": "37766.7"
    },
    "crossMarginSummary": {
        "accountValue": "38252.7", "totalNtlPos": "377667.0", "totalRawUsd": "-339414.3", "totalMarginUsed": "37766.7"
    },
    "crossMaintenanceMarginUsed": "4720.8375",
    "withdrawable": "486.0",
    "assetPositions": [{"type": "oneWay", "position": {
        "coin": "BTC", "szi": "4.5", "leverage": {"type": "cross", "value": 10}, "entryPx": "81285.0",
        "positionValue": "377667.0", "unrealizedPnl": "11884.306507", "returnOnEquity": "0.3249007326",
        "liquidationPx": "74501.802790436", "marginUsed": "37766.7", "maxLeverage": 40,
        "cumFunding": {"allTime": "982.43637", "sinceOpen": "982.43637", "sinceChange": "0.0"}}}],
    "time": 1790360864964,
}  # fmt: skip


def isolated(**changes) -> dict:
    position = {
        "coin": "ETH", "szi": "-0.0335", "leverage": {"type": "isolated", "value": 20, "rawUsd": "105.0"},
        "entryPx": "2986.3", "positionValue": "100.02765", "unrealizedPnl": "-0.01", "returnOnEquity": "0",
        "liquidationPx": None, "marginUsed": "4.967826", "maxLeverage": 25,
        "cumFunding": {"allTime": "-0.1", "sinceOpen": "-0.1", "sinceChange": "0.0"},
    }  # fmt: skip
    row = {"type": "oneWay", "position": position | changes}
    flat = {"type": "oneWay", "position": position | {"szi": "0.0", "entryPx": None}}
    return CROSS | {"assetPositions": [row, flat]}


def account(raw):
    return reads.account_state("main", raw, LISTED, "hyperliquid")


def test_a_cross_account_as_recorded():
    state = account(CROSS)
    position = state.position("hyperliquid:BTC")
    assert position is not None
    assert state.equity_usd == D("38252.7")
    assert state.free_usd == D("486.0")
    assert state.cross_maintenance_usd == D("4720.8375") == position.maintenance_usd
    assert position.mark_price == D("83926")
    assert (position.leverage, position.isolated, position.size) == (10, False, D("4.5"))
    assert position.liquidation_price == D("74501.802790436")
    assert position.funding_paid_usd == D("982.43637")
    assert state.at == datetime(2026, 9, 25, 18, 27, 44, 964000, tzinfo=UTC)


def test_an_isolated_short_and_a_flat_row():
    state = account(isolated())
    (position,) = state.positions
    assert position.isolated and position.size == D("-0.0335")
    assert position.mark_price == D("2985.9")
    assert position.liquidation_price is None
    assert position.maintenance_usd == D("100.02765") / 50
    assert position.margin_ratio == D("4.967826") / (D("100.02765") / 50)
    assert position.funding_paid_usd == D("-0.1")


def test_a_position_in_a_coin_we_do_not_list_still_has_a_maintenance_margin():
    (position,) = account(isolated(coin="GONE", maxLeverage=5)).positions
    assert position.maintenance_usd == D("100.02765") / 10


def test_free_collateral_is_never_negative():
    raw = CROSS | {"crossMarginSummary": {"accountValue": "10", "totalMarginUsed": "11"}}
    assert account(raw).free_usd == 0


def test_rules_from_metadata():
    btc, atom, new = (LISTED[coin].rules for coin in ("BTC", "ATOM", "NEW"))
    assert (btc.asset, btc.lot, btc.price_decimals, btc.price_digits) == (0, D("0.00001"), 1, 5)
    assert btc.maintenance_margin_usd(D(377667)) == D("4720.8375")
    assert btc.maintenance_margin_usd(D(150_000_000)) == D(1_875_000)
    assert btc.maintenance_margin_usd(D(200_000_000)) == D(3_125_000)
    assert [tier.max_leverage for tier in atom.tiers] == [5]
    assert new.only_isolated and not btc.only_isolated
    assert new.lot == 1 and new.asset == 4
    assert LISTED["MATIC"].delisted and LISTED["MATIC"].rules.asset == 3


def test_a_missing_margin_table_is_not_guessed():
    with pytest.raises(ValueError, match="margin table 57 is missing"):
        reads.listings({"universe": [META["universe"][0] | {"marginTableId": 57}], "marginTables": []}, "h")


CONTEXT = {
    "funding": "0.0000125", "openInterest": "39338.76246", "prevDayPx": "84086.0", "dayNtlVlm": "1", "premium": None,
    "oraclePx": "83778.1", "markPx": "83757.0", "midPx": None, "impactPxs": None, "dayBaseVlm": "36757.5",
}  # fmt: skip


def level(px: str, sz: str) -> dict:
    return {"px": px, "sz": sz, "n": 1}


def snap(context=CONTEXT, bids=(), asks=()):
    book = {"coin": "BTC", "time": 1790358575700, "levels": [list(bids), list(asks)]}
    return reads.snapshot("hyperliquid:BTC", "BTC", [META, [context] * len(META["universe"])], book)


def test_a_snapshot_counts_depth_within_half_a_percent_of_mid():
    found = snap(
        bids=(level("99.9", "1"), level("99.5", "2"), level("99.4", "50")),
        asks=(level("100.1", "3"), level("101", "9")),
    )
    assert (found.mid_price, found.bid_depth, found.ask_depth) == (D("100"), D(3), D(3))
    assert (found.mark_price, found.oracle_price) == (D("83757.0"), D("83778.1"))
    assert found.funding_rate_hourly == D("0.0000125")


def test_a_one_sided_book_has_no_mid_and_no_depth_where_it_is_empty():
    found = snap(bids=(level("83700", "1"),))
    assert (found.mid_price, found.bid_depth, found.ask_depth) == (None, D(1), D(0))


@pytest.mark.parametrize("null", ["markPx", "oraclePx", "funding"])
def test_null_prices_are_no_market(null):
    with pytest.raises(Unavailable), reads.understood("hyperliquid metaAndAssetCtxs"):
        snap(CONTEXT | {null: None})


def test_a_delisted_market_has_no_snapshot():
    book = {"coin": "MATIC", "time": 1, "levels": [[], []]}
    with pytest.raises(Unavailable, match="MATIC is delisted"), reads.understood("hyperliquid metaAndAssetCtxs"):
        reads.snapshot("hyperliquid:MATIC", "MATIC", [META, [CONTEXT] * 5], book)


def test_candles_are_checked_and_sorted():
    row = {"t": 1790344800000, "T": 1790344859999, "s": "BTC", "i": "1m", "o": "3", "c": "2", "h": "4", "l": "1",
           "v": "9.5", "n": 1}  # fmt: skip
    later = row | {"t": row["T"] + 1, "T": row["T"] + 60_000}
    first, second = reads.candles([later, row])
    assert (first.open, first.high, first.low, first.close, first.volume) == (D(3), D(4), D(1), D(2), D("9.5"))
    assert first.closed_at == second.opened_at
    for bad in ({"h": "2"}, {"o": "0"}, {"T": row["t"] + 3_599_999}, {"v": None}, {"c": 2.5}):
        with pytest.raises(Unavailable), reads.understood("candleSnapshot"):
            reads.candles([row | bad])


STOP_ROW = {
    "children": [], "coin": "BTC", "isPositionTpsl": False, "isTrigger": True, "limitPx": "9.2037", "oid": 3184595907,
    "orderType": "Take Profit Market", "origSz": "12.5", "reduceOnly": True, "side": "A", "sz": "12.5", "tif": None,
    "timestamp": 1700126022555, "triggerCondition": "Price above 10.004", "triggerPx": "10.004",
}  # fmt: skip
PARENT = STOP_ROW | {
    "children": [STOP_ROW], "isTrigger": False, "orderType": "Limit", "triggerPx": "0.0", "tif": "Gtc", "side": "B",
    "reduceOnly": False, "cloid": "0x" + "1" * 32, "oid": 5, "sz": "10.0",
}  # fmt: skip


def test_resting_orders_of_every_kind():
    stop = STOP_ROW | {"orderType": "Stop Market", "isPositionTpsl": True, "sz": "0.0", "cloid": None}
    target, guard, parent = reads.resting_orders([STOP_ROW, stop, PARENT], "hyperliquid")
    assert (target.kind, target.side, target.trigger_price) == (OrderKind.TARGET, Side.SELL, D("10.004"))
    assert (guard.kind, guard.follows_position, guard.client_order_id) == (OrderKind.STOP, True, None)
    assert (parent.kind, parent.trigger_price, parent.size) == (OrderKind.LIMIT, None, D("10.0"))
    assert parent.client_order_id == "0x" + "1" * 32


def test_children_asleep_under_a_parent_are_not_resting_stops():
    assert len(reads.resting_orders([PARENT], "hyperliquid")) == 1


def test_an_unknown_kind_of_trigger_is_not_guessed():
    with pytest.raises(ValueError, match="Trailing"):
        reads.resting_orders([STOP_ROW | {"orderType": "Trailing"}], "hyperliquid")


WORDS = {
    AckState.FILLED: "filled",
    AckState.RESTING: "open triggered",
    AckState.CANCELED: "canceled marginCanceled vaultWithdrawalCanceled openInterestCapCanceled selfTradeCanceled "
    "reduceOnlyCanceled siblingFilledCanceled delistedCanceled liquidatedCanceled outcomeSettledCanceled "
    "scheduledCancel internalCancel",
    AckState.REJECTED: "rejected tickRejected minTradeNtlRejected perpMarginRejected reduceOnlyRejected "
    "badAloPxRejected iocCancelRejected badTriggerPxRejected marketOrderNoLiquidityRejected "
    "positionIncreaseAtOpenInterestCapRejected positionFlipAtOpenInterestCapRejected "
    "tooAggressiveAtOpenInterestCapRejected openInterestIncreaseRejected insufficientSpotBalanceRejected "
    "oracleRejected perpMaxPositionRejected tooManyOpenOrdersRejected",
}


@pytest.mark.parametrize("word, state", [(word, state) for state, words in WORDS.items() for word in words.split()])
def test_every_status_word_has_its_state(word, state):
    assert reads.order_state(word, waiting=False) is state


def test_a_trigger_that_is_open_waits_and_an_unknown_word_is_not_guessed():
    assert reads.order_state("open", waiting=True) is AckState.WAITING
    assert reads.order_state("paused", waiting=False) is None
    report = reads.order_report("0x" + "1" * 32, status_of("paused"))
    assert report is not None and not report.known and report.status == "paused"


def status_of(word: str, **changes) -> dict:
    order = PARENT | {"cloid": "0x" + "1" * 32} | changes
    return {"status": "order", "order": {"order": order, "status": word, "statusTimestamp": 1700126022555}}


def test_order_reports():
    report = reads.order_report("0x" + "1" * 32, status_of("iocCancelRejected"))
    assert report is not None
    assert (report.state, report.status, report.size, report.order_id) == (
        AckState.REJECTED, "iocCancelRejected", D("12.5"), "5"
    )  # fmt: skip
    assert reads.order_report("0x" + "1" * 32, {"status": "unknownOid"}) is None
    for nonsense in ({"status": "maybe"}, status_of("filled", cloid="0x" + "2" * 32)):
        with pytest.raises(ValueError):
            reads.order_report("0x" + "1" * 32, nonsense)


FILL = {
    "coin": "BTC", "px": "83843.0", "sz": "0.31975", "side": "A", "time": 1790357129742, "dir": "Close Long",
    "startPosition": "1.5197585293", "closedPnl": "86.62649561", "hash": "0x" + "0" * 64, "oid": 556657630865,
    "crossed": True, "fee": "18.01551309", "tid": 246814713305894, "feeToken": "USDC", "twapId": None,
}  # fmt: skip


def test_fills_once_each_oldest_first_and_only_of_perpetuals():
    early = FILL | {"time": FILL["time"] - 5, "tid": 7, "cloid": "0x" + "a" * 32}
    spot = [FILL | {"coin": coin, "dir": "Buy", "tid": 8} for coin in ("PURR/USDC", "@107", "#4")]
    first, second = reads.fills([FILL, early, FILL, *spot], USER, "hyperliquid")
    assert first.client_order_id == "0x" + "a" * 32 and second.client_order_id is None
    assert (second.side, second.size, second.price, second.fee_usd) == (
        Side.SELL, D("0.31975"), D("83843.0"), D("18.01551309")
    )  # fmt: skip
    assert second.start_position == D("1.5197585293") and not second.liquidation


def test_a_liquidation_marks_only_the_fill_of_the_one_liquidated():
    def fill_with(user: str):
        mark = {"liquidatedUser": user.upper().replace("0X", "0x"), "markPx": "1", "method": "market"}
        return reads.fills([FILL | {"liquidation": mark}], USER, "hyperliquid")[0]

    assert fill_with(USER).liquidation
    assert not fill_with(OTHER).liquidation


def test_funding_is_positive_when_paid_and_counted_once():
    def row(time: int, usdc: str, coin: str = "ETH") -> dict:
        return {"time": time, "hash": "0x0", "delta": {"type": "funding", "coin": coin, "usdc": usdc}}

    rows = [row(1, "-3.625312"), row(1, "-3.625312"), row(2, "1.5"), row(2, "-9", "BTC")]
    assert reads.funding_paid_usd(rows, "ETH") == D("2.125312")


@pytest.mark.parametrize("delta, usd", [
    ({"type": "deposit", "usdc": "100.0"}, "100"),
    ({"type": "withdraw", "usdc": "40", "nonce": 1, "fee": "1.0"}, "-40"),
    ({"type": "accountClassTransfer", "usdc": "12.0", "toPerp": False}, "-12"),
    ({"type": "accountClassTransfer", "usdc": "12.0", "toPerp": True}, "12"),
    ({"type": "internalTransfer", "usdc": "5", "user": OTHER, "destination": USER, "fee": "0"}, "5"),
    ({"type": "subAccountTransfer", "usdc": "5", "user": USER, "destination": OTHER}, "-5"),
    ({"type": "send", "user": USER, "destination": USER, "sourceDex": "spot", "destinationDex": "",
      "token": "USDC", "amount": "3", "usdcValue": "3"}, "3"),
    ({"type": "send", "user": USER, "destination": USER, "sourceDex": "", "destinationDex": "xyz",
      "token": "USDC", "amount": "3", "usdcValue": "3"}, "-3"),
    ({"type": "vaultDeposit", "vault": OTHER, "usdc": "7"}, "-7"),
    ({"type": "vaultWithdraw", "vault": OTHER, "user": USER, "netWithdrawnUsd": "6.5"}, "6.5"),
    ({"type": "liquidation", "liquidatedNtlPos": "9"}, "0"),
    ({"type": "spotTransfer", "token": "PURR"}, "0"),
])  # fmt: skip
def test_money_in_and_out(delta, usd):
    assert reads.net_deposits_usd([{"time": 1, "hash": "0x1", "delta": delta}], USER) == D(usd)


def test_an_unknown_ledger_entry_is_named():
    with pytest.raises(Unavailable, match="'airdrop'"), reads.understood("ledger"):
        reads.net_deposits_usd([{"time": 1, "hash": "0x1", "delta": {"type": "airdrop"}}], USER)


def test_key_expiry():
    agents = [{"name": "ok", "address": "0x286E", "validUntil": 1767776120478}, {"name": "x", "address": "0x1"}]
    assert reads.key_expiry(agents, "0x286e") == datetime(2026, 1, 7, 8, 55, 20, 478000, tzinfo=UTC)
    assert reads.key_expiry(agents, "0x1") is None
    assert reads.key_expiry(agents, "0x2") is None
