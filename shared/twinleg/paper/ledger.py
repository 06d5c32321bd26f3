"""The whole ledger as one JSON document, for tests and for people."""

from __future__ import annotations

from typing import Any

from twinleg.paper.accounts import Account
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


def _account(state: State, account: Account) -> dict[str, Any]:
    pnl = sum((p.pnl(state.markets[coin].mark) for coin, p in account.positions.items()), ZERO)
    return {
        "balance": text(account.balance),
        "spot": text(account.spot),
        "cash": text(account.cash()),
        "equity": text(account.cash() + pnl),
        "volume": text(account.volume),
        "requests": account.requests,
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
