"""From text and environment to the parts of a configuration: TOML, overrides, and the search for stray secrets."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, cast

from pydantic import BaseModel

from twinleg.domain.words import SignerRole
from twinleg.risk.limits import Limits
from twinleg.settings_faults import HEX_KEY, KEY, Faults, Where, did_you_mean, kind_of, read_part
from twinleg.settings_parts import (
    NAME,
    SECRET_NAME,
    AccountSettings,
    KeyNames,
    MarketTable,
    PaperSettings,
    StorageSettings,
    StrategyTable,
    TopPart,
    VenueSettings,
    WebhookSettings,
)
from twinleg.strategy.macd import MacdParameters

PREFIX = "TWINLEG_"
CONFIG_VARIABLE = "TWINLEG_CONFIG"
"""Names the configuration file when the caller does not."""
NOT_OVERRIDES = (CONFIG_VARIABLE,)

NAMED: dict[str, type[BaseModel]] = {"venues": VenueSettings, "accounts": AccountSettings, "strategies": StrategyTable}
SINGLE: dict[str, type[BaseModel]] = {
    "webhook": WebhookSettings,
    "limits": Limits,
    "storage": StorageSettings,
    "paper": PaperSettings,
}
SECTIONS = ("mode", "venues", "accounts", "markets", "strategies", *SINGLE)
LISTS = ("strategies", "allow_addresses")

Table = dict[str, Any]


def read_toml(text: str, faults: Faults) -> Table:
    """The document, numbers as exact decimals; an unreadable one is a fault and an empty document."""
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        faults.add_line(f"not TOML: {'(not shown)' if KEY.search(reason) else reason[:200]}")
    except (ValueError, ArithmeticError, RecursionError) as error:
        faults.add_line(f"not TOML: a value in it cannot be read ({type(error).__name__})")
    return {}


# -- stray secrets -----------------------------------------------------------------------------------


def find_secrets(text: str, document: Table, faults: Faults) -> None:
    """A fault for every value, name or comment that looks like a private key. None is quoted."""
    for where in list(_secret_places(document, ())):
        faults.add_secret(where)
    for number, line in enumerate(text.splitlines(), 1):
        if HEX_KEY.search(line.partition("#")[2] if document else line):
            faults.add_line(
                f"line {number}: looks like a private key (not shown); a configuration holds only the NAMES of secrets"
            )


def _secret_places(value: object, where: Where) -> Iterator[Where]:
    if isinstance(value, dict):
        for name in [name for name in value if KEY.search(name)]:
            del value[name]
            yield where
        for name, inner in value.items():
            yield from _secret_places(inner, (*where, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _secret_places(inner, (*where, index))
    elif isinstance(value, str) and KEY.search(value):
        yield where


# -- overrides ---------------------------------------------------------------------------------------


def apply_overrides(document: Table, environ: Mapping[str, str], faults: Faults) -> None:
    """Put ``TWINLEG_<SECTION>__<FIELD>`` variables in their places; those that fit none are faults."""
    places = {variable_of(where): where for where in _places(document)}
    given = sorted(name for name in environ if name.startswith(PREFIX) and name not in NOT_OVERRIDES)
    for name in given:
        if name in places:
            _put(document, places[name], environ[name])
            faults.came_from(places[name], name)
    secrets = _secret_names(document)
    for name in given:
        if name not in places and name not in secrets:
            _unknown_override(name, places, faults)


def variable_of(where: Where) -> str:
    """``("limits", "leverage_max")`` → ``TWINLEG_LIMITS__LEVERAGE_MAX``"""
    return PREFIX + "__".join(str(part).upper() for part in where)


def _unknown_override(name: str, places: Mapping[str, Where], faults: Faults) -> None:
    """A variable that was meant to change a setting and would not is a fault; any other is none of our business."""
    bare = {place.removeprefix(PREFIX): place for place in places}
    joined = {word.replace("__", "_"): place for word, place in bare.items()}
    known, cutoff = (bare, 0.7) if "__" in name else (joined, 0.85)
    close = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1, cutoff=cutoff)
    if close:
        faults.add_line(f"{name}: sets nothing; did you mean {known[close[0]]}?")
    elif "__" in name:
        faults.add_line(f"{name}: sets nothing; overrides are TWINLEG_<SECTION>__<FIELD>")


def _places(document: Table) -> Iterator[Where]:
    """Every place a variable can set: the fields of every table there is."""
    yield ("mode",)
    for section, model in NAMED.items():
        for name, table in _tables(document.get(section)):
            yield from _fields(model, (section, name))
            if section == "strategies":
                yield from _fields(Limits, (section, name, "limits"))
                if table.get("kind") == "macd":
                    yield from _fields(MacdParameters, (section, name, "parameters"))
    rows = document.get("markets")
    for index, _ in enumerate(rows if isinstance(rows, list) else []):
        yield from _fields(MarketTable, ("markets", index))
    for section, model in SINGLE.items():
        yield from _fields(model, (section,))


def _fields(model: type[BaseModel], where: Where) -> Iterator[Where]:
    for name in model.model_fields:
        if name == "keys":
            yield from ((*where, "keys", role.value) for role in SignerRole)
        elif (model, name) not in {(StrategyTable, "limits"), (StrategyTable, "parameters")}:
            yield (*where, name)


def _tables(section: object) -> list[tuple[str, Table]]:
    if not isinstance(section, dict):
        return []
    return [(name, table) for name, table in section.items() if isinstance(table, dict) and NAME.fullmatch(name)]


def _put(document: Table, where: Where, text: str) -> None:
    """Set a place, making the tables on the way; a place inside what is no table is left to its own fault."""
    at: Any = document
    for part in where[:-1]:
        at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
        if not isinstance(at, (dict, list)):
            return
    if not isinstance(at, dict):
        return
    last = str(where[-1])
    at[last] = [word.strip() for word in text.split(",") if word.strip()] if last in LISTS else text


def _secret_names(document: Table) -> set[str]:
    """The names of secrets that the configuration declares, and those it implies on paper."""
    names = {"TWINLEG_WEBHOOK_SECRET"}
    webhook = document.get("webhook")
    if isinstance(webhook, dict):
        names.add(str(webhook.get("secret")))
    for account, table in _tables(document.get("accounts")):
        names.update(paper_key_name(account, role) for role in SignerRole)
        keys = table.get("keys")
        names.update(str(name) for name in keys.values()) if isinstance(keys, dict) else None
    return {name for name in names if SECRET_NAME.fullmatch(name)}


def paper_key_name(account: str, role: SignerRole) -> str:
    """What an agent key of a paper account is called when the configuration does not say."""
    return f"{PREFIX}{account.upper()}_{role.value.upper()}_KEY"


# -- parts -------------------------------------------------------------------------------------------


@dataclass
class Draft:
    """The parts, as far as they could be read. One that could not be is None; what names it is not called unknown."""

    mode: Literal["paper", "live"] | None = None
    venues: dict[str, VenueSettings | None] = field(default_factory=dict)
    accounts: dict[str, AccountSettings | None] = field(default_factory=dict)
    markets: list[MarketTable | None] = field(default_factory=list)
    strategies: dict[str, StrategyTable | None] = field(default_factory=dict)
    macd: dict[str, MacdParameters] = field(default_factory=dict)
    strategy_limits: dict[str, Limits] = field(default_factory=dict)
    limits: Limits | None = None
    webhook: WebhookSettings | None = None
    storage: StorageSettings | None = None
    paper: PaperSettings | None = None


def read_parts(document: Table, faults: Faults) -> Draft:
    """Every part of the document, each by itself."""
    draft = Draft()
    for name in document:
        if name not in SECTIONS:
            faults.add((name,), "unknown key" + did_you_mean(name, SECTIONS))
    top = read_part(TopPart, {"mode": document["mode"]} if "mode" in document else {}, (), faults)
    draft.mode = top.mode if top else None
    if draft.mode == "paper":
        _name_paper_keys(document)
    draft.venues = _read_named(VenueSettings, document, "venues", faults)
    draft.accounts = _read_named(AccountSettings, document, "accounts", faults)
    draft.strategies = _read_named(StrategyTable, document, "strategies", faults)
    draft.markets = _read_markets(document, faults)
    draft.limits = read_part(Limits, document.get("limits", {}), ("limits",), faults)
    draft.webhook = read_part(WebhookSettings, document.get("webhook", {}), ("webhook",), faults)
    draft.storage = read_part(StorageSettings, document.get("storage", {}), ("storage",), faults)
    draft.paper = read_part(PaperSettings, document.get("paper", {}), ("paper",), faults)
    for name, strategy in draft.strategies.items():
        if strategy is not None:
            _read_strategy(name, strategy, draft, faults)
    return draft


def _name_paper_keys(document: Table) -> None:
    for name, table in _tables(document.get("accounts")):
        keys = table.setdefault("keys", {})
        if isinstance(keys, dict):
            for role in KeyNames.model_fields:
                keys.setdefault(role, paper_key_name(name, SignerRole(role)))


def _read_named[Part: BaseModel](
    model: type[Part], document: Table, section: str, faults: Faults
) -> dict[str, Part | None]:
    raw = document.get(section)
    if raw is None or raw == {}:
        faults.add((section,), f"missing; write at least one [{section}.<name>] table")
        return {}
    if not isinstance(raw, dict):
        faults.add((section,), f"was {kind_of(raw)}, must be tables: [{section}.<name>]")
        return {}
    parts: dict[str, Part | None] = {}
    for name, table in raw.items():
        where: Where = (section, name)
        parts[name] = read_part(model, table, where, faults)
        if not NAME.fullmatch(name) or len(name) > 32:
            faults.add(where, "its name must be lower-case letters and digits, joined by single _, at most 32 of them")
            parts[name] = None
    return parts


def _read_markets(document: Table, faults: Faults) -> list[MarketTable | None]:
    raw = document.get("markets")
    if raw is None or raw == []:
        faults.add(("markets",), "missing; write at least one [[markets]] table")
        return []
    if not isinstance(raw, list):
        faults.add(("markets",), f"was {kind_of(raw)}, must be a list of tables: [[markets]]")
        return []
    return [read_part(MarketTable, row, ("markets", index), faults) for index, row in enumerate(raw)]


def _read_strategy(name: str, strategy: StrategyTable, draft: Draft, faults: Faults) -> None:
    """Its parameters, and the global limits with its own put over them."""
    where: Where = ("strategies", name)
    if strategy.kind == "macd":
        parameters = read_part(MacdParameters, strategy.parameters, (*where, "parameters"), faults)
        if parameters is not None:
            draft.macd[name] = parameters
    elif strategy.parameters:
        faults.add((*where, "parameters"), f"kind {strategy.kind} has none: what an alert says comes from its sender")
    base = draft.limits.model_dump() if draft.limits else {}
    limits = read_part(Limits, base | cast(Table, strategy.limits), (*where, "limits"), faults)
    if limits is not None:
        draft.strategy_limits[name] = limits
