"""Streams that tell one state whole: an account's margin, money and orders, or every asset's context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from twinleg.paper import twaps
from twinleg.paper.numbers import ZERO, usd
from twinleg.paper.state import State

Json = Any


class Ask(Protocol):
    """Asks the venue what ``POST /info`` would."""

    def __call__(self, kind: str, user: str | None = None, **more: Json) -> Json: ...


def _margin(ask: Ask, _: State, user: str) -> Json:
    return {"dex": "", "user": user, "clearinghouseState": ask("clearinghouseState", user)}


def _margin_of_all(ask: Ask, _: State, user: str) -> Json:
    return {"user": user, "clearinghouseStates": [["", ask("clearinghouseState", user)]]}


def _spot(ask: Ask, _: State, user: str) -> Json:
    return {"user": user, "spotState": ask("spotClearinghouseState", user)}


def _orders(ask: Ask, _: State, user: str) -> Json:
    return {"dex": "", "user": user, "orders": ask("frontendOpenOrders", user)}


def _twaps(_: Ask, state: State, user: str) -> Json:
    return {"dex": "", "user": user, "states": _running(state, user)}


def _contexts(ask: Ask, _: State, __: str) -> Json:
    return {"dex": "", "ctxs": ask("metaAndAssetCtxs")[1]}


def _contexts_of_all(ask: Ask, _: State, __: str) -> Json:
    return {"ctxs": [["", ask("metaAndAssetCtxs")[1]]]}


def _spot_contexts(ask: Ask, _: State, __: str) -> Json:
    return ask("spotMetaAndAssetCtxs")[1]


def _web_data_2(ask: Ask, state: State, user: str) -> Json:
    """Everything the venue's own page showed of an account."""
    meta, contexts = ask("metaAndAssetCtxs")
    return {
        "clearinghouseState": ask("clearinghouseState", user),
        "leadingVaults": [],
        "totalVaultEquity": "0.0",
        "openOrders": ask("frontendOpenOrders", user),
        **_person(state, user),
        "meta": meta,
        "assetCtxs": contexts,
        "twapStates": _running(state, user),
        "spotState": ask("spotClearinghouseState", user),
        "spotAssetCtxs": ask("spotMetaAndAssetCtxs")[1],
        "perpsAtOpenInterestCap": ask("perpsAtOpenInterestCap"),
    }


def _web_data_3(ask: Ask, state: State, user: str) -> Json:
    """What replaces it: the account apart from its states, which have streams of their own."""
    dex = {"totalVaultEquity": "0.0", "perpsAtOpenInterestCap": ask("perpsAtOpenInterestCap"), "leadingVaults": []}
    return {"userState": {**_person(state, user), "abstraction": ask("userAbstraction", user)}, "perpDexStates": [dex]}


def _person(state: State, user: str) -> dict[str, Json]:
    agent = next((a for a in state.agents.values() if a.master == user and not a.name), None)
    account = state.accounts.get(user)
    lines = [] if account is None else account.transfers
    return {
        "agentAddress": None if agent is None else agent.address,
        "agentValidUntil": None if agent is None else agent.valid_until_ms,
        "cumLedger": usd(sum((_from_outside(line["delta"]) for line in lines), ZERO)),
        "serverTime": state.now_ms,
        "isVault": False,
        "user": user,
    }


def _from_outside(delta: Json) -> Decimal:
    amount = Decimal(delta.get("usdc", "0"))
    return amount if delta["type"] == "deposit" else -amount if delta["type"] == "withdraw" else ZERO


def _running(state: State, user: str) -> Json:
    return [[twap.ident, twaps.shown(twap)] for twap in state.twaps.values() if twap.user == user]


WHOLE: Mapping[str, Callable[[Ask, State, str], Json]] = {
    "clearinghouseState": _margin,
    "allDexsClearinghouseState": _margin_of_all,
    "spotState": _spot,
    "openOrders": _orders,
    "twapStates": _twaps,
    "assetCtxs": _contexts,
    "allDexsAssetCtxs": _contexts_of_all,
    "spotAssetCtxs": _spot_contexts,
    "webData2": _web_data_2,
    "webData3": _web_data_3,
}
"""Per stream, what it tells of a user (or of nobody in particular)."""
