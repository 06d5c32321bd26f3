"""The picture of what happens inside a candle is the one that the venue's own rules draw today."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
RENDER = runpy.run_path(str(DOCS / "render_venue.py"))


@pytest.mark.parametrize("name", RENDER["COLOURS"])
def test_the_picture_is_drawn_from_the_rules_as_they_are(name):
    drawn = RENDER["picture"](RENDER["COLOURS"][name])
    ElementTree.fromstring(drawn)
    assert (DOCS / f"images/candle-{name}.svg").read_text() == drawn, "run docs/render_venue.py again"


def test_both_pictures_differ_in_their_colours_only():
    light, dark = (RENDER["picture"](colours) for colours in RENDER["COLOURS"].values())
    colours = re.compile(r"svg \{ --ink.*?\}", re.DOTALL)
    assert colours.sub("", light) == colours.sub("", dark) and light != dark
