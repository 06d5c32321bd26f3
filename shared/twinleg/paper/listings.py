"""The coins a paper venue lists: tick, lot, leverage and margin tiers from a packaged copy of real metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from twinleg.domain.markets import MarginTier, MarketRules

PRICE_DIGITS = 5
PRICE_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Listing:
    """One perpetual: its place in the universe (= asset id) and its rules."""

    coin: str
    asset: int
    size_decimals: int
    max_leverage: int
    margin_table: int
    delisted: bool
    strict_isolated: bool
    rules: MarketRules
    lot: Decimal
    finest: Decimal
    """The smallest price step: 10^-(6 - size decimals)."""
    tiers: tuple[tuple[Decimal, Decimal, Decimal, int], ...]
    """(lower bound, maintenance rate, deduction, maximum leverage), lowest first."""

    def tick(self, price: Decimal) -> Decimal:
        """The price step at this price: five significant digits, not finer than ``finest``, not coarser than 1."""
        exponent = price.adjusted() - PRICE_DIGITS + 1
        if exponent >= 0:
            return Decimal(1)
        step = Decimal(1).scaleb(exponent)
        return step if step > self.finest else self.finest

    def round(self, price: Decimal, mode: str = ROUND_HALF_EVEN) -> Decimal:
        """The valid price nearest to this one (or below / above it, by rounding mode)."""
        return price.quantize(self.tick(price), mode)

    def maintenance(self, notional: Decimal) -> Decimal:
        """Maintenance margin in USDC of a position of this notional. Source: Hyperliquid docs, margin tiers."""
        rate, deduction, _ = self.tier(notional)
        return notional * rate - deduction

    def tier(self, notional: Decimal) -> tuple[Decimal, Decimal, int]:
        """(maintenance rate, deduction, maximum leverage) at this notional."""
        found = self.tiers[0]
        for tier in self.tiers[1:]:
            if notional < tier[0]:
                break
            found = tier
        return found[1], found[2], found[3]


@cache
def metadata() -> dict[str, Any]:
    """The packaged metadata file, as parsed."""
    source = files("twinleg").joinpath("data/hyperliquid_meta.json")
    parsed: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return parsed


@cache
def listings() -> dict[str, Listing]:
    """Every packaged coin by name, in universe order."""
    tables = {number: table for number, table in metadata()["marginTables"]}
    return {row["name"]: _listing(asset, row, tables) for asset, row in enumerate(metadata()["universe"])}


def _listing(asset: int, row: dict[str, Any], tables: dict[int, Any]) -> Listing:
    table = tables.get(row["marginTableId"])
    raw = table["marginTiers"] if table else [{"lowerBound": "0.0", "maxLeverage": row["maxLeverage"]}]
    tiers = tuple(MarginTier(lower_bound_usd=Decimal(t["lowerBound"]), max_leverage=t["maxLeverage"]) for t in raw)
    decimals = row["szDecimals"]
    rules = MarketRules(
        market=f"hyperliquid:{row['name']}",
        asset=asset,
        lot=Decimal(1).scaleb(-decimals),
        price_digits=PRICE_DIGITS,
        price_decimals=PRICE_DECIMALS - decimals,
        notional_usd_min=Decimal(metadata()["minimumNotionalUsd"]),
        max_leverage=row["maxLeverage"],
        tiers=tiers,
        taker_fee=Decimal(metadata()["takerFeeRate"]),
        only_isolated=row.get("onlyIsolated", False) or row.get("marginMode") in ("strictIsolated", "noCross"),
    )
    return Listing(
        coin=row["name"],
        asset=asset,
        size_decimals=decimals,
        max_leverage=row["maxLeverage"],
        margin_table=row["marginTableId"],
        delisted=row.get("isDelisted", False),
        strict_isolated=row.get("marginMode") == "strictIsolated",
        rules=rules,
        lot=rules.lot,
        finest=Decimal(1).scaleb(decimals - PRICE_DECIMALS),
        tiers=tuple((t.lower_bound_usd, *rules.tier_rate(t.lower_bound_usd), t.max_leverage) for t in tiers),
    )


def meta_answer(traded: frozenset[str], *, whole: bool = True) -> dict[str, Any]:
    """The ``meta`` answer. Coins without candles here stay listed, flagged delisted, so asset ids stay real.

    Not *whole*: the list ends with the last coin that has candles.
    """
    universe = []
    for row in metadata()["universe"]:
        entry = dict(row)
        entry.pop("isDelisted", None)
        if row["name"] not in traded:
            entry["isDelisted"] = True
        universe.append(entry)
    while not whole and universe[-1].get("isDelisted"):
        universe.pop()
    return {"universe": universe, "marginTables": metadata()["marginTables"], "collateralToken": 0}
