"""The keeper ends what was started, however its starter ends; nothing that was forgotten is touched."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from twinleg.embedded.keeper import Keeper

STARTER = """
import subprocess, sys
from twinleg.embedded.keeper import Keeper
keeper = Keeper()
ours = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(3)]
for one in ours[:2]:
    keeper.watch(one.pid)
keeper.watch(ours[2].pid)
keeper.forget(ours[2].pid)
print(*(one.pid for one in ours), flush=True)
sys.stdin.read()
"""


def runs(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def gone(*pids: int) -> bool:
    deadline = time.monotonic() + 10
    while any(map(runs, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield made
    made.kill()
    made.wait()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_is_watched_ends_with_its_starter_whatever_ended_that(ending: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert starter.stdout is not None
    with starter:
        first, second, forgotten = map(int, starter.stdout.readline().split())
        starter.send_signal(ending)
        starter.wait(10)
        assert gone(first, second)
        assert runs(forgotten)
        subprocess.run(["kill", str(forgotten)], check=True)
        assert starter.stdin is not None
        starter.stdin.close()


def test_closing_ends_at_once_what_is_left(sleeper: subprocess.Popen[bytes]) -> None:
    keeper = Keeper()
    keeper.watch(sleeper.pid)
    keeper.close()
    assert sleeper.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
    keeper.close()
    keeper.watch(sleeper.pid)


def test_a_keeper_that_was_killed_is_no_trouble(sleeper: subprocess.Popen[bytes]) -> None:
    keeper = Keeper()
    keeper._process.kill()
    keeper._process.wait()
    keeper.watch(sleeper.pid)
    keeper.forget(sleeper.pid)
    keeper.close()
    assert runs(sleeper.pid)
