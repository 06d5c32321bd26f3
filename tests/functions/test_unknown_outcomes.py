"""ONCE and TWO-LEGGED when answers are lost, late, refused or nonsense: whatever the venue's line does to us,
no leg is doubled, and the trade ends hedged and guarded, or flat.
"""

import itertools

import pytest

from twinleg.domain.trades import ENDED, TradeState

KINDS = {
    "lost_after": {"kind": "lose_answer"},
    "lost_before": {"kind": "lose_request"},
    "arrives_late": {"kind": "arrive_late", "ms": 3000},
    "arrives_very_late": {"kind": "arrive_late", "ms": 14000},
    "429": {"kind": "429"},
    "500": {"kind": "500"},
    "500_carried_out": {"kind": "500", "execute": True},
    "502_html": {"kind": "502html"},
    "502_html_carried_out": {"kind": "502html", "execute": True},
    "refused": {"kind": "reject", "error": "Insufficient margin to place order."},
    "partial": {"kind": "partial_fill", "fraction": "0.4"},
}
COUNTS = (1, 2, 3)


def opening_orders_filled(w) -> dict[str, set[int]]:
    """The different opening orders that filled on each account, by the venue's own ledger."""
    ledger = w.control.ledger()
    opening = {o["oid"] for o in ledger["orders"] if not o["reduceOnly"]}
    found: dict[str, set[int]] = {"main": set(), "hedge": set()}
    users = {w.address(a): a for a in found}
    for fill in ledger["fills"]:
        if fill["oid"] in opening:
            found[users[fill["user"].lower()]].add(fill["oid"])
    return found


def exposure_added(w, account: str):
    """Base size of all opening fills of an account."""
    from decimal import Decimal

    ledger = w.control.ledger()
    opening = {o["oid"] for o in ledger["orders"] if not o["reduceOnly"]}
    address = w.address(account)
    mine = [f for f in ledger["fills"] if f["user"].lower() == address and f["oid"] in opening]
    return sum((Decimal(f["sz"]) for f in mine), Decimal(0))


def settle(w, minutes: int = 4) -> None:
    for _ in range(minutes):
        w.minutes()


def judge(w, label: str) -> None:
    trades = w.trades()
    assert len(trades) == 1, label
    trade = trades[0]
    for leg in trade.legs:
        assert exposure_added(w, leg.account) <= leg.size_approved, f"{label}: {leg.role} doubled"
    main, hedge = w.position("main"), w.position("hedge")
    if trade.state is TradeState.OPEN:
        assert main > 0 > hedge, label
        for account in ("main", "hedge"):
            stops = [o for o in w.system.venues.of(account).open_orders(account) if o.kind == "stop" and o.reduce_only]
            assert stops, f"{label}: {account} unguarded"
    else:
        assert trade.state in ENDED, f"{label}: {trade.state} {trade.why_closed}"
        assert main == hedge == 0, f"{label}: {trade.state} with {main} and {hedge}"


@pytest.mark.parametrize(("name", "account", "count"), list(itertools.product(KINDS, ("main", "hedge"), COUNTS)))
def test_entering(world, name, account, count):
    w = world()
    w.fault(address=w.address(account), path="/exchange", count=count, **KINDS[name])
    w.alert("buy", "a1")
    settle(w)
    judge(w, f"{name} x{count} on {account}")
    w.control.clear_faults()
    w.alert("close", "a2")
    settle(w, 2)
    assert w.trades()[0].state in ENDED
    assert w.position("main") == w.position("hedge") == 0


@pytest.mark.parametrize(("name", "account"), list(itertools.product(KINDS, ("main", "hedge"))))
def test_closing(world, name, account):
    w = world()
    w.alert("buy", "a1")
    size = exposure_added(w, "main"), exposure_added(w, "hedge")
    w.fault(address=w.address(account), path="/exchange", count=2, **KINDS[name])
    w.alert("close", "a2")
    settle(w, 4)
    assert w.trade().state is TradeState.CLOSED, (name, w.trade().state)
    assert w.position("main") == w.position("hedge") == 0
    assert (exposure_added(w, "main"), exposure_added(w, "hedge")) == size


@pytest.mark.parametrize("kind", ["500", "429", "lose_request"])
@pytest.mark.parametrize("path", ["/info"])
def test_reads_that_fail_close_nothing_and_open_nothing(world, kind, path):
    w = world()
    w.alert("buy", "a1")
    before = w.position("main"), w.position("hedge")
    w.fault(kind=kind, path=path, count=30)
    settle(w, 2)
    w.control.clear_faults()
    settle(w, 1)
    assert (w.position("main"), w.position("hedge")) == before
    assert w.trade().state is TradeState.OPEN


@pytest.mark.parametrize("account", ["main", "hedge"])
def test_one_empty_answer_closes_nothing(world, account):
    w = world()
    w.alert("buy", "a1")
    w.fault(kind="empty_read", address=w.address(account), action="clearinghouseState", count=1)
    settle(w, 2)
    assert w.trade().state is TradeState.OPEN
    assert w.position("main") > 0 > w.position("hedge")


def test_when_noop_is_never_answered_the_final_read_decides(world):
    """The order was lost on the way and so is every noop: past expiry, two reads without a trace prove it never ran."""
    w = world()
    w.fault(kind="lose_request", address=w.address("main"), action="order", count=3)
    w.fault(kind="lose_request", address=w.address("main"), action="noop", count=50)
    w.alert("buy", "a1")
    settle(w, 4)
    judge(w, "noop never answered")
    first = min(w.system.store.query("actions", {"kind": "PlaceEntry"}), key=lambda a: a.data["nonce"])
    assert first.data["state"] == "never_ran"
    assert "final read" in first.data["transitions"][-1]
