"""The exchange: one object that takes requests and moves its own clock. No HTTP, no wall clock in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from heapq import heappop, heappush
from typing import Any

from twinleg.domain.candles import Candle, ms_from_utc
from twinleg.domain.errors import BadInput
from twinleg.paper import actions, agents, funding, info, ledger, limits, liquidation, matching, triggers, twaps
from twinleg.paper.accounts import Account
from twinleg.paper.desk import NO_INTERFERENCE, Interference
from twinleg.paper.market import NEVER, Market
from twinleg.paper.options import VenueOptions
from twinleg.paper.refusals import Refused
from twinleg.paper.schema import is_exchange_request
from twinleg.paper.signatures import USER_SIGNED, recover
from twinleg.paper.state import State

UNREADABLE = "Failed to deserialize the JSON body into the target type"
MASTER_ONLY = (
    *("createSubAccount", "subAccountModify", "subAccountTransfer", "subAccountSpotTransfer"),
    *("vaultTransfer", "setReferrer"),
)
"""Actions that are not sent on behalf of a sub-account."""

Json = Any


class Denied(Exception):
    """A request that does not reach its action: ``{"status": "err", "response": text}``."""


class Exchange:
    """The venue in process. Feed it request bodies; tell it what time it is.

    ``exchange`` and ``info`` answer (HTTP status, JSON body) like ``POST /exchange`` and ``POST /info``;
    ``advance`` walks every market to a time. State depends only on the sequence of requests and on the times
    they came at, never on how the clock was moved between them.
    """

    def __init__(self, options: VenueOptions) -> None:
        options.checked()
        self.options = options
        start_ms = options.start_ms if options.start_ms is not None else default_start_ms(options)
        self.state = State(options, options.candles, start_ms)
        self._next_hour = funding.next_hour(start_ms)
        self._late_count = 0
        self._walk(start_ms)
        self._info = info.Info(self.state)

    # Requests

    def exchange(self, body: Json) -> tuple[int, Json]:
        """``POST /exchange``."""
        if not is_exchange_request(body):
            return 422, UNREADABLE
        return 200, self.execute(body, self.signer(body))

    def signer(self, body: Json) -> str | None:
        """The lower-case address that signed a readable request; None when no key can have."""
        return recover(body, self.state.switches.network == "mainnet")

    def info(self, body: Json) -> tuple[int, Json]:
        """``POST /info``."""
        return self._info.answer(body)

    def execute(self, body: Json, signer: str | None, interference: Interference = NO_INTERFERENCE) -> Json:
        """Carry out a readable request whose signer is already known (its signature is not looked at)."""
        state = self.state
        action = body["action"]
        try:
            if signer is None:
                raise Denied("Unable to recover signer.")
            account = self._actor(body, signer)
            if state.switches.rate_limits and (excess := limits.over_budget(account, action, state.now_ms)) is not None:
                raise Denied(excess)
            expires = body.get("expiresAfter")
            expired = expires is not None and expires < state.now_ms
            if not (expired and not state.switches.expired_action_spends_nonce):
                self._admit_nonce(signer, body["nonce"])
            if expired:
                account.requests += limits.STALE_FACTOR * limits.batch(action)
                raise Denied("Action already expired")
            try:
                response = actions.run(state, account, action, interference)
                if state.indebted:
                    liquidation.settle_debts(state)
                return {"status": "ok", "response": response}
            except Refused:
                if not state.switches.rejected_action_spends_nonce:
                    state.signer_nonces(signer).restore(body["nonce"])
                raise
        except (Denied, Refused) as refusal:
            return {"status": "err", "response": str(refusal)}

    def _admit_nonce(self, signer: str, nonce: int) -> None:
        state, switches = self.state, self.state.switches
        nonces = state.signer_nonces(signer)
        refusal = nonces.refusal(nonce, state.now_ms, switches.nonce_window_margin_ms, switches.nonce_window)
        if refusal is not None:
            raise Denied(refusal)
        nonces.spend(nonce)

    def _actor(self, body: Json, signer: str) -> Account:
        """The account a request acts on; Denied when its signer may not act on it."""
        action = body["action"]
        if action["type"] in USER_SIGNED:
            return self._owner(body, action, signer)
        if action["type"] == "agentSendAsset" and action["nonce"] != body["nonce"]:
            raise Denied("Nonce mismatch.")
        account = self._trader(body, signer)
        vault = body.get("vaultAddress")
        if vault is None:
            return account
        address = "0x" + vault.lower().removeprefix("0x")
        target = self.state.accounts.get(address)
        if target is None or target.master != account.address or action["type"] in MASTER_ONLY:
            raise Denied(f"Vault not registered: {address}")
        return target

    def _owner(self, body: Json, action: Json, signer: str) -> Account:
        state = self.state
        chain = "Mainnet" if state.switches.network == "mainnet" else "Testnet"
        if action["hyperliquidChain"] != chain:
            state.strangers.add(signer)
            raise Denied("Mainnet and testnet require different signature.")
        if action.get("nonce", action.get("time")) != body["nonce"]:
            raise Denied("Nonce mismatch.")
        if body.get("expiresAfter") is not None:
            raise Denied("expiresAfter is not supported for user-signed actions.")
        account = self._known(signer)
        if account is None:
            raise Denied(f"Must deposit before performing actions. User: {signer}")
        return account

    def _trader(self, body: Json, signer: str) -> Account:
        state = self.state
        agent = state.agents.get(signer)
        if agent is not None:
            if not agents.signs(state, agent):
                raise Denied(agents.refusal(state, signer))
            return state.accounts[agent.master]
        account = state.accounts.get(signer)
        if account is None and not self._signed_for_other_network(body):
            account = self._known(signer)
        if account is None:
            raise Denied(agents.refusal(state, signer))
        return account

    def _known(self, address: str) -> Account | None:
        """The account of an address, opened now where every key is an account of its own."""
        state = self.state
        if address in state.agents or address in state.retired_agents:
            return None
        if address in state.accounts or state.options.open_accounts:
            return state.open_account(address)
        return None

    def _signed_for_other_network(self, body: Json) -> bool:
        """Whether a request from an unknown address was signed for the other network.

        It was when that network's reading of it gives an address known here, or one that it gave before: read for the
        wrong network, every signature is from another address that nobody has.
        """
        if "signature" not in body:
            return False
        state = self.state
        other = recover(body, state.switches.network != "mainnet")
        if other is None:
            return False
        known = other in state.accounts or other in state.agents or other in state.strangers
        if state.options.open_accounts:
            state.strangers.add(other)
        return known

    # Time

    def advance(self, now_ms: int) -> None:
        """Walk to a time, point by point. BadInput when it lies before the venue's clock."""
        if now_ms < self.state.now_ms:
            raise BadInput(f"now_ms must not go back from {self.state.now_ms}, was {now_ms}")
        self._walk(now_ms)

    def _walk(self, now_ms: int) -> None:
        state = self.state
        markets = list(state.markets.values())
        while True:
            at = min(min(m.next_ms for m in markets), self._next_hour, self._next_event())
            if at > now_ms:
                break
            state.now_ms = max(at, state.now_ms)
            moved = [m for m in markets if m.next_ms == at]
            for market in moved:
                market.step(state.switches)
            for market in moved:
                self._settle(market)
            if moved:
                self._liquidate(moved)
            if at == self._next_hour:
                funding.pay(state, at)
                self._next_hour = funding.next_hour(at)
            self._cancel_scheduled(at)
            twaps.run_due(state)
            if state.indebted:
                liquidation.settle_debts(state)
            self._deliver_late(at)
        state.now_ms = now_ms

    def _settle(self, market: Market) -> None:
        triggers.fire(self.state, market)
        matching.match_resting(self.state, market)

    def _liquidate(self, moved: Sequence[Market]) -> None:
        held = {address: None for market in moved for address in market.holders}
        if held:
            liquidation.check(self.state, list(held))

    def _next_event(self) -> int:
        state = self.state
        if not state.scheduled and not state.late and not state.twaps:
            return NEVER
        due = [a.cancel_at_ms for a in state.scheduled.values() if a.cancel_at_ms is not None]
        due += [twap.next_ms for twap in state.twaps.values()]
        return min((*due, *(entry[0] for entry in state.late[:1])), default=NEVER)

    def deliver_late(self, body: Json, signer: str, at_ms: int) -> None:
        """Hold a request back: it is carried out when the clock reaches ``at_ms``, and nobody hears the answer."""
        late = self.state.late
        self._late_count += 1
        heappush(late, (at_ms, self._late_count, body, signer))

    def _deliver_late(self, now_ms: int) -> None:
        late = self.state.late
        while late and late[0][0] <= now_ms:
            _, _, body, signer = heappop(late)
            self.execute(body, signer)

    def _cancel_scheduled(self, now_ms: int) -> None:
        for account in list(self.state.scheduled.values()):
            if account.cancel_at_ms is not None and account.cancel_at_ms <= now_ms:
                actions.cancel_scheduled(self.state, account)
                del self.state.scheduled[account.address]

    # Control

    def deposit(self, address: str, amount: Decimal) -> None:
        """USDC from outside for an address."""
        key = "0x" + address.lower().removeprefix("0x")
        state = self.state
        account = state.accounts.get(key) or state.new_account(key)
        state.deposit(account, amount)

    def set_switches(self, values: Mapping[str, object]) -> None:
        """Turn switches while running."""
        self.state.apply_switches(self.state.switches.changed(values))
        for market in self.state.markets.values():
            market.remark(self.state.switches)

    def append_candles(self, coin: str, candles: Sequence[Candle]) -> None:
        """Give a market more candles to come."""
        market = self.state.markets.get(coin)
        if market is None:
            raise BadInput(f"coin must be one of {', '.join(self.state.markets)}, was {coin!r}")
        market.append(candles, self.state.now_ms)

    def dump(self) -> dict[str, Json]:
        """The whole ledger as JSON."""
        return ledger.dump(self.state)


def default_start_ms(options: VenueOptions) -> int:
    """Where a manual venue starts: after the history of its first series (default all that a wall clock would use)."""
    series = next(iter(options.candles.values()))
    return ms_from_utc(series[history_count(options)].opened_at)


def history_count(options: VenueOptions) -> int:
    """How many candles lie before the start: half of the series, at least 300 where that leaves an hour or more."""
    series = next(iter(options.candles.values()))
    if options.history_candles is not None:
        return min(options.history_candles, len(series) - 1)
    count = len(series)
    return min(max(count // 2, min(300, count - 60)), count - 1)
