"""Between a function and the paper venue: the same bytes as over HTTP, and what networks and nodes do to them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson

from twinleg.adapters.venues.hyperliquid_http import NetworkFault
from twinleg.paper.matching import finish
from twinleg.paper.venue import BAD_GATEWAY, Venue
from twinleg.simulate.faults import Dice
from twinleg.simulate.kernel import Kernel

TIMEOUT_SECONDS = 10.0
STALE_SECONDS_MAX = 60.0
ACTION_SECONDS = (0.05, 0.4)
LATE_SECONDS = (1.0, 40.0)
SPLIT_SECONDS = (20.0, 90.0)
THROTTLED_SECONDS = 60.0
"""How long requests may be one too many for the venue, once one was."""

STRANGER = "User or API Wallet 0x0000000000000000000000000000000000000bad does not exist."

BEFORE = ("request_lost", "arrives_late", "throttled", "failed", "unknown_signer")
AFTER = ("answer_lost", "answer_late", "failed_executed", "malformed")


class Network:
    """The way to one venue, shared by all functions. ``say`` is told of every fault for the timeline."""

    def __init__(self, venue: Venue, kernel: Kernel, dice: Dice, say: Callable[[str], None]) -> None:
        self.venue, self.kernel, self.dice, self.say = venue, kernel, dice, say
        self.last_answer_at = kernel.now
        """When the venue last answered anything truly: bounds in time run from here."""
        self.behind = 0
        """Reads answered by a node that lags, or not at all while an account cannot be read."""
        self.unreadable: dict[str, datetime] = {}
        """Address → until when nothing can be read of it."""
        self.down_until = kernel.now
        """Until then every connection to the venue breaks."""
        self.sent: Callable[[bytes, bool], None] | None = None
        """Told of every signed action before and after the venue has it."""
        self.carried: Callable[[Mapping[str, Any]], None] | None = None
        """Told of every signed action that the venue carried out."""
        self._answers: dict[bytes, deque[tuple[datetime, str]]] = {}
        self._split_until = kernel.now
        self._draw = dice.stream("network")

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        return self.request("POST", path, body)

    def request(self, _method: str, path: str, body: bytes | None) -> tuple[int, str]:
        """(status, text), or NetworkFault: what `hyperliquid_http.Channel` gives over a socket."""
        asked = body or b""
        return self._act(asked) if path == "/exchange" else self._read(path, asked)

    # -- signed actions --------------------------------------------------------------------------

    def _act(self, body: bytes) -> tuple[int, str]:
        if self.sent:
            self.sent(body, True)
        self.kernel.sleep(self._draw.uniform(*ACTION_SECONDS) / 2)
        self._reach()
        match kind := self.dice.first(BEFORE):
            case "request_lost":
                self._fault(kind)
                raise NetworkFault("connection dropped", dropped=True)
            case "arrives_late":
                self._fault(kind)
                self.kernel.after(self._draw.uniform(*LATE_SECONDS), partial(self._arrive, body))
                raise NetworkFault("timed out", dropped=False)
            case "throttled":
                self._fault(kind)
                return 429, "null"
            case "failed":
                self._fault(kind)
                return (500, "null") if self._draw.random() < 0.5 else (502, BAD_GATEWAY)
            case "unknown_signer":
                self._fault(kind)
                return 200, json.dumps({"status": "err", "response": STRANGER})
        status, text = self._carry_out(body)
        match kind := self.dice.first(AFTER):
            case "answer_lost":
                self._fault(kind)
                raise NetworkFault("connection dropped", dropped=True)
            case "answer_late":
                self._fault(kind)
                self.kernel.sleep(TIMEOUT_SECONDS)
                raise NetworkFault("timed out", dropped=False)
            case "failed_executed":
                self._fault(kind)
                return (500, "null") if self._draw.random() < 0.5 else (502, BAD_GATEWAY)
            case "malformed":
                self._fault(kind)
                return 200, text[: len(text) // 2]
        self.kernel.sleep(self._draw.uniform(*ACTION_SECONDS) / 2)
        self.last_answer_at = self.kernel.now
        return status, text

    def _reach(self) -> None:
        if self.kernel.now < self.down_until:
            raise NetworkFault("connection dropped", dropped=True)

    def _arrive(self, body: bytes) -> None:
        self._carry_out(body)

    def _carry_out(self, body: bytes) -> tuple[int, str]:
        rules = []
        if self.dice.strikes("order_rejected"):
            rules.append({"kind": "reject", "count": 1})
        elif self.dice.strikes("partly_filled"):
            rules.append({"kind": "partial_fill", "count": 1, "fraction": f"{self._draw.uniform(0.05, 0.95):.3f}"})
        if rules:
            self._fault(str(rules[0]["kind"]))
            self.venue.add_faults(rules)
        asked = json.loads(body)
        reply = self.venue.reply("/exchange", asked)
        text = reply.text
        if self.carried and text.startswith('{"status":"ok"'):
            self.carried(asked)
            if asked["action"].get("grouping") == "normalTpsl" and self.dice.strikes("children_rejected"):
                self._fault("children_rejected")
                text = without_children(self.venue, asked["action"], text)
        self.say(f"{in_words(asked['action'])} -> {text[:160]}")
        if rules:
            self.venue.clear_faults()
        if self.sent:
            self.sent(body, False)
        self._noted(reply.status)
        return reply.status, text

    def _noted(self, status: int) -> None:
        """That the venue itself had one request too many is nobody's fault here, and yet not as it should be."""
        if status == 429:
            self.behind += 1
            self.dice.disturb(THROTTLED_SECONDS)

    # -- reads -----------------------------------------------------------------------------------

    def _read(self, path: str, body: bytes) -> tuple[int, str]:
        asked = orjson.loads(body)
        if self.kernel.now < self.down_until:
            self.behind += 1
            self._reach()
        if self.kernel.now < self.unreadable.get(asked.get("user", ""), self.kernel.now):
            self.behind += 1
            return self._failed()
        if self.dice.strikes("read_failed"):
            self._fault(f"read_failed {asked.get('type')}")
            return self._failed()
        if self.dice.strikes("read_empty") and "user" in asked:
            self._fault(f"read_empty {asked.get('type')}")
            return self._reply(path, {**asked, "user": "0x" + "0" * 40})
        if self.dice.strikes("read_split"):
            self._split_until = self.kernel.now + timedelta(seconds=self._draw.uniform(*SPLIT_SECONDS))
            self.dice.disturb((self._split_until - self.kernel.now).total_seconds())
            self._fault("read_split")
        behind = self.kernel.now < self._split_until and self._draw.random() < 0.5
        if (behind or self.dice.strikes("read_stale")) and (old := self._earlier(body)) is not None:
            self.behind += behind
            if not behind:
                self._fault(f"read_stale {asked.get('type')}")
            return 200, old
        status, text = self._reply(path, asked)
        self._noted(status)
        if status == 200:
            self._answers.setdefault(body, deque(maxlen=8)).append((self.kernel.now, text))
        self.last_answer_at = self.kernel.now
        return status, text

    def _failed(self) -> tuple[int, str]:
        match self._draw.randrange(4):
            case 0:
                raise NetworkFault("connection dropped", dropped=True)
            case 1:
                return 429, "null"
            case 2:
                return 502, BAD_GATEWAY
        return 200, '{"assetPositions": [{"pos'

    def _earlier(self, body: bytes) -> str | None:
        """The oldest answer to the same question that is at most as stale as a node may be."""
        oldest = self.kernel.now - timedelta(seconds=STALE_SECONDS_MAX)
        return next((text for at, text in self._answers.get(body, ()) if at >= oldest), None)

    def _reply(self, path: str, asked: object) -> tuple[int, str]:
        reply = self.venue.reply(path, asked)
        return reply.status, reply.text

    def _fault(self, what: str) -> None:
        self.say(f"FAULT {what}")


def without_children(venue: Venue, action: Mapping[str, Any], text: str) -> str:
    """The answer to an entry whose stop and target are refused after all; they are taken away."""
    state, answer = venue.engine.state, json.loads(text)
    statuses = answer["response"]["data"]["statuses"]
    if "error" in statuses[0]:
        return text
    children = {order["c"] for order in action["orders"][1:]}
    for order in [o for o in state.orders.values() if o.cloid in children and o.live]:
        finish(state, order, "rejected")
    statuses[1:] = [{"error": "Invalid TP/SL price. asset=0"}] * (len(statuses) - 1)
    return json.dumps(answer)


def in_words(action: Mapping[str, Any]) -> str:
    """A signed action on one line."""
    if action["type"] != "order":
        return " ".join(f"{value}" for value in action.values())
    orders = (
        f"{'buy' if o['b'] else 'sell'} {o['s']} at {o['t'].get('trigger', {}).get('triggerPx', o['p'])}"
        f"{' ' + o['t']['trigger']['tpsl'] if 'trigger' in o['t'] else ''}{' reduce-only' if o['r'] else ''}"
        for o in action["orders"]
    )
    return f"order {action['grouping']}: {', '.join(orders)}"
