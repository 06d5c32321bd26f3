"""The venue's process: Hyperliquid's HTTP face on one port, and the control paths under ``/_sim``."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from twinleg.domain.errors import BadInput
from twinleg.domain.money import decimal_of
from twinleg.paper.clockwork import wall_ms
from twinleg.paper.options import VenueOptions
from twinleg.paper.venue import Reply, Venue

NOT_JSON = "Failed to parse the request body as JSON"
WRONG_TYPE = "Expected request with `Content-Type: application/json`"
BODY_BYTES_MAX = 64 * 1024 * 1024
SHUTDOWN_SECONDS = 2
TICK_SECONDS = 0.25
"""How often a wall-clock venue walks its markets without being asked."""

Json = Any


def serve(options: VenueOptions) -> None:
    """Run a venue until SIGTERM or SIGINT. Prints one line with its address when it is ready."""
    asyncio.run(_serve(options))


async def _serve(options: VenueOptions) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await _run(Venue(options, wall_ms), stop, lambda url: print(f"paper venue listening on {url}", flush=True))


async def _run(venue: Venue, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    options = venue.options
    server = web.Server(Face(venue).handle, access_log=None, request_factory=_large_request)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port, backlog=256).start()
        ready(f"http://{options.host}:{runner.addresses[0][1]}")
        ticking = asyncio.create_task(_tick(venue)) if options.clock == "wall" else None
        await stop.wait()
        if ticking is not None:
            ticking.cancel()
    finally:
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


async def _tick(venue: Venue) -> None:
    while True:
        venue.catch_up()
        await asyncio.sleep(TICK_SECONDS)


class Face:
    """Routes requests to one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._control: dict[tuple[str, str], Callable[[Json], Json]] = {
            ("GET", "/_sim/status"): lambda _: venue.status(),
            ("GET", "/_sim/ledger"): lambda _: venue.ledger(),
            ("POST", "/_sim/clock"): self._clock,
            ("POST", "/_sim/deposit"): self._deposit,
            ("POST", "/_sim/switches"): self._switches,
            ("POST", "/_sim/candles"): self._candles,
            ("POST", "/_sim/faults"): venue.add_faults,
            ("GET", "/_sim/faults"): lambda _: venue.faults(),
            ("DELETE", "/_sim/faults"): lambda _: venue.clear_faults(),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One HTTP request."""
        if request.path in ("/info", "/exchange") and request.method == "POST":
            return await self._face(request)
        control = self._control.get((request.method, request.path))
        if control is None:
            return web.Response(status=404, text="not found")
        return await self._controlled(request, control)

    async def _face(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.content_type != "application/json":
            return web.Response(status=415, text=WRONG_TYPE)
        try:
            body = json.loads(await request.read())
        except ValueError:
            return web.Response(status=400, text=NOT_JSON)
        reply = self._venue.reply(request.path, body, request.remote or "")
        while reply.hold_seconds:
            await asyncio.sleep(reply.hold_seconds)
            reply = reply.later() if reply.later is not None else replace(reply, hold_seconds=0)
        if reply.lost:
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=499)
        return _response(reply)

    async def _controlled(self, request: web.BaseRequest, control: Callable[[Json], Json]) -> web.Response:
        try:
            raw = await request.read()
            body = json.loads(raw) if raw else {}
            return _json(200, control(body))
        except BadInput as error:
            return _json(400, {"error": str(error)})
        except ValueError as error:
            return _json(400, {"error": f"the body must be JSON: {error}"})

    def _clock(self, body: Json) -> Json:
        return {"now_ms": self._venue.set_clock(_field(body, "now_ms", int))}

    def _deposit(self, body: Json) -> Json:
        address, amount = _field(body, "address", str), decimal_of(body.get("usd"), "usd")
        self._venue.deposit(address, amount)
        return {"address": address.lower(), "usd": str(amount)}

    def _switches(self, body: Json) -> Json:
        if type(body) is not dict:
            raise BadInput(f"switches must be an object of name: value, was {body!r}")
        return self._venue.set_switches(body)

    def _candles(self, body: Json) -> Json:
        coin, rows = _field(body, "coin", str), _field(body, "candles", list)
        self._venue.append_candles(coin, rows)
        return {"coin": coin, "appended": len(rows)}


def _field(body: Json, name: str, kind: type) -> Any:
    value = body.get(name) if type(body) is dict else None
    if type(value) is not kind:
        raise BadInput(f"{name} must be {kind.__name__}, was {value!r}")
    return value


def _response(reply: Reply) -> web.Response:
    if reply.content_type == "application/json":
        return web.Response(status=reply.status, body=reply.text.encode(), headers={"Content-Type": "application/json"})
    return web.Response(status=reply.status, text=reply.text, content_type=reply.content_type)


def _json(status: int, body: Json) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
