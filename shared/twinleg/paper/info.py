"""Every ``POST /info`` question the venue answers, in the real shapes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twinleg.paper import limits, schema, twaps
from twinleg.paper.accounts import UNIFIED, Account, cross_margin, reserved
from twinleg.paper.actions import builder_fee
from twinleg.paper.feeds_wholes import WHOLE
from twinleg.paper.info_absent import ABSENT, referral
from twinleg.paper.market_info import SPOT_CONTEXTS, SPOT_META, MarketInfo
from twinleg.paper.numbers import ZERO, rounded, text, truncated, usd
from twinleg.paper.orders import Order
from twinleg.paper.questions import FAR, Body, Broken, Json, Unreadable, time_of, user_of
from twinleg.paper.signatures import ZERO_ADDRESS
from twinleg.paper.state import State
from twinleg.paper.statements import aggregated, clearinghouse, fee_statement
from twinleg.paper.transfers import ACTIVATION_FEE, is_new

UNREADABLE = "Failed to deserialize the JSON body into the target type"
FILLS_MAX = 2000
FILLS_REACH = 10_000
FUNDING_MAX = 500


class Info:
    """Answers from one venue's state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._markets = markets = MarketInfo(state)
        self._questions: dict[str, Callable[[Body], Json]] = {
            "meta": lambda _: markets.meta,
            "spotMeta": lambda _: SPOT_META,
            "metaAndAssetCtxs": markets.meta_and_contexts,
            "spotMetaAndAssetCtxs": lambda _: [SPOT_META, SPOT_CONTEXTS],
            "perpDexs": lambda _: [None],
            "allMids": markets.all_mids,
            "clearinghouseState": lambda body: clearinghouse(self._state, self._account(body)),
            "spotClearinghouseState": self._spot,
            "userAbstraction": lambda body: self._account(body).abstraction,
            "openOrders": self._open_orders,
            "frontendOpenOrders": self._frontend_orders,
            "orderStatus": self._order_status,
            "historicalOrders": lambda body: list(self._account(body).history),
            "userFills": self._fills,
            "userFillsByTime": self._fills_by_time,
            "l2Book": markets.book,
            "candleSnapshot": markets.candles,
            "fundingHistory": markets.funding_history,
            "userFunding": self._user_funding,
            "userNonFundingLedgerUpdates": self._transfers,
            "exchangeStatus": self._status,
            "userRateLimit": self._rate_limit,
            "userFees": lambda body: fee_statement(self._state, self._account(body)),
            "userRole": self._role,
            "extraAgents": self._agents,
            "subAccounts": self._sub_accounts,
            "activeAssetData": self._active_asset,
            "maxBuilderFee": self._builder_fee,
            "perpsAtOpenInterestCap": markets.at_cap,
            "portfolio": self._portfolio,
            "marginTable": markets.margin_table,
            "recentTrades": markets.recent_trades,
            "predictedFundings": markets.predicted_fundings,
            "maxMarketOrderNtls": markets.largest_orders,
            "subAccounts2": self._sub_accounts_2,
            "preTransferCheck": self._transfer_check,
            "twapHistory": lambda body: self._account(body).twap_history[::-1][:FILLS_MAX],
            "userTwapSliceFills": lambda body: twaps.slice_fills(self._account(body))[::-1][:FILLS_MAX],
            "userTwapSliceFillsByTime": self._slice_fills_by_time,
            "referral": lambda body: referral(self._account(body)),
            "approvedBuilders": lambda body: list(self._account(body).builders),
            "userDexAbstraction": lambda body: self._account(body).abstraction == "dexAbstraction" or None,
            "webData2": lambda body: WHOLE["webData2"](self._ask, self._state, user_of(body)),
            **{kind: self._absent(answer) for kind, answer in ABSENT.items()},
        }

    def _ask(self, kind: str, user: str | None = None, **more: Json) -> Json:
        return self.answer({"type": kind, "user": user, **more})[1]

    def _absent(self, answer: Callable[[], Json]) -> Callable[[Body], Json]:
        """A question about something nobody here has: the same answer for every address."""

        def answered(body: Body) -> Json:
            user_of(body)
            return answer()

        return answered

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
        return self._account_at(user_of(body))

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

    def _status(self, _: Body) -> Json:
        """Nothing special, but in the time after an upgrade: what the venue writes there nobody has published."""
        special = ["postOnly"] if self._state.switches.post_only_mode else None
        return {"time": self._state.now_ms, "specialStatuses": special}

    # Accounts

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
        account, market = self._account(body), self._markets.market(body.get("coin"))
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
            "nRequestsUsed": limits.used(account),
            "nRequestsCap": limits.BUDGET + int(account.volume),
            "nRequestsSurplus": max(0, account.reserved_requests - account.requests),
        }

    def _role(self, body: Body) -> Json:
        address, state = user_of(body), self._state
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
        """The named ones. An expired key stays listed until the next approval prunes it: measured."""
        address = user_of(body)
        return [
            {"name": agent.name, "address": agent.address, "validUntil": agent.valid_until_ms}
            for agent in self._state.agents.values()
            if agent.master == address and agent.name
        ]

    def _sub_accounts(self, body: Body) -> Json:
        subs = self._subs_of(body)
        return [{**self._sub(sub), "clearinghouseState": clearinghouse(self._state, sub)} for sub in subs] or None

    def _sub_accounts_2(self, body: Body) -> Json:
        state, subs = self._state, self._subs_of(body)
        states = [{"dexToClearinghouseState": [["", clearinghouse(state, sub)]]} for sub in subs]
        rows = [self._sub(sub) for sub in subs]
        modes = [{"abstraction": sub.abstraction} for sub in subs]
        return [{**row, **more, **mode} for row, more, mode in zip(rows, states, modes, strict=True)] or None

    def _subs_of(self, body: Body) -> list[Account]:
        return [self._state.accounts[address] for address in self._account(body).sub_accounts]

    def _sub(self, sub: Account) -> dict[str, Json]:
        row = {"name": sub.name, "subAccountUser": sub.address, "master": sub.master}
        return {**row, "spotState": self._spot({"user": sub.address})}

    def _transfer_check(self, body: Body) -> Json:
        """What a spot transfer to an address would cost it at first."""
        address, state = user_of(body), self._state
        user_of({"user": body.get("source")})
        new = is_new(state, address)
        return {
            "fee": text(ACTIVATION_FEE if new else ZERO),
            "isSanctioned": False,
            "userExists": not new,
            "userHasSentTx": address in state.nonces,
        }

    def _builder_fee(self, body: Body) -> Json:
        builder = body.get("builder")
        if not schema.is_address(builder):
            raise Unreadable
        rate = self._account(body).builders.get("0x" + str(builder).lower().removeprefix("0x"))
        return 0 if rate is None else int(builder_fee(rate))

    def _portfolio(self, body: Body) -> Json:
        account, now_ms = self._account(body), self._state.now_ms
        state = clearinghouse(self._state, account)
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
        fills = self._account(body).fills[-FILLS_MAX:]
        return (aggregated(fills) if body.get("aggregateByTime") is True else fills)[::-1]

    def _fills_by_time(self, body: Body) -> Json:
        fills = self._account(body).fills[-FILLS_REACH:]
        start, end = time_of(body, "startTime"), time_of(body, "endTime", FAR)
        first = bisect_left(fills, start, key=_when)
        last = bisect_right(fills, end, key=_when)
        found = fills[first:last]
        if body.get("aggregateByTime") is True:
            found = aggregated(found)
        if body.get("reversed") is True:
            found = found[::-1]
        return found[:FILLS_MAX]

    def _slice_fills_by_time(self, body: Body) -> Json:
        start, end = time_of(body, "startTime"), time_of(body, "endTime", FAR)
        rows = twaps.slice_fills(self._account(body))
        return [row for row in rows if start <= row["fill"]["time"] <= end][:FILLS_MAX]

    def _user_funding(self, body: Body) -> Json:
        rows = self._account(body).fundings
        start, end = time_of(body, "startTime", 0), time_of(body, "endTime", FAR)
        return rows[bisect_left(rows, start, key=_when) : bisect_right(rows, end, key=_when)][:FUNDING_MAX]

    def _transfers(self, body: Body) -> Json:
        rows = self._account(body).transfers
        start, end = time_of(body, "startTime", 0), time_of(body, "endTime", FAR)
        return [row for row in rows if start <= row["time"] <= end]


def _when(row: Json) -> int:
    at: int = row["time"]
    return at
