"""What the functions write while they handle real requests: the fields, one trace through all of them, no secret."""

import ast
import json
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from twinleg import logs
from twinleg.bootstrap import function_app, functions_folder
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import settings_text
from twinleg.wire import push_body

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
ROOT = Path(__file__).resolve().parents[2]
Lines = list[dict[str, Any]]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], Lines]]:
    """The lines written to the cloud's standard output since the last look."""
    root, ours = logging.getLogger(), logging.getLogger("twinleg")
    kept, level = list(root.handlers), ours.level
    logs.to_cloud("desk", service="all", version="1")
    yield lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    root.handlers = kept
    ours.setLevel(level)
    logging.getLogger("gunicorn.error").filters.clear()


def of(lines: Lines, **wanted: Any) -> Lines:
    return [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]


def figures(lines: Lines) -> dict[str, Lines]:
    return {name: of(lines, metric=name) for name in sorted({line["metric"] for line in lines if "metric" in line})}


# -- one trace -----------------------------------------------------------------------------------


def test_one_trace_runs_from_the_alert_to_its_orders_and_events(world, written):
    w = world()
    written()
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.OPEN
    lines = written()
    [received] = of(lines, function="webhook", reason="accepted")
    trace = received["trace_id"]
    assert {line["function"] for line in lines} == {"webhook", "signal", "execute"}
    assert {line["trace_id"] for line in lines} == {trace}
    assert {line["logging.googleapis.com/trace"] for line in lines} == {f"projects/desk/traces/{trace}"}
    spans = {line["function"]: line["logging.googleapis.com/spanId"] for line in lines}
    assert len(set(spans.values())) == 3
    told = [m.attributes["traceparent"] for m in w.system.bus.messages("events", 4)]
    assert [text.split("-")[1] for text in told] == [trace] * 4

    w.system.clock.sleep(1)
    w.alert("close", "a2")
    assert trace not in {line["trace_id"] for line in written()}


def test_a_trace_that_the_caller_began_goes_on(world, written):
    w = world()
    written()
    w.system.clock.sleep(60)
    function_app("ingest").test_client().post("/", data="{}", headers=HEADERS)
    w.deliver()
    lines = written()
    assert {line["function"] for line in lines} == {"ingest", "signal"}
    assert {line["trace_id"] for line in lines} == {TRACE}


def test_an_order_s_line_leads_to_its_trade_and_client_order_ids(world, written):
    w = world()
    w.alert("buy", "a1")
    trade, lines = w.trade(), written()
    orders = [line for line in lines if line["logger"] == "twinleg.orders"]
    assert {line["kind"] for line in orders} == {"SetLeverage", "PlaceEntry"}
    for line in orders:
        assert (line["trade_id"], line["intent_id"], line["outcome"]) == (trade.trade_id, trade.trade_id, "accepted")
        assert line["message_id"] and line["topic"] == "intents" and line["market"] == w.market
        assert line["latency_seconds"] >= 0 and line["severity"] == "INFO"
        assert line["logging.googleapis.com/labels"] == {"function": "execute", "trade_id": trade.trade_id}
    entries = of(orders, kind="PlaceEntry")
    assert [line["account"] for line in entries] == ["main", "hedge"]
    for line, leg in zip(entries, trade.legs, strict=True):
        assert line["client_order_ids"] == [order.client_order_id for order in leg.orders]
        assert line["client_order_id"] == leg.orders[0].client_order_id
        assert w.system.store.get("actions", line["action_id"])


def test_an_order_that_is_refused_says_why(world, written):
    w = world()
    w.fault(kind="429", path="/exchange", action="order", count=1)
    w.alert("buy", "a1")
    [line] = of(written(), outcome="never_ran")
    assert (line["severity"], line["kind"]) == ("WARNING", "PlaceEntry")
    assert "429" in line["reason"] and line["client_order_id"] in {o.client_order_id for o in w.trade().main.orders}


def test_events_are_lines_with_their_links(world, written):
    w = world()
    w.alert("buy", "a1")
    trade_id, lines = w.trade().trade_id, written()
    events = [line for line in lines if "event" in line and line.get("function") == "execute"]
    assert [line["event"] for line in events] == ["approved", "main_filled", "opened"]
    assert {line["trade_id"] for line in events} == {line["intent_id"] for line in events} == {trade_id}
    assert [line["severity"] for line in events] == ["INFO", "NOTICE", "NOTICE"]
    [signal] = of(lines, event="signal")
    assert signal["intent_id"] == trade_id and signal["market"] == w.market and signal["alert_id"]


# -- figures -------------------------------------------------------------------------------------


def test_a_trade_s_life_is_told_in_figures(world, written):
    w = world(["100000"] * 3 + ["100100"] * 60)
    written()
    w.alert("buy", "a1")
    opening = figures(written())
    for name in ("alert_to_intent_seconds", "intent_to_filled_seconds", "intent_to_open_seconds", "unhedged_seconds"):
        [line] = opening[name]
        assert line["value"] >= 0 and line["market"] == w.market
    assert opening["unhedged_seconds"][0]["ended"] == "opened"
    assert {(line["function"], line["topic"]) for line in opening["queue_seconds"]} == {
        ("signal", "alerts"), ("execute", "intents"),
    }  # fmt: skip
    assert {(line["function"], line["status"]) for line in opening["handled_seconds"]} == {
        ("webhook", "200"), ("signal", "200"), ("execute", "200"),
    }  # fmt: skip
    w.minutes(3)
    minute = figures(written())
    assert len(minute["candle_to_published_seconds"]) == len(minute["candle_to_signal_seconds"]) == 3
    assert all(line["value"] >= 0 for name in minute for line in minute[name] if name.startswith("candle"))
    w.alert("close", "a2")
    closing = figures(written())
    assert w.trade().state is TradeState.CLOSED
    [line] = closing["hedge_effectiveness"]
    assert line["trade_id"] == w.trade().trade_id
    assert "unhedged_seconds" not in closing

    w.alert("close", "a2")  # the same alert once more is no new figure of it
    assert "alert_to_intent_seconds" not in figures(written())


def test_the_page_lists_the_figures_that_are_written_and_no_others():
    measured = {
        node.args[0 if node.func.id == "measure" else 1].value
        for path in (ROOT / "shared" / "twinleg").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("measure", "_measure")
        and isinstance(node.args[0 if node.func.id == "measure" else 1], ast.Constant)
    }  # fmt: skip
    table = (ROOT / "docs" / "operations.md").read_text().split("## 3. Figures")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \| (?:s|%|ratio) \|", table, re.MULTILINE)) == measured


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_crash_is_one_error_line_that_error_reporting_groups(world, written):
    w = world()
    key, text = "0x" + secrets.token_hex(32), "of-a-secret-thing"
    stored = w.system.store.get("markets", w.market)
    w.system.store.compare_and_set(
        "markets", w.market, {**stored.data, "z_candles": f"{key},{text}", "candles": f"{key},{text}"}, stored.version
    )
    written()
    answer = function_app("ingest").test_client().post("/", data="{}")
    assert answer.status_code == 500 and answer.headers["X-Google-Status"] == "crash"
    lines = written()
    [line] = [line for line in lines if line["severity"] not in ("INFO", "DEBUG", "NOTICE")]
    assert line["severity"] == "ERROR" and line["@type"].endswith("ReportedErrorEvent")
    assert line["message"].startswith("ingest failed: ") and "in on_tick" in line["stack_trace"]
    assert (line["function"], line["serviceContext"]) == ("ingest", {"service": "all", "version": "1"})
    assert [(m["function"], m["status"]) for m in of(lines, metric="handled_seconds")] == [("ingest", "500")]
    for secret in (key, key[2:], text):
        assert secret not in answer.text + json.dumps(lines)


def test_a_dead_letter_is_one_error_line(world, written):
    world()
    written()
    function_app("signal").test_client().post("/topics/alerts", data=json.dumps(push_body(
        data=b'{"schema_version": 9}', message_id="77", topic="alerts", attributes={"kind": "alert"} | HEADERS,
    )))  # fmt: skip
    [line] = [line for line in written() if line["severity"] == "ERROR"]
    assert (line["dead_letter"], line["message_id"], line["topic"]) == ("alerts", "77", "alerts")
    assert line["trace_id"] == TRACE and "stack_trace" not in line


def test_the_webhook_s_secret_is_on_no_line_whatever_happens(world, written):
    w = world()
    written()
    for path in ("/paper", "/wrong-guess", "/paper?secret=paper", "/paper/paper"):
        function_app("webhook").test_client().post(path, data="{}")
    clock, w.system.clock = w.system.clock, None
    assert function_app("webhook").test_client().post("/paper", data="{}").status_code == 500
    w.system.clock = clock
    text = json.dumps(written())
    assert "webhook failed: AttributeError" in text
    assert not re.search(r"paper(?!_)|wrong-guess|secret=", text.replace("paper_", ""))


def test_requests_at_the_same_time_do_not_mix_their_fields(world, written):
    world()
    written()
    app, together = function_app("signal"), threading.Barrier(6)

    def request(number: int) -> None:
        together.wait()
        for turn in range(5):
            parent = f"00-{number:016x}{turn:016x}-00f067aa0ba902b7-01"
            body = push_body(
                data=b"{}", message_id=f"{number}-{turn}", topic="candles",
                attributes={"kind": "candle", "traceparent": parent},
            )  # fmt: skip
            app.test_client().post("/topics/candles", data=json.dumps(body))

    threads = [threading.Thread(target=request, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dead = [line for line in written() if "dead_letter" in line]
    assert len(dead) == 30
    for line in dead:
        number, turn = map(int, line["message_id"].split("-"))
        assert line["trace_id"] == f"{number:016x}{turn:016x}"


# -- a real server -------------------------------------------------------------------------------

SECRET = "T7c3dLq9eWv2nXs8"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, Callable[[], str], Callable[[], str]]]:
    """The webhook as in Cloud Run: gunicorn, the framework, the cloud's runtime; (port, its output, its errors).

    Pub/Sub is at an address where nobody listens: alerts cannot be published.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "twinleg.toml"
    config.write_text(settings_text("BTC", "http://127.0.0.1:9", {}))
    environ = {name: text for name, text in os.environ.items() if not name.startswith("TWINLEG_")} | {
        "TWINLEG_RUNTIME": "cloud", "TWINLEG_CONFIG": str(config), "TWINLEG_WEBHOOK_SECRET": SECRET,
        "GOOGLE_CLOUD_PROJECT": "desk", "PUBSUB_EMULATOR_HOST": "127.0.0.1:9", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:9",
        "K_SERVICE": "webhook", "K_REVISION": "webhook-1", "FUNCTION_TARGET": "webhook",
        "FUNCTION_SOURCE": str(functions_folder() / "webhook" / "main.py"), "HOST": "127.0.0.1", "PORT": str(port),
        "LOG_EXECUTION_ID": "true", "THREADS": "4", "GUNICORN_LOG_LEVEL": "info",
    }  # fmt: skip
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "functions_framework"], env=environ, stdout=stdout, stderr=stderr, cwd=tmp_path
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}/robots.txt", timeout=5)
                break
            except requests.ConnectionError:
                assert process.poll() is None and time.monotonic() < deadline, err.read_text()
                time.sleep(0.05)
        yield port, out.read_text, err.read_text
    finally:
        process.terminate()
        process.wait(20)


def test_a_real_server_writes_nothing_but_json_and_no_secret(server):
    port, out, err = server
    url = f"http://127.0.0.1:{port}"
    assert requests.post(f"{url}/guess", data="{}", headers=HEADERS, timeout=10).status_code == 401
    assert requests.post(f"{url}/{SECRET}?x={SECRET}", data="{}", timeout=10).status_code == 400
    good = json.dumps({"ticker": "BTC", "action": "buy", "id": "1"})
    assert requests.post(f"{url}/{SECRET}", data=good, headers=HEADERS, timeout=20).status_code == 503
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        line.sendall(f"POST /{SECRET} NONSENSE/9\r\n\r\n".encode())
        line.recv(1_000)
    deadline = time.monotonic() + 10
    while "not_published" not in out():
        assert time.monotonic() < deadline, out() + err()
        time.sleep(0.05)
    lines = [json.loads(text) for text in out().splitlines() if text]
    assert SECRET not in out() + err() and "Traceback" not in err()
    answers = [line for line in lines if line.get("reason")]
    assert [line["status"] for line in answers] == ["401", "400", "503"]
    assert [line["trace_id"] == TRACE for line in answers] == [True, False, True]
    for answer in answers:
        assert answer["serviceContext"] == {"service": "webhook", "version": "webhook-1"}
        assert answer["logging.googleapis.com/labels"]["function"] == "webhook"
        assert answer["logging.googleapis.com/labels"]["execution_id"]
    assert any(line["logger"] == "gunicorn.error" for line in lines), "the server's own lines come the same way"
