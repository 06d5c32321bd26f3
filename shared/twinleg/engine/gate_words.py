"""What the gate looked at, in one line: kept with the intent, so that its answer can be understood later."""

from __future__ import annotations

from collections.abc import Iterator

from twinleg.domain.messages import HedgedIntent
from twinleg.domain.money import ZERO, cents, plain
from twinleg.domain.orders import AccountState, LegRole
from twinleg.risk.book import Book, LegView


def gate_saw(intent: HedgedIntent, book: Book) -> str:
    """The numbers an intent was judged by; of what could not be read it says so. Raises nothing."""
    try:
        return "; ".join(_parts(intent, book))
    except (ArithmeticError, TypeError, ValueError) as problem:  # e.g. not a number
        return f"numbers that cannot be put in words: {problem}"


def _parts(intent: HedgedIntent, book: Book) -> Iterator[str]:
    accounts = {s.account: s for s in (book.main, book.hedge) if s is not None}
    yield from (_of_account(state) for state in accounts.values())
    for role in LegRole:
        view = book.view(intent, role)
        yield _of_market(view) if isinstance(view, LegView) else view.reason
    yield (
        f"open trades {book.open_trades}, entries {book.entries_last_hour} in the last hour and "
        f"{book.entries_last_day} in the last day, unwinds {book.unwinds_last_day}"
    )
    if book.range_percent is not None:
        yield f"one-minute range {plain(cents(book.range_percent, 4))} %"
    yield from (f"request weight of {venue} {used} of {most}" for venue, (used, most) in book.weights.items() if most)
    yield from (f"{name} has {left} requests left" for name, left in book.requests_left.items() if left is not None)


def _of_account(state: AccountState) -> str:
    return (
        f"{state.account}: equity {plain(cents(state.equity_usd, 2))} USD, free {plain(cents(state.free_usd, 2))}, "
        f"margin in use {plain(cents(state.margin_used_usd, 2))}"
    )


def _of_market(view: LegView) -> str:
    at = view.snapshot
    off = abs(at.mark_price - at.oracle_price) / at.oracle_price * 100 if at.oracle_price else ZERO
    return (
        f"{view.plan.role} {view.plan.market}: mark {plain(at.mark_price)}, {plain(cents(off, 3))} % off the oracle "
        f"{plain(at.oracle_price)}, depth {plain(cents(at.bid_depth, 4))} bid and {plain(cents(at.ask_depth, 4))} ask"
    )
