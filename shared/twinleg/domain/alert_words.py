"""The words of an alert: what its action, its flags and its comments say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from twinleg.domain.alert_body import AlertBody, Value, shown
from twinleg.domain.errors import BadInput
from twinleg.domain.signals import Direction
from twinleg.domain.words import Side


class Verb(StrEnum):
    OPEN = "open"
    CLOSE = "close"
    REDUCE = "reduce"
    ADD = "add"
    REVERSE = "reverse"


@dataclass(frozen=True, slots=True)
class Words:
    """What a field's words say; None where they say nothing."""

    verb: Verb | None = None
    side: Side | None = None
    direction: Direction | None = None


ACTION_FIELDS = ("action", "side", "order.action", "order.side", "orderaction", "orderside")
SIGNAL_FIELDS = ("signal", "direction", "signaltype", "command", "order")
"""The action when no field above is there; otherwise they must not contradict it."""
EXIT_FLAGS = ("exit", "closeposition", "closeonly", "reduceonly", "order.reduceonly")
COMMENT_FIELDS = (
    "message", "alertmessage", "comment", "ordercomment", "orderid", "reason",
    "order.alertmessage", "order.comment", "order.id",
)  # fmt: skip
KIND_FIELDS = ("type", "ordertype")
"""Usually market or limit; heard only when they say entry, exit or such."""

_VERBS = {
    "open": Verb.OPEN, "entry": Verb.OPEN, "enter": Verb.OPEN,
    "close": Verb.CLOSE, "exit": Verb.CLOSE, "flat": Verb.CLOSE, "flatten": Verb.CLOSE, "cover": Verb.CLOSE,
    "reduce": Verb.REDUCE, "decrease": Verb.REDUCE, "trim": Verb.REDUCE,
    "add": Verb.ADD, "increase": Verb.ADD, "pyramid": Verb.ADD,
    "reverse": Verb.REVERSE, "flip": Verb.REVERSE, "switch": Verb.REVERSE,
}  # fmt: skip
_FILLERS = {"to", "all", "position", "positions", "trade", "order", "signal"}
_NO_TRADE = {"none", "hold", "neutral", "wait", "nothing", "ignore", "breakeven"}
_MAY_EXIT = {
    *(word for word, verb in _VERBS.items() if verb in (Verb.CLOSE, Verb.REDUCE)),
    "closed", "closing", "exits", "tp", "profit", "sl", "stop", "stopped", "loss", "stoploss", "takeprofit",
    "trail", "trailing", "breakeven", "liquidate", "partial",
}  # fmt: skip
_COMPOUNDS = {
    joined: f"{verb} {direction}"
    for verb in _VERBS
    for direction in Direction
    for joined in (f"{verb}{direction}", f"{direction}{verb}")
}
_TRADINGVIEW_CLOSE = re.compile(r"close (entry\(s\) order .*|position order)", re.IGNORECASE)
"""What TradingView itself calls the orders of strategy.close and strategy.close_all."""


def said(body: AlertBody) -> Words:
    """What the action and the exit flags say together. BadInput when they contradict each other."""
    words = Words()
    for key, value in body.all(ACTION_FIELDS):
        words = _joined(words, _read_action(key, value), key)
    named = words != Words()
    for key, value in body.all(SIGNAL_FIELDS):
        heard = _parsed(value) if isinstance(value, str) else None
        if not named or heard is not None:
            words = _joined(words, heard or _read_action(key, value), key)
    for key, value in body.all(EXIT_FLAGS):
        if _flag(key, value):
            words = _joined(words, Words(verb=Verb.CLOSE), key)
    return words


def with_comments(body: AlertBody, words: Words) -> Words:
    """A comment beside a bare buy or sell may say that it is an exit; one that only might is refused."""
    for key, value in body.all(KIND_FIELDS):
        if isinstance(value, str) and (heard := _parsed(value)):
            words = _joined(words, heard, key)
    for key, value in body.all((*COMMENT_FIELDS, *SIGNAL_FIELDS)):
        if not isinstance(value, str):
            continue
        heard = Words(verb=Verb.CLOSE) if _TRADINGVIEW_CLOSE.fullmatch(value) else _parsed(value)
        if heard is not None:
            words = _joined(words, heard, key)
        elif _MAY_EXIT.intersection(_tokens(value)):
            raise BadInput(
                f"alert: {key} {shown(value)} may mean an exit; send strategy.market_position and "
                "strategy.prev_market_position, or action close"
            )
    return words


def _read_action(key: str, value: Value) -> Words:
    if not isinstance(value, str):
        raise BadInput(f"alert: {key} must be a word such as buy, sell or close, was {shown(value)}")
    if "|" in value:
        raise BadInput(f"alert: {key} {shown(value)} is the template's list of choices: send one of them")
    if _NO_TRADE.intersection(_tokens(value)):
        raise BadInput(f"alert: {key} {shown(value)} asks for no trade")
    words = _parsed(value)
    if words is None:
        raise BadInput(f"alert: {key} must be buy, sell, long, short, close or such, was {shown(value)}")
    if words.verb in (Verb.CLOSE, Verb.REDUCE) and words.side and not words.direction:
        raise BadInput(
            f"alert: {key} {shown(value)} may mean the order's side or the position: say close long or short"
        )
    return words


def _parsed(text: str) -> Words | None:
    """What a text says when every word of it is known; None when one is not, or two contradict."""
    verb, side, direction = None, None, None
    for token in _tokens(text):
        if token in _FILLERS:
            continue
        new_verb = _VERBS.get(token)
        new_side = Side(token) if token in ("buy", "sell") else None
        new_direction = Direction(token) if token in ("long", "short") else None
        if token == "cover":
            new_direction = Direction.SHORT
        if not (new_verb or new_side or new_direction):
            return None
        if _differ(verb, new_verb) or _differ(side, new_side) or _differ(direction, new_direction):
            return None
        verb, side, direction = new_verb or verb, new_side or side, new_direction or direction
    return Words(verb, side, direction) if verb or side or direction else None


def _tokens(text: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    found = re.findall(r"[^\W\d_]+", spaced)
    return [word for token in found for word in _COMPOUNDS.get(token, token).split()]


def _joined(words: Words, more: Words, key: str) -> Words:
    for mine, other in ((words.verb, more.verb), (words.side, more.side), (words.direction, more.direction)):
        if _differ(mine, other):
            raise BadInput(f"alert: {key} says {other} where another field says {mine}")
    return Words(words.verb or more.verb, words.side or more.side, words.direction or more.direction)


def _differ(one: StrEnum | None, other: StrEnum | None) -> bool:
    return one is not None and other is not None and one is not other


def _flag(key: str, value: Value) -> bool:
    """A yes or no. The text "False" is a no, which Python's own bool() would not say."""
    text = str(value).strip().lower()
    if text in ("true", "yes", "1"):
        return True
    if text in ("false", "no", "0", "none"):
        return False
    raise BadInput(f"alert: {key} must be true or false, was {shown(value)}")
