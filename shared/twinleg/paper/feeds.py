"""Which stream a subscription gets, and whether the venue has it at all."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twinleg.paper.exchange import Exchange
from twinleg.paper.feed import PACE_SECONDS, Feed, StateFeed
from twinleg.paper.feeds_accounts import ListFeed, OrderUpdates, Reader, UserEvents, payment
from twinleg.paper.feeds_markets import FAST_LEVELS, Best, Candles, Trades
from twinleg.paper.history import INTERVALS
from twinleg.paper.numbers import usd
from twinleg.paper.statements import aggregated
from twinleg.paper.ws_messages import Subscription

Json = Any
Row = dict[str, Any]

WEB_DATA_PACE_SECONDS = 2.0


class Invalid(Exception):
    """The venue has no such market, interval, grouping or dex."""


class Feeds:
    """Opens the streams of one venue. ``paced``: by the wall's clock states are told every half second at most."""

    def __init__(self, engine: Exchange, *, paced: bool) -> None:
        self._engine = engine
        self._pace = PACE_SECONDS if paced else 0.0
        self._web_data_pace = WEB_DATA_PACE_SECONDS if paced else 0.0
        self._places = {row["name"]: i for i, row in enumerate(self._ask("meta")["universe"])}
        self._pairs = {row["name"]: i for i, row in enumerate(self._ask("spotMeta")["universe"])}
        self._makers: dict[str, Callable[[Subscription], Feed]] = {
            "allMids": self._mids,
            "candle": self._candles,
            "l2Book": self._book,
            "trades": self._trades,
            "bbo": lambda s: Best(engine, _coin(s)),
            "activeAssetCtx": self._context,
            "activeAssetData": self._asset_data,
            "orderUpdates": lambda s: OrderUpdates(engine, _user(s)),
            "userFills": self._fills,
            "userEvents": lambda s: UserEvents(engine, _user(s)),
            "userFundings": self._fundings,
            "userNonFundingLedgerUpdates": self._transfers,
            "webData2": self._web_data,
            "clearinghouseState": self._margin,
            "spotState": self._spot,
            "openOrders": self._orders,
        }

    def open(self, subscription: Subscription) -> Feed:
        """The stream, begun now. Invalid when the venue does not have it."""
        if subscription.dex:
            raise Invalid
        if subscription.coin is not None and subscription.coin not in {**self._places, **self._pairs}:
            raise Invalid
        return self._makers[subscription.kind](subscription)

    def _ask(self, kind: str, user: str | None = None, **more: Json) -> Json:
        _, answer = self._engine.info({"type": kind, **({} if user is None else {"user": user}), **more})
        return answer

    def _state(self, channel: str, read: Callable[[], Json], pace: float | None = None) -> Feed:
        return StateFeed(self._engine.state, channel, read, self._pace if pace is None else pace)

    # Markets

    def _mids(self, subscription: Subscription) -> Feed:
        named = {} if subscription.dex is None else {"dex": subscription.dex}
        return self._state("allMids", lambda: {"mids": self._ask("allMids"), **named})

    def _candles(self, subscription: Subscription) -> Feed:
        interval = subscription.interval
        if interval not in INTERVALS:
            raise Invalid
        return Candles(self._engine, _coin(subscription), interval, self._pace)

    def _trades(self, subscription: Subscription) -> Feed:
        coin = _coin(subscription)
        return Trades(self._engine, coin) if coin in self._engine.state.markets else Silence()

    def _book(self, subscription: Subscription) -> Feed:
        coin, digits, mantissa = _coin(subscription), subscription.significant, subscription.mantissa
        asked = {"type": "l2Book", "coin": coin, "nSigFigs": digits, "mantissa": mantissa}
        if self._engine.info(asked)[0] != 200:
            raise Invalid

        def read() -> Json:
            book = self._engine.info(asked)[1] or {"coin": coin, "time": self._engine.state.now_ms, "levels": [[], []]}
            if not subscription.fast:
                return book
            return {**book, "levels": [side[:FAST_LEVELS] for side in book["levels"]], "fast": True}

        return self._state("l2Book", read)

    def _context(self, subscription: Subscription) -> Feed:
        coin = _coin(subscription)
        spot = coin in self._pairs
        place = self._pairs[coin] if spot else self._places[coin]
        question = "spotMetaAndAssetCtxs" if spot else "metaAndAssetCtxs"
        channel = "activeSpotAssetCtx" if spot else "activeAssetCtx"
        return self._state(channel, lambda: {"coin": coin, "ctx": self._ask(question)[1][place]})

    # Accounts

    def _asset_data(self, subscription: Subscription) -> Feed:
        user, coin = _user(subscription), _coin(subscription)
        if coin not in self._engine.state.markets:
            raise Invalid
        return self._state("activeAssetData", lambda: self._ask("activeAssetData", user, coin=coin))

    def _fills(self, subscription: Subscription) -> Feed:
        shaped = aggregated if subscription.aggregated else _plain
        return ListFeed(Reader(self._engine, _user(subscription)), "fills", "userFills", "fills", shaped)

    def _fundings(self, subscription: Subscription) -> Feed:
        reader = Reader(self._engine, _user(subscription))
        return ListFeed(reader, "fundings", "userFundings", "fundings", lambda rows: [payment(row) for row in rows])

    def _transfers(self, subscription: Subscription) -> Feed:
        reader = Reader(self._engine, _user(subscription))
        channel = "userNonFundingLedgerUpdates"
        return ListFeed(reader, "transfers", channel, "nonFundingLedgerUpdates", _plain)

    def _margin(self, subscription: Subscription) -> Feed:
        user = _user(subscription)
        name = "clearinghouseState"
        return self._state(name, lambda: {"dex": "", "user": user, name: self._ask(name, user)})

    def _spot(self, subscription: Subscription) -> Feed:
        user = _user(subscription)
        return self._state("spotState", lambda: {"user": user, "spotState": self._ask("spotClearinghouseState", user)})

    def _orders(self, subscription: Subscription) -> Feed:
        user = _user(subscription)
        return self._state(
            "openOrders", lambda: {"dex": "", "user": user, "orders": self._ask("frontendOpenOrders", user)}
        )

    def _web_data(self, subscription: Subscription) -> Feed:
        user = _user(subscription)
        return self._state("webData2", lambda: self._whole(user), self._web_data_pace)

    def _whole(self, user: str) -> Json:
        """Everything the venue's own page shows of an account."""
        state = self._engine.state
        meta, contexts = self._ask("metaAndAssetCtxs")
        agent = next((a for a in state.agents.values() if a.master == user and not a.name), None)
        account = state.accounts.get(user)
        moved = [] if account is None else account.transfers
        return {
            "clearinghouseState": self._ask("clearinghouseState", user),
            "leadingVaults": [],
            "totalVaultEquity": "0.0",
            "openOrders": self._ask("frontendOpenOrders", user),
            "agentAddress": None if agent is None else agent.address,
            "agentValidUntil": None if agent is None else agent.valid_until_ms,
            "cumLedger": usd(sum((_into(line["delta"]) for line in moved), Decimal(0))),
            "meta": meta,
            "assetCtxs": contexts,
            "serverTime": state.now_ms,
            "isVault": False,
            "user": user,
            "twapStates": [],
            "spotState": self._ask("spotClearinghouseState", user),
            "spotAssetCtxs": self._ask("spotMetaAndAssetCtxs")[1],
            "perpsAtOpenInterestCap": self._ask("perpsAtOpenInterestCap"),
        }


class Silence:
    """A market that is listed and does not trade."""

    def first(self) -> list[str]:
        return []

    def news(self, _: float) -> list[str]:
        return []


def _plain(rows: list[Row]) -> list[Row]:
    return rows


def _into(delta: Row) -> Decimal:
    """What a transfer brought from outside (less what it took out)."""
    amount = Decimal(delta.get("usdc", "0"))
    return amount if delta["type"] == "deposit" else -amount if delta["type"] == "withdraw" else Decimal(0)


def _coin(subscription: Subscription) -> str:
    return subscription.coin or ""


def _user(subscription: Subscription) -> str:
    return subscription.user or ""
