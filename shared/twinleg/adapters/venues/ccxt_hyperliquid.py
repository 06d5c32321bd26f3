"""Hyperliquid by ccxt: ccxt words every question, and writes and signs every action; accounts, rules and the reading
of answers are those of the official SDK's adapter.

What ccxt's own calls cannot do, and what is done instead (Source: ccxt 4.5.90, ``hyperliquid.py``):

- They know no expiry for orders, cancels and leverage: ``sign_l1_action``, which does, is given the draft's.
- They draw nonces themselves and raise when one order of several is refused: ccxt never sends an action here. The
  bytes it signed are stored, sent once by our wire, and their answer is read order by order.
- Their brackets give stop and target the entry's client order id: three orders are written, then grouped.
- Their margin is rounded to the coin's lot, and they know no noop: these two are written here, and signed by ccxt.
- Their unified answers leave out margin tiers, cross maintenance margin and whether a stop follows the position: the
  venue's own answers are read.
- They approve a fee for ccxt and set its referral code before the first call: both are emptied, and an action that is
  not, character for character, what was meant is not signed away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, cast

from twinleg.adapters.venues.ccxt_client import Draft, Tamed, client, exchange_class, must_be, write
from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_reads import Listing
from twinleg.domain.candles import ms_from_utc
from twinleg.domain.errors import BadInput, InvariantBroken
from twinleg.domain.money import plain
from twinleg.domain.orders import OrderKind, OrderRequest
from twinleg.engine.ports import (
    AddMargin,
    CancelOrders,
    Noop,
    PlaceEntry,
    PlaceReduction,
    SetLeverage,
    Signed,
    SignerRole,
    VenueAction,
)

if TYPE_CHECKING:
    from twinleg.adapters.venues.hyperliquid_wire import Signer

TIF = {OrderKind.MARKET: "IOC", OrderKind.LIMIT: "GTC"}
TRIGGER = {OrderKind.STOP: "stopLossPrice", OrderKind.TARGET: "takeProfitPrice"}
MS_DIGITS = 11
"""Hexadecimal digits that ccxt hashes of a nonce and an expiry in ms, whatever they are: the years 2004 to 2527."""


@dataclass
class Action(Draft):
    """A draft with what ccxt's calls have no parameter for."""

    expires_ms: int | None = None
    vault: str | None = None
    grouping: str = "na"


@cache
def _tamed() -> Any:
    """ccxt's Hyperliquid without its start-up actions, which puts a draft's expiry, account and grouping in."""
    base = exchange_class("hyperliquid")

    class Hyperliquid(Tamed, base):  # type: ignore[misc, valid-type]
        def initialize_client(self) -> bool:
            return True

        def handle_builder_fee_approval(self) -> bool:
            return True

        def set_ref(self) -> bool:
            return True

        def sign_l1_action(self, action: Any, nonce: int, *_: object) -> Any:
            """Whatever calls it, the draft decides; the address is hashed without its 0x."""
            draft = self.draft()
            if action["type"] == "order":
                action["grouping"] = draft.grouping
            return super().sign_l1_action(action, nonce, self.format_vault_address(draft.vault), draft.expires_ms)

        def sign(self, path: str, api: Any = "public", method: str = "GET", params: Any = None, *more: object) -> Any:
            """An action's envelope names the account and the expiry that were signed."""
            draft = self.draft()
            if draft is not None:
                params = {**params, "vaultAddress": draft.vault, "expiresAfter": draft.expires_ms}
            return super().sign(path, api, method, params, *more)

    return Hyperliquid


class CcxtHyperliquidVenue(HyperliquidVenue):
    """One Hyperliquid network through ccxt. The constructor sends nothing, and imports nothing of ccxt."""

    def __repr__(self) -> str:
        return f"Ccxt{super().__repr__()}"

    def sign(
        self,
        action: VenueAction,
        role: SignerRole,
        nonce: int,
        expires_at: datetime | None,
        client_tag: str = "",  # noqa: ARG002 (this venue carries client order ids in the orders themselves)
    ) -> Signed:
        """The exact request text, as ccxt writes and signs it. ``noop`` never expires, as with the SDK.

        Raises BadInput when a number would have to be rounded, or a key or market is not ours to use.
        """
        from twinleg.adapters.venues.hyperliquid_wire import action_wire

        where, wallet = self._account(action.account), self._wallet(action.account, role)
        expiry = None if isinstance(action, Noop) else expires_at
        expires_ms = None if expiry is None else ms_from_utc(expiry)
        _must_be_hashable(nonce=nonce, expires_at=expires_ms)
        reducing = isinstance(action, (CancelOrders, PlaceReduction))
        wanted = action_wire(action, self._rules_if_listed if reducing else self.rules)
        vault = where.address if where.master else None
        draft = Action(nonce, expires_ms=expires_ms, vault=vault, grouping=wanted.get("grouping", "na"))
        pen = self._pen(wallet)
        write(pen, draft, lambda: self._call(pen, action, wanted))
        body = json.loads(draft.body)
        must_be(wanted, body.pop("action"))
        del body["signature"]
        if body != {"nonce": nonce, "vaultAddress": vault, "expiresAfter": expires_ms}:
            raise InvariantBroken(f"ccxt wrote an envelope that was not meant: {body}"[:300])
        signer = wallet.address.lower()
        return Signed(account=action.account, signer=signer, nonce=nonce, expires_at=expiry, body=draft.body)

    def _call(self, pen: Any, action: VenueAction, wanted: Mapping[str, Any]) -> object:
        """The call of ccxt that is this action."""
        match action:
            case PlaceEntry() | PlaceReduction():
                return pen.create_orders([self._order(pen, order) for order in action.orders])
            case CancelOrders():
                by_client = {"clientOrderId": list(action.client_order_ids)} if action.client_order_ids else {}
                return pen.cancel_orders(list(action.order_ids), self._symbol(pen, action.market), by_client)
            case SetLeverage():
                mode = {"marginMode": "isolated" if action.isolated else "cross"}
                return pen.set_leverage(action.leverage, self._symbol(pen, action.market), mode)
            case AddMargin() | Noop():
                signature = pen.sign_l1_action(wanted, pen.nonce())
                return pen.privatePostExchange({"action": wanted, "nonce": pen.nonce(), "signature": signature})

    def _order(self, pen: Any, order: OrderRequest) -> dict[str, Any]:
        """An order as ccxt takes it. Our market orders are limits that do not rest; only triggers are its "market"."""
        params: dict[str, Any] = {"clientOrderId": order.client_order_id, "reduceOnly": order.reduce_only}
        if order.trigger_price is None:
            params["timeInForce"] = TIF[order.kind]
        else:
            params |= {TRIGGER[order.kind]: plain(order.trigger_price), "slippage": "0"}  # else ccxt moves the price
        return {
            "symbol": self._symbol(pen, order.market),
            "type": "limit" if order.trigger_price is None else "market",
            "side": order.side.value,
            "amount": plain(order.size),
            "price": plain(order.limit_price),
            "params": params,
        }

    # -- ccxt ------------------------------------------------------------------------------------

    @cached_property
    def _pens(self) -> dict[str, Any]:
        """A client of ccxt for each key, which writes and signs."""
        return {}

    @cached_property
    def _asker(self) -> Any:
        """The client that asks, without a key."""
        return self._client({})

    def _pen(self, wallet: Signer) -> Any:
        with self._lock:
            if wallet.address not in self._pens:
                key = bytes(cast(Any, wallet).key).hex()
                self._pens[wallet.address] = self._client({"walletAddress": wallet.address, "privateKey": key})
            return self._pens[wallet.address]

    def _client(self, credentials: Mapping[str, str]) -> Any:
        config: dict[str, Any] = {
            "urls": {"api": {"public": self._url, "private": self._url}},
            "options": {"sandboxMode": self.network != "mainnet", "builderFee": False},
        }
        return client(_tamed(), {**config, **credentials}, self._carry)

    def _symbol(self, pen: Any, market: str) -> str:
        """What ccxt calls a market. It is told them from the metadata that we keep, and asks for none itself."""
        asset = self._listing(market).rules.asset
        with self._lock:
            if not pen.markets:
                pen.set_markets(pen.parse_markets([_told(coin, one) for coin, one in self._metadata().items()]))
        symbol: str = pen.markets_by_id[str(asset)][0]["symbol"]
        return symbol

    def _info(self, request: Mapping[str, Any]) -> Any:
        return self._asker.publicPostInfo(dict(request))

    def _carry(self, url: str, body: str) -> Any:
        if url != f"{self._url}/info":
            raise InvariantBroken(f"ccxt would ask {url}")
        return super()._info(json.loads(body))


def _told(coin: str, listing: Listing) -> dict[str, Any]:
    """A row of the venue's metadata, as far as ccxt reads it."""
    rules = listing.rules
    return {
        "name": coin,
        "baseId": rules.asset,
        "szDecimals": -rules.lot.adjusted(),
        "maxLeverage": rules.max_leverage,
        "isDelisted": listing.delisted,
    }


def _must_be_hashable(**times: int | None) -> None:
    for name, value in times.items():
        if value is not None and (value <= 0 or len(f"{value:x}") != MS_DIGITS):
            raise BadInput(f"{name} must be in ms and of the years 2004 to 2527, was {value}: ccxt hashes no other")
