"""The page: well-formed, complete, escaped, self-contained, and small and fast enough for a month of minutes."""

from __future__ import annotations

import math
import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from twinleg.domain.candles import MINUTE, Candle
from twinleg.domain.messages import Event, EventKind, HedgedIntent, IntentAction, LegPlan
from twinleg.domain.orders import LegRole, Side
from twinleg.domain.signals import Direction
from twinleg.domain.trades import Leg, Trade, TradeState
from twinleg.embedded.charts import Axis, apart, log_ticks, nice_ticks, places_for, thinned, time_ticks
from twinleg.embedded.price_chart import buckets
from twinleg.embedded.report import ReportData, Sample, Segment, render_report
from twinleg.embedded.report_data import Ending, ending
from twinleg.embedded.report_parts import curves, worst_bar

START = datetime(2025, 11, 10, 12, 17, tzinfo=UTC)
BTC = "hyperliquid:BTC"
CLEAN = {"liquidations": 0, "orphans": 0, "double_orders": 0, "unhedged_seconds_max": 1.4}


def made_candles(count: int, seed: int = 1, start: datetime = START) -> list[Candle]:
    """A random walk of one-minute bars around 100,000 USD."""
    draw, price = random.Random(seed), 100_000.0
    found = []
    for i in range(count):
        close = price * (1 + draw.gauss(0, 0.0004))
        high, low = (
            max(price, close) * (1 + abs(draw.gauss(0, 2e-4))),
            min(price, close) * (1 - abs(draw.gauss(0, 2e-4))),
        )
        o, h, lo, c = (Decimal(f"{v:.1f}") for v in (price, high, low, close))
        found.append(Candle(start + i * MINUTE, o, h, lo, c, Decimal(1)))
        price = close
    return found


def made_trade(
    candles: list[Candle],
    n: int,
    first: int,
    last: int | None,
    why: str = "main leg target at 101000",
    *,
    long: bool = True,
    state: TradeState = TradeState.CLOSED,
    cut: bool = False,
) -> Trade:
    """A trade that lived from one candle to another (None: still open), its profit that of those candles."""
    opened, price = candles[first].closed_at + timedelta(seconds=3), candles[first].close
    out = candles[last].close if last is not None else Decimal(0)
    direction = Direction.LONG if long else Direction.SHORT
    legs = []
    for role, side, size in (
        (LegRole.MAIN, Side.opening(direction), Decimal("0.012")),
        (LegRole.HEDGE, Side.opening(direction.opposite), Decimal("0.0015")),
    ):
        sign = side.sign if role is LegRole.MAIN else -side.sign
        legs.append(
            Leg(
                role=role,
                account=role.value,
                market=BTC,
                side=side,
                leverage=3 if role is LegRole.MAIN else 1,
                size_approved=size,
                size_filled=size,
                entry_price=price,
                stop_price=price * (1 - sign * Decimal("0.01")),
                target_price=price * (1 + sign * Decimal("0.015")),
                size_closed=size if last is not None else Decimal(0),
                exit_price=out,
                realised_usd=(out - price) * size * side.sign if last is not None else Decimal(0),
                fees_usd=size * price * Decimal("0.0009"),
                entry_liquidation_distance=Decimal("0.31"),
            )
        )
    plans = [
        LegPlan(
            role=g.role, account=g.account, market=BTC, side=g.side, leverage=g.leverage, margin_share=Decimal("0.5")
        )
        for g in legs
    ]
    intent = HedgedIntent(
        intent_id=f"BTC-macd-{n:016x}", action=IntentAction.OPEN, strategy="macd", market=BTC, direction=direction,
        confidence=Decimal("0.6"), main=plans[0], hedge=plans[1], stop_percent=Decimal(1), target_percent=Decimal(2),
        budget_percent=Decimal(5), holding_seconds_max=3600, slippage_bps=Decimal(50), range_percent=Decimal("0.1"),
        reference_price=price, trigger="close", trigger_at=opened, reason="test", created_at=opened,
        expires_at=opened + timedelta(seconds=90),
    )  # fmt: skip
    return Trade(
        trade_id=intent.intent_id, intent=intent, state=state if last is not None else TradeState.OPEN, main=legs[0],
        hedge=legs[1], created_at=opened, updated_at=opened, opened_at=None if why.startswith("unwound") else opened,
        closed_at=candles[last].closed_at if last is not None else None, why_closed=why if last is not None else "",
        cut=cut,
    )  # fmt: skip


def made_samples(candles: list[Candle], trades: list[Trade]) -> list[Sample]:
    """Both accounts each minute; ratios and distances only while a trade is held."""
    found = []
    money = {"main": Decimal(10_000), "hedge": Decimal(10_000)}
    for candle in candles:
        at = candle.closed_at
        held = [t for t in trades if t.created_at <= at and (t.closed_at is None or at <= t.closed_at)]
        for t in trades:
            if t.closed_at and t.closed_at - MINUTE < at <= t.closed_at:
                for leg in t.legs:
                    money[leg.account] += leg.realised_usd - leg.fees_usd
        for name in ("main", "hedge"):
            ratio = distance = None
            if held:
                t = held[0]
                leg = t.main if name == "main" else t.hedge
                moved = (candle.close / leg.entry_price - 1) * leg.side.sign
                distance = max(Decimal("0.001"), Decimal("0.31") + moved * 6)
                ratio = Decimal(27 if name == "main" else 70) * distance / Decimal("0.31")
            found.append(Sample(at, name, money[name], ratio, distance))
    return found


def segment(candles: list[Candle], trades: list[Trade], events: list[Event], *, synthetic: bool = False) -> Segment:
    name = "stress" if synthetic else "replay"
    return Segment(name, f"The {name}", synthetic, BTC, candles, made_samples(candles, trades), trades, events)


def event(kind: EventKind, at: datetime, summary: str, trade_id: str = "") -> Event:
    return Event(kind=kind, at=at, who="risk", summary=summary, market=BTC, trade_id=trade_id)


def small() -> ReportData:
    """A replay and a stress in which every ending occurs once."""
    real, made = made_candles(421), made_candles(240, seed=4, start=START + timedelta(days=1))
    first = [
        made_trade(real, 1, 30, 80),
        made_trade(real, 2, 120, 170, "main leg stop at 99000", long=False),
        made_trade(real, 3, 180, 300, "held_seconds 7200 >= holding_seconds_max 7200"),
        made_trade(real, 4, 310, 350, "opposite signal of macd", long=False),
        made_trade(real, 5, 390, None),
    ]
    second = [
        made_trade(made, 11, 20, 22, "unwound: the hedge could not be placed: Insufficient margin"),
        made_trade(made, 12, 50, 90, "ladder: 8 % of its liquidation distance at entry is left", cut=True),
        made_trade(made, 13, 120, 160, "main leg liquidated"),
        made_trade(made, 14, 170, 200, "net_loss_usd 151 >= 150"),
        made_trade(made, 15, 205, 225, "closed"),
    ]
    events = [
        event(EventKind.REFUSED, c.closed_at, f"stale: candle {i} is too old")
        for i, c in enumerate(real)
        if i % 60 == 7
    ]
    for trade in first:
        assert trade.opened_at
        events.append(event(EventKind.OPENED, trade.opened_at, "both legs are guarded", trade.trade_id))
        if trade.closed_at:
            events.append(event(EventKind.CLOSED, trade.closed_at, trade.why_closed, trade.trade_id))
    events.append(event(EventKind.CANDLE_SUSPECT, real[200].closed_at, "moved 7 % in a minute"))
    stressed = [event(EventKind.CUT, made[70].closed_at, "50 % of both legs", second[1].trade_id)]
    stressed.append(event(EventKind.UNWOUND, made[22].closed_at, "the hedge could not be placed", second[0].trade_id))
    stressed.append(event(EventKind.BREAKER, made[165].closed_at, "ENABLED -> REDUCING: -5 % on the day"))
    summary = CLEAN | {
        "candles": 661, "alerts_received": 14, "alerts_refused": 3, "alerts_duplicate": 2, "signals": 12, "intents": 10,
        "refused": {"stale": 7}, "wall_seconds": 12.3,
        "segments": {"replay": CLEAN, "stress": CLEAN | {"unhedged_seconds_max": 1.1}},
    }  # fmt: skip
    segments = [segment(real, first, events), segment(made, second, stressed, synthetic=True)]
    return ReportData("Half a day of real candles, and an hour of trouble", segments, summary)


class Reader(HTMLParser):
    """Checks that every element that is opened is closed in order, and keeps what text a person would see."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_well_formed_and_shows_every_trade_with_both_legs() -> None:
    data = small()
    page = render_report(data)
    text = " ".join(read(page).text)
    for part in data.segments:
        assert part.label in text
        for trade in part.trades:
            assert page.count(trade.trade_id) >= 2, "once on the chart and once in the table"
            assert trade.why_closed in text
    assert page.count('<td class="leg main">') == page.count('<td class="leg hedge">') == 10


def test_the_page_needs_nothing_from_anywhere() -> None:
    page = render_report(small())
    reader = read(page)
    assert reader.links == []
    assert not {"link", "iframe", "img", "object", "base"} & reader.tags
    assert "http" not in page
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}


def test_svg_coordinates_are_numbers() -> None:
    page = render_report(small())
    assert not re.search(r'="[^"]*\b(nan|inf|None)\b', page)
    assert all(math.isfinite(float(n)) for n in re.findall(r'\b[xy][12]?="([^"]*)"', page))


def test_what_came_from_outside_is_escaped() -> None:
    candles = made_candles(60)
    evil = '</script><script>alert(1)</script><img src=x onerror="x">&'
    trade = made_trade(candles, 1, 10, 30, f"alert close {evil}")
    bad = made_samples(candles, [trade])
    bad.append(Sample(candles[-1].closed_at, evil, Decimal(1), None, None))
    happened = [event(EventKind.REFUSED, candles[5].closed_at, f"{evil}: x"), event(EventKind.HALTED, START, evil)]
    part = Segment(evil, evil, False, evil, candles, bad, [trade], happened)
    page = render_report(
        ReportData(evil, [part], CLEAN | {"refused": {evil: 1}, "segments": {evil: CLEAN, "b": CLEAN}})
    )
    assert "img" not in read(page).tags
    assert "<script>alert" not in page
    assert page.count("</script>") == 2, "the data of the one segment, and the page's own script"


def test_it_works_without_trades_candles_or_segments() -> None:
    candles = made_candles(30)
    empty = Segment("replay", "Nothing", False, BTC, [], [], [], [])
    quiet = Segment("replay", "Quiet", False, BTC, candles, made_samples(candles, []), [], [])
    for segments in ([], [empty], [quiet], [empty, quiet]):
        text = " ".join(read(render_report(ReportData("Empty", segments, CLEAN))).text)
        assert ("No trade was made." in text) == bool(segments)


def test_a_risk_number_nobody_measured_is_not_zero() -> None:
    text = " ".join(read(render_report(ReportData("x", [], {}))).text)
    assert text.count("not measured") == 4


def test_a_liquidation_in_the_stress_is_seen_at_the_top() -> None:
    segments = {"replay": CLEAN, "stress": CLEAN | {"liquidations": 1}}
    page = render_report(ReportData("x", [], CLEAN | {"liquidations": 1, "segments": segments}))
    assert '<b class="bad">1</b><span class="by">replay 0</span><span class="by">stress 1</span>' in page


def test_the_stress_is_labelled_as_synthetic() -> None:
    page = render_report(small())
    assert page.count("synthetic, made from a seed") == 1
    assert page.count(">real candles<") == 1


def test_a_month_of_minutes_stays_small() -> None:
    candles = made_candles(44_640)
    trades = [made_trade(candles, n, 47 * n + 30, 47 * n + 60, long=n % 2 == 0) for n in range(900)]
    samples = [
        Sample(c.closed_at, name, Decimal(10_000), Decimal(27), Decimal("0.31"))
        for c in candles
        for name in ("main", "hedge")
    ]
    events = [event(EventKind.OPENED, t.created_at, "both legs are guarded", t.trade_id) for t in trades]
    events += [event(EventKind.REFUSED, c.closed_at, "stale: too old") for c in candles[::5]]
    data = ReportData("A month", [Segment("replay", "May", False, BTC, candles, samples, trades, events)], CLEAN)
    page = render_report(data)
    assert len(page.encode()) < 3_000_000
    assert all(trade.trade_id in page for trade in trades)


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "how"),
    [
        ("main leg stop at 99000", Ending.STOP),
        ("hedge target at 99000", Ending.STOP),
        ("main leg target at 101000", Ending.TARGET),
        ("hedge stop at 101000", Ending.TARGET),
        ("held_seconds 7200 >= holding_seconds_max 7200", Ending.TIME_LIMIT),
        ("ladder: main leg: 8 % left", Ending.LADDER),
        ("unwound: no stop seen at the venue for the main leg", Ending.UNWOUND),
        ("hedge liquidated", Ending.LIQUIDATED),
        ("opposite signal of macd", Ending.SIGNAL),
        ("reversed by BTC-macd-2", Ending.SIGNAL),
        ("net_profit_usd 300 >= 300", Ending.NET_LIMIT),
        ("FLATTEN by a person", Ending.OTHER),
    ],
)
def test_how_a_trade_ended(why: str, how: Ending) -> None:
    candles = made_candles(40)
    assert ending(made_trade(candles, 1, 5, 20, why)) is how
    assert ending(made_trade(candles, 1, 5, None, why)) is Ending.OPEN


def test_joined_candles_lose_no_extreme() -> None:
    candles = made_candles(5000)
    bars = buckets(candles, 300)
    assert len(bars) <= 300
    assert max(b.high for b in bars) == float(max(c.high for c in candles))
    assert min(b.low for b in bars) == float(min(c.low for c in candles))
    assert bars[0].at == candles[0].opened_at.timestamp()
    assert bars[-1].at + bars[-1].seconds == candles[-1].closed_at.timestamp()


def test_thinning_keeps_the_worst_and_the_breaks() -> None:
    points = [(float(i), 5.0 if i != 777 else 0.5) for i in range(2000)]
    gap = [(at, None if 1000 <= at < 1500 else value) for at, value in points]
    kept = thinned(gap, min, 100)
    assert min(value for _, value in kept if value is not None) == 0.5
    assert any(value is None for _, value in kept)
    assert len(kept) <= 100


def test_the_distance_is_measured_against_that_at_entry() -> None:
    candles = made_candles(60)
    trade = made_trade(candles, 1, 10, 30)
    part = segment(candles, [trade], [])
    half = [
        Sample(s.at, s.account, s.equity_usd, s.margin_ratio, Decimal("0.155") if s.liquidation_distance else None)
        for s in part.samples
    ]
    found = curves(Segment("replay", "x", False, BTC, candles, half, [trade], []))
    values = {value for _, value in found.left["main"]}
    assert values == {None, 50.0}


def test_the_worst_bar_and_what_was_held_in_it() -> None:
    candles = made_candles(60)
    wild = candles[20]
    candles[20] = wild._replace(low=wild.low * Decimal("0.95"))
    trades = [made_trade(candles, 1, 10, 30), made_trade(candles, 2, 40, 50)]
    fired = event(EventKind.PROTECTED, wild.closed_at + timedelta(seconds=20), "stop placed again")
    late = event(EventKind.CLOSED, wild.closed_at + timedelta(minutes=5), "later")
    worst = worst_bar(segment(candles, trades, [fired, late]))
    assert worst is not None
    assert worst.candle.opened_at == wild.opened_at
    assert [t.trade_id for t in worst.trades] == [trades[0].trade_id]
    assert list(worst.events) == [fired]


def test_history_before_the_first_reading_is_not_the_worst_minute() -> None:
    candles = made_candles(60)
    candles[2] = candles[2]._replace(low=candles[2].low * Decimal("0.9"))
    part = segment(candles, [], [])
    played = [s for s in part.samples if s.at > candles[30].closed_at]
    worst = worst_bar(Segment("replay", "x", False, BTC, candles, played, [], []))
    assert worst is not None
    assert worst.candle.opened_at > candles[29].opened_at


def test_scales_and_ticks() -> None:
    assert nice_ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert places_for([0.25, 0.5, 0.75]) == 2
    assert places_for([1000, 2000]) == 0
    assert log_ticks(0.9, 30) == [1, 1.5, 2, 3, 5, 10, 20]
    axis = Axis(1, 100, 200, 0, log=True)
    assert (axis(1), axis(10), axis(100)) == (200, pytest.approx(100), pytest.approx(0))
    assert apart([10, 11, 50], 13) == [10, 23, 50]
    assert apart([90, 40, 95], 13, lowest=100) == [87, 40, 100]
    ticks = time_ticks(START.timestamp(), (START + timedelta(hours=12)).timestamp())
    assert [text for _, text in ticks][:3] == ["10 Nov 14:00", "16:00", "18:00"]
