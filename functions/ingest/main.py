"""Scheduler's call each minute: fetch and publish the candles closed since the last one."""

import functions_framework
from flask import Request
from flask.typing import ResponseReturnValue

from twinleg.start import load

serve = load("ingest")


@functions_framework.http
def ingest(request: Request) -> ResponseReturnValue:
    return serve(request)
