"""Every refusal the paper venue claims, provoked: request, then the exact text (or status and body)."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.utils import signing

import paper_bench as bench
from twinleg.paper import limits
from twinleg.paper.options import Switches, VenueOptions
from twinleg.paper.server import serve_in_thread

Bench, wire, flat, cloid = bench.Bench, bench.wire, bench.flat, bench.cloid
ALICE, BOB, CAROL, D = bench.ALICE, bench.BOB, bench.CAROL, bench.D
AGENT = "0x" + "a9" * 20
NOBODY = "0x" + "0e" * 20
ZERO = "0x" + "00" * 20
KEY = "0x" + "0123456789" * 6 + "0123"
SIGNER = "0x14791697260e4c9a71f18484c9f997b308e59325"


@dataclass(frozen=True)
class Case:
    """What is done, and the text it must be answered with."""

    text: str
    do: Callable[[Any], Any]
    switches: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def one(*wires, **more):
    """The error of the last of some orders of Alice's."""
    return lambda v: v.orders(ALICE, *wires, **more)[-1]["error"]


def after(*steps: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The last step's answer."""

    def done(v):
        for step in steps[:-1]:
            step(v)
        return steps[-1](v)

    return done


def act(user: str, kind: str, /, **fields: Any) -> Callable[[Any], Any]:
    """The text that answers a whole action."""

    def done(v):
        envelope = {k: fields[k] for k in ("nonce", "expiresAfter", "vaultAddress") if k in fields}
        action = {k: f for k, f in fields.items() if k not in envelope}
        answer = v.send(user, {"type": kind, **action}, **envelope)
        return answer["response"]

    return done


def long(size: str = "0.02") -> Callable[[Any], Any]:
    return lambda v: v.order(ALICE, True, 101_000, size, "Ioc")


def leverage(number: int, cross: bool = True) -> Callable[[Any], Any]:
    return lambda v: v.leverage(ALICE, number, cross)["response"]


def approve(address: str = AGENT, name: str = "bot", user: str = ALICE) -> Callable[[Any], Any]:
    return act(user, "approveAgent", agentAddress=address, agentName=name)


def volume(usd: str) -> Callable[[Any], Any]:
    return lambda v: setattr(v.state.open_account(ALICE), "volume", D(usd))


def sub_account(v: Any) -> str:
    v.exchange.set_switches({"volume_gates": False})
    address = v.send(ALICE, {"type": "createSubAccount", "name": "sub"})["response"]["data"]
    v.exchange.set_switches({"volume_gates": True})
    return address


def money(kind: str, user: str = ALICE, /, **fields: Any) -> Callable[[Any], Any]:
    sent = {"destination": BOB, "sourceDex": "", "destinationDex": "", "token": "USDC", "fromSubAccount": ""}
    return act(user, kind, **{**sent, "amount": "1", **fields})


def to_spot(v: Any) -> Any:
    return v.send(ALICE, {"type": "usdClassTransfer", "amount": "50", "toPerp": False})


def at_cap(v: Any) -> None:
    v.order(BOB, True, 101_000, "0.05", "Ioc")
    v.exchange.set_switches({"open_interest_cap_usd": "4000"})


def over_budget(v: Any) -> Any:
    v.state.open_account(ALICE).requests = 10_000
    v.send(ALICE, {"type": "noop"})
    return v.send(ALICE, {"type": "noop"})["response"]


FIVE = [wire(True, 99_000 - n, "0.001") for n in range(5)]

five_times_200 = [
    lambda v, first=90_000 + 200 * part: v.orders(ALICE, *(wire(True, first + n, "0.0002") for n in range(200)))
    for part in range(5)
]


def modified(v: Any) -> str:
    answer = v.send(ALICE, {"type": "batchModify", "modifies": [{"oid": 5, "order": FIVE[0]}]})
    return answer["response"]["data"]["statuses"][0]["error"]


def canceled_by_cloid(v: Any) -> str:
    answer = v.send(ALICE, {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": cloid(7)}]})
    return answer["response"]["data"]["statuses"][0]["error"]


def fast_canceled(v: Any) -> str:
    v.order(ALICE, True, 101_000, "0.02", "Ioc")
    oid = v.orders(ALICE, wire(False, 90_000, "0.02", stop=95_000))[0]["resting"]["oid"]
    answer = v.send(ALICE, {"type": "cancel", "cancels": [{"a": 0, "o": oid}], "f": True})
    return answer["response"]["data"]["statuses"][0]["error"]


def to_sub_account(kind: str, **fields: Any) -> Callable[[Any], Any]:
    """The refusal of a transfer to a sub-account, whose address is told as SUB."""

    def done(v):
        sub = sub_account(v)
        return act(ALICE, kind, subAccountUser=sub, isDeposit=True, **fields)(v).replace(sub, "SUB")

    return done


def mismatched(v: Any) -> str:
    sent = {"destination": ALICE, "sourceDex": "", "destinationDex": "spot", "token": "USDC", "amount": "1"}
    action = {"type": "agentSendAsset", **sent, "fromSubAccount": "", "nonce": 5}
    return v.exchange.execute({"action": action, "nonce": bench.START_MS}, ALICE)["response"]


ORDERS = {
    "tick": Case("Price must be divisible by tick size.", one(wire(True, "99999.5", "0.01"))),
    "minimum": Case("Order must have minimum value of $10.", one(wire(True, 99_000, "0.0001"))),
    "minimum by switch": Case(
        "Order must have minimum value of $50.", one(wire(True, 99_000, "0.0004")), {"minimum_notional_usd": D(50)}
    ),
    "margin": Case("Insufficient margin to place order.", one(wire(True, 100_000, "10"))),
    "reduce-only, flat": Case(
        "Reduce only order would increase position.", one(wire(True, 99_000, "0.01", reduce_only=True))
    ),
    "reduce-only, wrong side": Case(
        "Reduce only order would increase position.",
        after(long(), one(wire(True, 101_000, "0.01", "Ioc", reduce_only=True))),
    ),
    "reduce-only, too large, by switch": Case(
        "Reduce only order would increase position.",
        after(long(), one(wire(False, 101_000, "0.03", reduce_only=True))),
        {"oversize_reduce_only": "reject"},
    ),
    "post-only": Case(
        "Post only order would have immediately matched, bbo was 99995@100005.",
        one(wire(True, 100_100, "0.01", "Alo")),
    ),
    "immediate": Case(
        "Order could not immediately match against any resting orders.", one(wire(True, 99_000, "0.01", "Ioc"))
    ),
    "stop on the wrong side": Case(
        "Invalid TP/SL price.", after(long(), one(wire(False, 101_000, "0.02", stop=101_000)))
    ),
    "target on the wrong side": Case(
        "Invalid TP/SL price.", after(long(), one(wire(False, 99_000, "0.02", target=99_000)))
    ),
    "no liquidity": Case("No liquidity available for market order.", one(wire(True, 99_000, "0.01", "FrontendMarket"))),
    "open interest capped": Case(
        "Order would increase open interest while open interest is capped",
        after(at_cap, one(wire(True, 100_100, "0.01", "Ioc"))),
    ),
    "open interest capped, flip": Case(
        "Order would increase open interest while open interest is capped",
        after(long(), at_cap, one(wire(False, 99_900, "0.03", "Ioc"))),
    ),
    "aggressive at the cap": Case(
        "Order rejected due to price more aggressive than oracle while at open interest cap",
        after(long("0.06"), at_cap, one(wire(False, 98_000, "0.01", "Ioc"))),
    ),
    "too far from the oracle": Case(
        "Price too far from oracle", one(wire(True, 106_000, "0.01", "Ioc")), {"oracle_band": D("0.05")}
    ),
    "margin tier": Case(
        "Order would cause position to exceed margin tier limit at current leverage",
        one({**wire(True, "1.01", "4000000"), "a": 9}),
        {},
        {"equity": D(10) ** 8},
    ),
    "upgrade": Case(
        "Only post-only orders allowed immediately after network upgrade",
        one(wire(True, 99_000, "0.01")),
        {"post_only_mode": True},
    ),
    "too many open": Case("Too many open orders.", after(*(five_times_200), one(wire(True, 80_000, "0.001")))),
    "cloid in use": Case(
        "Client order id is carried by an open order.",
        one(wire(True, 99_000, "0.01", cloid=cloid(1)), wire(True, 98_000, "0.01", cloid=cloid(1))),
    ),
    "cancel": Case(
        "Order was never placed, already canceled, or filled.",
        lambda v: v.cancel(ALICE, 5)["error"],
    ),
    "cancel by cloid": Case("Order was never placed, already canceled, or filled.", canceled_by_cloid),
    "fast cancel of a trigger": Case("Trigger orders cannot be canceled with the fast flag.", fast_canceled),
}
"""Per order: the text ends with the asset id, and the others of the batch go on."""


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_refused_in_these_words(name):
    text, _, asset = provoked(ORDERS[name]).rpartition(" asset=")
    assert (text, asset) == (ORDERS[name].text, "9" if name == "margin tier" else "0")


FORMS = {
    "price decimals": Case("Order has invalid price.", one(wire(True, "99.0001", "1", coin="ETH"))),
    "price zero": Case("Order has invalid price.", one(wire(True, "0", "1"))),
    "size decimals": Case("Order has invalid size.", one(wire(True, 99_000, "0.000001"))),
    "size zero": Case("Order has zero size.", one(wire(True, 99_000, "0"))),
    "band": Case("Order price cannot be more than 80% away from the reference price", one(wire(True, 19_000, "1"))),
    "band by switch": Case(
        "Order price cannot be more than 95% away from the reference price",
        one(wire(True, 4_000, "1")),
        {"price_band": D("0.95")},
    ),
    "market order cap": Case("Order value too large. Max is $15000000.", one(wire(True, 100_000, "200", "Ioc"))),
    "market order cap by switch": Case(
        "Order value too large. Max is $30000000.", one(wire(True, 100_000, "400", "Ioc")), {"market_order_cap": "30M"}
    ),
    "limit order cap": Case("Order value too large. Max is $150000000.", one(wire(True, 100_000, "2000"))),
    "empty": Case("Orders are empty.", one()),
    "asset": Case("Invalid asset: 77", one({**wire(True, 1, "1"), "a": 77})),
    "group": Case("Invalid TP/SL order.", one(*FIVE, grouping="normalTpsl")),
    "modify of what is over": Case("Cannot modify canceled or filled order", modified),
}
"""Of form: no asset id at the end, and one status answers the whole batch."""


@pytest.mark.parametrize("name", FORMS)
def test_a_malformed_order_is_refused_in_these_words(name):
    assert provoked(FORMS[name]) == FORMS[name].text


def test_an_error_of_form_answers_the_whole_batch_with_one_status():
    v = started(FORMS["size zero"])
    assert v.orders(ALICE, *FIVE, wire(True, 99_000, "0")) == [{"error": "Order has zero size."}]
    assert v.ask("openOrders", ALICE) == []


UNIFY = act(ALICE, "userSetAbstraction", user=ALICE, abstraction="unifiedAccount")
BUILT = {"orders": [FIVE[0]], "grouping": "na", "builder": {"b": BOB, "f": 10}}

ACTIONS = {
    "leverage": Case("Invalid leverage value", leverage(41)),
    "leverage of a top-up": Case(
        "Invalid leverage value",
        after(leverage(10, False), long(), act(ALICE, "topUpIsolatedOnlyMargin", asset=0, leverage="0")),
    ),
    "201 cancels": Case(
        "Signed action over weight limit of 200.",
        act(ALICE, "cancel", cancels=[{"a": 0, "o": n} for n in range(201)]),
    ),
    "batch by switch": Case(
        "Signed action over weight limit of 4.", act(ALICE, "order", orders=FIVE, grouping="na"), {"batch_max": 4}
    ),
    "margin mode with a position": Case(
        "Cannot switch leverage type with open position.", after(long(), leverage(10, False))
    ),
    "isolated margin of a cross position": Case(
        "Position does not use isolated margin.",
        after(long(), act(ALICE, "updateIsolatedMargin", asset=0, isBuy=True, ntli=1)),
    ),
    "top-up of a cross position": Case(
        "Position does not use isolated margin.",
        after(long(), act(ALICE, "topUpIsolatedOnlyMargin", asset=0, leverage="2")),
    ),
    "less leverage without margin": Case(
        "Isolated position does not have sufficient margin available to decrease leverage. "
        "To decrease leverage, add margin to the position.",
        after(leverage(20, False), long(), leverage(10, False)),
    ),
    "cross on an isolated-only coin": Case(
        "Cross margin is not allowed for this asset.", leverage(5), {"isolated_only": "ETH,BTC"}
    ),
    "margin out of a strict position": Case(
        "Margin cannot be removed from a strict isolated position.",
        after(leverage(5, False), long(), act(ALICE, "updateIsolatedMargin", asset=0, isBuy=True, ntli=-1)),
        {"strict_isolated": "BTC"},
    ),
    "unknown signer": Case(
        f"User or API Wallet {NOBODY} does not exist.", act(NOBODY, "noop"), {}, {"open_accounts": False}
    ),
    "unknown owner": Case(
        f"Must deposit before performing actions. User: {NOBODY}",
        act(NOBODY, "usdSend", destination=BOB, amount="1"),
        {},
        {"open_accounts": False},
    ),
    "agent as owner": Case(
        f"Must deposit before performing actions. User: {AGENT}",
        after(approve(), act(AGENT, "withdraw3", destination=AGENT, amount="2")),
    ),
    "agent replaced": Case(
        f"User or API Wallet {AGENT} does not exist.", after(approve(), approve(CAROL), act(AGENT, "noop"))
    ),
    "agent removed": Case(
        f"User or API Wallet {AGENT} does not exist.", after(approve(), approve(ZERO), act(AGENT, "noop"))
    ),
    "agent just replaced, by switch": Case(
        f"Must deposit before performing actions. User: {ALICE}",
        after(approve(), approve(CAROL), act(AGENT, "noop")),
        {"pruned_agent_answer": "must_deposit"},
    ),
    "agent replaced a while ago": Case(
        f"User or API Wallet {AGENT} does not exist.",
        after(approve(), approve(CAROL), lambda v: v.minutes(0.1), act(AGENT, "noop")),
        {"pruned_agent_answer": "must_deposit"},
    ),
    "no signer": Case(
        "Unable to recover signer.",
        lambda v: v.exchange.execute({"action": {"type": "noop"}, "nonce": bench.START_MS}, None)["response"],
    ),
    "duplicate nonce": Case(
        f"Invalid nonce: duplicate nonce {bench.START_MS + 7}",
        after(act(ALICE, "noop", nonce=bench.START_MS + 7), act(ALICE, "noop", nonce=bench.START_MS + 7)),
    ),
    "nonce too low": Case(
        f"Invalid nonce: nonce too low 5 < {bench.START_MS - 172_680_000}", act(ALICE, "noop", nonce=5)
    ),
    "nonce too high": Case(
        f"Invalid nonce: nonce too high {2 * bench.START_MS} > {bench.START_MS + 86_280_000}",
        act(ALICE, "noop", nonce=2 * bench.START_MS),
    ),
    "nonce below the hundred": Case(
        f"Invalid nonce: nonce too low {bench.START_MS - 5} < {bench.START_MS + 1}",
        after(
            *(act(ALICE, "noop", nonce=bench.START_MS + n) for n in range(1, 101)),
            act(ALICE, "noop", nonce=bench.START_MS - 5),
        ),
    ),
    "nonces differ": Case(
        "Nonce mismatch.", act(ALICE, "usdSend", destination=BOB, amount="1", time=5, nonce=bench.START_MS)
    ),
    "nonces differ, agent": Case("Nonce mismatch.", mismatched),
    "expired": Case("Action already expired", act(ALICE, "noop", expiresAfter=bench.START_MS - 1)),
    "other network": Case(
        "Mainnet and testnet require different signature.",
        act(ALICE, "usdSend", destination=BOB, amount="1", hyperliquidChain="Mainnet"),
    ),
    "vault": Case(f"Vault not registered: {NOBODY}", act(ALICE, "noop", vaultAddress=NOBODY)),
    "vault deposit": Case(
        f"Vault not registered: {NOBODY}", act(ALICE, "vaultTransfer", vaultAddress=NOBODY, isDeposit=True, usd=1)
    ),
    "no sub-account": Case(
        f"Invalid sub-account transfer from {ALICE} to {BOB}",
        act(ALICE, "subAccountTransfer", subAccountUser=BOB, isDeposit=True, usd=1),
    ),
    "more than is free to a sub-account": Case(
        f"Invalid sub-account transfer from {ALICE} to SUB", to_sub_account("subAccountTransfer", usd=10**11)
    ),
    "no spot to a sub-account": Case(
        f"Invalid sub-account transfer from {ALICE} to SUB",
        to_sub_account("subAccountSpotTransfer", token="USDC", amount="1"),
    ),
    "builder": Case("Builder fee has not been approved.", act(ALICE, "order", **BUILT)),
    "builder, more than approved": Case(
        "Builder fee has not been approved.",
        after(act(ALICE, "approveBuilderFee", builder=BOB, maxFeeRate="0.005%"), act(ALICE, "order", **BUILT)),
    ),
    "referral": Case("Referral code not registered", act(ALICE, "setReferrer", code="X")),
    "address budget": Case(
        "Too many cumulative requests sent (10002 > 10000) for cumulative volume traded $0. "
        "Place taker orders to free up 1 request per USDC traded.",
        over_budget,
        {"rate_limits": True},
    ),
    "dead-man switch": Case(
        "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $12066.75.",
        after(volume("12066.75"), act(ALICE, "scheduleCancel", time=bench.START_MS + 60_000)),
    ),
    "dead-man switch, gate by switch": Case(
        "Cannot set scheduled cancel time until enough volume traded. Required: $7. Traded: $0.",
        act(ALICE, "scheduleCancel"),
        {"schedule_cancel_volume_usd": 7},
    ),
    "sub-account": Case(
        "Cannot create sub-accounts until enough volume traded. Required: $100000. Traded: $12066.75.",
        after(volume("12066.75"), act(ALICE, "createSubAccount", name="x")),
    ),
    "too many agents": Case(
        "Too many extra agents for cumulative volume traded. Current limit is 3",
        after(*(approve(f"0x{n:040x}", f"bot{n}") for n in range(1, 4)), approve()),
    ),
    "agent in use": Case("Extra agent already used.", after(approve(), approve(AGENT, "other"))),
    "agent approved again": Case("Extra agent already used.", after(approve(), approve())),
    "agent replaced, by switch": Case(
        "User has pending agent removal",
        after(approve(), approve(CAROL), approve(BOB, "next")),
        {"agent_replacement_pends": True},
    ),
    "agent used before": Case("Extra agent already used.", after(approve(), approve(CAROL), approve())),
    "agent with money": Case("Extra agent already used.", after(act(BOB, "noop"), approve(BOB))),
    "agent name": Case("Extra agent name must be between 1 and 16 characters long", approve(name="x" * 17)),
    "agent over": Case("Agent valid_until already expired.", approve(name="bot valid_until 1000")),
    "agent for too long": Case(
        "Agent valid_until already expired.", approve(name=f"bot valid_until {bench.START_MS + 181 * 86_400_000}")
    ),
    "agent removal pending": Case(
        "User has pending agent removal", after(approve(), approve(ZERO), approve(CAROL, "next"))
    ),
    "agent sends abroad": Case(
        "Agent can only send asset to same user or their sub-accounts.",
        after(approve(), money("agentSendAsset", AGENT)),
    ),
    "class transfer when unified": Case(
        "Action disabled when unified account is active",
        after(UNIFY, act(ALICE, "usdClassTransfer", amount="1", toPerp=False)),
    ),
    "send within a unified account": Case(
        "Action disabled when unified account is active",
        after(UNIFY, money("sendAsset", destination=ALICE, destinationDex="spot")),
    ),
    "send with too many decimals": Case("Invalid send", money("sendAsset", amount="1.1234567")),
    "send of another token": Case("Invalid send", money("sendAsset", token="PURR:0x" + "1" * 32)),
    "send to another dex": Case("Invalid send", money("sendAsset", destinationDex="xyz")),
    "send to oneself": Case("Invalid send", money("sendAsset", destination=ALICE)),
    "spot send of nothing held": Case(
        "Insufficient balance for withdrawal.", act(ALICE, "spotSend", destination=BOB, token="USDC", amount="1")
    ),
    "spot send without the activation fee": Case(
        "Insufficient balance for withdrawal.",
        after(
            lambda v: v.exchange.deposit(ALICE, D(100)),
            to_spot,
            act(ALICE, "spotSend", destination=NOBODY, token="USDC", amount="50"),
        ),
        {},
        {"open_accounts": False},
    ),
    "requests for nobody": Case(
        "User does not exist.", act(ALICE, "reserveRequestWeight", weight=5, destination=NOBODY), {}, {}
    ),
}
"""Of the whole action: ``{"status": "err", "response": text}``."""


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_refused_in_these_words(name):
    assert provoked(ACTIONS[name]) == ACTIONS[name].text


TWAP = {"a": 0, "b": True, "s": "0.1", "r": False, "m": 30, "t": False}


def twap(**changes: Any) -> Callable[[Any], Any]:
    sent = {"type": "twapOrder", "twap": {**TWAP, **changes}}
    return lambda v: v.send(ALICE, sent)["response"]["data"]["status"]["error"]


TWAPS = {
    "too short": Case("Invalid TWAP duration: 1 min(s)", twap(m=1)),
    "reduce-only, flat": Case("Reduce-only TWAP order would increase position.", twap(r=True)),
    "too small": Case("TWAP order must have minimum value of $100.", twap(s="0.0005")),
    "no size": Case("Order has zero size.", twap(s="0")),
    "lot": Case("Order has invalid size.", twap(s="0.000001")),
    "asset": Case("Invalid asset: 99", twap(a=99)),
    "cancel": Case(
        "TWAP was never placed, already canceled, or filled.",
        lambda v: v.send(ALICE, {"type": "twapCancel", "a": 0, "t": 1})["response"]["data"]["status"]["error"],
    ),
}


@pytest.mark.parametrize("name", TWAPS)
def test_a_twap_order_is_refused_in_these_words(name):
    assert provoked(TWAPS[name]) == TWAPS[name].text


def started(case: Case) -> Any:
    options = {"equity": D(10_000), **case.options}
    candles = {"BTC": flat(100_000, 90), "ETH": flat(100, 90), "OP": flat(1, 90)}
    v = Bench(candles, switches=Switches(**case.switches), **options)
    if not options.get("open_accounts", True):
        v.exchange.deposit(ALICE, D(0))
    return v


def provoked(case: Case) -> str:
    return case.do(started(case))


CLAIMED = """
Price must be divisible by tick size.
Order has invalid price.
Order must have minimum value of $10.
Insufficient margin to place order.
Reduce only order would increase position.
Post only order would have immediately matched, bbo was
Order could not immediately match against any resting orders.
Invalid TP/SL price.
No liquidity available for market order.
Order would increase open interest while open interest is capped
Order rejected due to price more aggressive than oracle while at open interest cap
Price too far from oracle
Order price cannot be more than 80% away from the reference price
Order would cause position to exceed margin tier limit at current leverage
Order has zero size.
Order has invalid size.
Orders are empty.
Order value too large. Max is $
Order was never placed, already canceled, or filled.
Cannot modify canceled or filled order
Only post-only orders allowed immediately after network upgrade
Invalid leverage value
Signed action over weight limit of 200.
Cannot switch leverage type with open position.
Position does not use isolated margin.
Isolated position does not have sufficient margin available to decrease leverage. To decrease leverage, add margin to
User or API Wallet 0x
Must deposit before performing actions. User: 0x
Unable to recover signer.
Invalid nonce: duplicate nonce
Invalid nonce: nonce too low
Invalid nonce: nonce too high
Nonce mismatch.
Action already expired
Mainnet and testnet require different signature.
Vault not registered: 0x
Invalid sub-account transfer from 0x
Builder fee has not been approved.
Referral code not registered
Too many cumulative requests sent (
Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $
Cannot create sub-accounts until enough volume traded. Required: $100000. Traded: $
Too many extra agents for cumulative volume traded. Current limit is 3
Extra agent already used.
Extra agent name must be between 1 and 16 characters long
Agent valid_until already expired.
User has pending agent removal
Agent can only send asset to same user or their sub-accounts.
Action disabled when unified account is active
""".strip().splitlines()
"""Texts of the real venue, as recorded or documented, but the four about spot and the pace of open interest."""


@pytest.mark.parametrize("text", CLAIMED)
def test_every_claimed_text_stands_in_a_table(text):
    told = [case.text for table in (ORDERS, FORMS, ACTIONS, TWAPS) for case in table.values()]
    assert any(found.startswith(text) for found in told)


def test_a_refused_action_costs_no_budget_and_a_stale_one_five_times():
    v = started(Case("", str))
    used = lambda: v.ask("userRateLimit", ALICE)["nRequestsUsed"]  # noqa: E731
    v.send(ALICE, {"type": "setReferrer", "code": "X"})
    assert used() == 0
    v.cancel(ALICE, 5)
    assert used() == 1, "a failed cancel is no refused action"
    v.send(ALICE, {"type": "cancel", "cancels": [{"a": 0, "o": n} for n in range(4)]}, expiresAfter=bench.START_MS - 1)
    assert used() == 21
    v.send(ALICE, {"type": "reserveRequestWeight", "weight": 30})
    told = v.ask("userRateLimit", ALICE)
    assert (told["nRequestsUsed"], told["nRequestsCap"], told["nRequestsSurplus"]) == (0, 10_000, 8)
    assert v.state.books.by_kind[ALICE]["requests"] == D("-0.015")


# The HTTP layer


@pytest.fixture(scope="module")
def server():
    running = serve_in_thread(VenueOptions(candles={"BTC": flat(100_000, 60)}, start_ms=bench.START_MS))
    yield running
    running.stop()


def call(server: Any, path: str, body: Any, *, kind: str = "application/json", method: str = "POST") -> tuple[int, str]:
    host, port = re.fullmatch(r"http://([^:]+):(\d+)", server.url).groups()
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, raw, {"Content-Type": kind} if kind else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


NONCE = bench.START_MS + 1_000


def signed(action: dict[str, Any], nonce: int = NONCE, **changes: Any) -> dict[str, Any]:
    signature = signing.sign_l1_action(Account.from_key(KEY), action, None, nonce, None, False)
    return {"action": action, "nonce": nonce, "signature": signature, **changes}


def placing(price: Any = "99000", size: Any = "0.01") -> dict[str, Any]:
    sent = wire(True, 99_000, "0.01")
    return {"type": "order", "orders": [{**sent, "p": price, "s": size}], "grouping": "na"}


GOOD = signed({"type": "noop"}, NONCE + 1)
UNREADABLE = (422, "Failed to deserialize the JSON body into the target type")
NOT_JSON = (400, "Failed to parse the request body as JSON")
NO_JSON_TYPE = (415, "Expected request with `Content-Type: application/json`")
BROKEN = (500, "null")
OK = (200, '{"status":"ok","response":{"type":"default"}}')
HTTP = {
    "success": ("/exchange", GOOD, {}, OK),
    "business error": (
        "/exchange",
        signed({"type": "setReferrer", "code": "X"}, NONCE + 2),
        {},
        (200, '{"status":"err","response":"Referral code not registered"}'),
    ),
    "not JSON": ("/exchange", b"{", {}, NOT_JSON),
    "no JSON to info": ("/info", b"hello", {}, NOT_JSON),
    "a number that JSON has not": ("/info", b'{"type": "meta", "extra": NaN}', {}, NOT_JSON),
    "not UTF-8": ("/info", '{"type": "meta"}'.encode("utf-16"), {}, NOT_JSON),
    "wrong content type": ("/info", {"type": "meta"}, {"kind": "text/plain"}, NO_JSON_TYPE),
    "no content type": ("/exchange", GOOD, {"kind": ""}, NO_JSON_TYPE),
    "unknown question": ("/info", {"type": "nothing"}, {}, UNREADABLE),
    "no question": ("/info", {}, {}, UNREADABLE),
    "a list": ("/info", [], {}, UNREADABLE),
    "missing field": ("/info", {"type": "clearinghouseState"}, {}, UNREADABLE),
    "mistyped field": ("/info", {"type": "userFillsByTime", "user": ALICE, "startTime": "x"}, {}, UNREADABLE),
    "bad address": ("/info", {"type": "openOrders", "user": "0x12"}, {}, UNREADABLE),
    "bad significant figures": ("/info", {"type": "l2Book", "coin": "BTC", "nSigFigs": 7}, {}, BROKEN),
    "significant figures with a point": ("/info", {"type": "l2Book", "coin": "BTC", "nSigFigs": 3.0}, {}, BROKEN),
    "bad mantissa": ("/info", {"type": "l2Book", "coin": "BTC", "nSigFigs": 3, "mantissa": 2}, {}, BROKEN),
    "unknown coin of a book": ("/info", {"type": "l2Book", "coin": "NOPE"}, {}, (200, "null")),
    "listed coin without candles": (
        "/info",
        {"type": "candleSnapshot", "req": {"coin": "MATIC", "interval": "1m", "startTime": 0, "endTime": 1}},
        {},
        (200, "[]"),
    ),
    "funding of a spot pair": ("/info", {"type": "fundingHistory", "coin": "@1", "startTime": 0}, {}, (200, "[]")),
    "trades of a spot pair": ("/info", {"type": "recentTrades", "coin": "PURR/USDC"}, {}, (200, "[]")),
    "unknown coin of candles": (
        "/info",
        {"type": "candleSnapshot", "req": {"coin": "NOPE", "interval": "1m", "startTime": 0, "endTime": 1}},
        {},
        BROKEN,
    ),
    "extra field of a question": ("/info", {"type": "perpDexs", "extra": 1}, {}, (200, "[null]")),
    "unknown action": ("/exchange", {**GOOD, "action": {"type": "dummy"}}, {}, UNREADABLE),
    "left out action": (
        "/exchange",
        {**GOOD, "action": {"type": "createVault", "name": "x", "description": "x", "initialUsd": 1, "nonce": 1}},
        {},
        UNREADABLE,
    ),
    "unknown field of the envelope": ("/exchange", {**GOOD, "extra": 1}, {}, UNREADABLE),
    "unknown field of the action": ("/exchange", {**GOOD, "action": {"type": "noop", "extra": 1}}, {}, UNREADABLE),
    "price as a number": ("/exchange", {**GOOD, "action": placing(price=99_000)}, {}, UNREADABLE),
    "size as a number": ("/exchange", {**GOOD, "action": placing(size=0.01)}, {}, UNREADABLE),
    "negative": ("/exchange", {**GOOD, "action": placing(price="-5")}, {}, UNREADABLE),
    "scientific": ("/exchange", {**GOOD, "action": placing(price="1e5")}, {}, UNREADABLE),
    "nine decimals": ("/exchange", {**GOOD, "action": placing(size="0.123456789")}, {}, UNREADABLE),
    "priority without a number": (
        "/exchange",
        {**GOOD, "action": {**placing(), "grouping": {"p": "1"}}},
        {},
        UNREADABLE,
    ),
    "another method": ("/info", {"type": "meta"}, {"method": "GET"}, (404, "not found")),
}


@pytest.mark.parametrize("name", HTTP)
def test_the_http_layer_answers(server, name):
    path, body, how, expected = HTTP[name]
    assert call(server, path, body, **how) == expected


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(server):
    body = b'{"type": "perpDexs"}'
    head = (
        "POST /info HTTP/1.1\r\nHost: venue\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as line, line.makefile("rb") as heard:
        line.sendall(head.encode())
        assert heard.readline() == b"HTTP/1.1 100 Continue\r\n"
        line.sendall(body)
        assert heard.read().endswith(b"[null]")


def test_unknown_fields_inside_an_order_or_the_signature_trailing_zeros_and_bare_addresses_are_accepted(server):
    action = placing()
    body = signed(action, NONCE + 3)
    loose = {**action["orders"][0], "p": "99000.00", "s": "0.0100", "extra": 1}
    sent = {**body, "action": {**action, "orders": [loose]}, "signature": {**body["signature"], "extra": 1}}
    status, text = call(server, "/exchange", sent)
    assert status == 200 and "resting" in text
    assert json.loads(call(server, "/info", {"type": "openOrders", "user": SIGNER[2:]})[1])[0]["limitPx"] == "99000.0"


def test_flags_that_are_false_and_values_that_are_null_are_not_part_of_what_is_signed(server):
    cancels = {"type": "cancel", "cancels": [{"a": 0, "o": 1}]}
    status, text = call(server, "/exchange", {**signed(cancels, NONCE + 4), "action": {**cancels, "f": False}})
    assert status == 200 and "already canceled" in text
    status, text = call(server, "/exchange", signed({**cancels, "f": False}, NONCE + 5))
    assert "does not exist" in text or "already canceled" in text
    reserve = {"type": "reserveRequestWeight", "weight": 1}
    sent = {**signed(reserve, NONCE + 6), "action": {**reserve, "destination": None}}
    assert call(server, "/exchange", sent) == OK


def test_a_priority_fee_places_as_no_group_does(server):
    action = {**placing(price="98000"), "grouping": {"p": 3}}
    assert "resting" in call(server, "/exchange", signed(action, NONCE + 7))[1]


def test_too_much_weight_is_429_null():
    running = serve_in_thread(
        VenueOptions(candles={"BTC": flat(100_000, 60)}, start_ms=bench.START_MS, switches=Switches(rate_limits=True))
    )
    try:
        asked = [call(running, "/info", {"type": "userRole", "user": ALICE}) for _ in range(21)]
        assert asked[-1] == (429, "null") and {status for status, _ in asked[:-1]} == {200}
    finally:
        running.stop()


WEIGHTS = {
    "light": ("/info", {"type": "allMids"}, 0, 2),
    "role": ("/info", {"type": "userRole"}, 0, 60),
    "any other": ("/info", {"type": "meta"}, 0, 20),
    "by twenty rows": ("/info", {"type": "userFills"}, 45, 22),
    "the ledger too": ("/info", {"type": "userNonFundingLedgerUpdates"}, 20, 21),
    "trades": ("/info", {"type": "recentTrades"}, 10, 20),
    "by sixty candles": ("/info", {"type": "candleSnapshot"}, 600, 30),
    "one order": ("/exchange", {"action": {"type": "order", "orders": [1]}}, 0, 1),
    "a batch": ("/exchange", {"action": {"type": "cancel", "cancels": [1] * 85}}, 0, 3),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_requests_weigh_what_the_documents_say(name):
    path, body, rows, expected = WEIGHTS[name]
    extra = limits.answer_weight(body, json.dumps([0] * rows)) if path == "/info" else 0
    assert limits.weight(path, body) + extra == expected


CAPS = {"BTC": 15_000_000, "SOL": 5_000_000, "DOGE": 2_000_000, "APE": 500_000}


@pytest.mark.parametrize("coin", CAPS)
def test_the_largest_order_follows_the_coins_leverage(coin):
    v = Bench({coin: flat(10, 3)}, equity=D(10) ** 9)
    market = v.state.markets[coin]
    size = (D(CAPS[coin]) / 10 + 100).quantize(market.listing.lot)
    sent = {**wire(True, "10", size, "Ioc"), "a": market.listing.asset}
    assert v.orders(ALICE, sent) == [{"error": f"Order value too large. Max is ${CAPS[coin]}."}]
    ten = {**wire(True, "10", 10 * size), "a": market.listing.asset}
    assert v.orders(ALICE, ten) == [{"error": f"Order value too large. Max is ${10 * CAPS[coin]}."}]
    assert v.ask("maxMarketOrderNtls") == [[market.listing.max_leverage, f"{CAPS[coin]}.0"]]
