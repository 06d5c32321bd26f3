"""A paper venue in process for tests: candles in one line, orders in another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from twinleg.domain.candles import Candle
from twinleg.paper.exchange import Exchange
from twinleg.paper.options import Switches, VenueOptions
from twinleg.paper.signatures import USER_SIGNED

D = Decimal
START = datetime(2025, 5, 1, 12, 30, tzinfo=UTC)
START_MS = round(START.timestamp() * 1000)
MINUTE = 60_000
ALICE = "0x" + "a1" * 20
BOB = "0x" + "b0" * 20
CAROL = "0x" + "ca" * 20
ASSETS = {"BTC": 0, "ETH": 1, "SOL": 5}


def candle(minute: int, *prices: object, volume: object = 100) -> Candle:
    """A bar at START + minute: open, high, low, close; or one price for a flat bar."""
    texts = [D(str(p)) for p in prices]
    o, h, low, c = texts * 4 if len(texts) == 1 else texts
    return Candle(START + timedelta(minutes=minute), o, h, low, c, D(str(volume)))


def flat(price: object, count: int = 5, first: int = 0) -> list[Candle]:
    return [candle(first + i, price) for i in range(count)]


class Bench:
    """One venue on given candles; starts at the open of minute 0 unless told otherwise."""

    def __init__(self, candles: dict[str, list[Candle]], *, switches: Switches | None = None, **options: Any) -> None:
        options.setdefault("start_ms", START_MS)
        self.exchange = Exchange(VenueOptions(candles=candles, switches=switches or Switches(), **options))
        self.state = self.exchange.state
        self._nonce = START_MS

    def send(self, user: str, action: dict[str, Any], **envelope: Any) -> Any:
        self._nonce += 1
        envelope.setdefault("nonce", self._nonce)
        if action["type"] in ("usdSend", "withdraw3", "spotSend"):
            action = {"hyperliquidChain": "Testnet", "time": envelope["nonce"], **action}
        elif action["type"] in USER_SIGNED:
            action = {"hyperliquidChain": "Testnet", "nonce": envelope["nonce"], **action}
        elif action["type"] == "agentSendAsset":
            action = {"nonce": envelope["nonce"], **action}
        return self.exchange.execute({"action": action, **envelope}, user)

    def orders(self, user: str, *wires: dict[str, Any], grouping: str = "na") -> list[Any]:
        answer = self.send(user, {"type": "order", "orders": list(wires), "grouping": grouping})
        assert answer["status"] == "ok", answer
        return answer["response"]["data"]["statuses"]

    def order(self, user: str, *args: Any, **kwargs: Any) -> Any:
        return self.orders(user, wire(*args, **kwargs))[0]

    def cancel(self, user: str, oid: int, coin: str = "BTC") -> Any:
        answer = self.send(user, {"type": "cancel", "cancels": [{"a": ASSETS[coin], "o": oid}]})
        return answer["response"]["data"]["statuses"][0]

    def leverage(self, user: str, leverage: int, cross: bool = True, coin: str = "BTC") -> Any:
        action = {"type": "updateLeverage", "asset": ASSETS[coin], "isCross": cross, "leverage": leverage}
        return self.send(user, action)

    def minutes(self, count: float) -> None:
        self.exchange.advance(self.state.now_ms + round(count * MINUTE))

    def ask(self, kind: str, user: str | None = None, **more: Any) -> Any:
        body = {"type": kind, **({"user": user} if user else {}), **more}
        status, answer = self.exchange.info(body)
        assert status == 200, (status, answer)
        return answer

    def position(self, user: str, coin: str = "BTC") -> dict[str, Any] | None:
        rows = [p["position"] for p in self.ask("clearinghouseState", user)["assetPositions"]]
        return next((p for p in rows if p["coin"] == coin), None)

    def status(self, user: str, oid: int) -> str:
        answer = self.ask("orderStatus", user, oid=oid)
        return answer["order"]["status"] if answer["status"] == "order" else "unknownOid"

    def balanced(self) -> bool:
        """Every account's cash equals its books, and the books sum to nothing."""
        books = self.state.books
        return books.total() == 0 and all(
            account.cash() == books.balances.get(address, D(0)) for address, account in self.state.accounts.items()
        )


def wire(
    buy: bool,
    price: object,
    size: object,
    tif: str = "Gtc",
    *,
    reduce_only: bool = False,
    cloid: str | None = None,
    coin: str = "BTC",
    stop: object = None,
    target: object = None,
    market: bool = True,
) -> dict[str, Any]:
    """An order as clients send it; ``stop`` or ``target`` makes it a trigger."""
    if stop is not None or target is not None:
        trigger = stop if stop is not None else target
        kind: dict[str, Any] = {
            "trigger": {"isMarket": market, "triggerPx": str(trigger), "tpsl": "tp" if stop is None else "sl"}
        }
        reduce_only = True
    else:
        kind = {"limit": {"tif": tif}}
    out = {"a": ASSETS[coin], "b": buy, "p": str(price), "s": str(size), "r": reduce_only, "t": kind}
    return out | ({"c": cloid} if cloid else {})


def cloid(number: int) -> str:
    return f"0x{number:032x}"
