"""The composition root: the one place that joins the engine and its adapters.

It imports only the adapters the configuration names, and each when first used, so that the webhook never
pays for a venue's libraries. No mode is asked for below this line: the mode picks adapters, nothing else.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinleg.domain.errors import BadInput, InvariantBroken
from twinleg.engine.steps import Steps

if TYPE_CHECKING:
    from twinleg.adapters.local.bus import LocalBus
    from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
    from twinleg.engine.config import Desk
    from twinleg.engine.dead_letters import DeadLetters
    from twinleg.engine.memory import Memory
    from twinleg.engine.ports import Bus, Clock, Secrets, SignerRole, Store, Venue, Venues
    from twinleg.engine.schedule import Schedule
    from twinleg.engine.system import Engine
    from twinleg.engine.webhook import Intake
    from twinleg.settings import Settings


class Refusals:
    """Counts the webhook's answers by reason, in process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1


class Once[Part]:
    """A part that is made, and its libraries imported, when it is first asked for, whichever thread asks."""

    def __init__(self, make: Callable[[], Part]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[Part] = []

    def __call__(self) -> Part:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


class SecretsWhenAsked:
    """A source of secrets that is made when it is first asked for one."""

    def __init__(self, name: str, make: Callable[[], Secrets]) -> None:
        self._name, self._source = name, Once(make)

    def read(self, name: str) -> str:
        return self._source().read(name)

    def __repr__(self) -> str:
        return self._name


class VenuesWhenAsked(Mapping[str, "Venue"]):
    """Venues by name, each made when it is first asked for: a function that calls none pays for none."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Venue]) -> None:
        self._venues = {name: Once(partial(make, name)) for name in names}

    def __getitem__(self, name: str) -> Venue:
        return self._venues[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._venues)

    def __len__(self) -> int:
        return len(self._venues)


@dataclass
class System:
    """One running twinleg: its settings and the parts every function is given. What nobody asks for is not made."""

    settings: Settings
    clock: Clock
    make_store: Once[Store]
    make_bus: Once[Bus]
    secrets: Secrets
    steps: Steps
    make_dead_letters: Callable[[], DeadLetters]
    make_schedule: Callable[[], Schedule]
    refusals: Refusals = field(default_factory=Refusals)
    weighs_requests: bool = True
    """Whether requests to venues are counted by weight; not where reading the clock is a request itself."""

    @property
    def store(self) -> Store:
        return self.make_store()

    @property
    def bus(self) -> Bus:
        return self.make_bus()

    @cached_property
    def desk(self) -> Desk:
        return self.settings.desk()

    @cached_property
    def venues(self) -> Venues:
        from twinleg.engine.ports import Venues

        clock = self.clock if self.weighs_requests else None
        by_name = VenuesWhenAsked(
            self.settings.venues, lambda n: build_venue(self.settings, n, self.secrets, self.steps, clock)
        )
        return Venues(by_name, {name: account.venue for name, account in self.settings.accounts.items()})

    @cached_property
    def memory(self) -> Memory:
        from twinleg.engine.memory import Memory

        return Memory()

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return self.make_dead_letters()

    @cached_property
    def schedule(self) -> Schedule:
        return self.make_schedule()

    def engine(self, role: SignerRole) -> Engine:
        """The engine's parts for a function that signs with this role's keys."""
        from twinleg.engine.system import Engine

        return Engine(self.desk, self.clock, self.bus, self.store, self.venues, role, self.memory)

    def intake(self) -> Intake:
        """What the webhook works with: no store, no venue."""
        from twinleg.engine.webhook import Intake

        webhook = self.settings.webhook
        return Intake(
            clock=self.clock,
            bus=self.bus,
            secrets=self.secrets,
            secret_name=webhook.secret,
            allow_addresses=tuple(webhook.allow_addresses),
            trusted_hops=webhook.trust_forwarded_hops,
        )


def build_venue(settings: Settings, name: str, secrets: Secrets, steps: Steps, clock: Clock | None = None) -> Venue:
    """The adapter of one configured venue. With a clock it counts the weight of its requests."""
    venue = settings.venues[name]
    from twinleg.adapters.venues.hyperliquid import AccountAddress

    addresses = account_addresses(settings)
    accounts = {
        account: AccountAddress(address, master)
        for account, (where, address, master) in addresses.items()
        if where == name
    }
    return _venue_class(venue.adapter)(
        network=venue.network,
        url=venue.url,
        accounts=accounts,
        secrets=secrets,
        key_names={key: secret for key, secret in settings.key_names.items() if key[0] in accounts},
        steps=steps,
        confirmed_mainnet_address=venue.confirm_address,
        name=name,
        clock=clock,
    )


def _venue_class(adapter: str) -> type[HyperliquidVenue]:
    if adapter == "ccxt":
        from twinleg.adapters.venues.ccxt_hyperliquid import CcxtHyperliquidVenue

        return CcxtHyperliquidVenue
    from twinleg.adapters.venues.hyperliquid import HyperliquidVenue

    return HyperliquidVenue


def account_addresses(settings: Settings) -> dict[str, tuple[str, str, str | None]]:
    """account → (venue, address, master's address or None). On paper an omitted address is made up."""
    found: dict[str, tuple[str, str, str | None]] = {}
    for name, account in settings.accounts.items():
        address = account.address or paper_address(name)
        owner = account.sub_account_of
        master_address = (settings.accounts[owner].address or paper_address(owner)) if owner else None
        found[name] = (account.venue, address.lower(), master_address.lower() if master_address else None)
    return found


# -- paper keys ------------------------------------------------------------------------------------


def paper_key(account: str, role: str) -> str:
    """A key for the paper venue, the same every time: play money needs no secret.

    Anybody can compute it. The settings refuse a paper account on any other network.
    """
    return "0x" + hashlib.sha256(f"twinleg paper key|{account}|{role}".encode()).hexdigest()


def paper_address(account: str) -> str:
    from eth_account import Account

    return str(Account.from_key(paper_key(account, "owner")).address)


def paper_secrets(settings: Settings) -> dict[str, str]:
    """The secrets of a paper system by name: agent keys, and a webhook secret for this machine only."""
    keys = {secret: paper_key(account, role.value) for (account, role), secret in settings.key_names.items()}
    return keys | {settings.webhook.secret: "paper"}


# -- one machine -----------------------------------------------------------------------------------

STORE_BUSY_SECONDS_MAX = 2.0
"""How long a locked file is waited for. TradingView sends again after a 503, but not after 3 s without an answer."""


def local_system(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    clock: Clock | None = None,
    steps: Steps | None = None,
    path: Path | None = None,
) -> System:
    """The embedded system: SQLite store, a bus in the same file, secrets of the environment or keyring."""
    from twinleg.adapters.local.bus import LocalBus
    from twinleg.adapters.local.clocks import SystemClock
    from twinleg.adapters.local.secrets import ChainSecrets, EnvironmentSecrets, KeyringSecrets, MappingSecrets
    from twinleg.adapters.local.sqlite import Database, Synchronous
    from twinleg.adapters.local.store import SqliteStore

    steps = steps or Steps()
    clock = clock or SystemClock()
    where = path or Path(settings.storage.path)
    where.parent.mkdir(parents=True, exist_ok=True)
    synchronous: Synchronous = "FULL" if settings.storage.durability == "full" else "NORMAL"
    database = Database(where, synchronous=synchronous, busy_seconds=STORE_BUSY_SECONDS_MAX)
    sources: list[Secrets] = [EnvironmentSecrets(environ, prefix="")]
    sources.append(MappingSecrets(paper_secrets(settings)) if settings.mode == "paper" else KeyringSecrets())
    store, bus = SqliteStore(database, steps), LocalBus(database, steps, clock)
    return System(
        settings=settings,
        clock=clock,
        make_store=Once(lambda: store),
        make_bus=Once(lambda: bus),
        secrets=ChainSecrets(*sources),
        steps=steps,
        make_dead_letters=lambda: _local_dead_letters(bus, steps),
        make_schedule=lambda: _store_schedule(store, clock),
    )


def _local_dead_letters(bus: LocalBus, steps: Steps) -> DeadLetters:
    from twinleg.adapters.local.dead_letters import LocalDeadLetters

    return LocalDeadLetters(bus, steps)


def _store_schedule(store: Store, clock: Clock) -> Schedule:
    from twinleg.adapters.local.schedule import StoreSchedule

    return StoreSchedule(store, clock)


# -- Google Cloud ------------------------------------------------------------------------------------

RUNTIME_VARIABLE, PROJECT_VARIABLE = "TWINLEG_RUNTIME", "GOOGLE_CLOUD_PROJECT"
REGION_VARIABLE = "TWINLEG_REGION"
"""Where Cloud Scheduler's jobs are; only ``twinleg schedule`` asks for it."""
REPLAY_CLOCK_VARIABLE = "TWINLEG_REPLAY_CLOCK"
"""On paper, the address of the paper venue whose clock this process keeps, instead of the wall's."""
REPLAY_CALL_SECONDS_MAX = 20.0
"""How long a call may take in a replay, whose clock stands still meanwhile: a slow machine changes no trade."""
CALL_SECONDS_MAX = 2.0
"""How long a call of Pub/Sub or Secret Manager may take, for the same reason as a locked file.

Firestore, which the webhook never waits for, may take twice as long.
"""


def cloud_system(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    clock: Clock | None = None,
    steps: Steps | None = None,
    call_seconds_max: float = CALL_SECONDS_MAX,
) -> System:
    """The system in Google Cloud: Firestore, Pub/Sub, and secrets of the environment or Secret Manager.

    Where the environment names emulators they are used. Nothing is reached before its first use. On paper
    the keys are made up as on one machine, but the webhook's secret is not: its address is public.
    """
    from twinleg.adapters.local.clocks import SystemClock
    from twinleg.adapters.local.secrets import ChainSecrets, EnvironmentSecrets, MappingSecrets

    project = environ.get(PROJECT_VARIABLE, "")
    if not project:
        raise BadInput(f"{PROJECT_VARIABLE} must name the project when {RUNTIME_VARIABLE} is cloud, was empty")
    weighs_requests = True
    if clock is None and environ.get(REPLAY_CLOCK_VARIABLE):
        clock, steps = _replay_time(settings, environ[REPLAY_CLOCK_VARIABLE])
        call_seconds_max, weighs_requests = max(call_seconds_max, REPLAY_CALL_SECONDS_MAX), False
    steps, clock = steps or Steps(), clock or SystemClock()
    play_money = paper_secrets(settings) if settings.mode == "paper" else {}
    play_money.pop(settings.webhook.secret, None)
    make_store = Once(lambda: _firestore(project, steps, environ, 2 * call_seconds_max))
    return System(
        settings=settings,
        clock=clock,
        make_store=make_store,
        make_bus=Once(lambda: _pubsub(project, steps, environ, call_seconds_max)),
        secrets=ChainSecrets(
            EnvironmentSecrets(environ, prefix=""),
            MappingSecrets(play_money),
            SecretsWhenAsked(
                f"Secret Manager of {project}", lambda: _secret_manager(project, clock, steps, call_seconds_max)
            ),
        ),
        steps=steps,
        make_dead_letters=lambda: _cloud_dead_letters(project, steps, environ),
        make_schedule=lambda: _cloud_schedule(make_store(), clock, environ),
        weighs_requests=weighs_requests,
    )


def _firestore(project: str, steps: Steps, environ: Mapping[str, str], timeout_seconds: float) -> Store:
    from twinleg.adapters.gcp import FIRESTORE_VARIABLE
    from twinleg.adapters.gcp.firestore import FirestoreStore

    host = environ.get(FIRESTORE_VARIABLE, "")
    return FirestoreStore(project, steps=steps, emulator_host=host, timeout_seconds=timeout_seconds)


def _pubsub(project: str, steps: Steps, environ: Mapping[str, str], timeout_seconds: float) -> Bus:
    from twinleg.adapters.gcp import PUBSUB_VARIABLE
    from twinleg.adapters.gcp.pubsub import PubSubBus

    host = environ.get(PUBSUB_VARIABLE, "")
    return PubSubBus(project, steps, emulator_host=host, timeout_seconds=timeout_seconds)


def _secret_manager(project: str, clock: Clock, steps: Steps, timeout_seconds: float) -> Secrets:
    from twinleg.adapters.gcp.secret_manager import SecretManagerSecrets

    return SecretManagerSecrets(project, clock, steps, timeout_seconds=timeout_seconds)


def _cloud_dead_letters(project: str, steps: Steps, environ: Mapping[str, str]) -> DeadLetters:
    from twinleg.adapters.gcp import PUBSUB_VARIABLE
    from twinleg.adapters.gcp.dead_letters import PubSubDeadLetters

    bus_host = environ.get(PUBSUB_VARIABLE, "")
    wait_seconds = 1.0 if bus_host else 3.0
    return PubSubDeadLetters(project, steps, emulator_host=bus_host, wait_seconds=wait_seconds)


def _cloud_schedule(store: Store, clock: Clock, environ: Mapping[str, str]) -> Schedule:
    """Cloud Scheduler; beside Firestore's emulator, of which there is none, the scheduler of this machine."""
    from twinleg.adapters.gcp import FIRESTORE_VARIABLE

    if environ.get(FIRESTORE_VARIABLE):
        return _store_schedule(store, clock)
    region = environ.get(REGION_VARIABLE, "")
    if not region:
        raise BadInput(f"{REGION_VARIABLE} must name the region of the scheduled jobs, such as europe-west1, was empty")
    from twinleg.adapters.gcp.scheduler import SchedulerControl

    return SchedulerControl(environ[PROJECT_VARIABLE], region, store)


def _replay_time(settings: Settings, url: str) -> tuple[Clock, Steps]:
    """The paper venue's clock, and orders that take a modelled time on it."""
    from twinleg.adapters.local.venue_clock import VenueClock, order_takes_time

    if settings.mode != "paper":
        raise BadInput(f"{REPLAY_CLOCK_VARIABLE}: only paper trading may keep another clock, mode was {settings.mode}")
    clock = VenueClock(url)
    return clock, Steps(partial(order_takes_time, clock))


# -- the current system ----------------------------------------------------------------------------

_lock = threading.Lock()
_current: list[System] = []


def use(system: System) -> None:
    """Make this the system that functions loaded in this process serve."""
    with _lock:
        _current[:] = [system]


def current() -> System:
    """The system this process serves, built from the environment on first use."""
    with _lock:
        if not _current:
            from twinleg.settings import load_from_environment

            settings, environ = load_from_environment()
            _current.append(system_for(settings, environ))
        return _current[0]


_FIRESTORE, _PUBSUB = "twinleg.adapters.gcp.firestore", "twinleg.adapters.gcp.pubsub"
_VENUE = "twinleg.adapters.venues.hyperliquid"
NEEDS: dict[str, tuple[str, ...]] = {
    "webhook": ("twinleg.engine.webhook", _PUBSUB),
    "signal": ("twinleg.engine.signals", _PUBSUB, _FIRESTORE),
    "execute": ("twinleg.engine.execution", _PUBSUB, _FIRESTORE, _VENUE),
    "ingest": ("twinleg.engine.ingest", _PUBSUB, _FIRESTORE, _VENUE),
    "risk": ("twinleg.engine.sweep", _PUBSUB, _FIRESTORE, _VENUE),
}
"""What every request of a function needs in the cloud. Signing is not among it: most requests send no order."""
CCXT = ("twinleg.adapters.venues.ccxt_hyperliquid", "ccxt")
"""What it needs besides where a venue's adapter is ccxt, which words every question too."""


def preload(name: str) -> None:
    """Read the settings and import what the function needs, so that its first request finds it. Nothing is reached."""
    venues = current().settings.venues.values()
    modules = NEEDS.get(name, ())
    if _VENUE in modules and any(venue.adapter == "ccxt" for venue in venues):
        modules += CCXT
    for module in modules:
        import_module(module)


def is_cloud(environ: Mapping[str, str]) -> bool:
    """Whether this process serves Google Cloud, or its emulators."""
    return environ.get(RUNTIME_VARIABLE) == "cloud"


def system_for(settings: Settings, environ: Mapping[str, str]) -> System:
    """The system that TWINLEG_RUNTIME asks for: ``local`` (as when it is not set) or ``cloud``."""
    match environ.get(RUNTIME_VARIABLE, "local"):
        case "local":
            return local_system(settings, environ)
        case "cloud":
            return cloud_system(settings, environ)
        case other:
            raise BadInput(f"{RUNTIME_VARIABLE} must be local or cloud, was {other[:40]!r}")


def set_up_logs(environ: Mapping[str, str]) -> None:
    """Let a function's process write JSON lines when it runs in the cloud, warnings as text when it does not."""
    from twinleg import logs

    if environ.get(RUNTIME_VARIABLE) != "cloud":
        return logs.to_terminal()
    service = environ.get("K_SERVICE") or environ.get("FUNCTION_TARGET") or "twinleg"
    return logs.to_cloud(environ.get(PROJECT_VARIABLE, ""), service=service, version=environ.get("K_REVISION", ""))


def functions_folder() -> Path:
    """Where the entry points are: ``functions/`` beside ``shared/``."""
    folder = Path(__file__).resolve().parents[2] / "functions"
    if not folder.is_dir():
        raise BadInput(f"the functions folder was not found at {folder}: run twinleg from a clone of its repository")
    return folder


def function_app(name: str) -> Any:
    """The web application of one function, loaded by functions-framework from its real ``main.py``."""
    from functions_framework import create_app

    source = functions_folder() / name / "main.py"
    if not source.is_file():
        raise InvariantBroken(f"function {name} has no main.py")
    return create_app(name, str(source))  # type: ignore[no-untyped-call]
