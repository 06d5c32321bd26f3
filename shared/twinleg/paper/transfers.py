"""Moving USDC: between addresses, sub-accounts, the perpetuals side and the spot side, and out.

Only USDC is held here. An account in a unified mode has one pool of it, kept on the perpetuals side and shown on the
spot side. The texts are the real venue's, as recorded or told by others.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from twinleg.paper.accounts import UNIFIED, Account, cross_margin, withdrawable
from twinleg.paper.books import FEES, WORLD
from twinleg.paper.numbers import MICRO, ZERO, rounded, usd
from twinleg.paper.refusals import Refused
from twinleg.paper.state import State

PERP, SPOT = "", "spot"
WITHDRAWAL_FEE = Decimal(1)
ACTIVATION_FEE = Decimal(1)
"""Of a spot transfer to an address that never was. Source: Hyperliquid docs, activation gas fee."""
LARGEST = Decimal(10) ** 15
"""No amount is larger: beyond it arithmetic would stop being exact."""
USDC = re.compile(r"USDC(?::0x[0-9a-fA-F]{32})?")
UNIFIED_REFUSAL = "Action disabled when unified account is active"

Action = dict[str, Any]


def free(state: State, account: Account) -> Decimal:
    """What may leave the perpetuals side."""
    cross = cross_margin(account, state.markets)
    return withdrawable(account, state.markets, cross, resting=state.switches.withdrawable_less_resting)


def is_new(state: State, address: str) -> bool:
    """Whether an address never was: with every key an account of its own, none is."""
    return address not in state.accounts and not state.options.open_accounts


def own_sub_account(state: State, master: Account, address: str) -> Account:
    """A sub-account of this master; Refused for any other address."""
    sub = state.accounts.get(address)
    if sub is None or sub.master != master.address:
        raise Refused(f"Invalid sub-account transfer from {master.address} to {address}")
    return sub


def lower(address: str) -> str:
    """An address in lower case, with 0x."""
    found = address.lower()
    return found if found.startswith("0x") else "0x" + found


def _money(text: str) -> Decimal:
    """An amount of USDC; more than six decimals is an invalid send."""
    amount = Decimal(text)
    if not _is_usdc(amount):
        raise Refused("Invalid send")
    return amount


def _is_usdc(amount: Decimal) -> bool:
    return amount <= LARGEST and amount == rounded(amount, MICRO)


def _check_usdc(token: str) -> None:
    if USDC.fullmatch(token) is None:
        raise Refused("Invalid send")


def _side(account: Account, dex: str) -> str:
    """Where an account keeps the money of a side: a unified one keeps all on the perpetuals side."""
    if dex not in (PERP, SPOT):
        raise Refused("Invalid send")
    return PERP if account.abstraction in UNIFIED else dex


def _take(state: State, account: Account, dex: str, amount: Decimal) -> str:
    """Take from one side of an account; returns its place in the books."""
    _check_held(state, account, dex, amount)
    return _put(account, dex, -amount)


def _check_held(state: State, account: Account, dex: str, amount: Decimal) -> None:
    if amount <= 0 or amount > (free(state, account) if dex == PERP else account.spot):
        raise Refused("Insufficient balance for withdrawal.")


def _put(account: Account, dex: str, amount: Decimal) -> str:
    if dex == PERP:
        account.balance += amount
        return account.address
    account.spot += amount
    return f"spot:{account.address}"


def _move(state: State, source: tuple[Account, str], target: tuple[Account, str], amount: Decimal, kind: str) -> None:
    taken = _take(state, *source, amount)
    state.books.post(taken, _put(*target, amount), amount, kind)


def usd_send(state: State, account: Account, action: Action) -> None:
    """Perpetuals USDC to another address."""
    amount = _money(action["amount"])
    _check_held(state, account, PERP, amount)
    target = state.open_account(lower(action["destination"]))
    _move(state, (account, PERP), (target, PERP), amount, "send")
    delta = {"type": "internalTransfer", "usdc": usd(amount), "user": account.address}
    _note(state, (account, target), {**delta, "destination": target.address, "fee": "0.0"})


def _note(state: State, parties: tuple[Account, Account], delta: dict[str, Any]) -> None:
    for party in dict.fromkeys(parties):
        state.note_transfer(party, delta)


def withdraw(state: State, account: Account, action: Action) -> None:
    """Out of the venue. The fee is part of the amount."""
    amount = _money(action["amount"])
    place = _take(state, account, PERP, amount)
    state.books.post(place, WORLD, amount, "withdraw")
    fee = usd(min(WITHDRAWAL_FEE, amount))
    state.note_transfer(account, {"type": "withdraw", "usdc": usd(amount), "nonce": action["time"], "fee": fee})


_SUB_ACCOUNT_SUFFIX = re.compile(r"([0-9]{1,18}(?:\.[0-9]+)?)(?: subaccount:((?:0x)?[0-9a-fA-F]{40}))?")


def usd_class_transfer(state: State, account: Account, action: Action) -> None:
    """Between spot and perpetuals of one account, or of a sub-account that the amount names."""
    matched = _SUB_ACCOUNT_SUFFIX.fullmatch(action["amount"])
    if matched is None:
        raise Refused("Invalid amount.")
    if matched[2] is not None:
        account = own_sub_account(state, account, lower(matched[2]))
    if account.abstraction in UNIFIED:
        raise Refused(UNIFIED_REFUSAL)
    amount, to_perp = rounded(min(Decimal(matched[1]), LARGEST), MICRO), action["toPerp"]
    source, target = (SPOT, PERP) if to_perp else (PERP, SPOT)
    _move(state, (account, source), (account, target), amount, "class transfer")
    state.note_transfer(account, {"type": "accountClassTransfer", "usdc": usd(amount), "toPerp": to_perp})


def spot_send(state: State, account: Account, action: Action) -> None:
    """Spot USDC to another address; one that never was costs an activation fee beside the amount."""
    _check_usdc(action["token"])
    amount, address = _money(action["amount"]), lower(action["destination"])
    if address == account.address:
        raise Refused("Invalid send")
    fee = ACTIVATION_FEE if is_new(state, address) else ZERO
    source = _side(account, SPOT)
    _check_held(state, account, source, amount)
    _check_held(state, account, source, amount + fee)
    target = state.open_account(address)
    _move(state, (account, source), (target, _side(target, SPOT)), amount, "send")
    if fee:
        state.books.post(_take(state, account, source, fee), FEES, fee, "fee")
    _note(state, (account, target), {**_spot_delta(account, target, amount, fee), "nonce": action["time"]})


def _spot_delta(source: Account, target: Account, amount: Decimal, fee: Decimal) -> dict[str, Any]:
    return {
        "type": "spotTransfer",
        "token": "USDC",
        "amount": usd(amount),
        "usdcValue": usd(amount),
        "user": source.address,
        "destination": target.address,
        "fee": usd(fee),
        "nativeTokenFee": "0.0",
        "nonce": None,
        "feeToken": "USDC" if fee else "",
    }


def send_asset(state: State, account: Account, action: Action) -> None:
    """Between sides, addresses and sub-accounts, in one action."""
    _send(state, account, action, lower(action["destination"]))


def agent_send_asset(state: State, account: Account, action: Action) -> None:
    """The same by an agent, within its master and the master's sub-accounts."""
    master = account if account.master is None else state.accounts[account.master]
    address = lower(action["destination"])
    if address not in (master.address, *master.sub_accounts):
        raise Refused("Agent can only send asset to same user or their sub-accounts.")
    _send(state, account, action, address)


def _send(state: State, account: Account, action: Action, address: str) -> None:
    _check_usdc(action["token"])
    amount = _money(action["amount"])
    source = account
    if action["fromSubAccount"]:
        source = own_sub_account(state, account, lower(action["fromSubAccount"]))
    source_side = _side(source, action["sourceDex"])
    if action["destinationDex"] not in (PERP, SPOT):
        raise Refused("Invalid send")
    if source.address == address:
        if source.abstraction in UNIFIED:
            raise Refused(UNIFIED_REFUSAL)
        if source_side == action["destinationDex"]:
            raise Refused("Invalid send")
    _check_held(state, source, source_side, amount)
    target = state.open_account(address)
    _move(state, (source, source_side), (target, _side(target, action["destinationDex"])), amount, "send")
    delta = {
        "type": "send",
        "user": source.address,
        "destination": target.address,
        "sourceDex": action["sourceDex"],
        "destinationDex": action["destinationDex"],
        "token": "USDC",
        "amount": usd(amount),
        "usdcValue": usd(amount),
        "fee": "0.0",
        "nativeTokenFee": "0.0",
        "nonce": action["nonce"],
        "feeToken": "",
    }
    _note(state, (source, target), delta)


def sub_account_transfer(state: State, account: Account, action: Action) -> None:
    """Perpetuals USDC between a master and its sub-account, in millionths."""
    sub = own_sub_account(state, account, lower(action["subAccountUser"]))
    amount = Decimal(action["usd"]) * MICRO
    source, target = (account, sub) if action["isDeposit"] else (sub, account)
    if amount <= 0 or amount > free(state, source):
        raise Refused(f"Invalid sub-account transfer from {source.address} to {target.address}")
    _move(state, (source, PERP), (target, PERP), amount, "sub-account transfer")
    delta = {"type": "subAccountTransfer", "usdc": usd(amount), "user": source.address, "destination": target.address}
    _note(state, (source, target), delta)


def sub_account_spot_transfer(state: State, account: Account, action: Action) -> None:
    """Spot USDC between a master and its sub-account."""
    sub = own_sub_account(state, account, lower(action["subAccountUser"]))
    source, target = (account, sub) if action["isDeposit"] else (sub, account)
    amount, side = Decimal(action["amount"]), _side(source, SPOT)
    held = free(state, source) if side == PERP else source.spot
    if USDC.fullmatch(action["token"]) is None or not _is_usdc(amount) or not 0 < amount <= held:
        raise Refused(f"Invalid sub-account transfer from {source.address} to {target.address}")
    _move(state, (source, side), (target, _side(target, SPOT)), amount, "sub-account transfer")
    _note(state, (source, target), _spot_delta(source, target, amount, ZERO))


def vault_transfer(_: State, __: Account, action: Action) -> None:
    """There are no vaults here."""
    raise Refused(f"Vault not registered: {lower(action['vaultAddress'])}")


def pool(state: State, account: Account) -> None:
    """An account enters a unified mode: its spot USDC joins the pool."""
    if account.spot:
        amount = account.spot
        state.books.post(_put(account, SPOT, -amount), _put(account, PERP, amount), amount, "class transfer")
