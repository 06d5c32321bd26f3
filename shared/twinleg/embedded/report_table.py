"""The trade table, and how the page writes numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from html import escape

from twinleg.domain.money import plain
from twinleg.domain.orders import LegRole
from twinleg.domain.trades import Leg, Trade
from twinleg.embedded.charts import grouped, tag
from twinleg.embedded.report_data import ending

DASH = "–"

COLUMNS = (
    ("#", ""), ("trade", ""), ("leg", ""), ("side", ""), ("size", "n"), ("entry", "n"), ("exit", "n"),
    ("fees", "n"), ("funding", "n"), ("leg P&L", "n"), ("P&L", "n"), ("closed", ""),
)  # fmt: skip


def trade_table(trades: Sequence[Trade]) -> str:
    """Every trade, two lines each: main leg and hedge."""
    if not trades:
        return card("Trades", "", tag("p", "No trade was made.", class_="note"))
    head = tag("thead", tag("tr", "".join(tag("th", escape(name), class_=css or None) for name, css in COLUMNS)))
    rows = "".join(_rows(number, trade) for number, trade in enumerate(trades, 1))
    note = "Money in USD; fees and funding positive when paid, and taken off in P&L. Times UTC."
    return card("Trades", note, tag("div", tag("table", head + rows), class_="table"))


def _rows(number: int, trade: Trade) -> str:
    opened = trade.opened_at or trade.created_at
    until = trade.closed_at
    both: dict[str, object] = {"rowspan": 2}
    identity = f"<b>{number}</b>" + tag("span", escape(trade.trade_id), class_="id")
    held = f"held {held_for(until - opened)}" if until else trade.state.value
    when = f"{opened:%d %b %H:%M:%S}<br>" + tag("small", escape(f"{trade.intent.direction}, {held}"))
    when += "<br>" + tag("small", escape(trade.main.market))
    why = f"<b>{escape(ending(trade))}</b><br>{escape(trade.why_closed)}"
    pnl = tag("b", signed(trade.pnl_usd), class_="good" if trade.pnl_usd > 0 else "bad" if trade.pnl_usd < 0 else None)
    first = (
        tag("td", identity, **both)
        + tag("td", when, class_="when", **both)
        + _leg_cells(trade.main)
        + tag("td", pnl, class_="n", **both)
        + tag("td", why, class_="why", **both)
    )
    return tag("tbody", tag("tr", first) + tag("tr", _leg_cells(trade.hedge)))


def _leg_cells(leg: Leg) -> str:
    role = "main" if leg.role is LegRole.MAIN else "hedge"
    cells = [
        tag(
            "td", role + (tag("small", escape(f" {leg.account}")) if leg.account != role else ""), class_=f"leg {role}"
        ),
        tag("td", escape(f"{leg.side} {leg.leverage}×"), class_="when"),
        *(
            tag("td", text, class_="n")
            for text in (
                plain(leg.size_filled),
                figure(leg.entry_price) if leg.size_filled else DASH,
                (figure(leg.exit_price) if leg.size_closed else DASH) + (" liquidated" if leg.liquidated else ""),
                f"{leg.fees_usd:.2f}",
                grouped(float(round(leg.funding_usd, 2)) + 0.0, 2),
                signed(leg.realised_usd - leg.fees_usd - leg.funding_usd),
            )
        ),
    ]
    return "".join(cells)


def card(heading: str, note: str, inner: str, css: str = "card") -> str:
    """A box with a heading, a line under it, and what it holds."""
    return tag(
        "div", tag("h3", escape(heading)) + (tag("p", escape(note), class_="note") if note else "") + inner, class_=css
    )


def signed(amount: Decimal) -> str:
    """Money with its sign, to the cent."""
    shown = grouped(float(round(amount, 2)) + 0.0, 2)
    return f"+{shown}" if round(amount, 2) > 0 else shown


def figure(price: Decimal) -> str:
    """A price as it is read, without needless zeros."""
    return f"{float(price):,.8g}"


def held_for(time: timedelta) -> str:
    """``1 h 05 min``, ``4 min 09 s``, ``12 s``."""
    whole = int(time.total_seconds())
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours} h {minutes:02} min" if hours else (f"{minutes} min {rest:02} s" if minutes else f"{rest} s")
