"""How long each function takes from the start of its process to its first correct answer.

Every start is a fresh functions-framework server, as on Cloud Run: the process is started, its port is tried until it
listens, one request is sent, and the answer is checked. The functions run on the Firestore and Pub/Sub emulators and,
where they call one, the paper venue. Beside them run, interleaved so that a busy moment hits all alike:

    bare      a hello function that imports functions_framework only
    pubsub    the same, importing google.cloud.pubsub_v1, and sending nothing
    NAME+all  the function NAME with every dependency of the project imported before its first line

``python bench/cold_start.py --help`` lists the options; bench/README.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from twinleg import wire
from twinleg.adapters.gcp import emulators
from twinleg.adapters.local.candle_files import packaged_candles
from twinleg.bootstrap import System, account_addresses, cloud_system, functions_folder
from twinleg.domain.alerts import parse_alert
from twinleg.domain.messages import AlertMessage, Topic
from twinleg.embedded.replay import alert_json, settings_text
from twinleg.embedded.runtime import prepare
from twinleg.embedded.venue_process import start_venue, write_candles
from twinleg.engine.ingest import on_tick
from twinleg.engine.ports import SignerRole
from twinleg.engine.signals import on_alert
from twinleg.settings import parse

FUNCTIONS = ("webhook", "signal", "execute", "ingest", "risk")
ALL = (
    "rich.console", "requests", "aiohttp", "keyring", "pyarrow", "pandas", "pandas_ta", "ccxt", "web3",
    "hyperliquid.exchange", "hyperliquid.info", "coincurve", "eth_account", "eth_keys", "eth_utils", "msgpack",
    "google.cloud.pubsub_v1", "google.cloud.firestore", "google.cloud.secretmanager", "google.cloud.scheduler",
)  # fmt: skip
"""What pyproject.toml names, extras included: pandas-ta brings pandas, numpy and numba."""
HELLO = """
import functions_framework

@functions_framework.http
def hello(request):
    return "hello"
"""
TARGETS = {"bare": 3.0, "pubsub": 1.1, "all": 0.5}
"""The webhook's cold start, at most this many times theirs."""
START_SECONDS_MAX = 60.0
LIGHT_STARTS = 3
"""Starts of everything but NAME+all in one repetition."""
SECRET, COIN = "of-the-bench", "BTC"


# -- one start -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """What is sent, and what makes its answer right."""

    path: str = "/"
    body: bytes = b"{}"
    status: int = 200
    says: str = ""
    check: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True)
class Variant:
    """One kind of server to start. *requests* makes a new request each time it is called."""

    name: str
    target: str
    source: Path
    request: Callable[[], Request]


@dataclass(frozen=True)
class Start:
    """Seconds from the process's start until it listened and until it had answered; those of a second request."""

    listening: float
    answered: float
    again: float
    cpu: float
    """Processor seconds of all its threads until it had answered: what other programs on the machine change least."""
    rss_mb: float


def start(variant: Variant, environ: dict[str, str], cpus: int) -> Start:
    """Start a server, ask it twice, end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "functions_framework", "--target", variant.target]
    command += ["--source", str(variant.source), "--host", "127.0.0.1", "--port", str(port)]
    first, second = variant.request(), variant.request()
    log = tempfile.TemporaryFile()  # noqa: SIM115 (closed below, with the process that writes to it)
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=environ, cwd=variant.source.parent, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        if cpus:
            os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:cpus])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS_MAX)
        connection.sock = _connected(port, process, began)
        listening = time.monotonic() - began
        answer = _ask(connection, first)
        answered = time.monotonic() - began
        cpu = sum(_cpu_seconds(pid) for pid in _family(process.pid))
        _check(first, *answer)
        asked = time.monotonic()
        answer = _ask(connection, second)
        again = time.monotonic() - asked
        _check(second, *answer)
        return Start(listening, answered, again, cpu, max(_rss_mb(pid) for pid in _family(process.pid)))
    except Exception as error:
        log.seek(0)
        raise SystemExit(f"{variant.name}: {error}\n{log.read().decode()[-3000:]}") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def _connected(port: int, process: subprocess.Popen[bytes], began: float) -> socket.socket:
    while process.poll() is None and time.monotonic() - began < START_SECONDS_MAX:
        try:
            made = socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS_MAX)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except ConnectionRefusedError:
            time.sleep(0.004)
    raise RuntimeError(f"it did not listen (exit code {process.poll()})")


def _ask(connection: http.client.HTTPConnection, request: Request) -> tuple[int, str]:
    connection.request("POST", request.path, request.body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def _check(request: Request, status: int, text: str) -> None:
    if status != request.status or request.says not in text:
        raise RuntimeError(f"wanted {request.status} with {request.says!r}, was {status}: {text[:300]}")
    request.check()


def _family(pid: int) -> Iterator[int]:
    """The server's master and its workers."""
    yield pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    yield from map(int, children)


def _cpu_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _rss_mb(pid: int) -> float:
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# -- the world around them -------------------------------------------------------------------------


class World:
    """Emulators, a paper venue, a desk that has seen a minute, and the messages that functions are sent."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder, self.project = folder, f"bench-{secrets.token_hex(4)}"
        store = emulators.firestore(os.environ)
        stack.callback(store.stop)
        self.bus = emulators.pubsub(os.environ)
        stack.callback(self.bus.stop)
        candles = write_candles(folder / "candles.csv", packaged_candles())
        venue = start_venue(["--open-accounts", "--candles", str(candles), "--market", COIN], folder / "venue.log")
        stack.callback(venue.stop)
        self.environ = {
            "GOOGLE_CLOUD_PROJECT": self.project,
            "TWINLEG_RUNTIME": "cloud",
            emulators.FIRESTORE_VARIABLE: store.host,
            emulators.PUBSUB_VARIABLE: self.bus.host,
            "TWINLEG_WEBHOOK_SECRET": SECRET,
            "TWINLEG_CONFIG": str(folder / "twinleg.toml"),
        }
        self._topics()
        text = settings_text(COIN, venue.control.url, {})
        made_up = cloud_system(parse(text, {}), self.environ, call_seconds_max=20)
        prepare(made_up)  # it may approve keys of accounts whose addresses are made up only
        (folder / "twinleg.toml").write_text(_with_addresses(text, made_up))
        self._messages(made_up)

    def _topics(self) -> None:
        for topic in Topic:
            for name in (topic.value, topic.dead):
                self._call("PUT", f"topics/{name}", {})
            self._call("PUT", f"subscriptions/pull-{topic.value}", {"topic": f"projects/{self.project}/topics/{topic}"})

    def _messages(self, system: System) -> None:
        """A closed candle and an intent, as the functions before them published them."""
        engine = system.engine(SignerRole.EXECUTE)
        on_tick(engine)
        self.candle = self.pulled(Topic.CANDLES)[0]
        alert = parse_alert(alert_json(COIN, "buy", datetime.now(UTC), "first").encode(), datetime.now(UTC))
        on_alert(engine, AlertMessage(alert=alert))
        self.intent = json.loads(self.pulled(Topic.INTENTS)[0])

    def pulled(self, topic: Topic) -> list[bytes]:
        """The messages waiting on a topic."""
        found = self._call("POST", f"subscriptions/pull-{topic}:pull", {"maxMessages": 100, "returnImmediately": True})
        received = found.get("receivedMessages", [])
        if received:
            ids = [one["ackId"] for one in received]
            self._call("POST", f"subscriptions/pull-{topic}:acknowledge", {"ackIds": ids})
        return [base64.b64decode(one["message"].get("data", "")) for one in received]

    def _call(self, method: str, path: str, body: object) -> Any:
        request = urllib.request.Request(
            f"http://{self.bus.host}/v1/projects/{self.project}/{path}", json.dumps(body).encode(),
            {"Content-Type": "application/json"}, method=method,
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")

    # -- requests --------------------------------------------------------------------------------

    def request(self, name: str) -> Request:
        """The cheapest request that makes the function do its work, with a check that it was done."""
        match name:
            case "webhook":
                id = secrets.token_hex(6)
                body = alert_json(COIN, "buy", datetime.now(UTC), id)
                return Request(f"/{SECRET}", body.encode(), check=lambda: self._published(id))
            case "webhook 401":
                return Request("/not-the-secret", b"{}", status=401)
            case "signal":
                return self._push(Topic.CANDLES, "candle", self.candle)
            case "execute":  # an intent too old: the trade is recorded, the accounts are read, the gate refuses it
                past = datetime.now(UTC) - timedelta(hours=1)
                changed = {"intent_id": f"BTC-bench-{secrets.token_hex(6)}", "expires_at": past.isoformat()}
                intent = json.dumps(self.intent | changed).encode()
                return self._push(Topic.INTENTS, "intent", intent, says="expired")
            case _:
                return Request()

    def _push(self, topic: Topic, kind: str, data: bytes, says: str = "") -> Request:
        body = wire.push_body(data=data, message_id="1", topic=topic, attributes={"kind": kind})
        return Request(f"/topics/{topic}", json.dumps(body).encode(), says=says)

    def _published(self, id: str) -> None:
        alerts = b"".join(self.pulled(Topic.ALERTS))
        if f'"{id}"'.encode() not in alerts and id.encode() not in alerts:
            raise RuntimeError(f"alert {id} was accepted and is not on the topic")


def _with_addresses(text: str, system: System) -> str:
    """The same accounts with their addresses written down, as every configuration of the cloud has them."""
    for name, (_, address, _) in account_addresses(system.settings).items():
        text = text.replace(f"[accounts.{name}]\n", f'[accounts.{name}]\naddress = "{address}"\n')
    return text


# -- what is compared ------------------------------------------------------------------------------


def variants(names: list[str], world: World) -> list[list[Variant]]:
    """What is started one after the other, a group a function: it stands between the things it is held to.

    The light ones are started several times before the slow one, because they are what noise tells apart least.
    """
    hello = Request(says="hello")
    bare = Variant("bare", "hello", _source(world, "bare", HELLO), lambda: hello)
    importing = _source(world, "pubsub", "from google.cloud import pubsub_v1\n" + HELLO)
    pubsub = Variant("pubsub", "hello", importing, lambda: hello)
    imports = "".join(f"import {module}\n" for module in ALL)
    groups: list[list[Variant]] = []
    for name in names:
        function = name.split()[0]
        real = functions_folder() / function / "main.py"
        request = partial(world.request, name)
        light = [bare, Variant(name, function, real, request), pubsub]
        groups.append(light * LIGHT_STARTS)
        if name == function:
            everything = _source(world, f"{name}-all", imports + real.read_text())
            groups[-1].append(Variant(f"{name}+all", function, everything, request))
    return groups


def image_environment() -> dict[str, str]:
    """The variables that the Dockerfile sets for every function."""
    lines = (functions_folder().parent / "Dockerfile").read_text().splitlines()
    words = [word for line in lines if line.startswith("ENV ") for word in line.split()[1:]]
    return dict(word.split("=", 1) for word in words)


def _source(world: World, name: str, text: str) -> Path:
    folder = world.folder / name
    folder.mkdir()
    (folder / "main.py").write_text(text)
    return folder / "main.py"


def measured(names: list[str], repetitions: int, cpus: int) -> dict[str, list[Start]]:
    """The starts of each variant. One round comes first, uncounted: it compiles what is imported."""
    starts: dict[str, list[Start]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        world = World(stack, Path(folder))
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environ |= image_environment() | world.environ | {"PYTHONPYCACHEPREFIX": f"{folder}/compiled"}
        groups = variants(names, world)
        for repetition in range(repetitions + 1):
            for group in groups:
                for variant in group:
                    print(f"\r{repetition}/{repetitions} {variant.name:<16}", end="", file=sys.stderr, flush=True)
                    one = start(variant, environ, cpus)
                    if repetition:
                        starts.setdefault(variant.name, []).append(one)
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    return starts


# -- what is said ----------------------------------------------------------------------------------


def row(name: str, found: list[Start]) -> dict[str, Any]:
    """Medians, and the spread of the whole."""
    answered = [one.answered for one in found]
    return {
        "name": name,
        "starts": len(found),
        "answered_seconds": statistics.median(answered),
        "answered_seconds_min": min(answered),
        "answered_seconds_max": max(answered),
        "listening_seconds": statistics.median(one.listening for one in found),
        "first_request_seconds": statistics.median(one.answered - one.listening for one in found),
        "second_request_seconds": statistics.median(one.again for one in found),
        "cpu_seconds": statistics.median(one.cpu for one in found),
        "rss_mb": statistics.median(one.rss_mb for one in found),
    }


HOW = {"by median": "answered_seconds", "by fastest": "answered_seconds_min", "by processor": "cpu_seconds"}


def ratios(rows: dict[str, dict[str, Any]], name: str) -> dict[str, dict[str, float]]:
    """A function's cold start as a multiple of each baseline's: of medians, of the fastest, of processor time."""
    beside = {"bare": "bare", "pubsub": "pubsub", "all": f"{name.split()[0]}+all"}
    return {
        how: {word: rows[name][key] / rows[other][key] for word, other in beside.items()} for how, key in HOW.items()
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    heads = ("", "answered", "min", "max", "listening", "1st request", "2nd request", "processor", "RSS MB")
    keys = ("answered_seconds", "answered_seconds_min", "answered_seconds_max", "listening_seconds",
            "first_request_seconds", "second_request_seconds", "cpu_seconds")  # fmt: skip
    lines = [heads]
    for name, found in rows.items():
        lines.append((name, *(f"{found[key]:.3f}" for key in keys), f"{found['rss_mb']:.0f}"))
    return _columns(lines)


def ratio_table(rows: dict[str, dict[str, Any]], names: list[str]) -> str:
    lines: list[tuple[str, ...]] = [("", *(f"{how}: x bare  x pubsub  x all" for how in HOW))]
    for name in names:
        cells = (f"{of['bare']:.2f}     {of['pubsub']:.2f}   {of['all']:.2f}" for of in ratios(rows, name).values())
        lines.append((name, *cells))
    return _columns(lines)


def _columns(lines: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def missed(of: dict[str, float]) -> list[str]:
    """The targets that these ratios of the webhook miss."""
    return [f"{of[word]:.2f} x {word}, at most {most:g}" for word, most in TARGETS.items() if of[word] > most]


def main() -> int:
    parser = argparse.ArgumentParser(description="Cold starts: seconds from process start to first correct answer.")
    parser.add_argument("--function", action="append", choices=FUNCTIONS, help="only this one; may be repeated")
    parser.add_argument(
        "--repetitions", type=int, default=5, help=f"each has {LIGHT_STARTS} starts, and one of NAME+all"
    )
    parser.add_argument("--cpus", type=int, default=0, help="give each server only so many cores (0: all there are)")
    parser.add_argument("--json", action="store_true", help="print numbers for a program instead of the table")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before its end"))  # so that what was started is ended
    names = list(asked.function or FUNCTIONS)
    if "webhook" in names:
        names.insert(names.index("webhook") + 1, "webhook 401")
    rows = {name: row(name, found) for name, found in measured(names, asked.repetitions, asked.cpus).items()}
    of = {name: ratios(rows, name) for name in names}
    if asked.json:
        about = {"python": sys.version.split()[0], "cpus": asked.cpus or os.cpu_count(), "load": os.getloadavg()}
        print(json.dumps(about | {"rows": list(rows.values()), "ratios": of}, indent=1))
    else:
        print(table(rows), ratio_table(rows, names), sep="\n\n")
    if "webhook" not in names:
        return 0
    misses = missed(of["webhook"]["by median"])
    print("webhook: " + ("; ".join(misses) or "every target kept"), file=sys.stderr)
    return 1 if misses else 0


if __name__ == "__main__":
    raise SystemExit(main())
