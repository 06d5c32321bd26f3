"""Times as other programs write them: ISO 8601, or epoch seconds, milli-, micro- or nanoseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIRST_YEAR, LAST_YEAR = 1990, 2099
TIME_FIRST = (datetime(FIRST_YEAR, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
TIME_AFTER = (datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND

UNITS = {"s": (1_000_000, 1), "ms": (1_000, 1), "µs": (1, 1), "ns": (1, 1_000)}
"""Epoch unit → microseconds as (multiplier, divisor). The year bounds keep their ranges apart."""


def epoch_unit(number: int) -> str | None:
    """The unit in which an epoch number is a time within the years above; None when there is none."""
    for unit, (multiplier, divisor) in UNITS.items():
        if TIME_FIRST <= number * multiplier // divisor < TIME_AFTER:
            return unit
    return None


def microseconds_of(text: str) -> int:
    """Epoch microseconds of one time as text; without an offset it is UTC. ValueError when it is no time.

    A number outside every unit's range is returned as it is, for the caller to refuse with its own limit.
    """
    if is_number(text):
        number = Decimal(text)
        whole = int(number) if number.adjusted() < 21 else 0
        unit = epoch_unit(whole)
        if unit is None:
            return whole
        multiplier, divisor = UNITS[unit]
        return int(number * multiplier) // divisor
    at = datetime.fromisoformat(text)
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND


def utc_of(microseconds: int) -> datetime:
    """A UTC time from epoch microseconds."""
    return EPOCH + timedelta(microseconds=microseconds)


def is_number(text: str) -> bool:
    """Whether text is one finite decimal number in ASCII digits."""
    try:
        return text.isascii() and Decimal(text).is_finite()
    except InvalidOperation:
        return False
