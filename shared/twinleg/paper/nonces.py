"""Which nonces a signer may still use.

Per signer the 100 highest are kept; a new one must be unused and above the lowest kept. It must also lie in the
window (venue time - 2 days, + 1 day), narrower by a measured margin. Source: Hyperliquid docs, nonces and API wallets.
"""

from __future__ import annotations

from bisect import insort

KEPT = 100
BACK_MS = 2 * 86_400_000
AHEAD_MS = 86_400_000
REMEMBERED = 10_000


class Nonces:
    """The nonces one signer has spent."""

    def __init__(self) -> None:
        self.highest: list[int] = []
        self.spent: dict[int, None] = {}

    def refusal(self, nonce: int, now_ms: int, margin_ms: int, window: bool = True) -> str | None:
        """Why this nonce may not be used, in the venue's words; None when it may."""
        low, high = now_ms - BACK_MS + margin_ms, now_ms + AHEAD_MS - margin_ms
        if window and nonce <= low:
            return f"Invalid nonce: nonce too low {nonce} < {low}"
        if window and nonce >= high:
            return f"Invalid nonce: nonce too high {nonce} > {high}"
        if nonce in self.spent:
            return f"Invalid nonce: duplicate nonce {nonce}"
        if len(self.highest) >= KEPT and nonce < self.highest[0]:
            return f"Invalid nonce: nonce too low {nonce} < {self.highest[0]}"
        return None

    def spend(self, nonce: int) -> None:
        """Mark a nonce used."""
        self.spent[nonce] = None
        insort(self.highest, nonce)
        del self.highest[:-KEPT]
        if len(self.spent) > REMEMBERED:
            for old in sorted(self.spent)[: len(self.spent) - REMEMBERED]:
                del self.spent[old]

    def restore(self, nonce: int) -> None:
        """Give a nonce back (only where a switch says that a refused action does not spend it)."""
        self.spent.pop(nonce, None)
        if nonce in self.highest:
            self.highest.remove(nonce)
