"""What can go wrong at one I/O step, each kind by name: death, failures of store and bus, every class of answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinleg.domain.errors import BadInput

CRASH = "crash"

LOCAL: Mapping[str, str] = {
    "not_reached": "a store or bus call fails and nothing was read or written",
    "answer_not_seen": "a store or bus call succeeds and its answer is lost",
}

ACTION_ANSWERS: Mapping[str, str] = {
    "request_lost": "the request never reaches the venue",
    "arrives_after_3s": "the connection breaks; the request arrives 3 s later",
    "arrives_after_13s": "the connection breaks; the request arrives 13 s later, just before it expires",
    "arrives_after_40s": "the connection breaks; the request arrives 40 s later, expired",
    "slow": "carried out after 9 s, and answered",
    "throttled": "429, not carried out",
    "failed": "502, not carried out",
    "answer_lost": "carried out, and the answer is lost",
    "answer_late": "carried out, and answered after we stopped waiting",
    "failed_executed": "502, and carried out",
    "malformed": "carried out, and the answer is not readable",
    "delivered_twice": "a copy arrives first, so that the answer is: duplicate nonce",
    "expired": "the venue's clock is ahead: expired, not carried out",
    "nonce_too_low": "refused: the nonce is too low",
    "unknown_signer": "refused: no such agent",
    "refused": "the action as a whole is refused",
}
ORDER_ANSWERS: Mapping[str, str] = {
    "order_rejected": "every order of the request is refused",
    "not_filled": "nothing is filled",
    "little_filled": "2 % is filled",
    "partly_filled": "40 % is filled",
}
BRACKET_ANSWERS: Mapping[str, str] = {"children_rejected": "the entry is taken, its stop and target are refused"}

READ_ANSWERS: Mapping[str, str] = {
    "read_failed": "502",
    "read_throttled": "429",
    "read_lost": "no answer within the time we wait",
    "read_garbled": "an answer that is not readable",
}
READ_OF_USER: Mapping[str, str] = {"read_empty": "answered as for an address that holds nothing"}
READ_STALE: Mapping[str, str] = {"read_stale": "answered as it was before the last change, up to 60 s ago"}

HALTS: Mapping[str, str] = {
    "set_reducing": "a person sets REDUCING in this very moment",
    "set_flatten": "a person sets FLATTEN in this very moment",
    "set_halted": "a person sets HALTED in this very moment",
}

KINDS: Mapping[str, str] = {
    CRASH: "the process dies here",
    **LOCAL,
    **ACTION_ANSWERS,
    **ORDER_ANSWERS,
    **BRACKET_ANSWERS,
    **READ_ANSWERS,
    **READ_OF_USER,
    **READ_STALE,
    **HALTS,
}

ALIKE: Mapping[str, str] = {
    "read_throttled": "read_failed", "read_garbled": "read_failed", "failed": "request_lost",
    "failed_executed": "answer_lost", "malformed": "answer_lost", "nonce_too_low": "unknown_signer",
}  # fmt: skip
"""Kinds that leave venue and caller as another kind does. Each is tried at every step; in pairs its like is enough."""

BLINDING = frozenset({*READ_ANSWERS, *READ_OF_USER, *READ_STALE})
"""After one of these, a sweep may have seen something else than what is there."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, at one step of a run, counted from 0."""

    step: int
    kind: str

    def __str__(self) -> str:
        return f"{self.step}:{self.kind}"

    @classmethod
    def of(cls, text: str) -> Fault:
        """Of its own text; BadInput says what it should be."""
        step, _, kind = text.partition(":")
        if not (step.isascii() and step.isdecimal() and kind in KINDS):
            raise BadInput(f"--case: a fault must be STEP:KIND, was {text!r}; kinds are {', '.join(KINDS)}")
        return cls(int(step), kind)


@dataclass(slots=True)
class Step:
    """One I/O step as it was seen: who did what, where in the engine, and what was asked of the venue."""

    number: int
    function: str
    name: str
    """As the port counts it, without ids: ``store.get trades``, ``hyperliquid.exchange``."""
    after: bool
    """Immediately after its effect; else immediately before it."""
    place: str
    """The engine's functions it was reached through, innermost last."""
    second: float
    point: int
    """The last point before it, or at it, at which the run can be split."""
    idle: bool = False
    """Whether its process did nothing but read a record since the step before, in no time: the world is the same."""
    body: bytes = b""
    answer: str = ""
    stale: str | None = None
    """The answer this read would have had before the last change, if that was another."""

    @property
    def sort(self) -> str:
        """What makes two steps the same in kind, whatever the run."""
        return f"{self.function} {self.place} {self.name} {'after' if self.after else 'before'}"

    @property
    def on_order_path(self) -> bool:
        return "orderpath." in self.place

    @property
    def reads_records(self) -> bool:
        """Whether it looks at records and changes nothing."""
        return self.name.startswith(("store.get ", "store.query "))

    @property
    def signed(self) -> bool:
        """Whether it is the sending of a signed action."""
        return self.name.endswith(".exchange")


def kinds_at(step: Step) -> list[str]:
    """Every kind of fault that can happen at a step (halts are chosen by the scene)."""
    kinds = [CRASH]
    if step.name.startswith(("store.", "bus.")):
        return [*kinds, "answer_not_seen" if step.after else "not_reached"]
    if step.after or not step.body:
        return kinds
    asked = json.loads(step.body)
    if step.signed:
        return [*kinds, *ACTION_ANSWERS, *_of_orders(asked["action"])]
    kinds += READ_ANSWERS
    kinds += READ_OF_USER if "user" in asked else ()
    kinds += READ_STALE if step.stale is not None else ()
    return kinds


def _of_orders(action: Mapping[str, Any]) -> list[str]:
    if action.get("type") != "order":
        return []
    bracket = action.get("grouping") == "normalTpsl"
    triggers = all("trigger" in order["t"] for order in action["orders"])
    kinds = ["order_rejected"] if triggers else list(ORDER_ANSWERS)
    return [*kinds, *(BRACKET_ANSWERS if bracket else ())]
