"""Every limit has the default and takes the values that docs/configuration.md promises, and no others."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from twinleg.risk.limits import Limits

D = Decimal
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text("utf-8").split("### `[limits]`")[1]
ROWS = re.findall(r"^\| `(\w+)` \| (\S+) \| ([^|]*)\|", PAGE, flags=re.MULTILINE)


def takes(name: str, value: object) -> bool:
    try:
        Limits.model_validate({name: value})
    except ValidationError:
        return False
    return True


def edges(allowed: str, step: D) -> tuple[list[D], list[D]]:
    """(values just allowed, values just not) of a range in words: ``> 0, ≤ 20``, ``1 to 50``, ``≥ 1``."""
    good: list[D] = []
    bad: list[D] = []
    for part in re.sub(r"(\d+) to (\d+)", r"≥ \1, ≤ \2", allowed).split(", "):
        sign, number = part[0], D(part[1:])
        outward = -1 if sign in ">≥" else 1
        good.append(number if sign in "≥≤" else number - outward * step)
        bad.append(number + outward * step if sign in "≥≤" else number)
    return good, bad


def test_every_limit_is_in_the_table() -> None:
    assert {name for name, _, _ in ROWS} == set(Limits.model_fields)


@pytest.mark.parametrize(("name", "default", "allowed"), ROWS, ids=[name for name, _, _ in ROWS])
def test_a_limits_default_and_bounds_are_the_documented_ones(name: str, default: str, allowed: str) -> None:
    field = Limits.model_fields[name]
    value = getattr(Limits(), name)
    assert takes(name, value), "the default itself"
    if isinstance(value, bool):
        assert (default, allowed.strip()) == (str(value).lower(), "")
    elif isinstance(value, str):
        assert default == value and set(re.findall(r"\w+", allowed)) == set(get_args(field.annotation))
        assert not takes(name, value + "?")
    else:
        assert D(default) == value
        good, bad = edges(allowed.strip(), D(1) if field.annotation is int else D("0.0001"))
        assert all(takes(name, edge) for edge in good)
        assert not any(takes(name, edge) for edge in bad)
