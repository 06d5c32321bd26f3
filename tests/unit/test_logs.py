"""Log lines: what one holds, what it never holds, and that writing it stops nothing."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from twinleg import logs
from twinleg.domain.messages import Event, EventKind
from twinleg.engine import system
from twinleg.engine.measures import measure

KEY = "0x" + "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"Traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}

TEXT = "hunter" + "2"
"""Not as it stands in the source, which a stack quotes."""

log = logging.getLogger("twinleg.test")


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger as it would be in a process of its own."""
    found, ours = logging.getLogger(), logging.getLogger("twinleg")
    kept, level = list(found.handlers), ours.level
    found.handlers = []
    yield found
    for handler in found.handlers:
        handler.close()
    found.handlers = kept
    ours.setLevel(level)
    logging.getLogger("gunicorn.error").filters.clear()


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Any:
    """What the cloud's standard output got since the last look, each line as its object.

    Begins with nothing noted: a test before may have called a handler without a request around it.
    """
    logs._about.set({})
    logs._trace.set(None)
    logs.to_cloud("desk", service="execute", version="execute-00007-abc")

    def lines() -> list[dict[str, Any]]:
        out, err = capsys.readouterr()
        assert err == ""
        return [json.loads(line) for line in out.splitlines()]

    return lines


def failing(text: str) -> None:
    raise ValueError(text)


# -- the fields ----------------------------------------------------------------------------------


def test_a_line_is_one_object_with_what_cloud_logging_reads(written: Any) -> None:
    with logs.handling("execute", HEADERS), logs.about(trade_id="BTC-macd-1", market=""):
        log.warning(
            "two\nlines and %s", "a value", extra={"size": Decimal("0.1"), "at": datetime(2026, 1, 2, tzinfo=UTC)}
        )
    [line] = written()
    span = line.pop("logging.googleapis.com/spanId")
    assert len(span) == 16 and span != "00f067aa0ba902b7"
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "severity": "WARNING",
        "message": "two\nlines and a value",
        "logger": "twinleg.test",
        "function": "execute",
        "trade_id": "BTC-macd-1",
        "size": "0.1",
        "at": "2026-01-02T00:00:00+00:00",
        "trace_id": TRACE,
        "logging.googleapis.com/trace": f"projects/desk/traces/{TRACE}",
        "logging.googleapis.com/trace_sampled": True,
        "logging.googleapis.com/labels": {"function": "execute", "trade_id": "BTC-macd-1"},
        "serviceContext": {"service": "execute", "version": "execute-00007-abc"},
    }


@pytest.mark.parametrize("name", ["DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"])
def test_severities_are_google_s(written: Any, name: str) -> None:
    logging.getLogger("twinleg").setLevel(logging.DEBUG)
    log.log(logging.getLevelNamesMapping()[name], "x")
    assert [line["severity"] for line in written()] == [name]


def test_a_line_s_own_field_goes_before_what_it_is_about_and_never_over_its_message(written: Any) -> None:
    with logs.handling("risk", {}), logs.about(market="hyperliquid:BTC", account="main"):
        log.info("x", extra={"market": "hyperliquid:ETH", "severity": "DEBUG", "logger": "another"})
    [line] = written()
    assert (line["market"], line["account"], line["severity"]) == ("hyperliquid:ETH", "main", "INFO")
    assert line["logger"] == "twinleg.test"


@pytest.mark.parametrize("kind", EventKind)
def test_an_event_is_a_line_as_loud_as_it_deserves(written: Any, kind: EventKind) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    system.write_line(
        Event(kind=kind, at=at, who="risk", summary="why", trade_id="t-1", market="m:BTC", account="main")
    )
    [line] = written()
    assert (line["event"], line["message"]) == (kind.value, f"{kind.value}: why")
    assert (line["trade_id"], line["intent_id"], line["account"], line["market"]) == ("t-1", "t-1", "main", "m:BTC")
    loud = {EventKind.NEEDS_A_PERSON: "CRITICAL", EventKind.ORPHAN: "CRITICAL", EventKind.UNWOUND: "ERROR",
            EventKind.BREAKER: "ERROR", EventKind.WARNED: "WARNING", EventKind.OPENED: "NOTICE",
            EventKind.SIGNAL: "INFO"}  # fmt: skip
    assert line["severity"] == loud.get(kind, line["severity"]) == system.severity_of(kind.value)
    assert system.severity_of("of a version to come") == "NOTICE"


def test_a_figure_is_a_number_with_its_labels(written: Any) -> None:
    measure("margin_ratio", Decimal("2.50"), account="main")
    [line] = written()
    assert (line["metric"], line["value"], line["account"]) == ("margin_ratio", 2.5, "main")


def test_a_number_as_long_as_a_key_leaves_the_line_one_object(written: Any) -> None:
    log.info("x", extra={"count": int("7" * 64), "small": 7, "yes": True})
    [line] = written()
    assert (line["count"], line["small"], line["yes"]) == ("[key]", 7, True)


def test_a_figure_that_is_no_number_is_still_a_line(written: Any) -> None:
    measure("margin_ratio", Decimal("Infinity"), account="main")
    assert written()[0]["value"] == "inf"


# -- traces --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "carried",
    [
        {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"},
        {"traceparent": f"cc-{TRACE}-00f067aa0ba902b7-01"},
        {"X-Cloud-Trace-Context": f"{TRACE}/1234567890;o=1"},
        {"x-cloud-trace-context": TRACE.upper()},
        {"traceparent": "garbage", "X-Cloud-Trace-Context": f"{TRACE}/0;o=0"},
    ],
)
def test_a_trace_that_is_carried_in_goes_on(carried: dict[str, str]) -> None:
    found = logs.trace_of(carried)
    assert found is not None and found.trace_id == TRACE
    assert found.parent == f"00-{TRACE}-{found.span_id}-01"


@pytest.mark.parametrize(
    "carried",
    [
        {},
        {"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"},
        {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
        {"traceparent": f"ff-{TRACE}-00f067aa0ba902b7-01"},
        {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01\nx"},
        {"x-cloud-trace-context": "1/2;o=1"},
    ],
)
def test_what_is_no_trace_begins_a_new_one(written: Any, carried: dict[str, str]) -> None:
    assert logs.trace_of(carried) is None
    for _ in range(2):
        with logs.handling("ingest", carried):
            log.info("x")
    first, second = (line["trace_id"] for line in written())
    assert len(first) == 32 and first != second


def test_messages_carry_the_trace_of_what_publishes_them_and_keep_one_they_have() -> None:
    assert logs.traced({"kind": "alert"}) == {"kind": "alert"}
    with logs.handling("webhook", HEADERS):
        published = logs.traced({"kind": "alert"})
        assert logs.traced({"traceparent": "theirs"}) == {"traceparent": "theirs"}
    assert published["kind"] == "alert" and published["traceparent"].startswith(f"00-{TRACE}-")
    with logs.handling("signal", {"traceparent": f"00-{'1' * 32}-{'1' * 16}-01"}):  # the push began another trace
        logs.follow(published)
        assert logs.traced({})["traceparent"].split("-")[1] == TRACE
        assert logs.traced({})["traceparent"] != published["traceparent"]


def test_a_request_ends_with_nothing_left_for_the_next_in_its_thread(written: Any) -> None:
    with logs.handling("execute", HEADERS):
        logs.note(trade_id="BTC-macd-1", message_id="7")
        logs.follow(HEADERS)
    log.info("between")
    with logs.handling("risk", {}):
        log.info("after")
    between, after = written()
    assert not {"trade_id", "message_id", "function", "trace_id", "logging.googleapis.com/trace"} & between.keys()
    assert after["function"] == "risk" and "trade_id" not in after and after["trace_id"] != TRACE


def test_threads_do_not_mix_their_fields(written: Any) -> None:
    together = threading.Barrier(8)

    def request(number: int) -> None:
        together.wait()
        for turn in range(20):
            with logs.handling("execute", {}), logs.about(trade_id=f"t-{number}"):
                logs.note(message_id=f"{number}-{turn}")
                log.info("of %s", number)

    threads = [threading.Thread(target=request, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = written()
    assert len(lines) == 160
    for line in lines:
        number = line["message"].removeprefix("of ")
        assert line["trade_id"] == f"t-{number}" and line["message_id"].startswith(f"{number}-")
    assert len({line["trace_id"] for line in lines}) == 160


# -- errors and secrets --------------------------------------------------------------------------


def test_an_error_carries_its_stack_for_error_reporting_and_not_its_text(written: Any) -> None:
    try:
        failing(TEXT)
    except ValueError:
        log.exception("it failed")
    [line] = written()
    assert line["@type"].endswith("ReportedErrorEvent")
    assert line["stack_trace"].startswith("Traceback (most recent call last):\n")
    assert line["stack_trace"].endswith("ValueError") and "in failing" in line["stack_trace"]
    assert TEXT not in json.dumps(line)


def test_a_warning_with_a_stack_is_not_reported_as_an_error(written: Any) -> None:
    try:
        failing("x")
    except ValueError:
        log.warning("it may work later", exc_info=True)
    [line] = written()
    assert "stack_trace" in line and "@type" not in line


@pytest.mark.parametrize("key", [KEY, KEY[2:]])
@pytest.mark.parametrize("plain", [False, True])
def test_what_looks_like_a_private_key_is_on_no_line(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], key: str, plain: bool
) -> None:
    root.handlers = []
    (logs.to_terminal if plain else lambda: logs.to_cloud("p", service="s", version=""))()
    log.error("signed with %s", key, extra={"body": f'{{"key":"{key}"}}', "keys": [key], "about": {"key": key}})
    captured = capsys.readouterr()
    assert key[4:] not in captured.out + captured.err and "[key]" in captured.out + captured.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flask", "Exception on /s3cret-path [POST]"),
        ("gunicorn.error", "Error handling request /s3cret-path?x=1"),
        ("gunicorn.error", "Invalid HTTP request line: 'POST /s3cret-path HTTP/9'"),
        ("werkzeug", '127.0.0.1 - - "POST /s3cret-path HTTP/1.1" 200 -'),
        ("urllib3.connectionpool", "Retrying after 'x': https://host:1/s3cret-path"),
        ("any", "asked with ?token=s3cret-path"),
    ],
)
def test_lines_of_libraries_come_the_same_way_without_paths_and_query_strings(
    written: Any, name: str, text: str
) -> None:
    logging.getLogger(name).error(text)
    [line] = written()
    assert line["logger"] == name and "s3cret" not in json.dumps(line) and "/…" in line["message"]


# -- nothing is held up --------------------------------------------------------------------------


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("not today")

    __repr__ = __str__


def test_what_cannot_be_shown_costs_no_line(root: logging.Logger, written: Any) -> None:
    root.handlers = [handler for handler in root.handlers if handler.__module__ == logs.__name__]
    log.info("%d apples", "many")
    log.info("an object: %s", Unshowable())
    log.info("fields", extra={"odd": Unshowable(), "lone": "\ud800", "set": {1}})
    first, second, third = written()
    assert (first["message"], second["message"]) == ("%d apples", "an object: %s")
    assert (third["odd"], third["set"]) == ("<Unshowable>", "{1}")


def test_an_output_that_is_closed_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.to_cloud("p", service="s", version="")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    log.error("nobody hears it")


def test_a_line_is_cut_before_it_is_too_long_for_cloud_logging(written: Any) -> None:
    with logs.handling("execute", HEADERS):
        log.error("é" * 500_000, extra={"stack_trace": "first\n" + "x" * 500_000 + "\nlast"})
        log.error("many", extra={f"field_{number}": "y" * 500_000 for number in range(50)})
    long, many = written()
    assert long["message"].startswith("é") and long["message"].endswith("(492000 more characters)")
    assert long["stack_trace"].startswith("first") and long["stack_trace"].endswith("last")
    assert many["message"] == "many" and many["cut_bytes"] > logs.LINE_BYTES_MAX and many["trace_id"] == TRACE
    assert all(len(json.dumps(line)) < 256 * 1024 for line in (long, many))


# -- where lines go ------------------------------------------------------------------------------


def test_setting_up_twice_writes_each_line_once(written: Any) -> None:
    logs.to_cloud("desk", service="execute", version="")
    log.info("once")
    logging.getLogger("gunicorn.error").error("once too")
    assert [line["message"] for line in written()] == ["once", "once too"]


def test_the_framework_s_own_handler_is_replaced(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    root.addHandler(logging.StreamHandler(sys.stderr))
    logs.to_cloud("desk", service="execute", version="")
    log.error("once")
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (1, "")


def test_a_terminal_shows_warnings_in_words_and_leaves_out_what_one_asks_for(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    root.handlers = []
    logs.to_terminal()
    logs.to_terminal()
    log.info("quiet")
    log.warning("loud", extra={"topic": "alerts"})
    logging.getLogger("twinleg.events").critical("in the audit")
    try:
        failing(TEXT)
    except ValueError:
        log.exception("it failed")
    out, err = capsys.readouterr()
    assert out == "" and TEXT not in err
    assert err.startswith("WARNING twinleg.test: loud (topic=alerts)\nERROR twinleg.test: it failed\nTraceback")


def test_a_file_gets_every_line_and_never_grows_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 2_000)
    path = tmp_path / "logs" / "twinleg.jsonl"
    logs.to_file(path)
    with logs.handling("risk", {}):
        for number in range(200):
            log.info("line %s", number)
    sizes = {file.name: file.stat().st_size for file in path.parent.iterdir()}
    assert len(sizes) == 1 + logs.FILES_KEPT and max(sizes.values()) <= 2_000
    last = json.loads(path.read_text().splitlines()[-1])
    assert (last["message"], last["function"]) == ("line 199", "risk")
