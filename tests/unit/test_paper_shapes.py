"""The paper venue's answers, field by field: key sets, types and number formats of the real ones.

The shapes are written here from what the real venue was seen to answer. Where recorded answers lie beside the
repository, each of them is laid against ours as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import paper_bench as bench
from twinleg.paper.options import BookShape, Switches

Bench, wire, flat, cloid, candle = bench.Bench, bench.wire, bench.flat, bench.cloid, bench.candle
ALICE, BOB, CAROL, D, START_MS = bench.ALICE, bench.BOB, bench.CAROL, bench.D, bench.START_MS


# A small language of shapes


@dataclass(frozen=True)
class Text:
    """Text that matches a pattern from end to end."""

    pattern: str


@dataclass(frozen=True)
class Maybe:
    """A key that need not be there."""

    shape: Any


class Either(tuple):
    """One of several shapes."""


class Pair(tuple):
    """A list of fixed length with a shape for each place."""


NUMBER = Text(r"-?(0|[1-9]\d*)\.(\d*[1-9]|0)")
UNSIGNED = Text(r"(0|[1-9]\d*)\.(\d*[1-9]|0)")
USD = Text(r"-?(0|[1-9]\d*)\.(\d{0,5}[1-9]|0)")
RATE = Text(r"-?0\.(\d{0,9}[1-9]|0)")
PLAIN = Text(r"(0|[1-9]\d*)(\.\d*[1-9])?")
ADDRESS = Text(r"0x[0-9a-f]{40}")
HASH = Text(r"0x[0-9a-f]{64}")
CLOID = Text(r"0x[0-9a-f]{32}")
COIN = Text(r"[A-Za-z]+")
SIDE = Text(r"[AB]")
DATE = Text(r"\d{4}-\d\d-\d\d")
WORDS = Text(r"[ -~]*")
MS, INT = "ms", int


def differs(value: Any, shape: Any, where: str = "") -> Iterator[str]:
    """What of a value is not of this shape, each with its place."""
    if isinstance(shape, Text):
        if type(value) is not str or re.fullmatch(shape.pattern, value) is None:
            yield f"{where}: {value!r} is no text like {shape.pattern}"
    elif shape == MS:
        if type(value) is not int or not 10**12 < value < 10**13:
            yield f"{where}: {value!r} is no time in milliseconds"
    elif isinstance(shape, type):
        if type(value) is not shape:
            yield f"{where}: {value!r} is no {shape.__name__}"
    elif isinstance(shape, Either):
        if all(list(differs(value, one)) for one in shape):
            yield f"{where}: {value!r} is none of {shape}"
    elif isinstance(shape, Pair):
        if type(value) is not list or len(value) != len(shape):
            yield f"{where}: {value!r} is no list of {len(shape)}"
        else:
            for i, one in enumerate(shape):
                yield from differs(value[i], one, f"{where}[{i}]")
    elif isinstance(shape, list):
        if type(value) is not list:
            yield f"{where}: {value!r} is no list"
        else:
            for i, one in enumerate(value):
                yield from differs(one, shape[0], f"{where}[{i}]")
    elif isinstance(shape, dict):
        yield from _keys_differ(value, shape, where)
    elif value != shape or type(value) is not type(shape):
        yield f"{where}: {value!r} is not {shape!r}"


def _keys_differ(value: Any, shape: dict[str, Any], where: str) -> Iterator[str]:
    if type(value) is not dict:
        yield f"{where}: {value!r} is no object"
        return
    if "*" in shape:
        for key, one in value.items():
            yield from differs(one, shape["*"], f"{where}.{key}")
        return
    for key in value.keys() - shape.keys():
        yield f"{where}.{key}: not a key of the real answer"
    for key, one in shape.items():
        if key in value:
            yield from differs(value[key], one.shape if isinstance(one, Maybe) else one, f"{where}.{key}")
        elif not isinstance(one, Maybe):
            yield f"{where}.{key}: is missing"


# The shapes

TIER = {"lowerBound": UNSIGNED, "maxLeverage": INT}
TABLE = {"description": WORDS, "marginTiers": [TIER]}
META = {
    "universe": [
        {
            "szDecimals": INT,
            "name": COIN,
            "maxLeverage": INT,
            "marginTableId": INT,
            "isDelisted": Maybe(True),
            "onlyIsolated": Maybe(True),
            "marginMode": Maybe(Text("strictIsolated")),
        }
    ],
    "marginTables": [Pair((INT, TABLE))],
    "collateralToken": 0,
}
CONTEXT = {
    "funding": RATE,
    "openInterest": UNSIGNED,
    "prevDayPx": UNSIGNED,
    "dayNtlVlm": UNSIGNED,
    "premium": Either((RATE, None)),
    "oraclePx": UNSIGNED,
    "markPx": UNSIGNED,
    "dayBaseVlm": UNSIGNED,
    "midPx": Either((UNSIGNED, None)),
    "impactPxs": Either((Pair((UNSIGNED, UNSIGNED)), None)),
}
TOKEN = {
    "name": COIN,
    "szDecimals": INT,
    "weiDecimals": INT,
    "index": INT,
    "tokenId": CLOID,
    "isCanonical": bool,
    "evmContract": None,
    "fullName": None,
    "deployerTradingFeeShare": UNSIGNED,
}
SPOT_META = {
    "universe": [{"tokens": Pair((INT, INT)), "name": WORDS, "index": INT, "isCanonical": bool}],
    "tokens": [TOKEN],
}
SPOT_CONTEXT = {
    "prevDayPx": UNSIGNED,
    "dayNtlVlm": UNSIGNED,
    "markPx": UNSIGNED,
    "midPx": Either((UNSIGNED, None)),
    "circulatingSupply": UNSIGNED,
    "coin": WORDS,
    "totalSupply": UNSIGNED,
    "dayBaseVlm": UNSIGNED,
}
SUMMARY = {name: USD for name in ("accountValue", "totalNtlPos", "totalRawUsd", "totalMarginUsed")}
POSITION = {
    "coin": COIN,
    "szi": NUMBER,
    "entryPx": UNSIGNED,
    "positionValue": USD,
    "unrealizedPnl": USD,
    "leverage": Either(
        (
            {"type": Text("cross"), "value": INT},
            {"type": Text("isolated"), "value": INT, "rawUsd": USD},
        )
    ),
    "returnOnEquity": NUMBER,
    "liquidationPx": Either((UNSIGNED, None)),
    "marginUsed": USD,
    "maxLeverage": INT,
    "cumFunding": {"allTime": USD, "sinceOpen": USD, "sinceChange": USD},
}
STATE = {
    "marginSummary": SUMMARY,
    "crossMarginSummary": SUMMARY,
    "crossMaintenanceMarginUsed": USD,
    "withdrawable": UNSIGNED,
    "assetPositions": [{"type": Text("oneWay"), "position": POSITION}],
    "time": MS,
}
SPOT = {"balances": [{"coin": COIN, "token": INT, "total": UNSIGNED, "hold": UNSIGNED, "entryNtl": UNSIGNED}]}
BASIC = {
    "coin": COIN,
    "side": SIDE,
    "limitPx": UNSIGNED,
    "sz": UNSIGNED,
    "oid": INT,
    "timestamp": MS,
    "origSz": UNSIGNED,
}
OPEN_ORDER = {**BASIC, "cloid": Maybe(CLOID), "reduceOnly": Maybe(True)}
KIND = Text("Limit|Market|Stop Market|Stop Limit|Take Profit Market|Take Profit Limit|Twap Slice")
ORDER = {
    **BASIC,
    "isPositionTpsl": bool,
    "isTrigger": bool,
    "orderType": KIND,
    "reduceOnly": bool,
    "triggerPx": UNSIGNED,
    "triggerCondition": Text(r"N/A|Triggered|Price (above|below) (0|[1-9]\d*)(\.\d*[1-9])?"),
    "tif": Either((Text("Gtc|Ioc|Alo|FrontendMarket|LiquidationMarket"), None)),
    "cloid": Either((CLOID, None)),
}
ORDER["children"] = [{**ORDER, "children": []}]
STATUS = Text("[a-zA-Z]+")
HISTORY_ROW = {"order": ORDER, "status": STATUS, "statusTimestamp": MS}
LIQUIDATION = {"liquidatedUser": ADDRESS, "markPx": UNSIGNED, "method": Text("market|backstop")}
DIRECTION = Text("(Open|Close) (Long|Short)|Long > Short|Short > Long|Auto-Deleveraging")
FILL = {
    "coin": COIN,
    "px": UNSIGNED,
    "sz": UNSIGNED,
    "side": SIDE,
    "time": MS,
    "startPosition": NUMBER,
    "dir": DIRECTION,
    "closedPnl": NUMBER,
    "hash": HASH,
    "oid": INT,
    "crossed": bool,
    "fee": USD,
    "tid": INT,
    "feeToken": Text("USDC"),
    "twapId": Either((INT, None)),
    "cloid": Maybe(CLOID),
    "builderFee": Maybe(UNSIGNED),
    "liquidation": Maybe(LIQUIDATION),
}
TRADE = {
    "coin": COIN,
    "side": SIDE,
    "px": UNSIGNED,
    "sz": UNSIGNED,
    "time": MS,
    "hash": HASH,
    "tid": INT,
    "users": Pair((ADDRESS, ADDRESS)),
}
LEVEL = {"px": UNSIGNED, "sz": UNSIGNED, "n": INT}
CANDLE = {
    "t": MS,
    "T": MS,
    "s": COIN,
    "i": Text(r"\d+[mhdwM]"),
    "n": INT,
    **{name: UNSIGNED for name in "ochlv"},
}
FUNDING = {
    "type": Text("funding"),
    "coin": COIN,
    "usdc": USD,
    "szi": NUMBER,
    "fundingRate": RATE,
    "nSamples": None,
}
TIER_OF_FEES = {name: UNSIGNED for name in ("ntlCutoff", "cross", "add", "spotCross", "spotAdd")}
DISCOUNT = {"bpsOfMaxSupply": UNSIGNED, "discount": UNSIGNED}
FEES = {
    "dailyUserVlm": [{"date": DATE, "userCross": UNSIGNED, "userAdd": UNSIGNED, "exchange": UNSIGNED}],
    "feeSchedule": {
        **{name: UNSIGNED for name in ("cross", "add", "spotCross", "spotAdd", "referralDiscount")},
        "tiers": {"vip": [TIER_OF_FEES], "mm": [{"makerFractionCutoff": UNSIGNED, "add": NUMBER}]},
        "stakingDiscountTiers": [DISCOUNT],
    },
    **{name: NUMBER for name in ("userCrossRate", "userAddRate", "userSpotCrossRate", "userSpotAddRate")},
    "activeReferralDiscount": UNSIGNED,
    "trial": None,
    "feeTrialEscrow": UNSIGNED,
    "stakingLink": None,
    "nextTrialAvailableTimestamp": None,
    "activeStakingDiscount": DISCOUNT,
}
PERIOD = Text("day|week|month|allTime|perpDay|perpWeek|perpMonth|perpAllTime")
PORTFOLIO = {"accountValueHistory": [Pair((MS, NUMBER))], "pnlHistory": [Pair((MS, NUMBER))], "vlm": UNSIGNED}
DELTA = Either(
    (
        {"type": Text("deposit"), "usdc": UNSIGNED},
        {"type": Text("withdraw"), "usdc": UNSIGNED, "nonce": INT, "fee": UNSIGNED},
        {"type": Text("accountClassTransfer"), "usdc": UNSIGNED, "toPerp": bool},
        {"type": Text("subAccountTransfer"), "usdc": UNSIGNED, "user": ADDRESS, "destination": ADDRESS},
        {
            "type": Text("internalTransfer"),
            "usdc": UNSIGNED,
            "user": ADDRESS,
            "destination": ADDRESS,
            "fee": UNSIGNED,
        },
        {
            "type": Text("spotTransfer"),
            "token": COIN,
            "amount": UNSIGNED,
            "usdcValue": UNSIGNED,
            "user": ADDRESS,
            "destination": ADDRESS,
            "fee": UNSIGNED,
            "nativeTokenFee": UNSIGNED,
            "nonce": Either((INT, None)),
            "feeToken": WORDS,
        },
        {
            "type": Text("send"),
            "token": COIN,
            "amount": UNSIGNED,
            "usdcValue": UNSIGNED,
            "sourceDex": WORDS,
            "user": ADDRESS,
            "destination": ADDRESS,
            "fee": UNSIGNED,
            "nativeTokenFee": UNSIGNED,
            "nonce": INT,
            "feeToken": WORDS,
            "destinationDex": WORDS,
        },
        {
            "type": Text("liquidation"),
            "liquidatedNtlPos": UNSIGNED,
            "accountValue": USD,
            "leverageType": Text("Cross|Isolated"),
            "liquidatedPositions": [{"coin": COIN, "szi": NUMBER}],
        },
    )
)
SUB = {"name": WORDS, "subAccountUser": ADDRESS, "master": ADDRESS, "spotState": SPOT}
TWAP = {
    "coin": COIN,
    "user": ADDRESS,
    "side": SIDE,
    "sz": UNSIGNED,
    "executedSz": UNSIGNED,
    "executedNtl": UNSIGNED,
    "minutes": INT,
    "reduceOnly": bool,
    "randomize": bool,
    "timestamp": MS,
}
TWAP_STATUS = Either(
    ({"status": Text("activated|finished|terminated")}, {"status": Text("error"), "description": WORDS})
)
PREDICTED = Either((None, {"fundingRate": RATE, "nextFundingTime": MS, "fundingIntervalHours": INT}))
SHAPES: dict[str, Any] = {
    "meta": META,
    "spotMeta": SPOT_META,
    "metaAndAssetCtxs": Pair((META, [CONTEXT])),
    "spotMetaAndAssetCtxs": Pair((SPOT_META, [SPOT_CONTEXT])),
    "perpDexs": Pair((None,)),
    "allMids": {"*": UNSIGNED},
    "clearinghouseState": STATE,
    "spotClearinghouseState": SPOT,
    "openOrders": [OPEN_ORDER],
    "frontendOpenOrders": [ORDER],
    "orderStatus": {"status": Text("order"), "order": HISTORY_ROW},
    "historicalOrders": [HISTORY_ROW],
    "userFills": [FILL],
    "userFillsByTime": [FILL],
    "l2Book": {"coin": COIN, "time": MS, "levels": Pair(([LEVEL], [LEVEL]))},
    "candleSnapshot": [CANDLE],
    "fundingHistory": [{"coin": COIN, "fundingRate": RATE, "premium": RATE, "time": MS}],
    "userFunding": [{"time": MS, "hash": HASH, "delta": FUNDING}],
    "userNonFundingLedgerUpdates": [{"time": MS, "hash": HASH, "delta": DELTA}],
    "userRateLimit": {"cumVlm": UNSIGNED, "nRequestsUsed": INT, "nRequestsCap": INT, "nRequestsSurplus": INT},
    "userFees": FEES,
    "extraAgents": [{"name": WORDS, "address": ADDRESS, "validUntil": MS}],
    "userRole": {"role": Text("missing|user|agent|subAccount"), "data": Maybe({"*": ADDRESS})},
    "subAccounts": [{**SUB, "clearinghouseState": STATE}],
    "subAccounts2": [{**SUB, "dexToClearinghouseState": [Pair((Text(""), STATE))], "abstraction": WORDS}],
    "portfolio": [Pair((PERIOD, PORTFOLIO))],
    "activeAssetData": {
        "user": ADDRESS,
        "coin": COIN,
        "leverage": POSITION["leverage"],
        "markPx": UNSIGNED,
        "maxTradeSzs": Pair((UNSIGNED, UNSIGNED)),
        "availableToTrade": Pair((UNSIGNED, UNSIGNED)),
    },
    "userAbstraction": Text("default|disabled|unifiedAccount|portfolioMargin|dexAbstraction"),
    "exchangeStatus": {"time": MS, "specialStatuses": None},
    "perpsAtOpenInterestCap": [COIN],
    "maxBuilderFee": INT,
    "recentTrades": [TRADE],
    "predictedFundings": [Pair((COIN, [Pair((Text("BinPerp|HlPerp|BybitPerp"), PREDICTED))]))],
    "maxMarketOrderNtls": [Pair((INT, UNSIGNED))],
    "preTransferCheck": {"fee": UNSIGNED, "isSanctioned": bool, "userExists": bool, "userHasSentTx": bool},
    "marginTable": TABLE,
    "userTwapSliceFills": [{"fill": FILL, "twapId": INT}],
    "userTwapSliceFillsByTime": [{"fill": FILL, "twapId": INT}],
    "twapHistory": [{"time": INT, "state": TWAP, "status": TWAP_STATUS, "twapId": INT}],
    "referral": {
        "referredBy": None,
        "referrerState": {"stage": WORDS, "data": {"required": UNSIGNED}},
        **{name: UNSIGNED for name in ("cumVlm", "unclaimedRewards", "claimedRewards", "builderRewards")},
        "rewardHistory": [],
        "tokenToState": [],
    },
    "webData2": {
        "clearinghouseState": STATE,
        "leadingVaults": [],
        "totalVaultEquity": UNSIGNED,
        "openOrders": [ORDER],
        "agentAddress": Either((ADDRESS, None)),
        "agentValidUntil": Either((MS, None)),
        "cumLedger": NUMBER,
        "serverTime": MS,
        "isVault": False,
        "user": ADDRESS,
        "meta": META,
        "assetCtxs": [CONTEXT],
        "twapStates": [Pair((INT, TWAP))],
        "spotState": SPOT,
        "spotAssetCtxs": [SPOT_CONTEXT],
        "perpsAtOpenInterestCap": [COIN],
    },
    "delegations": [],
    "delegatorHistory": [],
    "delegatorRewards": [],
    "delegatorSummary": {
        "delegated": UNSIGNED,
        "undelegated": UNSIGNED,
        "totalPendingWithdrawal": UNSIGNED,
        "nPendingWithdrawals": INT,
    },
    "userVaultEquities": [],
    "leadingVaults": [],
    "userToMultiSigSigners": None,
    "userDexAbstraction": None,
    "approvedBuilders": [ADDRESS],
    "isVip": None,
    "legalCheck": {"ipAllowed": bool, "acceptedTerms": bool, "userAllowed": bool},
}
EMPTY = frozenset(
    (
        *("delegations", "delegatorHistory", "delegatorRewards", "userVaultEquities", "leadingVaults"),
        *("perpsAtOpenInterestCap",),
    )
)
"""Lists that are empty here."""


# A venue on which everything has happened


@pytest.fixture(scope="module")
def lived():
    """Fills, funding, stops, brackets, agents, sub-accounts, a TWAP order, transfers, a liquidation."""
    prices = [candle(n, 100_000, 100_050, 99_950, 100_010) for n in range(40)]
    falling = [candle(40, 100_000, 100_000, 88_000, 88_000), *flat(88_000, 20, 41)]
    v = Bench(
        {"BTC": [*prices, *falling], "ETH": flat(2_000, 61)},
        switches=Switches(volume_gates=False, isolated_only="ETH"),
        equity=D(10_000),
        book=BookShape(level_usd=D(400_000)),
    )
    v.send(ALICE, {"type": "approveAgent", "agentAddress": "0x" + "a9" * 20, "agentName": "bot"})
    v.send(ALICE, {"type": "approveBuilderFee", "builder": CAROL, "maxFeeRate": "0.01%"})
    sub = v.send(ALICE, {"type": "createSubAccount", "name": "hedge"})["response"]["data"]
    v.send(ALICE, {"type": "subAccountTransfer", "subAccountUser": sub, "isDeposit": True, "usd": 100_000_000})
    v.send(ALICE, {"type": "usdClassTransfer", "amount": "70", "toPerp": False})
    v.send(ALICE, {"type": "usdSend", "destination": BOB, "amount": "5.5"})
    v.send(ALICE, {"type": "spotSend", "destination": BOB, "token": "USDC", "amount": "10.5"})
    sent = {"sourceDex": "", "destinationDex": "spot", "token": "USDC", "fromSubAccount": ""}
    v.send(ALICE, {"type": "sendAsset", "destination": BOB, "amount": "1.25", **sent})
    v.send(ALICE, {"type": "withdraw3", "destination": ALICE, "amount": "20"})
    v.exchange.deposit(ALICE, D(-1))
    v.leverage(ALICE, 10, cross=False, coin="ETH")
    built = {"b": CAROL, "f": 10}
    entry = wire(True, 101_000, "0.0512", "Ioc", cloid=cloid(1))
    v.send(ALICE, {"type": "order", "orders": [entry], "grouping": "na", "builder": built})
    v.orders(ALICE, wire(True, 2_020, "1.5", "Ioc", coin="ETH"))
    v.orders(
        ALICE,
        wire(True, 99_000, "0.01", cloid=cloid(2)),
        wire(False, 88_000, "0.01", stop=95_000),
        wire(False, 105_000, "0.01", target=105_000, market=False),
        grouping="normalTpsl",
    )
    v.orders(ALICE, wire(False, 90_000, "0", stop=95_000), grouping="positionTpsl")
    v.orders(ALICE, wire(True, 99_000, "0.0001"), wire(True, 98_000, "0.01", "Ioc"))
    v.orders(ALICE, wire(False, 104_000, "0.02", reduce_only=True))
    v.send(ALICE, {"type": "twapOrder", "twap": {"a": 0, "b": True, "s": "0.01", "r": False, "m": 5, "t": True}})
    v.leverage(BOB, 40)
    v.order(BOB, True, 101_000, "3.9", "Ioc")
    v.minutes(38)
    v.exchange.set_switches({"isolated_only": "ETH", "triggers_enabled": False})
    v.sub = sub
    v.alive = v.ask("frontendOpenOrders", ALICE)
    v.status_asked = v.alive[0]["oid"]
    v.states = [v.ask("clearinghouseState", user) for user in (ALICE, BOB, sub)]
    v.minutes(10)
    return v


def body_of(v: Any, kind: str) -> dict[str, Any]:
    more: dict[str, Any] = {
        "orderStatus": {"oid": v.status_asked},
        "l2Book": {"coin": "BTC"},
        "recentTrades": {"coin": "BTC"},
        "candleSnapshot": {"req": {"coin": "BTC", "interval": "5m", "startTime": 0, "endTime": 1 << 50}},
        "fundingHistory": {"coin": "BTC", "startTime": 0},
        "activeAssetData": {"coin": "ETH"},
        "maxBuilderFee": {"builder": CAROL},
        "marginTable": {"id": 56},
        "preTransferCheck": {"source": BOB},
    }
    return {"type": kind, "user": ALICE, "startTime": 0, **more.get(kind, {})}


@pytest.mark.parametrize("kind", SHAPES)
def test_an_answer_has_the_real_shape(lived, kind):
    status, answer = lived.exchange.info(body_of(lived, kind))
    assert status == 200
    assert list(differs(answer, SHAPES[kind], kind)) == []
    if isinstance(SHAPES[kind], list) and kind not in EMPTY:
        assert answer, "there must be something to look at"


def test_every_question_the_venue_answers_has_a_shape_here(lived):
    answered = set(lived.exchange._info._questions)
    assert answered == set(SHAPES)


def test_the_states_of_every_account_have_the_real_shape(lived):
    """Cross, isolated, of a sub-account, of somebody liquidated."""
    assert {p["position"]["leverage"]["type"] for p in lived.states[0]["assetPositions"]} == {"cross", "isolated"}
    for state in (*lived.states, *(lived.ask("clearinghouseState", user) for user in (ALICE, BOB, lived.sub))):
        assert list(differs(state, STATE)) == []
    for user in (ALICE, BOB, lived.sub):
        rows = lived.ask("userNonFundingLedgerUpdates", user, startTime=0)
        assert list(differs(rows, SHAPES["userNonFundingLedgerUpdates"])) == []
        assert list(differs(lived.ask("userFills", user), [FILL])) == []
    assert list(differs(lived.alive, [ORDER])) == [] and any(row["children"] for row in lived.alive)
    assert any("liquidation" in fill for fill in lived.ask("userFills", BOB))
    assert any(fill.get("builderFee") for fill in lived.ask("userFills", ALICE))


def test_an_agents_role_and_an_unknown_oid(lived):
    assert lived.ask("userRole", "0x" + "a9" * 20) == {"role": "agent", "data": {"user": ALICE}}
    assert lived.ask("userRole", lived.sub) == {"role": "subAccount", "data": {"master": ALICE}}
    assert lived.ask("orderStatus", ALICE, oid=1) == {"status": "unknownOid"}
    assert lived.ask("subAccounts", BOB) is None and lived.ask("subAccounts2", BOB) is None


ODD = (None, True, 0, -1, 2**70, 1.5, "", "x", "0x" + "f" * 40, [], {}, "NOPE", ALICE.upper().replace("X", "x", 1))


@pytest.mark.parametrize("kind", SHAPES)
def test_odd_questions_get_a_status_and_never_break_the_venue(lived, kind):
    body = body_of(lived, kind)
    for name in (*body, "endTime", "dex", "aggregateByTime", "reversed", "nSigFigs", "mantissa"):
        for value in ODD:
            status, answer = lived.exchange.info({**body, name: value})
            assert status in (200, 422, 500) and (status != 500 or answer is None), (name, value)
    for name in ("coin", "interval", "startTime", "endTime") if kind == "candleSnapshot" else ():
        for value in ODD:
            assert lived.exchange.info({**body, "req": {**body["req"], name: value}})[0] in (200, 422, 500)


# Answers of /exchange

RESTING = {"resting": {"oid": INT, "cloid": Maybe(CLOID)}}
FILLED = {"filled": {"totalSz": UNSIGNED, "avgPx": UNSIGNED, "oid": INT, "cloid": Maybe(CLOID)}}
DEFAULT = {"type": Text("default")}


def statuses(kind: str, *each: Any) -> dict[str, Any]:
    return {"type": Text(kind), "data": {"statuses": Pair(each)}}


def test_the_answers_to_actions_have_the_real_shape():
    v = Bench({"BTC": flat(100_000, 20)})
    ask = lambda action: v.send(ALICE, action)  # noqa: E731
    orders = lambda *wires, grouping="na": ask({"type": "order", "orders": list(wires), "grouping": grouping})  # noqa: E731
    told = []
    told.append((orders(wire(True, 99_000, "0.01", cloid=cloid(1))), statuses("order", RESTING)))
    resting = told[0][0]["response"]["data"]["statuses"][0]["resting"]["oid"]
    told.append((orders(wire(True, 101_000, "0.01", "Ioc")), statuses("order", FILLED)))
    bracket = wire(True, 98_000, "0.01"), wire(False, 90_000, "0.01", stop=95_000)
    told.append((orders(*bracket, grouping="normalTpsl"), statuses("order", RESTING, Text("waitingForFill"))))
    stop = wire(False, 90_000, "0", stop=95_000)
    told.append((orders(stop, grouping="positionTpsl"), statuses("order", Text("waitingForTrigger"))))
    told.append((orders(wire(False, 90_000, "0.01", stop=95_000)), statuses("order", RESTING)))
    told.append((orders(wire(True, 99_000, "0.0001")), statuses("order", {"error": WORDS})))
    moved = {"type": "batchModify", "modifies": [{"oid": cloid(1), "order": wire(True, 97_000, "0.01")}]}
    told.append((ask(moved), statuses("order", RESTING)))
    gone = {"type": "cancel", "cancels": [{"a": 0, "o": resting}, {"a": 0, "o": resting + 4}]}
    told.append((ask(gone), statuses("cancel", {"error": WORDS}, Text("success"))))
    twap = {"type": "twapOrder", "twap": {"a": 0, "b": True, "s": "0.01", "r": False, "m": 5, "t": False}}
    placed = ask(twap)
    told.append((placed, {"type": Text("twapOrder"), "data": {"status": {"running": {"twapId": INT}}}}))
    ident = placed["response"]["data"]["status"]["running"]["twapId"]
    stopped = {"type": Text("twapCancel"), "data": {"status": Text("success")}}
    told.append((ask({"type": "twapCancel", "a": 0, "t": ident}), stopped))
    simple = (
        {"type": "noop"},
        {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 7},
        {"type": "agentSetAbstraction", "abstraction": "u"},
        {"type": "agentEnableDexAbstraction"},
        {"type": "userDexAbstraction", "user": ALICE, "enabled": False},
        {"type": "reserveRequestWeight", "weight": 10, "destination": ALICE},
    )
    told += [(ask(action), DEFAULT) for action in simple]
    v.exchange.set_switches({"volume_gates": False})
    created = ask({"type": "createSubAccount", "name": "x"})
    told.append((created, {"type": Text("createSubAccount"), "data": ADDRESS}))
    renamed = {"type": "subAccountModify", "subAccountUser": created["response"]["data"], "name": "y"}
    told.append((ask(renamed), DEFAULT))
    for answer, shape in told:
        assert list(differs(answer, {"status": Text("ok"), "response": shape})) == []
    assert v.ask("subAccounts", ALICE)[0]["name"] == "y"


# Recorded answers, where they lie beside the repository

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev" / "hyperliquid_api"


def recorded() -> list[tuple[str, Any]]:
    """(type of question, answer) of every recording."""
    if not RECORDED.is_dir():
        return []
    found = []
    for name in ("python_sdk_cassettes.json", "go_sdk_cassettes.json"):
        rows = json.loads((RECORDED / name).read_text())["interactions"]
        found += [(r["request"].get("type", "exchange"), r["response"]) for r in rows]
    return found


OLDER = {
    "maxTradeSzs": "of positions, in 2023 only",
    "dir": "words of spot and vaults",
    "nSamples": "a count in 2023, null since",
}
"""Fields in which older recordings differ from the answers of today."""


def kinds(value: Any) -> Any:
    """A value reduced to keys and kinds: an object of them, a list of one of them, or a word."""
    if isinstance(value, dict):
        return {key: kinds(one) for key, one in value.items() if key not in OLDER}
    if isinstance(value, list):
        return [kinds(one) for one in value[:3]]
    if isinstance(value, str):
        return "number" if re.fullmatch(NUMBER.pattern, value) else "text"
    return type(value).__name__


def beyond(theirs: Any, ours: Any, where: str) -> Iterator[str]:
    """What a recorded answer has that ours has not, or has of another kind (a null says nothing)."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, one in theirs.items():
            if key not in ours:
                yield f"{where}.{key}: ours has no such key"
            else:
                yield from beyond(one, ours[key], f"{where}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list):
        if theirs and ours:
            yield from beyond(theirs[0], ours[0], f"{where}[0]")
    elif theirs != ours and "NoneType" not in (theirs, ours):
        yield f"{where}: theirs {theirs}, ours {ours}"


NOT_LAID = ("exchange", "delegatorHistory", "userVaultEquities", "allMids", "userNonFundingLedgerUpdates")
"""Answers that are laid against the shapes below, not against ours: keys are coins, or ours are empty."""


def test_recorded_answers_have_nothing_that_ours_lack(lived):
    for kind, answer in recorded():
        if kind not in NOT_LAID:
            ours = lived.exchange.info(body_of(lived, kind))[1]
            assert list(beyond(kinds(answer), kinds(ours), kind)) == []


def test_recorded_lines_of_the_ledger_and_of_actions_have_our_shapes():
    outcome = Either((Text("success|waitingForFill|waitingForTrigger"), RESTING, FILLED, {"error": WORDS}))
    action = Either(
        (
            {
                "status": Text("ok"),
                "response": {"type": Text("order|cancel"), "data": {"statuses": [outcome]}},
            },
            {"status": Text("err"), "response": WORDS},
        )
    )
    for kind, answer in recorded():
        if kind == "exchange":
            assert list(differs(answer, action)) == []
        elif kind == "userNonFundingLedgerUpdates":
            assert list(differs(answer, [{"time": MS, "hash": HASH, "delta": DELTA}])) == []
        elif kind == "allMids":
            assert list(differs(answer, {"*": UNSIGNED})) == []
