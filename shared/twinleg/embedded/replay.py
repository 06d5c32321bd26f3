"""One replayed segment: a paper venue of its own, a system of its own, candles minute by minute, alerts by HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from twinleg.adapters.local.clocks import ReplayClock
from twinleg.adapters.local.venue_clock import order_takes_time
from twinleg.bootstrap import System, account_addresses, local_system
from twinleg.domain.candles import MINUTE, Candle, utc_from_ms
from twinleg.domain.messages import Event
from twinleg.domain.trades import Trade
from twinleg.embedded.report import Sample
from twinleg.embedded.runtime import SUBSCRIPTIONS, Runtime, prepare
from twinleg.embedded.venue_process import VenueControl, VenueProcess, start_venue, write_candles
from twinleg.engine.ports import SignerRole, Steps
from twinleg.settings import parse

INGEST_DELAY = timedelta(seconds=1)
"""How long after a candle's close the replay asks for it."""
WEBHOOK_SECRET = "paper"


@dataclass(frozen=True, slots=True)
class PostedAlert:
    """An alert to post to the webhook once a minute has been replayed."""

    at: datetime
    body: str
    secret: str = WEBHOOK_SECRET
    times: int = 1
    note: str = ""


Hook = Callable[[VenueControl], None]


@dataclass(frozen=True, slots=True)
class Script:
    """What is replayed: candles (of which the first ones are history), alerts, and what happens to the venue."""

    name: str
    market: str
    candles: Sequence[Candle]
    history: int
    alerts: Sequence[PostedAlert] = ()
    hooks: Sequence[tuple[datetime, Hook]] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    equity: Decimal = Decimal(10_000)


@dataclass(slots=True)
class Replayed:
    """What a segment left behind."""

    trades: list[Trade]
    events: list[Event]
    samples: list[Sample]
    ledger: dict[str, Any]
    webhook: Counter[int]
    refusals: Counter[str]
    intents: int
    dead: int
    addresses: dict[str, str]


def settings_text(market: str, url: str, script: Mapping[str, Mapping[str, str]]) -> str:
    """The configuration of a replay: two paper accounts, one market, both strategies."""
    limits = "\n".join(f"{name} = {value}" for name, value in script.get("limits", {}).items())
    tradingview = "\n".join(f"{name} = {value}" for name, value in script.get("tradingview", {}).items())
    venue = "\n".join(f"{name} = {value}" for name, value in script.get("venue", {}).items())
    strategies = script.get("market", {}).get("strategies", '["macd", "tradingview"]')
    return f"""
mode = "paper"
[venues.hyperliquid]
network = "paper"
url = "{url}"
{venue}
[accounts.main]
venue = "hyperliquid"
{_keys("MAIN")}
[accounts.hedge]
venue = "hyperliquid"
{_keys("HEDGE")}
[[markets]]
market = "hyperliquid:{market}"
main = "main"
hedge = "hedge"
strategies = {strategies}
[strategies.macd]
kind = "macd"
[strategies.tradingview]
kind = "tradingview"
{tradingview}
[webhook]
secret = "TWINLEG_WEBHOOK_SECRET"
[limits]
{limits}
[storage]
path = "twinleg.sqlite"
durability = "normal"
"""


def _keys(account: str) -> str:
    names = ", ".join(f'{role.value} = "TWINLEG_{account}_{role.name}_KEY"' for role in SignerRole)
    return f"keys = {{ {names} }}"


class Player(Protocol):
    """Plays a segment's minutes: whatever runs the five functions."""

    system: System

    def minute(self, at: datetime) -> None:
        """Move the clock to *at*; then ingest, all that it sets off, and the sweep."""

    def post(self, alert: PostedAlert) -> list[int]:
        """Post an alert to the webhook; the answers' status codes."""

    def deliver(self) -> None:
        """Return when everything published so far is handled."""

    def dead(self, topic: str) -> int:
        """How many messages of a topic could not be handled."""

    def refusals(self) -> Counter[str]:
        """The webhook's answers by reason."""

    def stop(self) -> None: ...


class _InProcess:
    """The embedded runtime, played."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._runtime = Runtime(system)
        prepare(system)
        self._port = self._runtime.serve_webhook(0)

    def minute(self, at: datetime) -> None:
        self._runtime.minute(at)

    def post(self, alert: PostedAlert) -> list[int]:
        return post(self._port, alert)

    def deliver(self) -> None:
        self._runtime.bus.deliver_due(self.system.clock.now())

    def dead(self, topic: str) -> int:
        return len(self._runtime.bus.dead(topic))

    def refusals(self) -> Counter[str]:
        return Counter(self.system.refusals.counts)

    def stop(self) -> None:
        self._runtime.stop()


class Segment:
    """A running replay. ``run`` takes it to its end; it can be continued on the same folder after a death."""

    def __init__(self, script: Script, folder: Path) -> None:
        self.script, self.folder = script, folder
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, progress: Callable[[int, int], None]) -> Replayed:
        script = self.script
        first = script.candles[script.history]
        arguments = [
            "--manual", "--volume-gates", "--open-accounts", "--equity", str(script.equity), "--market", script.market,
            "--candles", str(write_candles(self.folder / "candles.csv", script.candles)),
            "--ledger", str(self.folder / "venue.sqlite"), "--start", first.opened_at.isoformat(),
        ]  # fmt: skip
        venue = self.venue(arguments)
        try:
            return self._replay(venue.control, first.opened_at, progress)
        finally:
            venue.stop()

    def _replay(self, control: VenueControl, start: datetime, progress: Callable[[int, int], None]) -> Replayed:
        script = self.script
        player = self.player(control, start)
        samples: list[Sample] = []
        webhook: Counter[int] = Counter()
        alerts, hooks = list(script.alerts), list(script.hooks)
        played = script.candles[script.history :]
        try:
            for number, candle in enumerate(played, 1):
                while hooks and hooks[0][0] <= candle.closed_at:
                    hooks.pop(0)[1](control)
                player.minute(candle.closed_at + INGEST_DELAY)
                due = [a for a in alerts if a.at <= candle.closed_at]
                alerts = alerts[len(due) :]
                for alert in due:
                    webhook.update(player.post(alert))
                if due:
                    player.deliver()
                samples += sample(player.system, candle.closed_at)
                progress(number, len(played))
            return self._left_behind(player, control, samples, webhook)
        finally:
            player.stop()

    def venue(self, arguments: Sequence[str]) -> VenueProcess:
        """Start this segment's paper venue."""
        return start_venue(arguments, self.folder / "venue.log")

    def player(self, control: VenueControl, start: datetime) -> Player:
        """Who plays this segment: all functions in this process."""
        return _InProcess(self.system(control, start))

    def system(self, control: VenueControl, start: datetime) -> System:
        """The system of this segment, on the venue's own time."""
        settings = parse(settings_text(self.script.market, control.url, self.script.settings), {})
        clock = ReplayClock(max(start, venue_now(control)))
        clock.follow(control.advance_to)
        steps = Steps(partial(order_takes_time, clock))
        return local_system(settings, {}, clock=clock, steps=steps, path=self.folder / "twinleg.sqlite")

    def _left_behind(
        self, player: Player, control: VenueControl, samples: list[Sample], webhook: Counter[int]
    ) -> Replayed:
        store = player.system.store
        addresses = {name: address for name, (_, address, _) in account_addresses(player.system.settings).items()}
        return Replayed(
            trades=[Trade.model_validate(t.data) for t in store.query("trades", order_by="created_at")],
            events=[Event.model_validate(e.data) for e in store.query("audit", order_by="at")],
            samples=samples,
            ledger=control.ledger(),
            webhook=webhook,
            refusals=player.refusals(),
            intents=sum(i.data.get("decision") == "open" for i in store.query("intents")),
            dead=sum(player.dead(topic) for topic in SUBSCRIPTIONS),
            addresses=addresses,
        )


def venue_now(control: VenueControl) -> datetime:
    """The venue's own time."""
    return utc_from_ms(int(control.status()["now_ms"]))


def post(port: int, alert: PostedAlert) -> list[int]:
    """Post an alert to the webhook as TradingView does; the answers' status codes."""
    body = alert.body.encode()
    try:
        json.loads(alert.body)
        content_type = "application/json; charset=utf-8"
    except ValueError:
        content_type = "text/plain"
    codes: list[int] = []
    for _ in range(alert.times):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/{alert.secret}", data=body, headers={"Content-Type": content_type}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                codes.append(answer.status)
        except urllib.error.HTTPError as refusal:
            codes.append(refusal.code)
            refusal.close()
    return codes


def sample(system: System, at: datetime) -> list[Sample]:
    """Equity, margin ratio and liquidation distance of every account, as the sweep just recorded them."""
    found: list[Sample] = []
    for name in system.desk.accounts:
        book = system.store.get("books", name)
        if book is None or "equity_usd" not in book.data:
            continue
        ratio, distance = book.data["margin_ratio"], book.data["liquidation_distance"]
        found.append(
            Sample(
                at=at,
                account=name,
                equity_usd=Decimal(book.data["equity_usd"]),
                margin_ratio=Decimal(ratio) if ratio else None,
                liquidation_distance=Decimal(distance) if distance else None,
            )
        )
    return found


def alert_json(market: str, action: str, at: datetime, id: str, **more: str) -> str:
    """An alert in the shape our own documentation suggests to users."""
    return json.dumps(
        {"ticker": f"{market}USDT.P", "action": action, "timenow": f"{at:%Y-%m-%dT%H:%M:%SZ}", "id": id, **more}
    )


def minutes_after(start: datetime, count: int) -> datetime:
    return start + count * MINUTE
