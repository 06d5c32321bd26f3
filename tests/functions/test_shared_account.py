"""Two markets on the same two accounts: what one trade was promised, the other cannot have."""

import contextlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from twinleg.domain.candles import ms_from_utc
from twinleg.domain.errors import TwinlegError
from twinleg.domain.messages import HedgedIntent
from twinleg.domain.trades import ENDED, TradeState
from twinleg.embedded.replay import alert_json
from twinleg.engine.execution import on_intent
from twinleg.engine.orderpath import ActionRecord, ActionState
from twinleg.engine.pages import action_document
from twinleg.engine.ports import SignerRole, Steps

D = Decimal
BIG = {"budget_percent": "8", "stop_percent": "0.5", "loss_at_stop_percent_max": "10", "net_stop_percent": "50"}
"""Main margin of about 8 % x 2 x 80 % = 12.8 % of the main account for each trade: two are more than its 20 %."""


def two_markets(world: Any, steps: Steps | None = None, **limits: str) -> Any:
    w = world(also=("ETH",), **{**BIG, **limits})
    w.restart(steps)
    return w


def alerted(w: Any, coin: str) -> None:
    at = w.system.clock.now()
    assert w.post(alert_json(coin, "buy", at, f"{coin} {at}")) == [200]


def in_use_percent(w: Any, account: str) -> Decimal:
    state = w.system.venues.of(account).account(account)
    return state.margin_used_usd / state.equity_usd * 100


def intents(w: Any) -> list[HedgedIntent]:
    stored = [i for i in w.system.store.query("intents") if i.data.get("decision") == "open"]
    return [HedgedIntent.model_validate_json(i.data["z_message"]) for i in stored]


def judge(w: Any, trades: int) -> None:
    opened = [t for t in w.trades() if t.state is TradeState.OPEN]
    assert len(opened) == trades
    for account in ("main", "hedge"):
        assert in_use_percent(w, account) <= 20
    if trades == 2:
        assert in_use_percent(w, "main") > 19


def test_one_after_the_other(world):
    w = two_markets(world)
    for coin in ("BTC", "ETH"):
        alerted(w, coin)
        w.deliver()
    judge(w, 2)


@pytest.mark.parametrize("at", range(1, 14))
def test_approved_at_the_same_moment_they_cannot_together_have_more_than_is_allowed(world, at):
    """While one intent is at its n-th write or order, another process carries out the other from end to end."""
    w = two_markets(world)
    for coin in ("BTC", "ETH"):
        alerted(w, coin)
        w.runtime.bus._deliver_one(["alerts"], w.system.clock.now())
    btc, eth = sorted(intents(w), key=lambda intent: intent.market)
    other, seen = w.new_system(), []

    def meanwhile(_: int, name: str) -> None:
        if name.startswith("store.batch") or name.endswith("exchange"):
            seen.append(name)
            if len(seen) == at:
                with contextlib.suppress(TwinlegError):
                    on_intent(other.engine(SignerRole.EXECUTE), eth)

    w.restart(Steps(meanwhile))
    other.clock = w.system.clock
    with contextlib.suppress(TwinlegError):
        on_intent(w.engine(SignerRole.EXECUTE), btc)
    assert len(seen) >= at
    w.minutes(2)
    judge(w, len([t for t in w.trades() if t.state not in ENDED]))
    assert all(t.state in (*ENDED, TradeState.OPEN) for t in w.trades())


# -- undecided actions -----------------------------------------------------------------------------


def undecided(w: Any, market: str, *, since: timedelta) -> ActionRecord:
    """The record of an action whose sender died before it sent it."""
    now = w.system.clock.now() - since
    signer = w.system.venues.of("main").signer("main", SignerRole.EXECUTE)
    nonce = ms_from_utc(now) - 7
    record = ActionRecord(
        id=f"{signer}:{nonce}", state=ActionState.WRITTEN, kind="SetLeverage", account="main", market=market,
        trade_id="another", adds_exposure=False, client_order_ids=(), signer=signer, role=SignerRole.EXECUTE,
        nonce=nonce, expires_at=now + timedelta(seconds=15), body="{}", created_at=now,
        transitions=(f"{now.isoformat()} written",), summary="a test",
    )  # fmt: skip
    w.system.store.create("actions", record.id, action_document(record))
    return record


def test_an_undecided_action_in_a_slot_keeps_entries_out_and_elsewhere_does_not(world):
    w = two_markets(world)
    record = undecided(w, "hyperliquid:ETH", since=timedelta(0))
    for coin in ("ETH", "BTC"):
        alerted(w, coin)
        w.deliver()
    eth, btc = sorted(w.trades(), key=lambda t: t.main.market, reverse=True)
    assert eth.why_closed == f"unresolved: main:hyperliquid:ETH by {record.id} has an action whose outcome is unknown"
    assert btc.state is TradeState.OPEN


def test_one_that_must_have_ended_is_decided_first(world):
    w = two_markets(world)
    record = undecided(w, "hyperliquid:ETH", since=timedelta(seconds=40))
    alerted(w, "ETH")
    w.deliver()
    assert w.trade().state is TradeState.OPEN
    assert w.system.store.get("actions", record.id).data["state"] == "never_ran"
