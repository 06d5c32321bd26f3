"""Errors, sorted by what the caller does.

TwinlegError
├── Rejected          a verdict: record it, acknowledge the message, do not repeat
│   └── BadInput      a file, setting or alert that cannot be understood
├── Unavailable       no attempt was made: repeating is safe
│   └── Conflict      another writer was first: read again, then decide again
├── OutcomeUnknown    sent, no verdict: look before leaping
└── InvariantBroken   stop and call a person
"""

from __future__ import annotations


class TwinlegError(Exception):
    """Base of every error twinleg raises on purpose. Messages never carry a secret."""


class Rejected(TwinlegError):
    """A verdict was given and it is no. Record it and acknowledge; repeating changes nothing."""


class BadInput(Rejected):
    """Something a person or another program gave us names no valid thing.

    The message names the field, the value and the limit.
    """


class Unavailable(TwinlegError):
    """Nothing was attempted (a store, queue or venue could not be reached): retry later."""


class Conflict(Unavailable):
    """A precondition of a write no longer holds because another writer was first."""


class OutcomeUnknown(TwinlegError):
    """A signed action was sent and no verdict came back. It may have run."""


class InvariantBroken(TwinlegError):
    """Something that must never be true is true. Halt, and call a person."""


def require(condition: bool, message: str) -> None:
    """Raise InvariantBroken unless the condition holds (a guard that survives ``python -O``)."""
    if not condition:
        raise InvariantBroken(message)
