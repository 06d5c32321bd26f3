"""The whole ledger as one JSON document, for tests and for people."""

from __future__ import annotations

from typing import Any

from twinleg.domain.errors import BadInput
from twinleg.paper import twaps
from twinleg.paper.accounts import Account, Twap
from twinleg.paper.numbers import ZERO, text
from twinleg.paper.orders import Order
from twinleg.paper.state import State


def dump(state: State) -> dict[str, Any]:
    """Accounts, fills, orders, funding, liquidations, transfers, books and counters."""
    return {
        "now_ms": state.now_ms,
        "accounts": {address: _account(state, account) for address, account in state.accounts.items()},
        "agents": [
            {"address": a.address, "master": a.master, "name": a.name, "valid_until_ms": a.valid_until_ms}
            for a in state.agents.values()
        ],
        "fills": state.fills,
        "orders": [_order(order) for order in state.orders.values()],
        "twaps": [_twap(twap) for account in state.accounts.values() for twap in account.twaps.values()],
        "funding": state.fundings,
        "liquidations": state.liquidations,
        "transfers": [{"user": a.address, **line} for a in state.accounts.values() for line in a.transfers],
        "books": {
            "balances": {place: text(amount) for place, amount in state.books.balances.items()},
            "by_kind": {
                place: {kind: text(amount) for kind, amount in kinds.items()}
                for place, kinds in state.books.by_kind.items()
            },
            "total": text(state.books.total()),
        },
        "actions": state.actions,
        "nonces": {signer: list(nonces.spent) for signer, nonces in state.nonces.items()},
    }


def snapshot(state: State, address: str) -> dict[str, Any]:
    """The same of one account, by its lower-case address; BadInput when it has none."""
    account = state.accounts.get(address)
    if account is None:
        raise BadInput(f"address: {address} has no account here yet")
    agents = {a.address for a in state.agents.values() if a.master == address}
    return {
        "now_ms": state.now_ms,
        "address": address,
        **_account(state, account),
        "sub_accounts": account.sub_accounts,
        "agents": sorted(agents),
        "leverage": {c: {"is_cross": cross, "leverage": of} for c, (cross, of) in account.leverage.items()},
        "open_orders": [_order(order) for order in account.orders.values()],
        "fills": account.fills,
        "funding": account.fundings,
        "transfers": account.transfers,
        "liquidations": [line for line in state.liquidations if line.get("user") == address],
        "books": {kind: text(amount) for kind, amount in state.books.by_kind.get(address, {}).items()},
        "nonces": {who: list(state.nonces[who].spent) for who in (address, *sorted(agents)) if who in state.nonces},
    }


def _account(state: State, account: Account) -> dict[str, Any]:
    pnl = sum((p.pnl(state.markets[coin].mark) for coin, p in account.positions.items()), ZERO)
    return {
        "balance": text(account.balance),
        "spot": text(account.spot),
        "cash": text(account.cash()),
        "equity": text(account.cash() + pnl),
        "volume": text(account.volume),
        "requests": account.requests,
        "reserved_requests": account.reserved_requests,
        "master": account.master,
        "abstraction": account.abstraction,
        "positions": {
            coin: {
                "size": text(p.size),
                "entry_usd": text(p.entry_usd),
                "is_cross": p.is_cross,
                "leverage": p.leverage,
                "collateral": text(p.collateral),
                "unrealised": text(p.pnl(state.markets[coin].mark)),
            }
            for coin, p in account.positions.items()
        },
    }


def _twap(twap: Twap) -> dict[str, Any]:
    return {"twapId": twap.ident, "status": twap.status or "activated", "next_ms": twap.next_ms, **twaps.shown(twap)}


def _order(order: Order) -> dict[str, Any]:
    return {
        "user": order.user,
        "status": order.status,
        "statusTimestamp": order.status_ms,
        "filled": text(order.filled),
        "live": order.live,
        "tpsl": order.tpsl,
        **order.shown(),
    }
