"""``twinleg doctor --probe-testnet``: what the venue really does where its documents are silent."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twinleg.commands.common import Arguments, system_of
from twinleg.domain.errors import BadInput

if TYPE_CHECKING:
    from twinleg.embedded.probing import Verdict

WIDTH = 110


def add_options(doctor: Any) -> None:
    """The options of ``doctor`` that are about probing."""
    doctor.add_argument("--probe-testnet", action="store_true", help="ask the testnet what its documents leave open")
    doctor.add_argument("--only", default="", help="with --probe-testnet: these questions, joined by commas")
    doctor.add_argument("--market", default="", help="with --probe-testnet: on this market, venue:COIN")
    doctor.add_argument("--confirm", default="", metavar="NETWORK", help="with --probe-testnet: typed beforehand")


def asked(arguments: Arguments) -> bool:
    """Whether the venue is to be asked. BadInput for an option that would mean nothing without."""
    for name in ("only", "market", "confirm"):
        if getattr(arguments, name) and not arguments.probe_testnet:
            raise BadInput(f"--{name} is for doctor --probe-testnet")
    return bool(arguments.probe_testnet)


def probe(arguments: Arguments) -> int:
    """Say what will be done, be told to, ask, and print what was answered."""
    from twinleg.embedded.probing import bench_for, chosen, plan_of, refuse_unless_safe, run, switches_told

    names, system = chosen(arguments.only), system_of(arguments)
    bench = bench_for(system, arguments.market)
    left = refuse_unless_safe(system, bench)
    print("twinleg doctor --probe-testnet", *plan_of(bench, names, left), sep="\n  - ", file=sys.stderr)
    _confirm(arguments.confirm, bench.venue.network)
    heard: list[Verdict] = []

    def said(verdict: Verdict) -> None:
        heard.append(verdict)
        print(f"{len(heard)} of {len(names)}: {verdict.told.switch}: {verdict.word}", file=sys.stderr, flush=True)

    try:
        run(bench, names, said)
    finally:  # whatever was answered before an interrupt is worth having
        if arguments.json:
            told = {"network": bench.venue.network, "market": bench.market, "switches": switches_told(heard)}
            print(json.dumps(told | {"answers": [v.as_json() for v in heard]}, indent=2))
        elif heard:
            _table(heard)
            print(_counted(heard))
            print(f"the paper venue with these answers: POST /_sim/switches {json.dumps(switches_told(heard))}")
    return 0


def _confirm(typed: str, network: str) -> None:
    if not typed:
        if not sys.stdin.isatty():
            raise BadInput(f"nobody is here to confirm: --confirm {network} says so beforehand")
        print(f"Type {network} to go on: ", end="", file=sys.stderr, flush=True)
        typed = sys.stdin.readline().strip()
    if typed != network:
        raise BadInput(f"confirmed was {typed!r}; the network is {network}: nothing was signed")


def _table(heard: Sequence[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("verdict", "switch", "the venue's words, and what it means for us"):
        table.add_column(name, overflow="fold")
    colours = {"holds": "green", "does not hold": "yellow", "could not be told": "dim"}
    for verdict in heard:
        told = verdict.told
        position = "" if told.position is None else f"\n= {_shown(told.position)}"
        if verdict.word == "does not hold":
            position += f"\nassumed {_shown(verdict.assumed)}"
        words = Text("\n".join(told.evidence), "dim")
        for line in (f"for us: {verdict.meaning}" if verdict.meaning else "", told.why):
            if line:
                words.append(f"\n{line}" if words else line, "")
        table.add_row(Text(verdict.word, colours[verdict.word]), f"{told.switch}{position}", words)
        table.add_row("", "", "")
    (Console(highlight=False) if sys.stdout.isatty() else Console(width=WIDTH, highlight=False)).print(table)


def _counted(heard: Sequence[Verdict]) -> str:
    words = Counter(verdict.word for verdict in heard)
    return f"{words['holds']} hold, {words['does not hold']} do not, {words['could not be told']} could not be told"


def _shown(position: object) -> str:
    return {True: "true", False: "false"}.get(position, str(position)) if isinstance(position, bool) else str(position)
