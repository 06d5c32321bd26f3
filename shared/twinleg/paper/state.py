"""Everything the venue knows, and the few primitives that every rule writes through."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from twinleg.domain.candles import Candle
from twinleg.domain.errors import BadInput
from twinleg.paper.accounts import Account, Agent, Twap, add_history, remember_order
from twinleg.paper.books import WORLD, Books
from twinleg.paper.listings import listings
from twinleg.paper.market import Market
from twinleg.paper.nonces import Nonces
from twinleg.paper.numbers import usd
from twinleg.paper.options import Switches, VenueOptions
from twinleg.paper.orders import Order

FIRST_OID = 77_738_308
FIRST_TID = 118_906_512_037_719
FIRST_TWAP = 3_155
JITTER_STEPS = 64


class State:
    """The venue's memory. It changes only through the rules; it never reads a clock."""

    def __init__(self, options: VenueOptions, candles: Mapping[str, Sequence[Candle]], start_ms: int) -> None:
        self.options = options
        self.switches: Switches = options.switches
        self.now_ms = start_ms
        self.start_ms = start_ms
        self.seed = options.seed
        jitter = _jitter(options.seed)
        known = listings()
        self.markets: dict[str, Market] = {}
        for coin, series in candles.items():
            listing = known.get(coin)
            if listing is None:
                raise BadInput(f"candles: {coin!r} is not a listed coin; known are {', '.join(known)}")
            self.markets[coin] = Market(listing, series, start_ms, options.book, jitter, options.path_points_min)
        for coin, rates in options.funding_rates.items():
            if coin in self.markets:
                self.markets[coin].know_funding(rates)
        self.apply_switches(options.switches)
        self.by_asset = {market.listing.asset: market for market in self.markets.values()}
        self.accounts: dict[str, Account] = {}
        self.agents: dict[str, Agent] = {}
        self.scheduled: dict[str, Account] = {}
        """Accounts with a scheduled cancel."""
        self.retired_agents: dict[str, str] = {}
        """Agent addresses once registered, and their former master."""
        self.retired_ms: dict[str, int] = {}
        """When each of them ceased to be one."""
        self.strangers: set[str] = set()
        """Addresses that signed for the other network, or would have: what that network reads in new signatures."""
        self.nonces: dict[str, Nonces] = {}
        self.books = Books()
        self.orders: dict[int, Order] = {}
        self.fills: list[dict[str, Any]] = []
        self.fundings: list[dict[str, Any]] = []
        self.liquidations: list[dict[str, Any]] = []
        self.actions: dict[str, int] = {}
        self.next_oid = FIRST_OID
        self.next_tid = FIRST_TID
        self.next_twap = FIRST_TWAP
        self._hashes = 0
        self.twaps: dict[int, Twap] = {}
        """TWAP orders that run, of all accounts."""
        self.indebted: dict[str, None] = {}
        """Addresses whose balance a fill took below zero."""
        self.late: list[tuple[int, int, dict[str, Any], str]] = []
        """Requests held back on their way: (arrival ms, sequence, body, signer), a heap."""

    def apply_switches(self, switches: Switches) -> None:
        """Take these switches, and bring the markets in line; BadInput when one names a coin that has no market."""
        strict, isolated = (self._coins(switches, name) for name in ("strict_isolated", "isolated_only"))
        self.switches = switches
        for coin, market in self.markets.items():
            listing = market.listing
            market.strict_isolated = listing.strict_isolated or coin in strict
            market.only_isolated = listing.rules.only_isolated or market.strict_isolated or coin in isolated

    def _coins(self, switches: Switches, name: str) -> set[str]:
        named = {coin.strip() for coin in getattr(switches, name).split(",") if coin.strip()}
        unknown = sorted(named - set(self.markets))
        if unknown:
            raise BadInput(f"switches: {name}: {unknown[0]!r} has no market here; there are {', '.join(self.markets)}")
        return named

    def new_hash(self) -> str:
        """A 32-byte transaction hash, from the seed and a counter."""
        self._hashes += 1
        return "0x" + hashlib.sha256(f"{self.seed}:{self._hashes}".encode()).hexdigest()

    def new_oid(self) -> int:
        self.next_oid += 1
        return self.next_oid

    def new_tid(self) -> int:
        self.next_tid += 1
        return self.next_tid

    def open_account(self, address: str) -> Account:
        """The account of an address, made when there is none (with the opening equity in open mode)."""
        account = self.accounts.get(address)
        if account is None:
            account = self.new_account(address)
            if self.options.open_accounts and self.options.equity:
                self.deposit(account, self.options.equity)
        return account

    def new_account(self, address: str) -> Account:
        """An account without money."""
        account = self.accounts[address] = Account(address, abstraction=self.switches.default_abstraction)
        return account

    def deposit(self, account: Account, amount: Decimal) -> None:
        """USDC arrives from outside (a negative amount leaves)."""
        account.balance += amount
        kind = "deposit" if amount > 0 else "withdraw"
        self.books.post(WORLD, account.address, amount, kind)
        more = {} if amount > 0 else {"nonce": self.now_ms, "fee": "0.0"}
        self.note_transfer(account, {"type": kind, "usdc": usd(abs(amount)), **more})

    def note_transfer(self, account: Account, delta: dict[str, Any]) -> None:
        """Write one line of the account's non-funding ledger."""
        account.transfers.append({"time": self.now_ms, "hash": self.new_hash(), "delta": delta})

    def signer_nonces(self, signer: str) -> Nonces:
        found = self.nonces.get(signer)
        if found is None:
            found = self.nonces[signer] = Nonces()
        return found

    def admit(self, order: Order) -> None:
        """Give a new order its place in every index."""
        account = self.accounts[order.user]
        self.orders[order.oid] = order
        remember_order(account, order, self.switches.order_memory, self.switches.duplicate_open_cloid == "accept")

    def set_status(self, order: Order, status: str) -> None:
        """Record a status; anything but ``open`` and ``triggered`` ends the order."""
        order.status, order.status_ms = status, self.now_ms
        account = self.accounts[order.user]
        if status not in ("open", "triggered"):
            order.phase = "done"
            account.orders.pop(order.oid, None)
            market = self.markets[order.coin]
            market.book.remove(order)
            market.triggers.pop(order.oid, None)
        entry = {"order": order.shown(), "status": status, "statusTimestamp": self.now_ms}
        add_history(account, entry, self.switches.order_memory)


def _jitter(seed: int) -> tuple[Decimal, ...]:
    draw = random.Random(seed)
    return tuple(Decimal(80 + draw.randrange(41)) / 100 for _ in range(JITTER_STEPS))
