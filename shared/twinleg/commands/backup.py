"""Commands that keep the records safe: all of them into one file, and from it into an empty store."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from twinleg.commands.common import Arguments, command, system_of, who, with_config
from twinleg.domain.errors import BadInput
from twinleg.engine.ports import SignerRole


def add(commands: Any) -> None:
    made = command(commands, "backup", "all records, as they are at this moment, into one file", _backup)
    back = command(commands, "restore", "the records of a backup into an empty store; ends in HALTED", _restore)
    back.add_argument("--into-empty", action="store_true", help="required: nothing that is there is ever replaced")
    for one in (made, back):
        one.add_argument("file", type=Path, help="such as desk-2026-11-21.twinleg.gz")
        one.add_argument("--json", action="store_true", help="machine-readable output")
        with_config(one)


def _backup(arguments: Arguments) -> int:
    from twinleg.adapters.local.backup_file import write_backup
    from twinleg.engine.backup import documents, origin

    system = system_of(arguments)
    engine = system.engine(SignerRole.EXECUTE)
    about = origin(engine, _source(arguments))
    counts = write_backup(arguments.file, about, documents(system.store, _progress("read")))
    _clear()
    if arguments.json:
        print(json.dumps({"file": str(arguments.file), "made_at": about.made_at.isoformat(), "counts": counts}))
    else:
        print(f"{arguments.file}: {sum(counts.values())} documents of {about.source}, {_counts(counts)}")
    return 0


def _restore(arguments: Arguments) -> int:
    from twinleg.adapters.local.backup_file import BackupFile
    from twinleg.engine.backup import refuse_other_desk, refuse_unless_empty, refuse_while_called, restore

    if not arguments.into_empty:
        raise BadInput("restore wants --into-empty: it writes into an empty store only")
    with closing(BackupFile(arguments.file)) as backup:
        system = system_of(arguments)
        engine = system.engine(SignerRole.EXECUTE)
        refuse_other_desk(engine, backup.origin)
        refuse_unless_empty(system.store)
        refuse_while_called(system.schedule)
        control = restore(engine, backup.origin, backup.entries(), by=who(), progress=_progress("written"))
        _clear()
        if arguments.json:
            print(json.dumps({"state": control.state.value, "why": control.why, "counts": backup.counts}))
            return 0
        print(f"{sum(backup.counts.values())} documents restored, {_counts(backup.counts)}")
    print(f"trading is {control.state}: {control.why}")
    print(
        "next: let the jobs run (twinleg schedule resume all, or twinleg up). The sweep then sets the records right by"
    )
    print("what the accounts hold, and reports positions that no record owns: look at twinleg audit, twinleg doctor.")
    return 0


def _source(arguments: Arguments) -> str:
    """Where the records are: a file, or a project's database."""
    from twinleg.bootstrap import PROJECT_VARIABLE, RUNTIME_VARIABLE
    from twinleg.settings import environment, load

    environ = environment()
    if environ.get(RUNTIME_VARIABLE) == "cloud":
        return f"firestore {environ[PROJECT_VARIABLE]}"
    return f"sqlite {load(arguments.config, environ).storage.path}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def _progress(word: str) -> Any:
    """Says how far it is, where somebody is watching."""

    def told(collection: str, count: int) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{collection}: {count} {word}", end="", file=sys.stderr, flush=True)

    return told


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
