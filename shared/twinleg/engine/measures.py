"""Figures that a chart or an alarm is made of: one log line each, read by log-based metrics."""

from __future__ import annotations

import logging
from decimal import Decimal

log = logging.getLogger("twinleg.measures")


def measure(name: str, value: Decimal | float, **about: str) -> None:
    """Log one figure, e.g. ``measure("sweep_seconds", 1.2)``; the unit is last in the name, *about* are labels."""
    figure = float(value)
    log.info("%s = %.6g", name, figure, extra={"metric": name, "value": figure, **about})
