"""``twinleg explain``: one trade from its cause to its last fill, whatever became of it, by whatever id it is asked."""

import json
import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from twinleg.adapters.local.candle_files import packaged_candles
from twinleg.bootstrap import paper_key
from twinleg.cli import main
from twinleg.domain.control import Halt
from twinleg.domain.errors import Unavailable
from twinleg.domain.money import plain
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import settings_text
from twinleg.engine.control import set_trading
from twinleg.engine.orderpath import ActionRecord
from twinleg.engine.ports import CancelOrders, Steps
from twinleg.engine.story_words import span

D = Decimal


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWINLEG_CONFIG", raising=False)


class Teller:
    """Runs the command as a person does."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def run(self, w: Any, *words: str) -> tuple[int, str, str]:
        config = w.folder / "twinleg.toml"
        config.write_text(settings_text(w.coin, w.server.url, {"market": {"strategies": '["tradingview"]'}}))
        self.capsys.readouterr()
        code = main(["explain", "--config", str(config), *words])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def text(self, w: Any, given: str = "") -> str:
        code, out, _ = self.run(w, given or w.trade().trade_id)
        assert code == 0
        assert max(len(line.rstrip()) for line in out.splitlines()) <= 100
        assert "\x1b" not in out
        return " ".join(out.split())  # as one line, wherever it was folded

    def json(self, w: Any, given: str = "") -> dict[str, Any]:
        code, out, _ = self.run(w, given or w.trade().trade_id, "--json")
        assert code == 0
        told: dict[str, Any] = json.loads(out)
        times = [datetime.fromisoformat(step["at"]) for step in told["steps"]]
        assert times == sorted(times)
        return told


@pytest.fixture
def teller(capsys: pytest.CaptureFixture[str]) -> Teller:
    return Teller(capsys)


def kinds(told: dict[str, Any]) -> list[str]:
    return [step["kind"] for step in told["steps"]]


def texts(told: dict[str, Any], kind: str) -> list[str]:
    return [step["text"] for step in told["steps"] if step["kind"] == kind]


def complete(w: Any, told: dict[str, Any]) -> None:
    """Every signed action of the trade, every order of it and every fill at the venue is in the story."""
    id = w.trade().trade_id
    actions = [ActionRecord.model_validate(s.data) for s in w.system.store.query("actions", {"trade_id": id})]
    assert {a.id for a in actions} == {s["action_id"] for s in told["steps"] if s["kind"] == "action"} != set()
    placed = [o for leg in told["legs"] for o in leg["orders"]]
    assert {s.id for s in w.system.store.query("orders", {"trade_id": id})} == {o["client_order_id"] for o in placed}
    for leg in told["legs"]:
        fills = w.fills(leg["account"])
        steps = [s for s in told["steps"] if s["kind"] == "fill" and s["leg"] == leg["role"] and "size" in s]
        assert sum(D(f["sz"]) for f in fills) == sum(D(s["size"]) for s in steps)
        fees = sum(D(f["fee"]) for f in fills)
        assert fees == sum(D(s["fee_usd"]) for s in steps) == D(leg["fees_usd"])
    net = sum(D(leg["realised_usd"]) - D(leg["fees_usd"]) - D(leg["funding_usd"]) for leg in told["legs"])
    assert D(told["pnl_usd"]) == net == w.trade().pnl_usd


def test_a_trade_that_was_opened_and_closed_is_told_from_alert_to_last_fill(world, teller):
    w = world()
    w.alert("buy", "a1")
    w.minutes(2)
    w.alert("close", "a2")
    told = teller.json(w)
    complete(w, told)
    assert told["state"] == "CLOSED" and told["ending"] == "CLOSED: alert close"
    order = ["cause", "intent", "approved", "action", "fill", "opened", "request", "decision", "closed"]
    assert list(dict.fromkeys(kinds(told))) == order
    steps = {step["kind"]: step for step in reversed(told["steps"])}
    assert re.match(
        r"alert t\w{24} \(known by its template\): open_long BTC; fired .* received", steps["cause"]["text"]
    )
    assert steps["intent"]["text"] == "wanted: long hyperliquid:BTC, confidence 0.6"
    asked = " ".join(steps["intent"]["details"])
    assert "5 % of the equity of both accounts; main buy on main with 80 % of it at 3x" in asked
    gate = " ".join(steps["approved"]["details"])
    for number in ("main buy 0.02388", "loss at it 49.95 of 200 USD", "saw main: equity 10000 USD", "mark 100000",
                   "entries 0 in the last hour", "request weight of hyperliquid"):  # fmt: skip
        assert number in gate
    assert texts(told, "request") == ["asked to close 100 %: alert close"]
    assert texts(told, "decision") == ["decided to close both legs: alert close"]
    entries = [s for s in told["steps"] if s["kind"] == "action" and "open hyperliquid:BTC" in s["text"]]
    assert [s["leg"] for s in entries] == ["main", "hedge"]
    assert [d.split()[0] for d in entries[0]["details"]] == ["entry", "stop", "target", "signed"]
    text = teller.text(w)
    assert text.startswith(f"{told['id']} long hyperliquid:BTC by tradingview CLOSED: alert close leg opened closed")
    assert f"both -0.31 2.33 0.00 {w.trade().pnl_usd:+.2f}" in text
    for leg in told["legs"]:
        for placed in leg["orders"]:
            assert placed["client_order_id"] in text


def test_a_trade_of_a_strategy_begins_with_the_candle_and_its_numbers(world, teller):
    """In the packaged candles MACD says long at the close of the 223rd."""
    w = world(candles=packaged_candles(), history=221, script={"market": {"strategies": '["macd"]'}})
    candle = w.candles[223]
    while w.system.clock.now() < candle.closed_at:
        w.minutes()
    cause, intent = teller.json(w)["steps"][:2]
    numbers = (
        f"open {plain(candle.open)}, high {plain(candle.high)}, low {plain(candle.low)}, close {plain(candle.close)}"
    )
    closed = f"candle of hyperliquid:BTC closed at {candle.closed_at:%Y-%m-%dT%H:%M:%SZ}: {numbers}, volume "
    assert cause["text"].startswith(closed)
    assert datetime.fromisoformat(cause["at"]) == candle.closed_at
    assert intent["details"][0].startswith("MACD 8/21/5 histogram +")
    assert f"reference price {plain(candle.close)}" in " ".join(intent["details"])


def test_from_every_id_that_belongs_to_a_trade_the_same_story_is_found(world, teller):
    w = world()
    w.alert("buy", "a1")
    w.alert("close", "a2")
    trade = w.trade()
    told = teller.json(w)
    ids = [o.client_order_id for leg in trade.legs for o in leg.orders]
    ids += [s.id for s in w.system.store.query("actions", {"trade_id": trade.trade_id})]
    ids += [s.id for s in w.system.store.query("intents", {"decision": "close"})]  # what asked for its end
    ids += [trade.intent.trigger, trade.trade_id[:20], ids[0].upper().replace("X", "x")]
    assert len(ids) > 15
    for id in ids:
        assert teller.json(w, id) == told, id


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nothing-like-it", "there is no trade, order, action or alert 'nothing-like-it'"),
        ("0x" + "0" * 32, "there is no trade, order, action or alert '0x000"),
        ("BTC-tradingview-", "could be any of 2: BTC-tradingview-"),
        ("a/b", "a trade's id, client order id, action id or alert id was expected, was 'a/b'"),
    ],
)
def test_an_id_that_leads_nowhere_or_to_several_gets_one_clear_line(world, teller, given, says):
    w = world()
    w.alert("buy", "a1")
    w.system.clock.sleep(61)
    w.alert("sell", "a2")
    w.system.clock.sleep(61)
    w.alert("sell", "a3")
    assert len(w.trades()) == 2
    code, out, err = teller.run(w, given)
    assert (code, out, err.count("\n")) == (2, "", 1) and says in err


def test_an_answer_that_was_lost_is_told_with_the_copy_and_the_fence(world, teller):
    w = world()
    # leverage, entry and hedge pass; then two copies of a close are lost before the venue sees them
    w.alert("buy", "a1")
    w.fault(kind="lose_request", address=w.address("main"), path="/exchange", count=2)
    w.alert("close", "a2")
    w.minutes(2)
    told = teller.json(w)
    complete(w, told)
    verdicts = [s for s in told["steps"] if s["kind"] == "verdict"]
    assert [s["text"].split(" ⇒ ")[0] for s in verdicts] == [
        "reduction: no answer came back",
        "reduction: no answer: the same bytes go out again",
        "reduction: no answer came back",
        "reduction: still no answer: a noop under the same nonce goes out, to fence it",
        "reduction: the noop was accepted: the action never ran and never can",
    ]
    assert {s["action_id"] for s in verdicts} == {verdicts[0]["action_id"]} and all(s["loud"] for s in verdicts)
    assert verdicts[-1]["state"] == "never_ran" and verdicts[-1]["details"][-1] == "fenced by noop"
    # another attempt, under its own nonce and client order id, ended it
    closes = [o for o in told["legs"][0]["orders"] if o["purpose"] == "close"]
    assert [o["state"] for o in closes] == ["rejected", "filled"]
    assert len({o["action_id"] for o in closes}) == 2
    assert "a noop under the same nonce goes out, to fence it" in teller.text(w)


def test_a_refused_intent_is_told_with_the_numbers_that_refused_it(world, teller):
    w = world(depth_ratio_min="1000000")
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.REFUSED
    told = teller.json(w)
    assert kinds(told) == ["cause", "intent", "refused"] and told["alone"] == []
    refused = told["steps"][-1]
    assert refused["text"].startswith("refused: depth: main hyperliquid:BTC: ask depth ") and refused["loud"]
    assert any(re.match(r"saw main hyperliquid:BTC: mark 100000, .* depth [\d.]+ bid", d) for d in refused["details"])
    assert told["ending"] in teller.text(w) and told["ending"].startswith("REFUSED: depth: ")


def test_a_signal_that_came_to_nothing_is_told_with_the_reason(world, teller):
    w = world()
    w.alert("close", "a1")
    [intent] = w.system.store.query("intents")
    told = teller.json(w, intent.id)
    assert kinds(told) == ["intent"] and "legs" not in told
    assert "there is no open trade in hyperliquid:BTC" in told["ending"]
    assert "alert" in teller.text(w, intent.id)


WIDE = {
    "net_stop_percent": "50", "net_target_percent": "50",
    "day_loss_reducing_percent": "80", "day_loss_flatten_percent": "90",
}  # fmt: skip


def test_a_trade_that_the_ladder_cut_and_closed_is_told_rung_by_rung_with_the_numbers(world, teller):
    w = world(["100000"] * 3 + [str(100_000 - 750 * n) for n in range(1, 61)], **WIDE)
    w.alert("buy", "a1")
    w.control.switches(triggers_enabled=False)
    for _ in range(62):
        if w.trade().state is TradeState.OPEN:
            w.minutes()
    assert w.trade().state is TradeState.CLOSED
    told = teller.json(w)
    complete(w, told)
    happened = [k for k in kinds(told) if k in ("margin_added", "cut", "decision", "closed")]
    assert happened == ["margin_added", "decision", "cut", "decision", "closed"] and kinds(told).count("warned") > 1
    number = r"main leg: [\d.]+ % of its liquidation distance at entry is left, margin ratio [\d.]+; "
    assert re.search(f"warned: {number}warn", texts(told, "warned")[0])
    assert re.search(
        rf"margin added: [\d.]+ USD to the main leg: accepted \({number}margin", texts(told, "margin_added")[0]
    )
    cut, close = texts(told, "decision")
    assert re.match(f"decided to cut both legs: ladder cut: {number}margin at 35 % or 2, done before: cut$", cut)
    assert re.match(f"decided to close both legs: ladder: {number}cut at 20 % or 1.5, done before: close$", close)
    added = [s for s in told["steps"] if s["kind"] == "action" and re.match(r"add [\d.]+ USD to", s["text"])]
    assert len(added) == 1 and added[0]["who"] == "risk"
    fills = [s["text"].split(" filled")[0] for s in told["steps"] if s["kind"] == "fill"]
    assert fills == ["entry", "entry", "cut", "cut", "close", "close"]
    place = kinds(told).index("cut")
    assert [s["text"].split(" filled")[0] for s in told["steps"][:place] if s["kind"] == "fill"] == fills[:4]


def test_a_trade_that_was_stopped_at_the_venue_is_told_with_the_exits_of_both_legs(world, teller):
    w = world(["100000", "100000"] + [str(100_000 - 150 * n) for n in range(1, 20)])
    w.alert("buy", "a1")
    for _ in range(15):
        if w.trade().state is TradeState.OPEN:
            w.minutes()
    trade = w.trade()
    assert trade.state is TradeState.CLOSED and trade.why_closed.startswith("main leg stop at ")
    told = teller.json(w)
    complete(w, told)
    stop = next(s for s in told["steps"] if s["kind"] == "fill" and s["text"].startswith("stop filled: sold "))
    assert (stop["leg"], stop["loud"]) == ("main", True)
    # the hedge's target rests at the main leg's stop: the venue closed both, and neither stood alone
    assert told["alone"] == []
    exits = [s["text"].split(" filled")[0] for s in told["steps"] if s["kind"] == "fill"]
    assert sorted(exits) == ["entry", "entry", "stop", "target"]
    assert {s["at"] for s in told["steps"] if s["kind"] == "fill" and s["text"][:5] in ("stop ", "targe")} == {
        stop["at"]
    }


def test_a_leg_that_a_hand_closed_leaves_the_other_alone_for_a_time_that_is_told(world, teller):
    w = world()
    w.alert("buy", "a1")
    w.system.clock.sleep(5)
    trade_by_hand(w, "hedge", True, str(abs(w.position("hedge"))))
    w.minutes(2)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    told = teller.json(w)
    [alone] = told["alone"]
    assert (alone["leg"], alone["why"]) == ("main", "while the legs were closed")
    assert trade.main.exited_at and trade.hedge.exited_at
    assert alone["seconds"] == (trade.main.exited_at - trade.hedge.exited_at).total_seconds() > 0
    hand = next(s for s in told["steps"] if "none of ours" in s["text"] and s["kind"] == "fill")
    assert (hand["leg"], hand["at"], hand["loud"]) == ("hedge", alone["since"], True)
    assert f"the main leg stood alone for {alone['seconds']:.0f} s while the legs were closed" in teller.text(w)


def test_a_hedge_that_came_late_leaves_the_main_leg_alone_while_the_legs_are_opened(world, teller):
    w = world()
    w.fault(kind="429", address=w.address("hedge"), action="order", count=1)
    w.alert("buy", "a1")
    w.minutes(2)
    trade = w.trade()
    assert trade.main.entered_at and trade.hedge.entered_at
    [alone] = teller.json(w)["alone"][:1]
    assert (alone["leg"], alone["why"]) == ("main", "while the legs were opened")
    assert alone["seconds"] == (trade.hedge.entered_at - trade.main.entered_at).total_seconds() > 0


def test_a_hedge_that_was_refused_is_told_with_the_reason_and_the_unwinding(world, teller):
    w = world()
    w.fault(kind="reject", address=w.address("hedge"), action="order", error="Insufficient margin to place order.")
    w.alert("buy", "a1")
    w.minutes(2)
    assert w.trade().state is TradeState.CLOSED and w.trade().hedge.size_filled == 0
    told = teller.json(w)
    complete(w, told)
    refused = [s for s in told["steps"] if s["leg"] == "hedge" and s["loud"]]
    assert any("Insufficient margin to place order." in d for s in told["steps"] for d in s["details"]) and refused
    assert len(texts(told, "unwound")) == 1
    unwinds = [o for o in told["legs"][0]["orders"] if o["purpose"] == "unwind"]
    assert [o["state"] for o in unwinds] == ["filled"]


def test_a_halt_while_it_lived_and_a_stop_placed_again_are_in_the_story(world, teller):
    w = world()
    w.alert("buy", "a1")
    w.system.clock.sleep(1)
    set_trading(w.engine(), Halt.REDUCING, why="lunch", by="a person")
    stop = next(o for o in w.system.venues.of("main").open_orders("main") if o.kind == "stop")
    venue = w.system.venues.of("main")
    assert stop.client_order_id is not None
    cancel = CancelOrders("main", w.market, (stop.client_order_id,))
    nonce = int(w.system.clock.now().timestamp() * 1000) + 5000
    venue.send(venue.sign(cancel, w.engine().role, nonce, None))
    w.minutes(1)
    told = teller.json(w)
    assert texts(told, "trading") == ["trading: ENABLED -> REDUCING by a person: lunch"]
    assert texts(told, "protected") == ["protected: main leg: its stop was missing and is placed again"]
    guards = [o for o in told["legs"][0]["orders"] if o["purpose"] == "stop"]
    assert len(guards) == 2 and told["state"] == "OPEN"
    assert told["ending"].startswith("OPEN, held: main 0.02388 on main, hedge 0.002 on hedge")


def test_an_action_that_belongs_to_no_trade_is_told_alone(world, teller):
    w = world(foreign="close")
    trade_by_hand(w, "main", True, "0.001")
    w.minutes(2)
    assert w.position("main") == 0
    [orphan] = [s for s in w.system.store.query("actions") if s.data["trade_id"].startswith("orphan:")]
    told = teller.json(w, orphan.id)
    assert kinds(told) == ["action"] and "legs" not in told
    assert told["steps"][0]["text"] == "reduce hyperliquid:BTC on main: accepted"


class Cut:
    """The line to the records, which can be cut."""

    down = False

    def __call__(self, _: int, name: str) -> None:
        if self.down and name.startswith(("store.", "bus.")):
            raise Unavailable(f"{name}: the store is down")


def test_what_was_closed_while_the_records_could_not_be_read_is_told_once_they_are_back(world, teller):
    w, cut = world(), Cut()
    w.alert("buy", "a1")
    w.restart(Steps(cut))
    venue = w.system.venues.of("main")
    ids = tuple(o.order_id for o in venue.open_orders("main") if o.kind == "stop")
    nonce = int(w.system.clock.now().timestamp() * 1000) + 5000
    venue.send(venue.sign(CancelOrders("main", w.market, order_ids=ids), w.engine().role, nonce, None))
    cut.down = True
    w.system.clock.sleep(61)
    assert w.runtime.call("risk") == 503
    cut.down = False
    w.sweep()
    assert w.trade().state is TradeState.CLOSED
    told = teller.json(w)
    emergencies = [o for leg in told["legs"] for o in leg["orders"] if o["purpose"] == "emergency"]
    assert len(emergencies) == 2
    sent = [s for s in told["steps"] if s["kind"] == "action" and s["who"] == "emergency"]
    assert {id for s in sent for id in s["client_order_ids"]} == {o["client_order_id"] for o in emergencies}
    fills = [s for s in told["steps"] if s["kind"] == "fill" and s["text"].startswith("emergency filled: ")]
    assert len(fills) == 2 and all(s["loud"] for s in fills)
    assert all("sent without the records because" in text for text in texts(told, "emergency")) != []
    assert teller.json(w, emergencies[0]["client_order_id"]) == told


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.027, "0.03 s"),
        (0.1, "0.1 s"),
        (54, "54 s"),
        (119.94, "119.9 s"),
        (120, "2 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_a_time_is_told_as_a_person_would_and_a_short_one_is_not_none(seconds: float, words: str) -> None:
    assert span(seconds) == words


def trade_by_hand(w: Any, account: str, is_buy: bool, size: str) -> None:
    """An order of the owner's own, without a client order id."""
    import hyperliquid.exchange as module
    from eth_account import Account

    exchange = module.Exchange(Account.from_key(paper_key(account, "owner")), w.server.url)
    now = int(w.control.status()["now_ms"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "get_timestamp_ms", lambda: now)
        answer = exchange.order("BTC", is_buy, float(size), 101_000 if is_buy else 99_000, {"limit": {"tif": "Ioc"}})
    assert "filled" in answer["response"]["data"]["statuses"][0], answer
