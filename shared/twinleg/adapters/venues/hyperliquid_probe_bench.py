"""The bench that probes stand on: raw requests on two accounts of one market, kept word for word, and tidied away.

For asking a test network (or the paper venue) what its documents leave open. Orders are placed here without the gate's
approval, so it refuses mainnet, and ends with nothing left: every order cancelled, every position closed reduce-only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from twinleg.adapters.venues import hyperliquid_weights as weights
from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_http import NetworkFault
from twinleg.adapters.venues.hyperliquid_reads import number
from twinleg.adapters.venues.hyperliquid_wire import Wire, signed_body
from twinleg.domain.candles import ms_from_utc
from twinleg.domain.errors import BadInput, TwinlegError, Unavailable
from twinleg.domain.ids import coin_of, digest_of
from twinleg.domain.markets import MarketRules
from twinleg.domain.money import ceil_to, plain
from twinleg.engine.ports import Clock, SignerRole

PREFIX = "0x" + digest_of("twinleg", "probe")[:12]
"""How the client order ids of all probes begin, so that a later run knows what an earlier one left."""
NOTIONAL_USD = Decimal("11")
"""Of a tiny order: the venue's minimum of 10 and a margin for a price that moves."""
WEIGHT_SHARE_MAX = 700
"""Of 1200 a minute; above it the bench waits."""
TIDY_ROUNDS = 8
SETTLE_SECONDS = 1.5
AGREE_SECONDS = 5.0
WORDS_MAX = 220
ECHOED = re.compile(r',"cloid":"0x[0-9a-f]{32}"')
"""Our own client order id, which the venue repeats in its answer, is left out of the words shown."""


class Untold(Exception):
    """A question that could not be told, and why."""


class LeftBehind(TwinlegError):
    """What could not be cancelled or closed, and what to do about it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}. Probe again, which begins by removing what a probe left, or close it by hand")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from ``/exchange``."""

    nonce: int
    status: int
    text: str

    @property
    def raw(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def accepted(self) -> bool:
        return self.status == 200 and self.raw.get("status") == "ok"

    @property
    def refusal(self) -> str:
        """The venue's words for refusing the whole action; empty when it did not."""
        return str(self.raw.get("response", "")) if self.status == 200 and self.raw.get("status") == "err" else ""

    @property
    def words(self) -> str:
        if self.refusal:
            return self.refusal
        if not self.accepted:
            return f"HTTP {self.status}: {self.text[:WORDS_MAX]}"
        data = self.raw["response"].get("data")
        said = data["statuses"] if isinstance(data, dict) and "statuses" in data else "ok"
        if said == "ok":
            return "ok"
        return ECHOED.sub("", json.dumps(said, separators=(",", ":")))[:WORDS_MAX]


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of one order of a request, in the venue's word: resting, filled, error, waitingFor…"""

    word: str
    client_order_id: str
    order_id: int | None = None
    filled: Decimal = Decimal(0)
    error: str = ""


@dataclass(slots=True)
class Bench:
    """Two accounts of one market. ``said`` is the evidence of the question being asked."""

    venue: HyperliquidVenue
    clock: Clock
    market: str
    main: str
    hedge: str
    said: list[str] = field(default_factory=list)
    _last: dict[str, int] = field(default_factory=dict)
    _made: int = 0
    _leverage: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.venue.network == "mainnet":
            raise BadInput("probes are for a test network: they place orders without the gate, and never on mainnet")

    # -- numbers ---------------------------------------------------------------------------------

    @property
    def accounts(self) -> tuple[str, str]:
        return self.main, self.hedge

    @property
    def coin(self) -> str:
        return coin_of(self.market)

    @property
    def rules(self) -> MarketRules:
        return self.venue.rules(self.market)

    def now_ms(self) -> int:
        return ms_from_utc(self.venue.time())

    def context(self) -> tuple[Decimal, Decimal]:
        """(mark, oracle)."""
        meta, contexts = self.ask({"type": "metaAndAssetCtxs"})
        found = contexts[[listed["name"] for listed in meta["universe"]].index(self.coin)]
        return number(found["markPx"]), number(found["oraclePx"])

    @property
    def mark(self) -> Decimal:
        return self.context()[0]

    def quote(self) -> tuple[Decimal, Decimal]:
        """(best bid, best ask)."""
        bids, asks = self.ask({"type": "l2Book", "coin": self.coin})["levels"]
        if not bids or not asks:
            raise Untold(f"the book of {self.coin} has no two sides")
        return number(bids[0]["px"]), number(asks[0]["px"])

    def size(self, price: Decimal, usd: Decimal = NOTIONAL_USD) -> Decimal:
        """The smallest size worth *usd* at a price."""
        return ceil_to(usd / price, self.rules.lot)

    def price(self, wanted: Decimal) -> Decimal:
        """The price below *wanted* that the venue takes."""
        found: Decimal = self.rules.price(wanted, up=False)
        return found

    # -- asking ----------------------------------------------------------------------------------

    def ask(self, request: Mapping[str, Any]) -> Any:
        """A read, as answered (decimals as Decimal)."""
        return self.venue._info(request)

    def note(self, text: str) -> None:
        """Keep a piece of evidence."""
        self.said.append(text)

    def orders(self, account: str) -> list[Mapping[str, Any]]:
        """What rests or waits for its trigger, in every market."""
        rows: list[Mapping[str, Any]] = self.ask({"type": "frontendOpenOrders", "user": self._user(account)})
        return rows

    def positions(self, account: str) -> list[Mapping[str, Any]]:
        """What the account holds, in every market."""
        state = self.ask({"type": "clearinghouseState", "user": self._user(account)})
        found = [row["position"] for row in state["assetPositions"]]
        return [position for position in found if number(position["szi"]) != 0]

    def held(self, account: str) -> Decimal:
        """Signed size held in the market."""
        return next((number(p["szi"]) for p in self.positions(account) if p["coin"] == self.coin), Decimal(0))

    def status(self, account: str, client_order_id: str) -> Mapping[str, Any]:
        """``{status, sz, origSz}`` of an order; Untold when the venue does not know it."""
        raw = self.ask({"type": "orderStatus", "user": self._user(account), "oid": client_order_id})
        if raw.get("status") != "order":
            raise Untold(f"the venue does not know its own order: {raw}")
        found, order = raw["order"], raw["order"]["order"]
        said = {"status": found["status"], "sz": str(order["sz"]), "origSz": str(order["origSz"])}
        self.note(f"orderStatus → {json.dumps(said)}")
        return said

    def settle(self) -> None:
        """Wait until a read may be expected to show what was just done."""
        self.clock.sleep(SETTLE_SECONDS)

    def agreed[T](self, read: Callable[[], T]) -> T:
        """What two reads some seconds apart both say; Untold when they do not."""
        self.settle()
        first = read()
        self.clock.sleep(AGREE_SECONDS)
        second = read()
        if first != second:
            raise Untold(f"two reads disagree: {first}, then {second}")
        return second

    def _user(self, account: str) -> str:
        return self.venue._account(account).address

    # -- acting ----------------------------------------------------------------------------------

    def fresh_nonce(self, account: str) -> int:
        """A nonce that this run has not used, by the venue's own time."""
        signer = self.venue.signer(account, SignerRole.EXECUTE)
        self._last[signer] = max(self.now_ms(), self._last.get(signer, 0) + 1)
        return self._last[signer]

    def act(
        self, account: str, wire: Wire, what: str, *, nonce: int | None = None, expires_ms: int | None = None
    ) -> Answer:
        """Sign a raw action, send it once, keep what was answered. Raises Untold when there was no answer."""
        where = self.venue._account(account)
        used = self.fresh_nonce(account) if nonce is None else nonce
        body = signed_body(
            self.venue._wallet(account, SignerRole.EXECUTE), wire,
            vault=where.address if where.master else None, nonce=used, expires_ms=expires_ms, mainnet=False,
        )  # fmt: skip
        self.venue._weights.spend(weights.of_action(_parts(wire)))
        try:
            status, text = self.venue._channel.post("/exchange", body.encode())
        except NetworkFault as fault:
            self.note(f"{what} → no answer: {fault}")
            raise Untold(f"no answer came: {fault}") from fault
        answer = Answer(used, status, text)
        self.note(f"{what} → {answer.words}")
        if status in (429, 500, 502, 503, 504):
            raise Untold(f"the venue could not answer: HTTP {status}")
        return answer

    def noop(self, account: str, nonce: int | None = None) -> Answer:
        """Spend a nonce on nothing, or learn that it is spent."""
        return self.act(
            account, {"type": "noop"}, "noop" if nonce is None else "noop under the same nonce", nonce=nonce
        )

    def leverage(self, account: str, leverage: int, *, cross: bool = True) -> Answer:
        wire = {"type": "updateLeverage", "asset": self.rules.asset, "isCross": cross, "leverage": leverage}
        return self.act(account, wire, f"leverage {leverage}x {'cross' if cross else 'isolated'}")

    def set_leverage(self, account: str, leverage: int, *, cross: bool = True) -> None:
        answer = self.leverage(account, leverage, cross=cross)
        if not answer.accepted:
            raise Untold(f"leverage {leverage}x could not be set: {answer.words}")

    def new_id(self) -> str:
        """A client order id of this probe."""
        self._made += 1
        return PREFIX + digest_of(str(self.now_ms()), str(self._made))[: 34 - len(PREFIX)]

    def order(
        self,
        side: str,
        price: Decimal,
        size: Decimal,
        *,
        tif: str = "Ioc",
        reduce_only: bool = False,
        trigger: str = "",
        client_order_id: str = "",
    ) -> Wire:
        """One order in the venue's form. ``trigger`` (``sl`` or ``tp``) makes *price* the trigger's."""
        kind: Wire = {"limit": {"tif": tif}}
        if trigger:
            kind = {"trigger": {"isMarket": True, "triggerPx": plain(price), "tpsl": trigger}}
        return {
            "a": self.rules.asset, "b": side == "buy", "p": plain(price), "s": plain(size), "r": reduce_only,
            "t": kind, "c": client_order_id or self.new_id(),
        }  # fmt: skip

    def place(self, account: str, *wires: Wire, grouping: str = "na") -> tuple[Placed, ...]:
        """Place orders; what the venue said of each. Untold when it refused the request whole."""
        what = (
            f"{account}: " + ", ".join(_words(wire) for wire in wires) + ("" if grouping == "na" else f" [{grouping}]")
        )
        answer = self.act(account, {"type": "order", "orders": list(wires), "grouping": grouping}, what)
        if not answer.accepted:
            raise Untold(f"the order was not taken up: {answer.words}")
        statuses: Sequence[Any] = answer.raw["response"]["data"]["statuses"]
        if len(statuses) == 1 and len(wires) > 1:
            statuses = [statuses[0]] * len(wires)
        return tuple(_placed(status, wire["c"]) for status, wire in zip(statuses, wires, strict=True))

    def modify(self, account: str, order_id: int, wire: Wire) -> Answer:
        what = f"{account}: modify into {_words(wire)}"
        return self.act(account, {"type": "modify", "oid": order_id, "order": wire}, what)

    # -- arrangements ----------------------------------------------------------------------------

    def enter(self, *, limit: Decimal | None = None, size: Decimal | None = None) -> Decimal:
        """Buy a tiny position with the main account; its size."""
        _, ask = self.quote()
        price = limit or self.price(ask * Decimal("1.02"))
        [placed] = self.place(self.main, self.order("buy", price, size or self.size(ask)))
        if placed.word != "filled":
            raise Untold(f"a tiny position could not be opened: {placed.error or placed.word}")
        self.settle()
        return placed.filled

    def offer(self) -> tuple[Decimal, Decimal]:
        """The hedge account offers a tiny size inside the spread, so that an order of the main account that asks for
        twice as much fills in part: (price, size).
        """
        for _ in range(3):
            bid, ask = self.quote()
            price: Decimal = self.rules.price((bid + ask) / 2, up=True)
            if not bid < price < ask:
                raise Untold(f"nothing fits between {plain(bid)} and {plain(ask)}: choose another market with --market")
            size = self.size(price)
            [placed] = self.place(self.hedge, self.order("sell", price, size, tif="Alo"))
            if placed.word == "resting":
                return price, size
        raise Untold("an offer inside the spread could not be placed")

    # -- tidying ---------------------------------------------------------------------------------

    def spare(self) -> None:
        """Wait while much of what the venue takes a minute is used."""
        while self.venue.weight()[0] > WEIGHT_SHARE_MAX:
            self.clock.sleep(5)

    def remember_leverage(self) -> None:
        """Note both accounts' settings, to be put back by ``restore``."""
        for account in self.accounts:
            self._leverage[account] = self.venue.leverage(account, self.market)

    def restore(self) -> None:
        """Put the leverage back as it was found. Only when nothing is held."""
        for account, (leverage, isolated) in self._leverage.items():
            if self.venue.leverage(account, self.market) != (leverage, isolated):
                self.leverage(account, leverage, cross=not isolated)

    def leftovers(self) -> list[str]:
        """Orders and positions of both accounts, in words."""
        found = []
        for account in self.accounts:
            found += [f"{account} holds {p['szi']} {p['coin']}" for p in self.positions(account)]
            found += [f"order {o['oid']} of {account} rests in {o['coin']}" for o in self.orders(account)]
        return found

    def is_from_a_probe(self) -> bool:
        """Whether all that both accounts hold and rest was made by probes in this market, by its client order ids."""
        since = self.venue.time() - timedelta(days=2)
        for account in self.accounts:
            if any(o["coin"] != self.coin or not _is_ours(o.get("cloid")) for o in self.orders(account)):
                return False
            held = self.positions(account)
            if any(p["coin"] != self.coin for p in held):
                return False
            fills = [f for f in self.venue.fills(account, since) if f.market == self.market] if held else []
            if held and not (fills and _is_ours(fills[-1].client_order_id)):
                return False
        return True

    def tidy(self) -> None:
        """Cancel every order and close every position in the market, and read that nothing is left.

        Raises LeftBehind with what could not be removed.
        """
        trouble = ""
        for attempt in range(TIDY_ROUNDS):
            try:
                if self._tidied(attempt):
                    return
            except (Untold, Unavailable) as failure:
                trouble = str(failure)
            self.clock.sleep(1.0 + attempt)
        try:
            left = self.leftovers()
        except Unavailable as failure:
            left = [f"what is left could not be read: {failure}"]
        if left:
            raise LeftBehind("; ".join([*left, *([trouble] if trouble else [])]))

    def _tidied(self, attempt: int) -> bool:
        """One round; whether a read found nothing to do."""
        quiet = True
        for account in self.accounts:
            resting = [order for order in self.orders(account) if order["coin"] == self.coin]
            if resting:
                quiet = False
                cancels = [{"a": self.rules.asset, "o": order["oid"]} for order in resting[:100]]
                self.act(account, {"type": "cancel", "cancels": cancels}, f"{account}: cancel {len(cancels)}")
        for account in self.accounts:
            held = self.held(account)
            if held:
                quiet = False
                slip = min(Decimal("0.02") * (attempt + 1), Decimal("0.09"))
                bid, ask = self.quote()
                price = self.price(bid * (1 - slip) if held > 0 else ask * (1 + slip))
                side = "sell" if held > 0 else "buy"
                self.place(account, self.order(side, price, abs(held), reduce_only=True))
        if quiet and attempt == 0:
            return True
        if quiet:  # a read just after an order may be of before it
            self.clock.sleep(AGREE_SECONDS)
            return not [text for text in self.leftovers() if self.coin in text]
        return False


def _is_ours(client_order_id: str | None) -> bool:
    return (client_order_id or "").startswith(PREFIX)


def _parts(wire: Wire) -> int:
    return max(len(wire.get("orders", ())), len(wire.get("cancels", ())))


def _words(wire: Wire) -> str:
    side, kind = ("buy" if wire["b"] else "sell"), wire["t"]
    only = " reduce-only" if wire["r"] else ""
    if "trigger" in kind:
        return f"{kind['trigger']['tpsl']} {side} {wire['s']} at {wire['p']}{only}"
    return f"{kind['limit']['tif']} {side} {wire['s']} at {wire['p']}{only}"


def _placed(status: Any, client_order_id: str) -> Placed:
    if isinstance(status, str):
        return Placed(status, client_order_id)
    match status:
        case {"resting": {"oid": int(order_id)}}:
            return Placed("resting", client_order_id, order_id)
        case {"filled": {"oid": int(order_id), "totalSz": str(size)}}:
            return Placed("filled", client_order_id, order_id, number(size))
        case {"error": str(error)}:
            return Placed("error", client_order_id, error=error)
    raise Untold(f"an answer in an unknown shape: {str(status)[:WORDS_MAX]}")
