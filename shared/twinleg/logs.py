"""What is written while things happen: one line each, what it is about, and the trace that runs through all of them.

In the cloud a line is one JSON object on standard output, as Cloud Logging reads it; at a terminal it is short text.
Whoever handles a request binds once what its lines are about; every line written until it ends carries that.
Standard library only: the webhook pays for every import when it starts.
Source of the field names: Google Cloud documentation, "Structured logging" and "Format errors in logs".
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

NOTICE = 25
"""Between INFO and WARNING: normal, and worth reading."""
logging.addLevelName(NOTICE, "NOTICE")

TEXT_CHARACTERS_MAX = 8_000
STACK_CHARACTERS_MAX = 16_000
LINE_BYTES_MAX = 200_000
"""Below Cloud Logging's 256 KiB for an entry."""
FILE_BYTES_MAX, FILES_KEPT = 5_000_000, 4
ERROR_EVENT = "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"

# -- the trace -----------------------------------------------------------------------------------

TRACEPARENT = "traceparent"
"""The header, and the attribute of every published message, that carries the trace on (W3C Trace Context)."""
CLOUD_TRACE = "x-cloud-trace-context"
_W3C = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_CLOUD = re.compile(r"(?!0{32})([0-9a-fA-F]{32})(?:/\d+)?(?:;o=\d)?")


@dataclass(frozen=True, slots=True)
class Trace:
    """What one alert or candle sets off (``trace_id``), and the part of it that is this request (``span_id``)."""

    trace_id: str
    span_id: str

    @property
    def parent(self) -> str:
        """The ``traceparent`` of whatever this request causes."""
        return f"00-{self.trace_id}-{self.span_id}-01"


def trace_of(carried: Mapping[str, str]) -> Trace | None:
    """The trace that headers or attributes carry on, with a span of its own; None when they carry none."""
    lower = {name.lower(): text for name, text in carried.items()}
    if found := _W3C.fullmatch(lower.get(TRACEPARENT, "")) or _CLOUD.fullmatch(lower.get(CLOUD_TRACE, "")):
        return Trace(found[1].lower(), _new_id(8))
    return None


def traced(attributes: Mapping[str, str]) -> dict[str, str]:
    """A message's attributes with the trace of what publishes it. One that is there already stays."""
    trace = _trace.get()
    return {TRACEPARENT: trace.parent, **attributes} if trace else dict(attributes)


def _new_id(size_bytes: int) -> str:
    return os.urandom(size_bytes).hex()


# -- what lines are about ------------------------------------------------------------------------

_trace: ContextVar[Trace | None] = ContextVar("twinleg_trace", default=None)
_about: ContextVar[Mapping[str, str]] = ContextVar("twinleg_about", default={})  # noqa: B039  (never changed in place)


@contextmanager
def handling(function: str, carried: Mapping[str, str]) -> Iterator[None]:
    """Until it ends, lines are about this request and nothing else, whatever the thread did before.

    Its trace is the one *carried* in, else a new one.
    """
    trace = _trace.set(trace_of(carried) or Trace(_new_id(16), _new_id(8)))
    fields = _about.set({"function": function})
    try:
        yield
    finally:
        _about.reset(fields)
        _trace.reset(trace)


def follow(attributes: Mapping[str, str]) -> None:
    """For the rest of the request, be part of the trace a message carries: the push that brought it began another."""
    if trace := trace_of(attributes):
        _trace.set(trace)


def note(**fields: str) -> None:
    """For the rest of the request, lines are about these too; empty ones are left out."""
    _about.set({**_about.get(), **{name: text for name, text in fields.items() if text}})


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Inside it, lines are about these too: ``with about(trade_id=id):``."""
    before = _about.set(_about.get())
    try:
        note(**fields)
        yield
    finally:
        _about.reset(before)


# -- lines ---------------------------------------------------------------------------------------


def stack_of(error: BaseException) -> str:
    """Where an error came from, as Error Reporting groups it, without its text, which may quote anything."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{type(error).__name__}"


class PlainLines(logging.Formatter):
    """Short text for a person: severity, who says it, what, and the fields of that line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(record)
        stack = str(fields.pop("stack_trace", ""))
        told = ", ".join(f"{name}={value}" for name, value in fields.items())
        line = f"{record.levelname} {record.name}: {_message(record)}" + (f" ({told})" if told else "")
        return _KEY.sub("[key]", f"{line}\n{stack}" if stack else line)


class JsonLines(logging.Formatter):
    """One JSON object a line, never longer than Cloud Logging takes, and never a stack with an exception's text."""

    def __init__(self, *, project: str = "", service: str = "twinleg", version: str = "") -> None:
        super().__init__()
        self._project = project
        self._service = {"service": service} | ({"version": version} if version else {})

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "severity": record.levelname if record.levelno in _SEVERITIES else "DEFAULT",
            "message": _cut(_message(record), TEXT_CHARACTERS_MAX),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "logger": record.name,
        }
        fields = {**_about.get(), **_fields(record)}
        stack = str(fields.pop("stack_trace", ""))
        entry |= {name: _value(value) for name, value in fields.items() if name not in entry}
        entry |= self._traced() | self._labelled(entry) | {"serviceContext": self._service}
        if stack:
            entry["stack_trace"] = _cut_middle(stack, STACK_CHARACTERS_MAX)
            if record.levelno >= logging.ERROR:
                entry["@type"] = ERROR_EVENT
        line = _json(entry)
        if len(line) > LINE_BYTES_MAX:
            line = _json({name: entry[name] for name in _KEPT if name in entry} | {"cut_bytes": len(line)})
        return _KEY.sub("[key]", line)

    def _traced(self) -> dict[str, object]:
        trace = _trace.get()
        if trace is None:
            return {}
        name = f"projects/{self._project}/traces/{trace.trace_id}" if self._project else trace.trace_id
        return {
            "trace_id": trace.trace_id,
            "logging.googleapis.com/trace": name,
            "logging.googleapis.com/spanId": trace.span_id,
            "logging.googleapis.com/trace_sampled": True,
        }

    def _labelled(self, entry: Mapping[str, object]) -> dict[str, object]:
        labels = {name: str(entry[name]) for name in ("function", "trade_id") if entry.get(name)}
        return {"logging.googleapis.com/labels": labels} if labels else {}


_SEVERITIES = frozenset({logging.DEBUG, logging.INFO, NOTICE, logging.WARNING, logging.ERROR, logging.CRITICAL})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_KEPT = (
    "severity", "message", "time", "logger", "function", "trade_id", "intent_id", "trace_id", "serviceContext",
    "logging.googleapis.com/trace", "logging.googleapis.com/spanId", "stack_trace", "@type",
)  # fmt: skip
_KEY = re.compile(r"\b(?:0x)?[0-9a-fA-F]{64}\b")
"""What looks like a private key. Nothing of ours is 64 hexadecimal digits long."""
_ADDRESS = re.compile(r"[/?][^\s\"'\])]+")
"""A path or query string in a library's line: the webhook's path ends with its secret."""


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:
        text = str(record.msg)
    return text if record.name.partition(".")[0] == "twinleg" else _ADDRESS.sub("/…", text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What the line itself says beside its message, with the stack of an exception it was given."""
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    error = record.exc_info[1] if record.exc_info else None
    return fields | {"stack_trace": stack_of(error)} if error is not None else fields


def _value(value: object) -> object:
    if isinstance(value, str):
        return _cut(value, TEXT_CHARACTERS_MAX)
    if value is None or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple) and len(value) <= 100:
        return [_value(item) for item in value]
    try:
        return _cut(str(value), TEXT_CHARACTERS_MAX)
    except Exception:  # an object that cannot even be shown costs no line
        return f"<{type(value).__name__}>"


def _json(entry: Mapping[str, object]) -> str:
    return json.dumps(entry)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} more characters)"


def _cut_middle(text: str, most: int) -> str:
    """A stack's last frames say most; its first line says that it is one."""
    return text if len(text) <= most else f"{text[: most // 4]}\n  … cut …\n{text[-most * 3 // 4 :]}"


# -- where lines go ------------------------------------------------------------------------------


class _Current(logging.Handler):
    """Writes to what ``sys.stdout`` (or ``stderr``) is at that moment: the framework exchanges it in each request."""

    def __init__(self, name: str, formatter: logging.Formatter) -> None:
        super().__init__()
        self._stream_name = name
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # a line that cannot be written holds up nothing
            stream: TextIO = getattr(sys, self._stream_name)
            stream.write(self.format(record) + "\n")
            stream.flush()


class _OfLibraries(logging.Filter):
    """Takes the lines of a logger that insists on a handler of its own to ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        return False


_of_libraries = _OfLibraries()


def to_cloud(project: str, *, service: str, version: str) -> None:
    """From now on this process writes JSON lines to standard output, the server's and the framework's own too."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if type(handler) in (logging.StreamHandler, _Current):
            root.removeHandler(handler)
    root.addHandler(_Current("stdout", JsonLines(project=project, service=service, version=version)))
    logging.getLogger("twinleg").setLevel(logging.INFO)
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.removeFilter(_of_libraries)
    gunicorn.addFilter(_of_libraries)


def to_terminal() -> None:
    """Warnings and errors as text on standard error, unless the process logs already.

    Events and figures are left out: a person at a terminal asks for them.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = _Current("stderr", PlainLines())
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: record.name not in ASKED_FOR)
    root.addHandler(handler)


ASKED_FOR = frozenset({"twinleg.events", "twinleg.measures"})


def to_file(path: Path, *, service: str = "twinleg") -> None:
    """The same JSON lines into a file too, which is exchanged for a new one before it grows without bound."""
    from logging.handlers import RotatingFileHandler

    class Quiet(RotatingFileHandler):
        def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
            """Nothing: a full disk holds up no trade."""

    path.parent.mkdir(parents=True, exist_ok=True)
    handler = Quiet(path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines(service=service))
    logging.getLogger().addHandler(handler)
    logging.getLogger("twinleg").setLevel(logging.INFO)
