"""Charts as inline SVG, drawn here: scales, axes, and lines over time.

Every chart is complete without a script. Colours are classes, so that the page decides between light and dark;
nothing is told by colour alone (legs differ in dash and size, endings in shape).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

WIDTH = 1000
LEFT, RIGHT = 64, 92
POINTS_MAX = 1400
CHARACTER = 7.0
"""About the width of one character of a label, in pixels."""

Point = tuple[float, float | None]
"""Epoch seconds and a value; None breaks the line."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values on a range of pixels."""

    low: float
    high: float
    at_low: float
    at_high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (self.low, self.high) if not self.log else (math.log(self.low), math.log(self.high))
        number = math.log(max(value, 1e-9)) if self.log else value
        return self.at_low + (number - low) / (high - low) * (self.at_high - self.at_low)


@dataclass(frozen=True, slots=True)
class Panel:
    """The area a chart is drawn in, with its two axes."""

    x: Axis
    y: Axis
    top: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: its class (colour and dash), name, and points in time order."""

    css: str
    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Threshold:
    """A level that means something, drawn across the chart."""

    value: float
    name: str


def seconds(at: datetime) -> float:
    return at.timestamp()


def px(number: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    text = f"{number:.1f}"
    return text[:-2] if text.endswith(".0") else text


def tag(name: str, content: str = "", **attributes: object) -> str:
    """An element. Attribute names lose a trailing underscore and have ``-`` for ``_``; numbers are coordinates."""
    parts = []
    for key, value in attributes.items():
        if value is None:
            continue
        text = px(value) if isinstance(value, float) else escape(str(value))
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{text}"')
    return f"<{name}{''.join(parts)}>{content}</{name}>"


def label(x: float, y: float, text: str, css: str = "tick", anchor: str = "start") -> str:
    return tag(
        "text", escape(text), x=float(x), y=float(y), class_=css, text_anchor=anchor if anchor != "start" else None
    )


def title(text: str) -> str:
    return tag("title", escape(text))


def rule(x1: float, y1: float, x2: float, y2: float, css: str, inner: str = "") -> str:
    return tag("line", inner, x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=css)


def path(points: Sequence[tuple[float, float]]) -> str:
    """The ``d`` of a line through these pixels."""
    return "M" + "L".join(f"{px(x)} {px(y)}" for x, y in points)


# -- ranges and ticks ------------------------------------------------------------------------------


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values from low to high, about *count* of them."""
    raw = (high - low) / max(count, 1)
    if raw <= 0:
        return [low]
    scale = 10 ** math.floor(math.log10(raw))
    step = next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


LOG_TICKS = (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)


def log_ticks(low: float, high: float) -> list[float]:
    return [tick for tick in LOG_TICKS if low <= tick <= high]


def sparse(ticks: Sequence[float], axis: Axis, gap: float = 15) -> list[float]:
    """Those of the ticks, from the lowest on, whose labels do not touch."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or abs(axis(tick) - axis(kept[-1])) >= gap:
            kept.append(tick)
    return kept


MINUTE, HOUR, DAY = 60, 3600, 86_400
TIME_STEPS = (MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR,
              6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 4 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY, 365 * DAY)  # fmt: skip


def time_ticks(low: float, high: float, count: int = 8) -> list[tuple[float, str]]:
    """Round times in UTC with their labels; the date is said where the day changes."""
    step = next((s for s in TIME_STEPS if (high - low) / s <= count), TIME_STEPS[-1])
    ticks = [float(t) for t in range(math.ceil(low / step) * step, math.floor(high) + 1, step)]
    found, day = [], ""
    for tick in ticks:
        at = datetime.fromtimestamp(tick, UTC)
        today = f"{at.day} {at:%b}"
        text = today if step >= DAY else (f"{at:%H:%M}" if today == day else f"{today} {at:%H:%M}")
        found.append((tick, text))
        day = today
    return found


def spread(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """The range of these values with a margin; never of no width."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    pad = (high - low) * share or abs(high) * 0.001 or 1.0
    return low - pad, high + pad


def grouped(number: float, places: int = 0) -> str:
    """``103,450.50``, with a real minus."""
    return f"{number:,.{places}f}".replace("-", "−")


def places_for(ticks: Sequence[float]) -> int:
    """Decimals needed to tell neighbouring ticks apart."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    return next((places for places in range(6) if abs(step * 10**places - round(step * 10**places)) < 1e-6), 6)


# -- points ----------------------------------------------------------------------------------------


def thinned(points: Sequence[Point], keep: Callable[[list[float]], float], limit: int = POINTS_MAX) -> list[Point]:
    """At most about *limit* points: one per stretch, whose value *keep* picks (``min`` for what is dangerous when low).

    A stretch without values stays a break.
    """
    if len(points) <= limit:
        return list(points)
    size = math.ceil(len(points) / limit)
    found: list[Point] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        values = [value for _, value in part if value is not None]
        found.append((part[-1][0], keep(values) if values else None))
    return found


def pieces(points: Sequence[Point], panel: Panel) -> list[list[tuple[float, float]]]:
    """The unbroken stretches of a line, in pixels."""
    found: list[list[tuple[float, float]]] = [[]]
    for at, value in points:
        if value is None:
            if found[-1]:
                found.append([])
            continue
        found[-1].append((panel.x(at), panel.y(value)))
    return [piece for piece in found if piece]


# -- charts ----------------------------------------------------------------------------------------


def frame(panel: Panel, y_ticks: Sequence[float], y_text: Callable[[float], str]) -> str:
    """Grid, axis labels and the times below."""
    parts = []
    right = panel.x.at_high
    for value in y_ticks:
        y = panel.y(value)
        parts.append(rule(panel.x.at_low, y, right, y, "grid"))
        parts.append(label(panel.x.at_low - 8, y + 4, y_text(value), anchor="end"))
    taken = 0.0
    for tick, text in time_ticks(panel.x.low, panel.x.high, max(2, round((right - panel.x.at_low) / 105))):
        x, half = panel.x(tick), len(text) * CHARACTER / 2
        middle = min(max(x, panel.x.at_low + half - 6), right - half + 40)
        parts.append(rule(x, panel.top, x, panel.bottom, "grid"))
        if middle - half > taken:
            parts.append(label(middle, panel.bottom + 18, text, anchor="middle"))
            taken = middle + half + 6
    parts.append(rule(panel.x.at_low, panel.bottom, right, panel.bottom, "axis"))
    return "".join(parts)


def svg(content: str, width: float, height: float, name: str, css: str = "chart", **attributes: object) -> str:
    """A chart of this size in its own coordinates, described by *name* to those who cannot see it."""
    return tag(
        "svg", content, viewBox=f"0 0 {px(width)} {px(height)}", class_=css, role="img", aria_label=name, **attributes
    )


def apart(wanted: Sequence[float], gap: float, lowest: float = math.inf) -> list[float]:
    """The same places in the same order, moved down where two are nearer than *gap*, and up from *lowest* again."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + gap)
    for after in reversed(order):
        placed[after] = min(placed[after], lowest)
        lowest = placed[after] - gap
    return placed


def line_chart(
    lines: Sequence[Line],
    span: tuple[float, float],
    *,
    name: str,
    text: Callable[[float], str] | None = None,
    thresholds: Sequence[Threshold] = (),
    log: bool = False,
    floor: float | None = None,
    height: float = 190,
) -> str:
    """Lines over time with their names at their right ends, and thresholds across.

    *text* writes the values on the axis. *floor* is the lowest value the axis must show. Says so in the chart when
    there is nothing to draw.
    """
    top, bottom = 10.0, height - 26
    values = [value for line in lines for _, value in line.points if value is not None]
    reach = [*values, *(t.value for t in thresholds), *([floor] if floor is not None else [])]
    low, high = spread(reach)
    if floor is not None and low < floor:
        low = floor
    if log:
        low, high = max(min(reach, default=1.0) * 0.9, 0.1), max(reach, default=10.0) * 1.25
    panel = Panel(Axis(*span, LEFT, WIDTH - RIGHT), Axis(low, high, bottom, top, log), top, bottom)
    ticks = sparse(log_ticks(low, high), panel.y) if log else nice_ticks(low, high, 4)
    places = places_for(ticks)
    parts = [frame(panel, ticks, text or (lambda value: grouped(value, places)))]
    levels = [panel.y(mark.value) for mark in thresholds]
    parts += [rule(LEFT, y, WIDTH - RIGHT, y, "threshold") for y in levels]
    ends: list[tuple[float, str, str]] = [
        (y, mark.name, "threshold-name") for y, mark in zip(levels, thresholds, strict=True)
    ]
    for line in lines:
        drawn = pieces(line.points, panel)
        for piece in drawn:
            if len(piece) == 1:
                parts.append(tag("circle", cx=piece[0][0], cy=piece[0][1], r="2", class_=f"dot {line.css}"))
            else:
                parts.append(tag("path", d=path(piece), class_=f"line {line.css}"))
        if drawn:
            ends.append((drawn[-1][-1][1], line.name, f"end {line.css}"))
    for (_, words, css), y in zip(ends, apart([end[0] for end in ends], 13, bottom - 6), strict=True):
        parts.append(label(WIDTH - RIGHT + 6, y + 4, words, css))
    if not values:
        parts.append(label((LEFT + WIDTH - RIGHT) / 2, (top + bottom) / 2, "no position was held", "empty", "middle"))
    return svg("".join(parts), WIDTH, height, name, data_x0=span[0], data_x1=span[1])
