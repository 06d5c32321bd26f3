"""The checker has teeth: bugs as careless engineers write them are planted here, and each is found by its invariant."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
from twinleg.domain.control import Halt
from twinleg.domain.orders import LegRole, OrderKind
from twinleg.domain.trades import TradeState
from twinleg.engine import closing, legs, orderpath, ports, protect, saga, sweep
from twinleg.engine.legs import read_leg, venue_of
from twinleg.engine.orderpath import ActionState, OrderPath, Sent
from twinleg.engine.ports import Create, Noop, Outcome, Replace
from twinleg.engine.system import Engine
from twinleg.risk import gate
from twinleg.simulate.faults import Chosen, Dice
from twinleg.simulate.run import quieten
from twinleg.simulate.world import Plan, World

SEEDS_MAX = 200
Patch = pytest.MonkeyPatch


# -- the order path ------------------------------------------------------------------------------


class OwnStore:
    """A store that the order path alone sees; the rest of the engine has the real one."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def with_own_store(patch: Patch, kind: Callable[[Any], Any]) -> None:
    begin = OrderPath.__init__

    def begun(path: OrderPath, engine: Any) -> None:
        begin(path, replace(engine, store=kind(engine.store)))

    patch.setattr(OrderPath, "__init__", begun)


def no_write_ahead_record(patch: Patch) -> None:
    """The record is written when it is asked for: once the action was sent."""

    class Late(OwnStore):
        waiting: Mapping[str, Any] = {}

        def batch(self, writes: Any) -> None:
            self.store.batch([w for w in writes if getattr(w, "collection", "") != "actions" or isinstance(w, Replace)])
            new = {w.id: w.data for w in writes if isinstance(w, Create) and w.collection == "actions"}
            self.waiting = {**self.waiting, **new}

        def get(self, collection: str, id: str) -> Any:
            found = self.store.get(collection, id)
            if found is None and collection == "actions" and id in self.waiting:
                self.store.create(collection, id, self.waiting[id])
            return found or self.store.get(collection, id)

    with_own_store(patch, Late)


def nonce_from_the_clock(patch: Patch) -> None:
    """The nonce is the time, as in every example; the record is put under it, whatever is there."""

    class Forgetful(OwnStore):
        def batch(self, writes: Any) -> None:
            kept = [w for w in writes if w.collection != "signers"]
            put = [Replace(w.collection, w.id, w.data) if w.collection == "actions" else w for w in kept]
            self.store.batch(put)

        def get(self, collection: str, id: str) -> Any:
            return None if collection == "signers" else self.store.get(collection, id)

    with_own_store(patch, Forgetful)


def signed_again_after_a_timeout(patch: Patch) -> None:
    """No answer is taken for no order: the next attempt is signed at once."""
    honest = orderpath.judged

    def hasty(record: Any, sent: Sent, verdict: Any) -> Any:
        if sent is Sent.FIRST and verdict.outcome is Outcome.UNKNOWN:
            return record.model_copy(update={"state": ActionState.NEVER_RAN, "reason": verdict.reason})
        return honest(record, sent, verdict)

    patch.setattr(orderpath, "judged", hasty)


def noop_by_another_signer(patch: Patch) -> None:
    """Whoever takes the action up fences it with a key of his own."""

    def own_noop(path: OrderPath, record: Any, venue: Any) -> Any:
        return venue.sign(Noop(record.account), path._engine.role, record.nonce, None)

    patch.setattr(OrderPath, "_noop", own_noop)


def expired_copy_taken_for_proof(patch: Patch) -> None:
    """The stored bytes are sent again however late, and that they are expired by then means that they never ran."""
    honest = orderpath.judged

    def proof(record: Any, sent: Sent, verdict: Any) -> Any:
        if verdict.outcome is Outcome.EXPIRED:
            return record.model_copy(update={"state": ActionState.NEVER_RAN, "reason": verdict.reason})
        return honest(record, sent, verdict)

    patch.setattr(OrderPath, "_may_resend", lambda path, record, venue: record.expires_at is not None)
    patch.setattr(orderpath, "judged", proof)


# -- the two legs --------------------------------------------------------------------------------


def hedge_sized_from_the_request(patch: Patch) -> None:
    """The hedge is as large as was approved, not as the main leg's fill needs it."""
    place = saga.Saga._place_entry

    def whole(self: Any, trade: Any, version: Any, leg: Any, after: Any, price: Any, size: Any, *more: Any) -> None:
        if leg.role is LegRole.HEDGE:
            size = leg.size_approved - leg.size_filled
        place(self, trade, version, leg, after, price, size, *more)

    patch.setattr(saga.Saga, "_place_entry", whole)


def hedged_while_the_main_order_rests(patch: Patch) -> None:
    """What filled of a limit entry is hedged at once; the rest of it rests on."""
    wait = saga.Saga._wait_for_limit

    def eager(self: Any, noted: Any, version: str, before: Any) -> None:
        for _ in range(15):
            self.engine.clock.sleep(1.0)
            leg, size, _position = read_leg(self.engine, noted, noted.main)
            if size > 0 and leg.size_filled == size:
                filled = noted.with_leg(leg).to(TradeState.MAIN_FILLED_UNHEDGED, unhedged_since=self.engine.now())
                return self.book.write(before, version, filled)
        return wait(self, noted, version, before)

    patch.setattr(saga.Saga, "_wait_for_limit", eager)


def stop_cancelled_first(patch: Patch) -> None:
    """To tidy up, a leg's stop is cancelled before the leg is closed."""
    send = closing.Closing._send_close

    def tidy(self: Any, before: Any, version: str, noted: Any, leg: Any, size: Any, mark: Any) -> None:
        ours = {o.client_order_id for o in leg.orders}
        resting = venue_of(self.engine, leg).open_orders(leg.account)
        stops = [o.client_order_id for o in resting if o.kind is OrderKind.STOP and o.client_order_id in ours]
        if stops:
            return self.book.cancel(before, version, leg, [id for id in stops if id])
        return send(self, before, version, noted, leg, size, mark)

    patch.setattr(closing.Closing, "_send_close", tidy)


def close_not_reduce_only(patch: Patch) -> None:
    """A close is an order the other way round."""
    real = closing.OrderRequest

    def plain(**fields: Any) -> Any:
        return real(**{**fields, "reduce_only": False})

    patch.setattr(closing, "OrderRequest", plain)
    patch.setattr(ports.PlaceReduction, "__post_init__", lambda self: None)


# -- reconciliation ------------------------------------------------------------------------------


def reconciled_over_recorded_only(patch: Patch) -> None:
    """Only what we recorded is compared with what the venue holds."""
    patch.setattr(sweep.Sweep, "_foreign", lambda *given: None)


def one_empty_read_believed(patch: Patch) -> None:
    """A position that is not in the answer is gone."""

    def believed(self: Any, trade: Any, leg: Any) -> Any:
        return leg.model_copy(update={"size_closed": leg.size_filled})

    patch.setattr(closing.Closing, "explained", believed)


def old_state_believed(patch: Patch) -> None:
    """Two answers that agree are believed, though both are from before the leg was filled."""

    def read(engine: Any, trade: Any, leg: Any) -> Any:
        venue = engine.venues.of(leg.account)
        seen = leg.with_fills(venue.fills(leg.account, trade.created_at - legs.FILLS_SKEW))
        size, position = legs.held(leg, venue.account(leg.account))
        return seen if seen.size_filled >= leg.size_filled else leg, size, position

    for module in (legs, closing, protect):
        patch.setattr(module, "read_leg", read)


# -- before an entry, and beside it --------------------------------------------------------------


def expiry_not_looked_at(patch: Patch) -> None:
    """An intent is carried out whenever it comes."""
    patch.setattr(gate, "_fresh", lambda *given: None)
    patch.setattr(saga.Saga, "_no_more", lambda self, trade: None)


def mark_not_held_against_the_oracle(patch: Patch) -> None:
    """Whatever the venue calls the mark is traded at."""
    real = HyperliquidVenue.snapshot

    def trusting(self: Any, market: str) -> Any:
        found = real(self, market)
        return found.model_copy(update={"oracle_price": found.mark_price})

    patch.setattr(HyperliquidVenue, "snapshot", trusting)


def mode_taken_for_granted(patch: Patch) -> None:
    """Accounts are in the mode that they were set up with."""
    patch.setattr(HyperliquidVenue, "mode", lambda self, account: "disabled")


def halt_not_looked_at(patch: Patch) -> None:
    """Execution does not ask whether trading is on: that is for those who decide."""
    real = Engine.control

    def on(self: Any) -> Any:
        control, version = real(self)
        return control.model_copy(update={"state": Halt.ENABLED}), version

    patch.setattr(Engine, "control", on)


def order_ids_at_random(patch: Patch) -> None:
    """An entry's client order id is made up, as in every example."""
    real = saga.order_id_for

    def made_up(trade: Any, role: Any, purpose: Any, sequence: int, attempt: int) -> Any:
        return real(trade, role, purpose, sequence + 1000, attempt)

    patch.setattr(saga, "order_id_for", made_up)


def key_in_the_log(patch: Patch) -> None:
    """Somebody wanted to see with which key it is signed."""
    real = HyperliquidVenue._wallet

    def shown(self: Any, account: str, role: Any) -> Any:
        logging.getLogger("twinleg").info("signing with %s", self._secrets.read(self._key_names[account, role]))
        return real(self, account, role)

    patch.setattr(HyperliquidVenue, "_wallet", shown)


def key_in_the_records(patch: Patch) -> None:
    """What is signed with is written down beside what was signed."""
    real = OrderPath._sign

    def noted(self: Any, venue: Any, action: Any, role: Any, *more: Any) -> Any:
        key = venue._secrets.read(venue._key_names[action.account, role])
        return real(self, venue, action, role, *more).model_copy(update={"summary": f"signed with {key}"})

    patch.setattr(OrderPath, "_sign", noted)


@dataclass(frozen=True)
class Hunt:
    """A planted bug, the invariant that names it, and the worlds in which it shows soon."""

    plant: Callable[[Patch], None]
    invariant: str
    words: str
    faults: str
    scale: float = 1.0
    market: str = "calm"
    minutes: int = 75
    alert_every: float = 6.0
    limits: Mapping[str, str] = field(default_factory=dict)
    coins: Sequence[str] = ()


UNANSWERED = "answer_lost,answer_late,failed_executed,malformed"
HUNTS = [
    Hunt(no_write_ahead_record, "ONCE", "without a record", "none", minutes=40),
    Hunt(signed_again_after_a_timeout, "ONCE", "approved", UNANSWERED),
    Hunt(noop_by_another_signer, "ONCE", "is recorded as never_ran, and it ran", f"crash,request_lost,{UNANSWERED}", 3),
    Hunt(expired_copy_taken_for_proof, "ONCE", "is recorded as never_ran, and it ran", f"crash,{UNANSWERED}"),
    Hunt(
        nonce_from_the_clock, "ONCE", "", "clock_coarse", 9, minutes=120, alert_every=1, coins=("BTC", "ETH"),
        limits={"entries_per_hour_max": "100", "request_weight_percent_max": "100"},
    ),
    Hunt(hedge_sized_from_the_request, "ONCE", "is for more than the main leg's", "partly_filled", 3),
    Hunt(
        hedged_while_the_main_order_rests, "TWO-LEGGED", "the main order still rested", "partly_filled", 3,
        limits={"entry_order": '"limit"'},
    ),
    Hunt(stop_cancelled_first, "GUARDED", "its stop was cancelled before it was flat", "none", minutes=60),
    Hunt(close_not_reduce_only, "ONCE", "is not reduce-only", "none", minutes=60),
    Hunt(
        reconciled_over_recorded_only, "GUARDED", "nobody's position is not closed", "hand_trade", 10,
        limits={"foreign": '"close"'},
    ),
    Hunt(one_empty_read_believed, "TRUTH", "and both legs were held", "read_empty", 20),
    Hunt(expiry_not_looked_at, "FRESH", "was entered after it expired", "message_dropped,message_delayed", 8),
    Hunt(mark_not_held_against_the_oracle, "FRESH", "stood off its oracle", "mark_apart", 15, alert_every=3),
    Hunt(mode_taken_for_granted, "CLOSED-FAIL", "in another mode", "mode_changed", 60, alert_every=3),
    Hunt(halt_not_looked_at, "HALT", "in a halt", "halted", 15, alert_every=3),
    Hunt(order_ids_at_random, "TRACE", "leads to no intent", "none", minutes=40),
    Hunt(key_in_the_log, "SECRET", "is in the log", "none", minutes=40),
    Hunt(key_in_the_records, "SECRET", "is in the record actions/", "none", minutes=40),
    # Found by the simulation itself, and since then put right.
    Hunt(old_state_believed, "TRUTH", "and both legs were held", "read_split", 15, alert_every=3),
]  # fmt: skip


def world(hunt: Hunt, seed: int) -> World:
    quieten()
    dice = Dice(seed, Chosen.of(hunt.faults), scale=hunt.scale)
    made = World(
        Plan(
            seed, hunt.minutes, dice, hunt.market,
            alert_every_minutes=hunt.alert_every, limits=hunt.limits, coins=hunt.coins,
        )
    )  # fmt: skip
    made.run()
    return made


@pytest.mark.parametrize("hunt", HUNTS, ids=lambda hunt: hunt.plant.__name__)
def test_a_planted_bug_is_found(hunt: Hunt, monkeypatch: Patch) -> None:
    hunt.plant(monkeypatch)
    for seed in range(SEEDS_MAX):
        found = [v for v in world(hunt, seed).judged() if v.invariant == hunt.invariant and hunt.words in v.text]
        if found:
            print(f"{hunt.plant.__name__}: seed {seed}: {found[0]}")
            return
    pytest.fail(f"{hunt.plant.__name__} was not found in {SEEDS_MAX} seeds")


@pytest.mark.parametrize("hunt", HUNTS, ids=lambda hunt: hunt.plant.__name__)
def test_without_the_bug_the_same_worlds_are_sound(hunt: Hunt) -> None:
    assert [str(v) for v in world(hunt, 0).judged()] == []
