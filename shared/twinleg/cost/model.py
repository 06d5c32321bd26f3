"""What a month on Google Cloud costs: counted work times list prices.

Work a call was measured on the emulators (``operations.json``, written by ``bench/operations.py``); prices and what
had to be assumed are in ``prices.toml``. A month is 30 days: 43,200 minutes, each with one ``ingest``, one ``signal``
a market and one ``risk``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from functools import cache
from importlib import resources
from typing import Any

from twinleg.domain.errors import BadInput, require

DAYS, MINUTES, HOURS, SECONDS = 30, 43_200, 720, 2_592_000
MIB, GIB = 1024**2, 1024**3
FUNCTIONS = ("ingest", "webhook", "signal", "execute", "risk")
LIVE_WARM = ("webhook", "execute")
"""What the live example of the Terraform variables keeps warm."""
MARKETS_MAX, POSITIONS_MAX, ACCOUNTS_MAX, PER_DAY_MAX = 10_000, 1_000_000, 10_000, 1_000_000
INGEST_SECONDS_MAX = 55
"""The time limit of ingest and risk in infra/terraform: they end before the next minute."""
SWEEP_EVERY_SECONDS_MAX, LAST_TURN_SECONDS = 40, 45
"""Of ``sweep_every_seconds``: between two sweeps open trades are judged so often, the last time this long after one."""
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run. A trade has two legs and so two positions; every market trades once a day unless told otherwise."""

    markets: int
    positions: int
    accounts: int = 2
    trades_per_day: int | None = None
    """None: one for each market."""
    alerts_per_day: int | None = None
    """None: one for each trade. The other decisions (one to open and one to close a trade) come from candles."""
    live: bool = False
    warm: tuple[str, ...] = ()
    static_egress: bool = False
    region_multi: bool = False
    sweep_every_seconds: int = 0
    """Between two sweeps, while anything is open; counted as if it always were. 0: never."""

    def __post_init__(self) -> None:
        _within("markets", self.markets, 1, MARKETS_MAX)
        _within("positions", self.positions, 0, POSITIONS_MAX)
        _within("accounts", self.accounts, 2, ACCOUNTS_MAX)
        _within("trades_per_day", self.trades, 0, PER_DAY_MAX)
        _within("alerts_per_day", self.alerts, 0, PER_DAY_MAX)
        _within("sweep_every", self.sweep_every_seconds, 0, SWEEP_EVERY_SECONDS_MAX)
        unknown = [name for name in self.warm if name not in FUNCTIONS]
        if unknown:
            raise BadInput(f"warm must name functions ({', '.join(FUNCTIONS)}), was {unknown[0]!r}")
        if len(set(self.warm)) != len(self.warm):
            raise BadInput(f"warm must name each function once, was {', '.join(self.warm)}")

    @property
    def trades(self) -> int:
        return self.markets if self.trades_per_day is None else self.trades_per_day

    @property
    def alerts(self) -> int:
        return self.trades if self.alerts_per_day is None else self.alerts_per_day

    @property
    def turns(self) -> int:
        """How often open trades are judged between two sweeps."""
        every = self.sweep_every_seconds
        return LAST_TURN_SECONDS // every if every and self.positions else 0

    @property
    def fixed_address(self) -> bool:
        """A live system has one whether asked for or not."""
        return self.static_egress or self.live


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise BadInput(f"{name} must be {least:,} to {most:,}, was {value:,}")


# -- the two files -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Price:
    """One list price: *usd* for each *per* units above the free ones."""

    key: str
    line: str
    unit: str
    usd: Decimal
    per: Decimal
    free: Decimal
    checked: str
    source: str
    multi_region: int = 1
    since: date | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """The dated file of list prices, with what is assumed and what is deployed."""

    dated: date
    region: str
    prices: Mapping[str, Price]
    assumed: Mapping[str, Decimal]
    deployed: Mapping[str, Decimal]


FURTHER_DOCUMENT = {"reads": Decimal(1), "writes": Decimal(1), "store_calls": Decimal(2)}
"""Of an account's book, which is measured with one document; few desks are large enough to need another."""
A_TURN = {"venue_calls": Decimal(1)}
"""Of each account, between two sweeps: its state is read and nothing else."""


@dataclass(frozen=True, slots=True)
class Operations:
    """What each piece of work was measured to use."""

    measured_on: date
    method: str
    work: Mapping[str, Mapping[str, Decimal]]
    stored_bytes: Mapping[str, Decimal]
    documents_a_trade: Decimal

    def of(self, work: str) -> Mapping[str, Decimal]:
        """What one piece of work uses."""
        known = {"sweep, a further document": FURTHER_DOCUMENT, "between sweeps, an account": A_TURN}
        return known.get(work) or self.work[work]


def _text(name: str) -> str:
    return resources.files("twinleg.cost").joinpath(name).read_text(encoding="utf-8")


@cache
def prices() -> Prices:
    """The packaged ``prices.toml``."""
    raw: dict[str, Any] = tomllib.loads(_text("prices.toml"), parse_float=Decimal)
    dated, region = raw.pop("dated"), raw.pop("region")
    assumed, deployed = _numbers(raw.pop("assumed")), _numbers(raw.pop("deployed"))
    return Prices(dated, region, {key: _price(key, entry) for key, entry in raw.items()}, assumed, deployed)


def _price(key: str, entry: dict[str, Any]) -> Price:
    return Price(
        key=key, line=entry["line"], unit=entry["unit"], usd=Decimal(entry["usd"]), per=Decimal(entry["per"]),
        free=Decimal(entry["free"]), checked=entry["checked"], source=entry["source"],
        multi_region=entry.get("multi_region", 1), since=entry.get("from"),
    )  # fmt: skip


@cache
def operations() -> Operations:
    """The packaged ``operations.json``."""
    return operations_of(_text("operations.json"))


def operations_of(text: str) -> Operations:
    """What ``bench/operations.py`` wrote."""
    raw = json.loads(text, parse_float=Decimal)
    return Operations(
        measured_on=date.fromisoformat(raw["measured_on"]),
        method=raw["method"],
        work={name: _numbers(used) for name, used in raw["work"].items()},
        stored_bytes=_numbers(raw["stored_bytes"]),
        documents_a_trade=Decimal(raw["documents_a_trade"]),
    )


def _numbers(entries: Mapping[str, Any]) -> dict[str, Decimal]:
    return {name: Decimal(value) for name, value in entries.items()}


# -- the month -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of call in a month: which function, how often, and what one of them is made of."""

    function: str
    count: int
    parts: Mapping[str, Decimal]
    """Piece of work → how many of it are in one call."""
    seconds_min: int = 0
    """It stays in its invocation so long, whatever it does."""

    def uses(self, measured: Operations, name: str) -> Decimal:
        """How much of *name* one call uses."""
        return sum((measured.of(work).get(name, ZERO) * n for work, n in self.parts.items()), ZERO)

    def seconds(self, measured: Operations, assumed: Mapping[str, Decimal]) -> Decimal:
        """How long one call takes: our own time as measured, and one network call after another."""
        took = (
            self.uses(measured, "cpu_seconds")
            + self.uses(measured, "slept_seconds")
            + self.uses(measured, "store_calls") * assumed["store_call_seconds"]
            + self.uses(measured, "publishes") * assumed["publish_seconds"]
            + self.uses(measured, "venue_calls") * assumed["venue_call_seconds"]
            + self.parts.get("sweep, a position", ZERO) * assumed["position_seconds"]
        )
        return max(took, Decimal(self.seconds_min))


def calls(plan: Plan, assumed: Mapping[str, Decimal]) -> list[Call]:
    """Every call of a month."""
    trades, alerts = plan.trades * DAYS, plan.alerts * DAYS
    signals = max(0, 2 * trades - alerts)
    one = Decimal(1)
    changed = (4 * plan.trades + plan.positions * assumed["bucket_changes_per_day"]) * DAYS / MINUTES
    documents = -(-plan.positions // (plan.accounts * int(assumed["lines_a_document"]))) or 1
    sweep = {
        "sweep": one,
        "sweep, an account": Decimal(plan.accounts),
        "sweep, a further document": Decimal(plan.accounts * (documents - 1)),
        "sweep, a position": Decimal(plan.positions),
        "sweep, a changed position": changed,
    }
    if plan.turns:
        sweep["between sweeps, an account"] = Decimal(plan.turns * plan.accounts)
    return [
        Call("ingest", MINUTES, {"ingest": one, "ingest, a market": Decimal(plan.markets)}),
        Call("signal", max(0, MINUTES * plan.markets - signals), {"candle": one}),
        Call("signal", signals, {"candle with a signal": one}),
        Call("webhook", alerts, {"webhook": one}),
        Call("signal", alerts, {"alert": one}),
        Call("execute", trades, {"open": one}),
        Call("execute", trades, {"close": one}),
        Call("risk", MINUTES, sweep, plan.turns * plan.sweep_every_seconds),
    ]


def quantities(plan: Plan, measured: Operations, listed: Prices) -> dict[str, Decimal]:
    """What a month uses, by the key of its price."""
    assumed, made = listed.assumed, calls(plan, listed.assumed)

    def used(name: str) -> Decimal:
        return sum((call.uses(measured, name) * call.count for call in made), ZERO)

    starts = _starts(plan, assumed)
    seconds = sum((_billed_seconds(call.seconds(measured, assumed)) * call.count for call in made), ZERO)
    seconds += sum(starts.values()) * assumed["start_seconds"]
    requests = Decimal(sum(call.count for call in made))
    warm = Decimal(SECONDS * len(plan.warm))
    logged = sum((call.count for call in made if call.function != "webhook"), 0) * assumed["request_log_bytes"]
    logged += used("log_bytes") + used("log_lines") * assumed["log_line_bytes"]
    stored, versions = _stored_bytes(plan, measured, assumed)
    out = used("venue_bytes_out") + used("venue_calls") * assumed["venue_overhead_bytes"]
    into = used("venue_bytes_in") + used("venue_calls") * assumed["venue_overhead_bytes"]
    fixed = Decimal(plan.fixed_address)
    documents = measured.documents_a_trade * plan.trades * DAYS
    copies = "_live" if plan.live else ""
    return {
        "cpu": seconds,
        "memory": seconds * assumed["memory_gib"],
        "requests": requests,
        "warm_cpu": warm,
        "warm_memory": warm * assumed["memory_gib"],
        "reads": used("reads") + documents * assumed["months_kept"] * DAYS,  # an export reads every document
        "writes": used("writes"),
        "deletes": used("deletes"),
        "expiries": documents,
        "storage": stored / GIB,
        "recovery": (stored + versions) / GIB,
        "backups": stored * listed.deployed[f"backups_kept{copies}"] / GIB,
        "exports": stored / assumed["index_factor"] * listed.deployed[f"exports_kept{copies}"] / GIB,
        "pubsub": (used("publish_bytes") + used("push_bytes")) / GIB,
        "pubsub_kept": used("publish_bytes") * 7 / DAYS / GIB,
        "events": used("event_bytes") / GIB,
        "bigquery": used("event_bytes") * assumed["months_kept"] / GIB,
        "secret_versions": 1 + 3 * plan.accounts + assumed["config_versions"],
        "secret_reads": _secret_reads(plan, starts) + used("secret_reads"),
        "schedules": listed.deployed["schedules"],
        "logs": logged / GIB,
        "figures": _figure_points(made, measured) * assumed["figure_point_bytes"] / MIB,
        "alarms": listed.deployed["alarm_conditions"],
        "alarm_points": listed.deployed["alarm_series"] * assumed["alarm_evaluations"],
        "traffic": out / GIB,
        "egress_address": fixed * HOURS,
        "egress_gateway": fixed * HOURS * assumed["nat_instances"],
        "egress_data": fixed * (out + into) / GIB,
        "images": assumed["images_gib"],
        "builds": assumed["deployments"] * assumed["build_minutes"],
    }


def _billed_seconds(seconds: Decimal) -> Decimal:
    """Cloud Run bills each started tenth of a second. Parts of a call that are fractions stay as they are."""
    return seconds.quantize(Decimal("0.1"), ROUND_CEILING)


def _starts(plan: Plan, assumed: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Instances started in a month: of what is called each minute a few, of the others one at each call."""
    often = {name: assumed["starts_per_day"] * DAYS for name in ("ingest", "signal", "risk")}
    return often | {"webhook": Decimal(plan.alerts * DAYS), "execute": Decimal(2 * plan.trades * DAYS)}


def _secret_reads(plan: Plan, starts: Mapping[str, Decimal]) -> Decimal:
    """Each start reads the configuration and the function's own secrets."""
    own = {"webhook": 1, "execute": plan.accounts, "risk": 2 * plan.accounts}
    return sum((count * (1 + own.get(name, 0)) for name, count in starts.items()), ZERO)


def _figure_points(made: list[Call], measured: Operations) -> Decimal:
    """Points of log-based figures: one a minute and series; calls of one minute share those of their function."""
    own = sum((call.uses(measured, "series") * call.count for call in made), ZERO)
    shared = sum((call.uses(measured, "series_by_function") * min(call.count, MINUTES) for call in made), ZERO)
    return own + shared


def _stored_bytes(plan: Plan, measured: Operations, assumed: Mapping[str, Decimal]) -> tuple[Decimal, Decimal]:
    """(bytes kept, bytes of the versions a week of recovery holds of what is written each minute)."""
    size = measured.stored_bytes
    book = size["book of one position"] * plan.positions
    each_minute = plan.markets * size["markets"] + plan.accounts * size["accounts"] + book
    trades = plan.trades * DAYS * assumed["months_kept"] * size["a trade"]
    kept = (each_minute + plan.positions * size["positions"] + trades) * assumed["index_factor"]
    return kept, each_minute * 7 * 24 * 60


# -- the bill ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill."""

    price: Price
    quantity: Decimal
    usd_each: Decimal
    """For one unit."""
    billable: bool = True
    """False before the day from which it is billed."""

    @property
    def free(self) -> Decimal:
        return min(self.price.free, self.quantity)

    @property
    def billed(self) -> Decimal:
        return self.quantity - self.free if self.billable else ZERO

    @property
    def usd(self) -> Decimal:
        return self.billed * self.usd_each

    @property
    def usd_without_free_tier(self) -> Decimal:
        return self.quantity * self.usd_each if self.billable else ZERO


@dataclass(frozen=True, slots=True)
class Bill:
    """A month's bill for a plan, at the prices of a day."""

    plan: Plan
    on: date
    lines: tuple[Line, ...]
    measured: Operations
    prices: Prices

    @property
    def usd(self) -> Decimal:
        return sum((line.usd for line in self.lines), ZERO)

    @property
    def usd_without_free_tier(self) -> Decimal:
        """What it would cost if nothing were free: the part that grows in straight lines."""
        return sum((line.usd_without_free_tier for line in self.lines), ZERO)

    def line(self, key: str) -> Line:
        return next(line for line in self.lines if line.price.key == key)

    @property
    def dearest(self) -> tuple[str, Decimal]:
        """The group of lines that costs most, and how much."""
        groups: dict[str, Decimal] = {}
        for line in self.lines:
            groups[GROUPS[line.price.key]] = groups.get(GROUPS[line.price.key], ZERO) + line.usd
        return max(groups.items(), key=lambda group: group[1])

    @property
    def lever(self) -> str:
        """What would lower the bill most."""
        group, usd = self.dearest
        looped = self.plan.turns and group == "running the functions"
        return f"{group}, {money(usd)} of {money(self.usd)}: {LOOPED if looped else LEVERS[group]}"

    def seconds(self, function: str) -> Decimal:
        """How long the longest call of a function takes."""
        made = [call for call in calls(self.plan, self.prices.assumed) if call.function == function]
        return max(call.seconds(self.measured, self.prices.assumed) for call in made)


GROUPS = {
    **dict.fromkeys(("cpu", "memory", "requests"), "running the functions"),
    **dict.fromkeys(("warm_cpu", "warm_memory"), "warm instances"),
    **dict.fromkeys(("reads", "writes", "deletes", "expiries"), "Firestore's reads and writes"),
    **dict.fromkeys(("storage", "recovery", "backups", "exports"), "keeping records"),
    **dict.fromkeys(("pubsub", "pubsub_kept", "events", "bigquery"), "messages and events"),
    **dict.fromkeys(("secret_versions", "secret_reads"), "secrets"),
    **dict.fromkeys(("alarms", "alarm_points", "logs", "figures"), "logs and alarms"),
    **dict.fromkeys(("traffic", "egress_address", "egress_gateway", "egress_data"), "the fixed address and traffic"),
    **dict.fromkeys(("images", "builds"), "building and keeping images"),
    "schedules": "schedules",
}
LEVERS = {
    "running the functions": "fewer markets, or fetch them at the same time; most of it is waiting for the venue",
    "warm instances": "keep none warm (warm_instances); a first call after a quiet time then waits for a start",
    "Firestore's reads and writes": "fewer markets; each is written twice and read twice a minute",
    "keeping records": "keep fewer backups and exports (backup_keep_days, export_keep_days)",
    "messages and events": "fewer markets",
    "secrets": "destroy versions that no revision names any more",
    "logs and alarms": "keep log-based figures apart by fewer labels (a series a market costs most), join alarms",
    "the fixed address and traffic": "none: live trading wants it; on paper leave it out",
    "building and keeping images": "deploy less often, or build on the default machine (2,500 minutes free)",
    "schedules": "none: two are needed and three are free",
}
LOOPED = "sweep_every_seconds 0: the sweep then ends at once, and the stops at the venue remain"


def bill(
    plan: Plan, *, on: date | None = None, measured: Operations | None = None, listed: Prices | None = None
) -> Bill:
    """The month's bill; *on* is the day whose prices apply (default: that of the price file)."""
    listed, measured = listed or prices(), measured or operations()
    day = on or listed.dated
    used = quantities(plan, measured, listed)
    require(set(used) == set(listed.prices), f"prices and quantities differ: {set(used) ^ set(listed.prices)}")
    lines = tuple(priced(listed.prices[key], amount, day, plan.region_multi) for key, amount in used.items())
    return Bill(plan, day, lines, measured, listed)


def priced(price: Price, quantity: Decimal, on: date, region_multi: bool) -> Line:
    """One line at the price of a day."""
    factor = price.multi_region if region_multi else 1
    return Line(price, quantity, price.usd * factor / price.per, price.since is None or on >= price.since)


def with_warm_default(plan: Plan, warm: tuple[str, ...] | None) -> Plan:
    """The plan with the instances that are kept warm where nothing was said: live as its example, else none."""
    return replace(plan, warm=(LIVE_WARM if plan.live else ()) if warm is None else warm)


def money(usd: Decimal) -> str:
    """Dollars and cents."""
    return f"${usd.quantize(Decimal('0.01'), ROUND_HALF_UP):,}"
