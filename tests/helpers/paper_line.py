"""A paper venue served by a thread, and a tester's WebSockets to it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

from aiohttp import ClientSession, WSMsgType
from hyperliquid.utils.signing import sign_l1_action

import paper_bench as bench
from twinleg.paper.options import Switches, VenueOptions
from twinleg.paper.server import serve_in_thread

candle, START_MS, MINUTE = bench.candle, bench.START_MS, bench.MINUTE


class Line:
    """One WebSocket of the tester's."""

    def __init__(self, venue, socket):
        self.venue, self._socket = venue, socket

    async def send(self, frame):
        await self._socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    async def next(self):
        message = await asyncio.wait_for(self._socket.receive(), 5)
        assert message.type is WSMsgType.TEXT, message
        return json.loads(message.data)

    async def heard(self):
        """Everything sent until now: what comes before the answer to a ping."""
        await self.send({"method": "ping"})
        out = []
        while (message := await self.next()) != {"channel": "pong"}:
            out.append(message)
        return out

    async def ask(self, method, **subscription):
        await self.send({"method": method, "subscription": subscription})
        return await self.heard()

    async def subscribe(self, **subscription):
        """The data of the first messages of a stream."""
        acknowledged, *first = await self.ask("subscribe", **subscription)
        assert acknowledged["channel"] == "subscriptionResponse", acknowledged
        return [message["data"] for message in first]

    async def told(self, channel=None):
        """The data of the messages since, of one channel."""
        return [m["data"] for m in await self.heard() if channel in (None, m["channel"])]

    async def post(self, kind, payload, ident=1):
        await self.send({"method": "post", "id": ident, "request": {"type": kind, "payload": payload}})
        while (message := await self.next())["channel"] != "post":
            pass
        assert message["data"]["id"] == ident
        return message["data"]["response"]

    async def order(self, wallet, *orders, grouping="na"):
        action = {"type": "order", "orders": list(orders), "grouping": grouping}
        response = await self.post("action", self.venue.signed(wallet, action))
        return response["payload"]["response"]["data"]["statuses"]

    async def ended(self):
        """How the connection ended, once it has."""
        while (await asyncio.wait_for(self._socket.receive(), 5)).type is WSMsgType.TEXT:
            pass
        return self._socket.close_code


class Desk:
    """A venue served by a thread, and the tester's hands on it."""

    def __init__(self, session, server):
        self._session, self.server, self._nonce = session, server, START_MS

    def signed(self, wallet, action, vault=None):
        self._nonce += 1
        signature = sign_l1_action(wallet, action, vault, self._nonce, None, False)
        return {"action": action, "nonce": self._nonce, "signature": signature, "vaultAddress": vault}

    @asynccontextmanager
    async def line(self):
        async with self._session.ws_connect(self.server.url + "/ws") as socket:
            yield Line(self, socket)

    async def http(self, path, body, method="POST"):
        async with self._session.request(method, self.server.url + path, json=body) as answer:
            return await answer.json()

    async def info(self, kind, user=None, **more):
        return await self.http("/info", {"type": kind, **({"user": user} if user else {}), **more})

    async def to_minute(self, minute):
        await self.http("/_sim/clock", {"now_ms": START_MS + round(minute * MINUTE)})

    async def fault(self, kind, **rule):
        await self.http("/_sim/faults", {"kind": kind, **rule})


def run(scene, candles=None, switches=(), **options):
    """Play a scene against a venue whose clock stands until it is moved."""
    series = candles or {"BTC": [candle(i, 100, 101, 99, 100) for i in range(-30, 40)]}
    chosen = Switches(**{"nonce_window": False, **dict(switches)})
    server = serve_in_thread(VenueOptions(**{"candles": series, "start_ms": START_MS, "switches": chosen, **options}))

    async def play():
        async with ClientSession() as session:
            await scene(Desk(session, server))

    try:
        asyncio.run(play())
    finally:
        server.stop()
