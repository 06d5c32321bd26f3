"""Who signed a request: the address recovered from its signature.

Trading actions are signed over a hash of the msgpack form of the action, the nonce, the vault and the expiry, wrapped
in an EIP-712 ``Agent``; money and permission actions are EIP-712 messages of their own. The action is first brought to
the venue's canonical form: fixed key order, numbers without trailing zeros, lower-case ids.
Source: hyperliquid-python-sdk (signing) and its published vectors.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

import msgpack
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

from twinleg.domain.money import plain

ZERO_ADDRESS = "0x" + "00" * 20
_DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]
_CHAIN = ("hyperliquidChain", "string")
_AMOUNT = ("amount", "string")
_NONCE = ("nonce", "uint64")
_TIME = ("time", "uint64")
_DESTINATION = ("destination", "string")
_TOKEN = ("token", "string")
_DEXES = (("sourceDex", "string"), ("destinationDex", "string"))

USER_SIGNED: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "usdSend": ("UsdSend", (_CHAIN, _DESTINATION, _AMOUNT, _TIME)),
    "withdraw3": ("Withdraw", (_CHAIN, _DESTINATION, _AMOUNT, _TIME)),
    "spotSend": ("SpotSend", (_CHAIN, _DESTINATION, _TOKEN, _AMOUNT, _TIME)),
    "sendAsset": (
        "SendAsset",
        (_CHAIN, _DESTINATION, *_DEXES, _TOKEN, _AMOUNT, ("fromSubAccount", "string"), _NONCE),
    ),
    "usdClassTransfer": ("UsdClassTransfer", (_CHAIN, _AMOUNT, ("toPerp", "bool"), _NONCE)),
    "approveAgent": ("ApproveAgent", (_CHAIN, ("agentAddress", "address"), ("agentName", "string"), _NONCE)),
    "approveBuilderFee": ("ApproveBuilderFee", (_CHAIN, ("maxFeeRate", "string"), ("builder", "address"), _NONCE)),
    "userSetAbstraction": (
        "UserSetAbstraction",
        (_CHAIN, ("user", "address"), ("abstraction", "string"), _NONCE),
    ),
    "userDexAbstraction": ("UserDexAbstraction", (_CHAIN, ("user", "address"), ("enabled", "bool"), _NONCE)),
}
"""Actions only the owner's key may sign: type -> (EIP-712 type, fields in order)."""

_ORDER_KEYS = ("a", "b", "p", "s", "r", "t", "c")
_KEYS: dict[str, tuple[str, ...]] = {
    "order": ("type", "orders", "grouping", "builder"),
    "cancel": ("type", "cancels", "f"),
    "cancelByCloid": ("type", "cancels", "f"),
    "modify": ("type", "oid", "order", "a"),
    "batchModify": ("type", "modifies", "a"),
    "scheduleCancel": ("type", "time"),
    "updateLeverage": ("type", "asset", "isCross", "leverage"),
    "updateIsolatedMargin": ("type", "asset", "isBuy", "ntli"),
    "topUpIsolatedOnlyMargin": ("type", "asset", "leverage"),
    "createSubAccount": ("type", "name"),
    "subAccountModify": ("type", "subAccountUser", "name"),
    "subAccountTransfer": ("type", "subAccountUser", "isDeposit", "usd"),
    "subAccountSpotTransfer": ("type", "subAccountUser", "isDeposit", "token", "amount"),
    "agentSendAsset": (
        *("type", "destination", "sourceDex", "destinationDex", "token", "amount", "fromSubAccount", "nonce"),
    ),
    "agentSetAbstraction": ("type", "abstraction"),
    "agentEnableDexAbstraction": ("type",),
    "vaultTransfer": ("type", "vaultAddress", "isDeposit", "usd"),
    "reserveRequestWeight": ("type", "weight", "destination"),
    "twapOrder": ("type", "twap"),
    "twapCancel": ("type", "a", "t"),
    "setReferrer": ("type", "code"),
    "noop": ("type",),
}
"""Canonical key order of the actions an agent may sign."""
_TWAP_KEYS = ("a", "b", "s", "r", "m", "t")
_LEFT_OUT_WHEN_UNSET = frozenset(("builder", "time", "destination"))
_FLAGS = {"f": ("cancel", "cancelByCloid"), "a": ("modify", "batchModify")}
"""Flags that a signed action leaves out when they are false."""
_ADDRESSES = ("subAccountUser", "vaultAddress", "destination")


def canonical(action: dict[str, Any]) -> dict[str, Any]:
    """The action as the venue hashes it: what is unset, and a flag that is false, is left out.

    Amounts of money stay as they were sent: the Python SDK hashes ``str(20.0)``.
    """
    kind = action["type"]
    out = {key: action[key] for key in _KEYS.get(kind, tuple(action)) if key in action}
    for key in _LEFT_OUT_WHEN_UNSET:
        if key in out and out[key] is None:
            del out[key]
    for flag, kinds in _FLAGS.items():
        if kind in kinds and out.get(flag) is False:
            del out[flag]
    if "orders" in out:
        out["orders"] = [_wire(order) for order in out["orders"]]
    if "order" in out:
        out["order"] = _wire(out["order"])
    if "modifies" in out:
        out["modifies"] = [{"oid": _ident(m["oid"]), "order": _wire(m["order"])} for m in out["modifies"]]
    if "cancels" in out:
        out["cancels"] = [_cancel(cancel) for cancel in out["cancels"]]
    if "builder" in out:
        out["builder"] = {"b": _hex(out["builder"]["b"]), "f": out["builder"]["f"]}
    if "oid" in out:
        out["oid"] = _ident(out["oid"])
    for key in _ADDRESSES:
        if key in out:
            out[key] = _hex(out[key])
    if "twap" in out:
        out["twap"] = {key: out["twap"][key] for key in _TWAP_KEYS if key in out["twap"]}
        out["twap"]["s"] = _number(out["twap"]["s"])
    if kind == "topUpIsolatedOnlyMargin":
        out["leverage"] = _number(out["leverage"])
    if out.get("fromSubAccount"):
        out["fromSubAccount"] = _hex(out["fromSubAccount"])
    return out


def _wire(order: dict[str, Any]) -> dict[str, Any]:
    out = {key: order[key] for key in _ORDER_KEYS if key in order}
    out["p"], out["s"] = _number(out["p"]), _number(out["s"])
    kind = out["t"]
    if "limit" in kind:
        out["t"] = {"limit": {"tif": kind["limit"]["tif"]}}
    else:
        trigger = kind["trigger"]
        price = _number(trigger["triggerPx"])
        out["t"] = {"trigger": {"isMarket": trigger["isMarket"], "triggerPx": price, "tpsl": trigger["tpsl"]}}
    if out.get("c") is None:
        out.pop("c", None)
    else:
        out["c"] = _hex(out["c"])
    return out


def _cancel(cancel: dict[str, Any]) -> dict[str, Any]:
    if "cloid" in cancel:
        return {"asset": cancel["asset"], "cloid": _hex(cancel["cloid"])}
    return {"a": cancel["a"], "o": cancel["o"]}


def _ident(value: int | str) -> int | str:
    return value if isinstance(value, int) else _hex(value)


def _hex(value: str) -> str:
    lower = value.lower()
    return lower if lower.startswith("0x") else "0x" + lower


def _number(value: str) -> str:
    return plain(Decimal(value))


def address_bytes(address: str) -> bytes:
    """20 bytes of an address, with or without 0x."""
    raw = bytes.fromhex(address[2:] if address[:2].lower() == "0x" else address)
    if len(raw) != 20:
        raise ValueError(f"an address has 20 bytes, {address!r} has {len(raw)}")
    return raw


def connection_id(action: dict[str, Any], nonce: int, vault: str | None, expires_ms: int | None) -> bytes:
    """The hash a trading action is signed over (the ``connectionId`` of the phantom agent)."""
    data = msgpack.packb(action) + nonce.to_bytes(8, "big")
    data += b"\x00" if vault is None else b"\x01" + address_bytes(vault)
    if expires_ms is not None:
        data += b"\x00" + expires_ms.to_bytes(8, "big")
    return bytes(keccak(data))


@cache
def _l1_constants() -> tuple[bytes, bytes, bytes, bytes]:
    domain_type = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    domain = keccak(keccak(domain_type) + keccak(b"Exchange") + keccak(b"1") + (1337).to_bytes(32, "big") + bytes(32))
    return domain, keccak(b"Agent(string source,bytes32 connectionId)"), keccak(b"a"), keccak(b"b")


def _l1_digest(connection: bytes, mainnet: bool) -> bytes:
    domain, agent, source_main, source_test = _l1_constants()
    struct = keccak(agent + (source_main if mainnet else source_test) + connection)
    return bytes(keccak(b"\x19\x01" + domain + struct))


def _user_digest(action: dict[str, Any]) -> bytes:
    from eth_account.messages import encode_typed_data  # takes as long to import as the rest of the venue

    name, fields = USER_SIGNED[action["type"]]
    primary = "HyperliquidTransaction:" + name
    message = {key: (action.get(key) or "") if key == "agentName" else action[key] for key, _ in fields}
    signable = encode_typed_data(
        full_message={
            "domain": {
                "name": "HyperliquidSignTransaction",
                "version": "1",
                "chainId": int(action["signatureChainId"], 16),
                "verifyingContract": ZERO_ADDRESS,
            },
            "types": {primary: [{"name": n, "type": t} for n, t in fields], "EIP712Domain": _DOMAIN_FIELDS},
            "primaryType": primary,
            "message": message,
        }
    )
    return bytes(keccak(b"\x19" + signable.version + signable.header + signable.body))


def _recover(digest: bytes, signature: dict[str, Any]) -> str:
    v = signature["v"] - 27 if signature["v"] >= 27 else signature["v"]
    parts = (v, int(signature["r"], 16), int(signature["s"], 16))
    return str(Signature(vrs=parts).recover_public_key_from_msg_hash(digest).to_address())


def recover(body: dict[str, Any], mainnet: bool) -> str | None:
    """The lower-case address that signed this request body; None when no key can have."""
    try:
        return _signer_of(json.dumps(body), mainnet)
    except (TypeError, ValueError):
        return None


@lru_cache(maxsize=256)
def _signer_of(text: str, mainnet: bool) -> str | None:
    """Of a body as JSON: the same one is asked for more than once."""
    body = json.loads(text)
    action = body["action"]
    try:
        if action["type"] in USER_SIGNED:
            digest = _user_digest(action)
        else:
            connection = connection_id(
                canonical(action), body["nonce"], body.get("vaultAddress"), body.get("expiresAfter")
            )
            digest = _l1_digest(connection, mainnet)
        return _recover(digest, body["signature"])
    except (BadSignature, ValidationError, ValueError, OverflowError, TypeError):
        return None
