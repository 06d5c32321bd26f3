"""Each function may read its own agent keys only; when the others' expire it learns from what they noted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from twinleg.domain.candles import ms_from_utc
from twinleg.domain.errors import BadInput
from twinleg.domain.trades import TradeState
from twinleg.engine.keys import keys_expire_at, note_key, own_key
from twinleg.engine.ports import Merge, SignerRole, Steps


def notes(w, role):
    return [s for s in w.system.store.query("signers", {"account": "main", "role": role}) if s.data.get("checked_at")]


def without_the_keys_of(w, role, monkeypatch):
    """As in the cloud, where a function's identity may not read the other's secrets."""
    venue = w.system.venues.of("main")
    allowed = {key: name for key, name in venue._key_names.items() if key[1] is not role}
    monkeypatch.setattr(venue, "_key_names", allowed)
    venue._wallets.clear()


def test_the_first_sweep_notes_its_keys_and_the_sixtieth_again(world):
    w = world()
    [first] = notes(w, "risk")
    assert first.data["expires_at"] is None or first.data["expires_at"] > w.system.clock.now()
    w.minutes(5)
    [again] = notes(w, "risk")
    assert again.version == first.version
    assert "expire" in again.data["summary"]


def test_an_entry_needs_no_key_of_the_sweep_once_the_sweep_noted_it(world, monkeypatch):
    w = world()
    without_the_keys_of(w, SignerRole.RISK, monkeypatch)
    with pytest.raises(BadInput):
        w.system.venues.of("main").signer("main", SignerRole.RISK)
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.OPEN
    [own] = notes(w, "execute")
    assert own.data["last_nonce"] > 0 and own.data["checked_at"]


def test_an_expiry_that_nobody_noted_and_nobody_can_read_stops_entries(world, monkeypatch):
    w = world()
    without_the_keys_of(w, SignerRole.RISK, monkeypatch)
    for note in w.system.store.query("signers"):
        data = {name: value for name, value in note.data.items() if name != "checked_at"}
        w.system.store.compare_and_set("signers", note.id, data, note.version)
    w.alert("buy", "a1")
    assert w.trade().state is TradeState.REFUSED
    assert "key_expiry" in w.trade().why_closed and "could not be read" in w.trade().why_closed


def test_the_noted_expiry_of_the_sweep_s_key_counts_and_the_latest_note_of_several(world):
    w = world()
    engine, now = w.engine(), w.system.clock.now()
    own = {"main": own_key(engine, "main")}
    for days, checked in ((2, 1), (5, 3), (9, 2)):
        fields = {"account": "main", "role": "risk", "expires_at": now + timedelta(days=days),
                  "checked_at": now + timedelta(hours=checked)}  # fmt: skip
        w.system.store.batch([Merge("signers", f"0x{days}", fields)])
    assert keys_expire_at(engine, own) == {"main": now + timedelta(days=5)}
    soon = {"expires_at": now + timedelta(minutes=5), "checked_at": now + timedelta(days=1)}
    w.system.store.batch([Merge("signers", "0x7", fields | soon)])
    w.alert("buy", "a1")
    assert "key_expiry" in w.trade().why_closed and "before" in w.trade().why_closed


def test_a_nonce_allotted_meanwhile_is_not_lost_by_a_note(world):
    w = world()
    w.alert("buy", "a1")
    [before] = notes(w, "execute")
    w.system.store.batch([own_key(w.engine(), "main")])
    [after] = notes(w, "execute")
    assert after.data["last_nonce"] == before.data["last_nonce"]
    w.alert("close", "a2")
    [last] = notes(w, "execute")
    assert last.data["last_nonce"] > before.data["last_nonce"] and "expires_at" in last.data


def test_a_person_is_told_in_time_when_a_key_that_protects_expires(world):
    """Approved for another 5 days, say: the note of each hour tells of the sweep's key and of the emergency key."""
    w = world()
    assert not w.events("warned")
    for role, days in ((SignerRole.RISK, 5), (SignerRole.EMERGENCY, 20)):
        expire(w, role, timedelta(days=days))
    note_key(w.engine(SignerRole.RISK), "main")
    [told] = w.events("warned")
    assert told.startswith("main: the risk key expires 2025-01-1") and "hours_left 120" in told
    expire(w, SignerRole.EMERGENCY, timedelta(seconds=-1))
    note_key(w.engine(SignerRole.RISK), "main")
    assert w.events("warned")[-1].startswith("main: the emergency key has expired: without it nothing is closed")
    note_key(w.engine(SignerRole.EXECUTE), "main")
    assert len(w.events("warned")) == 2, "the entering key lasts; what was said in this very instant is said once"


def test_a_person_is_told_when_a_key_that_protects_is_no_longer_listed(world):
    """Another agent was approved under its name, say: the venue would refuse it, on the day it is needed."""
    w = world()
    for role in (SignerRole.RISK, SignerRole.EMERGENCY):
        del w.server.venue.engine.state.agents[w.system.venues.of("hedge").signer("hedge", role)]
        note_key(w.engine(SignerRole.RISK), "hedge")
        told = f"hedge: the {role.value} key is not listed at the venue: without it "
        assert any(text.startswith(told) for text in w.events("warned"))
    note_key(w.engine(SignerRole.RISK), "main")
    assert {text.partition(":")[0] for text in w.events("warned")} == {"hedge"}


def expire(w: Any, role: SignerRole, after: timedelta) -> None:
    """Have the venue list the key as valid until then."""
    address = w.system.venues.of("main").signer("main", role)
    agents = w.server.venue.engine.state.agents
    agents[address] = replace(agents[address], valid_until_ms=ms_from_utc(w.system.clock.now() + after))


def test_a_key_that_came_after_the_gate_asked_is_asked_about_before_the_entry(world):
    """Replaced while the trade was approved and nothing was sent: the new key expires before the trade has to end."""
    w = world()
    replaced = []

    def step(_: int, name: str) -> None:
        if not replaced and name.startswith("store.batch") and "control/trading" in name and name.endswith("done"):
            replaced.append(name)
            expire(w, SignerRole.EXECUTE, timedelta(minutes=5))
            [own] = notes(w, "execute")
            unasked = {field: value for field, value in own.data.items() if field != "checked_at"}
            w.system.store.compare_and_set("signers", own.id, unasked, own.version)

    w.restart(Steps(step))
    w.alert("buy", "a1")
    assert replaced and w.trade().state is TradeState.REFUSED
    assert w.trade().why_closed.startswith("key_expiry: main: the key expires")
    assert w.position("main") == 0
    [again] = notes(w, "execute")
    assert again.data["expires_at"] is not None
