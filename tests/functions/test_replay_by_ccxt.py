"""A replay through ccxt is the replay through the SDK: the same orders, fills and money, to the last digit."""

from __future__ import annotations

from pathlib import Path

from twinleg.adapters.local.candle_files import packaged_candles, parse_instant
from twinleg.embedded.demo import DEMO_LIMITS, sliced
from twinleg.embedded.replay import PostedAlert, Replayed, Script, Segment, alert_json

MINUTES = 7


def played(folder: Path, adapter: str) -> Replayed:
    """Some minutes in which an alert opens a trade and another ends it."""
    candles, history = sliced(packaged_candles(), parse_instant("2025-11-10T18:00"), None)
    opening, closing = candles[history].closed_at, candles[history + 4].closed_at
    script = Script(
        name="replay",
        market="BTC",
        candles=candles[: history + MINUTES],
        history=history,
        alerts=[
            PostedAlert(opening, alert_json("BTC", "buy", opening, "one")),
            PostedAlert(closing, alert_json("BTC", "close", closing, "two")),
        ],
        settings={
            "venue": {"adapter": f'"{adapter}"'},
            "market": {"strategies": '["tradingview"]'},
            "limits": DEMO_LIMITS,
            "tradingview": {"confidence": '"0.2"'},
        },
    )
    return Segment(script, folder / adapter).run(lambda *_: None)


def test_either_adapter_gives_the_same_orders_fills_and_money(tmp_path):
    by_sdk, by_ccxt = (played(tmp_path, adapter) for adapter in ("sdk", "ccxt"))
    assert [trade.state for trade in by_sdk.trades] == ["CLOSED"]
    assert len(by_sdk.ledger["fills"]) >= 4 and len(by_sdk.ledger["orders"]) >= 8
    for part, theirs in by_sdk.ledger.items():
        assert by_ccxt.ledger[part] == theirs, part
    assert by_ccxt.trades == by_sdk.trades
    assert by_ccxt.events == by_sdk.events
    assert by_ccxt.samples == by_sdk.samples
