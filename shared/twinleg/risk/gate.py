"""The pre-trade gate: both legs of an intent are approved together, or refused with the numbers.

``review`` asks, in this order; the first no is the answer, and whatever cannot be read is a no (CLOSED-FAIL):

 1. ``limits_missing`` ``halted``       limits are known and trading is ENABLED
 2. ``expired`` ``stale_trigger``       the intent, and the candle or alert behind it, are fresh (FRESH)
 3. ``not_a_hedge``                     two opposite legs that cannot net each other out (REAL-HEDGE)
 4. ``account_mode``                    both accounts keep their balances where margin is reckoned
 5. ``account_unknown`` ``no_equity`` ``price_missing`` ``rules_missing``   everything needed was read
 6. ``stale_price`` ``off_oracle``      both snapshots are fresh and their marks near the oracle
 7. ``slot_taken`` ``foreign`` ``unresolved``   both (account, market) slots are free, ours and settled
 8. ``open_trades`` ``entries_per_hour`` ``entries_per_day`` ``unwinds``   the counts leave room
 9. ``key_expiry``                      no key ends before the trade must
10. ``request_weight`` ``requests_left``   the venue still takes requests, also those of the ways out
11. ``leverage``                        integer caps: ours, the venue's, above 10 only when typed out
12. ``stop`` ``target`` ``hedge_liquidation`` ``too_small`` …   sizing finds sizes within the limits
13. ``tier``                            the venue allows the leverage at that notional
14. ``stop_too_near`` ``margin_ratio``  the stop is worth its costs; no leg opens on a rung of the ladder
15. ``loss_at_stop`` ``depth`` ``margin_in_use`` ``free_margin`` ``too_small``   asked again of the final sizes

``unreadable`` is a number nothing can be reckoned with, at any of these steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal

from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput, InvariantBroken
from twinleg.domain.ids import account_market, venue_of
from twinleg.domain.messages import HedgedIntent
from twinleg.domain.money import ONE, cents, plain
from twinleg.domain.orders import LegRole, Side
from twinleg.domain.trades import BETWEEN_LEGS, Leg, Trade
from twinleg.risk.approval import Approved, ApprovedLeg, Refused
from twinleg.risk.book import Book, LegView
from twinleg.risk.limits import Limits
from twinleg.risk.margin import margin_ratio
from twinleg.risk.sizing import HUNDRED, LegSize, Sizes, needs, notional_usd_min, plan_sizes

__all__ = ["MODE_REQUIRED", "Book", "approved_again", "review"]

MODE_REQUIRED = "disabled"
"""Perp balances stand alone. In unified or portfolio mode the account state we read would mislead."""
LEVERAGE_TYPED_OUT = 10


def review(intent: HedgedIntent, book: Book) -> Approved | Refused:
    """Approve both legs together, or refuse with a code and the numbers. Adds nothing, reads nothing."""
    if book.limits is None:
        return Refused("limits_missing", "the limits could not be read")
    try:
        return _decide(intent, book, book.limits)
    except (BadInput, ArithmeticError, TypeError) as problem:  # e.g. not a number, or a time without its zone
        return Refused("unreadable", f"the book cannot be reckoned with: {problem}")


def approved_again(trade: Trade) -> Approved:
    """The recorded approval of a trade that is between its legs: an approval outlives the process that gave it.

    It never exceeds what the record holds. Raises InvariantBroken in any other state: a trade that is proposed
    has no approval yet, and one that is open or leaving adds no exposure.
    """
    if trade.state not in BETWEEN_LEGS:
        raise InvariantBroken(f"trade {trade.trade_id}: {trade.state} adds no exposure and needs no approval")
    for leg in trade.legs:
        if leg.size_approved <= 0 or leg.entry_limit_price <= 0 or leg.stop_price <= 0:
            raise InvariantBroken(f"trade {trade.trade_id}: no approval of its {leg.role} leg is recorded")
    return Approved(
        trade_id=trade.trade_id,
        main=_recorded(trade.main),
        hedge=_recorded(trade.hedge),
        loss_at_stop_usd=_loss_recorded(trade.main, trade.main.stop_price)
        + _loss_recorded(trade.hedge, trade.hedge.target_price),
        reason=f"approved before; {trade.state}",
    )


def _recorded(leg: Leg) -> ApprovedLeg:
    return ApprovedLeg(
        role=leg.role,
        account=leg.account,
        market=leg.market,
        side=leg.side,
        leverage=leg.leverage,
        size=leg.size_approved,
        entry_limit_price=leg.entry_limit_price,
        stop_price=leg.stop_price,
        target_price=leg.target_price,
        liquidation_distance=ONE if leg.entry_liquidation_distance is None else leg.entry_liquidation_distance,
    )


def _loss_recorded(leg: Leg, leave: Decimal) -> Decimal:
    """Before fees and slippage, which the record does not keep."""
    return leg.size_approved * (leg.entry_limit_price - leave) * leg.side.sign


def _decide(intent: HedgedIntent, book: Book, limits: Limits) -> Approved | Refused:
    for early in (_halted, _fresh, _real_hedge, _modes):
        refused = early(intent, book, limits)
        if refused:
            return refused
    main, hedge = book.view(intent, LegRole.MAIN), book.view(intent, LegRole.HEDGE)
    if isinstance(main, Refused):
        return main
    if isinstance(hedge, Refused):
        return hedge
    refused = next((r for check in BEFORE_SIZING for r in check(intent, book, limits, (main, hedge)) if r), None)
    if refused:
        return refused
    sizes = plan_sizes(intent, book)
    if isinstance(sizes, Refused):
        return sizes
    refused = next((r for check in OF_SIZES for r in check(sizes, intent, book, limits, (main, hedge)) if r), None)
    return refused or Approved(
        trade_id=intent.intent_id,
        main=_approved_leg(sizes.main),
        hedge=_approved_leg(sizes.hedge),
        loss_at_stop_usd=sizes.loss_at_stop_usd,
        reason=sizes.summary,
    )


def _approved_leg(leg: LegSize) -> ApprovedLeg:
    return ApprovedLeg(
        role=leg.role,
        account=leg.account,
        market=leg.market,
        side=leg.side,
        leverage=leg.leverage,
        size=leg.size,
        entry_limit_price=leg.limit_price,
        stop_price=leg.stop_price,
        target_price=leg.target_price,
        liquidation_distance=leg.liquidation_distance,
    )


# -- before anything is read of the venue --------------------------------------------------------


def _halted(_: HedgedIntent, book: Book, __: Limits) -> Refused | None:
    if book.control is None:
        return Refused("halted", "the control document could not be read")
    if book.control.state is not Halt.ENABLED:
        return Refused("halted", f"trading is {book.control.state}: {book.control.why or 'no reason given'}")
    return None


def _fresh(intent: HedgedIntent, book: Book, limits: Limits) -> Refused | None:
    age = _seconds(book.now - intent.created_at)
    if age > limits.intent_expiry_seconds:
        return Refused("expired", f"intent_age_seconds {age} > intent_expiry_seconds {limits.intent_expiry_seconds}")
    if book.now > intent.expires_at:
        return Refused("expired", f"now {book.now.isoformat()} is past expires_at {intent.expires_at.isoformat()}")
    by_candle = intent.trigger[:1].isdigit()
    name, most = (
        ("candle_age_seconds", limits.candle_age_seconds_max)
        if by_candle
        else ("alert_age_seconds", limits.alert_window_seconds)
    )
    age = _seconds(book.now - intent.trigger_at)
    if abs(age) > most:
        return Refused("stale_trigger", f"{name} {age} is beyond {most} ({intent.trigger})")
    return None


def _real_hedge(intent: HedgedIntent, _: Book, __: Limits) -> Refused | None:
    main, hedge = intent.main, intent.hedge
    if (main.account, main.market) == (hedge.account, hedge.market):
        return Refused(
            "not_a_hedge",
            f"both legs would be on {main.account} {main.market} and net each other out: use another account",
        )
    if (main.role, hedge.role) != (LegRole.MAIN, LegRole.HEDGE):
        return Refused("not_a_hedge", f"the legs' roles are {main.role} and {hedge.role}")
    if main.side is not Side.opening(intent.direction) or hedge.side is not main.side.opposite:
        return Refused("not_a_hedge", f"a {intent.direction} trade was given main {main.side} and hedge {hedge.side}")
    if main.margin_share + hedge.margin_share > 1:
        return Refused("not_a_hedge", f"margin shares {main.margin_share} and {hedge.margin_share} exceed the budget")
    return None


def _modes(intent: HedgedIntent, book: Book, _: Limits) -> Refused | None:
    """Asked before any balance: in another mode the balances we read mean nothing."""
    for plan, mode in ((intent.main, book.main_mode), (intent.hedge, book.hedge_mode)):
        if mode != MODE_REQUIRED:
            return Refused("account_mode", f"{plan.account}: account mode {mode} must be {MODE_REQUIRED}")
    return None


# -- before sizing -------------------------------------------------------------------------------

Views = tuple[LegView, LegView]
Found = Iterator[Refused | None]


def _prices(_: HedgedIntent, book: Book, limits: Limits, views: Views) -> Found:
    for view in views:
        age = _seconds(book.now - view.snapshot.at)
        if abs(age) > limits.candle_age_seconds_max:
            yield Refused(
                "stale_price",
                f"{view.plan.market}: snapshot_age_seconds {age} is beyond {limits.candle_age_seconds_max}",
            )
        oracle = view.snapshot.oracle_price
        off = abs(view.mark_price - oracle) / oracle * HUNDRED
        if off > limits.mark_off_oracle_percent_max:
            yield Refused(
                "off_oracle",
                f"{view.plan.market}: mark_off_oracle_percent {_short(off)} > {limits.mark_off_oracle_percent_max} "
                f"(mark {plain(view.mark_price)}, oracle {plain(oracle)})",
            )


def _slots(_: HedgedIntent, book: Book, __: Limits, views: Views) -> Found:
    for code, listed, words in (
        ("slot_taken", book.slots_taken, "is held"),
        ("foreign", book.foreign, "holds a position or order nobody owns"),
        ("unresolved", book.unresolved, "has an action whose outcome is unknown"),
    ):
        for view in views:
            slot = account_market(view.plan.account, view.plan.market)
            entry = next((e for e in listed if e == slot or e.startswith(f"{slot} ")), None)
            yield Refused(code, f"{entry} {words}") if entry else None


def _counts(_: HedgedIntent, book: Book, limits: Limits, __: Views) -> Found:
    for code, name, count, most in (
        ("open_trades", "open_trades", book.open_trades, limits.open_trades_max),
        ("entries_per_hour", "entries_last_hour", book.entries_last_hour, limits.entries_per_hour_max),
        ("entries_per_day", "entries_last_day", book.entries_last_day, limits.entries_per_day_max),
        ("unwinds", "unwinds_last_day", book.unwinds_last_day, limits.unwinds_per_day_max),
    ):
        if count >= most:
            yield Refused(code, f"{name} {count} >= {name.replace('_last_', '_per_')}_max {most}")


def _keys(intent: HedgedIntent, book: Book, _: Limits, views: Views) -> Found:
    needed_until = book.now + timedelta(seconds=intent.holding_seconds_max)
    for view in views:
        account = view.plan.account
        expires = book.keys_expire_at.get(account)
        if account not in book.keys_expire_at:
            yield Refused("key_expiry", f"{account}: when its key expires could not be read")
        elif expires is not None and expires < needed_until:
            yield Refused(
                "key_expiry",
                f"{account}: the key expires {expires.isoformat()}, before {needed_until.isoformat()} "
                f"(holding_seconds_max {intent.holding_seconds_max})",
            )


def _requests(_: HedgedIntent, book: Book, limits: Limits, views: Views) -> Found:
    """A share of what the venue takes is kept for the ways out."""
    for view in views:
        account, venue = view.plan.account, venue_of(view.plan.market)
        if venue not in book.weights:
            yield Refused("request_weight", f"{venue}: what it takes a minute is not known")
            continue
        used, most = book.weights[venue]
        share = most * limits.request_weight_percent_max // 100
        if most and used > share:
            yield Refused(
                "request_weight",
                f"{venue}: weight_last_minute {used} > {share}, request_weight_percent_max "
                f"{limits.request_weight_percent_max} of {most}: the rest is kept for closes",
            )
        left = book.requests_left.get(account)
        if account not in book.requests_left:
            yield Refused("requests_left", f"{account}: how many requests it has left could not be read")
        elif left is not None and left < limits.requests_left_min:
            yield Refused(
                "requests_left",
                f"{account}: requests_left {left} < requests_left_min {limits.requests_left_min}: kept for closes",
            )


def _leverage(_: HedgedIntent, __: Book, limits: Limits, views: Views) -> Found:
    for view in views:
        plan, where = view.plan, f"{view.plan.role} {view.plan.market}"
        if plan.leverage < 1:
            yield Refused("leverage", f"{where}: leverage {plan.leverage} < 1")
        if plan.leverage > limits.leverage_max:
            yield Refused("leverage", f"{where}: leverage {plan.leverage} > leverage_max {limits.leverage_max}")
        if plan.leverage > view.rules.max_leverage:
            yield Refused("leverage", f"{where}: leverage {plan.leverage} > the venue's {view.rules.max_leverage}")
        if plan.leverage > LEVERAGE_TYPED_OUT and not limits.leverage_above_10_allowed:
            yield Refused(
                "leverage", f"{where}: leverage {plan.leverage} > {LEVERAGE_TYPED_OUT} needs leverage_above_10_allowed"
            )


BEFORE_SIZING: tuple[Callable[[HedgedIntent, Book, Limits, Views], Found], ...] = (
    _prices,
    _slots,
    _counts,
    _keys,
    _requests,
    _leverage,
)


# -- of the final sizes --------------------------------------------------------------------------


def _tier(sizes: Sizes, _: HedgedIntent, __: Book, ___: Limits, views: Views) -> Found:
    for leg, view in zip((sizes.main, sizes.hedge), views, strict=True):
        allowed = [t.max_leverage for t in view.rules.tiers if leg.notional_usd >= t.lower_bound_usd]
        if allowed and leg.leverage > allowed[-1]:
            yield Refused(
                "tier",
                f"{leg.role} {leg.market}: leverage {leg.leverage} > {allowed[-1]}, the venue's at "
                f"notional_usd {_short(leg.notional_usd)}",
            )


def _stop_floor(sizes: Sizes, _: HedgedIntent, book: Book, limits: Limits, views: Views) -> Found:
    """The round trip is in and out of one leg at the taker fee: 2 x fee, in per cent of its notional."""
    round_trip = 2 * views[0].rules.taker_fee * HUNDRED
    least = limits.stop_round_trips_min * round_trip
    if sizes.stop_percent < least:
        yield Refused(
            "stop_too_near",
            f"stop_percent {_short(sizes.stop_percent)} < {_short(least)}, {limits.stop_round_trips_min} x the round "
            f"trip of {_short(round_trip)} %",
        )
    if book.range_percent is None:
        yield Refused("limits_missing", "the recent range could not be read")
    elif sizes.stop_percent < limits.stop_ranges_min * book.range_percent:
        yield Refused(
            "stop_too_near",
            f"stop_percent {_short(sizes.stop_percent)} < {_short(limits.stop_ranges_min * book.range_percent)}, "
            f"{limits.stop_ranges_min} x the one-minute range of {_short(book.range_percent)} %",
        )


def _margin_ratio(sizes: Sizes, _: HedgedIntent, __: Book, limits: Limits, views: Views) -> Found:
    """A leg that would open at or under the ladder's first rung is refused: protection would start at once."""
    for leg, view in zip((sizes.main, sizes.hedge), views, strict=True):
        ratio = margin_ratio(leg.margin_usd, view.rules.maintenance_margin_usd(leg.notional_usd))
        if ratio is not None and ratio <= limits.ratio_warn:
            yield Refused(
                "margin_ratio",
                f"{leg.role} {leg.market}: margin_ratio {_short(ratio)} at {leg.leverage}x is not above "
                f"ratio_warn {limits.ratio_warn}: lower the leverage",
            )


def _loss(sizes: Sizes, intent: HedgedIntent, book: Book, limits: Limits, _: Views) -> Found:
    most = book.equity_usd(intent) * limits.loss_at_stop_percent_max / HUNDRED
    if sizes.loss_at_stop_usd > most:
        yield Refused(
            "loss_at_stop",
            f"loss_at_stop_usd {_short(sizes.loss_at_stop_usd)} > {_short(most)} "
            f"({limits.loss_at_stop_percent_max} % of both accounts)",
        )


def _depth(sizes: Sizes, _: HedgedIntent, __: Book, limits: Limits, views: Views) -> Found:
    for leg, view in zip((sizes.main, sizes.hedge), views, strict=True):
        depth = view.snapshot.ask_depth if leg.side is Side.BUY else view.snapshot.bid_depth
        if depth < limits.depth_ratio_min * leg.size:
            yield Refused(
                "depth",
                f"{leg.role} {leg.market}: {'ask' if leg.side is Side.BUY else 'bid'} depth {plain(depth)} < "
                f"{limits.depth_ratio_min} x size {plain(leg.size)}",
            )


def _margins(sizes: Sizes, _: HedgedIntent, __: Book, limits: Limits, views: Views) -> Found:
    states = {view.plan.account: view.state for view in views}
    for account, margin, fees in needs(sizes.main, sizes.hedge, views[0].rules, views[1].rules):
        state = states[account]
        in_use = (state.margin_used_usd + margin) / state.equity_usd * HUNDRED
        if in_use > limits.margin_in_use_percent_max:
            yield Refused(
                "margin_in_use",
                f"{account}: margin_in_use_percent {_short(in_use)} > {limits.margin_in_use_percent_max}",
            )
        if margin + fees > state.free_usd:
            yield Refused(
                "free_margin",
                f"{account}: margin and fees_usd {_short(margin + fees)} > free_usd {_short(state.free_usd)}",
            )


def _minimums(sizes: Sizes, _: HedgedIntent, __: Book, limits: Limits, views: Views) -> Found:
    for leg, view in zip((sizes.main, sizes.hedge), views, strict=True):
        least = notional_usd_min(view.rules, limits)
        if leg.notional_usd < least:
            yield Refused(
                "too_small",
                f"{leg.role} {leg.market}: notional_usd {_short(leg.notional_usd)} at its limit < {_short(least)}",
            )
    if sizes.main_fill_min > sizes.main.size:
        yield Refused(
            "too_small",
            f"no main fill up to {plain(sizes.main.size)} leaves a hedge worth the venue's minimum",
        )


OF_SIZES: tuple[Callable[[Sizes, HedgedIntent, Book, Limits, Views], Found], ...] = (
    _tier,
    _stop_floor,
    _margin_ratio,
    _loss,
    _depth,
    _margins,
    _minimums,
)


def _seconds(span: timedelta) -> int:
    return round(span.total_seconds())


def _short(number: Decimal) -> str:
    return plain(cents(number, 4))
