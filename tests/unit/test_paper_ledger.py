"""The paper venue's ledger file, its clocks, and the faults it commits on demand."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from eth_account import Account
from hyperliquid.utils import signing

import paper_bench as bench
from twinleg.domain.errors import BadInput, InvariantBroken
from twinleg.paper.exchange import Exchange
from twinleg.paper.faults import rules_of
from twinleg.paper.options import Switches, VenueOptions
from twinleg.paper.venue import Venue

wire, flat, candle, cloid = bench.wire, bench.flat, bench.candle, bench.cloid
ALICE, D, START_MS, MINUTE = bench.ALICE, bench.D, bench.START_MS, bench.MINUTE
KEY = Account.from_key("0x" + "11" * 32)
ADDRESS = KEY.address.lower()


def wavy(count=60, first=0):
    prices = [100_000 + 150 * ((i * 7) % 11) - 100 * (i % 5) for i in range(count + 1)]
    return [
        candle(first + i, a, max(a, b) + 40, min(a, b) - 40, b) for i, (a, b) in enumerate(itertools.pairwise(prices))
    ]


def options(**more):
    return VenueOptions(candles={"BTC": wavy()}, start_ms=START_MS, **more)


def no_wall():
    raise AssertionError("a manual venue does not look at the wall")


def body(action, nonce, expires=None):
    signature = signing.sign_l1_action(KEY, action, None, nonce, expires, False)
    return {"action": action, "nonce": nonce, "signature": signature, "vaultAddress": None, "expiresAfter": expires}


def order(*wires, grouping="na"):
    return {"type": "order", "orders": list(wires), "grouping": grouping}


def post(venue, action, nonce, **more):
    return venue.reply("/exchange", body(action, nonce, **more))


def ask(venue, kind, **more):
    return json.loads(venue.reply("/info", {"type": kind, "user": ADDRESS, **more}).text)


# Time


def test_the_state_does_not_depend_on_how_the_clock_was_moved():
    dumps = []
    for step in (1, 977, 60_000, 3_600_000):
        ex = Exchange(options())
        sent = [
            (START_MS + 5_000, order(wire(True, 101_000, "0.05", "Ioc"))),
            (START_MS + 5_000, order(wire(False, 90_000, "0.05", stop=99_900))),
            (START_MS + 65_000, order(wire(True, 99_950, "0.01"), wire(False, 100_900, "0.02"))),
            (START_MS + 1_400_000, order(wire(False, 99_000, "0.2", "Ioc"))),
        ]
        end = START_MS + 40 * MINUTE
        if step == 1:
            end_first = START_MS + 5_000
            for ms in range(START_MS, end_first):
                ex.advance(ms)
        for n, (at, action) in enumerate(sent):
            while ex.state.now_ms + step < at and step != 1:
                ex.advance(ex.state.now_ms + step)
            ex.advance(at)
            ex.execute({"action": action, "nonce": START_MS + n}, ALICE)
        ex.advance(end)
        dumps.append(ex.dump())
    assert all(dump == dumps[0] for dump in dumps[1:])
    assert len(dumps[0]["fills"]) >= 4


def test_a_wall_clock_venue_restamps_its_candles_so_that_the_rest_arrives_from_now_on():
    now = [1_900_000_123_456]
    venue = Venue(
        VenueOptions(candles={"BTC": wavy(60)}, clock="wall", history_candles=20, speed=D(60)), lambda: now[0]
    )
    market = venue.engine.state.markets["BTC"]
    assert market.opened[20] <= now[0] < market.opened[21] and market.opened[0] % MINUTE == 0
    rows = ask(venue, "candleSnapshot", req={"coin": "BTC", "interval": "1m", "startTime": 0, "endTime": 1 << 60})
    assert len(rows) == 21
    now[0] += 1_000
    venue.catch_up()
    assert venue.engine.state.now_ms == 1_900_000_123_456 + 60_000
    now[0] -= 500
    venue.catch_up()
    assert venue.engine.state.now_ms == 1_900_000_123_456 + 60_000, "never back"
    with pytest.raises(BadInput, match="wall's clock"):
        venue.set_clock(now[0] + 10**9)


def test_half_of_the_candles_are_history_by_default():
    candles = flat(100, 1000)
    ex = Exchange(VenueOptions(candles={"BTC": candles}))
    assert ex.state.now_ms == START_MS + 500 * MINUTE


def test_when_the_candles_are_over_the_price_stands_until_more_are_given():
    venue = Venue(options(), no_wall)
    venue.set_clock(START_MS + 80 * MINUTE)
    market = venue.engine.state.markets["BTC"]
    assert market.ended and market.price == wavy()[-1].close
    with pytest.raises(BadInput, match="before the venue's clock"):
        venue.append_candles("BTC", [[START_MS + 70 * MINUTE, "1", "1", "1", "1", "1"]])
    venue.append_candles("BTC", [[START_MS + 90 * MINUTE, "99000", "99000", "98000", "98500", "7"]])
    venue.set_clock(START_MS + 91 * MINUTE)
    assert market.price == 98_500
    with pytest.raises(BadInput, match="opens before the one before it closes"):
        venue.append_candles("BTC", [[START_MS + 90 * MINUTE + 1, "1", "1", "1", "1", "1"]])
    with pytest.raises(BadInput, match=r"candles\[0\] must be"):
        venue.append_candles("BTC", [[1, 2]])
    with pytest.raises(BadInput, match="coin must be one of BTC"):
        venue.append_candles("ETH", [])


# The ledger file


HALF_AN_HOUR = {"a": 0, "b": True, "s": "0.02", "r": False, "m": 30, "t": True}


def busy_venue(path):
    venue = Venue(options(ledger=path, switches=Switches(volume_gates=False)), no_wall)
    venue.deposit("0x" + "cc" * 20, D("12.5"))
    venue.set_clock(START_MS + 61_000)
    replies = [
        post(venue, order(wire(True, 101_000, "0.05", "Ioc", cloid=cloid(1))), START_MS + 61_000),
        post(venue, order(wire(False, 90_000, "0.05", stop=99_900, cloid=cloid(2))), START_MS + 61_001),
        post(venue, {"type": "createSubAccount", "name": "hedge"}, START_MS + 61_002),
        post(venue, {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 99}, START_MS + 61_003),
        post(venue, {"type": "twapOrder", "twap": HALF_AN_HOUR}, START_MS + 61_010),
        post(venue, {"type": "reserveRequestWeight", "weight": 20}, START_MS + 61_011),
        post(venue, {"type": "agentSetAbstraction", "abstraction": "u"}, START_MS + 61_012),
    ]
    venue.add_faults({"kind": "partial_fill", "fraction": 0.5, "count": 1})
    replies.append(post(venue, order(wire(True, 101_000, "0.01", "Ioc", cloid=cloid(3))), START_MS + 61_004))
    venue.add_faults({"kind": "arrive_late", "ms": 90_000, "cloid": cloid(4)})
    assert post(venue, order(wire(True, 101_000, "0.01", "Ioc", cloid=cloid(4))), START_MS + 61_005).lost
    venue.set_switches({"mark_gap": "0.0001"})
    venue.append_candles("BTC", [[START_MS + 60 * MINUTE, "100000", "100000", "99000", "99500", "7"]])
    venue.set_clock(START_MS + 10 * MINUTE)
    assert [r.status for r in replies] == [200] * 8
    return venue


def test_a_venue_started_again_on_its_ledger_is_where_it_was(tmp_path):
    venue = busy_venue(tmp_path / "ledger.sqlite")
    before = venue.ledger()
    venue.close()
    again = Venue(options(ledger=tmp_path / "ledger.sqlite"), no_wall)
    assert again.ledger() == before
    assert again.engine.state.now_ms == START_MS + 10 * MINUTE
    assert again.engine.state.switches.mark_gap == D("0.0001")
    assert [twap["status"] for twap in before["twaps"]] == ["activated"]
    again.set_clock(START_MS + 61 * MINUTE)
    assert again.engine.state.markets["BTC"].price == 99_500
    assert [twap["status"] for twap in again.ledger()["twaps"]] == ["finished"]
    again.close()


def test_its_beginning_wins_over_later_options(tmp_path):
    path = tmp_path / "ledger.sqlite"
    venue = Venue(options(ledger=path, equity=D(77)), no_wall)
    venue.close()
    again = Venue(replace(options(ledger=path), candles={"BTC": flat(5)}, equity=D(1)), no_wall)
    assert again.options.equity == 77 and len(again.engine.state.markets["BTC"].candles) == 60
    again.close()
    with pytest.raises(BadInput, match="begun with a manual clock, not wall"):
        Venue(options(ledger=path, clock="wall"), lambda: START_MS)


def test_a_wall_clock_ledger_continues_on_the_same_time_line(tmp_path):
    path, now = tmp_path / "ledger.sqlite", [1_900_000_000_000]
    given = VenueOptions(candles={"BTC": wavy(60)}, clock="wall", history_candles=20, ledger=path)
    venue = Venue(given, lambda: now[0])
    post(venue, order(wire(True, 101_000, "0.05", "Ioc")), now[0])
    opened = venue.engine.state.markets["BTC"].opened[:]
    venue.close()
    now[0] += 5 * MINUTE
    again = Venue(given, lambda: now[0])
    assert again.engine.state.markets["BTC"].opened == opened
    assert ask(again, "clearinghouseState")["assetPositions"][0]["position"]["szi"] == "0.05"
    assert ask(again, "exchangeStatus")["time"] == now[0]
    again.close()


def test_two_venues_never_share_a_ledger(tmp_path):
    path = tmp_path / "ledger.sqlite"
    first = Venue(options(ledger=path), no_wall)
    with pytest.raises(BadInput, match="is another venue running on it"):
        Venue(options(ledger=path), no_wall)
    first.close()


def test_the_ledgers_folder_is_made_and_a_place_that_cannot_hold_one_is_named(tmp_path):
    Venue(options(ledger=tmp_path / "deep" / "ledger.sqlite"), no_wall).close()
    with pytest.raises(BadInput, match="cannot be opened"):
        Venue(options(ledger=tmp_path), no_wall)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database at all, and long enough to be looked at" * 10)
    with pytest.raises(BadInput, match="is not a ledger of this venue"):
        Venue(options(ledger=path), no_wall)


def test_a_replay_that_comes_out_differently_is_noticed(tmp_path):
    import sqlite3

    path = tmp_path / "ledger.sqlite"
    busy_venue(path).close()
    db = sqlite3.connect(path)
    db.execute("UPDATE entries SET payload = replace(payload, '0.05', '0.04') WHERE kind = 'exchange'")
    db.commit()
    db.close()
    with pytest.raises(InvariantBroken, match="replays to another answer"):
        Venue(options(ledger=path), no_wall)


SERVER = """
import sys
from pathlib import Path
from decimal import Decimal
from datetime import UTC, datetime, timedelta
from twinleg.domain.candles import Candle
from twinleg.paper.options import VenueOptions
from twinleg.paper.server import serve
start = datetime(2025, 5, 1, 12, 30, tzinfo=UTC)
candles = [Candle(start + timedelta(minutes=i), *[Decimal(100_000 + i)] * 4, Decimal(5)) for i in range(200)]
serve(VenueOptions(candles={"BTC": candles}, start_ms=round(start.timestamp() * 1000), ledger=Path(sys.argv[1])))
"""


def start_server(path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    line = process.stdout.readline()
    assert line.startswith("paper venue listening on http://127.0.0.1:"), (line, process.stderr.read())
    return process, line.split()[-1]


def call(url, path, payload=None):
    data = None if payload is None else json.dumps(payload).encode()
    request = HttpRequest(url + path, data=data, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def end(process, number):
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=10)
    return process.returncode, errors


def test_killed_at_any_moment_it_forgets_nothing_it_answered(tmp_path):
    path = tmp_path / "ledger.sqlite"
    process, url = start_server(path)
    answered = []
    for i in range(25):
        answer = call(url, "/exchange", body(order(wire(True, 90_000 - i, "0.001", cloid=cloid(i + 1))), START_MS + i))
        answered.append(answer["response"]["data"]["statuses"][0]["resting"]["oid"])
    call(url, "/_sim/clock", {"now_ms": START_MS + 5 * MINUTE})
    before = call(url, "/_sim/ledger")
    end(process, signal.SIGKILL)
    process, url = start_server(path)
    assert call(url, "/_sim/ledger") == before
    oids = [o["oid"] for o in call(url, "/info", {"type": "openOrders", "user": ADDRESS})]
    assert sorted(oids) == answered
    again = call(url, "/exchange", body(order(wire(True, 90_000, "0.001", cloid=cloid(1))), START_MS))
    assert again["response"] == f"Invalid nonce: duplicate nonce {START_MS}"
    code, errors = end(process, signal.SIGTERM)
    assert code == 0 and errors == ""


# Faults


def faulty(*rules, **more):
    venue = Venue(options(**more), no_wall)
    venue.add_faults(list(rules))
    return venue


BUY = wire(True, 101_000, "0.05", "Ioc", cloid=cloid(1))


def test_a_lost_answer_was_carried_out_all_the_same():
    venue = faulty({"kind": "lose_answer", "path": "/exchange", "count": 1})
    assert post(venue, order(BUY), START_MS).lost
    assert len(ask(venue, "userFills")) == 1
    again = json.loads(post(venue, order(BUY), START_MS).text)
    assert again["response"] == f"Invalid nonce: duplicate nonce {START_MS}"
    assert json.loads(post(venue, {"type": "noop"}, START_MS).text)["response"].startswith("Invalid nonce")


def test_a_lost_request_never_happened():
    venue = faulty({"kind": "lose_request", "action": "order", "count": 1})
    assert post(venue, order(BUY), START_MS).lost
    assert ask(venue, "userFills") == []
    assert json.loads(post(venue, {"type": "noop"}, START_MS).text)["status"] == "ok"


def test_a_late_request_arrives_when_the_clock_has_moved_on():
    venue = faulty({"kind": "arrive_late", "ms": 30_000, "count": 2})
    assert post(venue, order(BUY), START_MS).lost
    expiring = order(wire(True, 101_000, "0.01", "Ioc"))
    assert post(venue, expiring, START_MS + 1, expires=START_MS + 15_000).lost
    venue.set_clock(START_MS + 29_999)
    assert ask(venue, "userFills") == []
    venue.set_clock(START_MS + 30_000)
    (fill,) = ask(venue, "userFills")
    assert fill["time"] == START_MS + 30_000 and fill["sz"] == "0.05"


def test_a_late_request_finds_its_nonce_spent_by_a_noop():
    venue = faulty({"kind": "arrive_late", "ms": 30_000, "action": "order"})
    post(venue, order(BUY), START_MS)
    assert json.loads(post(venue, {"type": "noop"}, START_MS).text)["status"] == "ok"
    venue.set_clock(START_MS + MINUTE)
    assert ask(venue, "userFills") == []


STATUSES = [("429", 429, "null"), ("500", 500, "null"), ("502html", 502, "<html>")]


@pytest.mark.parametrize(("kind", "status", "text"), STATUSES)
@pytest.mark.parametrize("execute", [False, True])
def test_a_failing_answer_says_nothing_about_what_happened(kind, status, text, execute):
    venue = faulty({"kind": kind, "path": "/exchange", "execute": execute, "count": 1})
    reply = post(venue, order(BUY), START_MS)
    assert (reply.status, reply.text[: len(text)]) == (status, text)
    assert len(ask(venue, "userFills")) == execute


def test_a_partial_fill_and_a_refusal_hit_only_the_orders_they_name():
    venue = faulty(
        {"kind": "partial_fill", "fraction": "0.4", "cloid": cloid(1)},
        {"kind": "reject", "error": "No liquidity available for market order.", "cloid": cloid(2)},
    )
    second = wire(True, 101_000, "0.05", "Ioc", cloid=cloid(2))
    third = wire(True, 101_000, "0.05", "Ioc", cloid=cloid(3))
    answer = json.loads(post(venue, order(BUY, second, third), START_MS).text)
    one, two, three = answer["response"]["data"]["statuses"]
    assert one["filled"]["totalSz"] == "0.02"
    assert two["error"] == "No liquidity available for market order. asset=0"
    assert three["filled"]["totalSz"] == "0.05"
    assert ask(venue, "orderStatus", oid=cloid(2))["order"]["status"] == "rejected"


def test_stale_and_empty_reads():
    venue = faulty()
    before = ask(venue, "clearinghouseState")
    post(venue, order(BUY), START_MS)
    venue.add_faults({"kind": "stale_read", "action": "clearinghouseState", "address": KEY.address, "count": 1})
    assert ask(venue, "clearinghouseState") == before
    assert ask(venue, "clearinghouseState")["assetPositions"]
    venue.clear_faults()
    venue.add_faults({"kind": "empty_read", "count": 2})
    empty = ask(venue, "clearinghouseState")
    assert empty["assetPositions"] == [] and empty["withdrawable"] == "0.0"
    assert ask(venue, "userFills") == []
    assert len(ask(venue, "userFills")) == 1


def test_a_delay_holds_the_request_or_the_answer():
    venue = faulty({"kind": "delay", "ms": 250, "when": "arrival", "count": 1})
    held = post(venue, order(BUY), START_MS)
    assert held.hold_seconds == 0.25 and ask(venue, "userFills") == []
    assert json.loads(held.later().text)["status"] == "ok"
    venue.add_faults({"kind": "delay", "ms": 250, "count": 1})
    held = post(venue, order(wire(True, 101_000, "0.05", "Ioc")), START_MS + 1)
    assert held.hold_seconds == 0.25 and held.later is None and len(ask(venue, "userFills")) == 2


def test_probability_is_drawn_from_the_seed():
    def lost(seed):
        venue = faulty({"kind": "lose_request", "action": "noop", "probability": 0.5, "seed": seed})
        return [post(venue, {"type": "noop"}, START_MS + i).lost for i in range(30)]

    assert lost(1) == lost(1) != lost(2) and 5 < sum(lost(1)) < 25


def test_rules_match_by_address_and_coin_too():
    venue = faulty({"kind": "lose_request", "address": ALICE}, {"kind": "lose_request", "coin": "ETH"})
    assert not post(venue, order(BUY), START_MS).lost
    venue.add_faults({"kind": "lose_request", "address": KEY.address, "coin": "BTC"})
    assert post(venue, order(BUY), START_MS + 1).lost
    assert not post(venue, {"type": "noop"}, START_MS + 2).lost
    assert [rule["struck"] for rule in venue.faults()["faults"]] == [0, 0, 1]


def test_rules_match_by_user_and_side_and_leave_the_first_ones_alone():
    venue = faulty({"kind": "lose_request", "user": KEY.address, "side": "sell", "skip": 1, "count": 1})
    sell = order(wire(False, 99_000, "0.01", "Ioc"))
    sent = [post(venue, action, START_MS + i).lost for i, action in enumerate([order(BUY), sell, sell, sell])]
    assert sent == [False, False, True, False]
    (rule,) = venue.faults()["faults"]
    assert (rule["struck"], rule["address"]) == (1, ADDRESS)


def test_rules_on_one_line_are_those_of_the_json():
    text = f"lose_answer:0.02:action=order:seed=3, 429:path=/info:execute=true,delay:0.5:ms=800:user={ADDRESS}"
    assert rules_of(text) == [
        {"kind": "lose_answer", "probability": "0.02", "action": "order", "seed": 3},
        {"kind": "429", "path": "/info", "execute": True},
        {"kind": "delay", "probability": "0.5", "ms": 800, "user": ADDRESS},
    ]
    assert len(faulty(*rules_of(text)).faults()["faults"]) == 3


BAD_LINES = {
    "empty": ("", "kind must be one of lose_answer"),
    "kind": ("lose_answr:1", "kind must be one of lose_answer, .*, was 'lose_answr'"),
    "share": ("429:2", "probability must be from 0 to 1, was 2"),
    "word": ("429:often", "probability must be a decimal number, was 'often'"),
    "field": ("429:1:sec=1", "'sec' is not a field; known are action, address"),
    "no value": ("429:1:path", "'path' in '429:1:path' must be field=value"),
    "whole": ("429:count=1.5", "count must be int, was '1.5'"),
    "truth": ("429:execute=yes", "execute must be bool, was 'yes'"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_wrong_line_of_rules_is_named_with_its_value(name):
    line, text = BAD_LINES[name]
    with pytest.raises(BadInput, match=text):
        faulty(*rules_of(line))


BAD_RULES = {
    "kind": ({"kind": "moon"}, "kind must be one of"),
    "field": ({"kind": "delay", "sec": 1}, "'sec' is not a field"),
    "count": ({"kind": "delay", "count": "1"}, "count must be int, was '1'"),
    "probability": ({"kind": "delay", "probability": 2}, "probability must be from 0 to 1, was 2"),
    "when": ({"kind": "delay", "when": "never"}, "when must be arrival or answer, was 'never'"),
    "path": ({"kind": "429", "path": "/moon"}, "path must be /info or /exchange.*, was '/moon'"),
    "side": ({"kind": "429", "side": "long"}, "side must be buy or sell, was 'long'"),
    "user": ({"kind": "429", "user": "0x12"}, "address must be 40 hex digits, was '0x12'"),
    "cloid": ({"kind": "429", "cloid": "0x12"}, "cloid must be 32 hex digits, was '0x12'"),
    "least": ({"kind": "429", "count": 0}, "count must be 1 or more, was 0"),
    "no time": ({"kind": "arrive_late"}, "ms with arrive_late must be 1 or more, was None"),
}


@pytest.mark.parametrize("name", BAD_RULES)
def test_a_wrong_rule_is_named_with_its_value(name):
    rule, text = BAD_RULES[name]
    with pytest.raises(BadInput, match=text):
        faulty(rule)


def test_the_weight_per_minute_answers_429():
    venue = Venue(options(switches=Switches(rate_limits=True)), no_wall)
    statuses = [venue.reply("/info", {"type": "userRole", "user": ALICE}, "1.2.3.4").status for _ in range(21)]
    assert statuses == [200] * 20 + [429]
    assert venue.reply("/info", {"type": "userRole", "user": ALICE}, "5.6.7.8").status == 200
    venue.set_clock(START_MS + MINUTE)
    assert venue.reply("/info", {"type": "userRole", "user": ALICE}, "1.2.3.4").status == 200
