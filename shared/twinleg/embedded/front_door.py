"""What stands between the callers and the function servers, as Cloud Run's front end does.

Pushes, Scheduler's calls and alerts arrive at one address per function, whichever server serves it at the moment. A
call waits a little for a server that is being started; one whose server dies under it is answered 503. Nothing
of a call is logged: the webhook's path carries its secret.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from twinleg.embedded.topology import FUNCTIONS, PUSHED

HOLD_SECONDS = 10.0
HOLD_SECONDS_WEBHOOK = 2.0
"""TradingView sends again after a 503, but not after 3 s without an answer."""
BODY_BYTES_MAX = 32 * 1024 * 1024
"""Source: Cloud Run quotas, request size over HTTP/1."""
IDLE_SECONDS_MAX = 300
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade", "host", "content-length", "expect", "date", "server")
)  # fmt: skip
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a function."""

    name: str
    method: str = "POST"
    path: str = "/"
    headers: Headers = (("Content-Type", "application/json"),)
    body: bytes = b"{}"
    topic: str = ""
    """Not empty for a push."""
    number: int = 0
    """Of the message pushed; the emulator numbers them in the order of publishing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    died: bool = False
    """There was no server, or it died before it answered: whether it did anything nobody knows."""

    @property
    def is_done(self) -> bool:
        return 200 <= self.status < 300


def as_is(door: FrontDoor, call: Call) -> Answer:
    """Carry a push to its function at once."""
    return door.forward(call)


@dataclass
class FrontDoor:
    """Listens for pushes on a port of its own (``/<function>/…``) and, when told to, for alerts on another."""

    port_of: Callable[[str, float], int | None]
    """Where a function's server answers now, waited for so many seconds; None when there is none."""
    on_push: Callable[[FrontDoor, Call], Answer] = as_is
    """Decides what becomes of a push; the function's answer, or another."""
    in_flight: Counter[str] = field(default_factory=Counter)
    """How many calls each function is handling."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _listening: list[tuple[ThreadingHTTPServer, threading.Thread]] = field(default_factory=list)

    def listen(self) -> int:
        """Listen for pushes; the port."""
        return self._listen(0, self._pushed)

    def listen_for_alerts(self, port: int) -> int:
        """Serve the webhook on 127.0.0.1; the port."""
        return self._listen(port, lambda call: self.forward(call))

    def forward(self, call: Call) -> Answer:
        """Carry a call to its function's server and the answer back."""
        with self._lock:
            self.in_flight[call.name] += 1
        try:
            return self._carry(call)
        finally:
            with self._lock:
                self.in_flight[call.name] -= 1

    def is_idle(self) -> bool:
        """Whether no function is handling anything."""
        with self._lock:
            return not any(self.in_flight.values())

    def close(self) -> None:
        """Listen no more."""
        while self._listening:
            server, thread = self._listening.pop()
            server.shutdown()
            thread.join()
            server.server_close()

    def _carry(self, call: Call) -> Answer:
        row = FUNCTIONS[call.name]
        port = self.port_of(call.name, HOLD_SECONDS_WEBHOOK if row.trigger == "public" else HOLD_SECONDS)
        if port is None:
            return Answer(503, body=b"no server answers\n", died=True)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=row.timeout_seconds)
        try:
            return _exchange(connection, call)
        except TimeoutError:
            return Answer(504, body=b"the function took too long\n")
        except http.client.InvalidURL:
            return Answer(400, body=b"the address cannot be understood\n")
        except (OSError, http.client.HTTPException):
            return Answer(503, body=b"the server ended before it answered\n", died=True)
        finally:
            connection.close()

    def _pushed(self, call: Call) -> Answer:
        name, _, rest = call.path.lstrip("/").partition("/")
        topic = rest.removeprefix("topics/").partition("?")[0]
        if PUSHED.get(topic) != name:
            return Answer(404, body=b"nothing is pushed here\n")
        try:
            number = int(json.loads(call.body)["message"]["messageId"])
        except (ValueError, TypeError, KeyError):
            return Answer(400, body=b"this is not a push\n")
        push = Call(name, call.method, f"/{rest}", call.headers, call.body, topic=topic, number=number)
        return self.on_push(self, push)

    def _listen(self, port: int, take: Callable[[Call], Answer]) -> int:
        server = _Server(("127.0.0.1", port), partial(_Handler, take))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="front-door", daemon=True)
        thread.start()
        self._listening.append((server, thread))
        return int(server.server_address[1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, *_: Any) -> None:
        """A caller that hung up is not worth a line, and a trace would hold the path."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE_SECONDS_MAX

    def __init__(self, take: Callable[[Call], Answer], *connection: Any) -> None:
        self._take = take
        super().__init__(*connection)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _any(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self._answer(Answer(411 if "Transfer-Encoding" in self.headers else 413))
            return
        body = self.rfile.read(int(length))
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP]
        self._answer(self._take(Call("webhook", self.command, self.path, headers, body)))

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _any  # noqa: N815


def _exchange(connection: http.client.HTTPConnection, call: Call) -> Answer:
    path = quote(call.path.encode("latin-1"), safe=_PRINTABLE)
    connection.putrequest(call.method, path, skip_accept_encoding=True)
    for name, value in call.headers:
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(call.body)))
    connection.endheaders(call.body)
    answer = connection.getresponse()
    body = answer.read()
    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
    return Answer(answer.status, headers, body)
