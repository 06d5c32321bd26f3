"""Faults on demand: what goes wrong between a client and the venue, by rule.

A rule is a JSON object. ``kind`` says what happens:

    lose_answer    carried out, then the connection is closed without an answer
    lose_request   not carried out, the connection is closed
    arrive_late    the connection is closed; carried out once the venue's clock has moved on by ``ms``
    delay          waits ``ms`` of real time, ``when``: "arrival" (before it is carried out) or "answer"
    429, 500, 502html   that answer; carried out all the same when ``execute`` is true
    partial_fill   only ``fraction`` of what an order could match at once is matched
    reject         an order is refused with ``error``
    stale_read     a question is answered as it was the last time it was asked
    empty_read     a question is answered as for an address that never traded and holds nothing
    ws_disconnect  the WebSocket is closed without a farewell instead of sending this message
    ws_silence     the WebSocket stays open and sends nothing more, this message included
    ws_drop, ws_duplicate   this message of the WebSocket is not sent, or twice

A rule applies where all of ``path``, ``action`` (the action's or question's type; of a WebSocket message its stream,
or ``post``, ``pong``, ``error``, ``subscriptionResponse``), ``address`` (also called ``user``), ``coin``, ``cloid`` and
``side`` ("buy" or "sell") that it names match; not for the first ``skip`` such requests; then at most ``count`` times
(without it, always), each time with ``probability``, drawn from ``seed``. Rules are not part of the ledger: a restarted
venue has none but those of its command line.

On one line (``rules_of``), rules are separated by commas, a rule's parts by colons: the kind, the probability, fields.

    lose_answer:0.02:action=order:seed=3,429:0.01:path=/info,delay:ms=800:count=5
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from twinleg.domain.errors import BadInput
from twinleg.domain.money import decimal_of
from twinleg.paper.desk import Interference, OrderFault
from twinleg.paper.schema import is_address
from twinleg.paper.state import State

KINDS = (
    "lose_answer",
    "lose_request",
    "arrive_late",
    "delay",
    "429",
    "500",
    "502html",
    "partial_fill",
    "reject",
    "stale_read",
    "empty_read",
    "ws_disconnect",
    "ws_silence",
    "ws_drop",
    "ws_duplicate",
)
_FIELDS = frozenset(
    (
        *("kind", "path", "action", "address", "coin", "cloid", "side", "skip", "count", "probability", "seed"),
        *("ms", "when", "execute", "fraction", "error"),
    )
)
_WHOLE = ("count", "skip", "seed", "ms")
WS = "/ws"
PATHS = ("/info", "/exchange", WS)
_CLOID = re.compile(r"(0[xX])?[0-9a-fA-F]{32}")

Json = Any


@dataclass(frozen=True, slots=True)
class Request:
    """What a rule can match on."""

    path: str
    action: str
    addresses: frozenset[str]
    coins: frozenset[str]
    cloids: frozenset[str]
    sides: frozenset[str] = frozenset()


def asking(body: Json) -> Request:
    """What a rule can match on in a question."""
    inner = body.get("req")
    coin = body.get("coin") or (inner.get("coin") if type(inner) is dict else None)
    user, oid = body.get("user"), body.get("oid")
    return Request(
        "/info",
        body["type"],
        frozenset([_lower(user)] if is_address(user) else []),
        frozenset([coin] if type(coin) is str else []),
        frozenset([oid.lower()] if type(oid) is str else []),
    )


def acting(path: str, body: Json, signer: str | None, state: State) -> Request:
    """What a rule can match on in a readable request: its signer, the agent's master, the vault, coins and cloids."""
    action = body["action"]
    agent = state.agents.get(signer or "")
    addresses = {signer or "", agent.master if agent else "", _lower(body.get("vaultAddress") or "")}
    orders = [*action.get("orders", ()), *(m["order"] for m in action.get("modifies", ()))]
    orders += [action[name] for name in ("order", "twap") if name in action]
    assets = [o.get("a", o.get("asset")) for o in (*orders, *action.get("cancels", ()), action)]
    cloids = [o.get("c") for o in orders] + [c.get("cloid") for c in action.get("cancels", ())]
    return Request(
        path,
        action["type"],
        frozenset(a for a in addresses if a),
        frozenset(state.by_asset[a].coin for a in assets if a in state.by_asset),
        frozenset(_lower(c) for c in cloids if c),
        frozenset("buy" if o["b"] else "sell" for o in orders if "b" in o),
    )


def _is_cloid(value: Json) -> bool:
    return type(value) is str and _CLOID.fullmatch(value) is not None


def _lower(ident: str) -> str:
    lower = ident.lower()
    return lower if not lower or lower.startswith("0x") else "0x" + lower


@dataclass(slots=True)
class Rule:
    """One fault and where it strikes."""

    kind: str
    path: str | None = None
    action: str | None = None
    address: str | None = None
    coin: str | None = None
    cloid: str | None = None
    side: str | None = None
    skip: int = 0
    count: int | None = None
    probability: Decimal = Decimal(1)
    seed: int = 0
    ms: int = 0
    when: str = "answer"
    execute: bool = False
    fraction: Decimal = Decimal("0.5")
    error: str = "Insufficient margin to place order."
    met: int = 0
    """How many requests it named, struck or not."""
    struck: int = 0
    draw: random.Random = field(default_factory=random.Random)

    def matches(self, request: Request) -> bool:
        """Whether the rule names this request (before count and probability)."""
        return (
            (self.path is None or self.path == request.path)
            and (self.action is None or self.action == request.action)
            and (self.address is None or self.address in request.addresses)
            and (self.coin is None or self.coin in request.coins)
            and (self.cloid is None or self.cloid in request.cloids)
            and (self.side is None or self.side in request.sides)
            and self._suits(request.path)
        )

    def _suits(self, path: str) -> bool:
        if path == WS or self.kind.startswith("ws_"):
            return path == WS and self.kind.startswith("ws_")
        if self.kind in ("partial_fill", "reject", "arrive_late"):
            return path == "/exchange"
        return path == "/info" or self.kind not in ("stale_read", "empty_read")

    def strikes(self) -> bool:
        """Draw: whether it happens this time, and count it."""
        self.met += 1
        if self.met <= self.skip or (self.count is not None and self.struck >= self.count):
            return False
        if self.probability < 1 and Decimal(self.draw.random()) >= self.probability:
            return False
        self.struck += 1
        return True

    def as_json(self) -> dict[str, Json]:
        shown = {name: getattr(self, name) for name in (*sorted(_FIELDS), "struck")}
        return {k: str(v) if isinstance(v, Decimal) else v for k, v in shown.items() if v is not None}


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def add(self, body: Json) -> list[Json]:
        """Add one rule or a list of them; returns all that are in force."""
        rules = body if isinstance(body, list) else [body]
        self.rules += [rule_of(rule) for rule in rules]
        return self.listed()

    def clear(self, kind: str | None = None) -> None:
        """Drop every rule, or those of one kind."""
        self.rules = [] if kind is None else [rule for rule in self.rules if rule.kind != kind]

    def listed(self) -> list[Json]:
        return [rule.as_json() for rule in self.rules]

    def struck(self, request: Request) -> dict[str, Rule]:
        """The rules that strike this request, by kind (of one kind the first)."""
        out: dict[str, Rule] = {}
        for rule in self.rules:
            if rule.kind not in out and rule.matches(request) and rule.strikes():
                out[rule.kind] = rule
        return out


def interference(struck: Mapping[str, Rule]) -> Interference:
    """The part of the faults that the order desk carries out."""
    out: list[OrderFault] = []
    if (rule := struck.get("reject")) is not None:
        out.append(OrderFault(rule.coin, rule.cloid, reject=rule.error))
    if (rule := struck.get("partial_fill")) is not None:
        out.append(OrderFault(rule.coin, rule.cloid, fraction=rule.fraction))
    return tuple(out)


def rules_of(text: str) -> list[Json]:
    """The rules that one line of text describes; they are not checked yet, but for the line's own form."""
    return [_spelt(part.strip()) for part in text.split(",")]


def _spelt(text: str) -> Json:
    kind, *parts = text.split(":")
    rule: dict[str, Json] = {"kind": kind}
    for number, part in enumerate(parts):
        name, given, value = part.partition("=")
        if not given and not number:
            name, value = "probability", part
        elif not given:
            raise BadInput(f"faults: {part!r} in {text!r} must be field=value")
        rule[name] = _typed(name, value)
    return rule


def _typed(name: str, value: str) -> Json:
    if name in _WHOLE and value.isascii() and value.isdecimal():
        return int(value)
    return {"true": True, "false": False}.get(value, value) if name == "execute" else value


def rule_of(raw: Json) -> Rule:
    """A rule from JSON; BadInput names the field, its value and what it may be."""
    if type(raw) is not dict:
        raise BadInput(f"faults: a rule must be an object, was {raw!r}")
    raw = {"address" if name == "user" else name: value for name, value in raw.items()}
    unknown = sorted(set(raw) - _FIELDS)
    if unknown:
        raise BadInput(f"faults: {unknown[0]!r} is not a field; known are {', '.join(sorted(_FIELDS))}, user")
    kind = str(raw.get("kind"))
    if kind not in KINDS:
        raise BadInput(f"faults: kind must be one of {', '.join(KINDS)}, was {raw.get('kind')!r}")
    rule = Rule(kind)
    for name in ("path", "action", "coin", "when", "error", "side"):
        if name in raw:
            setattr(rule, name, _checked(raw, name, str))
    for name, form, digits in (("address", is_address, 40), ("cloid", _is_cloid, 32)):
        if name in raw:
            if not form(raw[name]):
                raise BadInput(f"faults: {name} must be {digits} hex digits, was {raw[name]!r}")
            setattr(rule, name, _lower(raw[name]))
    for name in _WHOLE:
        if name in raw:
            setattr(rule, name, _whole(raw, name))
    if "execute" in raw:
        rule.execute = _checked(raw, "execute", bool)
    for name in ("probability", "fraction"):
        if name in raw:
            setattr(rule, name, _share(raw, name))
    for name, choices in (("when", ("arrival", "answer")), ("path", (*PATHS, None)), ("side", ("buy", "sell", None))):
        if getattr(rule, name) not in choices:
            allowed = " or ".join(choice for choice in choices if choice)
            raise BadInput(f"faults: {name} must be {allowed}, was {getattr(rule, name)!r}")
    if kind in ("delay", "arrive_late") and not rule.ms:
        raise BadInput(f"faults: ms with {kind} must be 1 or more, was {raw.get('ms')!r}")
    rule.draw = random.Random(rule.seed)
    return rule


def _whole(raw: Json, name: str) -> int:
    value: int = _checked(raw, name, int)
    least = 1 if name == "count" else 0
    if value < least and name != "seed":
        raise BadInput(f"faults: {name} must be {least} or more, was {value}")
    return value


def _checked(raw: Json, name: str, kind: type) -> Any:
    if type(raw[name]) is not kind:
        raise BadInput(f"faults: {name} must be {kind.__name__}, was {raw[name]!r}")
    return raw[name]


def _share(raw: Json, name: str) -> Decimal:
    value = raw[name]
    share = decimal_of(str(value) if type(value) is float else value, f"faults: {name}")
    if not 0 <= share <= 1:
        raise BadInput(f"faults: {name} must be from 0 to 1, was {share}")
    return share
