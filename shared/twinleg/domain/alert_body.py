"""The body of an alert, read into named fields with every secret taken out.

Three layouts are read: one JSON object (flat, or in sections such as ``general`` / ``order`` / ``market``),
``KEY=VALUE`` lines (or ``;`` between them on one line), and TradingView's own order text. JSON may hold
comments and trailing commas, because published templates do and removing them changes no value; text
without quotes, duplicate keys and NaN are refused, because reading them would be a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from twinleg.domain.errors import BadInput

BODY_BYTES_MAX = 16 * 1024
DEPTH_MAX = 8
SCRUBBED_LENGTH_MIN = 4
"""A secret at least this long is also taken out of other fields; a shorter one would eat ordinary words."""

Value = str | Decimal | bool

_SECRET_NAMES = ("secret", "passphrase", "password", "token", "key")
_SECRET_PARTS = (
    "secret", "passphrase", "password", "passwd", "passcode", "token", "apikey", "privatekey",
    "accesskey", "authkey", "signingkey", "webhookkey", "credential", "mnemonic",
)  # fmt: skip
_SECRET_WORDS = ("key", "pass", "pin", "auth", "authorization", "signature")
_PASSED_THROUGH = ("general", "data", "alert", "payload", "strategy")
"""Sections whose fields mean what they would mean at the top."""

_JSON_TOKEN = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|[{}\[\]:,]|\s+|[^\s{}\[\]:,"/]+|.',
    re.DOTALL,
)
_JSON_WORD = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?|true|false|null")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity|na)", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"\s*[A-Za-z][A-Za-z0-9_ .-]{0,63}=")
_ORDER_TEXT = re.compile(
    r"order (?P<action>buy|sell) @ (?P<contracts>[0-9][0-9,]*(?:\.[0-9]+)?) filled on (?P<ticker>\S+?)\.? "
    r"New strategy position is (?P<position>[-−]?[0-9][0-9,]*(?:\.[0-9]+)?)(?=[.\s]|$)",
    re.IGNORECASE,
)
_PRICE_ALERT = re.compile(
    r"\b(crossing|greater than|less than|(entering|exiting|inside|outside) channel|moving (up|down))\b", re.IGNORECASE
)
_INLINE_SECRET = re.compile(
    r"\b(?:secret|passphrase|password|passwd|token|key|api[ _-]?key)\"?\s*[=:]\s*(?P<secret>[^\n]*)", re.IGNORECASE
)
_QUOTED_SECRET = re.compile(r'"(?:secret|passphrase|password|token|key)"\s*:\s*"(?P<secret>[^"\\\n]+)"', re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\{\{[^{}]*\}\}")


@dataclass(frozen=True, slots=True)
class AlertBody:
    """The fields of an alert under their plain names, and its text. Neither holds a secret."""

    fields: Mapping[str, Sequence[tuple[str, Value]]]
    """Plain name → (name as written, value) for each place it stands at; empty values are left out."""
    text: str
    is_order_text: bool = False

    def all(self, names: Iterable[str]) -> Iterator[tuple[str, Value]]:
        """Every value standing under one of the names, in the order of the names."""
        for name in names:
            yield from self.fields.get(name, ())

    def one(self, names: Iterable[str]) -> tuple[str, Value] | None:
        """The value under the first of the names that is there. BadInput when one name has two values."""
        for name in names:
            found = self.fields.get(name, ())
            for key, value in found[1:]:
                if value != found[0][1]:
                    raise BadInput(f"alert: {key} has two values, {shown(found[0][1])} and {shown(value)}")
            if found:
                return found[0]
        return None


def read_body(body: bytes, known_secrets: Sequence[str] = ()) -> AlertBody:
    """Read an alert's body. BadInput, naming the place and the limit, when it cannot be read without a guess."""
    text = _text(body)
    if text.startswith(("{", "[")):
        tree = _json(text)
        return _structured(tree, known_secrets)
    order = list(_ORDER_TEXT.finditer(text))
    if order:
        return _order_text(text, order, known_secrets)
    if _ASSIGNMENT.match(text):
        return _structured(_assignments(text), known_secrets)
    if _PRICE_ALERT.search(text):
        raise BadInput("alert: the text of a price alert names no action; write the message as JSON with an action")
    raise BadInput("alert: must be a JSON object, KEY=VALUE lines or TradingView's order text, was other text")


def secret_in_body(body: bytes) -> str | None:
    """The secret the sender put into the body, to be compared with ours; None when there is none to be read.

    It is looked for at the top of a JSON object or in its ``general`` section, among KEY=VALUE lines, and
    after a word such as ``secret:`` in other text. In JSON that cannot be read for another reason it is found too,
    so that the sender, being known, is told that reason.
    """
    try:
        text = _text(body)
        if not text.startswith(("{", "[")) and (_ORDER_TEXT.search(text) or not _ASSIGNMENT.match(text)):
            found = _INLINE_SECRET.search(text)
            return (found["secret"].strip() or None) if found else None
    except BadInput:
        return None
    try:
        tree = _json(text) if text.startswith(("{", "[")) else _assignments(text)
    except BadInput:
        quoted = _QUOTED_SECRET.search(text)
        return quoted["secret"] if quoted else None
    candidates = []
    for layer in (tree, *(part for name, part in tree.items() if _plain(name) == "general" and isinstance(part, dict))):
        for name, value in layer.items():
            if _is_secret(name) and isinstance(value, (str, Decimal)) and str(value).strip():
                candidates.append((_secret_rank(name), str(value)))
    return min(candidates, key=lambda candidate: candidate[0])[1] if candidates else None


def redact(body: bytes) -> str:
    """The body for a record or a log: as read, without its secrets; only its size when it cannot be read."""
    try:
        return read_body(body).text
    except BadInput:
        return f"({len(body)} bytes that cannot be read as an alert)"


def shown(value: object) -> str:
    """A value for a message: quoted, on one line, cut to 60 characters."""
    text = repr(str(value) if isinstance(value, Decimal) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(body: bytes) -> str:
    if len(body) > BODY_BYTES_MAX:
        raise BadInput(f"alert: {len(body)} bytes, at most {BODY_BYTES_MAX} are read")
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        place = error.start
    else:
        if not text:
            raise BadInput("alert: is empty")
        return text
    raise BadInput(f"alert: is not UTF-8 text (byte {place})")


def _json(text: str) -> dict[str, Any]:
    tree = _loaded(_strict_json(text))
    if not isinstance(tree, dict):
        raise BadInput(f"alert: must be one JSON object, was a list of {len(tree)}")
    if not tree:
        raise BadInput("alert: is an empty JSON object")
    if _half_character(json.dumps(tree, ensure_ascii=False, default=str)):
        raise BadInput("alert: holds half a character (a lone surrogate), which is no text")
    return tree


def _half_character(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_float=Decimal, parse_int=Decimal)
    except json.JSONDecodeError as error:
        line, column, what = error.lineno, error.colno, error.msg
    except (ArithmeticError, ValueError, RecursionError):
        raise BadInput("alert: is not JSON: a number is out of range") from None
    raise BadInput(f"alert: line {line}, column {column}: is not JSON: {what}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"alert: {_name(twice)} appears twice")
    return tree


def _strict_json(text: str) -> str:
    """JSON without the comments and trailing commas of a template; line numbers stay as they were."""
    kept: list[str] = []
    line, depth, last, before_last = 1, 0, "", ""
    comma = -1
    for found in _JSON_TOKEN.finditer(text):
        token = found[0]
        if token.startswith(("//", "/*")):
            kept.append("\n" * token.count("\n") or " ")
        elif token.isspace():
            kept.append(token)
        else:
            _refuse_guess(token, line, before_last if last == ":" else "")
            if token in "{[":
                depth += 1
            if depth > DEPTH_MAX:
                raise BadInput(f"alert: line {line}: nested deeper than {DEPTH_MAX}")
            if token in "}]" and last == "," and before_last not in ("{", "[", ",", ":"):
                kept[comma] = " "
            if token == ",":
                comma = len(kept)
            kept.append(token)
            before_last, last = last, token
        line += token.count("\n")
    return "".join(kept)


def _refuse_guess(token: str, line: int, key: str) -> None:
    if token[0] in "{}[]:,":
        return
    where = f"alert: line {line}: " + (f"{_name(key.strip(chr(34)))}: " if key.startswith('"') else "")
    if len(token) > 1 and token[0] == '"' == token[-1]:
        return
    if token[0] == '"':
        raise BadInput(f"{where}text in double quotes is not closed on its line")
    if token[0] == "'":
        raise BadInput(f'{where}names and text must be in double quotes ("), not single ones')
    if _NOT_FINITE.fullmatch(token):
        raise BadInput(f"{where}numbers must be finite, was {token}")
    if not _JSON_WORD.fullmatch(token):
        raise BadInput(f'{where}text must be in double quotes, such as "{{{{ticker}}}}" in the template')


def _assignments(text: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    separator = "\n" if "\n" in text else ";"
    for number, part in enumerate(text.split(separator), 1):
        if not part.strip():
            continue
        if not _ASSIGNMENT.match(part):
            raise BadInput(f"alert: {'line' if separator != ';' else 'part'} {number} is not KEY=VALUE")
        name, value = (side.strip() for side in part.split("=", 1))
        if name in tree:
            raise BadInput(f"alert: {_name(name)} appears twice")
        tree[name] = value
    return tree


def _structured(tree: dict[str, Any], known_secrets: Sequence[str]) -> AlertBody:
    secrets = _long_enough([*known_secrets, *_secrets(tree)])
    clean = _without(tree, secrets)
    fields: dict[str, list[tuple[str, Value]]] = {}
    for path, value in _leaves(clean, ()):
        key = ".".join(path)
        if isinstance(value, str):
            _refuse_placeholder(key, value)
            value = value.strip()
        if value is None or value == "":
            continue
        fields.setdefault(_plain_path(path), []).append((_name(key), value))
    return AlertBody(fields, json.dumps(clean, ensure_ascii=False, default=str))


def _order_text(text: str, order: list[re.Match[str]], known_secrets: Sequence[str]) -> AlertBody:
    secrets = [found["secret"].strip() for found in _INLINE_SECRET.finditer(text)]
    masked = _INLINE_SECRET.sub("***", text)
    clean = _scrubbed(masked, _long_enough([*known_secrets, *secrets]))
    order = list(_ORDER_TEXT.finditer(clean))
    if len(order) != 1:
        raise BadInput(f"alert: must tell of one order, was {len(order) or 'one beside a secret'}")
    _refuse_placeholder("text", clean)
    name = clean[: order[0].start()].strip().removesuffix(":").strip()
    written = {
        "action": order[0]["action"],
        "ticker": order[0]["ticker"],
        "contracts": order[0]["contracts"].replace(",", ""),
        "positionsize": order[0]["position"].replace(",", "").replace("−", "-"),
        "strategy": name,
    }
    return AlertBody({key: [(key, value)] for key, value in written.items() if value}, clean, is_order_text=True)


def _secrets(tree: object) -> Iterator[str]:
    """Everything that stands under the name of a secret, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _texts(value) if _is_secret(name) else _secrets(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _secrets(value)


def _texts(tree: object) -> Iterator[str]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, (str, Decimal)):
        yield str(tree)
        yield str(tree).strip()


def _without(tree: Any, secrets: Sequence[str]) -> Any:
    if isinstance(tree, dict):
        return {
            _scrubbed(name, secrets): _without(value, secrets) for name, value in tree.items() if not _is_secret(name)
        }
    if isinstance(tree, list):
        return [_without(value, secrets) for value in tree]
    if isinstance(tree, Decimal):
        text = str(tree)
        return tree if _scrubbed(text, secrets) == text else _scrubbed(text, secrets)
    return _scrubbed(tree, secrets) if isinstance(tree, str) else tree


def _long_enough(secrets: Sequence[str]) -> list[str]:
    return sorted({secret for secret in secrets if len(secret) >= SCRUBBED_LENGTH_MIN}, key=len, reverse=True)


def _scrubbed(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Value | None]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _leaves(value, (*path, name))
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, (*path, "[]"))
    else:
        yield path, tree


def _plain_path(path: tuple[str, ...]) -> str:
    """``("Strategy", "order.action")`` → ``order.action``; ``prev_market_position`` → ``prevmarketposition``."""
    parts = [_plain(part) if part != "[]" else part for name in path for part in name.split(".")]
    while len(parts) > 1 and parts[0] in _PASSED_THROUGH:
        parts.pop(0)
    return ".".join(parts)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isascii() and c.isalnum())


def _is_secret(name: str) -> bool:
    plain = _plain(name)
    return plain in _SECRET_WORDS or any(part in plain for part in _SECRET_PARTS)


def _secret_rank(name: str) -> int:
    plain = _plain(name)
    return _SECRET_NAMES.index(plain) if plain in _SECRET_NAMES else len(_SECRET_NAMES)


def _refuse_placeholder(key: str, value: str) -> None:
    if found := _PLACEHOLDER.search(value):
        _refuse(f"alert: {_name(key)} holds {shown(found[0])}, which TradingView did not fill in")


def _refuse(message: str) -> NoReturn:
    raise BadInput(message)


def _name(name: str) -> str:
    """A field's name for a message: as it is when it is plain, else quoted and cut."""
    return name if len(name) <= 60 and name.isprintable() and name.isascii() and name else shown(name)
