"""What TradingView sent, understood.

An alert says what a *strategy on a chart* did. Only its kind, its direction and the part of the position it
leaves are used: sizes, leverage, stops and targets in the message are accepted and not used, because sizing
is ours. A template should carry ``{{timenow}}`` or an id of its own: that tells the alert from every other.
"""

# Annotations are objects here, not text: pydantic would compile each text at every cold start.

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from twinleg.domain.alert_body import SCRUBBED_LENGTH_MIN, AlertBody, Value, read_body, redact, secret_in_body, shown
from twinleg.domain.alert_meaning import AlertAction, Meaning, meaning_of
from twinleg.domain.errors import BadInput
from twinleg.domain.ids import AlertId, alert_id_from_template, alert_id_from_text
from twinleg.domain.instants import FIRST_YEAR, LAST_YEAR, TIME_AFTER, TIME_FIRST, microseconds_of, utc_of
from twinleg.domain.money import decimal_of
from twinleg.domain.signals import Direction
from twinleg.domain.tickers import coin_of_ticker

__all__ = ["AlertAction", "AlertReceived", "parse_alert", "redact", "secret_in_body"]

NAME_CHARACTERS_MAX = 200
PRICE_MAX = Decimal("1e12")

_TICKER_FIELDS = ("ticker", "symbol", "pair", "instrument", "coin", "market", "order.symbol", "order.ticker")
_PRICE_FIELDS = ("price", "order.price", "orderprice")
_STRATEGY_FIELDS = ("strategy", "strategyname", "strategyid")
_ID_FIELDS = ("alertid", "nonce", "signalid", "uuid", "uid")
_FIRED_FIELDS = ("timenow", "firedat", "timestamp")
_TIME_FIELDS = ("time", "bartime")
_INTERVAL_FIELDS = ("interval", "timeframe")
_TOLD_APART_BY = (
    *_FIRED_FIELDS, *_TIME_FIELDS, *_INTERVAL_FIELDS, "id", "orderid", "order.id", "comment", "order.comment",
    "message", "alertmessage", "order.alertmessage", "contracts", "order.contracts", "qty", "size", *_PRICE_FIELDS,
    "positionsize", "marketpositionsize", "market.positionsize", "prevmarketpositionsize",
    "market.previouspositionsize", *_STRATEGY_FIELDS,
)  # fmt: skip
_INTERVAL_SECONDS = {"S": 1, "": 60, "M": 60, "H": 3_600, "D": 86_400, "W": 604_800}
"""TradingView writes minutes as a bare number and the others with a letter. A month has no fixed length."""


class AlertReceived(BaseModel):
    """One authenticated alert. It holds no secret: ``text`` is what arrived, without its secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alert_id: AlertId
    id_source: Literal["template", "text"]
    """``template``: an id or time in the message identifies it for ever; ``text``: only inside an arrival window."""
    market_ticker: str
    """The coin in capitals, e.g. ``ETH`` for ``BINANCE:ETHUSDT.P``."""
    action: AlertAction
    direction: Direction | None = None
    """The position the action is about; for a reversal the new one. None: the alert does not say."""
    fraction: Decimal | None = Field(default=None, gt=0, lt=1)
    """Of the position, for ``REDUCE`` only."""
    price: Decimal | None = None
    fired_at: datetime | None = None
    """When TradingView says it fired: ``{{timenow}}``, or the close of the bar that ``{{time}}`` opened."""
    strategy: str | None = None
    text: str
    received_at: datetime


class AlertMessage(BaseModel):
    """An alert that was authenticated and understood."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    alert: AlertReceived


def parse_alert(body: bytes, received_at: datetime, *, known_secrets: Sequence[str] = ()) -> AlertReceived:
    """Understand the body of an alert. BadInput, in one line without any secret, says why it cannot be.

    *known_secrets* are taken out of every field and text, wherever they stand; what stands in a field called
    secret, passphrase, password, key or token is so anyway. An exit is not refused for a price or time that
    nothing will use.
    """
    try:
        return _parsed(body, received_at, known_secrets)
    except BadInput as refusal:
        reason = str(refusal)
    secrets = [secret for secret in (*known_secrets, secret_in_body(body)) if secret]
    if any(len(secret) >= SCRUBBED_LENGTH_MIN and secret in reason for secret in secrets):
        reason = "alert: cannot be understood, and the reason would show its secret"
    raise BadInput(reason)


def _parsed(body: bytes, received_at: datetime, known_secrets: Sequence[str]) -> AlertReceived:
    read = read_body(body, known_secrets)
    ticker = _ticker(read)
    meaning = meaning_of(read)
    strategy = _strategy(read)
    price = _price(read, lenient=meaning.action.exits)
    fired_at = _fired_at(read, received_at, lenient=meaning.action.exits)
    identity = _identity(read, ticker, meaning)
    return AlertReceived(
        alert_id=alert_id_from_template(identity) if identity else alert_id_from_text(read.text.encode()),
        id_source="template" if identity else "text",
        market_ticker=ticker,
        action=meaning.action,
        direction=meaning.direction,
        fraction=meaning.fraction,
        price=price,
        fired_at=fired_at,
        strategy=strategy,
        text=read.text,
        received_at=received_at,
    )


def _ticker(body: AlertBody) -> str:
    coins: dict[str, str] = {}
    for key, value in body.all(_TICKER_FIELDS):
        if not isinstance(value, str):
            raise BadInput(f"alert: {key} must be text such as ETHUSDT.P, was {shown(value)}")
        coins.setdefault(coin_of_ticker(value), key)
    if not coins:
        raise BadInput('alert: has no ticker; put "ticker": "{{ticker}}" into the template')
    if len(coins) > 1:
        said = " and ".join(f"{key} {coin}" for coin, key in coins.items())
        raise BadInput(f"alert: {said} are different coins")
    return next(iter(coins))


def _strategy(body: AlertBody) -> str | None:
    found = body.one(_STRATEGY_FIELDS)
    if found is None:
        return None
    if not isinstance(found[1], str) or len(found[1]) > NAME_CHARACTERS_MAX:
        limit = f"text of at most {NAME_CHARACTERS_MAX} characters"
        raise BadInput(f"alert: {found[0]} must be {limit}, was {shown(found[1])}")
    return found[1]


def _price(body: AlertBody, *, lenient: bool) -> Decimal | None:
    try:
        found = body.one(_PRICE_FIELDS)
        if found is None:
            return None
        price = decimal_of(found[1], f"alert: {found[0]}")
        if not Decimal("1e-12") <= price <= PRICE_MAX:
            raise BadInput(f"alert: {found[0]} must be above 0 and at most {PRICE_MAX:f}, was {shown(price)}")
    except BadInput:
        if lenient:
            return None
        raise
    return price


def _fired_at(body: AlertBody, received_at: datetime, *, lenient: bool) -> datetime | None:
    try:
        fired = body.one(_FIRED_FIELDS)
        if fired is not None:
            return _instant(*fired)
        time = body.one(_TIME_FIELDS)
        if time is None:
            return None
        at = _instant(*time)
    except BadInput:
        if lenient:
            return None
        raise
    interval = _interval(body.one(_INTERVAL_FIELDS))
    if interval is None:
        return at
    return at + interval if at + interval <= received_at else None


def _instant(key: str, value: Value) -> datetime:
    try:
        microseconds = microseconds_of(str(value)) if not isinstance(value, bool) else None
    except ValueError:
        microseconds = None
    if microseconds is None:
        raise BadInput(f"alert: {key} must be a time (ISO 8601, epoch s or ms), was {shown(value)}")
    if not TIME_FIRST <= microseconds < TIME_AFTER:
        raise BadInput(f"alert: {key} must be in {FIRST_YEAR}-{LAST_YEAR}, was {shown(value)}")
    return utc_of(microseconds)


def _interval(found: tuple[str, Value] | None) -> timedelta | None:
    """The length of the chart's bars; None when it is not said in a way that is known."""
    text = str(found[1]).upper() if found else ""
    count, letter = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "")
    count = count or ("1" if letter else "")
    if not (count.isascii() and count.isdigit() and len(count) <= 5 and letter in _INTERVAL_SECONDS):
        return None
    if letter == "M" and found and str(found[1]).endswith("M"):
        return None
    return timedelta(seconds=int(count) * _INTERVAL_SECONDS[letter])


def _identity(body: AlertBody, ticker: str, meaning: Meaning) -> str:
    """What tells this alert from every other for ever; empty when the template carries neither id nor time.

    A field ``id`` without a digit is the name of the chart's order ("Long Entry"), which comes back with
    every trade, so that it identifies nothing alone.
    """
    who = [ticker, meaning.action.value, meaning.direction.value if meaning.direction else ""]
    given = _id(body, _ID_FIELDS)
    if given:
        return json.dumps(["id", given, *who])
    times = [str(value) for _, value in body.all((*_FIRED_FIELDS, *_TIME_FIELDS))]
    order = _id(body, ("id",))
    if any(character.isdigit() for character in order):
        return json.dumps(["id", order, *times, *who])
    if times:
        return json.dumps(["time", *who, *([key, str(value)] for key, value in body.all(_TOLD_APART_BY))])
    return ""


def _id(body: AlertBody, names: Iterable[str]) -> str:
    found = body.one(names)
    if found is None or isinstance(found[1], bool):
        return ""
    key, given = found[0], str(found[1])
    if given.startswith("<") and given.endswith(">"):
        return ""
    if len(given) > NAME_CHARACTERS_MAX:
        raise BadInput(f"alert: {key} must be at most {NAME_CHARACTERS_MAX} characters, was {len(given)}")
    return given
