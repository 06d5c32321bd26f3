"""What stands open: legs alone, legs without a stop, and records that say something else than the venue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from twinleg.domain.candles import utc_from_ms
from twinleg.domain.money import ZERO, plain
from twinleg.domain.orders import LegRole, Purpose
from twinleg.domain.trades import ENDED, Trade, TradeState
from twinleg.simulate.evidence import Evidence, Filled, Span, Violation

ALONE_SECONDS_MAX = 75.0
"""The longest a leg may stand alone in any case: until the next sweep, with its two reads 5 s apart."""
ENTERING_SECONDS_MAX = 40.0
"""The longest a fresh main leg may: until its hedge is there or it is unwound, in the invocation that entered it."""
NAKED_SECONDS_MAX = 20.0
"""The longest a fresh leg may lack its own stop: it is placed in the invocation that found the fill."""
REARMED_SECONDS_MAX = 75.0
"""The longest a leg may whose stop is spent, or was another's: until the next sweep."""
RATIO_BAND = (Decimal("0.72"), Decimal("1.38"))
"""How far the hedge may be off its share of the main leg: the drift band, prices apart, rounding to lots."""
CALM_SECONDS_MAX = 180.0
STUCK_SECONDS_MAX = 420.0
"""In the calm, a trade between two states is finished, or a person's, within this time."""
ORPHAN_SWEEPS = 3
"""Sweeps that saw everything after which a position nobody recorded is closed, where a person chose so."""
CLOCK_SECONDS = 3.0
GONE = re.compile(r"^(a leg is gone|(main leg|hedge) (liquidated|stop|target|closed) at)|is gone: closed whole")
"""How a trade's record says that a leg went without us."""
RESTING = ENDED | {TradeState.OPEN, TradeState.NEEDS_A_PERSON}


def check(evidence: Evidence) -> list[Violation]:
    """Every violation of TWO-LEGGED, GUARDED and TRUTH by what stood open and what was recorded."""
    return [
        *_two_legged(evidence),
        *_guarded(evidence),
        *_orphans(evidence),
        *_true_ends(evidence),
        *_gone_indeed(evidence),
        *_true_records(evidence),
        *_corrected(evidence),
        *_finished(evidence),
    ]


# -- TWO-LEGGED and GUARDED ------------------------------------------------------------------------


def alone(evidence: Evidence) -> list[Span]:
    """The times in which the pair did not hold both legs, or the hedge was not its share of the main leg.

    Times in which one of them held a person's own position are left out.
    """
    main, hedge = evidence.addresses["main"], evidence.addresses["hedge"]
    found: list[Span] = []
    for coin in sorted({fill.coin for fill in evidence.fills}):
        held = {main: ZERO, hedge: ZERO}
        ratio: Decimal | None = None
        span: Span | None = None
        for fill in evidence.fills:
            if fill.coin != coin:
                continue
            held[fill.user] = fill.end
            whose = evidence.known.get(fill.cloid)
            if whose is not None and whose.purpose is Purpose.ENTRY and whose.trade.main.size_approved:
                ratio = whose.trade.hedge.size_approved / whose.trade.main.size_approved
            strange = any(evidence.is_foreign(user, coin, fill.at) for user in held)
            if any(held.values()) and not strange and _is_dangerous(held[main], held[hedge], ratio):
                if span is None:
                    entering = whose is not None and whose.purpose is Purpose.ENTRY
                    span = Span("alone", main if held[main] else hedge, coin, fill.at, entering=entering)
                    found.append(span)
            elif span is not None:
                span.ended, span = fill.at, None
    return found


def _is_dangerous(main: Decimal, hedge: Decimal, ratio: Decimal | None) -> bool:
    if main * hedge >= 0:
        return True
    low, high = RATIO_BAND
    return ratio is not None and not low <= -hedge / main / ratio <= high


def _two_legged(evidence: Evidence) -> Iterator[Violation]:
    for span in alone(evidence):
        seconds = ENTERING_SECONDS_MAX if span.entering else ALONE_SECONDS_MAX
        yield from _outlasting(evidence, "TWO-LEGGED", span, ALONE_SECONDS_MAX, seconds)


def _guarded(evidence: Evidence) -> Iterator[Violation]:
    ours = set(evidence.addresses.values())
    for span in evidence.naked:
        if span.user in ours and not evidence.is_foreign(span.user, span.coin, span.began):
            yield from _outlasting(evidence, "GUARDED", span, NAKED_SECONDS_MAX, REARMED_SECONDS_MAX)
    for span in evidence.uncovered:
        yield Violation(
            "GUARDED", span.began, f"{span.user[:8]} {span.coin}: its stop was cancelled before it was flat"
        )


def _outlasting(
    evidence: Evidence, name: str, span: Span, seconds_max: float, undisturbed_max: float
) -> Iterator[Violation]:
    """A dangerous state may outlast its limit only while faults strike and no sweep that saw everything ended well.

    In the calm at the end it may not last at all.
    """
    ended = span.ended or evidence.ended_at
    lasted = (ended - span.began).total_seconds()
    where = f"{span.user[:8]} {span.coin}: {span.what} for {lasted:.0f} s"
    seen = evidence.clean_between(span.began, ended - timedelta(seconds=1))
    if lasted > seconds_max and seen:
        yield Violation(name, span.began, f"{where}, past the sweep of {seen[0].began:%H:%M:%S} that ended well")
    elif lasted > undisturbed_max and evidence.undisturbed(span.began, undisturbed_max):
        yield Violation(name, span.began, f"{where}, and nothing had gone wrong")
    elif (ended - max(span.began, evidence.calm_since)).total_seconds() > CALM_SECONDS_MAX:
        yield Violation(name, span.began, f"{where}, in the calm too")


def _orphans(evidence: Evidence) -> Iterator[Violation]:
    """A position nobody recorded is closed within a few sweeps where a person chose so.

    They count anew from each of our closes that the venue filled in part.
    """
    if evidence.foreign != "close":
        return
    for slot, times in evidence.held.items():
        for held in times:
            until = held.until or evidence.ended_at
            ours = [f.at for f in evidence.slots[slot] if held.since <= f.at < until and not f.by_hand]
            seen = evidence.clean_between(max([held.since, *ours]), until)
            if not held.opener and len(seen) > ORPHAN_SWEEPS:
                text = f"{slot[0][:8]} {slot[1]}: nobody's position is not closed after {len(seen)} sweeps"
                yield Violation("GUARDED", held.since, text)


# -- TRUTH -----------------------------------------------------------------------------------------


def _slot(evidence: Evidence, trade: Trade, role: LegRole) -> tuple[str, str]:
    leg = trade.leg(role)
    return evidence.addresses[leg.account], leg.market.split(":", 1)[1]


def _true_ends(evidence: Evidence) -> Iterator[Violation]:
    """A trade is not ended in the records while the venue holds what it opened."""
    for trade in evidence.trades:
        if trade.state not in ENDED or trade.closed_at is None:
            continue
        for role in LegRole:
            slot = _slot(evidence, trade, role)
            around = timedelta(seconds=CLOCK_SECONDS)
            for held in evidence.held.get(slot, ()):
                if held.opener != trade.trade_id:
                    continue
                if held.covers(trade.closed_at - around, trade.closed_at + around):
                    yield Violation(
                        "TRUTH", trade.closed_at, f"{trade.trade_id} is {trade.state} and its {role} leg held"
                    )
                elif held.since > trade.closed_at + around:
                    yield Violation("TRUTH", held.since, f"{trade.trade_id} is {trade.state} and its {role} leg filled")


def _gone_indeed(evidence: Evidence) -> Iterator[Violation]:
    """A trade that is closed because a leg of it is gone had one that was: one empty answer closes nothing."""
    left: dict[str, datetime] = {}
    for order in evidence.dump["orders"]:
        whose = evidence.known.get(order["cloid"] or "")
        if whose is not None and whose.purpose is Purpose.CLOSE:
            left.setdefault(whose.trade.trade_id, utc_from_ms(order["timestamp"]))
    for trade in evidence.trades:
        at = left.get(trade.trade_id)
        if at is None or not GONE.search(trade.why_closed):
            continue
        slots = [_slot(evidence, trade, role) for role in LegRole]
        if all(any(h.opener == trade.trade_id and h.covers(at, at) for h in evidence.held.get(s, ())) for s in slots):
            yield Violation("TRUTH", at, f"{trade.trade_id}: {trade.why_closed!r}, and both legs were held")


def _true_records(evidence: Evidence) -> Iterator[Violation]:
    """At the end, after calm minutes, our records say what the venue held at the last sweep."""
    recorded: dict[tuple[str, str], Decimal] = {}
    for trade in evidence.trades:
        if trade.state in ENDED:
            continue
        for leg in trade.legs:
            key = _slot(evidence, trade, leg.role)
            recorded[key] = recorded.get(key, ZERO) + leg.size_open * leg.side.sign
    last = max((s.began for s in evidence.sweeps if s.clean), default=evidence.calm_since)
    since = {fill.slot for fill in evidence.fills if fill.at >= last}
    for key in sorted({*recorded, *evidence.open_positions} - since):
        ours, theirs = recorded.get(key, ZERO), evidence.open_positions.get(key, ZERO)
        if ours != theirs and not evidence.is_foreign(*key, evidence.ended_at):
            text = f"{key[0][:8]} {key[1]}: recorded {plain(ours)}, held {plain(theirs)}"
            yield Violation("TRUTH", evidence.ended_at, text)


def _corrected(evidence: Evidence) -> Iterator[Violation]:
    """What a person did to a leg of ours by hand is noticed, and said in the audit, within two sweeps."""
    for fill in evidence.fills:
        trade = _hand_on(evidence, fill)
        if trade is None:
            continue
        sweeps = evidence.clean_between(fill.at, evidence.ended_at)[:2]
        if len(sweeps) < 2:
            continue
        said = [t for t in evidence.told if t.trade_id == trade.trade_id and t.at >= fill.at - timedelta(seconds=3)]
        if not any(t.at <= sweeps[1].ended + timedelta(seconds=3) for t in said) and evidence.undisturbed(
            fill.at, (sweeps[1].ended - fill.at).total_seconds()
        ):
            text = f"{trade.trade_id}: {plain(fill.size)} {fill.coin} by hand is in no audit entry after two sweeps"
            yield Violation("TRUTH", fill.at, text)


def _hand_on(evidence: Evidence, fill: Filled) -> Trade | None:
    """The trade whose leg a hand's fill changed."""
    if not fill.by_hand or not fill.start:
        return None
    for held in evidence.held.get(fill.slot, ()):
        if held.opener and held.since < fill.at and (held.until is None or fill.at <= held.until):
            return next(t for t in evidence.trades if t.trade_id == held.opener)
    return None


def _finished(evidence: Evidence) -> Iterator[Violation]:
    """After calm minutes every trade rests, and sweeps end well."""
    calm = [s for s in evidence.sweeps if s.began > evidence.calm_since + timedelta(seconds=CALM_SECONDS_MAX)]
    if calm and not any(s.clean for s in calm):
        yield Violation("GUARDED", evidence.calm_since, f"none of {len(calm)} sweeps in the calm ended well")
    for trade in evidence.trades:
        since = max(trade.updated_at, evidence.calm_since)
        stuck = (evidence.ended_at - since).total_seconds() > STUCK_SECONDS_MAX
        if trade.state not in RESTING and stuck and trade.created_at < evidence.calm_since:
            text = f"{trade.trade_id} is {trade.state} since {trade.updated_at:%H:%M:%S}"
            yield Violation("TWO-LEGGED", trade.updated_at, text)
