"""A simulation silences the log of its process; the tests after it want to hear it again."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def heard_again() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)
