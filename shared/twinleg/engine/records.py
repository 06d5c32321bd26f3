"""Records as documents: flat where a person reads them, decimals as text, times as times."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ValidationError

from twinleg.domain.errors import InvariantBroken
from twinleg.domain.money import plain
from twinleg.engine.ports import Document, Store, Stored

DESK_ID = "desk"
"""The control document that holds what caps are counted on: open trades, recent entries and unwinds."""


def document(model: BaseModel) -> Document:
    """A model as a document."""
    dumped: Document = _plain(model.model_dump())
    return dumped


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def read[Model: BaseModel](store: Store, collection: str, id: str, model: type[Model]) -> tuple[Model, str] | None:
    """A record and its version, or None. Raises InvariantBroken when a person's edit left one that means nothing."""
    stored = store.get(collection, id)
    return None if stored is None else (parsed(collection, stored, model), stored.version)


def parsed[Model: BaseModel](collection: str, stored: Stored, model: type[Model]) -> Model:
    """The record in a document. Raises InvariantBroken when it means nothing."""
    try:
        return model.model_validate(stored.data)
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
        where = f"{collection}/{stored.id}: its {field or 'content'}"
        raise InvariantBroken(f"{where} is none that was ever written") from None


class DeskBook(BaseModel):
    """What the caps count: one document, compared-and-set by every approval, so that no two race."""

    open_trades: list[str] = []
    entries: list[datetime] = []
    unwinds: list[datetime] = []
    summary: str = ""

    def since(self, times: list[datetime], at: datetime, seconds: int) -> int:
        """How many of *times* lie within the last *seconds*."""
        return sum((at - t).total_seconds() < seconds for t in times)

    def pruned(self, at: datetime) -> DeskBook:
        """Without what no cap counts any more."""
        day = 86_400
        kept = self.model_copy(
            update={
                "entries": [t for t in self.entries if (at - t).total_seconds() < day],
                "unwinds": [t for t in self.unwinds if (at - t).total_seconds() < day],
            }
        )
        return kept.model_copy(update={"summary": f"{len(kept.open_trades)} open, {len(kept.entries)} entries in 24 h"})
