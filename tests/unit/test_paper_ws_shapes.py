"""The WebSocket's messages have the keys, kinds and number formats of recorded ones."""

from __future__ import annotations

import re

from eth_account import Account

import paper_line as helper

bench, run, wire = helper.bench, helper.run, helper.bench.wire
ALICE, AGENT = (Account.from_key("0x" + digit * 64) for digit in "34")
A = ALICE.address.lower()
SUB_VOLUME = {"volume_gates": False}

NUMBER, HASH, ADDRESS, CLOID = "number", "hash", "address", "cloid"
FORMS = {
    NUMBER: re.compile(r"-?\d+\.\d+"),
    HASH: re.compile(r"0x[0-9a-f]{64}"),
    ADDRESS: re.compile(r"0x[0-9a-f]{40}"),
    CLOID: re.compile(r"0x[0-9a-f]{32}"),
}


def shape(value):
    """Keys and kinds; a list by its first item."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    if isinstance(value, str):
        return next((name for name, form in FORMS.items() if form.fullmatch(value)), str)
    return type(value)


LEVEL = {"px": NUMBER, "sz": NUMBER, "n": int}
ORDER = {"coin": str, "side": str, "limitPx": NUMBER, "sz": NUMBER, "oid": int, "timestamp": int, "origSz": NUMBER}
FILL = (
    dict.fromkeys(("coin", "side", "dir", "feeToken"), str)
    | dict.fromkeys(("px", "sz", "startPosition", "closedPnl", "fee"), NUMBER)
    | dict.fromkeys(("time", "oid", "tid"), int)
    | {"hash": HASH, "crossed": bool, "cloid": CLOID, "twapId": type(None)}
)
PAYMENT = {"time": int, "coin": str, "usdc": NUMBER, "szi": NUMBER, "fundingRate": NUMBER, "nSamples": type(None)}
TRADE = {
    "coin": str,
    "side": str,
    "px": NUMBER,
    "sz": NUMBER,
    "time": int,
    "hash": HASH,
    "tid": int,
    "users": [ADDRESS],
}
CONTEXT = {
    **dict.fromkeys(("funding", "openInterest", "prevDayPx", "dayNtlVlm", "premium", "oraclePx", "markPx"), NUMBER),
    **dict.fromkeys(("midPx", "dayBaseVlm"), NUMBER),
    "impactPxs": [NUMBER],
}
RECORDED = {
    "trades": [TRADE],
    "candle": {"t": int, "T": int, "s": str, "i": str, "n": int, **dict.fromkeys("ochlv", NUMBER)},
    "bbo": {"coin": str, "time": int, "bbo": [LEVEL]},
    "l2Book": {"coin": str, "time": int, "levels": [[LEVEL]]},
    "activeAssetCtx": {"coin": str, "ctx": CONTEXT},
    "allMids": {"mids": {"BTC": NUMBER}},
    "orderUpdates": [{"order": {**ORDER, "cloid": CLOID}, "status": str, "statusTimestamp": int}],
    "userFills": {"user": ADDRESS, "fills": [FILL]},
    "userFundings": {"user": ADDRESS, "fundings": [PAYMENT]},
    "userNonFundingLedgerUpdates": {
        "user": ADDRESS,
        "nonFundingLedgerUpdates": [{"time": int, "hash": HASH, "delta": {"type": str, "usdc": NUMBER}}],
    },
}


def test_messages_have_the_shapes_of_recorded_ones():
    async def scene(desk):
        async with desk.line() as line:
            for kind in ("trades", "bbo", "l2Book", "activeAssetCtx"):
                await line.subscribe(type=kind, coin="BTC")
            await line.subscribe(type="candle", coin="BTC", interval="1m")
            await line.subscribe(type="allMids")
            for kind in ("orderUpdates", "userFills", "userFundings", "userNonFundingLedgerUpdates", "userEvents"):
                await line.subscribe(type=kind, user=A)
            await line.order(ALICE, wire(True, 101, 5, cloid=bench.cloid(1)))
            told = {message["channel"]: message["data"] for message in await line.heard()}
            user = [told.pop("user")]
            await desk.to_minute(31.2)
            for message in await line.heard():
                if message["channel"] == "user":
                    user.append(message["data"])
                else:
                    told.setdefault(message["channel"], message["data"])
            assert {channel: shape(data) for channel, data in told.items()} == RECORDED
            assert [shape(event) for event in user] == [{"fills": [FILL]}, {"funding": PAYMENT}]

    run(scene)


def test_a_sub_account_and_what_its_masters_agent_does_for_it_are_heard_at_its_own_address():
    async def scene(desk):
        async with desk.line() as line:
            made = await line.post("action", desk.signed(ALICE, {"type": "createSubAccount", "name": "hedge"}))
            sub = made["payload"]["response"]["data"]
            for user in (sub, A, AGENT.address):
                await line.subscribe(type="userFills", user=user)
            await line.subscribe(type="userNonFundingLedgerUpdates", user=sub)
            await line.subscribe(type="orderUpdates", user=sub)
            deposit = {"type": "subAccountTransfer", "subAccountUser": sub, "isDeposit": True, "usd": 1_000_000_000}
            await line.post("action", desk.signed(ALICE, deposit))
            (moved,) = await line.told()
            assert (moved["user"], moved["nonFundingLedgerUpdates"][0]["delta"]["type"]) == (sub, "subAccountTransfer")
            action = {"type": "order", "orders": [wire(True, 101, 1)], "grouping": "na"}
            await line.post("action", desk.signed(ALICE, action, vault=sub))
            told = {message["channel"]: message["data"] for message in await line.heard()}
            assert told["userFills"]["user"] == sub and len(told) == 2
            assert [u["status"] for u in told["orderUpdates"]] == ["open", "filled"]

    run(scene, switches=SUB_VOLUME)
