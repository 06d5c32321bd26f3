"""Commands that run the whole system: the demo, and everything on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twinleg.commands.common import Arguments, command, with_config

EMULATORS = "behind the Firestore and Pub/Sub emulators, each function a server process of its own"


def add(commands: Any) -> None:
    _demo_parser(commands)
    _up_parser(commands)


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
    demo.add_argument("--adapter", choices=("sdk", "ccxt"), default="sdk", help="who writes and signs (default sdk)")


def _up_parser(commands: Any) -> None:
    up = command(commands, "up", "run all functions on this machine, with the webhook on 127.0.0.1", _up)
    up.add_argument("--emulators", action="store_true", help=EMULATORS)
    up.add_argument("--port", type=int, default=None, help="of the webhook (default webhook.port, 8080)")
    with_config(up)


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
            adapter=arguments.adapter,
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
