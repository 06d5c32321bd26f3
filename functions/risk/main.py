"""Scheduler's call each minute: reconcile, protect, halt."""

import functions_framework
from flask import Request
from flask.typing import ResponseReturnValue

from twinleg.start import load

serve = load("risk")


@functions_framework.http
def risk(request: Request) -> ResponseReturnValue:
    return serve(request)
