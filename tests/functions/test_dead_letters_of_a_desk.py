"""Dead letters of a whole desk on one machine: what gets there, and what the command does with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from twinleg.adapters.local.bus import LocalBus
from twinleg.cli import main
from twinleg.domain.messages import CloseTrade
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import settings_text
from twinleg.engine.dead_letters import DeadLetter, listed
from twinleg.wire import to_bytes

LONG = timedelta(hours=3)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TWINLEG_CONFIG", "TWINLEG_RUNTIME", "TWINLEG_REGION"):
        monkeypatch.delenv(name, raising=False)


def at_desk(w: Any) -> str:
    path: Path = w.folder / "twinleg.toml"
    path.write_text(settings_text(w.coin, w.server.url, {"market": {"strategies": '["tradingview"]'}}))
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(w: Any, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*arguments, "--config", at_desk(w)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def letters(w: Any) -> list[DeadLetter]:
    return listed(w.system.dead_letters)[0]


def give_up(w: Any) -> None:
    """Let every retry of what fails pass, in the bus's own time only."""
    bus: LocalBus = w.system.bus
    for _ in range(bus.max_delivery_attempts):
        bus.deliver_due(w.system.clock.now() + LONG)


def publish(w: Any, topic: str, data: bytes, kind: str, key: str = "") -> None:
    w.system.bus.publish(topic, data, key=key, attributes={"kind": kind})


def close_of(trade_id: str) -> bytes:
    return to_bytes(CloseTrade(trade_id=trade_id, reason="a person", request_id="r1"))


# -- what gets there -------------------------------------------------------------------------------


def test_a_permanent_fault_is_there_at_once_with_all_it_takes_to_send_it_again(world: Any) -> None:
    w = world()
    publish(w, "intents", b'{"schema_version": 9}', "intent", key="main:hyperliquid:BTC")
    w.deliver()
    (letter,) = letters(w)
    assert (letter.source, letter.kind, letter.key, letter.attempts) == ("intents", "intent", "main:hyperliquid:BTC", 1)
    assert letter.reason == "HedgedIntent schema_version must be 1, was 9"
    assert letter.attributes["source_topic"] == "intents" and letter.attributes["source_message_id"]


def test_what_never_worked_is_there_with_what_the_function_answered(world: Any) -> None:
    w = world()
    publish(w, "closes", close_of("BTC-nobody-1"), "close")
    give_up(w)
    (letter,) = letters(w)
    assert letter.attempts == w.system.bus.max_delivery_attempts
    assert "execute answered 503: Unavailable: trade BTC-nobody-1 has no record yet" in letter.reason


def test_a_crash_nobody_foresaw_is_there_by_its_kind_without_its_text(world: Any) -> None:
    w = world()
    w.alert("buy", "a1")
    trade = w.trade().trade_id
    w.system.bus.database.write(  # a person's edit that no reader expects
        "UPDATE documents SET data = '[\"0xsecret\"]' WHERE collection = 'control' AND id = 'trading'"
    )
    w.system.bus.database.write("UPDATE documents SET data = '7' WHERE collection = 'trades'")
    publish(w, "closes", close_of(trade), "close")
    give_up(w)
    (letter,) = letters(w)
    assert letter.reason.startswith("Unavailable: execute answered 500: ")
    assert "0xsecret" not in letter.reason and "<html" not in letter.reason


def test_a_message_that_kills_its_process_is_there_too(world: Any) -> None:
    """The machine's death, as often as the queue tries: each time in a process of its own."""
    w = world()
    publish(w, "closes", close_of("BTC-nobody-1"), "close")
    killer = (
        "import os, sys; from datetime import UTC, datetime;"
        "from twinleg.adapters.local.bus import LocalBus; from twinleg.adapters.local.clocks import ReplayClock;"
        f"clock = ReplayClock(datetime.fromisoformat({w.system.clock.now().isoformat()!r}));"
        "bus = LocalBus(sys.argv[1], None, clock, max_delivery_attempts=2);"
        "bus.subscribe('closes', lambda _: os._exit(9)); bus.deliver_due(clock.now())"
    )
    codes = [subprocess.run([sys.executable, "-c", killer, w.system.bus.database.path]).returncode for _ in range(3)]
    assert codes == [9, 9, 0]
    (letter,) = letters(w)
    assert (letter.reason, letter.attempts) == ("the process ended during the last attempt", 2)


# -- what the command does with it -----------------------------------------------------------------


def test_list_show_and_replay_once_the_cause_is_mended(world: Any, run: Run) -> None:
    """A close came before its trade's record, so to speak; later the trade is there, and the close is sent again."""
    w = world()
    w.alert("buy", "a1")
    trade = w.trade().trade_id
    stored = w.system.store.get("trades", trade)
    database = w.system.bus.database
    database.write("DELETE FROM documents WHERE collection = 'trades'")
    publish(w, "closes", close_of(trade), "close")
    give_up(w)
    w.system.store.create("trades", trade, stored.data)

    code, out, err = run(w, "dead", "list", "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert (row["topic"], row["kind"], row["attempts"]) == ("closes-dead", "close", 10)
    assert row["summary"] == f"trade_id {trade} fraction 1" and row["age_seconds"] > 0
    assert "has no record yet" in row["reason"]
    code, out, _ = run(w, "dead", "list")
    assert code == 0 and "dead letters (1)" in out and row["id"] in out

    code, out, _ = run(w, "dead", "show", row["id"], "--json")
    whole = json.loads(out)
    assert whole["message"]["trade_id"] == trade and whole["attributes"]["reason"] == row["reason"]
    assert "request_id" in run(w, "dead", "show", row["id"])[1]

    code, out, err = run(w, "dead", "replay", row["id"])
    assert (code, err) == (0, "") and out.startswith(f"{row['id']} -> closes as message ")
    w.system.bus.deliver_due(datetime.now(UTC) + timedelta(minutes=1))
    assert w.trade().state is TradeState.CLOSED
    assert w.position("main") == w.position("hedge") == 0
    assert run(w, "dead", "list")[1] == "no dead letter anywhere was found\n"
    assert any("replayed to closes by" in e.data["summary"] for e in w.system.store.query("audit"))


def test_an_expired_intent_is_replayed_with_a_warning_and_opens_nothing(world: Any, run: Run) -> None:
    w = world()
    w.system.bus._subscriptions.pop("intents")
    w.alert("buy", "a1")
    (message,) = w.system.bus.messages("intents", 5)
    data = json.loads(message.data)
    about = {**message.attributes, "reason": "a fault since mended"}
    w.system.bus.publish("intents-dead", message.data, key=message.key, attributes=about)
    w.system.bus.remove(message.message_id)
    (row,) = json.loads(run(w, "dead", "list", "--json")[1])
    assert row["warning"].startswith("the intent expired at ") and data["expires_at"][:10] in row["warning"]
    w.system.clock.sleep(120)
    w.restart()
    code, out, _ = run(w, "dead", "replay", "--all", "--json")
    assert code == 0 and json.loads(out)[0]["warning"] == row["warning"]
    w.system.bus.deliver_due(datetime.now(UTC) + timedelta(minutes=1))
    assert w.trade().state is TradeState.REFUSED
    assert w.position("main") == w.position("hedge") == 0 and w.fills("main") == []


def test_a_replay_of_what_is_still_wrong_comes_back_once(world: Any, run: Run) -> None:
    w = world()
    publish(w, "intents", b'{"schema_version": 9}', "intent")
    w.deliver()
    (before,) = letters(w)
    assert run(w, "dead", "replay", "--topic", "intents")[0] == 0
    w.system.bus.deliver_due(datetime.now(UTC) + timedelta(minutes=1))
    (after,) = letters(w)
    assert after.id != before.id and (after.data, after.reason) == (before.data, before.reason)
    assert after.attributes["source_message_id"] != before.attributes["source_message_id"]


def test_replaying_handled_messages_a_hundred_times_changes_nothing(world: Any, run: Run) -> None:
    w = world()
    w.alert("buy", "a1")
    before = {a: w.fills(a) for a in ("main", "hedge")}
    (intent,) = w.system.bus.messages("intents", 5)
    for _ in range(100):
        w.system.bus.publish("intents-dead", intent.data, key=intent.key, attributes=intent.attributes)
    code, out, _ = run(w, "dead", "replay", "--all")
    assert code == 0 and out.endswith("100 replayed; what fails again comes back here\n")
    w.system.bus.deliver_due(datetime.now(UTC) + timedelta(minutes=1))
    assert {a: w.fills(a) for a in ("main", "hedge")} == before
    assert [t.state for t in w.trades()] == [TradeState.OPEN] and letters(w) == []


def test_drop_wants_a_reason_and_says_what_went(world: Any, run: Run) -> None:
    w = world()
    publish(w, "intents", b"garbage", "intent")
    w.deliver()
    (letter,) = letters(w)
    with pytest.raises(SystemExit) as ended:
        run(w, "dead", "drop", letter.id)
    assert ended.value.code == 2
    assert run(w, "dead", "drop", letter.id, "--why", " ") == (
        2, "", "twinleg: dropping a dead letter wants --why: it is the only thing left of it\n",
    )  # fmt: skip
    code, out, _ = run(w, "dead", "drop", letter.id, "--why", "sent by mistake")
    assert (code, out) == (0, f"{letter.id} dropped: 7 bytes that are no message\n")
    assert letters(w) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay",), "replay needs ids, or --topic, or --all"),
        (("replay", "intents/1", "--all"), "replay needs ids, or --topic, or --all"),
        (("replay", "--topic", "gossip"), "topic must be one of candles, alerts, intents, closes, events, unknown"),
        (("list", "--topic", "gossip"), "topic must be one of candles"),
        (("show", "17"), "a dead letter's id is like intents/17, was '17'"),
        (("replay", "intents/1"), "there is no dead letter intents/1; twinleg dead list shows which there are"),
        (("drop", "intents/1", "--why", "x"), "there is no dead letter intents/1"),
        (("replay", "--all", "--to", "candles-dead"), "--to must be one of candles, alerts"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    world: Any, run: Run, arguments: tuple[str, ...], said: str
) -> None:
    w = world()
    code, out, err = run(w, "dead", *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"twinleg: {said}")


def test_what_came_from_no_topic_is_said_to_need_one(world: Any, run: Run) -> None:
    w = world()
    w.system.bus.publish("unknown-dead", b"???", attributes={"reason": "no message"})
    (letter,) = letters(w)
    code, out, err = run(w, "dead", "replay", letter.id)
    assert (code, out) == (2, "") and "name one with --to" in err
    assert run(w, "dead", "replay", "--all")[1] == "there was nothing to replay\n"
    assert run(w, "dead", "replay", letter.id, "--to", "closes")[0] == 0
