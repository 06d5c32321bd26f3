"""The sweep on the paper venue, minute by minute: ladder, other ways out, breakers, and what is not believed."""

import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from twinleg.bootstrap import paper_key
from twinleg.domain.control import Halt
from twinleg.domain.orders import OrderKind, OrderRequest, Side
from twinleg.domain.trades import TradeState
from twinleg.engine.control import set_trading
from twinleg.engine.ports import Merge, PlaceReduction, SignerRole
from twinleg.engine.sweep import PAGE_EVERY

D = Decimal
WIDE = {
    "net_stop_percent": "50", "net_target_percent": "50",
    "day_loss_reducing_percent": "80", "day_loss_flatten_percent": "90",
}  # fmt: skip
"""Limits that leave the ladder alone on the stage."""


def line(start: int, end: int, minutes: int) -> list[str]:
    """Closes in even steps from one price to another."""
    return [str(start + (end - start) * n // minutes) for n in range(1, minutes + 1)]


def opened(world: Any, closes: list[str], action: str = "buy", **limits: str) -> Any:
    """A world with an open trade whose stops at the venue are asleep, so that only the sweep protects it."""
    w = world(["100000"] * 3 + closes, **limits)
    w.alert(action, "a1")
    assert w.trade().state is TradeState.OPEN
    w.control.switches(triggers_enabled=False)
    return w


def play(w: Any, minutes: int) -> None:
    for _ in range(minutes):
        if w.trade().state is not TradeState.OPEN:
            return
        w.minutes()


def kinds(w: Any) -> list[str]:
    """What happened to the trade, in order, each kind once."""
    found = w.system.store.query("audit", {"trade_id": w.trade().trade_id}, order_by="at")
    return list(dict.fromkeys(e.data["kind"] for e in found))


def state(w: Any) -> Halt:
    return w.engine().control()[0].state


def both_flat(w: Any) -> bool:
    return w.position("main") == w.position("hedge") == 0


# -- the ladder ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "end"), [("buy", 55_000), ("sell", 145_000)])
def test_the_ladder_warns_adds_margin_once_cuts_both_legs_once_and_then_closes(world, action, end):
    w = opened(world, line(100_000, end, 60), action, **WIDE)
    size = {"main": abs(w.position("main")), "hedge": abs(w.position("hedge"))}
    play(w, 62)
    happened = [k for k in kinds(w) if k in ("warned", "margin_added", "cut", "closed")]
    assert happened == ["warned", "margin_added", "cut", "closed"]
    assert len(w.events("margin_added")) == len(w.events("cut")) == 1
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert trade.why_closed.startswith("ladder: main leg: ")
    assert both_flat(w)
    for leg in trade.legs:
        cut = [o for o in leg.orders if o.purpose == "cut"]
        assert [abs(o.size / size[leg.role.value] - D("0.5")) < D("0.01") for o in cut] == [True]
        assert not leg.liquidated
    assert not w.system.venues.of("main").open_orders("main")
    assert not w.system.venues.of("hedge").open_orders("hedge")


def test_the_sweep_signs_with_the_keys_of_risk(world):
    """The keys that open and those that protect count their nonces apart."""
    w = opened(world, line(100_000, 55_000, 60), **WIDE)
    play(w, 62)
    roles = {(a.data["role"], a.data["adds_exposure"]) for a in w.system.store.query("actions")}
    assert ("risk", False) in roles
    assert ("risk", True) not in roles
    assert ("execute", True) in roles
    venue = w.system.venues.of("main")
    assert len({venue.signer("main", role) for role in SignerRole}) == 3


@pytest.mark.parametrize("halt", [Halt.REDUCING, Halt.HALTED])
def test_the_ladder_runs_in_every_trading_state(world, halt):
    w = opened(world, line(100_000, 55_000, 60), **WIDE)
    set_trading(w.engine(), halt, why="a test", by="a test")
    play(w, 62)
    assert w.trade().why_closed.startswith("ladder: ")
    assert both_flat(w)
    assert state(w) is halt


@pytest.mark.parametrize(("poor", "action", "end"), [("main", "buy", 55_000), ("hedge", "buy", 190_000)])
def test_margin_comes_from_the_endangered_legs_own_account_and_never_more_than_it_has(world, poor, action, end):
    """The other account has plenty, and what the leg lacks: none of it is counted on, and none of it is moved."""
    w = opened(world, line(100_000, end, 30), action, **WIDE, hedge_drift_percent_max="90")
    free = w.system.venues.of(poor).account(poor).free_usd
    owner(w, poor, lambda exchange: exchange.usd_transfer(float(round(free - 10, 2)), "0x" + "12" * 20))
    while not w.events("margin_added"):
        assert w.trade().state is TradeState.OPEN
        w.minutes()
    [said] = w.events("margin_added")
    leg = "main leg" if poor == "main" else "hedge"
    assert f" USD to the {leg}: accepted (" in said
    assert D(5) < D(said.split(" USD")[0]) <= D("10.01")


def test_a_price_that_comes_back_leaves_the_ladder_without_a_trade(world):
    w = opened(world, [*line(100_000, 80_000, 20), *line(80_000, 100_000, 20)], **WIDE)
    play(w, 42)
    assert w.trade().state is TradeState.OPEN
    assert w.trade().rung == ""
    assert len(w.events("warned")) == 1
    assert not w.events("margin_added")


# -- the other ways out ----------------------------------------------------------------------------


def test_the_net_stop_closes_both_legs(world):
    w = opened(world, line(100_000, 94_000, 12), net_stop_percent="0.5")
    play(w, 14)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert "net_stop_percent 0.5 of both" in trade.why_closed
    assert D(-130) < trade.pnl_usd < D(-100)
    assert both_flat(w)


def test_the_net_target_closes_both_legs(world):
    w = opened(world, line(100_000, 106_000, 12), net_target_percent="0.3")
    play(w, 14)
    assert "net_target_percent 0.3 of both" in w.trade().why_closed
    assert D(55) < w.trade().pnl_usd < D(90)
    assert both_flat(w)


def test_a_hedge_that_no_longer_fits_is_closed_with_its_main_leg(world):
    """Half of the hedge is bought back by hand: one sweep corrects the record, and the drift closes both."""
    w = opened(world, ["100000"] * 10)
    half = abs(w.position("hedge")) / 2
    buy_back(w, half)
    w.minutes()
    assert w.events("corrected")
    assert w.trade().why_closed.startswith("hedge_drift_percent -50")
    assert both_flat(w)


@pytest.mark.parametrize(
    ("closes", "stays"),
    [(["100000"] * 12, True), (["100000"] + ["100500", "100000"] * 5, False)],
    ids=["a quiet market", "a market that moves half a per cent a minute"],
)
def test_the_band_for_hedge_drift_is_narrower_in_a_market_that_moves(world, closes, stays):
    """7 % of the hedge is bought back by hand, within the band of 10 %: too much only where the price runs."""
    w = opened(world, closes, hedge_calm_range_percent="0.1", hedge_scale_max="2", stop_percent="3")
    w.minutes(2)
    buy_back(w, D("0.00014"))
    w.minutes(4)
    assert w.events("corrected")
    if stays:
        assert w.trade().state is TradeState.OPEN
        return
    assert w.trade().why_closed.startswith("hedge_drift_percent -7")
    assert "is beyond 5:" in w.trade().why_closed
    assert both_flat(w)


@pytest.mark.parametrize("word", ["", "abc", "NaN", "-1", None])
def test_a_price_edited_in_a_book_by_hand_keeps_no_sweep_from_its_work(world, word):
    w = opened(world, ["100000"] * 10, hedge_calm_range_percent="0.1")
    w.minutes(2)
    data = w.system.store.get("books", "main").data
    rows = [row | {"mark_price": word} for row in data["z_positions"]]
    w.system.store.batch([Merge("books", "main", {"z_positions": rows})])
    assert w.sweep() == 200
    assert w.trade().state is TradeState.OPEN


def buy_back(w: Any, size: Decimal) -> None:
    """An order of nobody's on the hedge account."""
    venue = w.system.venues.of("hedge")
    order = OrderRequest(
        client_order_id="0x" + "cd" * 16, market=w.market, side=Side.BUY, size=size, limit_price=D(110_000),
        kind=OrderKind.MARKET, reduce_only=True,
    )  # fmt: skip
    nonce = int(w.system.clock.now().timestamp() * 1000) + 500
    answer = venue.send(venue.sign(PlaceReduction("hedge", (order,)), SignerRole.EMERGENCY, nonce, None), 1)
    assert answer.outcome == "accepted", answer


@pytest.mark.parametrize(("action", "close", "gone"), [("buy", "60000", "main"), ("buy", "230000", "hedge")])
def test_a_liquidated_leg_is_recognised_and_the_other_is_closed(world, action, close, gone):
    """The price jumps over every rung within one minute, and no stop fires."""
    w = opened(world, [close] * 12, action, **WIDE)
    play(w, 8)
    trade = w.trade()
    assert trade.state is TradeState.CLOSED
    assert trade.why_closed.startswith(f"{gone} leg liquidated at" if gone == "main" else "hedge liquidated at")
    assert {leg.role.value: leg.liquidated for leg in trade.legs} == {"main": gone == "main", "hedge": gone == "hedge"}
    assert both_flat(w)
    gained = trade.hedge if gone == "main" else trade.main
    assert gained.realised_usd > 0


# -- breakers --------------------------------------------------------------------------------------


DAY = {"net_stop_percent": "50", "day_loss_reducing_percent": "0.3", "day_loss_flatten_percent": "0.9"}


def test_a_bad_day_stops_entries_and_a_worse_one_closes_everything(world):
    w = opened(world, [*line(100_000, 96_500, 7), *["96500"] * 4, *line(96_500, 88_000, 10), *["88000"] * 6], **DAY)
    play(w, 11)
    assert state(w) is Halt.REDUCING
    assert "day_loss_percent" in w.events("breaker")[0]
    assert w.trade().state is TradeState.OPEN
    w.alert("sell", "a2")
    assert w.trade().why_closed == "opposite signal of tradingview"
    w.alert("buy", "a3")
    assert w.trade().state is TradeState.REFUSED
    assert w.trade().why_closed.startswith("halted: ")


def test_a_loss_of_the_day_beyond_the_second_limit_flattens_and_ends_halted(world):
    w = opened(world, [*line(100_000, 88_000, 24), *["88000"] * 8], **DAY)
    play(w, 32)
    w.minutes(2)
    assert [e.split(":")[0] for e in w.events("breaker")] == ["ENABLED -> REDUCING", "REDUCING -> FLATTEN"]
    assert w.trade().state is TradeState.CLOSED
    assert w.trade().why_closed.startswith("FLATTEN by risk: day_loss_percent")
    assert both_flat(w)
    assert state(w) is Halt.HALTED
    assert "flat, read twice" in w.events("halted")[-1]
    w.minutes(3)
    assert state(w) is Halt.HALTED
    assert len(w.events("breaker")) == 2


@pytest.mark.parametrize("blind", [1, 2])
def test_flatten_does_not_end_in_halted_by_one_reading_that_finds_nothing(world, blind):
    """A stranger's position, which the first answers do not show: they are from before it, or from another node."""
    w = world(["100000"] * 12)
    w.minutes(2)
    set_trading(w.engine(), Halt.FLATTEN, why="a test", by="a test")
    owner(w, "main", lambda exchange: exchange.order(w.coin, True, 0.001, 110_000, {"limit": {"tif": "Ioc"}}))
    w.fault(kind="empty_read", address=w.address("main"), action="clearinghouseState", count=blind)
    w.minutes()
    assert (state(w), w.position("main")) in ((Halt.FLATTEN, D("0.001")), (Halt.HALTED, D(0)))
    w.control.clear_faults()
    w.minutes(2)
    assert state(w) is Halt.HALTED and w.position("main") == 0


def test_money_taken_out_is_no_loss(world):
    """A breaker counts trading: what was paid in or out during the day is left out of it."""
    w = opened(world, ["100000"] * 10, **DAY)
    w.minutes(2)
    owner(w, "main", lambda exchange: exchange.usd_transfer(2_000, "0x" + "12" * 20))
    w.minutes(3)
    assert D(w.system.store.get("accounts", "main").data["equity_usd"]) < 8_100
    assert state(w) is Halt.ENABLED
    assert not w.events("breaker")


def test_money_moved_between_our_accounts_or_to_spot_is_neither_loss_nor_profit(world):
    """A quarter of one account goes to the other, and some of that to spot: far beyond both limits of a day's loss."""
    w = opened(world, ["100000"] * 20, **DAY)
    w.minutes(2)
    page = w.system.store.get("accounts", "hedge").data
    assert page["day_moved_usd"] == "0"
    owner(w, "main", lambda exchange: exchange.usd_transfer(2_500, w.address("hedge")))
    w.minutes(1)
    owner(w, "hedge", lambda exchange: exchange.usd_class_transfer(3_000, to_perp=False))
    w.minutes(11)  # each page has had its turn
    assert state(w) is Halt.ENABLED and not w.events("breaker")
    for account, moved in (("main", -2_500), ("hedge", -500)):
        page = w.system.store.get("accounts", account).data
        assert D(page["day_moved_usd"]) == moved
        assert abs(D(page["equity_usd"]) - 10_000 - moved) < 10
        assert abs(D(page["day_pnl_usd"])) < 10, "the day's profit leaves it out"
        assert abs(D(page["drawdown_percent"])) < D("0.1"), "and so does the drawdown"


def owner(w: Any, account: str, act: Callable[[Any], Any]) -> None:
    """What only the owner's key may do, by the SDK, on the venue's own time."""
    import hyperliquid.exchange as sdk
    from eth_account import Account

    stamp, sdk.get_timestamp_ms = sdk.get_timestamp_ms, lambda: int(w.system.clock.now().timestamp() * 1000) + 900
    try:
        answer = act(sdk.Exchange(Account.from_key(paper_key(account, "owner")), w.server.url))
    finally:
        sdk.get_timestamp_ms = stamp
    assert answer["status"] == "ok", answer


@pytest.mark.parametrize("kind", ["429", "500", "502html", "lose_answer"])
def test_an_account_that_cannot_be_read_stops_entries_after_three_sweeps_and_is_never_a_loss(world, kind):
    w = opened(world, ["100000"] * 20, **DAY)
    w.minutes()
    before = w.position("main"), w.position("hedge")
    w.fault(kind=kind, path="/info", address=w.address("main"))
    for sweep in range(1, 4):
        assert state(w) is Halt.ENABLED
        w.system.clock.sleep(60)
        assert w.sweep() == 503
        assert w.system.store.get("accounts", "main").data["unreadable_sweeps"] == sweep
    assert state(w) is Halt.REDUCING
    assert w.events("breaker") == ["ENABLED -> REDUCING: main could not be read for 3 sweeps"]
    w.control.clear_faults()
    w.minutes(2)
    assert (w.position("main"), w.position("hedge")) == before
    assert w.trade().state is TradeState.OPEN
    assert w.system.store.get("accounts", "main").data["unreadable_sweeps"] == 0
    assert state(w) is Halt.REDUCING  # only a person resumes
    w.alert("sell", "a2")
    assert w.trade().state is TradeState.CLOSED


def test_two_unreadable_sweeps_are_a_hiccup(world):
    w = opened(world, ["100000"] * 20)
    for _ in range(3):
        w.fault(kind="429", path="/info", address=w.address("main"))
        for _ in range(2):
            w.system.clock.sleep(60)
            assert w.sweep() == 503
        w.control.clear_faults()
        w.minutes()
    assert state(w) is Halt.ENABLED


def test_one_unreadable_account_does_not_keep_the_other_from_being_looked_after(world):
    """The main account answers nothing; a stop that is missing on the hedge account is still placed again."""
    from twinleg.engine.ports import CancelOrders

    w = opened(world, ["100000"] * 20)
    venue = w.system.venues.of("hedge")
    stops = [o for o in venue.open_orders("hedge") if o.kind == "stop"]
    action = CancelOrders("hedge", w.market, (stops[0].client_order_id,))
    nonce = int(w.system.clock.now().timestamp() * 1000) + 500
    assert venue.send(venue.sign(action, SignerRole.EMERGENCY, nonce, None), 1).outcome == "accepted"
    w.fault(kind="500", path="/info", address=w.address("main"))
    w.system.clock.sleep(60)
    assert w.sweep() == 503
    assert [o.trigger_price for o in venue.open_orders("hedge") if o.kind == "stop"] == [stops[0].trigger_price]


@pytest.mark.parametrize("mode", ["unifiedAccount", "portfolioMargin"])
@pytest.mark.parametrize("account", ["main", "hedge"])
def test_an_account_mode_other_than_disabled_stops_entries(world, account, mode):
    w = world()
    owner(w, account, lambda exchange: exchange.user_set_abstraction(w.address(account), mode))
    w.minutes()
    assert w.system.store.get("accounts", account).data["mode"] == mode
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.REFUSED
    assert not w.fills("main")
    owner(w, account, lambda exchange: exchange.user_set_abstraction(w.address(account), "disabled"))
    w.alert("buy", "a2")
    assert w.trade().state is TradeState.OPEN


def test_an_open_trade_is_protected_whatever_mode_its_account_was_put_into(world):
    """The equity such an account shows is none: that is no loss of the day, and the ladder climbs on."""
    w = opened(world, line(100_000, 55_000, 60), **{**WIDE, "day_loss_reducing_percent": "5"})
    owner(w, "main", lambda exchange: exchange.user_set_abstraction(w.address("main"), "unifiedAccount"))
    play(w, 62)
    assert w.trade().why_closed.startswith("ladder: ")
    assert both_flat(w)
    assert not w.events("breaker")


# -- what is not believed --------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["main", "hedge"])
@pytest.mark.parametrize("action", ["clearinghouseState", "frontendOpenOrders", "userFillsByTime", None])
def test_one_empty_answer_closes_nothing(world, account, action):
    """As if the address had never traded: TRUTH wants two reads at least 5 s apart, or a fill that explains it."""
    w = opened(world, ["100000"] * 12)
    w.minutes(2)
    before = w.position("main"), w.position("hedge")
    rule = {"action": action} if action else {}
    w.fault(kind="empty_read", path="/info", address=w.address(account), count=1, **rule)
    w.minutes()
    assert w.control.status()["faults"] == 1
    w.control.clear_faults()
    w.minutes(3)
    assert w.trade().state is TradeState.OPEN
    assert (w.position("main"), w.position("hedge")) == before
    assert state(w) is Halt.ENABLED
    assert not w.events("orphan")
    for leg in w.trade().legs:
        stops = [o for o in w.system.venues.of(leg.account).open_orders(leg.account) if o.kind == "stop"]
        assert {o.trigger_price for o in stops} == {leg.stop_price}


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_a_stale_answer_makes_no_orphan_and_closes_nothing_twice(world, account):
    """A position that was just closed is answered once more as it was before."""
    w = opened(world, ["100000"] * 12, foreign="close")
    w.minutes()
    w.alert("close", "a2")
    assert both_flat(w)
    fills = len(w.fills("main")), len(w.fills("hedge"))
    w.fault(kind="stale_read", path="/info", address=w.address(account), count=2)
    w.minutes(3)
    assert both_flat(w)
    assert (len(w.fills("main")), len(w.fills("hedge"))) == fills
    assert w.trade().state is TradeState.CLOSED


# -- what a person reads ---------------------------------------------------------------------------


def test_each_sweep_leaves_accounts_books_and_positions_a_person_can_read(world):
    w = opened(world, ["100000"] * 6)
    w.minutes(2)
    store = w.system.store
    account = store.get("accounts", "main").data
    assert D(9_990) < D(account["equity_usd"]) < D(10_001)
    assert account["summary"].startswith("main: equity 99")
    assert account["positions"] == [w.market]
    [held] = store.get("books", "main").data["z_positions"]
    assert D(held["size"]) == w.position("main")
    assert D("0.3") < D(held["liquidation_distance"]) < D("0.35")
    assert held["owner"] == w.trade().trade_id
    for figures in (held, store.get("positions", f"main:{w.market}").data):  # ours beside the venue's, and the error
        assert abs(D(figures["own_liquidation_price"]) - D(figures["liquidation_price"])) < D("0.001")
        assert D(figures["liquidation_error_percent"]) < D("0.00001")
    assert account["own_margin_ratio"] == account["margin_ratio"]
    assert D(account["liquidation_error_percent"]) < D("0.00001")
    assert store.get("books", "hedge").data["z_positions"][0]["owner"] == w.trade().trade_id
    position = store.get("positions", f"main:{w.market}").data
    assert position["owner"] == w.trade().trade_id
    assert position["stops"] == ["99000"]
    w.alert("close", "a2")
    w.minutes()
    assert store.get("positions", f"main:{w.market}").data["owner"] == ""
    assert store.get("positions", f"main:{w.market}").data["size"] == "0"
    assert store.get("books", "main").data["z_positions"] == store.get("books", "main").data["z_trades"] == []


def test_each_sweep_logs_the_figures_that_charts_and_alarms_are_made_of(world, caplog):
    """Of each account its margin ratio and the error of our liquidation prices; the worst drift; the time it took."""
    caplog.set_level(logging.INFO, logger="twinleg.measures")
    w = opened(world, ["100000"] * 10)
    buy_back(w, D("0.00014"))  # 7 % of the hedge, which stays within the band
    w.minutes()
    caplog.clear()
    w.minutes()
    said = {(r.metric, getattr(r, "account", "")): r.value for r in caplog.records if hasattr(r, "metric")}
    for account in ("main", "hedge"):
        state = w.system.venues.of(account).account(account)
        assert said["margin_ratio", account] == pytest.approx(float(state.margin_ratio), rel=1e-6) and state.positions
        assert 0 <= said["liquidation_error_percent", account] < 1e-6
    assert said["hedge_drift_percent", ""] == pytest.approx(7, abs=0.2)
    assert 0 <= said["sweep_seconds", ""] < 5


def test_a_quiet_sweep_writes_the_books_and_one_page_at_most(world):
    w = opened(world, ["100000"] * 12)
    w.minutes(3)
    audit = len(w.system.store.query("audit"))
    pages = []
    for _ in range(2 * PAGE_EVERY):
        before = versions(w)
        w.sweep()
        after = versions(w)
        changed = {key for key in after if after[key] != before.get(key)}
        assert {("books", "main"), ("books", "hedge")} <= changed
        page = changed - {("books", "main"), ("books", "hedge")}
        assert len(page) <= 1
        pages += page
    assert set(pages) == {("accounts", "main"), ("accounts", "hedge")}  # each in its turn
    assert len(w.system.store.query("audit")) == audit


def versions(w: Any) -> dict[tuple[str, str], str]:
    collections = ("accounts", "books", "positions", "trades", "orders", "control")
    return {(c, d.id): d.version for c in collections for d in w.system.store.query(c)}
