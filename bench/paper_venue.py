"""How many signed actions a second the paper venue carries out over HTTP on one core, and how long one takes.

    python bench/paper_venue.py [--pairs 250] [--rounds 3] [--connections 8] [--json]

Every action is an order that rests, or the cancel of it, signed by the SDK beforehand: what is timed on the client's
side is bytes out and bytes in. The venue checks every signature and nonce. Three servers take turns in each round, each
a process pinned to one core while the client has another:

    bare      aiohttp with the venue's own request class; reads the body, parses the JSON, answers a fixed text
    venue     twinleg venue, in memory
    ledger    twinleg venue, writing each action to its SQLite file before it answers

Then the parts without HTTP, in this process: parsing the JSON, recovering the signer, carrying the action out.
Of each the median over the rounds counts. Ratios are of one round's figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from eth_account import Account
from hyperliquid.utils import signing

from twinleg.domain.candles import utc_from_ms
from twinleg.paper.exchange import Exchange
from twinleg.paper.generate import generated
from twinleg.paper.options import VenueOptions
from twinleg.paper.server import _large_request
from twinleg.paper.signatures import recover

SERVERS = ("bare", "venue", "ledger")
RESTING = (
    '{"status":"ok","response":{"type":"order","data":{"statuses":[{"resting":{"oid":77738308,'
    '"cloid":"0x00000000000000000000000000000001"}}]}}}'
)

Json = Any
Pair = tuple[Json, Json]


class Run(NamedTuple):
    """One server under one load. ``cpu`` is its own processor time for one request."""

    per_second: float
    p50: float
    p99: float
    cpu: float


# What is sent


def signed_pairs(wallet: Any, count: int, begins_ms: int) -> Iterator[Pair]:
    """An order that rests and its cancel, each signed; nonces run on from *begins_ms*."""
    for number in range(count):
        cloid = f"0x{begins_ms + number:032x}"
        wire = {"a": 0, "b": True, "p": "50000", "s": "0.001", "r": False, "t": {"limit": {"tif": "Gtc"}}, "c": cloid}
        place = {"type": "order", "orders": [wire], "grouping": "na"}
        cancel = {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": cloid}]}
        nonce = begins_ms + 2 * number
        yield _signed(wallet, place, nonce), _signed(wallet, cancel, nonce + 1)


def _signed(wallet: Any, action: Json, nonce: int) -> Json:
    signature = signing.sign_l1_action(wallet, action, None, nonce, None, False)
    return {"action": action, "nonce": nonce, "signature": signature, "vaultAddress": None, "expiresAfter": None}


def request(body: Json) -> bytes:
    data = json.dumps(body).encode()
    head = (
        "POST /exchange HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Load:
    """Bodies for some connections, a wallet each; every round takes fresh nonces."""

    def __init__(self, connections: int, pairs: int) -> None:
        self.wallets = [Account.from_key(f"0x{number + 1:064x}") for number in range(connections)]
        self.pairs = pairs
        self._used = 0

    def streams(self, connections: int) -> list[list[bytes]]:
        begins_ms = time.time_ns() // 1_000_000 + self._used
        self._used += 2 * self.pairs
        return [
            [request(body) for pair in signed_pairs(wallet, self.pairs, begins_ms) for body in pair]
            for wallet in self.wallets[:connections]
        ]


# Who answers


async def bare(port_told: Callable[[int], None]) -> None:
    """A server that parses the body and answers a fixed text, until it is ended."""

    async def answer(asked: web.BaseRequest) -> web.Response:
        json.loads(await asked.read())
        return web.Response(body=RESTING.encode(), headers={"Content-Type": "application/json"})

    runner = web.ServerRunner(web.Server(answer, access_log=None, request_factory=_large_request))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port_told(runner.addresses[0][1])
    await asyncio.Event().wait()


@contextmanager
def server(name: str, core: int | None) -> Iterator[tuple[int, int]]:
    """(port, process id) of a fresh server, pinned to a core."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve-bare"]
        if name != "bare":
            made = ["--generate", "calm", "--open-accounts", "--json"]
            kept = ["--ledger", str(Path(folder) / "ledger.sqlite")] if name == "ledger" else []
            command = [sys.executable, "-m", "twinleg", "venue", *made, *kept]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            yield int(told["url"].rsplit(":", 1)[1]), process.pid
        finally:
            process.terminate()
            process.communicate(timeout=10)


def processor_seconds(pid: int) -> float:
    """Of its one thread, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


# The client


class Connection:
    """One kept-open connection that sends its requests one after the other."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = iter(requests)
        self._sent_at = 0.0
        self._got = b""
        self.seconds: list[float] = []
        self.refused = 0

    def send(self) -> bool:
        """Send the next request; False when there is none."""
        data = next(self._left, None)
        if data is None:
            self.socket.close()
            return False
        self._sent_at = time.perf_counter()
        self.socket.sendall(data)
        return True

    def receive(self) -> bool:
        """Take in what came; whether that completes the answer."""
        self._got += self.socket.recv(65_536)
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return False
        self.seconds.append(time.perf_counter() - self._sent_at)
        self.refused += not (head.startswith(b"HTTP/1.1 200") and b'"status":"ok"' in body and b"error" not in body)
        self._got = b""
        return True


def driven(port: int, pid: int, streams: Sequence[Sequence[bytes]]) -> Run:
    """Send every stream over a connection of its own, all at once."""
    connections = [Connection(port, requests) for requests in streams]
    selector = selectors.DefaultSelector()
    cpu, began = processor_seconds(pid), time.perf_counter()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send()
    left = len(connections)
    while left:
        for key, _ in selector.select():
            connection = key.data
            if connection.receive():
                file = connection.socket
                if not connection.send():
                    selector.unregister(file)
                    left -= 1
    took, cpu = time.perf_counter() - began, processor_seconds(pid) - cpu
    seconds = sorted(s for connection in connections for s in connection.seconds)
    refused = sum(connection.refused for connection in connections)
    if refused:
        raise SystemExit(f"{refused} of {len(seconds)} requests were refused")
    return Run(len(seconds) / took, _share(seconds, 0.5), _share(seconds, 0.99), cpu / len(seconds))


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


# Without HTTP


def parts(load: Load) -> dict[str, float]:
    """Seconds of processor time for one action: parse, recover the signer, carry out."""
    now_ms = time.time_ns() // 1_000_000
    begins_ms = now_ms - 300 * 60_000
    made = generated("calm", ["BTC"], 0, utc_from_ms(begins_ms - begins_ms % 60_000), history=300, minutes=480)
    exchange = Exchange(VenueOptions(candles=made.candles, history_candles=300))
    texts = [data.partition(b"\r\n\r\n")[2] for data in load.streams(1)[0]]
    bodies: list[Json] = []
    signers: list[str | None] = []

    def parse() -> None:
        bodies.extend(json.loads(text) for text in texts)

    def sign() -> None:
        signers.extend(recover(body, False) for body in bodies)

    def carry_out() -> None:
        for body, signer in zip(bodies, signers, strict=True):
            answer = exchange.execute(body, signer)
            assert answer["status"] == "ok" and "error" not in str(answer), answer

    out = {}
    for name, work in (("parse", parse), ("signature", sign), ("engine", carry_out)):
        began = time.process_time()
        work()
        out[name] = (time.process_time() - began) / len(texts)
    return out


# What is told


def measured(arguments: argparse.Namespace) -> Json:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1]})
    core = cores[0] if len(cores) > 1 else None
    load = Load(arguments.connections, arguments.pairs)
    runs: dict[tuple[str, int], list[Run]] = {}
    inside = []
    for _ in range(arguments.rounds):
        for name in SERVERS:
            for connections in (1, arguments.connections):
                with server(name, core) as (port, pid):
                    runs.setdefault((name, connections), []).append(driven(port, pid, load.streams(connections)))
        inside.append(parts(load))
    found = {key: Run(*(statistics.median(values) for values in zip(*many, strict=True))) for key, many in runs.items()}
    share = {name: statistics.median(each[name] for each in inside) for name in inside[0]}
    return {
        "cores": len(cores),
        "pairs": arguments.pairs,
        "rounds": arguments.rounds,
        "servers": [
            {
                "server": name,
                "connections": connections,
                "requests_per_second": round(run.per_second, 1),
                "p50_ms": round(run.p50 * 1e3, 3),
                "p99_ms": round(run.p99 * 1e3, 3),
                "processor_us": round(run.cpu * 1e6, 1),
                "of_bare": ratios(run, found["bare", connections]),
            }
            for (name, connections), run in found.items()
        ],
        "parts_us": {name: round(seconds * 1e6, 1) for name, seconds in share.items()},
        "signature_share": round(share["signature"] / found["venue", arguments.connections].cpu, 3),
    }


def ratios(run: Run, plain: Run) -> Json:
    """Against the bare server under the same load."""
    return {
        "requests_per_second": round(run.per_second / plain.per_second, 3),
        "p50": round(run.p50 / plain.p50, 2),
        "p99": round(run.p99 / plain.p99, 2),
        "processor": round(run.cpu / plain.cpu, 2),
    }


def table(found: Json) -> str:
    lines = [
        f"{'':8}{'conns':>6}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'cpu µs':>9}   of bare: req/s   p50   p99   cpu"
    ]
    for row in found["servers"]:
        of = row["of_bare"]
        lines.append(
            f"{row['server']:8}{row['connections']:>6}{row['requests_per_second']:>9.0f}{row['p50_ms']:>9.2f}"
            f"{row['p99_ms']:>9.2f}{row['processor_us']:>9.0f}{of['requests_per_second']:>17.2f}"
            f"{of['p50']:>6.1f}{of['p99']:>6.1f}{of['processor']:>6.1f}"
        )
    parts_us = ", ".join(f"{name} {us:.0f} µs" for name, us in found["parts_us"].items())
    return "\n".join(
        [*lines, f"without HTTP, per action: {parts_us}; signature {found['signature_share']:.0%} of venue"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=250, help="orders with their cancels, on each connection")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8, help="beside the runs with one")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--serve-bare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_bare:
        asyncio.run(bare(lambda port: print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)))
        return
    found = measured(arguments)
    print(json.dumps(found, indent=2) if arguments.json else table(found))


if __name__ == "__main__":
    main()
