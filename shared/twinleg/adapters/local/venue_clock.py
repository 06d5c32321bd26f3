"""The paper venue's own clock, shared by processes: a replay in which each function is a process of its own."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from twinleg.adapters.venues.hyperliquid_http import Channel, NetworkFault
from twinleg.domain.candles import ms_from_utc, utc_from_ms
from twinleg.domain.errors import BadInput, InvariantBroken, Unavailable
from twinleg.engine.ports import Clock

CALL_SECONDS_MAX = 30.0
"""A moved clock answers when the venue has walked its markets up to then."""
ORDER_SECONDS = 0.2
"""A modelled round trip of a signed action. Everything else takes no time on a replay's clock."""
_HOST = "http://127.0.0.1:"


class VenueClock:
    """The time that the paper venue's manual clock shows; waiting on it moves it, for everybody.

    It stands still between moves, so that reading it twice is reading it once. Errors: Unavailable.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(_HOST) or not url.removeprefix(_HOST).isdecimal():
            raise BadInput(f"a replay's clock must be at {_HOST}PORT, was {url!r}")
        self._channel = Channel(url, CALL_SECONDS_MAX)

    def now(self) -> datetime:
        status, answer = self._call("GET", "/_sim/status", None)
        if status != 200 or answer.get("clock") != "manual":
            raise Unavailable(f"the paper venue's clock is not a manual one: HTTP {status}")
        return utc_from_ms(int(answer["now_ms"]))

    def sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise InvariantBroken(f"the replay clock was asked to sleep {seconds} s")
        self.advance_to(self.now() + timedelta(seconds=seconds))

    def advance_to(self, at: datetime) -> None:
        """Move on to *at*; nothing when somebody else has moved it as far meanwhile."""
        target = ms_from_utc(at)
        status, answer = self._call("POST", "/_sim/clock", {"now_ms": target})
        if status != 200 and ms_from_utc(self.now()) < target:
            raise Unavailable(f"the paper venue did not move its clock: HTTP {status} {answer.get('error', '')}")

    def _call(self, method: str, path: str, body: object) -> tuple[int, dict[str, Any]]:
        try:
            status, text = self._channel.request(method, path, None if body is None else json.dumps(body).encode())
        except NetworkFault as fault:
            raise Unavailable(f"paper venue: {fault}") from fault
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        return status, answer if isinstance(answer, dict) else {}


def order_takes_time(clock: Clock, _: int, name: str) -> None:
    """Half a round trip before the venue has an order and half after, during which the market moves on."""
    if name.endswith(".exchange"):
        clock.sleep(ORDER_SECONDS / 2)
