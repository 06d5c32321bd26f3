"""The way to the venue in an enumerated run: nothing goes wrong in it but what was asked for, at the very request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from twinleg.adapters.venues.hyperliquid_http import NetworkFault
from twinleg.paper.venue import BAD_GATEWAY
from twinleg.simulate.enumerate_faults import Step
from twinleg.simulate.kernel import Task
from twinleg.simulate.network import STALE_SECONDS_MAX, TIMEOUT_SECONDS, Network

HALF_SECONDS = 0.06
"""A signed action is this long on its way, and its answer too."""
ARRIVES = {"arrives_after_3s": 3.0, "arrives_after_13s": 13.0, "arrives_after_40s": 40.0}
SLOW_SECONDS = 9.0
REFUSALS = {
    "expired": "Action already expired",
    "nonce_too_low": "Invalid nonce: nonce too low",
    "unknown_signer": "User or API Wallet 0x0000000000000000000000000000000000000000 does not exist.",
    "refused": "Trading is halted.",
}
CARRIED = frozenset({"order_rejected", "children_rejected", "not_filled", "little_filled", "partly_filled"})
"""Kinds that change what the venue does with an order."""
FRACTIONS = {"not_filled": "0", "little_filled": "0.02", "partly_filled": "0.4"}


class StageNetwork(Network):
    """Answers by the fault that is armed for the task that asks."""

    stepping: dict[Task | None, Step]
    """The step that each task is in."""
    armed: dict[Task | None, tuple[str, str | None]]
    """For a task's next request: the kind of fault, and the answer of a stale read."""
    probes: list[tuple[timedelta, bytes]]
    """What to ask at every change, to know what a node that lags would answer: (when it will be asked, what)."""
    probed: dict[bytes, list[tuple[timedelta, str]]]

    taken: dict[str, str]
    """How the venue takes an entry order, by its client id."""

    def start(self, answers: Sequence[str]) -> None:
        self.stepping, self.armed, self.probes, self.probed, self.taken = {}, {}, [], {}, {}
        self._plans = list(answers)
        self.began = self.kernel.now

    def request(self, _method: str, path: str, body: bytes | None) -> tuple[int, str]:
        asked = body or b""
        task = self.kernel.current
        if (step := self.stepping.get(task)) is not None:
            step.body = asked
        kind, stale = self.armed.pop(task, ("", None))
        return self._send(asked, kind) if path == "/exchange" else self._ask(path, asked, kind, stale)

    # -- signed actions --------------------------------------------------------------------------

    def _send(self, body: bytes, kind: str) -> tuple[int, str]:
        if self.sent:
            self.sent(body, True)
        self.say(f"is sent {_words(body)}")
        self.kernel.sleep(SLOW_SECONDS if kind == "slow" else HALF_SECONDS)
        match kind:
            case "request_lost":
                raise NetworkFault("connection dropped", dropped=True)
            case "arrives_after_3s" | "arrives_after_13s" | "arrives_after_40s":
                self.kernel.after(ARRIVES[kind], partial(self._arrived, body))
                raise NetworkFault("timed out", dropped=False)
            case "throttled":
                return 429, "null"
            case "failed":
                return 502, BAD_GATEWAY
            case "expired" | "nonce_too_low" | "unknown_signer" | "refused":
                return 200, json.dumps({"status": "err", "response": self._refusal(body, kind)})
        if kind == "delivered_twice":
            self._deliver(body, "")
        status, text = self._deliver(body, kind)
        match kind:
            case "answer_lost":
                raise NetworkFault("connection dropped", dropped=True)
            case "answer_late":
                self.kernel.sleep(TIMEOUT_SECONDS)
                raise NetworkFault("timed out", dropped=False)
            case "failed_executed":
                return 502, BAD_GATEWAY
            case "malformed":
                return 200, text[: len(text) // 2]
        self.kernel.sleep(HALF_SECONDS)
        self.last_answer_at = self.kernel.now
        return status, text

    def _refusal(self, body: bytes, kind: str) -> str:
        """The venue's words. A refusal that comes after the nonce was looked at spends it, if its switches say so."""
        asked, state = json.loads(body), self.venue.engine.state
        refused_spends, expired_spends = (
            state.switches.rejected_action_spends_nonce, state.switches.expired_action_spends_nonce
        )  # fmt: skip
        if kind == "refused" or (kind == "expired" and expired_spends):
            nonces = state.signer_nonces(self.venue.engine.signer(asked) or "")
            if asked["nonce"] in nonces.spent:
                return f"Invalid nonce: duplicate nonce {asked['nonce']}"
            if kind == "expired" or refused_spends:
                nonces.spend(asked["nonce"])
        return REFUSALS[kind]

    def _arrived(self, body: bytes) -> None:
        self._deliver(body, "")

    def _deliver(self, body: bytes, kind: str) -> tuple[int, str]:
        """The venue carries it out."""
        self.changing()
        asked = json.loads(body)
        kind = kind if kind in CARRIED else self._as_planned(asked["action"]) or kind
        rules = _rules(kind)
        if rules:
            self.venue.add_faults(rules)
        reply = self.venue.reply("/exchange", asked)
        if self.carried and reply.text.startswith('{"status":"ok"'):
            self.carried(asked)
        if rules:
            self.venue.clear_faults()
        text = self._without_children(asked["action"], reply.text) if kind == "children_rejected" else reply.text
        if self.sent:
            self.sent(body, False)
        self.say(f"answers {reply.status} {text[:150]}")
        return reply.status, text

    def _as_planned(self, action: Mapping[str, Any]) -> str:
        """How the scene has this entry order taken: the same, however often it arrives."""
        first = action.get("orders", [{"r": True}])[0]
        if first["r"]:
            return ""
        if first["c"] not in self.taken:
            self.taken[first["c"]] = self._plans.pop(0) if self._plans else ""
        return self.taken[first["c"]]

    def _without_children(self, action: dict[str, Any], text: str) -> str:
        """The entry stands; its stop and target are refused, and the answer says so."""
        state, answer = self.venue.engine.state, json.loads(text)
        if answer["status"] != "ok":  # a copy was here before
            return text
        children = {order["c"] for order in action["orders"][1:]}
        for order in [o for o in state.orders.values() if o.cloid in children]:
            state.set_status(order, "rejected")
        statuses = answer["response"]["data"]["statuses"]
        statuses[1:] = [{"error": "Invalid TP/SL price. asset=0"}] * (len(statuses) - 1)
        return json.dumps(answer)

    # -- reads -----------------------------------------------------------------------------------

    def _ask(self, path: str, body: bytes, kind: str, stale: str | None) -> tuple[int, str]:
        asked = json.loads(body)
        match kind:
            case "read_failed":
                return 502, BAD_GATEWAY
            case "read_throttled":
                return 429, "null"
            case "read_lost":
                self.kernel.sleep(TIMEOUT_SECONDS)
                raise NetworkFault("timed out", dropped=False)
            case "read_garbled":
                return 200, '{"assetPositions": [{"pos'
            case "read_empty":
                return self._answer(path, {**asked, "user": "0x" + "0" * 40})
            case "read_stale" if stale is not None:
                return 200, stale
        status, text = self._answer(path, asked)
        self.last_answer_at = self.kernel.now
        if (step := self.stepping.get(self.kernel.current)) is not None:
            step.answer = text
        return status, text

    def _answer(self, path: str, asked: Any) -> tuple[int, str]:
        reply = self.venue.reply(path, asked)
        return reply.status, reply.text

    # -- what a node that lags would say -----------------------------------------------------------

    def changing(self) -> None:
        """Called immediately before the venue changes: what will be asked soon is asked now."""
        now = self.kernel.now - self.began
        latest = now + timedelta(seconds=STALE_SECONDS_MAX)
        for body in dict.fromkeys(body for until, body in self.probes if now <= until <= latest):
            status, text = self._answer("/info", json.loads(body))
            if status == 200:
                self.probed.setdefault(body, []).append((now, text))

    def stale(self, step: Step, at: timedelta) -> str | None:
        """The newest answer to a step's question before a change, if there is one that differs from its own."""
        oldest = at - timedelta(seconds=STALE_SECONDS_MAX)
        before = [text for when, text in self.probed.get(step.body, []) if oldest <= when < at]
        return next((text for text in reversed(before) if text != step.answer), None)


def _words(body: bytes) -> str:
    """What a signed request is, in a few words."""
    asked = json.loads(body)
    action = asked["action"]
    text = f"{action.get('type')} nonce {asked.get('nonce')}"
    for order in action.get("orders", ()):
        kind = "reduce" if order.get("r") else "add"
        what = order["t"].get("trigger", {}).get("tpsl") or order["t"].get("limit", {}).get("tif")
        text += f" [{kind} {'buy' if order['b'] else 'sell'} {order['s']} at {order['p']} {what}]"
    return text


def _rules(kind: str) -> list[dict[str, Any]]:
    match kind:
        case "order_rejected":
            return [{"kind": "reject"}]
        case "not_filled" | "little_filled" | "partly_filled":
            return [{"kind": "partial_fill", "count": 1, "fraction": FRACTIONS[kind]}]
    return []
