"""What a minute's sweep costs, however many positions there are: documents read and written, seconds, dollars a month.

    python bench/sweep.py [POSITIONS …]        (default: 1 100 1000 10000)

Two accounts at a venue of ours that stands still hold the positions, every one behind its stop, each two of them (main
leg and hedge) of one open trade; the records are on the Firestore emulator. What is counted is what Firestore bills,
at the adapter that sends it. The seconds are those of a whole sweep, the emulator's included and the venue's network
left out; on Google's own Firestore each of the calls takes some 10 ms more. Each line is one sweep:

    quiet    nothing changed since the sweep before
    risk     10 positions came 10 % of their liquidation distance nearer to liquidation
    trades   5 trades (10 positions) were cut by another function since the sweep before
    lost     somebody deleted both books: everything is read and written again (up to 1,000 positions)
"""

from __future__ import annotations

import argparse
import os
import secrets
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources

from twinleg.adapters.gcp import emulators
from twinleg.adapters.gcp.firestore import Counts, FirestoreStore
from twinleg.adapters.local.clocks import ReplayClock
from twinleg.domain.control import CONTROL_ID, Control, Halt
from twinleg.domain.messages import HedgedIntent, IntentAction, LegPlan
from twinleg.domain.orders import AccountState, LegRole, OrderKind, Position, RestingOrder, Side
from twinleg.domain.signals import Direction
from twinleg.domain.trades import Leg, Trade, TradeState
from twinleg.engine import books
from twinleg.engine.config import Account, Desk
from twinleg.engine.pages import UNSWEPT, trade_document
from twinleg.engine.ports import Bus, Create, Replace, SignerRole, Venue, Venues, Write
from twinleg.engine.records import document
from twinleg.engine.sweep import on_sweep
from twinleg.engine.system import Engine
from twinleg.engine.watch import Reading
from twinleg.risk.limits import Limits
from twinleg.risk.own_figures import OwnFigures

D = Decimal
SWEEPS_A_MONTH = 30 * 24 * 60
START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ACCOUNTS = ("main", "hedge")
EQUITY_USD = D(100_000_000)
LOST_MAX = 1000


# -- a venue that stands still -------------------------------------------------------------------


class StillVenue(Venue):
    """Holds the positions it was given, each behind its stop. It is only read."""

    name = "still"

    def __init__(self, clock: ReplayClock) -> None:
        self._clock = clock
        self._positions: dict[str, dict[str, Position]] = {account: {} for account in ACCOUNTS}
        self._orders: dict[str, dict[str, RestingOrder]] = {account: {} for account in ACCOUNTS}

    def put(self, leg: Leg, mark: Decimal) -> None:
        """Hold what is open of a leg, at this mark."""
        long = leg.side is Side.BUY
        self._positions[leg.account][leg.market] = Position(
            account=leg.account, market=leg.market, size=leg.size_open * leg.side.sign, entry_price=leg.entry_price,
            mark_price=mark, unrealised_usd=(mark - leg.entry_price) * leg.size_open * leg.side.sign,
            liquidation_price=D(800) if long else D(1200), margin_used_usd=leg.size_open * 250,
            maintenance_usd=leg.size_open * 20, leverage=leg.leverage, isolated=True, funding_paid_usd=D(0),
        )  # fmt: skip
        self._orders[leg.account][leg.market] = RestingOrder(
            client_order_id=None, order_id="1", market=leg.market, side=leg.side.opposite, size=leg.size_open,
            limit_price=leg.stop_price, trigger_price=leg.stop_price, reduce_only=True, kind=OrderKind.STOP,
        )  # fmt: skip

    def account(self, account: str) -> AccountState:
        return AccountState(
            account=account, at=self._clock.now(), equity_usd=EQUITY_USD, free_usd=EQUITY_USD, margin_used_usd=D(0),
            cross_equity_usd=EQUITY_USD, cross_maintenance_usd=D(0), positions=tuple(self._positions[account].values()),
        )  # fmt: skip

    def open_orders(self, account: str) -> tuple[RestingOrder, ...]:
        return tuple(self._orders[account].values())

    def mode(self, account: str) -> str:  # noqa: ARG002
        return "disabled"

    def net_deposits_usd(self, account: str, since: datetime) -> Decimal:  # noqa: ARG002
        return D(0)

    def signer(self, account: str, role: SignerRole) -> str:
        return f"0x{account}-{role}"

    def key_expires_at(self, account: str, role: SignerRole) -> datetime | None:  # noqa: ARG002
        return None


class NoBus(Bus):
    """Nothing is told: a sweep that tells something is not the one that is measured here."""


# -- trades --------------------------------------------------------------------------------------


def open_trade(number: int) -> Trade:
    """An open trade in a market of its own; in every other one the long side is the hedge's account's."""
    market, id = f"still:M{number}", f"M{number}-macd-{number:016x}"
    main, hedge = ACCOUNTS if number % 2 == 0 else ACCOUNTS[::-1]
    sides = {LegRole.MAIN: (main, Side.BUY, D(4)), LegRole.HEDGE: (hedge, Side.SELL, D(1))}
    plans = {
        role: LegPlan(role=role, account=account, market=market, side=side, leverage=4, margin_share=D("0.5"))
        for role, (account, side, _) in sides.items()
    }
    intent = HedgedIntent(
        intent_id=id, action=IntentAction.OPEN, strategy="macd", market=market, direction=Direction.LONG,
        confidence=D("0.8"), stop_percent=D(10), target_percent=D(20), budget_percent=D(5),
        holding_seconds_max=30 * 86_400, slippage_bps=D(50), range_percent=D("0.05"), reference_price=D(1000),
        trigger="2026-01-05T12:00:00Z", trigger_at=START, reason="a bench", created_at=START, expires_at=START,
        main=plans[LegRole.MAIN], hedge=plans[LegRole.HEDGE],
    )  # fmt: skip
    legs = {
        role.value: Leg(
            role=role, account=account, market=market, side=side, leverage=4, size_approved=size,
            entry_limit_price=D(1005), stop_price=D(900) if side is Side.BUY else D(1100), target_price=D(1200),
            size_filled=size, entry_price=D("1000.123456"), entered_at=START, fees_usd=D("1.2345"),
            entry_liquidation_distance=D("0.2"),
        )
        for role, (account, side, size) in sides.items()
    }  # fmt: skip
    return Trade(
        trade_id=id, intent=intent, state=TradeState.OPEN, created_at=START, updated_at=START, opened_at=START, **legs
    )  # fmt: skip


# -- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    positions: int
    sweep: str
    used: Counts
    seconds: float

    @property
    def dollars_a_month(self) -> Decimal:
        """Of Firestore's operations if every sweep were like this one, before what is free."""
        prices = tomllib.loads(resources.files("twinleg").joinpath("cost/prices.toml").read_text())
        each = {"reads": self.used.reads, "writes": self.used.writes, "deletes": self.used.deletes}
        return sum(D(prices[n]["usd"]) / prices[n]["per"] * count * SWEEPS_A_MONTH for n, count in each.items())


class SweepBench:
    """A desk with so many positions in two accounts, and trades, books and pages as earlier sweeps left them."""

    def __init__(self, positions: int, host: str) -> None:
        self.positions = positions
        self.clock = ReplayClock(START)
        self.venue = StillVenue(self.clock)
        self.store = FirestoreStore(f"t-{secrets.token_hex(6)}", emulator_host=host, timeout_seconds=30)
        names = {name: Account(name, "still", "0x" + name.encode().hex().zfill(40)) for name in ACCOUNTS}
        desk = Desk(accounts=names, markets={}, strategies={}, limits=Limits(foreign="ignore"))
        venues = Venues({"still": self.venue}, dict.fromkeys(ACCOUNTS, "still"))
        self.engine = Engine(desk, self.clock, NoBus(), self.store, venues, SignerRole.RISK)
        self.trades = [open_trade(number) for number in range((positions + 1) // 2)]
        legs = [leg for trade in self.trades for leg in trade.legs][:positions]
        if positions % 2:  # one position alone: a trade that waits for a person with its hedge gone
            alone = self.trades[-1]
            closed = alone.hedge.model_copy(update={"size_closed": alone.hedge.size_filled})
            self.trades[-1] = alone.with_leg(closed).to(TradeState.NEEDS_A_PERSON)
        for leg in legs:
            self.venue.put(leg, D(1000))
        self._seed()

    def _seed(self) -> None:
        control = document(Control(state=Halt.ENABLED, why="a bench", by="a bench", since=START))
        self.store.create("control", CONTROL_ID, control)
        for part in chunks([Create("trades", t.trade_id, trade_document(t) | {UNSWEPT: False}) for t in self.trades]):
            self.store.batch(part)
        seen = [books.Seen(trade, "", False) for trade in self.trades]
        for name in ACCOUNTS:
            book = books.read_book(self.store, name)
            parts = books.parts_of(book, (s for s in seen if s.trade.main.account == name))
            state = Reading.of(self.venue.account(name), self.venue.open_orders(name), "disabled")
            memory = books.memory_of(book, state, [], parts, self.clock.now(), 0, OwnFigures({}, None), None)
            books.write_book(self.store, book, parts, memory, [])
        for _ in range(4):  # the positions' pages, then the accounts'
            self.sweep("")

    def sweep(self, name: str) -> Row:
        self.clock.sleep(60)
        before, started = self.store.counts, time.perf_counter()
        on_sweep(self.engine)
        seconds = time.perf_counter() - started
        return Row(self.positions, name, self.store.counts - before, seconds)

    def quiet(self) -> Row:
        return self.sweep("quiet")

    def risk(self) -> Row:
        """The marks of 10 markets fall by 4 %, from 100 % of the main leg's liquidation distance left to 80."""
        for trade in self.trades[:10]:
            for leg in trade.legs:
                self.venue.put(leg, D(960))
        return self.sweep("risk")

    def cut(self) -> Row:
        """Another function cut trades: it wrote their records, the venue holds half of each leg."""
        for trade in self.trades[10:15]:
            half = trade
            for leg in trade.legs:
                half = half.with_leg(leg.model_copy(update={"size_closed": leg.size_filled / 2}))
            stored = self.store.get("trades", trade.trade_id)
            assert stored is not None
            self.store.compare_and_set("trades", trade.trade_id, trade_document(half), stored.version)
            for leg in half.legs:
                self.venue.put(leg, D(1000))
        return self.sweep("trades")

    def lost(self) -> Row:
        self.store.batch([Replace("books", name, {}) for name in ACCOUNTS])
        desk = {"open_trades": [trade.trade_id for trade in self.trades]}
        self.store.batch([Replace("control", "desk", desk)])
        return self.sweep("lost")

    def rows(self) -> list[Row]:
        found = [min((self.quiet() for _ in range(3)), key=lambda row: row.seconds)]
        if self.positions >= 30:
            found += [self.risk(), self.cut()]
            self.sweep("")
        if 30 <= self.positions <= LOST_MAX:
            found.append(self.lost())
        return found

    def close(self) -> None:
        self.store.close()


def chunks(writes: Sequence[Write], size: int = 200) -> Iterable[Sequence[Write]]:
    return (writes[start : start + size] for start in range(0, len(writes), size))


def measured(positions: Sequence[int], host: str) -> list[Row]:
    """The rows of the table, for each number of positions."""
    rows: list[Row] = []
    for count in positions:
        bench = SweepBench(count, host)
        rows += bench.rows()
        bench.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("positions", nargs="*", type=int, default=[1, 100, 1000, 10_000])
    counts = parser.parse_args().positions
    emulator = emulators.firestore(os.environ)
    try:
        print(f"{'positions':>9}  {'sweep':<7}{'reads':>7}{'writes':>8}{'seconds':>9}{'USD a month':>13}")
        for count in counts:
            for row in measured([count], emulator.host):
                print(
                    f"{row.positions:>9,}  {row.sweep:<7}{row.used.reads:>7,}{row.used.writes:>8,}"
                    f"{row.seconds:>9.3f}{row.dollars_a_month:>13.2f}",
                    flush=True,
                )
    finally:
        emulator.stop()


if __name__ == "__main__":
    main()
