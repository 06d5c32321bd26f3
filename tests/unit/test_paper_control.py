"""The controls under ``/_sim``: every one answers, and every bad request is one clear line."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from eth_account import Account
from hyperliquid.utils import signing
from hypothesis import given, settings
from hypothesis import strategies as st

import paper_bench as bench
from twinleg.paper.control import CONTROLS, Control
from twinleg.paper.options import VenueOptions
from twinleg.paper.venue import Venue

flat, wire, D, START_MS, MINUTE = bench.flat, bench.wire, bench.D, bench.START_MS, bench.MINUTE
KEY = Account.from_key("0x" + "11" * 32)
USER = KEY.address.lower()
HOUR = 3_600_000
NEXT_HOUR = START_MS - START_MS % HOUR + HOUR


def venue_of(wall=None, **more):
    options = VenueOptions(candles={"BTC": flat(100_000, 600)}, **{"start_ms": START_MS, **more})
    return Venue(options, wall or (lambda: 1 / 0))


class Asked:
    """A venue and its controls, as a tester reaches them."""

    def __init__(self, venue):
        self.venue = venue
        self.control = Control(venue)

    def raw(self, method, path, body=None, **query):
        data = b"" if body is None else json.dumps(body).encode()
        return self.control.answer(method, f"/_sim{path}", query, data)

    def ok(self, method, path, body=None, **query):
        status, answer = self.raw(method, path, body, **query)
        assert status == 200, answer
        return json.loads(json.dumps(answer))


@pytest.fixture
def sim():
    return Asked(venue_of())


def test_the_list_names_every_control_and_each_is_reached(sim):
    listed = sim.ok("GET", "")
    assert [(row["method"], row["path"]) for row in listed["controls"]] == [(r.method, r.path) for r in CONTROLS]
    assert all(row["does"] for row in listed["controls"])
    assert "lose_answer" in listed["fault_kinds"]
    for row in CONTROLS:
        status, _ = sim.control.answer(row.method, row.path + "/", {}, b"")
        assert status in (200, 400), row


REFUSED = {
    "unknown": ("GET", "/moon", None, 404, "/_sim/moon is not a control; GET /_sim lists them"),
    "method": ("DELETE", "/clock", None, 405, "/_sim/clock takes POST, not DELETE"),
    "methods": ("PUT", "/faults", None, 405, "/_sim/faults takes GET, POST, DELETE, not PUT"),
    "field": (
        "POST",
        "/deposit",
        {"who": 1},
        400,
        "'who' is not a field of POST /_sim/deposit; known are address, usd",
    ),
    "no fields": ("POST", "/disconnect", {"who": 1}, 400, "known are none"),
    "object": ("POST", "/clock", [1], 400, "the body must be an object, was [1]"),
    "two clocks": ("POST", "/clock", {"now_ms": 1, "step_ms": 1}, 400, "one of now_ms, step_ms, speed"),
    "no clock": ("POST", "/clock", {}, 400, "one of now_ms, step_ms, speed"),
    "step": ("POST", "/clock", {"step_ms": -1}, 400, "step_ms must be 0 to 31622400000, was -1"),
    "step kind": ("POST", "/clock", {"step_ms": "5"}, 400, "step_ms must be int, was '5'"),
    "back": ("POST", "/clock", {"now_ms": 5}, 400, "must not go back"),
    "speed": ("POST", "/clock", {"speed": 2}, 400, "this venue's clock is manual"),
    "speed least": ("POST", "/clock", {"speed": -1}, 400, "speed must be 0 to 100000, was -1"),
    "address": ("POST", "/deposit", {"address": "0x12", "usd": 1}, 400, "address must be 40 hex digits, was '0x12'"),
    "usd kind": ("POST", "/deposit", {"address": USER, "usd": "x"}, 400, "usd must be a decimal number, was 'x'"),
    "usd least": ("POST", "/deposit", {"address": USER, "usd": 0}, 400, "usd must be above 0, was 0"),
    "usd most": ("POST", "/deposit", {"address": USER, "usd": 1 << 50}, 400, "usd must be at most 1000000000000, was"),
    "usd fine": ("POST", "/deposit", {"address": USER, "usd": "0.0000001"}, 400, "at most 6 decimals, was 1E-7"),
    "balance": ("POST", "/balance", {"address": USER, "usd": -1}, 400, "usd must be >= 0, was -1"),
    "withdraw": ("POST", "/withdraw", {"address": USER, "usd": 1}, 400, "usd must be at most the balance 0.0, was 1"),
    "switch": ("POST", "/switches", {"moon": 1}, 400, "'moon' is not a switch"),
    "wide switch": ("POST", "/switches", {"mark_gap": "1e400"}, 400, "mark_gap must lie between -0.9 and 9"),
    "no memory": ("POST", "/switches", {"order_memory": 0}, 400, "order_memory must lie between 1 and 1000000, was 0"),
    "coin": ("POST", "/candles", {"coin": "DOGGO", "candles": []}, 400, "coin must be one of BTC, was 'DOGGO'"),
    "funding coin": ("POST", "/funding", {"coin": "X", "rates": []}, 400, "coin must be one of BTC, was 'X'"),
    "rate": ("POST", "/funding", {"coin": "BTC", "rates": [[1]]}, 400, "rates[0] must be [ts_ms, rate], was [1]"),
    "rate size": ("POST", "/funding", {"coin": "BTC", "rates": [[1, 0.1]]}, 400, "must be from -0.04 to 0.04, was 0.1"),
    "rate over": ("POST", "/funding", {"coin": "BTC", "rates": [[START_MS, "0"]]}, 400, "after the venue's clock"),
    "rule": ("POST", "/faults", {"kind": "moon"}, 400, "kind must be one of lose_answer"),
    "rule kind": ("DELETE", "/faults", {"kind": "moon"}, 400, "kind must be one of lose_answer"),
    "account": ("GET", "/account", {"address": "0x" + "ab" * 20}, 400, "has no account here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_request_names_the_field_the_value_and_the_limit(sim, name):
    method, path, body, status, text = REFUSED[name]
    found, answer = sim.raw(method, path, body)
    assert found == status and text in answer["error"] and "\n" not in answer["error"]


def test_a_body_that_is_not_json_is_said_so(sim):
    status, answer = sim.control.answer("POST", "/_sim/clock", {}, b"{")
    assert status == 400 and answer["error"].startswith("the body must be JSON: ")


def test_a_manual_clock_is_set_and_stepped(sim):
    assert sim.ok("POST", "/clock", {"step_ms": 1500}) == {"now_ms": START_MS + 1500}
    assert sim.ok("POST", "/clock", {"now_ms": START_MS + MINUTE}) == {"now_ms": START_MS + MINUTE}
    assert sim.ok("GET", "/status")["now_ms"] == START_MS + MINUTE


def test_a_wall_clock_is_stepped_sped_up_and_stopped_and_so_it_stays_in_its_ledger(tmp_path):
    now = [1_900_000_000_000]
    path = tmp_path / "ledger.sqlite"
    given = {"clock": "wall", "history_candles": 300, "ledger": path, "start_ms": None}
    sim = Asked(venue_of(lambda: now[0], **given))
    begun = now[0]
    assert sim.ok("POST", "/clock", {"step_ms": 90_000}) == {"now_ms": begun + 90_000}
    now[0] += 1_000
    assert sim.ok("POST", "/clock", {"speed": 10})["now_ms"] == begun + 91_000
    now[0] += 1_000
    assert sim.ok("GET", "/status")["now_ms"] == begun + 101_000
    sim.venue.close()
    now[0] += 1_000
    sim = Asked(venue_of(lambda: now[0], **given))
    status = sim.ok("GET", "/status")
    assert (status["now_ms"], status["speed"]) == (begun + 111_000, "10")
    assert sim.ok("POST", "/clock", {"speed": "0"}) == {"now_ms": begun + 111_000, "speed": "0"}
    now[0] += HOUR
    assert sim.ok("GET", "/status")["now_ms"] == begun + 111_000, "stopped"
    assert "step_ms and speed" in sim.raw("POST", "/clock", {"now_ms": begun + HOUR})[1]["error"]
    sim.venue.close()


def test_money_comes_goes_and_is_set_and_the_books_still_balance(sim):
    sim.ok("POST", "/deposit", {"address": USER.upper().replace("0X", "0x"), "usd": "100.5"})
    assert sim.ok("POST", "/withdraw", {"address": USER, "usd": 0.25})["balance"] == "100.25"
    assert sim.ok("POST", "/balance", {"address": USER, "usd": 5000})["changed_by"] == "4899.75"
    assert sim.ok("POST", "/balance", {"address": USER, "usd": 5000})["changed_by"] == "0.0"
    account = sim.ok("GET", "/account", address=USER)
    assert account["balance"] == "5000.0" and account["books"] == {"deposit": "5000.25", "withdraw": "-0.25"}
    assert sim.ok("GET", "/ledger")["books"]["total"] == "0.0"


def test_an_account_set_to_nothing_is_liquidated(sim):
    engine = sim.venue.engine
    order = {"type": "order", "orders": [wire(True, 101_000, "0.5", "Ioc")], "grouping": "na"}
    assert engine.execute({"action": order, "nonce": START_MS}, USER)["status"] == "ok"
    sim.ok("POST", "/balance", {"address": USER, "usd": 0})
    sim.ok("POST", "/clock", {"step_ms": MINUTE})
    account = sim.ok("GET", "/account", address=USER)
    assert account["positions"] == {} and account["liquidations"]
    assert {"fills", "open_orders", "funding", "transfers", "nonces", "leverage"} <= set(account)


def test_switches_are_listed_and_turned(sim):
    assert sim.ok("GET", "/switches")["fill_on_touch"] is False
    assert sim.ok("POST", "/switches", {"fill_on_touch": True})["fill_on_touch"] is True
    assert sim.ok("GET", "/switches") == sim.ok("GET", "/status")["switches"]


def test_recorded_funding_is_paid_in_its_hour_also_after_a_restart(tmp_path):
    path = tmp_path / "ledger.sqlite"
    sim = Asked(venue_of(ledger=path))
    sim.ok("POST", "/funding", {"coin": "BTC", "rates": [[NEXT_HOUR, "0.001"], [NEXT_HOUR + HOUR, -0.002]]})
    sim.ok("POST", "/funding", {"coin": "BTC", "rates": [[NEXT_HOUR + 2 * HOUR, "0.003"]]})
    sim.ok("POST", "/clock", {"now_ms": NEXT_HOUR + 1})
    sim.venue.close()
    sim = Asked(venue_of(ledger=path))
    sim.ok("POST", "/clock", {"now_ms": NEXT_HOUR + 2 * HOUR + 1})
    rows = sim.venue.engine.state.markets["BTC"].funding[-3:]
    assert [rate for _, rate, _ in rows] == [D("0.001"), D("-0.002"), D("0.003")]
    sim.venue.close()


def test_faults_are_added_listed_and_dropped_by_kind(sim):
    sim.ok("POST", "/faults", [{"kind": "delay", "ms": 5}, {"kind": "429"}])
    assert [r["kind"] for r in sim.ok("GET", "/faults")["faults"]] == ["delay", "429"]
    assert [r["kind"] for r in sim.ok("DELETE", "/faults", kind="429")["faults"]] == ["delay"]
    assert sim.ok("DELETE", "/faults") == {"faults": []}


def test_sockets_are_closed_by_whoever_serves_them(sim):
    assert sim.ok("POST", "/disconnect") == {"disconnected": 0}
    sim.control.disconnect = lambda: 3
    assert sim.ok("POST", "/disconnect") == {"disconnected": 3}


BAD_TIMES_AND_PRICES = {
    "now": ("/clock", {"now_ms": START_MS * 10**6}, "now_ms must be at most "),
    "time": (
        "/candles",
        {"coin": "BTC", "candles": [[10**18, 1, 1, 1, 1, 1]]},
        "ts_ms must be from 0 to 4102444800000",
    ),
    "price": ("/candles", {"coin": "BTC", "candles": [[0, "1E+99", 1, 1, 1, 1]]}, "prices must be from 0.000001 to"),
    "volume": ("/candles", {"coin": "BTC", "candles": [[0, 1, 1, 1, 1, -1]]}, "volume must be from 0 to"),
    "not a number": ("/deposit", {"address": USER, "usd": "NaN"}, "usd must be finite, was 'NaN'"),
}


@pytest.mark.parametrize("name", BAD_TIMES_AND_PRICES)
def test_what_no_market_can_hold_is_refused(sim, name):
    path, body, text = BAD_TIMES_AND_PRICES[name]
    status, answer = sim.raw("POST", path, body)
    assert status == 400 and text in answer["error"]


numbers = st.one_of(st.integers(-(10**20), 10**20), st.floats(), st.decimals().map(str))
words = st.sampled_from([USER, "BTC", "delay", "1e400", ""])
leaves = st.one_of(st.none(), st.booleans(), numbers, words, st.text(max_size=5))
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
usd = st.decimals(-5, 20_000, places=6).map(str)
times = st.integers(NEXT_HOUR, NEXT_HOUR + 3000 * HOUR)
prices = st.lists(st.decimals(90_000, 110_000, places=1).map(str), min_size=5, max_size=5)
LIKELY = {
    "address": st.just(USER),
    "usd": usd,
    "coin": st.just("BTC"),
    "candles": st.lists(st.tuples(times, prices).map(lambda row: [row[0], *row[1]]), max_size=2),
    "rates": st.lists(st.tuples(times, st.decimals(-1, 1, places=3).map(lambda r: str(r / 20))), max_size=3),
    "step_ms": st.integers(-5, HOUR),
    "now_ms": times,
    "speed": usd,
    "kind": st.sampled_from(["delay", "429", "moon"]),
    "fill_on_touch": st.booleans(),
    "mark_gap": st.sampled_from(["0.01", 0.02, "x"]),
    "ms": st.integers(-1, 5),
    "probability": usd,
}
EVERY = {(row.method, row.path): row for row in CONTROLS if row.fields}
NAMES = {
    ("POST", "/_sim/clock"): ("step_ms",),
    ("POST", "/_sim/switches"): ("fill_on_touch", "mark_gap"),
    ("POST", "/_sim/faults"): ("kind", "ms"),
}


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(sorted(EVERY)), st.data())
def test_whatever_is_asked_is_done_or_refused_in_one_line_without_a_trace(asked_of_all, which, data):
    row = EVERY[which]
    body = data.draw(st.fixed_dictionaries({name: LIKELY[name] for name in NAMES.get(which, row.fields)}))
    for name in data.draw(st.lists(st.sampled_from(sorted(LIKELY)), max_size=1)):
        body[name] = data.draw(values)
    before = json.dumps(asked_of_all.ok("GET", "/ledger"), sort_keys=True)
    status, answer = asked_of_all.control.answer(row.method, row.path, {}, json.dumps(body).encode())
    assert status in (200, 400)
    after = asked_of_all.ok("GET", "/ledger")
    if status == 400:
        assert set(answer) == {"error"} and "\n" not in answer["error"] and len(answer["error"]) < 4000
        assert json.dumps(after, sort_keys=True) == before
    assert after["books"]["total"] == "0.0"
    answered[status] += 1


answered: Counter[int] = Counter()


@pytest.fixture(scope="module")
def asked_of_all(tmp_path_factory):
    """A venue where somebody holds a position. Started again on its ledger, it is where all that was asked left it."""
    given = {"ledger": tmp_path_factory.mktemp("control") / "ledger.sqlite"}
    sim = Asked(venue_of(**given))
    order = {"type": "order", "orders": [wire(True, 101_000, "0.05", "Ioc")], "grouping": "na"}
    signature = signing.sign_l1_action(KEY, order, None, START_MS, None, False)
    assert "filled" in sim.venue.reply("/exchange", {"action": order, "nonce": START_MS, "signature": signature}).text
    yield sim
    assert min(answered[200], answered[400]) >= 20, answered
    before = sim.ok("GET", "/ledger")
    sim.venue.close()
    again = Asked(venue_of(**given))
    assert again.ok("GET", "/ledger") == before
    again.venue.close()
