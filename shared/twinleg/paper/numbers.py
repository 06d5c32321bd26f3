"""Numbers as Hyperliquid writes them: text, plain, with at least one decimal ("83757.0", "0.0")."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

ZERO = Decimal(0)
MICRO = Decimal("0.000001")
NANO8 = Decimal("0.00000001")
RATE10 = Decimal("0.0000000001")


def text(number: Decimal) -> str:
    """ "83757.0", "0.01", "-0.5": no exponent, no needless zeros, never without a decimal point."""
    if not number:
        return "0.0"
    plain = str(number)
    if "E" in plain:
        plain = f"{number:f}"
    if "." not in plain:
        return plain + ".0"
    plain = plain.rstrip("0")
    return plain + "0" if plain[-1] == "." else plain


def usd(number: Decimal) -> str:
    """A money amount with at most the 6 decimals of USDC."""
    return text(number.quantize(MICRO, ROUND_HALF_EVEN))


def truncated(number: Decimal, step: Decimal = MICRO) -> Decimal:
    """Cut towards zero to a multiple of a power of ten (fees are truncated to 6 decimals)."""
    return number.quantize(step, ROUND_DOWN)


def rounded(number: Decimal, step: Decimal) -> Decimal:
    """Half-even to a power of ten."""
    return number.quantize(step, ROUND_HALF_EVEN)
