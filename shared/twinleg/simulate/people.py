"""What people do to a running system and its accounts: halt and resume, trade by hand, move money, change keys."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any

from twinleg.bootstrap import account_addresses, paper_key
from twinleg.domain.candles import MINUTE, ms_from_utc
from twinleg.domain.control import Halt
from twinleg.domain.errors import TwinlegError
from twinleg.domain.trades import TradeState
from twinleg.engine.control import request_close, set_trading
from twinleg.engine.ports import SignerRole
from twinleg.paper import matching
from twinleg.paper.orders import Order
from twinleg.simulate.evidence import Closed

if TYPE_CHECKING:
    from twinleg.simulate.world import World

KEY_NOTED = timedelta(minutes=65)
"""The risk function notes when its key expires once an hour: those who open go by that note."""
GAP_SEEN = 0.0125
"""A mark this far off is off its oracle by more than the 1 % that is allowed, whatever smoothing and rounding do."""
TOLD_SECONDS = (1.0, 90.0)
"""How long after a key was replaced at the venue our secret is."""


class People:
    """The simulated persons of one world. Every minute they may do something."""

    def __init__(self, world: World) -> None:
        self.world, self.kernel, self.dice = world, world.kernel, world.dice
        self.draw = world.dice.stream("happenings")
        self.addresses = {name: where[1] for name, where in account_addresses(world.settings).items()}
        self.moded: list[Closed] = []
        self.unreadable: list[Closed] = []
        self.apart: list[Closed] = []
        """Times in which a mark stood further off the oracle than any configuration allows, by coin."""
        self.keys: dict[str, tuple[datetime, datetime]] = {}
        """Agent address → when the venue stops accepting it, and from when on we must know."""
        self._unusual_until = self.kernel.now
        """Until then a switch of the venue's is turned."""
        self._resuming = False
        self._nonce = 0

    def minute(self) -> None:
        """What happens, by chance, in one minute."""
        draw = self.draw
        account = draw.choice(sorted(self.addresses))
        if self.dice.strikes("deposited"):
            usd = Decimal(draw.randint(10, 3000))
            self._say(f"FAULT deposited {usd} USD to {account}")
            self.world.venue.deposit(self.addresses[account], usd)
        if self.dice.strikes("withdrawn"):
            self._withdraw(account)
        if self.dice.strikes("halted"):
            state = draw.choice((Halt.REDUCING, Halt.FLATTEN, Halt.HALTED))
            self._say(f"FAULT halted: {state}")
            self.set_trading(state)
        role = draw.choice((SignerRole.EXECUTE, SignerRole.RISK))
        if self.dice.strikes("agent_replaced"):
            self._replace_agent("agent_replaced", account, role)
        if self.dice.strikes("agent_expires"):
            self._expire_agent(account, role)
        if self.dice.strikes("mode_changed"):
            self._change_mode(account)
        if self.dice.strikes("hand_trade"):
            self._trade(account)
        if self.dice.strikes("account_unreadable"):
            self._hide(account)
        if self.dice.strikes("store_down"):
            self._lose_store()
        self._of_the_venue()
        self._look_after()

    def _of_the_venue(self) -> None:
        """What the venue and its market do by themselves."""
        if self.dice.strikes("venue_down"):
            self._lose_venue()
        usual = self.kernel.now >= self._unusual_until
        if usual and self.dice.strikes("mark_apart"):
            self._part_marks()
        elif usual and self.dice.strikes("triggers_fail"):
            self._spoil_triggers()
        state = self.world.venue.engine.state
        held = [(a, coin) for a in self.addresses.values() for coin in state.accounts[a].positions]
        if held and self.dice.strikes("deleveraged"):
            self._deleverage(*self.dice.stream("deleveraged").choice(held))

    def _say(self, text: str) -> None:
        self.world.say("person", text)

    # -- the trading state -----------------------------------------------------------------------

    def _look_after(self) -> None:
        """A person resumes a while after trading stopped, whoever stopped it, and closes what waits for a person."""
        engine = self.world.person.engine(SignerRole.RISK)
        if not self._resuming and engine.control()[0].state is not Halt.ENABLED:
            self._resuming = True
            self.kernel.after(self.draw.uniform(90, 900), self._resume)
        for stored in engine.store.query("trades", {"state": TradeState.NEEDS_A_PERSON.value}):
            if self.draw.random() < 0.1:
                self._say(request_close(engine, stored.id, by="person"))

    def _resume(self) -> None:
        self._resuming = False
        if self.world.person.engine(SignerRole.RISK).control()[0].state is not Halt.ENABLED:
            self.set_trading(Halt.ENABLED)

    def set_trading(self, state: Halt) -> None:
        try:
            set_trading(self.world.person.engine(SignerRole.RISK), state, why="a simulated person", by="person")
            self._say(f"trading is {state}")
            self.world.note_control()
        except TwinlegError as refused:
            self._say(f"{state} refused: {refused}")

    # -- keys ------------------------------------------------------------------------------------

    def _replace_agent(self, kind: str, account: str, role: SignerRole, minutes: float | None = None) -> None:
        """Another agent key under the same name, which ends the former; our secret follows a little later."""
        from twinleg.adapters.venues.hyperliquid_wire import agent_approval_body, signer_from

        key = "0x" + self.draw.randbytes(32).hex()
        owner, agent = signer_from(paper_key(account, "owner"), "owner"), signer_from(key, "agent").address.lower()
        agent_name = f"twinleg-{role.value}"[:16]
        if minutes is not None:
            expires = self.kernel.now + minutes * MINUTE
            self.keys[agent] = expires, self.kernel.now + (KEY_NOTED if role is SignerRole.RISK else timedelta(0))
            agent_name += f" valid_until {ms_from_utc(expires)}"
        body = agent_approval_body(owner, agent, agent_name, nonce=self._next_nonce())
        answer = self.world.venue.reply("/exchange", json.loads(body)).text
        self._say(f"FAULT {kind}: {account} {role.value}: {answer[:60]}")
        seconds = self.draw.uniform(*TOLD_SECONDS)
        self.dice.disturb(seconds + 60)
        self.kernel.after(seconds, lambda: self.world.give_key(account, role, key))

    def _expire_agent(self, account: str, role: SignerRole) -> None:
        minutes = self.draw.uniform(3, 40)
        self._replace_agent("agent_expires", account, role, minutes)

        def renew() -> None:
            self.dice.disturb(0)
            self._replace_agent("agent_expires renewed", account, role)

        def expired() -> None:
            seconds = self.draw.uniform(5, 150)
            self.dice.disturb(seconds)
            self.kernel.after(seconds, renew)

        self.kernel.after(minutes * 60, expired)

    # -- accounts --------------------------------------------------------------------------------

    def _next_nonce(self) -> int:
        self._nonce = max(self._nonce + 1, ms_from_utc(self.kernel.now))
        return self._nonce

    def _act(self, account: str, action: Mapping[str, Any], nonce: int) -> str:
        """An action under the owner's own key (whose signature is not what is tested here)."""
        body = {"action": dict(action), "nonce": nonce}
        answer = json.dumps(self.world.venue.engine.execute(body, self.addresses[account]))
        self.world.watch.look(self.kernel.now)
        return answer

    def _withdraw(self, account: str) -> None:
        nonce, usd = self._next_nonce(), Decimal(self.draw.randint(10, 1500))
        action = {
            "type": "withdraw3", "hyperliquidChain": "Testnet", "amount": str(usd), "time": nonce,
            "destination": self.addresses[account],
        }  # fmt: skip
        self._say(f"FAULT withdrawn {usd} USD from {account}: {self._act(account, action, nonce)}")

    def _change_mode(self, account: str) -> None:
        self._set_mode(account, "unifiedAccount")
        since, seconds = self.kernel.now, self.draw.uniform(120, 900)
        self.moded.append(Closed(self.addresses[account], since, since + timedelta(seconds=seconds)))
        self.kernel.after(seconds, lambda: self._set_mode(account, "disabled"))

    def _set_mode(self, account: str, mode: str) -> None:
        nonce = self._next_nonce()
        action = {
            "type": "userSetAbstraction", "hyperliquidChain": "Testnet", "user": self.addresses[account],
            "abstraction": mode, "nonce": nonce,
        }  # fmt: skip
        self._say(f"FAULT mode_changed: {account} {mode}: {self._act(account, action, nonce)}")

    def _trade(self, account: str) -> None:
        """By hand: what is held is reduced, closed or added to; where nothing is, something is opened for a while."""
        state = self.world.venue.engine.state
        holding = [coin for coin in self.world.coins if state.accounts[self.addresses[account]].size(coin)]
        coin = self.draw.choice(holding or self.world.coins)
        held = state.accounts[self.addresses[account]].size(coin)
        if held:
            fraction = self.draw.choice((Decimal("0.05"), Decimal("0.3"), Decimal(1)))
            adds = fraction < 1 and self.draw.random() < 0.3
            size = abs(held) * fraction
            self._order(account, coin, size, buys=(held > 0) == adds, reduces=not adds)
            return
        size = Decimal(self.draw.randint(30, 400)) / state.markets[coin].mark
        buys = self.draw.random() < 0.5
        self._order(account, coin, size, buys=buys, reduces=False)
        minutes = self.draw.uniform(2, 15)
        self.kernel.after(minutes * 60, lambda: self._order(account, coin, size * 2, buys=not buys, reduces=True))

    def _order(self, account: str, coin: str, size: Decimal, *, buys: bool, reduces: bool) -> None:
        market = self.world.venue.engine.state.markets[coin]
        limit = (market.mark * (Decimal("1.05") if buys else Decimal("0.95"))).quantize(Decimal(1), ROUND_DOWN)
        lots = size.quantize(market.listing.lot, ROUND_DOWN) or market.listing.lot
        wire = {
            "a": market.listing.asset, "b": buys, "p": str(limit), "s": str(lots), "r": reduces,
            "t": {"limit": {"tif": "Ioc"}},
        }  # fmt: skip
        answer = self._act(account, {"type": "order", "orders": [wire], "grouping": "na"}, self._next_nonce())
        verb = "buys" if buys else "sells"
        self._say(f"FAULT hand_trade: {verb} {lots} {coin} on {account}{' reduce-only' if reduces else ''}: {answer}")

    # -- the venue and its market ----------------------------------------------------------------

    def _part_marks(self) -> None:
        draw = self.dice.stream("marks")
        gap, seconds = draw.choice((-1, 1)) * draw.uniform(0.001, 0.02), draw.uniform(30, 600)
        self._say(f"FAULT mark_apart: {gap:.2%} for {seconds:.0f} s")
        if abs(gap) > GAP_SEEN:
            until = self.kernel.now + timedelta(seconds=seconds)
            self.apart += [Closed(coin, self.kernel.now, until) for coin in self.world.coins]
        self._switched("mark_gap", f"{gap:.4f}", "0", seconds)

    def _spoil_triggers(self) -> None:
        usual = str(self.world.venue.engine.state.switches.trigger_slippage)
        seconds = self.dice.stream("triggers").uniform(20, 300)
        self._say(f"FAULT triggers_fail for {seconds:.0f} s")
        self._switched("trigger_slippage", "-0.001", usual, seconds)

    def _switched(self, name: str, value: str, usual: str, seconds: float) -> None:
        """A switch of the venue's turned for a while."""
        venue = self.world.venue
        venue.set_switches({name: value})
        self._unusual_until = self.kernel.now + timedelta(seconds=seconds)
        self.dice.disturb(seconds)
        self.kernel.after(seconds, lambda: venue.set_switches({name: usual}))

    def _deleverage(self, address: str, coin: str) -> None:
        """Auto-deleveraging: a part or the whole of a position is taken at the mark, by an order of nobody's."""
        state = self.world.venue.engine.state
        account, market = state.accounts[address], state.markets[coin]
        held = account.size(coin)
        part = self.dice.stream("deleveraged").choice((Decimal("0.2"), Decimal(1), Decimal(1)))
        size = (abs(held) * part).quantize(market.listing.lot, ROUND_DOWN) or abs(held)
        order = Order(
            oid=state.new_oid(), user=address, coin=coin, is_buy=held < 0, limit=market.mark, size=size, original=size,
            reduce_only=True, tif="Ioc", cloid=None, placed_ms=state.now_ms,
        )  # fmt: skip
        state.admit(order)
        matching.fill(
            state, order, market.mark, size, crossed=True, tid=state.new_tid(), tx=state.new_hash(), liquidation=None
        )
        matching.complete(state, order)
        matching.keep_reduce_only(state, account, market)
        self.world.watch.look(self.kernel.now)
        self._say(f"FAULT deleveraged: {size} {coin} of {held} of {address[:8]}")

    # -- what cannot be reached ------------------------------------------------------------------

    def _hide(self, account: str) -> None:
        seconds = self.draw.uniform(40, 300)
        until = self.kernel.now + timedelta(seconds=seconds)
        self.world.network.unreadable[self.addresses[account]] = until
        self.unreadable.append(Closed(self.addresses[account], self.kernel.now, until))
        self.dice.disturb(seconds)
        self._say(f"FAULT account_unreadable: {account} for {seconds:.0f} s")

    def _lose_venue(self) -> None:
        seconds = self.dice.stream("outages").uniform(5, 90)
        self.world.network.down_until = self.kernel.now + timedelta(seconds=seconds)
        self.dice.disturb(seconds)
        self._say(f"FAULT venue_down for {seconds:.0f} s")

    def _lose_store(self) -> None:
        seconds = self.draw.uniform(15, 120)
        self.world.store_down_until = self.kernel.now + timedelta(seconds=seconds)
        self.unreadable.append(Closed("store", self.kernel.now, self.world.store_down_until))
        self.dice.disturb(seconds)
        self._say(f"FAULT store_down for {seconds:.0f} s")


def alerts(draw: random.Random, coins: list[str], minutes: int, every: float) -> list[tuple[float, str, str, str, str]]:
    """A stream of (minute, coin, action, id, fraction): entries, exits and reductions, on several coins at once."""
    found: list[tuple[float, str, str, str, str]] = []
    minute, number = draw.uniform(1, 8), 0
    while minute < minutes:
        together = coins if draw.random() < 0.4 else [draw.choice(coins)]
        for coin in together:
            number += 1
            action = draw.choices(("buy", "sell", "close", "reduce"), (5, 5, 2, 2))[0]
            fraction = draw.choice(("0.2", "0.5", "0.9")) if action == "reduce" else ""
            at = minute + draw.uniform(0, 0.002)
            found.append((at, coin, action, f"s{number}", fraction))
            if draw.random() < 0.1:
                found.append((at + draw.uniform(0, 0.7), coin, action, f"s{number}", fraction))
        minute += draw.expovariate(1 / every) + 1
    return found
