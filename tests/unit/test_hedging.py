"""The hedge follows the market's volatility: how much larger it is, what it costs the main leg, and the drift band."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinleg.domain.errors import BadInput
from twinleg.risk.hedging import hedge_scale, held_strictly, margin_shares, move_percent
from twinleg.risk.limits import Limits
from twinleg.settings import parse

D = Decimal
OFF = Limits()
ON = Limits(hedge_calm_range_percent=D("0.1"), hedge_scale_max=D(3))


@pytest.mark.parametrize(
    ("range_percent", "scale"),
    [("0", "1"), ("0.05", "1"), ("0.1", "1"), ("0.15", "1.5"), ("0.3", "3"), ("0.9", "3")],
)
def test_a_range_beyond_the_calm_one_makes_the_hedge_larger_in_proportion(range_percent: str, scale: str) -> None:
    assert hedge_scale(D(range_percent), ON) == D(scale)
    assert hedge_scale(D(range_percent), OFF) == 1


def test_the_hedge_takes_its_margin_from_the_main_leg() -> None:
    assert margin_shares(D("0.8"), D("0.2"), D(1)) == (D("0.8"), D("0.2"))
    main, hedge = margin_shares(D("0.8"), D("0.2"), D(2))
    assert (round(main, 4), round(hedge, 4)) == (D("0.6667"), D("0.3333"))


@given(
    main=st.decimals("0.01", "0.99", places=2),
    hedge=st.decimals("0.01", "0.99", places=2),
    scale=st.decimals("1", "10", places=3),
)
def test_shares_keep_their_sum_and_come_to_the_ratio_asked_for(main: D, hedge: D, scale: D) -> None:
    new_main, new_hedge = margin_shares(main, hedge, scale)
    assert abs(new_main + new_hedge - main - hedge) < D("1e-20")
    assert abs(new_hedge / new_main - scale * hedge / main) < D("1e-20")
    assert new_main <= main and new_hedge >= hedge


def test_a_move_is_told_as_of_one_minute() -> None:
    assert move_percent(D(101), D(100), D(60)) == 1
    assert move_percent(D(99), D(100), D(60)) == 1
    assert move_percent(D(102), D(100), D(240)) == 1, "by the root of the time"
    assert move_percent(D(101), D(100), D(5)) == 1, "a shorter look is not blown up"
    assert move_percent(D("0.0101"), D("0.01"), D(60)) == 1, "whatever the coin costs"
    assert move_percent(D(101), D(0), D(60)) == 0


def test_the_band_only_ever_becomes_narrower() -> None:
    assert held_strictly(ON, D("0.1")) is ON
    assert held_strictly(OFF, D(50)) is OFF
    assert held_strictly(ON, D("0.2")).hedge_drift_percent_max == 5
    assert round(held_strictly(ON, D(9)).hedge_drift_percent_max, 4) == D("3.3333")


def test_a_hedge_that_could_outgrow_its_main_leg_is_no_configuration() -> None:
    from twinleg.embedded.replay import settings_text

    def read(**limits: str) -> None:
        parse(settings_text("BTC", "http://127.0.0.1:9", {"limits": limits}), {})

    read(hedge_calm_range_percent='"0.1"', hedge_scale_max="5")
    read(main_margin_percent="60", hedge_scale_max="5")  # off: its bound means nothing
    with pytest.raises(BadInput, match=r"hedge_scale_max: was 5: the hedge could be 1\.33 of the main leg"):
        read(main_margin_percent="60", hedge_calm_range_percent='"0.1"', hedge_scale_max="5")
