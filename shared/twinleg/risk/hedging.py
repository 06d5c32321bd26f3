"""How the hedge follows the market's volatility: larger at entry, and held to its size more strictly while open.

Off unless ``hedge_calm_range_percent`` is set. Nothing here adds to a trade that is open: a fill that adds exposure
needs an approval, and the gate gives one, at entry. What follows later is only ever a reason to close.
"""

from __future__ import annotations

from decimal import Decimal

from twinleg.domain.money import ONE, ZERO
from twinleg.risk.limits import Limits

HUNDRED = Decimal(100)
MINUTE_SECONDS = Decimal(60)


def hedge_scale(range_percent: Decimal, limits: Limits) -> Decimal:
    """What the configured hedge is multiplied by when the recent one-minute range is *range_percent* of the price.

    1 up to the calm range, then in proportion to it, at most ``hedge_scale_max``. Always 1 when the calm range is 0.
    """
    calm = limits.hedge_calm_range_percent
    if calm <= 0:
        return ONE
    return min(max(range_percent / calm, ONE), limits.hedge_scale_max)


def margin_shares(main: Decimal, hedge: Decimal, scale: Decimal) -> tuple[Decimal, Decimal]:
    """(main, hedge) shares of a trade's budget with the hedge *scale* times as large against the main leg.

    Together they are what they were: the main leg gives the margin up that the hedge takes.
    """
    if scale == 1:
        return main, hedge
    shrink = (main + hedge) / (main + hedge * scale)
    return main * shrink, hedge * scale * shrink


def move_percent(mark: Decimal, mark_before: Decimal, seconds: Decimal) -> Decimal:
    """A market's move between two looks, in per cent of the price, as of one minute (by the root of the time).

    A minute's move is never more than its range, so it is a cautious stand-in for the range. A shorter time counts as
    a minute.
    """
    if mark_before <= 0:
        return ZERO
    minutes = max(seconds / MINUTE_SECONDS, ONE)
    return abs(mark / mark_before - ONE) * HUNDRED / minutes.sqrt()


def held_strictly(limits: Limits, moves: Decimal) -> Limits:
    """The limits with the band for hedge drift as narrow as a market that moves so much a minute asks for.

    *moves* is in per cent, as `move_percent` gives it. The band is divided by what would multiply an entry's hedge, so
    it is never wider than configured.
    """
    scale = hedge_scale(moves, limits)
    if scale == 1:
        return limits
    return limits.model_copy(update={"hedge_drift_percent_max": limits.hedge_drift_percent_max / scale})
