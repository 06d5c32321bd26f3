"""Many seeds, on several processes, and what came of them."""

from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from twinleg.domain.candles import Candle
from twinleg.domain.errors import BadInput
from twinleg.simulate import market
from twinleg.simulate.checker import alone, check
from twinleg.simulate.faults import KINDS, Chosen, Dice
from twinleg.simulate.world import HISTORY, QUIET_MINUTES, Plan, World

MINUTES_MIN, MINUTES_MAX = QUIET_MINUTES + 15, 10_080


@dataclass(frozen=True, slots=True)
class Asked:
    """How every seed of a run is simulated."""

    minutes: int = 240
    faults: str = "all"
    market: str = "draw"
    """calm, trend, crash, ``draw`` (one of them by seed), or a candle file."""

    def checked(self) -> Asked:
        """Itself, or BadInput naming the option, its value and the limit."""
        Chosen.of(self.faults)
        if not MINUTES_MIN <= self.minutes <= MINUTES_MAX:
            raise BadInput(f"--minutes must be from {MINUTES_MIN} to {MINUTES_MAX}, was {self.minutes}")
        if self.market not in (*market.KINDS, "draw") and not Path(self.market).is_file():
            raise BadInput(f"--market must be {', '.join(market.KINDS)}, draw or a candle file, was {self.market!r}")
        return self

    def command(self, seed: int) -> str:
        """The line that runs one seed again, step by step."""
        given = f"--minutes {self.minutes} --faults {self.faults}"
        return f"twinleg simulate --seed {seed} {given} --market {self.market} --timeline"


@dataclass(frozen=True, slots=True)
class Result:
    """What one seed came to. Plain values: it crosses between processes."""

    seed: int
    market: str
    intents: int
    orders: int
    fills: int
    crashes: int
    trades: Mapping[str, int]
    faults: Mapping[str, int]
    violations: tuple[str, ...]
    invariants: tuple[str, ...]
    """The names of the invariants that were broken, once each."""
    alone_seconds: tuple[float, ...]
    liquidations: int
    guarded_liquidated: tuple[str, ...]
    """Liquidations of positions whose stop rested inside their liquidation price, with the jump of the mark."""


def simulated(asked: Asked, seed: int) -> World:
    """The world of one seed, at its end."""
    made = World(Plan(seed, asked.minutes, Dice(seed, Chosen.of(asked.faults)), _kind(asked), _candles(asked)))
    made.run()
    return made


def _kind(asked: Asked) -> str:
    return asked.market if asked.market in (*market.KINDS, "draw") else "file"


def _candles(asked: Asked) -> Mapping[str, Sequence[Candle]]:
    """The candles of a file, for BTC; a generated market brings its own."""
    if _kind(asked) != "file":
        return {}
    from twinleg.adapters.local.candle_files import read_candles

    found = read_candles(Path(asked.market))[: HISTORY + asked.minutes + 5]
    if len(found) < HISTORY + asked.minutes:
        raise BadInput(f"--market {asked.market}: {HISTORY + asked.minutes} candles are needed, it has {len(found)}")
    return {"BTC": found}


def result_of(asked: Asked, seed: int) -> Result:
    """Run one seed and judge it."""
    made = simulated(asked, seed)
    evidence = made.evidence()
    violations = check(evidence)
    result = Result(
        seed=seed,
        market=made.kind,
        intents=len(evidence.trades),
        orders=len(evidence.dump["orders"]),
        fills=len(evidence.dump["fills"]),
        crashes=made.crashes,
        trades=dict(Counter(t.state.value for t in evidence.trades)),
        faults=dict(made.dice.struck),
        violations=tuple(map(str, violations)),
        invariants=tuple(dict.fromkeys(v.invariant for v in violations)),
        alone_seconds=tuple(((s.ended or evidence.ended_at) - s.began).total_seconds() for s in alone(evidence)),
        liquidations=len(evidence.dump["liquidations"]),
        guarded_liquidated=tuple(f"seed {seed} {line}" for line in evidence.liquidated if line.stop is not None),
    )
    made.kernel.close()
    return result


def results(asked: Asked, seeds: Sequence[int], jobs: int) -> Iterator[Result]:
    """Every seed's result, in order, as they are done."""
    if jobs <= 1 or len(seeds) == 1:
        prepare()
        yield from map(partial(result_of, asked), seeds)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=prepare) as pool:
        yield from pool.map(partial(result_of, asked), seeds, chunksize=4)


def prepare() -> None:
    """Make this process one for many runs: it logs nothing, and collects garbage once in about seven of them."""
    quieten()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 1, 1)


def quieten() -> None:
    """Nothing of what the functions log is wanted: a run of many seeds would print little else."""
    import logging

    logging.disable(logging.CRITICAL)


@dataclass
class Tally:
    """The results of many seeds, added up."""

    asked: Asked
    runs: int = 0
    intents: int = 0
    orders: int = 0
    fills: int = 0
    crashes: int = 0
    trades: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    broken: dict[int, tuple[str, ...]] = field(default_factory=dict)
    alone_seconds: list[float] = field(default_factory=list)
    liquidations: Counter[str] = field(default_factory=Counter)
    """Of any position, by market kind."""
    guarded_liquidated: dict[str, list[str]] = field(default_factory=dict)
    """By market kind, each with the jump of the mark."""
    runs_by_market: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        self.runs += 1
        self.intents += result.intents
        self.orders += result.orders
        self.fills += result.fills
        self.crashes += result.crashes
        self.trades.update(result.trades)
        self.faults.update(result.faults)
        self.alone_seconds.extend(result.alone_seconds)
        self.liquidations[result.market] += result.liquidations
        self.guarded_liquidated.setdefault(result.market, []).extend(result.guarded_liquidated)
        self.runs_by_market[result.market] += 1
        if result.violations:
            self.broken[result.seed] = result.violations

    def as_json(self, wall_seconds: float) -> dict[str, Any]:
        """Counts, and how long legs stood alone (by the venue's ledger)."""
        waits = sorted(self.alone_seconds)
        return {
            "runs": self.runs,
            "runs_by_market": dict(sorted(self.runs_by_market.items())),
            "minutes_each": self.asked.minutes,
            "intents": self.intents,
            "orders": self.orders,
            "fills": self.fills,
            "crashes": self.crashes,
            "trades_by_state": dict(sorted(self.trades.items())),
            "faults": {kind: self.faults[kind] for kind in KINDS},
            "faults_total": self.faults.total(),
            "violations": sum(map(len, self.broken.values())),
            "broken_seeds": {str(seed): list(texts) for seed, texts in self.broken.items()},
            "unhedged_seconds": {"p50": _at(waits, 0.5), "p99": _at(waits, 0.99), "max": _at(waits, 1.0)},
            "liquidations": dict(sorted(self.liquidations.items())),
            "liquidations_of_guarded_positions": {k: len(v) for k, v in sorted(self.guarded_liquidated.items())},
            "guarded_liquidated": [line for _, lines in sorted(self.guarded_liquidated.items()) for line in lines],
            "wall_seconds": round(wall_seconds, 1),
        }


def _at(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0


def tallied(
    asked: Asked, seeds: Sequence[int], jobs: int, progress: Callable[[Result, int], None] | None = None
) -> Tally:
    """Run every seed and add them up; *progress* is told of each."""
    tally = Tally(asked)
    for result in results(asked, seeds, jobs):
        tally.add(result)
        if progress:
            progress(result, len(seeds))
    return tally
