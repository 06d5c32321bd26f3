"""Intents and closes, delivered by Pub/Sub: carried out in two legs, each placed once."""

import functions_framework
from flask import Request
from flask.typing import ResponseReturnValue

from twinleg.start import load

serve = load("execute")


@functions_framework.http
def execute(request: Request) -> ResponseReturnValue:
    return serve(request)
