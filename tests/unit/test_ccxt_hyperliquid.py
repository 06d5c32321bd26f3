"""ccxt writes and signs what the official SDK would have, and sends nothing of its own."""

from __future__ import annotations

import decimal
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from twinleg.adapters.venues.ccxt_client import Draft, client, exchange_class, must_be, write
from twinleg.adapters.venues.ccxt_hyperliquid import CcxtHyperliquidVenue
from twinleg.adapters.venues.hyperliquid import AccountAddress, HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_http import NetworkFault
from twinleg.bootstrap import build_venue
from twinleg.domain.errors import BadInput, InvariantBroken, Unavailable
from twinleg.domain.ids import ClientOrderId
from twinleg.domain.orders import Grouping, OrderKind, OrderRequest, Side
from twinleg.engine.ports import (
    AddMargin,
    CancelOrders,
    Noop,
    Outcome,
    PlaceReduction,
    SetLeverage,
    SignerRole,
    Steps,
    VenueAction,
)
from twinleg.settings import example_text, parse

D = Decimal
OWNER, SUB = "0x" + "ab" * 20, "0x" + "5b" * 20
NONCE = 1_795_000_000_000
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BTC, PEPE, OLD = "hyperliquid:BTC", "hyperliquid:kPEPE", "hyperliquid:OLD"
META = {
    "universe": [
        {"szDecimals": 5, "name": "BTC", "maxLeverage": 40, "marginTableId": 40},
        {"szDecimals": 0, "name": "kPEPE", "maxLeverage": 10, "marginTableId": 10},
        {"szDecimals": 1, "name": "OLD", "maxLeverage": 20, "marginTableId": 20, "isDelisted": True},
    ],
    "marginTables": [],
}


@dataclass
class Line:
    """Records what is posted, and answers with the last of *answers* when it runs out of others."""

    answers: list[tuple[int, str] | NetworkFault] = field(default_factory=lambda: [(200, '{"time": 5}')])
    posts: list[tuple[str, bytes]] = field(default_factory=list)

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        self.posts.append((path, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, NetworkFault):
            raise answer
        return answer


class Box(dict[str, str]):
    def read(self, name: str) -> str:
        return self[name]


def made(kind: type[HyperliquidVenue] = CcxtHyperliquidVenue, line: Line | None = None, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "network": "paper",
        "url": "http://127.0.0.1:9",
        "accounts": {"main": AccountAddress(OWNER)},
        "secrets": Box(agent="0x" + "11" * 32),
        "key_names": {("main", SignerRole.EXECUTE): "agent"},
        "steps": Steps(),
        "meta": META,
        "channel": line or Line([NetworkFault("nobody may send", dropped=False)]),
    }
    return kind(**(given | changes))


def signed(venue: Any, action: VenueAction, nonce: int = NONCE, expires_at: datetime | None = NOW):
    return venue.sign(action, SignerRole.EXECUTE, nonce, expires_at)


def order(**changes: Any) -> OrderRequest:
    given = {
        "client_order_id": ClientOrderId("0x" + "0a" * 16),
        "market": BTC,
        "side": Side.SELL,
        "size": D("0.01"),
        "limit_price": D("50000"),
        "kind": OrderKind.LIMIT,
        "reduce_only": True,
    }
    return OrderRequest(**(given | changes))


STOP = order(kind=OrderKind.STOP, trigger_price=D("49000.0"), limit_price=D("44100"), client_order_id="0x" + "0b" * 16)
TARGET = order(kind=OrderKind.TARGET, trigger_price=D("0.1"), limit_price=D("0.2"), client_order_id="0x" + "0c" * 16)
ACTIONS: dict[str, VenueAction] = {
    "noop": Noop("main"),
    "isolated": SetLeverage("main", PEPE, 3, isolated=True),
    "cross": SetLeverage("main", BTC, 40, isolated=False),
    "margin finer than the lot": AddMargin("main", BTC, D("12.345678")),
    "cancel by client id": CancelOrders("main", OLD, (STOP.client_order_id, TARGET.client_order_id)),
    "cancel by order id": CancelOrders("main", BTC, (), ("123456789012", "7")),
    "limit and market": PlaceReduction(
        "main", (order(), order(kind=OrderKind.MARKET, side=Side.BUY, limit_price=D("123456")))
    ),
    "stop and target of a position": PlaceReduction("main", (STOP, TARGET), Grouping.POSITION),
    "bracket": PlaceReduction("main", (order(), STOP, TARGET), Grouping.WITH_PARENT),
    "small prices": PlaceReduction("main", (order(market=PEPE, size=D(1000), limit_price=D("0.012345")),)),
}


# -- the bytes -----------------------------------------------------------------------------------


def meaning(body: str) -> tuple[str, dict[str, Any]]:
    """The action's own text, and the rest with the signature's numbers as numbers (ccxt pads them)."""
    parsed = json.loads(body)
    numbers = {k: int(v, 16) if isinstance(v, str) else v for k, v in parsed["signature"].items()}
    return json.dumps(parsed.pop("action")), parsed | {"signature": numbers}


@pytest.mark.parametrize("expires_at", [NOW, None], ids=["expiring", "lasting"])
@pytest.mark.parametrize("where", [AccountAddress(OWNER), AccountAddress(SUB, OWNER)], ids=["master", "sub"])
@pytest.mark.parametrize("network", ["paper", "mainnet"])
def test_every_action_is_signed_as_the_sdk_signs_it(network, where, expires_at):
    more = {"network": network, "accounts": {"main": where}}
    more |= {} if network == "paper" else {"url": None, "confirmed_mainnet_address": OWNER}
    by_ccxt, by_sdk = made(**more), made(HyperliquidVenue, **more)
    for name, action in ACTIONS.items():
        ours, theirs = signed(by_ccxt, action, expires_at=expires_at), signed(by_sdk, action, expires_at=expires_at)
        assert meaning(ours.body) == meaning(theirs.body), name
        assert ours.model_copy(update={"body": ""}) == theirs.model_copy(update={"body": ""})


@pytest.mark.parametrize("wrong", [0, -5, 16**10 - 1, 16**11])
def test_times_that_ccxt_would_hash_wrongly_are_refused(wrong):
    with pytest.raises(BadInput, match=f"nonce must be in ms and of the years 2004 to 2527, was {wrong}"):
        signed(made(), Noop("main"), nonce=wrong)


def test_an_expiry_that_ccxt_would_hash_wrongly_is_refused():
    with pytest.raises(BadInput, match="expires_at must be in ms"):
        signed(made(), ACTIONS["cross"], expires_at=datetime(2001, 1, 1, tzinfo=UTC))


def test_rounding_inside_ccxt_does_not_change_how_decimals_are_rounded_outside():
    with decimal.localcontext(decimal.Context()) as context:  # one that no other test's ccxt has changed before
        before = repr(context).partition("flags")[0], dict(context.traps)
        venue = made()
        assert signed(venue, ACTIONS["bracket"]) == signed(venue, ACTIONS["bracket"])
        assert decimal.getcontext() is context
        assert (repr(context).partition("flags")[0], dict(context.traps)) == before


def test_a_key_is_shown_nowhere_and_an_owners_is_refused():
    venue = made()
    action = signed(venue, ACTIONS["cross"])
    (pen,) = venue._pens.values()
    assert all("11" * 32 not in text for text in (repr(venue), repr(pen), str(pen), repr(action), action.body))
    where = {"main": AccountAddress(action.signer)}
    live = made(network="mainnet", url=None, accounts=where, confirmed_mainnet_address=action.signer)
    with pytest.raises(BadInput, match="secret agent holds the owner's key"):
        signed(live, ACTIONS["cross"])


# -- nothing of its own --------------------------------------------------------------------------


def test_making_and_signing_send_nothing_and_a_read_is_one_request():
    line = Line()
    venue = made(line=line)
    for action in ACTIONS.values():
        signed(venue, action)
    assert line.posts == []
    assert venue.time() == datetime(1970, 1, 1, 0, 0, 0, 5000, tzinfo=UTC)
    assert [(path, json.loads(body)) for path, body in line.posts] == [("/info", {"type": "exchangeStatus"})]


def test_metadata_is_read_once_and_makes_ccxts_markets_too():
    line = Line([(200, json.dumps(META))])
    venue = made(line=line, meta=None)
    for _ in range(2):
        signed(venue, ACTIONS["bracket"])
    assert venue.rules(BTC).lot == D("0.00001")
    assert [json.loads(body)["type"] for _, body in line.posts] == ["meta"]


def test_ccxts_start_up_actions_are_empty_and_it_cannot_act_by_itself():
    line = Line()
    venue = made(line=line)
    signed(venue, ACTIONS["cross"])
    (pen,) = venue._pens.values()
    assert pen.initialize_client() is pen.handle_builder_fee_approval() is pen.set_ref() is True
    for call in (
        lambda: pen.approve_builder_fee(OWNER, "0.01%"),
        lambda: pen.create_order("BTC/USDC:USDC", "limit", "buy", "0.01", "50000"),
        lambda: pen.set_leverage(5, "BTC/USDC:USDC"),
    ):
        with pytest.raises(InvariantBroken, match="ccxt would sign an action that nobody drafted"):
            call()
    with pytest.raises(InvariantBroken, match=r"ccxt would ask http://127\.0\.0\.1:9/exchange"):
        pen.privatePostExchange({"action": {"type": "noop"}})
    with pytest.raises(InvariantBroken, match="ccxt would send GET"):
        pen.fetch("http://127.0.0.1:9/info")
    assert line.posts == []


def test_a_fee_for_ccxt_never_gets_into_an_order():
    venue = made()
    signed(venue, ACTIONS["bracket"])
    (pen,) = venue._pens.values()
    pen.options["approvedBuilderFee"] = True
    with pytest.raises(InvariantBroken, match="builder"):
        signed(venue, ACTIONS["bracket"])


def test_a_value_that_ccxt_rounded_is_not_signed_away():
    must_be({"p": "1", "s": "2"}, {"p": "1", "s": "2"})
    for written in ({"p": "1"}, {"s": "2", "p": "1"}, {"p": "1.0", "s": "2"}, {"p": "1", "s": "2", "f": 1}):
        with pytest.raises(InvariantBroken, match=r"where .* was meant"):
            must_be({"p": "1", "s": "2"}, written)


def test_what_ccxt_refuses_or_does_not_write_is_told():
    venue = made()
    signed(venue, ACTIONS["cross"])
    (pen,) = venue._pens.values()
    with pytest.raises(BadInput, match="ccxt would not write it: BadSymbol"):
        write(pen, Draft(NONCE), lambda: pen.set_leverage(5, "NOPE/USDC:USDC"))
    with pytest.raises(InvariantBroken, match="ccxt wrote no request"):
        write(pen, Draft(NONCE), lambda: None)
    assert pen.draft() is None


def test_numbers_stay_text():
    plain = client(type("Plain", (exchange_class("hyperliquid"),), {}), {}, lambda *_: None)
    assert plain.parse_number("0.1000") == "0.1000" and plain.enableRateLimit is False


# -- sending and reading -------------------------------------------------------------------------


def test_the_signed_bytes_go_out_once_and_nothing_is_tried_again():
    line = Line([NetworkFault("gone", dropped=True)])
    venue = made(line=line)
    action = signed(venue, ACTIONS["bracket"])
    assert venue.send(action).outcome is Outcome.UNKNOWN
    assert line.posts == [("/exchange", action.body.encode())]


@pytest.mark.parametrize("answer", [
    (500, "null"), (429, "null"), (200, "not json"), (200, '{"status": "err", "response": "no"}'),
    NetworkFault("slow", dropped=False),
])  # fmt: skip
def test_an_answer_that_says_nothing_is_unavailable(answer):
    with pytest.raises(Unavailable):
        made(line=Line([answer])).time()


def test_a_read_on_a_dropped_connection_is_asked_again():
    line = Line([NetworkFault("idle", dropped=True), (200, '{"time": 5}')])
    assert made(line=line).time().year == 1970 and len(line.posts) == 2


def test_what_a_venue_knows_of_no_order_is_no_error_of_ccxts():
    line = Line([(200, '{"status": "unknownOid"}')])
    assert made(line=line).order("main", "0x" + "9" * 32) is None


# -- choosing it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("chosen", "kind"), [("sdk", HyperliquidVenue), ("ccxt", CcxtHyperliquidVenue)])
def test_a_setting_chooses_the_adapter(chosen, kind):
    settings = parse(example_text(), {"TWINLEG_VENUES__HYPERLIQUID__ADAPTER": chosen})
    assert f"venues.hyperliquid.adapter = {chosen}" in settings.masked()
    assert type(build_venue(settings, "hyperliquid", Box(), Steps())) is kind


def test_ccxt_is_imported_when_first_used():
    script = (
        "import sys; from twinleg.settings import parse, example_text; from twinleg.bootstrap import build_venue\n"
        "from twinleg.engine.steps import Steps\n"
        "settings = parse(example_text(), {'TWINLEG_VENUES__HYPERLIQUID__ADAPTER': 'ccxt'})\n"
        "venue = build_venue(settings, 'hyperliquid', None, Steps())\n"
        "print(repr(venue).partition('(')[0], 'ccxt' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["CcxtHyperliquidVenue", "False"]


def test_ccxt_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(BadInput, match=r"adapter 'ccxt' needs the package ccxt.*install twinleg\[ccxt\]"):
        exchange_class("hyperliquid")
