"""A signer is replaced or expires while its order is on the way: what it signed is decided, and nothing is doubled."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account

from twinleg.adapters.local.secrets import MappingSecrets
from twinleg.adapters.venues.paper_setup import approve_agent
from twinleg.bootstrap import paper_key, paper_secrets
from twinleg.domain.candles import ms_from_utc
from twinleg.domain.trades import ENDED, TradeState
from twinleg.embedded.runtime import Runtime
from twinleg.engine.ports import SignerRole, Steps

NEW_KEY = "0x" + "22" * 32
LINES = {
    "between write and send": {},
    "ran, and the answer was lost": {"kind": "lose_answer"},
    "never arrived": {"kind": "lose_request"},
    "arrived after it was replaced": {"kind": "arrive_late", "ms": 3000},
}


def replace_key(w: Any, account: str) -> None:
    """The owner approves another agent under the name of execute's: the venue forgets the one before."""
    nonce = ms_from_utc(w.system.clock.now()) + 700
    approve_agent(
        w.server.url, paper_key(account, "owner"), Account.from_key(NEW_KEY).address, "twinleg-execute", nonce=nonce
    )


def expire_key(w: Any, account: str) -> None:
    """The venue's approval of execute's key ends in this moment."""
    state, key = w.server.venue.engine.state, w.system.venues.of(account).signer(account, SignerRole.EXECUTE)
    state.agents[key] = replace(state.agents[key], valid_until_ms=state.now_ms - 1)


ENDS = {"replaced": replace_key, "expired": expire_key}


def give_key(w: Any, account: str) -> None:
    """The secret holds the new key, and the processes are started again."""
    w.system = w.new_system()
    settings = w.system.settings
    name = next(n for (a, role), n in settings.key_names.items() if (a, role.value) == (account, "execute"))
    w.system.secrets = MappingSecrets(paper_secrets(settings) | {name: NEW_KEY})
    w.runtime = Runtime(w.system)


def sent(w: Any, account: str) -> bool:
    """Whether the entry of this account's leg is written, so that what is sent next is that order."""
    return bool(w.system.store.query("actions", {"kind": "PlaceEntry", "account": account}))


def entries(w: Any, account: str) -> set[int]:
    ledger = w.control.ledger()
    opening = {o["oid"] for o in ledger["orders"] if not o["reduceOnly"]}
    return {f["oid"] for f in ledger["fills"] if f["user"].lower() == w.address(account) and f["oid"] in opening}


@pytest.mark.parametrize(
    ("end", "line", "account"),
    [
        *itertools.product(["replaced"], LINES, ("main", "hedge")),
        *itertools.product(["expired"], list(LINES)[:2], ["main"]),
    ],
)
def test_a_key_that_ends_in_the_middle_of_an_order_doubles_nothing(world, end, line, account):
    w = world()
    steps: list[str] = []
    if LINES[line]:
        w.fault(address=w.address(account), action="order", count=1, **LINES[line])

    def ends(_: int, name: str) -> None:
        if name == "hyperliquid.exchange" and len(steps) < 2 and sent(w, account):
            steps.append(name)
            if len(steps) == (2 if LINES[line] else 1):  # immediately after it was sent, or before
                ENDS[end](w, account)

    w.restart(Steps(ends))
    w.alert("buy", "a1")
    assert len(steps) == 2
    w.minutes(3)
    assert len(entries(w, "main")) <= 1 and len(entries(w, "hedge")) <= 1
    trade = w.trade()
    if line.startswith("ran") and account == "hedge":
        assert trade.state is TradeState.OPEN
    if trade.state is TradeState.OPEN:
        assert w.position("main") > 0 > w.position("hedge")
    else:
        assert trade.state in ENDED, trade.summary
        assert w.position("main") == w.position("hedge") == 0
    undecided = [a for s in ("written", "arrived") for a in w.system.store.query("actions", {"state": s})]
    assert undecided == []

    if end == "expired":
        replace_key(w, account)
    give_key(w, account)
    w.alert("close", "a2")
    w.alert("sell", "a3")
    w.minutes()
    assert w.trade().state is TradeState.OPEN, w.trade().summary
    used = w.system.store.query("actions", {"kind": "PlaceEntry", "account": account}, order_by="created_at")
    assert used[-1].data["signer"] == Account.from_key(NEW_KEY).address.lower() != used[0].data["signer"]
    assert len(entries(w, account)) <= 2


@pytest.mark.parametrize("line", [name for name, rule in LINES.items() if rule])
def test_a_noop_is_never_signed_by_another_key_than_the_orders(world, line):
    """Our secret is changed with the key at the venue, at once: what the old one signed is decided by reading."""
    w = world()
    w.fault(address=w.address("main"), action="order", count=1, **LINES[line])
    died: list[str] = []

    class Death(BaseException):
        pass

    def die(_: int, name: str) -> None:
        if name == "hyperliquid.exchange" and sent(w, "main"):
            died.append(name)
            if len(died) == 2:
                raise Death

    w.restart(Steps(die))
    with pytest.raises(Death):
        w.alert("buy", "a1")
    replace_key(w, "main")
    give_key(w, "main")
    w.minutes(3)
    order = w.system.store.query("actions", {"kind": "PlaceEntry", "account": "main"}, order_by="created_at")[0]
    assert order.data["signer"] != Account.from_key(NEW_KEY).address.lower()
    assert not any("noop" in told for told in order.data["transitions"]), order.data["transitions"]
    assert order.data["state"] == ("accepted" if line.startswith("ran") else "never_ran")
    assert len(entries(w, "main")) <= 1
    assert w.trade().state in ENDED or (w.position("main") > 0 > w.position("hedge"))
