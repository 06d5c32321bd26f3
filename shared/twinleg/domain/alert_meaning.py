"""What an alert asks for: its words, and the change of position they go with.

``buy`` and ``sell`` are sides of an order, not openings and closings. When the message carries the
strategy's position before and after its order, that change decides. Without it, a bare buy or long opens a
long, a bare sell or short opens a short, and only a word that says so (close, exit, flat …) closes: a sell
that exits is then the exit of a long. Contradictions are refused, never settled by a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from twinleg.domain.alert_body import AlertBody, Value, shown
from twinleg.domain.alert_words import Verb, Words, said, with_comments
from twinleg.domain.errors import BadInput
from twinleg.domain.money import ONE, ZERO, decimal_of
from twinleg.domain.signals import Direction
from twinleg.domain.words import Side


class AlertAction(StrEnum):
    """What an alert asks for. ``CLOSE`` closes whatever is held; the sided forms only that side."""

    OPEN_LONG = "open_long"
    OPEN_SHORT = "open_short"
    CLOSE = "close"
    CLOSE_LONG = "close_long"
    CLOSE_SHORT = "close_short"
    REDUCE = "reduce"
    REVERSE_TO_LONG = "reverse_to_long"
    REVERSE_TO_SHORT = "reverse_to_short"
    ADD = "add"
    """Adds to a position the chart already holds: understood, and ignored with that reason."""

    @property
    def exits(self) -> bool:
        """Whether it only ever takes exposure away."""
        return self in (AlertAction.CLOSE, AlertAction.CLOSE_LONG, AlertAction.CLOSE_SHORT, AlertAction.REDUCE)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What is asked for, of which position, and how much of it (``REDUCE`` only)."""

    action: AlertAction
    direction: Direction | None = None
    fraction: Decimal | None = None


FLAT = "flat"
Stance = Direction | str
"""A position of the chart's strategy: long, short or FLAT."""

POSITION_FIELDS = ("market.position", "market.marketposition", "marketposition", "position", "newposition")
BEFORE_FIELDS = (
    "market.previousposition", "market.prevmarketposition", "previousposition", "prevposition",
    "prevmarketposition", "previousmarketposition",
)  # fmt: skip
POSITION_SIZE_FIELDS = ("market.positionsize", "marketpositionsize", "positionsize")
BEFORE_SIZE_FIELDS = (
    "market.previouspositionsize", "market.prevmarketpositionsize", "previouspositionsize", "prevpositionsize",
    "prevmarketpositionsize", "previousmarketpositionsize",
)  # fmt: skip
CONTRACTS_FIELDS = ("order.contracts", "contracts", "ordercontracts")
PER_CENT_FIELDS = ("closepercent", "closepercentage", "exitpercent", "reducepercent")
SIZE_FIELDS = ("size", "qty", "quantity", "amount", "volume", *CONTRACTS_FIELDS)
FRACTION_FIELDS = ("fraction", "closefraction", "reducefraction")

_TRANSITIONS: dict[tuple[Stance, Stance, Side | None], tuple[AlertAction, Direction]] = {
    (FLAT, Direction.LONG, Side.BUY): (AlertAction.OPEN_LONG, Direction.LONG),
    (FLAT, Direction.SHORT, Side.SELL): (AlertAction.OPEN_SHORT, Direction.SHORT),
    (Direction.LONG, FLAT, Side.SELL): (AlertAction.CLOSE_LONG, Direction.LONG),
    (Direction.SHORT, FLAT, Side.BUY): (AlertAction.CLOSE_SHORT, Direction.SHORT),
    (Direction.LONG, Direction.LONG, Side.BUY): (AlertAction.ADD, Direction.LONG),
    (Direction.SHORT, Direction.SHORT, Side.SELL): (AlertAction.ADD, Direction.SHORT),
    (Direction.LONG, Direction.LONG, Side.SELL): (AlertAction.REDUCE, Direction.LONG),
    (Direction.SHORT, Direction.SHORT, Side.BUY): (AlertAction.REDUCE, Direction.SHORT),
}
_REVERSALS = {
    (Direction.SHORT, Direction.LONG): (AlertAction.REVERSE_TO_LONG, Direction.LONG),
    (Direction.LONG, Direction.SHORT): (AlertAction.REVERSE_TO_SHORT, Direction.SHORT),
}


def meaning_of(body: AlertBody) -> Meaning:
    """What an alert asks for. BadInput with the reason when it asks for nothing, or for two things."""
    words = said(body)
    before, after = _stances(body, unsaid_ok=words.verb is not None)
    if before is not None and after is not None:
        return _of_transition(body, words, before, after)
    if words == Words():
        raise BadInput("alert: has no action; send action, side or signal as buy, sell, long, short or close")
    if after is not None:
        return _of_new_position(body, words, after)
    if before not in (None, FLAT) and words.verb is None:
        raise BadInput(f"alert: the position was {before}; what it is now must be said too (strategy.market_position)")
    return _of_words(body, with_comments(body, words) if words.verb is None else words)


def transition(before: Stance, after: Stance, side: Side) -> tuple[AlertAction, Direction] | None:
    """What an order did that took the strategy's position from *before* to *after*; None: no such trade.

    The direction is that of the position it is about, for a reversal that of the new one.
    """
    if isinstance(before, Direction) and isinstance(after, Direction) and (before, after) in _REVERSALS:
        return _REVERSALS[before, after]
    return _TRANSITIONS.get((before, after, side))


def _of_transition(body: AlertBody, words: Words, before: Stance, after: Stance) -> Meaning:
    side = words.side or _implied_side(words, before, after)
    if side is None:
        raise BadInput(f"alert: position {before} to {after}: action must be buy or sell")
    found = transition(before, after, side)
    if found is None:
        raise BadInput(f"alert: position {before} to {after} with a {side} order is no trade")
    action, direction = found
    if words.side is None and words.verb is None and words.direction not in (None, direction):
        raise BadInput(f"alert: action says {words.direction} while the position goes from {before} to {after}")
    exits = words.verb in (Verb.CLOSE, Verb.REDUCE)
    if words.verb is not None and words.verb is not Verb.REVERSE and exits != action.exits:
        raise BadInput(f"alert: action says {words.verb} while the position goes from {before} to {after}")
    fraction = _fraction_left(body) if action is AlertAction.REDUCE else None
    return Meaning(action, direction, fraction)


def _implied_side(words: Words, before: Stance, after: Stance) -> Side | None:
    if before != after:
        return Side.BUY if _height(after) > _height(before) else Side.SELL
    if words.direction is not None and words.verb is None:
        return Side.opening(words.direction)
    return None


def _height(stance: Stance) -> int:
    return stance.sign if isinstance(stance, Direction) else 0


def _of_new_position(body: AlertBody, words: Words, after: Stance) -> Meaning:
    """Only the position after the order is known. Selling and still long, for one, is certain to be a reduction."""
    if isinstance(after, Direction):
        if words.verb in (Verb.CLOSE, Verb.REDUCE) or words.direction not in (None, after):
            raise BadInput(f"alert: action and the position, which is {after}, contradict each other")
        if words.side is Side.opening(after).opposite:
            return Meaning(AlertAction.REDUCE, after, _fraction_left(body))
        return _of_words(body, replace(words, direction=after, side=None))
    if words.verb not in (None, Verb.CLOSE) or (words.verb is None and words.direction is not None):
        raise BadInput("alert: action opens while the position is flat")
    return _of_words(body, replace(words, verb=Verb.CLOSE))


def _of_words(body: AlertBody, words: Words) -> Meaning:
    verb = words.verb or Verb.OPEN
    direction = _direction(words, closes=verb in (Verb.CLOSE, Verb.REDUCE))
    if verb is Verb.CLOSE or verb is Verb.REDUCE:
        fraction = _fraction_asked(body)
        if fraction is None and verb is Verb.REDUCE:
            raise BadInput("alert: a reduction must say how much, as size 50% or fraction 0.5")
        if fraction is not None and fraction < ONE:
            return Meaning(AlertAction.REDUCE, direction, fraction)
        return Meaning(_sided(AlertAction.CLOSE_LONG, AlertAction.CLOSE_SHORT, direction), direction)
    if direction is None:
        raise BadInput(f"alert: action says {verb} but neither long nor short")
    if verb is Verb.ADD:
        return Meaning(AlertAction.ADD, direction)
    if verb is Verb.REVERSE:
        return Meaning(_sided(AlertAction.REVERSE_TO_LONG, AlertAction.REVERSE_TO_SHORT, direction), direction)
    return Meaning(_sided(AlertAction.OPEN_LONG, AlertAction.OPEN_SHORT, direction), direction)


def _sided(long: AlertAction, short: AlertAction, direction: Direction | None) -> AlertAction:
    if direction is None:
        return AlertAction.CLOSE
    return long if direction is Direction.LONG else short


def _direction(words: Words, *, closes: bool) -> Direction | None:
    """The position meant: a sell opens a short or leaves a long."""
    if words.side is None:
        return words.direction
    opened = Direction.LONG if words.side is Side.BUY else Direction.SHORT
    by_side = opened.opposite if closes else opened
    if words.direction not in (None, by_side):
        verb = words.verb or Verb.OPEN
        raise BadInput(f"alert: {words.side} and {words.direction} contradict each other ({verb})")
    return by_side


def _stances(body: AlertBody, *, unsaid_ok: bool) -> tuple[Stance | None, Stance | None]:
    if body.is_order_text:
        return _stances_of_order_text(body)
    return (
        _stance(body, BEFORE_FIELDS, BEFORE_SIZE_FIELDS, unsaid_ok=unsaid_ok),
        _stance(body, POSITION_FIELDS, POSITION_SIZE_FIELDS, unsaid_ok=unsaid_ok),
    )


def _stances_of_order_text(body: AlertBody) -> tuple[Stance, Stance]:
    """The text tells the new position and the order: the position before is their difference."""
    after = _size(body, ("positionsize",)) or ZERO
    return _stance_of_size(_order_text_before(body, after)), _stance_of_size(after)


def _order_text_before(body: AlertBody, after: Decimal) -> Decimal:
    action = body.one(("action",))
    bought = action is not None and str(action[1]).lower() == Side.BUY
    contracts = _size(body, ("contracts",)) or ZERO
    return after - contracts if bought else after + contracts


def _stance_of_size(size: Decimal) -> Stance:
    if size == 0:
        return FLAT
    return Direction.LONG if size > 0 else Direction.SHORT


def _stance(body: AlertBody, names: Iterable[str], size_names: Sequence[str], *, unsaid_ok: bool) -> Stance | None:
    """The side a position has by its word, else by its size: strategy.position_size is signed, others are not."""
    size = _size(body, size_names)
    found = body.one(names)
    if found is None:
        if size is None or size == 0:
            return None if size is None else FLAT
        signed = "positionsize" in size_names and body.one(size_names) == body.one(("positionsize",))
        if size < 0 or signed:
            return _stance_of_size(size)
        if unsaid_ok:
            return None
        key, _ = next(body.all(size_names))
        raise BadInput(f"alert: {key} {size} does not say which side; send strategy.market_position too")
    key, value = found
    word = str(value).lower()
    if word not in (FLAT, *Direction):
        raise BadInput(f"alert: {key} must be long, short or flat, was {shown(value)}")
    stance: Stance = FLAT if word == FLAT else Direction(word)
    if size is not None and (size == 0) is not (stance == FLAT):
        raise BadInput(f"alert: {key} is {word} while its size is {size}")
    return stance


def _size(body: AlertBody, names: Iterable[str]) -> Decimal | None:
    found = body.one(names)
    if found is None:
        return None
    key, value = found
    if isinstance(value, str):
        value = value.replace("−", "-")
    number = decimal_of(value, f"alert: {key}")
    if number and not -15 <= number.adjusted() <= 15:
        raise BadInput(f"alert: {key} must be at most 1e15 and at least 1e-15 in size, was {shown(value)}")
    return number


def _fraction_left(body: AlertBody) -> Decimal:
    """How much of the position an order took off, from two of: size before, size after, contracts."""
    after, contracts = _size(body, POSITION_SIZE_FIELDS), _size(body, CONTRACTS_FIELDS)
    before = _size(body, BEFORE_SIZE_FIELDS)
    if body.is_order_text:
        before = _order_text_before(body, after or ZERO)
    if before is None and after is not None and contracts is not None:
        before = abs(after) + contracts
    if before and after is not None:
        fraction = ONE - abs(after) / abs(before)
    elif before and contracts is not None:
        fraction = contracts / abs(before)
    else:
        raise BadInput("alert: a reduction must say how much: send the position's size before and after the order")
    fraction = fraction.quantize(Decimal("1e-8"), ROUND_DOWN)
    if not ZERO < fraction < ONE:
        raise BadInput(f"alert: a reduction must take part of the position off, was {fraction:f} of it")
    return fraction.normalize()


def _fraction_asked(body: AlertBody) -> Decimal | None:
    """The part of the position to close, as a per cent or a fraction; absolute sizes say nothing about ours."""
    asked: dict[Decimal, str] = {}
    for key, value in body.all(SIZE_FIELDS):
        if isinstance(value, str) and value.endswith("%"):
            asked[_per_cent(key, value)] = key
    for key, value in body.all(PER_CENT_FIELDS):
        asked[_per_cent(key, value)] = key
    for key, value in body.all(FRACTION_FIELDS):
        fraction = decimal_of(value, f"alert: {key}")
        if not ZERO < fraction <= ONE:
            raise BadInput(f"alert: {key} must be above 0 and at most 1, was {shown(value)}")
        asked[fraction] = key
    if len(asked) > 1:
        raise BadInput(f"alert: {' and '.join(asked.values())} say different parts of the position")
    return next(iter(asked), None)


def _per_cent(key: str, value: Value) -> Decimal:
    text = value.removesuffix("%").strip() if isinstance(value, str) else value
    number = decimal_of(text, f"alert: {key}")
    if not ZERO < number <= 100:
        raise BadInput(f"alert: {key} must be above 0 % and at most 100 %, was {shown(value)}")
    return number / 100
