"""Account arithmetic against states that the real venue was recorded to print, to the printed precision."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import paper_bench as bench
from twinleg.paper.accounts import Position
from twinleg.paper.listings import Listing
from twinleg.paper.options import Switches
from twinleg.paper.statements import clearinghouse

Bench, flat, D, ALICE = bench.Bench, bench.flat, bench.D, bench.ALICE
ONE_TIER = tuple[tuple[Decimal, Decimal, Decimal, int], ...]


def single(rate: str, leverage: int) -> ONE_TIER:
    """Margin tiers of a coin that has one: maintenance rate and maximum leverage."""
    return ((D(0), D(rate), D(0), leverage),)


def shown(rows: list[dict[str, Any]], equity: str, switches: Switches | None = None, **tiers: ONE_TIER) -> Any:
    """What our venue prints for positions as recorded: sizes, values and profits in, everything else computed.

    ``equity`` is the account value without isolated positions.
    """
    coins = [row["coin"] for row in rows]
    v = Bench({coin: flat(100, 2) for coin in coins}, open_accounts=False, switches=switches or Switches())
    account = v.state.new_account(ALICE)
    account.balance = D(equity)
    for row in rows:
        market = v.state.markets[row["coin"]]
        size, pnl = D(row["szi"]), D(row["unrealizedPnl"])
        market.mark = D(row["positionValue"]) / abs(size)
        leverage = row["leverage"]
        listing: Listing = market.listing
        market.listing = replace(
            listing,
            tiers=tiers.get(row["coin"], listing.tiers),
            max_leverage=row.get("maxLeverage", listing.max_leverage),
        )
        position = Position(size, size * market.mark - pnl, leverage["type"] == "cross", leverage["value"])
        if position.is_cross:
            account.balance -= pnl
        else:
            position.collateral = D(row["marginUsed"]) - pnl
        account.positions[row["coin"]] = position
    return clearinghouse(v.state, account)


def position(coin: str, **fields: Any) -> dict[str, Any]:
    leverage = {"type": fields.pop("kind", "cross"), "value": fields.pop("leverage")}
    return {"coin": coin, "leverage": leverage, **fields}


def agrees(ours: dict[str, Any], theirs: dict[str, Any], *but: str) -> None:
    """Every field of theirs is printed by us, digit by digit."""
    for name, value in theirs.items():
        if name not in but:
            assert ours[name] == value, name


def test_a_cross_account_of_2026():
    theirs = position(
        "BTC",
        szi="4.5",
        leverage=10,
        entryPx="81285.0",
        positionValue="377667.0",
        unrealizedPnl="11884.306507",
        returnOnEquity="0.3249007326",
        marginUsed="37766.7",
        maxLeverage=40,
    )
    state = shown([theirs], "38252.7")
    agrees(state["assetPositions"][0]["position"], theirs)
    summary = {
        "accountValue": "38252.7",
        "totalNtlPos": "377667.0",
        "totalRawUsd": "-339414.3",
        "totalMarginUsed": "37766.7",
    }
    assert state["marginSummary"] == state["crossMarginSummary"] == summary
    assert (state["crossMaintenanceMarginUsed"], state["withdrawable"]) == ("4720.8375", "486.0")


FIRST = position(
    "BTC",
    szi="0.00015",
    leverage=5,
    entryPx="79449.2",
    positionValue="11.9163",
    unrealizedPnl="-0.00109",
    returnOnEquity="-0.0004573149",
    liquidationPx=None,
    marginUsed="2.38326",
    maxLeverage=40,
)
SECOND = position(
    "BTC",
    szi="0.00015",
    leverage=5,
    entryPx="79472.0",
    positionValue="11.92065",
    unrealizedPnl="-0.00015",
    liquidationPx=None,
    returnOnEquity="-0.0000629152",
    marginUsed="2.38413",
    maxLeverage=40,
)


@pytest.mark.parametrize("theirs", [FIRST, SECOND], ids=["first", "second"])
def test_two_small_positions_on_testnet(theirs):
    state = shown([theirs], "77.8")
    agrees(state["assetPositions"][0]["position"], theirs)


def test_this_entry_price_was_cut_off_and_not_rounded():
    """The only recorded state here in which the two differ: 79449.2667 was printed as 79449.2."""
    state = shown([FIRST], "77.8", Switches(entry_price_rounding="half_even"))
    assert state["assetPositions"][0]["position"]["entryPx"] == "79449.3"


def test_the_documented_isolated_position():
    theirs = position(
        "ETH",
        kind="isolated",
        szi="0.0335",
        leverage=20,
        positionValue="100.02765",
        unrealizedPnl="-0.02765",
        marginUsed="4.967826",
        maxLeverage=50,
    )
    row = shown([theirs], "0", ETH=single("0.01", 50))["assetPositions"][0]["position"]
    assert row["leverage"] == {"type": "isolated", "value": 20, "rawUsd": "-95.059824"}
    assert row["liquidationPx"] == "2866.26936529"
    agrees(row, theirs, "leverage")


def test_an_isolated_position_of_another_client():
    """Its liquidation price is -rawUsd / (szi x (1 - 1 / (2 x maximum leverage)))."""
    theirs = position("SOL", kind="isolated", szi="2", leverage=3, positionValue="90.0", unrealizedPnl="0.0")
    theirs |= {"marginUsed": "21.873754", "maxLeverage": 10}
    row = shown([theirs], "0", SOL=single("0.05", 10))["assetPositions"][0]["position"]
    assert row["leverage"]["rawUsd"] == "-68.126246"
    assert row["liquidationPx"].startswith("35.85591")


def test_what_may_be_withdrawn_and_what_must_be_held():
    theirs = position("BTC", szi="0.0005", leverage=10, positionValue="47.66235", unrealizedPnl="0.0", maxLeverage=40)
    state = shown([theirs], "179.007426")
    assert (state["withdrawable"], state["crossMaintenanceMarginUsed"]) == ("174.241191", "0.595779")


def test_a_second_tier_deducts_what_the_first_asks_less():
    """Tiers of testnet: 40x to 10 000, 25x above; the venue printed 166.4731 for 12 073.655."""
    tiers = ((D(0), D("0.0125"), D(0), 40), (D(10_000), D("0.02"), D(75), 25))
    theirs = position("BTC", szi="0.1", leverage=10, positionValue="12073.655", unrealizedPnl="0.0", maxLeverage=40)
    assert shown([theirs], "9000", BTC=tiers)["crossMaintenanceMarginUsed"] == "166.4731"


# The account of twelve positions of May 2023, where its recording lies beside the repository

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev" / "hyperliquid_api"
RULE_OF_2023 = "0.0075"
"""Maintenance was 0.75 % of the notional then; it is half the initial margin at maximum leverage now."""


def test_twelve_positions_of_2023():
    path = RECORDED / "python_sdk_cassettes.json"
    if path.is_file():
        rows = json.loads(path.read_text())["interactions"]
        state = next(r["response"] for r in rows if r["request"].get("type") == "clearinghouseState")
        theirs = [row["position"] for row in state["assetPositions"]]
        tiers = {row["coin"]: single(RULE_OF_2023, 50) for row in theirs}
        ours = shown(theirs, state["marginSummary"]["accountValue"], **tiers)
        assert ours["marginSummary"] == state["marginSummary"] == ours["crossMarginSummary"]
        for mine, real in zip(ours["assetPositions"], theirs, strict=True):
            compared(mine["position"], real)


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Field by field; the return was one on the value then, and the entry price had a digit more."""
    agrees(ours, theirs, "maxTradeSzs", "returnOnEquity", "entryPx", "liquidationPx")
    on_value = D(theirs["unrealizedPnl"]) * theirs["leverage"]["value"] / D(theirs["positionValue"])
    assert round(on_value, 8) == D(theirs["returnOnEquity"])
    assert D(ours["entryPx"]) == pytest.approx(D(theirs["entryPx"]), rel=D("0.0001"))
    real = theirs["liquidationPx"]
    assert (ours["liquidationPx"] is None) == (real is None)
    if real is not None:
        assert D(ours["liquidationPx"]) == pytest.approx(D(real), rel=D("0.00002"))
