"""What a person does: halt, reduce, flatten, resume, close. All of it through the store, so alike everywhere."""

from __future__ import annotations

from twinleg.domain.control import CONTROL_ID, Control, Halt
from twinleg.domain.errors import BadInput, Conflict
from twinleg.domain.ids import intent_id
from twinleg.domain.messages import CloseTrade, EventKind, Topic
from twinleg.domain.trades import ENDED
from twinleg.engine.ports import Create, Exists, Replace, Write
from twinleg.engine.records import document
from twinleg.engine.system import Engine
from twinleg.engine.tradebook import TradeBook


def set_trading(engine: Engine, state: Halt, *, why: str, by: str) -> Control:
    """Change the trading state and record who did it. Leaving HALTED or FLATTEN for ENABLED is a resume.

    FLATTEN is latched: nothing but the HALTED follows it that the sweep writes, once flat is read.
    """
    for _ in range(10):
        now, (current, version) = engine.now(), engine.control()
        if current.state is Halt.FLATTEN and state is not Halt.FLATTEN:
            raise BadInput(f"trading is FLATTEN since {current.since}: wait until it is flat and HALTED, then resume")
        control = Control(state=state, why=why, by=by, since=now)
        data = document(control) | {"summary": f"{state} by {by}: {why}"}
        write: Write = Replace("control", CONTROL_ID, data, version) if version else Create("control", CONTROL_ID, data)
        try:
            engine.store.batch([write])
        except (Conflict, Exists):
            continue
        kind = EventKind.RESUMED if state is Halt.ENABLED else EventKind.HALTED
        engine.announce(kind, f"{current.state} -> {state} by {by}: {why}")
        return control
    raise Conflict("the control document changes too fast to be written")


def request_close(engine: Engine, trade_id: str, *, by: str) -> str:
    """Ask for a trade to be closed. ``all`` asks it of every open one. What was asked, in words."""
    book = TradeBook(engine)
    ids = list(book.desk()[0].open_trades) if trade_id == "all" else [trade_id]
    asked: list[str] = []
    for id in ids:
        if engine.store.get("trades", id) is None:
            raise BadInput(f"there is no trade {id!r}; twinleg trades lists them")
        trade, version = book.load(id)
        if trade.state in ENDED:
            asked.append(f"{id} is {trade.state} already")
            continue
        request = CloseTrade(
            trade_id=id, reason=f"closed by {by}", request_id=intent_id("person", trade.main.market, f"{id}|{version}")
        )
        engine.bus.publish(Topic.CLOSES, request.model_dump_json().encode(), attributes={"kind": "close"})
        asked.append(f"{id}: close requested")
    return "\n".join(asked) or "there is no open trade"
