"""What each signed action does, once its signer, nonce and expiry were accepted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twinleg.paper import agents, changes, desk, limits, margins, matching, transfers, twaps
from twinleg.paper.accounts import UNIFIED, Account
from twinleg.paper.desk import Interference
from twinleg.paper.market import DAY_MS
from twinleg.paper.numbers import rounded, text
from twinleg.paper.refusals import Refused
from twinleg.paper.state import State
from twinleg.paper.transfers import lower, own_sub_account

SUB_ACCOUNTS = 10
SUB_ACCOUNTS_MAX = 50
VOLUME_PER_SUB_ACCOUNT = 100_000_000
SCHEDULE_AHEAD_MS = 5_000
SCHEDULES_A_DAY = 10
BUILDER_FEE_MAX = 100
"""In tenths of a basis point: 0.1 % on perpetuals. Source: Hyperliquid docs, builder codes."""
MODES = {"i": "disabled", "u": "unifiedAccount", "p": "portfolioMargin"}
"""Account modes by the letter with which an agent sets them."""

Answer = dict[str, Any]


def run(state: State, account: Account, action: dict[str, Any], interference: Interference) -> Answer:
    """Carry out one action for the account it acts on. Raises Refused with the venue's text."""
    kind = action["type"]
    state.actions[kind] = state.actions.get(kind, 0) + 1
    spent = limits.batch(action)
    account.requests += spent
    handler = _HANDLERS.get(kind)
    try:
        if handler is not None:
            return handler(state, account, action, interference)
        _SIMPLE[kind](state, account, action)
    except Refused:
        account.requests -= spent  # measured: a refused action costs no part of the budget
        raise
    return {"type": "default"}


def _check_batch(state: State, action: dict[str, Any]) -> None:
    limit = state.switches.batch_max
    if limits.batch(action) > limit:
        raise Refused(f"Signed action over weight limit of {limit}.")


def _statuses(kind: str, statuses: list[desk.Status]) -> Answer:
    return {"type": kind, "data": {"statuses": statuses}}


def _order(state: State, account: Account, action: dict[str, Any], interference: Interference) -> Answer:
    _check_batch(state, action)
    builder = action.get("builder")
    if builder is not None and not _approved(state, account, builder):
        raise Refused("Builder fee has not been approved.")
    grouping = action["grouping"] if isinstance(action["grouping"], str) else "na"
    wires = [_clean(wire) for wire in action["orders"]]
    return _statuses("order", desk.place(state, account, wires, grouping, builder, interference))


def _approved(state: State, account: Account, builder: dict[str, Any]) -> bool:
    """Whether the account allows this builder that much; a sub-account shares its master's approvals."""
    owner = account if account.master is None else state.accounts[account.master]
    rate = owner.builders.get(lower(builder["b"]))
    return rate is not None and builder["f"] <= min(builder_fee(rate), BUILDER_FEE_MAX)


def builder_fee(rate: str) -> Decimal:
    """A fee rate in tenths of a basis point, from its text in per cent ("0.01%" is 10)."""
    return Decimal(rate.removesuffix("%")) * 1000


def _clean(wire: dict[str, Any]) -> dict[str, Any]:
    """Client order ids in one spelling: 0x and lower case."""
    if wire.get("c") is None:
        return wire
    return {**wire, "c": lower(wire["c"])}


def _ident(value: int | str) -> int | str:
    return value if isinstance(value, int) else lower(value)


def _cancel(state: State, account: Account, action: dict[str, Any], _: Interference) -> Answer:
    _check_batch(state, action)
    fast = action.get("f", False)
    statuses = [changes.cancel(state, changes.find(account, c["o"]), c["a"], fast) for c in action["cancels"]]
    return _statuses("cancel", statuses)


def _cancel_by_cloid(state: State, account: Account, action: dict[str, Any], _: Interference) -> Answer:
    _check_batch(state, action)
    fast = action.get("f", False)
    found = [(changes.find(account, lower(c["cloid"])), c["asset"]) for c in action["cancels"]]
    statuses = [changes.cancel(state, order, asset, fast) for order, asset in found]
    return _statuses("cancel", statuses)


def _batch_modify(state: State, account: Account, action: dict[str, Any], interference: Interference) -> Answer:
    _check_batch(state, action)
    always = action.get("a", False)
    statuses = [
        changes.modify(state, account, _ident(m["oid"]), _clean(m["order"]), always, interference)
        for m in action["modifies"]
    ]
    return _statuses("order", statuses)


def _modify(state: State, account: Account, action: dict[str, Any], interference: Interference) -> Answer:
    always = action.get("a", False)
    status = changes.modify(state, account, _ident(action["oid"]), _clean(action["order"]), always, interference)
    if isinstance(status, dict) and "error" in status:
        raise Refused(status["error"])
    return {"type": "default"}


def _volume_gate(state: State, account: Account, required: int, what: str) -> None:
    if state.switches.volume_gates and account.volume < required:
        traded = text(rounded(account.volume, Decimal("0.01"))).removesuffix(".0")
        raise Refused(f"Cannot {what} until enough volume traded. Required: ${required}. Traded: ${traded}.")


def _create_sub_account(state: State, account: Account, action: dict[str, Any], _: Interference) -> Answer:
    if account.master is not None:
        raise Refused(f"Invalid sub-account transfer from {account.address} to {account.address}")
    _volume_gate(state, account, state.switches.sub_account_volume_usd, "create sub-accounts")
    if len(account.sub_accounts) >= _sub_accounts_allowed(account):
        raise Refused("Too many sub-accounts")
    seed = f"sub-account:{account.address}:{len(account.sub_accounts)}"
    address = "0x" + hashlib.sha256(seed.encode()).hexdigest()[:40]
    sub = state.new_account(address)
    sub.master, sub.name, sub.abstraction = account.address, action["name"], account.abstraction
    account.sub_accounts.append(address)
    return {"type": "createSubAccount", "data": address}


def _sub_accounts_allowed(account: Account) -> int:
    """Ten, one more per 100 M USDC traded, at most 50."""
    return min(SUB_ACCOUNTS + int(account.volume) // VOLUME_PER_SUB_ACCOUNT, SUB_ACCOUNTS_MAX)


def _rename_sub_account(state: State, account: Account, action: dict[str, Any]) -> None:
    own_sub_account(state, account, lower(action["subAccountUser"])).name = action["name"]


def _user_set_abstraction(state: State, account: Account, action: dict[str, Any]) -> None:
    wanted = action["abstraction"]
    if wanted not in MODES.values():
        raise Refused(f"Invalid abstraction: {wanted}")
    _set_abstraction(state, _self_or_sub_account(state, account, action["user"]), wanted)


def _self_or_sub_account(state: State, account: Account, address: str) -> Account:
    return account if lower(address) == account.address else own_sub_account(state, account, lower(address))


def _agent_set_abstraction(state: State, account: Account, action: dict[str, Any]) -> None:
    _set_abstraction(state, account, MODES[action["abstraction"]])


def _set_abstraction(state: State, account: Account, wanted: str) -> None:
    account.abstraction = wanted
    if wanted in UNIFIED:
        transfers.pool(state, account)


def _user_dex_abstraction(state: State, account: Account, action: dict[str, Any]) -> None:
    _set_abstraction(
        state,
        _self_or_sub_account(state, account, action["user"]),
        "dexAbstraction" if action["enabled"] else "disabled",
    )


def _agent_enable_dex_abstraction(state: State, account: Account, _: dict[str, Any]) -> None:
    _set_abstraction(state, account, "dexAbstraction")


def _schedule_cancel(state: State, account: Account, action: dict[str, Any]) -> None:
    _volume_gate(state, account, state.switches.schedule_cancel_volume_usd, "set scheduled cancel time")
    at = action.get("time")
    if at is not None and at < state.now_ms + SCHEDULE_AHEAD_MS:
        raise Refused("Scheduled cancel time must be at least 5 seconds from now.")
    account.cancel_at_ms = at
    if at is None:
        state.scheduled.pop(account.address, None)
    else:
        state.scheduled[account.address] = account


def cancel_scheduled(state: State, account: Account) -> None:
    """The dead-man switch of one account goes off: everything open is cancelled, ten times a day at most."""
    account.cancel_at_ms = None
    day = state.now_ms // DAY_MS
    if account.cancel_day != day:
        account.cancel_day, account.cancels_today = day, 0
    if account.cancels_today >= SCHEDULES_A_DAY:
        return
    account.cancels_today += 1
    for order in list(account.orders.values()):
        matching.finish(state, order, "scheduledCancel")


def _set_referrer(_: State, __: Account, ___: dict[str, Any]) -> None:
    raise Refused("Referral code not registered")


_RATE = re.compile(r"\d+(\.\d+)?%")


def _approve_builder_fee(_: State, account: Account, action: dict[str, Any]) -> None:
    if _RATE.fullmatch(action["maxFeeRate"]) is None:
        raise Refused(f"Invalid fee rate: {action['maxFeeRate']}")
    account.builders[lower(action["builder"])] = action["maxFeeRate"]


def _twap_order(state: State, account: Account, action: dict[str, Any], _: Interference) -> Answer:
    return {"type": "twapOrder", "data": {"status": twaps.place(state, account, action["twap"])}}


def _twap_cancel(state: State, account: Account, action: dict[str, Any], _: Interference) -> Answer:
    return {"type": "twapCancel", "data": {"status": twaps.cancel(state, account, action["a"], action["t"])}}


def _noop(_: State, __: Account, ___: dict[str, Any]) -> None:
    return


_HANDLERS: dict[str, Callable[[State, Account, dict[str, Any], Interference], Answer]] = {
    "order": _order,
    "cancel": _cancel,
    "cancelByCloid": _cancel_by_cloid,
    "batchModify": _batch_modify,
    "modify": _modify,
    "createSubAccount": _create_sub_account,
    "twapOrder": _twap_order,
    "twapCancel": _twap_cancel,
}
_SIMPLE: dict[str, Callable[[State, Account, dict[str, Any]], None]] = {
    "updateLeverage": margins.update_leverage,
    "updateIsolatedMargin": margins.update_isolated_margin,
    "topUpIsolatedOnlyMargin": margins.top_up,
    "usdSend": transfers.usd_send,
    "spotSend": transfers.spot_send,
    "sendAsset": transfers.send_asset,
    "agentSendAsset": transfers.agent_send_asset,
    "withdraw3": transfers.withdraw,
    "usdClassTransfer": transfers.usd_class_transfer,
    "subAccountTransfer": transfers.sub_account_transfer,
    "subAccountSpotTransfer": transfers.sub_account_spot_transfer,
    "subAccountModify": _rename_sub_account,
    "vaultTransfer": transfers.vault_transfer,
    "approveAgent": agents.approve,
    "approveBuilderFee": _approve_builder_fee,
    "userSetAbstraction": _user_set_abstraction,
    "agentSetAbstraction": _agent_set_abstraction,
    "userDexAbstraction": _user_dex_abstraction,
    "agentEnableDexAbstraction": _agent_enable_dex_abstraction,
    "scheduleCancel": _schedule_cancel,
    "reserveRequestWeight": limits.reserve,
    "setReferrer": _set_referrer,
    "noop": _noop,
}
