"""What each function loads in the cloud, in a process of its own: what its requests need, and nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from twinleg.bootstrap import NEEDS, functions_folder
from twinleg.settings import example_text

ADDRESSES = {"main": "0x" + "a1" * 20, "hedge": "0x" + "b2" * 20}

EVERYWHERE = {
    "pandas", "pandas_ta", "numpy", "numba", "ccxt", "web3", "matplotlib", "pyarrow", "aiohttp", "rich", "keyring",
    "sqlite3", "google.cloud.scheduler_v1", "google.cloud.pubsub_v1", "google.cloud.firestore",
    "google.cloud.secretmanager_v1", "twinleg.paper", "twinleg.embedded", "twinleg.cli",
    "twinleg.adapters.local.store", "twinleg.adapters.local.bus",
}  # fmt: skip
"""In no function. Of Google's clients the plain ones are used: those below ``cloud`` load more around them."""
SIGNING = {"hyperliquid", "eth_account", "eth_keys", "coincurve", "msgpack"}
VENUE = {"twinleg.adapters.venues"}
STORE = {"google.cloud.firestore_v1"}
NOT_LOADED = {
    "webhook": EVERYWHERE
    | SIGNING
    | VENUE
    | STORE
    | {"twinleg.engine.ports", "twinleg.engine.system", "twinleg.risk.gate"},
    "signal": EVERYWHERE | SIGNING | VENUE,
    "ingest": EVERYWHERE | SIGNING | {"twinleg.risk.gate"},
    "execute": EVERYWHERE | SIGNING,
    "risk": EVERYWHERE | SIGNING,
}
"""Signing waits for the first order: most requests of ``execute`` and ``risk`` send none."""

SCRIPT = """
import gc, json, os, sys, threading
from functions_framework import create_app
from twinleg.domain.orders import SignerRole

name, source = sys.argv[1:]
create_app(name, source)
loaded = set(sys.modules)
collecting, frozen = gc.isenabled(), gc.get_freeze_count()
gc.unfreeze()  # so that the collector lists what was kept from it
files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
links = [os.readlink(file) for file in files if os.path.lexists(file)]
state = {
    "threads": threading.active_count(),
    "tasks": len(os.listdir("/proc/self/task")),
    "sockets": [link for link in links if link.startswith("socket:")],
    "clients": [repr(one) for one in gc.get_objects() if type(one).__name__.endswith(("Client", "Channel"))],
    "collecting": collecting,
    "frozen": frozen,
}

from twinleg import bootstrap
system = bootstrap.current()
if name == "webhook":
    intake = system.intake()
    intake.bus, intake.secrets.read(intake.secret_name)
else:
    engine = system.engine(SignerRole.RISK if name == "risk" else SignerRole.EXECUTE)
    engine.store, engine.bus
    if name != "signal":
        engine.venues.of("main")
print(json.dumps(state | {"loaded": sorted(loaded), "needed": sorted(sys.modules)}))
"""


def loaded(name: str, tmp_path: Path, *, addresses: bool = True, **more: str) -> dict[str, Any]:
    """The function *name* as its server loads it, then what its first request is given."""
    text = example_text()
    for account, address in ADDRESSES.items() if addresses else ():
        text = text.replace(f"[accounts.{account}]\n", f'[accounts.{account}]\naddress = "{address}"\n')
    config = tmp_path / "twinleg.toml"
    config.write_text(text)
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONDONTWRITEBYTECODE") if name in os.environ}
    environ |= {
        "TWINLEG_RUNTIME": "cloud",
        "TWINLEG_CONFIG": str(config),
        "GOOGLE_CLOUD_PROJECT": "desk",
        "TWINLEG_WEBHOOK_SECRET": "of-the-environment",
        **more,
    }
    command = [sys.executable, "-c", SCRIPT, name, str(functions_folder() / name / "main.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def among(modules: list[str], unwanted: set[str]) -> set[str]:
    """Those of *unwanted* that are among the modules, themselves or by a part of theirs."""
    return {u for u in unwanted if any(module == u or module.startswith(u + ".") for module in modules)}


@pytest.fixture(scope="module", params=sorted(NEEDS))
def function(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    return request.param, loaded(request.param, tmp_path_factory.mktemp(request.param))


def test_a_function_loads_nothing_it_does_not_need(function: tuple[str, dict[str, Any]]) -> None:
    name, found = function
    assert among(found["needed"], NOT_LOADED[name]) == set()


def test_what_the_first_request_needs_is_there_before_it(function: tuple[str, dict[str, Any]]) -> None:
    name, found = function
    late = set(found["needed"]) - set(found["loaded"])
    assert {module for module in late if name == "webhook" or not module.startswith("twinleg.")} == set()
    assert among(found["loaded"], set(NEEDS[name])) == set(NEEDS[name])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads and sockets are counted in /proc")
def test_loading_makes_no_client_thread_or_connection(function: tuple[str, dict[str, Any]]) -> None:
    # The server forks after it has loaded the function, and none of these survives that.
    _, found = function
    assert (found["threads"], found["tasks"]) == (1, 1)
    assert found["sockets"] == [] and found["clients"] == []


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads and sockets are counted in /proc")
def test_where_ccxt_is_the_adapter_it_is_there_before_the_first_request(tmp_path: Path) -> None:
    found = loaded("ingest", tmp_path, TWINLEG_VENUES__HYPERLIQUID__ADAPTER="ccxt")
    assert among(found["loaded"], {"ccxt", "twinleg.adapters.venues.ccxt_hyperliquid"}) and found["sockets"] == []
    assert (found["threads"], found["tasks"]) == (1, 1)
    assert {
        module for module in set(found["needed"]) - set(found["loaded"]) if not module.startswith("twinleg.")
    } == set()


def test_the_collector_is_paused_only_while_a_function_loads(function: tuple[str, dict[str, Any]]) -> None:
    _, found = function
    assert found["collecting"] and found["frozen"] > 10_000


def test_every_function_is_in_the_table() -> None:
    folders = {folder.name for folder in functions_folder().iterdir() if (folder / "main.py").is_file()}
    assert set(NEEDS) == set(NOT_LOADED) == folders


def test_made_up_paper_addresses_are_what_a_configuration_can_need_signing_for(tmp_path: Path) -> None:
    # Every configuration of the cloud writes its addresses down; one that does not asks for them to be computed.
    found = loaded("ingest", tmp_path, addresses=False)
    assert among(found["needed"], {"eth_account", "hyperliquid", "pandas", "web3"}) == {"eth_account"}
    assert among(loaded("signal", tmp_path, addresses=False)["needed"], SIGNING) == set()


def test_secret_manager_is_loaded_for_a_secret_that_the_environment_lacks(tmp_path: Path) -> None:
    script = (
        "import sys; from twinleg.bootstrap import cloud_system; from twinleg.settings import parse, example_text\n"
        "system = cloud_system(parse(example_text(), {}), {'GOOGLE_CLOUD_PROJECT': 'desk', 'THERE': 'a secret'})\n"
        "def here(): return 'google.cloud.secretmanager_v1' in sys.modules\n"
        "system.secrets.read('THERE'); before = here()\n"
        "try: system.secrets.read('TWINLEG NOT A NAME')\n"
        "except Exception as error: print(before, here(), repr(system.secrets), error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("False True ") and "a secret" not in done.stdout


def test_a_configuration_with_a_fault_ends_the_process_before_it_serves(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "TWINLEG_RUNTIME": "cloud", "TWINLEG_LIMITS__LEVERAGE_MAX": "9000"}
    source = str(functions_folder() / "webhook" / "main.py")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "webhook", source], capture_output=True, text=True, timeout=60, env=environ,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1 and "leverage_max" in done.stderr
