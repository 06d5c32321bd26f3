"""Both Hyperliquid adapters keep the Venue contract, trading on the paper venue over real HTTP."""

from __future__ import annotations

import hashlib
import itertools
import json
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account

from twinleg.adapters.venues.ccxt_hyperliquid import CcxtHyperliquidVenue
from twinleg.adapters.venues.hyperliquid import AccountAddress, HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_http import Channel
from twinleg.adapters.venues.hyperliquid_wire import signed_body, signer_from
from twinleg.adapters.venues.paper_setup import approve_agent
from twinleg.domain.candles import Candle, ms_from_utc
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.domain.ids import ClientOrderId
from twinleg.domain.orders import AckState, Grouping, OrderKind, OrderRequest, Side
from twinleg.engine.ports import (
    AddMargin,
    CancelOrders,
    Noop,
    Outcome,
    PlaceEntry,
    PlaceReduction,
    SetLeverage,
    SignerRole,
    Steps,
    VenueAction,
    Verdict,
)
from twinleg.paper.options import VenueOptions
from twinleg.paper.server import serve_in_thread
from twinleg.risk.approval import Approved, ApprovedLeg

D = Decimal
BTC, ETH = "hyperliquid:BTC", "hyperliquid:ETH"
START = datetime(2026, 11, 2, 11, tzinfo=UTC)
HISTORY = 30


def candles_of(closes: list[str]) -> list[Candle]:
    """One candle a minute, each opening at the last one's close."""
    prices = [D(closes[0]), *(D(close) for close in closes)]
    return [
        Candle(START + timedelta(minutes=n), a, max(a, b) + 1, min(a, b) - 1, b, D(100))
        for n, (a, b) in enumerate(itertools.pairwise(prices))
    ]


@dataclass
class Paper:
    """A paper venue on a manual clock, and the adapter that trades on it."""

    url: str
    adapter: type[HyperliquidVenue] = HyperliquidVenue
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def control(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/_sim/{path}", data), timeout=10) as answer:
            return json.loads(answer.read())

    def now_ms(self) -> int:
        return self.control("status")["now_ms"]

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def pass_time(self, by: timedelta) -> None:
        self.control("clock", {"now_ms": self.now_ms() + by // timedelta(milliseconds=1)})

    def nonce(self) -> int:
        return self.now_ms() + next(self.numbers)


def start_paper(closes: Mapping[str, list[str]]) -> Iterator[Paper]:
    options = VenueOptions(
        candles={coin: candles_of(series) for coin, series in closes.items()}, history_candles=HISTORY
    )
    server = serve_in_thread(options)
    yield Paper(server.url)
    server.stop()


@pytest.fixture(params=[HyperliquidVenue, CcxtHyperliquidVenue], ids=["sdk", "ccxt"])
def adapter(request) -> type[HyperliquidVenue]:
    return request.param


@pytest.fixture(scope="module")
def calm() -> Iterator[Paper]:
    yield from start_paper({"BTC": ["50000"] * 40, "ETH": ["3000"] * 40})


@pytest.fixture
def paper(calm, adapter) -> Paper:
    """A calm market that never moves on its own."""
    return replace(calm, adapter=adapter)


@pytest.fixture
def falling(adapter) -> Iterator[Paper]:
    """A market that is calm for two minutes, falls 3 % in the next, and then stays there for more than an hour."""
    for started in start_paper({"BTC": ["50000"] * (HISTORY + 2) + ["48500"] * 90}):
        yield replace(started, adapter=adapter)


def key_of(*parts: str) -> str:
    return "0x" + hashlib.sha256("/".join(parts).encode()).hexdigest()


def address_of(key: str) -> str:
    return Account.from_key(key).address


class Keys(dict[str, str]):
    def read(self, name: str) -> str:
        return self[name]


@dataclass
class Trader:
    """One account on a paper venue with an approved agent key, and the adapter that trades for it."""

    paper: Paper
    name: str
    sub: str | None = None
    steps: Steps = field(default_factory=Steps)
    orders: int = 0

    def __post_init__(self) -> None:
        self.owner_key, self.agent_key = self.key("owner"), self.key("agent")
        self.owner, self.agent = address_of(self.owner_key), address_of(self.agent_key)
        if self.sub is None:
            approve_agent(self.paper.url, self.owner_key, self.agent, "execute", nonce=self.paper.nonce())
        where = AccountAddress(self.sub, self.owner) if self.sub else AccountAddress(self.owner)
        self.venue = self.paper.adapter(
            network="paper",
            url=self.paper.url + "/",
            accounts={"main": where},
            secrets=Keys(execute=self.agent_key, stranger=self.key("stranger")),
            key_names={("main", SignerRole.EXECUTE): "execute", ("main", SignerRole.RISK): "stranger"},
            steps=self.steps,
        )

    def key(self, whose: str) -> str:
        return key_of(self.paper.adapter.__name__, self.name, whose)

    def sign(self, action: VenueAction, *, nonce: int | None = None, seconds: int = 15):
        expires_at = self.paper.now() + timedelta(seconds=seconds)
        return self.venue.sign(action, SignerRole.EXECUTE, nonce or self.paper.nonce(), expires_at)

    def do(self, action: VenueAction) -> Verdict:
        return self.venue.send(self.sign(action))

    def order(self, **changes: Any) -> OrderRequest:
        self.orders += 1
        given = {
            "client_order_id": ClientOrderId("0x" + key_of(self.name, str(self.orders))[2:34]),
            "market": BTC,
            "side": Side.BUY,
            "size": D("0.01"),
            "limit_price": D("50100"),
            "kind": OrderKind.MARKET,
            "reduce_only": False,
        }
        return OrderRequest(**(given | changes))

    def enter(self, *orders: OrderRequest, grouping: Grouping = Grouping.NONE) -> Verdict:
        return self.do(PlaceEntry("main", approved(orders[0]), orders, grouping))

    def position(self, market: str = BTC):
        return self.venue.account("main").position(market)


def approved(order: OrderRequest) -> Approved:
    leg = ApprovedLeg(
        role="main", account="main", market=order.market, side=order.side, leverage=5, size=order.size,
        entry_limit_price=order.limit_price, stop_price=D(1), target_price=D(1), liquidation_distance=D("0.2"),
    )  # fmt: skip
    return Approved("trade", leg, leg, D(0), "test")


def bracket(trader: Trader) -> tuple[OrderRequest, OrderRequest, OrderRequest]:
    exit_ = {"side": Side.SELL, "reduce_only": True}
    return (
        trader.order(),
        trader.order(kind=OrderKind.STOP, trigger_price=D("49000"), limit_price=D("44100"), **exit_),
        trader.order(kind=OrderKind.TARGET, trigger_price=D("52000"), limit_price=D("46800"), **exit_),
    )


# -- reading the market --------------------------------------------------------------------------


def test_time_rules_snapshot_and_candles(paper):
    venue = Trader(paper, "reader").venue
    assert venue.time() == paper.now()
    rules = venue.rules(BTC)
    assert (rules.asset, rules.lot, rules.notional_usd_min) == (0, D("0.00001"), D(10))
    assert rules.maintenance_margin_usd(D(50_000)) == D(50_000) / (2 * rules.max_leverage)
    seen = venue.snapshot(BTC)
    assert seen.at == paper.now() and seen.mark_price == seen.oracle_price == D(50_000)
    assert seen.mid_price is not None and abs(seen.mid_price - 50_000) < 10
    assert seen.bid_depth > 1 and seen.ask_depth > 1
    closed = venue.candles(BTC, START, paper.now())
    assert [candle.opened_at for candle in closed] == [START + timedelta(minutes=n) for n in range(HISTORY)]
    assert closed[0].close == D(50_000)
    forming = venue.candles(BTC, paper.now() - timedelta(minutes=1), paper.now() + timedelta(minutes=5))
    assert [candle.closed_at for candle in forming] == [paper.now()]


def test_markets_that_cannot_be_traded(paper):
    venue = Trader(paper, "second reader").venue
    with pytest.raises(BadInput, match="delisted"):
        venue.rules("hyperliquid:SOL")
    with pytest.raises(Unavailable, match="SOL is delisted"):
        venue.snapshot("hyperliquid:SOL")
    with pytest.raises(BadInput, match="lists no NOPE"):
        venue.rules("hyperliquid:NOPE")


def test_a_fresh_account(paper):
    trader = Trader(paper, "fresh")
    state = trader.venue.account("main")
    assert (state.equity_usd, state.free_usd, state.positions, state.margin_ratio) == (D(10_000), D(10_000), (), None)
    assert state.at == paper.now()
    assert trader.venue.mode("main") == "disabled"
    assert trader.venue.open_orders("main") == ()
    assert trader.venue.fills("main", START) == []
    assert trader.venue.order("main", "0x" + "9" * 32) is None
    assert trader.venue.signer("main", SignerRole.EXECUTE) == trader.agent.lower()
    assert 9_990 <= trader.venue.requests_left("main") <= 10_000
    expiry = trader.venue.key_expires_at("main", SignerRole.EXECUTE)
    assert expiry is not None and expiry > paper.now()
    assert trader.venue.key_expires_at("main", SignerRole.RISK) is None


def test_what_the_venue_would_refuse_or_round_is_not_signed(paper):
    trader = Trader(paper, "off the tick")
    exit_ = {"side": Side.SELL, "reduce_only": True}

    def reduction(**changes: Any) -> PlaceReduction:
        return PlaceReduction("main", (trader.order(**(exit_ | changes)),))

    for action, words in (
        (reduction(limit_price=D("50000.5")), "limit_price 50000.5 is off the tick"),
        (reduction(size=D("0.000011")), "size 0.000011 is not a multiple of the lot 0.00001"),
        (reduction(size=D(0)), "size must be above 0"),
        (reduction(kind=OrderKind.STOP), "a stop order needs a trigger_price"),
        (reduction(client_order_id="0xA"), "client_order_id must be 0x and 32"),
        (CancelOrders("main", BTC, order_ids=("12.5",)), "order_id must be the venue's number, was '12.5'"),
        (SetLeverage("main", BTC, 41, isolated=True), "leverage must be 1 to 40, was 41"),
        (AddMargin("main", BTC, D("1.0000001")), "usd must be above 0 with at most 6 decimals"),
        (SetLeverage("main", "hyperliquid:SOL", 2, isolated=True), "SOL is delisted"),
    ):
        with pytest.raises(BadInput, match=words):
            trader.sign(action)
    assert trader.sign(CancelOrders("main", "hyperliquid:SOL", order_ids=("1",))).body


# -- trading -------------------------------------------------------------------------------------


def test_an_entry_with_its_bracket(paper):
    trader = Trader(paper, "bracket")
    venue = trader.venue
    assert trader.do(SetLeverage("main", BTC, 5, isolated=True)).outcome is Outcome.ACCEPTED
    assert venue.leverage("main", BTC) == (5, True)
    entry, stop, target = orders = bracket(trader)
    verdict = trader.enter(*orders, grouping=Grouping.WITH_PARENT)
    assert verdict.outcome is Outcome.ACCEPTED
    assert [ack.state for ack in verdict.acks] == [AckState.FILLED, AckState.WAITING, AckState.WAITING]
    assert verdict.acks[0].filled_size == D("0.01")

    state = venue.account("main")
    position = state.position(BTC)
    assert position is not None and position.isolated and position.leverage == 5
    assert position.size == D("0.01") and position.mark_price == D(50_000)
    assert position.entry_price == verdict.acks[0].average_price
    assert abs(position.margin_used_usd - position.notional_usd / 5) < 1
    assert position.maintenance_usd == venue.rules(BTC).maintenance_margin_usd(position.notional_usd)
    assert position.liquidation_price is not None and D(40_000) < position.liquidation_price < D(42_000)
    assert state.margin_used_usd == position.margin_used_usd
    assert state.equity_usd == state.cross_equity_usd + position.margin_used_usd
    assert state.free_usd == state.cross_equity_usd and state.cross_maintenance_usd == 0

    resting = {order.client_order_id: order for order in venue.open_orders("main")}
    assert set(resting) == {stop.client_order_id, target.client_order_id}
    found = resting[stop.client_order_id]
    assert (found.kind, found.side, found.reduce_only) == (OrderKind.STOP, Side.SELL, True)
    assert (found.trigger_price, found.limit_price, found.size) == (D("49000"), D("44100"), D("0.01"))
    assert resting[target.client_order_id].kind is OrderKind.TARGET

    report = venue.order("main", entry.client_order_id)
    assert report is not None and report.state is AckState.FILLED and report.order_id == verdict.acks[0].order_id
    waiting = venue.order("main", stop.client_order_id)
    assert waiting is not None and waiting.state is AckState.WAITING

    (fill,) = venue.fills("main", paper.now() - timedelta(seconds=1))
    assert (fill.client_order_id, fill.side, fill.size) == (entry.client_order_id, Side.BUY, D("0.01"))
    assert fill.start_position == 0 and fill.price == verdict.acks[0].average_price and not fill.liquidation
    assert abs(fill.fee_usd - fill.size * fill.price * D("0.00045")) < D("0.000002")
    assert venue.fills("main", paper.now() + timedelta(seconds=1)) == []


def test_a_partial_fill_says_what_was_filled_and_fills_agree(falling):
    trader = Trader(falling, "partial")
    trader.do(SetLeverage("main", BTC, 20, isolated=True))
    entry = trader.order(size=D("1.5"), limit_price=trader.venue.snapshot(BTC).mid_price.quantize(D(1)) + 3)
    verdict = trader.enter(entry)
    filled = verdict.acks[0].filled_size
    assert verdict.acks[0].state is AckState.FILLED and 0 < filled < entry.size
    assert sum(fill.size for fill in trader.venue.fills("main", START)) == filled
    position = trader.position()
    assert position is not None and position.size == filled
    report = trader.venue.order("main", entry.client_order_id)
    assert report is not None and report.state is AckState.CANCELED and report.size == entry.size


def test_an_entry_nobody_takes_is_rejected_with_the_venues_words(paper):
    trader = Trader(paper, "no match")
    entry = trader.order(limit_price=D("49000"))
    verdict = trader.enter(entry)
    assert verdict.outcome is Outcome.ACCEPTED and verdict.acks[0].state is AckState.REJECTED
    assert "could not immediately match" in verdict.reason
    report = trader.venue.order("main", entry.client_order_id)
    assert report is not None and (report.state, report.status) == (AckState.REJECTED, "iocCancelRejected")


def test_a_batch_refused_for_its_form_is_refused_whole(paper):
    trader = Trader(paper, "form")
    verdict = trader.enter(
        trader.order(limit_price=D("49000"), kind=OrderKind.LIMIT), trader.order(limit_price=D(999_999))
    )
    assert [ack.state for ack in verdict.acks] == [AckState.REJECTED] * 2
    assert "80%" in verdict.reason and trader.venue.open_orders("main") == ()


def test_resting_orders_are_cancelled_by_either_id(paper):
    trader = Trader(paper, "cancel")
    limits = [trader.order(kind=OrderKind.LIMIT, limit_price=D(p)) for p in ("48000", "47000")]
    verdict = trader.enter(*limits)
    assert [ack.state for ack in verdict.acks] == [AckState.RESTING] * 2
    first = CancelOrders("main", BTC, client_order_ids=(limits[0].client_order_id,))
    assert [ack.state for ack in trader.do(first).acks] == [AckState.DONE]
    again = trader.do(first)
    assert again.outcome is Outcome.ACCEPTED and again.acks[0].state is AckState.REJECTED
    assert "never placed, already canceled, or filled" in again.acks[0].reason
    (left,) = trader.venue.open_orders("main")
    assert left.order_id == verdict.acks[1].order_id and left.kind is OrderKind.LIMIT
    assert trader.do(CancelOrders("main", BTC, order_ids=(left.order_id, "1"))).acks[0].state is AckState.DONE
    assert trader.venue.open_orders("main") == ()
    report = trader.venue.order("main", limits[0].client_order_id)
    assert report is not None and (report.state, report.status) == (AckState.CANCELED, "canceled")


def test_a_bracket_under_a_resting_parent_guards_nothing_yet(paper):
    trader = Trader(paper, "asleep")
    entry, stop, target = bracket(trader)
    limit = entry.model_copy(update={"kind": OrderKind.LIMIT, "limit_price": D("49500")})
    verdict = trader.enter(limit, stop, target, grouping=Grouping.WITH_PARENT)
    assert [ack.state for ack in verdict.acks] == [AckState.RESTING, AckState.WAITING, AckState.WAITING]
    assert [order.client_order_id for order in trader.venue.open_orders("main")] == [limit.client_order_id]
    trader.do(CancelOrders("main", BTC, client_order_ids=(limit.client_order_id,)))
    report = trader.venue.order("main", stop.client_order_id)
    assert report is not None and report.state is AckState.CANCELED


def test_stops_that_follow_the_position_and_closing_it(paper):
    trader = Trader(paper, "follow")
    trader.enter(trader.order())
    _, stop, target = bracket(trader)
    guards = trader.do(PlaceReduction("main", (stop, target), Grouping.POSITION))
    assert [ack.state for ack in guards.acks] == [AckState.WAITING] * 2
    assert all(order.follows_position for order in trader.venue.open_orders("main"))
    close = trader.order(side=Side.SELL, limit_price=D("49900"), size=D("0.02"), reduce_only=True)
    assert trader.do(PlaceReduction("main", (close,))).acks[0].filled_size == D("0.01")
    assert trader.position() is None
    opened, closed = trader.venue.fills("main", START)
    assert closed.start_position == D("0.01") and closed.closed_pnl_usd == (closed.price - opened.price) * D("0.01")
    refused = trader.do(
        PlaceReduction("main", (trader.order(side=Side.SELL, limit_price=D("49900"), reduce_only=True),))
    )
    assert "Reduce only order would increase position" in refused.acks[0].reason


def test_margin_is_added_behind_an_isolated_position(paper):
    trader = Trader(paper, "margin")
    trader.do(SetLeverage("main", BTC, 10, isolated=True))
    trader.enter(trader.order())
    before = trader.venue.account("main")
    assert trader.do(AddMargin("main", BTC, D("12.345678"))).outcome is Outcome.ACCEPTED
    after = trader.venue.account("main")
    gained = after.position(BTC).margin_used_usd - before.position(BTC).margin_used_usd
    assert gained == D("12.345678") == before.free_usd - after.free_usd
    assert after.equity_usd == before.equity_usd
    assert after.position(BTC).liquidation_price < before.position(BTC).liquidation_price
    assert after.margin_ratio == after.position(BTC).margin_ratio > before.margin_ratio


def test_actions_the_venue_refuses_are_rejected(paper):
    trader = Trader(paper, "refused")
    trader.enter(trader.order())
    assert trader.venue.leverage("main", BTC) == (20, False)
    for action in (SetLeverage("main", BTC, 5, isolated=True), AddMargin("main", BTC, D(5))):
        verdict = trader.do(action)
        assert verdict.outcome is Outcome.REJECTED and verdict.reason
    cross = trader.venue.account("main")
    assert cross.margin_ratio == cross.cross_equity_usd / cross.cross_maintenance_usd
    assert cross.free_usd == cross.cross_equity_usd - cross.position(BTC).margin_used_usd


def test_a_short_leg(paper):
    trader = Trader(paper, "short")
    trader.do(SetLeverage("main", ETH, 3, isolated=True))
    trader.enter(trader.order(market=ETH, side=Side.SELL, size=D("0.5"), limit_price=D("2990")))
    position = trader.position(ETH)
    assert position is not None and position.size == D("-0.5")
    assert position.liquidation_price is not None and position.liquidation_price > position.mark_price


# -- once ----------------------------------------------------------------------------------------


def test_the_same_bytes_act_once(paper):
    trader = Trader(paper, "once")
    entry = trader.order()
    signed = trader.sign(PlaceEntry("main", approved(entry), (entry,), Grouping.NONE))
    assert trader.venue.send(signed).outcome is Outcome.ACCEPTED
    assert [trader.venue.send(signed).outcome for _ in range(3)] == [Outcome.DUPLICATE] * 3
    assert trader.position().size == D("0.01")


def test_a_noop_fences_a_nonce_and_finds_it_spent(paper):
    trader = Trader(paper, "fence")
    entry = trader.order()
    signed = trader.sign(PlaceEntry("main", approved(entry), (entry,), Grouping.NONE))
    fence = trader.sign(Noop("main"), nonce=signed.nonce)
    assert trader.venue.send(fence, 0).outcome is Outcome.ACCEPTED
    assert trader.venue.send(signed).outcome is Outcome.DUPLICATE
    assert trader.position() is None
    sent = trader.sign(SetLeverage("main", BTC, 4, isolated=True))
    assert trader.venue.send(sent).outcome is Outcome.ACCEPTED
    assert trader.venue.send(trader.sign(Noop("main"), nonce=sent.nonce), 0).outcome is Outcome.DUPLICATE


def test_what_comes_too_late_or_too_old_does_not_run(paper):
    trader = Trader(paper, "late")
    entry = trader.order()
    action = PlaceEntry("main", approved(entry), (entry,), Grouping.NONE)
    assert trader.venue.send(trader.sign(action, seconds=-1)).outcome is Outcome.EXPIRED
    week = 7 * 86_400_000
    assert trader.venue.send(trader.sign(action, nonce=paper.nonce() - week)).outcome is Outcome.NONCE_TOO_LOW
    assert trader.venue.send(trader.sign(action, nonce=paper.nonce() + week)).outcome is Outcome.NONCE_TOO_LOW
    assert trader.position() is None


def test_unreadable_bytes_are_malformed(paper):
    trader = Trader(paper, "malformed")
    signed = trader.sign(Noop("main"))
    for body in ("{}", "not json", signed.body.replace('"noop"', '"nope"')):
        assert trader.venue.send(signed.model_copy(update={"body": body})).outcome is Outcome.MALFORMED


def test_bytes_changed_after_signing_are_another_signers(paper):
    trader = Trader(paper, "changed")
    signed = trader.sign(SetLeverage("main", BTC, 4, isolated=True))
    changed = signed.model_copy(update={"body": signed.body.replace('"leverage":4', '"leverage":40')})
    trader.venue.send(changed)
    assert trader.venue.leverage("main", BTC) == (20, False)


def test_a_replaced_agent_key_is_an_unknown_signer(paper):
    trader = Trader(paper, "replaced")
    stranger = address_of(trader.key("stranger"))
    approve_agent(paper.url, trader.owner_key, stranger, "execute", nonce=paper.nonce())
    verdict = trader.do(SetLeverage("main", BTC, 4, isolated=True))
    assert verdict.outcome is Outcome.UNKNOWN_SIGNER and trader.agent.lower() in verdict.reason
    assert trader.venue.key_expires_at("main", SignerRole.EXECUTE) is None
    assert trader.venue.key_expires_at("main", SignerRole.RISK) is not None


def test_an_agent_trades_for_its_master_and_holds_nothing_itself(paper):
    trader = Trader(paper, "agent")
    trader.enter(trader.order())
    assert trader.position() is not None
    itself = paper.adapter(
        network="paper", url=paper.url, accounts={"a": AccountAddress(trader.agent)}, secrets=Keys(), key_names={},
        steps=Steps(),
    )  # fmt: skip
    assert itself.account("a").equity_usd == 0 and itself.fills("a", START) == []


def test_a_sub_account_is_its_own_account_under_its_masters_agent(paper):
    paper.control("switches", {"volume_gates": False})
    master = Trader(paper, "master")
    owner = signer_from(master.owner_key, "owner")

    def as_owner(action: dict[str, Any]) -> Any:
        body = signed_body(owner, action, vault=None, nonce=paper.nonce(), expires_ms=None, mainnet=False)
        return json.loads(Channel(paper.url, 10).post("/exchange", body.encode())[1])["response"]

    sub = as_owner({"type": "createSubAccount", "name": "hedge"})["data"]
    as_owner({"type": "subAccountTransfer", "subAccountUser": sub, "isDeposit": True, "usd": 2_500_000_000})
    hedge = Trader(paper, "master", sub=sub)
    assert hedge.do(SetLeverage("main", BTC, 2, isolated=True)).outcome is Outcome.ACCEPTED
    verdict = hedge.enter(hedge.order(side=Side.SELL, limit_price=D("49900")))
    assert verdict.acks[0].state is AckState.FILLED
    assert hedge.position().size == D("-0.01") and hedge.position().leverage == 2
    assert master.position() is None and master.venue.leverage("main", BTC) == (20, False)
    since = START - timedelta(days=1)
    assert hedge.venue.net_deposits_usd("main", since) == D(2500)
    assert master.venue.net_deposits_usd("main", since) == D(7500)
    assert hedge.venue.key_expires_at("main", SignerRole.EXECUTE) is not None
    assert hedge.venue.fills("main", START)[0].side is Side.SELL


def test_many_threads_trade_at_once(paper):
    trader = Trader(paper, "threads")
    first = paper.nonce()
    expires_at = paper.now() + timedelta(seconds=15)

    def place(n: int) -> Outcome:
        order = trader.order(kind=OrderKind.LIMIT, limit_price=D(40_000 + n), client_order_id=f"0x{n:032x}")
        action = PlaceEntry("main", approved(order), (order,), Grouping.NONE)
        return trader.venue.send(trader.venue.sign(action, SignerRole.EXECUTE, first + n, expires_at)).outcome

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(place, range(24))) == {Outcome.ACCEPTED}
    assert len(trader.venue.open_orders("main")) == 24


# -- time passes ---------------------------------------------------------------------------------


def test_a_stop_fires_and_its_sibling_goes(falling):
    trader = Trader(falling, "stopped")
    trader.do(SetLeverage("main", BTC, 5, isolated=True))
    _entry, stop, target = orders = bracket(trader)
    trader.enter(*orders, grouping=Grouping.WITH_PARENT)
    before = falling.now()
    falling.pass_time(timedelta(minutes=4))
    assert trader.position() is None
    (fill,) = trader.venue.fills("main", before + timedelta(milliseconds=1))
    assert fill.client_order_id == stop.client_order_id and fill.closed_pnl_usd < 0
    reports = [trader.venue.order("main", order.client_order_id) for order in (stop, target)]
    assert [report.state for report in reports if report] == [AckState.FILLED, AckState.CANCELED]
    assert trader.venue.open_orders("main") == ()
    closed = trader.venue.candles(BTC, before, falling.now())
    assert closed[-1].closed_at == falling.now() and closed[-1].close == D(48_500)


def test_funding_paid_over_an_hour_agrees_with_the_position(falling):
    trader = Trader(falling, "funding")
    start = falling.now()
    trader.enter(trader.order())
    falling.pass_time(timedelta(minutes=65))
    paid = trader.venue.funding_paid_usd("main", BTC, start)
    position = trader.position()
    assert paid != 0 and position is not None and position.funding_paid_usd == paid
    assert trader.venue.funding_paid_usd("main", ETH, start) == 0
    assert trader.venue.funding_paid_usd("main", BTC, falling.now()) == 0


def test_a_liquidation_is_told_by_its_fill(falling):
    trader = Trader(falling, "liquidated")
    trader.do(SetLeverage("main", BTC, 40, isolated=True))
    trader.enter(trader.order())
    falling.pass_time(timedelta(minutes=5))
    assert trader.position() is None
    assert [fill.liquidation for fill in trader.venue.fills("main", START)] == [False, True]
    assert trader.venue.net_deposits_usd("main", START - timedelta(days=1)) == D(10_000)


def test_a_venue_that_is_gone(paper):
    trader = Trader(paper, "gone")
    signed = trader.sign(Noop("main"))
    gone = paper.adapter(
        network="paper", url="http://127.0.0.1:9", accounts={"main": AccountAddress(trader.owner)},
        secrets=Keys(execute=trader.agent_key), key_names={("main", SignerRole.EXECUTE): "execute"}, steps=Steps(),
    )  # fmt: skip
    assert gone.send(signed).outcome is Outcome.UNKNOWN
    for read in (gone.time, lambda: gone.account("main"), lambda: gone.rules(BTC)):
        with pytest.raises(Unavailable):
            read()


def test_expiry_on_the_wire_is_the_records(paper):
    trader = Trader(paper, "expiry")
    signed = trader.sign(SetLeverage("main", BTC, 5, isolated=True))
    assert signed.expires_at is not None
    assert json.loads(signed.body)["expiresAfter"] == ms_from_utc(signed.expires_at)
