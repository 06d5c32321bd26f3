"""What an account is shown of itself: margin, positions, fees, joined fills."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from twinleg.domain.candles import utc_from_ms
from twinleg.paper import fees
from twinleg.paper.accounts import (
    UNIFIED,
    Account,
    CrossMargin,
    Position,
    cross_margin,
    isolated_margin,
    liquidation_price,
    withdrawable,
)
from twinleg.paper.market import DAY_MS, Market
from twinleg.paper.numbers import NANO8, RATE10, ZERO, rounded, text, truncated, usd
from twinleg.paper.state import State

Json = Any


def clearinghouse(state: State, account: Account) -> Json:
    """An account's margin, money and positions, as ``clearinghouseState`` shows them.

    Margin used and maintenance are cut off at the sixth decimal, position by position, and summed after: recorded.
    """
    markets = state.markets
    cross = _as_printed(account, markets, cross_margin(account, markets))
    value, notional, used, raw = cross.value, cross.notional, cross.used, cross.raw
    positions = []
    for coin, position in account.positions.items():
        market = markets[coin]
        if not position.is_cross:
            margin = truncated(isolated_margin(position, market.mark))
            value += margin
            used += margin
            notional += abs(position.size) * market.mark
            raw += position.collateral - position.entry_usd
        positions.append({"type": "oneWay", "position": _position(state, account, market, position, cross)})
    if account.abstraction in UNIFIED:
        value, raw = value - cross.value + cross.used, raw - cross.value + cross.used
        cross = cross._replace(value=cross.used, raw=cross.raw - cross.value + cross.used)
    return {
        "marginSummary": _summary(value, notional, raw, used),
        "crossMarginSummary": _summary(cross.value, cross.notional, cross.raw, cross.used),
        "crossMaintenanceMarginUsed": usd(cross.maintenance),
        "withdrawable": usd(truncated(_withdrawable(state, account, cross))),
        "assetPositions": positions,
        "time": state.now_ms,
    }


def _as_printed(account: Account, markets: Mapping[str, Market], cross: CrossMargin) -> CrossMargin:
    if not cross.notional:
        return cross
    used = maintenance = ZERO
    for coin, position in account.positions.items():
        if position.is_cross:
            worth = abs(position.size) * markets[coin].mark
            used += truncated(worth / position.leverage)
            maintenance += truncated(markets[coin].listing.maintenance(worth))
    return cross._replace(used=used, maintenance=maintenance)


def _withdrawable(state: State, account: Account, cross: CrossMargin) -> Decimal:
    return withdrawable(account, state.markets, cross, resting=state.switches.withdrawable_less_resting)


def _position(state: State, account: Account, market: Market, position: Position, cross: CrossMargin) -> Json:
    mark, size = market.mark, position.size
    worth = abs(size) * mark
    pnl = position.pnl(mark)
    leverage: dict[str, Any] = {"type": "cross" if position.is_cross else "isolated", "value": position.leverage}
    exact = market.listing.maintenance(worth)
    held = truncated(exact)
    if position.is_cross:
        margin = truncated(worth / position.leverage)
        equity, others = cross.value, cross.maintenance - held
    else:
        margin = equity = truncated(isolated_margin(position, mark))
        others = ZERO
        leverage["rawUsd"] = usd(position.collateral - position.entry_usd)
    liquidation = liquidation_price(position, market, equity + exact - held, others)
    rounding = truncated if state.switches.entry_price_rounding == "down" else rounded
    entry = rounding(position.entry_usd / size, market.listing.finest)
    return_on_equity = pnl * position.leverage / abs(position.entry_usd)
    return {
        "coin": market.coin,
        "szi": text(size),
        "leverage": leverage,
        "entryPx": text(entry),
        "positionValue": usd(worth),
        "unrealizedPnl": usd(pnl),
        "returnOnEquity": text(rounded(return_on_equity, RATE10)),
        "liquidationPx": None if liquidation is None else text(rounded(liquidation, NANO8)),
        "marginUsed": usd(margin),
        "maxLeverage": market.listing.max_leverage,
        "cumFunding": {
            "allTime": usd(account.funding_all_time.get(market.coin, ZERO)),
            "sinceOpen": usd(position.funding_opened),
            "sinceChange": usd(position.funding_changed),
        },
    }


def fee_statement(state: State, account: Account) -> Json:
    """The account's fee rates and daily volumes, as ``userFees`` shows them."""
    switches = state.switches
    taker, maker = (text(rate) for rate in fees.rates(state, account))
    nothing = {"bpsOfMaxSupply": "0.0", "discount": "0.0"}
    return {
        "dailyUserVlm": [
            {"date": _date(day), "userCross": usd(cross), "userAdd": usd(add), "exchange": "0.0"}
            for day, (cross, add) in list(account.daily.items())[-15:]
        ],
        "feeSchedule": {
            "cross": text(switches.taker_fee_rate),
            "add": text(switches.maker_fee_rate),
            "spotCross": "0.0007",
            "spotAdd": "0.0004",
            "tiers": {"vip": fees.VIP_TIERS, "mm": fees.MAKER_TIERS},
            "referralDiscount": "0.04",
            "stakingDiscountTiers": [nothing],
        },
        "userCrossRate": taker,
        "userAddRate": maker,
        "userSpotCrossRate": "0.0007",
        "userSpotAddRate": "0.0004",
        "activeReferralDiscount": "0.0",
        "trial": None,
        "feeTrialEscrow": "0.0",
        "nextTrialAvailableTimestamp": None,
        "stakingLink": None,
        "activeStakingDiscount": nothing,
    }


def _date(day: int) -> str:
    return f"{utc_from_ms(day * DAY_MS):%Y-%m-%d}"


def _summary(value: Decimal, notional: Decimal, raw: Decimal, used: Decimal) -> Json:
    return {
        "accountValue": usd(value),
        "totalNtlPos": usd(notional),
        "totalRawUsd": usd(raw),
        "totalMarginUsed": usd(used),
    }


def aggregated(fills: list[Json]) -> list[Json]:
    """Fills of one order in one instant joined into one, at their average price."""
    out: list[Json] = []
    for row in fills:
        last = out[-1] if out else None
        if last is None or (last["oid"], last["time"]) != (row["oid"], row["time"]):
            out.append(dict(row))
            continue
        size, more = Decimal(last["sz"]), Decimal(row["sz"])
        worth = size * Decimal(last["px"]) + more * Decimal(row["px"])
        last["px"] = text(rounded(worth / (size + more), NANO8))
        last["sz"] = text(size + more)
        for name in ("closedPnl", "fee", "builderFee"):
            if name in row:
                last[name] = text(Decimal(last.get(name, "0")) + Decimal(row[name]))
    return out
