"""Orders at the paper venue: rules, words of refusal, matching, reduce-only, triggers and brackets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paper_bench as bench
from twinleg.paper.options import BookShape, Switches

Bench, wire, flat, candle, cloid = bench.Bench, bench.wire, bench.flat, bench.candle, bench.cloid
ALICE, BOB, D = bench.ALICE, bench.BOB, bench.D


def venue(candles=None, **switches):
    return Bench({"BTC": candles or flat(100_000, 60)}, switches=Switches(**switches))


def oid_of(status):
    inner = status.get("resting") or status["filled"]
    return inner["oid"]


def error_of(status):
    return status["error"]


# What is refused, word for word


PER_ORDER = {
    "tick": (wire(True, "99999.5", "0.01"), "Price must be divisible by tick size. asset=0", "tickRejected"),
    "minimum": (wire(True, 99_000, "0.0001"), "Order must have minimum value of $10. asset=0", "minTradeNtlRejected"),
    "margin": (wire(True, 100_000, "10"), "Insufficient margin to place order. asset=0", "perpMarginRejected"),
    "reduce-only": (
        wire(True, 99_000, "0.01", reduce_only=True),
        "Reduce only order would increase position. asset=0",
        "reduceOnlyRejected",
    ),
    "ioc": (
        wire(True, 99_000, "0.01", "Ioc"),
        "Order could not immediately match against any resting orders. asset=0",
        "iocCancelRejected",
    ),
    "alo": (
        wire(True, 100_100, "0.01", "Alo"),
        "Post only order would have immediately matched, bbo was 99995@100005. asset=0",
        "badAloPxRejected",
    ),
}


@pytest.mark.parametrize("name", PER_ORDER)
def test_an_order_is_refused_in_the_real_words_and_stays_visible(name):
    sent, text, status = PER_ORDER[name]
    v = venue()
    assert v.orders(ALICE, sent) == [{"error": text}]
    newest = v.ask("historicalOrders", ALICE)[0]
    assert newest["status"] == status
    assert v.status(ALICE, newest["order"]["oid"]) == status


def test_each_order_of_a_batch_is_judged_alone():
    v = venue()
    bad, good = v.orders(ALICE, wire(True, 99_000, "0.0001"), wire(True, 99_000, "0.01"))
    assert "minimum value" in bad["error"]
    assert v.status(ALICE, oid_of(good)) == "open"


PRE_VALIDATION = {
    "price decimals": (wire(True, "99.0001", "1", coin="ETH"), "Order has invalid price."),
    "zero price": (wire(True, "0", "1"), "Order has invalid price."),
    "lot": (wire(True, 99_000, "0.000001"), "Order has invalid size."),
    "zero size": (wire(True, 99_000, "0"), "Order has zero size."),
    "band": (wire(True, 19_000, "1"), "Order price cannot be more than 80% away from the reference price"),
    "cap": (wire(True, 100_000, "200", "Ioc"), "Order value too large. Max is $15000000."),
}


@pytest.mark.parametrize("name", PRE_VALIDATION)
def test_a_malformed_order_fails_its_whole_batch_with_one_status_and_no_trace(name):
    sent, text = PRE_VALIDATION[name]
    v = Bench({"BTC": flat(100_000), "ETH": flat(100)})
    assert v.orders(ALICE, wire(True, 99_000, "0.01"), sent) == [{"error": text}]
    assert v.ask("historicalOrders", ALICE) == []
    assert v.orders(ALICE) == [{"error": "Orders are empty."}]


def test_a_batch_holds_at_most_200():
    v = venue()
    cancels = [{"a": 0, "o": n} for n in range(201)]
    answer = v.send(ALICE, {"type": "cancel", "cancels": cancels})
    assert answer == {"status": "err", "response": "Signed action over weight limit of 200."}


def test_whole_prices_are_valid_however_long():
    v = Bench({"BTC": flat(123_456)})
    assert "resting" in v.order(ALICE, True, 123_321, "0.001")


def test_a_position_beyond_its_margin_tier_is_refused():
    v = Bench({"ATOM": flat(10)}, equity=D(10_000_000))
    v.exchange.deposit(ALICE, D(200_000_000))
    bench.ASSETS["ATOM"] = 2
    assert v.leverage(ALICE, 5, coin="ATOM")["status"] == "ok"
    v = Bench({"BNB": flat(500)}, book=BookShape(level_usd=D(40_000_000)))
    bench.ASSETS["BNB"] = 7
    v.exchange.deposit(ALICE, D(3_000_000))
    v.leverage(ALICE, 10, coin="BNB")
    for _ in range(2):
        assert "filled" in v.order(ALICE, True, 510, "2800", "Ioc", coin="BNB")
    text = "Order would cause position to exceed margin tier limit at current leverage asset=7"
    assert v.order(ALICE, True, 510, "1000", "Ioc", coin="BNB") == {"error": text}


def test_after_an_upgrade_only_post_only_orders_pass():
    v = venue(post_only_mode=True)
    assert v.ask("exchangeStatus")["specialStatuses"] == ["postOnly"]
    text = "Only post-only orders allowed immediately after network upgrade asset=0"
    assert v.order(ALICE, True, 99_000, "0.01") == {"error": text}
    assert "resting" in v.order(ALICE, True, 99_000, "0.01", "Alo")


# The book


def test_a_taker_walks_the_synthetic_levels_and_does_not_find_them_again_at_once():
    v = venue()
    asks = v.ask("l2Book", coin="BTC")["levels"][1]
    first = D(asks[0]["sz"])
    v.exchange.deposit(ALICE, D(1_000_000))
    status = v.order(ALICE, True, 101_000, first + D("0.1"), "Ioc")["filled"]
    fills = v.ask("userFills", ALICE)
    assert [f["px"] for f in reversed(fills)] == [asks[0]["px"], asks[1]["px"]]
    assert D(status["totalSz"]) == first + D("0.1")
    after = v.ask("l2Book", coin="BTC")["levels"][1]
    assert after[0]["px"] == asks[1]["px"] and D(after[0]["sz"]) == D(asks[1]["sz"]) - D("0.1")


def test_consumed_liquidity_comes_back_point_by_point():
    v = venue()
    v.exchange.deposit(ALICE, D(1_000_000))
    v.order(ALICE, True, 100_005, "0.2", "Ioc")
    consumed = [v.state.markets["BTC"].book.consumed[False]]
    for _ in range(3):
        v.minutes(0.25)
        consumed.append(v.state.markets["BTC"].book.consumed[False])
    assert consumed == sorted(consumed, reverse=True) and consumed[-1] < consumed[0] / 4


def test_an_ioc_too_large_for_its_limit_fills_in_part_and_drops_the_rest():
    v = venue()
    v.exchange.deposit(ALICE, D(1_000_000))
    best = v.ask("l2Book", coin="BTC")["levels"][1][0]
    status = v.order(ALICE, True, best["px"], D(best["sz"]) + 1, "Ioc")["filled"]
    assert status["totalSz"] == best["sz"]
    assert v.status(ALICE, status["oid"]) == "canceled"


@pytest.mark.parametrize("answer", ["resting", "filled"])
def test_a_gtc_that_fills_in_part_answers_as_the_switch_says(answer):
    v = venue(partial_gtc_answer=answer)
    v.exchange.deposit(ALICE, D(1_000_000))
    best = v.ask("l2Book", coin="BTC")["levels"][1][0]
    status = v.order(ALICE, True, best["px"], D(best["sz"]) + 1)
    assert list(status) == [answer]
    (resting,) = v.ask("frontendOpenOrders", ALICE)
    assert resting["sz"] == "1.0" and D(resting["origSz"]) == D(best["sz"]) + 1


def test_two_accounts_match_by_price_then_time_and_share_the_trade_id():
    v = venue()
    one = oid_of(v.order(ALICE, False, 100_002, "0.01"))
    two = oid_of(v.order(ALICE, False, 100_001, "0.01"))
    three = oid_of(v.order(ALICE, False, 100_001, "0.01"))
    status = v.order(BOB, True, 100_003, "0.025", "Ioc")["filled"]
    makers = v.ask("userFills", ALICE)[::-1]
    assert [(f["oid"], f["px"], f["sz"], f["crossed"]) for f in makers] == [
        (two, "100001.0", "0.01", False),
        (three, "100001.0", "0.01", False),
        (one, "100002.0", "0.005", False),
    ]
    takers = v.ask("userFills", BOB)[::-1]
    assert [f["tid"] for f in takers] == [f["tid"] for f in makers]
    assert status["avgPx"] == "100001.2"
    assert v.balanced()


def test_maker_and_taker_fees_are_truncated_to_six_decimals():
    v = venue()
    v.order(ALICE, False, 100_001, "0.00123")
    v.order(BOB, True, 100_001, "0.00123", "Ioc")
    assert v.ask("userFills", ALICE)[0]["fee"] == "0.01845"  # 123.00123 x 0.00015 = 0.018450184
    assert v.ask("userFills", BOB)[0]["fee"] == "0.05535"  # 123.00123 x 0.00045 = 0.055350553


def test_an_account_does_not_trade_with_itself():
    v = venue()
    own = oid_of(v.order(ALICE, False, 100_001, "0.01"))
    far = oid_of(v.order(ALICE, False, 101_000, "0.01"))
    status = v.order(ALICE, True, 100_100, "0.01", "Ioc")["filled"]
    assert v.status(ALICE, own) == "selfTradeCanceled"
    assert v.status(ALICE, far) == "open", "an own order beyond what the taker needed is left alone"
    assert [f["oid"] for f in v.ask("userFills", ALICE)] == [status["oid"]]


def test_a_resting_order_fills_as_maker_when_the_path_goes_through_it():
    candles = [candle(0, 100_000), candle(1, 100_000, 100_000, 99_000, 99_500), *flat(99_500, 3, 2)]
    v = venue(candles)
    oid = oid_of(v.order(ALICE, True, 99_400, "0.01"))
    touched = oid_of(v.order(ALICE, True, 99_000, "0.01"))
    v.minutes(2)
    (fill,) = v.ask("userFills", ALICE)
    assert (fill["oid"], fill["px"], fill["crossed"]) == (oid, "99400.0", False)
    assert v.status(ALICE, touched) == "open", "the path must go through the price, not only touch it"


def test_the_touch_switch_fills_at_the_price_reached():
    candles = [candle(0, 100_000), candle(1, 100_000, 100_000, 99_000, 99_500), *flat(99_500, 3, 2)]
    v = venue(candles, fill_on_touch=True)
    oid = oid_of(v.order(ALICE, True, 99_000, "0.01"))
    v.minutes(2)
    assert v.status(ALICE, oid) == "filled"


def test_the_book_thins_and_widens_once_the_candle_has_shown_its_width():
    candles = [candle(0, 100_000), candle(1, 100_000, 101_000, 99_000, 100_000), *flat(100_000, 3, 2)]
    v = venue(candles)

    def depth_and_spread():
        bids, asks = v.ask("l2Book", coin="BTC")["levels"]
        return sum(D(level["sz"]) for level in asks), D(asks[0]["px"]) - D(bids[0]["px"])

    calm = depth_and_spread()
    v.minutes(1)
    at_open = depth_and_spread()
    assert at_open[0] > calm[0] * D("0.8"), "the open must not tell what the candle will do"
    v.minutes(1)
    wild = depth_and_spread()
    assert wild[0] < calm[0] / 2 and wild[1] > 2 * calm[1]


def test_a_market_whose_candles_begin_later_or_pause_stands_at_its_price():
    later = [candle(10, 2000), candle(11, 2000, 2010, 1990, 2005), candle(30, 2100)]
    v = Bench({"BTC": flat(100_000, 60), "ETH": later})
    assert 1990 < D(v.ask("allMids")["ETH"]) < 2010
    assert "filled" in v.order(ALICE, True, 2010, "0.1", "Ioc", coin="ETH")
    v.minutes(20)
    assert v.state.markets["ETH"].price == 2005 and not v.state.markets["ETH"].ended
    v.minutes(10)
    assert v.state.markets["ETH"].price == 2100
    assert (
        v.ask("candleSnapshot", req={"coin": "ETH", "interval": "1m", "startTime": 0, "endTime": 1 << 60})[-1]["o"]
        == "2100.0"
    )


# Cancel and modify


def test_cancel_by_oid_and_by_cloid():
    v = venue()
    oid = oid_of(v.order(ALICE, True, 99_000, "0.01"))
    assert v.cancel(ALICE, oid) == "success"
    gone = {"error": "Order was never placed, already canceled, or filled. asset=0"}
    assert v.cancel(ALICE, oid) == gone
    assert v.cancel(BOB, oid) == gone
    v.order(ALICE, True, 99_000, "0.01", cloid=cloid(7).upper().replace("0X", "0x"))
    answer = v.send(ALICE, {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": cloid(7)}]})
    assert answer["response"] == {"type": "cancel", "data": {"statuses": ["success"]}}


def test_modify_gives_a_new_oid_and_keeps_the_cloid():
    v = venue()
    old = oid_of(v.order(ALICE, True, 99_000, "0.01", cloid=cloid(1)))
    modify = {"oid": old, "order": wire(True, 98_000, "0.02", cloid=cloid(1))}
    answer = v.send(ALICE, {"type": "batchModify", "modifies": [modify]})
    new = oid_of(answer["response"]["data"]["statuses"][0])
    assert answer["response"]["type"] == "order" and new != old
    assert v.status(ALICE, old) == "canceled"
    assert v.ask("orderStatus", ALICE, oid=cloid(1))["order"]["order"]["oid"] == new
    answer = v.send(ALICE, {"type": "modify", "oid": old, "order": wire(True, 97_000, "0.02")})
    assert answer == {"status": "err", "response": "Cannot modify canceled or filled order"}


def test_a_cloid_that_its_replacement_left_out_still_finds_the_old_order():
    v = venue()
    old = oid_of(v.order(ALICE, True, 99_000, "0.01", cloid=cloid(7)))
    v.send(ALICE, {"type": "batchModify", "modifies": [{"oid": cloid(7), "order": wire(True, 98_000, "0.01")}]})
    found = v.ask("orderStatus", ALICE, oid=cloid(7))["order"]
    assert (found["order"]["oid"], found["status"]) == (old, "canceled")


@pytest.mark.parametrize("keeps", [True, False])
def test_a_refused_modify_leaves_the_old_order_as_the_switch_says(keeps):
    v = venue(modify_keeps_old_when_rejected=keeps)
    old = oid_of(v.order(ALICE, True, 99_000, "0.01", cloid=cloid(1)))
    modify = {"oid": old, "order": wire(True, 98_000, "9", cloid=cloid(1))}
    (status,) = v.send(ALICE, {"type": "batchModify", "modifies": [modify]})["response"]["data"]["statuses"]
    assert "Insufficient margin" in status["error"]
    assert v.status(ALICE, old) == ("open" if keeps else "canceled")
    assert len(v.ask("openOrders", ALICE)) == keeps


def test_the_2026_modify_rule_places_post_only_limits_unless_told_otherwise():
    v = venue(modify_always_place_rule=True)
    oid = oid_of(v.order(ALICE, True, 99_000, "0.01", cloid=cloid(1)))

    def modify(sent, **more):
        answer = v.send(ALICE, {"type": "batchModify", "modifies": [{"oid": cloid(1), "order": sent}], **more})
        return answer["response"]["data"]["statuses"][0]

    assert "Post only" in modify(wire(True, 101_000, "0.01", cloid=cloid(1)))["error"]
    assert "error" in modify(wire(True, 101_000, "0.01", stop=100_500))
    assert v.status(ALICE, oid) == "open"
    assert "filled" in modify(wire(True, 101_000, "0.01", cloid=cloid(1)), a=True)
    assert modify(wire(True, 99_000, "0.01"))["error"] == "Cannot modify canceled or filled order"


def test_a_cloid_in_use_is_refused_and_free_again_when_the_order_is_over():
    v = venue()
    first = oid_of(v.order(ALICE, True, 99_000, "0.01", cloid=cloid(1)))
    assert "error" in v.order(ALICE, True, 98_000, "0.01", cloid=cloid(1))
    assert v.ask("orderStatus", ALICE, oid=cloid(1))["order"]["order"]["oid"] == first
    v.cancel(ALICE, first)
    second = oid_of(v.order(ALICE, True, 98_000, "0.01", cloid=cloid(1)))
    assert v.ask("orderStatus", ALICE, oid=cloid(1))["order"]["order"]["oid"] == second
    assert "resting" in venue(duplicate_open_cloid="accept").order(ALICE, True, 99_000, "0.01", cloid=cloid(1))


def test_order_memory_forgets_the_oldest_finished_orders():
    v = venue(order_memory=3)
    oids = [oid_of(v.order(ALICE, True, 99_000, "0.001")) for _ in range(2)]
    for oid in oids:
        v.cancel(ALICE, oid)
    for _ in range(3):
        v.order(ALICE, True, 99_000, "0.001")
    assert [v.status(ALICE, oid) for oid in oids] == ["unknownOid", "unknownOid"]


# Reduce-only


def long_position(v, size="0.02"):
    assert "filled" in v.order(ALICE, True, 101_000, size, "Ioc")


def test_a_reduce_only_ioc_is_capped_at_the_position_and_never_flips():
    v = venue()
    long_position(v)
    status = v.order(ALICE, False, 99_000, "0.5", "Ioc", reduce_only=True)
    assert status["filled"]["totalSz"] == "0.02"
    assert v.position(ALICE) is None


def test_a_resting_reduce_only_order_takes_the_positions_size_and_follows_it_down():
    v = venue()
    long_position(v)
    oid = oid_of(v.order(ALICE, False, 105_000, "0.05", reduce_only=True))
    (shown,) = v.ask("frontendOpenOrders", ALICE)
    assert (shown["sz"], shown["origSz"]) == ("0.02", "0.05")
    v.order(ALICE, False, 99_000, "0.005", "Ioc")
    assert v.ask("frontendOpenOrders", ALICE)[0]["sz"] == "0.015"
    v.order(ALICE, False, 99_000, "0.015", "Ioc")
    assert v.status(ALICE, oid) == "reduceOnlyCanceled"


def test_of_two_reduce_only_orders_beyond_the_position_the_older_goes():
    v = venue()
    long_position(v)
    older = oid_of(v.order(ALICE, False, 105_000, "0.015", reduce_only=True))
    newer = oid_of(v.order(ALICE, False, 106_000, "0.015", reduce_only=True))
    assert (v.status(ALICE, older), v.status(ALICE, newer)) == ("reduceOnlyCanceled", "open")


def test_closing_a_whole_position_is_exempt_from_the_minimum():
    v = venue()
    long_position(v, "0.0002")
    v.order(ALICE, False, 99_000, "0.0001", "Ioc", reduce_only=True)
    v = venue()
    long_position(v, "0.0002")
    v.exchange.set_switches({"mark_gap": 0})
    part = v.order(ALICE, False, 99_000, "0.00005", "Ioc", reduce_only=True)
    assert error_of(part) == "Order must have minimum value of $10. asset=0"
    small = Bench({"BTC": [candle(0, 100_000), candle(1, 100_000, 100_000, 45_000, 45_000), *flat(45_000, 3, 2)]})
    long_position(small, "0.0001")
    small.minutes(2)
    assert error_of(small.order(ALICE, False, 44_000, "0.0001")).startswith("Order must have minimum")
    assert "filled" in small.order(ALICE, False, 44_000, "0.0001", "Ioc")


def test_a_flip_is_one_fill_with_its_own_direction():
    v = venue()
    long_position(v)
    v.order(ALICE, False, 99_000, "0.05", "Ioc")
    fill = v.ask("userFills", ALICE)[0]
    assert (fill["dir"], fill["startPosition"], fill["sz"]) == ("Long > Short", "0.02", "0.05")
    assert v.position(ALICE)["szi"] == "-0.03"
    v.order(ALICE, True, 101_000, "0.05", "Ioc")
    assert v.ask("userFills", ALICE)[0]["dir"] == "Short > Long"
    v.order(ALICE, False, 99_000, "0.01", "Ioc")
    assert v.ask("userFills", ALICE)[0]["dir"] == "Close Long"
    assert v.balanced()


# Triggers


def falling(to=98_000):
    return [candle(0, 100_000), candle(1, 100_000, 100_000, to, to), *flat(to, 5, 2)]


def test_a_stop_fires_on_the_mark_and_sells_at_market():
    v = venue(falling())
    long_position(v)
    status = v.order(ALICE, False, 89_000, "0.02", stop=99_000)
    oid = oid_of(status)
    (shown,) = v.ask("frontendOpenOrders", ALICE)
    assert (shown["orderType"], shown["triggerCondition"], shown["isTrigger"]) == (
        "Stop Market",
        "Price below 99000",
        True,
    )
    v.minutes(3)
    fill = v.ask("userFills", ALICE)[0]
    assert fill["oid"] == oid and D("98700") < D(fill["px"]) < D("99000"), "fills near the trigger, not at the low"
    assert [h["status"] for h in v.ask("historicalOrders", ALICE) if h["order"]["oid"] == oid] == [
        "filled",
        "triggered",
        "open",
    ]


def test_triggers_look_at_the_mark_not_at_the_last_price():
    v = venue(falling(), mark_gap=D("0.05"))
    long_position(v)
    oid = oid_of(v.order(ALICE, False, 89_000, "0.02", stop=99_000))
    v.minutes(3)
    assert v.status(ALICE, oid) == "open"
    v.exchange.set_switches({"mark_gap": "0"})
    v.minutes(1)
    assert v.status(ALICE, oid) == "filled"


def test_triggers_can_be_switched_off():
    v = venue(falling(), triggers_enabled=False)
    long_position(v)
    oid = oid_of(v.order(ALICE, False, 89_000, "0.02", stop=99_000))
    v.minutes(3)
    assert v.status(ALICE, oid) == "open"


def test_a_limit_trigger_becomes_a_resting_order():
    v = venue(falling())
    long_position(v)
    oid = oid_of(v.order(ALICE, False, 98_900, "0.02", stop=99_000, market=False))
    v.exchange.advance(v.state.now_ms + 76_000)
    v.minutes(0.5)
    (shown,) = v.ask("frontendOpenOrders", ALICE) or [None]
    assert shown is None or shown["orderType"] == "Stop Limit"
    assert v.status(ALICE, oid) in ("triggered", "filled")


INVALID_TRIGGERS = {
    "stop above a long": wire(False, 90_000, "0.02", stop=101_000),
    "target below a long": wire(False, 90_000, "0.02", target=99_000),
    "limit on the wrong side": wire(False, 99_500, "0.02", stop=99_000),
}


@pytest.mark.parametrize("name", INVALID_TRIGGERS)
def test_a_trigger_that_cannot_be_is_refused(name):
    v = venue()
    long_position(v)
    assert v.orders(ALICE, INVALID_TRIGGERS[name]) == [{"error": "Invalid TP/SL price. asset=0"}]
    assert v.ask("historicalOrders", ALICE)[0]["status"] == "badTriggerPxRejected"


def test_a_target_at_market_may_name_any_limit():
    v = venue()
    long_position(v)
    assert "resting" in v.order(ALICE, False, 110_000, "0.02", target=102_000)


def test_a_reduce_only_trigger_needs_something_to_reduce():
    text = "Reduce only order would increase position. asset=0"
    assert venue().order(ALICE, False, 89_000, "0.02", stop=99_000) == {"error": text}
    loose = venue(reduce_only_trigger_needs_position=False)
    assert "resting" in loose.order(ALICE, False, 89_000, "0.02", stop=99_000)


def test_a_stop_with_nothing_to_hit_is_refused_for_lack_of_liquidity():
    v = Bench({"BTC": falling()}, switches=Switches(trigger_slippage=D("0.00001")))
    long_position(v)
    oid = oid_of(v.order(ALICE, False, 89_000, "0.02", stop=99_000))
    v.minutes(3)
    assert v.status(ALICE, oid) == "marketOrderNoLiquidityRejected"


def test_triggers_go_when_the_position_is_closed():
    v = venue()
    long_position(v)
    oid = oid_of(v.order(ALICE, False, 89_000, "0.02", stop=99_000))
    v.order(ALICE, False, 99_000, "0.02", "Ioc", reduce_only=True)
    assert v.status(ALICE, oid) == "reduceOnlyCanceled"


# Brackets


def bracket(v, entry, stop=99_000, target=102_000, size="0.02"):
    return v.orders(
        ALICE,
        entry,
        wire(False, 89_000, size, stop=stop, cloid=cloid(11)),
        wire(False, target, size, target=target, cloid=cloid(12)),
        grouping="normalTpsl",
    )


def test_a_bracket_wakes_at_once_when_its_entry_fills():
    v = venue(falling())
    statuses = bracket(v, wire(True, 101_000, "0.02", "Ioc"))
    assert "filled" in statuses[0] and statuses[1:] == ["waitingForTrigger", "waitingForTrigger"]
    v.minutes(3)
    states = {o: v.ask("orderStatus", ALICE, oid=cloid(o))["order"]["status"] for o in (11, 12)}
    assert states == {11: "filled", 12: "siblingFilledCanceled"}
    assert v.position(ALICE) is None


def test_children_wait_inside_their_resting_parent():
    v = venue([candle(0, 100_000), candle(1, 100_000, 100_000, 99_400, 99_500), *flat(99_500, 4, 2)])
    statuses = bracket(v, wire(True, 99_600, "0.02"))
    assert statuses[1:] == ["waitingForFill", "waitingForFill"]
    (parent,) = v.ask("frontendOpenOrders", ALICE)
    assert [c["orderType"] for c in parent["children"]] == ["Stop Market", "Take Profit Market"]
    v.minutes(3)
    shown = v.ask("frontendOpenOrders", ALICE)
    assert sorted(o["orderType"] for o in shown) == ["Stop Market", "Take Profit Market"]


def test_cancelling_the_parent_cancels_its_children():
    v = venue()
    parent = oid_of(bracket(v, wire(True, 99_600, "0.02"))[0])
    children = [v.ask("orderStatus", ALICE, oid=cloid(n))["order"]["order"]["oid"] for n in (11, 12)]
    cancels = [{"a": 0, "o": oid} for oid in (parent, *children)]
    answer = v.send(ALICE, {"type": "cancel", "cancels": cancels})
    first, *others = answer["response"]["data"]["statuses"]
    assert first == "success" and all("already canceled" in o["error"] for o in others)
    assert {v.status(ALICE, oid) for oid in (parent, *children)} == {"canceled"}


@pytest.mark.parametrize("wakes", [False, True])
def test_children_of_a_partly_filled_entry_wake_only_by_switch(wakes):
    v = venue(children_wake_on_partial=wakes)
    v.exchange.deposit(ALICE, D(1_000_000))
    best = v.ask("l2Book", coin="BTC")["levels"][1][0]
    size = D(best["sz"]) + 1
    statuses = bracket(v, wire(True, best["px"], size, "Ioc"), size=size)
    assert D(statuses[0]["filled"]["totalSz"]) < size
    states = {v.ask("orderStatus", ALICE, oid=cloid(n))["order"]["status"] for n in (11, 12)}
    assert states == ({"open"} if wakes else {"canceled"})


def test_a_refused_entry_refuses_its_children():
    v = venue()
    statuses = bracket(v, wire(True, 101_000, "5", "Ioc"), size=5)
    assert [s["error"] for s in statuses] == ["Insufficient margin to place order. asset=0"] * 3
    assert v.ask("frontendOpenOrders", ALICE) == []


def test_a_target_below_the_mark_is_fine_under_a_lower_resting_entry():
    v = venue()
    statuses = bracket(v, wire(True, 95_000, "0.02"), stop=94_000, target=97_000)
    assert "resting" in statuses[0]
    again = bracket(v, wire(True, 95_000, "0.02"), stop=94_000, target=97_000)
    assert again[0] == {"error": "Client order id is carried by an open order. asset=0"}
    v = venue()
    statuses = bracket(v, wire(True, 95_000, "0.02"), stop=96_000, target=97_000)
    assert "Invalid TP/SL price." in statuses[0]["error"]


def test_a_position_stop_follows_the_positions_size():
    v = venue(falling())
    long_position(v)
    statuses = v.orders(
        ALICE,
        wire(False, 89_000, "0.02", stop=99_000, cloid=cloid(1)),
        wire(False, 102_000, "0.02", target=102_000, cloid=cloid(2)),
        grouping="positionTpsl",
    )
    assert statuses == ["waitingForTrigger", "waitingForTrigger"]
    long_position(v, "0.03")
    shown = v.ask("frontendOpenOrders", ALICE)
    assert {(o["sz"], o["isPositionTpsl"]) for o in shown} == {("0.05", True)}
    v.minutes(3)
    assert v.position(ALICE) is None
    assert v.ask("orderStatus", ALICE, oid=cloid(2))["order"]["status"] == "siblingFilledCanceled"


def test_an_order_status_can_be_stale_by_switch():
    v = venue(order_status_size="stale")
    v.exchange.deposit(ALICE, D(1_000_000))
    best = v.ask("l2Book", coin="BTC")["levels"][1][0]
    oid = oid_of(v.order(ALICE, True, best["px"], D(best["sz"]) + 1))
    assert D(v.ask("orderStatus", ALICE, oid=oid)["order"]["order"]["sz"]) == D(best["sz"]) + 1
    assert v.ask("frontendOpenOrders", ALICE)[0]["sz"] == "1.0"


def modified(v, ident, sent):
    answer = v.send(ALICE, {"type": "batchModify", "modifies": [{"oid": ident, "order": sent}]})
    return answer["response"]["data"]["statuses"][0]


def test_a_moved_stop_stays_its_targets_sibling():
    v = venue(falling())
    bracket(v, wire(True, 101_000, "0.02", "Ioc"))
    moved = modified(v, cloid(11), wire(False, 89_000, "0.02", stop=99_500, cloid=cloid(11)))
    assert "resting" in moved
    v.minutes(3)
    assert v.ask("orderStatus", ALICE, oid=cloid(12))["order"]["status"] == "siblingFilledCanceled"
    assert 99_000 < D(v.ask("userFills", ALICE)[0]["px"]) < 99_500


def test_a_waiting_child_is_moved_where_it_waits():
    v = venue([candle(0, 100_000), candle(1, 100_000, 100_000, 99_400, 99_500), *flat(99_500, 4, 2)])
    bracket(v, wire(True, 99_600, "0.02"), stop=99_000)
    assert modified(v, cloid(11), wire(False, 89_000, "0.02", stop=98_000, cloid=cloid(11))) == "waitingForFill"
    assert "error" in modified(v, cloid(11), wire(False, 89_000, "0.02", stop=99_900, cloid=cloid(11)))
    v.minutes(3)
    assert {o["triggerPx"] for o in v.ask("frontendOpenOrders", ALICE)} == {"98000.0", "102000.0"}


def test_a_position_stop_that_is_moved_still_follows_the_position():
    v = venue()
    long_position(v)
    v.orders(ALICE, wire(False, 89_000, "0.02", stop=99_000, cloid=cloid(1)), grouping="positionTpsl")
    assert modified(v, cloid(1), wire(False, 89_000, "0.02", stop=98_000, cloid=cloid(1))) == "waitingForTrigger"
    long_position(v, "0.01")
    (shown,) = v.ask("frontendOpenOrders", ALICE)
    assert (shown["sz"], shown["isPositionTpsl"], shown["triggerPx"]) == ("0.03", True, "98000.0")


def test_a_stop_entry_brings_its_bracket():
    v = venue([candle(0, 100_000), candle(1, 100_000, 101_500, 99_990, 101_400), *flat(101_400, 4, 2)])
    entry = wire(True, 110_000, "0.02", stop=101_000) | {"r": False}
    assert "resting" in bracket(v, entry, stop=100_500, target=103_000)[0]
    assert len(v.ask("frontendOpenOrders", ALICE)) == 1
    v.minutes(3)
    assert v.position(ALICE)["szi"] == "0.02"
    assert {o["triggerPx"] for o in v.ask("frontendOpenOrders", ALICE)} == {"100500.0", "103000.0"}


GROUP_ERRORS = {
    "a child that is no trigger": [wire(True, 99_000, "0.02"), wire(False, 103_000, "0.02")],
    "a child on the same side": [wire(True, 99_000, "0.02"), wire(True, 103_000, "0.02", stop=98_000)],
}


@pytest.mark.parametrize("name", GROUP_ERRORS)
def test_a_malformed_group_is_refused_whole(name):
    assert venue().orders(ALICE, *GROUP_ERRORS[name], grouping="normalTpsl") == [{"error": "Invalid TP/SL order."}]


def test_a_front_end_market_order_without_liquidity_has_its_own_words():
    v = venue()
    text = "No liquidity available for market order. asset=0"
    assert v.order(ALICE, True, 99_000, "0.01", "FrontendMarket") == {"error": text}
    v.order(ALICE, True, 101_000, "0.01", "FrontendMarket")
    assert v.ask("historicalOrders", ALICE)[0]["order"]["orderType"] == "Market"


def test_past_a_thousand_open_orders_there_is_no_room():
    v = venue()
    v.exchange.deposit(ALICE, D(10_000_000))
    for _ in range(5):
        v.orders(ALICE, *[wire(True, 90_000, "0.001")] * 200)
    assert v.order(ALICE, True, 90_000, "0.001") == {"error": "Too many open orders. asset=0"}
    assert v.ask("historicalOrders", ALICE)[0]["status"] == "tooManyOpenOrdersRejected"


digits = st.from_regex(r"\A[0-9]{1,18}(\.[0-9]{1,8})?\Z")
near = st.integers(80_000, 120_000).map(str)
wires = st.builds(
    lambda b, p, s, r, t, c: {"a": 0, "b": b, "p": p, "s": s, "r": r, "t": t} | ({"c": cloid(c)} if c else {}),
    st.booleans(),
    near | digits,
    st.sampled_from(["0.001", "0.01", "0.1", "1", "0"]) | digits,
    st.booleans(),
    st.sampled_from([{"limit": {"tif": tif}} for tif in ("Gtc", "Ioc", "Alo", "FrontendMarket")])
    | st.builds(
        lambda m, p, k: {"trigger": {"isMarket": m, "triggerPx": p, "tpsl": k}},
        st.booleans(),
        near | digits,
        st.sampled_from(["tp", "sl"]),
    ),
    st.integers(0, 6),
)
requests = st.lists(
    st.tuples(
        st.sampled_from([ALICE, BOB]),
        st.lists(wires, min_size=1, max_size=3),
        st.sampled_from(["na", "normalTpsl", "positionTpsl"]),
        st.integers(-1, 6),
        st.integers(0, 3),
    ),
    max_size=15,
)


@settings(max_examples=60, deadline=None)
@given(requests=requests)
def test_whatever_is_sent_the_venue_answers_and_its_book_stays_whole(requests):
    prices = [100_000, 99_000, 101_500, 93_000, 97_000, 110_000, 104_000, 88_000, 95_000, 99_500, 100_000]
    v = venue([candle(i, a, max(a, b), min(a, b), b) for i, (a, b) in enumerate(itertools.pairwise(prices))])
    for user, sent, grouping, target, minutes in requests:
        statuses = v.orders(user, *sent, grouping=grouping)
        assert len(statuses) in (1, len(sent))
        if target >= 0:
            v.send(user, {"type": "batchModify", "modifies": [{"oid": cloid(target), "order": sent[0]}]})
            v.send(user, {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": cloid(target + 1)}]})
        v.minutes(minutes)
        assert_whole(v)


def assert_whole(v):
    """Every live order is where its phase says, no dead one is anywhere, and reduce-only never exceeds the position."""
    market = v.state.markets["BTC"]
    book = {oid for side in market.book.resting.values() for _, oid, _ in side}
    live = {o.oid: o for a in v.state.accounts.values() for o in a.orders.values()}
    assert book == {oid for oid, o in live.items() if o.phase == "book"}
    assert set(market.triggers) == {oid for oid, o in live.items() if o.phase == "trigger"}
    assert {o.oid for o in v.state.orders.values() if o.live} == set(live)
    for order in live.values():
        assert order.size >= 0 and order.filled + order.size <= max(order.original, order.filled + order.size)
        if order.phase == "book":
            assert order.size > 0
        if order.phase == "book" and order.reduce_only:
            held = v.state.accounts[order.user].size("BTC")
            assert held * order.sign < 0 and order.size <= abs(held)
    bids, asks = v.ask("l2Book", coin="BTC")["levels"]
    assert not bids or not asks or D(bids[0]["px"]) < D(asks[0]["px"])
    assert v.balanced()
