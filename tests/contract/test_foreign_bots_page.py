"""docs/foreign-bots.md is true: its clients trade as written, its commands start a venue, its lists are complete."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from eth_account import Account

from twinleg.cli import parser
from twinleg.commands.venue import prepared
from twinleg.paper.clockwork import wall_ms
from twinleg.paper.control import CONTROLS
from twinleg.paper.faults import KINDS as FAULTS
from twinleg.paper.generate import KINDS
from twinleg.paper.server import serve_in_thread
from twinleg.paper.venue import Venue

PAGE = (Path(__file__).resolve().parents[2] / "docs/foreign-bots.md").read_text()
ADDRESS = "127.0.0.1:8790"
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SHELL = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
STARTS = [line for line in SHELL if line.startswith("./dev run venue")]
CURLS = [line for line in SHELL if line.startswith("curl")]


@pytest.fixture(scope="module")
def served():
    options, _, _ = prepared(parser().parse_args(shlex.split(STARTS[0])[2:]))
    server = serve_in_thread(options)
    yield server
    server.stop()


@pytest.fixture
def url(served):
    yield served.url
    served.venue.clear_faults()


def here(text: str, url: str) -> str:
    return text.replace(ADDRESS, url.removeprefix("http://"))


def test_every_shell_line_is_one_of_the_two_that_are_tried():
    assert len(PYTHON) == 4 and len(STARTS) >= 9 and len(CURLS) >= 9
    assert len(STARTS) + len(CURLS) == len(SHELL)


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_each_client_trades_as_written(url, number, capsys):
    exec(compile(here(PYTHON[number], url), f"foreign-bots.md, Python {number + 1}", "exec"), {"__name__": "page"})
    printed = capsys.readouterr().out
    assert printed.strip() and "error" not in printed, printed


def test_the_settings_for_freqtrade_do_it_in_ccxt(url):
    import ccxt

    ((text),) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    wallet = Account.create()
    key = "0x" + wallet.key.hex().removeprefix("0x")
    config = json.loads(here(text, url))["exchange"]["ccxt_config"]
    client = ccxt.hyperliquid({"walletAddress": wallet.address, "privateKey": key, **config})
    client.create_order("BTC/USDC:USDC", "market", "buy", 0.01, 120_000)
    (fill,) = client.fetch_my_trades("BTC/USDC:USDC")
    assert float(fill["info"].get("builderFee", 0)) == 0
    ws = client.urls["api"]["ws"]["public"]
    assert ws == url.replace("http", "ws") + "/ws"


def test_every_curl_is_answered(url):
    for line in CURLS:
        words = shlex.split(here(line, url))[1:]
        method, data, address = None, None, ""
        while words:
            word = words.pop(0)
            if word == "-X":
                method = words.pop(0)
            elif word == "-d":
                data = words.pop(0).encode()
            elif word != "-s":
                address = word
        with urlopen(Request(address, data=data, method=method), timeout=10) as answer:
            assert answer.status == 200 and json.loads(answer.read()), line


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.mark.parametrize("line", STARTS)
def test_every_start_makes_a_venue_with_its_faults(folder, monkeypatch, line):
    monkeypatch.chdir(folder)
    options, rules, _ = prepared(parser().parse_args(shlex.split(line)[2:]))
    venue = Venue(options, wall_ms)
    try:
        assert len(venue.add_faults(rules)["faults"]) == len(rules)
        assert venue.status()["ready"] and options.port == 8790
    finally:
        venue.close()


def test_all_kinds_and_controls_are_named():
    missing = [kind for kind in (*FAULTS, *KINDS) if f"`{kind}`" not in PAGE]
    missing += [row.path for row in CONTROLS if row.path not in PAGE]
    missing += [name for row in CONTROLS for name in row.fields if name != "*" and f"`{name}`" not in PAGE]
    assert not missing
