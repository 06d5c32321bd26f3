"""Reading a question to ``/info``: its fields, and the two ways in which it can be wrong."""

from __future__ import annotations

from typing import Any

from twinleg.paper import schema

Json = Any
Body = dict[str, Any]

FAR = 1 << 62
"""A time after every other."""


class Unreadable(Exception):
    """The question lacks a field or has one of the wrong kind: 422."""


class Broken(Exception):
    """The real venue answers this with 500 and ``null``."""


def user_of(body: Body) -> str:
    """The lower-case address asked about."""
    user = body.get("user")
    if not schema.is_address(user):
        raise Unreadable
    return "0x" + str(user).lower().removeprefix("0x")


def time_of(body: Body, name: str, default: int | None = None) -> int:
    """A time in epoch milliseconds; the default where it is absent or null."""
    value = body.get(name)
    if value is None and default is not None:
        return default
    if type(value) is not int:
        raise Unreadable
    return value
