"""Settings: every fault at once, in words a person can act on, and never a secret."""

from __future__ import annotations

import dataclasses
import traceback
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from twinleg.domain.errors import BadInput
from twinleg.engine.ports import SignerRole
from twinleg.risk.limits import Limits
from twinleg.settings import (
    AccountSettings,
    MarketSettings,
    PaperSettings,
    Settings,
    SettingsError,
    StorageSettings,
    StrategySettings,
    VenueSettings,
    WebhookSettings,
    environment,
    example_text,
    load,
    load_from_environment,
    parse,
)
from twinleg.settings_limits import limit_rules

ROOT = Path(__file__).parents[2]
MAIN, HEDGE = "0x" + "a1" * 20, "0x" + "b2" * 20
KEY = "0x" + "9f" * 32
"""Looks like a private key; nobody's."""
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
WAYS_OUT = ("REAL-HEDGE", "second wallet", "sub-account", "another venue")

PAPER = """
mode = "paper"
[venues.hyperliquid]
network = "paper"
url = "http://127.0.0.1:8790"
[accounts.main]
venue = "hyperliquid"
keys = { execute = "MAIN_EXECUTE", risk = "MAIN_RISK", emergency = "MAIN_EMERGENCY" }
[accounts.hedge]
venue = "hyperliquid"
keys = { execute = "HEDGE_EXECUTE", risk = "HEDGE_RISK", emergency = "HEDGE_EMERGENCY" }
[[markets]]
market = "hyperliquid:BTC"
main = "main"
hedge = "hedge"
strategies = ["macd", "tradingview"]
[strategies.macd]
kind = "macd"
[strategies.tradingview]
kind = "tradingview"
[webhook]
port = 8080
[limits]
leverage_max = 5
[storage]
path = "records.sqlite"
[paper]
speed = 1
"""
LIVE = (
    PAPER.replace('mode = "paper"', 'mode = "live"')
    .replace('network = "paper"\nurl = "http://127.0.0.1:8790"', 'network = "testnet"')
    .replace("[accounts.main]", f'[accounts.main]\naddress = "{MAIN}"')
    .replace("[accounts.hedge]", f'[accounts.hedge]\naddress = "{HEDGE}"')
)
MAINNET = LIVE.replace('network = "testnet"', f'network = "mainnet"\nconfirm_address = "{MAIN}, {HEDGE}"')
SECOND_VENUE = '[venues.other]\nnetwork = "paper"\nurl = "http://127.0.0.1:8791"\n'

BTC_ELSEWHERE = (
    ("[accounts.main]", SECOND_VENUE + '[accounts.far]\nvenue = "other"\n[accounts.main]'),
    (
        "[strategies.macd]",
        '[[markets]]\nmarket = "other:BTC"\nmain = "far"\nhedge = "hedge"\nstrategies = ["macd"]\n[strategies.macd]',
    ),
)
"""A second venue, and a row there whose hedge is the first row's."""


def changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text, f"the table of this test is out of date: {old!r}"
        text = text.replace(old, new, 1)
    return text


def faults_of(text: str, environ: dict[str, str] | None = None, base: Path = Path()) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        parse(text, environ or {}, base=base)
    assert isinstance(caught.value, BadInput)
    for fault in caught.value.faults:
        assert "\n" not in fault and len(fault) < 400 and fault in str(caught.value)
    return caught.value.faults


BAD: dict[str, tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]]] = {
    # what it is: (starting from, changes, fragments of one fault line)
    "not toml": (PAPER, (('mode = "paper"', "mode = paper"),), ("not TOML", "line 2")),
    "huge number": (PAPER, (("leverage_max = 5", "leverage_max = 1e99999999999999999999"),), ("not TOML",)),
    "no mode": (PAPER, (('mode = "paper"\n', ""),), ("mode: missing", "paper or live", "no default")),
    "mode misspelt": (PAPER, (('mode = "paper"', 'mode = "papr"'),), ("mode: was 'papr', must be paper or live",)),
    "unknown section": (PAPER, (("[storage]", "[storge]"),), ("storge: unknown key", "did you mean storage?")),
    "unknown key": (
        PAPER,
        (("leverage_max = 5", "levrage_max = 5"),),
        ("limits.levrage_max: unknown key; did you mean leverage_max?",),
    ),
    "no network": (
        PAPER,
        (('network = "paper"\n', ""),),
        ("venues.hyperliquid.network: missing", "paper, testnet or mainnet", "no default"),
    ),
    "unknown network": (
        PAPER,
        (('network = "paper"', 'network = "main"'),),
        ("venues.hyperliquid.network: was 'main', must be paper, testnet or mainnet",),
    ),
    "unknown adapter": (
        PAPER,
        (('network = "paper"', 'network = "paper"\nadapter = "cctx"'),),
        ("venues.hyperliquid.adapter: was 'cctx', must be sdk or ccxt",),
    ),
    "paper on testnet": (
        PAPER,
        (('network = "paper"\nurl = "http://127.0.0.1:8790"', 'network = "testnet"'),),
        ("venues.hyperliquid.network: was 'testnet', must be paper in mode paper",),
    ),
    "live on paper": (
        PAPER,
        (('mode = "paper"', 'mode = "live"'),),
        ("venues.hyperliquid.network: was 'paper', must be testnet or mainnet in mode live",),
    ),
    "paper elsewhere": (
        PAPER,
        (("http://127.0.0.1:8790", "http://example.com:8790"),),
        ("venues.hyperliquid.url: was 'http://example.com:8790', must be on this machine",),
    ),
    "paper without url": (PAPER, (('url = "http://127.0.0.1:8790"\n', ""),), ("venues.hyperliquid.url: missing",)),
    "paper port": (PAPER, (("127.0.0.1:8790", "127.0.0.1:99999"),), ("its port must be 1 to 65535",)),
    "live with url": (
        LIVE,
        (('network = "testnet"', 'network = "testnet"\nurl = "http://127.0.0.1:1"'),),
        ("venues.hyperliquid.url: must not be set for testnet",),
    ),
    "same exchange twice": (
        PAPER,
        (("[accounts.main]", SECOND_VENUE.replace("127.0.0.1:8791", "localhost:8790") + "[accounts.main]"),),
        ("venues.other: is the same exchange as venues.hyperliquid",),
    ),
    "mainnet unconfirmed": (
        MAINNET,
        ((f'confirm_address = "{MAIN}, {HEDGE}"\n', ""),),
        ("venues.hyperliquid.confirm_address: missing; mainnet moves real money", "accounts.main and accounts.hedge"),
    ),
    "mainnet half confirmed": (
        MAINNET,
        ((f"{MAIN}, {HEDGE}", MAIN),),
        ("confirm_address: was '0xa1a1", "must be exactly the address of accounts.main and accounts.hedge"),
    ),
    "testnet confirmed": (
        MAINNET,
        (('network = "mainnet"', 'network = "testnet"'),),
        ("confirm_address: must not be set for testnet",),
    ),
    "live without address": (
        LIVE,
        ((f'address = "{MAIN}"\n', ""),),
        ("accounts.main.address: missing; on testnet the account's address has to be given",),
    ),
    "short address": (
        LIVE,
        ((MAIN, "0x1234"),),
        ("accounts.main.address: was '0x1234', must be an address: 0x and 40 hexadecimal digits",),
    ),
    "zero address": (LIVE, ((MAIN, "0x" + "0" * 40),), ("accounts.main.address", "not the zero address")),
    "one address, two accounts": (
        LIVE,
        ((HEDGE, MAIN.upper().replace("X", "x")),),
        ("accounts.hedge.address", *WAYS_OUT),
    ),
    "account at unknown venue": (
        PAPER,
        (('[accounts.main]\nvenue = "hyperliquid"', '[accounts.main]\nvenue = "hyperliqid"'),),
        ("accounts.main.venue: was 'hyperliqid', must be one of [venues]; did you mean hyperliquid?",),
    ),
    "account name": (PAPER, (("[accounts.main]", '[accounts."Main Wallet"]'),), ("its name must be lower-case",)),
    "own master": (
        PAPER,
        (("[accounts.hedge]", '[accounts.hedge]\nsub_account_of = "hedge"'),),
        ("accounts.hedge.sub_account_of: was 'hedge', must be another account",),
    ),
    "unknown master": (
        PAPER,
        (("[accounts.hedge]", '[accounts.hedge]\nsub_account_of = "mian"'),),
        ("accounts.hedge.sub_account_of: was 'mian'", "did you mean main?"),
    ),
    "master is a sub-account": (
        PAPER,
        (
            ("[accounts.hedge]", '[accounts.hedge]\nsub_account_of = "main"'),
            ("[accounts.main]", '[accounts.main]\nsub_account_of = "hedge"'),
        ),
        ("accounts.hedge.sub_account_of: was 'main', must be a master account",),
    ),
    "master at another venue": (
        PAPER,
        (
            ("[accounts.main]", SECOND_VENUE + "[accounts.main]"),
            ('[accounts.hedge]\nvenue = "hyperliquid"', '[accounts.hedge]\nvenue = "other"\nsub_account_of = "main"'),
        ),
        ("accounts.hedge.sub_account_of: was 'main' at 'hyperliquid', must be at 'other' too",),
    ),
    "accounts is a value": (
        PAPER,
        (
            ("[accounts.main]", "[x.main]"),
            ("[accounts.hedge]", "[x.hedge]"),
            ('mode = "paper"', 'mode = "paper"\naccounts = 1'),
        ),
        ("accounts: was a number, must be tables: [accounts.<name>]",),
    ),
    "limits is a value": (
        PAPER,
        (("[limits]\nleverage_max = 5\n", ""), ('mode = "paper"', 'mode = "paper"\nlimits = 5')),
        ("limits: was a number, must be a table",),
    ),
    "no key names when live": (
        LIVE,
        (('risk = "MAIN_RISK", ', ""),),
        ("accounts.main.keys.risk: missing; the name of the secret",),
    ),
    "one key for two roles": (
        PAPER,
        (('"MAIN_RISK"', '"MAIN_EXECUTE"'),),
        ("accounts.main.keys.risk: was 'MAIN_EXECUTE', the secret of accounts.main.keys.execute too", "nonces"),
    ),
    "one key for two accounts": (
        PAPER,
        (('"HEDGE_RISK"', '"MAIN_RISK"'),),
        ("accounts.hedge.keys.risk: was 'MAIN_RISK', the secret of accounts.main.keys.risk too",),
    ),
    "webhook secret is a key": (
        PAPER,
        (("[webhook]", '[webhook]\nsecret = "MAIN_RISK"'),),
        ("webhook.secret: was 'MAIN_RISK', the secret of accounts.main.keys.risk too",),
    ),
    "unknown account in a market": (
        PAPER,
        (('hedge = "hedge"', 'hedge = "hegde"'),),
        ("markets[0].hedge: was 'hegde', must be one of [accounts]; did you mean hedge?",),
    ),
    "unknown strategy in a market": (
        PAPER,
        (('["macd", "tradingview"]', '["mcad"]'),),
        ("markets[0].strategies: was 'mcad', must be one of [strategies]; did you mean macd?",),
    ),
    "no strategy": (PAPER, (('["macd", "tradingview"]', "[]"),), ("markets[0].strategies: was empty",)),
    "a strategy twice": (PAPER, (('["macd", "tradingview"]', '["macd", "macd"]'),), ("must name each once",)),
    "market's shape": (PAPER, (("hyperliquid:BTC", "BTC"),), ("markets[0].market: was 'BTC', must be venue:COIN",)),
    "market at unknown venue": (
        PAPER,
        (("hyperliquid:BTC", "hyperliqid:BTC"),),
        ("markets[0].market: was 'hyperliqid', must be one of [venues]; did you mean hyperliquid?",),
    ),
    "no market": (
        PAPER,
        (
            (
                '[[markets]]\nmarket = "hyperliquid:BTC"\nmain = "main"\nhedge = "hedge"\n'
                'strategies = ["macd", "tradingview"]\n',
                "",
            ),
        ),
        ("markets: missing; write at least one [[markets]] table",),
    ),
    "markets is one table": (
        PAPER,
        (("[[markets]]", "[markets]"),),
        ("markets: was a table, must be a list of tables",),
    ),
    "both legs on one account": (
        PAPER,
        (('hedge = "hedge"', 'hedge = "main"'),),
        ("markets[0].hedge: was 'main'", *WAYS_OUT),
    ),
    "hedge in another coin": (
        PAPER,
        (('hedge = "hedge"', 'hedge = "hedge"\nhedge_market = "hyperliquid:ETH"'),),
        ("markets[0].hedge_market: was 'hyperliquid:ETH', must be hyperliquid:BTC",),
    ),
    "hedge market at another venue": (
        PAPER,
        (
            ("[accounts.main]", SECOND_VENUE + "[accounts.main]"),
            ('hedge = "hedge"', 'hedge = "hedge"\nhedge_market = "other:BTC"'),
        ),
        ("markets[0].hedge_market: was 'other:BTC', must be a market of 'hyperliquid'",),
    ),
    "legs on two networks": (
        MAINNET,
        (
            ("[accounts.main]", '[venues.other]\nnetwork = "testnet"\n[accounts.main]'),
            (f'"{HEDGE}"\nvenue = "hyperliquid"', f'"{HEDGE}"\nvenue = "other"'),
        ),
        ("markets[0].hedge: was 'hedge', must be on the network of the main leg",),
    ),
    "one market, two rows": (
        PAPER,
        (
            (
                "[strategies.macd]",
                '[[markets]]\nmarket = "hyperliquid:BTC"\nmain = "hedge"\nhedge = "main"\n'
                'strategies = ["macd"]\n[strategies.macd]',
            ),
        ),
        ("markets[1].market: was 'hyperliquid:BTC', which markets[0] trades already; one row per market",),
    ),
    "one slot, two rows": (
        PAPER.replace(', "tradingview"]', "]"),
        BTC_ELSEWHERE,
        ("markets[1].hedge: was 'hedge', which markets[0].hedge uses in hyperliquid:BTC already", "would net"),
    ),
    "alerts cannot tell": (
        PAPER,
        BTC_ELSEWHERE,
        ("markets[1].market: was 'other:BTC', but alerts name only the coin",),
    ),
    "unknown kind": (
        PAPER,
        (('kind = "macd"', 'kind = "macdd"'),),
        ("strategies.macd.kind: was 'macdd', must be macd or tradingview",),
    ),
    "alerts by another name": (
        PAPER,
        (("[strategies.tradingview]", "[strategies.alerts]"),),
        ("strategies.alerts.kind: was 'tradingview'; alerts have one strategy",),
    ),
    "opposite": (
        PAPER,
        (('kind = "macd"', 'kind = "macd"\non_opposite = "flip"'),),
        ("strategies.macd.on_opposite: was 'flip', must be close or reverse",),
    ),
    "confidence of a computed signal": (
        PAPER,
        (('kind = "macd"', 'kind = "macd"\nconfidence = 0.5'),),
        ("strategies.macd.confidence: kind macd says its own",),
    ),
    "confidence": (
        PAPER,
        (('kind = "tradingview"', 'kind = "tradingview"\nconfidence = 60'),),
        ("strategies.tradingview.confidence: was 60, must be at most 1",),
    ),
    "unknown parameter": (
        PAPER,
        (('kind = "macd"', 'kind = "macd"\nparameters = { fst = 3 }'),),
        ("strategies.macd.parameters.fst: unknown key; did you mean fast?",),
    ),
    "fast is not faster": (
        PAPER,
        (('kind = "macd"', 'kind = "macd"\nparameters = { fast = 30 }'),),
        ("strategies.macd.parameters: fast 30 must be shorter than slow 21",),
    ),
    "parameters of alerts": (
        PAPER,
        (('kind = "tradingview"', 'kind = "tradingview"\nparameters = { fast = 3 }'),),
        ("strategies.tradingview.parameters: kind tradingview has none",),
    ),
    "leverage untyped": (
        PAPER,
        (("leverage_max = 5", "leverage_max = 20"),),
        ("limits.leverage_max: was 20, must be at most 10 unless leverage_above_10_allowed = true",),
    ),
    "leverage untyped, one strategy": (
        PAPER,
        (('kind = "macd"', 'kind = "macd"\nlimits = { leverage_max = 11 }'),),
        ("strategies.macd.limits.leverage_max: was 11, must be at most 10",),
    ),
    "leverage of true": (
        PAPER,
        (("leverage_max = 5", "leverage_max = true"),),
        ("limits.leverage_max: was true, must be a number",),
    ),
    "leverage in parts": (
        PAPER,
        (("leverage_max = 5", "leverage_max = 2.5"),),
        ("limits.leverage_max: was 2.5, must be a whole number",),
    ),
    "percent": (
        PAPER,
        (("leverage_max = 5", "main_margin_percent = 100"),),
        ("limits.main_margin_percent: was 100, must be below 100",),
    ),
    "not a number": (
        PAPER,
        (("leverage_max = 5", "slippage_bps = nan"),),
        ("limits.slippage_bps: was NaN, must be a finite number",),
    ),
    "ladder order": (
        PAPER,
        (("leverage_max = 5", "ladder_margin_percent = 60"),),
        ("limits.ladder_margin_percent: must lie between", "ladder_warn_percent 50, ladder_margin_percent 60"),
    ),
    "ratio order": (
        PAPER,
        (("leverage_max = 5", "ratio_cut = 2.5"),),
        ("limits.ratio_margin: must lie between", "ratio_cut 2.5"),
    ),
    "warning never over": (
        PAPER,
        (("leverage_max = 5", "ladder_hysteresis_percent = 50"),),
        ("limits.ladder_hysteresis_percent: was 50", "a warning is never over"),
    ),
    "breaker order": (
        PAPER,
        (("leverage_max = 5", "day_loss_flatten_percent = 5"),),
        ("limits.day_loss_reducing_percent: was 5, must be below day_loss_flatten_percent 5",),
    ),
    "more an hour than a day": (
        PAPER,
        (("leverage_max = 5", "entries_per_hour_max = 31"),),
        ("limits.entries_per_hour_max: was 31, must be at most entries_per_day_max 30",),
    ),
    "hedge larger than main": (
        PAPER,
        (("leverage_max = 5", "main_margin_percent = 25"),),
        ("limits.main_margin_percent: was 25", "the hedge is 1.20 of the main leg, must be below 1"),
    ),
    "budget beyond margin": (
        PAPER,
        (("leverage_max = 5", "margin_in_use_percent_max = 3"),),
        ("limits.margin_in_use_percent_max: was 3, must be at least 4", "no trade could ever be approved"),
    ),
    "webhook port": (PAPER, (("port = 8080", "port = 0"),), ("webhook.port: was 0, must be at least 1",)),
    "webhook on the venue's port": (
        PAPER,
        (("port = 8080", "port = 8790"),),
        ("webhook.port: was 8790, the port of venues.hyperliquid.url",),
    ),
    "webhook sources": (
        PAPER,
        (("port = 8080", 'allow_addresses = ["tradingview.com"]'),),
        ("webhook.allow_addresses[0]: was 'tradingview.com', must be one IP address",),
    ),
    "durability": (
        PAPER,
        (("[storage]", '[storage]\ndurability = "fast"'),),
        ("storage.durability: was 'fast', must be full or normal",),
    ),
    "storage is a folder": (PAPER, (('"records.sqlite"', '"."'),), ("storage.path: was '.', must be a file",)),
    "storage below a file": (
        PAPER,
        (('"records.sqlite"', '"a-file/records.sqlite"'),),
        ("storage.path: was 'a-file/records.sqlite', but ", "is a file, not a folder"),
    ),
    "storage out of reach": (
        PAPER,
        (("records.sqlite", "r" * 300),),
        ("storage.path: was 'rrr", "which cannot be reached: File name too long"),
    ),
    "candles out of reach": (
        PAPER,
        (("speed = 1", f'candles = "{"z" * 300}"'),),
        ("paper.candles: was 'zzz", "a file that exists"),
    ),
    "no such candles": (
        PAPER,
        (("speed = 1", 'candles = "nowhere.csv"'),),
        ("paper.candles: was 'nowhere.csv', must be 'packaged' or a file that exists",),
    ),
    "candles of nothing traded": (
        PAPER,
        (("speed = 1", 'market = "hyperliquid:ETH"'),),
        ("paper.market: was 'hyperliquid:ETH', must be the market of a [[markets]] row",),
    ),
    "speed": (PAPER, (("speed = 1", "speed = 0"),), ("paper.speed: was 0, must be above 0",)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_configuration_is_one_clear_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    text, changes, fragments = BAD[name]
    faults = faults_of(changed(text, *changes), base=tmp_path)
    assert any(all(fragment in fault for fragment in fragments) for fault in faults), "\n".join(faults)


@pytest.mark.parametrize("text", [PAPER, LIVE, MAINNET, example_text()])
def test_the_starting_points_are_sound(text: str) -> None:
    assert parse(text, {}).markets


def test_table_is_long_enough() -> None:
    assert len(BAD) >= 30


def test_every_fault_is_listed_at_once() -> None:
    faults = faults_of(
        changed(
            PAPER,
            ('mode = "paper"', 'mode = "demo"'),
            ("http://127.0.0.1:8790", "http://10.0.0.1:8790"),
            ('"MAIN_RISK"', '"MAIN_EXECUTE"'),
            ('venue = "hyperliquid"', 'venue = "hyperliqid"\naddress = "0x12"'),
            ('hedge = "hedge"', 'hedge = "main"'),
            ("leverage_max = 5", "leverage_max = 20\nladder_cut_percent = 40\nbudgt_percent = 5"),
            ("speed = 1", "speed = -1"),
        )
    )
    for place in (
        "mode:", "venues.hyperliquid.url:", "accounts.main.keys.risk:", "accounts.main.venue:",
        "accounts.main.address:",
        "markets[0].hedge:", "limits.leverage_max:", "limits.ladder_margin_percent:", "limits.budgt_percent:",
        "paper.speed:",
    ):  # fmt: skip
        assert sum(fault.startswith(place) for fault in faults) == 1, (place, faults)
    assert len(faults) == 10


def test_a_limit_that_cannot_be_read_breaks_no_other_rule() -> None:
    assert faults_of(changed(PAPER, ("leverage_max = 5", 'ladder_warn_percent = 30\nladder_margin_percent = "x"'))) == (
        "limits.ladder_margin_percent: was 'x', must be a number",
    )


def test_a_fault_of_the_global_limits_is_not_told_again_by_every_strategy() -> None:
    faults = faults_of(changed(PAPER, ("leverage_max = 5", "leverage_max = 20")))
    assert len(faults) == 1


# -- secrets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        (('"MAIN_RISK"', f'"{KEY}"'),),
        (('"MAIN_RISK"', f'"{KEY[2:]}"'),),
        (('"MAIN_RISK"', f'"{WORDS}"'),),
        (('"MAIN_RISK"', '"correct-horse-9"'),),
        (('"MAIN_RISK"', "987654321"),),
        (('{ execute = "MAIN_EXECUTE", risk = "MAIN_RISK", emergency = "MAIN_EMERGENCY" }', '"correct-horse-9"'),),
        (("[webhook]", '[webhook]\nsecret = "correct-horse-9"'),),
        (("[accounts.main]", f'[accounts.main]\naddress = "{KEY}"'),),
        (("[accounts.main]", f'[accounts.main]\naddress = "{KEY[:-3]}"'),),
        (("[accounts.main]", f'[accounts.main]\n{KEY} = "main"'),),
        (("[accounts.main]", f"[accounts.main]\n# key: {KEY}"),),
        (("[accounts.main]", f"[accounts.{KEY}]"),),
        (("[accounts.main]", f"[accounts.main]\nkey {KEY}"),),
        (('mode = "paper"', f'{KEY} = 1\nmode = "paper"'),),
        (("http://127.0.0.1:8790", "http://me:correct-horse-9@127.0.0.1:8790"),),
        (("http://127.0.0.1:8790", "http://127.0.0.1:8790/?token=correct-horse-9"),),
    ],
)
def test_a_secret_in_the_file_is_refused_and_never_shown(changes: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(changed(PAPER, *changes), {})
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(caught.value.faults)
    for secret in ("9f9f9f", "sausage", "correct-horse-9", "987654321"):
        assert secret not in told


def test_a_secret_from_an_override_is_refused_and_never_shown() -> None:
    faults = faults_of(PAPER, {"TWINLEG_ACCOUNTS__MAIN__KEYS__RISK": KEY})
    assert len(faults) == 1 and "NAMES of secrets" in faults[0]
    assert faults[0].endswith("(set by TWINLEG_ACCOUNTS__MAIN__KEYS__RISK)") and "9f9f" not in faults[0]


def test_print_shows_names_and_no_values() -> None:
    environ = {"MAIN_RISK": KEY, "TWINLEG_WEBHOOK_SECRET": "correct-horse-9"}
    settings = parse(PAPER, environ)
    printed = f"{settings} {settings!r} {settings.masked()} {settings.desk()} {dataclasses.fields(settings)}"
    assert "9f9f" not in printed and "correct-horse-9" not in printed
    assert "accounts.main.keys.risk = secret named MAIN_RISK" in settings.masked()
    assert "webhook.secret = secret named TWINLEG_WEBHOOK_SECRET" in settings.masked()
    assert "limits.leverage_max = 5" in settings.masked()
    assert repr(settings) == "Settings(mode=paper, accounts=main, hedge, markets=hyperliquid:BTC, source=twinleg.toml)"


# -- environment -------------------------------------------------------------------------------------


def test_environment_overrides_the_file() -> None:
    settings = parse(
        PAPER,
        {
            "TWINLEG_LIMITS__LEVERAGE_MAX": "3",
            "TWINLEG_LIMITS__DE_MINIMIS": "true",
            "TWINLEG_LIMITS__SLIPPAGE_BPS": "12.5",
            "TWINLEG_MARKETS__0__STRATEGIES": "macd",
            "TWINLEG_STRATEGIES__MACD__PARAMETERS__FAST": "9",
            "TWINLEG_STRATEGIES__MACD__LIMITS__STOP_PERCENT": "0.7",
            "TWINLEG_ACCOUNTS__MAIN__KEYS__RISK": "OTHER_NAME",
            "TWINLEG_ACCOUNTS__HEDGE__ADDRESS": HEDGE,
            "TWINLEG_WEBHOOK__ALLOW_ADDRESSES": "52.89.214.238, 34.212.75.30",
            "TWINLEG_STORAGE__DURABILITY": "normal",
            "TWINLEG_CONFIG": "elsewhere.toml",
            "PATH": "/bin",
        },
    )
    assert (settings.limits.leverage_max, settings.limits.de_minimis) == (3, True)
    assert settings.limits.slippage_bps == Decimal("12.5")
    assert settings.markets[0].strategies == ("macd",)
    assert dict(settings.strategies["macd"].parameters)["fast"] == 9
    assert settings.strategies["macd"].limits.stop_percent == Decimal("0.7")
    assert settings.strategies["macd"].limits.leverage_max == 3, "an override of the global limits reaches strategies"
    assert settings.key_names["main", SignerRole.RISK] == "OTHER_NAME"
    assert settings.accounts["hedge"].address == HEDGE
    assert settings.webhook.allow_addresses == ("52.89.214.238", "34.212.75.30")
    assert settings.storage.durability == "normal"


def test_live_can_be_typed_in_the_environment() -> None:
    environ = {
        "TWINLEG_MODE": "live",
        "TWINLEG_VENUES__HYPERLIQUID__NETWORK": "testnet",
        "TWINLEG_ACCOUNTS__MAIN__ADDRESS": MAIN,
        "TWINLEG_ACCOUNTS__HEDGE__ADDRESS": HEDGE,
    }
    settings = parse(changed(PAPER, ('url = "http://127.0.0.1:8790"\n', "")), environ)
    assert settings.mode == "live" and settings.desk().live


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("TWINLEG_LIMITS__LEVRAGE_MAX", "did you mean TWINLEG_LIMITS__LEVERAGE_MAX?"),
        ("TWINLEG_LIMITS_LEVERAGE_MAX", "did you mean TWINLEG_LIMITS__LEVERAGE_MAX?"),
        ("TWINLEG_MARKETS__1__HEDGE", "did you mean TWINLEG_MARKETS__0__HEDGE?"),
        ("TWINLEG_ACCOUNTS__MIAN__ADDRESS", "did you mean TWINLEG_ACCOUNTS__MAIN__ADDRESS?"),
        ("TWINLEG_Q__Z", "overrides are TWINLEG_<SECTION>__<FIELD>"),
    ],
)
def test_an_override_that_sets_nothing_is_a_fault(variable: str, said: str) -> None:
    (fault,) = faults_of(PAPER, {variable: "correct-horse-9"})
    assert fault.startswith(f"{variable}: sets nothing") and said in fault
    assert "correct-horse-9" not in fault


def test_secrets_and_strangers_in_the_environment_are_no_faults() -> None:
    text = changed(PAPER, ('"MAIN_RISK"', '"TWINLEG_MAIN_RISK_KEY"'))
    assert parse(text, {"TWINLEG_MAIN_RISK_KEY": KEY, "TWINLEG_WEBHOOK_SECRET": "x", "TWINLEG_SECRET_OTHER": "y"})


def test_a_fault_says_which_variable_it_came_from() -> None:
    assert faults_of(PAPER, {"TWINLEG_LIMITS__LEVERAGE_MAX": "200"}) == (
        "limits.leverage_max: was '200', must be at most 50 (set by TWINLEG_LIMITS__LEVERAGE_MAX)",
    )


def test_environment_is_sealed() -> None:
    with pytest.raises(TypeError):
        environment()["PATH"] = "x"  # type: ignore[index]


# -- files -------------------------------------------------------------------------------------------


def test_the_example_in_the_repository_is_the_packaged_one() -> None:
    assert (ROOT / "twinleg.toml").read_text("utf-8") == example_text()


def test_without_a_file_the_packaged_example_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {})
    assert settings.source == "the packaged example"
    assert settings.mode == "paper" and {v.network for v in settings.venues.values()} == {"paper"}
    assert set(settings.accounts) == {"main", "hedge"} and set(settings.strategies) == {"macd", "tradingview"}


def test_the_commented_second_market_is_sound() -> None:
    lines = example_text().splitlines()
    start = lines.index("# [[markets]]")
    lines[start : start + 5] = [line.removeprefix("# ") for line in lines[start : start + 5]]
    assert [row.market for row in parse("\n".join(lines), {}).markets] == ["hyperliquid:BTC", "hyperliquid:ETH"]


def test_what_the_example_spells_out_is_the_default() -> None:
    assert load(ROOT / "twinleg.toml", {}).limits == Limits()


def test_which_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, named, given = tmp_path / "twinleg.toml", tmp_path / "named.toml", tmp_path / "given.toml"
    for file in (here, named, given):
        file.write_text(PAPER)
    assert load(None, {}).source == "twinleg.toml"
    assert load(None, {"TWINLEG_CONFIG": str(named)}).source == str(named)
    assert load(given, {"TWINLEG_CONFIG": str(named)}).source == str(given)


def test_a_function_reads_what_its_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cloud.toml").write_text(PAPER)
    monkeypatch.setenv("TWINLEG_CONFIG", str(tmp_path / "cloud.toml"))
    monkeypatch.setenv("TWINLEG_LIMITS__LEVERAGE_MAX", "2")
    settings, environ = load_from_environment()
    assert settings.limits.leverage_max == 2 and environ["TWINLEG_LIMITS__LEVERAGE_MAX"] == "2"


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text("x")
    (tmp_path / "twinleg.toml").write_text(changed(PAPER, ("speed = 1", 'candles = "bars.csv"')))
    settings = load(tmp_path / "twinleg.toml", {})
    assert settings.storage.path == tmp_path / "records.sqlite"
    assert settings.paper.candles == str(tmp_path / "bars.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"", "mode: missing"),
        ("folder", "cannot be read"),
    ],
)
def test_an_unreadable_file_is_a_clear_line(content: bytes | str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "twinleg.toml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.mkdir()
    with pytest.raises(SettingsError, match=said) as caught:
        load(file, {})
    assert str(file) in str(caught.value)


# -- what comes out ----------------------------------------------------------------------------------


def test_settings_are_sealed() -> None:
    settings = parse(PAPER, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.mode = "live"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.limits.leverage_max = 50  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.accounts["x"] = settings.accounts["main"]  # type: ignore[index]


def test_desk_is_what_the_engine_trades_by() -> None:
    text = changed(PAPER, ('kind = "macd"', 'kind = "macd"\non_opposite = "reverse"\nlimits = { stop_percent = 0.5 }'))
    desk = parse(text, {}).desk({"main": MAIN})
    plan = desk.markets["hyperliquid:BTC"]
    assert (plan.main_account, plan.hedge_account, plan.hedge_market) == ("main", "hedge", "hyperliquid:BTC")
    macd, alerts = desk.strategies["macd"], desk.strategies["tradingview"]
    assert macd.strategy is not None and macd.strategy.name == "macd" and alerts.strategy is None
    assert (macd.on_opposite, alerts.on_opposite) == ("reverse", "close")
    assert (macd.limits.stop_percent, alerts.limits.stop_percent) == (Decimal("0.5"), Decimal(1))
    assert macd.limits.leverage_max == desk.limits.leverage_max == 5
    assert desk.accounts["main"].address == MAIN and not desk.live
    assert desk.window >= macd.strategy.lookback and Decimal(desk.alert_confidence) == Decimal("0.6")


def test_a_strategy_signs_with_its_configured_name() -> None:
    text = PAPER.replace("[strategies.macd]", "[strategies.slow_macd]").replace('["macd",', '["slow_macd",')
    strategy = parse(text, {}).desk().strategies["slow_macd"].strategy
    assert strategy is not None and strategy.name == "slow_macd"


def test_a_long_lookback_widens_the_window() -> None:
    desk = parse(changed(PAPER, ('kind = "macd"', 'kind = "macd"\nparameters = { slow = 200 }')), {}).desk()
    strategy = desk.strategies["macd"].strategy
    assert strategy is not None and desk.window == strategy.lookback > 240


def test_a_sub_account_knows_its_masters_address() -> None:
    text = changed(LIVE, ("[accounts.hedge]", '[accounts.hedge]\nsub_account_of = "main"'))
    assert parse(text, {}).desk().accounts["hedge"].master == MAIN


def test_mainnet_is_confirmed_by_the_owner_of_a_sub_account() -> None:
    text = changed(
        MAINNET,
        ("[accounts.hedge]", '[accounts.hedge]\nsub_account_of = "main"'),
        (f"{MAIN}, {HEDGE}", MAIN.upper().replace("X", "x")),
    )
    assert parse(text, {}).venues["hyperliquid"].network == "mainnet"


def test_a_hedge_at_another_venue_is_held_in_its_market() -> None:
    text = changed(
        PAPER,
        ("[accounts.main]", SECOND_VENUE + "[accounts.main]"),
        ('[accounts.hedge]\nvenue = "hyperliquid"', '[accounts.hedge]\nvenue = "other"'),
    )
    assert parse(text, {}).markets[0].hedge_market == "other:BTC"


def test_paper_accounts_need_no_key_names() -> None:
    names = parse("\n".join(line for line in PAPER.splitlines() if not line.startswith("keys")), {}).key_names
    assert names["hedge", SignerRole.EMERGENCY] == "TWINLEG_HEDGE_EMERGENCY_KEY"
    assert len(set(names.values())) == 6


def test_high_leverage_is_allowed_once_typed_out() -> None:
    text = changed(PAPER, ("leverage_max = 5", "leverage_max = 20\nleverage_above_10_allowed = true"))
    assert parse(text, {}).limits.leverage_max == 20


def test_defaults_keep_every_rule() -> None:
    assert all(rule.holds for rule in limit_rules(Limits()))
    assert {field for rule in limit_rules(Limits()) for field in (*rule.fields, rule.field)} <= set(Limits.model_fields)


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.text(max_size=30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([[], {}, [{}], [[1]]]),
)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08X}" for c in value if not 0xD800 <= ord(c) <= 0xDFFF) + '"'
    return repr(value)


@given(line=st.integers(1, len(PAPER.splitlines()) - 1), value=SCALARS)
@effort(max_examples=150, deadline=None)
def test_whatever_stands_there_it_is_settings_or_faults(line: int, value: object) -> None:
    lines = PAPER.splitlines()
    name, equals, _ = lines[line].partition(" = ")
    lines[line] = f"{name} = {_toml(value)}" if equals else f"{lines[line]}\nextra = {_toml(value)}"
    try:
        assert isinstance(parse("\n".join(lines), {}), Settings)
    except SettingsError as error:
        assert error.faults and all("\n" not in fault for fault in error.faults)


# -- documentation -----------------------------------------------------------------------------------


def test_every_limit_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    for name, field in Limits.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert f"\n| `{name}` | {default} |" in page, name


@pytest.mark.parametrize(
    "part",
    [VenueSettings, AccountSettings, MarketSettings, StrategySettings, WebhookSettings, StorageSettings, PaperSettings],
)
def test_every_field_is_documented(part: type[BaseModel]) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert [name for name in part.model_fields if f"\n| `{name}` |" not in page] == []
