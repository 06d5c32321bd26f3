"""Cancelling and modifying orders."""

from __future__ import annotations

from typing import Any

from twinleg.paper import matching
from twinleg.paper.accounts import Account
from twinleg.paper.checks import FormError, Refusal, check_children, formed
from twinleg.paper.desk import Interference, Status, place_one
from twinleg.paper.orders import Order
from twinleg.paper.state import State

NEVER_PLACED = "Order was never placed, already canceled, or filled."


def cancel(state: State, order: Order | None, asset: int, fast: bool = False) -> Status:
    """Cancel one order, with its waiting children. A fast cancel may not name a trigger order."""
    market = state.by_asset.get(asset)
    if fast and order is not None and order.live and order.phase == "trigger":
        return {"error": f"Trigger orders cannot be canceled with the fast flag. asset={asset}"}
    if order is None or not order.live or market is None or order.coin != market.coin:
        return {"error": f"{NEVER_PLACED} asset={asset}"}
    matching.finish(state, order, "canceled")
    return "success"


def find(account: Account, ident: int | str) -> Order | None:
    """The account's order with this id, or the newest one with this client order id."""
    return account.known.get(ident) if isinstance(ident, int) else account.cloids.get(ident)


def modify(
    state: State, account: Account, ident: int | str, wire: dict[str, Any], always: bool, interference: Interference
) -> Status:
    """Cancel and place anew: another oid, the back of the queue, the same place in its group.

    A parent's waiting children go with the old order; a child that still waits is replaced where it waits.
    By the 2026 rule (a switch) ``always`` places the new order even when the old one is over, and without it the new
    one must be a limit order, which is then post-only.
    """
    old = find(account, ident)
    gone = old is None or not old.live
    if gone and not (always and state.switches.modify_always_place_rule):
        return {"error": "Cannot modify canceled or filled order"}
    if state.switches.modify_always_place_rule and not always:
        if "trigger" in wire["t"]:
            return {"error": "Cannot modify into a trigger order."}
        wire = {**wire, "t": {"limit": {"tif": "Alo"}}}
    try:
        order = formed(state, account, wire, None)
    except FormError as error:
        return {"error": str(error)}
    if old is None or not old.live:
        return place_one(state, order, interference)
    if old.phase == "child":
        return _replace_child(state, account, old, order)
    order.follows_position = old.follows_position and order.is_trigger and order.reduce_only
    _withdraw(state, account, old)
    status = place_one(state, order, interference)
    failed = isinstance(status, dict) and "error" in status
    if failed and state.switches.modify_keeps_old_when_rejected:
        _reinstate(state, account, old)
        return status
    if not failed:
        _take_over(old, order)
    if old.cloid is not None:
        account.cloids.setdefault(old.cloid, old)
    matching.finish(state, old, "canceled")
    return status


def _take_over(old: Order, order: Order) -> None:
    """The new order stands where the old one stood among its siblings."""
    if not order.reduce_only:
        return
    order.parent, order.siblings = old.parent, [s for s in old.siblings if s.live]
    for sibling in order.siblings:
        sibling.siblings = [order if s is old else s for s in sibling.siblings]
    old.siblings = []


def _replace_child(state: State, account: Account, old: Order, order: Order) -> Status:
    parent = old.parent
    market = state.markets[old.coin]
    if parent is None or order.coin != old.coin or not (order.is_trigger and order.reduce_only):
        return {"error": "Invalid TP/SL order."}
    order.oid = state.new_oid()
    try:
        check_children(state, market, parent, [order])
    except Refusal as refusal:
        state.admit(order)
        state.set_status(order, refusal.status)
        return {"error": f"{refusal} asset={market.listing.asset}"}
    order.phase = "child"
    parent.children = [order if c is old else c for c in parent.children]
    _take_over(old, order)
    matching.finish(state, old, "canceled")
    state.admit(order)
    account.orders[order.oid] = order
    state.set_status(order, "open")
    return "waitingForFill"


def _withdraw(state: State, account: Account, order: Order) -> None:
    market = state.markets[order.coin]
    market.book.remove(order)
    market.triggers.pop(order.oid, None)
    account.orders.pop(order.oid, None)
    if order.cloid is not None and account.cloids.get(order.cloid) is order:
        del account.cloids[order.cloid]


def _reinstate(state: State, account: Account, order: Order) -> None:
    market = state.markets[order.coin]
    account.orders[order.oid] = order
    if order.cloid is not None:
        account.cloids[order.cloid] = order
    if order.phase == "book":
        market.book.add(order)
    elif order.phase == "trigger":
        market.triggers[order.oid] = None
