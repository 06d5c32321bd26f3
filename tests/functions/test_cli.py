"""The ``twinleg`` command: what it answers, in words and as JSON, and what its exit code says."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from twinleg.cli import main
from twinleg.commands.looking import TABLES
from twinleg.commands.steering import HALTS
from twinleg.domain.control import Halt
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import settings_text
from twinleg.engine.ports import SignerRole

NOWHERE = "http://127.0.0.1:9"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("TWINLEG_")}


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a configuration, with no variable of ours set."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("TWINLEG_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "desk" / "twinleg.toml"
    path.parent.mkdir()
    path.write_text(settings_text("BTC", NOWHERE, {}))
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: (exit code, what it printed, what it complained)."""

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def process(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twinleg", *arguments], cwd=folder, env=ENVIRON, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def at_desk(w: Any) -> str:
    """The configuration file of a world, beside its store."""
    path: Path = w.folder / "twinleg.toml"
    path.write_text(settings_text(w.coin, w.server.url, {"market": {"strategies": '["tradingview"]'}}))
    return str(path)


# -- lists -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_every_list_works_on_an_empty_store(run, config, name):
    assert run(name, "--json", "--config", str(config)) == (0, "[]\n", "")
    code, out, err = run(name, "--config", str(config))
    assert (code, err) == (0, "")
    assert f"{name} (0)" in out


def test_lists_show_what_the_desk_did(world, run):
    w = world()
    w.alert("buy", "a1")
    w.minutes(2)
    config = at_desk(w)
    rows = {}
    for name in TABLES:
        code, out, err = run(name, "--json", "--config", config)
        assert (code, err) == (0, "")
        rows[name] = json.loads(out)
        code, table, _ = run(name, "--config", config)
        assert code == 0
        assert f"{name} ({len(rows[name])})" in table
        shown = [c for c in TABLES[name] if any(c in row for row in rows[name])]
        assert set(shown) >= set(TABLES[name]) - {"why_closed", "status_reason", "entry_price", "liquidation_price"}
    [trade] = rows["trades"]
    assert (trade["state"], trade["market"], trade["direction"]) == ("OPEN", "hyperliquid:BTC", "long")
    assert trade["strategy"] == "tradingview"
    assert trade["main"]["size_filled"] == str(w.trade().main.size_filled)
    assert {o["trade_id"] for o in rows["orders"]} == {trade["id"]}
    assert {p["owner"] for p in rows["positions"]} == {trade["id"]}
    assert {a["id"] for a in rows["accounts"]} == {"main", "hedge"}
    assert rows["audit"][0]["kind"] in ("opened", "main_filled", "approved", "signal")
    assert [i["id"] for i in rows["intents"]] == [trade["id"]]


def test_the_newest_come_first_and_no_more_than_asked_for(world, run):
    w = world()
    for number in range(3):
        w.alert("buy", f"b{number}")
        w.alert("close", f"c{number}")
    code, out, _ = run("trades", "--json", "--limit", "2", "--config", at_desk(w))
    assert code == 0
    found = [t["created_at"] for t in json.loads(out)]
    assert found == sorted((str(t.created_at) for t in w.trades()), reverse=True)[:2]


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_a_limit_that_is_none_is_refused(config, capsys, limit):
    with pytest.raises(SystemExit) as ended:
        main(["trades", "--limit", limit, "--config", str(config)])
    assert ended.value.code == 2
    assert "--limit" in capsys.readouterr().err


def test_looking_leaves_no_mark(world, run):
    w = world()
    config = at_desk(w)
    before = len(w.system.store.query("audit"))
    for name in TABLES:
        run(name, "--json", "--config", config)
    assert len(w.system.store.query("audit")) == before


def deliver(w: Any) -> None:
    """What the command published by the wall's clock, delivered in a world whose own clock stands in 2025."""
    w.runtime.bus.deliver_due(datetime.now(UTC) + timedelta(minutes=1))


# -- steering --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "state"), [(name, halt) for name, (halt, _) in HALTS.items()])
def test_each_word_sets_its_state_with_the_reason_and_who_it_was(world, run, command, state):
    w = world()
    code, out, err = run(command, "--why", "the weather", "--json", "--config", at_desk(w))
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["state"], said["why"]) == (state.value, "the weather")
    assert said["by"]
    control, _ = w.engine().control()
    assert (control.state, control.why, control.by) == (state, "the weather", said["by"])
    event = w.system.store.query("audit", order_by="at", descending=True, limit=50)
    assert any(f"-> {state.value} by {said['by']}: the weather" in e.data["summary"] for e in event)


def test_in_words_it_says_the_state_and_the_reason(world, run):
    w = world()
    assert run("halt", "--config", at_desk(w))[1] == "trading is HALTED: twinleg halt\n"
    assert run("resume", "--config", at_desk(w))[1] == "trading is ENABLED: twinleg resume\n"


def test_a_halted_desk_opens_nothing_until_a_person_resumes(world, run):
    w = world()
    config = at_desk(w)
    run("halt", "--config", config)
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.REFUSED
    run("resume", "--config", config)
    w.alert("buy", "a2")
    assert w.trade().state is TradeState.OPEN


def test_flatten_closes_both_legs_and_cannot_be_called_off_before_it_is_flat(world, run):
    w = world()
    config = at_desk(w)
    w.alert("buy", "a1")
    assert run("flatten", "--config", config)[0] == 0
    for word in ("resume", "reduce", "halt"):
        code, out, err = run(word, "--config", config)
        assert (code, out) == (2, "")
        assert err.startswith("twinleg: trading is FLATTEN since ")
        assert err.count("\n") == 1
    w.minutes(2)
    assert w.trade().state is TradeState.CLOSED
    assert w.engine().control()[0].state is Halt.HALTED
    assert run("resume", "--config", config)[0] == 0


def test_close_asks_for_one_trade_and_says_so(world, run):
    w = world()
    config = at_desk(w)
    w.alert("buy", "a1")
    id = w.trade().trade_id
    assert run("close", id, "--config", config) == (0, f"{id}: close requested\n", "")
    deliver(w)
    assert w.trade().state is TradeState.CLOSED
    assert w.trade().why_closed.startswith("closed by ")
    assert run("close", id, "--config", config) == (0, f"{id} is CLOSED already\n", "")
    assert json.loads(run("close", id, "--json", "--config", config)[1]) == {"said": [f"{id} is CLOSED already"]}


def test_close_all_asks_for_every_open_trade(world, run):
    w = world()
    config = at_desk(w)
    assert run("close", "--all", "--config", config) == (0, "there is no open trade\n", "")
    w.alert("buy", "a1")
    assert run("close", "--all", "--config", config)[1] == f"{w.trade().trade_id}: close requested\n"
    run("close", "--all", "--config", config)
    deliver(w)
    assert w.trade().state is TradeState.CLOSED
    assert len({f["oid"] for f in w.fills("main")}) == 2


@pytest.mark.parametrize("arguments", [[], ["some-trade", "--all"]])
def test_close_needs_one_trade_or_all(run, config, arguments):
    code, out, err = run("close", *arguments, "--config", str(config))
    assert (code, out, err) == (2, "", "twinleg: close needs one trade's id, or --all\n")


def test_a_trade_that_is_not_there_is_one_clear_line(run, config):
    code, out, err = run("close", "BTC-macd-nope", "--config", str(config))
    assert (code, out) == (2, "")
    assert err == "twinleg: there is no trade 'BTC-macd-nope'; twinleg trades lists them\n"


# -- what cannot be done ---------------------------------------------------------------------------


def test_every_fault_of_a_configuration_is_listed_without_a_traceback(tmp_path):
    bad = tmp_path / "bad.toml"
    text = settings_text("BTC", NOWHERE, {"limits": {"leverage_max": "500", "budget_percent": "-1"}})
    bad.write_text(text.replace('hedge = "hedge"', 'hedge = "main"').replace('kind = "macd"', 'kind = "mcad"'))
    for command in (["trades"], ["halt"], ["doctor"], ["up"], ["close", "--all"]):
        done = process([*command, "--config", str(bad)], tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        first, *faults = done.stderr.splitlines()
        assert first.startswith("twinleg: ")
        assert "bad.toml" in first
        assert len(faults) >= 4
        for word in ("leverage_max", "budget_percent", "mcad", "hedge"):
            assert sum(word in fault for fault in faults) >= 1, (word, faults)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no such file"), (b"\xff\xfe", "UTF-8"), (b"= [", "")],
    ids=["none", "bytes", "toml"],
)
def test_a_configuration_that_cannot_be_read_is_said_so(run, tmp_path, content, reason):
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    code, out, err = run("trades", "--config", str(path))
    assert (code, out) == (2, "")
    assert err.startswith(f"twinleg: {path}: ")
    assert reason in err


def test_a_store_that_is_damaged_is_one_line(run, config):
    (config.parent / "twinleg.sqlite").write_bytes(b"this is no database at all" * 200)
    code, out, err = run("trades", "--config", str(config))
    assert (code, out) == (1, "")
    assert err.startswith("twinleg: InvariantBroken: the store file ")
    assert err.count("\n") == 1


def test_a_store_that_is_locked_is_one_line_and_nothing_is_changed(run, config):
    run("resume", "--config", str(config))
    with closing(sqlite3.connect(config.parent / "twinleg.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        code, out, err = run("halt", "--config", str(config))
        assert (code, out) == (1, "")
        assert err.startswith("twinleg: Unavailable: the store file ")
        other.execute("ROLLBACK")
    assert run("trades", "--config", str(config))[0] == 0


def test_the_configuration_may_be_named_by_the_environment(run, config, monkeypatch):
    monkeypatch.setenv("TWINLEG_CONFIG", str(config))
    run("halt")
    assert (config.parent / "twinleg.sqlite").is_file()


@pytest.mark.parametrize("arguments", [[], ["dance"], ["trades", "--loud"], ["venue"]])
def test_what_is_no_command_is_refused_with_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: twinleg" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for command in (*TABLES, *HALTS, "close", "doctor", "demo", "up", "venue"):
        assert command in said


def test_a_reader_that_stops_listening_is_no_failure(world):
    """``twinleg audit | head -1``"""
    w = world()
    for number in range(5):
        w.alert("buy", f"b{number}")
        w.alert("close", f"c{number}")
    command = f"{sys.executable} -m twinleg audit --json --config {at_desk(w)} | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=ENVIRON, timeout=60, check=False)
    assert done.stdout == "["
    assert "Traceback" not in done.stderr


def test_who_halts_is_read_again_by_the_running_desk(world, run):
    """Another process halts; the next step of this one knows."""
    w = world()
    engine = w.engine(SignerRole.RISK)
    assert engine.control()[0].state is Halt.ENABLED
    done = process(["reduce", "--why", "from another shell", "--config", at_desk(w)], w.folder)
    assert done.returncode == 0, done.stderr
    assert (engine.control()[0].state, engine.control()[0].why) == (Halt.REDUCING, "from another shell")
