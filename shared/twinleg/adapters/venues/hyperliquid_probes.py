"""The open questions about Hyperliquid, each asked of the venue itself: what it does is told from its own words.

A probe is named like the paper venue's switch that plays the possible answers, and returns the position of that switch.
It leaves whatever it made to the bench, which tidies after each. Source of the questions: docs/probes.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from twinleg.adapters.venues.hyperliquid_probe_bench import NOTIONAL_USD, Answer, Bench, Placed, Untold
from twinleg.adapters.venues.hyperliquid_reads import number
from twinleg.domain.errors import TwinlegError
from twinleg.domain.money import floor_to, plain

Position = str | bool | int
D = Decimal

DUPLICATE, LOW, EXPIRED = "Invalid nonce: duplicate nonce", "Invalid nonce: nonce too low", "Action already expired"
FAR_BELOW, FAR_STOP = D("0.6"), D("0.75")
"""Of the mark: where an order rests that nobody will take, and where a stop waits that nothing will reach."""
TWO_DAYS_MS = 172_800_000
BEYOND_WINDOW_MS = 1_000


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to one question: ``position`` is None where it could not be told, and ``why`` says why."""

    switch: str
    position: Position | None
    evidence: tuple[str, ...]
    why: str = ""


def ask_all(bench: Bench, names: tuple[str, ...], said: Callable[[Told], None]) -> Iterator[Told]:
    """Ask each question in turn; the bench is tidy after each, whatever happened. ``said`` hears of each at once.

    Raises LeftBehind when something could not be tidied away: then nothing more is asked.
    """
    for name in names:
        bench.spare()
        told = _asked(bench, name)
        said(told)
        yield told


def _asked(bench: Bench, name: str) -> Told:
    bench.said.clear()
    position: Position | None = None
    why = ""
    try:
        position = PROBES[name](bench)
    except Untold as untold:
        why = str(untold)
    except TwinlegError as failure:
        why = f"{type(failure).__name__}: {failure}"
    finally:
        evidence = tuple(bench.said)
        bench.tidy()
    return Told(name, position, evidence, why)


# -- nonces --------------------------------------------------------------------------------------


def nonce_window_margin_ms(bench: Bench) -> Position:
    """How much narrower than 2 days back the window of nonces is; by the words of a refusal, so that none is spent."""
    now_ms = bench.now_ms()
    answer = bench.noop(bench.main, now_ms - TWO_DAYS_MS + BEYOND_WINDOW_MS)
    if answer.accepted:
        return 0
    low = re.search(r"nonce too low \d+ < (\d+)", answer.words)
    if low is None:
        raise Untold(f"the refusal names no bound: {answer.words}")
    margin = int(low[1]) - (now_ms - TWO_DAYS_MS)
    if margin > TWO_DAYS_MS // 2:
        raise Untold("the key has spent a hundred newer nonces, which hide the window: ask with a fresh key")
    return round(margin / 1000) * 1000


def rejected_action_spends_nonce(bench: Bench) -> Position:
    """Two kinds of refusal of a whole action, each followed by a noop under its nonce."""
    impossible = bench.leverage(bench.main, bench.rules.max_leverage + 1000)
    first = _spent_by(bench, impossible)
    margin = {"type": "updateIsolatedMargin", "asset": bench.rules.asset, "isBuy": True, "ntli": 1_000_000}
    second = _spent_by(bench, bench.act(bench.main, margin, "add margin to no position"))
    if first != second:
        raise Untold(f"it depends on the refusal: {'spent' if first else 'not spent'} by the first, not by the second")
    return first


def _spent_by(bench: Bench, refused: Answer) -> bool:
    """Whether a refused action's nonce is spent, by a noop under it."""
    if not refused.refusal or refused.refusal.startswith(("Invalid nonce", "User or API", "Must deposit")):
        raise Untold(f"it was not the action that was refused: {refused.words}")
    return _is_spent(bench.noop(bench.main, refused.nonce))


def _is_spent(noop: Answer) -> bool:
    if noop.accepted:
        return False
    if noop.refusal.startswith(DUPLICATE):
        return True
    raise Untold(f"noop was answered with neither ok nor duplicate: {noop.words}")


def refused_order_spends_nonce(bench: Bench) -> Position:
    """An order refused for margin is an action that ran: its nonce, by a noop under it."""
    price = bench.price(bench.mark * FAR_BELOW)
    free = _available_usd(bench)
    size = bench.size(price, max(free, D(100)) * 100)
    wire = {"type": "order", "orders": [bench.order("buy", price, size)], "grouping": "na"}
    answer = bench.act(bench.main, wire, f"Ioc buy {plain(size)} at {plain(price)}, more than the margin allows")
    if not answer.accepted or "error" not in answer.words:
        raise Untold(f"the order was not refused: {answer.words}")
    return _is_spent(bench.noop(bench.main, answer.nonce))


def expired_action_spends_nonce(bench: Bench) -> Position:
    """Whether the nonce is looked at before the expiry: two ways to see it, which must agree."""
    leverage, isolated = bench.venue.leverage(bench.main, bench.market)
    wire = {"type": "updateLeverage", "asset": bench.rules.asset, "isCross": not isolated, "leverage": leverage}
    late = bench.act(bench.main, wire, "leverage, expired", expires_ms=bench.now_ms() - 60_000)
    if not late.refusal.startswith(EXPIRED):
        raise Untold(f"an expired action was answered: {late.words}")
    spends = _is_spent(bench.noop(bench.main, late.nonce))
    ran = bench.act(bench.main, wire, "leverage")
    expires = bench.now_ms() - 60_000
    again = bench.act(bench.main, wire, "the same nonce again, expired", nonce=ran.nonce, expires_ms=expires)
    if not ran.accepted or not again.refusal.startswith((DUPLICATE, EXPIRED)):
        raise Untold(f"a copy of what ran was answered: {again.words}")
    if spends != again.refusal.startswith(DUPLICATE):
        raise Untold("an expired action spends its nonce or not, and a late copy of what ran says the opposite")
    return spends


def noop_on_spent_nonce(bench: Bench) -> Position:
    """What a noop under a nonce that an accepted action spent is answered."""
    first = bench.noop(bench.main)
    if not first.accepted:
        raise Untold(f"a noop under a new nonce was answered: {first.words}")
    second = bench.noop(bench.main, first.nonce)
    return "duplicate" if second.refusal.startswith(DUPLICATE) else second.words


# -- orders that rest far away -------------------------------------------------------------------


def duplicate_open_cloid(bench: Bench) -> Position:
    """A second order under the client order id of one that rests."""
    price = bench.price(bench.mark * FAR_BELOW)
    first = _rested(bench, bench.order("buy", price, bench.size(price), tif="Gtc"))
    bench.settle()
    again = bench.order("buy", price, bench.size(price), tif="Gtc", client_order_id=first.client_order_id)
    [second] = bench.place(bench.main, again)
    return "accept" if second.word == "resting" else _refused_for(second, "reject")


def _rested(bench: Bench, wire: dict[str, object]) -> Placed:
    [placed] = bench.place(bench.main, wire)
    if placed.word != "resting" or placed.order_id is None:
        raise Untold(f"an order far from the price did not rest: {placed.error or placed.word}")
    return placed


OTHER_REASONS = ("margin", "minimum value", "tick", "open interest", "Only post-only", "Too many", "80%")


def _refused_for(placed: Placed, position: str) -> str:
    """*position*, when the order was refused for what was asked about and not for something else."""
    if placed.word != "error" or any(reason in placed.error for reason in OTHER_REASONS):
        raise Untold(f"it was answered for another reason: {placed.error or placed.word}")
    return position


def reduce_only_trigger_needs_position(bench: Bench) -> Position:
    """A reduce-only stop while nothing is held."""
    price = bench.price(bench.mark * FAR_STOP)
    [stop] = bench.place(bench.main, bench.order("sell", price, bench.size(price), reduce_only=True, trigger="sl"))
    if stop.word in ("resting", "waitingForTrigger"):
        return False
    if "Reduce only" not in stop.error and "reduce only" not in stop.error:
        raise Untold(f"it was refused for another reason: {stop.error or stop.word}")
    return True


def modify_keeps_old_when_rejected(bench: Bench) -> Position:
    """A resting order modified into one that is too small to be taken."""
    price = bench.price(bench.mark * FAR_BELOW)
    old = _rested(bench, bench.order("buy", price, bench.size(price), tif="Gtc"))
    bench.settle()
    answer = bench.modify(bench.main, old.order_id or 0, bench.order("buy", price, bench.rules.lot, tif="Gtc"))
    if answer.accepted and "error" not in answer.words:
        raise Untold("a modify into an order under the minimum was accepted")
    return _still_open(bench, old)


def _still_open(bench: Bench, placed: Placed) -> bool:
    rows = bench.agreed(lambda: any(o["oid"] == placed.order_id for o in bench.orders(bench.main)))
    bench.note(f"open orders, read twice: it is {'still' if rows else 'not'} there")
    return rows


def modify_always_place_rule(bench: Bench) -> Position:
    """A resting Gtc order modified to another price, without ``a``: under the 2026 rule it becomes post-only."""
    price = bench.price(bench.mark * FAR_BELOW)
    old = _rested(bench, bench.order("buy", price, bench.size(price), tif="Gtc"))
    bench.settle()
    moved = bench.price(price * D("0.99"))
    wire = bench.order("buy", moved, bench.size(moved), tif="Gtc")
    answer = bench.modify(bench.main, old.order_id or 0, wire)
    if not answer.accepted:
        raise Untold(f"the modify was refused: {answer.words}")
    kinds = bench.agreed(lambda: [str(o.get("tif")) for o in bench.orders(bench.main) if o.get("cloid") == wire["c"]])
    bench.note(f"open orders: tif {', '.join(kinds) or 'not listed'}")
    if kinds not in (["Alo"], ["Gtc"]):
        raise Untold(f"the replacement is listed as {kinds}")
    return kinds == ["Alo"]


def market_order_cap(bench: Bench) -> Position:
    """An immediate order at half the price, for 35 million: its refusal names the cap. It cannot fill."""
    if bench.rules.max_leverage < 25:
        raise Untold(
            f"the cap in question is that of coins of 25x and more; {bench.coin} has {bench.rules.max_leverage}"
        )
    price = bench.price(bench.mark / 2)
    [placed] = bench.place(bench.main, bench.order("buy", price, bench.size(price, D(35_000_000))))
    cap = re.search(r"Max is \$([\d,]+)", placed.error)
    if cap is None:
        raise Untold(f"no cap was named: {placed.error or placed.word}")
    millions = int(cap[1].replace(",", "")) // 1_000_000
    if millions not in (15, 30):
        raise Untold(f"the cap is {millions} million")
    return f"{millions}M"


def price_band_reference(bench: Bench) -> Position:
    """A sell at a price within 80 % of one of mark and oracle, and beyond it of the other."""
    for _ in range(3):
        before = bench.context()
        low, high = sorted(before)
        edge = bench.price((low + high) / 2 * D("1.8"))
        if not (low * D("1.8") + (high - low) / 5 < edge < high * D("1.8") - (high - low) / 5):
            raise Untold(f"mark {plain(before[0])} and oracle {plain(before[1])} are too near each other")
        outside = bench.price(high * D("1.9"))
        [beyond] = bench.place(bench.main, bench.order("sell", outside, bench.size(outside), tif="Gtc"))
        if "80%" not in beyond.error:
            raise Untold(f"a price 90 % away is not refused for 80 %: {beyond.error or beyond.word}")
        [placed] = bench.place(bench.main, bench.order("sell", edge, bench.size(edge), tif="Gtc"))
        after = bench.context()
        bench.note(f"mark {plain(before[0])}, oracle {plain(before[1])}; after it {plain(after[0])}, {plain(after[1])}")
        inside = [all(abs(edge - at[n]) <= at[n] * D("0.8") for at in (before, after)) for n in (0, 1)]
        outside_of = [all(abs(edge - at[n]) > at[n] * D("0.8") for at in (before, after)) for n in (0, 1)]
        accepted = placed.word == "resting"
        if not accepted and "80%" not in placed.error:
            raise Untold(f"it was refused for another reason: {placed.error or placed.word}")
        for number_, name in ((0, "mark"), (1, "oracle")):
            other = 1 - number_
            if (inside[number_] and outside_of[other]) if accepted else (outside_of[number_] and inside[other]):
                return name
        bench.tidy()
    raise Untold("mark and oracle moved too much meanwhile")


# -- a tiny position -----------------------------------------------------------------------------


def woken_children_answer(bench: Bench) -> Position:
    """What a bracket's children answer when their parent fills at once."""
    _, ask = bench.quote()
    size = bench.size(ask)
    parent, *children = bench.place(
        bench.main, *_bracket(bench, bench.price(ask * D("1.02")), size), grouping="normalTpsl"
    )
    if parent.word != "filled" or parent.filled < size:
        raise Untold(f"the parent did not fill whole: {parent.error or parent.word}")
    words = {child.word for child in children}
    if len(words) != 1 or not words <= {"waitingForTrigger", "waitingForFill"}:
        raise Untold(f"the children answered {sorted(words)}")
    return words.pop()


def _bracket(bench: Bench, price: Decimal, size: Decimal) -> list[dict[str, object]]:
    stop, target = bench.price(price * FAR_STOP), bench.price(price * D("1.25"))
    return [
        bench.order("buy", price, size),
        bench.order("sell", stop, size, reduce_only=True, trigger="sl"),
        bench.order("sell", target, size, reduce_only=True, trigger="tp"),
    ]


def position_tpsl_size_shown(bench: Bench) -> Position:
    """The size that open orders list for a stop that follows the position."""
    held = bench.enter()
    price = bench.price(bench.mark * FAR_STOP)
    wire = bench.order("sell", price, held, reduce_only=True, trigger="sl")
    [stop] = bench.place(bench.main, wire, grouping="positionTpsl")
    if stop.word == "error":
        raise Untold(f"the stop was refused: {stop.error}")
    bench.settle()
    shown = [number(o["sz"]) for o in bench.orders(bench.main) if o.get("cloid") == wire["c"]]
    bench.note(f"open orders: sz {', '.join(map(plain, shown)) or 'not listed'}; held {plain(held)}")
    if shown == [D(0)]:
        return "zero"
    if shown != [held]:
        raise Untold("neither the position's size nor zero is shown")
    return "position"


def triggers_canceled_when_flat(bench: Bench) -> Position:
    """A reduce-only stop whose position is then closed by another order."""
    held = bench.enter()
    stop_price = bench.price(bench.mark * FAR_STOP)
    [stop] = bench.place(bench.main, bench.order("sell", stop_price, held, reduce_only=True, trigger="sl"))
    if stop.word != "resting" or stop.order_id is None:
        raise Untold(f"the stop did not come to rest: {stop.error or stop.word}")
    bench.settle()
    bid, _ = bench.quote()
    [close] = bench.place(bench.main, bench.order("sell", bench.price(bid * D("0.98")), held, reduce_only=True))
    if close.word != "filled" or close.filled < held:
        raise Untold(f"the position was not closed whole: {close.error or close.word}")
    return not _still_open(bench, stop)


def plain_gtc_close_below_minimum(bench: Bench) -> Position:
    """A position worth under $10, and a plain resting order that would close exactly it."""
    _, ask = bench.quote()
    least, price = bench.rules.notional_usd_min, bench.price(ask * D("1.02"))
    size = floor_to(least / (price * D("1.005")), bench.rules.lot)
    if not size:
        raise Untold(f"the smallest size, {plain(bench.rules.lot)}, is worth more than the minimum")
    limit = bench.rules.price(least / size, up=True)  # an order's worth is judged by its limit
    if limit > ask * D("1.5"):
        raise Untold(f"a lot of {plain(bench.rules.lot)} is too coarse to be worth a little less than the minimum")
    held = bench.enter(limit=limit, size=size)
    if held != size:
        raise Untold(f"only {plain(held)} of {plain(size)} was bought")
    [placed] = bench.place(bench.main, bench.order("sell", price, held, tif="Gtc"))
    if placed.word == "resting":
        return True
    if "minimum value" not in placed.error:
        raise Untold(f"it was refused for another reason: {placed.error or placed.word}")
    return False


def cross_margin_follows_leverage(bench: Bench) -> Position:
    """The margin of an open cross position before and after its leverage is set from 2x to 4x."""
    if bench.rules.only_isolated or bench.rules.max_leverage < 4:
        raise Untold(f"{bench.coin} has no cross margin at 4x")
    bench.set_leverage(bench.main, 2)
    bench.enter()
    if round(_margin_share(bench), 2) != D("0.5"):
        raise Untold("at 2x the margin is not half of the position's value")
    bench.set_leverage(bench.main, 4)
    share = bench.agreed(lambda: round(_margin_share(bench), 2))
    if share not in (D("0.25"), D("0.5")):
        raise Untold(f"the margin is {share} of the position's value")
    return share == D("0.25")


def _margin_share(bench: Bench) -> Decimal:
    found = next((p for p in bench.positions(bench.main) if p["coin"] == bench.coin), None)
    if found is None:
        raise Untold("the position is not seen")
    used, value = number(found["marginUsed"]), number(found["positionValue"])
    bench.note(f"marginUsed {plain(used)} of positionValue {plain(value)}, leverage {found['leverage']}")
    return used / value


def new_order_margin_price(bench: Bench) -> Position:
    """An immediate order that the free collateral pays for at the price it fills at, and not at its limit.

    Nearly all of the free collateral is tied up first, by an order that rests at 60 % of the price.
    """
    bench.set_leverage(bench.main, 1, cross=not bench.rules.only_isolated)
    _, ask = bench.quote()
    size, limit = bench.size(ask), bench.price(ask * D("1.3"))
    wanted = size * ask * D("1.15")
    free, far = _available_usd(bench), bench.price(bench.mark * FAR_BELOW)
    tied = floor_to((free - wanted) / far, bench.rules.lot)
    if tied * far < NOTIONAL_USD:
        raise Untold(f"the account is too small: free {plain(free)} USD")
    _rested(bench, bench.order("buy", far, tied, tif="Gtc"))
    bench.settle()
    left = _available_usd(bench)
    bench.note(f"free {plain(left)} USD; {plain(size * ask)} needed at the ask, {plain(size * limit)} at the limit")
    if not size * ask * D("1.02") < left < size * limit * D("0.98"):
        raise Untold("what is free could not be brought between the two")
    [placed] = bench.place(bench.main, bench.order("buy", limit, size))
    if placed.word == "filled":
        return "fill"
    if "nsufficient margin" not in placed.error:
        raise Untold(f"it was refused for another reason: {placed.error or placed.word}")
    return "limit"


def _available_usd(bench: Bench) -> Decimal:
    """What the venue says the main account may still put into a long at its present leverage, as margin."""
    raw = bench.ask({"type": "activeAssetData", "user": bench._user(bench.main), "coin": bench.coin})
    return number(raw["availableToTrade"][0])


# -- a partial fill, which the other account provides --------------------------------------------


def partial_gtc_answer(bench: Bench) -> Position:
    """The answer to a Gtc order that fills in part and rests the remainder."""
    placed, _ = _partly(bench, "Gtc")
    if placed.word not in ("resting", "filled"):
        raise Untold(f"it answered {placed.error or placed.word}")
    return placed.word


def order_status_size(bench: Bench) -> Position:
    """What orderStatus shows as left of an open order that filled in part."""
    for _ in range(3):
        placed, offered = _partly(bench, "Gtc")
        said = bench.status(bench.main, placed.client_order_id)
        shown, asked = number(said["sz"]), number(said["origSz"])
        if said["status"] == "open" and shown in (asked, asked - offered):
            return "stale" if shown == asked else "fresh"
        bench.tidy()
    raise Untold("the order is not open any more, or something else is shown, each time")


def partial_ioc_status(bench: Bench) -> Position:
    """The last status of an immediate order that filled in part."""
    placed, _ = _partly(bench, "Ioc")
    bench.settle()
    word = str(bench.status(bench.main, placed.client_order_id)["status"])
    if word not in ("canceled", "filled"):
        raise Untold(f"its status is {word}")
    return word


def children_wake_on_partial(bench: Bench) -> Position:
    """Whether a bracket's stop waits for its trigger once the parent filled in part and is over."""
    price, offered = bench.offer()
    wires = _bracket(bench, price, 2 * offered)
    parent, *_ = bench.place(bench.main, *wires, grouping="normalTpsl")
    if parent.word != "filled" or not 0 < parent.filled < 2 * offered:
        raise Untold(f"the parent did not fill in part: {parent.error or parent.word} {plain(parent.filled)}")
    ids = {str(wire["c"]) for wire in wires[1:]}
    waiting = bench.agreed(lambda: sorted(str(o["cloid"]) for o in bench.orders(bench.main) if o.get("cloid") in ids))
    bench.note(f"open orders, read twice: {len(waiting)} of {len(ids)} children wait")
    for id in sorted(ids):
        bench.status(bench.main, id)
    if len(waiting) not in (0, len(ids)):
        raise Untold("one child waits and the other does not")
    return bool(waiting)


def _partly(bench: Bench, tif: str) -> tuple[Placed, Decimal]:
    """An order of the main account for twice what the hedge account offers; what it answered and what was offered."""
    for _ in range(3):
        price, offered = bench.offer()
        [placed] = bench.place(bench.main, bench.order("buy", price, 2 * offered, tif=tif))
        held = bench.held(bench.main)
        if not held:  # the read may be of before it
            bench.settle()
            held = bench.held(bench.main)
        bench.note(f"held after it: {plain(held)} of {plain(2 * offered)}")
        if held == offered:
            return placed, offered
        bench.tidy()
    raise Untold("another trader met the orders each time")


# -- what cannot be asked ------------------------------------------------------------------------


def funding_rounding(_: Bench) -> Position:
    raise Untold(
        "it needs a position held over the hour, and the oracle price of that very second, which no read gives"
    )


PROBES: dict[str, Callable[[Bench], Position]] = {
    probe.__name__: probe
    for probe in (
        nonce_window_margin_ms, rejected_action_spends_nonce, refused_order_spends_nonce, expired_action_spends_nonce,
        noop_on_spent_nonce, duplicate_open_cloid, reduce_only_trigger_needs_position, modify_keeps_old_when_rejected,
        modify_always_place_rule, market_order_cap, price_band_reference, partial_gtc_answer, order_status_size,
        partial_ioc_status, woken_children_answer, children_wake_on_partial, position_tpsl_size_shown,
        triggers_canceled_when_flat, plain_gtc_close_below_minimum, cross_margin_follows_leverage,
        new_order_margin_price, funding_rounding,
    )
}  # fmt: skip
"""Every question, in the order they are asked: first those that hold nothing."""
