"""``twinleg doctor``: what must be right before money is put behind it, each with the reason when it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from twinleg.domain.control import Halt
from twinleg.domain.errors import TwinlegError
from twinleg.domain.ids import account_market
from twinleg.domain.money import plain
from twinleg.engine.budget import minute_weight
from twinleg.engine.ports import SignerRole

if TYPE_CHECKING:
    from twinleg.bootstrap import System

CLOCK_SKEW_SECONDS_MAX = 5.0
KEY_DAYS_MIN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    subject: str
    ok: bool
    text: str

    def as_json(self) -> dict[str, object]:
        return {"subject": self.subject, "ok": self.ok, "text": self.text}


def examine(system: System) -> list[Finding]:
    """Everything, whatever fails first. Secrets are only said to be present, never shown."""
    findings: list[Finding] = [
        Finding("configuration", True, f"markets: {len(system.settings.markets)}, mode {system.settings.mode}"),
        *_hedges(system),
        *_secrets(system),
    ]
    for name in system.settings.venues:
        findings += _looked_at(f"venue {name}", partial(_venue, system, name))
    for name in system.settings.accounts:
        findings += _looked_at(f"account {name}", partial(_account, system, name))
    findings += _looked_at("control", partial(_control, system))
    return findings


def _looked_at(subject: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except TwinlegError as error:
        found.append(Finding(subject, False, f"{type(error).__name__}: {error}"))
    return found


def _hedges(system: System) -> Iterator[Finding]:
    """REAL-HEDGE was checked when the configuration was read; said here in words."""
    for plan in system.desk.markets.values():
        yield Finding(
            f"hedge of {plan.market}",
            True,
            f"main on {plan.main_account}, hedge in {plan.hedge_market} on {plan.hedge_account}: they cannot net",
        )


def _secrets(system: System) -> Iterator[Finding]:
    names = [system.settings.webhook.secret, *dict.fromkeys(system.settings.key_names.values())]
    for name in names:
        try:
            system.secrets.read(name)
            yield Finding(f"secret {name}", True, "present")
        except TwinlegError as error:
            yield Finding(f"secret {name}", False, str(error))


def _venue(system: System, name: str) -> Iterator[Finding]:
    venue = system.venues.by_name[name]
    there, here = venue.time(), system.clock.now()
    skew = abs((there - here).total_seconds())
    yield Finding(f"venue {name}", True, f"answers; network {system.settings.venues[name].network}")
    yield Finding(
        f"clock against {name}",
        skew <= CLOCK_SKEW_SECONDS_MAX,
        f"differs by {skew:.1f} s, at most {CLOCK_SKEW_SECONDS_MAX}",
    )
    if most := venue.weight()[1]:
        weighs = minute_weight(system.engine(SignerRole.EXECUTE), name)
        under = most * system.desk.limits.request_weight_percent_max // 100
        yield Finding(
            f"requests to {name}",
            weighs <= under,
            f"a minute of ingest and sweep weighs {weighs} of {most}; nothing is entered above {under}",
        )
    for plan in system.desk.markets.values():
        if plan.market.split(":", 1)[0] == name:
            rules = venue.rules(plan.market)
            yield Finding(
                f"market {plan.market}",
                True,
                f"lot {plain(rules.lot)}, minimum order {plain(rules.notional_usd_min)} USD, "
                f"leverage to {rules.max_leverage}x",
            )


def _account(system: System, name: str) -> Iterator[Finding]:
    venue = system.venues.of(name)
    mode = venue.mode(name)
    yield Finding(f"mode of {name}", mode == "disabled", f"{mode}; entries need 'disabled'")
    state = venue.account(name)
    yield Finding(f"equity of {name}", state.equity_usd > 0, f"{state.equity_usd:.2f} USD, free {state.free_usd:.2f}")
    for position in state.positions:
        slot = system.store.get("positions", account_market(name, position.market))
        owner = str(slot.data.get("owner") or "") if slot else ""
        left_alone = system.desk.limits.foreign == "ignore"
        nobodys = "it is left alone" if left_alone else 'close it, or choose foreign = "close" or "ignore" in [limits]'
        yield Finding(
            f"position {position.market} on {name}",
            bool(owner) or left_alone,
            f"{plain(position.size)}, " + (f"held for {owner}" if owner else f"nobody recorded it: {nobodys}"),
        )
    for role in SignerRole:
        subject, signer = f"{role.value} key of {name}", f"{venue.signer(name, role)[:10]}…"
        expires_at = venue.key_expires_at(name, role)
        if expires_at is None:
            yield Finding(subject, False, f"{signer} is not among the account's named agent keys: approve it there")
            continue
        enough = expires_at > system.clock.now() + timedelta(days=KEY_DAYS_MIN)
        yield Finding(subject, enough, f"{signer} accepted until {expires_at:%Y-%m-%d}")


def _control(system: System) -> Iterator[Finding]:
    control, _ = system.engine(SignerRole.EXECUTE).control()
    yield Finding("trading", control.state is Halt.ENABLED, f"{control.state}: {control.why}")
