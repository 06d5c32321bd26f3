"""The crash report for a person: a table for the terminal, and one page with the equity curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from rich.table import Table

from twinleg.domain.money import cents
from twinleg.embedded.charts import Line, Threshold, line_chart, seconds, tag
from twinleg.embedded.report_style import STYLE
from twinleg.embedded.report_table import card, signed
from twinleg.simulate.crash import DayRuns, Run, as_json, kept_percent, worst_and_end
from twinleg.simulate.crash_run import Curve, Liquidated

TITLE = "Crash report"
WHO = (("hedged", "main"), ("unhedged", "both"), ("no stop", "third"))
HEADINGS = (
    "", "trades", "liquidated", "kept at worst, %", "kept at the end, %",
    "fees", "funding", "given up", "gained", "net cost", "refused",
)  # fmt: skip
COLUMNS_NOTE = (
    "Liquidated, at worst and at the end: hedged / unhedged with the same stop / unhedged without. The hedge’s own, "
    "in USD: fees, funding paid, what it gave up where its main leg was right, what it gained where that was wrong. "
    "Its net cost is fees + funding + given up − gained."
)


def table(days: Sequence[DayRuns]) -> Table:
    """One row per day and leverage."""
    made = Table(title="Kept of the equity, per cent: hedged / unhedged / no stop", title_justify="left")
    made.add_column("day")
    for heading in ("fall", "lev.", "trades", "liquidated", "at worst", "at the end", "hedge cost, USD"):
        made.add_column(heading, justify="right")
    for one in days:
        for number, run in enumerate(one.runs):
            first = number == 0
            made.add_row(
                one.day.name if first else "",
                f"{one.day.fall_percent:.1f} %" if first else "",
                f"{run.leverage}x",
                str(len(run.guarded.trades)),
                " / ".join(str(len(rows)) for rows in _liquidated(run)),
                " / ".join(f"{worst_and_end(curve)[0]:.1f}" for curve in _curves(run)),
                " / ".join(f"{worst_and_end(curve)[1]:.1f}" for curve in _curves(run)),
                signed(run.hedge.net),
            )
    return made


def _curves(run: Run) -> tuple[Curve, Curve, Curve]:
    return run.guarded.curve, run.alone.curve, run.bare.curve


def _liquidated(run: Run) -> tuple[list[Liquidated], ...]:
    return run.guarded.liquidated, run.alone.liquidated, run.bare.liquidated


def verdict(days: Sequence[DayRuns]) -> str:
    """What came of it, in one sentence."""
    said = as_json(days)
    trades, count = said["guarded_trades"], said["guarded_liquidations"]
    beyond = said["guarded_liquidations_without_jump"]
    if not trades:
        refused = _refused([run for one in days for run in one.runs])
        return f"No trade was made, so that nothing is shown. Refused: {refused or 'none'}."
    if not count:
        return (
            f"{trades} guarded trades: no position reached liquidation. "
            f"Without a stop {said['without_stop_liquidations']} of the same main legs did."
        )
    if not beyond:
        return f"{trades} guarded trades: {count} liquidated, each by a mark that jumped past its stop and liquidation."
    return f"{trades} guarded trades: {count} liquidated, {beyond} of them WITHOUT a jump past stop and liquidation."


def page(days: Sequence[DayRuns]) -> str:
    """The report as one HTML page without anything from elsewhere."""
    body = (
        tag("h1", TITLE)
        + tag("p", escape(verdict(days)), class_="lead")
        + _exceptions(exceptions(days))
        + "".join(_day(one) for one in days)
        + _footer()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{TITLE}</title><style>{STYLE}</style></head>"
        f'<body><div class="page">{body}</div></body></html>\n'
    )


def exceptions(days: Sequence[DayRuns]) -> list[str]:
    """Every liquidation of a guarded position, with the jump."""
    return [
        f"{run.leverage}x, {one.day.name}: {row.words}"
        for one in days
        for run in one.runs
        for row in run.guarded.liquidated
    ]


def _exceptions(rows: Sequence[str]) -> str:
    if not rows:
        return ""
    listed = "".join(tag("li", tag("span", escape(row))) for row in rows)
    return card("Guarded positions that were liquidated", "", tag("ul", listed))


def _day(one: DayRuns) -> str:
    day = one.day
    badge = (
        tag("span", "synthetic, made from a seed: not a market", class_="badge synthetic")
        if day.synthetic
        else tag("span", "candles of a file", class_="badge real")
    )
    head = tag("header", tag("h2", escape(day.name)) + badge)
    span = (seconds(day.start), seconds(day.candles[-1].closed_at))
    played = [c for c in day.candles if c.opened_at >= day.start]
    low = [(seconds(c.opened_at), float(c.low)) for c in played]
    close = [(seconds(c.closed_at), float(c.close)) for c in played]
    price = line_chart(
        [Line("price", "close", close), Line("hedge", "low", low)], span, name=f"{day.name}: price", height=170
    )
    note = f"{day.source}; {day.fall_percent:.1f} % within an hour, lowest at {day.low_at:%Y-%m-%d %H:%M} UTC."
    inner = card(f"{day.coin}, USD", note, tag("div", price, class_="scroll"))
    inner += "".join(_run(day.name, run, span) for run in one.runs) + _table(one.runs)
    return tag("section", head + inner, class_="segment synthetic" if day.synthetic else "segment")


def _run(name: str, run: Run, span: tuple[float, float]) -> str:
    lines = [
        Line(css, who, [(seconds(at), float(kept_percent(equity))) for at, equity in curve])
        for (who, css), curve in zip(WHO, _curves(run), strict=True)
    ]
    chart = line_chart(
        lines, span, name=f"{name} at {run.leverage}x: equity", thresholds=(Threshold(100.0, "start"),), height=190
    )
    endings = ", ".join(f"{kind.value} {count}" for kind, count in run.guarded.endings.most_common())
    note = f"{len(run.guarded.trades)} trades ({endings or 'none'}). Equity of both accounts, per cent of the start."
    return card(f"{run.leverage}x", note, tag("div", chart, class_="scroll"))


def _table(runs: Sequence[Run]) -> str:
    head = "".join(tag("th", escape(text), class_=_align(text)) for text in HEADINGS)
    rows = (zip(HEADINGS, _cells(run), strict=True) for run in runs)
    body = (tag("tr", "".join(tag("td", escape(text), class_=_align(name)) for name, text in row)) for row in rows)
    whole = tag("table", tag("thead", tag("tr", head)) + tag("tbody", "".join(body)))
    return card("In numbers", COLUMNS_NOTE, tag("div", whole, class_="table"))


def _align(heading: str) -> str:
    return "" if heading == "refused" else "n"


def _cells(run: Run) -> list[str]:
    cost = run.hedge
    ends = [worst_and_end(curve) for curve in _curves(run)]
    return [
        f"{run.leverage}x",
        str(len(run.guarded.trades)),
        " / ".join(str(len(rows)) for rows in _liquidated(run)),
        " / ".join(f"{worst:.2f}" for worst, _ in ends),
        " / ".join(f"{end:.2f}" for _, end in ends),
        *(f"{cents(amount, 2):f}" for amount in (cost.fees, cost.funding, cost.given_up, cost.gained)),
        signed(cost.net),
        _refused([run]) or "none",
    ]


def _refused(runs: Sequence[Run]) -> str:
    """How often each reason refused an entry, the most frequent first."""
    codes = sum((run.guarded.refused for run in runs), Counter[str]())
    return ", ".join(f"{code} {count}" for code, count in codes.most_common())


def _footer() -> str:
    return tag(
        "footer",
        "Paper venue, each minute walked in at least 22 points. The entry caps and the day’s breakers are lifted so "
        "that trades go on, and the gate’s demand that a stop be three recent minutes’ ranges away too: it would have "
        "kept the desk out of most of this.",
    )
