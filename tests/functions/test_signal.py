"""From a candle or an alert to one decision, for ever: what opens, what closes, what is ignored and why."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from twinleg import wire
from twinleg.adapters.local.candle_files import packaged_candles
from twinleg.bootstrap import function_app
from twinleg.domain.messages import AlertMessage, HedgedIntent
from twinleg.domain.orders import Purpose
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import alert_json
from twinleg.engine.ports import SignerRole, Steps
from twinleg.engine.signals import on_alert

LONG, SHORT = 223, 244
"""In the packaged candles: where MACD's first crossing after minute 220 says long, and the next one short."""
MACD = {"market": {"strategies": '["macd"]'}}


def real_world(world: Any, history: int = 221, script: dict[str, Any] | None = None, **limits: str) -> Any:
    """Recorded bitcoin minutes, of which the first are history, traded on by MACD."""
    return world(candles=packaged_candles(), history=history, script=script or MACD, **limits)


def until(w: Any, index: int) -> None:
    """Replay until the candle of this index has closed and been acted upon."""
    while w.system.clock.now() < w.candles[index].closed_at:
        w.minutes()


def decisions(w: Any) -> list[dict[str, Any]]:
    found = [i.data | {"id": i.id} for i in w.system.store.query("intents") if i.data.get("decision")]
    return sorted(found, key=lambda d: d["decided_at"])


def redeliver(w: Any, topic: str, position: int = -1) -> int:
    """Pub/Sub delivers a message again, years after it was acknowledged if it likes."""
    envelope = w.system.bus.messages(topic, 1_000)[position]
    body = wire.push_body(
        data=envelope.data, message_id=envelope.message_id, topic=topic, key=envelope.key,
        attributes=envelope.attributes, attempt=2,
    )  # fmt: skip
    return int(function_app("signal").test_client().post("/", json=body).status_code)


def candle_message(w: Any, index: int) -> int:
    """Where the message of a candle is in the queue."""
    opened = w.candles[index].opened_at.isoformat().replace("+00:00", "Z")
    found = [json.loads(m.data)["opened_at"] for m in w.system.bus.messages("candles", 1_000)]
    return found.index(opened)


# -- candles ---------------------------------------------------------------------------------------


def test_a_crossing_on_recorded_candles_opens_one_trade_and_the_opposite_one_closes_it(world):
    w = real_world(world)
    until(w, LONG)
    assert [d["decision"] for d in decisions(w)] == ["open"]
    trade = w.trade()
    assert trade.state is TradeState.OPEN
    assert trade.intent.direction == "long"
    assert w.position("main") > 0 > w.position("hedge")
    until(w, SHORT)
    assert [d["decision"] for d in decisions(w)] == ["open", "close"]
    assert w.trade().why_closed == "opposite signal of macd"
    assert w.position("main") == w.position("hedge") == 0
    assert len(w.trades()) == 1


def test_from_any_order_one_can_walk_to_the_candle_that_caused_it_and_back(world):
    w = real_world(world)
    until(w, LONG)
    store = w.system.store
    orders = store.query("orders")
    assert {o.data["purpose"] for o in orders} == {"entry", "stop", "target"}
    assert {o.data["leg"] for o in orders} == {"main", "hedge"}
    for order in orders:
        trade = store.get("trades", order.data["trade_id"]).data["z_record"]
        intent = store.get("intents", order.data["intent_id"]).data
        assert order.id in {o["client_order_id"] for leg in ("main", "hedge") for o in trade[leg]["orders"]}
        action = store.get("actions", order.data["action_id"]).data["z_record"]
        assert order.id in action["client_order_ids"]
        assert action["trade_id"] == order.data["trade_id"]
        assert json.loads(action["body"])["nonce"] == action["nonce"]
        trigger = f"{w.candles[LONG].closed_at:%Y-%m-%dT%H:%M:%SZ}"
        assert order.data["trigger"] == trade["intent"]["trigger"] == intent["trigger"] == trigger
        assert "MACD 8/21/5" in intent["reason"]
        assert trade["intent"]["reason"] == intent["reason"]
    fills = [*w.fills("main"), *w.fills("hedge")]
    assert {f["cloid"] for f in fills} <= {o.id for o in orders}
    [decision] = decisions(w)
    back = store.query("orders", {"intent_id": decision["id"]})
    assert {o.id for o in back} == {o.id for o in orders}
    kinds = [e.data["kind"] for e in store.query("audit", order_by="at")]
    assert kinds.index("signal") < kinds.index("approved") < kinds.index("opened")
    of_trade = store.query("audit", {"trade_id": w.trade().trade_id})
    assert {e.data["kind"] for e in of_trade} >= {"approved", "opened"}


def test_a_redelivered_candle_finds_its_decision_although_the_position_has_changed(world):
    w = real_world(world)
    until(w, SHORT)
    before = decisions(w)
    assert [d["decision"] for d in before] == ["open", "close"]
    for index in (LONG, SHORT, LONG):
        assert redeliver(w, "candles", candle_message(w, index)) == 200
        w.deliver()
    assert decisions(w) == before
    assert [t.state for t in w.trades()] == [TradeState.CLOSED]
    assert w.position("main") == w.position("hedge") == 0
    assert len({f["oid"] for f in w.fills("main")}) == 2


def test_a_candle_nobody_trades_here_is_no_fault(world):
    w = real_world(world)
    until(w, 222)
    message = json.loads(w.system.bus.messages("candles", 1)[0].data) | {"market": "hyperliquid:DOGE"}
    body = wire.push_body(
        data=json.dumps(message).encode(), message_id="1", topic="candles", attributes={"kind": "candle"}
    )
    answer = function_app("signal").test_client().post("/", json=body)
    assert (answer.status_code, answer.text) == (200, "hyperliquid:DOGE is not traded here")


def ingest_only(w: Any, index: int) -> None:
    """Candles are stored and published, and the queue stands still."""
    while w.system.clock.now() < w.candles[index].closed_at:
        w.system.clock.advance_to(w.system.clock.now() + timedelta(minutes=1))
        assert w.runtime.call("ingest") == 200


def test_a_crossing_that_arrives_late_opens_nothing_and_says_by_how_much(world):
    w = real_world(world)
    ingest_only(w, LONG + 4)
    w.deliver()
    [trade] = w.trades()
    assert trade.state is TradeState.REFUSED
    expiry = w.candles[LONG].closed_at + timedelta(seconds=90)
    assert trade.why_closed.startswith("expired")
    assert expiry.isoformat() in trade.why_closed or f"{expiry:%Y-%m-%dT%H:%M:%SZ}" in trade.why_closed
    assert not w.fills("main")
    assert w.events("refused")


def test_an_opposite_crossing_closes_however_late_it_arrives(world):
    """Exits never expire."""
    w = real_world(world)
    until(w, LONG)
    assert w.trade().state is TradeState.OPEN
    ingest_only(w, SHORT + 4)
    w.deliver()
    assert w.trade().state is TradeState.CLOSED
    assert w.trade().why_closed == "opposite signal of macd"
    assert len(w.trades()) == 1
    assert w.position("main") == w.position("hedge") == 0


def test_two_strategies_take_turns_and_the_second_same_way_is_ignored_with_the_reason(world):
    w = real_world(world, script={"market": {"strategies": '["macd", "tradingview"]'}})
    until(w, 222)
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.OPEN
    until(w, LONG)
    ignored = [d for d in decisions(w) if d["decision"] == "ignored"]
    assert [d["strategy"] for d in ignored] == ["macd"]
    assert ignored[0]["status_reason"].startswith("hyperliquid:BTC is held long already (")
    assert len(w.trades()) == 1
    until(w, SHORT)
    assert w.trade().why_closed == "opposite signal of macd"


# -- alerts: when ----------------------------------------------------------------------------------


def post_alert(w: Any, seconds_ago: float, action: str = "buy", id: str = "a1", **more: str) -> None:
    fired = w.system.clock.now() - timedelta(seconds=seconds_ago)
    assert w.post(alert_json(w.coin, action, fired, id, **more)) == [200]
    w.deliver()


@pytest.mark.parametrize("seconds_ago", [0, 60, 89, -60])
def test_an_alert_inside_its_window_is_acted_upon(world, seconds_ago):
    w = world()
    post_alert(w, seconds_ago)
    assert w.trade().state is TradeState.OPEN


@pytest.mark.parametrize(
    ("seconds_ago", "reason"),
    [
        (121, "alert_age_seconds 121 > alert_window_seconds 120"),
        (86_400, "alert_age_seconds 86400 > alert_window_seconds 120"),
        (-121, "it says it fired 121 s in the future"),
    ],
)
def test_an_alert_outside_its_window_is_ignored_with_the_numbers(world, seconds_ago, reason):
    w = world()
    post_alert(w, seconds_ago)
    assert not w.trades()
    assert reason in w.events("alert_ignored")[0]


def test_an_alert_that_waited_in_the_queue_too_long_opens_nothing(world):
    w = world()
    assert w.post(alert_json(w.coin, "buy", w.system.clock.now(), "a1")) == [200]
    w.system.clock.sleep(121)
    w.deliver()
    assert not w.trades()
    assert "alert_age_seconds 121" in w.events("alert_ignored")[0]


def test_an_alert_older_than_an_intent_may_be_is_refused_at_the_gate_with_the_numbers(world):
    w = world()
    post_alert(w, 100)
    assert w.trade().state is TradeState.REFUSED
    assert w.trade().why_closed.startswith("expired")


@pytest.mark.parametrize(
    ("action", "more"),
    [
        ("close", {}),
        ("sell", {"prev_position": "long", "position": "flat"}),
        ("sell", {"prev_position": "long", "position": "long", "prev_position_size": "4", "position_size": "1"}),
    ],
    ids=["close", "close-long", "reduce"],
)  # fmt: skip
def test_an_exit_is_carried_out_however_late_it_arrives(world, action, more):
    w = world()
    w.alert("buy", "a1")
    before = w.position("main")
    w.system.clock.sleep(900)
    post_alert(w, 600, action, "a2", **more)
    assert w.position("main") == (0 if "position_size" not in more else before - w.trade().main.size_closed)
    assert w.position("main") <= before * Decimal("0.26")


def test_an_exit_that_fired_before_the_trade_did_was_meant_for_another(world):
    w = world()
    w.alert("buy", "a1")
    post_alert(w, 30, "close", "a0")
    assert w.trade().state is TradeState.OPEN
    [ignored] = [d for d in decisions(w) if d["decision"] == "ignored"]
    assert "before what" in ignored["status_reason"]
    post_alert(w, 0, "close", "a2")
    assert w.trade().state is TradeState.CLOSED


ORDER_TEXT = b"order buy @ 1 filled on BTCUSDT.P. New strategy position is 1"


def post_text(w: Any, text: bytes = ORDER_TEXT) -> None:
    assert w.post(text) == [200]
    w.deliver()


def test_a_text_is_the_same_alert_within_its_window_and_another_one_after_it(world):
    """Nothing but its arrival tells two alerts of the same text apart."""
    w = world()
    post_text(w)
    assert w.trade().state is TradeState.OPEN
    w.system.clock.sleep(119)
    post_text(w)
    assert len(decisions(w)) == 1
    assert "the same text arrived before" in w.events("alert_ignored")[0]
    w.system.clock.sleep(2)
    post_text(w)
    assert [d["decision"] for d in decisions(w)] == ["open", "ignored"]
    assert "held long already" in decisions(w)[1]["status_reason"]
    assert len(w.trades()) == 1


def test_a_text_message_delivered_again_is_the_same_alert_whenever_that_is(world):
    w = world()
    post_text(w)
    w.alert("close", "c1")
    assert w.trade().state is TradeState.CLOSED
    w.system.clock.sleep(60)
    assert redeliver(w, "alerts", 0) == 200
    w.deliver()
    w.system.clock.sleep(600)
    assert redeliver(w, "alerts", 0) == 200
    w.deliver()
    assert [t.state for t in w.trades()] == [TradeState.CLOSED]


def test_live_refuses_alerts_that_can_be_told_from_no_other(world):
    w = world()
    w.system.clock.sleep(1)
    assert w.post(ORDER_TEXT) == [200]
    message = AlertMessage.model_validate_json(w.system.bus.messages("alerts", 1)[0].data)
    engine = w.engine()
    live = replace(engine, desk=replace(engine.desk, live=True))
    said = on_alert(live, message)
    assert said.startswith("alert ignored: it carries neither an id nor a time")
    assert "{{timenow}}" in said
    assert not decisions(w)
    fired = message.alert.model_copy(update={"id_source": "template"})
    assert on_alert(live, AlertMessage(alert=fired)).startswith("open: long")


# -- alerts: what ----------------------------------------------------------------------------------


def strategy_alert(before: str, after: str) -> dict[str, str]:
    return {"prev_position": before, "position": after}


def test_an_alert_that_adds_to_a_position_is_ignored_with_the_reason(world):
    w = world()
    w.alert("buy", "a1")
    size = w.position("main")
    w.alert("buy", "a2", **strategy_alert("long", "long"))
    assert w.position("main") == size
    assert "it adds to a position, which this system does not do" in w.events("alert_ignored")[0]


def test_a_reversing_alert_closes_both_legs_and_then_opens_the_other_way(world):
    w = world()
    w.alert("buy", "a1")
    w.system.clock.sleep(60)
    w.alert("sell", "a2", **strategy_alert("long", "short"))
    first, second = w.trades()
    assert (first.state, second.state) == (TradeState.CLOSED, TradeState.OPEN)
    assert first.why_closed == f"reversed by {second.trade_id}"
    assert second.intent.replaces == first.trade_id
    assert first.closed_at <= second.created_at
    assert w.position("main") == -second.main.size_filled < 0 < w.position("hedge")
    assert [d["decision"] for d in decisions(w)] == ["open", "open"]


def test_a_reversing_alert_of_a_position_we_never_had_opens(world):
    w = world()
    w.alert("sell", "a1", **strategy_alert("long", "short"))
    assert w.trade().state is TradeState.OPEN
    assert w.position("main") < 0


def test_an_opposite_alert_reverses_when_the_strategy_says_so(world):
    w = world(script={"tradingview": {"on_opposite": '"reverse"'}})
    w.alert("buy", "a1")
    w.system.clock.sleep(60)
    w.alert("sell", "a2")
    assert [t.state for t in w.trades()] == [TradeState.CLOSED, TradeState.OPEN]
    assert w.position("main") < 0


@pytest.mark.parametrize(
    ("opened", "action", "more", "reason"),
    [
        ("buy", "buy", strategy_alert("short", "flat"), "we hold a long"),
        ("sell", "sell", strategy_alert("long", "flat"), "we hold a short"),
        (
            "sell", "sell", strategy_alert("long", "long") | {"prev_position_size": "2", "position_size": "1"},
            "we hold a short",
        ),
        ("", "close", {}, "there is no open trade"),
        ("buy", "buy", {}, "held long already"),
    ],
    ids=["close-short-of-long", "close-long-of-short", "reduce-long-of-short", "nothing-held", "same-way"],
)  # fmt: skip
def test_what_does_not_fit_what_we_hold_is_recorded_and_changes_nothing(world, opened, action, more, reason):
    w = world()
    if opened:
        w.alert(opened, "a1")
    before = w.position("main"), w.position("hedge")
    w.alert(action, "a2", **more)
    assert (w.position("main"), w.position("hedge")) == before
    [ignored] = [d for d in decisions(w) if d["decision"] == "ignored"]
    assert reason in ignored["status_reason"]
    assert ignored["summary"] == f"ignored: {ignored['status_reason']}"


def test_an_alert_for_another_coin_is_ignored_with_the_reason(world):
    w = world()
    assert w.post(alert_json("DOGE", "buy", w.system.clock.now(), "a1")) == [200]
    w.deliver()
    assert not decisions(w)
    assert "DOGE is not traded on alerts here" in w.events("alert_ignored")[0]


def test_an_alert_where_only_candles_are_traded_on_is_ignored(world):
    w = real_world(world)
    w.alert("buy", "a1")
    assert not decisions(w)
    assert w.events("alert_ignored")


def test_an_exit_that_comes_while_the_trade_is_between_its_legs_is_not_lost(world):
    """The process that placed the main leg is dead; whoever resumes the trade finds the close waiting for it."""
    w = world()

    def die_when_main_is_filled(_: int, __: str) -> None:
        stored = w.system.store.database.read("SELECT data FROM documents WHERE collection = 'trades'")
        if any("MAIN_FILLED_UNHEDGED" in data for (data,) in stored):
            raise Death

    w.restart(Steps(die_when_main_is_filled))
    with pytest.raises(Death):
        w.alert("buy", "a1")
    w.restart()
    assert w.trade().state is TradeState.MAIN_FILLED_UNHEDGED
    w.system.clock.sleep(1)
    assert w.post(alert_json(w.coin, "close", w.system.clock.now(), "a2")) == [200]
    assert redeliver(w, "alerts") == 200
    assert [d["decision"] for d in decisions(w)] == ["open", "close"]
    w.deliver()
    w.minutes(2)
    assert w.trade().state is TradeState.CLOSED
    assert w.trade().why_closed == "alert close"
    assert w.position("main") == w.position("hedge") == 0


def test_the_intent_says_what_is_wanted_why_and_until_when(world):
    w = world()
    now = w.system.clock.now()
    w.alert("buy", "a1")
    intent = w.trade().intent
    stored = HedgedIntent.model_validate_json(decisions(w)[0]["z_message"])
    assert stored == intent
    assert intent.reason == "alert open_long"
    assert intent.trigger_at == (now + timedelta(seconds=1)).replace(microsecond=0)
    assert intent.expires_at == intent.trigger_at + timedelta(seconds=90)
    assert (intent.main.account, intent.hedge.account) == ("main", "hedge")
    assert (intent.main.side, intent.hedge.side) == ("buy", "sell")
    assert (intent.main.leverage, intent.hedge.leverage) == (3, 1)
    assert intent.main.margin_share + intent.hedge.margin_share == 1
    assert intent.reference_price == Decimal(100_000)
    assert w.trade().main.placed(Purpose.STOP).trigger_price == Decimal(99_000)


# -- once ------------------------------------------------------------------------------------------


class Death(BaseException):
    """The process ends."""


def test_wherever_the_signal_function_dies_its_alert_is_decided_once_and_its_intent_published(world):
    w = world()
    w.system.clock.sleep(1)
    assert w.post(alert_json(w.coin, "buy", w.system.clock.now(), "a1")) == [200]
    deaths = 0
    while True:
        w.restart(dying_at(deaths + 1))
        try:
            assert redeliver(w, "alerts") == 200
            break
        except Death:
            deaths += 1
    assert deaths >= 6
    w.restart()
    [decision] = decisions(w)
    published = {m.data.decode() for m in w.system.bus.messages("intents", 100)}
    assert published == {decision["z_message"]}
    w.deliver()
    assert [t.state for t in w.trades()] == [TradeState.OPEN]
    assert len(w.fills("main")) == 1


def dying_at(step: int) -> Steps:
    def die(count: int, name: str) -> None:
        if count == step:
            raise Death(name)

    return Steps(die)


def test_an_alert_delivered_to_many_instances_at_once_is_decided_once(world):
    w = world()
    w.system.clock.sleep(1)
    assert w.post(alert_json(w.coin, "buy", w.system.clock.now(), "a1")) == [200]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: redeliver(w, "alerts"), range(8)))
    assert set(answers) <= {200, 503}
    assert 200 in answers
    assert len(decisions(w)) == 1
    assert len({m.data for m in w.system.bus.messages("intents", 100)}) == 1
    w.deliver()
    assert len(w.trades()) == 1
    assert len(w.fills("main")) == 1


def test_signals_place_no_orders_themselves(world):
    """What signal sends is a message; only execute and risk sign."""
    w = world()
    w.system.clock.sleep(1)
    assert w.post(alert_json(w.coin, "buy", w.system.clock.now(), "a1")) == [200]
    redeliver(w, "alerts")
    assert decisions(w)[0]["decision"] == "open"
    assert not w.system.store.query("actions")
    assert w.engine(SignerRole.EXECUTE).store.query("trades") == []


def test_an_exit_waits_for_an_entry_that_was_decided_but_not_carried_out_yet(world):
    w = world()
    signal, execute = w.runtime.bus._subscriptions["alerts"], w.runtime.bus._subscriptions["intents"]
    assert signal and execute
    w.runtime.bus._subscriptions.pop("intents")
    w.alert("buy", "a1")
    w.alert("close", "a2")
    assert not w.trades()
    w.runtime.bus._subscriptions["intents"] = execute
    w.deliver()
    w.system.clock.sleep(5)
    w.deliver()
    assert [t.state for t in w.trades()] == [TradeState.CLOSED]
    assert w.position("main") == w.position("hedge") == 0
