"""How much a trade's markets moved since its books were written, and its limits as of that."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from twinleg.domain.money import ZERO
from twinleg.domain.watched import Watched, WatchedLeg
from twinleg.engine.books import Book
from twinleg.engine.watch import Readings
from twinleg.risk.hedging import held_strictly, move_percent
from twinleg.risk.limits import Limits


def limits_now(limits: Limits, trade: Watched, readings: Readings, books: Mapping[str, Book]) -> Limits:
    """The limits, as strict about the trade's hedge as its markets' moves ask for; unchanged where that is off."""
    if limits.hedge_calm_range_percent == 0:
        return limits
    return held_strictly(limits, max(_moved_percent(leg, readings, books) for leg in (trade.main, trade.hedge)))


def _moved_percent(leg: WatchedLeg, readings: Readings, books: Mapping[str, Book]) -> Decimal:
    reading, book = readings.get(leg.account), books.get(leg.account)
    position = reading.positions.get(leg.market) if reading else None
    row = book.positions.get(leg.market) if book and book.intact else None
    if reading is None or position is None or book is None or not row:
        return ZERO
    try:
        before, passed = Decimal(str(row["mark_price"])), reading.state.at - book.memory["read_at"]
        return move_percent(position.mark_price, before, Decimal(round(passed.total_seconds())))
    except (LookupError, TypeError, ArithmeticError):  # a row carries no seal: edited by hand, it tells nothing
        return ZERO
