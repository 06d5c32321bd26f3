"""The sweep's line of a trade: all its quiet path needs, in one row of text, and the seal that says nobody edited it.

A line is believed only while its trade's document is not marked `unswept`: every write of a trade marks it, and the
sweep takes the mark back in the very commit that stores the trade's line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from twinleg.domain.money import plain
from twinleg.domain.orders import LegRole, Side
from twinleg.domain.trades import Leg, Trade, TradeState

FIELDS = 10 + 2 * 12


@dataclass(frozen=True, slots=True)
class LineLeg:
    """What is remembered of a leg; see `Leg`."""

    role: LegRole
    account: str
    market: str
    side: Side
    size_approved: Decimal
    size_open: Decimal
    entry_price: Decimal
    entry_limit_price: Decimal
    stop_price: Decimal
    realised_usd: Decimal
    fees_usd: Decimal
    funding_usd: Decimal
    entry_liquidation_distance: Decimal | None


@dataclass(frozen=True, slots=True)
class Line:
    """What is remembered of a trade at rest; see `Trade`."""

    trade_id: str
    state: TradeState
    strategy: str
    created_at: datetime
    opened_at: datetime | None
    close_by: datetime | None
    holding_seconds_max: int
    margin_added: bool
    cut: bool
    rung: str
    main: LineLeg
    hedge: LineLeg

    @property
    def legs(self) -> tuple[LineLeg, LineLeg]:
        return self.main, self.hedge


def line_of(trade: Trade) -> Line:
    """The line of a trade."""
    return Line(
        trade_id=trade.trade_id,
        state=trade.state,
        strategy=trade.strategy,
        created_at=trade.created_at,
        opened_at=trade.opened_at,
        close_by=trade.close_by,
        holding_seconds_max=trade.holding_seconds_max,
        margin_added=trade.margin_added,
        cut=trade.cut,
        rung=trade.rung,
        main=_leg_of(trade.main),
        hedge=_leg_of(trade.hedge),
    )


def _leg_of(leg: Leg) -> LineLeg:
    return LineLeg(
        role=leg.role,
        account=leg.account,
        market=leg.market,
        side=leg.side,
        size_approved=leg.size_approved,
        size_open=leg.size_open,
        entry_price=leg.entry_price,
        entry_limit_price=leg.entry_limit_price,
        stop_price=leg.stop_price,
        realised_usd=leg.realised_usd,
        fees_usd=leg.fees_usd,
        funding_usd=leg.funding_usd,
        entry_liquidation_distance=leg.entry_liquidation_distance,
    )


# -- as text -------------------------------------------------------------------------------------


def packed(line: Line) -> str:
    """The line as a JSON list, without names."""
    values: list[str | int | None] = [
        line.trade_id, line.state.value, line.strategy, line.created_at.isoformat(),
        line.opened_at.isoformat() if line.opened_at else None,
        line.close_by.isoformat() if line.close_by else None,
        line.holding_seconds_max, int(line.margin_added), int(line.cut), line.rung,
    ]  # fmt: skip
    for leg in line.legs:
        numbers = (
            leg.size_approved, leg.size_open, leg.entry_price, leg.entry_limit_price, leg.stop_price,
            leg.realised_usd, leg.fees_usd, leg.funding_usd, leg.entry_liquidation_distance,
        )  # fmt: skip
        values += [leg.account, leg.market, leg.side.value, *(n if n is None else plain(n) for n in numbers)]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def unpacked(text: str) -> Line:
    """The line in a text. Raises ValueError, TypeError or ArithmeticError when there is none in it."""
    values: list[Any] = json.loads(text)
    if len(values) != FIELDS:
        raise ValueError(f"a line has {FIELDS} fields, was {len(values)}")
    trade_id, state, strategy, created_at, opened_at, close_by, seconds, margin_added, cut, rung = values[:10]
    return Line(
        trade_id=trade_id,
        state=TradeState(state),
        strategy=strategy,
        created_at=datetime.fromisoformat(created_at),
        opened_at=datetime.fromisoformat(opened_at) if opened_at else None,
        close_by=datetime.fromisoformat(close_by) if close_by else None,
        holding_seconds_max=int(seconds),
        margin_added=bool(margin_added),
        cut=bool(cut),
        rung=rung,
        main=_unpacked_leg(LegRole.MAIN, values[10:22]),
        hedge=_unpacked_leg(LegRole.HEDGE, values[22:]),
    )


def _unpacked_leg(role: LegRole, values: list[Any]) -> LineLeg:
    account, market, side, *numbers, distance = values
    known: list[Decimal | None] = [Decimal(number) for number in numbers]
    known.append(None if distance is None else Decimal(distance))
    return LineLeg(role, account, market, Side(side), *known)  # type: ignore[arg-type]  # nine numbers, by their count


def seal(rows: Iterable[str], *memory: object) -> str:
    """What a book carries so that a hand's edit of what the sweep believes is seen, and nothing of it believed then."""
    text = json.dumps([list(rows), memory], ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
