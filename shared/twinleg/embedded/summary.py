"""What a run came to, as one JSON-able dict: counts from our records, risk numbers from the venue's ledger.

Money and prices are numbers (display only; nothing is traded on them), times RFC 3339 UTC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from twinleg.domain.errors import BadInput
from twinleg.domain.messages import EventKind
from twinleg.domain.money import ZERO
from twinleg.domain.trades import ENDED, Leg, Trade, TradeState
from twinleg.embedded.venue_ledger import Alone, DoubleOrder, Ledger, Liquidation, alone, double_orders, venue_pnl_usd

SEGMENTS = ("replay", "stress")
ACCEPTED = "accepted"
"""The webhook's own word for an alert it took; everything else it counts is a refusal."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two accounts that hold the legs of each other's trades, by name and by address at the venue."""

    main_account: str
    main_address: str
    hedge_account: str
    hedge_address: str

    @property
    def addresses(self) -> tuple[str, str]:
        return self.main_address.lower(), self.hedge_address.lower()


@dataclass(frozen=True, slots=True)
class Records:
    """What our side kept of a run."""

    trades: Mapping[str, Sequence[Trade]]
    """By segment, refused ones among them."""
    candles: int
    intents: int | None = None
    """Intents that asked to open; None: as many as there are trades."""
    events: Mapping[str, int] = field(default_factory=dict)
    """How often each kind of event was announced."""
    webhook: Mapping[str, int] = field(default_factory=dict)
    """The webhook's answers by reason; ``accepted`` is the one that is no refusal."""
    alerts_duplicate: int = 0
    """Accepted by the webhook, and found to have acted (or to have been decided) before."""
    dead_letters: int = 0
    """Messages that nobody could handle."""


def summarise(
    *, records: Records, ledgers: Mapping[str, Ledger], pairs: Sequence[Pair], wall_seconds: float
) -> dict[str, Any]:
    """The summary of a run. Every segment is in ``segments`` under its name; BadInput when one has no ledger.

    ``liquidations``, ``orphans`` and ``double_orders`` at the top are totals over all segments and
    ``unhedged_seconds_max`` is the largest of them, so that none can hide in one; each segment has its own,
    and every listed case carries its segment's name. All four come from the venue's ledgers alone.
    """
    if not pairs:
        raise BadInput("pairs must name the accounts whose legs belong together, was empty")
    for name in records.trades:
        if name not in ledgers:
            raise BadInput(f"ledgers: segment {name!r} has trades and no ledger to judge them by")
    names = [*(s for s in SEGMENTS if s in ledgers), *(s for s in ledgers if s not in SEGMENTS)]
    segments = {name: _segment(name, records.trades.get(name, ()), ledgers[name], pairs) for name in names}
    every = [trade for name in names for trade in records.trades.get(name, ())]
    accepted = records.webhook.get(ACCEPTED, 0)
    refusals = {reason: n for reason, n in sorted(records.webhook.items()) if reason != ACCEPTED}
    pnl = sum((trade.pnl_usd for trade in every), ZERO)
    return {
        "candles": records.candles,
        "alerts_received": accepted + sum(refusals.values()),
        "alerts_refused": sum(refusals.values()),
        "alerts_refused_by_reason": refusals,
        "alerts_duplicate": records.alerts_duplicate,
        "alerts_ignored": records.events.get(EventKind.ALERT_IGNORED.value, 0),
        "signals": records.events.get(EventKind.SIGNAL.value, 0),
        "intents": len(every) if records.intents is None else records.intents,
        "dead_letters": records.dead_letters,
        "refused": refused_by_code(every),
        "events": dict(sorted(records.events.items())),
        "pnl_usd": number(pnl),
        "liquidations": _total(segments, "liquidations"),
        "orphans": _total(segments, "orphans"),
        "double_orders": _total(segments, "double_orders"),
        "unhedged_seconds_max": max((s["unhedged_seconds_max"] for s in segments.values()), default=0.0),
        "wall_seconds": round(wall_seconds, 3),
        "segments": segments,
        "liquidation_list": _lists(segments, "liquidation_list"),
        "orphan_list": _lists(segments, "orphan_list"),
        "double_order_list": _lists(segments, "double_order_list"),
        "trades": [
            trade_row(trade, name, pairs)
            for name in names
            for trade in sorted(records.trades.get(name, ()), key=lambda t: t.created_at)
            if trade.state is not TradeState.REFUSED
        ],
    }


def refused_by_code(trades: Iterable[Trade]) -> dict[str, int]:
    """How many intents were refused, by the code that opens the reason (``stale: …``)."""
    codes = (trade.why_closed.split(":", 1)[0].strip() for trade in trades if trade.state is TradeState.REFUSED)
    return dict(Counter(code or "unstated" for code in codes).most_common())


def _total(segments: Mapping[str, Mapping[str, Any]], name: str) -> int:
    return sum(int(segment[name]) for segment in segments.values())


def _lists(segments: Mapping[str, Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    return [entry for segment in segments.values() for entry in segment[name]]


# -- one segment -----------------------------------------------------------------------------------


def _segment(name: str, trades: Sequence[Trade], ledger: Ledger, pairs: Sequence[Pair]) -> dict[str, Any]:
    addresses = list(dict.fromkeys(address for pair in pairs for address in pair.addresses))
    names = account_names(pairs)
    gaps = [gap for pair in pairs for gap in alone(ledger, *pair.addresses)]
    orphans = [gap for gap in gaps if gap.is_orphan]
    doubles = double_orders(ledger, addresses)
    taken = [entry for entry in ledger.liquidations if entry.user in addresses]
    kept = [trade for trade in trades if trade.state is not TradeState.REFUSED]
    pnl, booked = sum((trade.pnl_usd for trade in kept), ZERO), venue_pnl_usd(ledger, addresses)
    return {
        "segment": name,
        "liquidations": len(taken),
        "orphans": len(orphans),
        "double_orders": len(doubles),
        "unhedged_seconds_max": max((round(gap.seconds, 3) for gap in gaps), default=0.0),
        "intents": len(trades),
        "trades": len(kept),
        "trades_open": sum(trade.state not in ENDED for trade in kept),
        "refused": refused_by_code(trades),
        "pnl_usd": number(pnl),
        "venue_pnl_usd": number(booked),
        "pnl_difference_usd": number(pnl - booked),
        "venue_fills": sum(fill.user in addresses for fill in ledger.fills),
        "liquidation_list": [_liquidation(name, names, entry) for entry in taken],
        "orphan_list": [_gap(name, names, gap) for gap in orphans],
        "double_order_list": [_double(name, names, double) for double in doubles],
        "unhedged_list": [_gap(name, names, gap) for gap in gaps],
    }


def account_names(pairs: Sequence[Pair]) -> dict[str, str]:
    """Address → the account's name."""
    return {
        address: account
        for pair in pairs
        for address, account in zip(pair.addresses, (pair.main_account, pair.hedge_account), strict=True)
    }


def _liquidation(segment: str, names: Mapping[str, str], entry: Liquidation) -> dict[str, Any]:
    return {
        "segment": segment,
        "account": names.get(entry.user, ""),
        "address": entry.user,
        "coin": entry.coin,
        "time": stamp(entry.at),
        "price": number(entry.price),
        "size": number(entry.size),
        "method": entry.method,
    }


def _gap(segment: str, names: Mapping[str, str], gap: Alone) -> dict[str, Any]:
    return {
        "segment": segment,
        "account": names.get(gap.holder, ""),
        "address": gap.holder,
        "coin": gap.coin,
        "since": stamp(gap.since),
        "until": stamp(gap.until),
        "seconds": round(gap.seconds, 3),
        "left_at_end": gap.left_at_end,
    }


def _double(segment: str, names: Mapping[str, str], double: DoubleOrder) -> dict[str, Any]:
    return {
        "segment": segment,
        "account": names.get(double.user, ""),
        "address": double.user,
        "coin": double.coin,
        "time": stamp(double.at),
        "oid": double.oid,
        "first_oid": double.first_oid,
        "size_beyond": number(double.size),
    }


# -- one trade -------------------------------------------------------------------------------------


def trade_row(trade: Trade, segment: str, pairs: Sequence[Pair] = ()) -> dict[str, Any]:
    """One trade with both legs. Prices of what has not happened are None; funding is positive when paid."""
    addresses = {name: address for address, name in account_names(pairs).items()}
    return {
        "id": trade.trade_id,
        "segment": segment,
        "market": trade.main.market,
        "direction": trade.intent.direction.value,
        "strategy": trade.intent.strategy,
        "trigger": trade.intent.trigger,
        "state": trade.state.value,
        "opened_at": stamp(trade.opened_at) if trade.opened_at else None,
        "closed_at": stamp(trade.closed_at) if trade.closed_at else None,
        "why_closed": trade.why_closed,
        "pnl_usd": number(trade.pnl_usd),
        "main": _leg(trade.main, addresses),
        "hedge": _leg(trade.hedge, addresses),
    }


def _leg(leg: Leg, addresses: Mapping[str, str]) -> dict[str, Any]:
    return {
        "account": leg.account,
        "address": addresses.get(leg.account, ""),
        "market": leg.market,
        "side": leg.side.value,
        "leverage": leg.leverage,
        "size": number(leg.size_filled),
        "size_approved": number(leg.size_approved),
        "entry_price": number(leg.entry_price) if leg.size_filled else None,
        "exit_price": number(leg.exit_price) if leg.size_closed else None,
        "stop_price": number(leg.stop_price) if leg.stop_price else None,
        "target_price": number(leg.target_price) if leg.target_price else None,
        "fees_usd": number(leg.fees_usd),
        "funding_usd": number(leg.funding_usd),
        "pnl_usd": number(leg.realised_usd - leg.fees_usd - leg.funding_usd),
        "liquidated": leg.liquidated,
    }


def number(value: Decimal) -> float:
    """A JSON number, to 8 decimals (average prices do not end)."""
    return float(round(value, 8)) + 0.0


def stamp(at: datetime) -> str:
    """RFC 3339 UTC, with milliseconds only when there are some."""
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds").replace("+00:00", "Z")
