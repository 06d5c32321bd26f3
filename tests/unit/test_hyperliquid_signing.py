"""Signatures and wire bytes of Hyperliquid actions, against published vectors."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import msgpack
import pytest
from eth_account import Account
from hyperliquid.utils.signing import action_hash, recover_agent_or_user_from_l1_action, sign_usd_transfer_action

from twinleg.adapters.venues.hyperliquid_reads import listings
from twinleg.adapters.venues.hyperliquid_wire import (
    action_wire,
    agent_approval_body,
    expected_answer,
    order_wire,
    signed_body,
    signer_from,
)
from twinleg.domain.errors import BadInput
from twinleg.domain.ids import ClientOrderId
from twinleg.domain.orders import Grouping, OrderKind, OrderRequest, Side
from twinleg.engine.ports import AddMargin, CancelOrders, Noop, PlaceReduction, SetLeverage

D = Decimal

KEY = "0x" + "0123456789" * 6 + "0123"
ADDRESS = "0x14791697260E4c9A71f18484C9f997B308e59325"
VAULT = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"
CLOID = "0x00000000000000000000000000000001"

META = {
    "universe": [
        {"szDecimals": 5, "name": "BTC", "maxLeverage": 40, "marginTableId": 56},
        {"szDecimals": 4, "name": "ETH", "maxLeverage": 25, "marginTableId": 25},
        {"szDecimals": 0, "name": "kPEPE", "maxLeverage": 10, "marginTableId": 10},
        {"szDecimals": 2, "name": "ISO", "maxLeverage": 3, "marginTableId": 3, "onlyIsolated": True},
    ],
    "marginTables": [
        [56, {"description": "", "marginTiers": [
            {"lowerBound": "0.0", "maxLeverage": 40}, {"lowerBound": "150000000.0", "maxLeverage": 20}]}],
    ],
}  # fmt: skip
LISTED = listings(META, "hyperliquid")


def rules_of(market: str):
    return LISTED[market.split(":")[1]].rules


def order(**changes) -> OrderRequest:
    given = {
        "client_order_id": ClientOrderId(CLOID),
        "market": "hyperliquid:ETH",
        "side": Side.BUY,
        "size": D("100"),
        "limit_price": D("100"),
        "kind": OrderKind.LIMIT,
        "reduce_only": False,
    }
    return OrderRequest(**(given | changes))


def plain_order(**changes) -> dict:
    wire = order_wire(order(), rules_of("hyperliquid:ETH"))
    del wire["c"]
    return {"type": "order", "orders": [wire | changes], "grouping": "na"}


def trigger_order() -> dict:
    wire = order_wire(order(kind=OrderKind.STOP, trigger_price=D("103"), reduce_only=True), rules_of("hyperliquid:ETH"))
    del wire["c"]
    return {"type": "order", "orders": [wire | {"r": False}], "grouping": "na"}


DUMMY = {"type": "dummy", "num": 100000000000}
SUB = {"type": "createSubAccount", "name": "example"}
TRANSFER = {
    "type": "subAccountTransfer",
    "subAccountUser": "0x1d9470d4b963f552e6f671a81619d395877bf409",
    "isDeposit": True,
    "usd": 10,
}
EXPIRY = 1800000000000

# action, vault, expires, mainnet, r, s, v. Source: the SDK's own signing tests; rows with an expiry: SDK 0.24.0 itself.
VECTORS = [
    (plain_order, None, None, True, "0xd65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
     "0x2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e", 28),
    (plain_order, None, None, False, "0x82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54",
     "0x6b53878fc99d26047f4d7e8c90eb98955a109f44209163f52d8dc4278cbbd9f5", 27),
    (lambda: plain_order(c=CLOID), None, None, True,
     "0x41ae18e8239a56cacbc5dad94d45d0b747e5da11ad564077fcac71277a946e3",
     "0x3c61f667e747404fe7eea8f90ab0e76cc12ce60270438b2058324681a00116da", 27),
    (lambda: plain_order(c=CLOID), None, None, False,
     "0xeba0664bed2676fc4e5a743bf89e5c7501aa6d870bdb9446e122c9466c5cd16d",
     "0x7f3e74825c9114bc59086f1eebea2928c190fdfbfde144827cb02b85bbe90988", 28),
    (trigger_order, None, None, True, "0x98343f2b5ae8e26bb2587daad3863bc70d8792b09af1841b6fdd530a2065a3f9",
     "0x6b5bb6bb0633b710aa22b721dd9dee6d083646a5f8e581a20b545be6c1feb405", 27),
    (trigger_order, None, None, False, "0x971c554d917c44e0e1b6cc45d8f9404f32172a9d3b3566262347d0302896a2e4",
     "0x206257b104788f80450f8e786c329daa589aa0b32ba96948201ae556d5637eac", 28),
    (lambda: DUMMY, VAULT, None, True, "0x3c548db75e479f8012acf3000ca3a6b05606bc2ec0c29c50c515066a326239",
     "0x4d402be7396ce74fbba3795769cda45aec00dc3125a984f2a9f23177b190da2c", 28),
    (lambda: SUB, None, None, True, "0x51096fe3239421d16b671e192f574ae24ae14329099b6db28e479b86cdd6caa7",
     "0xb71f7d293af92d3772572afb8b102d167a7cef7473388286bc01f52a5c5b423", 27),
    (lambda: TRANSFER, None, None, True, "0x43592d7c6c7d816ece2e206f174be61249d651944932b13343f4d13f306ae602",
     "0x71a926cb5c9a7c01c3359ec4c4c34c16ff8107d610994d4de0e6430e5cc0f4c9", 28),
    (lambda: {"type": "scheduleCancel"}, None, None, True,
     "0x6cdfb286702f5917e76cd9b3b8bf678fcc49aec194c02a73e6d4f16891195df9",
     "0x6557ac307fa05d25b8d61f21fb8a938e703b3d9bf575f6717ba21ec61261b2a0", 27),
    (lambda: {"type": "scheduleCancel", "time": 123456789}, None, None, True,
     "0x609cb20c737945d070716dcc696ba030e9976fcf5edad87afa7d877493109d55",
     "0x16c685d63b5c7a04512d73f183b3d7a00da5406ff1f8aad33f8ae2163bab758b", 28),
    (plain_order, None, EXPIRY, True, "0x7acc3f4b30df1420e6e34921c5a5ecca4ddae624e03713e58c7b649a3fca1f51",
     "0x1fec004e8d7bb65a4a7da8ccd0856c610040404bab8bca2f6914bdac00879b39", 28),
    (plain_order, None, EXPIRY, False, "0x81b08842c8a09b408df4a49b3c1da6f46481342e292e9e8fb5ba695b6142ebf2",
     "0x34a168bee6ec5e9fddedfab04b418c7990c7b3027e2a6cf491b4e0a5a193d0e4", 28),
    (plain_order, VAULT, EXPIRY, False, "0x7ac65935f2625783e0e217ea6403142cf3d20d4f2f4b26c6ddaf5da3c8aedebc",
     "0x4e0f36555d38c6bbd26a4e9dd9aa56d3f81d5a5a46a569fef9f4ae7328eb9f3c", 27),
]  # fmt: skip


@pytest.mark.parametrize("make, vault, expires, mainnet, r, s, v", VECTORS)
def test_published_signatures_are_reproduced(make, vault, expires, mainnet, r, s, v):
    body = signed_body(signer_from(KEY, "key"), make(), vault=vault, nonce=0, expires_ms=expires, mainnet=mainnet)
    assert json.loads(body)["signature"] == {"r": r, "s": s, "v": v}


@pytest.mark.parametrize("vault, expires, connection_id", [
    (None, None, "884f2c32bb6dbdd65f6033e32fb28c0cb6f5b345db0f6471fd3366d85c9252c1"),
    (None, EXPIRY, "8b6ed0ca9741f0498494cf982fd054802e9b164d443b7a0f42cb65b81fed80f6"),
    (VAULT, EXPIRY, "bc6fdb78a1510411f7c6d7b8515755cb4e9506527cbda1d6cd544c8c6361c63f"),
])  # fmt: skip
def test_connection_ids_of_a_plain_order(vault, expires, connection_id):
    assert action_hash(plain_order(), vault, 0, expires).hex() == connection_id


def test_the_packed_bytes_of_a_plain_order():
    assert msgpack.packb(plain_order()).hex() == (
        "83a474797065a56f72646572a66f72646572739186a16101a162c3a170a3313030a173a3313030a172c2a17481a56c696d697481"
        "a3746966a3477463a867726f7570696e67a26e61"
    )


def test_the_published_phantom_agent_of_an_order_with_decimals():
    wire = order_wire(
        order(size=D("0.0147"), limit_price=D("1670.1"), kind=OrderKind.MARKET),
        rules_of("hyperliquid:ETH").model_copy(update={"asset": 4}),
    )
    del wire["c"]
    action = {"type": "order", "orders": [wire], "grouping": "na"}
    expected = "0fcbeda5ae3c4950a548021552a4fea2226858c4453571bf3f24ba017eac2908"
    assert action_hash(action, None, 1677777606040, None).hex() == expected


def test_user_signed_vector_of_the_sdk_holds_with_the_signer_we_make():
    action = {"destination": "0x5e9ee1089755c3435139848e47e6635505d5a13a", "amount": "1", "time": 1687816341423}
    assert sign_usd_transfer_action(signer_from(KEY, "key"), action, False) == {
        "r": "0x637b37dd731507cdd24f46532ca8ba6eec616952c56218baeff04144e4a77073",
        "s": "0x11a6a24900e6e314136d2592e2f8d502cd89b7c15b198e1bee043c9589f9fad7",
        "v": 27,
    }


def test_a_body_recovers_to_its_signer_only_with_its_own_network_vault_and_expiry():
    action = plain_order()
    body = signed_body(signer_from(KEY, "key"), action, vault=VAULT, nonce=7, expires_ms=9, mainnet=False)
    signature = json.loads(body)["signature"]

    def recovered(vault, expires, mainnet):
        return recover_agent_or_user_from_l1_action(action, signature, vault, 7, expires, mainnet)

    assert recovered(VAULT, 9, False) == ADDRESS
    assert ADDRESS not in (recovered(VAULT, 9, True), recovered(None, 9, False), recovered(VAULT, None, False))


def test_the_body_text_is_the_envelope_with_nulls_and_no_spaces():
    body = signed_body(signer_from(KEY, "key"), {"type": "noop"}, vault=None, nonce=5, expires_ms=None, mainnet=False)
    assert body.startswith('{"action":{"type":"noop"},"nonce":5,"signature":{"r":"0x')
    assert body.endswith(',"vaultAddress":null,"expiresAfter":null}')


def test_an_unnamed_agent_is_signed_with_an_empty_name_that_is_not_sent():
    agent = Account.from_key("0x" + "11" * 32).address
    named = json.loads(agent_approval_body(signer_from(KEY, "key"), agent, "bot", nonce=1))
    unnamed = json.loads(agent_approval_body(signer_from(KEY, "key"), agent, "", nonce=1))
    assert named["action"]["agentName"] == "bot"
    assert "agentName" not in unnamed["action"]
    assert named["action"]["hyperliquidChain"] == "Testnet"


# -- wires ---------------------------------------------------------------------------------------


def wire_of(action) -> dict:
    return action_wire(action, rules_of)


def test_order_kinds_in_the_venues_form():
    bracket = (
        order(kind=OrderKind.MARKET, side=Side.SELL, size=D("0.5"), limit_price=D("3010.5"), reduce_only=True),
        order(kind=OrderKind.LIMIT, size=D("0.50"), limit_price=D("3000.0"), reduce_only=True),
        order(kind=OrderKind.STOP, trigger_price=D("2900"), size=D("1"), limit_price=D("2610"), reduce_only=True),
        order(kind=OrderKind.TARGET, trigger_price=D("3300"), size=D("1"), limit_price=D("2970"), reduce_only=True),
    )
    action = wire_of(PlaceReduction("main", bracket, Grouping.POSITION))
    assert list(action) == ["type", "orders", "grouping"]
    assert action["grouping"] == "positionTpsl"
    assert action["orders"][0] == {
        "a": 1, "b": False, "p": "3010.5", "s": "0.5", "r": True, "t": {"limit": {"tif": "Ioc"}}, "c": CLOID
    }  # fmt: skip
    assert (action["orders"][1]["p"], action["orders"][1]["s"]) == ("3000", "0.5")
    assert action["orders"][1]["t"] == {"limit": {"tif": "Gtc"}}
    assert list(action["orders"][2]["t"]["trigger"].items()) == [
        ("isMarket", True), ("triggerPx", "2900"), ("tpsl", "sl")
    ]  # fmt: skip
    assert action["orders"][3]["t"]["trigger"]["tpsl"] == "tp"


def test_other_actions_in_the_venues_form():
    eth = "hyperliquid:ETH"
    assert wire_of(Noop("main")) == {"type": "noop"}
    assert wire_of(SetLeverage("main", eth, 5, True)) == {
        "type": "updateLeverage", "asset": 1, "isCross": False, "leverage": 5
    }  # fmt: skip
    assert wire_of(AddMargin("main", eth, D("1.5"))) == {
        "type": "updateIsolatedMargin", "asset": 1, "isBuy": True, "ntli": 1500000
    }  # fmt: skip
    assert wire_of(CancelOrders("main", eth, client_order_ids=(ClientOrderId(CLOID),))) == {
        "type": "cancelByCloid", "cancels": [{"asset": 1, "cloid": CLOID}]
    }  # fmt: skip
    assert wire_of(CancelOrders("main", eth, order_ids=("77",))) == {"type": "cancel", "cancels": [{"a": 1, "o": 77}]}


STOP = {"kind": OrderKind.STOP, "reduce_only": True}


@pytest.mark.parametrize("changes, words", [
    ({"limit_price": D("3010.55")}, "limit_price 3010.55 is off the tick"),
    ({"limit_price": D("0")}, "limit_price must be above 0"),
    ({"size": D("0.00001")}, "size 0.00001 is not a multiple of the lot 0.0001"),
    ({"size": D("-1")}, "size must be above 0"),
    ({"client_order_id": "0xABC"}, "client_order_id must be"),
    ({"trigger_price": D("5")}, "has no trigger_price"),
    (STOP, "needs a trigger_price"),
    (STOP | {"trigger_price": D("2999.999")}, "trigger_price 2999.999 is off the tick"),
    ({"kind": OrderKind.STOP, "trigger_price": D("5")}, "must be reduce_only"),
])  # fmt: skip
def test_an_order_that_would_have_to_be_changed_is_refused(changes, words):
    with pytest.raises(BadInput, match=words):
        order_wire(order(**changes), rules_of("hyperliquid:ETH"))


def test_whole_prices_are_valid_whatever_their_digits():
    assert order_wire(order(limit_price=D("123456")), rules_of("hyperliquid:BTC"))["p"] == "123456"
    assert order_wire(order(limit_price=D("1E+5")), rules_of("hyperliquid:BTC"))["p"] == "100000"
    small = order(market="hyperliquid:kPEPE", limit_price=D("0.012345"), size=D("1E+3"))
    assert order_wire(small, rules_of(small.market))["p"] == "0.012345"
    assert order_wire(small, rules_of(small.market))["s"] == "1000"


@pytest.mark.parametrize("action, words", [
    (SetLeverage("main", "hyperliquid:ETH", 26, True), "leverage must be 1 to 25, was 26"),
    (SetLeverage("main", "hyperliquid:ETH", 0, True), "leverage must be 1 to 25, was 0"),
    (SetLeverage("main", "hyperliquid:ISO", 2, False), "isolated margin only"),
    (AddMargin("main", "hyperliquid:ETH", D("1.0000001")), "at most 6 decimals"),
    (AddMargin("main", "hyperliquid:ETH", D("-1")), "above 0"),
    (CancelOrders("main", "hyperliquid:ETH"), "not both"),
    (CancelOrders("main", "hyperliquid:ETH", (ClientOrderId(CLOID),), ("1",)), "not both"),
    (CancelOrders("main", "hyperliquid:ETH", (), tuple("1" * 201)), "must be 1 to 200, were 201"),
    (CancelOrders("main", "hyperliquid:ETH", (), ("abc",)), "order_id must be"),
    (PlaceReduction("main", ()), "must be 1 to 200, were 0"),
])  # fmt: skip
def test_actions_outside_the_venues_limits_are_refused(action, words):
    with pytest.raises(BadInput, match=words):
        wire_of(action)


@pytest.mark.parametrize("secret", ["", "0x12", "zz" * 32, "00" * 32, "0x" + "ff" * 32, KEY + "00"])
def test_a_bad_key_is_refused_without_a_trace_of_it(secret):
    with pytest.raises(BadInput, match="secret agent-key must be a private key") as caught:
        signer_from(secret, "agent-key")
    assert not secret or secret not in str(caught.value)
    assert caught.value.__context__ is None and caught.value.__cause__ is None


def test_what_an_answer_must_look_like_is_read_from_the_bytes():
    def body(action) -> str:
        return signed_body(signer_from(KEY, "k"), action, vault=None, nonce=1, expires_ms=None, mainnet=False)

    assert expected_answer(body(plain_order()), 9) == (1, "order")
    assert expected_answer(body({"type": "cancel", "cancels": [1, 2]}), 0) == (2, "cancel")
    assert expected_answer(body({"type": "noop"}), 0) == (1, "default")
    assert expected_answer("not json", 3) == (3, "")


def test_times_of_expiry_are_whole_milliseconds():
    from twinleg.domain.candles import ms_from_utc

    assert ms_from_utc(datetime(2027, 1, 15, 8, tzinfo=UTC)) == EXPIRY
