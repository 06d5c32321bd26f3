"""``twinleg demo``: real candles and alerts through all five functions, on the paper venue, then what came of it."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from twinleg.adapters.local.candle_files import packaged_candles, parse_instant, read_candles
from twinleg.adapters.local.clocks import stopwatch
from twinleg.bootstrap import paper_address
from twinleg.domain.candles import MINUTE, Candle
from twinleg.domain.errors import BadInput
from twinleg.embedded.replay import PostedAlert, Replayed, Script, Segment, alert_json
from twinleg.embedded.report import ReportData, render_report
from twinleg.embedded.report import Segment as ReportSegment
from twinleg.embedded.stress import scenes_seen, stress_script
from twinleg.embedded.summary import Pair, Records, summarise
from twinleg.embedded.venue_ledger import read_ledger

HISTORY_MAX = 240
HISTORY_MIN = 60
PLAYED_MIN = 30


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What ``twinleg demo`` was asked for."""

    candles: Path | None
    live: bool
    market: str
    start: str | None
    end: str | None
    out: Path
    seed: int
    stress: bool
    as_json: bool
    emulators: bool = False
    adapter: str = "sdk"
    """Who writes and signs what is sent to the venue: ``sdk`` or ``ccxt``."""


def run_demo(options: DemoOptions) -> int:
    """Replay, stress, and write ``summary.json`` and ``report.html``; 0 when no leg was doubled or orphaned."""
    watch = stopwatch()
    candles, history, source = chosen_candles(options)
    market = options.market.upper()
    say = _quiet if options.as_json else _say
    say(f"replaying {len(candles) - history} candles of {market} from {source}")
    options.out.mkdir(parents=True, exist_ok=True)
    with workspace() as folder, _stage(options, say) as segment:
        segments: dict[str, tuple[Script, Replayed]] = {}
        scripts = [replay_script(market, candles, history)]
        if options.stress:
            price = candles[-1].close
            scripts.append(stress_script(market, options.seed, price, paper_address("hedge").lower()))
        scripts = [replace(s, settings={**s.settings, "venue": {"adapter": f'"{options.adapter}"'}}) for s in scripts]
        for script in scripts:
            with _progress(script.name, quiet=options.as_json) as progress:
                segments[script.name] = (script, segment(script, folder / script.name).run(progress))
    summary = _summary(segments, watch())
    summary["market"], summary["source"], summary["seed"] = market, source, options.seed
    report = options.out / "report.html"
    report.write_text(render_report(_report(market, source, segments, summary)))
    (options.out / "summary.json").write_text(json.dumps(summary, indent=2, default=str) + "\n")
    if options.as_json:
        print(json.dumps(summary, default=str))
    else:
        _table(summary)
        say(f"wrote {options.out / 'summary.json'} and {report}")
    return 1 if summary["double_orders"] or summary["orphans"] else 0


@contextmanager
def _stage(options: DemoOptions, say: Callable[[str], None]) -> Iterator[Callable[[Script, Path], Segment]]:
    """Where segments are played: in this process, or behind the emulators."""
    if not options.emulators:
        yield Segment
        return
    from twinleg.embedded.emulated_demo import emulated_stage
    from twinleg.settings import environment

    logs = options.out / "logs"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    say("starting the Firestore and Pub/Sub emulators")
    with emulated_stage(environment(), logs) as stage:
        say(f"each function is a process of its own; their logs: {logs}")
        yield partial(stage.segment, say=_quiet)


# -- what is replayed ------------------------------------------------------------------------------


def chosen_candles(options: DemoOptions) -> tuple[list[Candle], int, str]:
    """The candles, how many of them are history, and where they are from.

    History is what lies before ``--from`` (up to what the window holds); without it the first part of the file.
    """
    start = parse_instant(options.start) if options.start else None
    end = parse_instant(options.end) if options.end else None
    if start and end and end <= start:
        raise BadInput(f"--to must be after --from, was {options.end} and {options.start}")
    if options.live:
        found, source = live_candles(options.market.upper()), "Hyperliquid's public API"
    elif options.candles is None:
        if options.market.upper() != "BTC":
            raise BadInput(f"--market {options.market}: the packaged candles are BTC; name others with --candles")
        found, source = packaged_candles(), "the packaged Kraken bars of 2025-11-10"
    else:
        found, source = read_candles(options.candles), options.candles.name
    if any(c.interval != MINUTE for c in found[:2]):
        raise BadInput(f"--candles: the demo replays 1-minute candles, these last {found[0].interval}")
    return (*sliced(found, start, end), source)


def sliced(found: Sequence[Candle], start: datetime | None, end: datetime | None) -> tuple[list[Candle], int]:
    """The candles to load and how many of them are history."""
    until = [c for c in found if end is None or c.closed_at <= end]
    before = sum(start is not None and c.opened_at < start for c in until)
    if start is None:
        before = min(HISTORY_MAX, max(HISTORY_MIN, len(until) // 8))
    if before < HISTORY_MIN:
        before = HISTORY_MIN
    kept = until[max(0, before - HISTORY_MAX) :]
    history = min(before, HISTORY_MAX)
    if len(kept) - history < PLAYED_MIN:
        raise BadInput(
            f"--from/--to leave {max(0, len(kept) - history)} candles to replay after {history} of history; "
            f"at least {PLAYED_MIN} are needed"
        )
    return list(kept), history


def live_candles(market: str) -> list[Candle]:
    """The latest 1-minute candles of Hyperliquid's public API (no account needed)."""
    from twinleg.adapters.local.clocks import SystemClock
    from twinleg.adapters.local.secrets import MappingSecrets
    from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
    from twinleg.engine.ports import Steps

    venue = HyperliquidVenue(
        network="mainnet", url=None, accounts={}, secrets=MappingSecrets({}), key_names={}, steps=Steps()
    )
    now = SystemClock().now()
    return venue.candles(f"hyperliquid:{market}", now - timedelta(hours=13), now)


DEMO_LIMITS = {"stop_ranges": '"6"', "target_of_stop": '"1"'}
"""Stops at least six one-minute ranges away, so that a wild market makes positions smaller instead of none."""


def replay_script(market: str, candles: list[Candle], history: int) -> Script:
    """The candles with a handful of alerts: entries, exits, one twice, one malformed, one unauthenticated, one stale.

    One entry is placed, on purpose and knowing the candles, shortly before the widest minute, so that the
    report shows what protection does in it.
    """
    played = candles[history:]

    def at(share: float) -> datetime:
        return played[int(len(played) * share)].closed_at

    opening, closing, text = at(0.12), at(0.28), at(0.45)
    worst = max(played[10:], key=lambda c: (c.high - c.low) / c.open)
    shock = worst.opened_at - 5 * MINUTE
    alerts = [
        PostedAlert(opening, alert_json(market, "buy", opening, "demo-1"), note="an entry"),
        PostedAlert(opening + MINUTE, alert_json(market, "buy", opening, "demo-1"), note="the same again"),
        PostedAlert(at(0.2), '{"ticker": "BTCUSDT.P", "action": ', note="malformed"),
        PostedAlert(at(0.22), alert_json(market, "buy", at(0.22), "demo-2"), secret="guess", note="unauthenticated"),
        PostedAlert(at(0.24), alert_json(market, "sell", at(0.24) - timedelta(minutes=10), "demo-3"), note="stale"),
        PostedAlert(closing, alert_json(market, "close", closing, "demo-4"), note="an exit"),
        PostedAlert(
            text,
            f"Breakout (14): order sell @ 1 filled on {market}USDT.P. New strategy position is -1",
            note="plain text, TradingView's default wording",
        ),
        PostedAlert(
            shock,
            alert_json(market, "buy", shock, "demo-5", prev_position="short", position="long"),
            note="open in the widest minute: reverse to long",
        ),
    ]
    return Script(
        name="replay",
        market=market,
        candles=candles,
        history=history,
        alerts=sorted(alerts, key=lambda a: a.at),
        settings={"limits": DEMO_LIMITS, "tradingview": {"confidence": '"0.2"'}},
    )


# -- what came of it -------------------------------------------------------------------------------


def _pair(replayed: Replayed) -> Pair:
    return Pair("main", replayed.addresses["main"], "hedge", replayed.addresses["hedge"])


def _summary(segments: dict[str, tuple[Script, Replayed]], wall_seconds: float) -> dict[str, Any]:
    events: Counter[str] = Counter()
    webhook: Counter[str] = Counter()
    for _, replayed in segments.values():
        events.update(e.kind.value for e in replayed.events)
        webhook.update(replayed.refusals)
    records = Records(
        trades={name: replayed.trades for name, (_, replayed) in segments.items()},
        candles=sum(len(script.candles) - script.history for script, _ in segments.values()),
        events=dict(events),
        webhook=dict(webhook),
        alerts_duplicate=events["alert_duplicate"],
    )
    ledgers = {name: read_ledger(replayed.ledger) for name, (_, replayed) in segments.items()}
    pair = _pair(next(replayed for _, replayed in segments.values()))
    summary = summarise(records=records, ledgers=ledgers, pairs=[pair], wall_seconds=round(wall_seconds, 2))
    if "stress" in segments:
        stressed = segments["stress"][1]
        words = [t.why_closed for t in stressed.trades] + [e.summary for e in stressed.events if e.kind == "cut"]
        summary["stress"] = scenes_seen(words)
    summary["dead_letters"] = sum(replayed.dead for _, replayed in segments.values())
    return summary


def _report(
    market: str, source: str, segments: dict[str, tuple[Script, Replayed]], summary: dict[str, Any]
) -> ReportData:
    labels = {"replay": f"Replay of {source}", "stress": f"Stress segment: synthetic, seed {summary['seed']}"}
    return ReportData(
        title=f"twinleg demo: {market}",
        segments=[
            ReportSegment(
                name=name,
                label=labels[name],
                synthetic=name == "stress",
                market=f"hyperliquid:{market}",
                candles=list(script.candles[script.history :]),
                samples=replayed.samples,
                trades=replayed.trades,
                events=replayed.events,
            )
            for name, (script, replayed) in segments.items()
        ],
        summary=summary,
    )


def _table(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Trades", title_justify="left")
    for column in ("segment", "opened", "main leg", "hedge leg", "P&L USD", "why closed"):
        table.add_column(column, overflow="fold", justify="right" if column == "P&L USD" else "left")
    for trade in summary["trades"]:
        if trade["state"] == "REFUSED":
            continue
        legs = [trade["main"], trade["hedge"]]
        table.add_row(
            trade["segment"],
            str(trade["opened_at"] or "never")[5:16].replace("T", " "),
            *(f"{leg['side']} {leg['size']} @ {leg['entry_price']} → {leg['exit_price'] or '-'}" for leg in legs),
            f"{trade['pnl_usd']:+.2f}",
            trade["why_closed"] or trade["state"],
        )
    console = Console() if sys.stdout.isatty() else Console(width=150)
    console.print(table)
    for name in ("candles", "signals", "intents", "refused", "alerts_received", "alerts_refused", "alerts_duplicate"):
        console.print(f"{name}: {summary[name]}")
    for name in ("liquidations", "orphans", "double_orders", "unhedged_seconds_max", "wall_seconds"):
        console.print(f"[bold]{name}: {summary[name]}[/bold]")
    if "stress" in summary:
        console.print(f"stress segment, each at least once: {summary['stress']}")


# -- showing progress ------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(text, flush=True)


def _quiet(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, else a line every tenth."""
    if quiet or not sys.stdout.isatty():
        said = [0]

        def every_tenth(done: int, total: int) -> None:
            tenth = done * 10 // total
            if tenth > said[0]:
                said[0] = tenth
                print(f"{name}: {done} of {total} minutes", file=sys.stderr, flush=True)

        yield every_tenth
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for the segments' stores and ledgers, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="twinleg-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
