"""The day's breaker and the run-of-unwinds breaker."""

from __future__ import annotations

from decimal import Decimal

import pytest

from twinleg.domain.control import Halt
from twinleg.risk.breakers import BreakerTripped, day_breaker, unwind_breaker
from twinleg.risk.limits import Limits

D = Decimal
LIMITS = Limits()


@pytest.mark.parametrize(
    ("now", "start", "deposits", "state"),
    [
        ("1000", "1000", "0", None),
        ("1100", "1000", "0", None),
        ("950.01", "1000", "0", None),
        ("950", "1000", "0", Halt.REDUCING),
        ("900.01", "1000", "0", Halt.REDUCING),
        ("900", "1000", "0", Halt.FLATTEN),
        ("0", "1000", "0", Halt.FLATTEN),
        # deposits are no profit and withdrawals no loss
        ("1500", "1000", "500", None),
        ("1400", "1000", "500", Halt.REDUCING),
        ("500", "1000", "-500", None),
        ("470", "1000", "-500", Halt.REDUCING),
        ("449", "1000", "-500", Halt.FLATTEN),
        # the first day of a new account: it began at nothing
        ("1000", "0", "1000", None),
        ("940", "0", "1000", Halt.REDUCING),
        ("0", "0", "0", None),
    ],
)
def test_day_breaker(now: str, start: str, deposits: str, state: Halt | None) -> None:
    tripped = day_breaker(D(now), D(start), D(deposits), LIMITS)
    assert (tripped.state if tripped else None) is state


def test_the_reason_has_the_numbers() -> None:
    tripped = day_breaker(D(930), D(1000), D(0), LIMITS)
    assert tripped == BreakerTripped(Halt.REDUCING, "day_loss_percent 7 >= 5: loss_usd 70 of capital_usd 1000")


def test_the_reason_is_in_whole_cents() -> None:
    tripped = day_breaker(D("930.126"), D("1000.333"), D(0), LIMITS)
    assert tripped is not None
    assert tripped.reason == "day_loss_percent 7.02 >= 5: loss_usd 70.21 of capital_usd 1000.33"


def test_the_smallest_capital_is_measured_like_any_other() -> None:
    tripped = day_breaker(D("0.10"), D("0.50"), D("0.50"), LIMITS)
    assert tripped is not None and tripped.state is Halt.FLATTEN


@pytest.mark.parametrize("hole", [0, 1, 2])
def test_an_unreadable_account_is_reducing_never_a_loss(hole: int) -> None:
    numbers: list[D | None] = [D(1), D(1000), D(0)]
    numbers[hole] = None
    tripped = day_breaker(numbers[0], numbers[1], numbers[2], LIMITS)
    assert tripped is not None and tripped.state is Halt.REDUCING
    assert "could not be read" in tripped.reason


def test_a_loss_against_no_capital_is_reducing() -> None:
    tripped = day_breaker(D(-5), D(100), D(-100), LIMITS)
    assert tripped is not None and tripped.state is Halt.REDUCING


@pytest.mark.parametrize(("count", "trips"), [(0, False), (2, False), (3, True), (9, True)])
def test_unwind_breaker(count: int, trips: bool) -> None:
    tripped = unwind_breaker(count, LIMITS)
    assert bool(tripped) is trips
    if tripped:
        assert tripped.state is Halt.REDUCING
        assert f"unwinds_last_day {count} >= unwinds_per_day_max 3" in tripped.reason
