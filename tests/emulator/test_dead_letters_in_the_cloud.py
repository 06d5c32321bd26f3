"""Dead letters as in Google Cloud: execute behind a push with a dead-letter policy, and the command beside it."""

from __future__ import annotations

import io
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from twinleg.bootstrap import cloud_system, function_app, use
from twinleg.cli import main
from twinleg.domain.messages import CloseTrade, HedgedIntent
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import settings_text
from twinleg.embedded.runtime import prepare
from twinleg.engine.dead_letters import SOURCES, DeadLetter, listed
from twinleg.engine.execution import on_intent
from twinleg.engine.ports import SignerRole
from twinleg.wire import from_bytes, to_bytes

ATTEMPTS = 5


class Queue:
    """``closes``, pushed to execute, with its dead letters and those of what cannot be read."""

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
        for name in [name for source in SOURCES for name in (source, f"{source}-dead")]:
            requests.put(f"{rest}/topics/{name}", json={}, timeout=5).raise_for_status()
        for source in SOURCES:
            pulled = {"topic": f"projects/{project}/topics/{source}-dead", "ackDeadlineSeconds": 60}
            requests.put(f"{rest}/subscriptions/{source}-dead", json=pulled, timeout=5).raise_for_status()
        del world.system.bus._subscriptions["intents"]
        world.alert("buy", "a1")  # decided on one machine, carried out in the cloud
        self.intent = HedgedIntent.model_validate_json(world.system.bus.messages("intents", 1)[0].data)
        use(self.system)
        prepare(self.system)
        server = make_server("127.0.0.1", 0, function_app("execute"), threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        for end in (server.server_close, thread.join, server.shutdown):
            stack.callback(end)
        pushed = {
            "topic": f"projects/{project}/topics/closes",
            "pushConfig": {"pushEndpoint": f"http://127.0.0.1:{server.server_port}/topics/closes"},
            "ackDeadlineSeconds": 60,
            "retryPolicy": {"minimumBackoff": "0.1s", "maximumBackoff": "0.2s"},
            "deadLetterPolicy": {
                "deadLetterTopic": f"projects/{project}/topics/closes-dead", "maxDeliveryAttempts": ATTEMPTS,
            },
        }  # fmt: skip
        requests.put(f"{rest}/subscriptions/execute-closes", json=pushed, timeout=5).raise_for_status()

    def letters(self, count: int) -> list[DeadLetter]:
        deadline = time.monotonic() + 40
        while len(found := listed(self.system.dead_letters, "closes")[0]) < count:
            assert time.monotonic() < deadline, found
        return found

    def command(self, *words: str) -> Any:
        config = self.world.folder / "twinleg.toml"
        config.write_text(settings_text(self.world.coin, self.world.server.url, {}))
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(io.StringIO()) as said:
            for name, value in {**self.environ, "TWINLEG_RUNTIME": "cloud"}.items():
                patched.setenv(name, value)
            assert main(["dead", *words, "--json", "--config", str(config)]) == 0
        return json.loads(said.getvalue())


@pytest.fixture
def queue(world: Callable[..., Any], firestore_host: str, pubsub_host: str) -> Iterator[Queue]:
    with ExitStack() as stack:
        made = Queue(world(), firestore_host, pubsub_host, stack)
        yield made
    for part in (made.system.store, made.system.bus, made.system.dead_letters):
        part.close()  # type: ignore[attr-defined]


def test_both_kinds_are_listed_with_their_reasons_and_handled_once_replayed(queue: Queue) -> None:
    """A close whose trade has no record fails until the queue gives up; one of an unknown schema is given up by us."""
    w, bus, intent = queue.world, queue.system.bus, queue.intent
    early = CloseTrade(trade_id=intent.intent_id, reason="a person", request_id="r1")
    trace = {"kind": "close", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    bus.publish("closes", to_bytes(early), attributes=trace)
    bus.publish("closes", b'{"schema_version": 9}', attributes={"kind": "close"})
    found = {letter.attempts: letter for letter in queue.letters(2)}
    native = found.pop(ATTEMPTS)
    (permanent,) = found.values()
    assert native.reason.startswith("5 deliveries failed; look in the log of execute before ")
    assert native.original_attributes == trace
    assert permanent.reason == "CloseTrade schema_version must be 1, was 9"

    listing = {row["id"]: row for row in queue.command("list")}
    assert {id: row["reason"] for id, row in listing.items()} == {
        native.id: native.reason, permanent.id: permanent.reason,
    }  # fmt: skip
    assert from_bytes(CloseTrade, json.dumps(queue.command("show", native.id)["message"]).encode()) == early

    on_intent(queue.system.engine(SignerRole.EXECUTE), intent)  # what it waited for is there now
    assert w.position("main") > 0
    (sent,) = queue.command("replay", native.id)
    assert sent["topic"] == "closes"
    deadline = time.monotonic() + 40
    while w.position("main") or w.position("hedge"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [letter.id for letter in queue.letters(1)] == [permanent.id]

    queue.command("replay", permanent.id)  # still wrong: back it comes, as another letter
    back = queue.letters(1)
    while back[0].id == permanent.id:
        assert time.monotonic() < deadline + 40
        back = queue.letters(1)
    assert [letter.reason for letter in back] == [permanent.reason]
    queue.command("drop", back[0].id, "--why", "a schema that never was")
    assert queue.command("list") == []
    assert any("a schema that never was" in entry.data["summary"] for entry in queue.system.store.query("audit"))
    trade = queue.system.store.get("trades", intent.intent_id)
    assert trade is not None and trade.data["state"] == TradeState.CLOSED
