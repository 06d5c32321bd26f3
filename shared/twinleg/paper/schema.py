"""Which request bodies the venue can read at all. What it cannot is answered 422 before anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], bool]

_NUMBER = re.compile(r"\d+(\.\d+)?")
_CLOID = re.compile(r"(0[xX])?[0-9a-fA-F]{32}")
_ADDRESS = re.compile(r"(0[xX])?[0-9a-fA-F]{40}")
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,64}")
_CHAIN_ID = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
DECIMALS_MAX = 8
TIFS = ("Gtc", "Ioc", "Alo", "FrontendMarket")
GROUPINGS = ("na", "normalTpsl", "positionTpsl")


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_uint(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 64


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return type(value) is str


def is_address(value: Any) -> bool:
    """40 hex digits, with or without 0x."""
    return type(value) is str and _ADDRESS.fullmatch(value) is not None


def _is_cloid(value: Any) -> bool:
    return type(value) is str and _CLOID.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    """Plain decimal text with at most 8 decimals that are not trailing zeros."""
    if type(value) is not str or _NUMBER.fullmatch(value) is None or len(value) > 40:
        return False
    _, _, decimals = value.partition(".")
    return len(decimals.rstrip("0")) <= DECIMALS_MAX


def _is_ident(value: Any) -> bool:
    return _is_uint(value) or _is_cloid(value)


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _one_of(*values: str) -> Check:
    return lambda value: type(value) is str and value in values


def _is_order_kind(value: Any) -> bool:
    if type(value) is not dict or len(value) != 1:
        return False
    if "limit" in value:
        limit = value["limit"]
        return type(limit) is dict and limit.get("tif") in TIFS
    trigger = value.get("trigger")
    return (
        type(trigger) is dict
        and _is_bool(trigger.get("isMarket"))
        and _is_number(trigger.get("triggerPx"))
        and trigger.get("tpsl") in ("tp", "sl")
    )


def _is_wire(value: Any) -> bool:
    return (
        type(value) is dict
        and _is_uint(value.get("a"))
        and _is_bool(value.get("b"))
        and _is_number(value.get("p"))
        and _is_number(value.get("s"))
        and _is_bool(value.get("r"))
        and _is_order_kind(value.get("t"))
        and (value.get("c") is None or _is_cloid(value["c"]))
    )


def _list_of(check: Check) -> Check:
    return lambda value: type(value) is list and all(check(item) for item in value)


def _is_cancel(value: Any) -> bool:
    return type(value) is dict and _is_uint(value.get("a")) and _is_uint(value.get("o"))


def _is_cancel_by_cloid(value: Any) -> bool:
    return type(value) is dict and _is_uint(value.get("asset")) and _is_cloid(value.get("cloid"))


def _is_modify(value: Any) -> bool:
    return type(value) is dict and _is_ident(value.get("oid")) and _is_wire(value.get("order"))


def _is_builder(value: Any) -> bool:
    return type(value) is dict and is_address(value.get("b")) and _is_uint(value.get("f"))


def _is_grouping(value: Any) -> bool:
    """A name, or ``{"p": n}``: a priority fee of n, which orders as ``na`` does."""
    if type(value) is str:
        return value in GROUPINGS
    return type(value) is dict and set(value) == {"p"} and _is_uint(value["p"])


def _is_twap(value: Any) -> bool:
    return (
        type(value) is dict
        and _is_uint(value.get("a"))
        and _is_bool(value.get("b"))
        and _is_number(value.get("s"))
        and _is_bool(value.get("r"))
        and _is_uint(value.get("m"))
        and _is_bool(value.get("t"))
    )


def _is_address_or_empty(value: Any) -> bool:
    return value == "" or is_address(value)


_SEND: dict[str, Check] = {
    "destination": is_address,
    "sourceDex": _is_text,
    "destinationDex": _is_text,
    "token": _is_text,
    "amount": _is_number,
    "fromSubAccount": _is_address_or_empty,
    "nonce": _is_uint,
}


_SIGNED: dict[str, Check] = {
    "signatureChainId": lambda v: type(v) is str and _CHAIN_ID.fullmatch(v) is not None,
    "hyperliquidChain": _one_of("Mainnet", "Testnet"),
}
_ACTIONS: dict[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "order": ({"orders": _list_of(_is_wire), "grouping": _is_grouping}, {"builder": _optional(_is_builder)}),
    "cancel": ({"cancels": _list_of(_is_cancel)}, {"f": _is_bool}),
    "cancelByCloid": ({"cancels": _list_of(_is_cancel_by_cloid)}, {"f": _is_bool}),
    "modify": ({"oid": _is_ident, "order": _is_wire}, {"a": _is_bool}),
    "batchModify": ({"modifies": _list_of(_is_modify)}, {"a": _is_bool}),
    "scheduleCancel": ({}, {"time": _optional(_is_uint)}),
    "updateLeverage": ({"asset": _is_uint, "isCross": _is_bool, "leverage": _is_uint}, {}),
    "updateIsolatedMargin": ({"asset": _is_uint, "isBuy": _is_bool, "ntli": _is_int}, {}),
    "topUpIsolatedOnlyMargin": ({"asset": _is_uint, "leverage": _is_number}, {}),
    "createSubAccount": ({"name": _is_text}, {}),
    "subAccountModify": ({"subAccountUser": is_address, "name": _is_text}, {}),
    "subAccountTransfer": ({"subAccountUser": is_address, "isDeposit": _is_bool, "usd": _is_uint}, {}),
    "subAccountSpotTransfer": (
        {"subAccountUser": is_address, "isDeposit": _is_bool, "token": _is_text, "amount": _is_number},
        {},
    ),
    "agentSendAsset": (_SEND, {}),
    "agentSetAbstraction": ({"abstraction": _one_of("i", "u", "p")}, {}),
    "agentEnableDexAbstraction": ({}, {}),
    "vaultTransfer": ({"vaultAddress": is_address, "isDeposit": _is_bool, "usd": _is_uint}, {}),
    "reserveRequestWeight": ({"weight": _is_uint}, {"destination": _optional(is_address)}),
    "twapOrder": ({"twap": _is_twap}, {}),
    "twapCancel": ({"a": _is_uint, "t": _is_uint}, {}),
    "setReferrer": ({"code": _is_text}, {}),
    "noop": ({}, {}),
    "usdSend": ({"destination": is_address, "amount": _is_number, "time": _is_uint, **_SIGNED}, {}),
    "withdraw3": ({"destination": is_address, "amount": _is_number, "time": _is_uint, **_SIGNED}, {}),
    "spotSend": (
        {"destination": is_address, "token": _is_text, "amount": _is_number, "time": _is_uint, **_SIGNED},
        {},
    ),
    "sendAsset": ({**_SEND, **_SIGNED}, {}),
    "usdClassTransfer": ({"amount": _is_text, "toPerp": _is_bool, "nonce": _is_uint, **_SIGNED}, {}),
    "approveAgent": (
        {"agentAddress": is_address, "nonce": _is_uint, **_SIGNED},
        {"agentName": _optional(_is_text)},
    ),
    "approveBuilderFee": ({"maxFeeRate": _is_text, "builder": is_address, "nonce": _is_uint, **_SIGNED}, {}),
    "userSetAbstraction": ({"user": is_address, "abstraction": _is_text, "nonce": _is_uint, **_SIGNED}, {}),
    "userDexAbstraction": ({"user": is_address, "enabled": _is_bool, "nonce": _is_uint, **_SIGNED}, {}),
}
_ENVELOPE = frozenset(("action", "nonce", "signature", "vaultAddress", "expiresAfter"))


def _is_signature(value: Any) -> bool:
    return (
        type(value) is dict
        and all(type(value.get(k)) is str and _HEX.fullmatch(value[k]) is not None for k in ("r", "s"))
        and value.get("v") in (0, 1, 27, 28)
    )


def is_exchange_request(body: Any) -> bool:
    """Whether a body can be read as a request to /exchange.

    Unknown fields in the envelope or the action are refused; inside an order or the signature they are ignored.
    """
    return (
        type(body) is dict
        and set(body) <= _ENVELOPE
        and _is_uint(body.get("nonce"))
        and _is_signature(body.get("signature"))
        and (body.get("vaultAddress") is None or is_address(body["vaultAddress"]))
        and (body.get("expiresAfter") is None or _is_uint(body["expiresAfter"]))
        and is_action(body.get("action"))
    )


def is_action(action: Any) -> bool:
    """Whether an action is of a known type with the fields of that type."""
    if type(action) is not dict or type(action.get("type")) is not str:
        return False
    known = _ACTIONS.get(action["type"])
    if known is None:
        return False
    required, optional = known
    for name, check in required.items():
        if name not in action or not check(action[name]):
            return False
    for name, value in action.items():
        if name == "type" or name in required:
            continue
        if name not in optional or not optional[name](value):
            return False
    return True
