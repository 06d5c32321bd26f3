"""``twinleg explain``: one trade, from the alert or candle behind it to its last fill, in order, with reasons."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from twinleg.commands.common import Arguments, command, system_of, with_config

if TYPE_CHECKING:
    from rich.console import Console

    from twinleg.domain.trades import Leg, PlacedOrder, Trade
    from twinleg.engine.story import Story
    from twinleg.engine.story_words import Step

WIDTH = 100
BESIDE = 30
"""Columns that time and leg take from the timeline."""


def add(commands: Any) -> None:
    text = "why a trade came to be, and everything that was done for it, in order of time"
    made = command(commands, "explain", text, _explain)
    made.add_argument("trade", help="its id or the beginning of it; or a client order id, an action's or an alert's id")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    with_config(made)


def _explain(arguments: Arguments) -> int:
    from twinleg.engine.story import story_of
    from twinleg.engine.story_records import records_of

    story = story_of(records_of(system_of(arguments).store, arguments.trade))
    if arguments.json:
        print(json.dumps(story.as_json(), default=_json, indent=2))
    else:
        show(story)
    return 0


def _json(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def show(story: Story) -> None:
    """The story for a person: what it came to first, then step by step, then every order."""
    from rich.console import Console

    console = Console(highlight=False) if sys.stdout.isatty() else Console(width=WIDTH, highlight=False)
    _head(console, story)
    _timeline(console, story)
    if story.trade is not None:
        _orders(console, story.trade)


def _head(console: Console, story: Story) -> None:
    from rich.table import Table
    from rich.text import Text

    from twinleg.engine.story_words import span

    console.print(Text.assemble((story.id, "bold"), f"  {_plain(story.title)}"))
    console.print(Text(_plain(story.ending), "bold"))
    trade = story.trade
    if trade is None or not any(leg.size_filled for leg in trade.legs):
        console.print()
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("leg", "opened", "closed", "before costs", "fees", "funding", "net USD"):
        table.add_column(name, justify="left" if name in ("leg", "opened", "closed") else "right")
    for leg in trade.legs:
        table.add_row(*_leg_row(leg))
    realised = sum((leg.realised_usd for leg in trade.legs), Decimal(0))
    fees = sum((leg.fees_usd for leg in trade.legs), Decimal(0))
    funding = sum((leg.funding_usd for leg in trade.legs), Decimal(0))
    table.add_row("both", "", "", *_money(realised, fees, funding, trade.pnl_usd), style="bold")
    console.print(table)
    for alone in story.alone:
        console.print(Text(f"the {alone.leg} leg stood alone for {span(alone.seconds)} {alone.why}", "yellow"))
    console.print()


def _leg_row(leg: Leg) -> Iterator[str]:
    from twinleg.domain.money import plain
    from twinleg.engine.story_words import short_price

    side = {"buy": "long", "sell": "short"}[leg.side.value]
    yield f"{leg.role} {side} {leg.leverage}x on {leg.account}"
    yield f"{plain(leg.size_filled)} at {short_price(leg.entry_price)}" if leg.size_filled else "never"
    left = f", {plain(leg.size_open)} is open" if leg.size_closed and leg.size_open else ""
    yield (f"{plain(leg.size_closed)} at {short_price(leg.exit_price)}{left}" if leg.size_closed else "-")
    net = leg.realised_usd - leg.fees_usd - leg.funding_usd
    yield from _money(leg.realised_usd, leg.fees_usd, leg.funding_usd, net)


def _money(realised: Decimal, fees: Decimal, funding: Decimal, net: Decimal) -> Iterator[str]:
    """What was paid has no sign but when it was received; what was made has one. Never a zero below zero."""
    yield f"{realised:z+.2f}"
    yield from (f"{paid:z.2f}" for paid in (fees, funding))
    yield f"{net:z+.2f}"


def _timeline(console: Console, story: Story) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("time", no_wrap=True, style="dim")
    table.add_column("after", justify="right", no_wrap=True, style="dim")
    table.add_column("leg", no_wrap=True)
    table.add_column("what", overflow="fold")
    day, start = "", story.steps[0].at if story.steps else None
    for step in story.steps:
        at = step.at.astimezone(UTC)
        if f"{at:%Y-%m-%d}" != day:
            day = f"{at:%Y-%m-%d}"
            table.add_row(Text(day, "bold"), "", "", Text("times in UTC; of fills the venue's, all others ours", "dim"))
        assert start is not None
        table.add_row(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}", _after((at - start).total_seconds()), step.leg,
                      _words(step, console.width - BESIDE))  # fmt: skip
    console.print(table)
    console.print()


def _words(step: Step, width: int) -> Any:
    from rich.text import Text

    said = Text("\n".join(wrap(_plain(step.text), width)), "yellow" if step.loud else "")
    for detail in step.details:
        for line in wrap(_plain(detail), width, initial_indent="  ", subsequent_indent="    "):
            said.append(f"\n{line}", "dim")
    return said


def _orders(console: Console, trade: Trade) -> None:
    from rich.table import Table

    orders = [(leg, order) for leg in trade.legs for order in leg.orders]
    if not orders:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("order", "wanted", "became", "fee USD"):
        table.add_column(name, justify="right" if name == "fee USD" else "left", overflow="fold")
    for leg, order in orders:
        table.add_row(*(_plain(cell) for cell in _order_row(trade, leg, order)))
    console.print(table)


def _order_row(trade: Trade, leg: Leg, order: PlacedOrder) -> Iterator[str]:
    from twinleg.domain.money import plain
    from twinleg.engine.pages import order_page
    from twinleg.engine.story_words import short_price, wanted

    yield f"{leg.role} {order.purpose}"
    yield wanted(order)
    page = order_page(trade, leg, order)
    state = str(page["state"]).replace("_", " ")
    filled = f": {plain(order.filled_size)} at {short_price(order.filled_price)}" if order.filled_size else ""
    reason = f" ({page['reason']})" if page["reason"] and not filled else ""
    yield f"{state}{filled}{reason}"
    yield f"{order.fees_usd:.4f}" if order.filled_size else ""


def _after(seconds: float) -> str:
    if seconds < 600:
        return f"+{seconds:.1f} s"
    return f"+{seconds / 60:.0f} min" if seconds < 36_000 else f"+{seconds / 3600:.1f} h"


def _plain(text: str) -> str:
    """What a terminal may be sent: a venue's or an alert's words may hold anything."""
    return "".join(c if c.isprintable() else " " for c in text)
