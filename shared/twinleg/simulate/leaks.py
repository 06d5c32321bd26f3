"""SECRET in a simulated world: no key is in anything that was written, sent, logged or said."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

SHORTEST = 8
"""A secret shorter than this is a word, and may be met anywhere."""


class Lines(logging.Handler):
    """Keeps what every line would say, before anything that looks like a key is struck out of it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        more = [f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD]
        self.kept.append(" ".join([record.getMessage(), *more]))


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def listening(wanted: bool) -> Iterator[Lines]:
    """Hears the program's own lines, if wanted; they go nowhere else meanwhile, however silent this process was."""
    if not wanted:
        yield Lines()
        return
    heard, ours = Lines(), logging.getLogger("twinleg")
    before = ours.level, ours.propagate, logging.root.manager.disable
    ours.addHandler(heard)
    ours.propagate = False
    ours.setLevel(logging.INFO)
    logging.disable(logging.NOTSET)
    try:
        yield heard
    finally:
        ours.removeHandler(heard)
        ours.level, ours.propagate = before[0], before[1]
        ours.setLevel(before[0])
        logging.disable(before[2])


def found_in(texts: Iterable[tuple[str, str]], secrets: Mapping[str, str]) -> Iterator[str]:
    """Where which secret is: ``(where, text)`` in, words without the secret out."""
    wanted = {name: value.removeprefix("0x") for name, value in secrets.items() if len(value) >= SHORTEST}
    texts = list(texts)
    everything = "\0".join(text for _, text in texts)
    if not any(value in everything for value in wanted.values()):
        return
    for where, text in texts:
        for name, value in wanted.items():
            if value in text:
                yield f"{name} is in {where}"
