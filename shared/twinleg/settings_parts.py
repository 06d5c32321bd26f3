"""The tables of the configuration, one frozen model each. What joins several tables is checked elsewhere."""

# Annotations are objects here, not text: pydantic would compile each text at every cold start.

import re
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from twinleg.domain.words import SignerRole
from twinleg.risk.limits import Limits
from twinleg.settings_faults import Salvageable

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
SECRET_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
MARKET = re.compile(r"[a-z][a-z0-9_]*:[A-Za-z0-9]+")
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
PACKAGED = "packaged"


def _secret_name(value: object) -> str:
    if isinstance(value, str) and len(value) <= 100 and SECRET_NAME.fullmatch(value):
        return value
    raise PydanticCustomError(
        "secret_name",
        "must be the NAME of a secret, capitals joined by _ such as TWINLEG_MAIN_EXECUTE_KEY, "
        "not the secret itself; what it was is not shown",
    )


def _address(value: str) -> str:
    if not ADDRESS.fullmatch(value):
        raise ValueError("must be an address: 0x and 40 hexadecimal digits")
    if not int(value, 16):
        raise ValueError("must be an address somebody owns, not the zero address")
    return value.lower()


def _market(value: str) -> str:
    if not MARKET.fullmatch(value):
        raise ValueError("must be venue:COIN, such as hyperliquid:BTC")
    return value


def _source_address(value: str) -> str:
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError("must be one IP address") from None


SecretName = Annotated[str, BeforeValidator(_secret_name)]
Address = Annotated[str, AfterValidator(_address)]
Market = Annotated[str, AfterValidator(_market)]
SourceAddress = Annotated[str, AfterValidator(_source_address)]


class Part(Salvageable):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)


class TopPart(Part):
    """What stands above the first table."""

    mode: Literal["paper", "live"]


class VenueSettings(Part):
    """A venue and the network it is reached on. Hyperliquid's protocol is spoken to all of them."""

    network: Literal["paper", "testnet", "mainnet"]
    url: str | None = None
    """The paper venue's address on this machine; the live networks have theirs."""
    confirm_address: str | None = None
    """Mainnet only: the owners' addresses of the venue's accounts, typed again (joined by commas)."""
    adapter: Literal["sdk", "ccxt"] = "sdk"
    """Who writes and signs what is sent there: Hyperliquid's own SDK, or ccxt."""


class KeyNames(Part):
    """The names of an account's agent keys: one per signer, because a venue counts nonces per key."""

    execute: SecretName = Field(description="the name of the secret that holds this agent key")
    risk: SecretName = Field(description="the name of the secret that holds this agent key")
    emergency: SecretName = Field(description="the name of the secret that holds this agent key")

    def by_role(self) -> dict[SignerRole, str]:
        return {SignerRole(role): name for role, name in self}


class AccountSettings(Part):
    """One address at one venue, dedicated to twinleg."""

    venue: str = Field(description="the venue this account is at")
    address: Address | None = None
    """The owner's (or the sub-account's) address, never the agent key's. None on paper: made there."""
    sub_account_of: str | None = None
    """The account that is this sub-account's master."""
    keys: KeyNames = Field(description="the names of its agent keys: execute, risk and emergency")

    @classmethod
    def lenient(cls, sound: dict[str, Any]) -> dict[str, Any]:
        return {"keys": KeyNames.model_construct()} | sound


class MarketTable(Part):
    market: Market = Field(description="the market of the main leg, venue:COIN")
    main: str = Field(description="the account of the main leg")
    hedge: str = Field(description="the account of the hedge")
    hedge_market: Market | None = None
    strategies: tuple[str, ...] = Field(description="the strategies that may open trades here")

    @classmethod
    def lenient(cls, sound: dict[str, Any]) -> dict[str, Any]:
        return {"strategies": ()} | sound


class MarketSettings(MarketTable):
    """One row: a market, the accounts of its two legs, and the strategies that take turns in it."""

    hedge_market: Market


class StrategyTable(Part):
    kind: Literal["macd", "tradingview"]
    on_opposite: Literal["close", "reverse"] = "close"
    confidence: Decimal | None = Field(default=None, gt=0, le=1)
    parameters: dict[str, object] = Field(default_factory=dict)
    limits: dict[str, object] = Field(default_factory=dict)


class StrategySettings(Part):
    """A strategy: its kind, what an opposite signal does, and the limits it trades under (global ones included)."""

    kind: Literal["macd", "tradingview"]
    on_opposite: Literal["close", "reverse"]
    confidence: Decimal | None
    """Of an alert, which says none itself: above 0, at most 1, scales leverage. A computed signal brings its own."""
    parameters: tuple[tuple[str, object], ...]
    limits: Limits


class WebhookSettings(Part):
    """Where alerts arrive."""

    secret: SecretName = "TWINLEG_WEBHOOK_SECRET"
    port: int = Field(default=8080, ge=1, le=65535)
    allow_addresses: tuple[SourceAddress, ...] = ()
    """When not empty, alerts from other source addresses are refused: a second factor, not the first."""
    trust_forwarded_hops: int = Field(default=0, ge=0, le=5)
    """Proxies of ours in front that append to X-Forwarded-For: 0 on one machine, 1 on Cloud Run."""


class StorageSettings(Part):
    """The records of one machine."""

    path: Path = Path("data/twinleg.sqlite")
    durability: Literal["full", "normal"] = "full"
    """full: a record survives the loss of power; normal: the death of the process."""


class PaperSettings(Part):
    """What the paper venue plays when it is started with us."""

    candles: str = PACKAGED
    """``packaged`` or a file of one-minute candles."""
    market: Market | None = None
    """The market those candles are of; None: the first configured one."""
    equity: Decimal = Field(default=Decimal(10_000), gt=0, le=1_000_000_000)
    """USDC of each paper account at the start."""
    speed: Decimal = Field(default=Decimal(1), gt=0, le=1000)
    """How much faster than recorded."""
