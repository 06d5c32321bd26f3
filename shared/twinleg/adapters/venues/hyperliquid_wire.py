"""Actions as Hyperliquid signs and reads them. Numbers go straight from Decimal to text; floats never occur.

The signing itself is the official SDK's. Key order inside an action is part of what is signed
(Source: Hyperliquid docs, signing; SDK 0.24.0, ``hyperliquid.utils.signing``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Protocol

from eth_account import Account
from hyperliquid.utils.signing import order_wires_to_order_action, sign_agent, sign_l1_action

from twinleg.domain.errors import BadInput
from twinleg.domain.markets import MarketRules
from twinleg.domain.money import plain
from twinleg.domain.orders import Grouping, OrderKind, OrderRequest, Side
from twinleg.engine.ports import AddMargin, CancelOrders, Noop, PlaceEntry, PlaceReduction, SetLeverage, VenueAction

Wire = dict[str, Any]
RulesOf = Callable[[str], MarketRules]

GROUPINGS = {Grouping.NONE: "na", Grouping.WITH_PARENT: "normalTpsl", Grouping.POSITION: "positionTpsl"}
LIMIT_TIF = {OrderKind.MARKET: "Ioc", OrderKind.LIMIT: "Gtc"}
TRIGGER_KIND = {OrderKind.STOP: "sl", OrderKind.TARGET: "tp"}
ITEMS_MAX = 200
"""Orders or cancels in one action: beyond it the venue refuses all of them."""
USDC_UNIT = Decimal(1_000_000)

CLIENT_ORDER_ID = re.compile(r"0x[0-9a-f]{32}")
PRIVATE_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")


class Signer(Protocol):
    """A key in memory. Only its address may be shown."""

    address: str

    def sign_message(self, signable_message: Any) -> Any: ...


def signer_from(secret: str, name: str) -> Signer:
    """The signer of a private key. Errors name the secret and never carry any of it."""
    key = secret.strip()
    wallet: Signer | None = None
    if PRIVATE_KEY.fullmatch(key):
        try:
            wallet = Account.from_key(key)
        except Exception:  # whatever it says may quote the key
            wallet = None
    if wallet is None:
        raise BadInput(f"secret {name} must be a private key: 64 hexadecimal digits of a number on the curve")
    return wallet


def signed_body(
    wallet: Signer, action: Wire, *, vault: str | None, nonce: int, expires_ms: int | None, mainnet: bool
) -> str:
    """The request's exact text: the action, its nonce and a signature over both, ready to be stored and sent."""
    signature = sign_l1_action(wallet, action, vault, nonce, expires_ms, mainnet)
    return _body(action, nonce, signature, vault, expires_ms)


def agent_approval_body(wallet: Signer, agent_address: str, name: str, *, nonce: int) -> str:
    """An owner's approval of an agent key on a test network; an unnamed agent's name is signed as ''."""
    action = {"type": "approveAgent", "agentAddress": agent_address, "agentName": name, "nonce": nonce}
    signature = sign_agent(wallet, action, False)
    if not name:
        del action["agentName"]
    return _body(action, nonce, signature, None, None)


def _body(action: Wire, nonce: int, signature: Wire, vault: str | None, expires_ms: int | None) -> str:
    return json.dumps(
        {
            "action": action,
            "nonce": nonce,
            "signature": signature,
            "vaultAddress": vault,
            "expiresAfter": expires_ms,
        },
        separators=(",", ":"),
    )


def expected_answer(body: str, orders: int) -> tuple[int, str]:
    """(parts, type) an answer to this body must have; *orders* and any type when the body is not one of ours."""
    try:
        action = json.loads(body)["action"]
        match action["type"]:
            case "order":
                return len(action["orders"]), "order"
            case "cancel" | "cancelByCloid":
                return len(action["cancels"]), "cancel"
            case _:
                return 1, "default"
    except (ValueError, KeyError, TypeError):
        return orders, ""


# -- actions -------------------------------------------------------------------------------------


def action_wire(action: VenueAction, rules_of: RulesOf) -> Wire:
    """The action in the form that is signed. BadInput when it breaks tick, lot, leverage or a limit of the venue."""
    match action:
        case PlaceEntry() | PlaceReduction():
            return _orders(action.orders, action.grouping, rules_of)
        case CancelOrders():
            return _cancels(action, rules_of(action.market).asset)
        case SetLeverage():
            return _leverage(action, rules_of(action.market))
        case AddMargin():
            return _margin(action, rules_of(action.market).asset)
        case Noop():
            return {"type": "noop"}


def _orders(orders: Sequence[OrderRequest], grouping: Grouping, rules_of: RulesOf) -> Wire:
    _require_count(len(orders), "orders")
    wires = [order_wire(order, rules_of(order.market)) for order in orders]
    action: Wire = order_wires_to_order_action(wires, None, GROUPINGS[grouping])
    return action


def order_wire(order: OrderRequest, rules: MarketRules) -> Wire:
    """One order in the venue's form; BadInput when a number would have to be rounded."""
    return {
        "a": rules.asset,
        "b": order.side is Side.BUY,
        "p": _price(order.limit_price, rules, "limit_price"),
        "s": _size(order.size, rules),
        "r": order.reduce_only,
        "t": _order_type(order, rules),
        "c": _client_order_id(order.client_order_id),
    }


def _order_type(order: OrderRequest, rules: MarketRules) -> Wire:
    if order.kind in LIMIT_TIF:
        if order.trigger_price is not None:
            raise BadInput(f"{order.market}: a {order.kind} order has no trigger_price, was {order.trigger_price}")
        return {"limit": {"tif": LIMIT_TIF[order.kind]}}
    if order.trigger_price is None:
        raise BadInput(f"{order.market}: a {order.kind} order needs a trigger_price")
    if not order.reduce_only:
        raise BadInput(f"{order.market}: a {order.kind} order must be reduce_only")
    trigger = _price(order.trigger_price, rules, "trigger_price")
    return {"trigger": {"isMarket": True, "triggerPx": trigger, "tpsl": TRIGGER_KIND[order.kind]}}


def _price(price: Decimal, rules: MarketRules, field: str) -> str:
    if price <= 0:
        raise BadInput(f"{rules.market}: {field} must be above 0, was {price}")
    valid = rules.price(price, up=False)
    if valid != price:
        raise BadInput(f"{rules.market}: {field} {plain(price)} is off the tick; the price below it is {plain(valid)}")
    return plain(price)


def _size(size: Decimal, rules: MarketRules) -> str:
    if size <= 0:
        raise BadInput(f"{rules.market}: size must be above 0, was {size}")
    if rules.size(size) != size:
        raise BadInput(f"{rules.market}: size {plain(size)} is not a multiple of the lot {plain(rules.lot)}")
    return plain(size)


def _client_order_id(given: str) -> str:
    if not CLIENT_ORDER_ID.fullmatch(given):
        raise BadInput(f"client_order_id must be 0x and 32 lower-case hexadecimal digits, was {given!r}")
    return given


def _cancels(action: CancelOrders, asset: int) -> Wire:
    if bool(action.client_order_ids) == bool(action.order_ids):
        raise BadInput(f"cancel on {action.market} needs client_order_ids or order_ids, and not both in one action")
    _require_count(len(action.client_order_ids) + len(action.order_ids), "cancels")
    if action.client_order_ids:
        by_client = [{"asset": asset, "cloid": _client_order_id(id)} for id in action.client_order_ids]
        return {"type": "cancelByCloid", "cancels": by_client}
    return {"type": "cancel", "cancels": [{"a": asset, "o": _order_id(id)} for id in action.order_ids]}


def _order_id(given: str) -> int:
    if not (given.isascii() and given.isdigit()):
        raise BadInput(f"order_id must be the venue's number, was {given!r}")
    return int(given)


def _leverage(action: SetLeverage, rules: MarketRules) -> Wire:
    if not 1 <= action.leverage <= rules.max_leverage:
        raise BadInput(f"{action.market}: leverage must be 1 to {rules.max_leverage}, was {action.leverage}")
    if rules.only_isolated and not action.isolated:
        raise BadInput(f"{action.market}: the venue allows isolated margin only")
    return {
        "type": "updateLeverage",
        "asset": rules.asset,
        "isCross": not action.isolated,
        "leverage": action.leverage,
    }


def _margin(action: AddMargin, asset: int) -> Wire:
    units = action.usd * USDC_UNIT
    if not action.usd.is_finite() or units <= 0 or units != units.to_integral_value():
        raise BadInput(f"{action.market}: usd must be above 0 with at most 6 decimals, was {action.usd}")
    return {"type": "updateIsolatedMargin", "asset": asset, "isBuy": True, "ntli": int(units)}


def _require_count(count: int, what: str) -> None:
    if not 1 <= count <= ITEMS_MAX:
        raise BadInput(f"{what} in one action must be 1 to {ITEMS_MAX}, were {count}")
