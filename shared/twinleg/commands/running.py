"""Commands that run something: the demo, everything on this machine, the paper venue alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twinleg.commands.common import Arguments, command, with_config
from twinleg.domain.errors import BadInput

EMULATORS = "behind the Firestore and Pub/Sub emulators, each function a server process of its own"


def add(commands: Any) -> None:
    _demo_parser(commands)
    _up_parser(commands)
    _venue_parser(commands)


def _demo_parser(commands: Any) -> None:
    demo = command(commands, "demo", "replay real candles and alerts through all functions on the paper venue", _demo)
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
    demo.add_argument("--emulators", action="store_true", help=EMULATORS)


def _up_parser(commands: Any) -> None:
    up = command(commands, "up", "run all functions on this machine, with the webhook on 127.0.0.1", _up)
    up.add_argument("--emulators", action="store_true", help=EMULATORS)
    up.add_argument("--port", type=int, default=None, help="of the webhook (default webhook.port, 8080)")
    with_config(up)


def _venue_parser(commands: Any) -> None:
    venue = command(commands, "venue", "a paper venue that speaks Hyperliquid's protocol", _venue)
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
            emulators=arguments.emulators,
        )
    )


def _up(arguments: Arguments) -> int:
    from twinleg.embedded.up import run_up
    from twinleg.settings import environment, load

    environ = environment()
    if arguments.emulators:
        from twinleg.embedded.emulated_up import run_up_emulated

        return run_up_emulated(load(arguments.config, environ), environ, arguments.port)
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
