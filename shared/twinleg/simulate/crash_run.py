"""One crash day at one leverage: guarded hedged trades through the whole system, and what they are compared with.

The functions, the queue, the records and the paper venue run in this process, minute by minute, on one clock. The
same main legs are then traded alone, with the same stop and without any, on a venue of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property, partial
from typing import Any

from twinleg import entry, wire
from twinleg.adapters.local.bus import Envelope, LocalBus
from twinleg.adapters.local.clocks import ReplayClock
from twinleg.adapters.local.secrets import MappingSecrets
from twinleg.adapters.local.sqlite import MEMORY, Database
from twinleg.adapters.local.store import SqliteStore
from twinleg.adapters.local.venue_clock import order_takes_time
from twinleg.adapters.venues.hyperliquid import AccountAddress, HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_wire import agent_approval_body, signer_from
from twinleg.bootstrap import Once, System, account_addresses, paper_key, paper_secrets
from twinleg.domain.candles import MINUTE, ms_from_utc, utc_from_ms
from twinleg.domain.control import Halt
from twinleg.domain.errors import InvariantBroken, Unavailable
from twinleg.domain.money import plain
from twinleg.domain.trades import Trade
from twinleg.embedded.replay import alert_json, settings_text
from twinleg.embedded.report_data import Ending, ending
from twinleg.embedded.summary import refused_by_code
from twinleg.embedded.topology import PUSHED
from twinleg.engine.control import set_trading
from twinleg.engine.ports import SignerRole, Steps, Venues
from twinleg.paper.accounts import Account, Position, isolated_margin, liquidation_price
from twinleg.paper.options import VenueOptions
from twinleg.paper.venue import Venue
from twinleg.simulate.crash_days import CrashDay

EQUITY_USD = Decimal(10_000)
"""Of each account."""
PATH_POINTS = 22
"""Of the path through each minute, at least."""
BLOCK_MINUTES, EVERY_MINUTES = 60, 5
"""The direction changes every so many minutes; an alert comes every so many."""
ALERT_AFTER = timedelta(seconds=30)


def crash_limits(leverage: int, given: Mapping[str, str]) -> dict[str, str]:
    """What differs from the defaults: the leverage, and what would keep trades from being made on such a day.

    The margin-ratio rungs are those distances of the ladder that hold at this leverage's own entry ratio: a ratio of
    3 cannot be had at 40x, where a position opens with 2.
    """
    limits = {
        "leverage_max": str(leverage),
        "leverage_above_10_allowed": "true" if leverage > 10 else "false",
        "entries_per_hour_max": "1000",
        "entries_per_day_max": "10000",
        "unwinds_per_day_max": "1000",
        "stop_ranges_min": "0",
        "mark_off_oracle_percent_max": '"5"',
        "day_loss_reducing_percent": '"90"',
        "day_loss_flatten_percent": '"95"',
    }
    if leverage > 10:
        limits |= {"ratio_warn": '"1.5"', "ratio_margin": '"1.35"', "ratio_cut": '"1.2"', "emergency_ratio": '"1.2"'}
    if leverage > 20:
        limits["slippage_bps"] = '"20"'  # half a per cent would leave the stop hardly any of the way to liquidation
    return limits | dict(given)


# -- what is watched -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Liquidated:
    """A liquidation as the venue's ledger has it, between the two points of the path that it happened between."""

    at: datetime
    account: str
    coin: str
    size: Decimal
    mark_before: Decimal
    mark_after: Decimal
    stop_price: Decimal | None
    """Of the stop that rested at the point before; None when none did."""
    liquidation_price: Decimal | None

    @property
    def jumped(self) -> bool:
        """Whether the mark went from before the stop to beyond liquidation in one step: nothing could act between."""
        if self.stop_price is None or self.liquidation_price is None:
            return False
        sign = 1 if self.size > 0 else -1
        before_stop = (self.mark_before - self.stop_price) * sign > 0
        return before_stop and (self.mark_after - self.liquidation_price) * sign <= 0

    @property
    def words(self) -> str:
        stop = f"stop {plain(self.stop_price)}" if self.stop_price is not None else "no stop rested"
        way = "jumped past stop and liquidation" if self.jumped else "NO JUMP"
        liquidation = "none" if self.liquidation_price is None else plain(Decimal(f"{self.liquidation_price:.6g}"))
        return (
            f"{self.at:%Y-%m-%d %H:%M:%S}.{self.at.microsecond // 1000:03d} {self.account} {plain(self.size)} "
            f"{self.coin}: mark {plain(self.mark_before)} -> {plain(self.mark_after)}, {stop}, "
            f"liquidation {liquidation}: {way}"
        )


@dataclass(slots=True)
class _Held:
    stop: Decimal | None
    liquidation: Decimal | None


class Stage:
    """A paper venue in this process, walked point by point so that nothing between two points is missed."""

    def __init__(self, day: CrashDay, points: int) -> None:
        start_ms = ms_from_utc(day.start)
        self.venue = Venue(
            VenueOptions(
                candles={day.coin: day.candles}, start_ms=start_ms, equity=EQUITY_USD, path_points_min=points,
            ),
            lambda: 0,
        )  # fmt: skip
        self.state = self.venue.engine.state
        self.market = self.state.markets[day.coin]
        self.coin = day.coin
        self.names: dict[str, str] = {}
        """Account name by address."""
        self.liquidated: list[Liquidated] = []
        self.points = 0

    def advance_to(self, at: datetime) -> None:
        target = ms_from_utc(at)
        while self.market.next_ms <= target:
            self._step(self.market.next_ms)
        if target > self.state.now_ms:
            self.venue.set_clock(target)

    def _step(self, at_ms: int) -> None:
        before, held, known = self.market.mark, dict(self._held()), len(self.state.liquidations)
        self.venue.set_clock(max(at_ms, self.state.now_ms))
        self.points += 1
        for row in self.state.liquidations[known:]:
            was = held.get(row["user"], _Held(None, None))
            self.liquidated.append(
                Liquidated(
                    utc_from_ms(row["time"]), self.names.get(row["user"], row["user"]), row["coin"],
                    Decimal(row["szi"]), before, Decimal(row["markPx"]), was.stop, was.liquidation,
                )
            )  # fmt: skip

    def _held(self) -> Iterator[tuple[str, _Held]]:
        for address in self.market.holders:
            account = self.state.accounts[address]
            position = account.positions[self.coin]
            stops = [o.trigger for o in account.orders.values() if o.coin == self.coin and _is_stop(o, position)]
            margin = isolated_margin(position, self.market.mark)
            price = liquidation_price(position, self.market, margin, Decimal(0))
            yield address, _Held(stops[0] if stops else None, price)

    def equity_usd(self, addresses: Mapping[str, str]) -> Decimal:
        """Of these accounts together; one that the venue has not seen yet holds what each begins with."""
        return sum((self._equity(self.state.accounts.get(a)) for a in addresses), Decimal(0))

    def _equity(self, account: Account | None) -> Decimal:
        if account is None:
            return EQUITY_USD
        return account.cash() + sum((p.pnl(self.market.mark) for p in account.positions.values()), Decimal(0))


def _is_stop(order: Any, position: Position) -> bool:
    closes = order.is_buy == (position.size < 0)
    return bool(order.phase == "trigger" and order.reduce_only and order.tpsl == "sl" and closes)


# -- the guarded desk ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as a function sees it."""

    headers: Mapping[str, str]
    data: bytes
    path: str = "/"
    method: str = "POST"
    remote_addr: str | None = "127.0.0.1"

    def get_data(self) -> bytes:
        return self.data


@dataclass(frozen=True, slots=True)
class _InProcess:
    """The way to the venue: the bytes that HTTP would carry."""

    venue: Venue

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        reply = self.venue.reply(path, json.loads(body))
        return reply.status, reply.text

    def request(self, _: str, path: str, body: bytes | None) -> tuple[int, str]:
        return self.post(path, body or b"{}")


class _CrashSystem(System):
    """A system whose venue is in this process."""

    stage: Stage

    @cached_property
    def venues(self) -> Venues:
        settings, addresses = self.settings, account_addresses(self.settings)
        accounts = {name: AccountAddress(address, master) for name, (_, address, master) in addresses.items()}
        venue = HyperliquidVenue(
            network="paper",
            url="http://127.0.0.1:9",
            accounts=accounts,
            secrets=self.secrets,
            key_names=settings.key_names,
            steps=self.steps,
            meta=json.loads(self.stage.venue.reply("/info", {"type": "meta"}).text),
            channel=_InProcess(self.stage.venue),
        )
        return Venues({"hyperliquid": venue}, dict.fromkeys(accounts, "hyperliquid"))


Curve = list[tuple[datetime, Decimal]]
"""Equity of both accounts together in each minute, at the time at which alerts come."""


@dataclass(slots=True)
class Guarded:
    """What the hedged, guarded trades of one day came to."""

    trades: list[Trade]
    refused: Counter[str]
    endings: Counter[Ending]
    liquidated: list[Liquidated]
    curve: Curve
    points_per_candle: Decimal


class Desk:
    """The whole system on one crash day."""

    def __init__(self, day: CrashDay, leverage: int, limits: Mapping[str, str], points: int = PATH_POINTS) -> None:
        self.day, self.stage = day, Stage(day, points)
        from twinleg.settings import parse

        chosen = {
            "limits": crash_limits(leverage, limits),
            "market": {"strategies": '["tradingview"]'},
            "tradingview": {"confidence": '"1"'},  # the leverage asked for, not a share of it
        }
        text = settings_text(day.coin, "http://127.0.0.1:9", chosen).replace('[strategies.macd]\nkind = "macd"\n', "")
        settings = parse(text, {})
        self.clock = ReplayClock(day.start)
        self.clock.follow(self.stage.advance_to)
        steps = Steps(partial(order_takes_time, self.clock))
        database = Database(MEMORY)
        self.bus = LocalBus(database, steps, self.clock)
        self.system = _CrashSystem(
            settings=settings, clock=self.clock, make_store=Once(lambda: SqliteStore(database, steps)),
            make_bus=Once(lambda: self.bus), secrets=MappingSecrets(paper_secrets(settings)), steps=steps,
            make_dead_letters=_nobody, make_schedule=_nobody,
        )  # fmt: skip
        self.system.stage = self.stage
        for topic, function in PUSHED.items():
            self.bus.subscribe(topic, partial(self._push, function))
        self.stage.names = {where[1].lower(): name for name, where in account_addresses(settings).items()}
        self._prepare()

    def run(self, progress: Callable[[int, int], None]) -> Guarded:
        """Trade the day to its end, then close what is open."""
        curve: Curve = []
        total = self.day.minutes - 1
        for minute in range(1, total + 1):
            at = self.day.start + minute * MINUTE
            self._to(at + timedelta(seconds=1))
            self._call("ingest")
            self._call("risk")
            self._to(at + ALERT_AFTER)
            curve.append((at + ALERT_AFTER, self.stage.equity_usd(self.stage.names)))
            for action in actions_at(minute, self.day, total):
                self._alert(action, f"{action}-{minute}")
            progress(minute, total)
        store = self.system.store
        trades = [Trade.model_validate(t.data) for t in store.query("trades", order_by="created_at")]
        refused = Counter(refused_by_code(trades))
        made = [trade for trade in trades if trade.main.size_filled]
        points = Decimal(self.stage.points) / (total + 1)
        return Guarded(made, refused, Counter(map(ending, made)), self.stage.liquidated, curve, points)

    def _to(self, at: datetime) -> None:
        if at > self.clock.now():
            self.clock.advance_to(at)

    def _call(self, function: str) -> None:
        entry.answer(self.system, function, _Request({}, b"{}"))
        self.bus.deliver_due(self.clock.now())

    def _alert(self, action: str, id: str) -> None:
        body = alert_json(self.day.coin, action, self.clock.now(), id).encode()
        entry.answer(self.system, "webhook", _Request({"Content-Type": "application/json"}, body, "/paper"))
        self.bus.deliver_due(self.clock.now())

    def _push(self, function: str, envelope: Envelope) -> int:
        body = wire.push_body(
            data=envelope.data, message_id=envelope.message_id, topic=envelope.topic, key=envelope.key,
            attributes=envelope.attributes, attempt=envelope.delivery_attempt, published_at=envelope.published_at,
        )  # fmt: skip
        request = _Request({"Content-Type": "application/json"}, json.dumps(body).encode(), f"/topics/{envelope.topic}")
        _, status = entry.answer(self.system, function, request)
        if status >= 500:
            raise Unavailable(f"{function} answered {status}")
        return status

    def _prepare(self) -> None:
        now_ms = ms_from_utc(self.clock.now())
        for name in account_addresses(self.system.settings):
            owner = signer_from(paper_key(name, "owner"), "owner")
            for number, role in enumerate(SignerRole):
                key = self.system.secrets.read(self.system.settings.key_names[(name, role)])
                agent = signer_from(key, "agent").address.lower()
                nonce = now_ms - 100 + number
                body = agent_approval_body(owner, agent, f"twinleg-{role.value}"[:16], nonce=nonce)
                self.stage.venue.reply("/exchange", json.loads(body))
        set_trading(self.system.engine(SignerRole.RISK), Halt.ENABLED, why="a crash report", by="setup")


def actions_at(minute: int, day: CrashDay, total: int) -> list[str]:
    """The alerts of one minute: long around the fall, short in the blocks before and after it, and so on."""
    if minute >= total - 1:
        return ["close"] if minute == total - 1 else []
    low = round((day.low_at - day.start) / MINUTE)
    block = (minute - low + BLOCK_MINUTES // 2) // BLOCK_MINUTES
    place = (minute - low + BLOCK_MINUTES // 2) % BLOCK_MINUTES
    if place == 0:
        return ["close"]
    return ["buy" if block % 2 == 0 else "sell"] if place % EVERY_MINUTES == 1 else []


def _nobody() -> Any:
    raise InvariantBroken("a crash report asked for what only a person uses")


# -- the same main legs alone --------------------------------------------------------------------

ALONE = "0x" + "c4" * 20


@dataclass(slots=True)
class Alone:
    """What the main legs of the guarded trades came to without their hedges."""

    liquidated: list[Liquidated] = field(default_factory=list)
    curve: Curve = field(default_factory=list)


def unhedged(day: CrashDay, trades: list[Trade], points: int = PATH_POINTS, *, stop: bool) -> Alone:
    """The same main legs: entered when they were, as large, at the same leverage, closed by what closed the trade.

    With *stop* they have the same stop and target at the venue. Without it nothing protects them: each is held until
    the guarded trade's block of time ends or it is liquidated, and while one is held no other is entered.
    """
    stage = Stage(day, points)
    stage.names = {ALONE: "alone"}
    stage.venue.reply("/info", {"type": "clearinghouseState", "user": ALONE})
    stage.state.open_account(ALONE)
    trader = _Trader(stage)
    done = Alone(stage.liquidated)
    events = sorted(_events(day, trades, stop), key=lambda event: event[0])
    for minute in range(1, day.minutes):
        at = day.start + minute * MINUTE + ALERT_AFTER
        while events and events[0][0] <= at:
            when, do = events.pop(0)
            stage.advance_to(when)
            do(trader)
        stage.advance_to(at)
        done.curve.append((at, stage.equity_usd({ALONE: ""}) + EQUITY_USD))
    return done


Do = Callable[["_Trader"], None]


def _events(day: CrashDay, trades: list[Trade], stop: bool) -> Iterator[tuple[datetime, Do]]:
    for trade in trades:
        yield trade.opened_at or trade.updated_at, partial(_Trader.enter, trade=trade, guarded=stop)
        if stop and trade.closed_at is not None:
            yield trade.closed_at, _Trader.leave
    if not stop:
        total = day.minutes - 1
        for minute in range(1, total):
            if "close" in actions_at(minute, day, total):
                yield day.start + minute * MINUTE + ALERT_AFTER, _Trader.leave


class _Trader:
    """Places orders for one account, without any of our own machinery."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._nonce = 0

    def enter(self, trade: Trade, guarded: bool) -> None:
        leg, market = trade.main, self.stage.market
        if self._size():
            return
        asset, buy = market.listing.asset, leg.side.sign > 0
        self._send({"type": "updateLeverage", "asset": asset, "isCross": False, "leverage": leg.leverage})
        orders = [self._order(buy, leg.size_filled, reduce=False)]
        for price, kind in ((leg.stop_price, "sl"), (leg.target_price, "tp")) if guarded else ():
            trigger = {"isMarket": True, "triggerPx": f"{price:f}", "tpsl": kind}
            orders.append(self._order(not buy, leg.size_filled, reduce=True) | {"t": {"trigger": trigger}})
        grouping = "normalTpsl" if guarded else "na"
        self._send({"type": "order", "orders": orders, "grouping": grouping})

    def leave(self) -> None:
        size = self._size()
        if size:
            order = self._order(size < 0, abs(size), reduce=True)
            self._send({"type": "order", "orders": [order], "grouping": "na"})

    def _size(self) -> Decimal:
        return self.stage.state.accounts[ALONE].size(self.stage.coin)

    def _order(self, buy: bool, size: Decimal, *, reduce: bool) -> dict[str, Any]:
        market = self.stage.market
        price = market.listing.round(market.mark * (Decimal("1.05") if buy else Decimal("0.95")))
        return {
            "a": market.listing.asset, "b": buy, "p": f"{price:f}", "s": f"{size:f}", "r": reduce,
            "t": {"limit": {"tif": "Ioc"}},
        }  # fmt: skip

    def _send(self, action: dict[str, Any]) -> None:
        self._nonce += 1
        nonce = self.stage.state.now_ms + self._nonce
        self.stage.venue.engine.execute({"action": action, "nonce": nonce}, ALONE)
