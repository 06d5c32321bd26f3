"""Which stream a subscription gets, and whether the venue has it at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twinleg.paper.exchange import Exchange
from twinleg.paper.feed import PACE_SECONDS, Feed, StateFeed
from twinleg.paper.feeds_accounts import ListFeed, OrderUpdates, Reader, UserEvents, payments, plain, slices
from twinleg.paper.feeds_markets import FAST_LEVELS, Best, Candles, FastContexts, Trades
from twinleg.paper.feeds_wholes import WHOLE
from twinleg.paper.history import INTERVALS
from twinleg.paper.statements import aggregated
from twinleg.paper.ws_messages import Subscription

Json = Any
Row = dict[str, Any]

HEAVY_PACE_SECONDS = 2.0
HEAVY = ("webData2", "webData3", "allDexsAssetCtxs", "assetCtxs")

LISTS: dict[str, tuple[str, str, Callable[[list[Row]], Json]]] = {
    "userFills": ("fills", "fills", plain),
    "userFundings": ("fundings", "fundings", payments),
    "userNonFundingLedgerUpdates": ("transfers", "nonFundingLedgerUpdates", plain),
    "userHistoricalOrders": ("statuses", "orderHistory", plain),
    "userTwapHistory": ("twap_history", "history", plain),
    "userTwapSliceFills": ("fills", "twapSliceFills", slices),
}
"""Streams with a snapshot: the account's list, its name in the message, and the rows' form."""


class Invalid(Exception):
    """The venue has no such market, interval, grouping or dex."""


class Feeds:
    """Opens the streams of one venue. ``paced``: by the wall's clock states are told every half second at most."""

    def __init__(self, engine: Exchange, *, paced: bool) -> None:
        self._engine = engine
        self._pace = PACE_SECONDS if paced else 0.0
        self._heavy_pace = HEAVY_PACE_SECONDS if paced else 0.0
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
            "userEvents": lambda s: UserEvents(engine, _user(s)),
            "fastAssetCtxs": lambda _: FastContexts(engine, self._pace),
            "notification": lambda _: Silence(),
            **dict.fromkeys(LISTS, self._list),
            **dict.fromkeys(WHOLE, self._whole_state),
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

    def _list(self, subscription: Subscription) -> Feed:
        source, name, shaped = LISTS[subscription.kind]
        if subscription.aggregated:
            shaped = aggregated
        return ListFeed(Reader(self._engine, _user(subscription)), source, subscription.kind, name, shaped)

    def _whole_state(self, subscription: Subscription) -> Feed:
        read, user = WHOLE[subscription.kind], _user(subscription)
        pace = self._heavy_pace if subscription.kind in HEAVY else None
        return self._state(subscription.kind, lambda: read(self._ask, self._engine.state, user), pace)


class Silence:
    """A market that is listed and does not trade."""

    def first(self) -> list[str]:
        return []

    def news(self, _: float) -> list[str]:
        return []


def _coin(subscription: Subscription) -> str:
    return subscription.coin or ""


def _user(subscription: Subscription) -> str:
    return subscription.user or ""
