"""One simulated world: all functions, the queue, the records, the paper venue and the clock, under one seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property, partial
from typing import Any

import orjson

from twinleg import entry, wire
from twinleg.adapters.local.secrets import MappingSecrets
from twinleg.adapters.venues.hyperliquid import AccountAddress, HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_wire import Signer
from twinleg.bootstrap import Once, System, account_addresses, paper_key, paper_secrets
from twinleg.domain.candles import MINUTE, Candle, ms_from_utc, utc_from_ms
from twinleg.domain.control import CONTROL_ID, Halt, read_control
from twinleg.domain.errors import InvariantBroken, TwinlegError, Unavailable
from twinleg.domain.trades import Trade
from twinleg.embedded.replay import alert_json
from twinleg.embedded.runtime import SUBSCRIPTIONS
from twinleg.engine.control import set_trading
from twinleg.engine.ports import SignerRole, Steps, Venues
from twinleg.paper.options import BookShape, Switches, VenueOptions
from twinleg.paper.venue import Venue
from twinleg.settings import parse
from twinleg.simulate import market
from twinleg.simulate.checker import check, records_of
from twinleg.simulate.evidence import Evidence, Said, Sweep, Told, Violation
from twinleg.simulate.faults import Dice
from twinleg.simulate.kernel import Kernel, KernelClock, Killed
from twinleg.simulate.leaks import found_in, listening
from twinleg.simulate.network import Network
from twinleg.simulate.people import People, alerts
from twinleg.simulate.queue import Message, SimulatedQueue
from twinleg.simulate.store import Documents, MemoryStore
from twinleg.simulate.watch import Watch

WEBHOOK_SECRET = "vXw9-sTz4-bLp7-Qm2k"
LISTENED_EVERY = 4
"""Of so many seeds one keeps the lines of its log too, to look for keys in them: lines cost time."""
HISTORY = 40
"""Minutes of candles before the run begins."""
QUIET_MINUTES = 15
"""At the end of a run nothing more goes wrong, so that what must come right in time can be seen to."""
LEVELS_USD = (Decimal(700), Decimal(3_000), Decimal(25_000))
"""What the best level of the book holds in a quiet minute: in a thin one orders fill in parts."""
PRICES = {"BTC": 100_000.0, "ETH": 4_000.0}
SWEEP_EVERY_SECONDS = (0, 0, 0, 0, 10, 20)
LEVERAGES_MAX = (3, 5, 10, 25, 40)
SKEW_SECONDS = 2.0
TICK_MS = 16
STORE_SECONDS_MAX = 18.0
STEP_SECONDS = 0.03
"""A store or bus call takes up to this long while another invocation is under way, so that they interleave."""

WEIGHTS = {"execute": 12.0, "risk": 1.0, "signal": 0.5, "ingest": 0.3, "webhook": 4.0}
"""Where a fault at a step tells something: most sweeps find nothing to do, and would take most of the faults."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is: its seed, length, faults and market."""

    seed: int
    minutes: int
    dice: Dice
    market: str = "draw"
    candles: Mapping[str, Sequence[Candle]] = field(default_factory=dict)
    alert_every_minutes: float = 28.0
    limits: Mapping[str, str] = field(default_factory=dict)
    """Limits (as written in the configuration) that are not drawn."""
    coins: Sequence[str] = ()
    """The markets; drawn when none are given."""


@dataclass(frozen=True, slots=True)
class Post:
    """A request as a function sees it."""

    headers: Mapping[str, str]
    data: bytes
    path: str = "/"
    method: str = "POST"
    remote_addr: str | None = "127.0.0.1"

    def get_data(self) -> bytes:
        return self.data


class SimulatedVenue(HyperliquidVenue):
    """Reads each key once in a world, not once in a process: what is derived from one takes a while."""

    def wallets(self, shared: dict[str, Signer]) -> None:
        self._wallets = shared


class SimulatedSystem(System):
    """A process's system whose venues are reached through the simulated network."""

    network: Network
    meta: Any
    wallets: dict[str, Signer]
    """Shared by all that were started with the same keys."""

    @cached_property
    def venues(self) -> Venues:
        settings = self.settings
        addresses = account_addresses(settings)
        accounts = {name: AccountAddress(address, master) for name, (_, address, master) in addresses.items()}
        venue = SimulatedVenue(
            network="paper",
            url="http://127.0.0.1:9",
            accounts=accounts,
            secrets=self.secrets,
            key_names=settings.key_names,
            steps=self.steps,
            meta=self.meta,
            channel=self.network,
        )
        venue.wallets(self.wallets)
        return Venues({"hyperliquid": venue}, dict.fromkeys(accounts, "hyperliquid"))


@dataclass(slots=True)
class Instance:
    """One process of a function."""

    number: int
    function: str
    system: SimulatedSystem
    alive: bool = True
    busy: int = 0
    tasks: list[Any] = field(default_factory=list)


class World:
    """Built once per run; ``run`` takes it to its end."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.dice = plan, plan.dice
        self.draw = self.dice.stream("world")
        first = next((series[0].opened_at for series in plan.candles.values()), market.start_of(plan.seed))
        self.start = first + HISTORY * MINUTE
        self.kind = plan.market if plan.market != "draw" else self.draw.choice(market.KINDS)
        drawn = ["BTC"] if self.draw.random() < 0.6 else ["BTC", "ETH"]
        self.coins = list(plan.candles) or list(plan.coins) or drawn
        self.venue = Venue(self._options(), lambda: 0)
        self.watch = Watch(self.venue.engine.state)
        self.kernel = Kernel(self.start, self._moved)
        self.dice.clock = lambda: self.kernel.now
        self.lines: list[tuple[datetime, str, str]] = []
        self.network = Network(self.venue, self.kernel, self.dice, lambda text: self.say("venue", text))
        self.queue = SimulatedQueue(self.kernel, self.dice, self._push, frozenset(SUBSCRIPTIONS))
        self.documents = Documents()
        limits = plan.limits
        if self.dice.chosen.kinds:
            drawn_too = {
                "sweep_every_seconds": str(self.dice.stream("pace").choice(SWEEP_EVERY_SECONDS)),
                "leverage_max": str(self.dice.stream("leverage").choice(LEVERAGES_MAX)),
                "leverage_above_10_allowed": "true",
            }
            limits = {**drawn_too, **plan.limits}
        self.settings = parse(drawn_settings(self.coins, self.draw, limits), {})
        self._webhook_secret = {self.settings.webhook.secret: WEBHOOK_SECRET}
        self.all_secrets = paper_secrets(self.settings) | self._webhook_secret
        """By name, every key there ever was."""
        self.secrets = MappingSecrets(self.all_secrets)
        self.heard: list[str] = []
        self.wallets: dict[str, Signer] = {}
        self.meta = json.loads(self.venue.reply("/info", {"type": "meta"}).text)
        self.instances: dict[str, list[Instance]] = {}
        self.crashes = 0
        self.invocations = 0
        self._numbers = 0
        self.network.sent = self._sent
        self.network.carried = self._carried
        self.carried: set[str] = set()
        self.sweeps: list[Sweep] = []
        self.control: list[tuple[datetime, str, str]] = []
        self._control_text = ""
        self.unwritten: list[tuple[datetime, str]] = []
        self.signed_by: dict[str, str] = {}
        self.raised: list[tuple[datetime, str]] = []
        """What a function raised that nobody foresaw."""
        self.later: dict[str, tuple[datetime, str]] = {}
        """What the emergency key sent while no record could be written: it is written down afterwards."""
        self.emergency_signers: set[str] = set()
        self._bodies: dict[tuple[str, int], bytes] = {}
        self.store_down_until = self.start
        self.calm_since = self.start + plan.minutes * MINUTE
        self.person = self._system(Steps(), 0.0)
        """A system without faults, for what a person does and for reading afterwards."""
        self.people = People(self)

    # -- the run ---------------------------------------------------------------------------------

    def run(self) -> None:
        with listening(self.plan.seed % LISTENED_EVERY == 0) as heard:
            self._run()
        self.heard = heard.kept

    def _run(self) -> None:
        self.dice.quiet = True
        self._prepare()
        self.dice.quiet = False
        end = self.start + self.plan.minutes * MINUTE
        for minute in range(1, self.plan.minutes + 1):
            at = self.start + minute * MINUTE
            self.kernel.at(at + timedelta(seconds=2), lambda: self.call("ingest"))
            self.kernel.at(at + timedelta(seconds=20), lambda: self.call("risk"))
            self.kernel.at(at + timedelta(seconds=55), lambda: self.watch.look(self.kernel.now))
        for after, coin, action, id, fraction in alerts(
            self.dice.stream("alerts"), self.coins, self.plan.minutes - QUIET_MINUTES, self.plan.alert_every_minutes
        ):
            when = self.start + after * MINUTE
            more = {"fraction": fraction} if fraction else {}
            self.kernel.at(when, partial(self.alert, alert_json(coin, action, when, id, **more)))
        quiet = max(self.start, end - QUIET_MINUTES * MINUTE)
        for minute in range(self.plan.minutes - QUIET_MINUTES):
            self.kernel.at(self.start + minute * MINUTE + timedelta(seconds=31), self.people.minute)
        self.kernel.at(quiet, self._calm)
        self.kernel.run_until(end + timedelta(seconds=50))

    def judged(self) -> list[Violation]:
        """Every violation of an invariant, from the venue's ledger and the intents."""
        return check(self.evidence())

    def evidence(self) -> Evidence:
        state, store = self.venue.engine.state, self.person.store
        settings = self.settings
        return Evidence(
            dump=self.venue.ledger(),
            trades=[Trade.model_validate(t.data) for t in store.query("trades")],
            addresses=self.people.addresses,
            sweeps=self.sweeps,
            control=self.control,
            naked=self.watch.naked,
            uncovered=self.watch.uncovered,
            entered=self.watch.entered,
            liquidated=self.watch.liquidated,
            unwritten=[*self.unwritten, *self._never_written()],
            raised=self.raised,
            unreadable=self.people.unreadable,
            moded=self.people.moded,
            apart=self.people.apart,
            leaked=[(self.kernel.now, text) for text in found_in(self._said(), self.all_secrets)],
            keys=self.people.keys,
            carried=self.carried,
            verdicts=[Said.of(record.id, record.data) for record in store.query("actions")],
            signed_by=self.signed_by,
            told=[Told(e.data["at"], e.data["kind"], e.data.get("trade_id", "")) for e in store.query("audit")],
            disturbed=self.dice.disturbed if self.dice.chosen.kinds else None,
            foreign=settings.limits.foreign,
            open_positions={
                (user, coin): p.size for user, a in state.accounts.items() for coin, p in a.positions.items() if p.size
            },
            ended_at=self.kernel.now,
            calm_since=self.calm_since,
        )

    def _said(self) -> Iterator[tuple[str, str]]:
        """Everything that was written, published, logged, or answered, with where it stands."""
        for collection, there in self.documents.collections.items():
            yield from ((f"the record {collection}/{id}", kept.text) for id, kept in there.items())
        for message in self.queue.published:
            text = f"{message.data.decode()} {message.key} {dict(message.attributes)}"
            yield f"the message {message.id} of {message.topic}", text
        yield "the log", "\n".join(self.heard)
        yield "an answer", "\n".join(text for _, _, text in self.lines)

    def _moved(self, at: datetime) -> None:
        target = ms_from_utc(at)
        markets = self.venue.engine.state.markets.values()
        while any(m.holders for m in markets) and (point := min(m.next_ms for m in markets)) < target:
            self.venue.set_clock(max(point, self.venue.engine.state.now_ms))  # to see what each point does to positions
            self.watch.glance(utc_from_ms(point))
        self.venue.set_clock(target)
        self.watch.glance(at)

    def _sent(self, body: bytes, before: bool) -> None:
        """Told of every signed action immediately before and after the venue has it."""
        asked = json.loads(body)
        action, nonce = asked["action"], int(asked["nonce"])
        if not before:
            self.watch.look(self.kernel.now, cancelled=action["type"] in ("cancel", "cancelByCloid"))
            return
        signer = self.venue.engine.signer(asked) or ""
        text = self.documents.text("actions", f"{signer}:{nonce}")
        kept = text is not None and (action["type"] == "noop" or json.dumps(body.decode())[1:-1] in text)
        if not kept and self.emergency_signers & {signer} and _only_reduces(action):
            self.later[f"{signer}:{nonce}"] = (self.kernel.now, records_of(body))
        elif not kept:
            self.unwritten.append((self.kernel.now, records_of(body)))
        if action["type"] == "noop":
            return
        if self._bodies.setdefault((signer, nonce), body) != body:
            self.unwritten.append((self.kernel.now, f"{records_of(body)}: another action has that nonce"))
        for order in action.get("orders", ()):
            self.signed_by[order["c"]] = signer

    def _never_written(self) -> list[tuple[datetime, str]]:
        known = {record.id for record in self.person.store.query("actions")}
        return [sent for id, sent in self.later.items() if id not in known]

    def _carried(self, asked: Mapping[str, Any]) -> None:
        if asked["action"]["type"] != "noop":
            self.carried.add(f"{self.venue.engine.signer(dict(asked))}:{asked['nonce']}")

    def _calm(self) -> None:
        """From here on nothing more goes wrong."""
        self.calm_since = self.kernel.now
        self.dice.quiet = True
        self.say("world", "no more faults from here on")

    def say(self, who: str, text: str) -> None:
        self.lines.append((self.kernel.now, who, text))

    def _prepare(self) -> None:
        for name in account_addresses(self.settings):
            for number, role in enumerate(SignerRole):
                self.approve(name, role, ms_from_utc(self.kernel.now) - 100 + number)
        set_trading(self.person.engine(SignerRole.RISK), Halt.ENABLED, why="a simulation", by="setup")

    def approve(self, account: str, role: SignerRole, nonce: int) -> None:
        """The owner approves the agent key that the secrets hold now."""
        from twinleg.adapters.venues.hyperliquid_wire import agent_approval_body, signer_from

        key = self.secrets.read(self.settings.key_names[(account, role)])
        agent = signer_from(key, "agent").address.lower()
        if role is SignerRole.EMERGENCY:
            self.emergency_signers.add(agent)
        owner = signer_from(paper_key(account, "owner"), "owner")
        body = agent_approval_body(owner, agent, f"twinleg-{role.value}"[:16], nonce=nonce)
        self.venue.reply("/exchange", json.loads(body))

    # -- calling functions -----------------------------------------------------------------------

    def call(self, function: str) -> None:
        """Scheduler's call."""
        self._invoke(function, Post({}, b"{}"), lambda _: None)

    def alert(self, body: str) -> None:
        """TradingView posts; on 5xx it posts again, up to three times."""
        post = Post({"Content-Type": "application/json"}, body.encode(), f"/{WEBHOOK_SECRET}")

        def answered(status: int | None, tries: int = 1) -> None:
            if (status is None or status >= 500) and tries < 4:
                self.kernel.after(5, lambda: self._invoke("webhook", post, lambda s: answered(s, tries + 1)))

        self.say("tradingview", body)
        self._invoke("webhook", post, answered)

    def _push(self, message: Message, answered: Callable[[bool], None]) -> None:
        body = wire.push_body(
            data=message.data, message_id=message.id, topic=message.topic, key=message.key,
            attributes=message.attributes, attempt=message.attempt, published_at=self.kernel.now,
        )  # fmt: skip
        post = Post({"Content-Type": "application/json"}, orjson.dumps(body), f"/topics/{message.topic}")
        function = SUBSCRIPTIONS[message.topic]
        self._invoke(function, post, lambda status: answered(status is not None and 200 <= status < 300))

    def _invoke(self, function: str, post: Post, answered: Callable[[int | None], None]) -> None:
        """One invocation on some process of the function; the callback gets its status, None when it died."""
        instance = self._instance(function)
        if instance is None:
            answered(None)
            return
        status: list[int] = []
        self.invocations += 1
        instance.busy += 1
        began, faults = self.kernel.now, self._blinding()

        def body() -> None:
            try:
                text, code = entry.answer(instance.system, function, post)
                status.append(code)
                if function in ("risk", "execute"):
                    self.note_control()
                if function == "risk":
                    self.sweeps.append(Sweep(began, self.kernel.now, code == 200 and self._blinding() == faults))
            except TwinlegError as error:  # the platform answers 500 for it
                status.append(500)
                self.say(f"{function}#{instance.number}", f"500 {type(error).__name__}: {error}")
            except Exception as error:
                status.append(500)
                self.raised.append((self.kernel.now, f"{function} raised {type(error).__name__}: {error}"))
                self.say(f"{function}#{instance.number}", f"raised {type(error).__name__}: {error}")
            else:
                if function != "ingest" and not (code == 200 and text == "nothing to do"):
                    self.say(f"{function}#{instance.number}", f"{code} {text}")
            finally:
                instance.busy -= 1
                self.kernel.after(0, lambda: answered(status[0] if status else None))

        instance.tasks = [task for task in instance.tasks if not task.done]
        instance.tasks.append(self.kernel.spawn(f"{function}#{instance.number}", body))

    def _blinding(self) -> int:
        """How many reads so far were not answered truly; a sweep in which one was may have seen something else."""
        blind = sum(self.dice.struck[kind] for kind in ("read_failed", "read_stale", "read_empty", "read_split"))
        return blind + self.network.behind

    def _instance(self, function: str) -> Instance | None:
        """A process that takes the request: risk and ingest one at a time, the others side by side."""
        alive = [i for i in self.instances.get(function, []) if i.alive]
        single = function in ("risk", "ingest")
        free = [i for i in alive if not i.busy or not single]
        if single and alive and not free:
            if self.draw.random() < 0.9:
                return None  # the platform holds the call back, and it times out: the next minute comes
            free = []  # an instance is being replaced: two overlap
        if free and (single or len(free) > 3 or self.draw.random() < 0.8):
            return free[-1] if single else self.draw.choice(free)
        self._numbers += 1
        skew = self.dice.stream("skew").uniform(-SKEW_SECONDS, SKEW_SECONDS) if self.dice.strikes("clock_skewed") else 0
        tick_ms = TICK_MS if self.dice.strikes("clock_coarse") else 0
        steps = Steps(lambda _, name: self._step(instance, name))
        instance = Instance(self._numbers, function, self._system(steps, skew, tick_ms))
        self.instances.setdefault(function, []).append(instance)
        return instance

    def _system(self, steps: Steps, skew_seconds: float, tick_ms: int = 0) -> SimulatedSystem:
        system = SimulatedSystem(
            settings=self.settings,
            clock=KernelClock(self.kernel, skew_seconds, tick_ms),
            make_store=Once(lambda: MemoryStore(self.documents, steps)),
            make_bus=Once(lambda: self.queue.bus(steps)),
            secrets=self.secrets,
            steps=steps,
            make_dead_letters=_nobody,
            make_schedule=_nobody,
        )
        system.network, system.meta, system.wallets = self.network, self.meta, self.wallets
        return system

    # -- what can happen at every step -----------------------------------------------------------

    def _step(self, instance: Instance, name: str) -> None:
        """Called immediately before and after every effect of an instance."""
        if not instance.alive:
            raise Killed
        if self.kernel.running > 1 and not name.endswith("exchange"):
            self.kernel.sleep(self.draw.random() * STEP_SECONDS)
            if not instance.alive:
                raise Killed
        weight = WEIGHTS.get(instance.function, 1.0)
        if self.dice.strikes("crash", weight):
            self.say(f"{instance.function}#{instance.number}", f"FAULT crash at {name}")
            self._kill(instance)
            raise Killed
        if name.startswith("store."):
            if self.kernel.now < self.store_down_until:
                raise Unavailable(f"{name}: the store is down")
            done = name.endswith(" done")
            kind = "store_ack_lost" if done else "store_aborted"
            if self.dice.strikes(kind, weight):
                self.say(f"{instance.function}#{instance.number}", f"FAULT {kind} at {name}")
                raise Unavailable(f"{name}: {'no answer' if done else 'not reached'}")
            if done and self.dice.strikes("store_late", weight):
                self.say(f"{instance.function}#{instance.number}", f"FAULT store_late at {name}")
                self.kernel.sleep(self.dice.stream("store").uniform(1, STORE_SECONDS_MAX))
                if not instance.alive:
                    raise Killed

    def _kill(self, instance: Instance) -> None:
        instance.alive = False
        self.crashes += 1

    def give_key(self, account: str, role: SignerRole, key: str) -> None:
        """Our secret holds another key; the processes are started anew with it."""
        name = self.settings.key_names[(account, role)]
        self._secrets_now[name] = key
        self.wallets = {other: wallet for other, wallet in self.wallets.items() if other != name}
        self.all_secrets[f"{name} {len(self.all_secrets)}"] = key
        self.secrets = MappingSecrets({**paper_secrets(self.settings), **self._webhook_secret, **self._secrets_now})
        for instances in self.instances.values():
            for instance in instances:
                instance.alive = instance.alive and instance.busy > 0
        self.say("person", f"{name} holds the new key")

    @cached_property
    def _secrets_now(self) -> dict[str, str]:
        return {}

    def _set(self, state: Halt) -> None:
        self.people.set_trading(state)

    def note_control(self) -> None:
        """Keep the trading state, if it is another than the last one kept."""
        text = self.documents.text("control", CONTROL_ID)
        if text is not None and text != self._control_text:
            self._control_text = text
            found = self.person.store.get("control", CONTROL_ID)
            control = read_control(found.data if found else None)
            if not self.control or self.control[-1][1] != control.state.value:
                self.control.append((self.kernel.now, control.state.value, control.by))
                self.say("control", f"{control.state} by {control.by}: {control.why}")

    # -- the venue -------------------------------------------------------------------------------

    def _options(self) -> VenueOptions:
        begins = self.start - HISTORY * MINUTE
        count = HISTORY + self.plan.minutes + 5
        series: Mapping[str, Sequence[Candle]] = self.plan.candles or {
            coin: market.candles(self.kind, self.dice.stream(f"price {coin}"), begins, count, PRICES[coin])
            for coin in self.coins
        }
        switches = Switches()
        if self.dice.chosen.kinds:
            switches = switches.drawn(self.dice.stream("switches"))
            switches = replace(switches, **_drawn_more(self.dice.stream("switches of measure")))
        return VenueOptions(
            candles=series, open_accounts=True, lists_all=False, start_ms=ms_from_utc(self.start), switches=switches,
            seed=self.plan.seed, book=BookShape(level_usd=self.draw.choice(LEVELS_USD)),
        )  # fmt: skip


def _drawn_more(draw: random.Random) -> dict[str, Any]:
    """Switches of the venue that are a measure, or a mechanism that may be on or off."""
    return {
        "agent_expiry_lateness_ms": draw.choice((0, 5_000)),
        "nonce_window_margin_ms": draw.choice((0, 120_000)),
        "order_memory": draw.choice((40, 2000)),
        "trigger_slippage": Decimal(draw.choice(("0.1", "0.1", "0.01"))),
        "liquidation_step_usd": Decimal(draw.choice((500, 100_000))),
        "modify_always_place_rule": draw.random() < 0.5,
        "fill_on_touch": draw.random() < 0.5,
        "rate_limits": draw.random() < 0.25,
    }


def _only_reduces(action: Mapping[str, Any]) -> bool:
    return action["type"] in ("cancel", "cancelByCloid") or all(o["r"] for o in action.get("orders", ({"r": False},)))


def _nobody() -> Any:
    raise InvariantBroken("a simulated function asked for what only a person uses")


def settings_text(coins: list[str], draw: random.Random) -> str:
    """Two paper accounts, alerts only, limits wide enough that trades happen."""
    keys = {
        name: ", ".join(f'{role.value} = "TWINLEG_{name.upper()}_{role.name}_KEY"' for role in SignerRole)
        for name in ("main", "hedge")
    }
    markets = "\n".join(
        f'[[markets]]\nmarket = "hyperliquid:{coin}"\nmain = "main"\nhedge = "hedge"\nstrategies = ["tradingview"]'
        for coin in coins
    )
    holding = draw.choice((600, 1800, 3600))
    return f"""
mode = "paper"
[venues.hyperliquid]
network = "paper"
url = "http://127.0.0.1:9"
[accounts.main]
venue = "hyperliquid"
keys = {{ {keys["main"]} }}
[accounts.hedge]
venue = "hyperliquid"
keys = {{ {keys["hedge"]} }}
{markets}
[strategies.tradingview]
kind = "tradingview"
[webhook]
secret = "TWINLEG_WEBHOOK_SECRET"
[limits]
entries_per_hour_max = 30
entries_per_day_max = 100
holding_seconds_max = {holding}
[storage]
path = "unused.sqlite"
durability = "normal"
"""


def drawn_settings(coins: list[str], draw: random.Random, given: Mapping[str, str]) -> str:
    """As `settings_text`, with limits and policies drawn too, but for those given."""
    limits: dict[str, object] = {
        "entry_order": f'"{draw.choice(("market", "market", "limit"))}"',
        "foreign": f'"{draw.choice(("stop", "close", "ignore"))}"',
        "leverage_max": draw.choice((3, 5, 10)),
        "stop_percent": f'"{draw.choice(("0.6", "1", "2"))}"',
        "target_percent": f'"{draw.choice(("1", "2", "4"))}"',
        "unwinds_per_day_max": draw.choice((3, 50)),
    }
    limits |= given
    lines = "\n".join(f"{name} = {value}" for name, value in limits.items())
    strategy = f'kind = "tradingview"\non_opposite = "{draw.choice(("close", "reverse"))}"'
    text = "\n".join(x for x in settings_text(coins, draw).splitlines() if x.partition(" = ")[0] not in limits)
    return text.replace("[limits]", f"[limits]\n{lines}").replace('kind = "tradingview"', strategy)
