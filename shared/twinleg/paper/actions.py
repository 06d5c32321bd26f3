"""What each signed action does, once its signer, nonce and expiry were accepted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twinleg.paper import changes, desk, matching
from twinleg.paper.accounts import Account, Agent, Position, cross_margin, isolated_margin, withdrawable
from twinleg.paper.books import WORLD
from twinleg.paper.desk import Interference
from twinleg.paper.market import DAY_MS, Market
from twinleg.paper.numbers import MICRO, rounded, text, usd
from twinleg.paper.signatures import ZERO_ADDRESS
from twinleg.paper.state import State

BATCH_MAX = 200
SUB_ACCOUNTS_MAX = 10
SUB_ACCOUNT_VOLUME = 100_000
SCHEDULE_VOLUME = 1_000_000
SCHEDULE_AHEAD_MS = 5_000
SCHEDULES_A_DAY = 10
AGENT_DEFAULT_MS = 90 * DAY_MS
AGENT_LONGEST_MS = 180 * DAY_MS
NAMED_AGENTS = 3
AGENTS_PER_SUB_ACCOUNT = 2
WITHDRAWAL_FEE = Decimal(1)
UNIFIED = ("unifiedAccount", "portfolioMargin")
TENTH = Decimal("0.1")

Answer = dict[str, Any]


class Refused(Exception):
    """The whole action is refused: ``{"status": "err", "response": text}``."""


def run(state: State, account: Account, action: dict[str, Any], interference: Interference) -> Answer:
    """Carry out one action for the account it acts on. Raises Refused with the venue's text."""
    kind = action["type"]
    state.actions[kind] = state.actions.get(kind, 0) + 1
    account.requests += _weight(action)
    handler = _HANDLERS.get(kind)
    if handler is not None:
        return handler(state, account, action, interference)
    _SIMPLE[kind](state, account, action)
    return {"type": "default"}


def _items(action: dict[str, Any]) -> list[Any]:
    for name in ("orders", "cancels", "modifies"):
        if name in action:
            items: list[Any] = action[name]
            return items
    return []


def _weight(action: dict[str, Any]) -> int:
    return max(1, len(_items(action)))


def _check_batch(action: dict[str, Any]) -> None:
    if len(_items(action)) > BATCH_MAX:
        raise Refused(f"Signed action over weight limit of {BATCH_MAX}.")


def _statuses(kind: str, statuses: list[desk.Status]) -> Answer:
    return {"type": kind, "data": {"statuses": statuses}}


def _order(state: State, account: Account, action: dict[str, Any], interference: Interference) -> Answer:
    _check_batch(action)
    builder = action.get("builder")
    if builder is not None and builder["b"].lower() not in account.builders:
        raise Refused("Builder fee has not been approved.")
    grouping = action["grouping"] if isinstance(action["grouping"], str) else "na"
    wires = [_clean(wire) for wire in action["orders"]]
    return _statuses("order", desk.place(state, account, wires, grouping, builder, interference))


def _clean(wire: dict[str, Any]) -> dict[str, Any]:
    """Client order ids in one spelling: 0x and lower case."""
    if wire.get("c") is None:
        return wire
    return {**wire, "c": _cloid(wire["c"])}


def _cloid(value: str) -> str:
    lower = value.lower()
    return lower if lower.startswith("0x") else "0x" + lower


def _ident(value: int | str) -> int | str:
    return value if isinstance(value, int) else _cloid(value)


def _cancel(state: State, account: Account, action: dict[str, Any], _: Interference) -> Answer:
    _check_batch(action)
    statuses = [changes.cancel(state, changes.find(account, c["o"]), c["a"]) for c in action["cancels"]]
    return _statuses("cancel", statuses)


def _cancel_by_cloid(state: State, account: Account, action: dict[str, Any], _: Interference) -> Answer:
    _check_batch(action)
    statuses = [changes.cancel(state, changes.find(account, _cloid(c["cloid"])), c["asset"]) for c in action["cancels"]]
    return _statuses("cancel", statuses)


def _batch_modify(state: State, account: Account, action: dict[str, Any], interference: Interference) -> Answer:
    _check_batch(action)
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


def _market(state: State, asset: int) -> Market:
    market = state.by_asset.get(asset)
    if market is None:
        raise Refused(f"Invalid asset: {asset}")
    return market


def _update_leverage(state: State, account: Account, action: dict[str, Any]) -> None:
    market = _market(state, action["asset"])
    leverage, is_cross = action["leverage"], action["isCross"]
    if not 1 <= leverage <= market.listing.max_leverage:
        raise Refused("Invalid leverage value")
    if is_cross and market.listing.rules.only_isolated:
        raise Refused("Cross margin is not allowed for this asset.")
    position = account.positions.get(market.coin)
    if position is not None:
        _releverage(state, account, market, position, is_cross, leverage)
    account.leverage[market.coin] = (is_cross, leverage)


def _releverage(
    state: State, account: Account, market: Market, position: Position, is_cross: bool, leverage: int
) -> None:
    if is_cross != position.is_cross:
        raise Refused("Cannot switch leverage type with open position.")
    notional = abs(position.size) * market.mark
    if leverage > market.listing.tier(notional)[2]:
        raise Refused("Invalid leverage value")
    if leverage < position.leverage:
        if not is_cross and isolated_margin(position, market.mark) < notional / leverage:
            raise Refused(
                "Isolated position does not have sufficient margin available to decrease leverage. "
                "To decrease leverage, add margin to the position."
            )
        if is_cross:
            cross = cross_margin(account, state.markets)
            if cross.value < cross.used - notional / position.leverage + notional / leverage:
                raise Refused("Insufficient margin to decrease leverage.")
    if not is_cross or state.switches.cross_margin_follows_leverage:
        position.leverage = leverage


def _update_isolated_margin(state: State, account: Account, action: dict[str, Any]) -> None:
    market = _market(state, action["asset"])
    position = account.positions.get(market.coin)
    if position is None or position.is_cross:
        raise Refused("Position does not use isolated margin.")
    amount = Decimal(action["ntli"]) * MICRO
    if amount > 0 and amount > _free(state, account):
        raise Refused("Insufficient margin available to add to the position.")
    notional = abs(position.size) * market.mark
    needed = max(notional / position.leverage, TENTH * notional)
    if amount < 0 and isolated_margin(position, market.mark) + amount < needed:
        raise Refused("Isolated position does not have sufficient margin to remove.")
    position.collateral += amount
    account.balance -= amount


def _free(state: State, account: Account) -> Decimal:
    return withdrawable(account, state.markets, cross_margin(account, state.markets))


def _usd_send(state: State, account: Account, action: dict[str, Any]) -> None:
    amount = Decimal(action["amount"])
    _leave(state, account, amount)
    target = state.open_account(action["destination"].lower())
    _move(state, account, target, amount, "send")
    delta = {"type": "internalTransfer", "usdc": usd(amount), "user": account.address}
    for party in (account, target):
        state.note_transfer(party, {**delta, "destination": target.address, "fee": "0.0"})


def _leave(state: State, account: Account, amount: Decimal) -> None:
    if amount <= 0 or amount > _free(state, account):
        raise Refused("Insufficient balance for withdrawal.")


def _move(state: State, source: Account, target: Account, amount: Decimal, kind: str) -> None:
    source.balance -= amount
    target.balance += amount
    state.books.post(source.address, target.address, amount, kind)


def _withdraw(state: State, account: Account, action: dict[str, Any]) -> None:
    amount = Decimal(action["amount"])
    _leave(state, account, amount)
    account.balance -= amount
    state.books.post(account.address, WORLD, amount, "withdraw")
    fee = usd(min(WITHDRAWAL_FEE, amount))
    state.note_transfer(account, {"type": "withdraw", "usdc": usd(amount), "nonce": action["time"], "fee": fee})


_SUB_ACCOUNT_SUFFIX = re.compile(r"(\d+(?:\.\d+)?)(?: subaccount:(0x[0-9a-fA-F]{40}))?")


def _usd_class_transfer(state: State, account: Account, action: dict[str, Any]) -> None:
    matched = _SUB_ACCOUNT_SUFFIX.fullmatch(action["amount"])
    if matched is None:
        raise Refused("Invalid amount.")
    if matched[2] is not None:
        account = _own_sub_account(state, account, matched[2].lower())
    if account.abstraction in UNIFIED:
        raise Refused("Action disabled when unified account is active")
    amount, to_perp = rounded(Decimal(matched[1]), MICRO), action["toPerp"]
    if amount <= 0 or amount > (account.spot if to_perp else _free(state, account)):
        raise Refused("Insufficient balance for withdrawal.")
    signed = amount if to_perp else -amount
    account.balance += signed
    account.spot -= signed
    state.books.post(f"spot:{account.address}", account.address, signed, "class transfer")
    state.note_transfer(account, {"type": "accountClassTransfer", "usdc": usd(amount), "toPerp": to_perp})


def _own_sub_account(state: State, master: Account, address: str) -> Account:
    sub = state.accounts.get(address)
    if sub is None or sub.master != master.address:
        raise Refused(f"Invalid sub-account transfer from {master.address} to {address}")
    return sub


def _volume_gate(state: State, account: Account, required: int, what: str) -> None:
    if state.switches.volume_gates and account.volume < required:
        traded = text(rounded(account.volume, Decimal("0.01"))).removesuffix(".0")
        raise Refused(f"Cannot {what} until enough volume traded. Required: ${required}. Traded: ${traded}.")


def _create_sub_account(state: State, account: Account, action: dict[str, Any], _: Interference) -> Answer:
    if account.master is not None:
        raise Refused(f"Invalid sub-account transfer from {account.address} to {account.address}")
    _volume_gate(state, account, SUB_ACCOUNT_VOLUME, "create sub-accounts")
    if len(account.sub_accounts) >= SUB_ACCOUNTS_MAX:
        raise Refused("Too many sub-accounts")
    seed = f"sub-account:{account.address}:{len(account.sub_accounts)}"
    address = "0x" + hashlib.sha256(seed.encode()).hexdigest()[:40]
    sub = state.new_account(address)
    sub.master, sub.name, sub.abstraction = account.address, action["name"], account.abstraction
    account.sub_accounts.append(address)
    return {"type": "createSubAccount", "data": address}


def _sub_account_transfer(state: State, account: Account, action: dict[str, Any]) -> None:
    sub = _own_sub_account(state, account, _cloid(action["subAccountUser"]))
    amount = Decimal(action["usd"]) * MICRO
    source, target = (account, sub) if action["isDeposit"] else (sub, account)
    if amount <= 0 or amount > _free(state, source):
        raise Refused(f"Invalid sub-account transfer from {source.address} to {target.address}")
    _move(state, source, target, amount, "sub-account transfer")
    delta = {"type": "subAccountTransfer", "usdc": usd(amount), "user": source.address, "destination": target.address}
    for party in (source, target):
        state.note_transfer(party, delta)


_VALID_UNTIL = re.compile(r"(.*?) valid_until (\d+)")


def _approve_agent(state: State, account: Account, action: dict[str, Any]) -> None:
    address, raw = _cloid(action["agentAddress"]), action.get("agentName") or ""
    matched = _VALID_UNTIL.fullmatch(raw)
    name, until = (matched[1], int(matched[2])) if matched else (raw, state.now_ms + AGENT_DEFAULT_MS)
    if raw and not 1 <= len(name) <= 16:
        raise Refused("Extra agent name must be between 1 and 16 characters long")
    if until <= state.now_ms:
        raise Refused("Agent valid_until already expired.")
    replaced = [a for a in state.agents.values() if a.master == account.address and a.name == name]
    if address == ZERO_ADDRESS:
        _retire(state, replaced)
        return
    if address in state.agents and state.agents[address] not in replaced:
        raise Refused("Extra agent already used.")
    if address in state.accounts or address in state.retired_agents:
        raise Refused("Extra agent already used.")
    named = sum(1 for a in state.agents.values() if a.master == account.address and a.name)
    limit = NAMED_AGENTS + AGENTS_PER_SUB_ACCOUNT * len(account.sub_accounts)
    if name and not replaced and named >= limit:
        raise Refused(f"Too many extra agents for cumulative volume traded. Current limit is {limit}")
    _retire(state, [a for a in replaced if a.address != address])
    until = min(until, state.now_ms + AGENT_LONGEST_MS)
    state.agents[address] = Agent(address, account.address, name, until)


def _retire(state: State, agents: list[Agent]) -> None:
    for agent in agents:
        del state.agents[agent.address]
        state.retired_agents[agent.address] = agent.master


def _set_abstraction(state: State, account: Account, action: dict[str, Any]) -> None:
    wanted = action["abstraction"]
    if wanted not in ("disabled", "unifiedAccount", "portfolioMargin"):
        raise Refused(f"Invalid abstraction: {wanted}")
    target = account
    if _cloid(action["user"]) != account.address:
        target = _own_sub_account(state, account, _cloid(action["user"]))
    target.abstraction = wanted


def _schedule_cancel(state: State, account: Account, action: dict[str, Any]) -> None:
    _volume_gate(state, account, SCHEDULE_VOLUME, "set scheduled cancel time")
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


def _approve_builder_fee(_: State, account: Account, action: dict[str, Any]) -> None:
    account.builders[_cloid(action["builder"])] = action["maxFeeRate"]


def _noop(_: State, __: Account, ___: dict[str, Any]) -> None:
    return


_HANDLERS: dict[str, Callable[[State, Account, dict[str, Any], Interference], Answer]] = {
    "order": _order,
    "cancel": _cancel,
    "cancelByCloid": _cancel_by_cloid,
    "batchModify": _batch_modify,
    "modify": _modify,
    "createSubAccount": _create_sub_account,
}
_SIMPLE: dict[str, Callable[[State, Account, dict[str, Any]], None]] = {
    "updateLeverage": _update_leverage,
    "updateIsolatedMargin": _update_isolated_margin,
    "usdSend": _usd_send,
    "withdraw3": _withdraw,
    "usdClassTransfer": _usd_class_transfer,
    "subAccountTransfer": _sub_account_transfer,
    "approveAgent": _approve_agent,
    "userSetAbstraction": _set_abstraction,
    "scheduleCancel": _schedule_cancel,
    "setReferrer": _set_referrer,
    "approveBuilderFee": _approve_builder_fee,
    "noop": _noop,
}
