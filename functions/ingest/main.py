"""Scheduler's call each minute: fetch and publish the candles closed since the last one."""

import functions_framework
from flask import Request
from flask.typing import ResponseReturnValue

from twinleg.entry import serve


@functions_framework.http
def ingest(request: Request) -> ResponseReturnValue:
    return serve("ingest", request)
