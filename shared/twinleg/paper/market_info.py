"""Questions about markets: metadata, contexts, the book, candles and funding rates."""

from __future__ import annotations

from decimal import Decimal
from types import NoneType

from twinleg.paper.checks import at_open_interest_cap, market_order_cap
from twinleg.paper.funding import STAMP_LATENESS_MS, next_hour
from twinleg.paper.history import INTERVALS, CandleRows
from twinleg.paper.listings import meta_answer
from twinleg.paper.market import Market
from twinleg.paper.numbers import RATE10, ZERO, rounded, text
from twinleg.paper.questions import FAR, Body, Broken, Json, Unreadable, time_of
from twinleg.paper.state import State
from twinleg.paper.tape import recent_trades

FUNDING_MAX = 500
BOOK_LEVELS = 20
BIG_IMPACT = ("BTC", "ETH")


class MarketInfo:
    """Answers about one venue's markets."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._meta = meta_answer(frozenset(state.markets), whole=state.options.lists_all)
        self._rows: dict[tuple[str, str], CandleRows] = {}
        listed = {row["name"] for row in (*self._meta["universe"], *SPOT_META["universe"])}
        self._quiet = frozenset(listed - set(state.markets))
        """What is listed and does not trade here: delisted coins and spot pairs have an empty book and no history."""

    @property
    def meta(self) -> Json:
        """What is listed, with the coins that a switch made isolated-only."""
        flags = {coin: market for coin, market in self._state.markets.items() if market.only_isolated}
        if not flags:
            return self._meta
        universe = [{**row, **_margin_flags(flags.get(row["name"]))} for row in self._meta["universe"]]
        return {**self._meta, "universe": universe}

    def market(self, coin: Json) -> Market:
        if type(coin) is not str:
            raise Unreadable
        market = self._state.markets.get(coin)
        if market is None:
            raise Broken
        return market

    def _traded(self, coin: Json) -> Market | None:
        """The market of a coin; None for one that is listed and does not trade here."""
        return None if type(coin) is str and coin in self._quiet else self.market(coin)

    def meta_and_contexts(self, _: Body) -> Json:
        contexts = []
        for row in self.meta["universe"]:
            market = self._state.markets.get(row["name"])
            contexts.append(DELISTED_CONTEXT if market is None else self._context(market))
        return [self.meta, contexts]

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

    def recent_trades(self, body: Body) -> Json:
        market = self._traded(body.get("coin"))
        if market is None:
            return []
        return recent_trades(self._state, market.coin)

    def predicted_fundings(self, _: Body) -> Json:
        """The running estimate, here only: other exchanges have none in a paper world."""
        at = next_hour(self._state.now_ms)
        return [
            [
                coin,
                [
                    ["BinPerp", None],
                    [
                        "HlPerp",
                        {"fundingRate": text(m.running_rate), "nextFundingTime": at, "fundingIntervalHours": 1},
                    ],
                    ["BybitPerp", None],
                ],
            ]
            for coin, m in self._state.markets.items()
        ]

    def largest_orders(self, _: Body) -> Json:
        """The largest market order by the coin's maximum leverage, lowest first."""
        leverages = sorted({market.listing.max_leverage for market in self._state.markets.values()})
        return [[leverage, f"{market_order_cap(self._state, leverage)}.0"] for leverage in leverages]

    def at_cap(self, _: Body) -> Json:
        state = self._state
        return [coin for coin, market in state.markets.items() if at_open_interest_cap(state, market)]

    def all_mids(self, _: Body) -> Json:
        out = {}
        for coin, market in self._state.markets.items():
            mid = self._mid(market)
            out[coin] = text(market.price if mid is None else mid)
        return out

    def book(self, body: Body) -> Json:
        coin = body.get("coin")
        if type(coin) is not str:
            raise Unreadable
        market = self._state.markets.get(coin)
        digits, mantissa = body.get("nSigFigs"), body.get("mantissa")
        if {type(digits), type(mantissa)} - {int, NoneType}:
            raise Broken
        if digits not in (None, 2, 3, 4, 5) or (mantissa is not None and (digits != 5 or mantissa not in (1, 2, 5))):
            raise Broken
        if market is None:
            empty = {"coin": coin, "time": self._state.now_ms, "levels": [[], []]}
            return empty if coin in self._quiet else None
        sides = [
            [
                {"px": text(price), "sz": text(size), "n": n}
                for price, size, n in _grouped(market, bids, digits, mantissa)
            ]
            for bids in (True, False)
        ]
        return {"coin": coin, "time": self._state.now_ms, "levels": sides}

    def candles(self, body: Body) -> Json:
        request = body.get("req")
        if type(request) is not dict or request.get("interval") not in INTERVALS:
            raise Unreadable
        start, end = time_of(request, "startTime"), time_of(request, "endTime", FAR)
        market = self._traded(request.get("coin"))
        if market is None:
            return []
        key = (market.coin, request["interval"])
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = CandleRows(market, request["interval"])
        return rows.between(start, end, self._state.now_ms)

    def funding_history(self, body: Body) -> Json:
        start, end = time_of(body, "startTime"), time_of(body, "endTime", FAR)
        market = self._traded(body.get("coin"))
        if market is None:
            return []
        out = [
            {"coin": market.coin, "fundingRate": text(rate), "premium": text(premium), "time": at + STAMP_LATENESS_MS}
            for at, rate, premium in market.funding
            if start <= at + STAMP_LATENESS_MS <= end
        ]
        return out[:FUNDING_MAX]

    def margin_table(self, body: Body) -> Json:
        ident = body.get("id")
        if type(ident) is not int:
            raise Unreadable
        for number, table in self.meta["marginTables"]:
            if number == ident:
                return table
        if not 1 <= ident < 50:
            raise Broken
        tier = {"lowerBound": "0.0", "maxLeverage": ident}
        return {"description": "", "marginTiers": [tier]}


def _margin_flags(market: Market | None) -> Json:
    if market is None:
        return {}
    return {"onlyIsolated": True, **({"marginMode": "strictIsolated"} if market.strict_isolated else {})}


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


_PURR_ID = "0xc1fb593aeffbeb02f85e0308e9956a90"
_HFUN_ID = "0xbaf265ef389da684513d98d68edf4eae"
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
    "universe": [
        {"tokens": [1, 0], "name": "PURR/USDC", "index": 0, "isCanonical": True},
        {"tokens": [2, 0], "name": "@1", "index": 1, "isCanonical": False},
    ],
    "tokens": [
        _token("USDC", 8, 8, 0, _USDC_ID),
        _token("PURR", 0, 5, 1, _PURR_ID),
        {**_token("HFUN", 2, 8, 2, _HFUN_ID), "isCanonical": False},
    ],
}
"""Two spot pairs, the ones that clients' examples name, listed so that clients start; spot does not trade here."""
SPOT_CONTEXTS: Json = [
    {
        "prevDayPx": price,
        "dayNtlVlm": "0.0",
        "markPx": price,
        "midPx": None,
        "circulatingSupply": "0.0",
        "coin": pair["name"],
        "totalSupply": "0.0",
        "dayBaseVlm": "0.0",
    }
    for pair, price in zip(SPOT_META["universe"], ("0.2", "20.0"), strict=True)
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
