"""How many requests a venue still takes, and how long to wait when it took one too many."""

from __future__ import annotations

from collections.abc import Iterable

from twinleg.domain.errors import TwinlegError
from twinleg.domain.ids import digest_of, venue_of
from twinleg.engine.system import Engine

BACK_OFF_SECONDS, BACK_OFF_SECONDS_MAX = 2.0, 10.0
ENTRY_WEIGHT, ACCOUNT_WEIGHT, MARKET_WEIGHT = 320, 75, 22
"""What an entry weighs, and what a minute's sweep and ingest do for each account and market, as measured."""


def weights(engine: Engine, markets: Iterable[str], entries: int) -> dict[str, tuple[int, int]]:
    """Venue → (weight within the last minute of all our processes together, what it takes a minute).

    What each spent itself only it knows. Of them all it is known what they do each minute, and how many *entries* were
    approved in the last one; the greater of both counts.
    """
    found: dict[str, tuple[int, int]] = {}
    for market in markets:
        venue = engine.venues.market(market)
        spent, most = venue.weight()
        found[venue.name] = max(spent, entries * ENTRY_WEIGHT + minute_weight(engine, venue.name)), most
    return found


def minute_weight(engine: Engine, venue: str) -> int:
    """What a minute of ingest and sweep weighs at a venue, entries apart."""
    desk = engine.desk
    accounts = sum(engine.venues.of(name).name == venue for name in desk.accounts)
    listed = sum(venue_of(m) == venue for p in desk.markets.values() for m in {p.market, p.hedge_market})
    return accounts * ACCOUNT_WEIGHT + listed * MARKET_WEIGHT


def back_off_seconds(times: int, *what: str) -> float:
    """How long to wait after a venue refused a request as one too many, for the *times*-th time in a row.

    Twice as long each time, and up to half more or less: by what was asked, so that two that were refused together
    do not come back together, and that a replay is the same each time.
    """
    jitter = 0.5 + int(digest_of(*what, str(times))[:8], 16) / 2**32
    return min(BACK_OFF_SECONDS * 2.0 ** (times - 1), BACK_OFF_SECONDS_MAX) * jitter


def requests_left(engine: Engine, account: str) -> dict[str, int | None]:
    """Requests the venue still takes for the account: as the sweep noted it, else asked. Empty when unreadable.

    None: the venue counts none.
    """
    try:
        page = engine.store.get("accounts", account)
        noted = page.data.get("requests_left") if page else None
        return {account: int(noted) if noted is not None else engine.venues.of(account).requests_left(account)}
    except TwinlegError:
        return {}
