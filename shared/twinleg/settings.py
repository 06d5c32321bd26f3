"""Settings: one TOML file, changed by the environment, read once, checked whole, sealed, and shown without secrets.

The file holds venues, accounts, markets, strategies, limits and the *names* of secrets. ``TWINLEG_<SECTION>__<FIELD>``
variables override it. Every fault is listed at once. This is the one place that reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from twinleg.domain.errors import InvariantBroken
from twinleg.risk.limits import Limits
from twinleg.settings_check import ALERT_STRATEGY, check, hedge_market_of
from twinleg.settings_faults import Faults, SettingsError
from twinleg.settings_parts import (
    PACKAGED,
    AccountSettings,
    KeyNames,
    MarketSettings,
    PaperSettings,
    StorageSettings,
    StrategySettings,
    VenueSettings,
    WebhookSettings,
)
from twinleg.settings_read import CONFIG_VARIABLE, Draft, apply_overrides, find_secrets, read_parts, read_toml

if TYPE_CHECKING:
    from twinleg.domain.words import SignerRole
    from twinleg.engine.config import Desk, StrategyPlan
    from twinleg.strategy.protocol import Strategy

__all__ = [
    "AccountSettings",
    "KeyNames",
    "MarketSettings",
    "PaperSettings",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "StrategySettings",
    "VenueSettings",
    "WebhookSettings",
    "environment",
    "example_text",
    "load",
    "load_from_environment",
    "parse",
]

FILE_NAME = "twinleg.toml"
ALERT_CONFIDENCE = Decimal("0.6")
"""How sure an alert is taken to be, unless the configuration says."""
WINDOW_MIN = 240
"""Closed candles kept per market, at least; more when a strategy looks further back."""


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """A configuration without a fault. Holds names of secrets, never their values; it cannot be changed."""

    mode: Literal["paper", "live"]
    venues: Mapping[str, VenueSettings]
    accounts: Mapping[str, AccountSettings]
    markets: tuple[MarketSettings, ...]
    strategies: Mapping[str, StrategySettings]
    limits: Limits
    webhook: WebhookSettings
    storage: StorageSettings
    paper: PaperSettings
    source: str
    """Where it was read: a file's path, or what stood in for one."""

    @property
    def key_names(self) -> dict[tuple[str, SignerRole], str]:
        """(account, role) → the name of the secret that holds this agent key."""
        return {
            (name, role): secret
            for name, account in self.accounts.items()
            for role, secret in account.keys.by_role().items()
        }

    def desk(self, addresses: Mapping[str, str] | None = None) -> Desk:
        """What the engine trades by. *addresses* are those of paper accounts that the configuration gives none."""
        from twinleg.engine.config import Account, Desk, MarketPlan

        found = {name: account.address or (addresses or {}).get(name, "") for name, account in self.accounts.items()}
        plans = {name: self._plan(name, strategy) for name, strategy in self.strategies.items()}
        alerts = self.strategies.get(ALERT_STRATEGY)
        lookbacks = [plan.strategy.lookback for plan in plans.values() if plan.strategy is not None]
        return Desk(
            accounts=MappingProxyType(
                {
                    name: Account(name, account.venue, found[name], found.get(account.sub_account_of or "", ""))
                    for name, account in self.accounts.items()
                }
            ),
            markets=MappingProxyType(
                {m.market: MarketPlan(m.market, m.main, m.hedge, m.hedge_market, m.strategies) for m in self.markets}
            ),
            strategies=MappingProxyType(plans),
            limits=self.limits,
            live=self.mode == "live",
            alert_confidence=str(alerts.confidence if alerts and alerts.confidence else ALERT_CONFIDENCE),
            window=max(WINDOW_MIN, *lookbacks) if lookbacks else WINDOW_MIN,
        )

    def _plan(self, name: str, settings: StrategySettings) -> StrategyPlan:
        from twinleg.engine.config import StrategyPlan

        return StrategyPlan(name, _strategy(name, settings), settings.limits, settings.on_opposite)

    def masked(self) -> str:
        """All of it, a line per field, for a person: secrets by name only, a strategy's limits where they differ."""
        lines = [f"source = {self.source}", f"mode = {self.mode}"]
        parts: dict[str, BaseModel] = {}
        for section in ("venues", "accounts", "strategies"):
            parts |= {f"{section}.{name}": part for name, part in getattr(self, section).items()}
        parts |= {f"markets[{index}]": row for index, row in enumerate(self.markets)}
        parts |= {section: getattr(self, section) for section in ("webhook", "storage", "paper", "limits")}
        common = dict(self.limits)
        for where, part in parts.items():
            lines += _lines(where, part, common)
        return "\n".join(lines)

    def __repr__(self) -> str:
        markets = ", ".join(row.market for row in self.markets)
        return (
            f"Settings(mode={self.mode}, accounts={', '.join(self.accounts)}, markets={markets}, source={self.source})"
        )

    __str__ = masked


def _lines(where: str, part: BaseModel, common: Mapping[str, object]) -> list[str]:
    lines: list[str] = []
    for name, value in part:
        place = f"{where}.{name}"
        if isinstance(value, KeyNames):
            lines += [f"{place}.{role} = secret named {secret}" for role, secret in value]
        elif isinstance(value, Limits):
            lines += [f"{place}.{limit} = {_plainly(own)}" for limit, own in value if own != common[limit]]
        elif name == "secret":
            lines.append(f"{place} = secret named {value}")
        elif name == "parameters":
            lines += [f"{place}.{parameter} = {_plainly(setting)}" for parameter, setting in value]
        else:
            lines.append(f"{place} = {_plainly(value)}")
    return lines


def _plainly(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) or "-" if isinstance(value, tuple) else "-" if value is None else str(value)


def _strategy(name: str, settings: StrategySettings) -> Strategy | None:
    """The strategy itself, signing its signals with its configured name; None for alerts."""
    if settings.kind == "tradingview":
        return None
    from twinleg.strategy.macd import Macd, MacdParameters

    strategy = Macd(MacdParameters.model_validate(dict(settings.parameters)))
    strategy.name = name
    return strategy


# -- reading -----------------------------------------------------------------------------------------


def environment() -> Mapping[str, str]:
    """The process's environment as it is now, sealed."""
    return MappingProxyType(dict(os.environ))


def load_from_environment() -> tuple[Settings, Mapping[str, str]]:
    """The settings this process's environment names, and that environment (where secrets are looked up)."""
    environ = environment()
    return load(None, environ), environ


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read and check a configuration: *path*, else the file TWINLEG_CONFIG names, else ``twinleg.toml`` in this
    folder, else the packaged example, which trades on paper. Raises SettingsError with every fault.

    Relative paths in a file start from the file's folder.
    """
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    if path is None and Path(FILE_NAME).is_file():
        path = Path(FILE_NAME)
    if path is None:
        return parse(example_text(), environ, source="the packaged example")
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise SettingsError(str(path), ["there is no such file"]) from None
    except OSError as error:
        raise SettingsError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError(str(path), ["is not UTF-8 text"]) from None
    return parse(text, environ, source=str(path), base=path.parent)


def example_text() -> str:
    """The packaged example: what is used when there is no file, and what a first one is made from."""
    return (files("twinleg") / "data" / "example.toml").read_text("utf-8")


def parse(text: str, environ: Mapping[str, str], *, source: str = FILE_NAME, base: Path = Path()) -> Settings:
    """Check a configuration's text, overridden by *environ*. Raises SettingsError with every fault."""
    faults = Faults()
    document = read_toml(text, faults)
    readable = not faults.lines
    if readable:
        apply_overrides(document, environ, faults)
    find_secrets(text, document, faults)
    draft = read_parts(document, faults) if readable else Draft()
    if readable:
        check(draft, base, faults)
    if faults.lines:
        raise SettingsError(source, faults.lines)
    return _sealed(draft, source, base)


def _sealed(draft: Draft, source: str, base: Path) -> Settings:
    """The draft as settings; only called without faults, so every part is there."""
    mode, limits, webhook, storage, paper = draft.mode, draft.limits, draft.webhook, draft.storage, draft.paper
    if mode is None or limits is None or webhook is None or storage is None or paper is None:
        raise InvariantBroken("a configuration without a fault has every part")
    markets = [row for row in draft.markets if row is not None]
    candles = paper.candles if paper.candles == PACKAGED else str(base / paper.candles)
    return Settings(
        mode=mode,
        venues=MappingProxyType({name: part for name, part in draft.venues.items() if part}),
        accounts=MappingProxyType({name: part for name, part in draft.accounts.items() if part}),
        markets=tuple(
            MarketSettings(**row.model_dump() | {"hedge_market": hedge_market_of(row, draft.accounts)})
            for row in markets
        ),
        strategies=MappingProxyType({name: _strategy_settings(name, draft) for name in draft.strategies}),
        limits=limits,
        webhook=webhook,
        storage=storage.model_copy(update={"path": base / storage.path}),
        paper=paper.model_copy(update={"candles": candles, "market": paper.market or markets[0].market}),
        source=source,
    )


def _strategy_settings(name: str, draft: Draft) -> StrategySettings:
    table, parameters = draft.strategies[name], draft.macd.get(name)
    if table is None:
        raise InvariantBroken(f"strategy {name} has no fault and is not there")
    return StrategySettings(
        kind=table.kind,
        on_opposite=table.on_opposite,
        confidence=(table.confidence or ALERT_CONFIDENCE) if table.kind == ALERT_STRATEGY else None,
        parameters=tuple(parameters) if parameters else (),
        limits=draft.strategy_limits[name],
    )
