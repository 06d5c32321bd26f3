"""Asking a test network the open questions: what must be so before, what it does and costs, and leaving nothing behind.

The questions are the adapter's (``hyperliquid_probes``); what we assume is the default of the paper venue's switches.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from decimal import Decimal
from types import FrameType
from typing import TYPE_CHECKING

from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_probe_bench import NOTIONAL_USD, Bench, LeftBehind, Untold
from twinleg.adapters.venues.hyperliquid_probes import PROBES, Position, Told, ask_all
from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.domain.ids import venue_of
from twinleg.domain.money import plain
from twinleg.embedded.probe_meanings import meaning_of
from twinleg.engine.ports import SignerRole
from twinleg.paper.options import Switches

if TYPE_CHECKING:
    from twinleg.bootstrap import System

log = logging.getLogger("twinleg")

EQUITY_USD_MIN = Decimal(60)
"""Of each account: a few tiny positions at 1x, and room for their fees."""
FILLS_MAX, ORDERS_MAX = 24, 60
"""What a whole run is bounded by, for what it says of its cost beforehand."""

BEYOND_SWITCHES: dict[str, Position] = {"refused_order_spends_nonce": True, "noop_on_spent_nonce": "duplicate"}
"""What the paper venue does without a switch, and we rely on or reckon with."""
SWITCHES = {field.name for field in fields(Switches)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer beside what we assumed."""

    told: Told

    @property
    def assumed(self) -> Position:
        name = self.told.switch
        found: Position = BEYOND_SWITCHES[name] if name in BEYOND_SWITCHES else getattr(Switches(), name)
        return found

    @property
    def word(self) -> str:
        if self.told.position is None:
            return "could not be told"
        return "holds" if self.told.position == self.assumed else "does not hold"

    @property
    def meaning(self) -> str:
        return meaning_of(self.told.switch, self.told.position)

    def as_json(self) -> dict[str, object]:
        told = self.told
        return {
            "switch": told.switch, "position": told.position, "assumed": self.assumed, "verdict": self.word,
            "why": told.why, "evidence": list(told.evidence), "meaning": self.meaning,
        }  # fmt: skip


def bench_for(system: System, market: str = "") -> Bench:
    """The bench on the first configured market whose legs are both at one Hyperliquid test network, or on *market*.

    Reads nothing yet. BadInput on mainnet, and when there is no such market.
    """
    for plan in system.desk.markets.values():
        at = {system.settings.accounts[name].venue for name in (plan.main_account, plan.hedge_account)}
        wanted = market or plan.market
        if len(at) > 1 or {venue_of(wanted)} != at:
            continue
        network = system.settings.venues[venue_of(wanted)].network
        if network == "mainnet":
            raise BadInput(f"venue {venue_of(wanted)} is mainnet: probes place orders, and are for the testnet only")
        venue = system.venues.by_name[venue_of(wanted)]
        if isinstance(venue, HyperliquidVenue):
            return Bench(venue, system.clock, wanted, plan.main_account, plan.hedge_account)
    raise BadInput("no market is configured whose two accounts are at one Hyperliquid venue" + _for(market))


def _for(market: str) -> str:
    return f" that lists {market}" if market else ""


def chosen(only: str) -> tuple[str, ...]:
    """The questions to ask, from names joined by commas; all of them when none is named."""
    names = tuple(name for name in only.replace(" ", "").split(",") if name)
    unknown = [name for name in names if name not in PROBES]
    if unknown:
        raise BadInput(f"--only: {unknown[0]!r} is no question; known are {', '.join(PROBES)}")
    return tuple(name for name in PROBES if not names or name in names)


def refuse_unless_safe(system: System, bench: Bench) -> list[str]:
    """What a probe that was killed left behind, in words. BadInput when anything else is there, or could interfere."""
    control, _ = system.engine(SignerRole.EXECUTE).control()
    if control.state is not Halt.HALTED:
        raise BadInput(f"trading is {control.state}: twinleg halt first, and stop what sweeps these accounts")
    for name in bench.accounts:
        mode, state = bench.venue.mode(name), bench.venue.account(name)
        if mode != "disabled":
            raise BadInput(f"account {name} is in mode {mode}; its balances can be read in mode 'disabled' only")
        if state.equity_usd < EQUITY_USD_MIN:
            raise BadInput(f"account {name} has {state.equity_usd:.2f} USD; probes need {EQUITY_USD_MIN} on each")
    found = bench.leftovers()
    if found and not bench.is_from_a_probe():
        raise BadInput(f"the accounts must hold nothing, and no order may rest: {'; '.join(found)}")
    return found


def plan_of(bench: Bench, names: Sequence[str], left: Sequence[str]) -> list[str]:
    """What will be done and what it may cost, before anything is signed."""
    fees = FILLS_MAX * NOTIONAL_USD * bench.venue.rules(bench.market).taker_fee
    said = [
        f"asks {len(names)} questions on {bench.market} with the accounts {' and '.join(bench.accounts)} "
        f"({bench.venue.network}), each with its execute key",
        f"signs about 160 actions: orders far from the price, orders that cannot fill, noops, leverage; the accounts' "
        f"count of requests falls by about {ORDERS_MAX + 100}",
        f"buys and sells positions of about {plain(NOTIONAL_USD)} USD, at most {FILLS_MAX} fills: about "
        f"{fees:.2f} USD in fees, and the spread; some are filled by the other account",
    ]
    if "new_order_margin_price" in names:
        said.append("rests one buy order for nearly all free collateral at 60 % of the price, for some seconds")
    said.append("takes some 5 minutes; leaves no order and no position, also when it is interrupted")
    if left:
        said.append(f"first removes what an earlier probe left: {'; '.join(left)}")
    return said


def run(bench: Bench, names: tuple[str, ...], said: Callable[[Verdict], None]) -> list[Verdict]:
    """Ask, and leave nothing behind however it ends. Raises LeftBehind when something could not be removed."""
    answers: list[Verdict] = []

    def heard(told: Told) -> None:
        answers.append(Verdict(told))
        said(answers[-1])

    with _ended_like_an_interrupt():
        try:
            bench.tidy()
            bench.remember_leverage()
            _greet(bench)
            for _ in ask_all(bench, names, heard):
                pass
        finally:
            with _undisturbed():
                bench.tidy()
                _restore(bench)
                if left := bench.leftovers():
                    raise LeftBehind("; ".join(left))
    return answers


def _greet(bench: Bench) -> None:
    """A noop of each key, and a leverage that is read back: a key that acts for nobody, or for another account, can
    ask nothing. Raises BadInput with the venue's words, Unavailable when there is no answer.
    """
    for account in bench.accounts:
        try:
            answer = bench.noop(account)
            if not answer.accepted:
                raise BadInput(f"the venue does not take the execute key of {account}: {answer.words}")
            other = 3 if bench.venue.leverage(account, bench.market)[0] == 2 else 2
            bench.set_leverage(account, other, cross=not bench.rules.only_isolated)
        except Untold as untold:
            raise Unavailable(f"{account}: {untold}") from untold
        if bench.venue.leverage(account, bench.market)[0] != other:
            raise BadInput(f"the execute key of {account} is taken by the venue, and does not act for that account")


def _restore(bench: Bench) -> None:
    """Put the leverage back; the one thing that may differ afterwards, and it harms nobody: said, not failed on."""
    for attempt in range(3):
        try:
            return bench.restore()
        except (Untold, Unavailable) as failure:
            log.warning("the leverage could not be put back (attempt %d): %s", attempt + 1, failure)
    return None


def switches_told(answers: Sequence[Verdict]) -> dict[str, Position]:
    """What was told, as the paper venue's switches (``POST /_sim/switches``)."""
    told = (answer.told for answer in answers)
    return {t.switch: t.position for t in told if t.position is not None and t.switch in SWITCHES}


# -- being interrupted ---------------------------------------------------------------------------


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _ended_like_an_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does, so that it tidies."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled(interrupt, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Nothing but a kill ends the tidying."""
    with _handled(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, *signals: signal.Signals
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in signals} if _in_main_thread() else {}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
