"""How a signed action is carried, on the paper venue in this process: what is written, sent, said and concluded.

The bytes, records and answers are the real ones; only the sockets between the adapter and the venue are left out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import order_bench as bench
from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
from twinleg.bootstrap import account_addresses
from twinleg.domain.candles import ms_from_utc
from twinleg.domain.errors import BadInput, Conflict, InvariantBroken, OutcomeUnknown, Unavailable
from twinleg.domain.orders import AckState, OrderKind
from twinleg.engine.budget import requests_left, weights
from twinleg.engine.orderpath import ALLOTMENT_TRIES, ActionState, order_report
from twinleg.engine.pages import action_document
from twinleg.engine.ports import (
    AddMargin,
    CancelOrders,
    Create,
    Noop,
    PlaceReduction,
    SetLeverage,
    SignerRole,
    Steps,
    VenueAction,
    Venues,
)
from twinleg.engine.system import Engine

D = bench.D
START = bench.START
BTC = bench.BTC
S = bench.S
LOST = bench.LOST
UNHEARD = bench.UNHEARD
lost = bench.lost
throttled = bench.throttled
refused = bench.refused
unknown = bench.unknown
Desk = bench.Desk
order = bench.order
entry = bench.entry
reduction = bench.reduction
OTHERS = bench.OTHERS


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.venue.close()


# -- writing ahead -----------------------------------------------------------------------------------


def test_the_record_the_step_and_the_nonce_are_written_before_anything_is_sent(desk: Desk) -> None:
    id = desk.write()
    signer, now = desk.adapter.signer("main", SignerRole.EXECUTE), desk.clock.now()
    nonce = ms_from_utc(now)
    assert id == f"{signer}:{nonce}" and desk.line.seen == []
    found = desk.record(id)
    expected: dict[str, Any] = {
        "state": S.WRITTEN, "kind": "PlaceEntry", "account": "main", "market": BTC, "trade_id": "t1",
        "adds_exposure": True, "client_order_ids": (order().client_order_id,), "signer": signer,
        "role": SignerRole.EXECUTE,
        "nonce": nonce, "expires_at": now + timedelta(seconds=15), "created_at": now,
        "transitions": (f"{now.isoformat()} written",), "summary": f"PlaceEntry {BTC} on main for t1",
    }  # fmt: skip
    assert {name: getattr(found, name) for name in expected} == expected
    step, allotted = desk.system.store.get("steps", "s1"), desk.system.store.get("signers", signer)
    assert step is not None and step.data == {"action": id}
    assert allotted is not None and allotted.data == {
        "last_nonce": nonce, "account": "main", "role": "execute", "at": now,
        "summary": f"main execute: last nonce {nonce}",
    }  # fmt: skip
    desk.path.outcome(id)
    [sent] = desk.line.seen
    assert sent == json.loads(found.body)


def test_nonces_of_one_signer_are_each_one_more_at_least(desk: Desk) -> None:
    """At the same moment, and after the clock was set back."""
    first = desk.write()
    store, signer = desk.system.store, desk.adapter.signer("main", SignerRole.EXECUTE)
    second = desk.write(reduction(), desk.process(), "s2")
    ahead = ms_from_utc(START) + 9_000
    noted = store.get("signers", signer)
    assert noted is not None
    store.compare_and_set("signers", signer, {**noted.data, "last_nonce": ahead, "expires_at": "kept"}, noted.version)
    third = desk.write(reduction(3), desk.process(), "s3")
    assert [id.split(":")[1] for id in (first, second, third)] == [
        str(ms_from_utc(START)), str(ms_from_utc(START) + 1), str(ahead + 1)
    ]  # fmt: skip
    noted = store.get("signers", signer)
    assert noted is not None and noted.data["expires_at"] == "kept" and noted.data["last_nonce"] == ahead + 1


def test_the_same_step_is_claimed_once(desk: Desk) -> None:
    desk.write()
    with pytest.raises(Conflict, match="t1: the step was claimed by another"):
        desk.write(path=desk.process())
    assert len(desk.actions) == 1 and desk.line.seen == []


def test_a_writer_that_is_overtaken_takes_the_next_nonce(desk: Desk) -> None:
    """Between its read of the last nonce and its write another process writes."""
    overtaken = 0
    first = OTHERS[0]

    def claim(_: str) -> list[Create]:
        nonlocal overtaken
        if overtaken < 2:
            overtaken += 1
            desk.write(first, desk.process(), f"other{overtaken}")
        return [Create("steps", "mine", {})]

    id = desk.path.write(entry(), trade_id="t1", claim=claim)
    assert id.endswith(str(ms_from_utc(START) + 2)) and len(desk.actions) == 3


def test_a_writer_that_is_overtaken_without_end_gives_up_without_a_trace(desk: Desk) -> None:
    turns = 0

    def claim(_: str) -> list[Create]:
        nonlocal turns
        turns += 1
        desk.write(OTHERS[0], desk.process(), f"other{turns}")
        return [Create("steps", "mine", {})]

    with pytest.raises(Unavailable, match=f"no nonce in {ALLOTMENT_TRIES} tries"):
        desk.path.write(entry(), trade_id="t1", claim=claim)
    assert turns == ALLOTMENT_TRIES == len(desk.actions) and desk.system.store.get("steps", "mine") is None


def test_what_another_process_wrote_is_found_out_and_not_sent_as_its_first_copy(desk: Desk) -> None:
    id = desk.write()
    found = desk.process().outcome(id)
    assert found.state is S.ACCEPTED and desk.position() == D("0.01")
    assert "sending again" in found.transitions[1]


def test_an_action_without_a_record_is_a_broken_invariant(desk: Desk) -> None:
    with pytest.raises(InvariantBroken, match="0xa:1 has no record"):
        desk.path.outcome("0xa:1")


# -- the kinds of actions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "asked"),
    [(OTHERS[0], "7x, isolated"), (OTHERS[1], order().client_order_id)],
    ids=["leverage", "cancel"],
)
def test_what_is_no_order_is_carried_alike(desk: Desk, action: VenueAction, asked: str) -> None:
    found = desk.path.outcome(desk.write(action))
    assert found.state is S.ACCEPTED and found.market == BTC and found.client_order_ids == ()
    assert not found.adds_exposure and found.kind == type(action).__name__ and found.asked == asked


def test_margin_is_added_once_though_its_answer_is_lost(desk: Desk) -> None:
    desk.path.outcome(desk.write(SetLeverage("main", BTC, 5, True)))
    desk.path.outcome(desk.write(step="s2"))
    before = desk.adapter.account("main").position(BTC)
    desk.fault(UNHEARD)
    found = desk.path.outcome(desk.write(AddMargin("main", BTC, D(50)), step="s3"))
    after = desk.adapter.account("main").position(BTC)
    assert before is not None and after is not None
    assert found.state is S.ACCEPTED and after.margin_used_usd - before.margin_used_usd == 50
    assert found.transitions[-1].endswith(" arrived -> accepted") and found.asked == "50 USD"


def test_an_entry_adds_exposure_and_a_reduction_does_not(desk: Desk) -> None:
    opened = desk.path.outcome(desk.write())
    assert opened.adds_exposure and desk.position() == D("0.01")
    closed = desk.path.outcome(desk.write(reduction(), step="s2"))
    assert not closed.adds_exposure and desk.position() == 0
    assert closed.ack(reduction().orders[0].client_order_id).state is AckState.FILLED


def test_noop_is_never_an_action_of_its_own(desk: Desk) -> None:
    with pytest.raises(InvariantBroken, match="noop is not an action of its own"):
        desk.write(Noop("main"))
    assert desk.actions == []


def test_each_order_has_its_own_acknowledgement(desk: Desk) -> None:
    wide = entry(order(1), order(2, size=D("0.02")))
    found = desk.path.outcome(desk.write(wide))
    first, second = (found.ack(o.client_order_id) for o in wide.orders)
    assert (first.filled_size, second.filled_size) == (D("0.01"), D("0.02"))
    never = found.model_copy(update={"state": S.NEVER_RAN, "reason": ""})
    assert never.ack(wide.orders[0].client_order_id).reason == "never_ran"
    short = found.model_copy(update={"acks": found.acks[:1]})
    assert short.ack(wide.orders[0].client_order_id) == first
    assert short.ack(wide.orders[1].client_order_id).state is AckState.REJECTED


# -- answers that are lost ---------------------------------------------------------------------------


def test_a_lost_request_is_sent_again_as_it_was(desk: Desk) -> None:
    desk.fault(LOST)
    found = desk.path.outcome(desk.write())
    assert found.state is S.ACCEPTED and desk.position() == D("0.01")
    assert desk.line.seen[0] == desk.line.seen[1] and len(desk.line.seen) == 2


def test_an_action_whose_answer_was_lost_is_read_and_not_done_again(desk: Desk) -> None:
    desk.fault(UNHEARD)
    wide = entry(order(1), order(2, size=D("0.02")))
    found = desk.path.outcome(desk.write(wide))
    assert found.state is S.ACCEPTED and desk.position() == D("0.03") and found.duplicate_seen
    assert [found.ack(o.client_order_id).state for o in wide.orders] == [AckState.FILLED] * 2
    assert found.acks[0].order_id and found.transitions[-1].endswith(" found -> accepted")


def test_a_request_lost_for_good_is_fenced_and_proved_never_to_have_run(desk: Desk) -> None:
    desk.fault(LOST, LOST)
    id = desk.write()
    found = desk.path.outcome(id)
    assert found.state is S.NEVER_RAN and found.reason == "fenced by noop" and not found.noop_unanswered
    assert desk.line.kinds == ["order", "order", "noop"]
    assert desk.line.seen[2]["nonce"] == desk.line.seen[0]["nonce"]
    assert desk.position() == 0 and desk.path.outcome(id) == found and len(desk.line.seen) == 3


def test_near_its_expiry_nothing_is_sent_again(desk: Desk) -> None:
    """Two seconds before it a copy could come too late, and its answer would prove nothing."""
    for seconds, kinds in ((12.9, ["order"]), (13, ["noop"]), (16, ["noop"])):
        desk.line.seen.clear()
        id = desk.write(step=f"{seconds}")
        desk.clock.sleep(seconds)
        found = desk.process().outcome(id)
        assert desk.line.kinds == kinds
        assert found.state is (S.ACCEPTED if kinds == ["order"] else S.NEVER_RAN)


def test_while_nothing_is_proved_the_outcome_is_unknown_and_nothing_is_repeated(desk: Desk) -> None:
    desk.fault(*[LOST] * 3)
    id = desk.write()
    with pytest.raises(OutcomeUnknown, match="has no verdict yet"):
        desk.path.outcome(id)
    assert desk.record(id).noop_unanswered and desk.line.kinds == ["order", "order", "noop"]
    with pytest.raises(OutcomeUnknown):
        desk.process().outcome(id)
    assert desk.line.kinds == ["order", "order", "noop"], "after an unanswered noop neither may be sent again"


def test_the_final_read_is_made_well_after_the_expiry_and_twice(desk: Desk) -> None:
    desk.fault(*[LOST] * 3)
    id = desk.write()
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    expires_at = desk.record(id).expires_at
    desk.clock.advance_to(expires_at + timedelta(seconds=4.9))
    with pytest.raises(OutcomeUnknown, match="has no verdict yet"):
        desk.path.outcome(id)
    desk.clock.advance_to(expires_at + timedelta(seconds=5))
    desk.line.reads.clear()
    found = desk.path.outcome(id)
    assert found.state is S.NEVER_RAN and "final read, twice" in found.transitions[-1]
    assert desk.clock.now() == expires_at + timedelta(seconds=10)
    assert desk.line.reads.count("frontendOpenOrders") == desk.line.reads.count("userFillsByTime") == 2


def test_a_trace_that_comes_between_the_two_readings_is_looked_at_again(desk: Desk) -> None:
    """Our bytes were held somewhere and reach the venue late, though it should take them no more."""
    desk.fault(*[LOST] * 3)
    id = desk.write()
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    record = desk.record(id)
    desk.venue.reply("/exchange", json.loads(record.body))
    desk.clock.advance_to(record.expires_at + timedelta(seconds=5))
    assert desk.path.outcome(id).state is S.ACCEPTED
    assert desk.position() == D("0.01")


def test_an_unanswered_change_that_is_no_order_leaves_no_trace_to_read(desk: Desk) -> None:
    desk.fault(*[LOST] * 3)
    id = desk.write(OTHERS[0])
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    desk.clock.advance_to(desk.record(id).expires_at + timedelta(seconds=5))
    found = desk.path.outcome(id)
    assert found.state is S.VANISHED and found.reason == "whether it ran cannot be read"


def test_a_venue_that_offers_no_noop_is_read_after_the_expiry_alone(desk: Desk) -> None:
    desk.adapter.capability = replace(desk.adapter.capability, noop=False)
    desk.fault(LOST, LOST)
    id = desk.write()
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    assert desk.line.kinds == ["order", "order"] and not desk.record(id).noop_unanswered
    desk.clock.advance_to(desk.record(id).expires_at + timedelta(seconds=5))
    assert desk.path.outcome(id).state is S.NEVER_RAN


@pytest.mark.parametrize("missing", [False, True])
def test_only_the_actions_own_key_may_fence_it(desk: Desk, missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another key's noop spends another key's nonce, and proves nothing."""
    desk.fault(LOST)
    id = desk.write()
    desk.clock.sleep(14)
    real, role = desk.adapter.signer, SignerRole.EXECUTE

    def signer(account: str, asked: SignerRole) -> str:
        if missing:
            raise BadInput("its key is not ours any more")
        return real(account, SignerRole.RISK if asked is role else asked)

    monkeypatch.setattr(desk.adapter, "signer", signer)
    with pytest.raises(OutcomeUnknown):
        desk.process().outcome(id)
    assert desk.line.kinds == []


# -- what is read ---------------------------------------------------------------------------------------


def unlisted(*cloids: str) -> Callable[[dict[str, Any]], Any]:
    """The venue's order status lags behind: it knows none of these (of any, when none is given)."""
    return lambda asked: (
        {"status": "unknownOid"} if asked["type"] == "orderStatus" and (not cloids or asked["oid"] in cloids) else None
    )


@pytest.mark.parametrize(("blind_seconds", "found"), [(1.4, True), (1.6, False)])
def test_an_action_that_arrived_is_looked_for_four_times_in_a_second_and_a_half(
    desk: Desk, blind_seconds: float, found: bool
) -> None:
    until = START + timedelta(seconds=blind_seconds)
    hidden = unlisted()
    desk.line.altered = lambda asked: hidden(asked) if desk.clock.now() < until else None
    desk.fault(UNHEARD)
    id = desk.write()
    if found:
        assert desk.path.outcome(id).state is S.ACCEPTED
        return
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    assert desk.record(id).state is S.ARRIVED and desk.line.reads.count("orderStatus") == 4
    assert desk.clock.now() == START + timedelta(seconds=1.5)
    sent = len(desk.line.seen)
    assert desk.process().outcome(id).state is not S.ARRIVED or len(desk.line.seen) == sent


def test_what_arrived_is_not_sent_again(desk: Desk) -> None:
    id = desk.left(state=S.ARRIVED)
    with pytest.raises(OutcomeUnknown):
        desk.process().outcome(id)
    assert desk.line.seen == []


@pytest.mark.parametrize(
    ("left", "kinds"),
    [
        ({"expired_copy_sent": True}, ["noop"]),
        ({"refused_copy_sent": True}, ["noop"]),
        ({"expires_at": None}, ["noop"]),
        ({"noop_unanswered": True}, []),
        ({"duplicate_seen": True, "expired_copy_sent": True}, []),
        ({"expires_at": None, "noop_unanswered": True}, []),
    ],
)
def test_what_may_still_be_sent_follows_from_what_was(desk: Desk, left: dict[str, Any], kinds: list[str]) -> None:
    id = desk.left(**left)
    if kinds:
        assert desk.process().outcome(id).state is S.NEVER_RAN
    else:
        with pytest.raises(OutcomeUnknown, match="has no verdict yet"):
            desk.process().outcome(id)
    assert desk.line.kinds == kinds


@pytest.mark.parametrize(
    ("left", "state"),
    [
        ({"noop_unanswered": True}, S.NEVER_RAN),
        ({"state": S.ARRIVED}, S.VANISHED),
        ({"duplicate_seen": True, "expired_copy_sent": True}, S.VANISHED),
        ({"refused_copy_sent": True, "noop_unanswered": True}, S.REJECTED),
        ({"refused_copy_sent": True, "duplicate_seen": True}, S.REJECTED),
    ],
)
def test_what_the_want_of_a_trace_proves(desk: Desk, left: dict[str, Any], state: ActionState) -> None:
    """With orders, fills and a position of others about, which are no trace of ours."""
    desk.path.outcome(desk.write(entry(order(7, size=D("0.03"))), step="filled"))
    desk.path.outcome(desk.write(reduction(9), step="less"))
    resting = order(8, limit_price=D(90_000), kind=OrderKind.LIMIT)
    desk.path.outcome(desk.write(entry(resting), step="resting"))
    id = desk.left(**left)
    desk.expire(id)
    assert desk.process().outcome(id).state is state


def test_a_position_that_the_last_of_many_fills_left_is_no_trace(desk: Desk) -> None:
    for number in (5, 6, 7, 8):
        desk.path.outcome(desk.write(entry(order(number)), step=f"filled {number}"))
        desk.clock.sleep(1)
    id = desk.left(noop_unanswered=True)
    desk.expire(id)
    assert desk.process().outcome(id).state is S.NEVER_RAN and desk.position() == D("0.04")


def test_the_position_that_a_close_was_to_end_is_no_trace_of_it(desk: Desk) -> None:
    """However long ago it was opened: or a close that was lost could never be made again."""
    desk.path.outcome(desk.write(step="opened"))
    desk.clock.sleep(120)
    desk.fault(*[LOST] * 3)
    id = desk.write(reduction())
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    desk.expire(id)
    assert desk.path.outcome(id).state is S.NEVER_RAN and desk.position() == D("0.01")


@pytest.mark.parametrize("rests", [True, False])
@pytest.mark.parametrize("appears", [0, 3])
def test_an_order_or_a_fill_that_the_final_read_sees_is_a_trace(desk: Desk, rests: bool, appears: int) -> None:
    """Also when the node that answered the first reading did not have it yet."""
    wanted = order(limit_price=D(90_000), kind=OrderKind.LIMIT) if rests else order()
    desk.fault({"kind": "500", "path": "/exchange", "execute": True})
    desk.line.answers = [lambda _: None, lost, lost]
    id = desk.write(entry(wanted))
    blind = unlisted()
    desk.line.altered = blind
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    desk.expire(id)
    seen_from = desk.clock.now() + timedelta(seconds=appears)

    def late(asked: dict[str, Any]) -> Any:
        if desk.clock.now() >= seen_from:
            return blind(asked)
        if asked["type"] == "clearinghouseState":
            return json.loads(desk.venue.reply("/info", asked).text) | {"assetPositions": []}
        return [] if asked["type"] in ("frontendOpenOrders", "userFillsByTime") else blind(asked)

    desk.line.altered = late
    with pytest.raises(OutcomeUnknown, match="left a trace that was not there before"):
        desk.path.outcome(id)
    assert desk.record(id).state is S.WRITTEN and (desk.clock.now() - seen_from).total_seconds() in (0, 2)


@pytest.mark.parametrize("late", [False, True])
def test_a_position_that_no_fill_explains_is_a_trace_of_an_entry(desk: Desk, late: bool) -> None:
    """Status, resting orders and fills lag behind, in both readings alike; the position's answer bears its time."""
    desk.fault({"kind": "500", "path": "/exchange", "execute": True})
    desk.line.answers = [lambda _: None, lost, lost]
    id = desk.write()
    status, listed = unlisted(), ("frontendOpenOrders", "userFillsByTime")
    desk.line.altered = blind = lambda asked: [] if asked["type"] in listed else status(asked)
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    asked = {"type": "clearinghouseState", "user": account_addresses(desk.system.settings)["main"][1]}
    old = json.loads(desk.venue.reply("/info", asked).text)
    old |= {"assetPositions": [], "time": ms_from_utc(desk.clock.now())}
    desk.expire(id)
    if late:  # and so does the position, which says so
        desk.line.altered = lambda asked: old if asked["type"] == "clearinghouseState" else blind(asked)
    with pytest.raises(OutcomeUnknown, match="has no verdict yet" if late else "left a trace"):
        desk.path.outcome(id)
    assert desk.record(id).state is S.WRITTEN
    desk.line.altered = lambda _: None
    assert desk.path.outcome(id).state is S.ACCEPTED and desk.position() == D("0.01")


def test_an_order_that_ended_without_a_fill_is_known_by_its_status_alone(desk: Desk) -> None:
    """It came late, rested and was cancelled; the status was not there yet when it was first looked for."""
    desk.fault({"kind": "500", "path": "/exchange", "execute": True})
    desk.line.answers = [lambda _: None, lost, lost]
    ended = order(limit_price=D(90_000), kind=OrderKind.LIMIT)
    id = desk.write(entry(ended))
    desk.line.altered = unlisted()
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    desk.path.outcome(desk.write(CancelOrders("main", BTC, (ended.client_order_id,)), step="s2"))
    desk.expire(id)
    desk.line.reads.clear()
    blind = unlisted()
    desk.line.altered = lambda asked: blind(asked) if desk.line.reads.count("orderStatus") == 1 else None
    with pytest.raises(OutcomeUnknown, match="left a trace"):
        desk.path.outcome(id)
    assert desk.path.outcome(id).state is S.ACCEPTED


def test_of_several_orders_those_that_the_venue_does_not_know_were_refused(desk: Desk) -> None:
    wide = entry(order(1), order(2, size=D("0.02")))
    desk.line.altered = unlisted(wide.orders[1].client_order_id)
    desk.fault(UNHEARD)
    found = desk.path.outcome(desk.write(wide))
    assert [found.ack(o.client_order_id).state for o in wide.orders] == [AckState.FILLED, AckState.REJECTED]


def test_of_several_reductions_the_first_too_may_be_the_one_that_was_refused(desk: Desk) -> None:
    """Of an entry that would be no verdict; what only reduces is placed again where it is missing."""
    desk.path.outcome(desk.write(entry(order(size=D("0.02")))))
    halves = PlaceReduction("main", reduction(7).orders + reduction(8).orders)
    desk.line.altered = unlisted(halves.orders[0].client_order_id)
    desk.fault(UNHEARD)
    found = desk.path.outcome(desk.write(halves, step="s2"))
    assert [found.ack(o.client_order_id).state for o in halves.orders] == [AckState.REJECTED, AckState.FILLED]


@pytest.mark.parametrize("blind_seconds", [0.4, 60])
def test_an_entry_is_not_refused_because_a_node_that_lags_knows_its_stop_alone(
    desk: Desk, blind_seconds: float
) -> None:
    bracket = entry(order(1), order(2, size=D("0.02")))
    until, hidden = START + timedelta(seconds=blind_seconds), unlisted(bracket.orders[0].client_order_id)
    desk.line.altered = lambda asked: hidden(asked) if desk.clock.now() < until else None
    desk.fault(UNHEARD)
    id = desk.write(bracket)
    if blind_seconds > 1.5:
        with pytest.raises(OutcomeUnknown, match="no verdict yet"):
            desk.path.outcome(id)
        desk.expire(id)
        with pytest.raises(OutcomeUnknown, match="left a trace"):
            desk.process().outcome(id)
        desk.clock.advance_to(until)
    found = desk.process().outcome(id)
    assert [found.ack(o.client_order_id).state for o in bracket.orders] == [AckState.FILLED, AckState.FILLED]


@pytest.mark.parametrize(("appears", "state", "waited"), [(0, "resting", 0), (4, "resting", 5), (6, "canceled", 5)])
def test_a_status_that_nobody_knows_is_decided_by_the_resting_orders(
    desk: Desk, appears: int, state: str, waited: int
) -> None:
    resting = order(limit_price=D(90_000), kind=OrderKind.LIMIT)
    others = order(2, limit_price=D(89_000), kind=OrderKind.LIMIT)
    desk.path.outcome(desk.write(entry(others), step="others"))
    desk.path.outcome(desk.write(entry(resting)))
    seen_from = desk.clock.now() + timedelta(seconds=appears)

    def strange(asked: dict[str, Any]) -> Any:
        if asked["type"] == "orderStatus":
            answer = json.loads(desk.venue.reply("/info", asked).text)
            answer["order"]["status"] = "pondered"
            return answer
        if asked["type"] == "frontendOpenOrders" and desk.clock.now() < seen_from:
            rows = json.loads(desk.venue.reply("/info", asked).text)
            return [row for row in rows if row["cloid"] != resting.client_order_id]
        return None

    desk.line.altered = strange
    began = desk.clock.now()
    found = order_report(desk.engine(), "main", resting.client_order_id)
    assert found is not None and found.state == state and found.status == "pondered"
    assert (desk.clock.now() - began).total_seconds() == waited
    [told] = [e.data for e in desk.system.store.query("audit", {"kind": "warned"})]
    assert "'pondered' is not known" in told["summary"] and told["account"] == "main"
    assert told["summary"].endswith("rests" if state == "resting" else "is over")


def test_requests_left_are_those_noted_else_those_the_venue_says(desk: Desk) -> None:
    engine = desk.engine()
    said = desk.adapter.requests_left("main")
    assert said and requests_left(engine, "main") == {"main": said}
    desk.system.store.create("accounts", "main", {"equity_usd": "1"})
    assert requests_left(engine, "main") == {"main": said}
    page = desk.system.store.get("accounts", "main")
    assert page is not None
    desk.system.store.compare_and_set("accounts", "main", {"requests_left": 7}, page.version)
    assert requests_left(engine, "main") == {"main": 7}
    desk.line.altered = lambda _: "nonsense"
    assert requests_left(engine, "hedge") == {}


def test_the_weight_of_a_minute_is_what_we_spent_or_what_all_instances_are_known_to(desk: Desk) -> None:
    """Two venues, each with what it holds itself: the accounts, and the markets of either leg, each counted once."""
    system, far = desk.system, "elsewhere:BTC"
    second = HyperliquidVenue(
        network="paper", url="http://127.0.0.1:9", secrets=system.secrets, key_names={}, accounts={}, steps=Steps(),
        name="elsewhere", channel=desk.line,
    )  # fmt: skip
    plan = system.desk.markets[BTC]
    apart = replace(plan, market="hyperliquid:ETH", hedge_market=far)
    together = replace(plan, market="hyperliquid:SOL", hedge_market="hyperliquid:SOL")
    owners = {"main": "hyperliquid", "hedge": "elsewhere", "third": "hyperliquid"}
    a_desk = replace(
        system.desk,
        accounts={name: replace(system.desk.accounts["main"], name=name) for name in owners},
        markets={p.market: p for p in (plan, apart, together)},
    )
    venues = Venues({"hyperliquid": desk.adapter, "elsewhere": second}, owners)
    engine = Engine(a_desk, desk.clock, system.bus, system.store, venues, SignerRole.EXECUTE, system.memory)
    quiet = {"hyperliquid": 2 * 75 + 3 * 22, "elsewhere": 75 + 22}
    assert weights(engine, [BTC, far], 0) == {name: (weight, 1200) for name, weight in quiet.items()}
    assert weights(engine, [BTC, BTC], 0) == {"hyperliquid": (quiet["hyperliquid"], 1200)}
    assert weights(engine, [BTC, far], 2) == {name: (weight + 640, 1200) for name, weight in quiet.items()}


def test_what_this_process_spent_counts_where_it_is_more(desk: Desk) -> None:
    adapter = HyperliquidVenue(
        network="paper", url="http://127.0.0.1:9", secrets=desk.system.secrets, key_names={}, accounts={},
        steps=Steps(), channel=desk.line, clock=desk.clock,
    )  # fmt: skip
    engine = replace(desk.engine(), venues=Venues({"hyperliquid": adapter}, desk.venues.account_venue))
    assert weights(engine, [BTC], 0) == {"hyperliquid": (2 * 75 + 22, 1200)}
    while (spent := adapter.weight()[0]) <= 172:
        adapter.snapshot(BTC)
    assert weights(engine, [BTC], 0) == {"hyperliquid": (spent, 1200)}
    assert weights(engine, [BTC], 1) == {"hyperliquid": (2 * 75 + 22 + 320, 1200)}


# -- 429 ---------------------------------------------------------------------------------------------


def test_a_request_too_many_is_waited_out_longer_each_time(desk: Desk) -> None:
    desk.fault({"kind": "429", "path": "/exchange", "count": 3})
    waits = []
    for number in range(4):
        began = desk.clock.now()
        found = desk.path.outcome(desk.write(entry(order(number)), step=f"s{number}"))
        waits.append((desk.clock.now() - began).total_seconds())
        assert found.state is (S.NEVER_RAN if number < 3 else S.ACCEPTED)
    assert 1 <= waits[0] <= 3 and 2 <= waits[1] <= 6 and 4 <= waits[2] <= 12 and waits[3] == 0
    desk.fault({"kind": "429", "path": "/exchange"})
    began = desk.clock.now()
    desk.path.outcome(desk.write(entry(order(9)), step="s9"))
    assert 1 <= (desk.clock.now() - began).total_seconds() <= 3, "an answer in between begins anew"


def test_a_throttled_copy_and_a_throttled_noop_are_waited_out_too(desk: Desk) -> None:
    desk.line.answers = [lost, throttled, throttled]
    id = desk.write()
    began = desk.clock.now()
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    assert desk.line.kinds == ["order", "order", "noop"]
    assert 3 <= (desk.clock.now() - began).total_seconds() <= 9
    assert desk.path.outcome(id).state is S.ACCEPTED and desk.position() == D("0.01")


# -- clocks and keys -----------------------------------------------------------------------------------


def test_an_expiry_that_our_slow_clock_set_too_early_is_put_off_for_closes_only(desk: Desk) -> None:
    late = 30_000
    desk.path.outcome(desk.write(step="s0"))
    desk.clock.follow(lambda at: desk.venue.set_clock(ms_from_utc(at) + late))
    desk.venue.set_clock(ms_from_utc(desk.clock.now()) + late)
    first = desk.path.outcome(desk.write(reduction(2)))
    assert first.state is S.NEVER_RAN and "expire" in first.reason.lower()
    assert desk.path.outcome(desk.write(entry(order(3)), step="s3")).state is S.NEVER_RAN
    second = desk.path.outcome(desk.write(reduction(4), step="s4"))
    assert second.state is S.ACCEPTED and desk.position() == 0
    assert second.expires_at == desk.clock.now() + timedelta(seconds=45)


@pytest.mark.parametrize("role", [SignerRole.RISK, SignerRole.EXECUTE])
def test_a_key_the_venue_does_not_know_is_said_and_a_close_goes_on_under_the_emergency_key(
    desk: Desk, role: SignerRole
) -> None:
    desk.path.outcome(desk.write(step="s0"))
    path = desk.process(role)
    desk.line.answers = [unknown]
    ids: list[str] = []

    def claim(id: str) -> list[Create]:
        ids.append(id)
        return [Create("steps", id, {})]

    found = path.perform(reduction(), trade_id="t1", claim=claim)
    told = [e.data for e in desk.system.store.query("audit", {"kind": "emergency"})]
    if role is SignerRole.EXECUTE:
        assert found.state is S.REJECTED and len(ids) == 1 and told == []
        return
    assert found.state is S.ACCEPTED and found.role is SignerRole.EMERGENCY and desk.position() == 0
    assert [id.split(":")[0] for id in ids] == [
        desk.adapter.signer("main", r) for r in (SignerRole.RISK, SignerRole.EMERGENCY)
    ]
    [one] = told
    assert one["account"] == "main" and one["trade_id"] == "t1" and "does not exist" in one["summary"]


def test_the_emergency_key_signs_what_only_reduces_and_only_while_the_other_is_refused(desk: Desk) -> None:
    path, memory = desk.process(SignerRole.RISK), desk.system.memory
    risk, emergency = (desk.adapter.signer("main", r) for r in (SignerRole.RISK, SignerRole.EMERGENCY))

    def role_of(action: VenueAction, number: int) -> str:
        return desk.record(desk.write(action, path, f"k{number}")).role.value

    assert role_of(reduction(1), 1) == "risk"
    memory.refuse(risk, desk.clock.now())
    actions: list[VenueAction] = [reduction(2), OTHERS[1], OTHERS[0], AddMargin("main", BTC, D(1))]
    assert [role_of(a, 2 + n) for n, a in enumerate(actions)] == ["emergency", "emergency", "risk", "risk"]
    memory.refuse(emergency, desk.clock.now())
    assert role_of(reduction(3), 8) == "risk", "neither is known: the sweep's own is said"
    assert desk.record(desk.write(reduction(4), desk.process(), "k9")).role is SignerRole.EXECUTE


def test_without_an_emergency_key_the_sweeps_own_signs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.system.memory.refuse(desk.adapter.signer("main", SignerRole.RISK), desk.clock.now())
    real = desk.adapter.signer
    for error in (BadInput("no such key"), Unavailable("the secrets are not reached")):

        def signer(account: str, role: SignerRole, error: Exception = error) -> str:
            if role is SignerRole.EMERGENCY:
                raise error
            return real(account, role)

        monkeypatch.setattr(desk.adapter, "signer", signer)
        step = type(error).__name__
        assert desk.record(desk.write(reduction(), desk.process(SignerRole.RISK), step)).role is SignerRole.RISK


def test_the_emergency_keys_nonces_count_those_sent_without_a_record(desk: Desk) -> None:
    used = desk.system.memory.nonce(desk.adapter.signer("main", SignerRole.EMERGENCY), ms_from_utc(START) + 500)
    id = desk.write(reduction(), desk.process(SignerRole.EMERGENCY))
    assert int(id.split(":")[1]) == used + 1


def test_what_ran_is_not_done_again_because_the_key_was_refused_meanwhile(desk: Desk) -> None:
    """Another thread of the process was told that the venue does not know the key, after ours was taken."""
    desk.path.outcome(desk.write(step="s0"))
    path = desk.process(SignerRole.RISK)

    def meanwhile(_: dict[str, Any]) -> None:
        desk.system.memory.refuse(desk.adapter.signer("main", SignerRole.RISK), desk.clock.now())

    desk.line.answers = [meanwhile]
    desk.line.seen.clear()
    found = path.perform(reduction(), trade_id="t1", claim=lambda id: [Create("steps", id, {})])
    assert found.state is S.ACCEPTED and desk.line.kinds == ["order"]


# -- two that find out at the same time ----------------------------------------------------------------


def test_a_verdict_recorded_by_another_meanwhile_stands(desk: Desk) -> None:
    """While our first copy is on its way a sweep takes the record up, and decides it."""
    id = desk.write()

    def meanwhile(_: dict[str, Any]) -> None:
        desk.clock.sleep(14)
        assert desk.process().outcome(id).state is S.NEVER_RAN

    desk.line.answers = [meanwhile]
    found = desk.path.outcome(id)
    assert found.state is S.NEVER_RAN and desk.position() == 0


def test_an_answer_to_the_first_copy_is_not_the_last_word_once_another_was_sent(desk: Desk) -> None:
    """Ours was refused; the other process's, which nobody answered, may run yet."""
    id = desk.write()

    def meanwhile(asked: dict[str, Any]) -> tuple[int, str]:
        desk.line.answers = [lost, lost]
        with pytest.raises(OutcomeUnknown):
            desk.process().outcome(id)
        return refused(asked)

    desk.line.answers = [meanwhile]
    with pytest.raises(OutcomeUnknown):
        desk.path.outcome(id)
    record = desk.record(id)
    assert record.state is S.WRITTEN and record.refused_copy_sent and desk.line.kinds == ["order", "order", "noop"]


def test_who_finds_the_record_changed_gives_way(desk: Desk) -> None:
    id = desk.write()

    def meanwhile(_: dict[str, Any]) -> None:
        stored = desk.system.store.get("actions", id)
        assert stored is not None
        changed = action_document(desk.record(id).model_copy(update={"reason": "taken up"}))
        desk.system.store.compare_and_set("actions", id, changed, stored.version)

    desk.line.answers = [lost, meanwhile]
    with pytest.raises(Conflict, match="was taken up by another"):
        desk.path.outcome(id)
    assert desk.record(id).reason == "taken up"


# -- what is logged --------------------------------------------------------------------------------------


def test_every_verdict_is_one_line_with_its_links(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "twinleg.orders"):
        id = desk.write()
        desk.clock.sleep(3)
        desk.path.outcome(id)
    [line] = [r for r in caplog.records if r.name == "twinleg.orders"]
    assert line.levelno == logging.INFO and line.getMessage() == f"PlaceEntry {BTC} on main for t1: accepted"
    cloid = order().client_order_id
    expected = {
        "action_id": id, "kind": "PlaceEntry", "outcome": "accepted", "latency_seconds": 3.0, "trade_id": "t1",
        "intent_id": "t1", "account": "main", "market": BTC, "client_order_id": cloid, "client_order_ids": [cloid],
    }  # fmt: skip
    assert {name: getattr(line, name) for name in expected} == expected and not hasattr(line, "reason")


def test_a_refusal_is_a_warning_and_what_vanished_an_error(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.line.answers = [refused, lost, lost, lambda _: None, lost, lost, lost]
    with caplog.at_level(logging.INFO, "twinleg.orders"):
        desk.path.outcome(desk.write(step="s1"))
        desk.path.outcome(desk.write(entry(order(2)), step="s2"))
        id = desk.write(OTHERS[0], step="s3")
        with pytest.raises(OutcomeUnknown):
            desk.path.outcome(id)
        desk.clock.sleep(25)
        desk.path.outcome(id)
    lines = [(r.levelname, r.outcome) for r in caplog.records if r.name == "twinleg.orders"]  # type: ignore[attr-defined]
    assert lines == [("WARNING", "rejected"), ("WARNING", "never_ran"), ("ERROR", "vanished")]
    gone = caplog.records[-1]
    assert not hasattr(gone, "client_order_id") and not hasattr(gone, "client_order_ids")
    assert gone.reason == "whether it ran cannot be read"  # type: ignore[attr-defined]
