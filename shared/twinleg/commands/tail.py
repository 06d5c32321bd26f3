"""``twinleg tail``: what happened, newest last, and what happens next."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from twinleg.commands.common import Arguments, command, count, system_of, with_config
from twinleg.domain.errors import Unavailable

if TYPE_CHECKING:
    from twinleg.bootstrap import System
    from twinleg.engine.ports import Store, Stored

SEVERITIES = ("DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL")
POLL_SECONDS = 1.5
LOOKED_AT_MAX = 1_000
"""How many entries are looked at to find those of a trade or severity."""
FILE_TAIL_BYTES = 1_000_000
COLOURS = {"NOTICE": "36", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31", "DEBUG": "2", "INFO": "2"}


def add(commands: Any) -> None:
    made = command(commands, "tail", "what happened, newest last; -f shows what happens next", _tail)
    made.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    made.add_argument("--lines", type=count, default=20, help="how many to begin with (default 20)")
    made.add_argument("--trade", default="", help="only what is about this trade (or intent)")
    made.add_argument("--severity", choices=SEVERITIES, type=str.upper, default="DEBUG", help="this loud or louder")
    made.add_argument("--logs", action="store_true", help="the functions' log lines too, where they are in files")
    made.add_argument("--json", action="store_true", help="one JSON object a line")
    with_config(made)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened: an audit entry, or a line of a log."""

    at: datetime
    severity: str
    source: str
    text: str
    about: Mapping[str, Any]
    id: str = ""

    def is_wanted(self, trade: str, severity: str) -> bool:
        loud = SEVERITIES.index(self.severity) >= SEVERITIES.index(severity)
        return loud and (not trade or trade in (self.about.get("trade_id"), self.about.get("intent_id")))


def _tail(arguments: Arguments) -> int:
    system = system_of(arguments)
    audit = Audit(system.store)
    files = LogFiles(_logs_folder(arguments, system) if arguments.logs else None)
    coloured = sys.stdout.isatty() and "NO_COLOR" not in _environment()

    def show(lines: Iterable[Line], most: int | None = None) -> None:
        wanted = [line for line in lines if line.is_wanted(arguments.trade, arguments.severity)]
        for line in sorted(wanted, key=lambda line: (line.at, line.id))[-most if most else 0 :]:
            print(_json(line) if arguments.json else _text(line, coloured), flush=True)

    narrowed = arguments.trade or arguments.severity != SEVERITIES[0]
    first = audit.newest(LOOKED_AT_MAX if narrowed else arguments.lines, arguments.trade)
    with files:
        show([*first, *files.lines()], arguments.lines)
        while arguments.follow:
            _wait()
            with suppress(Unavailable):  # it may be starting again: the next look shows what was missed
                show([*audit.fresh(), *files.lines()])
    return 0


def _wait() -> None:
    from twinleg.adapters.local.clocks import SystemClock

    SystemClock().sleep(POLL_SECONDS)  # not the system's clock: waiting on a replay's would move it


def _environment() -> Mapping[str, str]:
    from twinleg.settings import environment

    return environment()


# -- the audit -----------------------------------------------------------------------------------


class Audit:
    """Reads the audit of any store: a look that finds nothing new costs one read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, None] = {}

    def newest(self, limit: int, trade: str = "") -> list[Line]:
        """The newest entries; of one trade, also those of the intent that became it."""
        found = self._query(20 if trade else limit)
        if trade:
            of_trade = [self._store.query("audit", {name: trade}, limit=limit) for name in ("trade_id", "intent_id")]
            found = [*found, *(stored for some in of_trade for stored in some)]
        return self._unseen(found)

    def fresh(self) -> list[Line]:
        """What was added since the last look."""
        found: list[Stored] = []
        for limit in (1, 20, 200, LOOKED_AT_MAX):
            found = self._query(limit)
            if len(found) < limit or any(stored.id in self._seen for stored in found):
                break
        return self._unseen(found)

    def _query(self, limit: int) -> list[Stored]:
        return self._store.query("audit", order_by="at", descending=True, limit=limit)

    def _unseen(self, found: list[Stored]) -> list[Line]:
        new = {stored.id: stored for stored in found if stored.id not in self._seen}
        self._seen |= dict.fromkeys(sorted(new))
        for old in list(self._seen)[: -2 * LOOKED_AT_MAX]:
            del self._seen[old]
        return [_of_entry(stored) for stored in new.values()]


def _of_entry(stored: Stored) -> Line:
    from twinleg.engine.system import severity_of

    data = stored.data
    kind = str(data.get("kind", ""))
    text = f"{kind}: {data.get('summary', '')}"
    return Line(data["at"], severity_of(kind), str(data.get("who", "")), text, data, stored.id)


# -- log files -----------------------------------------------------------------------------------


def _logs_folder(arguments: Arguments, system: System) -> Path | None:
    """Where this machine's log files are. When the logs are in Google Cloud: none, and how they are read is said."""
    from twinleg.adapters.gcp.emulators import FIRESTORE_VARIABLE
    from twinleg.bootstrap import PROJECT_VARIABLE, RUNTIME_VARIABLE

    environ = _environment()
    if environ.get(RUNTIME_VARIABLE) != "cloud" or environ.get(FIRESTORE_VARIABLE):
        return Path(system.settings.storage.path).parent / "logs"
    print(f"the logs are in Cloud Logging: {gcloud_command(arguments, environ[PROJECT_VARIABLE])}", file=sys.stderr)
    return None


def gcloud_command(arguments: Arguments, project: str) -> str:
    """What shows the same of Cloud Logging."""
    wanted = ['resource.type="cloud_run_revision"', f"severity>={arguments.severity}"]
    if arguments.trade:
        trade = json.dumps(arguments.trade)
        wanted.append(f"(jsonPayload.trade_id={trade} OR jsonPayload.intent_id={trade})")
    query = f"{shlex.quote(' AND '.join(wanted))} --project {project}"
    shown = "--format 'value(timestamp, severity, jsonPayload.function, jsonPayload.message)'"
    if arguments.follow:
        return f"gcloud beta logging tail {query} {shown}"
    return f"gcloud logging read {query} --freshness 1d --limit {arguments.lines} {shown}"


class LogFiles:
    """Reads the JSON lines of every file of a folder as they are added, whatever is exchanged for a new file.

    Of no folder there are no lines.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._open: dict[Path, BinaryIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def lines(self) -> Iterator[Line]:
        """Lines not shown yet; of a file met for the first time only the last part. Events are in the audit, and
        figures in the files: both are left out.
        """
        for path in sorted(self._folder.glob("*.jsonl")) if self._folder else ():
            for text in self._added(path):
                if line := _of_log(text, path.stem):
                    yield line

    def _added(self, path: Path) -> Iterator[bytes]:
        file = self._open.get(path)
        if file is None:
            file = self._open[path] = path.open("rb")
            skipped = max(0, os.fstat(file.fileno()).st_size - FILE_TAIL_BYTES)
            file.seek(skipped)
            if skipped:
                file.readline()
        yield from _whole_lines(file)
        with suppress(FileNotFoundError):  # between two names, for a moment
            if path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                file.close()
                file = self._open[path] = path.open("rb")
                yield from _whole_lines(file)


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines from here on; one that is still being written is left for the next time."""
    while text := file.readline():
        if not text.endswith(b"\n"):
            file.seek(-len(text), os.SEEK_CUR)
            return
        yield text


def _of_log(text: bytes, file: str) -> Line | None:
    try:
        said = json.loads(text)
        at = datetime.fromisoformat(said["time"])
    except (ValueError, TypeError, KeyError):
        return None
    if "event" in said or "metric" in said or at.tzinfo is None:
        return None
    severity = said.get("severity")
    source = str(said.get("function") or file)
    return Line(at, severity if severity in SEVERITIES else "INFO", source, str(said.get("message", "")), said)


# -- showing -------------------------------------------------------------------------------------


def _json(line: Line) -> str:
    about = {name: value for name, value in line.about.items() if name not in ("at", "severity", "time")}
    said = {"at": line.at.astimezone(UTC).isoformat(), "severity": line.severity, "source": line.source, **about}
    return json.dumps(said, default=str)


def _text(line: Line, coloured: bool) -> str:
    """One line for a person. What is not printable (an alert's text may hold anything) is not sent to a terminal."""
    trade = line.about.get("trade_id") or line.about.get("intent_id") or ""
    text = line.text if not trade or str(trade) in line.text else f"{line.text} [{trade}]"
    plain = "".join(c if c.isprintable() else " " for c in text)
    severity = f"{line.severity:8}"
    if coloured:
        severity = f"\x1b[{COLOURS[line.severity]}m{severity}\x1b[0m"
    return f"{line.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} {severity} {line.source:8} {plain}"
