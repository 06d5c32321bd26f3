"""One short run in which exactly the asked faults happen, at exactly the asked steps."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import cache
from types import CodeType
from typing import Any

from twinleg.bootstrap import account_addresses, paper_key
from twinleg.domain.candles import MINUTE, Candle, ms_from_utc
from twinleg.domain.control import Halt
from twinleg.domain.errors import Unavailable
from twinleg.domain.trades import Trade, TradeState
from twinleg.engine.ports import SignerRole, Steps
from twinleg.paper.options import Switches, VenueOptions
from twinleg.settings import Settings, parse
from twinleg.simulate.enumerate_faults import BLINDING, CRASH, HALTS, LOCAL, Fault, Step
from twinleg.simulate.enumerate_network import StageNetwork
from twinleg.simulate.faults import Chosen, Dice
from twinleg.simulate.kernel import Killed
from twinleg.simulate.queue import Message
from twinleg.simulate.world import HISTORY, Instance, Plan, Post, World, settings_text

COIN, PRICE = "BTC", 100_000.0
MARKET = f"hyperliquid:{COIN}"
INGEST_AT, FIRST_SWEEP_AT = 62.0, 80.0
"""Seconds from the start: the candle of the first minute is taken in, and the first sweep."""
LOOK_SECONDS = 10.0
DELIVERIES: Mapping[str, tuple[float, ...]] = {"once": (), "twice": (0.0,), "later": (20.0, 150.0)}
"""How often a message (or a sweep) comes beside the first time: how many seconds after it."""
CALLERS_MAX = 4
"""How many of the engine's functions say where a step is."""

SWEPT_SECONDS = 9.0
"""A sweep that nothing delays has ended this long after it began."""
AT_REST = frozenset({TradeState.OPEN, TradeState.CLOSED, TradeState.REFUSED})

DOCUMENTED = Switches()
"""The venue as it is documented."""

Do = Callable[["Stage"], None]


class _Settled(Exception):
    """Nothing more can happen."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens, and what must have come of it. Times are seconds from the start."""

    name: str
    text: str
    ends: Callable[[Stage], str]
    """What is not as it should be after a run in which nothing went wrong; empty when all is well."""
    watched: tuple[float, float]
    """From when to when steps are enumerated."""
    minutes: int = 9
    alerts: Sequence[tuple[float, str]] = ((65.0, "buy"),)
    happens: Sequence[tuple[float, Do]] = ()
    prices: Sequence[tuple[int, float, float]] = ()
    """(minute, first, last): in that minute (1 is the first) the price goes from one factor to the other, and stays."""
    limits: Mapping[str, str] = field(default_factory=dict)
    answers: Sequence[str] = ()
    """How the venue takes one entry order after the other: a kind of fault, or empty. A part of the scene."""
    redelivers: bool = True
    """Whether the queue delivers again what was not acknowledged; else only the sweep goes on."""
    extra_kinds: tuple[str, ...] = ()
    """Further kinds of fault, for the steps of ``execute``."""
    prelude: tuple[str, str] | None = None
    """(function, word): what happens at the function's first step that has the word in it."""
    prelude_do: Do | None = None
    """What that is: steps are enumerated from then on. Without it, the process dies."""


class Stage(World):
    """The world of one scene. ``faults`` strike by the number of the step, counted from the watched time on."""

    network: StageNetwork

    def __init__(
        self,
        scene: Scene,
        delivery: str,
        faults: Sequence[Fault] = (),
        stale: Mapping[int, str] | None = None,
        switches: Switches = DOCUMENTED,
    ):
        self.switches = switches
        self.scene, self.delivery = scene, DELIVERIES[delivery]
        self.faults = {fault.step: fault for fault in faults}
        self.stale = dict(stale or {})
        super().__init__(Plan(0, scene.minutes, Dice(0, Chosen.of("none")), "calm"))
        self.settings = _settings(tuple(scene.limits.items()))
        self.network = StageNetwork(self.venue, self.kernel, self.dice, lambda text: self.say("venue", text))
        self.network.start(scene.answers)
        self.network.sent, self.network.carried = self._sent, self._carried
        self.person = self._system(Steps(), 0.0)
        self.addresses = {name: where[1] for name, where in account_addresses(self.settings).items()}
        self.calm_since = self.start
        self.steps: list[Step] = []
        self.counted = self.uncounted = 0
        """Steps that were seen since and before the watched time."""
        self.struck: list[Fault] = []
        self.surprise = ""
        self.points = 0
        self.at_point: Callable[[int], None] | None = None
        """Told of every point at which the run can be split."""
        self._planned = 0
        """What the timetable still holds."""
        self._prelude = scene.prelude
        self._nonce = 0

    # -- the run ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Take the scene to its end. What a function raised that nobody foresaw is in ``surprise``."""
        self._prepare()
        self._schedule()
        self.drive()

    def _schedule(self) -> None:
        scene, at = self.scene, self._at
        at(INGEST_AT, lambda: self.call("ingest"))
        for number in range(scene.minutes - 1):
            at(FIRST_SWEEP_AT + 60 * number, self._sweep)
            at(FIRST_SWEEP_AT + 60 * number + SWEPT_SECONDS, self._end_when_settled)
        for number in range(int(scene.minutes * 60 / LOOK_SECONDS)):
            at(number * LOOK_SECONDS + 5, lambda: self.watch.look(self.kernel.now))
        for number, (second, action) in enumerate(scene.alerts):
            at(second, lambda a=action, n=number: self.alert(_alert(a, self, n)))  # type: ignore[misc]
        for second, do in scene.happens:
            at(second, lambda do=do: self._happen(do))  # type: ignore[misc]
        for minute in range(1, scene.minutes):
            at(minute * 60 + 49.0, self.network.changing)
            at(minute * 60 + 58.0, self._end_when_settled)

    def drive(self) -> None:
        """Do everything that is due, to the end."""
        try:
            self.kernel.run_until(self.start + timedelta(minutes=self.scene.minutes))
        except _Settled:
            self.say("world", "settled")
        except Exception as error:
            self.surprise = f"{type(error).__name__}: {error}"
            self.say("world", f"raised {self.surprise}")

    def _at(self, second: float, do: Callable[[], None]) -> None:
        """Put something on the scene's own timetable."""

        def done() -> None:
            self._planned -= 1
            do()

        self._planned += 1
        self.kernel.at(self.start + timedelta(seconds=second), done)

    @property
    def second(self) -> float:
        """Seconds since the start."""
        return (self.kernel.now - self.start).total_seconds()

    def _happen(self, do: Do) -> None:
        self.network.changing()
        do(self)

    def _sweep(self) -> None:
        begins, ends = self.scene.watched
        if begins <= self.second <= ends:
            for seconds in self.delivery:
                self.kernel.after(min(seconds, 25.0), lambda: self.call("risk"))
        self.call("risk")  # last: where the run is split meanwhile, this is not come back to

    def _end_when_settled(self) -> None:
        """Look no further once nothing can come any more: nothing is on its way, all is at rest, two sweeps say so."""
        if self.second < max(self.scene.watched[1], *(65.0 + s for s in self.delivery), 0.0):
            return
        if self.kernel.running or self.kernel.due > self._planned or self.venue.engine.state.late:
            return
        unstruck = any(step >= len(self.steps) for step in self.faults)
        calm = [sweep for sweep in self.sweeps if sweep.clean and sweep.began > self.calm_since]
        if unstruck or len(calm) < 2 or self.queue.pending():
            return
        if any(trade.state not in AT_REST for trade in self.trades()) or any(s.ended is None for s in self.watch.naked):
            return
        if self.person.engine(SignerRole.RISK).control()[0].state is not Halt.FLATTEN:
            raise _Settled

    # -- where a run can be split ----------------------------------------------------------------

    def _point(self) -> None:
        """Here the run can be split in two. Points are counted from 1."""
        self.points += 1
        if self.at_point is not None:
            self.at_point(self.points)

    def strike_at(self, fault: Fault, stale: str | None) -> None:
        """Have one more thing go wrong, later in this run."""
        self.faults[fault.step] = fault
        if stale is not None:
            self.stale[fault.step] = stale

    def end_here(self) -> None:
        """Go no further: what comes now is of no interest."""
        if self.kernel.current is None:
            raise _Settled
        self.kernel.at(self.kernel.now, self._stop)
        raise Killed

    def _stop(self) -> None:
        raise _Settled

    # -- deliveries ------------------------------------------------------------------------------

    def _invoke(self, function: str, post: Post, answered: Callable[[int | None], None]) -> None:
        self._point()
        super()._invoke(function, post, answered)

    def _push(self, message: Message, answered: Callable[[bool], None]) -> None:
        if message.attempt == 1 and message.topic in ("alerts", "intents", "closes"):
            for seconds in self.delivery:
                self.kernel.after(seconds, lambda: self.queue._again(message))
        super()._push(message, answered if self.scene.redelivers else lambda _: answered(True))

    def _instance(self, function: str) -> Instance:
        """A process that is free; a new one when there is none."""
        free = [i for i in self.instances.get(function, []) if i.alive and not i.busy]
        if free:
            return free[-1]
        self._numbers += 1
        steps = Steps(lambda _, name: self._step(instance, name))
        instance = Instance(self._numbers, function, self._system(steps, 0.0))
        self.instances.setdefault(function, []).append(instance)
        return instance

    # -- steps -----------------------------------------------------------------------------------

    def _step(self, instance: Instance, name: str) -> None:
        self._point()
        if not instance.alive:
            raise Killed
        if self.kernel.running > 1 and not name.endswith("exchange"):
            self.kernel.sleep(self.draw.random() * 0.03)
            if not instance.alive:
                raise Killed
        if self._prelude and instance.function == self._prelude[0] and self._prelude[1] in _place():
            self._prelude = None
            self._begin(instance, name)
        begins, _ = self.scene.watched
        if instance.function == "ingest":
            return
        waits = self._prelude is not None and self.scene.prelude_do is not None
        if self.second < begins or waits:
            self.uncounted += 1
            return
        self.counted += 1
        number, task = len(self.steps), self.kernel.current
        before = self.network.stepping.pop(task, None)
        plain = name.split("/")[0].removesuffix(" done").strip()
        after = name.endswith(" done") or (before is not None and before.name == plain and not before.after)
        step = Step(number, instance.function, plain, after, _place(), self.second, self.points)
        step.idle = not after and self._only_read(self.steps[-2:], before, step)
        self.steps.append(step)
        self.network.stepping[task] = step
        fault = self.faults.get(number)
        if fault is not None:
            self._strike(instance, step, fault)

    def _only_read(self, last: Sequence[Step], before: Step | None, step: Step) -> bool:
        """Whether the last two steps are this task's reading of a record, in no time."""
        if len(last) < 2 or last[1] is not before or not before.after or not before.reads_records:
            return False
        return last[0].name == before.name and not last[0].after and last[0].second == before.second == step.second

    def _begin(self, instance: Instance, name: str) -> None:
        who = f"{instance.function}#{instance.number}"
        if self.scene.prelude_do is not None:
            self.say(who, f"at {name}")
            self.scene.prelude_do(self)
            return
        self.say(who, f"dies at {name}")
        self.uncounted += 1
        self._kill(instance)
        raise Killed

    def _strike(self, instance: Instance, step: Step, fault: Fault) -> None:
        self.struck.append(fault)
        self.calm_since = self.kernel.now
        who = f"{instance.function}#{instance.number}"
        self.say(who, f"FAULT {fault} at {step.name} {'after' if step.after else 'before'} in {step.place}")
        kind = fault.kind
        if kind in BLINDING:
            self.dice.struck["read_failed"] += 1
        if kind == CRASH:
            self._kill(instance)
            raise Killed
        if kind in LOCAL:
            raise Unavailable(f"{step.name}: {'no answer' if step.after else 'not reached'}")
        if kind in HALTS:
            self._set(Halt(kind.removeprefix("set_").upper()))
            return
        self.network.armed[self.kernel.current] = (kind, self.stale.get(fault.step))

    # -- what people do --------------------------------------------------------------------------

    def trades(self) -> list[Trade]:
        return [Trade.model_validate(t.data) for t in self.person.store.query("trades")]

    def by_owner(self, account: str, action: Mapping[str, Any]) -> str:
        """The owner of an account does something at the venue, by hand."""
        from twinleg.adapters.venues.hyperliquid_wire import signed_body, signer_from

        self._nonce += 1
        owner = signer_from(paper_key(account, "owner"), "owner")
        nonce = ms_from_utc(self.kernel.now) + 500 + self._nonce
        body = signed_body(owner, dict(action), vault=None, nonce=nonce, expires_ms=None, mainnet=False)
        answer = self.venue.reply("/exchange", json.loads(body)).text
        self.say("person", f"{account}: {action.get('type')}: {answer[:120]}")
        return answer

    def held(self, account: str) -> Decimal:
        """The signed size of the account's position."""
        found = self.venue.engine.state.accounts.get(self.addresses[account])
        return found.size(COIN) if found else Decimal(0)

    # -- set-up ----------------------------------------------------------------------------------

    def _options(self) -> VenueOptions:
        self.coins = [COIN]
        series = _candles(self.start - HISTORY * MINUTE, HISTORY + self.scene.minutes + 5, tuple(self.scene.prices))
        return VenueOptions(
            candles={COIN: series}, open_accounts=True, start_ms=ms_from_utc(self.start), switches=self.switches, seed=0
        )


@cache
def _settings(limits: tuple[tuple[str, str], ...]) -> Settings:
    lines = dict(limits)
    text = settings_text([COIN], _Last())
    held = lines.pop("holding_seconds_max", None)
    if held:
        text = text.replace("holding_seconds_max = 3600", f"holding_seconds_max = {held}")
    more = "\n".join(f"{name} = {value}" for name, value in lines.items())
    return parse(text.replace("[limits]", f"[limits]\n{more}"), {})


class _Last(random.Random):
    """Where a run draws one of several settings, this takes the last."""

    def choice(self, seq: Any) -> Any:
        return seq[-1]


@cache
def _candles(begins: Any, count: int, prices: tuple[tuple[int, float, float], ...]) -> list[Candle]:
    """Quiet candles around the price that was asked for."""
    wanted = {HISTORY + minute - 1: (PRICE * first, PRICE * final) for minute, first, final in prices}
    found: list[Candle] = []
    last = PRICE
    for number in range(count):
        begin, close = wanted.get(number, (last, last + (2.0 if number % 2 else -2.0)))
        wick = 0 if begin != last or number in wanted else 5
        high, low = max(begin, close) + wick, min(begin, close) - wick
        o, h, low_, c = (Decimal(f"{value:.1f}") for value in (begin, high, low, close))
        found.append(Candle(begins + number * MINUTE, o, h, low_, c, Decimal(10)))
        last = close
    return found


def _alert(action: str, stage: Stage, number: int) -> str:
    from twinleg.embedded.replay import alert_json

    return alert_json(COIN, action, stage.kernel.now, f"e{number}")


_ENGINE = "/twinleg/engine/"
_END = "."


def _place() -> str:
    """The engine's functions through which the present step is reached, innermost last."""
    names: list[str] = []
    frame = sys._getframe(2)
    while frame is not None and len(names) < CALLERS_MAX:
        name = _name_of(frame.f_code)
        if name == _END:
            break
        if name:
            names.append(name)
        frame = frame.f_back  # type: ignore[assignment]
    return ">".join(reversed(names))


@cache
def _name_of(code: CodeType) -> str:
    """A function of the engine by name; empty for what is none, _END for where the invocation began."""
    if code.co_filename.endswith("entry.py"):
        return _END
    if _ENGINE not in code.co_filename or code.co_name.startswith("<") or code.co_name == "step":
        return ""
    return f"{code.co_filename.rpartition('/')[2].removesuffix('.py')}.{code.co_name}"
