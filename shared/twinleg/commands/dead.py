"""Commands for what could not be handled: look at it, send it again, drop it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from twinleg.commands.common import Arguments, command, system_of, who, with_config
from twinleg.domain.errors import BadInput
from twinleg.engine.ports import SignerRole

if TYPE_CHECKING:
    from twinleg.bootstrap import System
    from twinleg.engine.dead_letters import DeadLetter, Replayed
    from twinleg.engine.system import Engine

COLUMNS = ("id", "age", "kind", "attempts", "summary", "reason")


def add(commands: Any) -> None:
    group = commands.add_parser("dead", help="dead letters: messages that could not be handled")
    verbs = group.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = command(verbs, "list", "what could not be handled, and why", _list)
    listing.add_argument("--topic", default="", help="only of this topic (candles, alerts, intents, closes …)")
    one = command(verbs, "show", "one dead letter, whole", _show)
    one.add_argument("id", help="as listed, such as intents/17")
    again = command(verbs, "replay", "send dead letters again to where they came from", _replay)
    again.add_argument("id", nargs="*", help="as listed, such as intents/17")
    again.add_argument("--topic", default="", help="every one of this topic")
    again.add_argument("--all", action="store_true", help="every one whose topic is known")
    again.add_argument("--to", default="", help="the topic for what came from none (unknown)")
    away = command(verbs, "drop", "delete dead letters; the audit keeps what they were", _drop)
    away.add_argument("id", nargs="+", help="as listed, such as intents/17")
    away.add_argument("--why", required=True, help="recorded in the audit")
    for made in (listing, one, again, away):
        made.add_argument("--json", action="store_true", help="machine-readable output")
        with_config(made)


def _list(arguments: Arguments) -> int:
    from twinleg.engine.dead_letters import as_json, listed

    system = system_of(arguments)
    found, complete = listed(system.dead_letters, arguments.topic)
    rows = [as_json(letter, system.clock.now()) for letter in found]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print(f"no dead letter {'of ' + arguments.topic if arguments.topic else 'anywhere'} was found")
        return 0
    _print_table(rows)
    for row in rows:
        if row["warning"]:
            print(f"{row['id']}: {row['warning']}")
    if not complete:
        print("there are more: these are the first that were found")
    print("next: twinleg dead show ID, then replay ID (or --topic, --all) once its cause is mended, or drop ID --why")
    return 0


def _show(arguments: Arguments) -> int:
    from twinleg.engine.dead_letters import as_json, shown

    system = system_of(arguments)
    letter = shown(system.dead_letters, arguments.id)
    row = as_json(letter, system.clock.now())
    whole = {**row, "attributes": dict(letter.attributes), "message": letter.content}
    if arguments.json:
        print(json.dumps(whole, indent=2))
        return 0
    for name, value in row.items():
        print(f"{name:<13} {value}")
    print(f"{'attributes':<13} {json.dumps(dict(letter.attributes), ensure_ascii=False)}")
    print(json.dumps(letter.content, indent=2, ensure_ascii=False))
    return 0


def _replay(arguments: Arguments) -> int:
    from twinleg.engine.dead_letters import replay

    if (bool(arguments.id), bool(arguments.topic), arguments.all).count(True) != 1:
        raise BadInput("replay needs ids, or --topic, or --all")
    system = system_of(arguments)
    done = replay(
        _engine(system), system.dead_letters, arguments.id, arguments.topic, to=arguments.to, by=who()
    )  # fmt: skip
    if arguments.json:
        print(json.dumps([_replayed(one) for one in done], indent=2))
        return 0
    for one in done:
        print(f"{one.letter.id} -> {one.topic} as message {one.message_id}" + (f"; {one.warning}" * bool(one.warning)))
    print(f"{len(done)} replayed; what fails again comes back here" if done else "there was nothing to replay")
    return 0


def _replayed(one: Replayed) -> dict[str, str]:
    return {"id": one.letter.id, "topic": one.topic, "message_id": one.message_id, "warning": one.warning}


def _drop(arguments: Arguments) -> int:
    from twinleg.engine.dead_letters import drop

    system = system_of(arguments)
    done: list[DeadLetter] = drop(_engine(system), system.dead_letters, arguments.id, why=arguments.why, by=who())
    if arguments.json:
        print(json.dumps([{"id": letter.id, "summary": letter.summary} for letter in done], indent=2))
    else:
        for letter in done:
            print(f"{letter.id} dropped: {letter.summary}")
    return 0


def _engine(system: System) -> Engine:
    return system.engine(SignerRole.EXECUTE)


def _print_table(rows: list[dict[str, Any]]) -> None:
    import sys

    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"dead letters ({len(rows)})", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in rows:
        age = timedelta(seconds=row["age_seconds"])
        shown = {**row, "age": str(age), "attempts": row["attempts"] or ""}
        table.add_row(*(str(shown[column]) for column in COLUMNS))
    (Console() if sys.stdout.isatty() else Console(width=160)).print(table, markup=False)
