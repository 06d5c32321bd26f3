"""Reading what a client sends over the WebSocket: control messages, and the subscriptions inside them.

A subscription is echoed, and named in errors, as the venue spells it: its own fields in its own order, addresses in
lower case, what was left out with its default. Spelled so, it is also its identity. Source: Hyperliquid docs,
WebSocket; recorded messages for the order of the fields and their defaults.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinleg.paper import schema

Json = Any
compact = json.JSONEncoder(separators=(",", ":")).encode


class Unparsable(Exception):
    """A message that is not JSON, or not a message of this protocol."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One stream. ``text`` is the whole of it as the venue spells it; equal ``key``, same stream."""

    text: str
    key: str
    kind: str
    coin: str | None = None
    user: str | None = None
    interval: str | None = None
    dex: str | None = None
    significant: int | None = None
    mantissa: int | None = None
    fast: bool = False
    aggregated: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """The client wants a ``pong``."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Begin a stream, or end it (``begins`` false)."""

    subscription: Subscription
    begins: bool


@dataclass(frozen=True, slots=True)
class Post:
    """A request of ``/info`` or ``/exchange`` (``is_action``) sent over the socket."""

    ident: int
    is_action: bool
    payload: Json


Message = Ping | Subscribe | Post


def _text(value: Json) -> Json:
    if type(value) is not str:
        raise Unparsable
    return value


def _address(value: Json) -> Json:
    if not schema.is_address(value):
        raise Unparsable
    return "0x" + str(value).lower().removeprefix("0x")


def _optional(kind: type) -> Callable[[Json], Json]:
    def read(value: Json) -> Json:
        if value is not None and type(value) is not kind:
            raise Unparsable
        return value

    return read


def _flag(value: Json) -> Json:
    if value is not None and type(value) is not bool:
        raise Unparsable
    return value is True


Field = tuple[str, str, Callable[[Json], Json]]
_COIN: Field = ("coin", "coin", _text)
_USER: Field = ("user", "user", _address)
_DEX: Field = ("dex", "dex", _optional(str))

FIELDS: dict[str, tuple[Field, ...]] = {
    "allMids": (_DEX,),
    "candle": (_COIN, ("interval", "interval", _text)),
    "l2Book": (
        _COIN,
        ("nSigFigs", "significant", _optional(int)),
        ("mantissa", "mantissa", _optional(int)),
        ("fast", "fast", _flag),
    ),
    "trades": (_COIN,),
    "bbo": (_COIN,),
    "activeAssetCtx": (_COIN,),
    "activeAssetData": (_USER, _COIN),
    "orderUpdates": (_USER,),
    "userFills": (_USER, ("aggregateByTime", "aggregated", _flag)),
    "userEvents": (_USER,),
    "userFundings": (_USER,),
    "userNonFundingLedgerUpdates": (_USER,),
    "webData2": (_USER,),
    "clearinghouseState": (_USER, _DEX),
    "spotState": (_USER, ("isPortfolioMargin", "", _optional(bool))),
    "openOrders": (_USER, _DEX),
    **dict.fromkeys(
        (
            *("userHistoricalOrders", "userTwapHistory", "userTwapSliceFills", "notification"),
            *("allDexsClearinghouseState", "webData3"),
        ),
        (_USER,),
    ),
    "twapStates": (_USER, _DEX),
    "assetCtxs": (_DEX,),
    "allDexsAssetCtxs": (),
    "spotAssetCtxs": (),
    "fastAssetCtxs": (),
}
"""Per stream its fields as (name on the wire, name here, reader), in the venue's order."""


def message_of(text: str) -> Message:
    """What a client sent; Unparsable where the venue could not read it either."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise Unparsable from None
    method = frame.get("method") if type(frame) is dict else None
    if method == "ping":
        return Ping()
    if method in ("subscribe", "unsubscribe"):
        return Subscribe(subscription_of(frame.get("subscription")), method == "subscribe")
    if method == "post":
        return _post(frame)
    raise Unparsable


def _post(frame: Json) -> Post:
    ident, request = frame.get("id"), frame.get("request")
    if type(ident) is not int or ident < 0 or type(request) is not dict or "payload" not in request:
        raise Unparsable
    if request.get("type") not in ("info", "action"):
        raise Unparsable
    return Post(ident, request["type"] == "action", request["payload"])


def subscription_of(raw: Json) -> Subscription:
    """A subscription from its JSON; Unparsable for an unknown stream, a missing field or one of the wrong kind."""
    fields = FIELDS.get(raw["type"]) if type(raw) is dict and type(raw.get("type")) is str else None
    if fields is None:
        raise Unparsable
    spelled: dict[str, Json] = {"type": raw["type"]}
    known: dict[str, Json] = {}
    for wire, name, read in fields:
        spelled[wire] = value = read(raw.get(wire))
        if name:
            known[name] = value
    if raw["type"] != "allMids" and known.get("dex") == "":
        same = {**spelled, "dex": None}
    else:
        same = spelled
    return Subscription(compact(spelled), compact(same), raw["type"], **known)
