"""The stress segment: synthetic, seeded, labelled as such. Everything that real candles rarely show within half a day
happens at least once: a stop, a target, the time limit, the ladder's cut, and a hedge that fails.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal

from twinleg.domain.candles import Candle
from twinleg.embedded.replay import Hook, PostedAlert, Script, alert_json, minutes_after

START = datetime(2025, 1, 6, 0, 0, tzinfo=UTC)
HISTORY = 60
HOLDING_SECONDS = 1500
LIMITS = {
    "holding_seconds_max": str(HOLDING_SECONDS),
    "net_stop_percent": '"50"',
    "net_target_percent": '"50"',
    "entries_per_hour_max": "30",
}
"""Time runs short and the net limits are out of the way, so that each layer is seen on its own."""


def stress_script(market: str, seed: int, price: Decimal, hedge_address: str) -> Script:
    """Five scenes, each opened by an alert: stop, target, time limit, failed hedge, ladder cut."""
    scene = _Scenes(market, seed, price)
    scene.calm(HISTORY + 2)
    scene.open("buy", "stop")
    scene.move("-0.004", 5)
    scene.calm(4)
    scene.open("buy", "target")
    scene.move("0.005", 6)
    scene.calm(4)
    scene.open("sell", "time-limit")
    scene.calm(HOLDING_SECONDS // 60 + 4)
    scene.hook(lambda venue: venue.faults([_refuse_hedges(hedge_address)]))
    scene.open("buy", "failed-hedge")
    scene.calm(4)
    scene.hook(lambda venue: venue.clear_faults())
    scene.hook(lambda venue: venue.switches(triggers_enabled=False))
    scene.open("buy", "ladder")
    scene.move("-0.018", 12)
    scene.hook(lambda venue: venue.switches(triggers_enabled=True))
    scene.calm(6)
    return Script(
        name="stress",
        market=market,
        candles=scene.candles,
        history=HISTORY,
        alerts=scene.alerts,
        hooks=scene.hooks,
        settings={
            "limits": LIMITS,
            "tradingview": {"confidence": '"1"'},
            "market": {"strategies": '["tradingview"]'},
        },
    )


def _refuse_hedges(address: str) -> dict[str, object]:
    return {
        "kind": "reject",
        "address": address,
        "action": "order",
        "error": "Insufficient margin to place order.",
        "count": 100,
    }


class _Scenes:
    """Candles made minute by minute from a seed, with what happens at their closes."""

    def __init__(self, market: str, seed: int, price: Decimal) -> None:
        self._market, self._random, self._price = market, random.Random(seed), price
        self.candles: list[Candle] = []
        self.alerts: list[PostedAlert] = []
        self.hooks: list[tuple[datetime, Hook]] = []

    @property
    def _now(self) -> datetime:
        return minutes_after(START, len(self.candles))

    def calm(self, minutes: int) -> None:
        """Minutes that wander a little around where they are."""
        for _ in range(minutes):
            self._candle(Decimal(self._random.randint(-2, 2)) / 10_000)

    def move(self, step: str, minutes: int) -> None:
        """Minutes that each move by about *step* of the price."""
        for _ in range(minutes):
            self._candle(Decimal(step))

    def open(self, action: str, scene: str) -> None:
        """An alert at the present close, then two calm minutes."""
        self.alerts.append(PostedAlert(self._now, alert_json(self._market, action, self._now, f"stress-{scene}")))
        self.calm(2)

    def hook(self, hook: Hook) -> None:
        self.hooks.append((self._now, hook))

    def _candle(self, step: Decimal) -> None:
        opened = self._price
        close = (opened * (1 + step)).quantize(Decimal("0.1"))
        wick = opened * Decimal(self._random.randint(1, 3)) / 20_000
        high, low = (
            (max(opened, close) + wick).quantize(Decimal("0.1")),
            (min(opened, close) - wick).quantize(Decimal("0.1")),
        )
        volume = Decimal(self._random.randint(10, 50))
        self.candles.append(Candle(self._now, opened, high, low, close, volume))
        self._price = close


SCENES = {
    "stop": "stop at",
    "target": "target at",
    "time limit": "held_seconds",
    "ladder cut": "ladder cut",
    "failed hedge unwound": "unwound",
}


def scenes_seen(words: Iterable[str]) -> dict[str, int]:
    """How often each scene's ending is found among the reasons trades were closed or cut."""
    listed = list(words)
    return {scene: sum(text in word for word in listed) for scene, text in SCENES.items()}
