"""Worlds under faults whose hedges follow the market's volatility: every invariant holds, and hedges do differ."""

from decimal import Decimal

import pytest

from twinleg.simulate.faults import Chosen, Dice
from twinleg.simulate.run import quieten
from twinleg.simulate.world import Plan, World

FOLLOWING = {"hedge_calm_range_percent": '"0.05"', "hedge_scale_max": '"2"'}


@pytest.mark.parametrize("seed", range(5, 9))
def test_a_hedge_that_follows_volatility_breaks_nothing(seed: int) -> None:
    quieten()
    made = World(Plan(seed, 90, Dice(seed, Chosen.of("all")), limits=FOLLOWING))
    made.run()
    assert [str(v) for v in made.judged()] == []
    for trade in made.evidence().trades:
        main, hedge = trade.intent.main, trade.intent.hedge
        if not trade.main.size_approved:
            continue
        configured = hedge.margin_share * trade.hedge.leverage / (main.margin_share * trade.main.leverage)
        scale = trade.hedge.size_approved / trade.main.size_approved / configured
        wanted = min(max(trade.intent.range_percent / Decimal("0.05"), Decimal(1)), Decimal(2))
        assert abs(scale / wanted - 1) < Decimal("0.1"), "but for lots and slippage"
