"""``twinleg venue``: a paper venue for any Hyperliquid client, on recorded or made-up markets."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from twinleg.commands.common import Arguments, command, count
from twinleg.domain.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from twinleg.domain.candles import Candle
    from twinleg.paper.options import BookShape, Switches, VenueOptions
    from twinleg.paper.venue import Venue

KINDS = ("calm", "trend", "crash", "gap", "thin")
HISTORY_MADE = 300
MINUTES_MADE = 480
INCIDENTS_SHOWN = 5
DAY_MS = 86_400_000
PORT_MAX = 65_535

GATES = (
    "ask 100,000 USDC of traded volume for sub-accounts and 1,000,000 for scheduleCancel, as the real venue does "
    "(default: do not, so that a new key can try both)"
)
FAULTS = (
    "what goes wrong: KIND:PROBABILITY:FIELD=VALUE… with commas between, e.g. lose_answer:0.02,429:0.01:path=/info; "
    "or JSON, or a .json file"
)


def add(commands: Any) -> None:
    venue = command(commands, "venue", "a paper venue that speaks Hyperliquid's protocol", _venue)
    venue.set_defaults(refuse=venue.error)
    venue.add_argument("--port", type=_port, default=0, help="0 (the default) picks a free one")
    _add_markets(venue)
    _add_clock(venue)
    venue.add_argument("--open-accounts", action="store_true", help="every signing key is its own account")
    venue.add_argument("--equity", default="10000", help="USDC of such an account (default 10000)")
    venue.add_argument("--ledger", type=Path, default=None, help="SQLite file; without it nothing survives")
    venue.add_argument("--volume-gates", action=argparse.BooleanOptionalAction, default=False, help=GATES)
    venue.add_argument("--faults", default=None, metavar="SPEC", help=FAULTS)
    venue.add_argument(
        "--switch", action="append", default=[], metavar="NAME=VALUE", help="any switch of GET /_sim/switches"
    )
    venue.add_argument("--json", action="store_true", help="say where it listens as one line of JSON")


def _add_markets(venue: argparse.ArgumentParser) -> None:
    one = venue.add_mutually_exclusive_group()
    one.add_argument(
        "--candles", type=Path, nargs="+", action="extend", metavar="FILE", help="a candle file for each market"
    )
    one.add_argument("--generate", choices=KINDS, default=None, help="markets made up from --seed instead")
    venue.add_argument(
        "--market", nargs="+", action="extend", metavar="NAME", help="the coins, in the files' order (default BTC)"
    )
    venue.add_argument(
        "--funding", type=Path, nargs="+", action="extend", metavar="FILE", help="recorded hourly rates for each market"
    )
    venue.add_argument("--seed", type=int, default=0, help="of made-up markets and of the book (default 0)")
    venue.add_argument(
        "--minutes", type=count, default=None, help=f"how long made-up markets last (default {MINUTES_MADE})"
    )
    venue.add_argument("--correlation", default=None, help="of made-up markets with each other, 0 to 1 (default 0.8)")
    venue.add_argument("--history", type=int, default=None, help="how many candles are history at the start")


def _add_clock(venue: argparse.ArgumentParser) -> None:
    venue.add_argument(
        "--speed", default=None, help="wall clock: how many times as fast as it was recorded (default 1)"
    )
    venue.add_argument("--manual", action="store_true", help="the clock moves only when told (POST /_sim/clock)")
    venue.add_argument(
        "--start",
        default=None,
        help="manual clock: the instant it starts at, candles before are history; or now, which moves the candles",
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"must be 0 to {PORT_MAX}, was {text!r}")
    return int(text)


def _venue(arguments: Arguments) -> int:
    from twinleg.paper.server import serve

    options, rules, market = prepared(arguments)
    words = said_as_json if arguments.json else said

    def ready(url: str, venue: Venue) -> None:
        print(words(url, venue, market), flush=True)

    serve(options, faults=rules, ready=ready)
    return 0


def prepared(arguments: Arguments) -> tuple[VenueOptions, Any, Market]:
    """The venue that a command line asks for, its fault rules, and what is known of its markets; BadInput otherwise."""
    _check_together(arguments)
    market = _market(arguments)
    return _options(arguments, market), _rules(arguments.faults), market


def _check_together(arguments: Arguments) -> None:
    """BadInput, or the usage, when options were given that say nothing together."""
    if not arguments.candles and not arguments.generate and not _begun(arguments.ledger):
        arguments.refuse("give --candles FILE, --generate KIND, or the --ledger of a venue that was begun before")
    for name in ("minutes", "correlation"):
        if getattr(arguments, name) is not None and not arguments.generate:
            raise BadInput(f"--{name} is for made-up markets: it needs --generate")
    if arguments.funding and not arguments.candles:
        raise BadInput("--funding is recorded beside candles: it needs --candles")
    if arguments.manual and arguments.speed is not None:
        raise BadInput(f"--speed is the wall clock's: a manual clock moves when told, was {arguments.speed}")
    if arguments.start is not None and not arguments.manual:
        raise BadInput(f"--start is a manual clock's: the wall's starts now, was {arguments.start}")


def _begun(ledger: Path | None) -> bool:
    return ledger is not None and ledger.is_file()


class Market(NamedTuple):
    """What is traded: candles per coin and the book (None: the usual one), where they came from, what will happen."""

    candles: Mapping[str, Sequence[Candle]]
    book: BookShape | None = None
    source: str = "recorded"
    history: int | None = None
    incidents: Sequence[tuple[datetime, str]] = ()
    funding: Mapping[str, Sequence[tuple[int, Decimal]]] = MappingProxyType({})


def _market(arguments: Arguments) -> Market:
    coins: list[str] = arguments.market or ["BTC"]
    twice = [coin for number, coin in enumerate(coins) if coin in coins[:number]]
    if twice:
        raise BadInput(f"--market: {twice[0]} is named twice")
    if arguments.generate:
        return _made(arguments, coins)
    files: list[Path] = arguments.candles or []
    if not files:
        return Market({})
    if len(coins) != len(files):
        raise BadInput(f"--market: {len(files)} candle files need as many markets, was {len(coins)}")
    from twinleg.adapters.local.candle_files import read_candles

    read = {coin: read_candles(path) for coin, path in zip(coins, files, strict=True)}
    source = ", ".join(path.name for path in files)
    return Market(read, source=source, history=arguments.history, funding=_funding(arguments.funding or [], coins))


def _funding(files: Sequence[Path], coins: Sequence[str]) -> Mapping[str, Sequence[tuple[int, Decimal]]]:
    """Recorded rates of the first markets, in the files' order; those without a file use the venue's formula."""
    if len(files) > len(coins):
        raise BadInput(f"--funding: {len(files)} files need as many markets, was {len(coins)}")
    from twinleg.adapters.local.funding_files import read_funding

    return {coin: read_funding(path) for coin, path in zip(coins, files, strict=False)}


def _made(arguments: Arguments, coins: Sequence[str]) -> Market:
    from twinleg.adapters.local.candle_files import parse_instant
    from twinleg.domain.candles import MINUTE, utc_from_ms
    from twinleg.domain.money import decimal_of
    from twinleg.paper.clockwork import wall_ms
    from twinleg.paper.generate import CORRELATION, generated

    begins = utc_from_ms(wall_ms() // 60_000 * 60_000)
    if arguments.start not in (None, "now"):
        begins = parse_instant(arguments.start)
        if begins.second or begins.microsecond:
            raise BadInput(f"--start of a made-up market must be a whole minute, was {arguments.start}")
    history = HISTORY_MADE if arguments.history is None else arguments.history
    made = generated(
        arguments.generate,
        coins,
        arguments.seed,
        begins - history * MINUTE,
        history=history,
        minutes=arguments.minutes or MINUTES_MADE,
        correlation=CORRELATION
        if arguments.correlation is None
        else decimal_of(arguments.correlation, "--correlation"),
    )
    source = f"made up: {arguments.generate}, seed {arguments.seed}"
    return Market(made.candles, made.book, source, history, made.incidents)


def _options(arguments: Arguments, market: Market) -> VenueOptions:
    from twinleg.adapters.local.candle_files import parse_instant
    from twinleg.domain.candles import ms_from_utc
    from twinleg.domain.money import decimal_of
    from twinleg.paper.clockwork import restamped, wall_ms
    from twinleg.paper.exchange import history_count
    from twinleg.paper.options import BookShape, VenueOptions

    recorded_start = arguments.start not in (None, "now") and not arguments.generate
    options = VenueOptions(
        candles=market.candles,
        clock=_clock(arguments),
        port=arguments.port,
        speed=decimal_of(arguments.speed or "1", "--speed"),
        open_accounts=arguments.open_accounts,
        equity=decimal_of(arguments.equity, "--equity"),
        ledger=arguments.ledger,
        start_ms=ms_from_utc(parse_instant(arguments.start)) if recorded_start else None,
        seed=arguments.seed,
        history_candles=market.history,
        switches=_switches(arguments),
        book=market.book or BookShape(),
        funding_rates=market.funding,
    )
    if arguments.start == "now" and market.candles:
        return restamped(options.checked(), history_count(options), wall_ms())
    return options


def _clock(arguments: Arguments) -> Any:
    """The clock asked for; where only a ledger is given, the one it was begun with."""
    if arguments.manual or arguments.candles or arguments.generate or not _begun(arguments.ledger):
        return "manual" if arguments.manual else "wall"
    from twinleg.paper.journal import Journal

    journal = Journal(arguments.ledger)
    try:
        begun = journal.beginning()
    finally:
        journal.close()
    if begun is None:
        raise BadInput(f"--ledger {arguments.ledger}: nothing was begun in it; give --candles or --generate")
    return begun.clock


def _switches(arguments: Arguments) -> Switches:
    from twinleg.paper.options import Switches

    values: dict[str, object] = {"volume_gates": arguments.volume_gates}
    for text in arguments.switch:
        name, given, value = text.partition("=")
        if not given:
            raise BadInput(f"--switch must be NAME=VALUE, was {text}")
        values[name] = _value(value)
    return Switches().changed(values)


def _value(text: str) -> object:
    try:
        return json.loads(text, parse_float=str)
    except ValueError:
        return text


def _rules(spec: str | None) -> Any:
    """Fault rules from the command line: one line of text, JSON, or a file of JSON."""
    from twinleg.paper.faults import rules_of

    if spec is None:
        return []
    if spec.endswith(".json"):
        try:
            spec = Path(spec).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"--faults {spec}: cannot be read ({error})") from None
    elif not spec.lstrip().startswith(("[", "{")):
        return rules_of(spec)
    try:
        rules = json.loads(spec)
    except ValueError as error:
        raise BadInput(f"--faults: must be JSON ({error})") from None
    return rules if isinstance(rules, list) else [rules]


# What is said when it listens


def said(url: str, venue: Venue, market: Market) -> str:
    """What is printed once it listens; the first line is what a parent process reads."""
    status = venue.status()
    lines = [f"paper venue listening on {url}", _row("markets", _markets_line(status, _source(venue, market)))]
    lines += [_row("ahead", f"{at:%Y-%m-%dT%H:%M:%SZ} {what}") for at, what in _ahead(venue, market)[:INCIDENTS_SHOWN]]
    lines.append(_row("clock", _clock_line(status)))
    lines.append(_row("accounts", _accounts_line(venue)))
    gates = "on" if status["switches"]["volume_gates"] else "off"
    lines.append(_row("rules", f"volume gates {gates}; {status['faults']} fault rules"))
    if venue.options.ledger is not None:
        begun = "continued from" if venue.continued else "written to"
        lines.append(_row("ledger", f"{begun} {venue.options.ledger}"))
    lines.append(_row("connect", f'Exchange(wallet, "{url}") of the Python SDK; other clients: docs/foreign-bots.md'))
    lines.append(_row("controls", f"GET {url}/_sim lists them"))
    lines += [_row("note", note) for note in _notes(status)]
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    return f"  {name:<10}{text}"


def _source(venue: Venue, market: Market) -> str:
    return "those of the ledger" if venue.continued else market.source


def _markets_line(status: Mapping[str, Any], source: str) -> str:
    prices = ", ".join(f"{coin} at {m['last']}" for coin, m in status["markets"].items())
    end = min(m["end_ms"] for m in status["markets"].values())
    return f"{prices}; candles until {_instant(end)} ({source})"


def _clock_line(status: Mapping[str, Any]) -> str:
    now = _instant(status["now_ms"])
    if status["clock"] == "manual":
        return f'manual, {now}; POST /_sim/clock {{"step_ms": 60000}} moves it'
    return f"the wall's at speed {status['speed']}, {now}"


def _accounts_line(venue: Venue) -> str:
    options = venue.options
    if options.open_accounts:
        return f"every signing key is its own, with {options.equity} USDC"
    return 'those deposited to: POST /_sim/deposit {"address": "0x…", "usd": 10000}, or start with --open-accounts'


def _ahead(venue: Venue, market: Market) -> list[tuple[datetime, str]]:
    """What the made-up market has in store, in the venue's own time (its candles may have been moved to now)."""
    if venue.continued or not market.candles:
        return []
    coin, series = next(iter(market.candles.items()))
    moved = venue.options.candles[coin][0].opened_at - series[0].opened_at
    return [(at + moved, what) for at, what in market.incidents]


def _notes(status: Mapping[str, Any]) -> list[str]:
    from twinleg.paper.clockwork import wall_ms

    if not status["switches"]["nonce_window"]:
        return []
    days = (wall_ms() - status["now_ms"]) / DAY_MS
    if abs(days) >= 1:
        side = "behind" if days > 0 else "ahead of"
        return [
            f"its clock is {abs(days):.0f} days {side} the wall's, so nonces taken from the wall are refused: "
            "--start now, or --switch nonce_window=false"
        ]
    speed = float(status["speed"] or 1)
    if speed == 1:
        return []
    minutes = DAY_MS / 60_000 * (2 / (speed - 1) if speed > 1 else 1 / (1 - speed))
    return [
        f"after {minutes:,.0f} minutes at this speed nonces taken from the wall's clock are refused: "
        "--switch nonce_window=false"
    ]


def _instant(ms: int) -> str:
    from twinleg.domain.candles import utc_from_ms

    return f"{utc_from_ms(ms):%Y-%m-%dT%H:%M:%SZ}"


def said_as_json(url: str, venue: Venue, market: Market) -> str:
    """The same as one line of JSON, with all that ``GET /_sim/status`` tells."""
    from twinleg.domain.candles import ms_from_utc

    options = venue.options
    return json.dumps(
        {
            **venue.status(),
            "url": url,
            "pid": os.getpid(),
            "equity": str(options.equity),
            "ledger": None if options.ledger is None else str(options.ledger),
            "source": _source(venue, market),
            "ahead": [[ms_from_utc(at), what] for at, what in _ahead(venue, market)],
            "notes": _notes(venue.status()),
        }
    )
