"""``twinleg tail``: the audit and the log files, newest last, and what is added while it runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from twinleg.cli import main, parser
from twinleg.commands.tail import Audit, LogFiles, gcloud_command
from twinleg.domain.control import Halt
from twinleg.embedded.replay import settings_text
from twinleg.engine.control import set_trading
from twinleg.engine.ports import SignerRole

ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("TWINLEG_")}
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith("TWINLEG_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def tail(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def run(w: Any, *words: str) -> list[str]:
        config = w.folder / "twinleg.toml"
        config.write_text(settings_text(w.coin, w.server.url, {"market": {"strategies": '["tradingview"]'}}))
        capsys.readouterr()
        assert main(["tail", "--config", str(config), *words]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def rows(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


# -- the audit -----------------------------------------------------------------------------------


def test_what_happened_is_shown_newest_last(world, tail):
    w = world()
    w.alert("buy", "a1")
    lines = tail(w)
    kinds = [line.split()[4].rstrip(":") for line in lines]
    assert kinds[0] == "resumed"  # the others share one instant of the standing clock
    assert sorted(kinds[1:]) == ["approved", "main_filled", "opened", "signal"]
    when = r"2025-01-06 \d\d:\d\d:\d\d "
    assert re.match(when + r"NOTICE   execute  opened: long .* \[BTC-tradingview-\w+\]$", lines[kinds.index("opened")])
    assert not any("\x1b" in line for line in lines)
    assert tail(w, "--lines", "2") == lines[-2:]
    assert tail(w, "--severity", "notice") == [line for line in lines if " NOTICE " in line] and len(lines) == 5


def test_one_trade_from_its_signal_on(world, tail):
    w = world()
    w.alert("buy", "a1")
    first = w.trade().trade_id
    w.system.clock.sleep(1)
    w.alert("close", "a2")
    w.system.clock.sleep(61)  # within one minute the requests of another entry are kept for closes
    w.alert("sell", "a3")
    second = w.trade().trade_id
    assert first != second
    told = rows(tail(w, "--trade", second, "--json"))
    assert {row["kind"] for row in told} == {"signal", "approved", "main_filled", "opened"}
    assert {row.get("trade_id") or row["intent_id"] for row in told} == {second}
    assert [row["kind"] for row in rows(tail(w, "--trade", first, "--json", "--lines", "1"))] == ["closed"]
    assert tail(w, "--trade", "no-such-trade") == []


def test_json_says_all_that_the_entry_holds(world, tail):
    w = world()
    w.alert("buy", "a1")
    [last] = [row for row in rows(tail(w, "--json")) if row["kind"] == "opened"]
    assert last.items() >= {"severity": "NOTICE", "source": "execute", "kind": "opened", "market": w.market}.items()
    assert datetime.fromisoformat(last["at"]).utcoffset() == timedelta(0)


def test_what_an_alert_says_cannot_steer_the_terminal(world, tail):
    w = world()
    set_trading(w.engine(), Halt.REDUCING, why="\x1b[2J\x07\r\nNOTICE all is well", by="somebody")
    lines = tail(w)
    assert len(lines) == 2 and not any(c in lines[-1] for c in "\x1b\x07\r")


def test_a_look_that_finds_nothing_new_costs_one_read_and_nothing_is_told_twice(world):
    w = world()
    w.alert("buy", "a1")
    audit, store = Audit(w.system.store), w.system.store
    assert len(audit.newest(2)) == 2
    before = store._steps.count
    assert audit.fresh() == []
    assert store._steps.count - before == 2  # one query: its beginning and its end
    for number in range(30):
        set_trading(w.engine(), Halt.REDUCING, why=f"reason {number}", by="somebody")
        w.system.clock.sleep(1)
    told = [line.text for line in audit.fresh() if "reason" in line.text]
    assert len(told) == 30 == len(set(told))
    assert audit.fresh() == []


def test_entries_that_arrive_late_are_told_too(world):
    """Two functions write at the same time: the older entry may be seen after the newer one."""
    w = world()
    audit = Audit(w.system.store)
    audit.newest(20)
    entry = {"kind": "warned", "who": "risk", "summary": "late", "schema_version": 1}
    now = w.system.clock.now()
    w.system.store.create("audit", "20990101-b", entry | {"at": now + timedelta(seconds=2), "summary": "newer"})
    assert [line.text for line in audit.fresh()] == ["warned: newer"]
    w.system.store.create("audit", "20990101-a", entry | {"at": now + timedelta(seconds=1)})
    w.system.store.create("audit", "20990101-c", entry | {"at": now + timedelta(seconds=3), "summary": "newest"})
    assert sorted(line.text for line in audit.fresh()) == ["warned: late", "warned: newest"]


# -- following -----------------------------------------------------------------------------------


@pytest.fixture
def following(world) -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    w = world()
    config = w.folder / "twinleg.toml"
    config.write_text(settings_text(w.coin, w.server.url, {}))
    process = subprocess.Popen(
        [sys.executable, "-m", "twinleg", "tail", "-f", "--logs", "--config", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRON,
    )  # fmt: skip
    yield w, process
    process.kill()
    process.communicate()


def test_following_shows_what_is_added_until_ctrl_c_ends_it_quietly(following):
    w, process = following
    assert "resumed" in process.stdout.readline()
    set_trading(w.system.engine(SignerRole.EXECUTE), Halt.REDUCING, why="the news", by="somebody")
    assert "the news" in process.stdout.readline()
    folder = w.folder / "logs"
    folder.mkdir()
    line = {"time": AT.isoformat(), "severity": "ERROR", "message": "it broke", "function": "risk"}
    (folder / "risk.jsonl").write_text(json.dumps(line) + "\n")
    assert process.stdout.readline() == "2026-01-02 03:04:05 ERROR    risk     it broke\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "")


# -- log files -----------------------------------------------------------------------------------


def logged(message: str, seconds: int = 0, **more: Any) -> str:
    at = (AT + timedelta(seconds=seconds)).isoformat()
    return json.dumps({"severity": "WARNING", "message": message, "time": at, "function": "risk", **more}) + "\n"


def test_log_lines_are_put_between_the_entries_by_time(world, tail):
    w = world()
    w.alert("buy", "a1")
    trade = w.trade()
    folder = w.folder / "logs"
    folder.mkdir()
    just_before = (w.trade().opened_at - timedelta(microseconds=1)).isoformat()
    (folder / "execute.jsonl").write_text(
        logged("an old one", -(10**8))
        + logged("in between", trade_id=trade.trade_id).replace(AT.isoformat(), just_before)
        + logged("an event", event="opened")
        + logged("a figure", metric="x_seconds", value=1)
        + "no json\n"
        + logged("half a line")[:-10]
    )
    said = [line[29:] for line in tail(w, "--logs", "--lines", "100")]
    assert said[0].startswith("risk     an old one")
    assert said[1].startswith("risk     resumed:") and said[2].startswith("risk     in between")
    assert said[3].startswith("execute ") and len(said) == 7
    assert not any("an event" in line or "a figure" in line or "half" in line for line in said)
    assert [
        row["message"] for row in rows(tail(w, "--logs", "--json", "--trade", trade.trade_id)) if "message" in row
    ] == ["in between"]
    assert not any("in between" in line for line in tail(w)), "only when asked for"


def test_lines_are_read_once_through_exchanged_files_and_half_written_ones(tmp_path):
    path = tmp_path / "twinleg.jsonl"
    path.write_text(logged("one") + logged("two")[:20])
    with LogFiles(tmp_path) as files:

        def told() -> list[str]:
            return [line.text for line in files.lines()]

        assert told() == ["one"]
        with path.open("a") as file:
            file.write(logged("two")[20:] + logged("three"))
        assert told() == ["two", "three"]
        with path.open("a") as file:
            file.write(logged("last of the old"))
        path.rename(tmp_path / "twinleg.jsonl.1")
        path.write_text(logged("first of the new"))
        assert told() == ["last of the old", "first of the new"]
        path.unlink()
        assert told() == []


def test_of_a_long_file_only_the_end_is_read(tmp_path):
    (tmp_path / "risk.jsonl").write_text("".join(logged(f"line {number}") for number in range(20_000)))
    with LogFiles(tmp_path) as files:
        found = [line.text for line in files.lines()]
    assert 1_000 < len(found) < 20_000 and found[-1] == "line 19999"


def test_what_up_writes_is_what_tail_reads(tmp_path):
    script = (
        "import logging, pathlib; from twinleg import logs;"
        "logs.to_file(pathlib.Path('logs/twinleg.jsonl'));"
        "ctx = logs.handling('risk', {}); ctx.__enter__(); logging.getLogger('twinleg').warning('from a process')"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=30, env=ENVIRON)
    with LogFiles(tmp_path / "logs") as files:
        [line] = files.lines()
    assert (line.severity, line.source, line.text) == ("WARNING", "risk", "from a process")
    assert abs(line.at.timestamp() - time.time()) < 60


# -- where the logs are in the cloud ---------------------------------------------------------------


def test_in_the_cloud_it_says_how_the_logs_are_read_there():
    arguments = parser().parse_args(["tail", "--logs", "--trade", "BTC-macd-1", "--severity", "WARNING"])
    assert gcloud_command(arguments, "desk") == (
        'gcloud logging read \'resource.type="cloud_run_revision" AND severity>=WARNING AND '
        '(jsonPayload.trade_id="BTC-macd-1" OR jsonPayload.intent_id="BTC-macd-1")\' --project desk --freshness 1d '
        "--limit 20 --format 'value(timestamp, severity, jsonPayload.function, jsonPayload.message)'"
    )
    followed = gcloud_command(parser().parse_args(["tail", "-f", "--logs"]), "desk")
    assert followed.startswith("gcloud beta logging tail 'resource.type=")


@pytest.mark.parametrize("words", [["--severity", "loud"], ["--lines", "0"], ["--lines", "x"]])
def test_what_cannot_be_understood_is_said(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["tail", *words])
    assert ended.value.code == 2 and words[0] in capsys.readouterr().err
