"""How one paper venue is set up: its markets, clock and fees, and what it does where the real venue is unknown."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from twinleg.domain.candles import Candle
from twinleg.domain.errors import BadInput
from twinleg.domain.money import decimal_of
from twinleg.paper.path import POINTS_MIN

POINTS_MAX = 600
"""Of the path through a candle: two points may not share a millisecond of a second's candle."""

Network = Literal["testnet", "mainnet"]
ClockKind = Literal["manual", "wall"]
Abstraction = Literal["default", "disabled", "unifiedAccount", "portfolioMargin", "dexAbstraction"]


UNDECIDED = (
    "partial_gtc_answer",
    "partial_ioc_status",
    "woken_children_answer",
    "children_wake_on_partial",
    "duplicate_open_cloid",
    "plain_gtc_close_below_minimum",
    "reduce_only_trigger_needs_position",
    "triggers_canceled_when_flat",
    "position_tpsl_size_shown",
    "modify_keeps_old_when_rejected",
    "cross_margin_follows_leverage",
    "order_status_size",
    "new_order_margin_price",
    "price_band_reference",
    "market_order_cap",
    "rejected_action_spends_nonce",
    "expired_action_spends_nonce",
    "funding_rounding",
)
"""Switches of the first group whose settings are equally possible on the real venue."""


@dataclass(frozen=True, slots=True)
class Switches:
    """Every choice about the venue that its public documents leave open, or that a test wants to turn.

    The first group is unknown or disputed on the real venue, or may change any day; the default is what is documented
    or was observed most often. The second group turns whole mechanisms on and off. ``docs/paper-venue.md`` lists each
    with its source.
    """

    # What the real venue does here is unknown or disputed.
    partial_gtc_answer: Literal["resting", "filled"] = "resting"
    """The answer to a Gtc order that fills in part and rests the remainder."""
    partial_ioc_status: Literal["canceled", "filled"] = "canceled"
    """The final status of an immediate-or-cancel order that filled in part."""
    woken_children_answer: Literal["waitingForTrigger", "waitingForFill"] = "waitingForTrigger"
    """What a bracket's children answer when their parent filled at once."""
    children_wake_on_partial: bool = False
    """Whether a bracket's children wake when the parent filled only in part and is over."""
    duplicate_open_cloid: Literal["reject", "accept"] = "reject"
    """A client order id that an open order of the same account already carries."""
    plain_gtc_close_below_minimum: bool = False
    """Whether a resting order without reduce-only may close a whole position worth under $10."""
    reduce_only_trigger_needs_position: bool = True
    """Whether a reduce-only trigger order is refused while there is nothing to reduce."""
    triggers_canceled_when_flat: bool = True
    """Whether reduce-only triggers are cancelled when their position is closed."""
    position_tpsl_size_shown: Literal["position", "zero"] = "position"
    """The size listed for a stop or target that follows the position."""
    modify_keeps_old_when_rejected: bool = True
    """Whether the old order survives a modify whose replacement is refused."""
    modify_always_place_rule: bool = False
    """The 2026 rule: without ``a: true`` a replacement must be a post-only limit order."""
    cross_margin_follows_leverage: bool = True
    """Whether an open cross position is re-margined when its leverage setting changes."""
    order_status_size: Literal["fresh", "stale"] = "fresh"
    """``stale``: orderStatus of an open, partly filled order shows its original size."""
    new_order_margin_price: Literal["fill", "limit"] = "fill"
    """The price at which the part of an order that takes liquidity is checked for margin."""
    price_band: Decimal = Decimal("0.8")
    """A limit price further than this fraction from the reference price is refused."""
    price_band_reference: Literal["oracle", "mark"] = "oracle"
    market_order_cap: Literal["15M", "30M"] = "15M"
    """The largest order value on coins of 25x and more (two copies of the documents differ)."""
    rejected_action_spends_nonce: bool = True
    expired_action_spends_nonce: bool = True
    """Whether the nonce is looked at before the expiry. If not, a late copy of what ran answers ``expired`` too."""
    nonce_window_margin_ms: int = 120_000
    """Measured on testnet: the window (T - 2 days, T + 1 day) is narrower by this on both sides."""
    agent_expiry_lateness_ms: int = 0
    """How long an expired agent key still signs (it was late on testnet)."""
    funding_rounding: Literal["half_even", "down"] = "half_even"
    """How a funding payment is brought to the 6 decimals of USDC."""
    entry_price_rounding: Literal["half_even", "down"] = "down"
    """How ``entryPx`` is brought to the coin's price decimals (the exact entry value is kept beside it)."""
    fee_decimals: Literal[6, 8] = 6
    """Fees are truncated to this many decimals (6 was measured; older answers show 8)."""
    withdrawable_less_resting: bool = True
    """Whether what resting orders reserve cannot be withdrawn (2 of 10 sampled real accounts are not explained)."""
    oversize_reduce_only: Literal["cap", "reject"] = "cap"
    """A reduce-only order larger than the position: capped to it (testnet, two sources) or refused (one claim)."""
    minimum_notional_usd: Decimal = Decimal(10)
    """The smallest order value, but for an order that closes a whole position (measured on testnet)."""
    batch_max: int = 200
    """The most orders, cancels or modifies one action may hold (measured for cancels on testnet)."""
    oracle_band: Decimal = Decimal(0)
    """An order more aggressive than the oracle by more than this fraction is too far from it; 0: no such rule."""
    agent_removal_ms: int = 5_000
    """For this long after an agent was removed no other can be approved (4 to 5 s on testnet)."""
    agent_replacement_pends: bool = False
    """Whether the same holds after one was replaced (seen once on testnet)."""
    pruned_agent_answer: Literal["no_wallet", "must_deposit"] = "no_wallet"
    """What a key hears in those first seconds after it was replaced or removed (both were seen)."""
    agent_address_reuse: Literal["refuse", "prune"] = "refuse"
    """An agent address that was replaced or removed: never approved again, or approved with its nonces forgotten."""
    sub_account_volume_usd: int = 100_000
    schedule_cancel_volume_usd: int = 1_000_000
    """Traded volume that the gates ask for."""
    ws_unknown_coin: Literal["error", "disconnect"] = "error"
    """A WebSocket subscription to an unknown coin: ``Invalid subscription``, or the connection ends (both seen)."""
    ws_partial_fill_updates: bool = True
    """Whether a partial fill of a resting order is told on ``orderUpdates``, as ``open`` with what is left."""
    ws_connections_max: int = 10
    """WebSockets of one client address (two copies of the documents say 10 and 100); with ``rate_limits`` on."""
    ws_users_max: int = 10
    """Users in the subscriptions of one client address (10 in the documents, 15 in the venue's own words)."""
    trigger_slippage: Decimal = Decimal("0.1")
    """Limit of a triggered market order: this fraction beyond the mark at which it fired."""
    order_memory: int = 2000
    """How many orders of an account orderStatus and historicalOrders remember, by count."""
    liquidation_step_usd: Decimal = Decimal(100_000)
    """Positions above this notional are liquidated 20 % first, then wait 30 s."""
    taker_fee_rate: Decimal = Decimal("0.00045")
    maker_fee_rate: Decimal = Decimal("0.00015")
    network: Network = "testnet"
    """Whose signatures verify. A client at a custom address signs as testnet."""
    default_abstraction: Abstraction = "disabled"

    # Mechanisms.
    triggers_enabled: bool = True
    liquidations_enabled: bool = True
    funding_enabled: bool = True
    volume_gates: bool = True
    """Traded volume required for sub-accounts and scheduleCancel."""
    rate_limits: bool = False
    """Request weight per minute (429) and the address budget."""
    ws_idle_seconds: int = 60
    """A WebSocket to which nothing was sent for this long, in real time, is closed; 0: never."""
    nonce_window: bool = True
    """Whether nonces must lie near the venue's clock. Turn off to trade on old candles with wall-clock nonces."""
    fill_on_touch: bool = False
    """A resting order fills when the path touches its price; by default the path must go through it."""
    post_only_mode: bool = False
    """``Only post-only orders allowed immediately after network upgrade``."""
    fee_tiers: bool = False
    """Fee rates by the volume of the last 14 days (master and sub-accounts together); else the two rates above."""
    adl_enabled: bool = False
    """Auto-deleveraging: an account below zero is closed against the winners of the other side, at the last mark."""
    isolated_loss_confined: bool = False
    """What an isolated position loses beyond its own margin (its stop fills across a gap, say) is the backstop's.

    By default the account pays it; a liquidation's is the backstop's either way.
    """
    open_interest_cap_usd: Decimal = Decimal(0)
    """Of the accounts here, per coin: at this value no order may add to it; 0: no cap."""
    isolated_only: str = ""
    """Coins (comma between) that take isolated margin only, besides those whose metadata say so."""
    strict_isolated: str = ""
    """Coins that take isolated margin only and never give it back while the position is open."""
    mark_gap: Decimal = Decimal(0)
    """Added to the mark, as a fraction of it (0.01 = the mark stands 1 % above the traded price)."""

    def drawn(self, draw: random.Random) -> Switches:
        """These switches with every undecided choice of the real venue drawn at random."""
        hints = get_type_hints(Switches)
        chosen: dict[str, Any] = {}
        for name in UNDECIDED:
            options = get_args(hints[name])
            chosen[name] = options[draw.randrange(len(options))] if options else draw.randrange(2) == 1
        return replace(self, **chosen)

    def changed(self, values: Mapping[str, object]) -> Switches:
        """These switches with some of them set from JSON values; BadInput names the one that is wrong."""
        hints = get_type_hints(Switches)
        unknown = sorted(set(values) - set(hints))
        if unknown:
            known = ", ".join(f.name for f in fields(self))
            raise BadInput(f"switches: {unknown[0]!r} is not a switch; known are {known}")
        typed: dict[str, Any] = {name: _typed(name, value, hints[name]) for name, value in values.items()}
        return replace(self, **typed)

    def as_json(self) -> dict[str, object]:
        """Plain values: Decimals as text."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: f"{v:f}" if isinstance(v, Decimal) else v for name, v in values.items()}


def _typed(name: str, value: object, hint: object) -> object:
    choices = get_args(hint)
    if choices:
        if value not in choices:
            raise BadInput(f"switches: {name} must be one of {', '.join(map(str, choices))}, was {value!r}")
        return value
    if hint is Decimal:
        number = decimal_of(str(value) if isinstance(value, float) else value, f"switches: {name}")
        return _bounded(name, number)
    expected: type = hint if isinstance(hint, type) else int
    if type(value) is not expected:
        raise BadInput(f"switches: {name} must be {_EXPECTED[expected]}, was {value!r}")
    return _bounded(name, value) if expected is int else value


def _bounded(name: str, value: Any) -> Any:
    least, most = _BOUNDS.get(name, (0, 10**12))
    if not Decimal(least) <= value <= Decimal(most):
        raise BadInput(f"switches: {name} must lie between {least} and {most}, was {value}")
    return value


_BOUNDS: dict[str, tuple[int | str, int | str]] = {
    "price_band": ("0.01", "100"),
    "trigger_slippage": ("-0.9", "0.99"),  # below 0 a triggered order finds nothing: simulated worlds ask for it
    "mark_gap": ("-0.9", "9"),
    "taker_fee_rate": (0, "0.1"),
    "maker_fee_rate": ("-0.1", "0.1"),
    "batch_max": (1, 10_000),
    "order_memory": (1, 1_000_000),
    "nonce_window_margin_ms": (0, 86_400_000),
}
"""Least and most of the switches that have their own; beyond them the arithmetic, or the venue, would stop."""


_EXPECTED = {bool: "true or false", int: "an integer", str: "text"}


@dataclass(frozen=True, slots=True)
class BookShape:
    """The synthetic book around the path: calm-market spread and depth.

    Depth falls and spread grows with the width of the candle: with ``wide`` = the wider of the last candle's
    range and the current one's range so far, in basis points of the price, depth is divided and spread
    multiplied by ``1 + wide / calm_range_bps``. Only what the path has already shown counts, so that the book
    tells nothing of the rest of the candle.
    """

    spread_bps: Decimal = Decimal(1)
    levels: int = 20
    level_gap_bps: Decimal = Decimal(1)
    level_usd: Decimal = Decimal(25_000)
    """Notional of the best level for a 40x coin; other coins in proportion to their maximum leverage."""
    level_growth: Decimal = Decimal("0.15")
    """Each level further out holds this fraction of the best level more."""
    calm_range_bps: Decimal = Decimal(100)
    refill: Decimal = Decimal("0.5")
    """The fraction of consumed liquidity that comes back at each point of the path."""


@dataclass(frozen=True, slots=True)
class VenueOptions:
    """One paper venue. ``candles`` maps each coin to its bars, oldest first, all of one interval.

    With a ``manual`` clock the venue starts at ``start_ms`` (default: where ``history_candles`` of the first
    series have closed) and moves only when told. With a ``wall`` clock the candles are re-stamped: the first
    ``history_candles`` (default half, at least 300 where that leaves an hour) lie before the start and the rest
    arrives from now on, ``speed`` times as fast as they were recorded. At a speed other than 1 the venue's time
    leaves the wall's, so a client that takes nonces from the wall's clock falls out of the nonce window after a day or
    two of venue time (``Switches.nonce_window`` turns the window off).

    ``open_accounts``: every key that signs (or address that is asked for) is an account holding ``equity`` USDC,
    unless it is registered as somebody's agent. Otherwise accounts exist only once deposited to.

    ``ledger`` is a SQLite file; None keeps everything in memory. A venue started on an existing ledger continues
    it: its recorded candles, start and accounts win over these options.
    """

    candles: Mapping[str, Sequence[Candle]]
    clock: ClockKind = "manual"
    port: int = 0
    host: str = "127.0.0.1"
    speed: Decimal = Decimal(1)
    open_accounts: bool = True
    equity: Decimal = Decimal(10_000)
    ledger: Path | None = None
    start_ms: int | None = None
    seed: int = 0
    history_candles: int | None = None
    switches: Switches = field(default_factory=Switches)
    book: BookShape = field(default_factory=BookShape)
    funding_rates: Mapping[str, Sequence[tuple[int, Decimal]]] = field(default_factory=dict)
    """Recorded hourly funding rates per coin, (time ms, rate); hours without one use the venue's own formula."""
    lists_all: bool = True
    """Whether coins without candles stay in the metadata, as delisted; else those after the last that has any go."""
    path_points_min: int = POINTS_MIN
    """Points of the path through each candle, at least: prices, marks, triggers and liquidations happen at these."""

    def checked(self) -> VenueOptions:
        """Itself, or BadInput naming the option, its value and the limit."""
        if not self.candles or not all(self.candles.values()):
            raise BadInput(f"candles: every market needs at least one candle, was {list(self.candles)}")
        if self.speed <= 0:
            raise BadInput(f"speed must be above 0, was {self.speed}")
        if not POINTS_MIN <= self.path_points_min <= POINTS_MAX:
            raise BadInput(f"path_points_min must be {POINTS_MIN} to {POINTS_MAX}, was {self.path_points_min}")
        if self.equity < 0:
            raise BadInput(f"equity must be >= 0, was {self.equity}")
        if self.history_candles is not None and self.history_candles < 0:
            raise BadInput(f"history_candles must be >= 0, was {self.history_candles}")
        for coin, series in self.candles.items():
            _check_series(coin, series)
        return self


def _check_series(coin: str, series: Sequence[Candle]) -> None:
    interval, end = series[0].interval, None
    for candle in series:
        candle.checked()
        if candle.interval != interval:
            raise BadInput(f"candles of {coin}: all must last {interval}, one lasts {candle.interval}")
        if end is not None and candle.opened_at < end:
            raise BadInput(f"candles of {coin}: {candle.opened_at} opens before the one before it closes ({end})")
        end = candle.closed_at
