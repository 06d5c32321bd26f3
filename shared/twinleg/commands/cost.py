"""The command that says what a month on Google Cloud costs."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from twinleg.commands.common import Arguments, command, count
from twinleg.domain.errors import BadInput

if TYPE_CHECKING:
    from twinleg.cost.model import Bill, Line


def add(commands: Any) -> None:
    cost = command(commands, "cost", "what a month on Google Cloud costs, from measured counts and list prices", _cost)
    cost.add_argument("--markets", type=count, required=True, metavar="N", help="markets traded")
    cost.add_argument("--positions", type=_whole, required=True, metavar="M", help="open positions; a trade has two")
    cost.add_argument("--accounts", type=count, default=2, metavar="A", help="accounts traded on (default 2)")
    cost.add_argument("--trades-per-day", type=_whole, default=None, metavar="T", help="default: one a market")
    cost.add_argument("--alerts-per-day", type=_whole, default=None, metavar="K", help="default: one a trade")
    cost.add_argument("--live", action="store_true", help="real money: fixed address, warm instances, recovery")
    cost.add_argument(
        "--warm", default=None, metavar="NAMES", help="functions kept warm, as webhook,execute, or none (the default)"
    )
    cost.add_argument("--static-egress", action="store_true", help="one fixed address towards the venue")
    cost.add_argument(
        "--sweep-every", type=_whole, default=0, metavar="SECONDS",
        help="open trades are judged this often between two sweeps (sweep_every_seconds), and something is always open",
    )  # fmt: skip
    cost.add_argument("--region-multi", action="store_true", help="Firestore in a multi-region")
    cost.add_argument("--on", type=_day, default=None, metavar="DAY", help="prices of this day (default: the file's)")
    cost.add_argument("--json", action="store_true", help="machine-readable output")


def _whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, was {text!r}")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a day as YYYY-MM-DD, was {text!r}") from None


def _warm(text: str | None) -> tuple[str, ...] | None:
    """What is kept warm: None when nothing was said."""
    if text is None or text == "none":
        return None if text is None else ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise BadInput(f"--warm must be functions joined by commas, or none, was {text!r}")
    return names


def _cost(arguments: Arguments) -> int:
    from twinleg.cost.model import Plan, bill, with_warm_default

    plan = Plan(
        markets=arguments.markets,
        positions=arguments.positions,
        accounts=arguments.accounts,
        trades_per_day=arguments.trades_per_day,
        alerts_per_day=arguments.alerts_per_day,
        live=arguments.live,
        static_egress=arguments.static_egress,
        region_multi=arguments.region_multi,
        sweep_every_seconds=arguments.sweep_every,
    )
    made = bill(with_warm_default(plan, _warm(arguments.warm)), on=arguments.on)
    if arguments.json:
        print(json.dumps(_as_json(made), indent=2))
    else:
        _print_table(made)
    return 0


def _as_json(made: Bill) -> dict[str, Any]:
    from twinleg.cost.model import MINUTES

    plan = made.plan
    return {
        "plan": {
            "markets": plan.markets, "positions": plan.positions, "accounts": plan.accounts,
            "trades_per_day": plan.trades, "alerts_per_day": plan.alerts, "live": plan.live, "warm": list(plan.warm),
            "fixed_address": plan.fixed_address, "region_multi": plan.region_multi,
            "sweep_every_seconds": plan.sweep_every_seconds,
        },
        "prices_dated": made.prices.dated.isoformat(),
        "prices_on": made.on.isoformat(),
        "measured_on": made.measured.measured_on.isoformat(),
        "minutes": MINUTES,
        "usd": _cents(made.usd),
        "usd_without_free_tier": _cents(made.usd_without_free_tier),
        "lever": made.lever,
        "notes": notes(made),
        "lines": [
            {
                "key": line.price.key, "line": line.price.line, "unit": line.price.unit,
                "quantity": float(round(line.quantity, 4)), "free": float(round(line.free, 4)),
                "billed": float(round(line.billed, 4)), "usd": _cents(line.usd),
                "price": f"{line.usd_each:f}", "checked": line.price.checked, "source": line.price.source,
            }
            for line in made.lines
        ],
        "assumed": {name: float(value) for name, value in made.prices.assumed.items()},
    }  # fmt: skip


def _cents(usd: Decimal) -> float:
    return float(round(usd, 4))


def _print_table(made: Bill) -> None:
    from rich.console import Console
    from rich.table import Table

    from twinleg.cost.model import money

    table = Table(title=_title(made), title_justify="left")
    table.add_column("a month")
    for column in ("used", "free", "billed", "dollars"):
        table.add_column(column, justify="right")
    table.add_column("price")
    for line in made.lines:
        if line.quantity:
            table.add_row(line.price.line, *_cells(line), MARKS[line.price.checked])
    table.add_section()
    table.add_row("together", "", "", "", money(made.usd), "")
    console = Console() if sys.stdout.isatty() else Console(width=130)
    console.print(table)
    for said in (f"Biggest lever: {made.lever}.", *notes(made)):
        console.print(said, highlight=False, markup=False, soft_wrap=True)


MARKS = {"official": "", "secondary": "second hand", "general knowledge": "not looked up"}


def _title(made: Bill) -> str:
    plan = made.plan
    judged = f"judged every {plan.sweep_every_seconds} s"
    words = (("live", plan.live), ("multi-region", plan.region_multi), (judged, plan.turns > 0))
    extras = [word for word, there in words if there]
    warm = f"warm: {', '.join(plan.warm)}" if plan.warm else "nothing kept warm"
    counts = f"{plan.markets:,} markets, {plan.positions:,} positions, {plan.accounts} accounts"
    each_day = f"{plan.trades} trades and {plan.alerts} alerts a day"
    return "; ".join([counts, each_day, warm, *extras])


def _cells(line: Line) -> list[str]:
    from twinleg.cost.model import money

    used = f"{_amount(line.quantity)} {line.price.unit}"
    if not line.billable:
        return [used, f"until {line.price.since}", "0", money(line.usd)]
    return [used, _amount(line.free), _amount(line.billed), money(line.usd)]


def _amount(number: Decimal) -> str:
    if number == 0:
        return "0"
    if abs(number) >= 100 or number == number.to_integral_value():
        return f"{number:,.0f}"
    return f"{number:.2f}" if number >= 1 else f"{number:.2g}"


def notes(made: Bill) -> list[str]:
    """What a reader must know beside the numbers: dates, what is measured and what assumed, what would not work."""
    from twinleg.cost.model import INGEST_SECONDS_MAX, bill, money

    plan, listed = made.plan, made.prices
    said = [
        f"Counted on Google's emulators on {made.measured.measured_on}; list prices of {listed.dated}.",
        f"Region: {listed.region}.",
        "Measured: documents, messages, bytes and CPU time of every call. Assumed: network waits, starts, deployments, "
        "retention ([assumed] in prices.toml). No tax, no discount; free tiers are shared by a billing account.",
    ]
    later = [price.since for price in listed.prices.values() if price.since and price.since > made.on]
    if later:
        then = bill(plan, on=max(later), measured=made.measured, listed=listed)
        said.append(f"From {max(later)} alarms cost too: {money(then.usd)} a month (--on {max(later)}).")
    for function in ("ingest", "risk"):
        seconds = made.seconds(function)
        if seconds > INGEST_SECONDS_MAX:
            said.append(
                f"{function} would take {seconds:.0f} s of the {INGEST_SECONDS_MAX} it has: too many for one desk."
            )
    if plan.positions > plan.accounts * plan.markets:
        most = plan.accounts * plan.markets
        said.append(
            f"{plan.accounts} accounts hold at most {most} positions in {plan.markets} markets; counted as asked."
        )
    return said
