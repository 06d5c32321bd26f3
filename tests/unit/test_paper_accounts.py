"""What accounts of the paper venue can do beside trading: TWAP orders, transfers, agents, fee tiers, deleveraging."""

from __future__ import annotations

import random
from typing import Any

import pytest

import paper_bench as bench
from twinleg.paper import twaps
from twinleg.paper.fees import VIP_TIERS, rates
from twinleg.paper.options import BookShape, Switches
from twinleg.paper.tape import recent_trades, trades_between

Bench, wire, flat, candle = bench.Bench, bench.wire, bench.flat, bench.candle
ALICE, BOB, CAROL, D, START_MS, MINUTE = bench.ALICE, bench.BOB, bench.CAROL, bench.D, bench.START_MS, bench.MINUTE
AGENT = "0x" + "a9" * 20
DEEP = BookShape(level_usd=D(400_000))
DAY = 24 * 60


def venue(candles=None, equity=10_000, book=DEEP, **switches):
    candles = candles or flat(100_000, 90)
    return Bench({"BTC": candles}, switches=Switches(**switches), equity=D(equity), book=book)


# TWAP orders


def twap(v: Any, size: str, minutes: int = 5, buys: bool = True, **more: bool) -> int:
    wanted = {"a": 0, "b": buys, "s": size, "r": more.get("r", False), "m": minutes, "t": more.get("t", False)}
    answer = v.send(ALICE, {"type": "twapOrder", "twap": wanted})
    return answer["response"]["data"]["status"]["running"]["twapId"]


def ended(v: Any) -> dict[str, Any]:
    return v.ask("twapHistory", ALICE)[0]["status"]


def test_a_twap_order_trades_equal_parts_every_thirty_seconds():
    v = venue()
    ident = twap(v, "0.11")
    v.minutes(5)
    fills = v.ask("userTwapSliceFills", ALICE)[::-1]
    assert [row["fill"]["time"] - START_MS for row in fills] == [30_000 * n for n in range(11)]
    assert {row["fill"]["sz"] for row in fills} == {"0.01"} and {row["twapId"] for row in fills} == {ident}
    assert ended(v) == {"status": "finished"}
    assert v.position(ALICE)["szi"] == "0.11"
    first, last = v.ask("twapHistory", ALICE)[::-1]
    assert (first["status"], first["state"]["executedSz"]) == ({"status": "activated"}, "0.0")
    assert last["state"]["executedSz"] == "0.11" and last["time"] == (START_MS + 300_000) // 1000
    assert v.ask("historicalOrders", ALICE)[0]["order"]["orderType"] == "Twap Slice"
    between = v.ask("userTwapSliceFillsByTime", ALICE, startTime=START_MS + 1, endTime=START_MS + 60_000)
    assert len(between) == 2
    assert v.balanced()


def test_random_parts_differ_and_add_up():
    v = venue()
    twap(v, "0.11", t=True)
    v.minutes(5)
    sizes = [row["fill"]["sz"] for row in v.ask("userTwapSliceFills", ALICE)]
    assert len(set(sizes)) > 5 and sum(map(D, sizes)) == D("0.11")


def test_what_a_thin_book_does_not_give_is_caught_up_three_parts_at_a_time():
    v = venue(book=BookShape(level_usd=D(100), levels=1, refill=D(1)))
    twap(v, "0.11")
    v.minutes(2)
    sizes = [D(row["fill"]["sz"]) for row in v.ask("userTwapSliceFills", ALICE)]
    assert max(sizes) < D("0.01"), "each part takes what there is"
    wanted = [D(order["order"]["origSz"]) for order in v.ask("historicalOrders", ALICE)]
    assert max(wanted) == D("0.03"), "no part asks for more than three"
    v.minutes(3)
    assert ended(v) == {"status": "finished"} and D(v.position(ALICE)["szi"]) < D("0.11")


def test_a_twap_order_ends_when_margin_does():
    v = venue(equity=100)
    twap(v, "0.4")
    assert ended(v) == {"status": "error", "description": "Insufficient margin to place order."}
    assert v.state.twaps == {}


def test_a_twap_order_can_be_cancelled_once():
    v = venue()
    ident = twap(v, "0.11")
    v.minutes(1.2)
    cancel = {"type": "twapCancel", "a": 0, "t": ident}
    assert v.send(ALICE, cancel)["response"]["data"] == {"status": "success"}
    assert v.send(ALICE, cancel)["response"]["data"] == {"status": {"error": twaps.NEVER_PLACED}}
    v.minutes(4)
    assert v.position(ALICE)["szi"] == "0.03" and ended(v) == {"status": "terminated"}


def test_a_reduce_only_twap_order_ends_with_the_position():
    v = venue()
    v.order(ALICE, True, 101_000, "0.02", "Ioc")
    twap(v, "0.11", buys=False, r=True)
    v.minutes(3)
    assert v.position(ALICE) is None and ended(v) == {"status": "terminated"}


def test_a_twap_order_goes_on_across_a_restart_of_the_clock_in_one_step_or_many():
    def walked(step: float) -> Any:
        v = venue([candle(n, 100_000, 100_300, 99_800, 100_100) for n in range(90)])
        twap(v, "0.11", t=True)
        for _ in range(round(6 / step)):
            v.minutes(step)
        return v.exchange.dump()

    assert walked(6) == walked(0.25)


def test_twap_orders_pause_after_an_upgrade_and_end_with_a_liquidation():
    v = venue()
    twap(v, "0.11")
    v.exchange.set_switches({"post_only_mode": True})
    v.minutes(2)
    assert v.position(ALICE)["szi"] == "0.01"
    v.exchange.set_switches({"post_only_mode": False})
    v.minutes(1)
    assert v.position(ALICE)["szi"] == "0.07", "two parts, each three times as large"
    crash = venue([*flat(100_000, 3), *flat(80_000, 80, 3)])
    crash.leverage(ALICE, 40)
    crash.order(ALICE, True, 101_000, "2", "Ioc")
    twap(crash, "0.05", buys=False)
    crash.minutes(4)
    assert ended(crash) == {"status": "terminated"} and crash.position(ALICE) is None


# Transfers


def with_sub_account(**switches: Any) -> tuple[Any, str]:
    v = venue(volume_gates=False, **switches)
    return v, v.send(ALICE, {"type": "createSubAccount", "name": "hedge"})["response"]["data"]


def send(v: Any, user: str = ALICE, kind: str = "sendAsset", **fields: Any) -> Any:
    sent = {"destination": ALICE, "sourceDex": "", "destinationDex": "", "token": "USDC", "fromSubAccount": ""}
    return v.send(user, {"type": kind, **sent, "amount": "100", **fields})


def perp(v: Any, user: str) -> str:
    return v.ask("clearinghouseState", user)["withdrawable"]


def spot(v: Any, user: str) -> str:
    return (v.ask("spotClearinghouseState", user)["balances"] or [{"total": "0.0"}])[0]["total"]


def test_money_moves_between_sides_sub_accounts_and_addresses_in_one_action():
    v, sub = with_sub_account()
    assert send(v, destinationDex="spot")["status"] == "ok"
    assert (perp(v, ALICE), spot(v, ALICE)) == ("9900.0", "100.0")
    assert send(v, sourceDex="spot", destination=sub, destinationDex="")["status"] == "ok"
    assert (perp(v, sub), spot(v, ALICE)) == ("100.0", "0.0")
    assert send(v, fromSubAccount=sub, destination=BOB, amount="40.5")["status"] == "ok"
    assert (perp(v, sub), perp(v, BOB)) == ("59.5", "10040.5")
    assert send(v, fromSubAccount=BOB, destination=ALICE)["status"] == "err", "of one's own sub-accounts only"
    spots = {"type": "subAccountSpotTransfer", "subAccountUser": sub, "token": "USDC:0x" + "6d" * 16}
    send(v, destinationDex="spot")
    assert v.send(ALICE, {**spots, "isDeposit": True, "amount": "30"})["status"] == "ok"
    assert v.send(ALICE, {**spots, "isDeposit": False, "amount": "12"})["status"] == "ok"
    assert (spot(v, ALICE), spot(v, sub)) == ("82.0", "18.0")
    assert v.balanced() and v.state.books.total() == 0


def test_a_sub_account_shares_its_masters_builders():
    v, sub = with_sub_account()
    send(v, destination=sub, amount="1000")
    order = {"type": "order", "orders": [wire(True, 101_000, "0.01", "Ioc")], "grouping": "na"}
    built = {**order, "builder": {"b": CAROL, "f": 10}}
    assert v.send(ALICE, built, vaultAddress=sub)["response"] == "Builder fee has not been approved."
    v.send(ALICE, {"type": "approveBuilderFee", "builder": CAROL, "maxFeeRate": "0.01%"})
    assert v.send(ALICE, built, vaultAddress=sub)["status"] == "ok"
    fill = v.ask("userFills", sub)[0]
    assert D(fill["builderFee"]) == (D(fill["px"]) * D("0.01") / 10_000).quantize(D("0.000001"), "ROUND_DOWN")
    assert v.ask("approvedBuilders", ALICE) == [CAROL]


def test_an_agent_moves_money_within_its_master_only():
    v, sub = with_sub_account()
    v.send(ALICE, {"type": "approveAgent", "agentAddress": AGENT, "agentName": "bot"})
    assert send(v, AGENT, "agentSendAsset", destinationDex="spot")["status"] == "ok"
    assert send(v, AGENT, "agentSendAsset", sourceDex="spot", destination=sub)["status"] == "ok"
    assert send(v, AGENT, "agentSendAsset", fromSubAccount=sub, amount="60")["status"] == "ok"
    assert (perp(v, ALICE), perp(v, sub)) == ("9960.0", "40.0")


def test_a_unified_account_has_one_pool():
    v = venue()
    send(v, destinationDex="spot")
    for user, mode in ((AGENT, {"type": "agentSetAbstraction", "abstraction": "u"}), (ALICE, {})):
        if mode:
            v.send(ALICE, {"type": "approveAgent", "agentAddress": AGENT, "agentName": "bot"})
            assert v.send(user, mode)["status"] == "ok"
    assert v.ask("userAbstraction", ALICE) == "unifiedAccount"
    assert (spot(v, ALICE), perp(v, ALICE)) == ("10000.0", "0.0")
    assert v.send(ALICE, {"type": "spotSend", "destination": BOB, "token": "USDC", "amount": "9000"})["status"] == "ok"
    assert (spot(v, ALICE), spot(v, BOB)) == ("1000.0", "9000.0")
    assert send(v, BOB, sourceDex="spot", destination=ALICE, destinationDex="spot")["status"] == "ok"
    assert spot(v, ALICE) == "1100.0"
    assert v.balanced() and v.state.books.total() == 0


def test_a_spot_transfer_to_an_address_that_never_was_costs_its_activation():
    v = Bench({"BTC": flat(100)}, open_accounts=False)
    v.exchange.deposit(ALICE, D(100))
    send(v, destinationDex="spot", amount="50")
    check = {"fee": "1.0", "isSanctioned": False, "userExists": False, "userHasSentTx": False}
    assert v.ask("preTransferCheck", CAROL, source=ALICE) == check
    v.send(ALICE, {"type": "spotSend", "destination": CAROL, "token": "USDC", "amount": "10"})
    assert (spot(v, ALICE), spot(v, CAROL)) == ("39.0", "10.0")
    assert v.ask("preTransferCheck", CAROL, source=ALICE)["fee"] == "0.0"
    line = v.ask("userNonFundingLedgerUpdates", CAROL, startTime=0)[-1]["delta"]
    assert (line["type"], line["amount"], line["fee"]) == ("spotTransfer", "10.0", "1.0")


def test_a_master_may_have_ten_sub_accounts_and_more_with_volume():
    v, _ = with_sub_account()
    create = {"type": "createSubAccount", "name": "x"}
    for _ in range(9):
        assert v.send(ALICE, create)["status"] == "ok"
    assert v.send(ALICE, create)["response"] == "Too many sub-accounts"
    v.state.accounts[ALICE].volume = D(100_000_000)
    assert v.send(ALICE, create)["status"] == "ok"
    limit = "Too many extra agents for cumulative volume traded. Current limit is 25"
    for n in range(26):
        action = {"type": "approveAgent", "agentAddress": f"0x{n + 1:040x}", "agentName": f"bot{n}"}
        answer = v.send(ALICE, action)
    assert answer["response"] == limit, "two more for each sub-account"


# Agents


def approve(v: Any, address: str = AGENT, name: str = "bot") -> Any:
    return v.send(ALICE, {"type": "approveAgent", "agentAddress": address, "agentName": name})


def test_a_pruned_agents_address_comes_back_without_its_nonces_by_switch():
    v = venue(agent_address_reuse="prune")
    approve(v)
    v.send(AGENT, {"type": "noop"}, nonce=START_MS + 500)
    approve(v, CAROL)
    assert approve(v)["status"] == "ok"
    answer = v.send(AGENT, {"type": "noop"}, nonce=START_MS + 500)
    assert answer["status"] == "ok", "the danger that documents warn of: an old signed action runs again"


def test_an_expired_agent_is_pruned_and_frees_its_place():
    v = venue()
    for n in range(3):
        approve(v, f"0x{n + 1:040x}", f"bot{n} valid_until {START_MS + 60_000}")
    assert approve(v)["status"] == "err"
    v.minutes(2)
    assert len(v.ask("extraAgents", ALICE)) == 3, "listed as long as nobody looks"
    assert approve(v)["status"] == "ok"
    assert [row["name"] for row in v.ask("extraAgents", ALICE)] == ["bot"]
    assert v.send(f"0x{1:040x}", {"type": "noop"})["status"] == "err"


# Fees, margin modes, deleveraging


def test_fee_tiers_follow_the_fourteen_days_before_today():
    bars = [candle(60 * n, 100_000) for n in range(24 * 17)]
    v = venue(bars, equity=10**9, volume_gates=False)
    v.exchange.set_switches({"fee_tiers": True})
    sub = v.send(ALICE, {"type": "createSubAccount", "name": "s"})["response"]["data"]
    v.state.accounts[ALICE].daily[START_MS // (DAY * MINUTE)] = (D(20_000_000), D(4_000_000))
    v.state.accounts[sub].daily[START_MS // (DAY * MINUTE)] = (D(0), D(2_000_000))
    base = (D("0.00045"), D("0.00015"))
    assert rates(v.state, v.state.accounts[ALICE]) == base, "today does not count yet"
    v.minutes(DAY)
    for address in (ALICE, sub):
        assert rates(v.state, v.state.accounts[address]) == (D("0.00035"), D("0.00008"))
    told = v.ask("userFees", ALICE)
    assert (told["userCrossRate"], told["userAddRate"], told["feeSchedule"]["cross"]) == (
        "0.00035",
        "0.00008",
        "0.00045",
    )
    fill = v.order(ALICE, True, 101_000, "0.1", "Ioc")["filled"]
    price = D(fill["avgPx"])
    assert D(v.ask("userFills", ALICE)[0]["fee"]) == (price * D("0.1") * D("0.00035")).quantize(
        D("0.000001"), "ROUND_DOWN"
    )
    v.minutes(14 * DAY)
    assert rates(v.state, v.state.accounts[sub]) == base
    assert VIP_TIERS[0]["ntlCutoff"] == "5000000.0"


def test_fees_have_eight_decimals_by_switch():
    v = venue(fee_decimals=8)
    v.order(ALICE, True, 101_000, "0.00123", "Ioc")
    fill = v.ask("userFills", ALICE)[0]
    assert D(fill["fee"]) == (D(fill["px"]) * D(fill["sz"]) * D("0.00045")).quantize(D("0.00000001"), "ROUND_DOWN")


def test_an_isolated_only_coin_says_so_and_starts_isolated():
    v = venue(isolated_only="BTC")
    assert v.ask("meta")["universe"][0]["onlyIsolated"] is True
    v.order(ALICE, True, 101_000, "0.02", "Ioc")
    assert v.position(ALICE)["leverage"]["type"] == "isolated"
    v.exchange.set_switches({"strict_isolated": "BTC", "isolated_only": ""})
    row = v.ask("meta")["universe"][0]
    assert (row["onlyIsolated"], row["marginMode"]) == (True, "strictIsolated")
    v.exchange.set_switches({"strict_isolated": ""})
    assert "onlyIsolated" not in v.ask("meta")["universe"][0]


def test_a_top_up_brings_an_isolated_position_to_a_leverage():
    v = venue()
    v.leverage(ALICE, 20, cross=False)
    v.order(ALICE, True, 101_000, "0.02", "Ioc")
    top = {"type": "topUpIsolatedOnlyMargin", "asset": 0, "leverage": "2.5"}
    assert v.send(ALICE, top)["status"] == "ok"
    assert D(v.position(ALICE)["marginUsed"]) == D(v.position(ALICE)["positionValue"]) / D("2.5")
    before = v.position(ALICE)["marginUsed"]
    assert v.send(ALICE, {**top, "leverage": "20"})["status"] == "ok", "nothing is taken back"
    assert v.position(ALICE)["marginUsed"] == before
    assert v.send(ALICE, {**top, "leverage": "0.01"})["status"] == "err"
    assert v.balanced()


def gap(**switches: Any) -> Any:
    """Alice is long beyond what she can lose; Bob and Carol are short, Carol with more leverage."""
    v = venue([candle(0, 100_000), candle(1, 100_000), *flat(90_000, 5, 2)], equity=2_000, **switches)
    v.leverage(ALICE, 40)
    v.leverage(BOB, 3)
    v.leverage(CAROL, 20)
    v.exchange.deposit(BOB, D(50_000))
    v.order(ALICE, True, 101_000, "0.5", "Ioc")
    v.order(BOB, False, 99_000, "0.3", "Ioc")
    v.order(CAROL, False, 99_000, "0.3", "Ioc")
    return v


def test_deleveraging_closes_the_winners_at_the_mark_before_most_leveraged_first():
    v = gap(adl_enabled=True)
    v.minutes(2.2)
    mark = [fill for fill in v.ask("userFills", CAROL) if fill["dir"] == "Auto-Deleveraging"]
    assert [fill["sz"] for fill in mark] == ["0.3"] and mark[0]["px"] == "99997.0" and mark[0]["fee"] == "0.0"
    assert v.position(CAROL) is None
    assert v.position(BOB)["szi"] == "-0.1", "the rest of what Alice held"
    loser = v.ask("userFills", ALICE)[0]
    assert loser["liquidation"]["liquidatedUser"] == ALICE and loser["tid"] in {
        f["tid"] for f in v.ask("userFills", BOB)
    }
    assert v.position(ALICE) is None and v.state.accounts[ALICE].balance >= 0
    assert v.balanced()


def test_without_deleveraging_winners_keep_what_they_have():
    v = gap()
    v.minutes(2.2)
    assert v.position(CAROL)["szi"] == v.position(BOB)["szi"] == "-0.3"
    assert v.position(ALICE) is None and v.state.accounts[ALICE].balance == 0
    assert v.balanced()


@pytest.mark.parametrize(("on", "left"), [(True, True), (False, False)])
def test_a_loss_beyond_the_balance_is_made_up_unless_liquidation_is_off(on, left):
    v = venue([candle(0, 100_000), candle(1, 100_000), *flat(90_000, 5, 2)], equity=2_000, liquidations_enabled=False)
    v.leverage(ALICE, 40)
    v.order(ALICE, True, 101_000, "0.5", "Ioc")
    v.minutes(2)
    v.exchange.set_switches({"liquidations_enabled": on, "oracle_band": "0"})
    v.order(ALICE, False, 80_000, "0.5", "Ioc", reduce_only=True)
    assert (v.state.accounts[ALICE].balance == 0) is left
    assert v.balanced()


@pytest.mark.parametrize("confined", [True, False])
def test_an_isolated_loss_beyond_its_margin_stays_there_by_switch(confined):
    bars = [candle(0, 100_000), candle(1, 100_000), *flat(80_000, 5, 2)]
    v = venue(bars, equity=20_000, liquidations_enabled=False, isolated_loss_confined=confined)
    v.leverage(ALICE, 10, cross=False)
    v.order(ALICE, True, 101_000, "0.5", "Ioc")
    balance = v.state.accounts[ALICE].balance
    v.minutes(3)
    v.order(ALICE, False, 70_000, "0.5", "Ioc", reduce_only=True)
    fee = D(v.ask("userFills", ALICE)[0]["fee"])
    after = v.state.accounts[ALICE].balance
    assert (after == balance - fee) if confined else (after < balance - 4_000)
    assert v.balanced()


def test_at_the_cap_a_coin_is_listed_and_positions_may_shrink():
    v = venue(open_interest_cap_usd=D(1_500))
    v.order(ALICE, True, 101_000, "0.02", "Ioc")
    assert v.ask("perpsAtOpenInterestCap") == ["BTC"]
    assert "filled" in v.order(ALICE, False, 99_900, "0.01", "Ioc")
    assert v.ask("perpsAtOpenInterestCap") == []


def test_the_2026_modify_rule_places_regardless_when_told_to():
    v = venue(modify_always_place_rule=True)
    oid = v.order(ALICE, True, 99_000, "0.01")["resting"]["oid"]
    v.cancel(ALICE, oid)
    moved = {"type": "modify", "oid": oid, "order": wire(True, 98_000, "0.01")}
    assert v.send(ALICE, moved)["response"] == "Cannot modify canceled or filled order"
    assert v.send(ALICE, {**moved, "a": True})["status"] == "ok"
    assert [row["limitPx"] for row in v.ask("openOrders", ALICE)] == ["98000.0"]


# The tape


def test_the_tape_has_each_candles_volume_and_every_fill_once():
    v = venue([candle(n, 100_000, 100_300, 99_800, 100_100, volume=7) for n in range(10)])
    v.order(ALICE, True, 101_000, "0.02", "Ioc")
    v.order(BOB, True, 100_000, "0.01")
    v.order(ALICE, False, 99_000, "0.5", "Ioc")
    v.minutes(3)
    rows = trades_between(v.state, "BTC", START_MS - 1, START_MS + 3 * MINUTE - 1)
    tids = {f["tid"] for f in v.state.fills}
    mine = [row for row in rows if row["tid"] in tids]
    assert len(mine) == len(tids) and {u for row in mine for u in row["users"]} >= {ALICE, BOB}
    assert sum(D(row["sz"]) for row in rows if row["tid"] not in tids) == 21
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    halves = [
        trades_between(v.state, "BTC", START_MS - 1 + n * 1_000, START_MS - 1 + (n + 1) * 1_000) for n in range(180)
    ]
    assert [row for half in halves for row in half] == rows, "in pieces it is the same tape"
    newest = recent_trades(v.state, "BTC")
    assert newest == v.ask("recentTrades", coin="BTC") and len(newest) == 10
    assert newest[0]["time"] == max(row["time"] for row in newest)
    bought = next(row for row in mine if row["users"][0] == ALICE)
    assert bought["side"] == "B"


# Whatever is sent

NUMBERS = ("0", "0.0", "1", "0.5", "1.1234567", "99999999", "1" + "0" * 39, "0." + "0" * 7 + "1", "123456789.12345678")
INTEGERS = (0, 1, 5, 7, 1440, 10_080, 10**9, 2**63, 2**64 - 1)
PEOPLE = (ALICE, BOB, CAROL, AGENT, "0x" + "00" * 20)
TOKENS = ("USDC", "USDC:0x" + "6d" * 16, "PURR", "")
SIDES = ("", "spot", "xyz")
SENT: dict[str, dict[str, tuple[Any, ...]]] = {
    "usdSend": {"destination": PEOPLE, "amount": NUMBERS},
    "withdraw3": {"destination": PEOPLE, "amount": NUMBERS},
    "spotSend": {"destination": PEOPLE, "amount": NUMBERS, "token": TOKENS},
    "sendAsset": {
        "destination": PEOPLE,
        "sourceDex": SIDES,
        "destinationDex": SIDES,
        "token": TOKENS,
        "amount": NUMBERS,
        "fromSubAccount": ("", *PEOPLE, "SUB"),
    },
    "usdClassTransfer": {"amount": (*NUMBERS, "1 subaccount:SUB", "x"), "toPerp": (True, False)},
    "userSetAbstraction": {"user": (*PEOPLE, "SUB"), "abstraction": ("disabled", "unifiedAccount", "x")},
    "userDexAbstraction": {"user": PEOPLE, "enabled": (True, False)},
    "approveAgent": {
        "agentAddress": PEOPLE,
        "agentName": ("", "bot", "x" * 17, "bot valid_until 99999999999999999999"),
    },
    "approveBuilderFee": {"builder": PEOPLE, "maxFeeRate": ("0.01%", "1000000000000000000000%", "0%", "", "x%")},
    "subAccountTransfer": {"subAccountUser": (*PEOPLE, "SUB"), "isDeposit": (True, False), "usd": INTEGERS},
    "subAccountSpotTransfer": {
        "subAccountUser": (*PEOPLE, "SUB"),
        "isDeposit": (True, False),
        "token": TOKENS,
        "amount": NUMBERS,
    },
    "subAccountModify": {"subAccountUser": ("SUB", BOB), "name": ("", "x" * 500)},
    "createSubAccount": {"name": ("", "a")},
    "vaultTransfer": {"vaultAddress": PEOPLE, "isDeposit": (True, False), "usd": INTEGERS},
    "reserveRequestWeight": {"weight": INTEGERS, "destination": (None, *PEOPLE)},
    "agentSetAbstraction": {"abstraction": ("i", "u", "p")},
    "agentEnableDexAbstraction": {},
    "scheduleCancel": {"time": (None, *INTEGERS)},
    "updateLeverage": {"asset": (0, 1, 77), "isCross": (True, False), "leverage": INTEGERS},
    "updateIsolatedMargin": {
        "asset": (0, 77),
        "isBuy": (True,),
        "ntli": (*INTEGERS, -1, -(10**9), 10**400, -(10**400)),
    },
    "topUpIsolatedOnlyMargin": {"asset": (0, 77), "leverage": NUMBERS},
    "twapCancel": {"a": (0, 77), "t": (3_156, *INTEGERS)},
}


def anything(draw: random.Random, sub: str) -> dict[str, Any]:
    """An action of any kind with values of the right types, sensible or not."""
    kind = draw.choice([*SENT, "twapOrder", "order"])
    if kind == "twapOrder":
        a, s, m = draw.choice((0, 77)), draw.choice(NUMBERS), draw.choice(INTEGERS)
        flags = {name: draw.random() < 0.5 for name in "brt"}
        return {"type": kind, "twap": {"a": a, "s": s, "m": m, **flags}}
    if kind == "order":
        price, size = draw.choice((*NUMBERS, "101000")), draw.choice((*NUMBERS, "0.02"))
        sent = wire(draw.random() < 0.5, price, size, "Ioc", reduce_only=draw.random() < 0.3)
        return {"type": kind, "orders": [sent], "grouping": draw.choice(("na", {"p": 2}))}
    fields = {name: draw.choice(values) for name, values in SENT[kind].items()}
    filled = {n: v.replace("SUB", sub) if type(v) is str else v for n, v in fields.items()}
    return {"type": kind, **filled}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_sent_is_answered_and_no_money_appears(seed):
    draw = random.Random(seed)
    v, sub = with_sub_account(agent_removal_ms=0)
    v.leverage(ALICE, 10, cross=False)
    v.order(ALICE, True, 101_000, "0.05", "Ioc")
    for _ in range(500):
        action = anything(draw, sub)
        answer = v.send(draw.choice((ALICE, BOB, AGENT)), action)
        assert answer["status"] in ("ok", "err"), action
        v.minutes(draw.choice((0, 0, 0, 0.2)))
        assert v.balanced() and v.state.books.total() == 0, action
    for user in (ALICE, BOB, sub):
        assert v.state.accounts[user].spot >= 0
        v.ask("clearinghouseState", user), v.ask("userNonFundingLedgerUpdates", user, startTime=0)
