"""A simulation silences the log of its process; the tests after it want to hear it again."""

import logging
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def heard_again() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """The coverage tracer takes a switch between greenlets for a return, and makes a world take twice as long."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)
