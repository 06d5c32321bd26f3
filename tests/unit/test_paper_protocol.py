"""The paper venue's protocol: what it can read, who signed it, nonces, expiry, and the answers' shapes."""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from eth_account import Account
from hyperliquid.utils import signing
from hypothesis import given, settings
from hypothesis import strategies as st

import paper_bench as bench
from twinleg.domain.errors import BadInput
from twinleg.paper.nonces import Nonces
from twinleg.paper.options import UNDECIDED, Switches, VenueOptions
from twinleg.paper.schema import is_exchange_request
from twinleg.paper.signatures import canonical, connection_id, recover
from twinleg.paper.venue import Venue, shaped

Bench, wire, flat, candle = bench.Bench, bench.wire, bench.flat, bench.candle
ALICE, BOB, D, START_MS = bench.ALICE, bench.BOB, bench.D, bench.START_MS
KEY = "0x" + "0123456789" * 6 + "0123"
SIGNER = "0x14791697260e4c9a71f18484c9f997b308e59325"
VAULT = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"


@pytest.mark.parametrize("said", ["é", "\ud800", 2**64 - 1, 2**70, -(2**63) - 1, {"levels": [{"n": 1}], "none": None}])
def test_whatever_was_asked_can_be_repeated_in_an_answer(said: object) -> None:
    assert json.loads(shaped(200, [said]).text) == [said]


# Signatures: the published vectors of the SDK


def plain_order(**more):
    return {
        "type": "order",
        "orders": [{"a": 1, "b": True, "p": "100", "s": "100", "r": False, "t": {"limit": {"tif": "Gtc"}}, **more}],
        "grouping": "na",
    }


TRIGGER = {"t": {"trigger": {"isMarket": True, "triggerPx": "103", "tpsl": "sl"}}}
SUB = {"type": "subAccountTransfer", "subAccountUser": "0x1d9470d4b963f552e6f671a81619d395877bf409", "isDeposit": True}
SENT = {
    "signatureChainId": "0x66eee",
    "hyperliquidChain": "Testnet",
    "destination": "0x5e9ee1089755c3435139848e47e6635505d5a13a",
    "amount": "1",
    "time": 1687816341423,
}
VECTORS = [
    (plain_order(), {}, True, "d65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
     "2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e", 28),
    (plain_order(), {}, False, "82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54",
     "6b53878fc99d26047f4d7e8c90eb98955a109f44209163f52d8dc4278cbbd9f5", 27),
    (plain_order(c="0x" + "0" * 31 + "1"), {}, True, "41ae18e8239a56cacbc5dad94d45d0b747e5da11ad564077fcac71277a946e3",
     "3c61f667e747404fe7eea8f90ab0e76cc12ce60270438b2058324681a00116da", 27),
    (plain_order(c="0x" + "0" * 31 + "1"), {}, False,
     "eba0664bed2676fc4e5a743bf89e5c7501aa6d870bdb9446e122c9466c5cd16d",
     "7f3e74825c9114bc59086f1eebea2928c190fdfbfde144827cb02b85bbe90988", 28),
    (plain_order(**TRIGGER), {}, True, "98343f2b5ae8e26bb2587daad3863bc70d8792b09af1841b6fdd530a2065a3f9",
     "6b5bb6bb0633b710aa22b721dd9dee6d083646a5f8e581a20b545be6c1feb405", 27),
    (plain_order(**TRIGGER), {}, False, "971c554d917c44e0e1b6cc45d8f9404f32172a9d3b3566262347d0302896a2e4",
     "206257b104788f80450f8e786c329daa589aa0b32ba96948201ae556d5637eac", 28),
    ({"type": "dummy", "num": 100000000000}, {"vaultAddress": VAULT}, True,
     "3c548db75e479f8012acf3000ca3a6b05606bc2ec0c29c50c515066a326239",
     "4d402be7396ce74fbba3795769cda45aec00dc3125a984f2a9f23177b190da2c", 28),
    ({"type": "createSubAccount", "name": "example"}, {}, True,
     "51096fe3239421d16b671e192f574ae24ae14329099b6db28e479b86cdd6caa7",
     "b71f7d293af92d3772572afb8b102d167a7cef7473388286bc01f52a5c5b423", 27),
    ({**SUB, "usd": 10}, {}, True, "43592d7c6c7d816ece2e206f174be61249d651944932b13343f4d13f306ae602",
     "71a926cb5c9a7c01c3359ec4c4c34c16ff8107d610994d4de0e6430e5cc0f4c9", 28),
    ({"type": "scheduleCancel"}, {}, True, "6cdfb286702f5917e76cd9b3b8bf678fcc49aec194c02a73e6d4f16891195df9",
     "6557ac307fa05d25b8d61f21fb8a938e703b3d9bf575f6717ba21ec61261b2a0", 27),
    ({"type": "scheduleCancel", "time": 123456789}, {}, True,
     "609cb20c737945d070716dcc696ba030e9976fcf5edad87afa7d877493109d55",
     "16c685d63b5c7a04512d73f183b3d7a00da5406ff1f8aad33f8ae2163bab758b", 28),
    (plain_order(), {"expiresAfter": 1800000000000}, False,
     "81b08842c8a09b408df4a49b3c1da6f46481342e292e9e8fb5ba695b6142ebf2",
     "34a168bee6ec5e9fddedfab04b418c7990c7b3027e2a6cf491b4e0a5a193d0e4", 28),
    ({"type": "usdSend", **SENT}, {}, False, "637b37dd731507cdd24f46532ca8ba6eec616952c56218baeff04144e4a77073",
     "11a6a24900e6e314136d2592e2f8d502cd89b7c15b198e1bee043c9589f9fad7", 27),
    ({"type": "withdraw3", **SENT}, {}, False, "8363524c799e90ce9bc41022f7c39b4e9bdba786e5f9c72b20e43e1462c37cf9",
     "58b1411a775938b83e29182e8ef74975f9054c8e97ebf5ec2dc8d51bfc893881", 28),
    ({"type": "dummy", "num": 100000000000}, {}, True,
     "53749d5b30552aeb2fca34b530185976545bb22d0b3ce6f62e31be961a59298",
     "755c40ba9bf05223521753995abb2f73ab3229be8ec921f350cb447e384d8ed8", 27),
    ({"type": "dummy", "num": 100000000000}, {}, False,
     "542af61ef1f429707e3c76c5293c80d01f74ef853e34b76efffcb57e574f9510",
     "17b8b32f086e8cdede991f1e2c529f5dd5297cbe8128500e00cbaf766204a613", 28),
    ({"type": "dummy", "num": 100000000000}, {"vaultAddress": VAULT}, False,
     "e281d2fb5c6e25ca01601f878e4d69c965bb598b88fac58e475dd1f5e56c362b",
     "7ddad27e9a238d045c035bc606349d075d5c5cd00a6cd1da23ab5c39d4ef0f60", 27),
    ({"type": "createSubAccount", "name": "example"}, {}, False,
     "a699e3ed5c2b89628c746d3298b5dc1cca604694c2c855da8bb8250ec8014a5b",
     "53f1b8153a301c72ecc655b1c315d64e1dcea3ee58921fd7507e35818fcc1584", 28),
    ({**SUB, "usd": 10}, {}, False,
     "e26574013395ad55ee2f4e0575310f003c5bb3351b5425482e2969fa51543927",
     "efb08999196366871f919fd0e138b3a7f30ee33e678df7cfaf203e25f0a4278", 28),
    ({"type": "scheduleCancel"}, {}, False,
     "c75bb195c3f6a4e06b7d395acc20bbb224f6d23ccff7c6a26d327304e6efaeed",
     "342f8ede109a29f2c0723bd5efb9e9100e3bbb493f8fb5164ee3d385908233df", 28),
    ({"type": "scheduleCancel", "time": 123456789}, {}, False,
     "4e4f2dbd4107c69783e251b7e1057d9f2b9d11cee213441ccfa2be63516dc5bc",
     "706c656b23428c8ba356d68db207e11139ede1670481a9e01ae2dfcdb0e1a678", 27),
]  # fmt: skip
"""Those of the official SDK, and one of ours with an expiry. The hash of the last one is in the test below."""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v[0]['type']}-{'main' if v[2] else 'test'}")
def test_the_published_signatures_recover_to_their_signer(vector):
    action, envelope, mainnet, r, s, v = vector
    signature = {"r": "0x" + r, "s": "0x" + s, "v": v}
    body = {"action": action, "nonce": 0, "signature": signature, **envelope}
    assert recover(body, mainnet) == SIGNER
    if "signatureChainId" not in action:
        assert recover(body, not mainnet) != SIGNER


def test_the_published_hashes():
    assert connection_id(plain_order(), 0, None, None).hex() == (
        "884f2c32bb6dbdd65f6033e32fb28c0cb6f5b345db0f6471fd3366d85c9252c1"
    )
    ioc = {"a": 4, "b": True, "p": "1670.1", "s": "0.0147", "r": False, "t": {"limit": {"tif": "Ioc"}}}
    eth = {"type": "order", "orders": [ioc], "grouping": "na"}
    assert connection_id(eth, 1677777606040, None, None).hex() == (
        "0fcbeda5ae3c4950a548021552a4fea2226858c4453571bf3f24ba017eac2908"
    )


def signed(action, nonce=1_800_000_000_000, vault=None, expires=None, mainnet=False):
    signature = signing.sign_l1_action(Account.from_key(KEY), action, vault, nonce, expires, mainnet)
    return {
        "action": action,
        "nonce": nonce,
        "signature": signature,
        "vaultAddress": vault,
        "expiresAfter": expires,
    }


ACTIONS = [
    plain_order(c="0x" + "0" * 31 + "a"),
    plain_order(**TRIGGER),
    {**plain_order(), "builder": {"b": VAULT, "f": 10}},
    {"type": "cancel", "cancels": [{"a": 0, "o": 5}]},
    {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": "0x" + "0" * 31 + "a"}]},
    {"type": "batchModify", "modifies": [{"oid": 5, "order": plain_order()["orders"][0]}]},
    {"type": "updateLeverage", "asset": 0, "isCross": False, "leverage": 5},
    {"type": "updateIsolatedMargin", "asset": 0, "isBuy": True, "ntli": -1_500_000},
    {"type": "noop"},
    {"type": "setReferrer", "code": "ABC"},
    {"type": "scheduleCancel", "time": 1_800_000_060_000},
    {"type": "createSubAccount", "name": "hedge"},
    {**SUB, "usd": 1_000_000},
    {"type": "twapOrder", "twap": {"a": 0, "b": True, "s": "0.1", "r": False, "m": 30, "t": True}},
]
COMBINATIONS = list(
    itertools.product(
        ACTIONS, (False, True), (None, VAULT), (None, 1_800_000_015_000), (1_800_000_000_000, 1_800_000_000_001)
    )
)
"""Action, network, vault, expiry, nonce."""


def test_there_are_as_many_vectors_and_combinations_as_were_measured():
    assert len(VECTORS) == 21 and len(COMBINATIONS) == 224


@pytest.mark.parametrize("action", ACTIONS, ids=lambda a: a["type"])
def test_what_the_sdk_signs_recovers_however_the_client_orders_its_keys(action):
    for each, mainnet, vault, expires, nonce in COMBINATIONS:
        if each is action:
            _recovers(action, nonce, vault, expires, mainnet)


def _recovers(action, nonce, vault, expires, mainnet):
    body = signed(action, nonce, vault, expires, mainnet)
    assert is_exchange_request(body)
    assert recover(body, mainnet) == SIGNER and recover(body, not mainnet) != SIGNER
    shuffled = {k: action[k] for k in reversed(action)}
    assert recover({**body, "action": shuffled}, mainnet) == SIGNER


def test_trailing_zeros_and_upper_case_ids_are_brought_to_one_form():
    loose = plain_order(p="100.00", s="1.0E2".replace("1.0E2", "100.0"), c="0x" + "0" * 31 + "A")
    assert canonical(loose) == canonical(plain_order(c="0x" + "0" * 31 + "a"))
    body = signed(plain_order(c="0x" + "0" * 31 + "a"))
    assert recover({**body, "action": loose}, False) == SIGNER
    assert canonical(plain_order(c="0" * 31 + "A")) == canonical(loose)


def test_a_signature_no_key_can_have_is_refused_in_words():
    v = Bench({"BTC": flat(100)})
    body = {"action": {"type": "noop"}, "nonce": 1, "signature": {"r": "0x0", "s": "0x0", "v": 27}}
    assert v.exchange.exchange(body) == (200, {"status": "err", "response": "Unable to recover signer."})


# What cannot be read


def good():
    return signed(plain_order())


UNREADABLE = {
    "no action": lambda b: b.pop("action"),
    "unknown envelope field": lambda b: b.update(extra=1),
    "unknown action": lambda b: b["action"].update(type="moon"),
    "unknown action field": lambda b: b["action"].update(extra=1),
    "price as a number": lambda b: b["action"]["orders"][0].update(p=100),
    "negative price": lambda b: b["action"]["orders"][0].update(p="-1"),
    "scientific size": lambda b: b["action"]["orders"][0].update(s="1e2"),
    "nine decimals": lambda b: b["action"]["orders"][0].update(p="1.123456789"),
    "bad tif": lambda b: b["action"]["orders"][0].update(t={"limit": {"tif": "Fok"}}),
    "short cloid": lambda b: b["action"]["orders"][0].update(c="0x1"),
    "boolean nonce": lambda b: b.update(nonce=True),
    "bad vault": lambda b: b.update(vaultAddress="0x12"),
    "bad grouping": lambda b: b["action"].update(grouping="oco"),
    "missing side": lambda b: b["action"]["orders"][0].pop("b"),
    "signature without s": lambda b: b["signature"].pop("s"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_deserialised_is_422(name):
    body = good()
    UNREADABLE[name](body)
    status, text = Bench({"BTC": flat(100)}).exchange.exchange(body)
    assert (status, text) == (422, "Failed to deserialize the JSON body into the target type")


def test_unknown_fields_inside_an_order_and_the_signature_are_ignored():
    body = good()
    body["action"]["orders"][0]["note"] = "x"
    body["signature"]["extra"] = 1
    body["action"]["orders"][0]["p"] = "100.00000000000"
    assert is_exchange_request(body) and recover(body, False) == SIGNER


BAD_QUESTIONS = [
    (None, 422),
    ({"type": "unknown"}, 422),
    ({"type": "clearinghouseState"}, 422),
    ({"type": "clearinghouseState", "user": "0x12"}, 422),
    ({"type": "userFillsByTime", "user": ALICE}, 422),
    ({"type": "orderStatus", "user": ALICE}, 422),
    ({"type": "candleSnapshot", "req": {"coin": "BTC", "interval": "7m", "startTime": 0}}, 422),
    ({"type": "l2Book", "coin": "BTC", "nSigFigs": 9}, 500),
    ({"type": "l2Book", "coin": "BTC", "mantissa": 2}, 500),
    ({"type": "fundingHistory", "coin": "NOPE", "startTime": 0}, 500),
    ({"type": "meta", "dex": "nope"}, 500),
]


@pytest.mark.parametrize(("body", "status"), BAD_QUESTIONS)
def test_bad_questions_get_the_real_statuses(body, status):
    found, answer = Bench({"BTC": flat(100)}).exchange.info(body)
    assert found == status and (answer is None) == (status == 500)


# Nonces and expiry


def test_nonces_are_unique_in_a_window_and_need_not_grow():
    n, now = Nonces(), 10**12
    margin = 120_000

    def use(value):
        refusal = n.refusal(value, now, margin)
        if refusal is None:
            n.spend(value)
        return refusal

    assert use(now) is None
    assert use(now - 5) is None, "out of order is fine within the hundred highest"
    assert use(now) == f"Invalid nonce: duplicate nonce {now}"
    low, high = now - 2 * 86_400_000 + margin, now + 86_400_000 - margin
    assert use(low) == f"Invalid nonce: nonce too low {low} < {low}"
    assert use(high) == f"Invalid nonce: nonce too high {high} > {high}"
    for i in range(1, 101):
        assert use(now + i) is None
    assert use(now - 3) == f"Invalid nonce: nonce too low {now - 3} < {now + 1}"
    assert use(now - 5).startswith("Invalid nonce: duplicate"), "an old duplicate stays a duplicate"


def test_a_resent_request_is_a_duplicate_and_a_noop_kills_one_on_its_way():
    v = Bench({"BTC": flat(100)})
    nonce = v.state.now_ms
    assert v.send(ALICE, {"type": "noop"}, nonce=nonce) == {"status": "ok", "response": {"type": "default"}}
    late = v.send(ALICE, {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 5}, nonce=nonce)
    assert late["response"] == f"Invalid nonce: duplicate nonce {nonce}"
    assert v.send(BOB, {"type": "noop"}, nonce=nonce)["status"] == "ok", "nonces are per signer"


@pytest.mark.parametrize("spends", [True, False])
def test_an_expired_action_spends_its_nonce_by_switch(spends):
    v = Bench({"BTC": flat(100)}, switches=Switches(expired_action_spends_nonce=spends))
    nonce = v.state.now_ms
    expired = v.send(ALICE, {"type": "noop"}, nonce=nonce, expiresAfter=nonce - 1)
    assert expired == {"status": "err", "response": "Action already expired"}
    again = v.send(ALICE, {"type": "noop"}, nonce=nonce)
    assert (again["status"] == "err") == spends


@pytest.mark.parametrize("spends", [True, False])
def test_a_refused_action_spends_its_nonce_by_switch(spends):
    v = Bench({"BTC": flat(100)}, switches=Switches(rejected_action_spends_nonce=spends))
    nonce = v.state.now_ms
    refused = {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 99}
    assert v.send(ALICE, refused, nonce=nonce)["status"] == "err"
    again = v.send(ALICE, {"type": "noop"}, nonce=nonce)
    assert (again["status"] == "err") == spends


def test_vault_and_nonce_mismatch_errors_leave_the_nonce_unspent():
    v = Bench({"BTC": flat(100)})
    nonce = v.state.now_ms
    assert "Vault not registered" in v.send(ALICE, {"type": "noop"}, nonce=nonce, vaultAddress=VAULT)["response"]
    mismatch = v.send(ALICE, {"type": "usdSend", "destination": BOB, "amount": "1", "time": 5}, nonce=nonce)
    assert mismatch["response"] == "Nonce mismatch."
    assert v.send(ALICE, {"type": "noop"}, nonce=nonce)["status"] == "ok"


def test_other_networks_user_signed_actions_are_refused():
    v = Bench({"BTC": flat(100)})
    sent = {"type": "usdSend", "destination": BOB, "amount": "1", "hyperliquidChain": "Mainnet"}
    assert v.send(ALICE, sent)["response"] == "Mainnet and testnet require different signature."


def test_old_candles_take_wall_clock_nonces_only_with_the_window_off():
    v = Bench({"BTC": flat(100)})
    nonce = v.state.now_ms + 300 * 86_400_000
    assert v.send(ALICE, {"type": "noop"}, nonce=nonce)["response"].startswith("Invalid nonce: nonce too high")
    v.exchange.set_switches({"nonce_window": False})
    assert v.send(ALICE, {"type": "noop"}, nonce=nonce)["status"] == "ok"


# Who is an account


def test_strict_mode_knows_only_those_who_deposited():
    v = Bench({"BTC": flat(100)}, open_accounts=False)
    assert v.send(ALICE, {"type": "noop"})["response"] == f"User or API Wallet {ALICE} does not exist."
    sent = {"type": "usdSend", "destination": BOB, "amount": "1"}
    assert v.send(ALICE, sent)["response"] == f"Must deposit before performing actions. User: {ALICE}"
    assert v.ask("userRole", ALICE) == {"role": "missing"}
    v.exchange.deposit(ALICE, D(100))
    assert v.send(ALICE, {"type": "noop"})["status"] == "ok"
    assert v.ask("userRole", ALICE) == {"role": "user"}


def test_in_open_mode_a_known_key_signing_for_the_other_network_does_not_open_a_stray_account():
    v = Bench({"BTC": flat(100)})
    body = signed({"type": "noop"}, nonce=v.state.now_ms)
    assert v.exchange.exchange(body)[1]["status"] == "ok"
    stray = signed({"type": "noop"}, nonce=v.state.now_ms + 1, mainnet=True)
    answer = v.exchange.exchange(stray)[1]
    assert answer["response"].endswith("does not exist.")
    assert list(v.state.accounts) == [SIGNER]


def test_addresses_are_taken_in_any_case_with_or_without_0x():
    v = Bench({"BTC": flat(100)}, open_accounts=False)
    v.exchange.deposit("0x" + "AB" * 20, D(7))
    for spelling in ("0x" + "ab" * 20, "0x" + "AB" * 20, "ab" * 20):
        assert v.ask("clearinghouseState", spelling)["withdrawable"] == "7.0"


def test_request_limits_when_switched_on():
    v = Bench({"BTC": flat(100)}, switches=Switches(rate_limits=True))
    account = v.state.open_account(ALICE)
    account.requests = 10_000
    assert v.send(ALICE, {"type": "noop"})["status"] == "ok", "one request in ten seconds passes"
    answer = v.send(ALICE, {"type": "noop"})
    assert answer["response"] == (
        "Too many cumulative requests sent (10002 > 10000) for cumulative volume traded $0. "
        "Place taker orders to free up 1 request per USDC traded."
    )
    assert v.send(ALICE, {"type": "cancel", "cancels": [{"a": 0, "o": 1}]})["status"] == "ok"


# Shapes


def test_the_universe_keeps_real_asset_ids_and_marks_what_does_not_trade():
    v = Bench({"ETH": flat(2000)})
    universe = v.ask("meta")["universe"]
    assert [universe[i]["name"] for i in (0, 1, 5)] == ["BTC", "ETH", "SOL"]
    assert "isDelisted" not in universe[1] and universe[0]["isDelisted"]
    assert universe[1]["maxLeverage"] == 25 and universe[1]["szDecimals"] == 4
    meta, contexts = v.ask("metaAndAssetCtxs")
    assert len(contexts) == len(universe) and meta == v.ask("meta")
    assert contexts[0]["midPx"] is None and contexts[0]["premium"] is None
    assert set(contexts[1]) == {
        *("funding", "openInterest", "prevDayPx", "dayNtlVlm", "premium", "oraclePx", "markPx", "midPx"),
        *("impactPxs", "dayBaseVlm"),
    }
    assert v.ask("marginTable", id=55)["marginTiers"][1] == {"lowerBound": "100000000.0", "maxLeverage": 15}
    assert v.ask("marginTable", id=5)["marginTiers"] == [{"lowerBound": "0.0", "maxLeverage": 5}]


def test_an_unseen_address_looks_like_an_empty_account():
    v = Bench({"BTC": flat(100)}, open_accounts=False)
    zeros = {"accountValue": "0.0", "totalNtlPos": "0.0", "totalRawUsd": "0.0", "totalMarginUsed": "0.0"}
    assert v.ask("clearinghouseState", ALICE) == {
        "marginSummary": zeros,
        "crossMarginSummary": zeros,
        "crossMaintenanceMarginUsed": "0.0",
        "withdrawable": "0.0",
        "assetPositions": [],
        "time": v.state.now_ms,
    }
    assert v.ask("spotClearinghouseState", ALICE) == {"balances": []}
    for question in ("openOrders", "frontendOpenOrders", "historicalOrders", "userFills", "extraAgents"):
        assert v.ask(question, ALICE) == []


def test_constant_answers():
    v = Bench({"BTC": flat(100)})
    assert v.ask("perpDexs") == [None]
    assert v.ask("exchangeStatus") == {"time": v.state.now_ms, "specialStatuses": None}
    assert v.ask("orderStatus", ALICE, oid=5) == {"status": "unknownOid"}
    assert v.ask("l2Book", coin="NOPE") is None
    assert [v.ask("l2Book", coin=coin)["levels"] for coin in ("MATIC", "@1")] == [[[], []], [[], []]]
    assert v.ask("userRateLimit", ALICE) == {
        "cumVlm": "0.0",
        "nRequestsUsed": 0,
        "nRequestsCap": 10_000,
        "nRequestsSurplus": 0,
    }
    fees = v.ask("userFees", ALICE)
    assert (fees["userCrossRate"], fees["userAddRate"]) == ("0.00045", "0.00015")


def test_the_book_can_be_asked_in_coarser_steps():
    v = Bench({"BTC": flat(100_000)})
    bids, asks = v.ask("l2Book", coin="BTC", nSigFigs=5, mantissa=5)["levels"]
    assert all(D(level["px"]) % 5 == 0 for level in (*bids, *asks))
    bids, asks = v.ask("l2Book", coin="BTC", nSigFigs=3)["levels"]
    assert bids[0]["px"] == "99900.0" and asks[0]["px"] == "101000.0"
    fine = v.ask("l2Book", coin="BTC")["levels"]
    assert len(fine[0]) == len(fine[1]) == 20 and set(fine[0][0]) == {"px", "sz", "n"}


def test_candles_close_form_and_group():
    rows = [candle(i, 100 + i, 110 + i, 90 + i, 101 + i, volume=8) for i in range(12)]
    v = Bench({"BTC": rows}, start_ms=bench.START_MS)
    v.exchange.advance(bench.START_MS + 7 * bench.MINUTE + 15_000)
    minutes = v.ask("candleSnapshot", req={"coin": "BTC", "interval": "1m", "startTime": 0, "endTime": 1 << 60})
    assert len(minutes) == 8
    assert minutes[0] == {
        "t": bench.START_MS,
        "T": bench.START_MS + 59_999,
        "s": "BTC",
        "i": "1m",
        "o": "100.0",
        "h": "110.0",
        "l": "90.0",
        "c": "101.0",
        "v": "8.0",
        "n": minutes[0]["n"],
    }
    forming = minutes[-1]
    assert (forming["o"], forming["l"], forming["h"], forming["c"]) == ("107.0", "97.0", "107.0", "97.0")
    assert forming["v"] == "2.0", "the forming candle shows only what its path has shown"
    five = v.ask("candleSnapshot", req={"coin": "BTC", "interval": "5m", "startTime": 0, "endTime": 1 << 60})
    assert (five[0]["o"], five[0]["h"], five[0]["l"], five[0]["c"], five[0]["v"]) == (
        "100.0",
        "114.0",
        "90.0",
        "105.0",
        "40.0",
    )
    assert five[1]["t"] == bench.START_MS + 5 * bench.MINUTE and five[1]["v"] == "18.0"
    some = v.ask(
        "candleSnapshot",
        req={"coin": "BTC", "interval": "1m", "startTime": minutes[2]["t"], "endTime": minutes[4]["t"]},
    )
    assert [row["t"] for row in some] == [row["t"] for row in minutes[2:5]]


def test_weeks_start_on_mondays_and_months_on_their_first():
    day = timedelta(days=1)
    rows = [
        candle(0, 100 + i)._replace(opened_at=datetime(2025, 1, 1, tzinfo=UTC) + i * day, interval=day)
        for i in range(60)
    ]
    v = Bench({"BTC": rows}, start_ms=round(datetime(2025, 2, 28, tzinfo=UTC).timestamp() * 1000))

    def opens(interval):
        asked = {"coin": "BTC", "interval": interval, "startTime": 0, "endTime": None}
        return [
            (f"{datetime.fromtimestamp(r['t'] / 1000, UTC):%m-%d}", r["o"]) for r in v.ask("candleSnapshot", req=asked)
        ]

    assert opens("1M") == [("01-01", "100.0"), ("02-01", "131.0")]
    assert opens("1w")[:3] == [("12-30", "100.0"), ("01-06", "105.0"), ("01-13", "112.0")]
    assert opens("3d")[1][1] == "102.0" and len(opens("1d")) == 59
    assert opens("1h") == [], "nothing finer than the candles themselves"


def test_fills_can_be_read_by_time_and_joined():
    v = Bench({"BTC": flat(100_000, 30)}, equity=D(1_000_000))
    asks = v.ask("l2Book", coin="BTC")["levels"][1]
    v.order(ALICE, True, 101_000, D(asks[0]["sz"]) + D(asks[1]["sz"]), "Ioc")
    first = v.state.now_ms
    v.minutes(5)
    v.order(ALICE, False, 99_000, "0.01", "Ioc")
    fills = v.ask("userFillsByTime", ALICE, startTime=first, endTime=first)
    assert len(fills) == 2 and all(f["time"] == first for f in fills)
    (joined,) = v.ask("userFillsByTime", ALICE, startTime=first, endTime=first, aggregateByTime=True)
    assert D(joined["sz"]) == sum(D(f["sz"]) for f in fills)
    times = [f["time"] for f in v.ask("userFillsByTime", ALICE, startTime=0)]
    assert times == sorted(times)
    assert v.ask("userFills", ALICE)[0]["time"] == times[-1]
    assert set(fills[0]) == {
        *("coin", "px", "sz", "side", "time", "startPosition", "dir", "closedPnl", "hash", "oid", "crossed"),
        *("fee", "tid", "feeToken", "twapId"),
    }


# Options


BAD_SWITCHES = {
    "unknown": ({"moon": 1}, "'moon' is not a switch"),
    "choice": ({"partial_gtc_answer": "both"}, "partial_gtc_answer must be one of resting, filled, was 'both'"),
    "bool": ({"volume_gates": 1}, "volume_gates must be true or false, was 1"),
    "int": ({"order_memory": "9"}, "order_memory must be an integer, was '9'"),
    "decimal": ({"mark_gap": "x"}, "mark_gap must be a decimal number, was 'x'"),
    "text": ({"isolated_only": 5}, "isolated_only must be text, was 5"),
    "number": ({"fee_decimals": 7}, "fee_decimals must be one of 6, 8, was 7"),
}


@pytest.mark.parametrize("name", BAD_SWITCHES)
def test_a_wrong_switch_is_named_with_its_value(name):
    values, text = BAD_SWITCHES[name]
    with pytest.raises(BadInput, match=text.replace("(", r"\(")):
        Switches().changed(values)


def test_a_switch_that_names_a_coin_without_a_market_changes_nothing():
    v = Bench({"BTC": flat(100)})
    with pytest.raises(BadInput, match="strict_isolated: 'DOGGO' has no market here; there are BTC"):
        v.exchange.set_switches({"strict_isolated": "BTC, DOGGO", "mark_gap": "0.5"})
    assert v.state.switches == Switches() and not v.state.markets["BTC"].only_isolated


def test_switches_survive_their_own_json():
    switches = Switches(mark_gap=D("0.01"), volume_gates=False)
    assert Switches().changed(switches.as_json()) == switches


def test_a_seed_draws_what_is_undecided_and_nothing_else():
    drawn = [Switches().drawn(random.Random(seed)) for seed in range(20)]
    assert drawn[3] == Switches().drawn(random.Random(3)) and len(set(drawn)) == 20
    changed = {name for s in drawn for name, value in s.as_json().items() if value != Switches().as_json()[name]}
    assert changed == set(UNDECIDED)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["type", "user", "coin", "req", "oid", "startTime", "endTime", "interval", "dex", "nSigFigs", "mantissa", "id"]
QUESTIONS = ["clearinghouseState", "orderStatus", "l2Book", "candleSnapshot", "userFillsByTime", "activeAssetData"]
questions = st.dictionaries(st.sampled_from(FIELDS), json_values | st.just(ALICE) | st.just("BTC"), max_size=6)


@settings(max_examples=100, deadline=None)
@given(body=json_values | questions, kind=st.sampled_from(QUESTIONS), limits=st.booleans())
def test_no_body_breaks_the_venue(body, kind, limits):
    venue = Venue(VenueOptions({"BTC": flat(100)}, start_ms=START_MS, switches=Switches(rate_limits=limits)), int)
    venue.add_faults({"kind": "lose_answer", "coin": "ETH"})
    bodies = [body, {**body, "type": kind}] if isinstance(body, dict) else [body]
    for one in bodies:
        assert venue.reply("/info", one).status in (200, 422, 429, 500)
        assert venue.reply("/exchange", one).status in (422, 429)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_change_of_a_good_request_breaks_the_venue(data):
    body = good()
    part = data.draw(st.sampled_from([body, body["action"], body["action"]["orders"][0], body["signature"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(json_values)
    v = Bench({"BTC": flat(100)})
    assert v.exchange.exchange(body)[0] in (200, 422)


def test_an_unknown_referral_code_is_refused_in_the_real_words():
    answer = Bench({"BTC": flat(100)}).send(ALICE, {"type": "setReferrer", "code": "X"})
    assert answer == {"status": "err", "response": "Referral code not registered"}


BAD_OPTIONS = {
    "no candles": ({"candles": {}}, "candles: every market needs"),
    "unknown coin": ({"candles": {"DOGGO": flat(1)}}, "'DOGGO' is not a listed coin"),
    "overlap": ({"candles": {"BTC": [candle(1, 5), candle(1, 5)]}}, "opens before the one before it closes"),
    "speed": ({"candles": {"BTC": flat(1)}, "speed": D(0)}, "speed must be above 0, was 0"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_one_clear_line(name):
    options, text = BAD_OPTIONS[name]
    with pytest.raises(BadInput, match=text):
        Bench(**options)


def test_the_clock_never_goes_back():
    v = Bench({"BTC": flat(100)})
    v.minutes(1)
    with pytest.raises(BadInput, match="now_ms must not go back"):
        v.exchange.advance(v.state.now_ms - 1)
