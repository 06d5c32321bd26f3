"""What requests weigh, and how long is waited when one was too many."""

from datetime import UTC, datetime, timedelta

import pytest

from twinleg.adapters.local.clocks import ReplayClock
from twinleg.adapters.venues import hyperliquid_weights as weights
from twinleg.engine.budget import back_off_seconds

AT = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)


def test_weights_are_those_of_the_venues_documentation() -> None:
    assert [weights.of_read(kind) for kind in ("clearinghouseState", "l2Book", "orderStatus")] == [2, 2, 2]
    assert [weights.of_read(kind) for kind in ("meta", "frontendOpenOrders", "userFillsByTime")] == [20, 20, 20]
    assert [weights.of_action(orders) for orders in (0, 3, 40, 81)] == [1, 1, 2, 3]
    assert [weights.of_rows("userFillsByTime", rows) for rows in (0, 19, 20, 2000)] == [0, 0, 1, 100]
    assert weights.of_rows("candleSnapshot", 119) == 1 and weights.of_rows("meta", 500) == 0


def test_a_minute_is_any_sixty_seconds() -> None:
    clock = ReplayClock(AT)
    spent = weights.Weights(clock)
    for _ in range(4):
        spent.spend(10)
        clock.sleep(20)
    assert spent.last_minute() == 20  # of 20 s and 40 s ago
    clock.sleep(20)
    assert spent.last_minute() == 10
    clock.advance_to(clock.now() + timedelta(days=1))
    assert spent.last_minute() == 0


def test_without_a_clock_nothing_is_counted() -> None:
    spent = weights.Weights(None)
    spent.spend(100)
    assert spent.last_minute() == 0


@pytest.mark.parametrize("times", range(1, 12))
def test_each_refusal_in_a_row_is_waited_out_longer_by_a_jitter_that_a_replay_repeats(times: int) -> None:
    waits = {back_off_seconds(times, f"action {n}") for n in range(100)}
    middle = min(2.0**times, 10.0)
    assert len(waits) == 100 and 0.5 * middle <= min(waits) < 0.7 * middle < 1.3 * middle < max(waits) <= 1.5 * middle
    assert back_off_seconds(times, "one") == back_off_seconds(times, "one")
