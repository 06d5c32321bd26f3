"""What every command does: declare itself, read the configuration, know who asks."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinleg.bootstrap import System

Arguments = argparse.Namespace


def command(commands: Any, name: str, text: str, run: Callable[[Arguments], int]) -> argparse.ArgumentParser:
    """A command whose help and description are *text*."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    made.set_defaults(run=run)
    return made


def with_config(made: argparse.ArgumentParser) -> None:
    """Let the command be given a configuration file."""
    made.add_argument("--config", type=Path, default=None, help="the TOML file (default ./twinleg.toml, else paper)")


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, was {text!r}")
    return int(text)


def system_of(arguments: Arguments) -> System:
    """The system that the command's configuration and the environment describe."""
    from twinleg.bootstrap import system_for
    from twinleg.settings import environment, load

    environ = environment()
    return system_for(load(arguments.config, environ), environ)


def who() -> str:
    """The person at the keyboard, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "a person"
