"""One trace from an alert to its orders and events through Pub/Sub itself, whose pushes begin traces of their own."""

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from twinleg import logs
from twinleg.adapters.gcp.pubsub import PubSubBus
from twinleg.bootstrap import Once, function_app, use
from twinleg.domain.messages import Topic
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import alert_json

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PUSHED = {"alerts": "signal", "intents": "execute"}


def gateway(app: Any) -> Any:
    """Cloud Run's front end gives each request that comes without a trace one of its own."""

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        environ.setdefault("HTTP_TRACEPARENT", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01")
        return app(environ, start_response)

    return serve


@pytest.fixture
def cloud(world: Any, pubsub_host: str) -> Iterator[tuple[Any, str, str]]:
    """The desk with Pub/Sub between its functions: (world, the webhook's address, the project's REST address)."""
    w, project = world(), f"t-{secrets.token_hex(6)}"
    rest = f"http://{pubsub_host}/v1/projects/{project}"
    with ExitStack() as stack:
        for topic in Topic:
            for name in (topic.value, topic.dead):
                requests.put(f"{rest}/topics/{name}", json={}, timeout=5).raise_for_status()
        bus = PubSubBus(project, emulator_host=pubsub_host, timeout_seconds=10)
        stack.callback(bus.close)
        w.system = replace(w.system, make_bus=Once(lambda: bus))
        use(w.system)
        urls = {}
        for name in ("webhook", "signal", "execute"):
            server = make_server("127.0.0.1", 0, gateway(function_app(name)), threaded=True)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            for end in (server.server_close, lambda thread=thread: thread.join(10), server.shutdown):
                stack.callback(end)
            urls[name] = f"http://127.0.0.1:{server.server_port}"
        for topic, name in PUSHED.items():
            pushed = {
                "topic": f"projects/{project}/topics/{topic}",
                "pushConfig": {"pushEndpoint": f"{urls[name]}/topics/{topic}"},
                "ackDeadlineSeconds": 60,
            }
            requests.put(f"{rest}/subscriptions/{name}-{topic}", json=pushed, timeout=5).raise_for_status()
        events = {"topic": f"projects/{project}/topics/events"}
        requests.put(f"{rest}/subscriptions/events", json=events, timeout=5).raise_for_status()
        yield w, urls["webhook"], rest


def test_one_alert_is_one_trace_through_pubsub(cloud: Any, capsys: pytest.CaptureFixture[str]) -> None:
    w, webhook, rest = cloud
    root, package = logging.getLogger(), logging.getLogger("twinleg")
    kept, level = list(root.handlers), package.level
    logs.to_cloud("desk", service="all", version="1")
    try:
        w.system.clock.sleep(1)
        body = alert_json(w.coin, "buy", w.system.clock.now(), "a1")
        headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        assert requests.post(f"{webhook}/paper", data=body, headers=headers, timeout=10).status_code == 200
        deadline, lines = time.monotonic() + 30, []
        while not any(line.get("message", "").startswith("execute 200") for line in lines):
            assert time.monotonic() < deadline, lines
            time.sleep(0.05)
            lines += [json.loads(line) for line in capsys.readouterr().out.splitlines() if line]
    finally:
        root.handlers = kept
        package.setLevel(level)
    assert w.trade().state is TradeState.OPEN
    ours = [line for line in lines if line["logger"].startswith("twinleg")]
    assert {line["function"] for line in ours} == {"webhook", "signal", "execute"}
    assert {line["trace_id"] for line in ours} == {TRACE}
    orders = [line for line in ours if line["logger"] == "twinleg.orders"]
    assert orders and all(line["client_order_ids"] for line in orders if line["kind"] == "PlaceEntry")

    answer = requests.post(f"{rest}/subscriptions/events:pull", json={"maxMessages": 20}, timeout=10).json()
    told = {m["message"]["attributes"]["kind"]: m["message"]["attributes"] for m in answer["receivedMessages"]}
    assert told.keys() == {"signal", "approved", "main_filled", "opened"}
    assert {attributes["traceparent"].split("-")[1] for attributes in told.values()} == {TRACE}
    spans = {line["function"]: line["logging.googleapis.com/spanId"] for line in ours}
    assert told["opened"]["traceparent"] == f"00-{TRACE}-{spans['execute']}-01"
