"""No emulator outlives the tests that started it, however they end."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
STARTS_ONE = """
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("conftest", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
os.environ.pop(module.emulators.PUBSUB_VARIABLE, None)
running = module._running(module.emulators.pubsub)
print(next(running), flush=True)
time.sleep(60)
"""


def answers(host: str) -> bool:
    address, _, port = host.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((address, int(port))) == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_an_emulator_ends_with_the_tests_that_started_it(ending: signal.Signals, pubsub_host: str) -> None:
    tests = subprocess.Popen([sys.executable, "-c", STARTS_ONE, str(CONFTEST)], stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    with tests, tests.stdout:
        host = tests.stdout.readline().strip()
        assert answers(host)
        tests.send_signal(ending)
        tests.wait(10)
    for _ in range(100):
        if not answers(host):
            return
        time.sleep(0.05)
    pytest.fail(f"the emulator at {host} goes on without its tests")
