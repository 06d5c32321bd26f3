"""When the agent keys expire. A function may read its own keys only, so it tells the others through ``signers``."""

from __future__ import annotations

from datetime import datetime

from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.ports import Merge, SignerRole
from twinleg.engine.system import Engine

NOTED_EVERY_SWEEPS = 60
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
    """Write down when this function's key for the account expires."""
    engine.store.batch([own_key(engine, account)])


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
