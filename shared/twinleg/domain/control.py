"""HALT: one vocabulary of trading states, kept in one document a person can edit."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, ValidationError

CONTROL_ID = "trading"


class Halt(StrEnum):
    ENABLED = "ENABLED"
    REDUCING = "REDUCING"
    """No new entries; exits and protection run."""
    FLATTEN = "FLATTEN"
    """Latched: close everything, report flat only from a final read, then HALTED."""
    HALTED = "HALTED"
    """Nothing but protection."""


class Control(BaseModel):
    """Whether we may trade, why, by whom, since when. Only a person resumes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Halt
    why: str = ""
    by: str = ""
    since: datetime | None = None


def read_control(data: dict[str, object] | None) -> Control:
    """The control document's meaning: missing or misspelt means HALTED."""
    if data is None:
        return Control(state=Halt.HALTED, why="the control document is missing")
    try:
        return Control.model_validate(data)
    except ValidationError:
        return Control(state=Halt.HALTED, why=f"the control document says {data.get('state')!r}, which is no state")
