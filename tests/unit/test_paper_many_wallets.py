"""Fifty wallets trade at random for a simulated day: the ledger balances to the last printed digit.

``TWINLEG_WALLET_SEEDS`` (a count) runs more days than the few of the suite.
"""

from __future__ import annotations

import os
import random
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

import paper_bench as bench
from twinleg.domain.candles import Candle
from twinleg.paper.accounts import cross_margin, isolated_margin
from twinleg.paper.options import BookShape, Switches

Bench, wire, cloid, D = bench.Bench, bench.wire, bench.cloid, bench.D

WALLETS = [f"0x{n:040x}" for n in range(1, 51)]
COINS = ("BTC", "ETH")
BAR = timedelta(minutes=30)
BARS = 48
ROUNDS = 300
EQUITY = D(2_000)
SEEDS = range(int(os.environ.get("TWINLEG_WALLET_SEEDS", "2")))
MODES = (
    {},
    {
        "adl_enabled": True,
        "fee_tiers": True,
        "liquidation_step_usd": D(4_000),
        "fill_on_touch": True,
        "isolated_loss_confined": True,
    },
)


def a_day(draw: random.Random, start: float) -> list[Candle]:
    """Half-hour bars that wander, with a fall, a gap and a leap in them."""
    bars, price = [], start
    for number in range(BARS):
        price = round(price * 0.9, 1) if number == 24 else price
        change = draw.gauss(0, 0.006) + {17: -0.06, 30: 0.05}.get(number, 0.0)
        close = price * (1 + change)
        high, low = max(price, close) * (1 + draw.random() / 300), min(price, close) * (1 - draw.random() / 300)
        figures = [D(f"{figure:.1f}") for figure in (price, high, low, close)]
        bars.append(Candle(bench.START + number * BAR, *figures, D(draw.randrange(1, 900)), BAR))
        price = float(figures[-1])
    return bars


def trading(seed: int) -> Any:
    draw = random.Random(seed)
    prices = {"BTC": a_day(draw, 100_000.0), "ETH": a_day(draw, 2_500.0)}
    switches = Switches(volume_gates=False, **MODES[seed % len(MODES)])
    v = Bench(prices, switches=switches, equity=EQUITY, seed=seed, book=BookShape(level_usd=D(6_000)))
    for user in WALLETS:
        v.exchange.deposit(user, EQUITY)
        v.leverage(user, draw.choice((3, 10, 25)), draw.random() < 0.6, "BTC")
        v.leverage(user, draw.choice((3, 10, 25)), draw.random() < 0.6, "ETH")
    v.subs = [v.send(user, {"type": "createSubAccount", "name": "s"})["response"]["data"] for user in WALLETS[:5]]
    step_ms = round(BARS * BAR.total_seconds() * 1000 / ROUNDS)
    for _ in range(ROUNDS):
        for _ in range(draw.randrange(1, 6)):
            act(v, draw, draw.choice(WALLETS))
        v.exchange.advance(v.state.now_ms + step_ms)
        assert_nobody_is_under_water(v)
    return v


def act(v: Any, draw: random.Random, user: str) -> None:
    """One request of one wallet: an order of some kind, a cancel, a transfer, a TWAP order."""
    coin = draw.choice(COINS)
    market, asset = v.state.markets[coin], bench.ASSETS[coin]
    buys, kind = draw.random() < 0.5, draw.random()
    price = market.listing.round(market.mark * D(draw.randrange(980, 1021)) / 1000)
    size = max((D(draw.randrange(20, 9_000)) / market.mark).quantize(market.listing.lot), market.listing.lot)
    if kind < 0.45:
        beyond = market.listing.round(market.mark * (D("1.03") if buys else D("0.97")))
        v.orders(user, wire(buys, beyond, size, "Ioc", coin=coin, reduce_only=draw.random() < 0.2))
    elif kind < 0.65:
        v.orders(user, wire(buys, price, size, draw.choice(("Gtc", "Alo")), coin=coin))
    elif kind < 0.72:
        stop = market.listing.round(market.mark * (D("0.985") if buys else D("1.015")))
        target = market.listing.round(market.mark * (D("1.02") if buys else D("0.98")))
        limit = market.listing.round(stop * (D("0.95") if buys else D("1.05")))
        entry = wire(buys, price, size, coin=coin)
        children = (
            wire(not buys, limit, size, stop=stop, coin=coin),
            wire(not buys, target, size, target=target, coin=coin),
        )
        v.orders(user, entry, *children, grouping="normalTpsl")
    elif kind < 0.80:
        for order in list(v.state.accounts[user].orders.values())[:2]:
            v.cancel(user, order.oid, order.coin)
    elif kind < 0.86:
        sent = {"destination": draw.choice(WALLETS), "amount": str(draw.randrange(1, 90_000_000) / D(1_000_000))}
        v.send(user, {"type": "usdSend", **sent})
    elif kind < 0.90:
        amount, to_perp = str(draw.randrange(1, 9_000_000) / D(100_000)), draw.random() < 0.5
        v.send(user, {"type": "usdClassTransfer", "amount": amount, "toPerp": to_perp})
    elif kind < 0.93:
        ntli = draw.randrange(-50_000_000, 200_000_000)
        v.send(user, {"type": "updateIsolatedMargin", "asset": asset, "isBuy": True, "ntli": ntli})
    elif kind < 0.96:
        number = WALLETS.index(user) % len(v.subs)
        move = {"subAccountUser": v.subs[number], "isDeposit": draw.random() < 0.7, "usd": draw.randrange(1, 10**8)}
        v.send(WALLETS[number], {"type": "subAccountTransfer", **move})
    else:
        twap = {"a": asset, "b": buys, "s": str(size), "r": draw.random() < 0.2, "m": 30, "t": draw.random() < 0.5}
        v.send(user, {"type": "twapOrder", "twap": twap})


def assert_nobody_is_under_water(v: Any) -> None:
    """Who has less than maintenance is being liquidated: a part is sold, and the rest waits out its cooldown.

    Liquidations happen at the points of the path, so a cooldown counts that was not over at the last of them.
    """
    last = max(market.last_ms for market in v.state.markets.values())
    for account in v.state.accounts.values():
        cross = cross_margin(account, v.state.markets)
        assert cross.value >= 0 or not any(p.is_cross for p in account.positions.values())
        if cross.value < cross.maintenance:
            assert any(p.cooldown_ms > last for p in account.positions.values() if p.is_cross)
        for coin, position in account.positions.items():
            market = v.state.markets[coin]
            needed = market.listing.maintenance(abs(position.size) * market.mark)
            if not position.is_cross and isolated_margin(position, market.mark) < needed:
                assert position.cooldown_ms > market.last_ms


@cache
def day(seed: int) -> Any:
    """A day that was traded once."""
    return trading(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ledger_balances_to_the_last_printed_digit(seed):
    v = day(seed)
    told, books = v.exchange.dump(), v.state.books
    assert told["books"]["total"] == "0.0"
    accounts = v.state.accounts
    for address, account in accounts.items():
        assert account.cash() == books.balances.get(address, D(0)), "cash is what its entries add up to"
        assert account.spot == books.balances.get(f"spot:{address}", D(0))
        assert_told(v, account, told)
    assert sum(a.cash() + a.spot for a in accounts.values()) == -sum(
        (books.balances.get(place, D(0)) for place in ("world", "market", "fees", "funding", "backstop")), D(0)
    )
    assert told["liquidations"], "a day without a liquidation proves less"
    assert len({f["user"] for f in told["fills"]}) >= 45, "nearly everybody traded"


def assert_told(v: Any, account: Any, told: dict[str, Any]) -> None:
    """Position and money of one account, from nothing but the lines printed about it."""
    address = account.address
    fills = [f for f in told["fills"] if f["user"] == address]
    held: dict[str, Any] = {}
    for f in fills:
        assert D(f["startPosition"]) == held.get(f["coin"], D(0)), "each fill begins where the last one ended"
        held[f["coin"]] = held.get(f["coin"], D(0)) + (D(f["sz"]) if f["side"] == "B" else -D(f["sz"]))
    assert {coin: size for coin, size in held.items() if size} == {c: p.size for c, p in account.positions.items()}
    kinds = v.state.books.by_kind.get(address, {})
    assert sum((D(f["closedPnl"]) for f in fills), D(0)) == kinds.get("pnl", D(0))
    assert -sum((D(f["fee"]) for f in fills), D(0)) == kinds.get("fee", D(0))
    paid = [row for row in told["funding"] if row["user"] == address]
    assert sum((D(row["usdc"]) for row in paid), D(0)) == kinds.get("funding", D(0))
    moved = sum((flow(row, address) for row in told["transfers"] if row["user"] == address), D(0))
    sent = {"deposit", "withdraw", "send", "class transfer", "sub-account transfer"}
    assert moved == sum((amount for kind, amount in kinds.items() if kind in sent), D(0))
    rest = set(kinds) - sent - {"pnl", "fee", "funding", "backstop"}
    assert not rest, "every kind of entry was looked at"


def flow(row: dict[str, Any], address: str) -> Any:
    """What one line of the account's ledger brought to its perpetuals side."""
    delta = row["delta"]
    kind = delta["type"]
    if kind == "liquidation":
        return D(0)
    amount = D(delta["usdc"])
    if kind == "deposit":
        return amount
    if kind == "accountClassTransfer":
        return amount if delta["toPerp"] else -amount
    if delta["user"] == delta["destination"]:
        return D(0)
    return amount if delta["destination"] == address else -amount


def test_the_same_day_again_is_the_same_day():
    assert trading(1).exchange.dump() == day(1).exchange.dump()


def test_the_days_held_every_way_in_which_money_moves():
    told = [day(seed).exchange.dump() for seed in SEEDS]
    assert {row["method"] for each in told for row in each["liquidations"]} == {"market", "backstop"}
    fills = [fill for each in told for fill in each["fills"]]
    assert any(f["dir"] == "Auto-Deleveraging" for f in fills) and any(f["twapId"] for f in fills)
    kinds = {row["delta"]["type"] for each in told for row in each["transfers"]}
    expected = {"deposit", "internalTransfer", "accountClassTransfer", "subAccountTransfer", "liquidation"}
    assert kinds == expected
