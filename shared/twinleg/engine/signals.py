"""on_candle and on_alert: what strategies and alerts say becomes hedged intents, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal

from twinleg.domain.alerts import AlertAction, AlertReceived
from twinleg.domain.candles import Candle
from twinleg.domain.errors import Conflict, Unavailable
from twinleg.domain.ids import account_market, intent_id
from twinleg.domain.messages import (
    AlertMessage,
    CandleClosed,
    CloseTrade,
    EventKind,
    HedgedIntent,
    IntentAction,
    LegPlan,
    Topic,
)
from twinleg.domain.money import plain
from twinleg.domain.orders import LegRole, OrderKind, Side
from twinleg.domain.signals import Direction, Signal
from twinleg.domain.trades import ENDED, Trade, TradeState
from twinleg.engine.config import MarketPlan, StrategyPlan
from twinleg.engine.measures import measure
from twinleg.engine.pages import alert_document, decision_document, message_of
from twinleg.engine.ports import Document, Exists
from twinleg.engine.records import read
from twinleg.engine.system import Engine
from twinleg.engine.window import candles_until, recent_range_percent, rows_of
from twinleg.risk.limits import Limits

ALERT_STRATEGY = "tradingview"
REDUCE_FRACTION = Decimal("0.5")
"""What an alert that reduces, without saying by how much, takes off."""


def on_candle(engine: Engine, message: CandleClosed) -> str:
    """Ask every strategy of the market what it makes of this close. Suspect candles are not traded on."""
    plan = engine.desk.markets.get(message.market)
    if plan is None:
        return f"{message.market} is not traded here"
    if message.suspect:
        return f"suspect candle of {message.opened_at:%Y-%m-%dT%H:%MZ}: no signal"
    stored = engine.store.get("markets", message.market)
    strategies = [engine.desk.strategies[name] for name in plan.strategies]
    count = engine.desk.window if any(strategy.strategy for strategy in strategies) else 1
    candles = candles_until(rows_of(stored), message.opened_at, count)
    if not candles or candles[-1].opened_at != message.opened_at:
        raise Unavailable(f"{message.market}: the window does not hold {message.opened_at:%Y-%m-%dT%H:%MZ} yet")
    said: list[str] = []
    for strategy in strategies:
        signal = strategy.strategy.decide(plan.market, candles) if strategy.strategy else None
        if signal is not None:
            said.append(act_on(engine, plan, strategy, signal, candles, cause=_candle_words(message)))
    since_fetched = (engine.now() - message.received_at).total_seconds()
    measure("candle_to_signal_seconds", since_fetched)
    return "; ".join(said) or "no signal"


def on_alert(engine: Engine, message: AlertMessage) -> str:
    """An alert is the signal: what it asks is compared with what we hold. However often it arrives, it acts once."""
    alert = message.alert
    plan = engine.desk.market_of_coin(alert.market_ticker)
    if plan is None or ALERT_STRATEGY not in plan.strategies:
        return _ignore_alert(engine, alert, f"{alert.market_ticker} is not traded on alerts here")
    strategy = engine.desk.strategies[ALERT_STRATEGY]
    # An exit never expires.
    unfit = _untellable(engine, alert) or (None if alert.action.exits else _stale_alert(engine, alert, strategy.limits))
    if unfit:
        return _ignore_alert(engine, alert, unfit, plan.market)
    trigger = _alert_trigger(engine, alert, strategy.limits)
    if trigger is None:
        return _ignore_alert(engine, alert, "the same text arrived before, within its window", plan.market)
    wanted = _wanted(alert)
    if isinstance(wanted, Ignored):
        return _ignore_alert(engine, alert, wanted.reason, plan.market)
    id = intent_id(strategy.name, plan.market, trigger)
    if engine.store.get("intents", id) is not None:
        engine.announce(
            EventKind.ALERT_DUPLICATE,
            f"alert {alert.alert_id} {alert.action} arrived again and changes nothing",
            market=plan.market,
            intent_id=id,
        )
    if isinstance(wanted, Exit):
        exit_wanted = wanted
        return act_once(
            engine, id, strategy.name, plan, lambda: _exit(engine, plan, alert, exit_wanted, trigger),
            received_at=alert.received_at, cause=_alert_words(alert),
        )  # fmt: skip
    stored = engine.store.get("markets", plan.market)
    signal = Signal(
        strategy=strategy.name,
        market=plan.market,
        direction=wanted,
        confidence=Decimal(engine.desk.alert_confidence),
        trigger=trigger,
        at=alert.fired_at or alert.received_at,
        reason=f"alert {alert.action}",
    )
    candles = candles_until(rows_of(stored), engine.now(), engine.desk.window)
    reverse = alert.action in (AlertAction.REVERSE_TO_LONG, AlertAction.REVERSE_TO_SHORT)
    return act_on(
        engine, plan, strategy, signal, candles,
        reverse=reverse, received_at=alert.received_at, cause=_alert_words(alert),
    )  # fmt: skip


def act_on(
    engine: Engine,
    plan: MarketPlan,
    strategy: StrategyPlan,
    signal: Signal,
    candles: list[Candle],
    *,
    reverse: bool = False,
    received_at: datetime | None = None,
    cause: str,
) -> str:
    """Same direction as held: ignored. Opposite: close, or reverse if asked to. Nothing held: open."""

    def decide() -> Decision:
        held = holding(engine, plan)
        if held is None:
            return _opening(engine, plan, strategy, signal, candles, replaces="")
        if held.intent.direction is signal.direction:
            return Decision(f"{plan.market} is held {held.intent.direction} already ({held.trade_id})")
        if reverse or strategy.on_opposite == "reverse":
            return _opening(engine, plan, strategy, signal, candles, replaces=held.trade_id)
        return _closing(held, Decimal(1), f"opposite signal of {signal.strategy}", signal.trigger)

    id = intent_id(signal.strategy, signal.market, signal.trigger)
    return act_once(engine, id, signal.strategy, plan, decide, received_at=received_at, cause=cause)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a signal or alert came to: an intent to open, a trade to close, or nothing and why."""

    reason: str
    message: HedgedIntent | CloseTrade | None = None


def act_once(
    engine: Engine,
    id: str,
    strategy: str,
    plan: MarketPlan,
    decide: Callable[[], Decision],
    *,
    received_at: datetime | None = None,
    cause: str,
) -> str:
    """Decide once, for ever: the decision is recorded under an id made of what caused it, then published.

    A signal or alert delivered again finds the decision and publishes it again as it was made, which
    execution finds done; it never decides anew against a position that has changed since. *received_at* is when an
    alert behind it came in: how long it took from there is measured. *cause* is the candle or alert in words.
    """
    stored = engine.store.get("intents", id)
    if stored is None:
        decision = decide()
        data = decision_document(
            decision.message, strategy=strategy, market=plan.market, reason=decision.reason, at=engine.now(),
            cause=cause,
        )  # fmt: skip
        try:
            engine.store.create("intents", id, data)
        except Exists:
            raise Conflict(f"{id}: decided elsewhere at the same time") from None
        kind = EventKind.SIGNAL if decision.message else EventKind.SIGNAL_IGNORED
        engine.announce(kind, f"{strategy}: {decision.reason}", market=plan.market, intent_id=id)
    else:
        data = dict(stored.data)
    said = _publish(engine, data)
    if stored is None and received_at is not None and data["decision"] != "ignored":
        measure("alert_to_intent_seconds", (engine.now() - received_at).total_seconds(), market=plan.market)
    return said


def _publish(engine: Engine, data: Document) -> str:
    """Publish a recorded decision."""
    body = message_of(data).encode()
    if data["decision"] == "close":
        engine.bus.publish(Topic.CLOSES, body, attributes={"kind": "close"})
    elif data["decision"] == "open":
        intent = HedgedIntent.model_validate_json(body)
        key = account_market(intent.main.account, intent.market)
        engine.bus.publish(Topic.INTENTS, body, key=key, attributes={"ordering_key": key, "kind": "intent"})
    return str(data["summary"])


def _candle_words(message: CandleClosed) -> str:
    c = message.candle
    return (
        f"candle of {message.market} closed at {message.closed_at:%Y-%m-%dT%H:%M:%SZ}: open {plain(c.open)}, "
        f"high {plain(c.high)}, low {plain(c.low)}, close {plain(c.close)}, volume {plain(c.volume)}; "
        f"received {message.received_at:%H:%M:%S}"
    )


def _alert_words(alert: AlertReceived) -> str:
    fired = f"fired {alert.fired_at:%Y-%m-%dT%H:%M:%SZ}, " if alert.fired_at else ""
    price = f" at {plain(alert.price)}" if alert.price is not None else ""
    return (
        f"alert {alert.alert_id} (known by its {alert.id_source}): {alert.action} {alert.market_ticker}{price}; "
        f"{fired}received {alert.received_at:%Y-%m-%dT%H:%M:%SZ}"
    )


def holding(engine: Engine, plan: MarketPlan) -> Trade | None:
    """The trade that holds the market's main slot, if one does."""
    slot = engine.store.get("positions", account_market(plan.main_account, plan.market))
    owner = str(slot.data.get("owner") or "") if slot else ""
    found = read(engine.store, "trades", owner, Trade) if owner else None
    return found[0] if found else None


def _closing(trade: Trade, fraction: Decimal, reason: str, trigger: str) -> Decision:
    """A close of a trade (or a fraction of both its legs), identified by what caused it."""
    request = CloseTrade(
        trade_id=trade.trade_id,
        fraction=fraction,
        reason=reason,
        request_id=intent_id("close", trade.main.market, f"{trade.trade_id}|{trigger}"),
    )
    return Decision(f"{reason}: close {plain(fraction * 100)} % of {trade.trade_id}", request)


# -- intents ---------------------------------------------------------------------------------------


def _opening(
    engine: Engine, plan: MarketPlan, strategy: StrategyPlan, signal: Signal, candles: list[Candle], *, replaces: str
) -> Decision:
    if not candles:
        raise Unavailable(f"{plan.market} has no candle yet: no reference price and no range")
    intent = hedged_intent(engine, plan, strategy, signal, candles, replaces=replaces)
    return Decision(f"{signal.direction} {plan.market}, confidence {signal.confidence}: {signal.reason}", intent)


def hedged_intent(
    engine: Engine,
    plan: MarketPlan,
    strategy: StrategyPlan,
    signal: Signal,
    candles: list[Candle],
    *,
    replaces: str = "",
) -> HedgedIntent:
    """The intent a signal makes: legs on their two accounts, leverage from confidence, limits of the strategy."""
    limits, now = strategy.limits, engine.now()
    leverage = main_leverage(signal.confidence, limits)
    hedge_leverage = max(1, int((leverage * limits.hedge_leverage_ratio).to_integral_value(ROUND_FLOOR)))
    main_side = Side.opening(signal.direction)
    main_share = limits.main_margin_percent / 100
    return HedgedIntent(
        intent_id=intent_id(signal.strategy, signal.market, signal.trigger),
        action=IntentAction.REVERSE if replaces else IntentAction.OPEN,
        strategy=signal.strategy,
        market=plan.market,
        direction=signal.direction,
        confidence=signal.confidence,
        main=LegPlan(
            role=LegRole.MAIN, account=plan.main_account, market=plan.market,
            side=main_side, leverage=leverage, margin_share=main_share,
        ),
        hedge=LegPlan(
            role=LegRole.HEDGE, account=plan.hedge_account, market=plan.hedge_market,
            side=main_side.opposite, leverage=hedge_leverage, margin_share=1 - main_share,
        ),
        order_kind=OrderKind.LIMIT if limits.entry_order == "limit" else OrderKind.MARKET,
        stop_percent=limits.stop_percent,
        target_percent=limits.target_percent,
        budget_percent=limits.budget_percent,
        de_minimis=limits.de_minimis,
        holding_seconds_max=limits.holding_seconds_max,
        slippage_bps=limits.slippage_bps,
        range_percent=recent_range_percent(candles),
        reference_price=candles[-1].close,
        trigger=signal.trigger,
        trigger_at=signal.at,
        reason=signal.reason,
        created_at=now,
        expires_at=signal.at + timedelta(seconds=limits.intent_expiry_seconds),
        replaces=replaces,
    )  # fmt: skip


def main_leverage(confidence: Decimal, limits: Limits) -> int:
    """Confidence times the cap, rounded down, at least 1."""
    return max(1, int((confidence * limits.leverage_max).to_integral_value(ROUND_FLOOR)))


# -- alerts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exit:
    """Close a fraction of what is held, if it is held in this direction (None: in either)."""

    fraction: Decimal
    direction: Direction | None


@dataclass(frozen=True, slots=True)
class Ignored:
    reason: str


def _wanted(alert: AlertReceived) -> Direction | Exit | Ignored:
    """What an alert asks for: a direction to open, a position to leave, or the reason it is ignored."""
    match alert.action:
        case AlertAction.ADD:
            return Ignored("it adds to a position, which this system does not do")
        case AlertAction.OPEN_LONG | AlertAction.REVERSE_TO_LONG:
            return Direction.LONG
        case AlertAction.OPEN_SHORT | AlertAction.REVERSE_TO_SHORT:
            return Direction.SHORT
        case AlertAction.CLOSE_LONG:
            return Exit(alert.fraction or Decimal(1), Direction.LONG)
        case AlertAction.CLOSE_SHORT:
            return Exit(alert.fraction or Decimal(1), Direction.SHORT)
        case AlertAction.REDUCE:
            return Exit(alert.fraction or REDUCE_FRACTION, alert.direction)
        case AlertAction.CLOSE:
            return Exit(alert.fraction or Decimal(1), None)


def _exit(engine: Engine, plan: MarketPlan, alert: AlertReceived, wanted: Exit, trigger: str) -> Decision:
    """An exit never expires and waits for a trade that is between its legs; it is of no trade younger than itself."""
    held = holding(engine, plan)
    if held is None and _opening_soon(engine, plan):
        raise Unavailable(f"{plan.market}: an entry decided before this exit has not been looked at yet")
    if held is None or held.state in (TradeState.CLOSING, TradeState.UNWINDING, *ENDED):
        return Decision(f"alert {alert.action}: there is no open trade in {plan.market}")
    if wanted.direction not in (None, held.intent.direction):
        return Decision(f"alert {alert.action}: we hold a {held.intent.direction}")
    fired_at, opened_for = alert.fired_at or alert.received_at, held.intent.trigger_at
    if fired_at < opened_for:
        return Decision(
            f"alert {alert.action}: it fired at {fired_at.isoformat()}, before what {held.trade_id} was opened for "
            f"({opened_for.isoformat()})"
        )
    return _closing(held, wanted.fraction, f"alert {alert.action}", trigger)


def _opening_soon(engine: Engine, plan: MarketPlan) -> bool:
    """Whether an entry is decided and still fresh, but execution has not come to it."""
    waiting = engine.store.query("intents", {"market": plan.market, "decision": "open", "status": "proposed"})
    return any(intent.data["expires_at"] >= engine.now() for intent in waiting)


def _stale_alert(engine: Engine, alert: AlertReceived, limits: Limits) -> str | None:
    fired_at = alert.fired_at or alert.received_at
    age = (engine.now() - fired_at).total_seconds()
    if age > limits.alert_window_seconds:
        return f"alert_age_seconds {age:.0f} > alert_window_seconds {limits.alert_window_seconds}"
    if age < -limits.alert_window_seconds:
        return f"it says it fired {-age:.0f} s in the future"
    return None


def _untellable(engine: Engine, alert: AlertReceived) -> str | None:
    if engine.desk.live and alert.id_source == "text":
        return "it carries neither an id nor a time, so it can be told from no other: put {{timenow}} into its text"
    return None


def _alert_trigger(engine: Engine, alert: AlertReceived, limits: Limits) -> str | None:
    """What identifies the alert: its template id for ever; its text only within an arrival window.

    None when the same text made an intent within the window.
    """
    if alert.id_source == "template":
        return alert.alert_id
    id = alert.alert_id
    earlier = engine.store.get("alerts", id)
    if earlier is not None:
        first = earlier.data["first_received_at"]
        same = first == alert.received_at
        if not same and (alert.received_at - first).total_seconds() < limits.alert_window_seconds:
            return None
    data = alert_document(alert.alert_id, alert.received_at)
    if earlier is None:
        try:
            engine.store.create("alerts", id, data)
        except Exists:
            raise Unavailable(f"alert {alert.alert_id} arrived twice at once") from None
    elif earlier.data["first_received_at"] != alert.received_at:
        engine.store.compare_and_set("alerts", id, data, earlier.version)
    return f"{alert.alert_id}@{alert.received_at.isoformat()}"


def _ignore_alert(engine: Engine, alert: AlertReceived, reason: str, market: str = "") -> str:
    engine.announce(EventKind.ALERT_IGNORED, f"alert {alert.alert_id} {alert.action}: {reason}", market=market)
    return f"alert ignored: {reason}"
