"""Rules between limits: what one number alone cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from twinleg.risk.limits import Limits
from twinleg.settings_faults import Faults, Where
from twinleg.settings_read import Draft


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule between limits: broken, it is told at *field*."""

    fields: tuple[str, ...]
    holds: bool
    field: str
    says: str


def check_limits(draft: Draft, faults: Faults) -> None:
    """The rules between limits: of all, and of each strategy where it has limits of its own."""
    if draft.limits is not None:
        for rule in _broken(draft.limits, ("limits",), faults):
            faults.add(("limits", rule.field), rule.says)
    for name, limits in draft.strategy_limits.items():
        strategy = draft.strategies[name]
        where: Where = ("strategies", name, "limits")
        own = set(strategy.limits) if strategy else set()
        for rule in _broken(limits, where, faults):
            places = [rule.field, *rule.fields]
            place = next((limit for limit in places if limit in own), None)
            if place is not None:
                faults.add((*where, place), rule.says if place == rule.field else f"{rule.field} {rule.says}")


def _broken(limits: Limits, where: Where, faults: Faults) -> list[Rule]:
    """Broken rules all of whose limits could be read."""
    return [
        rule
        for rule in limit_rules(limits)
        if not rule.holds
        and not any(faults.is_spoiled((*place, limit)) for limit in rule.fields for place in (where, ("limits",)))
    ]


def limit_rules(limits: Limits) -> Iterator[Rule]:
    """What one limit alone cannot say."""
    yield Rule(
        ("leverage_max", "leverage_above_10_allowed"),
        limits.leverage_max <= 10 or limits.leverage_above_10_allowed,
        "leverage_max",
        f"was {limits.leverage_max}, must be at most 10 unless leverage_above_10_allowed = true is typed out",
    )
    yield _falling(limits, "ladder_warn_percent", "ladder_margin_percent", "ladder_cut_percent")
    yield _falling(limits, "ratio_warn", "ratio_margin", "ratio_cut")
    yield Rule(
        ("ladder_warn_percent", "ladder_hysteresis_percent"),
        limits.ladder_warn_percent + limits.ladder_hysteresis_percent < 100,
        "ladder_hysteresis_percent",
        f"was {limits.ladder_hysteresis_percent}, with ladder_warn_percent {limits.ladder_warn_percent} must be below "
        "100 in all, or a warning is never over",
    )
    yield _rising(limits, "emergency_ratio", "ratio_warn", equal=False)
    yield _rising(limits, "day_loss_reducing_percent", "day_loss_flatten_percent", equal=False)
    yield _rising(limits, "entries_per_hour_max", "entries_per_day_max", equal=True)
    yield from _hedge_rules(limits)


def _falling(limits: Limits, *names: str) -> Rule:
    values = [getattr(limits, name) for name in names]
    told = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    return Rule(
        names, values[0] > values[1] > values[2], names[1],
        f"must lie between the other two, each smaller than the one before: was {told}",
    )  # fmt: skip


def _rising(limits: Limits, low: str, high: str, *, equal: bool) -> Rule:
    below, above = getattr(limits, low), getattr(limits, high)
    words = "at most" if equal else "below"
    holds = below <= above if equal else below < above
    return Rule((low, high), holds, low, f"was {below}, must be {words} {high} {above}")


def _hedge_rules(limits: Limits) -> Iterator[Rule]:
    """The hedge is the smaller leg, and a trade's margin fits into an account."""
    share = limits.main_margin_percent
    leverage = limits.leverage_max
    hedge_leverage = max(1, int((leverage * limits.hedge_leverage_ratio).to_integral_value(ROUND_FLOOR)))
    ratio = ((100 - share) * hedge_leverage) / (share * leverage)
    yield Rule(
        ("main_margin_percent", "hedge_leverage_ratio", "leverage_max"),
        ratio < 1,
        "main_margin_percent",
        f"was {share}: at leverage {leverage} and hedge leverage {hedge_leverage} the hedge is {ratio:.2f} of the main "
        "leg, must be below 1",
    )
    yield Rule(
        ("hedge_scale_max", "hedge_calm_range_percent", "main_margin_percent", "hedge_leverage_ratio", "leverage_max"),
        limits.hedge_calm_range_percent == 0 or ratio * limits.hedge_scale_max < 1,
        "hedge_scale_max",
        f"was {limits.hedge_scale_max.normalize():f}: the hedge could be {ratio * limits.hedge_scale_max:.2f} of the "
        "main leg, must be below 1",
    )
    budget = limits.budget_percent * max(share, 100 - share) / Decimal(100)
    yield Rule(
        ("budget_percent", "main_margin_percent", "margin_in_use_percent_max", "de_minimis"),
        limits.de_minimis or budget <= limits.margin_in_use_percent_max,
        "margin_in_use_percent_max",
        f"was {limits.margin_in_use_percent_max}, must be at least {budget.normalize():f}, the larger leg's margin in "
        "per cent of all equity: no trade could ever be approved",
    )
