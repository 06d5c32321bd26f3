"""Hyperliquid's answers to reads, as our values. Everything here is pure; a shape we do not know raises Unavailable.

Source of every field: Hyperliquid docs, info endpoint and perpetuals; the identities in comments hold
exactly on recorded account states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from twinleg.domain.candles import MINUTE, Candle, Snapshot, utc_from_ms
from twinleg.domain.errors import Rejected, Unavailable
from twinleg.domain.ids import ClientOrderId
from twinleg.domain.markets import MarginTier, MarketRules
from twinleg.domain.money import ZERO
from twinleg.domain.orders import (
    AccountState,
    AckState,
    Fill,
    OrderKind,
    OrderReport,
    Position,
    RestingOrder,
    Side,
)

Raw = Mapping[str, Any]

PRICE_DIGITS = 5
PERP_DECIMALS = 6
NOTIONAL_USD_MIN = Decimal(10)
TAKER_FEE = Decimal("0.00045")
"""The base tier's, the highest anybody pays (Source: Hyperliquid docs, fees)."""
UNLISTED_TABLES_BELOW = 50
"""A margin table id below this is a single tier and not listed: its number is the maximum leverage."""
DEPTH_BAND = Decimal("0.005")
SIDES = {"B": Side.BUY, "A": Side.SELL}


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Turns every failure to make sense of an answer into Unavailable, naming the read."""
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, Rejected) as error:
        raise Unavailable(f"{what}: an answer in an unknown shape ({type(error).__name__}: {error})"[:400]) from error


def number(value: object) -> Decimal:
    """A finite Decimal from the venue's text."""
    if not isinstance(value, str) and (isinstance(value, bool) or not isinstance(value, (int, Decimal))):
        raise ValueError(f"not a number: {value!r}")
    parsed = Decimal(value)
    if not parsed.is_finite():
        raise ValueError(f"not finite: {value!r}")
    return parsed


def moment(value: object) -> datetime:
    """A UTC time from the venue's epoch milliseconds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"not a time in ms: {value!r}")
    return utc_from_ms(value)


def rows_of(value: object) -> Sequence[Any]:
    """A list from the venue; anything else must not read as an empty one."""
    if not isinstance(value, list):
        raise ValueError(f"not a list: {value!r}")
    return value


# -- markets -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listing:
    """A coin of the venue. Delisted ones keep their place in the list, because the place is the asset's number."""

    rules: MarketRules
    delisted: bool


def listings(meta: Raw, venue: str) -> dict[str, Listing]:
    """Every coin's rules from the venue's metadata, by coin name."""
    tables = {table_id: table["marginTiers"] for table_id, table in meta.get("marginTables", ())}
    return {coin["name"]: _listing(asset, coin, tables, venue) for asset, coin in enumerate(rows_of(meta["universe"]))}


def _listing(asset: int, coin: Raw, tables: Mapping[int, Sequence[Raw]], venue: str) -> Listing:
    decimals, leverage_max = int(coin["szDecimals"]), int(coin["maxLeverage"])
    table_id = coin.get("marginTableId", leverage_max)
    if table_id not in tables and table_id >= UNLISTED_TABLES_BELOW:
        raise ValueError(f"{coin['name']}: margin table {table_id} is missing")
    tiers = tables.get(table_id) or ({"lowerBound": "0", "maxLeverage": leverage_max},)
    rules = MarketRules(
        market=f"{venue}:{coin['name']}",
        asset=asset,
        lot=Decimal(1).scaleb(-decimals),
        price_digits=PRICE_DIGITS,
        price_decimals=PERP_DECIMALS - decimals,
        notional_usd_min=NOTIONAL_USD_MIN,
        max_leverage=leverage_max,
        tiers=tuple(
            MarginTier(lower_bound_usd=number(tier["lowerBound"]), max_leverage=int(tier["maxLeverage"]))
            for tier in tiers
        ),
        taker_fee=TAKER_FEE,
        only_isolated=bool(coin.get("onlyIsolated")) or coin.get("marginMode") in ("strictIsolated", "noCross"),
    )
    return Listing(rules, bool(coin.get("isDelisted")))


def snapshot(market: str, coin: str, meta_and_contexts: Sequence[Any], book: Raw) -> Snapshot:
    """Prices and funding from the asset's context, depth from the book. Null prices mean there is no market.

    A book shows 20 levels a side, so that depth is what is surely there, not all there is.
    """
    meta, contexts = meta_and_contexts
    asset = [listed["name"] for listed in meta["universe"]].index(coin)
    context = contexts[asset]
    if meta["universe"][asset].get("isDelisted"):
        raise ValueError(f"{coin} is delisted")
    mark, oracle = number(context["markPx"]), number(context["oraclePx"])
    if mark <= 0 or oracle <= 0:
        raise ValueError(f"mark {mark} and oracle {oracle} must be above 0")
    bids, asks = ([(number(row["px"]), number(row["sz"])) for row in side] for side in book["levels"])
    mid = (bids[0][0] + asks[0][0]) / 2 if bids and asks else None
    centre = mid or mark
    lowest, highest = centre * (1 - DEPTH_BAND), centre * (1 + DEPTH_BAND)
    return Snapshot(
        market=market,
        at=moment(book["time"]),
        mark_price=mark,
        oracle_price=oracle,
        mid_price=mid,
        funding_rate_hourly=number(context["funding"]),
        open_interest=number(context["openInterest"]),
        bid_depth=sum((size for price, size in bids if price >= lowest), ZERO),
        ask_depth=sum((size for price, size in asks if price <= highest), ZERO),
    )


def candles(rows: Sequence[Raw]) -> list[Candle]:
    """One-minute candles, oldest first, as listed: the last may still be forming."""
    return sorted(_candle(row) for row in rows_of(rows))


def _candle(row: Raw) -> Candle:
    if row["T"] - row["t"] + 1 != MINUTE / timedelta(milliseconds=1):
        raise ValueError(f"not a one-minute candle: {row['t']} to {row['T']}")
    open_, high, low, close = (number(row[field]) for field in "ohlc")
    return Candle(moment(row["t"]), open_, high, low, close, number(row["v"])).checked()


# -- an account ----------------------------------------------------------------------------------


def account_state(name: str, raw: Raw, listed: Mapping[str, Listing], venue: str) -> AccountState:
    """An account's equity, margin and positions.

    ``marginSummary`` includes isolated positions, ``crossMarginSummary`` leaves them out; what a new
    position may use is cross equity less cross margin, not ``withdrawable``, which is held down to keep
    10 % of the notional behind.
    """
    everything, cross = raw["marginSummary"], raw["crossMarginSummary"]
    cross_equity = number(cross["accountValue"])
    return AccountState(
        account=name,
        at=moment(raw["time"]),
        equity_usd=number(everything["accountValue"]),
        free_usd=max(ZERO, cross_equity - number(cross["totalMarginUsed"])),
        margin_used_usd=number(everything["totalMarginUsed"]),
        cross_equity_usd=cross_equity,
        cross_maintenance_usd=number(raw["crossMaintenanceMarginUsed"]),
        positions=tuple(
            _position(name, row["position"], listed, venue)
            for row in rows_of(raw["assetPositions"])
            if number(row["position"]["szi"]) != 0
        ),
    )


def _position(account: str, raw: Raw, listed: Mapping[str, Listing], venue: str) -> Position:
    size, notional = number(raw["szi"]), number(raw["positionValue"])
    liquidation = raw["liquidationPx"]
    return Position(
        account=account,
        market=f"{venue}:{raw['coin']}",
        size=size,
        entry_price=number(raw["entryPx"]),
        mark_price=notional / abs(size),
        unrealised_usd=number(raw["unrealizedPnl"]),
        liquidation_price=None if liquidation is None else number(liquidation),
        margin_used_usd=number(raw["marginUsed"]),
        maintenance_usd=_maintenance_usd(raw, notional, listed),
        leverage=int(raw["leverage"]["value"]),
        isolated=_isolated(raw["leverage"]["type"]),
        funding_paid_usd=number(raw["cumFunding"]["sinceOpen"]),
    )


def _maintenance_usd(position: Raw, notional: Decimal, listed: Mapping[str, Listing]) -> Decimal:
    listing = listed.get(position["coin"])
    if listing:
        return listing.rules.maintenance_margin_usd(notional)
    return notional / (2 * int(position["maxLeverage"]))


def leverage(raw: Raw) -> tuple[int, bool]:
    """(leverage, isolated) as set for a coin, with or without a position."""
    return int(raw["leverage"]["value"]), _isolated(raw["leverage"]["type"])


def _isolated(word: str) -> bool:
    return {"isolated": True, "cross": False}[word]


def key_expiry(agents: Sequence[Raw], address: str) -> datetime | None:
    """When the account's approval of an agent key ends; None when it is not listed or has no end."""
    for agent in rows_of(agents):
        if agent["address"].lower() == address and agent.get("validUntil") is not None:
            return moment(agent["validUntil"])
    return None


def requests_left(limit: Raw) -> int:
    """Requests an address may still make: its cap (one for each dollar traded, and those bought) less those used."""
    return int(limit["nRequestsCap"]) + int(limit.get("nRequestsSurplus", 0)) - int(limit["nRequestsUsed"])


# -- orders --------------------------------------------------------------------------------------

CANCELED_WORDS = frozenset({"canceled", "scheduledCancel", "internalCancel"})


def resting_orders(rows: Sequence[Raw], venue: str) -> tuple[RestingOrder, ...]:
    """Orders that rest or wait for their trigger.

    Children still asleep under a parent are left out: they guard nothing until the parent is fully
    filled, and they go when it goes.
    """
    return tuple(_resting(row, venue) for row in rows_of(rows))


def _resting(raw: Raw, venue: str) -> RestingOrder:
    return RestingOrder(
        client_order_id=raw.get("cloid"),
        order_id=str(raw["oid"]),
        market=f"{venue}:{raw['coin']}",
        side=SIDES[raw["side"]],
        size=number(raw["sz"]),
        limit_price=number(raw["limitPx"]),
        trigger_price=number(raw["triggerPx"]) if raw["isTrigger"] else None,
        reduce_only=raw["reduceOnly"],
        kind=_kind(raw),
        follows_position=bool(raw.get("isPositionTpsl")),
    )


def _kind(raw: Raw) -> OrderKind:
    if not raw["isTrigger"]:
        return OrderKind.LIMIT
    word = raw["orderType"]
    if word.startswith("Stop"):
        return OrderKind.STOP
    if word.startswith("Take Profit"):
        return OrderKind.TARGET
    raise ValueError(f"unknown order type {word!r}")


def order_report(client_order_id: str, raw: Raw) -> OrderReport | None:
    """What became of an order. Its ``size`` is the one asked for: what is filled comes from fills alone.

    A status that we do not know is told as such: the venue has the order, and whether it rests must be looked up.
    """
    if raw["status"] == "unknownOid":
        return None
    if raw["status"] != "order":
        raise ValueError(f"unknown status {raw['status']!r}")
    found = raw["order"]
    order, word = found["order"], found["status"]
    if order.get("cloid") not in (None, client_order_id):
        raise ValueError(f"asked for {client_order_id}, was answered {order['cloid']}")
    state = order_state(word, waiting=bool(order.get("isTrigger")))
    return OrderReport(
        client_order_id=ClientOrderId(client_order_id),
        order_id=str(order["oid"]),
        state=state or AckState.RESTING,
        known=state is not None,
        status=word,
        size=number(order["origSz"]),
        at=moment(found["statusTimestamp"]),
    )


def order_state(word: str, *, waiting: bool) -> AckState | None:
    """The state a status word means; None for a word we do not know."""
    if word == "filled":
        return AckState.FILLED
    if word == "open":
        return AckState.WAITING if waiting else AckState.RESTING
    if word == "triggered":
        return AckState.RESTING
    if word in ("waitingForFill", "waitingForTrigger"):
        return AckState.WAITING
    if word == "rejected" or word.endswith("Rejected"):
        return AckState.REJECTED
    if word in CANCELED_WORDS or word.endswith("Canceled"):
        return AckState.CANCELED
    return None


def fills(rows: Sequence[Raw], user: str, venue: str) -> list[Fill]:
    """Perpetual fills, oldest first; a row seen on two pages counts once."""
    perpetual = (row for row in rows if not _is_spot(row["coin"]))
    once = {(row["oid"], row["tid"]): row for row in perpetual}
    return sorted((_fill(row, user, venue) for row in once.values()), key=lambda fill: fill.at)


def _is_spot(coin: str) -> bool:
    return "/" in coin or coin.startswith(("@", "#"))


def _fill(raw: Raw, user: str, venue: str) -> Fill:
    liquidation = raw.get("liquidation")
    ours = liquidation is not None and liquidation.get("liquidatedUser", user).lower() == user
    return Fill(
        fill_id=f"{raw['oid']}:{raw['tid']}",
        order_id=str(raw["oid"]),
        client_order_id=raw.get("cloid"),
        market=f"{venue}:{raw['coin']}",
        side=SIDES[raw["side"]],
        size=number(raw["sz"]),
        price=number(raw["px"]),
        fee_usd=number(raw["fee"]),
        closed_pnl_usd=number(raw["closedPnl"]),
        start_position=number(raw["startPosition"]),
        at=moment(raw["time"]),
        liquidation=ours,
        deleveraged=not ours and (_says_deleveraged(raw) or (liquidation is not None and raw.get("cloid") is None)),
    )


def _says_deleveraged(raw: Raw) -> bool:
    """By its direction. Documents do not give the word; a fill of no order against another's liquidation is one too."""
    return "deleverag" in str(raw.get("dir", "")).lower()


# -- money ---------------------------------------------------------------------------------------

NO_FLOW = frozenset(
    {
        "liquidation", "spotTransfer", "spotGenesis", "deployGasAuction", "cStakingTransfer", "borrowLend",
        "rewardsClaim", "activateDexAbstraction", "accountActivationGas", "gossipPriorityGasAuction",
    }
)  # fmt: skip
"""Ledger entries that move nothing into or out of the perpetuals balance (a liquidation is a loss, not a flow)."""


def funding_paid_usd(rows: Sequence[Raw], coin: str) -> Decimal:
    """Funding paid in a coin; the venue writes what it took as negative."""
    once = {(row["time"], row["delta"]["coin"]): row["delta"] for row in rows}
    return -sum((number(delta["usdc"]) for (_, name), delta in once.items() if name == coin), ZERO)


def net_deposits_usd(rows: Sequence[Raw], user: str) -> Decimal:
    """What came into the perpetuals account less what left it. ValueError names an entry we do not know."""
    once = {(row["time"], row["hash"], str(row["delta"])): row["delta"] for row in rows}
    return sum((_flow_usd(delta, user) for delta in once.values()), ZERO)


def _flow_usd(delta: Raw, user: str) -> Decimal:
    match delta["type"]:
        case "deposit" | "vaultDistribution" | "vaultLeaderCommission":
            return number(delta["usdc"])
        case "withdraw" | "vaultDeposit" | "vaultCreate":
            return -number(delta["usdc"])
        case "vaultWithdraw":
            return number(delta["netWithdrawnUsd"])
        case "accountClassTransfer":
            return number(delta["usdc"]) if delta["toPerp"] else -number(delta["usdc"])
        case "internalTransfer" | "subAccountTransfer":
            return number(delta["usdc"]) * _direction(delta, user)
        case "send":
            return number(delta["usdcValue"]) * _direction(delta, user)
        case word if word in NO_FLOW:
            return ZERO
        case word:
            raise ValueError(f"unknown ledger entry {word!r}")


def _direction(delta: Raw, user: str) -> int:
    """+1 into this account's main perpetuals balance, -1 out of it, 0 when it touches another balance."""
    into = delta["destination"].lower() == user and delta.get("destinationDex", "") == ""
    out_of = delta["user"].lower() == user and delta.get("sourceDex", "") == ""
    return int(into) - int(out_of)
