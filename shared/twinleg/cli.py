"""The ``twinleg`` command: run it, look at it, stop it. Each group of commands is a file in ``commands/``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from twinleg import logs
from twinleg.commands import (
    backup,
    cost,
    crash,
    dead,
    enumerate,
    explain,
    looking,
    running,
    schedule,
    simulate,
    steering,
    tail,
    venue,
)
from twinleg.commands.common import Arguments
from twinleg.domain.errors import BadInput, TwinlegError

GROUPS = (running, venue, looking, explain, steering, dead, schedule, tail, cost, backup, simulate, enumerate, crash)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 it failed, 2 what was asked cannot be understood."""
    arguments = parser().parse_args(argv)
    logs.to_terminal()
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
    for group in GROUPS:
        group.add(commands)
    return top
