"""Collecting the faults of a configuration: each one line that says where, what it was, and what it must be.

Nothing that may be a secret is ever quoted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from twinleg.domain.errors import BadInput

Where = tuple[str | int, ...]
"""A place in the configuration: ``("markets", 0, "hedge")`` is ``markets[0].hedge``."""

MAYBE_KEY = re.compile(r"[0-9a-fA-F]{41,}")
"""More hexadecimal digits in a row than an address has: never quoted."""
HEX_KEY = re.compile(r"[0-9a-fA-F]{48,}")
KEY = re.compile(HEX_KEY.pattern + r"|^\s*([a-z]{3,8}\s+){11,23}[a-z]{3,8}\s*$")
"""A private key (64 hexadecimal digits, or nearly), or the words of a wallet: refused wherever it stands."""
SHOWN_MAX = 60


class SettingsError(BadInput):
    """The configuration cannot be used. ``faults`` holds every reason, one line each; none quotes a secret."""

    def __init__(self, source: str, faults: Iterable[str]) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        count = f"{len(self.faults)} fault{'s' if len(self.faults) != 1 else ''}"
        super().__init__("\n".join([f"{source}: {count} in the configuration", *(f"  {line}" for line in self.faults)]))


def spelled(where: Where) -> str:
    """``markets[0].hedge``"""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{_one_line(part)}"
    return text


def shown(value: object) -> str:
    """A value as a fault line quotes it: short, on one line, and not at all when it may be a key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return kind_of(value)
    if isinstance(value, str):
        return f"'{_one_line(value)}'"
    return _one_line(str(value))


def kind_of(value: object) -> str:
    """What sort of TOML value it is, without quoting it."""
    kinds = {dict: "a table", list: "a list", tuple: "a list", str: "text", bool: "true or false", int: "a number"}
    return "a number" if isinstance(value, (Decimal, float)) else kinds.get(type(value), f"a {type(value).__name__}")


def _one_line(text: str) -> str:
    if MAYBE_KEY.search(text) or KEY.search(text):
        return "(not shown)"
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` for a typo, ``; known: X, Y`` for a stranger among few, else nothing."""
    known = list(dict.fromkeys(known))
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {_one_line(close[0])}?"
    return f"; known: {', '.join(map(_one_line, known))}" if 0 < len(known) <= 12 else ""


def listed(words: Iterable[str], joint: str = "or") -> str:
    """``a, b or c``"""
    *first, last = list(words)
    return f"{', '.join(first)} {joint} {last}" if first else last


class Faults:
    """Every fault found so far, in the order found, each place and reason once."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._origins: dict[Where, str] = {}
        self._hidden: set[Where] = set()
        self._spoiled: set[Where] = set()

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def came_from(self, where: Where, variable: str) -> None:
        """Remember that an environment variable set this place, so that its faults say so."""
        self._origins[where] = variable

    def add(self, where: Where, what: str) -> None:
        if where in self._spoiled or any(where[: len(hidden)] == hidden for hidden in self._hidden):
            return
        origin = self._origins.get(where)
        self.add_line(f"{spelled(where) or 'top level'}: {what}" + (f" (set by {origin})" if origin else ""))

    def spoil(self, where: Where) -> None:
        """What stands here could not be read, which has been said: nothing more is said of it."""
        self._spoiled.add(where)

    def is_spoiled(self, where: Where) -> bool:
        return where in self._spoiled

    def add_line(self, line: str) -> None:
        self._lines[line] = None

    def add_secret(self, where: Where) -> None:
        """A secret stands in the configuration: say where, and nothing else about that place."""
        self.add(
            where,
            "looks like a private key; a configuration holds only the NAMES of secrets. It is not shown here: "
            "remove it, and replace the key if the file was ever shared",
        )
        if where:
            self._hidden.add(where)


def read_part[Part: BaseModel](model: type[Part], raw: object, where: Where, faults: Faults) -> Part | None:
    """One table as its model. Its faults are added; then it is what could be read of it, for further checks, or None
    when what it cannot be without is missing.
    """
    if not isinstance(raw, Mapping):
        faults.add(where, f"was {kind_of(raw)}, must be a table")
        faults.spoil(where)
        return None
    found = dict(_flags_for_numbers(model, raw))
    try:
        part = model.model_validate(dict(raw))
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            found.setdefault(fault["loc"], _worded(model, dict(fault)))
    else:
        if not found:
            return part
    for place, what in found.items():
        faults.add(where + place, what)
        faults.spoil(where + place)
    return _salvaged(model, raw, set(found))


def _salvaged[Part: BaseModel](model: type[Part], raw: Mapping[Any, Any], bad: set[Where]) -> Part | None:
    """The part without what is wrong with it: defaults where there are any, a nested table's sound fields."""
    sound = {name: value for name, value in raw.items() if (name,) not in bad and name in model.model_fields}
    for name in {place[0] for place in bad if len(place) > 1}:
        inner = _model_at(model, (name,))
        given = sound.pop(name, {})
        if inner is not model and isinstance(given, Mapping):
            kept = {key: value for key, value in given.items() if (name, key) not in bad and key in inner.model_fields}
            sound[name] = inner.model_construct(None, **kept)
    try:
        return model.model_validate(model.lenient(sound) if issubclass(model, Salvageable) else sound)
    except ValidationError:
        return None


class Salvageable(BaseModel):
    """A part that knows what to stand in for a required field that could not be read."""

    @classmethod
    def lenient(cls, sound: dict[str, Any]) -> dict[str, Any]:
        return sound


def _flags_for_numbers(model: type[BaseModel], raw: Mapping[Any, Any]) -> Iterator[tuple[Where, str]]:
    """``leverage_max = true`` is not a leverage of 1."""
    for name, field in model.model_fields.items():
        if isinstance(raw.get(name), bool) and field.annotation in (int, Decimal, float):
            yield (name,), f"was {shown(raw[name])}, must be a number"


LIMIT_WORDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
TYPE_WORDS = {
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "decimal_parsing": "a number",
    "decimal_type": "a number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}


def _worded(model: type[BaseModel], fault: dict[str, Any]) -> str:
    """Pydantic's finding in our words: what was there, and what the limit is."""
    kind, context, loc = fault["type"], fault.get("ctx") or {}, fault["loc"]
    if kind == "missing":
        return "missing" + _choices_of(_model_at(model, loc[:-1]), str(loc[-1]))
    if kind == "extra_forbidden":
        return "unknown key" + did_you_mean(str(loc[-1]), _model_at(model, loc[:-1]).model_fields)
    if kind == "secret_name":
        return str(fault["msg"])
    if kind == "model_type":
        return f"was {kind_of(fault['input'])}, must be a table"
    if not loc:
        return str(context.get("error", fault["msg"]))
    was = f"was {shown(fault['input'])}"
    if kind in LIMIT_WORDS:
        name, words = LIMIT_WORDS[kind]
        return f"{was}, must be {words} {context[name]}"
    if kind == "literal_error":
        return f"{was}, must be {listed(_literals(_model_at(model, loc[:-1]), str(loc[-1])))}"
    if kind in TYPE_WORDS:
        return f"{was}, must be {TYPE_WORDS[kind]}"
    return f"{was}, {context.get('error', fault['msg'])}"


def _model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel]:
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return model


def _literals(model: type[BaseModel], name: str) -> list[str]:
    field = model.model_fields.get(name)
    annotation = field.annotation if field else None
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else ["another value"]


def _choices_of(model: type[BaseModel], name: str) -> str:
    field = model.model_fields.get(name)
    if field is not None and get_origin(field.annotation) is Literal:
        return f"; must be {listed(_literals(model, name))}, there is no default"
    return f"; {field.description}" if field is not None and field.description else "; it has no default"
