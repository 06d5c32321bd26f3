"""The venue's process: Hyperliquid's HTTP and WebSocket faces on one port, and the control paths under ``/_sim``."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from twinleg.domain.errors import BadInput
from twinleg.paper import control
from twinleg.paper.clockwork import wall_ms
from twinleg.paper.options import VenueOptions
from twinleg.paper.venue import Reply, Venue
from twinleg.paper.ws import PATH, Sockets

NOT_JSON = "Failed to parse the request body as JSON"
WRONG_TYPE = "Expected request with `Content-Type: application/json`"
BODY_BYTES_MAX = 64 * 1024 * 1024
SHUTDOWN_SECONDS = 2
TICK_SECONDS = 0.25
"""How often a wall-clock venue walks its markets without being asked, and WebSockets are looked after."""

Json = Any


def announce(url: str, _: Venue) -> None:
    """The line by which a parent process learns the address."""
    print(f"paper venue listening on {url}", flush=True)


def serve(options: VenueOptions, *, faults: Json = (), ready: Callable[[str, Venue], None] = announce) -> None:
    """Run a venue until SIGTERM or SIGINT; *ready* is told its address once it listens.

    *faults* are the fault rules to begin with.
    """
    asyncio.run(_serve(options, list(faults), ready))


async def _serve(options: VenueOptions, faults: Json, ready: Callable[[str, Venue], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    venue = Venue(options, wall_ms)
    venue.add_faults(faults)
    try:
        await _run(venue, stop, lambda url: ready(url, venue))
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        raise BadInput(f"port: cannot listen on {options.host}:{options.port} ({os.strerror(error.errno)})") from None


async def _run(venue: Venue, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    options = venue.options
    sockets = Sockets(venue)
    server = web.Server(Face(venue, sockets).handle, access_log=None, request_factory=_large_request)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port, backlog=256).start()
        ready(f"http://{options.host}:{runner.addresses[0][1]}")
        ticking = asyncio.create_task(_tick(venue, sockets))
        await stop.wait()
        ticking.cancel()
    finally:
        sockets.disconnect()
        await runner.cleanup()
        venue.close()


def _large_request(*parts: Any) -> web.BaseRequest:
    """A request whose body may be as large as a month of candles."""
    message, payload, protocol, writer, task = parts
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_BYTES_MAX)


class ThreadServer:
    """A venue served by a thread of this process, at ``url`` until ``stop``."""

    def __init__(self, options: VenueOptions) -> None:
        self.venue = Venue(options, wall_ms)
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="paper-venue", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(_run(self.venue, self._stop, self._ready))
        except OSError as error:
            self._failure = error
        finally:
            self._loop.close()
            self._started.set()

    def _ready(self, url: str) -> None:
        self.url = url
        self._started.set()

    def stop(self) -> None:
        """End it cleanly; the ledger file is let go."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()


def serve_in_thread(options: VenueOptions) -> ThreadServer:
    """Serve a venue from a thread; returns once it listens."""
    return ThreadServer(options)


async def _tick(venue: Venue, sockets: Sockets) -> None:
    while True:
        venue.catch_up()
        await sockets.tick()
        await asyncio.sleep(TICK_SECONDS)


class Face:
    """Routes requests to one venue."""

    def __init__(self, venue: Venue, sockets: Sockets | None = None) -> None:
        self._venue = venue
        self._sockets = sockets = Sockets(venue) if sockets is None else sockets
        self.control = control.Control(venue)
        self.control.disconnect = sockets.disconnect

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One HTTP request."""
        if request.path in ("/info", "/exchange") and request.method == "POST":
            return await self._face(request)
        if request.path == control.ROOT or request.path.startswith(control.ROOT + "/"):
            raw = await request.read()
            status, answer = self.control.answer(request.method, request.path, request.query, raw)
            await self._sockets.settle()
            return _json(status, answer)
        if request.path == PATH and request.method == "GET":
            return await self._sockets.serve(request)
        return web.Response(status=404, text="not found")

    async def _face(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.content_type != "application/json":
            return web.Response(status=415, text=WRONG_TYPE)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            body = json.loads((await request.read()).decode(), parse_constant=_no_constant)
        except (ValueError, RecursionError, web.RequestPayloadError):
            return web.Response(status=400, text=NOT_JSON)
        reply = self._venue.reply(request.path, body, request.remote or "")
        await self._sockets.settle()
        while reply.hold_seconds:
            await asyncio.sleep(reply.hold_seconds)
            reply = reply.later() if reply.later is not None else replace(reply, hold_seconds=0)
            await self._sockets.settle()
        if reply.lost:
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=499)
        return _response(reply)


def _no_constant(name: str) -> None:
    """Python reads NaN and Infinity; JSON has no such numbers."""
    raise ValueError(name)


def _response(reply: Reply) -> web.Response:
    if reply.content_type == "application/json":
        return web.Response(status=reply.status, body=reply.text.encode(), headers={"Content-Type": "application/json"})
    return web.Response(status=reply.status, text=reply.text, content_type=reply.content_type)


def _json(status: int, body: Json) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
