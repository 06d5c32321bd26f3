"""Values that many tests start from."""

import asyncio
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from twinleg.adapters.gcp import emulators
from twinleg.adapters.local.clocks import ReplayClock
from twinleg.bootstrap import System, account_addresses, function_app, local_system
from twinleg.domain.candles import Candle, ms_from_utc, utc_from_ms
from twinleg.domain.messages import HedgedIntent, IntentAction, LegPlan
from twinleg.domain.orders import LegRole, Side
from twinleg.domain.signals import Direction
from twinleg.domain.trades import Trade
from twinleg.embedded.replay import alert_json, settings_text
from twinleg.embedded.runtime import Runtime, prepare
from twinleg.embedded.venue_process import VenueControl
from twinleg.engine.ports import SignerRole, Steps
from twinleg.engine.saga import proposed
from twinleg.engine.system import Engine
from twinleg.paper.options import VenueOptions
from twinleg.paper.server import Face
from twinleg.paper.venue import Venue
from twinleg.settings import parse

SEEDS = "TWINLEG_TEST_SEEDS"
"""The seeds of this run's simulations that nobody chose; set, they are tried instead of drawn ones."""


def pytest_configure(config: pytest.Config) -> None:
    """Drawn once, before the processes that share the tests begin: they inherit them."""
    draw = random.SystemRandom()
    os.environ.setdefault(SEEDS, " ".join(str(draw.randrange(1_000_000)) for _ in range(3)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which seeds were tried, also when all is well."""
    ran = [r for found in terminalreporter.stats.values() for r in found if "nobody_chose" in getattr(r, "nodeid", "")]
    if ran:
        seeds = os.environ[SEEDS]
        terminalreporter.write_line(f"simulated seeds that nobody chose: {seeds} ({SEEDS}='{seeds}' tries them again)")


AT = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)
HISTORY = 30


@pytest.fixture
def make_intent() -> Callable[..., HedgedIntent]:
    """An intent to go long BTC with a hedge on the other account; any field can be changed."""

    def make(**changes: Any) -> HedgedIntent:
        values: dict[str, Any] = {
            "intent_id": "BTC-macd-1", "action": IntentAction.OPEN, "strategy": "macd", "market": "hyperliquid:BTC",
            "direction": Direction.LONG, "confidence": Decimal("0.8"),
            "main": LegPlan(
                role=LegRole.MAIN, account="main", market="hyperliquid:BTC", side=Side.BUY, leverage=4,
                margin_share=Decimal("0.8"),
            ),
            "hedge": LegPlan(
                role=LegRole.HEDGE, account="hedge", market="hyperliquid:BTC", side=Side.SELL, leverage=2,
                margin_share=Decimal("0.2"),
            ),
            "stop_percent": Decimal(1), "target_percent": Decimal(2), "budget_percent": Decimal(5),
            "holding_seconds_max": 3600, "slippage_bps": Decimal(50), "range_percent": Decimal("0.05"),
            "reference_price": Decimal(100_000), "trigger": "2025-01-06T12:00:00Z", "trigger_at": AT,
            "reason": "a test", "created_at": AT, "expires_at": AT + timedelta(seconds=90),
        }  # fmt: skip
        return HedgedIntent(**{**values, **changes})

    return make


@pytest.fixture
def make_trade(make_intent: Callable[..., HedgedIntent]) -> Callable[..., Trade]:
    """A proposed trade; any field can be changed."""

    def make(**changes: Any) -> Trade:
        return proposed(make_intent(), AT).model_copy(update=changes)

    return make


# -- Google's emulators, one of each for all tests -------------------------------------------------


def _running(start: Callable[[Mapping[str, str]], emulators.Emulator]) -> Iterator[str]:
    """The emulator's address. Where it cannot be had its tests are skipped, except in CI, where they fail."""
    try:
        emulator = start(os.environ)
    except emulators.EmulatorsMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    watch = _ended_with_us(emulator)
    yield emulator.host
    watch.communicate()
    emulator.stop()


def _ended_with_us(emulator: emulators.Emulator) -> subprocess.Popen[bytes]:
    """Ends the emulator when this process ends in whatever way, a kill -9 included: then its end of the pipe closes."""
    ending = f"kill {emulator.process.pid} 2>&-" if emulator.process else ":"
    return subprocess.Popen(["sh", "-c", f"read _; {ending}"], stdin=subprocess.PIPE, start_new_session=True)


@pytest.fixture(scope="session")
def firestore_host() -> Iterator[str]:
    yield from _running(emulators.firestore)


@pytest.fixture(scope="session")
def pubsub_host() -> Iterator[str]:
    yield from _running(emulators.pubsub)


# -- a whole desk on the paper venue ---------------------------------------------------------------


class VenueThread:
    """The paper venue's own HTTP server, in a thread of the test."""

    def __init__(self, options: VenueOptions) -> None:
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(options,), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self, options: VenueOptions) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(options))
        self._loop.close()

    async def _serve(self, options: VenueOptions) -> None:
        self.venue = venue = Venue(options, lambda: 0)
        runner = web.ServerRunner(web.Server(Face(venue).handle, access_log=None), handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._stop = asyncio.Event()
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()
        venue.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


class World:
    """Both accounts on a paper venue of their own, the five functions around them, and a clock that stands still.

    The venue answers over real HTTP; nothing is replaced by a stand-in.
    """

    def __init__(
        self,
        folder: Path,
        closes: Sequence[str],
        coin: str = "BTC",
        *,
        candles: Sequence[Candle] | None = None,
        history: int = HISTORY,
        script: Mapping[str, Mapping[str, str]] | None = None,
        also: Sequence[str] = (),
        **limits: str,
    ) -> None:
        self.coin, self.folder, self.also = coin, folder, also
        start = datetime(2025, 1, 6, 0, 0, tzinfo=UTC)
        self.candles = list(candles) if candles else candles_of(closes, start)
        self.history, self.script = history, script or {}
        options = VenueOptions(
            candles={name: self.candles for name in (coin, *also)},
            open_accounts=True,
            start_ms=ms_from_utc(self.candles[history].opened_at),
        )
        self.server = VenueThread(options)
        self.control = VenueControl(self.server.url)
        self.limits = {name: f'"{value}"' if not value.isdigit() else value for name, value in limits.items()}
        self.fired: dict[str, datetime] = {}
        self.system = self.new_system()
        self.runtime = Runtime(self.system)
        prepare(self.system)
        self.runtime.minute(self.candles[history].opened_at + timedelta(seconds=1))

    def new_system(self, steps: Steps | None = None) -> System:
        """A system as a new process would build it, on the same file and the venue's own time."""
        script = {"limits": self.limits, "market": {"strategies": '["tradingview"]'}, **self.script}
        text = settings_text(self.coin, self.server.url, script)
        row = text[text.index("[[markets]]") : text.index("[strategies.macd]")]
        more = [row.replace(f"hyperliquid:{self.coin}", f"hyperliquid:{coin}") for coin in self.also]
        settings = parse(text.replace(row, row + "".join(more)), {})
        clock = ReplayClock(utc_from_ms(int(self.control.status()["now_ms"])))
        clock.follow(self.control.advance_to)
        return local_system(settings, {}, clock=clock, steps=steps, path=self.folder / "twinleg.sqlite")

    def restart(self, steps: Steps | None = None) -> None:
        """What happens when the process dies and is started again."""
        self.system = self.new_system(steps)
        self.runtime = Runtime(self.system)

    def engine(self, role: SignerRole = SignerRole.EXECUTE) -> Engine:
        return self.system.engine(role)

    @property
    def market(self) -> str:
        return f"hyperliquid:{self.coin}"

    def address(self, account: str) -> str:
        return account_addresses(self.system.settings)[account][1]

    def alert(self, action: str, id: str, **more: str) -> list[int]:
        """Put an alert through the webhook function and everything it sets off; the same id is the same alert."""
        self.system.clock.sleep(1)
        fired_at = self.fired.setdefault(id, self.system.clock.now())
        body = alert_json(self.coin, action, fired_at, id, **more)
        status = self.post(body)
        self.deliver()
        return status

    def post(self, body: str | bytes, secret: str = "paper") -> list[int]:
        client = function_app("webhook").test_client()
        return [client.post(f"/{secret}", data=body, content_type="application/json").status_code]

    def deliver(self) -> None:
        self.runtime.bus.deliver_due(self.system.clock.now())

    def minutes(self, count: int = 1) -> None:
        """Replay minutes: candles close, ingest, signals, the sweep."""
        for _ in range(count):
            at = self.system.clock.now().replace(second=0, microsecond=0) + timedelta(minutes=1, seconds=1)
            self.runtime.minute(at)

    def sweep(self) -> int:
        return self.runtime.call("risk")

    def trades(self) -> list[Trade]:
        stored = self.system.store.query("trades", order_by="created_at")
        return [Trade.model_validate(t.data) for t in stored]

    def trade(self) -> Trade:
        """The newest trade."""
        return self.trades()[-1]

    def position(self, account: str) -> Decimal:
        """Signed size the venue says the account holds."""
        found = self.system.venues.of(account).account(account).position(self.market)
        return found.size if found else Decimal(0)

    def fills(self, account: str) -> list[dict[str, Any]]:
        """The account's fills in the venue's own ledger."""
        address = self.address(account)
        return [f for f in self.control.ledger()["fills"] if f["user"].lower() == address]

    def fault(self, **rule: Any) -> None:
        self.control.faults([rule])

    def events(self, kind: str) -> list[str]:
        return [e.data["summary"] for e in self.system.store.query("audit", {"kind": kind}, order_by="at")]

    def close(self) -> None:
        self.server.stop()


def candles_of(closes: Sequence[str], start: datetime) -> list[Candle]:
    """One-minute candles through these closes, after HISTORY calm ones at the first."""
    found: list[Candle] = []
    before = Decimal(closes[0])
    for number, text in enumerate([closes[0]] * HISTORY + list(closes)):
        close = Decimal(text)
        high, low = max(before, close) * Decimal("1.0001"), min(before, close) * Decimal("0.9999")
        found.append(Candle(start + timedelta(minutes=number), before, high, low, close, Decimal(10)))
        before = close
    return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds: ``world(["100000", "99000", …], stop_percent="2")``."""
    made: list[World] = []

    def make(closes: Sequence[str] = ("100000",) * 60, **limits: Any) -> World:
        folder = tmp_path / f"world{len(made)}"
        folder.mkdir()
        made.append(World(folder, closes, **limits))
        return made[-1]

    yield make
    for one in made:
        one.close()
