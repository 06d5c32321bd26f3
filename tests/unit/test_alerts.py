"""Alerts: what is certain is read, what would be a guess is refused in one line, and no secret gets through."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twinleg.domain.alert_meaning import AlertAction, transition
from twinleg.domain.alerts import AlertReceived, parse_alert, redact, secret_in_body
from twinleg.domain.errors import BadInput
from twinleg.domain.messages import AlertMessage
from twinleg.domain.orders import Side
from twinleg.domain.signals import Direction
from twinleg.domain.tickers import coin_of_ticker

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECRET = "correct-horse-9"

REAL_ALERTS = Path(__file__).parents[3] / "shared" / "data" / "dev" / "tradingview"


def parsed(body: str | bytes | dict[str, Any], **more: Any) -> AlertReceived:
    if isinstance(body, dict):
        body = json.dumps(body)
    return parse_alert(body if isinstance(body, bytes) else body.encode(), NOW, **more)


def buy(**fields: Any) -> dict[str, Any]:
    return {"ticker": "ETHUSDT.P", "action": "buy", **fields}


def moved(before: str, after: str, action: str, size_before: str, size_after: str) -> dict[str, Any]:
    """An alert in sections, which says what the strategy's order did to its position."""
    return {
        "general": {"strategy": "Lantern", "ticker": "AVAXUSD", "interval": "15", "time": "2026-07-01T11:45:00Z",
                    "timenow": "2026-07-01T12:00:01Z", "secret": SECRET, "leverage": "4X", "nonce": "lantern-77"},
        "currency": {"quote": "USD", "base": "AVAX"},
        "order": {"action": action, "contracts": "6", "price": "31.7", "id": "Lamp", "comment": ""},
        "market": {"position": after, "position_size": size_after,
                   "previous_position": before, "previous_position_size": size_before},
    }  # fmt: skip


LADDER = '"short SL" : 2310.5, "short TP" : 2100, "long SL" : 2180.25, "long TP" : 2400'

SHAPES: list[tuple[str, str | dict[str, Any], str]] = [
    # the shape, a text of that shape, and what it is: "action COIN" or part of the refusal
    ("comment as action, spaces in keys",
     {"action": "Long entry", "symbol": "SOLUSDT", "exchange": "binance_future", "price": "151.2", "close": "151.2",
      "passphrase": SECRET, "strategy_name": "SOL_5min", "yet another": "thing"}, "open_long SOL"),
    ("side and flags as text",
     {"key": "114477", "exchange": "bybit", "symbol": "XRPUSD", "type": "Market", "side": "Buy", "qty": "30",
      "price": "0.61", "close_position": "False", "cancel_orders": "True", "order_mode": "Both",
      "take_profit_percent": "2", "stop_loss_percent": "0.7"}, "open_long XRP"),
    ("side with a leverage", {"type": "Market", "side": "Buy", "amount": "3", "symbol": "ETHUSD", "stopLoss": "2",
                              "leverage": "5", "key": SECRET}, "open_long ETH"),
    ("side with numbers and None", {"type": "Market", "side": "Buy", "amount": "3", "symbol": "ETHUSD", "stopLoss": 2,
                                    "trailingStop": "None", "takeProfit": 4, "key": SECRET}, "open_long ETH"),
    ("direction, size in per cent", {"direction": "long", "symbol": "DOGE/USDT", "size": "3%", "leverage": 7},
     "open_long DOGE"),
    ("direction, limits in per cent", {"direction": "long", "symbol": "DOGE/USDT", "size": "3%", "price": "0.12",
                                       "stopLoss": "1%", "takeProfit": "3%"}, "open_long DOGE"),
    ("direction, limits as prices", {"direction": "long", "symbol": "DOGE/USDT", "size": "90", "stopLoss": "0.11",
                                     "takeProfit": "0.14"}, "open_long DOGE"),
    ("direction with a margin", {"direction": "long", "symbol": "DOGE/USDT", "size": "90", "margin": "2",
                                 "stopLoss": "0.11"}, "open_long DOGE"),
    ("direction with a list of targets",
     {"direction": "short", "symbol": "DOGE/USDT", "size": "3%", "stopLoss": "1%",
      "takeProfitLevels": [{"price": "40%", "size": "50%"}, {"price": "80%", "size": "50%"}]}, "open_short DOGE"),
    ("direction close, all of it", {"direction": "close", "symbol": "DOGE/USDT", "size": "100%"}, "close DOGE"),
    ("direction close, a part", {"direction": "close", "symbol": "DOGE/USDT", "size": "25%", "price": "0.13"},
     "reduce DOGE 0.25"),
    ("sections, flat to long", moved("flat", "long", "buy", "0", "6"), "open_long AVAX"),
    ("sections, long to flat", moved("long", "flat", "sell", "6", "0"), "close_long AVAX"),
    ("choices never replaced", {"action": "long|short|close", "ticker": "LINK", "amountPercent": 2, "password": SECRET},
     "list of choices"),
    ("action long, bare coin", {"action": "long", "ticker": "LINK", "amountPercent": 2, "password": SECRET},
     "open_long LINK"),
    ("action long, perpetual", {"action": "long", "ticker": "LINKUSDC.P", "amountPercent": 2, "password": SECRET},
     "open_long LINK"),
    ("action close, perpetual", {"action": "close", "ticker": "LINKUSDC.P", "password": SECRET}, "close LINK"),
    ("secret in another script, epoch seconds",
     {"passphrase": "秘密の言葉です", "strategy_name": "BNB_4h", "symbol": "BNBUSDT", "action": "long", "price": 610,
      "tp1": 620, "tp2": 640, "sl": 600, "position_pct": 0.3, "leverage": 9, "timestamp": 1782907100},
     "open_long BNB"),
    ("epoch seconds",
     {"passphrase": SECRET, "strategy_name": "BNB_4h", "symbol": "BNBUSDT", "exchange": "binance", "action": "long",
      "price": 610, "tp1": 620, "sl": 600, "position_pct": 0.3, "timestamp": 1782907100}, "open_long BNB"),
    ("exit is false", {"passphrase": SECRET, "symbol": "BNBUSDT", "action": "long", "price": 610, "qty1": 0.4,
                       "qty2": 0.6, "exit": False, "timestamp": 1782907100}, "open_long BNB"),
    ("side, no secret", {"symbol": "LTCUSDT", "side": "Buy", "qty": "0.4", "orderType": "Market", "category": "linear"},
     "open_long LTC"),
    ("side with an alertId", {"symbol": "LTCUSDT", "side": "Buy", "qty": "0.4", "orderType": "Market", "mode": "paper",
                              "alertId": "ltc-31"}, "open_long LTC"),
    ("side sell, limit, alertId", {"symbol": "LTCUSDT", "side": "Sell", "qty": "0.4", "orderType": "Limit",
                                   "price": "84", "mode": "live", "alertId": "ltc-32"}, "open_short LTC"),
    ("alertId of time and action", {"symbol": "LTCUSDC.P", "side": "Buy", "qty": "0.4", "category": "linear",
                                    "alertId": "2026-07-01T12:00:00Z-buy"}, "open_long LTC"),
    ("trailing comma", '{\n  "symbol": "LTCUSDT",\n  "side": "Buy",\n  "alertId": "ltc-33",\n }', "open_long LTC"),
    ("message says exit",
     '{"ticker": "ETHPERP", "exchange": "FTX", "time": "2026-07-01T11:59:58Z", "action": "sell", "price": 2250,'
     f' "message": "exit", {LADDER}, "passphrase": "{SECRET}", "subaccount": "Desk"}}', "close_long ETH"),
    ("message says entry",
     '{"subaccount": "Desk", "time" : "2026-07-01T11:59:58Z", "action" : "buy", "message" : "entry", "price" : 2250,'
     f' "ticker" : "ETHPERP", "tp1 Mult" : 0.4, "long Breakeven" : 2260, "passphrase" : "{SECRET}"}}', "open_long ETH"),
    ("message says entry, no time, a link",
     f'{{"ticker": "ETHPERP", "action": "buy", "type": "limit", "price": 2240, "message": "entry", {LADDER}, '
     f'"passphrase": "{SECRET}", "chart_url" : "https://www.tradingview.com/chart/abc"}}', "open_long ETH"),
    ("comments on most lines",
     '{\n "ticker" : "ETHUSDC.P", // which\n "time" : "2026-07-01T11:59:58Z",\n "action" : "sell", // buy, sell\n'
     f' "price" : 2250,\n "message" : "entry", // or exit\n {LADDER},\n "passphrase" : "{SECRET}"\n}}',
     "open_short ETH"),
    ("text without quotes",
     '{\n "ticker": ETHUSDC.P, \n "exchange": BYBIT, \n "action": "buy", \n "price": 2250, \n "message": "entry", \n'
     f' {LADDER}, \n "passphrase": "{SECRET}"\n}}', "line 2: ticker: text must be in double quotes"),
    ("one comment",
     '{ "ticker" : "ETHUSDC.P", "time" : "2026-07-01T11:59:58Z", "action" : "buy", "price" : 2250,\n'
     f' "message" : "entry", // entry or exit\n {LADDER}, "passphrase" : "{SECRET}" }}', "open_long ETH"),
    ("no action at all", {"strategy": "lantern", "ticker": "ETHUSDC.P", "interval": "5", "time": "2026-07-01T11:55:00Z",
                          "timenow": "2026-07-01T12:00:01Z", "secret": SECRET, "leverage": "4X"}, "has no action"),
    ("sections, still long", moved("long", "long", "sell", "24", "18"), "reduce AVAX 0.25"),
    ("sections, trailing commas",
     json.dumps(moved("short", "flat", "buy", "6", "0"), indent=1).replace('"\n', '",\n'), "close_short AVAX"),
    ("key=value lines", "EXCHANGE=BYBIT\nSYMBOL=ADAUSDC.P\nSIGNAL=SELL", "open_short ADA"),
    ("key=value lines, limit order",
     "EXCHANGE=binance\nSYMBOL=ADAUSDT\nVOLUME=12\nPRICE=0.44\nTAKE_PROFIT_PRICE=0.5\nSIGNAL=BUY\nORDER_TYPE=LIMIT",
     "open_long ADA"),
]  # fmt: skip


def classified(body: str | dict[str, Any]) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    try:
        alert = parsed(text)
    except BadInput as refusal:
        return str(refusal)
    return f"{alert.action} {alert.market_ticker}" + (f" {alert.fraction}" if alert.fraction else "")


@pytest.mark.parametrize(("body", "expected"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES])
def test_every_known_shape_of_alert_is_understood_or_refused(body: str | dict[str, Any], expected: str) -> None:
    outcome = classified(body)
    assert outcome == expected or (outcome.startswith("alert: ") and expected in outcome)
    assert SECRET not in outcome


def test_there_is_one_text_for_each_known_shape() -> None:
    assert len(SHAPES) == 36


LAYOUTS: list[tuple[str, str | dict[str, Any], str]] = [
    ("byte order mark and line ends", '\ufeff{"ticker":"ETHUSDT.P","action":"buy"}\r\n\n', "open_long ETH"),
    ("semicolons", "symbol=BTCUSDT;signal=close", "close BTC"),
    ("names as placeholders", {"strategy.order.action": "sell", "ticker": "BTCUSDT.P"}, "open_short BTC"),
    ("nested data", {"data": {"Ticker": "BTCUSDT.P", "Action": "SELL"}}, "open_short BTC"),
    ("block comment", '{"ticker":"BTCUSDT.P", /* not "action":"sell" */ "action":"buy"}', "open_long BTC"),
    ("slashes within text", '{"ticker":"BTCUSDT.P","action":"buy","chart":"https://x.y//z,}"}', "open_long BTC"),
    ("emoji and other scripts", {"ticker": "BTCUSDT.P", "action": "buy", "メモ": "買い 🚀"}, "open_long BTC"),
    ("opened words", {"ticker": "BTC", "action": "enter_long"}, "open_long BTC"),
    ("joined words", {"ticker": "BTC", "action": "exitShort"}, "close_short BTC"),
    ("written together", {"ticker": "BTC", "action": "CLOSELONG"}, "close_long BTC"),
    ("cover", {"ticker": "BTC", "action": "buy to cover"}, "close_short BTC"),
    ("flat", {"ticker": "BTC", "action": "flat"}, "close BTC"),
    ("sell short", {"ticker": "BTC", "action": "sell short"}, "open_short BTC"),
    ("reverse", {"ticker": "BTC", "action": "reverse to short"}, "reverse_to_short BTC"),
    ("add", {"ticker": "BTC", "action": "add long"}, "add BTC"),
    ("action and side agree", {"ticker": "BTC", "action": "buy", "side": "long"}, "open_long BTC"),
    ("close and its side", {"ticker": "BTC", "action": "close", "side": "buy"}, "close_short BTC"),
    ("close and its position", {"ticker": "BTC", "action": "close", "direction": "short"}, "close_short BTC"),
    ("close flag", {"ticker": "BTC", "side": "Sell", "close_position": "True"}, "close_long BTC"),
    ("reduce-only", {"ticker": "BTC", "side": "Buy", "reduceOnly": True}, "close_short BTC"),
    ("close of a size of theirs", {"ticker": "BTC", "action": "close", "qty": "0.02"}, "close BTC"),
    ("fraction", {"ticker": "BTC", "action": "reduce", "fraction": "0.4"}, "reduce BTC 0.4"),
    ("reduce all", {"ticker": "BTC", "action": "reduce", "closePercent": 100}, "close BTC"),
    ("closed by strategy.close", buy(action="sell", comment="Close entry(s) order Lamp"), "close_long ETH"),
    ("closed by strategy.close_all", buy(comment="Close position order"), "close_short ETH"),
    ("order named after its exit", buy(order={"id": "Short Exit"}), "close_short ETH"),
    ("a comment without meaning", buy(comment="RSI crossed 30"), "open_long ETH"),
    ("a signal's name beside the action", buy(signal="RSI cross"), "open_long ETH"),
    ("only the new position: flat", buy(action="sell", market_position="flat"), "close_long ETH"),
    ("only the new position: same side", buy(market_position="long"), "open_long ETH"),
    ("only the new position: sold, still long",
     buy(action="sell", market_position="long", market_position_size="3", contracts="1"), "reduce ETH 0.25"),
    ("signed size", buy(action="sell", position_size="-2"), "open_short ETH"),
    ("signed size, still long", buy(action="sell", position_size="3", contracts="1"), "reduce ETH 0.25"),
    ("size zero", buy(position_size=0), "close_short ETH"),
    ("positions without an action", {"ticker": "BTC", "position": "short", "prev_position": "long"},
     "reverse_to_short BTC"),
    ("own order text, opening", "Lamp (close, 14): order buy @ 2 filled on ETHUSDT.P. New strategy position is 2",
     "open_long ETH"),
    ("own order text, two lines",
     "Lamp (close, 14, 0.5):\norder sell @ 1 filled on BTCUSDT.P. New strategy position is -39", "add BTC"),
    ("own order text, closing", "Lamp: order buy @ 39 filled on BTCUSDT.P. New strategy position is 0",
     "close_short BTC"),
    ("own order text, turning", "Lamp: order sell @ 3 filled on SOLUSDT. New strategy position is -1.",
     "reverse_to_short SOL"),
    ("own order text, a part", "Lamp: order sell @ 1,000 filled on SOLUSDT. New strategy position is 3,000",
     "reduce SOL 0.25"),
    ("own order text, minus sign of print", "Lamp: order sell @ 2 filled on SOLUSDT. New strategy position is −2",
     "open_short SOL"),
    ("an exit with a useless price", {"ticker": "BTC", "action": "close", "price": "NaN", "timenow": "soon"},
     "close BTC"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS])
def test_other_ways_to_say_it(body: str | dict[str, Any], expected: str) -> None:
    assert classified(body) == expected


@pytest.mark.parametrize(
    ("before", "after", "side", "expected"),
    [
        ("flat", "long", "buy", "open_long"),
        ("long", "flat", "sell", "close_long"),
        ("flat", "short", "sell", "open_short"),
        ("short", "flat", "buy", "close_short"),
        ("long", "long", "buy", "add"),
        ("long", "long", "sell", "reduce"),
        ("short", "short", "sell", "add"),
        ("short", "short", "buy", "reduce"),
        ("short", "long", "buy", "reverse_to_long"),
        ("short", "long", "sell", "reverse_to_long"),
        ("long", "short", "sell", "reverse_to_short"),
        ("long", "short", "buy", "reverse_to_short"),
        ("flat", "flat", "buy", None),
        ("flat", "flat", "sell", None),
        ("flat", "long", "sell", None),
        ("flat", "short", "buy", None),
        ("long", "flat", "buy", None),
        ("short", "flat", "sell", None),
    ],
)
def test_the_change_of_position_decides(before: str, after: str, side: str, expected: str | None) -> None:
    sizes = {"flat": "0", "long": "12", "short": "12"}
    size_after = "6" if before == after != "flat" else sizes[after]
    outcome = classified(moved(before, after, side, sizes[before], size_after))
    found = transition(stance(before), stance(after), Side(side))
    if expected is None:
        assert found is None
        assert outcome == f"alert: position {before} to {after} with a {side} order is no trade"
    else:
        assert found is not None
        assert found[0] == expected
        assert outcome == f"{expected} AVAX" + (" 0.5" if expected == "reduce" else "")


def stance(word: str) -> Direction | str:
    return word if word == "flat" else Direction(word)


BAD_ALERTS: list[tuple[str, str | bytes | dict[str, Any], str]] = [
    ("nothing", "", "is empty"),
    ("blank", " \n\t ", "is empty"),
    ("too long", "x" * 16_385, "16385 bytes, at most 16384"),
    ("not UTF-8", b'{"ticker": "\xff\xfe"}', "is not UTF-8 text (byte 12)"),
    ("UTF-16", '{"ticker":"ETH"}'.encode("utf-16"), "is not UTF-8 text"),
    ("prose", "time to buy some ether", "must be a JSON object, KEY=VALUE lines or"),
    ("price alert", "BTCUSDT.P Crossing 97,000.00", "price alert names no action"),
    ("one word", '"buy"', "must be a JSON object"),
    ("a list", '[{"ticker":"ETH","action":"buy"}]', "one JSON object, was a list of 1"),
    ("empty object", "{}", "is an empty JSON object"),
    ("cut short", '{"ticker":"ETH","action":"buy"', "is not JSON"),
    ("two objects", '{"ticker":"ETH","action":"buy"}{"a":1}', "is not JSON"),
    ("comma missing", '{"ticker":"ETH"\n"action":"buy"}', "line 2, column 1: is not JSON"),
    ("comma too many", '{"ticker":"ETH",,"action":"buy"}', "is not JSON"),
    ("comma alone", '{"a":[,],"ticker":"ETH","action":"buy"}', "is not JSON"),
    ("single quotes", "{'ticker':'ETH','action':'buy'}", 'in double quotes ("), not single'),
    ("quotes inside a comment", '{"comment":"says "go" now","ticker":"ETH","action":"buy"}', "in double quotes"),
    ("text not closed", '{"ticker":"ETH\n","action":"buy"}', "is not closed on its line"),
    ("unquoted name", '{ticker:"ETH","action":"buy"}', "must be in double quotes"),
    ("NaN", '{"ticker":"ETH","action":"buy","plot":NaN}', "plot: numbers must be finite, was NaN"),
    ("minus infinity", '{"ticker":"ETH","action":"buy","plot":-Infinity}', "numbers must be finite"),
    ("Pine's na", '{"ticker":"ETH","action":"buy","plot":na}', "numbers must be finite, was na"),
    ("number of Python", '{"ticker":"ETH","action":"buy","plot":1_000}', "must be in double quotes"),
    ("exponent without end", '{"ticker":"ETH","action":"buy","price":1e99999}', "must be in double quotes"),
    ("deep", '{"a":' * 50 + "1" + "}" * 50, "nested deeper than 8"),
    ("very deep", "[" * 9_000, "nested deeper than 8"),
    ("same key twice", '{"ticker":"ETH","action":"buy","action":"sell"}', "action appears twice"),
    ("same line twice", "SYMBOL=ETH\nSIGNAL=BUY\nSIGNAL=SELL", "SIGNAL appears twice"),
    ("line without =", "SYMBOL=ETH\nSIGNAL BUY", "line 2 is not KEY=VALUE"),
    ("half a character", '{"ticker":"ETH","action":"buy","note":"\\ud83d"}', "half a character"),
    ("no ticker", {"action": "buy"}, "has no ticker"),
    ("empty ticker", buy(ticker=""), "has no ticker"),
    ("ticker left unfilled", buy(ticker="{{ticker}}"), "ticker holds '{{ticker}}', which TradingView did not fill"),
    ("stop left unfilled", buy(sl="{{strategy.order.stop_loss}}"), "sl holds '{{strategy.order.stop_loss}}'"),
    ("line left unfilled", "SYMBOL={{ticker}}\nSIGNAL=BUY", "SYMBOL holds '{{ticker}}'"),
    ("ticker a number", buy(ticker=42), "ticker must be text such as ETHUSDT.P, was '42'"),
    ("ticker of words", buy(ticker="ETH now!"), "ticker must name a coin"),
    ("ticker without end", buy(ticker="E" * 500), "at most 64 ASCII characters"),
    ("ticker in another script", buy(ticker="ＥＴＨ"), "at most 64 ASCII characters"),
    ("only a quote", buy(ticker="USDT"), "ticker must name a coin"),
    ("cross rate", buy(ticker="ETH/BTC"), "quoted in USDT, USDC, USD, was 'ETH/BTC'"),
    ("dated future", buy(ticker="BTCUSDT_250926"), "must be a perpetual"),
    ("two coins", buy(symbol="BTCUSDT"), "ticker ETH and symbol BTC are different coins"),
    ("no action", {"ticker": "ETH"}, "has no action"),
    ("empty action", buy(action=""), "has no action"),
    ("only a message", {"ticker": "ETH", "message": "buy"}, "has no action"),
    ("only a new position", {"ticker": "ETH", "position": "long"}, "has no action"),
    ("action a number", buy(action=1), "action must be a word such as buy, sell or close, was '1'"),
    ("action true", buy(action=True), "action must be a word"),
    ("unknown action", buy(action="yolo"), "action must be buy, sell, long, short, close or such, was 'yolo'"),
    ("long and short", buy(action="long/short"), "action must be buy, sell"),
    ("hold", buy(action="hold"), "asks for no trade"),
    ("breakeven", buy(action="breakeven"), "asks for no trade"),
    ("which way to open", buy(action="open"), "says open but neither long nor short"),
    ("which way to turn", buy(action="reverse"), "says reverse but neither long nor short"),
    ("exit buy", buy(action="exit buy"), "may mean the order's side or the position"),
    ("buy against long", buy(direction="short"), "buy and short contradict"),
    ("buy against sell", buy(side="sell"), "side says sell where another field says buy"),
    ("close long with a buy", buy(action="close long", side="buy"), "buy and long contradict each other (close)"),
    ("add and close", buy(action="add long", exit=True), "exit says close where another field says add"),
    ("comment that may be an exit", buy(action="sell", comment="TP1 hit"), "comment 'TP1 hit' may mean an exit"),
    ("message breakeven", buy(action="sell", message="breakeven"), "may mean an exit"),
    ("comment for the other side", buy(action="sell", comment="Long entry"), "sell and long contradict"),
    ("flag neither yes nor no", buy(close_position="maybe"), "close_position must be true or false, was 'maybe'"),
    ("position of no kind", buy(market_position="up"), "market_position must be long, short or flat, was 'up'"),
    ("flat with a size", buy(market_position="flat", market_position_size=3), "is flat while its size is 3"),
    ("long with no size", buy(market_position="long", market_position_size="0"), "is long while its size is 0"),
    ("size of no side", buy(market_position_size="3"), "does not say which side"),
    ("was long, is what", buy(action="sell", prev_market_position="long"), "what it is now must be said too"),
    ("buy and then flat from long", buy(market_position="flat", prev_market_position="long"), "is no trade"),
    ("close and still long", buy(action="close", market_position="long"), "contradict each other"),
    ("open and flat", buy(action="long", market_position="flat"), "opens while the position is flat"),
    ("long into short", buy(action="long", market_position="short", prev_market_position="long"), "says long while"),
    ("close into long", buy(action="close", market_position="long", prev_market_position="flat"), "says close while"),
    ("reduction without sizes", buy(action="sell", market_position="long", prev_market_position="long"),
     "must say how much"),
    ("reduction that grows", moved("long", "long", "sell", "6", "9"), "must take part of the position off, was -0.5"),
    ("size in words", moved("long", "long", "sell", "six", "nine"), "must be a decimal number, was 'six'"),
    ("size beyond measure", moved("long", "long", "sell", "1e400", "1"), "at most 1e15"),
    ("reduce how much", buy(action="reduce"), "must say how much"),
    ("reduce by a size of theirs", buy(action="reduce", qty="3"), "must say how much"),
    ("150 per cent", buy(action="close", size="150%"), "size must be above 0 % and at most 100 %, was '150%'"),
    ("0 per cent", buy(action="close", size="0%"), "size must be above 0 %"),
    ("fraction above one", buy(action="reduce", fraction=50), "fraction must be above 0 and at most 1, was '50'"),
    ("two parts", buy(action="close", size="50%", fraction="0.4"), "say different parts"),
    ("price in words", buy(price="market"), "price must be a decimal number, was 'market'"),
    ("price with thousands", buy(price="97,000.10"), "price must be a decimal number, was '97,000.10'"),
    ("price not a number", buy(price="NaN"), "price must be finite, was 'NaN'"),
    ("price zero", buy(price=0), "price must be above 0"),
    ("price negative", buy(price="-3"), "price must be above 0"),
    ("price beyond measure", buy(price="1e400"), "price must be above 0 and at most 1000000000000"),
    ("time in words", buy(timenow="just now"), "timenow must be a time (ISO 8601, epoch s or ms), was 'just now'"),
    ("year 1970", buy(timestamp=60), "timestamp must be in 1990-2099, was '60'"),
    ("year 9999", buy(time="9999-12-31T23:59:59Z"), "time must be in 1990-2099"),
    ("strategy without end", buy(strategy="s" * 300), "strategy must be text of at most 200 characters"),
    ("id without end", buy(alertId="7" * 300), "alertId must be at most 200 characters, was 300"),
    ("two orders", "A: order buy @ 1 filled on ETH. New strategy position is 1. "
     "B: order sell @ 1 filled on ETH. New strategy position is 0", "one order, was 2"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "says"), [row[1:] for row in BAD_ALERTS], ids=[row[0] for row in BAD_ALERTS])
def test_a_bad_alert_gives_one_clear_line(body: str | bytes | dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parsed(body)
    line = str(refusal.value)
    assert line.startswith("alert: ")
    assert says in line
    assert "\n" not in line
    assert len(line) < 300
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    ("ticker", "coin"),
    [
        ("BTCUSDT.P", "BTC"),
        ("BINANCE:ETHUSDT.P", "ETH"),
        ("BTCUSDT.P.", "BTC"),
        ("BTCUSD.P", "BTC"),
        ("ETHUSDTPERP", "ETH"),
        ("ETH-PERP", "ETH"),
        ("BTCUSD_PERP", "BTC"),
        ("ETHUSDC", "ETH"),
        ("BTC/USDT", "BTC"),
        ("BTC/USDT:USDT", "BTC"),
        ("okx:btc-usdt-swap", "BTC"),
        ("BTC1!", "BTC"),
        ("NQ1!", "NQ"),
        ("kPEPE", "KPEPE"),
        ("PERPUSDT", "PERP"),
        (" sol ", "SOL"),
    ],
)
def test_a_ticker_names_its_coin(ticker: str, coin: str) -> None:
    assert coin_of_ticker(ticker) == coin


def test_sizes_and_leverage_are_accepted_and_not_kept() -> None:
    alert = parsed(buy(qty="3", leverage="25x", size="80%", price="3705.60", strategy="Lamp"))
    assert alert.fraction is None
    assert alert.price == Decimal("3705.60")
    assert alert.strategy == "Lamp"
    assert alert.direction is Direction.LONG
    assert AlertMessage.model_validate_json(AlertMessage(alert=alert).model_dump_json()).alert == alert


@pytest.mark.parametrize(
    ("fields", "fired_at"),
    [
        ({"timenow": "2026-07-01T11:59:59Z", "time": "2026-07-01T11:55:00Z"}, NOW - timedelta(seconds=1)),
        ({"timestamp": 1782907199}, NOW - timedelta(seconds=1)),
        ({"timestamp": "1782907199000"}, NOW - timedelta(seconds=1)),
        ({"time": "2026-07-01T11:59:30"}, NOW - timedelta(seconds=30)),
        ({"time": "2026-07-01T11:55:00Z", "interval": "5"}, NOW),
        ({"time": "2026-07-01T11:00:00Z", "interval": "1H"}, NOW),
        ({"time": "2026-06-30T12:00:00Z", "interval": "D"}, NOW),
        ({"time": "2026-07-01T11:00:00Z", "interval": "240"}, None),
        ({"time": "2026-07-01T11:00:00Z", "interval": "M"}, NOW - timedelta(hours=1)),
        ({}, None),
    ],
)
def test_fired_at_is_the_fire_time_or_the_close_of_the_bar(fields: dict[str, Any], fired_at: datetime | None) -> None:
    assert parsed(buy(**fields)).fired_at == fired_at


def test_an_id_in_the_template_identifies_the_alert_for_ever() -> None:
    first = parsed(buy(alertId="n-1", price=10))
    assert first.id_source == "template"
    assert parsed(buy(alertId="n-1", price=11, secret=SECRET)).alert_id == first.alert_id
    others = [
        buy(alertId="n-2", price=10),
        buy(alertId="n-1", action="sell"),
        buy(alertId="n-1", ticker="BTC"),
    ]
    assert len({first.alert_id, *(parsed(other).alert_id for other in others)}) == 4


def test_a_time_in_the_template_identifies_the_alert_with_what_tells_it_from_its_neighbours() -> None:
    first = parsed(buy(timenow="2026-07-01T12:00:00Z", order_id="Lamp A", passphrase=SECRET))
    again = parsed(buy(passphrase="another-secret", order_id="Lamp A", timenow="2026-07-01T12:00:00Z"))
    sibling = parsed(buy(timenow="2026-07-01T12:00:00Z", order_id="Lamp B"))
    assert first.id_source == again.id_source == "template"
    assert first.alert_id == again.alert_id != sibling.alert_id


def test_the_name_of_an_order_is_not_an_id() -> None:
    entry = parsed(buy(id="Lamp", timenow="2026-07-01T12:00:00Z"))
    later = parsed(buy(id="Lamp", timenow="2026-07-01T13:00:00Z"))
    assert entry.alert_id != later.alert_id
    assert parsed(buy(id="Lamp")).id_source == "text"
    assert parsed(buy(nonce="<one-per-order>")).id_source == "text"
    assert parsed(buy(id="lamp-17")).id_source == "template"


def test_an_alert_with_neither_id_nor_time_is_known_by_its_text_without_the_secret() -> None:
    first, rotated = parsed(buy(secret=SECRET)), parsed(buy(secret="another-secret"))
    assert first.id_source == "text"
    assert first.alert_id == rotated.alert_id
    assert first.alert_id != parsed(buy(comment="again")).alert_id


@pytest.mark.parametrize(
    ("body", "secret"),
    [
        (buy(secret=SECRET), SECRET),
        (buy(passphrase=SECRET), SECRET),
        (buy(Password=SECRET), SECRET),
        (buy(key=114477), "114477"),
        (buy(token=SECRET), SECRET),
        (buy(key="of-the-exchange", passphrase=SECRET), SECRET),
        (buy(webhook_secret=SECRET), SECRET),
        ({"general": {"secret": SECRET}, "order": {"action": "buy"}}, SECRET),
        (f"SYMBOL=ETH\nSIGNAL=BUY\nTOKEN={SECRET}", SECRET),
        (f"Lamp: order buy @ 1 filled on ETH. New strategy position is 1\nsecret: {SECRET}", SECRET),
        (f'{{"ticker": ETHUSDC.P, "passphrase": "{SECRET}"}}', SECRET),
        (buy(deeper={"secret": SECRET}), None),
        (buy(secret=""), None),
        (buy(secret=None), None),
        (buy(secret={"a": 1}), None),
        (b"\xff", None),
        ("", None),
        (f"buy with secret {SECRET}", None),
        ('{"secret": "\\ud800"}', None),
    ],
)
def test_the_senders_secret_is_found_for_authentication(body: Any, secret: str | None) -> None:
    raw = body if isinstance(body, bytes) else (json.dumps(body) if isinstance(body, dict) else body).encode()
    assert secret_in_body(raw) == secret


@pytest.mark.parametrize(
    "body",
    [
        buy(secret=SECRET),
        buy(secret=SECRET, comment=f"seen {SECRET} here"),
        buy(deeper={"api_key": {"a": [SECRET]}}),
        {**buy(password=SECRET), SECRET: "as a name"},
        {"general": {"ticker": "ETH", "secret": SECRET}, "order": {"action": "buy", "comment": SECRET}},
        f"SYMBOL=ETH\nSIGNAL=BUY\nPASSPHRASE={SECRET}\nNOTE=x{SECRET}",
        f"Lamp {SECRET}: order buy @ 1 filled on ETH. New strategy position is 1\nsecret: {SECRET}",
        f'{{"ticker":"ETH","action":"buy", // {SECRET}\n"key":"k"}}',
    ],
)
def test_no_secret_is_kept(body: Any) -> None:
    alert = parsed(body)
    assert SECRET not in alert.model_dump_json()
    raw = (json.dumps(body) if isinstance(body, dict) else body).encode()
    assert SECRET not in redact(raw)


@pytest.mark.parametrize(
    "body",
    [
        buy(secret=SECRET, action=SECRET),
        buy(secret=SECRET, ticker=SECRET),
        buy(secret=SECRET, price=SECRET),
        buy(secret=SECRET, timenow=f"x{SECRET}"),
        buy(secret=SECRET, sl="{{" + SECRET + "}}"),
        {"ticker": "ETH", "secret": SECRET},
        f'{{"secret": {SECRET}}}',
        f'{{"secret": "{SECRET}", "{SECRET}": 1, "{SECRET}": 2}}',
        f"secret={SECRET}\n{SECRET}",
        f"{SECRET}=1\n{SECRET}=2",
        f"secret: {SECRET} crossing 97,000",
        f"secret={SECRET} order buy @ 1 filled on ETH. New strategy position is 1",
    ],
)
def test_no_refusal_shows_a_secret(body: Any) -> None:
    with pytest.raises(BadInput) as refusal:
        parsed(body, known_secrets=[SECRET])
    assert SECRET not in str(refusal.value)
    assert refusal.value.__context__ is None
    raw = (json.dumps(body) if isinstance(body, dict) else body).encode()
    if not raw.startswith(SECRET.encode()):
        assert SECRET not in redact(raw)


def test_a_known_secret_is_taken_out_wherever_it_stands() -> None:
    alert = parsed(buy(pincode=SECRET, note=f"<{SECRET}>"), known_secrets=[SECRET])
    assert SECRET not in alert.model_dump_json()
    assert "<***>" in alert.text


def test_what_cannot_be_read_is_recorded_by_its_size_alone() -> None:
    assert redact(b'{"secret": "abc", ') == "(18 bytes that cannot be read as an alert)"


NAMES = st.sampled_from(
    ["ticker", "action", "side", "position", "prev_position", "position_size", "price", "time", "id", "order", "market",
     "general", "comment", "size", "exit", "contracts", "nonce", "strategy", "interval"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["ETHUSDT.P", "buy", "sell", "close", "long", "short", "flat", "exit long", "50%", "3", "-3", "1e9", "{{ticker}}"]
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS, WORDS, st.text(max_size=12))
TREES = st.dictionaries(NAMES, st.one_of(SCALARS, st.dictionaries(NAMES, SCALARS, max_size=4)), max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
@example(b'{"price": 1e999, "ticker": "ETH", "action": "buy"}')
@example(b"{" + b'"a":[' * 3000)
@example(b"{/*" * 5000)
@example(b'{"a":"{{{{{{' + b"{" * 9000 + b'"}')
def test_no_bytes_raise_anything_but_bad_input(body: bytes) -> None:
    secret_in_body(body)
    redact(body)
    try:
        parse_alert(body, NOW)
    except BadInput as refusal:
        assert "\n" not in str(refusal)


@settings(max_examples=500, deadline=None)
@given(
    TREES,
    st.sampled_from(["secret", "passphrase", "password", "key", "token", "api_key"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=20).map(lambda s: f"§{s.strip()}§"),
    NAMES,
    st.sampled_from(["json", "nested", "lines"]),
)
def test_no_alert_shows_its_secret(tree: dict[str, Any], name: str, secret: str, copy: str, layout: str) -> None:
    tree = {**tree, copy: f"x {secret}"}
    if layout == "lines":
        secret = "".join(secret.split()).replace("=", "")
        lines = {**{key: str(value) for key, value in tree.items()}, copy: f"x {secret}", name: secret}
        body = "\n".join(f"{key}={value}" for key, value in lines.items())
    else:
        body = json.dumps({**tree, "general": {name: secret}} if layout == "nested" else {**tree, name: secret})
    try:
        kept = parsed(body).model_dump_json()
    except BadInput as refusal:
        kept = str(refusal)
        assert "\n" not in kept
    assert secret not in kept
    assert json.dumps(secret)[1:-1] not in kept
    assert secret not in redact(body.encode())


# What each real text that was collected must come to; the texts themselves are not part of this project.
REAL = {
    "tv001": "open_long ETH", "tv010": "open_long ETH", "tv230": "open_long BTC", "tv231": "open_long BTC",
    "tv235": "open_long BTC", "tv236": "open_long BTC", "tv237": "open_long BTC", "tv238": "open_long BTC",
    "tv239": "open_short BTC", "tv240": "close BTC", "tv241": "reduce BTC 0.5", "tv251": "open_long SOL",
    "tv253": "close_long SOL", "tv289": "list of choices", "tv290": "open_long BTC", "tv291": "open_long ETH",
    "tv293": "close ETH", "tv268": "open_long BTC", "tv269": "open_long BTC", "tv273": "open_long BTC",
    "tv399": "open_long BTC", "tv400": "open_long BTC", "tv401": "open_short ETH", "tv402": "open_long ETH",
    "tv403": "open_long BTC", "tv409": "close_long BTC", "tv411": "open_long BTC", "tv412": "open_long BTC",
    "tv405": "open_long ETH", "tv407": "must be in double quotes", "tv408": "open_long ETH", "tv247": "has no action",
    "tv244": "reduce SOL 0.5", "tv262": "close_short SOL", "tx_Drakkar-Software_0": "open_long ETH",
    "tx_Drakkar-Software_1": "open_long BTC",
}  # fmt: skip


def real_texts() -> dict[str, str]:
    path = REAL_ALERTS / "alerts.json"
    if not path.exists():
        return {}
    return {alert["id"]: alert["rendered_by_us"] or alert["raw"] for alert in json.loads(path.read_text())["alerts"]}


def test_real_texts_are_understood_or_refused_where_they_are_at_hand() -> None:
    texts = real_texts()
    assert not texts or texts.keys() == REAL.keys()
    outcomes = {name: classified(text) for name, text in texts.items()}
    wrong = {name: line for name, line in outcomes.items() if REAL[name] != line and REAL[name] not in line}
    assert wrong == {}
    for text in texts.values():
        secret = secret_in_body(text.encode())
        assert secret is None or secret not in redact(text.encode())


def test_every_action_is_reached_by_some_text() -> None:
    reached = {classified(body).split()[0] for _, body, _ in (*SHAPES, *LAYOUTS)}
    reached |= {classified(moved("short", "long", "buy", "6", "6")).split()[0]}
    assert reached >= set(AlertAction)
