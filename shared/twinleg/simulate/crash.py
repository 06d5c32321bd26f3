"""The crash report: what guarded, hedged trades keep on crash days, and that none of them reaches liquidation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from twinleg.domain.money import ZERO
from twinleg.domain.trades import Trade
from twinleg.paper.listings import listings
from twinleg.simulate.crash_days import HISTORY, CrashDay
from twinleg.simulate.crash_run import EQUITY_USD, Alone, Curve, Desk, Guarded, Liquidated, unhedged

START_USD = 2 * EQUITY_USD
"""Of both accounts together."""


@dataclass(frozen=True, slots=True)
class HedgeCost:
    """What the hedges of one run cost, in USD."""

    fees: Decimal
    funding: Decimal
    """Positive = paid."""
    given_up: Decimal
    """What they lost on the price in trades whose main leg moved the right way."""
    gained: Decimal
    """What they earned on the price in the others."""

    @property
    def net(self) -> Decimal:
        """Negative: the hedges earned more than they cost."""
        return self.fees + self.funding + self.given_up - self.gained


@dataclass(frozen=True, slots=True)
class Run:
    """One crash day at one leverage."""

    leverage: int
    guarded: Guarded
    alone: Alone
    """The same main legs with the same stop, unhedged."""
    bare: Alone
    """The same main legs, unhedged and without a stop."""

    @property
    def hedge(self) -> HedgeCost:
        return hedge_cost(self.guarded.trades)

    @property
    def without_jump(self) -> list[Liquidated]:
        """Liquidations of guarded positions that a stop had time to prevent."""
        return [row for row in self.guarded.liquidated if not row.jumped]


@dataclass(frozen=True, slots=True)
class DayRuns:
    """One crash day at every leverage."""

    day: CrashDay
    runs: Sequence[Run]


def hedge_cost(trades: Sequence[Trade]) -> HedgeCost:
    """Added up over the hedge legs."""
    moves = [trade.hedge.realised_usd for trade in trades]
    return HedgeCost(
        fees=sum((trade.hedge.fees_usd for trade in trades), ZERO),
        funding=sum((trade.hedge.funding_usd for trade in trades), ZERO),
        given_up=-sum((move for move in moves if move < 0), ZERO),
        gained=sum((move for move in moves if move > 0), ZERO),
    )


def leverages_of(coin: str, asked: Sequence[int]) -> list[int]:
    """Those asked for, none above what the venue allows for the coin."""
    return sorted({min(leverage, listings()[coin].max_leverage) for leverage in asked})


def run_day(day: CrashDay, leverages: Sequence[int], limits: Mapping[str, str], say: Callable[[str], None]) -> DayRuns:
    """The day at each leverage; *say* is told of each."""
    runs = []
    for leverage in leverages_of(day.coin, leverages):
        guarded = Desk(day, leverage, limits).run(lambda _, __: None)
        run = Run(
            leverage,
            guarded,
            unhedged(day, guarded.trades, stop=True),
            unhedged(day, guarded.trades, stop=False),
        )
        runs.append(run)
        say(f"{day.name} {leverage}x: {len(guarded.trades)} trades, {len(guarded.liquidated)} guarded liquidated")
    return DayRuns(day, runs)


# -- as plain values -----------------------------------------------------------------------------


def kept_percent(equity_usd: Decimal) -> Decimal:
    """Of the equity that both accounts began with."""
    return equity_usd / START_USD * 100


def worst_and_end(curve: Curve) -> tuple[Decimal, Decimal]:
    """(lowest, last) equity of a run, in per cent of its beginning."""
    values = [kept_percent(equity) for _, equity in curve]
    return min(values), values[-1]


def as_json(days: Sequence[DayRuns]) -> dict[str, Any]:
    """The whole report as plain values; percentages to 2 decimals, money in USD."""
    runs = [run for one in days for run in one.runs]
    return {
        "equity_usd": float(START_USD),
        "days": [_day(one) for one in days],
        "guarded_trades": sum(len(run.guarded.trades) for run in runs),
        "guarded_liquidations": sum(len(run.guarded.liquidated) for run in runs),
        "guarded_liquidations_without_jump": sum(len(run.without_jump) for run in runs),
        "unhedged_liquidations": sum(len(run.alone.liquidated) for run in runs),
        "without_stop_liquidations": sum(len(run.bare.liquidated) for run in runs),
        "exceptions": [
            {"day": one.day.name, "leverage": run.leverage, **_exception(row)}
            for one in days
            for run in one.runs
            for row in run.guarded.liquidated
        ],
    }


def _day(one: DayRuns) -> dict[str, Any]:
    day = one.day
    return {
        "day": day.name,
        "coin": day.coin,
        "source": day.source,
        "synthetic": day.synthetic,
        "from": day.start.isoformat(),
        "minutes": day.minutes,
        "history_minutes": HISTORY,
        "low_at": day.low_at.isoformat(),
        "fall_percent": _two(day.fall_percent),
        "runs": [_run(run) for run in one.runs],
    }


def _run(run: Run) -> dict[str, Any]:
    cost = run.hedge
    return {
        "leverage": run.leverage,
        "trades": len(run.guarded.trades),
        "refused": dict(run.guarded.refused),
        "endings": {kind.value: count for kind, count in run.guarded.endings.items()},
        "points_per_candle": _two(run.guarded.points_per_candle),
        "hedged": _kept(run.guarded.curve, run.guarded.liquidated),
        "unhedged": _kept(run.alone.curve, run.alone.liquidated),
        "without_stop": _kept(run.bare.curve, run.bare.liquidated),
        "hedge_usd": {
            "fees": _two(cost.fees), "funding": _two(cost.funding), "given_up": _two(cost.given_up),
            "gained": _two(cost.gained), "net_cost": _two(cost.net),
        },
    }  # fmt: skip


def _kept(curve: Curve, liquidated: Sequence[Liquidated]) -> dict[str, Any]:
    worst, end = worst_and_end(curve)
    return {"liquidations": len(liquidated), "kept_worst_percent": _two(worst), "kept_end_percent": _two(end)}


def _exception(row: Liquidated) -> dict[str, Any]:
    return {
        "at": row.at.isoformat(),
        "account": row.account,
        "coin": row.coin,
        "size": str(row.size),
        "mark_before": str(row.mark_before),
        "mark_after": str(row.mark_after),
        "stop_price": None if row.stop_price is None else str(row.stop_price),
        "liquidation_price": None if row.liquidation_price is None else f"{row.liquidation_price:.8g}",
        "jumped": row.jumped,
        "words": row.words,
    }


def _two(number: Decimal) -> float:
    return float(round(number, 2))
