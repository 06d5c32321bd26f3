"""What joins several parts of a configuration: does it describe two legs that hedge, on the network that was meant?

Every check adds its faults and lets the next one run, so that all are listed at once. A part that could not be
read is skipped here: its own faults have been listed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from twinleg.domain.ids import coin_of, venue_of
from twinleg.settings_faults import Faults, Where, did_you_mean, listed, shown
from twinleg.settings_limits import check_limits
from twinleg.settings_parts import PACKAGED, AccountSettings, MarketTable, VenueSettings
from twinleg.settings_read import Draft

PAPER_URL = re.compile(r"http://(?:127\.0\.0\.1|localhost):(\d{1,5})/?")
WAYS_OUT = "ways out: an account with a second wallet, a sub-account (sub_account_of), or an account at another venue"
ALERT_STRATEGY = "tradingview"
"""Alerts have one strategy, of this name."""


def check(draft: Draft, base: Path, faults: Faults) -> None:
    """Every check across parts. *base* is what relative paths start from."""
    _check_venues(draft, faults)
    _check_accounts(draft, faults)
    _check_key_names(draft, faults)
    _check_confirmation(draft, faults)
    _check_strategies(draft, faults)
    for index, row in enumerate(draft.markets):
        if row is not None:
            _check_market(draft, row, ("markets", index), faults)
    _check_slots(draft, faults)
    _check_alert_coins(draft, faults)
    check_limits(draft, faults)
    _check_machine(draft, base, faults)


def hedge_market_of(row: MarketTable, accounts: Mapping[str, AccountSettings | None]) -> str:
    """Where the hedge is held: as configured, else the same coin at the hedge account's venue."""
    if row.hedge_market is not None:
        return row.hedge_market
    account = accounts.get(row.hedge)
    return f"{account.venue}:{coin_of(row.market)}" if account else row.market


# -- venues and accounts -----------------------------------------------------------------------------


def _check_venues(draft: Draft, faults: Faults) -> None:
    exchanges: dict[tuple[str, str | None], str] = {}
    for name, venue in draft.venues.items():
        if venue is None:
            continue
        where: Where = ("venues", name)
        if draft.mode == "paper" and venue.network != "paper":
            faults.add((*where, "network"), f"was '{venue.network}', must be paper in mode paper (or mode be live)")
        if draft.mode == "live" and venue.network == "paper":
            faults.add((*where, "network"), "was 'paper', must be testnet or mainnet in mode live (or mode be paper)")
        _check_url(venue, (*where, "url"), faults)
        exchange = (venue.network, (venue.url or "").rstrip("/").replace("localhost", "127.0.0.1"))
        other = exchanges.setdefault(exchange, name)
        if other != name:
            faults.add(where, f"is the same exchange as venues.{other}; its positions there would net unseen: use that")


def _check_url(venue: VenueSettings, where: Where, faults: Faults) -> None:
    wanted = "http://127.0.0.1:PORT or http://localhost:PORT"
    if venue.network != "paper":
        if venue.url is not None:
            faults.add(where, f"must not be set for {venue.network}, whose address is known and cannot be redirected")
    elif venue.url is None:
        faults.add(where, f"missing; the paper venue's address on this machine: {wanted}")
    else:
        found = PAPER_URL.fullmatch(venue.url)
        quoted = "" if re.search(r"[@?#]", venue.url) else f"was {shown(venue.url)}, "
        if not found:
            faults.add(where, f"{quoted}must be on this machine: {wanted}")
        elif not 1 <= int(found[1]) <= 65535:
            faults.add(where, f"{quoted}its port must be 1 to 65535")


def _check_accounts(draft: Draft, faults: Faults) -> None:
    owners: dict[tuple[str, str], str] = {}
    for name, account in draft.accounts.items():
        if account is None:
            continue
        where: Where = ("accounts", name)
        if account.venue not in draft.venues:
            _unknown((*where, "venue"), account.venue, "venues", draft.venues, faults)
        venue = draft.venues.get(account.venue)
        if account.address is None and venue is not None and venue.network != "paper":
            faults.add((*where, "address"), f"missing; on {venue.network} the account's address has to be given")
        if account.sub_account_of is not None:
            _check_master(draft, name, account, faults)
        if account.address is not None:
            other = owners.setdefault((account.venue, account.address), name)
            if other != name:
                faults.add(
                    (*where, "address"),
                    f"was {account.address}, the address of accounts.{other} too; two legs on one address net "
                    f"instead of hedging (REAL-HEDGE); {WAYS_OUT}",
                )


def _check_master(draft: Draft, name: str, account: AccountSettings, faults: Faults) -> None:
    where: Where = ("accounts", name, "sub_account_of")
    master_name = str(account.sub_account_of)
    if master_name == name:
        faults.add(where, f"was '{name}', must be another account: none is its own master")
        return
    if master_name not in draft.accounts:
        _unknown(where, master_name, "accounts", draft.accounts, faults)
        return
    master = draft.accounts[master_name]
    if master is None:
        return
    if master.sub_account_of is not None:
        faults.add(where, f"was '{master_name}', must be a master account, and that is a sub-account itself")
    if master.venue != account.venue:
        faults.add(where, f"was '{master_name}' at {shown(master.venue)}, must be at {shown(account.venue)} too")


def _check_key_names(draft: Draft, faults: Faults) -> None:
    """An agent key per signer: a venue counts nonces per key, so two users of one key would spend each other's."""
    users: dict[str, str] = {}
    for name, account in draft.accounts.items():
        for role, secret in account.keys.by_role().items() if account else ():
            user = f"accounts.{name}.keys.{role}"
            other = users.setdefault(secret, user)
            if other != user:
                faults.add(
                    ("accounts", name, "keys", role.value),
                    f"was {shown(secret)}, the secret of {other} too; every signer needs an agent key of its own, "
                    "because nonces are counted per key",
                )
    if draft.webhook is not None and draft.webhook.secret in users:
        faults.add(
            ("webhook", "secret"),
            f"was {shown(draft.webhook.secret)}, the secret of {users[draft.webhook.secret]} too; "
            "a webhook may read no trading key",
        )


def _check_confirmation(draft: Draft, faults: Faults) -> None:
    """Mainnet is something a person types: the owners' addresses, again."""
    for name, venue in draft.venues.items():
        if venue is None:
            continue
        where: Where = ("venues", name, "confirm_address")
        if venue.network != "mainnet":
            if venue.confirm_address is not None:
                faults.add(where, f"must not be set for {venue.network}; it is how mainnet is confirmed")
            continue
        owners = _owners(draft, name)
        whose = listed((f"accounts.{owner}" for owner in owners), "and") if owners else "its accounts"
        if venue.confirm_address is None:
            faults.add(where, f"missing; mainnet moves real money: type the address of {whose} here again")
            continue
        typed = set(venue.confirm_address.lower().replace(",", " ").split())
        addresses = [account.address if account else None for account in owners.values()]
        if owners and None not in addresses and typed != set(addresses):
            faults.add(where, f"was {shown(venue.confirm_address)}, must be exactly the address of {whose}")


def _owners(draft: Draft, venue: str) -> dict[str, AccountSettings | None]:
    """The master accounts behind the venue's accounts."""
    names = {
        (account.sub_account_of or name): None
        for name, account in draft.accounts.items()
        if account is not None and account.venue == venue
    }
    return {name: draft.accounts.get(name) for name in names}


# -- markets -----------------------------------------------------------------------------------------


def _check_market(draft: Draft, row: MarketTable, where: Where, faults: Faults) -> None:
    venue = venue_of(row.market)
    if venue not in draft.venues:
        _unknown((*where, "market"), venue, "venues", draft.venues, faults)
    for field, name in (("main", row.main), ("hedge", row.hedge)):
        if name not in draft.accounts:
            _unknown((*where, field), name, "accounts", draft.accounts, faults)
    for name in row.strategies:
        if name not in draft.strategies:
            _unknown((*where, "strategies"), name, "strategies", draft.strategies, faults)
    if not row.strategies:
        faults.add((*where, "strategies"), "was empty, must name at least one strategy")
    if len(set(row.strategies)) < len(row.strategies):
        faults.add((*where, "strategies"), f"was {', '.join(map(shown, row.strategies))}, must name each once")
    _check_legs(draft, row, where, faults)


def _check_legs(draft: Draft, row: MarketTable, where: Where, faults: Faults) -> None:
    if row.main == row.hedge:
        faults.add(
            (*where, "hedge"),
            f"was {shown(row.hedge)}, the account of the main leg too; in {row.market} the hedge would net the main "
            f"leg out instead of hedging it (REAL-HEDGE); {WAYS_OUT}",
        )
        return
    main, hedge = draft.accounts.get(row.main), draft.accounts.get(row.hedge)
    if main is not None and main.venue != venue_of(row.market):
        faults.add(
            (*where, "main"),
            f"was {shown(row.main)} at {shown(main.venue)}, must be an account at the venue of {row.market}",
        )
    if hedge is None:
        return
    hedge_market = hedge_market_of(row, draft.accounts)
    if venue_of(hedge_market) != hedge.venue:
        faults.add(
            (*where, "hedge_market"),
            f"was {shown(hedge_market)}, must be a market of {shown(hedge.venue)}, where accounts.{row.hedge} is",
        )
    elif hedge.venue == venue_of(row.market) and hedge_market != row.market:
        faults.add(
            (*where, "hedge_market"),
            f"was {shown(hedge_market)}, must be {row.market}: each leg's stop rests at the other's target price",
        )
    networks = {venue.network for venue in map(draft.venues.get, (venue_of(row.market), hedge.venue)) if venue}
    if {"testnet", "mainnet"} <= networks:
        faults.add((*where, "hedge"), f"was {shown(row.hedge)}, must be on the network of the main leg: one is testnet")


def _check_slots(draft: Draft, faults: Faults) -> None:
    """One row per market, and one row per (account, market): two trades there would net."""
    markets: dict[str, int] = {}
    slots: dict[tuple[str, str], str] = {}
    for index, row in enumerate(draft.markets):
        if row is None:
            continue
        first = markets.setdefault(row.market.lower(), index)
        if first != index:
            faults.add(
                ("markets", index, "market"),
                f"was {shown(row.market)}, which markets[{first}] trades already; one row per market, which may "
                "name several strategies: they take turns",
            )
            continue
        for field, account, market in (
            ("main", row.main, row.market),
            ("hedge", row.hedge, hedge_market_of(row, draft.accounts)),
        ):
            holder = f"markets[{index}].{field}"
            other = slots.setdefault((account, market.lower()), holder)
            if other != holder and not other.startswith(f"markets[{index}]."):
                faults.add(
                    ("markets", index, field),
                    f"was {shown(account)}, which {other} uses in {market} already; two trades there would net",
                )


def _check_alert_coins(draft: Draft, faults: Faults) -> None:
    """An alert names a coin, not a venue."""
    coins: dict[str, tuple[int, MarketTable]] = {}
    for index, row in enumerate(draft.markets):
        if row is None:
            continue
        first, other = coins.setdefault(coin_of(row.market).upper(), (index, row))
        both = {*row.strategies, *other.strategies}
        if first != index and other.market.lower() != row.market.lower() and ALERT_STRATEGY in both:
            faults.add(
                ("markets", index, "market"),
                f"was {shown(row.market)}, but alerts name only the coin and markets[{first}] is {other.market}: "
                "a coin with alerts can be traded at one venue",
            )


# -- strategies --------------------------------------------------------------------------------------


def _check_strategies(draft: Draft, faults: Faults) -> None:
    for name, strategy in draft.strategies.items():
        if strategy is None:
            continue
        where: Where = ("strategies", name)
        if (strategy.kind == "tradingview") != (name == ALERT_STRATEGY):
            faults.add(
                (*where, "kind"),
                f"was '{strategy.kind}'; alerts have one strategy, [strategies.{ALERT_STRATEGY}], of kind tradingview",
            )
        if strategy.confidence is not None and strategy.kind != "tradingview":
            faults.add(
                (*where, "confidence"), f"kind {strategy.kind} says its own confidence; only alerts are given one"
            )


# -- this machine ------------------------------------------------------------------------------------


def _check_machine(draft: Draft, base: Path, faults: Faults) -> None:
    if draft.storage is not None:
        _check_storage(base, draft.storage.path, faults)
    paper = draft.paper
    if paper is not None and draft.mode == "paper":
        if paper.candles != PACKAGED and not _is_file(base / paper.candles):
            faults.add(("paper", "candles"), f"was {shown(paper.candles)}, must be '{PACKAGED}' or a file that exists")
        markets = {row.market for row in draft.markets if row is not None}
        if paper.market is not None and paper.market not in markets and None not in draft.markets:
            said = did_you_mean(paper.market, markets)
            faults.add(("paper", "market"), f"was {shown(paper.market)}, must be the market of a [[markets]] row{said}")
    for name, venue in draft.venues.items():
        found = PAPER_URL.fullmatch(venue.url) if venue and venue.url else None
        if found and draft.webhook and int(found[1]) == draft.webhook.port:
            faults.add(("webhook", "port"), f"was {draft.webhook.port}, the port of venues.{name}.url; must be another")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _check_storage(base: Path, path: Path, faults: Faults) -> None:
    where: Where = ("storage", "path")
    was, file = f"was {shown(str(path))}", base / path
    try:
        blocked = next((folder for folder in file.parents if folder.exists() and not folder.is_dir()), None)
        if file.is_dir():
            faults.add(where, f"{was}, must be a file, not a folder")
        elif blocked is not None:
            faults.add(where, f"{was}, but {shown(str(blocked))} is a file, not a folder")
    except OSError as error:
        faults.add(where, f"{was}, which cannot be reached: {error.strerror}")


def _unknown(where: Where, name: str, section: str, known: Mapping[str, object], faults: Faults) -> None:
    faults.add(where, f"was {shown(name)}, must be one of [{section}]{did_you_mean(name, known)}")
