"""Loading a function before its server starts: what its first request needs, and nothing else.

The server loads the function in one process and forks another that answers, so that whatever is loaded here is there
when a request comes. Nothing here makes a client, a thread or a connection: those would not survive the fork.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Request
    from flask.typing import ResponseReturnValue


def load(name: str) -> Callable[[Request], ResponseReturnValue]:
    """The function *name*, ready to answer.

    The garbage collector pauses meanwhile. It would walk a hundred times over modules that all stay, a fifth of the
    time that loading takes. What stays is then kept from it for good, which also keeps memory shared with the fork.
    Source: Python documentation, gc.freeze.
    """
    gc.disable()
    try:
        from twinleg.entry import ready, serve

        if ready(name):
            gc.freeze()
    finally:
        gc.enable()
    return lambda request: serve(name, request)
