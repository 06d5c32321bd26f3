"""Measures what each function's call costs, on the real emulators, and writes ``shared/twinleg/cost/operations.json``.

Run it from the top of the repository: ``.venv/bin/python bench/operations.py`` (``--print`` writes nothing).

The real functions run on Firestore's and Pub/Sub's emulators and trade at the paper venue. What is billed is counted
at the adapters: documents asked for (a missing one too), documents a query found (at least one), writes and deletes of
a commit (a check is one), and the bytes of every message that arrived in Pub/Sub (at least 1,000 for its publish and
for its push). Messages are pulled from the emulator and handed to the functions one after another, so that every
count belongs to one call. Seconds are our own CPU time, the median of several calls, and what the clock was told to
wait; waiting for the network is not measured here but computed (see [assumed] in prices.toml).
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import requests

from twinleg import logs, wire
from twinleg.adapters.documents import encoded
from twinleg.adapters.gcp import emulators
from twinleg.adapters.gcp.firestore import Counts, FirestoreStore
from twinleg.adapters.local.candle_files import packaged_candles
from twinleg.adapters.local.clocks import ReplayClock
from twinleg.bootstrap import System, cloud_system, function_app, use
from twinleg.domain.candles import Candle
from twinleg.domain.messages import Topic
from twinleg.domain.trades import TradeState
from twinleg.embedded.replay import alert_json
from twinleg.embedded.runtime import SUBSCRIPTIONS, prepare
from twinleg.embedded.venue_process import start_venue, write_candles
from twinleg.engine.ports import SignerRole, Steps
from twinleg.settings import parse
from twinleg.strategy.macd import Macd, MacdParameters

RESULTS = Path(__file__).resolve().parents[1] / "shared/twinleg/cost/operations.json"
REQUEST_BYTES_MIN = 1000
"""Pub/Sub bills at least this for a publish or push request. Source: Pub/Sub pricing."""
MESSAGE_OVERHEAD_BYTES = 20 + 16
"""Of a message's timestamp and its id. Source: Pub/Sub pricing, message volume."""
HISTORY, REPEATS, SWEEPS, QUIET_MINUTES = 245, 5, 10, 16
COUNTED = (
    "reads", "writes", "deletes", "store_calls", "publishes", "publish_bytes", "pushes", "push_bytes", "events",
    "event_bytes", "venue_calls", "venue_bytes_out", "venue_bytes_in", "secret_reads", "log_lines", "log_bytes",
    "series", "series_by_function", "slept_seconds", "cpu_seconds",
)  # fmt: skip
Work = dict[str, float]
LABELS = ("market", "account", "function", "topic", "status", "ended")
"""By which infra/terraform/logging.tf keeps figures apart; a series has at most one point a minute."""
FUNCTIONS = ("ingest", "signal", "execute", "risk", "webhook")
DELIVERIES_MAX, PULLS_MAX = 50, 20


# -- counting ------------------------------------------------------------------------------------


@dataclass
class Meter:
    """What has been used so far."""

    used: Work = field(default_factory=lambda: dict.fromkeys(COUNTED, 0.0))

    def add(self, **used: float) -> None:
        for name, value in used.items():
            self.used[name] += value

    def since(self, before: Work) -> Work:
        return {name: value - before[name] for name, value in self.used.items()}


def billed_bytes(data: bytes, attributes: Mapping[str, str], key: str) -> int:
    """What Pub/Sub bills for a request with this one message."""
    about = sum(len(name.encode()) + len(value.encode()) for name, value in attributes.items())
    return max(REQUEST_BYTES_MIN, len(data) + about + len(key.encode()) + MESSAGE_OVERHEAD_BYTES)


class _VenueChannel:
    def __init__(self, channel: Any, meter: Meter) -> None:
        self._channel, self._meter = channel, meter

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        status, text = self._channel.post(path, body)
        self._meter.add(venue_calls=1, venue_bytes_out=len(body), venue_bytes_in=len(text.encode()))
        return status, text


class CountedClock(ReplayClock):
    """A replay's clock that knows how long it was told to wait."""

    meter: Meter | None = None

    def sleep(self, seconds: float) -> None:
        if self.meter is not None:
            self.meter.add(slept_seconds=seconds)
        super().sleep(seconds)


class _LogCounter(logging.Handler):
    """Counts the lines as the cloud would be given them."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(logging.INFO)
        self._meter, self._lines = meter, logs.JsonLines(project="twinleg-paper")
        self.series: set[tuple[str, ...]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self._meter.add(log_lines=1, log_bytes=len(self._lines.format(record).encode()))
        name = getattr(record, "metric", "")
        one = (str(name), *(str(getattr(record, label, "")) for label in LABELS))
        if name and one not in self.series:
            self.series.add(one)
            own = bool(getattr(record, "market", "") or getattr(record, "account", ""))
            self._meter.add(**{"series" if own else "series_by_function": 1})


# -- a desk --------------------------------------------------------------------------------------


def settings_text(url: str, pairs: Sequence[tuple[str, str, str]]) -> str:
    """The configuration of a desk: (coin, main account, hedge account) for each market."""
    accounts = dict.fromkeys(account for _, *both in pairs for account in both)
    keys = {
        name: ", ".join(f'{role.value} = "TWINLEG_{name.upper()}_{role.name}_KEY"' for role in SignerRole)
        for name in accounts
    }
    rows = [f'[accounts.{name}]\nvenue = "hyperliquid"\nkeys = {{ {keys[name]} }}' for name in accounts]
    rows += [
        f'[[markets]]\nmarket = "hyperliquid:{coin}"\nmain = "{main}"\nhedge = "{hedge}"\n'
        'strategies = ["macd", "tradingview"]'
        for coin, main, hedge in pairs
    ]
    return (
        f'mode = "paper"\n[venues.hyperliquid]\nnetwork = "paper"\nurl = "{url}"\n' + "\n".join(rows) + "\n"
        '[strategies.macd]\nkind = "macd"\n[strategies.tradingview]\nkind = "tradingview"\n'
        '[webhook]\nsecret = "TWINLEG_WEBHOOK_SECRET"\n[storage]\npath = "unused.sqlite"\n'
        '[limits]\nbudget_percent = "1"\nopen_trades_max = 20\nentries_per_hour_max = 60\nentries_per_day_max = 60\n'
        "request_weight_percent_max = 100\n"
    )


SCALE = {"BTC": 1, "ETH": 10, "BNB": 100, "SOL": 1000, "LTC": 1000}
"""The packaged candles are of BTC; a coin's lots want prices of about its own size. Powers of ten change no signal."""


def scaled(candles: Sequence[Candle], coin: str) -> list[Candle]:
    """BTC's candles at another coin's price."""
    by = SCALE[coin]
    return [c._replace(open=c.open / by, high=c.high / by, low=c.low / by, close=c.close / by) for c in candles]


class Desk:
    """The functions, each behind its entry point, on emulators and a paper venue of their own."""

    def __init__(
        self,
        pairs: Sequence[tuple[str, str, str]],
        candles: Sequence[Candle],
        hosts: tuple[str, str],
        stack: ExitStack,
    ) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        start = candles[HISTORY].opened_at
        words = ["--manual", "--open-accounts", "--equity", "10000", "--start", start.isoformat()]
        for coin, _, _ in pairs:
            words += ["--market", coin, "--candles", str(write_candles(folder / f"{coin}.csv", scaled(candles, coin)))]
        venue = start_venue(words, folder / "venue.log")
        stack.callback(venue.stop)
        self.meter = Meter()
        settings = parse(settings_text(venue.control.url, pairs), {})
        clock = CountedClock(start)
        clock.follow(venue.control.advance_to)
        self.project, self._rest = f"t-{secrets.token_hex(6)}", hosts[1]
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._published: list[str] = []
        self.system = self._cloud(settings, clock, hosts)
        stack.callback(self.system.store.close)  # type: ignore[attr-defined]
        stack.callback(self.system.bus.close)  # type: ignore[attr-defined]
        self._topics()
        use(self.system)
        prepare(self.system)
        for one in self.system.venues.by_name.values():
            one._channel = _VenueChannel(one._channel, self.meter)  # type: ignore[attr-defined]
        clock.meter = self.meter
        self._take_up_messages()
        self._apps = {name: function_app(name).test_client() for name in FUNCTIONS}
        log, level = logging.getLogger("twinleg"), logging.getLogger("twinleg").level
        self._figures = handler = _LogCounter(self.meter)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        stack.callback(log.setLevel, level)
        stack.callback(log.removeHandler, handler)

    def _cloud(self, settings: Any, clock: CountedClock, hosts: tuple[str, str]) -> System:
        environ = {
            "GOOGLE_CLOUD_PROJECT": self.project,
            "FIRESTORE_EMULATOR_HOST": hosts[0],
            "PUBSUB_EMULATOR_HOST": hosts[1],
            "TWINLEG_WEBHOOK_SECRET": "paper",
        }

        def on_step(_: int, name: str) -> None:
            kind = {"store": "store_calls", "bus": "publishes", "secrets": "secret_reads"}.get(name.split(".")[0])
            if kind and not name.endswith(" done"):
                self.meter.add(**{kind: 1})
            if kind == "publishes" and not name.endswith(" done"):
                self._published.append(name.split()[1])

        return cloud_system(settings, environ, clock=clock, steps=Steps(on_step), call_seconds_max=20)

    # -- Pub/Sub ---------------------------------------------------------------------------------

    def _url(self, path: str) -> str:
        return f"http://{self._rest}/v1/projects/{self.project}/{path}"

    def _topics(self) -> None:
        for name in [name for topic in Topic for name in (topic.value, topic.dead)]:
            requests.put(self._url(f"topics/{name}"), json={}, timeout=10).raise_for_status()
        for topic in [*SUBSCRIPTIONS, Topic.EVENTS.value]:
            wanted = {"topic": f"projects/{self.project}/topics/{topic}", "ackDeadlineSeconds": 60}
            requests.put(self._url(f"subscriptions/{topic}"), json=wanted, timeout=10).raise_for_status()

    def _pulled(self, topic: str, count: int) -> list[dict[str, Any]]:
        """The *count* messages that were published to a topic."""
        messages: list[dict[str, Any]] = []
        for _ in range(PULLS_MAX):
            if len(messages) >= count:
                return messages
            answer = requests.post(self._url(f"subscriptions/{topic}:pull"), json={"maxMessages": count}, timeout=30)
            answer.raise_for_status()
            received = answer.json().get("receivedMessages", [])
            ids = {"ackIds": [one["ackId"] for one in received]}
            if received:
                requests.post(self._url(f"subscriptions/{topic}:acknowledge"), json=ids, timeout=30).raise_for_status()
            messages += [one["message"] for one in received]
        raise RuntimeError(f"{count} messages were published to {topic}, {len(messages)} arrived")

    def deliver(self) -> dict[str, list[Work]]:
        """Hand on every message until none is left; what each call used, by topic."""
        done: dict[str, list[Work]] = {topic: [] for topic in SUBSCRIPTIONS}
        while self._waiting:
            topic, message = self._waiting.pop(0)
            done[topic].append(self._push(topic, message))
            if sum(map(len, done.values())) > DELIVERIES_MAX:
                raise RuntimeError(f"over {DELIVERIES_MAX} messages: the functions set each other off")
        return done

    def _push(self, topic: str, message: Mapping[str, Any]) -> Work:
        data, attributes = base64.b64decode(message.get("data", "")), dict(message.get("attributes", {}))
        key = str(message.get("orderingKey", ""))
        body = wire.push_body(
            data=data, message_id=message["messageId"], topic=topic, key=key, attributes=attributes, attempt=1
        )
        used = self.call(SUBSCRIPTIONS[topic], json.dumps(body), path=f"/topics/{topic}")
        return used | {"pushes": 1.0, "push_bytes": float(billed_bytes(data, attributes, key))}

    # -- calls -----------------------------------------------------------------------------------

    def call(self, name: str, body: str = "{}", path: str = "/") -> Work:
        """Call a function; what the call used."""
        self._figures.series.clear()
        before, counts, cpu = dict(self.meter.used), self._counts(), time.process_time()
        answer = self._apps[name].post(path, data=body, content_type="application/json")
        self.meter.add(cpu_seconds=time.process_time() - cpu)
        billed = self._counts() - counts
        self.meter.add(reads=billed.reads, writes=billed.writes, deletes=billed.deletes)
        if answer.status_code != 200:
            raise RuntimeError(f"{name} answered {answer.status_code}: {answer.get_data(as_text=True)}")
        self._take_up_messages()
        return self.meter.since(before)

    def _counts(self) -> Counts:
        store = self.system.store
        assert isinstance(store, FirestoreStore)
        return store.counts

    def _take_up_messages(self) -> None:
        """Pull what was just published; events go to BigQuery, everything else waits to be pushed."""
        published, self._published = self._published, []
        for topic, count in Counter(published).items():
            for message in self._pulled(topic, count):
                data, attributes = base64.b64decode(message.get("data", "")), message.get("attributes", {})
                size = billed_bytes(data, attributes, message.get("orderingKey", ""))
                self.meter.add(publish_bytes=size)
                if topic == Topic.EVENTS:
                    self.meter.add(events=1, event_bytes=size)
                else:
                    self._waiting.append((topic, message))

    def minute(self) -> tuple[Work, list[Work]]:
        """The next candle closes: (ingest, the calls of signal)."""
        clock: Any = self.system.clock
        clock.advance_to(clock.now().replace(second=0, microsecond=0) + timedelta(minutes=1, seconds=1))
        return self.call("ingest"), self.deliver()["candles"]

    def sweep(self) -> Work:
        """The sweep of the next minute; nothing else happens in it."""
        clock: Any = self.system.clock
        clock.advance_to(clock.now().replace(second=0, microsecond=0) + timedelta(minutes=1, seconds=20))
        return self.call("risk")

    def catch_up(self) -> None:
        """Fetch the candles of minutes that only sweeps were called in; nobody is asked about them."""
        self.call("ingest")
        self._waiting.clear()

    def alert(self, coin: str, action: str, id: str) -> dict[str, Work]:
        """An alert through webhook, signal and execute."""
        clock: Any = self.system.clock
        clock.advance_to(clock.now() + timedelta(seconds=25))  # a minute takes the requests of three entries
        body = alert_json(coin, action, clock.now(), id)
        webhook, delivered = self.call("webhook", body, path="/paper"), self.deliver()
        (signal,), (execute,) = delivered["alerts"], delivered["intents"] + delivered["closes"]
        return {"webhook": webhook, "signal": signal, "execute": execute}

    def trades(self, state: TradeState) -> int:
        return sum(stored.data["state"] == state for stored in self.system.store.query("trades"))

    def positions(self) -> int:
        venues = self.system.venues
        return sum(len(venues.of(name).account(name).positions) for name in self.system.desk.accounts)

    def stored(self, *collections: str) -> list[int]:
        """How many bytes each document of the collections has, as text."""
        return [
            len(encoded(name, stored.id, stored.data).encode())
            for name in collections
            for stored in self.system.store.query(name)
        ]


# -- what is measured ----------------------------------------------------------------------------


def usual(runs: Sequence[Work]) -> Work:
    """Several runs of the same work as one: the most that was counted, the median of CPU time."""
    most = {name: max(run[name] for run in runs) for name in runs[0]}
    return most | {"cpu_seconds": median(run["cpu_seconds"] for run in runs)}


def per(more: Work, less: Work, count: float) -> Work:
    """What one of *count* more costs; never less than nothing."""
    return {name: max(0.0, (more[name] - less[name]) / count) for name in more}


def without(work: Work, *parts: tuple[Work, float]) -> Work:
    return {name: max(0.0, work[name] - sum(part[name] * count for part, count in parts)) for name in work}


def signal_minutes(candles: Sequence[Candle]) -> list[int]:
    """Indices of candles at whose close the strategy speaks."""
    strategy = Macd(MacdParameters())
    lookback = strategy.lookback
    return [
        i
        for i in range(HISTORY, len(candles))
        if strategy.decide("hyperliquid:BTC", candles[max(0, i + 1 - lookback) : i + 1]) is not None
    ]


def quiet_stretch(candles: Sequence[Candle], minutes: int) -> int:
    """Where the calmest *minutes* without a signal begin."""
    spoken = signal_minutes(candles)
    free = [i for i in range(HISTORY, len(candles) - minutes) if not any(i <= s < i + minutes for s in spoken)]

    def span(i: int) -> float:
        part = candles[i : i + minutes]
        return float(max(c.high for c in part) / min(c.low for c in part))

    return min(free, key=span)


EACH_MINUTE, OF_TRADES = ("markets", "accounts", "positions"), ("actions", "audit", "intents", "orders", "trades")
TWO = ("main", "hedge")
MARKETS = tuple((coin, *TWO) for coin in SCALE)
FOUR_ACCOUNTS = (("BTC", *TWO), ("ETH", "main2", "hedge2"))


def measure(firestore_host: str, pubsub_host: str) -> dict[str, Any]:
    """All of it: named pieces of work, and the runs they were taken from."""
    candles, hosts = packaged_candles(), (firestore_host, pubsub_host)
    calm = _from(candles, quiet_stretch(candles, QUIET_MINUTES))
    spoken = _from(candles, next(i for i in signal_minutes(candles) if i > HISTORY + 10) - 2)
    with ExitStack() as stack:
        many = _many_markets(Desk(MARKETS, calm, hosts, stack))
    with ExitStack() as stack:
        wide = _four_accounts(Desk(FOUR_ACCOUNTS, calm, hosts, stack))
    with ExitStack() as stack:
        one = _a_signal(Desk(MARKETS[:1], spoken, hosts, stack))
    return _pieces(many, wide, one)


def _from(candles: Sequence[Candle], start: int) -> Sequence[Candle]:
    """The candles to play from *start* on, with the history before them."""
    return candles[start - HISTORY : start + REPEATS + 3 * SWEEPS + 6]


def _many_markets(desk: Desk) -> dict[str, Work]:
    desk.minute()
    desk.call("risk")
    minutes = [desk.minute() for _ in range(REPEATS)]
    seen = {f"ingest {len(MARKETS)} markets": usual([ingest for ingest, _ in minutes])}
    seen["candle"] = usual([call for _, calls in minutes for call in calls])
    before = desk.stored(*OF_TRADES)
    first = desk.alert("BTC", "buy", "o-BTC")
    seen["sweep 2 positions changed"] = desk.call("risk")
    seen["sweep 2 positions"] = _quiet_sweeps(desk)
    desk.catch_up()
    opened = [first] + [desk.alert(coin, "buy", f"o-{coin}") for coin, _, _ in MARKETS[1:]]
    if desk.trades(TradeState.OPEN) != len(MARKETS) or desk.positions() != 2 * len(MARKETS):
        raise RuntimeError(f"every market should have its trade: {desk.system.store.query('audit')}")
    desk.call("risk")
    seen[f"sweep {2 * len(MARKETS)} positions"] = _quiet_sweeps(desk)
    sizes = {name: sum(found) / len(found) for name in EACH_MINUTE if (found := desk.stored(name))}
    sizes["book of one position"] = sum(desk.stored("books")) / (2 * len(MARKETS))
    closed = [desk.alert(coin, "close", f"c-{coin}") for coin, _, _ in MARKETS]
    if desk.trades(TradeState.CLOSED) != len(MARKETS):
        raise RuntimeError(f"every trade should be closed: {desk.system.store.query('audit')}")
    after = desk.stored(*OF_TRADES)
    sizes["a trade"] = (sum(after) - sum(before)) / len(MARKETS)
    seen["bytes"], seen["documents a trade"] = sizes, {"documents": (len(after) - len(before)) / len(MARKETS)}
    seen["webhook"] = usual([call["webhook"] for call in opened + closed])
    seen["alert"] = usual([call["signal"] for call in opened + closed])
    seen["open"], seen["close"] = (usual([call["execute"] for call in calls]) for calls in (opened, closed))
    return seen


def _quiet_sweeps(desk: Desk) -> Work:
    """A quiet sweep on average: of the sweeps of ten minutes in a row, because some write what need not be newest."""
    desk.sweep()
    runs = [desk.sweep() for _ in range(SWEEPS)]
    mean = {name: sum(run[name] for run in runs) / SWEEPS for name in runs[0]}
    return mean | {"cpu_seconds": median(run["cpu_seconds"] for run in runs)}


def _four_accounts(desk: Desk) -> dict[str, Work]:
    desk.minute()
    desk.call("risk")
    for coin in ("BTC", "ETH"):
        desk.alert(coin, "buy", f"o-{coin}")
    desk.call("risk")
    return {"sweep 4 accounts, 4 positions": _quiet_sweeps(desk)}


def _a_signal(desk: Desk) -> dict[str, Work]:
    desk.minute()
    seen: list[Work] = []
    for _ in range(6):
        clock: Any = desk.system.clock
        clock.advance_to(clock.now().replace(second=0, microsecond=0) + timedelta(minutes=1, seconds=1))
        seen.append(desk.call("ingest"))
        delivered = desk.deliver()
        if delivered["intents"]:
            return {"ingest 1 market": usual(seen), "candle with a signal": delivered["candles"][0]}
    raise RuntimeError("the strategy should have spoken")


def _pieces(many: dict[str, Work], wide: dict[str, Work], one: dict[str, Work]) -> dict[str, Any]:
    """What a market, an account, a position, an alert, a trade costs, from the runs' differences."""
    runs = many | wide | one
    sizes, documents = runs.pop("bytes"), runs.pop("documents a trade")["documents"]
    market = per(runs[f"ingest {len(MARKETS)} markets"], runs["ingest 1 market"], len(MARKETS) - 1)
    position = per(runs[f"sweep {2 * len(MARKETS)} positions"], runs["sweep 2 positions"], 2 * len(MARKETS) - 2)
    four_in_two = {name: runs["sweep 2 positions"][name] + 2 * position[name] for name in position}
    account = per(runs["sweep 4 accounts, 4 positions"], four_in_two, 2)
    work = {
        "ingest": without(runs["ingest 1 market"], (market, 1)),
        "ingest, a market": market,
        "candle": runs["candle"],
        "candle with a signal": runs["candle with a signal"],
        "webhook": runs["webhook"],
        "alert": runs["alert"],
        "open": runs["open"],
        "close": runs["close"],
        "sweep": without(runs["sweep 2 positions"], (account, 2), (position, 2)),
        "sweep, an account": account,
        "sweep, a position": position,
        "sweep, a changed position": per(runs["sweep 2 positions changed"], runs["sweep 2 positions"], 2),
    }
    return {
        "measured_on": f"{datetime.now(UTC):%Y-%m-%d}",
        "method": " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
        "work": {name: _rounded(used) for name, used in work.items()},
        "stored_bytes": {name: round(size) for name, size in sizes.items()},
        "documents_a_trade": round(documents),
        "runs": {name: _rounded(used) for name, used in runs.items()},
    }


def _rounded(used: Work) -> Work:
    return {name: round(value, 4) for name, value in used.items() if value}


def main() -> int:
    words = argparse.ArgumentParser(description="Measure what each function's call costs, on the emulators.")
    words.add_argument("--print", action="store_true", help="print the result instead of writing it")
    arguments = words.parse_args()
    with ExitStack() as stack:
        hosts = []
        for start in (emulators.firestore, emulators.pubsub):
            emulator = start(os.environ)
            stack.callback(emulator.stop)
            hosts.append(emulator.host)
        text = json.dumps(measure(*hosts), indent=2) + "\n"
    if arguments.print:
        sys.stdout.write(text)
    else:
        RESULTS.write_text(text)
        print(f"written: {RESULTS.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
