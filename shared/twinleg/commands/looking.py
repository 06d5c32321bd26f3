"""Commands that list records."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal
from typing import Any

from twinleg.commands.common import Arguments, command, count, system_of, with_config
from twinleg.engine.ports import Stored

TABLES: dict[str, tuple[str, ...]] = {
    "trades": ("id", "state", "market", "direction", "main", "hedge", "pnl_usd", "why_closed"),
    "positions": ("id", "size", "entry_price", "liquidation_price", "stops", "owner"),
    "orders": ("id", "purpose", "side", "size", "market", "account", "state", "trade_id"),
    "intents": ("id", "decision", "market", "strategy", "direction", "status", "status_reason"),
    "accounts": ("id", "equity_usd", "free_usd", "margin_ratio", "day_pnl_usd", "mode"),
    "audit": ("at", "who", "kind", "summary"),
}


def add(commands: Any) -> None:
    for name, columns in TABLES.items():
        made = command(commands, name, f"list {name}: {', '.join(columns)}", _list)
        made.add_argument("--json", action="store_true", help="machine-readable output")
        made.add_argument("--limit", type=count, default=50, help="how many, newest first (default 50)")
        with_config(made)


def _list(arguments: Arguments) -> int:
    system = system_of(arguments)
    collection: str = arguments.command
    order = {"trades": "created_at", "audit": "at"}.get(collection)
    found = system.store.query(collection, order_by=order, descending=True, limit=arguments.limit)
    rows = [_row(collection, stored) for stored in found]
    if arguments.json:
        print(json.dumps(rows, default=str, indent=2))
    else:
        _print_table(collection, rows)
    return 0


def _row(collection: str, stored: Stored) -> dict[str, Any]:
    return {"id": stored.id, **(_trade_row(stored) if collection == "trades" else stored.data)}


def _trade_row(stored: Stored) -> dict[str, Any]:
    """A trade's page, and its legs whole, with their orders."""
    from twinleg.domain.recorded import RECORD
    from twinleg.domain.trades import Trade
    from twinleg.engine.pages import trade_page

    record = stored.data.get(RECORD, stored.data)
    return {**trade_page(Trade.model_validate(stored.data)), "main": record["main"], "hedge": record["hedge"]}


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title} ({len(rows)})", title_justify="left")
    for column in TABLES[title]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in TABLES[title]))
    (Console() if sys.stdout.isatty() else Console(width=160)).print(table)


def _short(number: Any) -> str:
    try:
        return f"{Decimal(str(number)):.8g}"
    except ArithmeticError:
        return str(number)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value.get('side', '')} {value.get('size_filled', '')} @ {_short(value.get('entry_price', ''))}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else str(value)
