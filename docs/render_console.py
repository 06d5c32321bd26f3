"""Draws docs/images/console-*.svg: each collection as the Firestore console shows it, from the records of a short run.

    .venv/bin/python docs/render_console.py

Three columns (collections, ids sorted as text, fields by the alphabet), maps and lists closed, times as the console
writes them. The run is the demo's stress segment up to an open trade, so the pictures change only when records do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from twinleg.adapters.local.store import SqliteStore
from twinleg.bootstrap import paper_address
from twinleg.embedded.replay import PostedAlert, Script, Segment
from twinleg.embedded.stress import stress_script
from twinleg.engine.ports import Store, Stored

IMAGES = Path(__file__).parent / "images"
PLAYED = 97
"""Minutes of the stress segment: one trade was stopped, one took its profit, one is open."""
COLLECTIONS = (
    "accounts", "actions", "alerts", "audit", "books", "control", "intents", "markets", "orders", "positions",
    "signers", "trades",
)  # fmt: skip
IDS_MAX = 14


# -- the records -----------------------------------------------------------------------------------


def short_run() -> Script:
    """The stress segment until a trade is open; the last alert carries no id of its own."""
    whole = stress_script("BTC", 7, Decimal(100_000), paper_address("hedge").lower())
    candles = whole.candles[:PLAYED]
    end = candles[-1].closed_at
    nameless = PostedAlert(candles[-3].closed_at, json.dumps({"ticker": "BTCUSDT.P", "action": "sell"}))
    alerts = [alert for alert in whole.alerts if alert.at < end]
    return replace(whole, candles=candles, alerts=[*alerts, nameless], hooks=())


def records(folder: Path) -> Store:
    """The store that a short run leaves behind."""
    Segment(short_run(), folder).run(lambda *_: None)
    return SqliteStore(folder / "twinleg.sqlite")


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: a collection, and which of its documents is open."""

    name: str
    collection: str
    documents: Sequence[Stored]
    chosen: Stored


def shots(store: Store) -> list[Shot]:
    """One picture of each collection that holds something, and a second one of trades."""
    made: list[Shot] = []
    for collection in COLLECTIONS:
        found = store.query(collection)
        wanted = {name: test for name, (of, test) in CHOSEN.items() if of == collection} or {collection: {}}
        for name, fields in wanted.items():
            fit = [d for d in found if all(d.data.get(k) == v for k, v in fields.items())]
            if fit:
                made.append(Shot(name, collection, found, fit[-1]))
    return made


CHOSEN: dict[str, tuple[str, dict[str, object]]] = {
    "trades": ("trades", {"state": "CLOSED"}),
    "trades-open": ("trades", {"state": "OPEN"}),
    "orders": ("orders", {"purpose": "stop", "state": "filled"}),
    "actions": ("actions", {"kind": "PlaceEntry"}),
    "audit": ("audit", {"kind": "opened"}),
    "intents": ("intents", {"status": "opened"}),
    "accounts": ("accounts", {"account": "main"}),
    "books": ("books", {"account": "main"}),
    "positions": ("positions", {"account": "main"}),
    "control": ("control", {"state": "ENABLED"}),
    "signers": ("signers", {"account": "main", "role": "execute"}),
}
"""Picture → its collection and the fields of the document to open; others open the last document."""


# -- the pictures ----------------------------------------------------------------------------------

WIDTH, ROW, HEAD, TOP = 960, 22, 34, 40
COLUMNS = (0, 138, 412)
SIZE = 12.5
STYLE = """
text { font: 12.5px Roboto, Arial, Helvetica, sans-serif; fill: #202124; }
.soft { fill: #5f6368; } .name { fill: #1967d2; } .bold { font-weight: 500; } .text { fill: #188038; }
.number { fill: #b3591d; } .chosen { fill: #e8f0fe; } .line { stroke: #dadce0; }
.card { fill: #ffffff; stroke: #dadce0; } .head { fill: #f8f9fa; }
"""
NARROW, THIN, WIDE = set("iljI.,:;'|!"), set('ftr()[]{}-/ "'), set("mwMW@%→⇒")


def wide(text: str) -> float:
    """Roughly how wide a text is, in pixels; rather too much than too little."""
    ems = sum(
        0.26 if c in NARROW else 0.35 if c in THIN else 0.9 if c in WIDE else 0.7 if c.isupper() or c == "_" else 0.57
        for c in text
    )
    return ems * SIZE


def cut(text: str, room: float) -> str:
    """The text as far as there is room for it."""
    if wide(text) <= room:
        return text
    while text and wide(text + "…") > room:
        text = text[:-1]
    return text + "…"


def shown(value: Any) -> tuple[str, str]:
    """A value as the console writes it, and its colour."""
    match value:
        case None:
            return "null", "soft"
        case bool():
            return str(value).lower(), "number"
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value), "number"
        case str():
            return '"' + value.replace("\n", " ") + '"', "text"
        case datetime():
            return f"{value:%B} {value.day}, {value.year} at {value:%I:%M:%S %p} UTC".replace(" at 0", " at "), "plain"
        case list():
            return f"({len(value)})", "soft"
        case _:
            return "{…}", "soft"


def drawn(shot: Shot) -> str:
    """The picture as SVG."""
    fields = sorted(shot.chosen.data.items())
    ids = [d.id for d in shot.documents]
    at = ids.index(shot.chosen.id)
    first = max(0, min(at - IDS_MAX // 2, len(ids) - IDS_MAX))
    seen = ids[first : first + IDS_MAX]
    rooms = [right - left - 28 for left, right in zip(COLUMNS, (*COLUMNS[1:], WIDTH), strict=True)]
    described = [_field(0, name, value, rooms[2]) for name, value in fields]
    rows = max(sum(map(len, described)), len(seen) + 1, len(COLLECTIONS))
    height = TOP + HEAD + rows * ROW + 20
    parts = [f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>']
    parts.append(f'<path class="head" d="M1 {TOP} H{WIDTH - 1} V{TOP + HEAD} H1 Z"/>')
    parts += [f'<path class="line" d="M0 {y + 0.5} H{WIDTH}"/>' for y in (TOP, TOP + HEAD)]
    parts += [f'<path class="line" d="M{x + 0.5} {TOP} V{height - 1}"/>' for x in COLUMNS[1:]]
    parts.append(_text(16, 25, cut(f"{shot.collection} › {shot.chosen.id}", WIDTH - 32), "soft"))
    heads = ("(default)", shot.collection, shot.chosen.id)
    for x, room, head in zip(COLUMNS, rooms, heads, strict=True):
        parts.append(_text(x + 14, TOP + 22, cut(head, room), "bold"))
    for row, name in enumerate(COLLECTIONS):
        parts += _entry(0, COLUMNS[1], row, name, name == shot.collection)
    for row, id in enumerate(seen):
        parts += _entry(COLUMNS[1], COLUMNS[2] - COLUMNS[1], row, id, id == shot.chosen.id)
    if len(ids) > len(seen):
        parts.append(_text(COLUMNS[1] + 14, _y(len(seen)), f"{len(ids)} documents", "soft"))
    row = 0
    for name, value in fields:
        lines = _field(row, name, value, rooms[2])
        parts, row = [*parts, *lines], row + len(lines)
    title = escape(f"The collection {shot.collection} in the Firestore console")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{title}">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _y(row: int) -> float:
    return TOP + HEAD + 8 + row * ROW + 15


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}" xml:space="preserve">{escape(text)}</text>'


def _entry(x: float, width: float, row: int, text: str, chosen: bool) -> list[str]:
    back = f'<rect class="chosen" x="{x + 1}" y="{_y(row) - 16:g}" width="{width - 1}" height="{ROW}"/>'
    line = _text(x + 14, _y(row), cut(text, width - (34 if chosen else 28)), "bold" if chosen else "plain")
    return [back, line, _text(x + width - 16, _y(row), "›", "soft")] if chosen else [line]


def _field(row: int, name: str, value: Any, room: float) -> list[str]:
    """A field; text that is too long for its line goes on in the next ones, as in the console."""
    closed = isinstance(value, dict | list) and bool(value)
    text, style = shown(value)
    left = room - wide(f"   {name}: ")
    first, *others = [cut(text, left)] if name.startswith("z_") else wrapped(text, left, room - 44)
    x = COLUMNS[2] + 14
    line = (
        f'<text x="{x}" y="{_y(row):g}" xml:space="preserve"><tspan class="soft">{"▸ " if closed else "   "}</tspan>'
        f'<tspan class="name">{escape(name)}</tspan><tspan class="soft">: </tspan>'
        f'<tspan class="{style}">{escape(first)}</tspan></text>'
    )
    return [line, *(_text(x + 44, _y(row + 1 + n), more, style) for n, more in enumerate(others))]


def wrapped(text: str, first: float, others: float) -> list[str]:
    """The text in lines, broken at spaces; at most three, the last one cut."""
    lines: list[str] = []
    room = first
    words = text.split(" ")
    while words and len(lines) < 2:
        count = len(words)
        while count > 1 and wide(" ".join(words[:count])) > room:
            count -= 1
        lines.append(cut(" ".join(words[:count]), room))
        words, room = words[count:], others
    return [*lines, cut(" ".join(words), room)] if words else lines


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures (default docs/images)")
    out: Path = arguments.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        for shot in shots(records(Path(folder))):
            (out / f"console-{shot.name}.svg").write_text(drawn(shot))
            print(f"console-{shot.name}.svg: {shot.collection}/{shot.chosen.id}")


if __name__ == "__main__":
    main()
