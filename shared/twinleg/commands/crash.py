"""``twinleg crash``: guarded, hedged trades on crash days, against the same trades without hedge and without stop."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from twinleg.commands.common import Arguments, command, count
from twinleg.domain.errors import BadInput

HOURS_MAX = 72
HOUR = timedelta(hours=1)


def add(commands: Any) -> None:
    text = "trade crash days at high leverage, guarded and hedged, and see what is kept and whether any is liquidated"
    made = command(commands, "crash", text, _crash)
    made.add_argument(
        "--market", type=Path, action="append", default=[], metavar="FILE",
        help="candles of a crash (may be given again); without any, four synthetic crashes",
    )  # fmt: skip
    made.add_argument("--coin", default=None, help="whose candles they are (default: by the file's name, else BTC)")
    made.add_argument("--from", dest="start", default=None, help="look for falls from this UTC time on")
    made.add_argument("--to", dest="end", default=None, help="up to this time; with --from: trade this stretch")
    made.add_argument("--hours", type=count, default=4, help="hours traded around each fall (default 4)")
    made.add_argument("--days", type=count, default=None, help="how many of a file's deepest falls (default 1)")
    made.add_argument(
        "--leverage", type=_leverages, default=(5, 10, 20, 40), metavar="LIST",
        help="each day is traded at each of these (default 5,10,20,40), at most what the venue allows for the coin",
    )  # fmt: skip
    made.add_argument("--stop", default=None, metavar="PERCENT", help="the stop's distance (default as in [limits])")
    made.add_argument("--seed", type=int, default=7, help="of the synthetic crashes (default 7)")
    made.add_argument("--out", type=Path, default=None, metavar="FILE", help="write the page with the curves here")
    made.add_argument("--json", action="store_true", help="machine-readable output")


def _leverages(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isascii() and word.isdecimal() and 1 <= int(word) <= 50 for word in words):
        raise argparse.ArgumentTypeError(f"must be whole numbers from 1 to 50 with commas between, was {text!r}")
    return tuple(sorted({int(word) for word in words}))


def _crash(arguments: Arguments) -> int:
    from twinleg.adapters.local.clocks import stopwatch
    from twinleg.simulate.crash import as_json, run_day

    watch, limits, chosen = stopwatch(), _limits(arguments.stop), _days(arguments)
    if arguments.out is not None:
        _can_be_written(arguments.out)
    logging.disable(logging.CRITICAL)  # the functions' own lines: thousands
    try:
        days = [run_day(day, arguments.leverage, limits, lambda text: _progress(watch(), text)) for day in chosen]
    finally:
        logging.disable(logging.NOTSET)
    said = as_json(days) | {"wall_seconds": round(watch(), 1)}
    if arguments.out is not None:
        from twinleg.simulate.crash_page import page

        arguments.out.write_text(page(days), encoding="utf-8")
    if arguments.json:
        print(json.dumps(said, indent=2))
    else:
        _print(days, arguments.out)
    return 1 if said["guarded_liquidations_without_jump"] else 0


def _can_be_written(path: Path) -> None:
    """Asked before the work, not after it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise BadInput(f"--out: {path} cannot be written: {error.strerror}") from None


def _days(arguments: Arguments) -> list[Any]:
    from twinleg.adapters.local.candle_files import parse_instant
    from twinleg.paper.listings import listings
    from twinleg.simulate.crash_days import coin_of_file, days_of_file, synthetic_days

    if arguments.hours > HOURS_MAX:
        raise BadInput(f"--hours must be at most {HOURS_MAX}, was {arguments.hours}")
    if arguments.coin is not None and arguments.coin.upper() not in listings():
        raise BadInput(f"--coin must be a coin the paper venue lists, was {arguments.coin!r}")
    start, end = (parse_instant(text) if text else None for text in (arguments.start, arguments.end))
    if start is not None and end is not None and start >= end:
        raise BadInput(f"--from must be before --to, was {start:%Y-%m-%dT%H:%M} and {end:%Y-%m-%dT%H:%M}")
    if start is not None and end is not None and end - start > HOURS_MAX * HOUR:
        raise BadInput(f"--from and --to must be at most {HOURS_MAX} hours apart, were {(end - start) / HOUR:.0f}")
    if not arguments.market:
        for name, given in (("from", start), ("to", end), ("days", arguments.days), ("coin", arguments.coin)):
            if given is not None:
                raise BadInput(f"--{name} is about a file of candles: --market FILE is missing")
        return synthetic_days(arguments.seed, arguments.hours * 60)
    days: list[Any] = []
    for path in arguments.market:
        coin = arguments.coin.upper() if arguments.coin else coin_of_file(path)
        days += days_of_file(path, coin, arguments.hours * 60, arguments.days or 1, start, end)
    return days


def _limits(stop: str | None) -> dict[str, str]:
    if stop is None:
        return {}
    from twinleg.domain.money import decimal_of

    percent = decimal_of(stop, "--stop")
    if not 0 < percent < 100:
        raise BadInput(f"--stop must be above 0 and below 100, was {stop}")
    return {"stop_percent": f'"{percent:f}"'}


def _progress(passed: float, text: str) -> None:
    print(f"{passed:6.0f} s  {text}", file=sys.stderr, flush=True)


def _print(days: list[Any], out: Path | None) -> None:
    from rich.console import Console

    from twinleg.simulate.crash_page import exceptions, table, verdict

    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(table(days))
    for text in exceptions(days):
        print(f"liquidated: {text}")
    print(verdict(days))
    if out is not None:
        print(f"wrote {out}")
