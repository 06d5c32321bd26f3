"""TradingView's call: authenticate, understand, publish; no store and no trading key."""

import functions_framework
from flask import Request
from flask.typing import ResponseReturnValue

from twinleg.start import load

serve = load("webhook")


@functions_framework.http
def webhook(request: Request) -> ResponseReturnValue:
    return serve(request)
