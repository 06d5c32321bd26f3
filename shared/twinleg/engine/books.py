"""The records a person reads each minute: accounts, books, and positions when they change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from twinleg.domain.ids import account_market
from twinleg.domain.money import cents, plain
from twinleg.domain.orders import AccountState, OrderKind, Position, RestingOrder
from twinleg.domain.trades import Trade
from twinleg.engine.ports import Create, Document, Replace, Stored, Write
from twinleg.engine.system import Engine


def account_writes(
    engine: Engine,
    name: str,
    state: AccountState | None,
    resting: Sequence[RestingOrder],
    mode: str,
    trades: Sequence[Trade],
    stored: Stored | None,
) -> list[Write]:
    """The writes that bring one account's documents up to date with what was read of it."""
    now = engine.now()
    if state is None:
        return [_put("accounts", name, _unread(name, stored, now), stored)]
    slots = {p.market: engine.store.get("positions", account_market(name, p.market)) for p in state.positions}
    foreign = [m for m, slot in slots.items() if not (slot and slot.data.get("owner"))]
    writes = [_put("accounts", name, _account(name, state, mode, foreign, stored, now), stored)]
    mine = [t for t in trades if name in (t.main.account, t.hedge.account)]
    if state.positions or mine or (stored is not None and stored.data.get("positions")):
        writes.append(Replace("books", name, _book(name, state, mine, now)))
    writes += _position_writes(engine, name, state, resting, slots, stored)
    return writes


def _account(
    name: str, state: AccountState, mode: str, foreign: list[str], stored: Stored | None, now: datetime
) -> Document:
    before = stored.data if stored else {}
    day = f"{now:%Y-%m-%d}"
    same_day = before.get("day") == day
    start = Decimal(str(before["equity_day_start_usd"])) if same_day else state.equity_usd
    peak = max(Decimal(str(before.get("equity_peak_usd", "0"))), state.equity_usd)
    ratio = state.margin_ratio
    return {
        "account": name,
        "at": state.at,
        "mode": mode,
        "equity_usd": plain(state.equity_usd),
        "free_usd": plain(state.free_usd),
        "margin_used_usd": plain(state.margin_used_usd),
        "margin_ratio": plain(cents(ratio, 4)) if ratio is not None else None,
        "day": day,
        "equity_day_start_usd": plain(start),
        "day_started_at": before.get("day_started_at", state.at) if same_day else state.at,
        "day_pnl_usd": plain(state.equity_usd - start),
        "equity_peak_usd": plain(peak),
        "drawdown_percent": plain(cents((1 - state.equity_usd / peak) * 100, 4)) if peak > 0 else "0",
        "positions": [p.market for p in state.positions],
        "foreign": foreign,
        "unreadable_sweeps": 0,
        "summary": f"{name}: equity {state.equity_usd:.2f}, day {state.equity_usd - start:+.2f} USD, mode {mode}",
    }


def _unread(name: str, stored: Stored | None, now: datetime) -> Document:
    before = dict(stored.data) if stored else {"account": name}
    missed = int(before.get("unreadable_sweeps", 0)) + 1
    return before | {
        "unreadable_sweeps": missed,
        "summary": f"{name}: not readable for {missed} sweeps",
        "tried_at": now,
    }


def _book(name: str, state: AccountState, trades: list[Trade], now: datetime) -> Document:
    return {
        "account": name,
        "at": now,
        "positions": [_line(p) for p in state.positions],
        "trades": [{"trade_id": t.trade_id, "state": t.state.value, "summary": t.summary} for t in trades],
        "summary": f"{name}: {len(state.positions)} positions, {len(trades)} trades",
    }


def _line(position: Position) -> Document:
    distance, ratio = position.liquidation_distance, position.margin_ratio
    return {
        "market": position.market,
        "size": plain(position.size),
        "entry_price": plain(position.entry_price),
        "mark_price": plain(position.mark_price),
        "unrealised_usd": plain(position.unrealised_usd),
        "liquidation_price": plain(position.liquidation_price) if position.liquidation_price else None,
        "liquidation_distance": plain(cents(distance)) if distance is not None else None,
        "margin_ratio": plain(cents(ratio, 4)) if ratio is not None else None,
        "margin_used_usd": plain(position.margin_used_usd),
        "maintenance_usd": plain(position.maintenance_usd),
        "leverage": position.leverage,
        "isolated": position.isolated,
        "funding_paid_usd": plain(position.funding_paid_usd),
    }


def _position_writes(
    engine: Engine,
    name: str,
    state: AccountState,
    resting: Sequence[RestingOrder],
    slots: dict[str, Stored | None],
    account: Stored | None,
) -> list[Write]:
    """Positions whose size or stop changed since they were last written, also those that are gone."""
    writes: list[Write] = []
    before = list(account.data.get("positions", [])) if account else []
    for market in dict.fromkeys([*slots, *before]):
        slot = slots[market] if market in slots else engine.store.get("positions", account_market(name, market))
        position = state.position(market)
        size = plain(position.size) if position else "0"
        stops = [
            plain(o.trigger_price)
            for o in resting
            if o.market == market and o.kind is OrderKind.STOP and o.trigger_price
        ]
        seen = {"size": size, "stops": stops}
        if slot and {k: slot.data.get(k) for k in seen} == seen:
            continue
        data: Document = dict(slot.data) if slot else {"account": name, "market": market, "owner": ""}
        owner = data.get("owner") or "nobody"
        data |= seen | {
            "at": state.at,
            "entry_price": plain(position.entry_price) if position else None,
            "liquidation_price": plain(position.liquidation_price) if position and position.liquidation_price else None,
            "summary": f"{name} {market}: {size}, held for {owner}",
        }
        id = account_market(name, market)
        writes.append(_put("positions", id, data, slot))
    return writes


def _put(collection: str, id: str, data: Document, stored: Stored | None) -> Write:
    return Replace(collection, id, data, stored.version) if stored else Create(collection, id, data)
