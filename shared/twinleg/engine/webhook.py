"""on_post: an alert from TradingView. Authenticate, parse, publish; no store and no trading key is touched."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinleg.domain.alerts import AlertMessage, parse_alert, secret_in_body
from twinleg.domain.errors import BadInput, TwinlegError
from twinleg.domain.words import Topic

if TYPE_CHECKING:
    from twinleg.engine.ports import Bus, Clock, Secrets


@dataclass(frozen=True, slots=True)
class Intake:
    """What the webhook works with."""

    clock: Clock
    bus: Bus
    secrets: Secrets
    secret_name: str
    allow_addresses: tuple[str, ...] = ()
    """When not empty, only these source addresses are listened to (a second factor, not the first)."""
    trusted_hops: int = 0
    """Proxies in front that append to X-Forwarded-For; 1 on Cloud Run."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, text, and the reason's name for the count of refusals."""

    status: int
    text: str
    counted_as: str


def on_post(intake: Intake, method: str, path: str, headers: Mapping[str, str], body: bytes, address: str) -> Reply:
    """Answer an alert: 200 only when its publish is durable, 4xx with the reason when it cannot be understood.

    TradingView sends again on 5xx (three times) and never on a timeout or 4xx, so 503 is the answer to a
    failed publish and to nothing else. Source: TradingView support, webhook resubmission.
    """
    if method != "POST":
        return Reply(405, "only POST is understood here", "method")
    refused, secret = _authorised(intake, path, headers, body, address)
    if refused:
        return refused
    try:
        alert = parse_alert(body, intake.clock.now(), known_secrets=[secret])
    except BadInput as reason:
        return Reply(400, str(reason), "not_understood")
    message = AlertMessage(alert=alert)
    try:
        intake.bus.publish(
            Topic.ALERTS,
            message.model_dump_json().encode(),
            key=alert.market_ticker,
            attributes={"ordering_key": alert.market_ticker, "kind": "alert", "alert_id": alert.alert_id},
        )
    except TwinlegError:
        return Reply(503, "the alert could not be kept; send it again", "not_published")
    return Reply(200, f"accepted {alert.alert_id}: {alert.action} {alert.market_ticker}", "accepted")


def _authorised(
    intake: Intake, path: str, headers: Mapping[str, str], body: bytes, address: str
) -> tuple[Reply | None, str]:
    """(the refusal, or None, and our secret, which nothing that is kept or said may hold)."""
    if intake.allow_addresses:
        source = source_address(headers, address, intake.trusted_hops)
        if source not in intake.allow_addresses:
            return Reply(403, f"address {source} is not on the list", "address"), ""
    try:
        secret = intake.secrets.read(intake.secret_name)
    except BadInput:
        return Reply(500, "the webhook has no secret configured", "no_secret"), ""
    except TwinlegError:
        return Reply(503, "the secret store is not reachable; send it again", "no_secret"), ""
    in_path = [part for part in path.split("/") if part][-1:]
    in_body = secret_in_body(body)
    matches = [hmac.compare_digest(given.encode(), secret.encode()) for given in [*in_path, in_body or ""]]
    return None if any(matches) else Reply(401, "the secret is missing or wrong", "unauthenticated"), secret


def source_address(headers: Mapping[str, str], address: str, trusted_hops: int) -> str:
    """The client's address: the last hop of X-Forwarded-For that no proxy of ours wrote."""
    if trusted_hops == 0:
        return address
    lower = {name.lower(): value for name, value in headers.items()}
    hops = [hop.strip() for hop in lower.get("x-forwarded-for", "").split(",") if hop.strip()]
    return hops[-trusted_hops] if len(hops) >= trusted_hops else address
