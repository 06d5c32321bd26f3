"""Preparing demo accounts on the paper venue. Never for a live network: it takes an owner's key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twinleg.adapters.venues.hyperliquid_http import Channel, NetworkFault, local_url
from twinleg.adapters.venues.hyperliquid_wire import agent_approval_body, signer_from
from twinleg.domain.errors import OutcomeUnknown, Rejected

TIMEOUT_SECONDS = 10.0


def approve_agent(url: str, owner_key: str, agent_address: str, name: str, *, nonce: int) -> None:
    """Let an agent key trade for the owner of *owner_key* on the paper venue at *url* (this machine only).

    Approving a name again replaces the former key of that name. Raises Rejected with the venue's words,
    OutcomeUnknown when no verdict came back.
    """
    where = local_url(url)
    body = agent_approval_body(signer_from(owner_key, "owner_key"), agent_address, name, nonce=nonce)
    try:
        status, text = Channel(where, TIMEOUT_SECONDS).post("/exchange", body.encode())
    except NetworkFault as fault:
        raise OutcomeUnknown(f"approving agent {agent_address}: {fault}") from fault
    answer = _parsed(text)
    if status != 200 or answer.get("status") != "ok":
        raise Rejected(f"approving agent {agent_address}: HTTP {status}: {text[:200]}")


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
