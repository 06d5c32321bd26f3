"""The DeadLetters port on the bus of one machine: rows of the topics ``<source>-dead``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from twinleg.adapters.local.bus import LocalBus
from twinleg.engine.dead_letters import LOOKED_AT_MAX, DeadLetter
from twinleg.engine.ports import Steps


class LocalDeadLetters:
    """The dead letters in a `LocalBus`'s file. A listing is exact; another process may look at the same time."""

    def __init__(self, bus: LocalBus, steps: Steps | None = None) -> None:
        self._bus = bus
        self._steps = steps or Steps()

    def each(
        self,
        sources: Sequence[str],
        visit: Callable[[DeadLetter], bool],
        *,
        ids: Collection[str] | None = None,
        limit: int = LOOKED_AT_MAX,
    ) -> bool:
        complete = True
        for source in sources:
            rows = self._bus.oldest(f"{source}-dead", limit + 1)
            complete = complete and len(rows) <= limit
            for row in rows[:limit]:
                letter = DeadLetter(source, row.message_id, row.data, row.key, row.attributes, row.published_at)
                if (ids is None or letter.id in ids) and visit(letter):
                    self._steps.step(f"bus.remove {source}-dead")
                    self._bus.remove(row.message_id)
                    self._steps.step(f"bus.remove {source}-dead done")
        return complete
