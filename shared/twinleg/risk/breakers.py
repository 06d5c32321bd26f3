"""Breakers: when the day, or a run of unwinds, says stop."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from twinleg.domain.control import Halt
from twinleg.domain.money import cents, plain
from twinleg.risk.limits import Limits

HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class BreakerTripped:
    """The trading state to go to (never a milder one than the present), and why. Only a person resumes."""

    state: Halt
    reason: str


def day_breaker(
    equity_now_usd: Decimal | None,
    equity_day_start_usd: Decimal | None,
    net_deposits_usd: Decimal | None,
    limits: Limits,
) -> BreakerTripped | None:
    """Whether the day's loss over all accounts, read in one sweep, is enough.

    Equity holds realised and unrealised profit, fees and funding. *net_deposits_usd* is what came in since the day
    began, less what went out (deposits, withdrawals, transfers): it is no profit, and the loss is measured against
    the capital that was at work, start + net deposits. None means an account could not be read: that is REDUCING,
    never a loss.
    """
    if equity_now_usd is None or equity_day_start_usd is None or net_deposits_usd is None:
        return BreakerTripped(Halt.REDUCING, "the day's profit is unknown: an account could not be read")
    capital = equity_day_start_usd + net_deposits_usd
    profit = equity_now_usd - capital
    if profit >= 0:
        return None
    if capital <= 0:
        return BreakerTripped(
            Halt.REDUCING, f"day loss_usd {_usd(-profit)} cannot be measured against capital_usd {_usd(capital)}"
        )
    percent = -profit / capital * HUNDRED
    for state, most in (
        (Halt.FLATTEN, limits.day_loss_flatten_percent),
        (Halt.REDUCING, limits.day_loss_reducing_percent),
    ):
        if percent >= most:
            loss = f"loss_usd {_usd(-profit)} of capital_usd {_usd(capital)}"
            return BreakerTripped(state, f"day_loss_percent {_usd(percent)} >= {most}: {loss}")
    return None


def unwind_breaker(unwinds_last_day: int, limits: Limits) -> BreakerTripped | None:
    """Trades that keep ending between their legs mean something is wrong: no more entries."""
    if unwinds_last_day < limits.unwinds_per_day_max:
        return None
    return BreakerTripped(
        Halt.REDUCING, f"unwinds_last_day {unwinds_last_day} >= unwinds_per_day_max {limits.unwinds_per_day_max}"
    )


def _usd(amount: Decimal) -> str:
    return plain(cents(amount, 2))
