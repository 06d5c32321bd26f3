"""The whole desk as in Google Cloud: the real functions behind Pub/Sub's pushes, and Firestore for their records."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from twinleg import bootstrap
from twinleg.bootstrap import cloud_system, function_app, use
from twinleg.domain.errors import BadInput
from twinleg.domain.messages import Topic
from twinleg.domain.trades import Trade, TradeState
from twinleg.embedded.replay import alert_json, settings_text
from twinleg.embedded.runtime import SUBSCRIPTIONS, prepare
from twinleg.settings import example_text, parse

TRADE_SECONDS_MAX = 30


def test_importing_the_entry_points_loads_nothing_of_google_s() -> None:
    script = (
        "import sys, twinleg.entry, twinleg.engine.webhook, twinleg.adapters.gcp.emulators;"
        "print([name for name, module in sys.modules.items() if name.split('.')[0] in ('google', 'grpc')"
        " and getattr(module, '__file__', None)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


def test_a_cloud_without_a_project_is_refused() -> None:
    with pytest.raises(BadInput, match="GOOGLE_CLOUD_PROJECT"):
        cloud_system(parse(example_text(), {}), {})


@pytest.fixture
def nothing_current() -> Iterator[None]:
    kept = list(bootstrap._current)
    bootstrap._current.clear()
    yield
    bootstrap._current[:] = kept


def test_the_environment_chooses_the_runtime(nothing_current: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLEG_RUNTIME", "clowd")
    with pytest.raises(BadInput, match="TWINLEG_RUNTIME must be local or cloud, was 'clowd'"):
        bootstrap.current()
    monkeypatch.setenv("TWINLEG_RUNTIME", "cloud")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "desk")
    system = bootstrap.current()
    assert type(system.store).__name__ == "FirestoreStore" and type(system.bus).__name__ == "PubSubBus"


def test_on_paper_the_webhook_s_secret_is_never_a_made_up_one() -> None:
    settings = parse(example_text(), {})
    environ = {"GOOGLE_CLOUD_PROJECT": "desk", settings.webhook.secret: "of the environment"}
    assert cloud_system(settings, environ).secrets.read(settings.webhook.secret) == "of the environment"
    assert "paper" not in repr(cloud_system(settings, environ).secrets)


# -- everything together -------------------------------------------------------------------------


class Cloud:
    """The functions at addresses of their own, and the topics pushed to them."""

    def __init__(self, world: Any, firestore_host: str, pubsub_host: str, stack: ExitStack) -> None:
        self.world, project = world, f"t-{secrets.token_hex(6)}"
        self.environ = {
            "GOOGLE_CLOUD_PROJECT": project,
            "FIRESTORE_EMULATOR_HOST": firestore_host,
            "PUBSUB_EMULATOR_HOST": pubsub_host,
            "TWINLEG_WEBHOOK_SECRET": "paper",
        }
        self.system = cloud_system(world.system.settings, self.environ, clock=world.system.clock, call_seconds_max=10)
        rest = f"http://{pubsub_host}/v1/projects/{project}"
        for name in [name for topic in Topic for name in (topic.value, topic.dead)]:
            requests.put(f"{rest}/topics/{name}", json={}, timeout=5).raise_for_status()
        use(self.system)
        prepare(self.system)
        self.urls = {name: self._served(name, stack) for name in ("ingest", "signal", "execute", "risk", "webhook")}
        for topic, name in SUBSCRIPTIONS.items():
            subscription = {
                "topic": f"projects/{project}/topics/{topic}",
                "pushConfig": {"pushEndpoint": f"{self.urls[name]}/topics/{topic}"},
                "ackDeadlineSeconds": 60,
                "enableMessageOrdering": topic != Topic.CLOSES,
            }
            requests.put(f"{rest}/subscriptions/{name}-{topic}", json=subscription, timeout=5).raise_for_status()

    def _served(self, name: str, stack: ExitStack) -> str:
        server = make_server("127.0.0.1", 0, function_app(name), threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        stack.callback(server.server_close)
        stack.callback(thread.join, 10)
        stack.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def call(self, name: str) -> None:
        requests.post(self.urls[name], json={}, timeout=30).raise_for_status()

    def alert(self, action: str, id: str) -> None:
        body = alert_json(self.world.coin, action, self.system.clock.now(), id)
        answer = requests.post(f"{self.urls['webhook']}/paper", data=body, timeout=10)
        assert answer.status_code == 200, answer.text

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Our command in a process of its own, told by its environment that the records are in the cloud."""
        config = self.world.folder / "twinleg.toml"
        config.write_text(settings_text(self.world.coin, self.world.server.url, {}))
        environ = dict(os.environ) | self.environ | {"TWINLEG_RUNTIME": "cloud", "COLUMNS": "250"}
        return subprocess.run(
            [sys.executable, "-m", "twinleg", *words, "--config", str(config)],
            capture_output=True, text=True, timeout=30, env=environ,
        )  # fmt: skip

    def trades(self) -> list[Trade]:
        return [Trade.model_validate(t.data) for t in self.system.store.query("trades", order_by="created_at")]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TRADE_SECONDS_MAX
        while not condition():
            assert time.monotonic() < deadline, (self.trades(), self.system.store.query("audit"))
            time.sleep(0.05)

    def until_state(self, state: TradeState) -> Trade:
        self.until(lambda: [trade.state for trade in self.trades()] == [state])
        return self.trades()[0]


@pytest.fixture
def cloud(world: Callable[..., Any], firestore_host: str, pubsub_host: str) -> Iterator[Cloud]:
    with ExitStack() as stack:
        made = Cloud(world(), firestore_host, pubsub_host, stack)
        yield made
    made.system.store.close()  # type: ignore[attr-defined]
    made.system.bus.close()  # type: ignore[attr-defined]


def test_an_alert_opens_two_legs_and_another_closes_them(cloud: Cloud) -> None:
    w = cloud.world
    cloud.call("ingest")
    cloud.alert("buy", "a1")
    trade = cloud.until_state(TradeState.OPEN)
    assert w.position("main") == trade.main.size_filled > 0
    assert w.position("hedge") == -trade.hedge.size_filled < 0
    stops = {a: [o for o in w.system.venues.of(a).open_orders(a) if o.kind == "stop"] for a in ("main", "hedge")}
    assert [o.trigger_price for o in stops["main"]] == [trade.main.stop_price]

    cloud.alert("buy", "a1")  # the same alert once more is the same trade
    cloud.call("risk")
    assert cloud.system.store.get("books", "main").data["positions"]  # type: ignore[union-attr]

    w.system.clock.sleep(1)
    cloud.alert("close", "a2")
    cloud.until_state(TradeState.CLOSED)
    assert w.position("main") == w.position("hedge") == Decimal(0)
    assert len({fill["oid"] for fill in w.fills("main")}) == 2


def test_halted_by_the_command_nothing_opens(cloud: Cloud) -> None:
    halted = cloud.command("halt")
    assert (halted.returncode, halted.stdout) == (0, "trading is HALTED: twinleg halt\n"), halted.stderr
    cloud.call("ingest")
    cloud.alert("buy", "a1")
    store = cloud.system.store
    cloud.until(lambda: any(stored.data.get("kind") == "refused" for stored in store.query("audit")))
    assert [trade.state for trade in cloud.trades()] == [TradeState.REFUSED]
    assert cloud.world.position("main") == 0 and cloud.world.fills("main") == []
    assert "REFUSED" in cloud.command("trades").stdout
