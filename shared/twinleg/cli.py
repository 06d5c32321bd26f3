"""The ``twinleg`` command: run it, look at it, stop it."""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput, TwinlegError
from twinleg.engine.ports import SignerRole, Stored

if TYPE_CHECKING:
    from twinleg.bootstrap import System

Arguments = argparse.Namespace

TABLES: dict[str, tuple[str, ...]] = {
    "trades": ("id", "state", "market", "direction", "main", "hedge", "pnl_usd", "why_closed"),
    "positions": ("id", "size", "entry_price", "liquidation_price", "stops", "owner"),
    "orders": ("id", "purpose", "side", "size", "market", "account", "state", "trade_id"),
    "intents": ("id", "decision", "market", "strategy", "direction", "status", "status_reason"),
    "accounts": ("id", "equity_usd", "free_usd", "margin_ratio", "day_pnl_usd", "mode"),
    "audit": ("at", "who", "kind", "summary"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 it failed, 2 what was asked cannot be understood."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    run: Callable[[Arguments], int] = arguments.run
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read what we print (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BadInput as error:
        print(f"twinleg: {error}", file=sys.stderr)
        return 2
    except TwinlegError as error:
        print(f"twinleg: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    top = argparse.ArgumentParser(prog="twinleg", description="Two-legged perpetual-futures trades, guarded.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _demo_parser(commands)
    _up_parser(commands)
    _venue_parser(commands)
    for name, columns in TABLES.items():
        command = _command(commands, name, f"list {name}: {', '.join(columns)}", _list)
        command.add_argument("--json", action="store_true", help="machine-readable output")
        command.add_argument("--limit", type=_count, default=50, help="how many, newest first (default 50)")
        _with_config(command)
    for name, (state, text) in HALTS.items():
        command = _command(commands, name, text, _halt)
        command.set_defaults(state=state)
        command.add_argument("--why", default="", help="recorded in the audit")
        command.add_argument("--json", action="store_true")
        _with_config(command)
    close = _command(commands, "close", "close a trade, both legs", _close)
    close.add_argument("trade", nargs="?", default="", help="the trade's id")
    close.add_argument("--all", action="store_true", help="every open trade")
    close.add_argument("--json", action="store_true")
    _with_config(close)
    doctor = _command(commands, "doctor", "check configuration, hedge, accounts, venue, clock, keys, secrets", _doctor)
    doctor.add_argument("--json", action="store_true")
    _with_config(doctor)
    return top


HALTS: dict[str, tuple[Halt, str]] = {
    "halt": (Halt.HALTED, "nothing but protection"),
    "reduce": (Halt.REDUCING, "no new entries; exits and protection run"),
    "flatten": (Halt.FLATTEN, "close everything, then halt"),
    "resume": (Halt.ENABLED, "trade again"),
}


def _command(commands: Any, name: str, text: str, run: Callable[[Arguments], int]) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    return command


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, was {text!r}")
    return int(text)


def _with_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, default=None, help="the TOML file (default ./twinleg.toml, else paper)")


def _demo_parser(commands: Any) -> None:
    demo = _command(commands, "demo", "replay real candles and alerts through all functions on the paper venue", _demo)
    demo.add_argument(
        "--candles", type=Path, default=None, help="CSV, .csv.gz, Parquet, Feather or candleSnapshot JSON"
    )
    demo.add_argument("--live", action="store_true", help="the latest candles of Hyperliquid's public API")
    demo.add_argument("--market", default="BTC", help="the coin (default BTC)")
    demo.add_argument("--from", dest="start", default=None, help="ISO time, UTC")
    demo.add_argument("--to", dest="end", default=None, help="ISO time, UTC")
    demo.add_argument(
        "--out", type=Path, default=Path("out"), help="where summary.json and report.html go (default out)"
    )
    demo.add_argument("--seed", type=int, default=7, help="of the stress segment")
    demo.add_argument("--no-stress", action="store_true", help="only the replay")
    demo.add_argument("--json", action="store_true", help="print the summary as JSON")


def _up_parser(commands: Any) -> None:
    up = _command(commands, "up", "run all functions in this process, with the webhook on 127.0.0.1", _up)
    up.add_argument("--port", type=int, default=None, help="of the webhook (default webhook.port, 8080)")
    _with_config(up)


def _venue_parser(commands: Any) -> None:
    venue = _command(commands, "venue", "a paper venue that speaks Hyperliquid's protocol", _venue)
    venue.add_argument("--port", type=int, default=0, help="0 picks a free one")
    venue.add_argument("--candles", type=Path, required=True, action="append", help="a candle file; once per market")
    venue.add_argument("--market", action="append", default=None, help="the coin of each file, in order (default BTC)")
    venue.add_argument("--open-accounts", action="store_true", help="every signing key is its own account")
    venue.add_argument("--equity", default="10000", help="USDC of such an account (default 10000)")
    venue.add_argument("--speed", default="1", help="wall clock: how much faster than recorded")
    venue.add_argument("--manual", action="store_true", help="the clock moves only when told (POST /_sim/clock)")
    venue.add_argument(
        "--start", default=None, help="manual clock: the instant it starts at; candles before are history"
    )
    venue.add_argument("--history", type=int, default=None, help="how many candles are history at the start")
    venue.add_argument("--ledger", type=Path, default=None, help="SQLite file; without it nothing survives")
    venue.add_argument("--seed", type=int, default=0)


# -- running ---------------------------------------------------------------------------------------


def _demo(arguments: Arguments) -> int:
    from twinleg.embedded.demo import DemoOptions, run_demo

    return run_demo(
        DemoOptions(
            candles=arguments.candles,
            live=arguments.live,
            market=arguments.market,
            start=arguments.start,
            end=arguments.end,
            out=arguments.out,
            seed=arguments.seed,
            stress=not arguments.no_stress,
            as_json=arguments.json,
        )
    )


def _up(arguments: Arguments) -> int:
    from twinleg.embedded.up import run_up
    from twinleg.settings import environment, load

    environ = environment()
    return run_up(load(arguments.config, environ), environ, arguments.port)


def _venue(arguments: Arguments) -> int:
    from twinleg.adapters.local.candle_files import parse_instant, read_candles
    from twinleg.domain.candles import ms_from_utc
    from twinleg.domain.money import decimal_of
    from twinleg.paper.options import VenueOptions
    from twinleg.paper.server import serve

    coins: list[str] = arguments.market or ["BTC"]
    if len(coins) != len(arguments.candles):
        raise BadInput(f"--market: {len(arguments.candles)} candle files need as many markets, was {len(coins)}")
    serve(
        VenueOptions(
            candles={coin: read_candles(path) for coin, path in zip(coins, arguments.candles, strict=True)},
            clock="manual" if arguments.manual else "wall",
            port=arguments.port,
            speed=decimal_of(arguments.speed, "--speed"),
            open_accounts=arguments.open_accounts,
            equity=decimal_of(arguments.equity, "--equity"),
            ledger=arguments.ledger,
            start_ms=ms_from_utc(parse_instant(arguments.start)) if arguments.start else None,
            seed=arguments.seed,
            history_candles=arguments.history,
        )
    )
    return 0


# -- looking ---------------------------------------------------------------------------------------


def _system(arguments: Arguments) -> System:
    from twinleg.bootstrap import system_for
    from twinleg.settings import environment, load

    environ = environment()
    return system_for(load(arguments.config, environ), environ)


def _list(arguments: Arguments) -> int:
    system = _system(arguments)
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
    row: dict[str, Any] = {"id": stored.id, **stored.data}
    return row | _trade_row(stored) if collection == "trades" else row


def _trade_row(stored: Stored) -> dict[str, Any]:
    """A trade's row: what a person asks first, above the record itself."""
    from twinleg.domain.money import cents, plain
    from twinleg.domain.trades import Trade

    trade = Trade.model_validate(stored.data)
    return {
        "market": trade.main.market,
        "direction": trade.intent.direction.value,
        "strategy": trade.intent.strategy,
        "pnl_usd": plain(cents(trade.pnl_usd, 2)),
    }


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


# -- steering --------------------------------------------------------------------------------------


def _halt(arguments: Arguments) -> int:
    from twinleg.engine.control import set_trading

    engine = _system(arguments).engine(SignerRole.EXECUTE)
    control = set_trading(engine, arguments.state, why=arguments.why or f"twinleg {arguments.command}", by=_who())
    said = {"state": control.state.value, "why": control.why, "by": control.by, "since": control.since}
    print(json.dumps(said, default=str) if arguments.json else f"trading is {control.state}: {control.why}")
    return 0


def _close(arguments: Arguments) -> int:
    from twinleg.engine.control import request_close

    if bool(arguments.trade) == arguments.all:
        raise BadInput("close needs one trade's id, or --all")
    engine = _system(arguments).engine(SignerRole.EXECUTE)
    said = request_close(engine, "all" if arguments.all else arguments.trade, by=_who())
    print(json.dumps({"said": said.splitlines()}) if arguments.json else said)
    return 0


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "a person"


def _doctor(arguments: Arguments) -> int:
    from twinleg.embedded.doctor import examine

    findings = examine(_system(arguments))
    if arguments.json:
        print(json.dumps([f.as_json() for f in findings], indent=2))
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.subject}: {finding.text}")
    return 0 if all(f.ok for f in findings) else 1
