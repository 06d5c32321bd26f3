"""The webhook as TradingView meets it: who is let in, what is understood, and what the answer promises."""

import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from twinleg.adapters.local.bus import LocalBus
from twinleg.adapters.local.clocks import ReplayClock, stopwatch
from twinleg.adapters.local.secrets import MappingSecrets
from twinleg.bootstrap import System, function_app, functions_folder, local_system, use
from twinleg.domain.messages import AlertMessage
from twinleg.embedded.replay import alert_json, settings_text
from twinleg.engine.ports import Steps
from twinleg.settings import parse

SECRET = "correct-horse-battery-Staple7"
AT = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:9"
GOOD = alert_json("BTC", "buy", AT, "a1")


class Hook:
    """The webhook function on a store of its own, with no venue anywhere and no key but its secret."""

    def __init__(self, folder: Path, more: str, steps: Steps | None) -> None:
        self.path = folder / "twinleg.sqlite"
        text = settings_text("BTC", NOWHERE, {})
        settings = parse(text.replace("[limits]", f"{more}\n[limits]"), {})
        self.system: System = local_system(settings, {}, clock=ReplayClock(AT), steps=steps, path=self.path)
        self.system.secrets = MappingSecrets({settings.webhook.secret: SECRET})
        assert isinstance(self.system.bus, LocalBus)
        assert not self.system.bus.messages("alerts", 1)  # opens the file
        use(self.system)
        self.client = function_app("webhook").test_client()

    def post(self, body: str | bytes = GOOD, path: str = f"/{SECRET}", method: str = "POST", **more: Any) -> Any:
        more.setdefault("content_type", "application/json; charset=utf-8")
        return self.client.open(path, method=method, data=body, **more)

    def kept(self) -> list[dict[str, Any]]:
        """The alerts in the queue, as another process reads them from the file."""
        with closing(sqlite3.connect(self.path)) as file:
            rows = file.execute("SELECT data FROM messages WHERE topic = 'alerts' ORDER BY seq")
            return [json.loads(data) for (data,) in rows]

    def everything(self) -> str:
        """All that the file holds, in one text."""
        with closing(sqlite3.connect(self.path)) as file:
            rows = [
                *file.execute("SELECT topic, key, cast(data AS TEXT), attributes FROM messages"),
                *file.execute("SELECT collection, id, data, '' FROM documents"),
            ]
        return "\n".join("|".join(map(str, row)) for row in rows)


@pytest.fixture
def hook(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[..., Hook]:
    """Makes webhooks: ``hook('allow_addresses = ["1.2.3.4"]')``."""
    caplog.set_level(logging.DEBUG)
    return lambda more="", steps=None: Hook(tmp_path, more, steps)


# -- who is let in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [f"/{SECRET}", f"/{SECRET}/", f"/hooks/tradingview/{SECRET}", f"/{SECRET}?x=1"])
def test_the_secret_may_end_the_path(hook, path):
    h = hook()
    assert h.post(path=path).status_code == 200
    assert [k["alert"]["action"] for k in h.kept()] == ["open_long"]


@pytest.mark.parametrize("name", ["secret", "passphrase", "password", "token"])
def test_the_secret_may_stand_in_the_body(hook, name):
    h = hook()
    body = json.dumps(json.loads(GOOD) | {name: SECRET})
    assert h.post(body, path="/").status_code == 200
    assert len(h.kept()) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", GOOD),
        ("/wrong", GOOD),
        (f"/{SECRET[:-1]}", GOOD),
        (f"/{SECRET}x", GOOD),
        (f"/{SECRET.lower()}", GOOD),
        (f"/{SECRET}/wrong", GOOD),
        (f"/?secret={SECRET}", GOOD),
        ("/", json.dumps(json.loads(GOOD) | {"secret": ""})),
        ("/", json.dumps(json.loads(GOOD) | {"secret": "wrong"})),
        ("/", json.dumps(json.loads(GOOD) | {"secret": None})),
        ("/", json.dumps(json.loads(GOOD) | {"secret": [SECRET]})),
        ("/", json.dumps(json.loads(GOOD) | {"secret": "\ud800"})),
        ("/", json.dumps(json.loads(GOOD) | {"comment": SECRET})),
        ("/%ff%fe", GOOD),
        ("/%00", GOOD),
        ("/", ""),
        ("/", b"\xff\xfe\x00"),
        ("/", "[" * 5000),
    ],
)
def test_without_the_secret_nobody_is_let_in(hook, path, body):
    h = hook()
    answer = h.post(body, path=path)
    assert (answer.status_code, answer.text.strip()) == (401, "the secret is missing or wrong")
    assert not h.kept()
    assert h.system.refusals.counts == {"unauthenticated": 1}


def test_a_wrong_secret_is_refused_before_the_alert_is_looked_at(hook):
    """A stranger learns nothing of what is understood here."""
    h = hook()
    assert h.post("nonsense", path="/wrong").text == h.post(GOOD, path="/wrong").text


def test_without_a_configured_secret_nothing_is_let_in(hook):
    h = hook()
    h.system.secrets = MappingSecrets({})
    for path in ("/", "/None", "/paper"):
        answer = h.post(path=path)
        assert (answer.status_code, answer.text.strip()) == (500, "the webhook has no secret configured")
    assert not h.kept()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/{SECRET}", GOOD),
        (f"/{SECRET}", "nonsense"),
        (f"/{SECRET}", json.dumps(json.loads(GOOD) | {"comment": f"see {SECRET}", "strategy": SECRET})),
        (f"/{SECRET}", json.dumps(json.loads(GOOD) | {"id": SECRET})),
        (f"/{SECRET}", json.dumps({"ticker": SECRET, "action": "buy"})),
        (f"/{SECRET}", json.dumps(json.loads(GOOD) | {"action": SECRET})),
        (f"/{SECRET}", json.dumps(json.loads(GOOD) | {"price": SECRET})),
        ("/", json.dumps(json.loads(GOOD) | {"secret": SECRET})),
        ("/", json.dumps({"secret": SECRET, "ticker": "BTC"})),
        ("/", f'{{"secret": "{SECRET}", "ticker": BTC}}'),
        ("/wrong", json.dumps(json.loads(GOOD) | {"secret": SECRET[:-1] + "8"})),
        (f"/{SECRET}/wrong", GOOD),
    ],
)
def test_the_secret_is_in_no_answer_log_line_or_record(hook, caplog, path, body):
    h = hook()
    answer = h.post(body, path=path)
    assert SECRET not in answer.text
    assert SECRET not in str(answer.headers)
    assert SECRET not in caplog.text
    assert all(SECRET not in str(vars(record)) for record in caplog.records)
    assert SECRET not in h.everything()
    assert caplog.records


def test_a_failure_inside_shows_no_secret_either(hook, caplog):
    """What the framework logs of a crash names the path, which ends with the secret."""
    h = hook()
    h.system.clock = None  # a fault of ours, wherever it may be
    answer = h.post()
    assert (answer.status_code, answer.text.strip()) == (500, "the webhook failed; send it again")
    assert SECRET not in caplog.text
    [line] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert line.getMessage() == "webhook failed: AttributeError"
    assert "on_post" in line.stack_trace


def test_addresses_are_a_second_factor(hook):
    h = hook('allow_addresses = ["52.89.214.238"]')
    ours, other = {"REMOTE_ADDR": "52.89.214.238"}, {"REMOTE_ADDR": "10.0.0.9"}
    assert h.post(environ_base=other).status_code == 403
    assert h.post(path="/wrong", environ_base=ours).status_code == 401
    assert not h.kept()
    assert h.post(environ_base=ours).status_code == 200
    assert h.system.refusals.counts == {"address": 1, "unauthenticated": 1, "accepted": 1}


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ("52.89.214.238", 200),
        ("6.6.6.6, 52.89.214.238", 200),
        ("52.89.214.238, 6.6.6.6", 403),
        ("52.89.214.238,6.6.6.6", 403),
        ("", 403),
        (None, 403),
    ],
)
def test_behind_one_proxy_only_the_hop_it_wrote_counts(hook, forwarded, status):
    """Whoever sends the request can write what they like before it."""
    h = hook('allow_addresses = ["52.89.214.238"]\ntrust_forwarded_hops = 1')
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    assert h.post(headers=headers, environ_base={"REMOTE_ADDR": "169.254.1.1"}).status_code == status


def test_a_forwarded_address_is_not_believed_without_a_proxy(hook):
    h = hook('allow_addresses = ["52.89.214.238"]')
    forged = {"X-Forwarded-For": "52.89.214.238"}
    assert h.post(headers=forged, environ_base={"REMOTE_ADDR": "10.0.0.9"}).status_code == 403


# -- what is understood ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "PATCH"])
def test_only_post_is_understood(hook, method):
    h = hook()
    assert h.post(method=method).status_code == 405
    assert not h.kept()


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "text/plain", "text/plain; charset=utf-8", "",
                     "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"],
)  # fmt: skip
def test_the_content_type_says_nothing(hook, content_type):
    """TradingView sends text/plain as soon as one placeholder makes the message no JSON."""
    h = hook()
    assert h.post(content_type=content_type).status_code == 200
    assert len(h.kept()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.encode() + b"\n\n",
        b"  " + GOOD.encode(),
        json.dumps(json.loads(GOOD) | {"comment": "ロング 🚀"}, ensure_ascii=False).encode(),
    ],
    ids=["byte-order-mark", "newlines", "spaces", "japanese"],
)
def test_what_editors_add_does_no_harm(hook, body):
    h = hook()
    assert h.post(body).status_code == 200
    [kept] = h.kept()
    assert kept["alert"]["market_ticker"] == "BTC"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "alert"),
        ("{}", "alert: is an empty JSON object"),
        ('{"action": "buy"}', "alert: has no ticker"),
        ('{"ticker": "BTCUSDT.P"}', "action"),
        ('{"ticker": "BTCUSDT.P", "action": "buy", "price": NaN}', "NaN"),
        ('{"ticker": {{ticker}}, "action": "buy"}', "alert"),
        ('{"ticker": "BTCUSDT.P", "action": "buy", "comment": "' + "x" * 20_000 + '"}', "16384"),
        ("x" * 5_000_000, "16384"),
        ("BTCUSDT.P Crossing 97,000.00", "no action"),
        ("[" * 5000, "alert"),
    ],
    ids=["empty", "no-fields", "no-ticker", "no-action", "nan", "unfilled", "too-long", "huge", "price-alert", "deep"],
)
def test_what_cannot_be_understood_is_refused_with_the_reason_and_not_sent_again(hook, body, reason):
    h = hook()
    answer = h.post(body)
    assert answer.status_code == 400
    assert reason in answer.text
    assert len(answer.text) < 400
    assert "\n" not in answer.text.strip()
    assert not h.kept()
    assert h.system.refusals.counts == {"not_understood": 1}


def test_an_understood_alert_is_published_whole(hook):
    h = hook()
    answer = h.post(alert_json("BTC", "sell", AT - timedelta(seconds=3), "a7", price="97000.5"))
    [message] = [AlertMessage.model_validate(k) for k in h.kept()]
    alert = message.alert
    assert (alert.market_ticker, alert.action, str(alert.price)) == ("BTC", "open_short", "97000.5")
    assert (alert.fired_at, alert.received_at) == (AT - timedelta(seconds=3), AT)
    assert alert.id_source == "template"
    assert alert.alert_id in answer.text
    bus = h.system.bus
    assert isinstance(bus, LocalBus)
    [envelope] = bus.messages("alerts", 10)
    assert envelope.key == "BTC"
    about = {"ordering_key": "BTC", "kind": "alert", "alert_id": alert.alert_id}
    assert envelope.attributes == about | {"traceparent": envelope.attributes["traceparent"]}


# -- what the answer promises ----------------------------------------------------------------------


def test_an_alert_that_cannot_be_kept_is_asked_for_again_within_tradingviews_patience(hook):
    """TradingView gives up after 3 s and then never sends again; a 503 before that is sent again."""
    h = hook()
    h.post()
    with closing(sqlite3.connect(h.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        seconds = stopwatch()
        answer = h.post(alert_json("BTC", "sell", AT, "a2"))
        assert seconds() < 2.9
        assert (answer.status_code, answer.text.strip()) == (503, "the alert could not be kept; send it again")
        assert h.system.refusals.counts["not_published"] == 1
        other.execute("ROLLBACK")
    assert len(h.kept()) == 1
    assert h.post(alert_json("BTC", "sell", AT, "a2")).status_code == 200
    assert len(h.kept()) == 2


def test_a_wrong_secret_is_no_503_even_when_nothing_can_be_kept(hook):
    h = hook()
    h.post()
    with closing(sqlite3.connect(h.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert h.post(path="/wrong").status_code == 401
        assert h.post("nonsense").status_code == 400


class Death(BaseException):
    """The process ends."""


@pytest.mark.parametrize(("step", "kept"), [("bus.publish alerts", 0), ("bus.publish alerts done", 1)])
def test_no_answer_comes_before_the_alert_is_durable(hook, step, kept):
    def die(_: int, name: str) -> None:
        if name == step:
            raise Death

    h = hook(steps=Steps(die))
    with pytest.raises(Death):
        h.post()
    assert len(h.kept() if kept else h.everything().splitlines()) == kept


def test_each_delivery_of_an_alert_is_kept_under_the_same_id(hook):
    """That it acts once is decided where the intent is made; here the same alert is the same id."""
    h = hook()
    for _ in range(4):
        assert h.post().status_code == 200
        h.system.clock.sleep(5)
    assert len({k["alert"]["alert_id"] for k in h.kept()}) == 1
    assert len(h.kept()) == 4


def test_it_touches_nothing_but_the_queue(hook):
    """No store, no venue (there is none at that address) and no trading key (there is none)."""
    steps: list[str] = []
    h = hook(steps=Steps(lambda _, name: steps.append(name)))
    assert h.post().status_code == 200
    assert steps == ["bus.publish alerts", "bus.publish alerts done"]


HEAVY = (
    "hyperliquid", "ccxt", "web3", "eth_account", "google.cloud.pubsub", "google.cloud.firestore", "aiohttp",
    "pandas", "numpy", "pyarrow", "rich",
)  # fmt: skip


def test_it_loads_no_trading_library(tmp_path):
    """A cold start must fit into TradingView's 3 s."""
    config = tmp_path / "twinleg.toml"
    config.write_text(settings_text("BTC", NOWHERE, {}))
    code = f"""
import sys
from functions_framework import create_app
client = create_app("webhook", {str(functions_folder() / "webhook" / "main.py")!r}).test_client()
body = '{{"ticker": "BTCUSDT.P", "action": "buy", "id": "a1"}}'
print(client.post("/paper", data=body).status_code)
heavy = {HEAVY!r}
print(sorted(m for m in sys.modules if m in heavy))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"TWINLEG_CONFIG": str(config), "PATH": "/usr/bin"}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["200", "[]"], done.stderr
