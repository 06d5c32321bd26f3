"""The demo behind the emulators: the same orders as in one process, on a clock that all share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twinleg.bootstrap import cloud_system
from twinleg.domain.errors import BadInput
from twinleg.embedded.demo import DemoOptions, chosen_candles, replay_script
from twinleg.embedded.emulated_demo import Stage, emulated_stage
from twinleg.embedded.replay import Replayed, Script, Segment
from twinleg.embedded.topology import FUNCTIONS, PUSHED
from twinleg.settings import example_text, parse

MINUTES = 60
TOPICS = tuple(PUSHED)


def script(end: str = "2025-11-10T19:00") -> Script:
    """An hour of the packaged candles with all of the demo's alerts."""
    options = DemoOptions(
        candles=None, live=False, market="BTC", start="2025-11-10T18:00", end=end, out=Path("unused"), seed=7,
        stress=False, as_json=True,
    )  # fmt: skip
    candles, history, _ = chosen_candles(options)
    return replay_script("BTC", candles, history)


def orders(replayed: Replayed) -> list[tuple[Any, ...]]:
    """Every order of the venue's own ledger, in its order."""
    wanted = ("cloid", "user", "coin", "side", "origSz", "limitPx")
    return [tuple(order.get(name) for name in wanted) for order in replayed.ledger["orders"]]


def fills(replayed: Replayed) -> list[tuple[Any, ...]]:
    wanted = ("cloid", "user", "coin", "side", "sz", "px", "fee", "time")
    return [tuple(fill[name] for name in wanted) for fill in replayed.ledger["fills"]]


@contextmanager
def stage(firestore_host: str, pubsub_host: str) -> Iterator[Stage]:
    named = {"FIRESTORE_EMULATOR_HOST": firestore_host, "PUBSUB_EMULATOR_HOST": pubsub_host}
    with emulated_stage(dict(os.environ) | named) as made:
        yield made


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The same hour in one process."""
    return Segment(script(), tmp_path_factory.mktemp("embedded")).run(lambda *_: None)


def test_the_demo_is_the_embedded_demo_order_for_order(
    embedded: Replayed, tmp_path: Path, firestore_host: str, pubsub_host: str
) -> None:
    played = script()
    done: list[int] = []
    said: list[str] = []
    with stage(firestore_host, pubsub_host) as made:
        segment = made.segment(played, tmp_path / "emulated", say=said.append)
        emulated = segment.run(lambda number, _: done.append(number))

    assert done == list(range(1, MINUTES + 1))
    assert len(fills(embedded)) >= 8, "the hour must trade"
    assert orders(emulated) == orders(embedded)
    assert fills(emulated) == fills(embedded)
    assert [trade.model_dump() for trade in emulated.trades] == [trade.model_dump() for trade in embedded.trades]
    assert emulated.samples == embedded.samples
    assert (emulated.webhook, emulated.refusals) == (embedded.webhook, embedded.refusals)
    assert (emulated.intents, emulated.dead) == (embedded.intents, embedded.dead)
    assert said == []
    assert {path.stem for path in (tmp_path / "emulated" / "logs").glob("*.jsonl")} == {
        "ingest", "signal", "execute", "risk", "webhook",
    }  # fmt: skip


def with_clock(mode: Any, clock: str) -> object:
    settings = replace(parse(example_text(), {}), mode=mode)
    return cloud_system(settings, {"GOOGLE_CLOUD_PROJECT": "desk", "TWINLEG_REPLAY_CLOCK": clock})


@pytest.mark.parametrize(
    "clock", ["http://10.0.0.1:80", "https://127.0.0.1:80", "http://127.0.0.1:80/x", "127.0.0.1:80"]
)
def test_another_clock_than_this_machine_s_venue_is_refused(clock: str) -> None:
    with pytest.raises(BadInput, match=r"must be at http://127.0.0.1:PORT"):
        with_clock("paper", clock)


def test_live_trading_keeps_no_clock_but_the_wall_s() -> None:
    with pytest.raises(BadInput, match="only paper trading may keep another clock, mode was live"):
        with_clock("live", "http://127.0.0.1:8790")


def test_killed_functions_and_a_thousand_redeliveries_change_nothing(
    embedded: Replayed, tmp_path: Path, firestore_host: str, pubsub_host: str
) -> None:
    played = script()
    kept = "once-more-"
    redelivered: list[Any] = []
    restarts: list[int] = []
    with stage(firestore_host, pubsub_host) as made:
        segment = made.segment(played, tmp_path / "emulated")

        def meddle(number: int, _: int) -> None:
            """Each function dies (kill -9) several times; at the end all that was published is published again."""
            desk = segment.playing
            assert desk is not None
            queues = desk.deliveries.queues
            if number == 1:
                for topic in TOPICS:
                    queues.make_pull(kept + topic, topic)
            if number % 5 == 0:
                desk.kill(list(FUNCTIONS)[number // 5 % len(FUNCTIONS)])
            if number == MINUTES:
                restarts.append(min(desk.servers.restarts.values()))
                seen = [one for topic in TOPICS for one in queues.pull(kept + topic, topic)]
                while len(redelivered) < 1_000:
                    for one in seen:
                        desk.publish(one.topic, one.data, key=one.key, attributes=one.attributes)
                        redelivered.append(one)
                desk.deliver()

        emulated = segment.run(meddle)

    assert restarts[0] >= 2 and len(redelivered) >= 1_000
    assert {one.topic for one in redelivered} == set(TOPICS)
    assert orders(emulated) == orders(embedded)
    assert fills(emulated) == fills(embedded)
    assert [t.trade_id for t in emulated.trades] == [t.trade_id for t in embedded.trades]
    assert emulated.dead == embedded.dead
