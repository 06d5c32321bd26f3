"""The venue's WebSocket face, ``GET /ws``: connections, what they subscribed to, and what is sent to whom.

Everything that a step of the venue brings is handed to the connections before the step's own answer leaves. A post
goes the way of its HTTP request (journal, faults, request weight); its answer precedes what it brought. A connection
to which nothing was sent for a minute is closed, without a farewell, as is one that does not read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from aiohttp import WSMsgType, web

from twinleg.paper import ws_limits
from twinleg.paper.books import WORLD
from twinleg.paper.faults import Request
from twinleg.paper.feed import PACE_SECONDS, Feed, message
from twinleg.paper.feeds import Feeds, Invalid
from twinleg.paper.options import Switches
from twinleg.paper.venue import Reply, Venue
from twinleg.paper.ws_messages import Ping, Post, Subscribe, Subscription, Unparsable, compact, message_of

PATH = "/ws"
WAITING_MAX = 32 * 1024 * 1024
"""Characters that may wait for a connection to read; beyond, it is closed."""
SETTLE_SECONDS = 0.5
CUT_SECONDS = 0.5
"""What still waits when a connection is cut is given this long to be read."""
PONG = compact({"channel": "pong"})

Json = Any


@dataclass(eq=False)
class Topic:
    """One stream and who gets it."""

    subscription: Subscription
    feed: Feed
    sockets: list[Socket] = field(default_factory=list)


class Sockets:
    """Every WebSocket of one venue."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.open: list[Socket] = []
        self._feeds = Feeds(venue.engine, paced=venue.options.clock == "wall")
        self._topics: dict[str, Topic] = {}
        self._published: tuple[object, ...] = ()
        self._published_at = 0.0
        self._opened = ws_limits.LastMinute(ws_limits.CONNECTIONS_A_MINUTE)
        self._received = ws_limits.LastMinute(ws_limits.MESSAGES_A_MINUTE)

    # Connections

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One connection, from its handshake to its end."""
        client = request.remote or ""
        if not self._admits(client):
            return web.Response(status=429, text="null", content_type="application/json")
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        socket = Socket(self, response, request, client)
        self.open.append(socket)
        try:
            await socket.live()
        finally:
            self.open.remove(socket)
            for topic in list(self._topics.values()):
                self._leave(socket, topic)
        return response

    def _admits(self, client: str) -> bool:
        if not self.limited:
            return True
        if sum(socket.client == client for socket in self.open) >= self._switches.ws_connections_max:
            return False
        return self._opened.allows(client, self.venue.engine.state.now_ms)

    @property
    def _switches(self) -> Switches:
        return self.venue.engine.state.switches

    @property
    def limited(self) -> bool:
        return self._switches.rate_limits

    def admits_message(self, client: str) -> bool:
        """Count a message of this client; False when it has sent too many."""
        return not self.limited or self._received.allows(client, self.venue.engine.state.now_ms)

    def excess(self, client: str, wanted: Subscription) -> str | None:
        """Why this client may not subscribe to one more, in the venue's words; None when it may."""
        if not self.limited:
            return None
        held = [s for socket in self.open if socket.client == client for s in socket.subscribed.values()]
        if len(held) >= ws_limits.SUBSCRIPTIONS_MAX:
            return ws_limits.TOO_MANY_SUBSCRIPTIONS
        users = {s.user for s in held if s.user is not None} | ({wanted.user} if wanted.user is not None else set())
        most = self._switches.ws_users_max
        return f"Cannot track more than {most} total users." if len(users) > most else None

    def posts_under_way(self, client: str) -> int:
        return sum(len(socket.under_way) for socket in self.open if socket.client == client)

    # Streams

    def join(self, socket: Socket, subscription: Subscription) -> Feed:
        """Subscribe a connection; Invalid when there is no such stream. Everybody is told what is new before."""
        self.venue.catch_up()
        self.publish()
        topic = self._topics.get(subscription.key)
        if topic is None:
            topic = self._topics[subscription.key] = Topic(subscription, self._feeds.open(subscription))
        topic.sockets.append(socket)
        return topic.feed

    def leave(self, socket: Socket, subscription: Subscription) -> None:
        """End a subscription."""
        self._leave(socket, self._topics[subscription.key])

    def _leave(self, socket: Socket, topic: Topic) -> None:
        if socket in topic.sockets:
            topic.sockets.remove(socket)
            if not topic.sockets:
                del self._topics[topic.subscription.key]

    def publish(self) -> None:
        """Hand everybody what is new to them. Where nothing happened there is nothing to look for, but to repeat."""
        if not self._topics:
            return
        seconds, stand = asyncio.get_running_loop().time(), self._stand()
        if stand == self._published and seconds - self._published_at < PACE_SECONDS:
            return
        self._published, self._published_at = stand, seconds
        for topic in list(self._topics.values()):
            for text in topic.feed.news(seconds):
                for socket in list(topic.sockets):
                    socket.tell(text, topic.subscription)

    def _stand(self) -> tuple[object, ...]:
        """Differs whenever the venue was moved, traded on, paid into or set."""
        state = self.venue.engine.state
        actions, outside = sum(state.actions.values()), state.books.balances.get(WORLD)
        return state.now_ms, state.next_oid, state.next_tid, actions, outside, id(state.switches), len(self._topics)

    async def settle(self) -> None:
        """Publish, and wait until it is written (for a connection that does not read, not long)."""
        if self.open:
            self.publish()
            for socket in list(self.open):
                await socket.written()

    async def tick(self) -> None:
        """Publish what has come by itself, and close who was sent nothing for too long."""
        if not self.open:
            return
        await self.settle()
        idle = self._switches.ws_idle_seconds
        oldest = asyncio.get_running_loop().time() - idle
        for socket in list(self.open):
            if idle and socket.sent_at <= oldest:
                socket.cut()

    def disconnect(self) -> int:
        """Close every connection without a farewell; returns how many there were."""
        for socket in self.open:
            socket.cut()
        return len(self.open)


class Socket:
    """One connection."""

    def __init__(self, sockets: Sockets, response: web.WebSocketResponse, request: web.BaseRequest, client: str):
        self.client = client
        self.subscribed: dict[str, Subscription] = {}
        self.under_way: set[asyncio.Task[None]] = set()
        """Posts whose answer is held back."""
        self.sent_at = asyncio.get_running_loop().time()
        self._sockets = sockets
        self._response = response
        self._transport = request.transport
        self._waiting: deque[str] = deque()
        self._weight = 0
        self._wake, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._slow = self._silent = self._ended = False

    # Sending

    def tell(self, text: str, about: Subscription | str) -> None:
        """Send a message in its turn, unless a fault is in its way. ``about`` is its stream, or its channel."""
        if self._silent or self._ended:
            return
        struck = self._sockets.venue.struck(_named(about))
        if "ws_disconnect" in struck:
            self.cut()
        elif "ws_silence" in struck:
            self._silent = True
        elif "ws_drop" not in struck:
            copies = 2 if "ws_duplicate" in struck else 1
            self._waiting += [text] * copies
            self._weight += copies * len(text)
            self._idle.clear()
            self._wake.set()
            if self._weight > WAITING_MAX:
                self.cut()

    def cut(self) -> None:
        """Close the connection without a farewell, once what waits is written."""
        if not self._ended and self._transport is not None:
            asyncio.get_running_loop().call_later(CUT_SECONDS, self._transport.abort)
        self._ended = True
        self._wake.set()

    async def written(self) -> None:
        """Wait until everything is written, but not long, and not again for one that does not read."""
        if self._idle.is_set():
            self._slow = False
        elif not self._slow:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._idle.wait()
                    return
            self._slow = True

    async def _write(self) -> None:
        clock = asyncio.get_running_loop()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    text = self._waiting.popleft()
                    self._weight -= len(text)
                    await self._response.send_str(text)
                    self.sent_at = clock.time()
                self._idle.set()
                if self._ended:
                    return
        except ConnectionError:
            pass
        finally:
            self._ended = True
            self._waiting.clear()
            self._idle.set()
            if self._transport is not None:
                self._transport.close()

    # Receiving

    async def live(self) -> None:
        """Read until the connection ends."""
        writing = asyncio.create_task(self._write())
        try:
            async for frame in self._response:
                if self._ended:
                    break
                if frame.type is WSMsgType.TEXT:
                    await self._receive(frame.data)
                elif frame.type is WSMsgType.BINARY:
                    await self._receive(frame.data.decode(errors="replace"))
        finally:
            for task in (writing, *self.under_way):
                task.cancel()
            await asyncio.gather(writing, *self.under_way, return_exceptions=True)

    async def _receive(self, text: str) -> None:
        if not self._sockets.admits_message(self.client):
            self._refuse(ws_limits.TOO_MANY_MESSAGES)
            return
        try:
            asked = message_of(text)
        except Unparsable:
            self._refuse(f"Error parsing JSON into valid websocket request: {text}")
            return
        if isinstance(asked, Ping):
            self.tell(PONG, "pong")
        elif isinstance(asked, Post):
            await self._post(asked)
        elif asked.begins:
            self._subscribe(asked)
        else:
            self._unsubscribe(asked)

    def _refuse(self, text: str) -> None:
        self.tell(message("error", text), "error")

    def _subscribe(self, asked: Subscribe) -> None:
        wanted = asked.subscription
        if wanted.key in self.subscribed:
            self._refuse(f"Already subscribed: {wanted.text}")
            return
        excess = self._sockets.excess(self.client, wanted)
        if excess is not None:
            self._refuse(excess)
            return
        try:
            feed = self._sockets.join(self, wanted)
        except Invalid:
            if self._sockets.venue.engine.state.switches.ws_unknown_coin == "disconnect":
                self.cut()
            else:
                self._refuse(f"Invalid subscription {wanted.text}")
            return
        self.subscribed[wanted.key] = wanted
        self._acknowledge(asked)
        for text in feed.first():
            self.tell(text, wanted)

    def _unsubscribe(self, asked: Subscribe) -> None:
        ended = self.subscribed.pop(asked.subscription.key, None)
        if ended is None:
            self._refuse(f"Already unsubscribed: {asked.subscription.text}")
            return
        self._sockets.leave(self, ended)
        self._acknowledge(asked)

    def _acknowledge(self, asked: Subscribe) -> None:
        method = "subscribe" if asked.begins else "unsubscribe"
        echo = f'{{"method":"{method}","subscription":{asked.subscription.text}}}'
        self.tell(f'{{"channel":"subscriptionResponse","data":{echo}}}', "subscriptionResponse")

    # Posts

    async def _post(self, asked: Post) -> None:
        if self._sockets.limited and self._sockets.posts_under_way(self.client) >= ws_limits.POSTS_UNDER_WAY_MAX:
            self._answer(asked, "error", compact(ws_limits.TOO_MANY_POSTS))
            return
        reply = self._sockets.venue.reply("/exchange" if asked.is_action else "/info", asked.payload, self.client)
        if reply.hold_seconds:
            self._sockets.publish()
            self._later(self._held(asked, reply))
        else:
            self._deliver(asked, reply)
            await self._sockets.settle()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def _held(self, asked: Post, reply: Reply) -> None:
        while reply.hold_seconds:
            await asyncio.sleep(reply.hold_seconds)
            reply = reply.later() if reply.later is not None else replace(reply, hold_seconds=0)
            self._sockets.publish()
        self._deliver(asked, reply)

    def _deliver(self, asked: Post, reply: Reply) -> None:
        if reply.lost:
            self.cut()
        elif reply.status != HTTPStatus.OK:
            reason = reply.text if reply.content_type == "text/plain" else HTTPStatus(reply.status).phrase
            self._answer(asked, "error", compact(f"{reply.status} {reason}"))
        elif asked.is_action:
            self._answer(asked, "action", reply.text)
        else:
            self._answer(asked, "info", f'{{"type":{compact(asked.payload["type"])},"data":{reply.text}}}')

    def _answer(self, asked: Post, kind: str, payload: str) -> None:
        data = f'{{"id":{asked.ident},"response":{{"type":"{kind}","payload":{payload}}}}}'
        self.tell(f'{{"channel":"post","data":{data}}}', "post")


def _named(about: Subscription | str) -> Request:
    """What a fault rule can match on in a message: its channel, and the address or coin of its stream."""
    if isinstance(about, str):
        return Request(PATH, about, frozenset(), frozenset(), frozenset())
    users = frozenset() if about.user is None else frozenset([about.user])
    coins = frozenset() if about.coin is None else frozenset([about.coin])
    return Request(PATH, about.kind, users, coins, frozenset())
