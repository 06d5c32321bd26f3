"""Trading fees: the base rates, or by switch the tier of the last 14 days' volume.

A sub-account pays the rates of its master's volume and its own together. Tiers are set once a day, by the 14 whole
days before today (UTC). Discounts for referral and staking, and rebates for makers, are not modelled.
Source: Hyperliquid docs, fees.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from twinleg.paper.accounts import Account
from twinleg.paper.market import DAY_MS
from twinleg.paper.numbers import ZERO
from twinleg.paper.state import State

VOLUME_DAYS = 14
DAYS_KEPT = 16
TIERS: tuple[tuple[Decimal, Decimal, Decimal], ...] = tuple(
    (Decimal(cutoff), Decimal(taker), Decimal(maker))
    for cutoff, taker, maker in (
        (5_000_000, "0.0004", "0.00012"),
        (25_000_000, "0.00035", "0.00008"),
        (100_000_000, "0.0003", "0.00004"),
        (500_000_000, "0.00028", "0"),
        (2_000_000_000, "0.00026", "0"),
        (7_000_000_000, "0.00024", "0"),
    )
)
"""(volume above which it holds in USDC, taker rate, maker rate), lowest first."""
_SPOT = ("0.0006", "0.0003"), ("0.0005", "0.0002"), ("0.0004", "0.0001"), ("0.00035", "0.0"), ("0.0003", "0.0")
VIP_TIERS: list[dict[str, Any]] = [
    {"ntlCutoff": f"{cutoff}.0", "cross": f"{taker}", "add": f"{maker or '0.0'}", "spotCross": spot, "spotAdd": add}
    for (cutoff, taker, maker), (spot, add) in zip(TIERS, (*_SPOT, ("0.00025", "0.0")), strict=True)
]
"""The same as ``userFees`` shows them, with the rates of spot beside."""
MAKER_TIERS: list[dict[str, Any]] = [
    {"makerFractionCutoff": "0.005", "add": "-0.00001"},
    {"makerFractionCutoff": "0.015", "add": "-0.00002"},
    {"makerFractionCutoff": "0.03", "add": "-0.00003"},
]
"""Shown, not granted: nobody here knows the volume of the whole venue."""


def rates(state: State, account: Account) -> tuple[Decimal, Decimal]:
    """(taker, maker) as fractions of the value traded."""
    switches = state.switches
    found = switches.taker_fee_rate, switches.maker_fee_rate
    if not switches.fee_tiers:
        return found
    volume = volume_usd(state, account)
    for cutoff, taker, maker in TIERS:
        if volume <= cutoff:
            break
        found = taker, maker
    return found


def volume_usd(state: State, account: Account) -> Decimal:
    """What the account, its master and that master's other sub-accounts traded in the 14 days before today."""
    today = state.now_ms // DAY_MS
    master = account if account.master is None else state.accounts[account.master]
    family = (master, *(state.accounts[address] for address in master.sub_accounts))
    days = range(today - VOLUME_DAYS, today)
    return sum((sum(member.daily[day], ZERO) for member in family for day in days if day in member.daily), ZERO)


def count(state: State, account: Account, value: Decimal, crossed: bool) -> None:
    """Add a fill to the account's volume."""
    account.volume += value
    day = state.now_ms // DAY_MS
    taken, made = account.daily.get(day, (ZERO, ZERO))
    account.daily[day] = (taken + value, made) if crossed else (taken, made + value)
    while len(account.daily) > DAYS_KEPT:
        del account.daily[min(account.daily)]
