"""When the agent keys expire. A function may read its own keys only, so it tells the others through ``signers``."""

from __future__ import annotations

from datetime import datetime, timedelta

from twinleg.domain.errors import BadInput, Unavailable
from twinleg.domain.messages import EventKind
from twinleg.engine.ports import Merge, SignerRole
from twinleg.engine.system import Engine

NOTED_EVERY_SWEEPS = 60
KEY_WARNED = timedelta(days=14)
"""How long before a protecting key expires a person is told, each time it is noted."""
WITHOUT = {
    SignerRole.EXECUTE: "without it nothing is entered",
    SignerRole.RISK: "without it no stop is placed again, no margin added and nothing closed",
    SignerRole.EMERGENCY: "without it nothing is closed while the records cannot be read",
}
_OTHER = {SignerRole.EXECUTE: SignerRole.RISK, SignerRole.RISK: SignerRole.EXECUTE}


def own_key(engine: Engine, account: str) -> Merge:
    """What the venue says of this function's key for the account, to be written to ``signers`` beside its nonces."""
    venue, role = engine.venues.of(account), engine.role
    expires_at = venue.key_expires_at(account, role)
    until = f"expires {expires_at:%Y-%m-%d %H:%M}" if expires_at else "does not expire, or is not listed at the venue"
    return Merge(
        "signers",
        venue.signer(account, role),
        {
            "account": account,
            "role": role.value,
            "expires_at": expires_at,
            "checked_at": engine.now(),
            "summary": f"{account} {role.value}: the key {until}",
        },
    )


def note_key(engine: Engine, account: str) -> None:
    """Write down when this function's key for the account expires, and say so when it, or the emergency key, does soon
    or is not listed: then it was replaced, revoked or never approved.

    An expired key that opens refuses entries, and says why. One that protects is missed when it is needed.
    """
    noted = own_key(engine, account)
    engine.store.batch([noted])
    _warn(engine, account, engine.role, noted.fields["expires_at"])
    if engine.role is SignerRole.RISK:
        emergency = engine.venues.of(account).key_expires_at(account, SignerRole.EMERGENCY)
        _warn(engine, account, SignerRole.EMERGENCY, emergency)


def _warn(engine: Engine, account: str, role: SignerRole, expires_at: datetime | None) -> None:
    now = engine.now()
    if expires_at is None:
        words = "is not listed at the venue"
    elif expires_at > now + KEY_WARNED:
        return
    elif expires_at > now:
        left = round((expires_at - now).total_seconds() / 3600)
        words = f"expires {expires_at:%Y-%m-%d %H:%M}, hours_left {left}"
    else:
        words = "has expired"
    engine.announce(EventKind.WARNED, f"{account}: the {role.value} key {words}: {WITHOUT[role]}", account=account)


def keys_expire_at(engine: Engine, own: dict[str, Merge]) -> dict[str, datetime | None]:
    """Account → the earlier expiry of the keys that open and that protect (None: neither expires).

    Of the other function's key the latest note counts; while there is none it is asked for, where its key can be
    read. An account of which one expiry stays unknown is missing.
    """
    found: dict[str, datetime | None] = {}
    for account, noted in own.items():
        try:
            both = (noted.fields["expires_at"], _others(engine, account))
        except (BadInput, Unavailable):
            continue
        found[account] = min((at for at in both if at is not None), default=None)
    return found


def own_key_expires_at(engine: Engine, account: str) -> datetime | None:
    """When the key that signs here now expires, as noted of that very key; of one that nobody noted the venue is asked.

    Keys are replaced while trades are under way, and a new one may live shorter than the one it replaces.
    """
    noted = engine.store.get("signers", engine.venues.of(account).signer(account, engine.role))
    fields = noted.data if noted is not None else {}
    if not fields.get("checked_at"):
        asked = own_key(engine, account)
        engine.store.batch([asked])
        fields = asked.fields
    expires_at: datetime | None = fields["expires_at"]
    return expires_at


def _others(engine: Engine, account: str) -> datetime | None:
    role = _OTHER.get(engine.role, SignerRole.RISK)
    notes = [
        note.data
        for note in engine.store.query("signers", {"account": account, "role": role.value})
        if note.data.get("checked_at")
    ]
    if not notes:
        return engine.venues.of(account).key_expires_at(account, role)
    latest: datetime | None = max(notes, key=lambda data: data["checked_at"])["expires_at"]
    return latest
