"""``twinleg doctor``: each thing that must be right before money is put behind it, and what it says when it is not."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from twinleg.adapters.local.candle_files import packaged_candles
from twinleg.adapters.local.secrets import ChainSecrets, MappingSecrets
from twinleg.bootstrap import System, account_addresses, local_system, paper_key, paper_secrets
from twinleg.cli import main
from twinleg.domain.control import Halt
from twinleg.embedded.doctor import Finding, examine
from twinleg.embedded.replay import settings_text
from twinleg.embedded.runtime import prepare
from twinleg.embedded.venue_process import VenueControl
from twinleg.engine.control import set_trading
from twinleg.engine.ports import SignerRole
from twinleg.paper.options import VenueOptions
from twinleg.paper.server import serve_in_thread
from twinleg.settings import parse


@dataclass
class Clinic:
    """A prepared paper desk by the wall's clock, and its configuration file."""

    system: System
    config: Path
    control: VenueControl

    def doctor(self, *arguments: str) -> int:
        return main(["doctor", "--config", str(self.config), *arguments])

    def bad(self, **secrets: str) -> list[Finding]:
        system = self.system
        if secrets:
            known = paper_secrets(system.settings)
            system.secrets = ChainSecrets(MappingSecrets(secrets), MappingSecrets(known))
            del system.__dict__["venues"]  # venues read their keys from the secrets of the beginning
        return [f for f in examine(system) if not f.ok]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clinic]:
    monkeypatch.delenv("TWINLEG_CONFIG", raising=False)
    server = serve_in_thread(VenueOptions(candles={"BTC": packaged_candles()}, clock="wall"))
    config = tmp_path / "twinleg.toml"
    config.write_text(settings_text("BTC", server.url, {}))
    system = local_system(parse(config.read_text(), {}, base=tmp_path), {})
    prepare(system)
    yield Clinic(system, config, VenueControl(server.url))
    server.stop()


def test_a_desk_in_order_passes_and_says_what_was_looked_at(clinic, capsys):
    assert clinic.doctor() == 0
    said = capsys.readouterr().out
    assert "FAIL" not in said
    for subject in (
        "configuration", "hedge of hyperliquid:BTC", "secret TWINLEG_WEBHOOK_SECRET", "secret TWINLEG_MAIN_RISK_KEY",
        "venue hyperliquid", "clock against hyperliquid", "requests to hyperliquid", "market hyperliquid:BTC",
        "mode of main", "equity of hedge",
        "execute key of main", "risk key of hedge", "emergency key of hedge", "trading",
    ):  # fmt: skip
        assert f"ok   {subject}: " in said
    for (account, role), name in clinic.system.settings.key_names.items():
        assert clinic.system.secrets.read(name) not in said, (account, role)


def test_json_holds_the_same_findings(clinic, capsys):
    assert clinic.doctor("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert {f["subject"]: f["ok"] for f in found} == {f.subject: f.ok for f in examine(clinic.system)}
    assert all(isinstance(f["text"], str) and f["text"] for f in found)


def test_a_missing_secret_is_named_and_the_rest_is_looked_at_all_the_same(clinic):
    known = paper_secrets(clinic.system.settings)
    del known["TWINLEG_HEDGE_RISK_KEY"], known["TWINLEG_WEBHOOK_SECRET"]
    clinic.system.secrets = MappingSecrets(known)
    del clinic.system.__dict__["venues"]
    bad = {f.subject: f.text for f in clinic.bad()}
    assert bad["secret TWINLEG_HEDGE_RISK_KEY"] == "secret TWINLEG_HEDGE_RISK_KEY is not set"
    assert "secret TWINLEG_WEBHOOK_SECRET" in bad
    assert "account hedge" in bad
    subjects = {f.subject for f in examine(clinic.system) if f.ok}
    assert subjects >= {"execute key of main", "market hyperliquid:BTC", "trading"}


def test_a_key_the_account_never_approved_is_found(clinic):
    wrong = paper_key("somebody", "else")
    [finding] = clinic.bad(TWINLEG_MAIN_EXECUTE_KEY=wrong)
    assert finding.subject == "execute key of main"
    assert "is not among the account's named agent keys" in finding.text
    assert wrong not in finding.text


@pytest.mark.parametrize("value", ["not a key", "0x1234"])
def test_a_secret_that_is_no_key_is_found_and_not_shown(clinic, value):
    bad = clinic.bad(TWINLEG_MAIN_EXECUTE_KEY=value)
    assert "account main" in {f.subject for f in bad}
    assert all(value not in f.text for f in bad)


def test_a_position_that_nobody_recorded_is_found_and_the_exit_code_says_so(clinic, capsys):
    trade_by_hand(clinic)
    assert clinic.doctor() == 1
    said = capsys.readouterr().out
    assert "FAIL position hyperliquid:BTC on main: 0.001, nobody recorded it: close it, or choose foreign" in said


def trade_by_hand(clinic: Clinic) -> None:
    from eth_account import Account
    from hyperliquid.exchange import Exchange

    exchange = Exchange(Account.from_key(paper_key("main", "owner")), clinic.control.url)
    mark = float(clinic.control.status()["markets"]["BTC"]["mark"])
    answer = exchange.order("BTC", True, 0.001, round(mark * 1.01), {"limit": {"tif": "Ioc"}})
    assert answer["status"] == "ok", answer


@pytest.mark.parametrize("state", [Halt.HALTED, Halt.REDUCING])
def test_a_desk_that_is_halted_is_said(clinic, state):
    set_trading(clinic.system.engine(SignerRole.EXECUTE), state, why="lunch", by="a test")
    [finding] = clinic.bad()
    assert (finding.subject, finding.text) == ("trading", f"{state}: lunch")


def test_a_clock_that_is_off_is_found_with_the_difference(clinic):
    class Late:
        """The wall's clock, a minute behind."""

        def now(self) -> Any:
            return real.now() - timedelta(minutes=1)

        sleep: Callable[[float], None] = staticmethod(lambda seconds: None)

    real = clinic.system.clock
    clinic.system.clock = Late()
    [finding] = clinic.bad()
    assert finding.subject == "clock against hyperliquid"
    assert "differs by 60." in finding.text


def test_an_account_in_another_mode_is_found(clinic):
    from eth_account import Account
    from hyperliquid.exchange import Exchange

    address = account_addresses(clinic.system.settings)["hedge"][1]
    exchange = Exchange(Account.from_key(paper_key("hedge", "owner")), clinic.control.url)
    assert exchange.user_set_abstraction(address, "unifiedAccount")["status"] == "ok"
    bad = {f.subject: f.text for f in clinic.bad()}
    assert bad["mode of hedge"].startswith("unifiedAccount")


@pytest.mark.parametrize(("percent", "found"), [("14", ["requests to hyperliquid"]), ("15", [])])
def test_markets_that_leave_no_requests_for_an_entry_are_found(clinic, tmp_path, percent, found):
    """Two accounts and one market weigh 172 of the 1200 a minute; with many markets it is more than entries may see."""
    text = settings_text("BTC", clinic.control.url, {"limits": {"request_weight_percent_max": percent}})
    system = local_system(parse(text, {}, base=tmp_path), {})
    assert [f.subject for f in examine(system) if not f.ok] == found


def test_a_venue_that_does_not_answer_is_one_finding_a_part_and_no_traceback(clinic, tmp_path, capsys):
    clinic.config.write_text(settings_text("BTC", "http://127.0.0.1:9", {}))
    assert clinic.doctor() == 1
    captured = capsys.readouterr()
    assert "FAIL venue hyperliquid: Unavailable" in captured.out
    assert "FAIL account main: Unavailable" in captured.out
    assert "ok   secret TWINLEG_MAIN_EXECUTE_KEY: present" in captured.out
    assert "Traceback" not in captured.out + captured.err
