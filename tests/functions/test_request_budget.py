"""Requests are counted: entries leave a share for the ways out, and what the venue refuses is waited out."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from twinleg.domain.trades import ENDED, TradeState
from twinleg.embedded.replay import alert_json
from twinleg.engine.budget import ACCOUNT_WEIGHT, ENTRY_WEIGHT, MARKET_WEIGHT


def page(w: Any, account: str) -> dict[str, Any]:
    return w.system.store.get("accounts", account).data


def test_entries_are_refused_when_this_minutes_weight_is_spent_and_closes_are_not(world):
    w = world()
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.OPEN
    venue = w.system.venues.of("main")
    while venue.weight()[0] <= 720:
        venue.open_orders("main")
    w.alert("close", "a2")
    assert w.trade().state is TradeState.CLOSED
    w.alert("sell", "a3")
    assert w.trade().state is TradeState.REFUSED
    assert w.trade().why_closed.startswith("request_weight: hyperliquid: weight_last_minute ")
    w.system.clock.sleep(61)
    w.alert("sell", "a4")
    assert w.trade().state is TradeState.OPEN


def test_what_an_entry_and_a_close_weigh(world):
    """So much that the share kept for closes bears one more entry: 720 and what it weighs is still within 1200."""
    w = world()
    venue = w.system.venues.of("main")
    w.minutes(2)
    before = venue.weight()[0]
    w.alert("buy", "a1")
    entry = venue.weight()[0] - before
    w.alert("close", "a2")
    close = venue.weight()[0] - before - entry
    assert abs(entry - ENTRY_WEIGHT) <= 30, "as the sum over all instances reckons"
    assert 100 < close <= 250


def test_the_sweep_notes_how_many_requests_an_account_has_left_and_entries_heed_it(world):
    w = world(requests_left_min="9990")
    assert 9_990 <= page(w, "main")["requests_left"] <= 10_000
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.OPEN
    w.minutes(65)
    assert page(w, "main")["requests_left"] < 10_000, "noted again within the hour"
    assert w.trade().state in ENDED or w.trade().state is TradeState.OPEN
    w.system.store.batch([_noted(w, "hedge", 9_989)])
    w.alert("close", "a2")
    w.alert("sell", "a3")
    assert w.trade().why_closed == "requests_left: hedge: requests_left 9989 < requests_left_min 9990: kept for closes"


def _noted(w: Any, account: str, left: int) -> Any:
    from twinleg.engine.ports import Merge

    return Merge("accounts", account, {"requests_left": left})


def test_too_few_are_said(world):
    w = world(requests_left_min="20000")
    assert len(w.events("warned")) == 2
    assert all("< requests_left_min 20000: nothing is entered" in told for told in w.events("warned"))
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.REFUSED


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_close_that_is_one_request_too_many_is_sent_again_only_after_a_while(world, count):
    w = world()
    w.alert("buy", "a1")
    w.fault(kind="429", address=w.address("main"), path="/exchange", count=count)
    w.alert("close", "a2")
    w.minutes()
    assert w.trade().state is TradeState.CLOSED
    actions = w.system.store.query("actions", {"account": "main", "kind": "PlaceReduction"}, order_by="created_at")
    times = [a.data["created_at"] for a in actions]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(waits) == count
    assert all(wait >= timedelta(seconds=min(2.0**n, 10) / 2) for n, wait in enumerate(waits, 1))


def test_entries_of_all_instances_are_counted_together(world):
    """Each entry is made by a process that has sent nothing yet: what the others sent is known by their approvals."""
    w = world(also=["ETH", "SOL", "XRP"])
    w.minutes(2)
    for coin in ("BTC", "ETH", "SOL"):
        w.restart()
        assert w.system.venues.of("main").weight()[0] == 0
        w.post(alert_json(coin, "buy", w.system.clock.now(), f"{coin} 1"))
        w.deliver()
    assert [t.state for t in w.trades()] == [TradeState.OPEN, TradeState.OPEN, TradeState.REFUSED]
    assert w.trade().why_closed.startswith("request_weight: hyperliquid: weight_last_minute 878 > 720")
    w.alert("close", "c1")
    w.system.clock.sleep(61)
    w.alert("buy", "b1")
    assert w.trade().state is TradeState.OPEN, w.trade().summary


def test_a_desk_of_six_markets_may_enter_two_in_one_minute_and_reverse(world):
    """All functions in one process, as on a laptop: ingest, sweep and entries share what the venue takes a minute."""
    reversing = {"tradingview": {"on_opposite": '"reverse"'}}
    w = world(also=["ETH", "SOL", "XRP", "DOGE", "AVAX"], script=reversing, margin_in_use_percent_max="60")
    venue = w.system.venues.of("main")
    w.minutes(2)
    quiet = venue.weight()[0]
    assert quiet <= 300 and abs(quiet - 2 * ACCOUNT_WEIGHT - 6 * MARKET_WEIGHT) <= 60
    w.alert("buy", "a1")
    w.post(alert_json("ETH", "buy", w.system.clock.now(), "b1"))
    w.deliver()
    assert [t.state for t in w.trades()] == [TradeState.OPEN] * 2, [t.why_closed for t in w.trades()]
    assert venue.weight()[0] + 200 <= 1_200, "and a way out is left"
    w.minutes(2)
    assert venue.weight()[0] <= quiet, "two open trades cost no more"
    w.alert("sell", "a2")
    states = sorted((t.main.market, t.intent.direction.value, t.state.value) for t in w.trades())
    assert ("hyperliquid:BTC", "short", "OPEN") in states and ("hyperliquid:BTC", "long", "CLOSED") in states
    assert venue.weight()[0] + 200 <= 1_200
