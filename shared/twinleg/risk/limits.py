"""Every limit the system keeps, with its default, in one class. Each can be set per strategy."""

# Annotations are objects here, not text: pydantic would compile each text at every cold start.

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

D = Decimal


class Limits(BaseModel):
    """Limits and policies of trading. Percent fields are per cent (5 means 5 %), not fractions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # size
    budget_percent: D = Field(D("5"), gt=0, le=20)
    """A trade's margin, of the equity of both accounts together."""
    main_margin_percent: D = Field(D("80"), gt=0, lt=100)
    """Of the budget; the rest is the hedge's."""
    leverage_max: int = Field(5, ge=1, le=50)
    leverage_above_10_allowed: bool = False
    """Leverage caps above 10 have to be typed out."""
    hedge_leverage_ratio: D = Field(D("0.5"), gt=0, le=1)
    """Hedge leverage = this x main leverage, rounded down, at least 1."""
    hedge_calm_range_percent: D = Field(D("0"), ge=0, le=10)
    """One-minute range up to which the hedge is as configured; a wider one makes it larger. 0: it never does."""
    hedge_scale_max: D = Field(D("2"), ge=1, le=10)
    """The most that a wide range multiplies the hedge by, and divides its drift band by."""
    margin_in_use_percent_max: D = Field(D("20"), gt=0, le=100)
    """Of one account's equity."""
    loss_at_stop_percent_max: D = Field(D("1"), gt=0, le=10)
    """Both legs, fees and slippage, of the equity of both accounts together."""
    de_minimis: bool = False
    """Trade the smallest notional both legs may have at this venue, whatever the budget."""
    notional_margin_percent: D = Field(D("20"), ge=0, le=100)
    """Kept above the venue's minimum order value, so that the price can move before the order lands."""
    # count
    open_trades_max: int = Field(5, ge=1)
    entries_per_hour_max: int = Field(6, ge=1)
    entries_per_day_max: int = Field(30, ge=1)
    unwinds_per_day_max: int = Field(3, ge=1)
    # exits
    stop_percent: D = Field(D("1"), gt=0, lt=100)
    """Of the entry price. The stop used is the nearer of this and stop_of_liquidation_percent."""
    stop_ranges: D = Field(D("0"), ge=0)
    """When above 0 the configured stop is at least this many recent one-minute ranges away."""
    target_percent: D = Field(D("2"), gt=0, lt=1000)
    target_of_stop: D = Field(D("0"), ge=0)
    """When above 0 the target is at least this many times the stop's distance."""
    stop_of_liquidation_percent: D = Field(D("60"), gt=0, lt=100)
    stop_round_trips_min: D = Field(D("5"), ge=0)
    stop_ranges_min: D = Field(D("3"), ge=0)
    holding_seconds_max: int = Field(4 * 3600, ge=60)
    net_stop_percent: D = Field(D("1.5"), gt=0)
    """Close both legs when their net loss exceeds this per cent of the equity of both accounts."""
    net_target_percent: D = Field(D("3"), gt=0)
    # freshness
    intent_expiry_seconds: int = Field(90, ge=1)
    alert_window_seconds: int = Field(120, ge=1)
    candle_age_seconds_max: int = Field(90, ge=1)
    mark_off_oracle_percent_max: D = Field(D("1"), gt=0)
    outlier_percent: D = Field(D("5"), gt=0)
    """A candle that closes further than this from the one before it is suspect."""
    # orders
    entry_order: Literal["market", "limit"] = "market"
    """market: at once, within slippage_bps. limit: resting at the mark for limit_order_seconds_max, then gone."""
    slippage_bps: D = Field(D("50"), gt=0, le=500)
    close_slippage_bps: D = Field(D("200"), gt=0, le=900)
    depth_ratio_min: D = Field(D("2"), ge=0)
    """Book depth within 0.5 % of mid, over the order's size."""
    hedge_seconds_max: int = Field(10, ge=1)
    stop_seen_seconds_max: int = Field(5, ge=1)
    limit_order_seconds_max: int = Field(20, ge=1, le=45)
    action_expiry_seconds: int = Field(15, ge=5, le=60)
    request_weight_percent_max: int = Field(60, ge=1, le=100)
    """Of what a venue takes of us in a minute: with more spent already nothing is entered."""
    requests_left_min: int = Field(1000, ge=0)
    """Of an account's requests: with fewer left nothing is entered. Closes and cancels may use them all."""
    # protection
    ladder_warn_percent: D = Field(D("50"), gt=0, lt=100)
    """Of the liquidation distance at entry that is left."""
    ladder_margin_percent: D = Field(D("35"), gt=0, lt=100)
    ladder_cut_percent: D = Field(D("20"), gt=0, lt=100)
    ladder_hysteresis_percent: D = Field(D("5"), ge=0)
    ratio_warn: D = Field(D("3"), gt=1)
    """Margin ratio: account value / maintenance margin."""
    ratio_margin: D = Field(D("2"), gt=1)
    ratio_cut: D = Field(D("1.5"), gt=1)
    cut_percent: D = Field(D("50"), gt=0, lt=100)
    hedge_drift_percent_max: D = Field(D("10"), gt=0)
    """Of the hedge's notional."""
    day_loss_reducing_percent: D = Field(D("5"), gt=0)
    day_loss_flatten_percent: D = Field(D("10"), gt=0)
    foreign: Literal["stop", "close", "ignore"] = "stop"
    """A position or order nobody recorded: call a person, close or cancel it, or only warn. It keeps entries out."""
    sweep_every_seconds: int = Field(0, ge=0, le=40)
    """Between two sweeps open trades are judged again this often, by account states alone. 0: once a minute."""
    emergency_ratio: D = Field(D("1.5"), gt=1)
    """While the records cannot be read: the margin ratio at or under which both legs are closed."""
    emergency_distance_percent: D = Field(D("20"), gt=0, le=50)
    """The same of what is left to liquidation, in per cent of 1 / leverage: about the distance at entry."""
    person_after_seconds: int = Field(300, ge=30)
