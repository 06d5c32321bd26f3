"""Hyperliquid perpetuals as a Venue: the official SDK signs, one HTTP channel sends and reads."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from twinleg.adapters.venues import hyperliquid_reads as reads
from twinleg.adapters.venues import hyperliquid_weights as weights
from twinleg.adapters.venues.hyperliquid_answers import verdict
from twinleg.adapters.venues.hyperliquid_http import Channel, Network, NetworkFault, Wire, base_url
from twinleg.adapters.venues.hyperliquid_reads import Listing, Raw, understood
from twinleg.domain.candles import MINUTE, Candle, Snapshot, ms_from_utc
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.domain.ids import coin_of, venue_of
from twinleg.domain.markets import MarketRules
from twinleg.domain.orders import AccountState, Fill, OrderReport, RestingOrder
from twinleg.engine.ports import (
    CancelOrders,
    Capability,
    Clock,
    Noop,
    Outcome,
    PlaceReduction,
    Secrets,
    Signed,
    SignerRole,
    Steps,
    VenueAction,
    Verdict,
)

if TYPE_CHECKING:
    from twinleg.adapters.venues.hyperliquid_wire import Signer

ADDRESS = re.compile(r"0x[0-9a-f]{40}")
FILLS_PER_ANSWER = 2000
ROWS_PER_ANSWER = 500
PAGES_MAX = 50
CONTEXTS_KEPT = timedelta(seconds=1)
"""How long all markets' prices are kept, which one answer gives: several markets asked for at once cost one read."""
_decoded = json.JSONDecoder(parse_float=Decimal).decode


@dataclass(frozen=True, slots=True)
class AccountAddress:
    """Where an account's money is. ``master`` is set when ``address`` is a sub-account of it."""

    address: str
    master: str | None = None

    @property
    def owner(self) -> str:
        """The address whose agents may sign for this account."""
        return self.master or self.address


class HyperliquidVenue:
    """One Hyperliquid network and the accounts we hold there.

    The constructor does no I/O. Metadata is fetched once, when first needed, unless *meta* is given.
    Reads always ask for the account itself (the venue answers an agent's address with an empty state).
    A dropped connection is tried once more for reads; a signed action is sent once, whatever happens.
    """

    capability = Capability(unique_nonce=True, noop=True, expiry=True, client_id_forever=False, instant_transfer=False)

    def __init__(
        self,
        *,
        network: Network,
        url: str | None,
        accounts: Mapping[str, AccountAddress],
        secrets: Secrets,
        key_names: Mapping[tuple[str, SignerRole], str],
        steps: Steps,
        meta: Raw | None = None,
        timeout_seconds: float = 10,
        confirmed_mainnet_address: str | None = None,
        name: str = "hyperliquid",
        channel: Wire | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.network: Network = network
        self._url = base_url(network, url)
        self._accounts = {account: _checked(account, where) for account, where in accounts.items()}
        if network == "mainnet":
            _require_confirmed(self._accounts.values(), confirmed_mainnet_address)
        self._secrets, self._key_names, self._steps = secrets, dict(key_names), steps
        self._channel: Wire = channel or Channel(self._url, timeout_seconds)
        self._weights, self._clock = weights.Weights(clock), clock
        self._contexts: tuple[datetime, Sequence[Any]] | None = None
        self._lock = threading.RLock()
        self._wallets: dict[str, Signer] = {}
        self._listings = None if meta is None else _listings_given(meta, name)

    def __repr__(self) -> str:
        return f"HyperliquidVenue({self.network}, {self._url}, accounts={sorted(self._accounts)})"

    # -- signing and sending ---------------------------------------------------------------------

    def signer(self, account: str, role: SignerRole) -> str:
        """The agent key's address, in lower case."""
        return self._wallet(account, role).address.lower()

    def sign(
        self,
        action: VenueAction,
        role: SignerRole,
        nonce: int,
        expires_at: datetime | None,
        client_tag: str = "",  # noqa: ARG002 (this venue carries client order ids in the orders themselves)
    ) -> Signed:
        """The exact request text. ``noop`` never expires: an expired one would spend the nonce and prove nothing.

        Raises BadInput when a number would have to be rounded, or a key or market is not ours to use.
        """
        from twinleg.adapters.venues.hyperliquid_wire import action_wire, signed_body  # slow to import

        if nonce <= 0:
            raise BadInput(f"nonce must be above 0, was {nonce}")
        where = self._account(action.account)
        expiry = None if isinstance(action, Noop) else expires_at
        wallet = self._wallet(action.account, role)
        reducing = isinstance(action, (CancelOrders, PlaceReduction))
        body = signed_body(
            wallet,
            action_wire(action, self._rules_if_listed if reducing else self.rules),
            vault=where.address if where.master else None,
            nonce=nonce,
            expires_ms=None if expiry is None else ms_from_utc(expiry),
            mainnet=self.network == "mainnet",
        )
        return Signed(account=action.account, signer=wallet.address.lower(), nonce=nonce, expires_at=expiry, body=body)

    def send(self, signed: Signed, orders: int = 1) -> Verdict:
        """POST the bytes once. Whatever leaves doubt, even a refused connection, is UNKNOWN."""
        from twinleg.adapters.venues.hyperliquid_wire import expected_answer

        parts, answer_type = expected_answer(signed.body, orders)
        self._weights.spend(weights.of_action(orders))
        self._contexts = None  # what we do may move the market
        self._steps.step(f"{self.name}.exchange")
        try:
            status, text = self._channel.post("/exchange", signed.body.encode())
        except NetworkFault as fault:
            answer = Verdict(outcome=Outcome.UNKNOWN, reason=str(fault))
        else:
            answer = verdict(status, text, parts, answer_type)
        self._steps.step(f"{self.name}.exchange")
        return answer

    def _wallet(self, account: str, role: SignerRole) -> Signer:
        from twinleg.adapters.venues.hyperliquid_wire import signer_from

        self._account(account)
        secret = self._key_names.get((account, role))
        if secret is None:
            raise BadInput(f"account {account}: no key is configured for {role.value}")
        with self._lock:
            wallet = self._wallets.get(secret)
            if wallet is None:
                wallet = signer_from(self._secrets.read(secret), secret)
                self._refuse_owner_key(wallet.address.lower(), secret)
                self._wallets[secret] = wallet
            return wallet

    def _refuse_owner_key(self, address: str, secret: str) -> None:
        owners = {a for where in self._accounts.values() for a in (where.owner, where.address)}
        if self.network != "paper" and address in owners:
            raise BadInput(
                f"secret {secret} holds the owner's key of {address}, which can withdraw: "
                "an owner's key must never be in the system; approve an agent key and store that"
            )

    def _account(self, account: str) -> AccountAddress:
        where = self._accounts.get(account)
        if where is None:
            raise BadInput(f"account must be one of {sorted(self._accounts)}, was {account!r}")
        return where

    # -- reading ---------------------------------------------------------------------------------

    def time(self) -> datetime:
        return self._read({"type": "exchangeStatus"}, lambda raw: reads.moment(raw["time"]))

    def rules(self, market: str) -> MarketRules:
        """Tick, lot, leverage and tiers. BadInput for a market the venue does not list (any more)."""
        listing = self._listing(market)
        if listing.delisted:
            raise BadInput(f"market {market} is delisted at the venue")
        return listing.rules

    def snapshot(self, market: str) -> Snapshot:
        """The book as it is now, with mark, oracle and funding of at most a second ago; never from before an order.

        Raises Unavailable when the mark or oracle price is null.
        """
        coin, contexts = self._coin(market), self._all_contexts()
        return self._read({"type": "l2Book", "coin": coin}, lambda book: reads.snapshot(market, coin, contexts, book))

    def _all_contexts(self) -> Sequence[Any]:
        now, kept = self._clock.now() if self._clock else None, self._contexts
        if now and kept and now - CONTEXTS_KEPT < kept[0] <= now:
            return kept[1]
        contexts: Sequence[Any] = self._info({"type": "metaAndAssetCtxs"})
        self._contexts = (now, contexts) if now else None
        return contexts

    def candles(self, market: str, start: datetime, end: datetime) -> list[Candle]:
        """Closed candles only: the row still forming is recognised by a later row or by the venue's own time."""
        asked = {
            "coin": self._coin(market),
            "interval": "1m",
            "startTime": ms_from_utc(start),
            "endTime": ms_from_utc(end + MINUTE) - 1,
        }
        rows = self._read({"type": "candleSnapshot", "req": asked}, reads.candles)
        self._weights.spend(weights.of_rows("candleSnapshot", len(rows)))
        within = [candle for candle in rows if candle.opened_at >= start and candle.closed_at <= end]
        if not within or rows[-1].opened_at >= within[-1].closed_at:
            return within
        # Nothing shows that the last row had closed when it was read. The venue's time does, for rows read after it.
        now = self.time()
        again = self._read({"type": "candleSnapshot", "req": asked}, reads.candles)
        return [c for c in again if c.opened_at >= start and c.closed_at <= min(end, now)]

    def account(self, account: str) -> AccountState:
        user, listed = self._account(account).address, self._metadata()
        return self._read(
            {"type": "clearinghouseState", "user": user},
            lambda raw: reads.account_state(account, raw, listed, self.name),
        )

    def mode(self, account: str) -> str:
        def word(raw: Any) -> str:
            if not isinstance(raw, str):
                raise ValueError(f"not a word: {raw!r}")
            return raw

        return self._read({"type": "userAbstraction", "user": self._account(account).address}, word)

    def leverage(self, account: str, market: str) -> tuple[int, bool]:
        user, coin = self._account(account).address, self._coin(market)
        return self._read({"type": "activeAssetData", "user": user, "coin": coin}, reads.leverage)

    def open_orders(self, account: str) -> tuple[RestingOrder, ...]:
        user = self._account(account).address
        return self._read(
            {"type": "frontendOpenOrders", "user": user}, lambda rows: reads.resting_orders(rows, self.name)
        )

    def order(self, account: str, client_order_id: str) -> OrderReport | None:
        user = self._account(account).address
        return self._read(
            {"type": "orderStatus", "user": user, "oid": client_order_id},
            lambda raw: reads.order_report(client_order_id, raw),
        )

    def fills(self, account: str, since: datetime) -> list[Fill]:
        user = self._account(account).address
        rows = self._pages({"type": "userFillsByTime", "user": user, "aggregateByTime": False}, since, FILLS_PER_ANSWER)
        with understood(f"{self.name} userFillsByTime"):
            return reads.fills(rows, user, self.name)

    def funding_paid_usd(self, account: str, market: str, since: datetime) -> Decimal:
        user, coin = self._account(account).address, self._coin(market)
        rows = self._pages({"type": "userFunding", "user": user}, since, ROWS_PER_ANSWER)
        with understood(f"{self.name} userFunding"):
            return reads.funding_paid_usd(rows, coin)

    def net_deposits_usd(self, account: str, since: datetime) -> Decimal:
        user = self._account(account).address
        rows = self._pages({"type": "userNonFundingLedgerUpdates", "user": user}, since, ROWS_PER_ANSWER)
        with understood(f"{self.name} userNonFundingLedgerUpdates"):
            return reads.net_deposits_usd(rows, user)

    def requests_left(self, account: str) -> int | None:
        user = self._account(account).address
        return self._read({"type": "userRateLimit", "user": user}, reads.requests_left)

    def weight(self) -> tuple[int, int]:
        return self._weights.last_minute(), weights.PER_MINUTE

    def key_expires_at(self, account: str, role: SignerRole) -> datetime | None:
        signer, owner = self.signer(account, role), self._account(account).owner
        return self._read({"type": "extraAgents", "user": owner}, lambda agents: reads.key_expiry(agents, signer))

    # -- metadata --------------------------------------------------------------------------------

    def _metadata(self) -> Mapping[str, Listing]:
        with self._lock:
            if self._listings is None:
                self._listings = self._read({"type": "meta"}, lambda raw: reads.listings(raw, self.name))
            return self._listings

    def _listing(self, market: str) -> Listing:
        coin = self._coin(market)
        listing = self._metadata().get(coin)
        if listing is None:
            raise BadInput(f"market {market}: {self.name} lists no {coin}")
        return listing

    def _rules_if_listed(self, market: str) -> MarketRules:
        """For cancels and reductions, which stay possible on a delisted market."""
        return self._listing(market).rules

    def _coin(self, market: str) -> str:
        if ":" not in market or venue_of(market) != self.name:
            raise BadInput(f"market must be {self.name}:COIN, was {market!r}")
        return coin_of(market)

    # -- the wire --------------------------------------------------------------------------------

    def _read[T](self, request: Mapping[str, Any], make: Callable[[Any], T]) -> T:
        raw = self._info(request)
        with understood(f"{self.name} {request['type']}"):
            return make(raw)

    def _info(self, request: Mapping[str, Any]) -> Any:
        what, body = f"{self.name} {request['type']}", orjson.dumps(request)
        self._weights.spend(weights.of_read(request["type"]))
        status, text = self._post_read(what, body)
        if status != 200:
            raise Unavailable(f"{what}: HTTP {status}: {text[:200]}")
        with understood(what):
            return _decoded(text)

    def _post_read(self, what: str, body: bytes) -> tuple[int, str]:
        try:
            return self._post_once(what, body)
        except NetworkFault as fault:
            if not fault.dropped:
                raise Unavailable(f"{what}: {fault}") from fault
        try:  # an idle connection may have been closed at the other end; a read may simply be repeated
            return self._post_once(what, body)
        except NetworkFault as fault:
            raise Unavailable(f"{what}: {fault}") from fault

    def _post_once(self, what: str, body: bytes) -> tuple[int, str]:
        self._steps.step(what)
        try:
            return self._channel.post("/info", body)
        finally:
            self._steps.step(what)

    def _pages(self, request: Mapping[str, Any], since: datetime, rows_per_answer: int) -> list[Raw]:
        """All rows since then. Bounds are inclusive, so the next page starts at the last row's own time."""
        start, rows = ms_from_utc(since), list[Raw]()
        for _ in range(PAGES_MAX):
            page = self._read({**request, "startTime": start}, _rows)
            rows += page
            self._weights.spend(weights.of_rows(request["type"], len(page)))
            if len(page) < rows_per_answer:
                return rows
            last = max(row["time"] for row in page)
            if last == start:
                break
            start = last
        raise Unavailable(
            f"{self.name} {request['type']}: more rows since {since:%Y-%m-%dT%H:%M:%SZ} than can be paged"
        )


def _rows(raw: Any) -> Sequence[Raw]:
    rows: Sequence[Raw] = reads.rows_of(raw)
    if not all(isinstance(row["time"], int) for row in rows):
        raise ValueError("rows without a time")
    return rows


def _listings_given(meta: Raw, name: str) -> Mapping[str, Listing]:
    try:
        return reads.listings(meta, name)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise BadInput(f"meta is not a Hyperliquid metadata document ({type(error).__name__}: {error})") from error


def _checked(account: str, where: AccountAddress) -> AccountAddress:
    address, master = where.address.lower(), where.master.lower() if where.master else None
    for field, value in (("address", address), ("master", master)):
        if value is not None and not ADDRESS.fullmatch(value):
            raise BadInput(f"account {account}: {field} must be 0x and 40 hexadecimal digits, was {value!r}")
    if address == master:
        raise BadInput(f"account {account}: a sub-account's address must differ from its master's, both were {master}")
    return AccountAddress(address, master)


def _require_confirmed(accounts: Iterable[AccountAddress], typed: str | None) -> None:
    owners = {where.owner for where in accounts}
    confirmed = set((typed or "").lower().replace(",", " ").split())
    if confirmed != owners:
        raise BadInput(
            "confirmed_mainnet_address must be the master address of the accounts typed again "
            f"({len(owners)} of them), was {typed!r}: mainnet moves real money"
        )
