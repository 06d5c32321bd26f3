"""What a document may hold and be called, the same for every store: Firestore's rules, so that what one takes all take.

Values are text, 64-bit integers, finite floats, booleans, None, datetimes with a zone (they come back in
UTC), maps of these, and lists of these without a list directly inside. Anything else, a Decimal or a naive
datetime above all, is a BadInput that names the field. Source: Google Cloud documentation, Firestore data types
and "Quotas and limits".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from twinleg.domain.errors import BadInput
from twinleg.engine.ports import Check, Document, Merge, Write

DOCUMENT_BYTES_MAX = 1_048_576
TIME = "$at"
"""In a document as JSON, the one field of a map that is a time; other names that start with $ get a second one."""
_INT_MAX = 2**63 - 1
_PLAIN = frozenset((str, bool, type(None)))
_NESTED = frozenset((dict, list))
_FIELD = re.compile(r'[^"\\\x00-\x1f]+')
_RESERVED = re.compile(r"__.*__", re.DOTALL)


# -- names ---------------------------------------------------------------------------------------


def checked_id(collection: str, id: str) -> str:
    """The id, when both it and the collection's name can be used. BadInput says what cannot."""
    for name, what in ((collection, "collection"), (id, f"id in {collection}")):
        if not name or "/" in name or name in (".", "..") or len(name.encode()) > 1500 or _RESERVED.fullmatch(name):
            raise BadInput(f"{what} must be 1 to 1500 bytes without a slash and not __so__, was {name[:60]!r}")
    return id


def checked_batch(writes: Sequence[Write]) -> Sequence[Write]:
    """The writes of a batch, each of a document of its own: which precondition of two would count is undecided."""
    names = [(write.collection, write.id) for write in writes]
    for collection, id in names:
        checked_id(collection, id)
    if twice := [f"{collection}/{id}" for (collection, id), count in Counter(names).items() if count > 1]:
        raise BadInput(f"a batch may write or check a document once, has {', '.join(twice)} more often")
    return writes


def checked_field(field: str) -> str:
    """A field's name, when a query may use it."""
    if not _FIELD.fullmatch(field):
        raise BadInput(f"a query's field must be a plain name, was {field!r}")
    return field


def checked_wanted(field: str, wanted: object) -> str | int | float | bool | datetime | None:
    """A value that a query may compare a field to; enums as their text, times in UTC."""
    if wanted is None or isinstance(wanted, bool):
        return wanted
    if isinstance(wanted, str):
        return str.__str__(wanted)
    if isinstance(wanted, int | float):
        return wanted
    if isinstance(wanted, datetime) and wanted.tzinfo is not None:
        return wanted.astimezone(UTC)
    raise BadInput(f"{field} can be compared to text, a number, a boolean, None or a UTC time, was {wanted!r}")


# -- values --------------------------------------------------------------------------------------


def encoded(collection: str, id: str, data: Document) -> str:
    """A document as JSON. BadInput names the field that cannot be stored, and why."""
    if not isinstance(data, dict):
        raise BadInput(f"{collection}/{id} must be a map, was {type(data).__name__}")
    try:
        written = orjson.dumps(_encode_map(data, ""))
    except _Unstorable as error:
        raise BadInput(f"{collection}/{id}: {error}") from None
    except TypeError as error:
        raise BadInput(f"{collection}/{id}: text must be valid Unicode, maps not be nested deeply: {error}") from None
    _check_size(collection, id, len(written))
    return written.decode()


def encoded_write(write: Write) -> str:
    """What a write puts into its document, as JSON; empty for one that puts nothing."""
    if isinstance(write, Check):
        return ""
    return encoded(write.collection, write.id, write.fields if isinstance(write, Merge) else write.data)


def merged(collection: str, id: str, text: str, fields: str) -> str:
    """A document as JSON with some of its fields replaced whole by those of another."""
    joined = orjson.dumps(orjson.loads(text) | orjson.loads(fields))
    _check_size(collection, id, len(joined))
    return joined.decode()


def _check_size(collection: str, id: str, size: int) -> None:
    if size > DOCUMENT_BYTES_MAX:
        raise BadInput(f"{collection}/{id}: document bytes {size} > {DOCUMENT_BYTES_MAX}")


def decoded(text: str) -> Document:
    """The document of a JSON text."""
    document: Document = orjson.loads(text)
    return _decode(document) if '"$' in text else document


class _Unstorable(Exception):
    pass


def _encode(value: Any, at: str) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return _encode_map(value, at)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _Unstorable(f"{at} must carry its zone, was {value.isoformat()}")
        return {TIME: time_text(value)}
    if isinstance(value, str):  # an enum's text
        return str.__str__(value)
    if isinstance(value, int):
        if not -_INT_MAX - 1 <= value <= _INT_MAX:
            raise _Unstorable(f"{at} must fit 64 bits, was {value}: store it as text")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Unstorable(f"{at} must be finite, was {value}")
        return float(value)
    if isinstance(value, list | tuple):
        return [item if type(item) is str else _encode_item(item, f"{at}[{n}]") for n, item in enumerate(value)]
    hint = ": store decimals as text" if isinstance(value, Decimal) else ""
    raise _Unstorable(f"{at} cannot hold a {type(value).__name__}{hint}")


def _encode_item(value: Any, at: str) -> Any:
    if isinstance(value, list | tuple):
        raise _Unstorable(f"{at} cannot hold a list inside a list: put a map between them")
    return _encode(value, at)


def _encode_map(values: dict[Any, Any], at: str) -> dict[str, Any]:
    out = {}
    for name, value in values.items():
        if not isinstance(name, str) or not name:
            raise _Unstorable(f"{at or 'a field'} has the name {name!r}: names are text, not empty")
        if name[:2] == "__" and _RESERVED.fullmatch(name):
            raise _Unstorable(f"{at or 'a field'} has the name {name!r}: names like __this__ are reserved")
        out["$" + name if name[0] == "$" else str.__str__(name)] = (
            value if type(value) in _PLAIN else _encode(value, f"{at}.{name}" if at else name)
        )
    return out


def _decode(value: Any) -> Any:
    if type(value) is dict:
        if TIME in value:
            return datetime.fromisoformat(value[TIME])
        return {
            name[1:] if name[0] == "$" else name: _decode(item) if type(item) in _NESTED else item
            for name, item in value.items()
        }
    if type(value) is list:
        return [_decode(item) if type(item) in _NESTED else item for item in value]
    return value


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
