"""The scenes: the execution of one intent, each risk action, each halt level, each as a short run of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput
from twinleg.domain.messages import CloseTrade, Topic
from twinleg.domain.orders import SignerRole
from twinleg.domain.trades import TradeState
from twinleg.simulate.enumerate_faults import HALTS
from twinleg.simulate.enumerate_stage import COIN, Do, Scene, Stage

OPENED = (64.0, 95.0)
"""From the alert to the end of the first sweep that sees the trade."""
LATER = (110.0, 165.0)
"""A sweep of a trade that has been open for a while."""
LONGER = (110.0, 215.0)
"""Two of them."""
HAPPENS = 100.0
RISING = ((2, 1.0, 1.004),)
"""Away from an entry that buys at the mark."""
REFUSED_HEDGE = ("", "order_rejected", "order_rejected")
STEEP = {
    "stop_percent": "12",
    "target_percent": "30",
    "loss_at_stop_percent_max": "10",
    "net_stop_percent": "50",
    "net_target_percent": "50",
    "ladder_warn_percent": "98",
    "ladder_margin_percent": "95",
    "ladder_cut_percent": "90",
    "ladder_hysteresis_percent": "1",
}
"""Limits under which the ladder's rungs lie within a few per cent of the entry, before the stop."""


# -- what must have come of a run in which nothing went wrong -------------------------------------


def _state(*wanted: str) -> Callable[[Stage], str]:
    def ends(stage: Stage) -> str:
        found = [t.state.value for t in stage.trades()]
        return "" if sorted(found) == sorted(wanted) else f"the trades are {found}, not {list(wanted)}"

    return ends


def _open_with(what: str, holds: Callable[[Stage], bool]) -> Callable[[Stage], str]:
    def ends(stage: Stage) -> str:
        return _state("OPEN")(stage) or ("" if holds(stage) else what)

    return ends


def _flat_and(level: str) -> Callable[[Stage], str]:
    def ends(stage: Stage) -> str:
        state = stage.person.engine(SignerRole.RISK).control()[0].state.value
        held = stage.held("main") or stage.held("hedge")
        return "" if state == level and not held else f"trading is {state}, held {held}"

    return ends


def _still(level: str, *wanted: str) -> Callable[[Stage], str]:
    def ends(stage: Stage) -> str:
        state = stage.person.engine(SignerRole.RISK).control()[0].state.value
        return _state(*wanted)(stage) or ("" if state == level else f"trading is {state}")

    return ends


# -- what people do -------------------------------------------------------------------------------


def _ask(fraction: str) -> Do:
    """Somebody asks for the trade, or a part of it, to be closed."""

    def do(stage: Stage) -> None:
        trade = stage.trades()[0]
        request = CloseTrade(
            trade_id=trade.trade_id, fraction=Decimal(fraction), reason="asked", request_id=f"asked-{fraction}"
        )
        stage.queue.add(Topic.CLOSES, request.model_dump_json().encode(), "", {"kind": "close"})

    return do


def _cancel(account: str, *kinds: str) -> Do:
    """The owner cancels stops (sl) or targets (tp) by hand."""

    def do(stage: Stage) -> None:
        held = stage.venue.engine.state.accounts[stage.addresses[account]].orders.values()
        ids = [order.oid for order in held if order.tpsl in kinds]
        asset = stage.venue.engine.state.markets[COIN].listing.asset
        stage.by_owner(account, {"type": "cancel", "cancels": [{"a": asset, "o": oid} for oid in ids]})

    return do


def _trade(account: str, part: str | None, size: str = "0") -> Do:
    """The owner trades by hand: reduces the position by a part of it, or (None) buys *size*."""

    def do(stage: Stage) -> None:
        market, held = stage.venue.engine.state.markets[COIN], stage.held(account)
        amount = Decimal(size) if part is None else (abs(held) * Decimal(part)).quantize(Decimal("0.00001"))
        buys = part is None or held < 0
        price = (market.mark * (Decimal("1.05") if buys else Decimal("0.95"))).quantize(Decimal(1))
        order = {
            "a": market.listing.asset,
            "b": buys,
            "p": str(price),
            "s": f"{amount.normalize():f}",
            "r": part is not None,
            "t": {"limit": {"tif": "Ioc"}},
        }
        stage.by_owner(account, {"type": "order", "orders": [order], "grouping": "na"})

    return do


def _both(*does: Do) -> Do:
    def do(stage: Stage) -> None:
        for each in does:
            each(stage)

    return do


def _set(level: Halt) -> Do:
    return lambda stage: stage._set(level)


# -- execute --------------------------------------------------------------------------------------


def _execute() -> list[Scene]:
    slow = {"entry_order": '"limit"', "limit_order_seconds_max": "4"}
    return [
        Scene("market", "an alert opens a trade, both legs filled at once", _state("OPEN"), OPENED),
        Scene("limit", "the entry rests at the mark until it is filled", _state("OPEN"), OPENED, limits=slow),
        Scene(
            "limit_unfilled",
            "the entry rests at the mark and is cancelled in time",
            _state("REFUSED"),
            OPENED,
            limits=slow,
            prices=RISING,
        ),
        Scene(
            "partial",
            "the main leg is filled in part",
            _state("OPEN"),
            OPENED,
            answers=("partly_filled",),
        ),
        Scene(
            "partial_hedge",
            "the hedge is filled in part",
            _state("OPEN"),
            OPENED,
            answers=("", "partly_filled"),
        ),
        Scene(
            "hedge_refused",
            "the hedge is refused, so that the main leg is unwound",
            _state("CLOSED"),
            OPENED,
            answers=REFUSED_HEDGE,
        ),
        Scene(
            "close",
            "an open trade is closed on request",
            _state("CLOSED"),
            (99.0, 155.0),
            happens=[(HAPPENS, _ask("1"))],
        ),
        Scene(
            "reduce",
            "half of an open trade is closed on request",
            _state("OPEN"),
            (99.0, 155.0),
            happens=[(HAPPENS, _ask("0.5"))],
        ),
        Scene(
            "reverse",
            "an alert the other way closes the trade and opens another",
            _state("CLOSED", "OPEN"),
            (99.0, 155.0),
            alerts=[(65.0, "buy"), (HAPPENS, "reverse_to_short")],
        ),
    ]


# -- risk -----------------------------------------------------------------------------------------


def _taken_up(state: str, function: str, word: str, end: str, **more: Any) -> Scene:
    return Scene(
        f"taken_up_{state.lower()}",
        f"the sweep takes up a trade at rest at {state}: its process died and its message never comes again",
        _state(end),
        (76.0, 160.0),
        prelude=(function, word),
        redelivers=False,
        **more,
    )


def _risk() -> list[Scene]:
    def risk(name: str, text: str, end: Callable[[Stage], str], do: Do | None = None, **more: Any) -> Scene:
        happens = [(HAPPENS, do)] if do else []
        return Scene(name, text, end, more.pop("watched", LATER), happens=happens, **more)

    closed = _state("CLOSED")
    hedge_alone = _cancel("hedge", "tp")
    return [
        risk("quiet", "nothing is to be done", _state("OPEN")),
        risk("rearm_main", "the main leg's stop is missing", _state("OPEN"), _cancel("main", "sl")),
        risk("rearm_hedge", "the hedge's stop is missing", _state("OPEN"), _cancel("hedge", "sl")),
        risk(
            "warn",
            "the ladder's first rung",
            _open_with("no rung", lambda s: bool(s.trades()[0].rung)),
            prices=[(3, 0.985, 0.985)],
            limits=STEEP,
        ),
        risk(
            "margin",
            "the ladder adds margin",
            _open_with("no margin", lambda s: s.trades()[0].margin_added),
            prices=[(3, 0.97, 0.97)],
            limits=STEEP,
        ),
        risk(
            "cut",
            "the ladder cuts both legs",
            _open_with("no cut", lambda s: s.trades()[0].cut),
            prices=[(3, 0.945, 0.945), (4, 1.0, 1.0)],
            limits=STEEP,
            watched=LONGER,
        ),
        risk(
            "ladder_close",
            "the ladder cuts, and then closes both legs",
            closed,
            prices=[(3, 0.945, 0.945)],
            limits=STEEP,
            watched=LONGER,
        ),
        risk("stopped", "the main leg's stop fires, the hedge stays", closed, hedge_alone, prices=[(3, 0.985, 0.985)]),
        risk(
            "hedge_stopped",
            "the hedge's stop fires, the main leg stays",
            closed,
            _cancel("main", "tp"),
            prices=[(3, 1.03, 1.03)],
        ),
        risk(
            "liquidated",
            "the main leg is liquidated, the hedge stays",
            closed,
            _both(hedge_alone, _cancel("main", "sl", "tp"), _cancel("hedge", "sl")),
            prices=[(3, 0.70, 0.70)],
        ),
        risk("main_by_hand", "the main leg is closed by hand", closed, _trade("main", "1")),
        risk("hedge_by_hand", "the hedge is closed by hand", closed, _trade("hedge", "1")),
        risk("both_by_hand", "both legs are closed by hand", closed, _both(_trade("main", "1"), _trade("hedge", "1"))),
        risk(
            "corrected",
            "a part of the main leg is closed by hand: the size is adopted",
            _state("OPEN"),
            _trade("main", "0.05"),
        ),
        risk("drift", "half of the hedge is closed by hand: it fits no more", closed, _trade("hedge", "0.5")),
        risk("time_limit", "the longest holding time is over", closed, limits={"holding_seconds_max": "60"}),
        risk("net_stop", "the net loss is enough", closed, limits={"net_stop_percent": "0.005"}, watched=(76.0, 125.0)),
        risk(
            "net_target",
            "the net profit is enough",
            closed,
            prices=[(3, 1.008, 1.008)],
            limits={"net_target_percent": "0.05"},
        ),
        risk(
            "orphan",
            "a position nobody recorded is closed",
            _flat_and("ENABLED"),
            _trade("main", None, "0.01"),
            alerts=(),
            limits={"foreign": '"close"'},
        ),
        _taken_up("PROPOSED", "execute", "_review", "REFUSED", limits={"intent_expiry_seconds": "10"}),
        _taken_up("APPROVED", "execute", "_send_main", "OPEN"),
        _taken_up("MAIN_SENT", "execute", "_confirm_main", "OPEN"),
        _taken_up("MAIN_FILLED_UNHEDGED", "execute", "_send_hedge", "CLOSED"),
        _taken_up("HEDGE_SENT", "execute", "_confirm_hedge", "CLOSED"),
        _taken_up("UNWINDING", "execute", "closing.close", "CLOSED", answers=REFUSED_HEDGE),
        _taken_up("CLOSING", "execute", "closing.close", "CLOSED", happens=[(72.0, _ask("1"))]),
        _taken_up("REDUCING", "execute", "closing.cut", "OPEN", happens=[(72.0, _ask("0.5"))]),
    ]


# -- halt -----------------------------------------------------------------------------------------

PHASES: Mapping[str, str] = {
    "approved": "_send_main",
    "main_sent": "_confirm_main",
    "main_filled": "_send_hedge",
    "hedge_sent": "_confirm_hedge",
}


def _halt() -> list[Scene]:
    found: list[Scene] = []
    opening = Scene("any_step", "the trading state is set at any step of the opening", _state("OPEN"), OPENED)
    found.append(_with_halts(opening))
    limit = {"entry_order": '"limit"', "limit_order_seconds_max": "4"}
    found.append(
        _with_halts(
            Scene(
                "any_step_limit",
                "as any_step, of a resting entry",
                _state("REFUSED"),
                OPENED,
                limits=limit,
                prices=RISING,
            )
        )
    )
    for level in (Halt.REDUCING, Halt.FLATTEN, Halt.HALTED):
        name, flatten = level.value.lower(), level is Halt.FLATTEN
        ended = _flat_and("HALTED") if flatten else None
        for phase in ("approved", "main_sent", "main_filled", "hedge_sent"):
            end = ended or _still(level.value, "REFUSED" if phase == "approved" else "CLOSED")
            if phase == "hedge_sent" and not flatten:
                end = _still(level.value, "OPEN")
            found.append(
                Scene(
                    f"{name}_{phase}",
                    f"{level} is set when the trade is at {phase.upper()}",
                    end,
                    (64.0, 165.0 if flatten else 95.0),
                    prelude=("execute", PHASES[phase]),
                    prelude_do=_set(level),
                )
            )
        found.append(
            Scene(
                f"{name}_open",
                f"{level} is set while a trade is open",
                ended or _still(level.value, "OPEN"),
                (99.0, 215.0),
                happens=[(HAPPENS, _set(level))],
            )
        )
        found.append(
            Scene(
                f"{name}_unguarded",
                f"{level} is set while an open trade's stop is missing",
                ended or _still(level.value, "OPEN"),
                (99.0, 215.0),
                happens=[(HAPPENS, _both(_cancel("main", "sl"), _set(level)))],
            )
        )
    return found


def _with_halts(scene: Scene) -> Scene:
    return replace(scene, extra_kinds=tuple(HALTS))


GROUPS: Mapping[str, Callable[[], list[Scene]]] = {"execute": _execute, "risk": _risk, "halt": _halt}


def scenes(group: str) -> list[Scene]:
    """The scenes of ``execute``, ``risk`` or ``halt``."""
    return GROUPS[group]()


def scene_of(group: str, name: str) -> Scene:
    """One scene by name; BadInput lists them."""
    found = {scene.name: scene for scene in scenes(group)}
    if name not in found:
        raise BadInput(f"{name!r} is no scene of {group}; there are {', '.join(found)}")
    return found[name]


ENDED_WELL = frozenset({TradeState.OPEN, TradeState.CLOSED, TradeState.REFUSED})
