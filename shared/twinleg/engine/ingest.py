"""on_tick: the candles closed since the watermark, and the market as it is now, published once and in order."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from twinleg.domain.candles import MINUTE, Candle, Snapshot, ms_from_utc, utc_from_ms
from twinleg.domain.errors import Conflict, TwinlegError
from twinleg.domain.messages import CandleClosed, EventKind, Topic
from twinleg.engine.config import MarketPlan
from twinleg.engine.measures import measure
from twinleg.engine.ports import Exists, Replace, Stored
from twinleg.engine.system import Engine
from twinleg.engine.window import engine_field, market_document, missing_between, packed, row_ms, rows_of, unpacked

FILL_GAPS_FOR = timedelta(minutes=10)
"""How long a missing minute is asked for again before it is given up, loudly."""
FETCH_MAX = timedelta(hours=24)


def on_tick(engine: Engine) -> str:
    """Fetch and publish for every configured market; one market's failure does not hold up another.

    Raises the first failure after all markets were tried, so that the scheduler sees it.
    """
    done: list[str] = []
    failures: list[TwinlegError] = []
    for plan in engine.desk.markets.values():
        try:
            done.append(f"{plan.market}: {ingest_market(engine, plan)}")
        except TwinlegError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]
    return "; ".join(done)


def ingest_market(engine: Engine, plan: MarketPlan) -> int:
    """Publish one market's new candles; how many.

    The window is written first, with the new candles listed in ``unpublished_ms``; then they are published; then
    the list is emptied. A death in between publishes again what content-derived ids make harmless.
    """
    stored = engine.store.get("markets", plan.market)
    stored = _republish(engine, plan, stored)
    now = engine.now()
    rows = rows_of(stored)
    missing: list[int] = list(engine_field(stored, "missing_ms")) if stored else []
    found = engine.venues.market(plan.market).candles(plan.market, _start(engine, rows, missing, now), now)
    snapshot = engine.venues.market(plan.market).snapshot(plan.market)
    fresh = _new_rows(engine, plan, rows, missing, found)
    first = not rows
    rows, missing = _merged(engine, plan, rows, missing, fresh, now)
    publish = fresh[-1:] if first else fresh
    document = market_document(plan.market, rows, publish, missing, snapshot, now)
    try:
        if stored is None:
            version = engine.store.create("markets", plan.market, document)
        else:
            version = engine.store.compare_and_set("markets", plan.market, document, stored.version)
    except Exists:
        raise Conflict(f"{plan.market}: another ingest was first") from None
    if publish:
        _publish(engine, plan, publish, snapshot, now)
        done = market_document(plan.market, rows, [], missing, snapshot, now)
        engine.store.batch([Replace("markets", plan.market, done, version)])
    return len(publish)


def _republish(engine: Engine, plan: MarketPlan, stored: Stored | None) -> Stored | None:
    """Publish what an earlier, interrupted tick had written but perhaps not published."""
    if stored is None:
        return None
    unpublished = set(engine_field(stored, "unpublished_ms"))
    behind = [row for row in rows_of(stored) if row_ms(row) in unpublished] if unpublished else []
    if not behind:
        return stored
    _publish(engine, plan, behind, None, engine.now())
    data = dict(stored.data) | {"z_unpublished_ms": []}
    engine.store.compare_and_set("markets", plan.market, data, stored.version)
    return engine.store.get("markets", plan.market)


def _start(engine: Engine, rows: list[str], missing: list[int], now: datetime) -> datetime:
    if not rows:
        return now - engine.desk.window * MINUTE - MINUTE
    after = utc_from_ms(row_ms(rows[-1])) + MINUTE
    start = min(after, utc_from_ms(min(missing))) if missing else after
    return max(start, now - FETCH_MAX)


def _new_rows(engine: Engine, plan: MarketPlan, rows: list[str], missing: list[int], found: list[Candle]) -> list[str]:
    """The candles not seen before, each judged against the one before it."""
    last_ms = row_ms(rows[-1]) if rows else -1
    previous = unpacked(rows[-1])[0].close if rows else None
    fresh: list[str] = []
    for candle in found:
        ms = ms_from_utc(candle.opened_at)
        if ms <= last_ms and ms not in missing:
            continue
        suspect = is_suspect(previous, candle, engine.desk.limits.outlier_percent)
        fresh.append(packed(candle.checked(), suspect))
        if suspect:
            engine.announce(
                EventKind.CANDLE_SUSPECT,
                f"{plan.market} closed at {candle.close}, over {engine.desk.limits.outlier_percent} % from {previous}",
                market=plan.market,
            )
        previous = candle.close
    return fresh


def is_suspect(previous_close: Decimal | None, candle: Candle, outlier_percent: Decimal) -> bool:
    """Whether a candle closed further than the limit from the one before it: kept and shown, not traded on."""
    return previous_close is not None and abs(candle.close / previous_close - 1) * 100 > outlier_percent


def _merged(
    engine: Engine, plan: MarketPlan, rows: list[str], missing: list[int], fresh: list[str], now: datetime
) -> tuple[list[str], list[int]]:
    """The window with the new rows in order, and the minutes still missing."""
    last_ms = row_ms(rows[-1]) if rows else None
    for row in fresh:
        ms = row_ms(row)
        if last_ms is not None and ms > last_ms:
            missing += missing_between(last_ms, ms)
        last_ms = max(last_ms or 0, ms)
    have = {row_ms(row) for row in fresh}
    oldest = ms_from_utc(now - FILL_GAPS_FOR)
    open_gaps = [ms for ms in missing if ms not in have]
    for ms in open_gaps:
        if ms < oldest:
            engine.announce(
                EventKind.GAP, f"{plan.market} has no candle for {utc_from_ms(ms):%Y-%m-%dT%H:%MZ}", market=plan.market
            )
    merged = sorted([*rows, *fresh], key=row_ms) if missing else [*rows, *fresh]
    return merged[-engine.desk.window :], [ms for ms in open_gaps if ms >= oldest]


def _publish(engine: Engine, plan: MarketPlan, rows: list[str], snapshot: Snapshot | None, now: datetime) -> None:
    for row in rows:
        candle, suspect = unpacked(row)
        message = CandleClosed(
            market=plan.market,
            opened_at=candle.opened_at,
            interval_seconds=int(candle.interval.total_seconds()),
            open=candle.open,
            high=candle.high,
            low=candle.low,
            close=candle.close,
            volume=candle.volume,
            suspect=suspect,
            received_at=now,
            snapshot=snapshot,
        )
        engine.bus.publish(
            Topic.CANDLES,
            message.model_dump_json().encode(),
            key=plan.market,
            attributes={"ordering_key": plan.market, "kind": "candle"},
        )
        after_close = (engine.now() - message.closed_at).total_seconds()
        measure("candle_to_published_seconds", after_close)
