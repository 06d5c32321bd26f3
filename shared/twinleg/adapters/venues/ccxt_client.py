"""ccxt without a will of its own: it words questions, and writes and signs actions; what goes out, our wire sends.

Out stays what ccxt does by itself: fee approvals and referral codes before the first call, nonces off its own clock,
waits, retries, connections, numbers as floats. This is all that is general; a venue adds a subclass of its exchange
with its approvals emptied and its expiry put in (`ccxt_hyperliquid`), and reads its own answers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import localcontext
from typing import Any

from twinleg.domain.errors import BadInput, InvariantBroken

Carry = Callable[[str, str], Any]
"""Sends a question (its address and body) and returns the parsed answer."""


@dataclass
class Draft:
    """An action being written: the nonce it is to carry, and the request's body once ccxt has signed it."""

    nonce: int
    body: str = ""


class Caught(BaseException):
    """Ends a call of ccxt where it would send. No Exception, because ccxt swallows those at its start-up actions."""


class Tamed:
    """Comes before a class of ccxt among the bases: questions are carried by us, and an action only becomes a draft."""

    carry: Carry
    drafts: threading.local

    def fetch(self, url: str, method: str = "GET", _: object = None, body: str | None = None) -> Any:
        """Where ccxt would send, whatever it is."""
        draft = self.draft()
        if method != "POST" or body is None:
            raise InvariantBroken(f"ccxt would send {method} {url}, which nobody asked for")
        if draft is None:
            return self.carry(url, body)
        draft.body = body
        raise Caught

    def draft(self) -> Any:
        """What this thread is writing; None while it asks."""
        return getattr(self.drafts, "current", None)

    def nonce(self) -> int:
        """The draft's. Outside of a draft ccxt signs nothing."""
        draft = self.draft()
        if draft is None:
            raise InvariantBroken("ccxt would sign an action that nobody drafted")
        return int(draft.nonce)

    def incrementing_nonce(self) -> int:
        return self.nonce()


def exchange_class(name: str) -> Any:
    """An exchange of ccxt by its id. Importing ccxt takes most of a second. BadInput when it is not installed."""
    try:
        import ccxt
    except ImportError as error:
        raise BadInput(
            "adapter 'ccxt' needs the package ccxt, which is not installed: install twinleg[ccxt]"
        ) from error
    return getattr(ccxt, name)


def client(tamed: Any, config: Mapping[str, Any], carry: Carry) -> Any:
    """An exchange of a class that begins with Tamed. Sends nothing; numbers it parses stay text."""
    made = tamed({"enableRateLimit": False, "number": str, **config})
    made.carry, made.drafts = carry, threading.local()
    return made


def write[D: Draft](pen: Any, draft: D, call: Callable[[], object]) -> D:
    """Let ccxt write and sign one request, and catch it: nothing is sent. BadInput when ccxt refuses to."""
    from ccxt.base.errors import BaseError

    pen.drafts.current = draft
    try:
        with localcontext():  # in which ccxt changes how every Decimal of its thread is rounded
            call()
    except Caught:
        return draft
    except BaseError as error:
        raise BadInput(f"ccxt would not write it: {type(error).__name__}: {error}"[:300]) from error
    finally:
        pen.drafts.current = None
    raise InvariantBroken("ccxt wrote no request")


def must_be(wanted: Mapping[str, Any], written: Mapping[str, Any]) -> None:
    """Refuse what ccxt rounded, left out, added or reordered: the two must be the same text."""
    meant, found = json.dumps(wanted), json.dumps(written)
    if meant != found:
        same = next((n for n, (a, b) in enumerate(zip(meant, found, strict=False)) if a != b), len(meant))
        start = max(0, same - 20)
        raise InvariantBroken(f"ccxt wrote …{found[start : start + 120]} where …{meant[start : start + 120]} was meant")
