"""The page about the venue's protocol says what the code does: questions, actions, switches and their defaults."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from twinleg.domain.candles import Candle
from twinleg.paper import schema
from twinleg.paper.exchange import Exchange
from twinleg.paper.options import UNDECIDED, Switches, VenueOptions

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "paper-protocol.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.search(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def listed(text: str) -> set[str]:
    """The names in a section's paragraphs of nothing but names (after a colon, if any)."""
    found: set[str] = set()
    for paragraph in text.split("\n\n"):
        names = paragraph.split(":")[-1] if not paragraph.lstrip().startswith("-") else ""
        if re.fullmatch(r"\s*(`\w+`[\s.]*)+", names):
            found |= set(re.findall(r"`(\w+)`", names))
    return found


def test_the_questions_are_those_the_venue_answers():
    one = Decimal(100)
    bar = Candle(datetime(2025, 5, 1, tzinfo=UTC), one, one, one, one, one, timedelta(minutes=1))
    venue = Exchange(VenueOptions(candles={"BTC": [bar]}))
    assert listed(section("Questions")) == set(venue._info._questions)


def test_the_actions_are_those_the_venue_can_read():
    assert listed(section("Actions")) == set(schema._ACTIONS)


def rows() -> list[tuple[list[str], list[str]]]:
    """(names of switches, their defaults as told) of every row of both tables."""
    out = []
    for line in section("Switches").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) >= 3 and cells[0].startswith("`"):
            out.append((re.findall(r"`(\w+)`", cells[0]), re.findall(r"`([^`]*)`", cells[1]) or [cells[1]]))
    return out


def test_every_switch_is_listed_with_its_default():
    defaults = Switches().as_json()
    told = {name: shown for names, shown in rows() for name, shown in zip(names, shown * len(names), strict=False)}
    for names, shown in rows():
        if len(shown) == len(names):
            told.update(zip(names, shown, strict=True))
    assert set(told) == set(defaults)
    for name, value in defaults.items():
        plain = str(value).lower() if isinstance(value, bool) else str(value)
        assert told[name] == (plain or "empty"), name


def test_whatever_is_undecided_stands_in_the_first_table():
    first = section("Switches").split("Mechanisms,")[0]
    assert all(f"`{name}`" in first for name in UNDECIDED)
