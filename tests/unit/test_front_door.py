"""The front door carries calls to whichever server serves a function, and says so when none does."""

import base64
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from twinleg.embedded.front_door import Answer, Call, FrontDoor


class Server(ThreadingHTTPServer):
    """A function that answers what it was asked, or ends the connection without a word."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[tuple[str, str, dict[str, str], bytes]] = []
        self.dies = False
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()

    def end(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.command, self.path, dict(self.headers.items()), body))
        if self.server.dies:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(201)
        self.send_header("Content-Type", "text/x-answer")
        self.end_headers()
        self.wfile.write(b"heard")

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.end()


@pytest.fixture
def door(server: Server) -> Iterator[FrontDoor]:
    made = FrontDoor(lambda name, seconds: server.server_port)
    yield made
    made.close()


def ask(port: int, path: str, body: bytes = b"{}", method: str = "POST", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def push(number: object = 7) -> bytes:
    return json.dumps({"message": {"messageId": number, "data": base64.b64encode(b"{}").decode()}}).encode()


def test_an_alert_arrives_as_it_was_sent(door: FrontDoor, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    port = door.listen_for_alerts(0)
    sent = {"Content-Type": "text/plain", "X-Forwarded-For": "1.2.3.4"}
    assert ask(port, "/a%20path/se-cret?x=1", b"buy", **sent) == (201, b"heard")
    [(method, path, headers, body)] = server.heard
    assert (method, path, body) == ("POST", "/a%20path/se-cret?x=1", b"buy")
    assert (headers["Content-Type"], headers["X-Forwarded-For"]) == ("text/plain", "1.2.3.4")
    assert capfd.readouterr() == ("", "")


def test_a_push_goes_to_the_function_of_its_path(door: FrontDoor, server: Server) -> None:
    port = door.listen()
    assert ask(port, "/signal/topics/candles", push())[0] == 201
    assert [path for _, path, *_ in server.heard] == ["/topics/candles"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/execute/topics/candles", push(), 404),
        ("/signal", push(), 404),
        ("/", push(), 404),
        ("/signal/topics/candles", b"{}", 400),
        ("/signal/topics/candles", b"no json", 400),
        ("/signal/topics/candles", push("seven"), 400),
    ],
)
def test_what_is_no_push_reaches_no_function(
    door: FrontDoor, server: Server, path: str, body: bytes, status: int
) -> None:
    assert ask(door.listen(), path, body)[0] == status
    assert server.heard == []


def test_whoever_decides_about_pushes_sees_their_number_and_topic(server: Server) -> None:
    seen: list[Call] = []

    def refuse(_: FrontDoor, call: Call) -> Answer:
        seen.append(call)
        return Answer(429, body=b"later")

    door = FrontDoor(lambda name, seconds: server.server_port, refuse)
    try:
        assert ask(door.listen(), "/execute/topics/closes", push("12")) == (429, b"later")
    finally:
        door.close()
    assert [(call.name, call.topic, call.number) for call in seen] == [("execute", "closes", 12)]
    assert server.heard == []


def test_a_server_that_dies_or_is_not_there_is_a_503_and_known_to_have_died(door: FrontDoor, server: Server) -> None:
    server.dies = True
    answer = door.forward(Call("risk"))
    assert (answer.status, answer.died, answer.is_done) == (503, True, False)
    nowhere = FrontDoor(lambda name, seconds: None)
    assert nowhere.forward(Call("risk")) == Answer(503, body=b"no server answers\n", died=True)
    assert door.is_idle() and nowhere.is_idle()


def test_a_call_that_is_being_handled_is_known(server: Server) -> None:
    busy: list[dict[str, int]] = []

    def port(name: str, _: float) -> int:
        busy.append(dict(door.in_flight))
        return server.server_port

    door = FrontDoor(port)
    assert door.forward(Call("ingest")).is_done
    assert busy == [{"ingest": 1}] and door.is_idle()


@pytest.mark.parametrize("headers", [{"Transfer-Encoding": "chunked"}, {"Content-Length": str(2**40)}])
def test_a_body_without_a_bound_is_refused(door: FrontDoor, server: Server, headers: dict[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", door.listen_for_alerts(0)), timeout=10) as caller:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        caller.sendall(f"POST /x HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
        assert caller.recv(1000).split()[1] in (b"411", b"413")
    assert server.heard == []


def test_a_line_that_is_no_http_is_answered_without_a_word_on_the_terminal(
    door: FrontDoor, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", door.listen_for_alerts(0)), timeout=10) as caller:
        caller.sendall("PÖST /secret\r\n\r\n".encode("latin-1"))
        caller.recv(1000)
    assert capfd.readouterr() == ("", "")
