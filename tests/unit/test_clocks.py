from __future__ import annotations

import ast
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from twinleg.adapters.local import clocks
from twinleg.adapters.local.clocks import ReplayClock, SystemClock
from twinleg.domain.errors import BadInput, InvariantBroken

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_the_system_clock_is_the_walls_in_utc_and_waits() -> None:
    clock = SystemClock()
    before = datetime.now(UTC)
    now = clock.now()
    assert before <= now <= datetime.now(UTC) and now.utcoffset() == timedelta(0)
    started = time.monotonic()
    clock.sleep(0.02)
    assert time.monotonic() - started >= 0.019
    clock.sleep(0)
    clock.sleep(-1)


def test_a_replay_stands_still_until_it_is_moved() -> None:
    clock = ReplayClock(NOON)
    assert clock.now() == NOON
    time.sleep(0.002)
    assert clock.now() == NOON
    clock.advance_to(NOON + timedelta(minutes=1))
    assert clock.now() == NOON + timedelta(minutes=1)


def test_waiting_moves_a_replay_and_takes_no_time() -> None:
    clock, started = ReplayClock(NOON), time.monotonic()
    clock.sleep(3600)
    clock.sleep(0.5)
    assert clock.now() == NOON + timedelta(seconds=3600.5)
    assert time.monotonic() - started < 1


def test_a_replay_refuses_to_go_back() -> None:
    clock = ReplayClock(NOON)
    with pytest.raises(InvariantBroken, match="back"):
        clock.advance_to(NOON - timedelta(microseconds=1))
    with pytest.raises(InvariantBroken, match="-1"):
        clock.sleep(-1)
    assert clock.now() == NOON


def test_followers_are_told_of_every_move_after_it_happened() -> None:
    told: list[tuple[str, datetime, datetime]] = []
    clock = ReplayClock(NOON, lambda at: told.append(("venue", at, clock.now())))
    clock.advance_to(NOON)
    assert told == [], "standing still is no move"
    clock.sleep(1)
    clock.follow(lambda at: told.append(("second", at, clock.now())))
    clock.advance_to(NOON + timedelta(seconds=2))
    one, two = NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)
    assert told == [("venue", one, one), ("venue", two, two), ("second", two, two)]


def test_a_time_without_a_zone_is_refused_and_any_zone_becomes_utc() -> None:
    with pytest.raises(BadInput, match="zone"):
        ReplayClock(NOON.replace(tzinfo=None))
    clock = ReplayClock(NOON.astimezone(timezone(timedelta(hours=9))))
    assert clock.now() == NOON and clock.now().utcoffset() == timedelta(0)
    with pytest.raises(BadInput, match="zone"):
        clock.advance_to(NOON.replace(tzinfo=None))


def test_the_replay_clock_never_reads_the_wall() -> None:
    tree = ast.parse(Path(clocks.__file__).read_text())
    (replay,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "ReplayClock"]
    names = {
        node.value.id
        for node in ast.walk(replay)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert not names & {"time", "datetime"}
