"""Ingestion by the real function from a real paper venue: every closed candle once, in order, whatever happens."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from twinleg.adapters.local.bus import Envelope, LocalBus
from twinleg.adapters.local.clocks import ReplayClock
from twinleg.bootstrap import function_app, local_system, use
from twinleg.domain.candles import MINUTE, Candle, ms_from_utc
from twinleg.domain.messages import CandleClosed
from twinleg.embedded.replay import settings_text
from twinleg.embedded.runtime import Runtime, prepare
from twinleg.embedded.venue_process import VenueControl
from twinleg.engine.ports import Steps
from twinleg.engine.window import rows_of, unpacked
from twinleg.paper.options import VenueOptions
from twinleg.paper.server import ThreadServer, serve_in_thread
from twinleg.settings import parse

START = datetime(2025, 1, 6, tzinfo=UTC)
HISTORY = 30
ETH = '[[markets]]\nmarket = "hyperliquid:ETH"\nmain = "main"\nhedge = "hedge"\nstrategies = ["tradingview"]\n'


def candles(closes: Sequence[int], without: Sequence[int] = ()) -> list[Candle]:
    """One-minute candles from START through these closes, some minutes left out."""
    found, before = [], Decimal(closes[0])
    for number, value in enumerate(closes):
        close = Decimal(value)
        high, low = max(before, close) + 1, min(before, close) - 1
        if number not in without:
            found.append(Candle(START + number * MINUTE, before, high, low, close, Decimal(10)))
        before = close
    return found


def at(minute: int, seconds: int = 1) -> datetime:
    return START + minute * MINUTE + timedelta(seconds=seconds)


class Feed:
    """A paper venue, the ingest function beside it, and the queue it publishes into."""

    def __init__(self, folder: Path, series: dict[str, list[Candle]], now: datetime) -> None:
        self.folder, self.now, self.series = folder, now, series
        self.servers: list[ThreadServer] = []
        self.text = ""
        self.serve(series)

    def serve(self, series: dict[str, list[Candle]]) -> None:
        """Another venue process with these candles at the same point of time; our store stays."""
        self.server = serve_in_thread(VenueOptions(candles=series, start_ms=ms_from_utc(self.now)))
        self.servers.append(self.server)
        self.control = VenueControl(self.server.url)
        script = {"market": {"strategies": '["tradingview"]'}}
        self.text = settings_text("BTC", self.server.url, script)
        if len(series) > 1:
            self.text = self.text.replace("[strategies.macd]", f"{ETH}[strategies.macd]")
        self.start()

    def start(self, steps: Steps | None = None) -> None:
        """A new process of ours on the same file."""
        clock = ReplayClock(self.now)
        clock.follow(self.control.advance_to)
        self.system = local_system(parse(self.text, {}), {}, clock=clock, steps=steps, path=self.folder / "t.sqlite")
        use(self.system)
        self.client = function_app("ingest").test_client()

    def tick(self, minute: int, seconds: int = 1) -> Any:
        self.now = at(minute, seconds)
        clock: Any = self.system.clock
        clock.advance_to(self.now)
        return self.client.post("/", json={})

    def envelopes(self, coin: str = "BTC") -> list[Envelope]:
        assert isinstance(self.system.bus, LocalBus)
        return [m for m in self.system.bus.messages("candles", 2_000) if m.key == f"hyperliquid:{coin}"]

    def messages(self, coin: str = "BTC") -> list[CandleClosed]:
        return [CandleClosed.model_validate_json(m.data) for m in self.envelopes(coin)]

    def minutes(self, coin: str = "BTC") -> list[int]:
        """The minutes published, in the order of publishing."""
        return [(m.opened_at - START) // MINUTE for m in self.messages(coin)]

    def record(self, coin: str = "BTC") -> dict[str, Any]:
        stored = self.system.store.get("markets", f"hyperliquid:{coin}")
        assert stored is not None
        return stored.data

    def window(self, coin: str = "BTC") -> list[Candle]:
        stored = self.system.store.get("markets", f"hyperliquid:{coin}")
        return [unpacked(row)[0] for row in rows_of(stored)]

    def events(self, kind: str) -> list[str]:
        return [e.data["summary"] for e in self.system.store.query("audit", {"kind": kind}, order_by="at")]


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Callable[..., Feed]]:
    """Makes feeds: ``feed(closes, without=(33, 34))``; the first HISTORY candles have closed already."""
    made: list[Feed] = []

    def make(closes: Sequence[int] = (100_000,) * 120, without: Sequence[int] = (), **more: list[Candle]) -> Feed:
        made.append(Feed(tmp_path, {"BTC": candles(closes, without), **more}, at(HISTORY)))
        return made[-1]

    yield make
    for one in made:
        for server in one.servers:
            server.stop()


def wave(count: int = 120) -> list[int]:
    return [100_000 + 20 * (n % 9) for n in range(count)]


# -- the ordinary minute ---------------------------------------------------------------------------


def test_the_first_tick_stores_the_history_and_publishes_only_the_newest_candle(feed):
    """History is for the indicators; acting on candles closed before we were there is nobody's wish."""
    f = feed(wave())
    assert f.tick(HISTORY).status_code == 200
    assert f.minutes() == [HISTORY - 1]
    assert f.window() == f.series["BTC"][:HISTORY]
    assert f.record()["watermark"] == at(HISTORY, 0)


def test_each_minute_publishes_the_candle_that_closed_with_the_market_as_it_is(feed):
    f = feed(wave())
    for minute in range(HISTORY, HISTORY + 6):
        assert f.tick(minute).text == "hyperliquid:BTC: 1"
    assert f.minutes() == list(range(HISTORY - 1, HISTORY + 5))
    assert [m.candle for m in f.messages()] == f.series["BTC"][HISTORY - 1 : HISTORY + 5]
    for envelope, message in zip(f.envelopes(), f.messages(), strict=True):
        assert envelope.key == envelope.attributes["ordering_key"] == message.market == "hyperliquid:BTC"
        assert envelope.attributes["kind"] == "candle"
        assert message.received_at == message.closed_at + timedelta(seconds=1)
        assert message.snapshot is not None
        assert message.snapshot.mark_price > 0
    record = f.record()
    assert record["summary"].startswith("hyperliquid:BTC 100140, 35 candles to 2025-01-06 00:35")
    assert record["snapshot_at"] == record["updated_at"] == f.now


def test_a_second_tick_in_the_minute_publishes_nothing(feed):
    f = feed(wave())
    f.tick(HISTORY)
    for seconds in (2, 20, 59):
        assert f.tick(HISTORY, seconds).text == "hyperliquid:BTC: 0"
    assert f.minutes() == [HISTORY - 1]


def test_minutes_missed_are_made_up_for_in_order(feed):
    """A scheduler that skipped, a function that failed: the watermark says where to go on."""
    f = feed(wave())
    f.tick(HISTORY)
    f.control.faults([{"kind": "500", "path": "/info", "count": 1}])
    assert f.tick(HISTORY + 3).status_code == 503
    f.start()
    assert f.tick(HISTORY + 20).text == "hyperliquid:BTC: 20"
    assert f.minutes() == list(range(HISTORY - 1, HISTORY + 20))


def test_the_window_is_bounded_whatever_was_missed(feed):
    f = feed(wave(700))
    f.tick(HISTORY)
    assert f.tick(HISTORY + 600).text == "hyperliquid:BTC: 600"
    assert f.minutes() == list(range(HISTORY - 1, HISTORY + 600))
    assert len(f.window()) == f.system.desk.window
    assert f.window()[-1] == f.series["BTC"][HISTORY + 599]


def test_one_markets_failure_does_not_hold_up_another(feed):
    f = feed(wave(), ETH=[c._replace(open=c.open / 30, high=c.high / 30, low=c.low / 30, close=c.close / 30)
                          for c in candles(wave())])  # fmt: skip
    f.tick(HISTORY)
    f.control.faults([{"kind": "500", "path": "/info", "coin": "BTC"}])
    assert f.tick(HISTORY + 1).status_code == 503
    assert f.minutes("ETH") == [HISTORY - 1, HISTORY]
    assert f.minutes("BTC") == [HISTORY - 1]
    f.control.clear_faults()
    assert f.tick(HISTORY + 2).status_code == 200
    assert f.minutes("BTC") == f.minutes("ETH") == [HISTORY - 1, HISTORY, HISTORY + 1]


# -- gaps ------------------------------------------------------------------------------------------

GAP = (HISTORY + 2, HISTORY + 3)


def missing(f: Feed) -> list[int]:
    return [(ms - ms_from_utc(START)) // 60_000 for ms in f.record()["z_missing_ms"]]


def test_a_gap_is_remembered_and_filled_when_the_venue_has_the_candles_at_last(feed):
    f = feed(wave(), without=GAP)
    f.tick(HISTORY)
    f.tick(HISTORY + 6)
    assert f.minutes() == [HISTORY - 1, HISTORY, HISTORY + 1, HISTORY + 4, HISTORY + 5]
    assert missing(f) == list(GAP)
    f.tick(HISTORY + 7)
    assert missing(f) == list(GAP)

    f.serve({"BTC": candles(wave())})
    assert f.tick(HISTORY + 8).status_code == 200
    assert sorted(f.minutes()[-3:]) == [*GAP, HISTORY + 7]
    assert missing(f) == []
    assert f.window() == candles(wave())[: HISTORY + 8]
    f.tick(HISTORY + 9)
    assert len(f.minutes()) == len(set(f.minutes()))
    assert not f.events("gap")


def test_a_gap_that_stays_is_given_up_loudly_and_once(feed):
    f = feed(wave(), without=GAP)
    f.tick(HISTORY)
    for minute in range(HISTORY + 5, HISTORY + 12):
        f.tick(minute)
        assert missing(f) == list(GAP)
    assert not f.events("gap")
    for minute in range(HISTORY + 12, HISTORY + 20):
        assert f.tick(minute).status_code == 200
    assert missing(f) == []
    assert f.events("gap") == [f"hyperliquid:BTC has no candle for 2025-01-06T00:{m}Z" for m in GAP]
    assert [c for c in f.minutes() if c in GAP] == []
    assert f.minutes()[-1] == HISTORY + 18


# -- outliers --------------------------------------------------------------------------------------


def test_an_outlier_is_kept_and_shown_and_published_as_suspect(feed):
    closes = wave()
    closes[HISTORY + 1] = 106_000
    f = feed(closes)
    for minute in range(HISTORY, HISTORY + 5):
        f.tick(minute)
    assert [m.suspect for m in f.messages()] == [False, False, True, True, False]
    assert f.events("candle_suspect")[0].startswith("hyperliquid:BTC closed at 106000.0, over 5 % from 100060")
    assert len(f.window()) == HISTORY + 4
    assert [unpacked(r)[1] for r in f.record()["z_candles"].split("\n")][-4:] == [False, True, True, False]


def test_no_strategy_trades_on_a_suspect_candle(tmp_path):
    """Asked about it, the strategy would go long; it is not asked."""
    series = candles([100_000] * 250 + [106_000] * 10)
    server = serve_in_thread(VenueOptions(candles={"BTC": series}, start_ms=ms_from_utc(at(245))))
    try:
        control = VenueControl(server.url)
        clock = ReplayClock(at(245))
        clock.follow(control.advance_to)
        text = settings_text("BTC", server.url, {"market": {"strategies": '["macd"]'}})
        text = text.replace('kind = "macd"', 'kind = "macd"\nparameters = { confirm = 1 }')
        system = local_system(parse(text, {}), {}, clock=clock, path=tmp_path / "t.sqlite")
        macd = system.desk.strategies["macd"].strategy
        assert macd is not None
        signal = macd.decide("hyperliquid:BTC", series[:251])
        assert signal is not None
        assert signal.direction == "long"
        runtime = Runtime(system)
        prepare(system)
        for minute in range(246, 254):
            runtime.minute(at(minute))
        assert len(system.store.query("audit", {"kind": "candle_suspect"})) == 1
        assert not system.store.query("intents")
        assert isinstance(system.bus, LocalBus)
        assert system.bus.pending() == 0
    finally:
        server.stop()


# -- deaths ----------------------------------------------------------------------------------------


class Death(BaseException):
    """The process ends."""


def test_wherever_a_tick_dies_the_next_one_publishes_what_is_missing_in_order(feed):
    f = feed(wave(400))
    counted = Steps()
    f.start(counted)
    f.tick(HISTORY)
    before = counted.count
    f.tick(HISTORY + 1)
    steps = counted.count - before
    assert steps >= 8
    minute = HISTORY + 2
    for step in range(1, steps + 1):
        f.start(dying_at(step))
        with pytest.raises(Death):
            f.tick(minute)
        f.start()
        assert f.tick(minute, 30).status_code == 200
        minute += 1
    published = f.minutes()
    assert list(dict.fromkeys(published)) == list(range(HISTORY - 1, minute - 1))
    assert len(published) < 2 * len(set(published))
    assert f.window() == f.series["BTC"][: minute - 1]


def dying_at(step: int) -> Steps:
    def die(count: int, name: str) -> None:
        if count == step:
            raise Death(name)

    return Steps(die)


def test_the_first_tick_of_all_may_die_too(feed):
    f = feed(wave())
    step = 1
    while True:
        f.start(dying_at(step))
        try:
            f.tick(HISTORY)
            break
        except Death:
            step += 1
    f.start()
    assert set(f.minutes()) == {HISTORY - 1}
    assert len(f.window()) == HISTORY
    assert step > 1


def test_candles_that_fill_a_gap_are_not_lost_by_a_death_either(feed):
    """They lie before the watermark, so that the watermark alone would not tell that they wait."""
    f = feed(wave(), without=GAP)
    f.tick(HISTORY)
    f.tick(HISTORY + 6)
    f.serve({"BTC": candles(wave())})

    def die(_: int, name: str) -> None:
        if name.startswith("store.compare_and_set markets") and name.endswith("done"):
            raise Death(name)

    f.start(Steps(die))
    with pytest.raises(Death):
        f.tick(HISTORY + 7)
    assert not set(GAP) & set(f.minutes())
    f.start()
    f.tick(HISTORY + 7, 30)
    assert set(GAP) < set(f.minutes())
    assert len(f.minutes()) == len(set(f.minutes()))
