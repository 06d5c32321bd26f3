"""The unmodified Hyperliquid SDK trades on the paper venue over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.request import Request, urlopen

import pytest
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info
from hyperliquid.utils.error import ClientError, ServerError
from hyperliquid.utils.signing import get_timestamp_ms
from hyperliquid.utils.types import Cloid

from twinleg.adapters.local.clocks import SystemClock
from twinleg.domain.candles import Candle, ms_from_utc
from twinleg.paper.options import Switches, VenueOptions
from twinleg.paper.server import serve_in_thread

HISTORY = 30
SERIES = 120


def candles(start: datetime) -> list[Candle]:
    """Two hours of minutes around 100 000; the price stands still for a while after the history."""
    out = []
    for i in range(SERIES):
        low, high = (Decimal(99_990), Decimal(100_010)) if i < HISTORY + 5 else (Decimal(98_000), Decimal(100_000))
        out.append(Candle(start + timedelta(minutes=i), Decimal(100_000), high, low, Decimal(100_000), Decimal(30)))
    return out


@pytest.fixture
def venue():
    now = SystemClock().now().replace(second=0, microsecond=0)
    start = now - timedelta(minutes=HISTORY)
    options = VenueOptions(
        candles={"BTC": candles(start), "ETH": candles(start)},
        start_ms=ms_from_utc(now),
        switches=Switches(volume_gates=False),
    )
    server = serve_in_thread(options)
    yield server
    server.stop()


@pytest.fixture
def wallet():
    return Account.create()


@pytest.fixture
def sdk(venue, wallet):
    return Exchange(wallet, venue.url, timeout=5)


@pytest.fixture
def info(sdk):
    return sdk.info


def control(venue, path, payload=None, method=None):
    data = None if payload is None else json.dumps(payload).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(venue.url + path, data=data, headers=headers, method=method), timeout=5) as answer:
        return json.loads(answer.read())


def statuses(answer):
    assert answer["status"] == "ok", answer
    return answer["response"]["data"]["statuses"]


def trigger(price, kind):
    return {"trigger": {"isMarket": True, "triggerPx": price, "tpsl": kind}}


def test_it_starts_reads_and_trades_at_market(venue, sdk, info, wallet):
    assert Info(venue.url, skip_ws=True).coin_to_asset["ETH"] == 1
    assert info.user_state(wallet.address)["withdrawable"] == "10000.0"
    (opened,) = statuses(sdk.market_open("BTC", True, 0.02))
    assert opened["filled"]["totalSz"] == "0.02"
    (position,) = info.user_state(wallet.address)["assetPositions"]
    assert position["position"]["szi"] == "0.02"
    (closed,) = statuses(sdk.market_close("BTC"))
    assert closed["filled"]["totalSz"] == "0.02"
    assert info.user_state(wallet.address)["assetPositions"] == []
    assert [f["dir"] for f in info.user_fills(wallet.address)] == ["Close Long", "Open Long"]


def test_orders_rest_and_are_modified_and_cancelled(sdk, info, wallet):
    mine = Cloid.from_int(77)
    (placed,) = statuses(sdk.order("BTC", True, 0.01, 95_000, {"limit": {"tif": "Gtc"}}, cloid=mine))
    oid = placed["resting"]["oid"]
    assert placed["resting"]["cloid"] == mine.to_raw()
    (changed,) = statuses(sdk.modify_order(oid, "BTC", True, 0.02, 94_000, {"limit": {"tif": "Gtc"}}, cloid=mine))
    assert changed["resting"]["oid"] > oid
    assert info.query_order_by_cloid(wallet.address, mine)["order"]["order"]["limitPx"] == "94000.0"
    (shown,) = info.open_orders(wallet.address)
    assert shown["cloid"] == mine.to_raw() and "reduceOnly" not in shown
    assert statuses(sdk.cancel_by_cloid("BTC", mine)) == ["success"]
    (gone,) = statuses(sdk.cancel("BTC", oid))
    assert gone["error"] == "Order was never placed, already canceled, or filled. asset=0"
    assert info.query_order_by_oid(wallet.address, oid)["order"]["status"] == "canceled"
    assert info.query_order_by_oid(wallet.address, 1) == {"status": "unknownOid"}
    assert {h["status"] for h in info.historical_orders(wallet.address)} == {"open", "canceled"}


def test_a_bracket_in_one_request_closes_itself(venue, sdk, info, wallet):
    entry = {
        "coin": "BTC",
        "is_buy": True,
        "sz": 0.02,
        "limit_px": 100_500,
        "order_type": {"limit": {"tif": "Ioc"}},
        "reduce_only": False,
    }
    close = {"coin": "BTC", "is_buy": False, "sz": 0.02, "reduce_only": True}
    stop = {**close, "limit_px": 90_000, "order_type": trigger(99_000, "sl")}
    target = {**close, "limit_px": 103_000, "order_type": trigger(103_000, "tp")}
    first, *children = statuses(sdk.bulk_orders([entry, stop, target], grouping="normalTpsl"))
    assert first["filled"]["totalSz"] == "0.02" and children == ["waitingForTrigger"] * 2
    assert [o["orderType"] for o in info.frontend_open_orders(wallet.address)] == ["Take Profit Market", "Stop Market"]
    now_ms = control(venue, "/_sim/status")["now_ms"]
    control(venue, "/_sim/clock", {"now_ms": now_ms + 10 * 60_000})
    assert info.user_state(wallet.address)["assetPositions"] == []
    fills = info.user_fills_by_time(wallet.address, now_ms)
    assert fills[-1]["dir"] == "Close Long" and float(fills[-1]["px"]) < 99_000
    assert info.frontend_open_orders(wallet.address) == []
    ledger = control(venue, "/_sim/ledger")
    assert ledger["books"]["total"] == "0.0"
    kinds = {o["orderType"]: o["status"] for o in ledger["orders"]}
    assert kinds["Stop Market"] == "filled" and kinds["Take Profit Market"] == "siblingFilledCanceled"


def test_an_agent_key_trades_for_its_master(venue, sdk, info, wallet):
    answer, key = sdk.approve_agent("desk")
    assert answer["status"] == "ok"
    agent = Exchange(Account.from_key(key), venue.url, account_address=wallet.address, timeout=5)
    statuses(agent.market_open("BTC", False, 0.01))
    assert info.user_state(wallet.address)["assetPositions"][0]["position"]["szi"] == "-0.01"
    statuses(agent.market_close("BTC"))
    (listed,) = info.extra_agents(wallet.address)
    assert listed["name"] == "desk"
    assert info.user_role(listed["address"]) == {"role": "agent", "data": {"user": wallet.address.lower()}}
    assert agent.usd_transfer(1, wallet.address)["response"].startswith("Must deposit before performing actions.")
    unnamed, _ = sdk.approve_agent()
    assert unnamed["status"] == "ok"


def test_leverage_margin_money_and_sub_accounts(venue, sdk, info, wallet):
    assert sdk.update_leverage(5, "BTC", False)["status"] == "ok"
    data = info.post("/info", {"type": "activeAssetData", "user": wallet.address, "coin": "BTC"})
    assert data["leverage"] == {"type": "isolated", "value": 5}
    statuses(sdk.market_open("BTC", True, 0.02))
    assert sdk.update_isolated_margin(25.5, "BTC")["status"] == "ok"
    used = float(info.user_state(wallet.address)["assetPositions"][0]["position"]["marginUsed"])
    assert used == pytest.approx(425, abs=1)
    friend = Account.create().address
    assert sdk.usd_transfer(100, friend)["status"] == "ok"
    assert info.user_state(friend)["withdrawable"] == "10100.0"
    assert sdk.usd_class_transfer(50, False)["status"] == "ok"
    assert info.spot_user_state(wallet.address)["balances"][0]["total"] == "50.0"
    sub = sdk.create_sub_account("hedge")["response"]["data"]
    assert sdk.sub_account_transfer(sub, True, 2_000_000_000)["status"] == "ok"
    hedge = Exchange(wallet, venue.url, vault_address=sub, timeout=5)
    statuses(hedge.market_open("BTC", False, 0.01))
    (listed,) = info.query_sub_accounts(wallet.address)
    assert listed["clearinghouseState"]["assetPositions"][0]["position"]["szi"] == "-0.01"
    statuses(hedge.market_close("BTC"))
    assert info.user_state(wallet.address)["assetPositions"][0]["position"]["szi"] == "0.02"
    assert sdk.withdraw_from_bridge(10, wallet.address)["status"] == "ok"


def test_nonces_expiry_noop_and_the_dead_man_switch(venue, sdk, info, wallet):
    now_ms = control(venue, "/_sim/status")["now_ms"]
    sdk.set_expires_after(now_ms - 1)
    assert sdk.update_leverage(3, "BTC") == {"status": "err", "response": "Action already expired"}
    sdk.set_expires_after(now_ms + 15_000)
    assert sdk.update_leverage(3, "BTC")["status"] == "ok"
    sdk.set_expires_after(None)
    assert sdk.noop(now_ms + 5)["status"] == "ok"
    assert sdk.noop(now_ms + 5)["response"] == f"Invalid nonce: duplicate nonce {now_ms + 5}"
    statuses(sdk.order("BTC", True, 0.01, 95_000, {"limit": {"tif": "Gtc"}}))
    assert sdk.schedule_cancel(now_ms + 60_000)["status"] == "ok"
    control(venue, "/_sim/clock", {"now_ms": now_ms + 60_000})
    assert info.open_orders(wallet.address) == []


def test_who_signs_for_the_main_network_is_told_so_with_open_accounts_too(venue, monkeypatch):
    monkeypatch.setattr("hyperliquid.exchange.MAINNET_API_URL", venue.url)
    sender, trader = (Exchange(Account.create(), venue.url, timeout=5) for _ in range(2))
    assert "different signature" in sender.usd_transfer(1, trader.wallet.address)["response"]
    assert trader.noop(get_timestamp_ms())["status"] == "ok"
    for exchange in (sender, trader):
        answer = exchange.market_open("BTC", True, 0.01)
        assert answer["status"] == "err" and answer["response"].endswith("does not exist.")


def test_orders_go_in_and_out_in_bulk(sdk, info, wallet):
    mine = [Cloid.from_int(n) for n in (1, 2, 3)]
    limit = {"coin": "BTC", "is_buy": True, "sz": 0.01, "order_type": {"limit": {"tif": "Alo"}}, "reduce_only": False}
    placed = statuses(sdk.bulk_orders([{**limit, "limit_px": 95_000 - n, "cloid": c} for n, c in enumerate(mine)]))
    oids = [status["resting"]["oid"] for status in placed]
    change = {**limit, "sz": 0.02, "limit_px": 94_000}
    changed = statuses(
        sdk.bulk_modify_orders_new([{"oid": oids[0], "order": change}, {"oid": mine[1], "order": change}])
    )
    oids[:2] = [status["resting"]["oid"] for status in changed]
    assert {order["sz"] for order in info.open_orders(wallet.address)} == {"0.02", "0.01"}
    gone = [{"coin": "BTC", "oid": oids[0]}, {"coin": "BTC", "oid": oids[1]}]
    assert statuses(sdk.bulk_cancel(gone)) == ["success"] * 2
    (cancelled, unknown) = statuses(
        sdk.bulk_cancel_by_cloid([{"coin": "BTC", "cloid": cloid} for cloid in (mine[2], mine[0])])
    )
    assert cancelled == "success" and unknown["error"].startswith("Order was never placed")
    (resting,) = statuses(sdk.order("BTC", True, 0.01, 105_000, trigger(104_000, "sl")))
    assert info.query_order_by_oid(wallet.address, resting["resting"]["oid"])["order"]["order"]["isTrigger"]


def test_a_dead_mans_switch_that_is_cleared_cancels_nothing(venue, sdk, info, wallet):
    now_ms = control(venue, "/_sim/status")["now_ms"]
    statuses(sdk.order("BTC", True, 0.01, 95_000, {"limit": {"tif": "Gtc"}}))
    assert sdk.schedule_cancel(now_ms + 60_000)["status"] == sdk.schedule_cancel(None)["status"] == "ok"
    control(venue, "/_sim/clock", {"now_ms": now_ms + 120_000})
    assert len(info.open_orders(wallet.address)) == 1


def test_a_builder_is_paid_what_was_approved(sdk, info, wallet):
    builder = Account.create().address
    paid = {"b": builder, "f": 20}
    assert sdk.market_open("BTC", True, 0.01, builder=dict(paid))["response"] == "Builder fee has not been approved."
    assert sdk.approve_builder_fee(builder, "0.02%")["status"] == "ok"
    assert info.post("/info", {"type": "maxBuilderFee", "user": wallet.address, "builder": builder}) == 20
    statuses(sdk.market_open("BTC", True, 0.01, builder=dict(paid)))
    (fill,) = info.user_fills(wallet.address)
    assert float(fill["builderFee"]) == pytest.approx(float(fill["px"]) * 0.01 * 0.0002)


def test_money_moves_between_sides_and_sub_accounts(venue, sdk, info, wallet):
    sub = sdk.create_sub_account("hedge")["response"]["data"]
    assert sdk.sub_account_transfer(sub, True, 500_000_000)["status"] == "ok"
    assert Exchange(wallet, venue.url, vault_address=sub).usd_class_transfer(100, False)["status"] == "ok"
    assert sdk.send_asset(wallet.address, "", "spot", "USDC", 50)["status"] == "ok"
    assert sdk.sub_account_spot_transfer(sub, True, "USDC", 20.0)["status"] == "ok"
    assert sdk.spot_transfer(10, Account.create().address, "USDC")["status"] == "ok"

    def spot(user):
        return info.spot_user_state(user)["balances"][0]["total"]

    assert (spot(sub), spot(wallet.address)) == ("120.0", "20.0")
    assert info.user_state(sub)["withdrawable"] == "400.0"
    assert sdk.sub_account_transfer(sub, False, 400_000_000)["status"] == "ok"
    assert info.user_state(wallet.address)["withdrawable"] == "9850.0"


def test_a_referral_code_and_the_account_mode(sdk, info, wallet):
    assert set(sdk.set_referrer("ABC")) == {"status", "response"}
    assert sdk.user_set_abstraction(wallet.address, "unifiedAccount")["status"] == "ok"
    assert info.query_user_abstraction_state(wallet.address) == "unifiedAccount"
    assert sdk.usd_class_transfer(5, False)["response"] == "Action disabled when unified account is active"
    assert sdk.agent_set_abstraction("i")["status"] == "ok"
    assert info.query_user_abstraction_state(wallet.address) == "disabled"


def test_every_read_of_the_sdk_is_answered(venue, sdk, info, wallet):
    statuses(sdk.market_open("ETH", True, 0.01))
    now_ms = control(venue, "/_sim/status")["now_ms"]
    control(venue, "/_sim/clock", {"now_ms": now_ms + 70 * 60_000})
    user = wallet.address
    assert set(info.all_mids()) == {"BTC", "ETH"}
    assert info.meta()["universe"][0]["name"] == "BTC"
    assert len(info.meta_and_asset_ctxs()) == len(info.spot_meta_and_asset_ctxs()) == 2
    assert info.perp_dexs() == [None]
    assert len(info.l2_snapshot("BTC")["levels"]) == 2
    assert info.candles_snapshot("BTC", "1h", 0, now_ms)[0]["i"] == "1h"
    assert info.funding_history("BTC", 0)[-1]["fundingRate"]
    assert info.user_funding_history(user, 0)[-1]["delta"]["type"] == "funding"
    assert info.user_fees(user)["userCrossRate"] == "0.00045"
    assert info.user_rate_limit(user)["nRequestsUsed"] == 1
    assert info.user_role(user) == {"role": "user"}
    assert info.portfolio(user)[0][0] == "day"
    assert info.user_non_funding_ledger_updates(user, 0)[0]["delta"] == {"type": "deposit", "usdc": "10000.0"}
    assert info.post("/info", {"type": "userAbstraction", "user": user}) == "disabled"
    assert info.post("/info", {"type": "exchangeStatus"})["time"] == now_ms + 70 * 60_000


def test_bodies_are_refused_with_the_real_statuses(venue, sdk, info):
    with pytest.raises(ClientError) as error:
        info.post("/info", {"type": "nothing"})
    assert error.value.status_code == 422
    for data, kind, status, text in (
        (b"{", "application/json", 400, "Failed to parse the request body as JSON"),
        (b"{}", "text/plain", 415, "Expected request with `Content-Type: application/json`"),
        (b"{}", "application/json", 422, "Failed to deserialize the JSON body into the target type"),
    ):
        answer = sdk.session.post(venue.url + "/exchange", data=data, headers={"Content-Type": kind})
        assert (answer.status_code, answer.text) == (status, text)
    assert sdk.session.get(venue.url + "/info").status_code == 404
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert sdk.session.post(venue.url + "/info", data=b"not packed", headers=packed).status_code == 400


FAILURES = [("429", ClientError), ("500", ServerError), ("502html", ServerError)]


@pytest.mark.parametrize(("kind", "error"), FAILURES)
def test_failing_answers_reach_the_client_as_they_would(venue, sdk, kind, error):
    control(venue, "/_sim/faults", {"kind": kind, "path": "/exchange", "count": 1})
    with pytest.raises(error):
        sdk.update_leverage(3, "BTC")
    assert sdk.update_leverage(3, "BTC")["status"] == "ok"
    assert control(venue, "/_sim/faults", method="DELETE") == {"faults": []}


def test_a_lost_answer_is_a_dropped_connection_and_the_order_is_there(venue, sdk, info, wallet):
    import requests

    control(venue, "/_sim/faults", [{"kind": "lose_answer", "action": "order", "count": 1}])
    with pytest.raises(requests.exceptions.ConnectionError):
        sdk.order("BTC", True, 0.01, 101_000, {"limit": {"tif": "Ioc"}})
    assert len(info.user_fills(wallet.address)) == 1


def test_a_delay_outlasts_the_clients_patience(venue, wallet):
    import requests

    sdk = Exchange(wallet, venue.url, timeout=0.3)
    control(venue, "/_sim/faults", {"kind": "delay", "ms": 600, "action": "order", "count": 1})
    with pytest.raises(requests.exceptions.ReadTimeout):
        sdk.order("BTC", True, 0.01, 101_000, {"limit": {"tif": "Ioc"}})
    assert len(sdk.info.user_fills(wallet.address)) == 1


def test_control_requests_are_refused_in_one_clear_line(venue):
    from urllib.error import HTTPError

    for path, payload, text in (
        ("/_sim/clock", {"now_ms": 5}, "now_ms must not go back"),
        ("/_sim/clock", {"now_ms": "5"}, "now_ms must be int, was '5'"),
        ("/_sim/deposit", {"address": "0x12", "usd": "1"}, "address must be 40 hex digits"),
        ("/_sim/switches", {"moon": 1}, "'moon' is not a switch"),
        ("/_sim/candles", {"coin": "DOGGO", "candles": []}, "coin must be one of BTC, ETH"),
    ):
        with pytest.raises(HTTPError) as error:
            control(venue, path, payload)
        with error.value as answer:
            assert answer.status == 400 and text in json.loads(answer.read())["error"]


def test_a_thread_serves_a_ledger_file_too(tmp_path):
    start = datetime(2025, 5, 1, tzinfo=UTC)
    options = VenueOptions({"BTC": candles(start)}, start_ms=ms_from_utc(start), ledger=tmp_path / "ledger.sqlite")
    for expected in ("10000.0", "10005.0"):
        server = serve_in_thread(options)
        try:
            user = "0x" + "12" * 20
            assert Info(server.url, skip_ws=True).user_state(user)["withdrawable"] == expected
            if expected == "10000.0":
                control(server, "/_sim/deposit", {"address": user, "usd": "10005"})
        finally:
            server.stop()


def test_a_month_of_candles_can_be_appended_in_one_request(venue):
    end = control(venue, "/_sim/status")["markets"]["BTC"]["end_ms"]
    rows = [[end + i * 60_000, "100000.0", "100010.0", "99990.0", "100000.0", "12.34567"] for i in range(44_640)]
    assert control(venue, "/_sim/candles", {"coin": "BTC", "candles": rows})["appended"] == 44_640
    assert control(venue, "/_sim/status")["markets"]["BTC"]["end_ms"] == end + 44_640 * 60_000


def test_reads_are_served_from_many_connections(venue):
    import threading

    import requests

    counts = []

    def read():
        with requests.Session() as session:
            body = {"type": "clearinghouseState", "user": "0x" + "1" * 40}
            counts.append(sum(session.post(venue.url + "/info", json=body).status_code == 200 for _ in range(50)))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [50] * 4


def test_old_candles_play_on_a_wall_clock():
    start = datetime(2025, 5, 1, tzinfo=UTC)
    options = VenueOptions(candles={"BTC": candles(start)}, clock="wall", history_candles=HISTORY)
    server = serve_in_thread(options)
    try:
        sdk = Exchange(Account.create(), server.url, timeout=5)
        assert abs(control(server, "/_sim/status")["now_ms"] - ms_from_utc(SystemClock().now())) < 2_000
        (opened,) = statuses(sdk.market_open("BTC", True, 0.01))
        assert opened["filled"]["totalSz"] == "0.01"
    finally:
        server.stop()
