"""What goes wrong, and how often: every kind has a name, a chance, and a count of how often it struck."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from twinleg.domain.errors import BadInput

KINDS: Mapping[str, tuple[float, str]] = {
    # the queue
    "message_duplicated": (0.06, "a message is delivered a second time, soon after or while it is being handled"),
    "message_delayed": (0.05, "a message takes up to a minute"),
    "message_dropped": (0.03, "a delivery is lost; the message comes again after the acknowledgement deadline"),
    "message_reordered": (0.02, "a message loses its place: later ones under its key may be handled before it"),
    "message_late_again": (0.03, "a message handled long ago is delivered once more"),
    # our processes and what they write
    "crash": (0.0010, "the process dies immediately before or after any effect"),
    "store_aborted": (0.0012, "a store call fails and nothing was written or read"),
    "store_ack_lost": (0.0010, "a store call succeeds and its answer is lost"),
    "store_late": (0.0007, "a store call succeeds and is acknowledged many seconds later"),
    "bus_unavailable": (0.01, "a publish fails"),
    "bus_ack_lost": (0.01, "a publish succeeds and its answer is lost"),
    "clock_skewed": (0.25, "a new instance's clock is up to 2 s off"),
    "clock_coarse": (0.15, "a new instance's clock moves in steps of 16 ms"),
    # signed actions
    "request_lost": (0.06, "the request never reaches the venue"),
    "answer_lost": (0.08, "the venue carries it out and the answer is lost"),
    "arrives_late": (0.05, "the connection breaks; the request arrives seconds later"),
    "answer_late": (0.04, "the venue carries it out and answers after we stopped waiting"),
    "throttled": (0.05, "429"),
    "failed": (0.04, "500 or 502, not carried out"),
    "failed_executed": (0.05, "500 or 502, carried out"),
    "malformed": (0.04, "carried out, and the answer is not readable"),
    "unknown_signer": (0.03, "a node that does not know the key yet refuses it, as if it were nobody's"),
    "order_rejected": (0.06, "an order is refused by the venue"),
    "children_rejected": (0.05, "an entry is taken, its stop and target are refused"),
    "partly_filled": (0.1, "an order fills only in part"),
    # reads
    "read_failed": (0.003, "a read is refused, lost or unreadable"),
    "read_stale": (0.004, "a read is answered as up to 60 s ago"),
    "read_empty": (0.002, "a read is answered as for an address that holds nothing"),
    "read_split": (0.0005, "for a while two nodes answer in turn, one of them up to 60 s behind"),
    # the world, per minute
    "venue_down": (0.0022, "for up to a minute and a half every connection to the venue breaks"),
    "mark_apart": (0.0028, "for some minutes the mark stands apart from the last price, by up to 2 %"),
    "triggers_fail": (0.0025, "for some minutes a stop or target that fires finds nobody within its limit"),
    "deleveraged": (0.0250, "the venue takes a part or the whole of a position at the mark, while one is held"),
    "agent_replaced": (0.0025, "an agent key is replaced at the venue, and here a little later"),
    "agent_expires": (0.0025, "an agent key is replaced by one that expires soon, and that by another later"),
    "mode_changed": (0.0022, "an account's mode is changed by hand, and back after some minutes"),
    "deposited": (0.0025, "money is paid in"),
    "withdrawn": (0.0025, "money is taken out"),
    "hand_trade": (
        0.0040,
        "a person trades on one of the accounts: reduces, closes or adds to what is there, or opens",
    ),
    "halted": (0.0025, "a person halts, reduces or flattens, and resumes some minutes later"),
    "account_unreadable": (0.0022, "for some minutes nothing can be read of one account"),
    "store_down": (0.0020, "for up to two minutes no function reaches the store"),
}
"""kind → chance per opportunity, what it is."""

LASTING: Mapping[str, float] = {
    "message_delayed": 60.0, "message_dropped": 70.0, "message_reordered": 90.0, "store_late": 20.0, "crash": 70.0,
    "arrives_late": 40.0, "answer_late": 10.0, "clock_skewed": 0.0,
}  # fmt: skip
"""For how many seconds a fault is at work, where it is not over at once."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which kinds may strike."""

    kinds: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Chosen:
        """``all``, ``none`` or a comma-separated list; BadInput names what is no kind."""
        if text in ("all", "none"):
            return cls(frozenset(KINDS) if text == "all" else frozenset())
        asked = [word.strip() for word in text.split(",") if word.strip()]
        for word in asked:
            if word not in KINDS:
                raise BadInput(f"--faults: {word!r} is no kind of fault; known are all, none, {', '.join(KINDS)}")
        return cls(frozenset(asked))


class Dice:
    """The seeded chance of every fault, with a stream of its own per kind, so that one more kind shifts no other."""

    def __init__(self, seed: int, chosen: Chosen, *, scale: float = 1.0) -> None:
        self.seed, self.chosen = seed, chosen
        self.struck: Counter[str] = Counter()
        self.clock: Callable[[], datetime] | None = None
        self.disturbed: list[tuple[datetime, datetime]] = []
        """From when until when something was wrong, as far as a clock was given."""
        self.quiet = False
        """No more faults from now on."""
        self._odds = {
            kind: (random.Random(f"{seed}:{kind}").random, chance * scale if kind in chosen.kinds else 0.0)
            for kind, (chance, _) in KINDS.items()
        }
        self._others: dict[str, random.Random] = {}

    def strikes(self, kind: str, weight: float = 1.0) -> bool:
        """Whether a fault of this kind happens at this opportunity, *weight* times as likely as usual."""
        draw, chance = self._odds[kind]
        if self.quiet or draw() >= chance * weight:
            return False
        self.struck[kind] += 1
        self.disturb(LASTING.get(kind, 0.0))
        return True

    def disturb(self, seconds: float) -> None:
        """Note that something is wrong from now on, for so long."""
        if self.clock is not None:
            now = self.clock()
            self.disturbed.append((now, now + timedelta(seconds=seconds)))

    def first(self, kinds: Iterable[str]) -> str | None:
        """The first of these kinds that strikes."""
        return next((kind for kind in kinds if self.strikes(kind)), None)

    def stream(self, name: str) -> random.Random:
        """Randomness for one purpose that is no fault (delays, prices, choices)."""
        return self._others.setdefault(name, random.Random(f"{self.seed}/{name}"))
