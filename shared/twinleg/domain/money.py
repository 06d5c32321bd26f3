"""Decimal arithmetic of the order path. Floats never enter here."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation

from twinleg.domain.errors import BadInput

ZERO = Decimal(0)
ONE = Decimal(1)
BPS = Decimal(10_000)


def decimal_of(value: object, field: str) -> Decimal:
    """A finite Decimal from text, int or Decimal; BadInput names the field otherwise.

    Floats are refused: a price that went through binary is no longer the price that was said.
    """
    if isinstance(value, (bool, float)) or not isinstance(value, (str, int, Decimal)):
        raise BadInput(f"{field} must be a decimal number written as text, was {value!r}")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise BadInput(f"{field} must be a decimal number, was {value!r}") from None
    if not number.is_finite():
        raise BadInput(f"{field} must be finite, was {value!r}")
    return number


def plain(number: Decimal) -> str:
    """The shortest plain form: no exponent, no trailing zeros ('0' for any zero)."""
    if number == 0:
        return "0"
    return f"{number.normalize():f}"


def floor_to(number: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of step that is not above number."""
    return (number / step).to_integral_value(ROUND_FLOOR) * step


def ceil_to(number: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of step that is not below number."""
    return (number / step).to_integral_value(ROUND_CEILING) * step


def cents(number: Decimal, places: int = 6) -> Decimal:
    """Rounded half-even for display and records (USDC has 6 decimals); never used for an order."""
    return number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
