"""Candles and alerts, delivered by Pub/Sub: strategies decide, hedged intents are published."""

import functions_framework
from flask import Request
from flask.typing import ResponseReturnValue

from twinleg.start import load

serve = load("signal")


@functions_framework.http
def signal(request: Request) -> ResponseReturnValue:
    return serve(request)
