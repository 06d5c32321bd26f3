"""Which coin a TradingView ticker means."""

from __future__ import annotations

import re

from twinleg.domain.errors import BadInput

QUOTES = ("USDT", "USDC", "USD", "FDUSD", "BUSD")
"""Quote currencies that stand for the US dollar; what a market is called here is its base coin alone."""

_PERPETUAL = re.compile(r"(\.P|[.\-_/]?PERP|[-_.]SWAP|[0-9]!)$")
_COIN = re.compile(r"[A-Z0-9]{1,20}")
_TICKER_CHARACTERS_MAX = 64


def coin_of_ticker(ticker: str) -> str:
    """The coin in capitals: ``BINANCE:ETHUSDT.P``, ``ETH/USDT:USDT``, ``ETH-PERP``, ``ETH1!`` → ``ETH``.

    BadInput for what is no perpetual market against the dollar (``ETH/BTC``, ``BTCUSDT_250926``).
    """
    quoted = repr(ticker if len(ticker) <= _TICKER_CHARACTERS_MAX else ticker[:_TICKER_CHARACTERS_MAX] + "...")
    name = ticker.strip().upper()
    if len(name) > _TICKER_CHARACTERS_MAX or not name.isascii():
        raise BadInput(f"alert: ticker must be at most {_TICKER_CHARACTERS_MAX} ASCII characters, was {quoted}")
    if "/" in name:
        before, after = name.split("/", 1)
        name = f"{before.split(':')[-1]}/{after.split(':')[0]}"
    name = _without_kind(name.split(":")[-1].rstrip("."))
    base, *rest = re.split(r"[-_/]", name)
    if rest:
        if len(rest) > 1 or rest[0] not in QUOTES:
            raise BadInput(f"alert: ticker must be a perpetual quoted in {', '.join(QUOTES[:3])}, was {quoted}")
    else:
        quote = next((q for q in sorted(QUOTES, key=len, reverse=True) if base.endswith(q)), "")
        base = base.removesuffix(quote)
    if not _COIN.fullmatch(base):
        raise BadInput(f"alert: ticker must name a coin, such as ETHUSDT.P, was {quoted}")
    return base


def _without_kind(name: str) -> str:
    while (found := _PERPETUAL.search(name)) and found.start() > 0:
        name = name[: found.start()]
    return name
