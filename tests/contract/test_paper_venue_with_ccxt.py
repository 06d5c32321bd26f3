"""Unmodified ``ccxt.hyperliquid``, sync and async, makes every call it has for perpetuals on the paper venue.

Unmodified means with its start-up actions: it approves a fee for its builder, sets a referral code, and adds the
builder to each order. Only addresses, credentials and the test network's signing are set, as on a test network.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.request import Request, urlopen

import ccxt
import ccxt.async_support
import pytest
from eth_account import Account

from twinleg.adapters.local.clocks import SystemClock
from twinleg.domain.candles import Candle, ms_from_utc
from twinleg.paper.options import Switches, VenueOptions
from twinleg.paper.server import serve_in_thread

BTC, ETH = "BTC/USDC:USDC", "ETH/USDC:USDC"
HISTORY = 30
MINUTE_MS = 60_000


def candles(start, price: Decimal, fall: Decimal) -> list[Candle]:
    """A calm half hour of history and ten minutes more; then the price falls once and stays there."""
    out = []
    for n in range(120):
        open_ = price if n <= HISTORY + 10 else price - fall
        close = price if n < HISTORY + 10 else price - fall
        high, low = max(open_, close) + price / 10_000, min(open_, close) - price / 10_000
        out.append(Candle(start + timedelta(minutes=n), open_, high, low, close, Decimal(30)))
    return out


def serve():
    """A venue at the wall's time (ccxt takes its nonces from there), on a clock that we move."""
    now = SystemClock().now().replace(second=0, microsecond=0)
    start = now - timedelta(minutes=HISTORY)
    return serve_in_thread(
        VenueOptions(
            candles={
                "BTC": candles(start, Decimal(100_000), Decimal(1_500)),
                "ETH": candles(start, Decimal(3_000), Decimal(0)),
            },
            start_ms=ms_from_utc(now),
            switches=Switches(volume_gates=False),
        )
    )


@pytest.fixture(scope="module")
def venue():
    """A calm market, whose clock nobody moves."""
    server = serve()
    yield server
    server.stop()


@pytest.fixture
def falling():
    server = serve()
    yield server
    server.stop()


def control(venue, path: str, payload: Any = None) -> Any:
    data = None if payload is None else json.dumps(payload).encode()
    request = Request(venue.url + "/_sim/" + path, data=data, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=5) as answer:
        return json.loads(answer.read())


def pass_minutes(venue, minutes: int) -> None:
    control(venue, "clock", {"now_ms": control(venue, "status")["now_ms"] + minutes * MINUTE_MS})


class Client:
    """A client of ccxt with a wallet of its own; the async one's calls are run to their end."""

    def __init__(self, module: Any, runner: asyncio.Runner, venue: Any, **config: Any) -> None:
        self._runner = runner
        self.wallet = Account.create()
        key = "0x" + self.wallet.key.hex().removeprefix("0x")
        given = {"walletAddress": self.wallet.address, "privateKey": key, "enableRateLimit": False, "timeout": 5000}
        self.ccxt = module.hyperliquid(given | config)
        self.ccxt.urls["api"]["public"] = self.ccxt.urls["api"]["private"] = venue.url
        self.ccxt.options["sandboxMode"] = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.ccxt, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            async def awaited() -> Any:
                result = found(*args, **kwargs)
                return await result if inspect.isawaitable(result) else result

            return self._runner.run(awaited())

        return call

    def info(self, kind: str, **more: Any) -> Any:
        return self.publicPostInfo({"type": kind, "user": self.wallet.address} | more)


@pytest.fixture(params=[ccxt, ccxt.async_support], ids=["sync", "async"])
def make(request) -> Iterator[Callable[..., Client]]:
    """Makes clients of the one kind, and closes them."""
    made: list[Client] = []
    with asyncio.Runner() as runner:

        def one(venue: Any, **config: Any) -> Client:
            made.append(Client(request.param, runner, venue, **config))
            return made[-1]

        yield one
        for client in made:
            client.close()


@pytest.fixture
def client(make, venue) -> Client:
    return make(venue)


def filled(client: Client, symbol: str = BTC, side: str = "buy", amount: float = 0.01, **params: Any) -> Any:
    price = {BTC: 100_000, ETH: 3_000}[symbol]
    return client.create_order(symbol, "market", side, amount, price, params)


# -- at the start --------------------------------------------------------------------------------


def test_it_starts_as_it_comes_and_pays_its_builder(client):
    markets = client.load_markets()
    assert markets[BTC]["active"] and markets[BTC]["info"]["maxLeverage"] == 40
    filled(client)
    assert int(client.info("maxBuilderFee", builder="0x6530512A6c89C7cfCEbC3BA7fcD9aDa5f30827a6")) == 10
    (fill,) = client.info("userFills")
    builders = Decimal(fill["builderFee"])
    notional = Decimal(fill["px"]) * Decimal(fill["sz"])
    assert abs(builders - notional / 10_000) < Decimal("0.00001")
    assert abs(Decimal(fill["fee"]) - builders - notional * Decimal("0.00045")) < Decimal("0.00001")


def test_an_agents_key_trades_without_the_builder_because_its_approval_is_refused(make, venue):
    from hyperliquid.exchange import Exchange

    master = Account.create()
    answer, key = Exchange(master, venue.url, timeout=5).approve_agent("bot")
    assert answer["status"] == "ok"
    agent = make(venue, walletAddress=master.address, privateKey=key)
    filled(agent)
    (fill,) = agent.publicPostInfo({"type": "userFills", "user": master.address})
    assert "builderFee" not in fill
    (position,) = agent.fetch_positions([BTC])
    assert position["contracts"] == 0.01


# -- orders --------------------------------------------------------------------------------------


def test_orders_of_every_time_in_force(client):
    resting = client.create_order(BTC, "limit", "buy", 0.01, 95_000)
    post_only = client.create_order(BTC, "limit", "buy", 0.01, 94_000, {"postOnly": True})
    assert {resting["id"], post_only["id"]} == {order["id"] for order in client.fetch_open_orders(BTC)}
    at_once = client.create_order(BTC, "limit", "buy", 0.01, 101_000, {"timeInForce": "IOC"})
    assert at_once["filled"] == 0.01
    at_market = filled(client, side="sell")
    assert at_market["filled"] == 0.01 and client.fetch_positions([BTC]) == []
    with pytest.raises(ccxt.InvalidOrder, match="Post only order would have immediately matched"):
        client.create_order(BTC, "limit", "buy", 0.01, 101_000, {"postOnly": True})
    with pytest.raises(ccxt.InvalidOrder, match="Order could not immediately match"):
        client.create_order(BTC, "limit", "buy", 0.01, 95_000, {"timeInForce": "IOC"})
    with pytest.raises(ccxt.InvalidOrder, match="Reduce only order would increase position"):
        client.create_order(BTC, "market", "sell", 0.01, 100_000, {"reduceOnly": True})
    with pytest.raises(ccxt.InsufficientFunds):
        client.create_order(BTC, "limit", "buy", 10, 99_000)
    with pytest.raises(ccxt.InvalidOrder, match=r"minimum value of \$10"):
        client.create_order(BTC, "limit", "buy", 0.0001, 95_000)


def test_several_orders_in_one_request(client):
    wanted = [
        {"symbol": BTC, "type": "limit", "side": "buy", "amount": 0.01, "price": 95_000},
        {"symbol": ETH, "type": "limit", "side": "sell", "amount": 0.5, "price": 3_200},
    ]
    first, second = client.create_orders(wanted)
    assert {order["id"]: order["symbol"] for order in client.fetch_open_orders()} == {
        first["id"]: BTC,
        second["id"]: ETH,
    }
    wanted[1] |= {"amount": 0.001, "price": 3_200}
    with pytest.raises(ccxt.InvalidOrder) as refused:  # with the order that rests only in its words
        client.create_orders(wanted)
    assert "resting" in str(refused.value) and len(client.fetch_open_orders()) == 3


def test_stops_and_targets(client):
    filled(client)
    stop = client.create_order(BTC, "market", "sell", 0.01, 99_000, {"stopLossPrice": 99_000, "reduceOnly": True})
    target = client.create_order(BTC, "market", "sell", 0.01, 103_000, {"takeProfitPrice": 103_000, "reduceOnly": True})
    limit = client.create_order(BTC, "limit", "sell", 0.01, 98_000, {"triggerPrice": 98_500, "reduceOnly": True})
    shown = {order["id"]: order["info"] for order in client.fetch_open_orders(BTC)}
    assert {shown[order["id"]]["orderType"] for order in (stop, target, limit)} == {
        "Stop Market", "Take Profit Market", "Stop Limit",
    }  # fmt: skip
    assert shown[stop["id"]]["triggerPx"] == "99000.0" and shown[stop["id"]]["reduceOnly"]


def test_a_bracket_comes_with_its_entry_or_follows_a_position(client):
    exits = {
        "stopLoss": {"triggerPrice": 98_000, "type": "market", "price": 97_000},
        "takeProfit": {"triggerPrice": 104_000, "type": "market", "price": 105_000},
    }
    filled(client, **exits)
    kinds = {order["info"]["orderType"]: order["info"] for order in client.fetch_open_orders(BTC)}
    assert set(kinds) == {"Stop Market", "Take Profit Market"}
    client.cancel_orders([str(order["oid"]) for order in kinds.values()], BTC)
    client.create_orders(
        [{"symbol": BTC, "type": "market", "side": "buy", "amount": 0.01, "price": 100_000,
          "params": {**exits, "grouping": "positionTpsl"}}]
    )  # fmt: skip
    assert all(order["info"]["isPositionTpsl"] for order in client.fetch_open_orders(BTC))
    assert client.fetch_position(BTC)["contracts"] == 0.01


def test_orders_are_changed(client):
    ours = {"clientOrderId": "0x" + "c1" * 16}
    placed = client.create_order(BTC, "limit", "buy", 0.01, 95_000, ours)
    changed = client.edit_order(placed["id"], BTC, "limit", "buy", 0.02, 94_000, ours)
    assert int(changed["id"]) > int(placed["id"])
    (shown,) = client.fetch_open_orders(BTC)
    assert (shown["id"], shown["amount"], shown["price"]) == (changed["id"], 0.02, 94_000)
    assert shown["clientOrderId"] == ours["clientOrderId"]
    other = client.create_order(BTC, "limit", "buy", 0.01, 93_000)
    edits = [
        {"id": i, "symbol": BTC, "type": "limit", "side": "buy", "amount": 0.03, "price": p}
        for i, p in ((changed["id"], 93_500), (other["id"], 92_000))
    ]
    client.edit_orders(edits)
    assert {order["price"] for order in client.fetch_open_orders(BTC)} == {93_500, 92_000}
    with pytest.raises(ccxt.BaseError, match="Cannot modify canceled or filled order"):
        client.edit_order(placed["id"], BTC, "limit", "buy", 0.02, 94_000)


def test_orders_are_cancelled_every_way(client):
    ours = ["0x" + digit * 32 for digit in "abcd"]
    ids = [
        client.create_order(BTC, "limit", "buy", 0.01, 95_000 - n, {"clientOrderId": cloid})["id"]
        for n, cloid in enumerate(ours)
    ]
    assert client.cancel_order(ids[0], BTC)["info"] == "success"
    client.cancel_order(None, BTC, {"clientOrderId": ours[1]})
    client.cancel_orders([], BTC, {"clientOrderId": [ours[2]]})
    client.cancel_orders_for_symbols([{"id": ids[3], "symbol": BTC}])
    assert client.fetch_open_orders() == []
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_order(ids[0], BTC)
    assert {client.fetch_order(i, BTC)["status"] for i in ids} == {"canceled"}
    assert client.fetch_order(ours[3], BTC)["id"] == ids[3]
    with pytest.raises(ccxt.OrderNotFound):
        client.fetch_order("1", BTC)


def test_the_dead_mans_switch(make, falling):
    client = make(falling)
    client.create_order(BTC, "limit", "buy", 0.01, 95_000)
    assert client.cancel_all_orders_after(120_000)["status"] == "ok"
    assert len(client.fetch_open_orders()) == 1
    pass_minutes(falling, 4)
    assert client.fetch_open_orders() == []
    control(falling, "switches", {"volume_gates": True})
    with pytest.raises(ccxt.ExchangeError, match="Cannot set scheduled cancel time until enough volume traded"):
        client.cancel_all_orders_after(600_000)


def test_a_slow_order_starts_and_is_ended(client):
    twap = client.create_twap_order(BTC, "buy", 0.2, 10 * MINUTE_MS)
    assert twap["id"]
    client.cancel_twap_order(twap["id"], BTC)
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_twap_order(twap["id"], BTC)


# -- leverage, margin, money ---------------------------------------------------------------------


def test_leverage_and_margin(client):
    client.set_leverage(7, BTC)
    assert client.info("activeAssetData", coin="BTC")["leverage"] == {"type": "cross", "value": 7}
    client.set_leverage(6, BTC, {"marginMode": "isolated"})
    client.set_margin_mode("isolated", BTC, {"leverage": 5})
    filled(client)
    position = client.fetch_position(BTC)
    assert (position["marginMode"], position["leverage"], position["side"]) == ("isolated", 5, "long")
    before = position["collateral"]
    assert client.add_margin(BTC, 50)["code"] == "ok"
    added = client.fetch_position(BTC)["collateral"]
    assert added - before == pytest.approx(50)
    client.reduce_margin(BTC, 20)
    assert client.fetch_position(BTC)["collateral"] - added == pytest.approx(-20)
    with pytest.raises(ccxt.ExchangeError, match="Cannot switch leverage type with open position"):
        client.set_margin_mode("cross", BTC, {"leverage": 5})
    with pytest.raises(ccxt.ExchangeError, match="Invalid leverage value"):
        client.set_leverage(400, ETH)


def test_money_moves(client):
    client.load_markets()
    assert client.transfer("USDC", 100, "swap", "spot")["status"] == "ok"
    assert client.fetch_balance({"type": "spot"})["total"]["USDC"] == 100
    client.transfer("USDC", 40, "spot", "swap")
    assert client.fetch_balance({"type": "swap"})["total"]["USDC"] == 9_940
    sub = client.create_sub_account("hedge")["response"]["data"]
    client.transfer("USDC", 1_000, "main", sub)
    assert client.fetch_balance({"user": sub})["total"]["USDC"] == 1_000
    filled(client, side="sell", vaultAddress=sub)
    (position,) = client.fetch_positions([BTC], {"user": sub})
    assert position["side"] == "short" and client.fetch_positions([BTC]) == []
    client.set_leverage(3, ETH, {"vaultAddress": sub})
    resting = client.create_order(ETH, "limit", "buy", 0.1, 2_900, {"subAccountAddress": sub})
    client.cancel_order(resting["id"], ETH, {"subAccountAddress": sub})
    client.transfer("USDC", 30, "swap", "spot", {"vaultAddress": sub})
    assert client.fetch_balance({"user": sub, "type": "spot"})["total"]["USDC"] == 30
    client.transfer("USDC", 200, sub, "main")
    assert client.fetch_balance()["total"]["USDC"] == 9_140
    assert client.withdraw("USDC", 10, client.wallet.address)["info"]["status"] == "ok"
    assert client.fetch_balance()["total"]["USDC"] == 9_130


def test_the_account_mode_is_changed(client):
    assert client.set_user_abstraction("unifiedAccount")["status"] == "ok"
    assert client.is_unified_enabled("fetchBalance", None, True)[0] is True
    assert client.fetch_balance()["total"]["USDC"] == 10_000
    with pytest.raises(ccxt.ExchangeError, match="Action disabled when unified account is active"):
        client.transfer("USDC", 5, "swap", "spot")
    assert client.set_agent_abstraction("i")["status"] == "ok"
    assert client.is_unified_enabled("fetchBalance", None, True)[0] is False


# -- reads ---------------------------------------------------------------------------------------


def test_every_read_of_the_market(client, venue):
    assert client.fetch_time() == control(venue, "status")["now_ms"]
    assert client.fetch_status()["status"] == "ok"
    assert {market["symbol"] for market in client.fetch_markets() if market["active"]} >= {BTC, ETH}
    assert "USDC" in client.fetch_currencies()
    ticker = client.fetch_ticker(BTC)
    assert ticker["last"] == pytest.approx(100_000, rel=0.01)
    assert set(client.fetch_tickers([BTC, ETH])) == {BTC, ETH}
    book = client.fetch_order_book(BTC)
    assert book["bids"][0][0] < 100_000 < book["asks"][0][0]
    assert client.fetch_l2_order_book(BTC)["asks"]
    rows = client.fetch_ohlcv(BTC, "1m", limit=5)
    assert len(rows) == 5 and rows[0][4] == 100_000
    assert client.fetch_ohlcv(BTC, "5m", since=control(venue, "status")["now_ms"] - 15 * MINUTE_MS)
    assert client.fetch_funding_rate(BTC)["fundingRate"] is not None
    assert set(client.fetch_funding_rates([BTC])) == {BTC}
    assert isinstance(client.fetch_funding_rate_history(BTC, since=0), list)
    assert client.fetch_open_interest(BTC)["openInterestAmount"] is not None
    assert BTC in client.fetch_open_interests([BTC])


def test_every_read_of_an_account(make, falling):
    client = make(falling)
    opened = filled(client)
    client.create_order(BTC, "market", "sell", 0.01, 99_500, {"stopLossPrice": 99_500, "reduceOnly": True})
    left = client.create_order(ETH, "limit", "buy", 0.1, 2_900)
    client.cancel_order(left["id"], ETH)
    pass_minutes(falling, 15)  # the price falls through the stop
    assert client.fetch_positions() == []
    filled(client, ETH, amount=0.1)
    pass_minutes(falling, 61)  # funding is paid
    closed = {order["id"]: order for order in client.fetch_closed_orders(BTC)}
    assert opened["id"] in closed and all(order["status"] == "closed" for order in closed.values())
    assert left["id"] in {order["id"] for order in client.fetch_canceled_orders(ETH)}
    assert left["id"] in {order["id"] for order in client.fetch_canceled_and_closed_orders(ETH)}
    assert opened["id"] in {order["id"] for order in client.fetch_orders(BTC)}
    first, second = client.fetch_my_trades(BTC)
    assert (first["side"], second["side"], first["amount"]) == ("buy", "sell", 0.01)
    assert first["fee"]["cost"] > 0 and first["order"] == opened["id"]
    assert len(client.fetch_my_trades(BTC, since=second["timestamp"])) == 1
    assert len(client.fetch_trades(BTC, params={"user": client.wallet.address})) == 2
    (position,) = client.fetch_positions()
    assert (position["symbol"], position["side"]) == (ETH, "long")
    assert client.fetch_position(ETH)["contracts"] == 0.1
    balance = client.fetch_balance()
    assert 0 < balance["free"]["USDC"] < balance["total"]["USDC"] < 10_000
    paid = client.fetch_funding_history(ETH)
    assert paid and {row["symbol"] for row in paid} == {ETH}
    assert client.fetch_ledger()[0]["amount"] == 10_000
    assert client.fetch_deposits()[0]["amount"] == 10_000
    assert client.fetch_withdrawals() == []
    assert client.fetch_trading_fee(BTC)["taker"] == 0.00045
    assert client.fetch_my_liquidations(BTC) == []


def test_a_liquidation_is_read(make, falling):
    client = make(falling)
    client.set_leverage(40, BTC, {"marginMode": "isolated"})
    filled(client)
    pass_minutes(falling, 15)
    assert client.fetch_positions() == []
    (liquidated,) = client.fetch_my_liquidations(BTC)
    assert liquidated["symbol"] == BTC and liquidated["contracts"] == 0.01


# -- what goes wrong -----------------------------------------------------------------------------


def test_refusals_are_the_errors_that_ccxt_has_for_them(make, falling):
    client = make(falling)
    client.load_markets()
    for kind, error in (
        ("429", ccxt.RateLimitExceeded),
        ("500", ccxt.ExchangeNotAvailable),
        ("lose_answer", ccxt.NetworkError),
    ):
        control(falling, "faults", {"kind": kind, "path": "/exchange", "count": 1})
        with pytest.raises(error):
            client.set_leverage(5, BTC)
    with pytest.raises(ccxt.ExchangeError, match="Vault not registered: 0x"):
        client.set_leverage(5, BTC, {"vaultAddress": Account.create().address})
