"""Money at the paper venue: margin, isolated and cross, funding, liquidation, transfers, and books that balance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paper_bench as bench
from twinleg.paper.accounts import Account, Position, cross_margin, liquidation_price, withdrawable
from twinleg.paper.listings import listings
from twinleg.paper.market import hourly_rate
from twinleg.paper.numbers import text
from twinleg.paper.options import BookShape, Switches

Bench, wire, flat, candle = bench.Bench, bench.wire, bench.flat, bench.candle
ALICE, BOB, CAROL, D = bench.ALICE, bench.BOB, bench.CAROL, bench.D
DEEP = BookShape(level_usd=D(5_000_000))


def venue(candles=None, equity=10_000, book=DEEP, coin="BTC", **switches):
    return Bench({coin: candles or flat(100_000, 90)}, switches=Switches(**switches), equity=D(equity), book=book)


# Margin, against figures of the real venue


def market_at(mark, coin="BTC"):
    market = Bench({coin: flat(mark)}).state.markets[coin]
    assert market.mark == D(mark)
    return market


def test_a_real_cross_account_has_the_recorded_figures():
    market = market_at(83_926)
    account = Account("0x0", balance=D("38252.7") - D("11884.306507"))
    account.positions["BTC"] = Position(D("4.5"), D("377667.0") - D("11884.306507"), True, 10)
    cross = cross_margin(account, {"BTC": market})
    assert cross.value == D("38252.7")
    assert cross.used == D("37766.7")
    assert cross.maintenance == D("4720.8375")
    assert cross.raw == D("-339414.3")
    assert withdrawable(account, {"BTC": market}, cross) == D("486.0")
    liquidation = liquidation_price(account.positions["BTC"], market, cross.value, D(0))
    assert round(liquidation, 2) == D("76380.15")


def test_maintenance_follows_the_tiers_and_is_continuous():
    btc = listings()["BTC"]
    assert btc.maintenance(D(377_667)) == D("4720.8375")
    assert btc.maintenance(D(150_000_000)) == 1_875_000
    assert btc.maintenance(D(149_999_999)) == pytest.approx(D(1_875_000), abs=D("0.1"))
    assert btc.maintenance(D(200_000_000)) == 3_125_000


def test_the_documented_isolated_example_liquidates_where_the_documents_say():
    coin = listings()["ETH"]
    tiers = ((D(0), D(1) / 100, D(0), 50),)
    market = market_at(D("2985.9"), "ETH")
    market.listing = type(coin)(**{f: getattr(coin, f) for f in coin.__slots__} | {"tiers": tiers})
    position = Position(D("0.0335"), D("95.059824"), False, 20)
    position.collateral = D(0)
    price = liquidation_price(position, market, D("4.967826"), D(0))
    assert round(price, 4) == D("2866.2694")


def test_a_long_that_cannot_be_liquidated_shows_no_price_and_a_short_always_does():
    v = venue()
    v.order(ALICE, True, 101_000, "0.01", "Ioc")
    v.order(BOB, False, 99_000, "0.01", "Ioc")
    assert v.position(ALICE)["liquidationPx"] is None
    assert D(v.position(BOB)["liquidationPx"]) > 100_000


def test_opening_pays_the_fee_and_marks_the_position():
    v = venue()
    v.leverage(ALICE, 10)
    price = D(v.order(ALICE, True, 101_000, "0.1", "Ioc")["filled"]["avgPx"])
    state = v.ask("clearinghouseState", ALICE)
    fee = price * D("0.1") * D("0.00045")
    assert D(state["marginSummary"]["accountValue"]) == pytest.approx(
        10_000 - fee - (price - 100_000) / 10, abs=D("0.00001")
    )
    assert state["marginSummary"]["totalMarginUsed"] == "1000.0"
    assert state["crossMaintenanceMarginUsed"] == "125.0"
    assert state["time"] == v.state.now_ms


def test_isolated_margin_is_set_aside_released_and_never_more_than_lost():
    v = venue()
    v.leverage(ALICE, 10, cross=False)
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    account = v.state.accounts[ALICE]
    position = account.positions["BTC"]
    assert position.collateral == position.entry_usd / 10
    v.order(ALICE, False, 99_000, "0.04", "Ioc", reduce_only=True)
    assert position.collateral == pytest.approx(position.entry_usd / 10)
    shown = v.position(ALICE)
    assert shown["leverage"]["type"] == "isolated"
    raw = D(shown["leverage"]["rawUsd"])
    assert D(shown["marginUsed"]) == D(shown["positionValue"]) + raw
    assert v.balanced()


def test_isolated_margin_can_be_added_and_removed_within_limits():
    v = venue()
    move = {"type": "updateIsolatedMargin", "asset": 0, "isBuy": True}
    refused = v.send(ALICE, {**move, "ntli": 1_000_000})
    assert refused["response"] == "Position does not use isolated margin."
    v.leverage(ALICE, 10, cross=False)
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    before = D(v.position(ALICE)["marginUsed"])
    assert v.send(ALICE, {**move, "ntli": 250_000_000})["status"] == "ok"
    assert D(v.position(ALICE)["marginUsed"]) == before + 250
    assert v.send(ALICE, {**move, "ntli": -200_000_000})["status"] == "ok"
    assert v.send(ALICE, {**move, "ntli": -200_000_000})["status"] == "err"
    assert v.send(ALICE, {**move, "ntli": 20_000_000_000})["status"] == "err"
    assert v.balanced()


LEVERAGE_ERRORS = {
    "zero": (0, True, "Invalid leverage value"),
    "above the coin's maximum": (41, True, "Invalid leverage value"),
    "other mode with a position": (10, False, "Cannot switch leverage type with open position."),
}


@pytest.mark.parametrize("name", LEVERAGE_ERRORS)
def test_leverage_is_refused_in_the_real_words(name):
    leverage, cross, text_ = LEVERAGE_ERRORS[name]
    v = venue()
    v.order(ALICE, True, 101_000, "0.01", "Ioc")
    assert v.leverage(ALICE, leverage, cross) == {"status": "err", "response": text_}


def test_lowering_isolated_leverage_needs_the_margin_to_be_there():
    v = venue()
    v.leverage(ALICE, 10, cross=False)
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    answer = v.leverage(ALICE, 2, cross=False)
    assert answer["response"].startswith("Isolated position does not have sufficient margin available to decrease")
    assert v.leverage(ALICE, 20, cross=False)["status"] == "ok"
    assert v.leverage(ALICE, 20, cross=False)["status"] == "ok"


@pytest.mark.parametrize(("follows", "used"), [(True, "500.0"), (False, "1000.0")])
def test_changing_cross_leverage_re_margins_an_open_position_only_by_switch(follows, used):
    v = venue(cross_margin_follows_leverage=follows)
    v.leverage(ALICE, 10)
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    v.leverage(ALICE, 20)
    assert v.ask("clearinghouseState", ALICE)["marginSummary"]["totalMarginUsed"] == used


def test_the_default_is_cross_at_20_and_the_setting_shows_without_a_position():
    v = Bench({"BTC": flat(100_000), "ATOM": flat(10)})
    shown = v.ask("activeAssetData", ALICE, coin="BTC")
    assert shown["leverage"] == {"type": "cross", "value": 20}
    assert shown["maxTradeSzs"] == ["2.0", "2.0"] and shown["availableToTrade"] == ["10000.0", "10000.0"]
    assert v.ask("activeAssetData", ALICE, coin="ATOM")["leverage"]["value"] == 5
    v.leverage(ALICE, 3, cross=False)
    assert v.ask("activeAssetData", ALICE, coin="BTC")["leverage"] == {"type": "isolated", "value": 3}


def test_resting_orders_that_increase_reserve_margin_and_those_against_a_position_do_not():
    v = venue()
    v.leverage(ALICE, 10)
    v.order(ALICE, True, 90_000, "0.5")
    assert v.ask("clearinghouseState", ALICE)["withdrawable"] == "5500.0"
    text_ = "Insufficient margin to place order. asset=0"
    assert v.order(ALICE, True, 90_000, "0.7") == {"error": text_}
    v = venue()
    v.leverage(ALICE, 10)
    v.order(ALICE, True, 101_000, "0.5", "Ioc")
    free = v.ask("clearinghouseState", ALICE)["withdrawable"]
    v.order(ALICE, False, 110_000, "0.5")
    assert v.ask("clearinghouseState", ALICE)["withdrawable"] == free


def test_a_resting_order_its_account_cannot_carry_any_more_is_margin_cancelled():
    candles = [candle(0, 100_000), candle(1, 100_000, 100_000, 93_000, 93_000), *flat(93_000, 5, 2)]
    v = venue(candles)
    v.leverage(ALICE, 10)
    v.order(ALICE, True, 101_000, "0.9", "Ioc")
    oid = v.order(ALICE, True, 94_000, "0.01")["resting"]["oid"]
    v.minutes(3)
    assert v.status(ALICE, oid) == "marginCanceled"


# Funding


def test_the_rate_formula_gives_the_recorded_value():
    assert hourly_rate(D("-0.0001348801")) == D("0.0000125")
    assert hourly_rate(D(0)) == D("0.0000125")
    assert hourly_rate(D("0.01")) == (D("0.01") - D("0.0005")) / 8
    assert hourly_rate(D(10)) == D("0.04")


def test_longs_pay_shorts_each_hour_on_the_oracle_price():
    v = venue()
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    v.order(BOB, False, 99_000, "0.1", "Ioc")
    v.minutes(40)
    (paid,), (received,) = v.ask("userFunding", ALICE, startTime=0), v.ask("userFunding", BOB, startTime=0)
    assert paid["delta"] == {
        "type": "funding",
        "coin": "BTC",
        "usdc": "-0.125",
        "szi": "0.1",
        "fundingRate": "0.0000125",
        "nSamples": None,
    }
    assert received["delta"]["usdc"] == "0.125"
    assert paid["time"] % 3_600_000 == 15
    assert v.position(ALICE)["cumFunding"] == {"allTime": "0.125", "sinceOpen": "0.125", "sinceChange": "0.125"}
    (rate,) = v.ask("fundingHistory", coin="BTC", startTime=0)
    assert (rate["fundingRate"], rate["premium"]) == ("0.0000125", "0.0")
    assert v.balanced()


def test_an_isolated_position_pays_from_its_own_margin():
    v = venue()
    v.leverage(ALICE, 5, cross=False)
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    account = v.state.accounts[ALICE]
    balance, collateral = account.balance, account.positions["BTC"].collateral
    v.minutes(40)
    assert account.balance == balance
    assert account.positions["BTC"].collateral == collateral - D("0.125")
    assert v.balanced()


def test_recorded_rates_are_used_where_given():
    hour = bench.START_MS + 30 * bench.MINUTE
    v = Bench({"BTC": flat(100_000, 90)}, book=DEEP, funding_rates={"BTC": [(hour + 12, D("-0.0001"))]})
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    v.minutes(40)
    assert v.ask("userFunding", ALICE, startTime=0)[0]["delta"]["usdc"] == "1.0"


# Liquidation


def crash(to, count=20):
    return [candle(0, 100_000), candle(1, 100_000, 100_000, to, to), *flat(to, count, 2)]


def test_an_account_below_maintenance_is_sold_at_market():
    v = venue(crash(89_900))
    v.leverage(ALICE, 10)
    v.exchange.deposit(BOB, D(1))
    v.order(ALICE, True, 101_000, "0.9", "Ioc")
    resting = v.order(ALICE, True, 80_000, "0.001")["resting"]["oid"]
    v.minutes(4)
    liquidations = [f for f in v.ask("userFills", ALICE) if "liquidation" in f]
    assert liquidations and v.position(ALICE) is None
    assert liquidations[-1]["liquidation"]["liquidatedUser"] == ALICE
    assert {f["liquidation"]["method"] for f in liquidations} <= {"market", "backstop"}
    assert v.status(ALICE, resting) == "liquidatedCanceled"
    assert v.balanced()
    assert v.exchange.dump()["liquidations"][0]["user"] == ALICE


def test_a_small_position_goes_at_once_and_a_large_one_a_fifth_first():
    for size, first in (("0.5", D("0.5")), ("4", D("0.8"))):
        v = venue(crash(98_000), equity=int(D(size) * 100_000 / 40 * D("1.05")), liquidation_step_usd=D(100_000))
        v.leverage(ALICE, 40)
        assert "filled" in v.order(ALICE, True, 101_000, size, "Ioc")
        while not v.state.liquidations:
            v.exchange.advance(v.state.now_ms + 1000)
        assert D(v.state.liquidations[0]["size"]) == first


def test_the_rest_of_a_large_position_waits_out_the_cooldown():
    candles = [candle(0, 100_000), candle(1, 100_000, 100_000, 98_450, 98_450), *flat(98_450, 20, 2)]
    v = venue(candles, equity=10_300)
    v.leverage(ALICE, 40)
    v.order(ALICE, True, 101_000, "4", "Ioc")
    v.minutes(10)
    times = [row["time"] for row in v.state.liquidations if row["method"] == "market"]
    assert len(times) >= 2 and times[1] - times[0] >= 30_000


def test_below_two_thirds_the_backstop_takes_position_and_margin():
    candles = [candle(0, 100_000), candle(1, 90_000), *flat(90_000, 3, 2)]
    v = venue(candles, equity=10_100)
    v.leverage(ALICE, 10)
    v.order(ALICE, True, 101_000, "0.99", "Ioc")
    v.state.switches = Switches(liquidation_step_usd=D(1))
    v.minutes(2)
    assert "backstop" in [row["method"] for row in v.state.liquidations]
    account = v.state.accounts[ALICE]
    assert account.balance == 0 and not account.positions
    assert v.state.books.balances["backstop"] != 0
    assert v.balanced()


def test_an_isolated_liquidation_leaves_the_rest_of_the_account_alone():
    v = venue(crash(85_000))
    v.leverage(ALICE, 10, cross=False)
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    balance = v.state.accounts[ALICE].balance
    v.minutes(4)
    assert v.position(ALICE) is None
    assert v.state.accounts[ALICE].balance >= balance
    assert v.balanced()


def test_liquidation_can_be_switched_off():
    v = venue(crash(85_000), liquidations_enabled=False)
    v.leverage(ALICE, 10)
    v.order(ALICE, True, 101_000, "0.9", "Ioc")
    v.minutes(4)
    assert v.position(ALICE)["szi"] == "0.9"


# Transfers, sub-accounts, agents


def test_money_moves_between_addresses_and_classes():
    v = venue()
    assert (
        v.send(ALICE, {"type": "usdSend", "destination": BOB.upper().replace("0X", "0x"), "amount": "100"})["status"]
        == "ok"
    )
    assert v.send(ALICE, {"type": "usdSend", "destination": BOB, "amount": "9900.01"})["status"] == "err"
    assert v.send(ALICE, {"type": "usdClassTransfer", "amount": "50", "toPerp": False})["status"] == "ok"
    assert v.ask("spotClearinghouseState", ALICE)["balances"][0]["total"] == "50.0"
    assert v.send(ALICE, {"type": "usdClassTransfer", "amount": "51", "toPerp": True})["status"] == "err"
    assert v.send(ALICE, {"type": "usdClassTransfer", "amount": "9" * 60, "toPerp": True})["status"] == "err"
    assert v.send(ALICE, {"type": "withdraw3", "destination": ALICE, "amount": "10"})["status"] == "ok"
    deltas = [row["delta"]["type"] for row in v.ask("userNonFundingLedgerUpdates", ALICE, startTime=0)]
    assert deltas == ["deposit", "internalTransfer", "accountClassTransfer", "withdraw"]
    assert v.ask("clearinghouseState", ALICE)["withdrawable"] == "9840.0"
    assert v.balanced()


def test_sub_accounts_need_volume_unless_the_gate_is_off():
    create = {"type": "createSubAccount", "name": "hedge"}
    text_ = "Cannot create sub-accounts until enough volume traded. Required: $100000. Traded: $0."
    assert venue().send(ALICE, create) == {"status": "err", "response": text_}
    v = venue(volume_gates=False)
    sub = v.send(ALICE, create)["response"]["data"]
    transfer = {"type": "subAccountTransfer", "subAccountUser": sub, "isDeposit": True, "usd": 2_000_000_000}
    assert v.send(ALICE, transfer)["status"] == "ok"
    assert v.send(BOB, transfer)["response"] == f"Invalid sub-account transfer from {BOB} to {sub}"
    order = {"type": "order", "orders": [wire(True, 101_000, "0.01", "Ioc")], "grouping": "na"}
    assert v.send(ALICE, order, vaultAddress=sub)["status"] == "ok"
    assert v.send(BOB, order, vaultAddress=sub)["response"] == f"Vault not registered: {sub}"
    assert v.position(sub)["szi"] == "0.01" and v.position(ALICE) is None
    (listed,) = v.ask("subAccounts", ALICE)
    assert (listed["name"], listed["subAccountUser"], listed["master"]) == ("hedge", sub, ALICE)
    assert v.ask("userRole", sub) == {"role": "subAccount", "data": {"master": ALICE}}
    assert v.ask("subAccounts", BOB) is None
    assert v.balanced()


def test_the_dead_man_switch_is_gated_and_cancels_everything_when_due():
    schedule = {"type": "scheduleCancel", "time": bench.START_MS + 60_000}
    text_ = "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0."
    assert venue().send(ALICE, schedule) == {"status": "err", "response": text_}
    v = venue(volume_gates=False)
    oid = v.order(ALICE, True, 90_000, "0.01")["resting"]["oid"]
    assert v.send(ALICE, {**schedule, "time": v.state.now_ms + 1000})["status"] == "err"
    assert v.send(ALICE, schedule)["status"] == "ok"
    v.exchange.advance(schedule["time"] - 1)
    assert v.status(ALICE, oid) == "open"
    v.exchange.advance(schedule["time"])
    assert v.status(ALICE, oid) == "scheduledCancel"
    kept = v.order(ALICE, True, 90_000, "0.01")["resting"]["oid"]
    v.send(ALICE, {"type": "scheduleCancel", "time": v.state.now_ms + 10_000})
    v.send(ALICE, {"type": "scheduleCancel"})
    v.minutes(1)
    assert v.status(ALICE, kept) == "open"


AGENT = "0x" + "99" * 20


def approve(v, address=AGENT, name="bot", user=ALICE):
    return v.send(user, {"type": "approveAgent", "agentAddress": address, "agentName": name})


def test_an_agent_trades_for_its_master_until_replaced():
    v = venue()
    assert approve(v)["status"] == "ok"
    v.order(AGENT, True, 101_000, "0.01", "Ioc")
    assert v.position(ALICE)["szi"] == "0.01"
    assert v.ask("clearinghouseState", AGENT)["marginSummary"]["accountValue"] == "0.0"
    assert v.ask("userRole", AGENT) == {"role": "agent", "data": {"user": ALICE}}
    assert [a["name"] for a in v.ask("extraAgents", ALICE)] == ["bot"]
    other = "0x" + "98" * 20
    approve(v, other)
    gone = f"User or API Wallet {AGENT} does not exist."
    assert v.send(AGENT, {"type": "noop"}) == {"status": "err", "response": gone}
    assert v.send(other, {"type": "noop"})["status"] == "ok"
    approve(v, "0x" + "00" * 20)
    assert v.send(other, {"type": "noop"})["status"] == "err"
    assert approve(v, AGENT)["response"] == "User has pending agent removal"
    v.minutes(0.1)
    assert approve(v, AGENT)["response"] == "Extra agent already used."


def test_agents_cannot_move_money_or_approve_agents():
    v = venue()
    approve(v)
    for action in (
        {"type": "usdSend", "destination": BOB, "amount": "1"},
        {"type": "approveAgent", "agentAddress": "0x" + "97" * 20, "agentName": "x"},
    ):
        answer = v.send(AGENT, action)
        assert answer["response"] == f"Must deposit before performing actions. User: {AGENT}"


AGENT_ERRORS = {
    "name too long": ("x" * 17, "Extra agent name must be between 1 and 16 characters long"),
    "already over": ("bot valid_until 1000", "Agent valid_until already expired."),
}


@pytest.mark.parametrize("name", AGENT_ERRORS)
def test_an_agent_is_refused_in_the_real_words(name):
    given_name, text_ = AGENT_ERRORS[name]
    assert approve(venue(), name=given_name) == {"status": "err", "response": text_}


def test_three_named_agents_at_most_and_the_unnamed_one_beside_them():
    v = venue()
    for n in range(3):
        assert approve(v, f"0x{n + 1:040x}", f"bot{n}")["status"] == "ok"
    text_ = "Too many extra agents for cumulative volume traded. Current limit is 3"
    assert approve(v, f"0x{9:040x}", "bot9")["response"] == text_
    assert approve(v, f"0x{9:040x}", "")["status"] == "ok"
    assert len(v.ask("extraAgents", ALICE)) == 3, "the unnamed agent is not listed"


def test_an_agent_ends_at_its_valid_until():
    v = venue()
    approve(v, name=f"bot valid_until {v.state.now_ms + 60_000}")
    v.minutes(1)
    assert v.send(AGENT, {"type": "noop"})["status"] == "ok"
    v.exchange.advance(v.state.now_ms + 1)
    assert v.send(AGENT, {"type": "noop"})["status"] == "err"
    v.exchange.set_switches({"agent_expiry_lateness_ms": 60_000})
    assert v.send(AGENT, {"type": "noop"})["status"] == "ok"


def test_a_unified_account_shows_its_money_on_the_spot_side():
    v = venue()
    assert v.ask("userAbstraction", ALICE) == "disabled"
    v.send(ALICE, {"type": "userSetAbstraction", "user": ALICE, "abstraction": "unifiedAccount"})
    assert v.ask("userAbstraction", ALICE) == "unifiedAccount"
    assert v.ask("clearinghouseState", ALICE)["marginSummary"]["accountValue"] == "0.0"
    assert v.ask("spotClearinghouseState", ALICE)["balances"][0]["total"] == "10000.0"
    answer = v.send(ALICE, {"type": "usdClassTransfer", "amount": "1", "toPerp": False})
    assert answer["response"] == "Action disabled when unified account is active"


def test_a_builder_fee_must_be_approved_and_is_charged_on_top():
    v = venue()
    builder = "0x" + "77" * 20
    order = {"type": "order", "orders": [wire(True, 101_000, "0.01", "Ioc")], "grouping": "na"}
    order["builder"] = {"b": builder, "f": 10}
    assert v.send(ALICE, order)["response"] == "Builder fee has not been approved."
    v.send(ALICE, {"type": "approveBuilderFee", "maxFeeRate": "0.01%", "builder": builder})
    assert v.ask("maxBuilderFee", ALICE, builder=builder) == 10
    v.send(ALICE, order)
    fill = v.ask("userFills", ALICE)[0]
    assert D(fill["builderFee"]) == pytest.approx(D(fill["px"]) * D("0.01") * D("0.0001"), abs=D("0.000001"))


# The books


def test_numbers_are_written_as_the_venue_writes_them():
    shown = {"0": "0.0", "100": "100.0", "1E+5": "100000.0", "0.0100": "0.01", "-3.50": "-3.5", "1E-7": "0.0000001"}
    assert {raw: text(D(raw)) for raw in shown} == shown


moves = st.lists(
    st.tuples(
        st.sampled_from(["order", "order", "order", "stop", "send", "margin", "time", "leverage"]),
        st.sampled_from([ALICE, BOB, CAROL]),
        st.booleans(),
        st.integers(1, 400),
        st.sampled_from(["Gtc", "Ioc", "Alo"]),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(moves=moves, seed=st.integers(0, 5))
def test_whatever_is_done_no_money_appears_or_vanishes(moves, seed):
    prices = [100_000, 99_000, 101_500, 93_000, 97_000, 110_000, 104_000, 88_000, 95_000, 99_500]
    candles = [
        candle(i, a, max(a, b), min(a, b), b)
        for i, (a, b) in enumerate(zip(prices, [*prices[1:], 99_000], strict=True))
    ]
    v = Bench({"BTC": candles}, equity=D(5_000), seed=seed, switches=Switches(liquidation_step_usd=D(20_000)))
    for kind, user, flag, number, tif, reduce_only in moves:
        mark = v.state.markets["BTC"].mark
        price = (mark * (1 + D(number - 200) / 20_000)).quantize(D(1))
        size = D(number) / 2000
        if kind == "order":
            v.orders(user, wire(flag, price, size, tif, reduce_only=reduce_only))
        elif kind == "stop":
            v.orders(user, wire(flag, price, size, stop=price))
        elif kind == "send":
            v.send(user, {"type": "usdSend", "destination": CAROL, "amount": str(number)})
        elif kind == "margin":
            v.send(user, {"type": "updateIsolatedMargin", "asset": 0, "isBuy": True, "ntli": (number - 200) * 10**6})
        elif kind == "leverage":
            v.leverage(user, number % 40 + 1, flag)
        else:
            v.minutes(number / 200)
        assert v.balanced()
    v.minutes(12)
    assert v.balanced()
    sizes = sum((p.size for a in v.state.accounts.values() for p in a.positions.values() if p.size > 0), D(0))
    assert v.state.markets["BTC"].open_size == sizes
    for account in v.state.accounts.values():
        assert_cash_explained(v, account)


def assert_cash_explained(v, account):
    """Cash is what the account's own statements add up to."""
    fills = sum((D(f["closedPnl"]) - D(f["fee"]) for f in account.fills), D(0))
    funding = sum((D(f["delta"]["usdc"]) for f in account.fundings), D(0))
    moved = v.state.books.by_kind.get(account.address, {}).get("backstop", D(0))
    for row in account.transfers:
        delta = row["delta"]
        if delta["type"] == "liquidation":
            continue
        amount = D(delta["usdc"])
        if delta["type"] == "internalTransfer":
            if delta["user"] == delta["destination"]:
                continue
            amount = amount if delta["destination"] == account.address else -amount
        moved += amount
    assert account.cash() == pytest.approx(fills + funding + moved, abs=D("0.00001"))


def test_an_isolated_position_far_under_water_goes_to_the_backstop_with_its_margin_only():
    candles = [candle(0, 100_000), candle(1, 90_500), *flat(90_500, 3, 2)]
    v = venue(candles, liquidation_step_usd=D(1))
    v.leverage(ALICE, 10, cross=False)
    v.order(ALICE, True, 101_000, "0.5", "Ioc")
    balance, collateral = v.state.accounts[ALICE].balance, v.state.accounts[ALICE].positions["BTC"].collateral
    v.minutes(2)
    fill = v.ask("userFills", ALICE)[0]
    assert (fill["liquidation"]["method"], fill["fee"]) == ("backstop", "0.0")
    account = v.state.accounts[ALICE]
    assert not account.positions and balance - 100 < account.balance < balance + collateral
    deltas = [row["delta"] for row in account.transfers]
    assert (deltas[-1]["type"], deltas[-1]["leverageType"]) == ("liquidation", "Isolated")
    assert [row["coin"] for row in deltas[-1]["liquidatedPositions"]] == ["BTC"]
    assert v.balanced()


def test_a_gap_beyond_bankruptcy_is_made_up_by_the_backstop_not_by_the_owner():
    for cross in (True, False):
        candles = [candle(0, 100_000), candle(1, 50_000), *flat(50_000, 3, 2)]
        v = venue(candles, equity=2_600)
        v.leverage(ALICE, 10, cross)
        v.order(ALICE, True, 101_000, "0.25", "Ioc")
        before = v.state.accounts[ALICE].balance
        v.minutes(3)
        account = v.state.accounts[ALICE]
        assert not account.positions
        assert account.balance == 0 if cross else account.balance == before
        assert v.balanced() and D(v.exchange.dump()["books"]["balances"]["backstop"]) < 0


def test_lowering_cross_leverage_needs_free_margin():
    v = venue()
    v.leverage(ALICE, 20)
    v.order(ALICE, True, 101_000, "1", "Ioc")
    assert v.leverage(ALICE, 5) == {"status": "err", "response": "Insufficient margin to decrease leverage."}
    assert v.leverage(ALICE, 12)["status"] == "ok"


def test_a_stop_entry_without_margin_is_refused_when_it_fires():
    candles = [candle(0, 100_000), candle(1, 100_000, 101_500, 99_990, 101_400), *flat(101_400, 4, 2)]
    v = venue(candles)
    v.leverage(ALICE, 10)
    entry = wire(True, 110_000, "0.5", stop=101_000) | {"r": False}
    oid = v.orders(ALICE, entry)[0]["resting"]["oid"]
    assert v.ask("clearinghouseState", ALICE)["withdrawable"] == "10000.0", "triggers reserve nothing"
    v.order(ALICE, True, 100_100, "0.9", "Ioc")
    v.minutes(3)
    assert v.status(ALICE, oid) == "perpMarginRejected"


def test_funding_rounding_is_a_switch():
    paid = {}
    for rounding in ("half_even", "down"):
        v = venue(flat(100_001, 90), funding_rounding=rounding)
        v.order(ALICE, True, 101_000, "0.00077", "Ioc")
        v.minutes(40)
        paid[rounding] = v.ask("userFunding", ALICE, startTime=0)[0]["delta"]["usdc"]
    assert paid == {"half_even": "-0.000963", "down": "-0.000962"}


def test_volume_fees_and_portfolio_are_told():
    v = venue()
    v.order(ALICE, True, 101_000, "0.1", "Ioc")
    v.order(ALICE, False, 110_000, "0.1")
    (day,) = v.ask("userFees", ALICE)["dailyUserVlm"]
    assert (day["date"], day["userAdd"]) == ("2025-05-01", "0.0") and D(day["userCross"]) > 10_000
    spans = dict(v.ask("portfolio", ALICE))
    assert D(spans["allTime"]["pnlHistory"][0][1]) < 0 and D(spans["day"]["vlm"]) > 10_000
    assert v.ask("userRateLimit", ALICE)["nRequestsCap"] >= 20_000


def test_shorts_mirror_longs():
    v = venue([candle(0, 100_000), candle(1, 100_000, 103_000, 100_000, 102_900), *flat(102_900, 40, 2)])
    v.leverage(ALICE, 10)
    price = D(v.order(ALICE, False, 99_000, "0.1", "Ioc")["filled"]["avgPx"])
    v.orders(ALICE, wire(True, 113_000, "0.1", stop=102_000), wire(True, 98_000, "0.1", target=97_000))
    v.minutes(3)
    closing = v.ask("userFills", ALICE)[0]
    assert closing["dir"] == "Close Short" and 102_000 < D(closing["px"]) < 102_600
    assert D(closing["closedPnl"]) == (price - D(closing["px"])) / 10
    assert v.ask("frontendOpenOrders", ALICE) == []
