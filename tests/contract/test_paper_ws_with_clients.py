"""The unmodified Hyperliquid SDK and ccxt.pro watch the paper venue, and trade on it, over its WebSocket."""

from __future__ import annotations

import asyncio
import json
import queue
from datetime import timedelta
from decimal import Decimal
from urllib.request import Request, urlopen

import ccxt.pro
import pytest
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info

from twinleg.adapters.local.clocks import SystemClock
from twinleg.domain.candles import Candle, ms_from_utc
from twinleg.paper.options import Switches, VenueOptions
from twinleg.paper.server import serve_in_thread

HISTORY = 30
WAIT_SECONDS = 5


def minutes(start, count=90):
    """Minutes around 100 000."""
    prices = [Decimal(p) for p in (100_000, 100_010, 99_990, 100_000)]
    return [Candle(start + timedelta(minutes=i), *prices, Decimal(30)) for i in range(count)]


@pytest.fixture
def venue():
    """A venue whose clock stands at this minute until it is moved, like the clients' nonces need."""
    now = SystemClock().now().replace(second=0, microsecond=0)
    series = minutes(now - timedelta(minutes=HISTORY))
    options = VenueOptions(candles={"BTC": series, "ETH": series}, start_ms=ms_from_utc(now), switches=Switches())
    server = serve_in_thread(options)
    server.start_ms = options.start_ms
    yield server
    server.stop()


def move_to_minute(venue, minute):
    body = json.dumps({"now_ms": venue.start_ms + round(minute * 60_000)}).encode()
    with urlopen(Request(venue.url + "/_sim/clock", data=body), timeout=WAIT_SECONDS) as answer:
        answer.read()


# The SDK


@pytest.fixture
def wallet():
    return Account.create()


@pytest.fixture
def watching(venue):
    info = Info(venue.url)
    yield info
    info.disconnect_websocket()


class Ear:
    """Hears one subscription."""

    def __init__(self, info, subscription):
        self._heard = queue.Queue()
        self.subscription = subscription
        self.ident = info.subscribe(subscription, self._heard.put)

    def next(self):
        return self._heard.get(timeout=WAIT_SECONDS)["data"]

    def until(self, wanted):
        while not wanted(data := self.next()):
            pass
        return data


def test_the_sdk_hears_every_stream_it_knows(venue, watching, wallet):
    user, sdk = wallet.address, Exchange(wallet, venue.url, timeout=WAIT_SECONDS)
    ears = {
        subscription["type"]: Ear(watching, subscription)
        for subscription in (
            {"type": "allMids"},
            {"type": "l2Book", "coin": "BTC"},
            {"type": "trades", "coin": "BTC"},
            {"type": "bbo", "coin": "BTC"},
            {"type": "candle", "coin": "BTC", "interval": "1m"},
            {"type": "activeAssetCtx", "coin": "BTC"},
            {"type": "activeAssetData", "coin": "BTC", "user": user},
            {"type": "userEvents", "user": user},
            {"type": "userFills", "user": user},
            {"type": "orderUpdates", "user": user},
            {"type": "userFundings", "user": user},
            {"type": "userNonFundingLedgerUpdates", "user": user},
            {"type": "webData2", "user": user},
        )
    }
    assert ears["allMids"].next()["mids"]["BTC"] == watching.all_mids()["BTC"]
    assert ears["l2Book"].next()["levels"] == watching.l2_snapshot("BTC")["levels"]
    assert len(ears["trades"].next()) == 30
    assert ears["bbo"].next()["bbo"] == [side[0] for side in watching.l2_snapshot("BTC")["levels"]]
    assert ears["candle"].next()["T"] == venue.start_ms + 59_999
    assert ears["activeAssetCtx"].next()["ctx"] == watching.meta_and_asset_ctxs()[1][0]
    assert ears["activeAssetData"].next()["leverage"] == {"type": "cross", "value": 20}
    for kind, name in (("userFills", "fills"), ("userFundings", "fundings")):
        assert ears[kind].next() == {"isSnapshot": True, "user": user.lower(), name: []}
    assert ears["userNonFundingLedgerUpdates"].next()["nonFundingLedgerUpdates"] == []
    assert ears["webData2"].next()["user"] == user.lower()

    sdk.order("BTC", True, 0.01, 100_500, {"limit": {"tif": "Ioc"}})
    assert [u["status"] for u in ears["orderUpdates"].next()] == ["open", "filled"]
    (fill,) = ears["userFills"].next()["fills"]
    assert ears["userEvents"].next() == {"fills": [fill]} and [fill] == watching.user_fills(user)
    (trade,) = ears["trades"].next()
    assert (trade["tid"], trade["users"][0]) == (fill["tid"], user.lower())
    assert ears["userNonFundingLedgerUpdates"].next()["nonFundingLedgerUpdates"][0]["delta"]["type"] == "deposit"
    ears["webData2"].until(lambda data: data["clearinghouseState"]["assetPositions"])

    move_to_minute(venue, 1.5)
    assert [ears["candle"].next()["t"] for _ in range(2)] == [venue.start_ms, venue.start_ms + 60_000]
    assert {t["coin"] for t in ears["trades"].next()} == {"BTC"}
    for ear in ears.values():
        assert watching.unsubscribe(ear.subscription, ear.ident)


# ccxt.pro


class Pro(ccxt.pro.hyperliquid):
    """ccxt as it comes, but for its fee programme, which would sign two actions at the start."""

    async def initialize_client(self, *_, **__):
        return True


def watched(venue, scene):
    """Play a scene with a ccxt client that has a wallet of its own."""

    async def play():
        wallet = Account.create()
        keys = {"walletAddress": wallet.address, "privateKey": wallet.key.hex()}
        exchange = Pro({**keys, "enableRateLimit": False})
        exchange.urls["api"]["public"] = exchange.urls["api"]["private"] = venue.url
        exchange.urls["api"]["ws"] = {"public": venue.url.replace("http", "ws") + "/ws"}
        exchange.options["sandboxMode"] = True
        try:
            async with asyncio.timeout(4 * WAIT_SECONDS):
                await exchange.load_markets()
                await scene(exchange)
        finally:
            await exchange.close()

    asyncio.run(play())


BTC = "BTC/USDC:USDC"


def test_ccxt_watches_the_market(venue):
    async def scene(exchange):
        book = await exchange.watch_order_book(BTC)
        assert len(book["bids"]) == len(book["asks"]) == 20 and book["bids"][0][0] < book["asks"][0][0]
        candles = await exchange.watch_ohlcv(BTC, "1m")
        assert candles[-1][0] == venue.start_ms and candles[-1][1] == 100_000
        ticker = await exchange.watch_ticker(BTC)
        assert ticker["info"]["oraclePx"] == "100000.0"
        mids = await exchange.watch_tickers([BTC])
        assert mids[BTC]["info"]["price"] == 100_000
        trades = await exchange.watch_trades(BTC)
        assert trades and {trade["symbol"] for trade in trades} == {BTC}
        coming = asyncio.gather(exchange.watch_ohlcv(BTC, "1m"), exchange.watch_trades(BTC))
        await asyncio.sleep(0)
        await asyncio.to_thread(move_to_minute, venue, 2)
        candles, trades = await coming
        assert candles[-1][0] >= venue.start_ms and trades[-1]["timestamp"] > venue.start_ms
        for ended in ("order_book", "ohlcv", "ticker", "trades"):
            await getattr(exchange, f"un_watch_{ended}")(BTC)
        await exchange.un_watch_tickers([BTC])
        assert (await exchange.watch_order_book(BTC))["bids"], "and again"

    watched(venue, scene)


def test_ccxt_trades_and_watches_its_account(venue):
    async def scene(exchange):
        orders = asyncio.ensure_future(exchange.watch_orders())
        balance = await exchange.watch_balance()
        assert balance["USDC"]["total"] == 10_000
        placed = await exchange.create_order_ws(BTC, "limit", "buy", 0.01, 95_000)
        assert [(o["id"], o["status"]) for o in await orders] == [(placed["id"], "open")]
        orders = asyncio.ensure_future(exchange.watch_orders())
        await exchange.cancel_order_ws(placed["id"], BTC)
        assert (await orders)[-1]["status"] == "canceled"
        fills = asyncio.ensure_future(exchange.watch_my_trades())
        positions = asyncio.ensure_future(exchange.watch_positions([BTC]))
        bought = await exchange.create_order_ws(BTC, "market", "buy", 0.02, 100_000)
        (fill,) = await fills
        assert (fill["order"], fill["amount"], fill["side"]) == (bought["id"], 0.02, "buy")
        (position,) = await positions
        assert (position["contracts"], position["side"]) == (0.02, "long")
        moved = await exchange.watch_balance()
        assert moved["USDC"]["used"] > 0
        resting = await exchange.create_order_ws(BTC, "limit", "sell", 0.01, 105_000)
        changed = await exchange.edit_order_ws(resting["id"], BTC, "limit", "sell", 0.01, 106_000)
        assert [o["id"] for o in await exchange.fetch_open_orders(BTC)] == [changed["id"]]
        with pytest.raises(ccxt.pro.InvalidOrder):
            await exchange.create_order_ws(BTC, "limit", "buy", 0.00001, 95_000)
        await exchange.un_watch_orders()
        await exchange.un_watch_my_trades()
        await exchange.un_watch_balance()

    watched(venue, scene)


def test_ccxt_recovers_when_the_venue_ends_its_connection(venue):
    async def scene(exchange):
        await exchange.watch_order_book(BTC)
        lost = asyncio.ensure_future(exchange.watch_order_book(BTC))
        await asyncio.sleep(0)
        request = Request(venue.url + "/_sim/disconnect", data=b"{}")
        await asyncio.to_thread(lambda: urlopen(request, timeout=WAIT_SECONDS).close())
        with pytest.raises(ccxt.pro.NetworkError):
            await lost
        assert (await exchange.watch_order_book(BTC))["bids"]

    watched(venue, scene)
