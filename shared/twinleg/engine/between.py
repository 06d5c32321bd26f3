"""Between two sweeps: open trades are judged again every few seconds, in the invocation that swept.

A turn reads only the states of the accounts that hold something: positions with their marks. By them and by the resting
orders that the sweep read, each open trade is judged as the sweep judges it (`watch.is_quiet`). Only a trade that is
not quiet costs more: its accounts are read whole, and if it is not quiet then either, it is looked after.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from twinleg.domain.errors import TwinlegError
from twinleg.domain.trades import ENDED
from twinleg.domain.watched import Watched
from twinleg.engine.watch import RESTING, Reading

if TYPE_CHECKING:
    from twinleg.engine.sweep import Sweep

log = logging.getLogger("twinleg")

LAST_TURN_SECONDS = 45
"""A turn begins at most so long after the sweep: what it finds must be done before the invocation ends, at 55 s."""


class Between:
    """The turns after one sweep."""

    def __init__(self, sweep: Sweep, started: datetime) -> None:
        self.sweep, self.engine = sweep, sweep.engine
        self.until = started + timedelta(seconds=LAST_TURN_SECONDS)
        held = sweep.holders.values()
        self.trades: dict[str, Watched] = {trade.trade_id: trade for trade in held if trade.state in RESTING}

    def run(self) -> None:
        """Turn after turn until the time is up, or nothing is open. Failures are the sweep's."""
        every = timedelta(seconds=self.engine.desk.limits.sweep_every_seconds)
        while every and self.trades and self.engine.now() + every <= self.until:
            self.engine.clock.sleep(every.total_seconds())
            self._turn()

    def _turn(self) -> None:
        names = {leg.account: None for trade in self.trades.values() for leg in (trade.main, trade.hedge)}
        readings = {name: self._glance(name) for name in names}
        for trade in list(self.trades.values()):
            if not self.sweep.is_quiet(trade, readings):
                self.sweep.attempt(partial(self._look_after, trade))

    def _glance(self, name: str) -> Reading | None:
        """The account's state, beside the orders and the mode that the sweep read. None judges nothing by it."""
        known = self.sweep.readings.get(name)
        if known is None:
            return None
        try:
            state = self.engine.venues.of(name).account(name)
        except TwinlegError as failure:
            log.warning("between two sweeps: %s", failure)
            return None
        if state.at < known.state.at:  # another node, which lags
            return None
        return replace(known, state=state, positions={p.market: p for p in reversed(state.positions)})

    def _look_after(self, trade: Watched) -> None:
        for leg in (trade.main, trade.hedge):
            self.sweep.readings[leg.account] = self.sweep.read(leg.account)
        if self.sweep.is_quiet(trade, self.sweep.readings):
            return
        control, _ = self.engine.control()
        self.sweep.protection.look_after(trade.trade_id, control, self.sweep.readings)
        now, _ = self.sweep.book.load(trade.trade_id)
        for leg in now.legs:
            self.sweep.readings[leg.account] = self.sweep.read(leg.account)
        if now.state in ENDED:
            del self.trades[now.trade_id]
        else:
            self.trades[now.trade_id] = now
