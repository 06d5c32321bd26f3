"""The paper venue's WebSocket: control messages, every stream, order and completeness, limits, and what goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
import zlib
from collections import defaultdict
from contextlib import suppress
from decimal import Decimal

import pytest
from aiohttp import WSServerHandshakeError
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

import paper_line as line_module
from twinleg.paper import ws, ws_limits
from twinleg.paper.ws_messages import FIELDS, Subscribe, Unparsable, message_of

bench, run = line_module.bench, line_module.run
candle, wire, START_MS, MINUTE = bench.candle, bench.wire, bench.START_MS, bench.MINUTE
ALICE, BOB = (Account.from_key("0x" + digit * 64) for digit in "12")
A, B = (wallet.address.lower() for wallet in (ALICE, BOB))


# Control messages


def test_control_messages_answer_in_the_venues_words():
    async def scene(desk):
        async with desk.line() as line:
            await line.send({"method": "ping"})
            assert await line.next() == {"channel": "pong"}
            book = {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, "fast": False}
            done, shown = await line.ask("subscribe", type="l2Book", coin="BTC")
            assert done == {
                "channel": "subscriptionResponse",
                "data": {"method": "subscribe", "subscription": book},
            }
            assert shown["channel"] == "l2Book" and shown["data"] == await desk.info("l2Book", coin="BTC")
            spelled = json.dumps(book, separators=(",", ":"))
            again = await line.ask("subscribe", type="l2Book", coin="BTC", nSigFigs=None)
            assert again == [{"channel": "error", "data": f"Already subscribed: {spelled}"}]
            (done,) = await line.ask("unsubscribe", type="l2Book", coin="BTC")
            assert done["data"] == {"method": "unsubscribe", "subscription": book}
            again = await line.ask("unsubscribe", type="l2Book", coin="BTC")
            assert again == [{"channel": "error", "data": f"Already unsubscribed: {spelled}"}]
            for wrong in (
                {"type": "l2Book", "coin": "NOPE"},
                {"type": "l2Book", "coin": "btc"},
                {"type": "l2Book", "coin": "BTC", "nSigFigs": 6},
                {"type": "l2Book", "coin": "BTC", "nSigFigs": 4, "mantissa": 2},
                {"type": "candle", "coin": "BTC", "interval": "7m"},
                {"type": "activeAssetData", "coin": "MATIC", "user": A},
                {"type": "allMids", "dex": "xyz"},
            ):
                (refused,) = await line.ask("subscribe", **wrong)
                assert refused["channel"] == "error"
                assert refused["data"].startswith(f'Invalid subscription {{"type":"{wrong["type"]}"')

    run(scene)


UNPARSABLE = [
    "not json",
    '"ping"',
    "[" * 100_000,
    "{}",
    '{"method":"pong"}',
    '{"method":"subscribe"}',
    '{"method":"subscribe","xsubscription":{"type":"bbo","coin":"SOL"}}',
    '{"method":"subscribe","subscription":{"type":"noSuchType","coin":"BTC"}}',
    '{"method":"subscribe","subscription":{"type":["bbo"],"coin":"BTC"}}',
    '{"method":"subscribe","subscription":{"type":"bbo","coin":["BTC","ETH"]}}',
    '{"method":"subscribe","subscription":{"type":"l2Book","coin":"BTC","nSigFigs":"5"}}',
    '{"method":"subscribe","subscription":{"type":"candle","coin":"BTC"}}',
    '{"method":"subscribe","subscription":{"type":"userFills","user":"me"}}',
    '{"method":"subscribe","subscription":{"type":"userFills","user":"0x' + "a" * 40 + '","aggregateByTime":1}}',
    '{"method":"post","request":{"type":"info","payload":{"type":"meta"}}}',
    '{"method":"post","id":"1","request":{"type":"info","payload":{"type":"meta"}}}',
    '{"method":"post","id":-1,"request":{"type":"info","payload":{"type":"meta"}}}',
    '{"method":"post","id":1,"request":{"type":"explorer","payload":{}}}',
    '{"method":"post","id":1,"request":{"type":"info"}}',
]


def test_what_cannot_be_read_is_quoted_and_the_connection_stays():
    for text in UNPARSABLE:
        with pytest.raises(Unparsable):
            message_of(text)

    async def scene(desk):
        async with desk.line() as line:
            for text in (t for t in UNPARSABLE if len(t) < 1000):
                await line.send(text)
                assert await line.next() == {
                    "channel": "error",
                    "data": f"Error parsing JSON into valid websocket request: {text}",
                }

    run(scene)


WORDS = st.sampled_from([*FIELDS, "subscribe", "post", "info", "action", "BTC", A, "", "\ud800"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS
KEYS = st.sampled_from(
    ["method", "subscription", "request", "type", "id", "payload", "coin", "user", "dex", "nSigFigs"]
)
FRAMES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=12)


@given(FRAMES, st.sampled_from(["subscribe", "unsubscribe", "post", "ping"]))
@settings(max_examples=150, deadline=None)
def test_any_frame_is_read_or_refused(frame, method):
    for sent in (frame, {"method": method, "subscription": frame, "id": 1, "request": frame}):
        with suppress(Unparsable):
            read = message_of(json.dumps(sent))
            if isinstance(read, Subscribe):
                assert json.loads(read.subscription.text)["type"] in FIELDS


def test_addresses_are_lower_case_whatever_was_sent_and_one_stream_has_one_name():
    async def scene(desk):
        async with desk.line() as line:
            done, shown = await line.ask("subscribe", type="userFills", user=ALICE.address)
            assert done["data"]["subscription"] == {"type": "userFills", "user": A, "aggregateByTime": False}
            assert shown["data"] == {"isSnapshot": True, "user": A, "fills": []}
            (again,) = await line.ask("subscribe", type="userFills", user=A.removeprefix("0x"))
            assert again["data"].startswith("Already subscribed: ")
            await line.subscribe(type="clearinghouseState", user=A)
            (again,) = await line.ask("subscribe", type="clearinghouseState", user=A, dex="")
            assert again["data"] == f'Already subscribed: {{"type":"clearinghouseState","user":"{A}","dex":""}}'

    run(scene)


# Posts


def test_posts_go_the_way_of_their_http_requests():
    async def scene(desk):
        async with desk.line() as line:
            book = await line.post("info", {"type": "l2Book", "coin": "BTC"}, 256)
            assert book == {
                "type": "info",
                "payload": {"type": "l2Book", "data": await desk.info("l2Book", coin="BTC")},
            }
            nothing = await line.post("info", {"type": "l2Book", "coin": "NOPE"}, 7)
            assert nothing == {"type": "info", "payload": {"type": "l2Book", "data": None}}
            action = {"type": "order", "orders": [wire(True, 90, 1)], "grouping": "na"}
            body = desk.signed(ALICE, action)
            placed = await line.post("action", body)
            assert placed["type"] == "action" and placed["payload"]["status"] == "ok"
            oid = placed["payload"]["response"]["data"]["statuses"][0]["resting"]["oid"]
            assert [row["oid"] for row in await desk.info("openOrders", A)] == [oid]
            twice = await line.post("action", body)
            refused = {"status": "err", "response": f"Invalid nonce: duplicate nonce {body['nonce']}"}
            assert twice == {"type": "action", "payload": refused}
            assert (await desk.http("/exchange", body)) == refused
            unreadable = "422 Failed to deserialize the JSON body into the target type"
            for kind, payload in (("info", {"type": "nope"}), ("info", 3), ("action", {"action": {"type": "order"}})):
                assert await line.post(kind, payload) == {"type": "error", "payload": unreadable}

    run(scene)


def test_a_posts_answer_precedes_what_it_brought_and_http_brings_it_before_its_answer():
    async def scene(desk):
        async with desk.line() as line:
            await line.subscribe(type="userFills", user=A)
            action = {"type": "order", "orders": [wire(True, 101, 1)], "grouping": "na"}
            payload = desk.signed(ALICE, action)
            await line.send({"method": "post", "id": 5, "request": {"type": "action", "payload": payload}})
            assert [(await line.next())["channel"] for _ in range(2)] == ["post", "userFills"]
            await desk.http("/exchange", desk.signed(ALICE, action))
            (fills,) = await line.told("userFills")
            assert len(fills["fills"]) == 1 and "isSnapshot" not in fills

    run(scene)


# Markets


def test_candles_repeat_while_forming_and_each_that_closes_is_told_in_its_last_form():
    async def scene(desk):
        async with desk.line() as line:
            (first,) = await line.subscribe(type="candle", coin="BTC", interval="1m")
            (five,) = await line.subscribe(type="candle", coin="BTC", interval="5m")
            assert (first["t"], first["T"], first["s"], first["i"]) == (START_MS, START_MS + 59_999, "BTC", "1m")
            assert five["t"] == START_MS
            await desk.to_minute(0.5)
            forming = await line.told("candle")
            assert [(row["i"], row["t"]) for row in forming] == [("1m", START_MS), ("5m", START_MS)]
            assert await line.told("candle") == []
            await desk.to_minute(3.25)
            rows = await line.told("candle")
            minutes = [row for row in rows if row["i"] == "1m"]
            assert [row["t"] for row in minutes] == [START_MS + i * MINUTE for i in range(4)]
            asked = {"coin": "BTC", "interval": "1m", "startTime": START_MS, "endTime": START_MS + 4 * MINUTE}
            assert minutes == await desk.info("candleSnapshot", req=asked)
            assert [row["t"] for row in rows if row["i"] == "5m"] == [START_MS]

    run(scene)


def test_the_book_and_the_best_prices_are_told_when_they_change():
    async def scene(desk):
        async with desk.line() as line:
            (whole,) = await line.subscribe(type="l2Book", coin="BTC")
            (fast,) = await line.subscribe(type="l2Book", coin="BTC", fast=True)
            (coarse,) = await line.subscribe(type="l2Book", coin="BTC", nSigFigs=2)
            (best,) = await line.subscribe(type="bbo", coin="BTC")
            assert fast == {**whole, "levels": [side[:5] for side in whole["levels"]], "fast": True}
            assert len(coarse["levels"][0]) < len(whole["levels"][0]) == 20
            assert best == {"coin": "BTC", "time": START_MS, "bbo": [side[0] for side in whole["levels"]]}
            await line.order(ALICE, wire(True, 100, 3))
            told = await line.heard()
            (better,) = [m["data"]["bbo"] for m in told if m["channel"] == "bbo"]
            assert better[0] == {"px": "100.0", "sz": "3.0", "n": 1} and better[1] == best["bbo"][1]
            books = [m["data"] for m in told if m["channel"] == "l2Book"]
            assert [book["levels"][0][0]["px"] for book in books][:2] == ["100.0"] * 2
            assert not [m for m in await line.heard() if m["channel"] == "bbo"]

    run(scene)


def test_mids_and_contexts_follow_the_market_and_a_listed_coin_without_one_is_silent():
    async def scene(desk):
        async with desk.line() as line:
            (mids,) = await line.subscribe(type="allMids")
            assert mids == {"mids": await desk.info("allMids")}
            (context,) = await line.subscribe(type="activeAssetCtx", coin="BTC")
            assert context["coin"] == "BTC" and context["ctx"] == (await desk.info("metaAndAssetCtxs"))[1][0]
            (spot,) = await line.subscribe(type="activeAssetCtx", coin="PURR/USDC")
            assert spot["ctx"]["coin"] == "PURR/USDC"
            assert (await line.subscribe(type="l2Book", coin="MATIC"))[0]["levels"] == [[], []]
            assert (await line.subscribe(type="bbo", coin="MATIC"))[0]["bbo"] == [None, None]
            assert (await line.subscribe(type="activeAssetCtx", coin="MATIC"))[0]["ctx"]["midPx"] is None
            for kind in ({"type": "trades"}, {"type": "candle", "interval": "1m"}):
                assert await line.subscribe(**kind, coin="MATIC") == []
            await desk.to_minute(0.3)
            told = await line.heard()
            assert {m["channel"] for m in told} == {"allMids", "activeAssetCtx"}
            assert told[0]["data"]["mids"] == await desk.info("allMids") != mids["mids"]

    run(scene)


def test_trades_are_replayed_and_then_told_once_each_ours_among_them():
    async def scene(desk):
        async with desk.line() as line:
            (replayed,) = await line.subscribe(type="trades", coin="BTC")
            assert len(replayed) == 30 and replayed == sorted(replayed, key=lambda t: t["time"])
            await line.order(ALICE, wire(True, 95, 2))
            (mine,) = await line.order(BOB, wire(False, 99, 1))
            (trades,) = await line.told("trades")
            assert [(t["side"], t["sz"]) for t in trades] == [("A", "1.0")] and trades[0]["users"][1] == B
            await desk.to_minute(2)
            (trades,) = await line.told("trades")
            seen = [t["tid"] for t in replayed + trades]
            assert len(seen) == len(set(seen)) and all(t["time"] > START_MS for t in trades)
            assert sum(Decimal(t["sz"]) for t in trades) == 140, "six points of a candle, seven, and one"
            assert mine["filled"]["totalSz"] == "1.0"

    run(scene, {"BTC": [candle(i, 100, 101, 99, 100, volume=70) for i in range(-30, 30)]})


def test_a_long_step_is_told_whole_in_messages_that_clients_accept():
    async def scene(desk):
        async with desk.line() as line:
            await line.subscribe(type="trades", coin="BTC")
            await line.subscribe(type="candle", coin="BTC", interval="1m")
            await desk.to_minute(400)
            told = await line.heard()
            portions = [len(m["data"]) for m in told if m["channel"] == "trades"]
            assert portions == [1_000, 1_000, 7 * 400 - 2_000]
            assert sum(m["channel"] == "candle" for m in told) == 401

    run(scene, {"BTC": bench.flat(100, 420, -10)})


# Accounts


USER_STREAMS = ("orderUpdates", "userFills", "userEvents", "userFundings", "userNonFundingLedgerUpdates")
STATE_STREAMS = ("clearinghouseState", "spotState", "openOrders", "webData2")


def test_snapshots_come_first_where_the_venue_sends_them():
    async def scene(desk):
        async with desk.line() as line:
            await line.order(ALICE, wire(True, 101, 1), wire(True, 95, 1))
            first = {kind: await line.subscribe(type=kind, user=A) for kind in (*USER_STREAMS, *STATE_STREAMS)}
            assert first["orderUpdates"] == first["userEvents"] == []
            ((fills,), (fundings,), (moved,)) = (
                first[k] for k in USER_STREAMS if k not in ("orderUpdates", "userEvents")
            )
            assert fills == {"isSnapshot": True, "user": A, "fills": await desk.info("userFills", A)}
            assert fundings == {"isSnapshot": True, "user": A, "fundings": []}
            transfers = await desk.info("userNonFundingLedgerUpdates", A, startTime=0)
            assert moved == {"isSnapshot": True, "user": A, "nonFundingLedgerUpdates": transfers}
            state = await desk.info("clearinghouseState", A)
            orders = await desk.info("frontendOpenOrders", A)
            assert first["clearinghouseState"] == [{"dex": "", "user": A, "clearinghouseState": state}]
            assert first["openOrders"] == [{"dex": "", "user": A, "orders": orders}]
            assert first["spotState"] == [{"user": A, "spotState": await desk.info("spotClearinghouseState", A)}]
            (whole,) = first["webData2"]
            assert whole["clearinghouseState"] == state and whole["openOrders"] == orders
            assert [whole["meta"], whole["assetCtxs"]] == await desk.info("metaAndAssetCtxs")
            assert (whole["user"], whole["serverTime"], whole["cumLedger"]) == (A, START_MS, "10000.0")
            (leverage,) = await line.subscribe(type="activeAssetData", user=A, coin="BTC")
            assert leverage == await desk.info("activeAssetData", A, coin="BTC")

    run(scene)


def test_streams_of_twap_orders_of_the_order_history_and_of_all_assets_at_once():
    async def scene(desk):
        async with desk.line() as line:
            kinds = ("userTwapHistory", "userTwapSliceFills", "userHistoricalOrders", "twapStates", "webData3")
            first = {kind: (await line.subscribe(type=kind, user=A))[0] for kind in kinds}
            await line.subscribe(type="userEvents", user=A)
            assert first["userTwapHistory"] == {"isSnapshot": True, "user": A, "history": []}
            assert first["twapStates"] == {"dex": "", "user": A, "states": []}
            assert first["webData3"]["userState"]["user"] == A
            contexts = (await desk.info("metaAndAssetCtxs"))[1]
            assert await line.subscribe(type="assetCtxs") == [{"dex": "", "ctxs": contexts}]
            assert await line.subscribe(type="allDexsAssetCtxs") == [{"ctxs": [["", contexts]]}]
            assert await line.subscribe(type="spotAssetCtxs") == [(await desk.info("spotMetaAndAssetCtxs"))[1]]
            state = await desk.info("clearinghouseState", A)
            whole = {"user": A, "clearinghouseStates": [["", state]]}
            assert await line.subscribe(type="allDexsClearinghouseState", user=A) == [whole]
            assert await line.subscribe(type="notification", user=A) == []
            twap = {"a": 0, "b": True, "s": "11", "r": False, "m": 5, "t": False}
            placed = await line.post("action", desk.signed(ALICE, {"type": "twapOrder", "twap": twap}))
            ident = placed["payload"]["response"]["data"]["status"]["running"]["twapId"]
            told = defaultdict(list)
            for message in await line.heard():
                told[message["channel"]].append(message["data"])
            (running,) = told["twapStates"][-1]["states"]
            assert running[0] == ident and running[1]["sz"] == "11.0"
            (part,) = told["userTwapSliceFills"][-1]["twapSliceFills"]
            assert part == {"fill": (await desk.info("userFills", A))[0], "twapId": ident}
            assert told["userTwapHistory"][-1]["history"] == await desk.info("twapHistory", A)
            assert told["userHistoricalOrders"][-1]["orderHistory"] == await desk.info("historicalOrders", A)
            assert {name for event in told["user"] for name in event} == {"fills", "twapSliceFills", "twapHistory"}

    run(scene)


def test_fast_contexts_are_packed_first_all_then_what_changed():
    def unpacked(data):
        return json.loads(zlib.decompress(base64.b64decode(data), -zlib.MAX_WBITS))

    async def scene(desk):
        async with desk.line() as line:
            (packed,) = await line.subscribe(type="fastAssetCtxs")
            mids = await desk.info("allMids")
            assert {coin: row["midPx"] for coin, row in unpacked(packed).items()} == mids and len(mids) == 2
            await desk.to_minute(0.3)
            (packed,) = await line.told("fastAssetCtxs")
            assert set(unpacked(packed)) == {"BTC"}, "the other stands still"

    run(scene, {"BTC": [candle(i, 100, 101, 99, 100) for i in range(-3, 5)], "ETH": bench.flat(50, 8, -3)})


def test_an_orders_life_on_order_updates():
    async def scene(desk):
        async with desk.line() as line:
            await line.subscribe(type="orderUpdates", user=A)
            cloid = bench.cloid(7)
            (placed,) = await line.order(ALICE, wire(True, 90, 1, cloid=cloid))
            oid = placed["resting"]["oid"]
            row = {"coin": "BTC", "side": "B", "limitPx": "90.0", "sz": "1.0", "oid": oid, "timestamp": START_MS}
            row |= {"origSz": "1.0", "cloid": cloid}
            assert await line.told() == [[{"order": row, "status": "open", "statusTimestamp": START_MS}]]
            await desk.to_minute(0.1)
            cancel = {"type": "cancel", "cancels": [{"a": 0, "o": oid}]}
            await line.post("action", desk.signed(ALICE, cancel))
            at = START_MS + MINUTE // 10
            assert await line.told() == [[{"order": row, "status": "canceled", "statusTimestamp": at}]]
            await line.order(ALICE, wire(True, 105, 1), wire(True, 90, "0.001"), wire(True, 90, 1, "Ioc"))
            (updates,) = await line.told()
            assert [(u["status"], u["order"]["sz"]) for u in updates] == [
                ("open", "1.0"),
                ("filled", "0.0"),
                ("minTradeNtlRejected", "0.001"),
                ("iocCancelRejected", "1.0"),
            ]
            await line.order(ALICE, wire(False, "104", 1, reduce_only=True))
            ((closing,),) = await line.told()
            assert closing["order"]["reduceOnly"] is True

    run(scene)


@pytest.mark.parametrize("told", [True, False])
def test_a_partial_fill_of_a_resting_order_is_told_as_open_with_what_is_left(told):
    async def scene(desk):
        async with desk.line() as line:
            await line.subscribe(type="orderUpdates", user=A)
            await line.subscribe(type="userFills", user=A)
            (placed,) = await line.order(ALICE, wire(True, 100, 3))
            await line.heard()
            await line.order(BOB, wire(False, 100, 1, "Ioc"))
            messages = await line.heard()
            assert [m["data"]["fills"][0]["sz"] for m in messages if m["channel"] == "userFills"] == ["1.0"]
            updates = [u for m in messages if m["channel"] == "orderUpdates" for u in m["data"]]
            shown = [(u["order"]["oid"], u["status"], u["order"]["sz"], u["order"]["origSz"]) for u in updates]
            assert shown == ([(placed["resting"]["oid"], "open", "2.0", "3.0")] if told else [])

    run(scene, switches={"ws_partial_fill_updates": told})


@pytest.mark.parametrize("memory", [0, 1, 2, 2000])
def test_no_order_is_left_out_however_little_the_venue_remembers_of_orders(memory):
    async def scene(desk):
        async with desk.line() as line:
            await line.subscribe(type="orderUpdates", user=A)
            wires = [wire(True, price, 1) for price in (90, 91, 105, 92)]
            placed = await line.order(ALICE, *wires)
            resting = [status["resting"]["oid"] for status in placed if "resting" in status]
            (updates,) = await line.told()
            assert [(u["order"]["limitPx"], u["status"]) for u in updates if u["status"] != "open"] == [
                ("105.0", "filled")
            ]
            assert sorted(u["order"]["limitPx"] for u in updates if u["status"] == "open") == [
                "105.0",
                "90.0",
                "91.0",
                "92.0",
            ]
            cancels = [{"a": 0, "o": oid} for oid in resting]
            await line.post("action", desk.signed(ALICE, {"type": "cancel", "cancels": cancels}))
            (updates,) = await line.told()
            assert sorted(u["order"]["oid"] for u in updates) == resting
            assert {u["status"] for u in updates} == {"canceled"}

    run(scene, switches={"order_memory": memory})


def test_user_events_tell_fills_funding_liquidation_and_cancels_nobody_asked_for():
    async def scene(desk):
        async with desk.line() as line:
            leverage = {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 40}
            await line.post("action", desk.signed(ALICE, leverage))
            for kind in ("userEvents", "userFundings", "userNonFundingLedgerUpdates"):
                await line.subscribe(type=kind, user=A)
            await line.order(ALICE, wire(True, 105, 2000, "Ioc"))
            (filled,) = await line.told("user")
            (placed,) = await line.order(ALICE, wire(True, 60, 1))
            assert list(filled) == ["fills"] and filled["fills"][0]["dir"] == "Open Long"
            await desk.to_minute(31)
            told = await line.heard()
            paid = [m["data"] for m in told if m["channel"] == "userFundings"]
            events = [m["data"] for m in told if m["channel"] == "user"]
            (row,) = (payment for message in paid for payment in message["fundings"])
            (booked,) = await desk.info("userFunding", A, startTime=0)
            expected = {"time": booked["time"], **booked["delta"]}
            del expected["type"]
            assert row == expected and {"funding": row} in events
            await desk.to_minute(33)
            told = await line.heard()
            events = [m["data"] for m in told if m["channel"] == "user"]
            kinds = {name for event in events for name in event}
            assert kinds == {"fills", "liquidation", "nonUserCancel"}
            (gone,) = [event["nonUserCancel"] for event in events if "nonUserCancel" in event]
            assert gone == [{"coin": "BTC", "oid": placed["resting"]["oid"]}]
            liquidation = next(event["liquidation"] for event in events if "liquidation" in event)
            assert liquidation["liquidated_user"] == A and set(liquidation) == {
                *("lid", "liquidator", "liquidated_user", "liquidated_ntl_pos", "liquidated_account_value")
            }
            fills = [fill for event in events for fill in event.get("fills", ())]
            assert {fill["liquidation"]["liquidatedUser"] for fill in fills} == {A}
            moved = [m["data"] for m in told if m["channel"] == "userNonFundingLedgerUpdates"]
            assert all("isSnapshot" not in message and message["user"] == A for message in moved)

    series = [candle(i, 100, 101, 99, 100) for i in range(-30, 32)] + [candle(32, 100, 100, 95, 95)]
    run(scene, {"BTC": series}, equity=Decimal(10_000))


def test_states_are_told_on_change_and_again_by_themselves():
    """A client that shares one stream between two watchers waits for a message that nobody asked for."""

    async def scene(desk):
        async with desk.line() as line:
            for kind in ("clearinghouseState", "spotState", "openOrders"):
                await line.subscribe(type=kind, user=A)
            await line.order(ALICE, wire(True, 95, 1))
            told = await line.heard()
            assert [m["channel"] for m in told] == ["clearinghouseState", "openOrders"], "the deposit, and the order"
            repeated = {(await line.next())["channel"] for _ in range(3)}
            assert repeated == {"clearinghouseState", "spotState", "openOrders"}

    run(scene)


def test_after_a_random_run_nothing_is_missing_and_nothing_came_twice():
    async def scene(desk):
        draw = random.Random(11)
        async with desk.line() as line, desk.line() as trader:
            for kind in (*USER_STREAMS, *STATE_STREAMS):
                for user in (A, B):
                    if kind not in ("orderUpdates", "userEvents") or user == A:
                        await line.subscribe(type=kind, user=user)
            (replayed,) = await line.subscribe(type="trades", coin="BTC")
            told = await trade_at_random(desk, trader, line, draw)
            fills = await desk.info("userFills", A)
            assert len(fills) > 20
            mine = [f for m in told["userFills"] if m["user"] == A for f in m["fills"]]
            assert mine == fills[::-1] == [f for m in told["user"] for f in m.get("fills", ())]
            payments = [p["delta"]["usdc"] for p in await desk.info("userFunding", A, startTime=0)]
            assert (
                payments
                and [p["usdc"] for m in told["userFundings"] if m["user"] == A for p in m["fundings"]] == payments
            )
            trades = [t for message in told["trades"] for t in message]
            tids = [t["tid"] for t in replayed + trades]
            assert len(tids) == len(set(tids))
            assert {f["tid"] for f in fills + await desk.info("userFills", B)} <= set(tids)
            await compare_updates(desk, told["orderUpdates"], fills)
            for name, question in (("clearinghouseState", "clearinghouseState"), ("orders", "frontendOpenOrders")):
                channel = "openOrders" if name == "orders" else name
                for user in (A, B):
                    last = [m[name] for m in told[channel] if m["user"] == user][-1]
                    asked = await desk.info(question, user)
                    assert bare(last) == bare(asked)
            async with desk.line() as again:
                ((snapshot),) = await again.subscribe(type="userFills", user=A)
                assert snapshot["fills"] == mine
                joined = (await again.subscribe(type="userFills", user=A, aggregateByTime=True))[0]["fills"]
                assert joined == (await desk.info("userFills", A, aggregateByTime=True))[::-1]

    run(scene)


def bare(state):
    return {k: v for k, v in state.items() if k != "time"} if isinstance(state, dict) else state


def test_the_same_steps_bring_the_same_messages():
    heard = []

    async def scene(desk):
        async with desk.line() as line, desk.line() as trader:
            for kind in ("trades", "bbo", "l2Book"):
                await line.subscribe(type=kind, coin="BTC")
            for kind in (*USER_STREAMS, "openOrders"):
                await line.subscribe(type=kind, user=A)
            told = await trade_at_random(desk, trader, line, random.Random(5), 30)
            heard.append({kind: told[kind] for kind in ("trades", "bbo", "user", "userFills", "orderUpdates")})

    run(scene)
    run(scene)
    assert heard[0] == heard[1] and all(heard[0].values())


async def trade_at_random(desk, trader, line, draw, steps=150):
    told = defaultdict(list)
    for step in range(steps):
        wallet = (ALICE, BOB)[draw.randrange(2)]
        price = Decimal(draw.randrange(985, 1016)) / 10
        tif = ("Gtc", "Gtc", "Ioc", "Alo")[draw.randrange(4)]
        size, reduces = draw.randrange(1, 40), draw.random() < 0.2
        await trader.order(wallet, wire(draw.random() < 0.5, price, size, tif, reduce_only=reduces))
        if not draw.randrange(4):
            rows = await desk.info("openOrders", wallet.address)
            if rows:
                cancel = {"type": "cancel", "cancels": [{"a": 0, "o": rows[draw.randrange(len(rows))]["oid"]}]}
                await trader.post("action", desk.signed(wallet, cancel))
        if not draw.randrange(6):
            await desk.to_minute(step / 4 + draw.random() / 8)
        for message in await line.heard():
            told[message["channel"]].append(message["data"])
    return told


async def compare_updates(desk, messages, fills):
    """What the updates say in the end is what a question answers, order by order."""
    last, statuses = {}, defaultdict(list)
    for update in (u for message in messages for u in message):
        last[update["order"]["oid"]] = update
        statuses[update["order"]["oid"]].append((update["status"], update["order"]["sz"]))
    filled = defaultdict(Decimal)
    for fill in fills:
        filled[fill["oid"]] += Decimal(fill["sz"])
    for oid, update in last.items():
        told, order = statuses[oid], update["order"]
        assert len(told) == len(set(told)), "no status comes twice"
        answer = (await desk.info("orderStatus", A, oid=oid))["order"]
        assert update["status"] == answer["status"]
        if "reduceOnly" not in order:
            assert Decimal(order["origSz"]) - Decimal(order["sz"]) == filled[oid], (told, answer)
    assert set(filled) <= set(last)


def test_by_the_walls_clock_the_market_moves_and_tells_by_itself():
    async def scene(desk):
        async with desk.line() as line:
            for subscription in ({"type": "candle", "interval": "1m"}, {"type": "l2Book"}):
                await line.send({"method": "subscribe", "subscription": {**subscription, "coin": "BTC"}})
            heard = defaultdict(list)
            while len(heard["candle"]) < 3 or len(heard["l2Book"]) < 3:
                message = await line.next()
                heard[message["channel"]].append(message["data"])
            opened = [row["t"] for row in heard["candle"]]
            assert opened == sorted(opened) and opened[-1] > opened[0]
            assert len({book["time"] for book in heard["l2Book"]}) == len(heard["l2Book"])

    run(scene, clock="wall", speed=Decimal(240), start_ms=None, history_candles=20)


# Limits


def test_without_request_limits_nothing_is_counted():
    async def scene(desk):
        lines = [desk.line() for _ in range(12)]
        for manager in lines:
            line = await manager.__aenter__()
            assert await line.subscribe(type="bbo", coin="BTC")
        for manager in lines:
            await manager.__aexit__(None, None, None)

    run(scene)


def test_connections_users_and_messages_are_limited_when_switched_on():
    async def scene(desk):
        lines = [desk.line() for _ in range(10)]
        held = [await manager.__aenter__() for manager in lines]
        with pytest.raises(WSServerHandshakeError) as refused:
            async with desk.line():
                pass
        assert refused.value.status == 429
        for number in range(10):
            await held[number].subscribe(type="userEvents", user=f"0x{number:040x}")
        (excess,) = await held[0].ask("subscribe", type="userFills", user=A)
        assert excess == {"channel": "error", "data": "Cannot track more than 10 total users."}
        assert await held[0].subscribe(type="userFills", user=f"0x{9:040x}"), "one that is tracked already"
        for _ in range(2_000):
            await held[0].send('{"method":"ping"}')
        said = [await held[0].next() for _ in range(2_000)]
        assert said[-1] == {"channel": "error", "data": "Cannot send more than 2000 messages per minute."}
        await desk.to_minute(1.1)
        assert await held[0].heard() == []
        for manager in lines:
            await manager.__aexit__(None, None, None)
        for _ in range(20):
            async with desk.line():
                pass
        with pytest.raises(WSServerHandshakeError):
            for _ in range(11):
                async with desk.line():
                    pass

    run(scene, switches={"rate_limits": True})


def test_how_many_connections_and_users_are_switches():
    async def scene(desk):
        async with desk.line() as line:
            with pytest.raises(WSServerHandshakeError):
                async with desk.line():
                    pass
            await line.subscribe(type="userEvents", user=A)
            (excess,) = await line.ask("subscribe", type="userEvents", user=B)
            assert excess["data"] == "Cannot track more than 1 total users."

    run(scene, switches={"rate_limits": True, "ws_connections_max": 1, "ws_users_max": 1})


def test_subscriptions_and_posts_under_way_are_limited_when_switched_on(monkeypatch):
    monkeypatch.setattr(ws_limits, "SUBSCRIPTIONS_MAX", 2)
    monkeypatch.setattr(ws_limits, "POSTS_UNDER_WAY_MAX", 2)

    async def scene(desk):
        await desk.fault("delay", path="/info", ms=200, count=2)
        async with desk.line() as line, desk.line() as other:
            await line.subscribe(type="bbo", coin="BTC")
            await other.subscribe(type="allMids")
            (refused,) = await line.ask("subscribe", type="trades", coin="BTC")
            assert refused == {"channel": "error", "data": ws_limits.TOO_MANY_SUBSCRIPTIONS}
            for ident in (1, 2, 3):
                request = {"type": "info", "payload": {"type": "allMids"}}
                await line.send({"method": "post", "id": ident, "request": request})
            answers = [(await line.next())["data"] for _ in range(3)]
            assert answers[0] == {"id": 3, "response": {"type": "error", "payload": ws_limits.TOO_MANY_POSTS}}
            assert [answer["id"] for answer in answers[1:]] == [1, 2]
            heavy = [await line.post("info", {"type": "userRole", "user": A}) for _ in range(21)]
            assert heavy[-1] == {"type": "error", "payload": "429 Too Many Requests"}

    run(scene, switches={"rate_limits": True})


# What goes wrong


def test_a_connection_to_which_nothing_is_sent_is_closed_without_a_farewell():
    async def scene(desk):
        async with desk.line() as idle, desk.line() as pinging:
            for _ in range(6):
                await asyncio.sleep(0.4)
                assert await pinging.heard() == []
            assert await idle.ended() == 1006

    run(scene, switches={"ws_idle_seconds": 2})


def test_disconnects_come_unannounced_and_what_was_missed_can_be_read_again():
    async def scene(desk):
        async with desk.line() as line, desk.line() as other:
            await line.subscribe(type="userFills", user=A)
            await other.subscribe(type="userFills", user=B)
            await desk.fault("ws_disconnect", action="userFills", address=A, count=1)
            await other.order(ALICE, wire(True, 101, 1))
            assert await line.ended() == 1006
            assert await other.told("userFills") == []
            async with desk.line() as again:
                ((snapshot),) = await again.subscribe(type="userFills", user=A)
                assert snapshot["fills"] == await desk.info("userFills", A) != []
                assert await desk.http("/_sim/disconnect", {}) == {"disconnected": 2}
                assert await again.ended() == await other.ended() == 1006

    run(scene)


def test_messages_are_dropped_doubled_or_end_in_silence_on_demand():
    async def scene(desk):
        async with desk.line() as line, desk.line() as silent:
            await line.subscribe(type="orderUpdates", user=A)
            await silent.subscribe(type="bbo", coin="BTC")
            await desk.fault("ws_drop", action="orderUpdates", count=1)
            await desk.fault("ws_duplicate", action="orderUpdates", skip=1, count=1)
            await line.order(ALICE, wire(True, 90, 1))
            assert await line.told("orderUpdates") == []
            await line.order(ALICE, wire(True, 91, 1))
            first, second = await line.told("orderUpdates")
            assert first == second and first[0]["order"]["limitPx"] == "91.0"
            await desk.fault("ws_silence", action="bbo", coin="BTC")
            await line.order(ALICE, wire(True, 100, 1))
            await silent.send({"method": "ping"})
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await silent.next()
            assert len(await line.heard()) == 1, "the others hear"

    run(scene)


def test_faults_of_requests_strike_posts_too():
    async def scene(desk):
        async with desk.line() as line, desk.line() as other:
            await line.subscribe(type="userFills", user=A)
            await desk.fault("delay", action="order", ms=150, when="answer", count=1)
            action = {"type": "order", "orders": [wire(True, 101, 1)], "grouping": "na"}
            payload = desk.signed(ALICE, action)
            await line.send({"method": "post", "id": 1, "request": {"type": "action", "payload": payload}})
            assert [(await line.next())["channel"] for _ in range(2)] == ["userFills", "post"]
            await desk.fault("429", action="order", count=1)
            refused = await line.post("action", desk.signed(ALICE, action))
            assert refused == {"type": "error", "payload": "429 Too Many Requests"}
            await desk.fault("lose_answer", action="order", count=1)
            payload = desk.signed(ALICE, action)
            await line.send({"method": "post", "id": 2, "request": {"type": "action", "payload": payload}})
            assert await line.ended() == 1006
            assert len(await desk.info("userFills", A)) == 2
            assert await other.heard() == []

    run(scene)


def test_an_unknown_coin_may_end_the_connection_as_some_saw():
    async def scene(desk):
        async with desk.line() as line:
            await line.send({"method": "subscribe", "subscription": {"type": "bbo", "coin": "NOPE"}})
            assert await line.ended() == 1006

    run(scene, switches={"ws_unknown_coin": "disconnect"})


def test_a_client_that_does_not_read_holds_nobody_up_and_is_cut_off(monkeypatch):
    for name, value in {"SETTLE_SECONDS": 0.1, "CUT_SECONDS": 0.05, "WAITING_MAX": 500_000}.items():
        monkeypatch.setattr(ws, name, value)

    async def scene(desk):
        host, port = desk.server.url.removeprefix("http://").split(":")
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect((host, int(port)))
            stuck.sendall(HANDSHAKE)
            await asyncio.to_thread(stuck.recv, 100)
            for number in range(10):
                heavy = {"type": "webData2", "user": f"0x{number:040x}"}
                stuck.sendall(masked({"method": "subscribe", "subscription": heavy}))
            async with desk.line() as line:
                for number in range(120):
                    await desk.to_minute(number / 20)
                    if number % 30 == 0:
                        await line.order(ALICE, wire(True, 90, 1))
                assert len(await desk.info("openOrders", A)) == 4
                await asyncio.sleep(0.1)
                assert await desk.http("/_sim/disconnect", {}) == {"disconnected": 1}, "the other was cut off before"

    run(scene)


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: venue\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


def masked(frame):
    """A text frame of a client, its mask nothing but zeros."""
    text = json.dumps(frame).encode()
    assert len(text) < 65_536
    return bytes([0x81, 0xFE]) + len(text).to_bytes(2) + bytes(4) + text


def test_plain_http_on_the_path_is_refused_and_stopping_ends_the_connections():
    async def scene(desk):
        async with desk._session.get(desk.server.url + "/ws") as answer:
            assert answer.status == 400
        async with desk._session.post(desk.server.url + "/ws") as answer:
            assert answer.status == 404
        async with desk.line() as line:
            await line.subscribe(type="allMids")
            await asyncio.to_thread(desk.server.stop)
            assert await line.ended() == 1006

    run(scene)
