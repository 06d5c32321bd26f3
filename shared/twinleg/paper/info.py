"""Every ``POST /info`` question the venue answers, in the real shapes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twinleg.domain.candles import utc_from_ms
from twinleg.paper import schema
from twinleg.paper.accounts import (
    Account,
    Position,
    cross_margin,
    isolated_margin,
    liquidation_price,
    reserved,
    withdrawable,
)
from twinleg.paper.actions import UNIFIED
from twinleg.paper.history import INTERVALS, CandleRows
from twinleg.paper.listings import meta_answer
from twinleg.paper.market import DAY_MS, Market
from twinleg.paper.numbers import NANO8, RATE10, ZERO, rounded, text, truncated, usd
from twinleg.paper.orders import Order
from twinleg.paper.signatures import ZERO_ADDRESS
from twinleg.paper.state import State

UNREADABLE = "Failed to deserialize the JSON body into the target type"
FILLS_MAX = 2000
FILLS_REACH = 10_000
FUNDING_MAX = 500
BOOK_LEVELS = 20
FAR = 1 << 62
BIG_IMPACT = ("BTC", "ETH")
REQUEST_BUFFER = 10_000

Json = Any
Body = dict[str, Any]


class Unreadable(Exception):
    """The question lacks a field or has one of the wrong kind: 422."""


class Broken(Exception):
    """The real venue answers this with 500 and ``null``."""


def _user(body: Body) -> str:
    user = body.get("user")
    if not schema.is_address(user):
        raise Unreadable
    return "0x" + str(user).lower().removeprefix("0x")


def _time(body: Body, name: str, default: int | None = None) -> int:
    value = body.get(name)
    if value is None and default is not None:
        return default
    if type(value) is not int:
        raise Unreadable
    return value


class Info:
    """Answers from one venue's state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._meta = meta_answer(frozenset(state.markets))
        self._rows: dict[tuple[str, str], CandleRows] = {}
        self._questions: dict[str, Callable[[Body], Json]] = {
            "meta": lambda _: self._meta,
            "spotMeta": lambda _: SPOT_META,
            "metaAndAssetCtxs": self._meta_and_contexts,
            "spotMetaAndAssetCtxs": lambda _: [SPOT_META, SPOT_CONTEXTS],
            "perpDexs": lambda _: [None],
            "allMids": self._all_mids,
            "clearinghouseState": self._clearinghouse,
            "spotClearinghouseState": self._spot,
            "userAbstraction": lambda body: self._account(body).abstraction,
            "openOrders": self._open_orders,
            "frontendOpenOrders": self._frontend_orders,
            "orderStatus": self._order_status,
            "historicalOrders": lambda body: list(self._account(body).history),
            "userFills": self._fills,
            "userFillsByTime": self._fills_by_time,
            "l2Book": self._book,
            "candleSnapshot": self._candles,
            "fundingHistory": self._funding_history,
            "userFunding": self._user_funding,
            "userNonFundingLedgerUpdates": self._transfers,
            "exchangeStatus": lambda _: {"time": self._state.now_ms, "specialStatuses": None},
            "userRateLimit": self._rate_limit,
            "userFees": self._fees,
            "userRole": self._role,
            "extraAgents": self._agents,
            "subAccounts": self._sub_accounts,
            "activeAssetData": self._active_asset,
            "maxBuilderFee": self._builder_fee,
            "perpsAtOpenInterestCap": lambda _: [],
            "portfolio": self._portfolio,
            "marginTable": self._margin_table,
        }

    def answer(self, body: Json) -> tuple[int, Json]:
        """(HTTP status, body)."""
        if type(body) is not dict or type(body.get("type")) is not str:
            return 422, UNREADABLE
        question = self._questions.get(body["type"])
        if question is None:
            return 422, UNREADABLE
        if body.get("dex"):
            return 500, None
        try:
            return 200, question(body)
        except Unreadable:
            return 422, UNREADABLE
        except Broken:
            return 500, None

    def _account(self, body: Body) -> Account:
        """The account asked about.

        An address never seen shows what it would open with; agents and the zero address show nothing.
        """
        return self._account_at(_user(body))

    def _account_at(self, address: str) -> Account:
        state = self._state
        found = state.accounts.get(address)
        if found is not None:
            return found
        unseen = Account(address, abstraction=state.switches.default_abstraction)
        key = address in state.agents or address in state.retired_agents or address == ZERO_ADDRESS
        if state.options.open_accounts and not key:
            unseen.balance = state.options.equity
        return unseen

    def _market(self, coin: Json) -> Market:
        if type(coin) is not str:
            raise Unreadable
        market = self._state.markets.get(coin)
        if market is None:
            raise Broken
        return market

    # Markets

    def _meta_and_contexts(self, _: Body) -> Json:
        contexts = []
        for row in self._meta["universe"]:
            market = self._state.markets.get(row["name"])
            contexts.append(DELISTED_CONTEXT if market is None else self._context(market))
        return [self._meta, contexts]

    def _context(self, market: Market) -> Json:
        base, quote, before = market.day(self._state.now_ms)
        mid = self._mid(market)
        notional = Decimal(20_000 if market.coin in BIG_IMPACT else 6_000)
        bid, ask = market.book.impact(True, notional), market.book.impact(False, notional)
        open_interest = rounded(base / 4, market.listing.lot) + market.open_size
        return {
            "funding": text(market.running_rate),
            "openInterest": text(open_interest),
            "prevDayPx": text(before),
            "dayNtlVlm": text(rounded(quote, RATE10)),
            "premium": text(rounded(market.premium, RATE10)),
            "oraclePx": text(market.oracle),
            "markPx": text(market.mark),
            "midPx": None if mid is None else text(mid),
            "impactPxs": None if bid is None or ask is None else [text(bid), text(ask)],
            "dayBaseVlm": text(base),
        }

    def _mid(self, market: Market) -> Decimal | None:
        bid, ask = market.book.best(True), market.book.best(False)
        return None if bid is None or ask is None else (bid + ask) / 2

    def _all_mids(self, _: Body) -> Json:
        out = {}
        for coin, market in self._state.markets.items():
            mid = self._mid(market)
            out[coin] = text(market.price if mid is None else mid)
        return out

    def _book(self, body: Body) -> Json:
        coin = body.get("coin")
        if type(coin) is not str:
            raise Unreadable
        market = self._state.markets.get(coin)
        digits, mantissa = body.get("nSigFigs"), body.get("mantissa")
        if digits not in (None, 2, 3, 4, 5) or (mantissa is not None and (digits != 5 or mantissa not in (1, 2, 5))):
            raise Broken
        if market is None:
            return None
        sides = [
            [
                {"px": text(price), "sz": text(size), "n": n}
                for price, size, n in _grouped(market, bids, digits, mantissa)
            ]
            for bids in (True, False)
        ]
        return {"coin": coin, "time": self._state.now_ms, "levels": sides}

    def _candles(self, body: Body) -> Json:
        request = body.get("req")
        if type(request) is not dict or request.get("interval") not in INTERVALS:
            raise Unreadable
        market = self._market(request.get("coin"))
        start, end = _time(request, "startTime"), _time(request, "endTime", FAR)
        key = (market.coin, request["interval"])
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = CandleRows(market, request["interval"])
        return rows.between(start, end, self._state.now_ms)

    def _funding_history(self, body: Body) -> Json:
        market = self._market(body.get("coin"))
        start, end = _time(body, "startTime"), _time(body, "endTime", FAR)
        out = [
            {"coin": market.coin, "fundingRate": text(rate), "premium": text(premium), "time": at + 15}
            for at, rate, premium in market.funding
            if start <= at + 15 <= end
        ]
        return out[:FUNDING_MAX]

    def _margin_table(self, body: Body) -> Json:
        ident = body.get("id")
        if type(ident) is not int:
            raise Unreadable
        for number, table in self._meta["marginTables"]:
            if number == ident:
                return table
        if not 1 <= ident < 50:
            raise Broken
        tier = {"lowerBound": "0.0", "maxLeverage": ident}
        return {"description": "", "marginTiers": [tier]}

    # Accounts

    def _clearinghouse(self, body: Body) -> Json:
        return self._clearinghouse_of(self._account(body))

    def _clearinghouse_of(self, account: Account) -> Json:
        state = self._state
        markets = state.markets
        cross = cross_margin(account, markets)
        value, notional, used, raw = cross.value, cross.notional, cross.used, cross.raw
        positions = []
        for coin, position in account.positions.items():
            market = markets[coin]
            if not position.is_cross:
                margin = isolated_margin(position, market.mark)
                value += margin
                used += margin
                notional += abs(position.size) * market.mark
                raw += position.collateral - position.entry_usd
            positions.append({"type": "oneWay", "position": self._position(account, market, position, cross)})
        if account.abstraction in UNIFIED:
            value, raw = value - cross.value + cross.used, raw - cross.value + cross.used
            cross = cross._replace(value=cross.used, raw=cross.raw - cross.value + cross.used)
        return {
            "marginSummary": _summary(value, notional, raw, used),
            "crossMarginSummary": _summary(cross.value, cross.notional, cross.raw, cross.used),
            "crossMaintenanceMarginUsed": usd(cross.maintenance),
            "withdrawable": usd(truncated(withdrawable(account, markets, cross))),
            "assetPositions": positions,
            "time": state.now_ms,
        }

    def _position(self, account: Account, market: Market, position: Position, cross: Any) -> Json:
        mark, size = market.mark, position.size
        worth = abs(size) * mark
        pnl = position.pnl(mark)
        leverage: dict[str, Any] = {"type": "cross" if position.is_cross else "isolated", "value": position.leverage}
        if position.is_cross:
            margin = worth / position.leverage
            equity, others = cross.value, cross.maintenance - market.listing.maintenance(worth)
        else:
            margin = equity = isolated_margin(position, mark)
            others = ZERO
            leverage["rawUsd"] = usd(position.collateral - position.entry_usd)
        liquidation = liquidation_price(position, market, equity, others)
        entry = rounded(position.entry_usd / size, market.listing.finest)
        return_on_equity = pnl * position.leverage / abs(position.entry_usd)
        return {
            "coin": market.coin,
            "szi": text(size),
            "leverage": leverage,
            "entryPx": text(entry),
            "positionValue": usd(worth),
            "unrealizedPnl": usd(pnl),
            "returnOnEquity": text(rounded(return_on_equity, RATE10)),
            "liquidationPx": None if liquidation is None else text(rounded(liquidation, NANO8)),
            "marginUsed": usd(margin),
            "maxLeverage": market.listing.max_leverage,
            "cumFunding": {
                "allTime": usd(account.funding_all_time.get(market.coin, ZERO)),
                "sinceOpen": usd(position.funding_opened),
                "sinceChange": usd(position.funding_changed),
            },
        }

    def _spot(self, body: Body) -> Json:
        account = self._account(body)
        total = account.spot
        hold = ZERO
        if account.abstraction in UNIFIED:
            cross = cross_margin(account, self._state.markets)
            total, hold = total + cross.value, cross.used
        if not total:
            return {"balances": []}
        row = {"coin": "USDC", "token": 0, "total": usd(total), "hold": usd(hold), "entryNtl": "0.0"}
        return {"balances": [row]}

    def _active_asset(self, body: Body) -> Json:
        account, market = self._account(body), self._market(body.get("coin"))
        is_cross, value = account.setting(market)
        leverage: dict[str, Any] = {"type": "cross" if is_cross else "isolated", "value": value}
        position = account.positions.get(market.coin)
        if position is not None and not is_cross:
            leverage["rawUsd"] = usd(position.collateral - position.entry_usd)
        cross = cross_margin(account, self._state.markets)
        free = max(ZERO, cross.value - cross.used - reserved(account, self._state.markets))
        held = position.size if position is not None else ZERO
        sides = [free + (2 * abs(held) * market.mark / value if held * sign < 0 else ZERO) for sign in (1, -1)]
        return {
            "user": account.address,
            "coin": market.coin,
            "leverage": leverage,
            "maxTradeSzs": [text(truncated(side * value / market.mark, market.listing.lot)) for side in sides],
            "availableToTrade": [usd(truncated(side)) for side in sides],
            "markPx": text(market.mark),
        }

    def _rate_limit(self, body: Body) -> Json:
        account = self._account(body)
        return {
            "cumVlm": text(rounded(account.volume, Decimal("0.01"))),
            "nRequestsUsed": account.requests,
            "nRequestsCap": REQUEST_BUFFER + int(account.volume),
            "nRequestsSurplus": 0,
        }

    def _fees(self, body: Body) -> Json:
        account, switches = self._account(body), self._state.switches
        taker, maker = text(switches.taker_fee_rate), text(switches.maker_fee_rate)
        nothing = {"bpsOfMaxSupply": "0.0", "discount": "0.0"}
        by_day: dict[int, list[Decimal]] = {}
        for row in account.fills:
            day = by_day.setdefault(row["time"] // DAY_MS, [ZERO, ZERO])
            day[0 if row["crossed"] else 1] += Decimal(row["px"]) * Decimal(row["sz"])
        return {
            "dailyUserVlm": [
                {"date": _date(day), "userCross": usd(cross), "userAdd": usd(add), "exchange": "0.0"}
                for day, (cross, add) in list(by_day.items())[-15:]
            ],
            "feeSchedule": {
                "cross": taker,
                "add": maker,
                "spotCross": "0.0007",
                "spotAdd": "0.0004",
                "tiers": {"vip": [], "mm": []},
                "referralDiscount": "0.04",
                "stakingDiscountTiers": [nothing],
            },
            "userCrossRate": taker,
            "userAddRate": maker,
            "userSpotCrossRate": "0.0007",
            "userSpotAddRate": "0.0004",
            "activeReferralDiscount": "0.0",
            "trial": None,
            "feeTrialEscrow": "0.0",
            "nextTrialAvailableTimestamp": None,
            "stakingLink": None,
            "activeStakingDiscount": nothing,
        }

    def _role(self, body: Body) -> Json:
        address, state = _user(body), self._state
        agent = state.agents.get(address)
        if agent is not None:
            return {"role": "agent", "data": {"user": agent.master}}
        account = state.accounts.get(address)
        if account is None:
            return {"role": "missing"}
        if account.master is not None:
            return {"role": "subAccount", "data": {"master": account.master}}
        return {"role": "user"}

    def _agents(self, body: Body) -> Json:
        address = _user(body)
        return [
            {"name": agent.name, "address": agent.address, "validUntil": agent.valid_until_ms}
            for agent in self._state.agents.values()
            if agent.master == address and agent.name
        ]

    def _sub_accounts(self, body: Body) -> Json:
        subs = [self._state.accounts[address] for address in self._account(body).sub_accounts]
        if not subs:
            return None
        return [
            {
                "name": sub.name,
                "subAccountUser": sub.address,
                "master": sub.master,
                "clearinghouseState": self._clearinghouse_of(sub),
                "spotState": self._spot({"user": sub.address}),
            }
            for sub in subs
        ]

    def _builder_fee(self, body: Body) -> Json:
        builder = body.get("builder")
        if not schema.is_address(builder):
            raise Unreadable
        rate = self._account(body).builders.get("0x" + str(builder).lower().removeprefix("0x"))
        return 0 if rate is None else int(Decimal(rate.removesuffix("%")) * 1000)

    def _portfolio(self, body: Body) -> Json:
        account, now_ms = self._account(body), self._state.now_ms
        state = self._clearinghouse_of(account)
        deposits = sum((self._deposited(t) for t in account.transfers), ZERO)
        value = Decimal(state["marginSummary"]["accountValue"])
        span = {
            "accountValueHistory": [[now_ms, usd(value)]],
            "pnlHistory": [[now_ms, usd(value - deposits)]],
            "vlm": usd(account.volume),
        }
        names = ("day", "week", "month", "allTime", "perpDay", "perpWeek", "perpMonth", "perpAllTime")
        return [[name, span] for name in names]

    def _deposited(self, line: Json) -> Decimal:
        delta = line["delta"]
        amount = Decimal(delta.get("usdc", "0"))
        return amount if delta["type"] == "deposit" else -amount if delta["type"] == "withdraw" else ZERO

    # Orders and fills

    def _open_orders(self, body: Body) -> Json:
        out = []
        for order in self._account(body).orders.values():
            if order.phase == "child":
                continue
            row = {
                "coin": order.coin,
                "side": "B" if order.is_buy else "A",
                "limitPx": text(order.limit),
                "sz": text(self._size(order)),
                "oid": order.oid,
                "timestamp": order.placed_ms,
                "origSz": text(order.original),
            }
            if order.cloid is not None:
                row["cloid"] = order.cloid
            if order.reduce_only:
                row["reduceOnly"] = True
            out.append(row)
        return out[::-1]

    def _frontend_orders(self, body: Body) -> Json:
        orders = self._account(body).orders.values()
        return [order.shown(self._size(order)) for order in orders if order.phase != "child"][::-1]

    def _size(self, order: Order) -> Decimal:
        """What is left of an order; one that follows the position shows the position."""
        if order.follows_position and order.live and self._state.switches.position_tpsl_size_shown == "position":
            return abs(self._state.accounts[order.user].size(order.coin))
        return order.size

    def _order_status(self, body: Body) -> Json:
        account, ident = self._account(body), body.get("oid")
        if type(ident) is int:
            order = account.known.get(ident)
        elif type(ident) is str:
            lower = ident.lower()
            order = account.cloids.get(lower if lower.startswith("0x") else "0x" + lower)
        else:
            raise Unreadable
        if order is None:
            return {"status": "unknownOid"}
        stale = self._state.switches.order_status_size == "stale" and order.live
        size = order.original if stale else self._size(order)
        inner = {"order": order.shown(size), "status": order.status, "statusTimestamp": order.status_ms}
        return {"status": "order", "order": inner}

    def _fills(self, body: Body) -> Json:
        fills = self._account(body).fills[-FILLS_MAX:][::-1]
        return _aggregated(fills) if body.get("aggregateByTime") is True else fills

    def _fills_by_time(self, body: Body) -> Json:
        fills = self._account(body).fills[-FILLS_REACH:]
        start, end = _time(body, "startTime"), _time(body, "endTime", FAR)
        first = bisect_left(fills, start, key=_when)
        last = bisect_right(fills, end, key=_when)
        found = fills[first:last]
        if body.get("reversed") is True:
            found = found[::-1]
        if body.get("aggregateByTime") is True:
            found = _aggregated(found)
        return found[:FILLS_MAX]

    def _user_funding(self, body: Body) -> Json:
        rows = self._account(body).fundings
        start, end = _time(body, "startTime", 0), _time(body, "endTime", FAR)
        return rows[bisect_left(rows, start, key=_when) : bisect_right(rows, end, key=_when)][:FUNDING_MAX]

    def _transfers(self, body: Body) -> Json:
        rows = self._account(body).transfers
        start, end = _time(body, "startTime", 0), _time(body, "endTime", FAR)
        return [row for row in rows if start <= row["time"] <= end]


def _when(row: Json) -> int:
    at: int = row["time"]
    return at


def _date(day: int) -> str:
    return f"{utc_from_ms(day * DAY_MS):%Y-%m-%d}"


def _summary(value: Decimal, notional: Decimal, raw: Decimal, used: Decimal) -> Json:
    return {
        "accountValue": usd(value),
        "totalNtlPos": usd(notional),
        "totalRawUsd": usd(raw),
        "totalMarginUsed": usd(used),
    }


def _grouped(
    market: Market, bids: bool, digits: int | None, mantissa: int | None
) -> list[tuple[Decimal, Decimal, int]]:
    """Book levels, merged to ``digits`` significant figures (in steps of ``mantissa``), away from the mid."""
    if digits is None:
        return market.book.levels(bids, BOOK_LEVELS)
    merged: dict[Decimal, tuple[Decimal, int]] = {}
    for price, size, number in market.book.levels(bids, 10 * BOOK_LEVELS):
        step = Decimal(mantissa or 1).scaleb(price.adjusted() - digits + 1)
        steps = price / step
        whole = steps.to_integral_value("ROUND_FLOOR" if bids else "ROUND_CEILING") * step
        before = merged.get(whole, (ZERO, 0))
        merged[whole] = (before[0] + size, before[1] + number)
    return [(price, *both) for price, both in merged.items()][:BOOK_LEVELS]


def _aggregated(fills: list[Json]) -> list[Json]:
    """Fills of one order in one instant joined into one, at their average price."""
    out: list[Json] = []
    for row in fills:
        last = out[-1] if out else None
        if last is None or (last["oid"], last["time"]) != (row["oid"], row["time"]):
            out.append(dict(row))
            continue
        size, more = Decimal(last["sz"]), Decimal(row["sz"])
        worth = size * Decimal(last["px"]) + more * Decimal(row["px"])
        last["px"] = text(rounded(worth / (size + more), NANO8))
        last["sz"] = text(size + more)
        for name in ("closedPnl", "fee"):
            last[name] = text(Decimal(last[name]) + Decimal(row[name]))
    return out


_PURR_ID = "0xc1fb593aeffbeb02f85e0308e9956a90"
_USDC_ID = "0x6d1e7cde53ba9467b783cb7c530ce054"


def _token(name: str, size: int, wei: int, index: int, ident: str) -> Json:
    return {
        "name": name,
        "szDecimals": size,
        "weiDecimals": wei,
        "index": index,
        "tokenId": ident,
        "isCanonical": True,
        "evmContract": None,
        "fullName": None,
        "deployerTradingFeeShare": "0.0",
    }


SPOT_META: Json = {
    "universe": [{"tokens": [1, 0], "name": "PURR/USDC", "index": 0, "isCanonical": True}],
    "tokens": [_token("USDC", 8, 8, 0, _USDC_ID), _token("PURR", 0, 5, 1, _PURR_ID)],
}
"""One spot pair, listed so that clients start; spot does not trade here."""
SPOT_CONTEXTS: Json = [
    {
        "prevDayPx": "0.2",
        "dayNtlVlm": "0.0",
        "markPx": "0.2",
        "midPx": None,
        "circulatingSupply": "0.0",
        "coin": "PURR/USDC",
        "totalSupply": "0.0",
        "dayBaseVlm": "0.0",
    }
]
DELISTED_CONTEXT: Json = {
    "funding": "0.0",
    "openInterest": "0.0",
    "prevDayPx": "1.0",
    "dayNtlVlm": "0.0",
    "premium": None,
    "oraclePx": "1.0",
    "markPx": "1.0",
    "midPx": None,
    "impactPxs": None,
    "dayBaseVlm": "0.0",
}
