"""Records that are stored beneath a page: flat fields for a person on top, the record itself in one map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from twinleg.domain.orders import Frozen

RECORD = "z_record"
"""The field that holds the record itself: last in the alphabet, one closed map in the Firestore console.

Only this field is read back. What stands beside it is written for people, and editing it changes nothing.
"""


class Recorded(Frozen):
    """A value that reads itself from its document; one stored before there were pages is the record itself."""

    @model_validator(mode="before")
    @classmethod
    def _beneath_its_page(cls, data: Any) -> Any:
        return data[RECORD] if isinstance(data, Mapping) and RECORD in data else data
