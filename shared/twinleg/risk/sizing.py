"""Sizing: how large both legs may be, and at which prices they enter and leave.

Both legs are planned together and made smaller together, so that the hedge ratio stays what was configured.
Prices are rounded once, towards the mark, so that rounding never widens a limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from twinleg.domain.markets import MarketRules
from twinleg.domain.messages import HedgedIntent
from twinleg.domain.money import BPS, ONE, ZERO, ceil_to, cents, plain
from twinleg.domain.orders import LegRole, Side
from twinleg.risk.approval import Refused
from twinleg.risk.book import Book, LegView
from twinleg.risk.hedging import hedge_scale, margin_shares
from twinleg.risk.limits import Limits
from twinleg.risk.margin import initial_margin_usd, isolated_liquidation_price, liquidation_distance

HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class LegSize:
    """One leg as planned: base size, the worst entry price accepted, and where it leaves."""

    role: LegRole
    account: str
    market: str
    side: Side
    leverage: int
    size: Decimal
    limit_price: Decimal
    stop_price: Decimal
    target_price: Decimal
    liquidation_distance: Decimal
    """Estimated for a fill at the limit price, as a fraction of it."""

    @property
    def notional_usd(self) -> Decimal:
        """At the limit price, which is what a venue's minimum is measured on."""
        return self.size * self.limit_price

    @property
    def margin_usd(self) -> Decimal:
        return initial_margin_usd(self.size, self.limit_price, self.leverage)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Both legs as planned, and what they lose together at the main leg's stop."""

    main: LegSize
    hedge: LegSize
    loss_at_stop_usd: Decimal
    """Entries at their limit prices, exits with slippage, taker fees of four fills; negative would be a profit."""
    stop_percent: Decimal
    """Of the mark: how far away the main leg's stop is."""
    main_fill_min: Decimal
    """The smallest main fill whose hedge still has the venue's minimum; a smaller one is closed whole."""
    summary: str


@dataclass(frozen=True, slots=True)
class _Exits:
    """The main leg's exit prices, and the same places on the hedge's market."""

    stop: Decimal
    target: Decimal
    hedge_stop: Decimal
    hedge_target: Decimal


def plan_sizes(intent: HedgedIntent, book: Book) -> Sizes | Refused:
    """The sizes and prices of both legs, or why there are none.

    Budget = ``budget_percent`` of the equity of both accounts; each leg's margin is its share of it, its notional
    margin x leverage. Then both are made smaller together until the loss at the stop, each account's margin in use
    and its free collateral are within their limits. In de-minimis mode both are instead the smallest the venue
    allows, and refused when even those are too large.

    A later cut that would be, or would leave, less than the venue's minimum closes the whole trade; nothing is
    reserved for it here.
    """
    main, hedge = book.view(intent, LegRole.MAIN), book.view(intent, LegRole.HEDGE)
    if isinstance(main, Refused):
        return main
    if isinstance(hedge, Refused):
        return hedge
    if book.limits is None or book.range_percent is None:
        return Refused("limits_missing", "the limits or the recent range could not be read")
    return _Plan(intent, book, book.limits, book.range_percent, main, hedge).sizes()


def limit_price(rules: MarketRules, mark: Decimal, side: Side, slippage_bps: Decimal) -> Decimal:
    """The worst valid price that crosses the book by at most *slippage_bps* of the mark (rounded inward)."""
    return rules.price(mark * (ONE + side.sign * slippage_bps / BPS), up=side is Side.SELL)


def notional_usd_min(rules: MarketRules, limits: Limits) -> Decimal:
    """The venue's minimum order value, with our margin above it."""
    return rules.notional_usd_min * (ONE + limits.notional_margin_percent / HUNDRED)


def loss_per_unit(entry: Decimal, leave: Decimal, side: Side, slippage_bps: Decimal, fee: Decimal) -> Decimal:
    """Loss of one base unit entered at *entry* and left at *leave*: price, exit slippage and two taker fees.

    Negative = profit.
    """
    return (entry - leave) * side.sign + leave * slippage_bps / BPS + fee * (entry + leave)


class _Plan:
    """One planning: what was asked, what is there, and the steps from one to the other."""

    def __init__(
        self,
        intent: HedgedIntent,
        book: Book,
        limits: Limits,
        range_percent: Decimal,
        main: LegView,
        hedge: LegView,
    ) -> None:
        self.intent, self.limits, self.range_percent = intent, limits, range_percent
        self.main, self.hedge = main, hedge
        self.hedge_scale = hedge_scale(range_percent, limits)
        self.shares = margin_shares(main.plan.margin_share, hedge.plan.margin_share, self.hedge_scale)
        self.equity_usd = book.equity_usd(intent)
        self.slippage_bps = min(intent.slippage_bps, limits.slippage_bps)
        self.de_minimis = intent.de_minimis or limits.de_minimis
        self.main_limit = limit_price(main.rules, main.mark_price, main.plan.side, self.slippage_bps)
        self.hedge_limit = limit_price(hedge.rules, hedge.mark_price, hedge.plan.side, self.slippage_bps)

    def sizes(self) -> Sizes | Refused:
        legs = self._legs()
        if isinstance(legs, Refused):
            return legs
        main, hedge = legs
        fits, why = self._scale(main, hedge)
        if fits < 1 and (self.de_minimis or fits <= 0):
            return Refused(*why)
        if not self.de_minimis:
            main, hedge = self._shrunk(main, hedge, min(fits, ONE))
        small = self._too_small(main) or self._too_small(hedge)
        if small:
            because = f"; both legs were made smaller because {why[1]}" if fits < 1 else ""
            return Refused(small.code, small.reason + because)
        return self._described(main, hedge, why[1] if fits < 1 else "")

    # -- wanted ----------------------------------------------------------------------------------

    def _legs(self) -> tuple[LegSize, LegSize] | Refused:
        """Both legs at full size. The hedge's leverage is lowered until its liquidation leaves room for its stop."""
        nearest: Refused | None = None
        for leverage in range(self.hedge.plan.leverage, 0, -1):
            main_size, hedge_size = self._wanted(leverage)
            if main_size <= 0 or hedge_size <= 0:
                return Refused("too_small", f"the budget of equity_usd {_usd(self.equity_usd)} buys less than one lot")
            exits = self._exits(main_size)
            if isinstance(exits, Refused):
                return exits
            hedge = self._leg(self.hedge, hedge_size, self.hedge_limit, leverage, exits.hedge_stop, exits.hedge_target)
            guard = self._guard_price(hedge)
            if (guard - hedge.stop_price) * hedge.side.sign <= 0:
                plan = self.main.plan
                return self._leg(self.main, main_size, self.main_limit, plan.leverage, exits.stop, exits.target), hedge
            nearest = Refused(
                "hedge_liquidation",
                f"hedge stop {plain(hedge.stop_price)} lies beyond {plain(cents(guard, 4))}, "
                f"{self.limits.stop_of_liquidation_percent} % of the hedge's liquidation distance, even at {leverage}x",
            )
        return nearest or Refused("leverage", "hedge leverage must be at least 1")

    def _wanted(self, hedge_leverage: int) -> tuple[Decimal, Decimal]:
        """(main size, hedge size). Notional is counted at the dearer of mark and limit: no fill exceeds the margin."""
        main, hedge, limits = self.main, self.hedge, self.limits
        main_weight, hedge_weight = self.shares[0] * main.plan.leverage, self.shares[1] * hedge_leverage
        if self.de_minimis:
            ratio = main_weight / hedge_weight
            least_main, least_hedge = notional_usd_min(main.rules, limits), notional_usd_min(hedge.rules, limits)
            hedge_size = ceil_to(max(least_hedge, least_main / ratio) / self.hedge_limit, hedge.rules.lot)
            main_notional = max(least_main, hedge_size * self.hedge_limit * ratio)
            return ceil_to(main_notional / self.main_limit, main.rules.lot), hedge_size
        budget_usd = self.equity_usd * min(self.intent.budget_percent, limits.budget_percent) / HUNDRED
        return (
            main.rules.size(budget_usd * main_weight / max(main.mark_price, self.main_limit)),
            hedge.rules.size(budget_usd * hedge_weight / max(hedge.mark_price, self.hedge_limit)),
        )

    # -- prices ----------------------------------------------------------------------------------

    def _leg(
        self, view: LegView, size: Decimal, price: Decimal, leverage: int, stop: Decimal, target: Decimal
    ) -> LegSize:
        plan = view.plan
        liquidation = isolated_liquidation_price(price, plan.side, size, leverage, view.rules)
        return LegSize(
            role=plan.role,
            account=plan.account,
            market=plan.market,
            side=plan.side,
            leverage=leverage,
            size=size,
            limit_price=price,
            stop_price=stop,
            target_price=target,
            liquidation_distance=liquidation_distance(price, liquidation, plan.side),
        )

    def _guard_price(self, leg: LegSize) -> Decimal:
        """The furthest a stop may be: the allowed share of the way to liquidation (or to zero, for a long)."""
        share = self.limits.stop_of_liquidation_percent / HUNDRED
        return leg.limit_price * (ONE - leg.side.sign * leg.liquidation_distance * share)

    def _exits(self, main_size: Decimal) -> _Exits | Refused:
        """Where the main leg leaves, and the same places on the hedge's market.

        On one market both legs share each price exactly; on two, the hedge's is moved by the ratio of the marks and
        the basis between them remains.
        """
        view, side, mark = self.main, self.main.plan.side, self.main.mark_price
        planned = self._leg(view, main_size, self.main_limit, view.plan.leverage, ZERO, ZERO)
        asked = max(self.intent.stop_percent, self.limits.stop_ranges * self.range_percent)
        stop = mark * (ONE - side.sign * asked / HUNDRED)
        guard = self._guard_price(planned)
        stop = max(stop, guard) if side is Side.BUY else min(stop, guard)
        stop = view.rules.price(stop, up=side is Side.BUY)
        if (mark - stop) * side.sign <= 0:
            return Refused("stop", f"stop {plain(stop)} is not beyond the mark {plain(mark)}")
        used = abs(mark - stop) / mark * HUNDRED
        wanted = max(self.intent.target_percent, self.limits.target_of_stop * used)
        target = mark * (ONE + side.sign * wanted / HUNDRED)
        if target <= 0:
            return Refused("target", f"target_percent {wanted} leaves no price above 0")
        target = view.rules.price(target, up=side is Side.SELL)
        if (target - self.main_limit) * side.sign <= 0:
            return Refused(
                "target", f"target {plain(target)} is not beyond the worst entry price {plain(self.main_limit)}"
            )
        return self._mirrored(stop, target)

    def _mirrored(self, stop: Decimal, target: Decimal) -> _Exits | Refused:
        hedge = self.hedge
        if hedge.plan.market == self.main.plan.market:
            return _Exits(stop, target, hedge_stop=target, hedge_target=stop)
        ratio, buys = hedge.mark_price / self.main.mark_price, hedge.plan.side is Side.BUY
        hedge_stop = hedge.rules.price(target * ratio, up=buys)
        hedge_target = hedge.rules.price(stop * ratio, up=not buys)
        if (hedge.mark_price - hedge_stop) * hedge.plan.side.sign <= 0:
            return Refused("stop", f"hedge stop {plain(hedge_stop)} is not beyond the mark {plain(hedge.mark_price)}")
        return _Exits(stop, target, hedge_stop, hedge_target)

    # -- limits ----------------------------------------------------------------------------------

    def _main_loss(self, leg: LegSize) -> Decimal:
        return loss_per_unit(leg.limit_price, leg.stop_price, leg.side, self.slippage_bps, self.main.rules.taker_fee)

    def _hedge_loss(self, leg: LegSize) -> Decimal:
        return loss_per_unit(leg.limit_price, leg.target_price, leg.side, self.slippage_bps, self.hedge.rules.taker_fee)

    def _loss_usd(self, main: LegSize, hedge: LegSize) -> Decimal:
        return main.size * self._main_loss(main) + hedge.size * self._hedge_loss(hedge)

    @property
    def _loss_usd_max(self) -> Decimal:
        return self.equity_usd * self.limits.loss_at_stop_percent_max / HUNDRED

    def _scale(self, main: LegSize, hedge: LegSize) -> tuple[Decimal, tuple[str, str]]:
        """(the largest factor both legs may be multiplied by, the code and words of the limit that sets it)."""
        rooms = []
        loss = self._loss_usd(main, hedge)
        if loss > 0:
            percent = self.limits.loss_at_stop_percent_max
            text = f"loss_at_stop_usd {_usd(loss)} > {percent} % of equity_usd {_usd(self.equity_usd)}"
            rooms.append((self._loss_usd_max / loss, ("loss_at_stop", text)))
        for account, margin, fees in needs(main, hedge, self.main.rules, self.hedge.rules):
            state = self.main.state if account == main.account else self.hedge.state
            room = state.equity_usd * self.limits.margin_in_use_percent_max / HUNDRED - state.margin_used_usd
            text = f"{account}: margin_usd {_usd(margin)} > {_usd(room)}, what margin_in_use_percent_max leaves"
            rooms.append((room / margin, ("margin_in_use", text)))
            text = f"{account}: margin and fees_usd {_usd(margin + fees)} > free_usd {_usd(state.free_usd)}"
            rooms.append((state.free_usd / (margin + fees), ("free_margin", text)))
        return min(rooms, key=lambda room: room[0])

    def _shrunk(self, main: LegSize, hedge: LegSize, factor: Decimal) -> tuple[LegSize, LegSize]:
        """Both legs times *factor*, in whole lots; the main leg gives way where the hedge's lot costs protection."""
        hedge = self._resized(hedge, self.hedge, hedge.size * factor)
        wanted = main.size * factor
        per_unit = self._main_loss(main)
        if per_unit > 0:
            wanted = min(wanted, (self._loss_usd_max - hedge.size * self._hedge_loss(hedge)) / per_unit)
        return self._resized(main, self.main, max(wanted, ZERO)), hedge

    def _resized(self, leg: LegSize, view: LegView, size: Decimal) -> LegSize:
        lots = view.rules.size(size)
        if lots <= 0:
            return replace(leg, size=ZERO)
        return self._leg(view, lots, leg.limit_price, leg.leverage, leg.stop_price, leg.target_price)

    def _too_small(self, leg: LegSize) -> Refused | None:
        rules = self.main.rules if leg.role is LegRole.MAIN else self.hedge.rules
        least = notional_usd_min(rules, self.limits)
        if leg.notional_usd >= least and leg.size > 0:
            return None
        return Refused(
            "too_small",
            f"{leg.role.value} notional_usd {_usd(leg.notional_usd)} < {_usd(least)} (the venue's minimum "
            f"{plain(rules.notional_usd_min)} and {self.limits.notional_margin_percent} %)",
        )

    # -- words -----------------------------------------------------------------------------------

    def _described(self, main: LegSize, hedge: LegSize, smaller_because: str) -> Sizes:
        loss = self._loss_usd(main, hedge)
        stop_percent = abs(self.main.mark_price - main.stop_price) / self.main.mark_price * HUNDRED
        fill_min = main_fill_min(main.size, hedge.size, hedge.limit_price, self.main.rules, self.hedge.rules)
        parts = [
            f"main {_words(main)}",
            f"hedge {_words(hedge)}",
            f"stop {plain(cents(stop_percent, 2))} % away, loss at it {_usd(loss)} of {_usd(self._loss_usd_max)} USD",
            f"a main fill under {plain(fill_min)} is closed whole",
        ]
        if self.hedge_scale > 1:
            calm = plain(self.limits.hedge_calm_range_percent)
            parts.append(
                f"hedge {plain(cents(self.hedge_scale, 2))} times as large: one-minute range "
                f"{plain(cents(self.range_percent, 3))} % against a calm {calm} %"
            )
        if hedge.leverage < self.hedge.plan.leverage:
            parts.append(f"hedge leverage lowered from {self.hedge.plan.leverage}x so that its liquidation leaves room")
        if hedge.market != main.market:
            parts.append("the legs' exits are on two markets and differ by the basis")
        if smaller_because:
            parts.append(f"made smaller because {smaller_because}")
        return Sizes(main, hedge, loss, stop_percent, fill_min, "; ".join(parts))


def needs(
    main: LegSize, hedge: LegSize, main_rules: MarketRules, hedge_rules: MarketRules
) -> list[tuple[str, Decimal, Decimal]]:
    """(account, initial margin, entry fees) in USD that the legs need, one row per account."""
    rows: dict[str, tuple[Decimal, Decimal]] = {}
    for leg, rules in ((main, main_rules), (hedge, hedge_rules)):
        margin, fees = rows.get(leg.account, (ZERO, ZERO))
        rows[leg.account] = margin + leg.margin_usd, fees + leg.notional_usd * rules.taker_fee
    return [(account, margin, fees) for account, (margin, fees) in rows.items()]


def main_fill_min(
    main_size: Decimal, hedge_size: Decimal, hedge_limit: Decimal, main_rules: MarketRules, hedge_rules: MarketRules
) -> Decimal:
    """The smallest main fill whose matching hedge is still worth the venue's minimum at its limit price."""
    least_hedge = ceil_to(hedge_rules.notional_usd_min / hedge_limit, hedge_rules.lot)
    return ceil_to(least_hedge * main_size / hedge_size, main_rules.lot)


def _usd(amount: Decimal) -> str:
    return plain(cents(amount, 2))


def _words(leg: LegSize) -> str:
    return (
        f"{leg.side} {plain(leg.size)} {leg.market} at {plain(leg.limit_price)} or better, {leg.leverage}x on "
        f"{leg.account} (margin {_usd(leg.margin_usd)} USD), stop {plain(leg.stop_price)}, "
        f"target {plain(leg.target_price)}, liquidation {plain(cents(leg.liquidation_distance * HUNDRED, 1))} % away"
    )
