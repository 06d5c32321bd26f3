"""``twinleg doctor --probe-testnet`` against the paper venue in each position of each switch, and however it ends."""

import io
import json
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_http import NetworkFault, Wire
from twinleg.adapters.venues.hyperliquid_probe_bench import PREFIX, Bench
from twinleg.adapters.venues.hyperliquid_probes import PROBES, ask_all
from twinleg.cli import main
from twinleg.domain.control import Halt
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.embedded.probe_meanings import MEANINGS
from twinleg.embedded.probing import BEYOND_SWITCHES, Verdict, bench_for, chosen, run, switches_told
from twinleg.embedded.replay import settings_text
from twinleg.engine.control import set_trading
from twinleg.paper.options import UNDECIDED, Switches

HINTS = get_type_hints(Switches)
NEVER_TOLD = {"funding_rounding"}
ASKED = [n for n in PROBES if n in HINTS and n not in NEVER_TOLD | {"nonce_window_margin_ms"}]


def positions(name: str) -> tuple[Any, ...]:
    return get_args(HINTS[name]) or (True, False)


def halted(w: Any) -> Any:
    set_trading(w.engine(), Halt.HALTED, why="probing", by="a test")
    return w


def bench_of(w: Any) -> Bench:
    return bench_for(w.system)


def empty(w: Any) -> None:
    """By the venue's own ledger: nothing rests and nothing is held."""
    ledger = w.control.ledger()
    assert [o for o in ledger["orders"] if o["status"] in ("open", "triggered")] == []
    assert w.position("main") == w.position("hedge") == 0


# -- what is told ----------------------------------------------------------------------------------


def test_every_undecided_switch_is_asked_about_and_every_answer_has_a_meaning():
    assert set(UNDECIDED) <= set(PROBES) <= set(HINTS) | set(BEYOND_SWITCHES)
    for name in ASKED:
        assert set(MEANINGS[name]) == set(positions(name)), name


@pytest.mark.parametrize(("name", "position"), [(n, p) for n in ASKED for p in positions(n)])
def test_a_probe_reports_the_position_the_switch_is_in(world, name, position):
    w = world()
    w.control.switches(**{name: position}, **({"mark_gap": "0.01"} if name == "price_band_reference" else {}))
    [told] = ask_all(bench_of(w), (name,), lambda _: None)
    assert (told.position, told.why) == (position, ""), told
    assert told.evidence
    empty(w)


@pytest.mark.parametrize("margin_ms", [0, 120_000, 7_000])
def test_the_window_of_nonces_is_measured_from_the_words_of_the_refusal(world, margin_ms):
    w = world()
    w.control.switches(nonce_window_margin_ms=margin_ms)
    [told] = ask_all(bench_of(w), ("nonce_window_margin_ms",), lambda _: None)
    assert told.position == margin_ms


@pytest.mark.parametrize("seed", range(4))
def test_a_whole_run_reports_exactly_the_set_of_positions_and_leaves_the_accounts_as_they_were(world, seed):
    w = halted(world())
    drawn = Switches().drawn(random.Random(seed)).as_json()
    wanted = {name: drawn[name] for name in UNDECIDED}
    w.control.switches(**wanted, modify_always_place_rule=bool(seed % 2), mark_gap="0.004")
    leverage = {a: w.system.venues.of(a).leverage(a, w.market) for a in ("main", "hedge")}
    answers = run(bench_of(w), chosen(""), lambda _: None)
    untold = {v.told.switch: v.told.why for v in answers if v.told.position is None}
    assert set(untold) == NEVER_TOLD, untold
    told = switches_told(answers)
    assert {n: told[n] for n in UNDECIDED if n not in NEVER_TOLD} == {n: p for n, p in wanted.items() if n in told}
    assert (told["modify_always_place_rule"], told["nonce_window_margin_ms"]) == (bool(seed % 2), 120_000)
    assert w.control.switches(**told) is None  # it is what the venue's switches take
    others = {v.told.switch: v.told.position for v in answers if v.told.switch in BEYOND_SWITCHES}
    assert others == BEYOND_SWITCHES
    empty(w)
    assert {a: w.system.venues.of(a).leverage(a, w.market) for a in ("main", "hedge")} == leverage
    assert all(v.meaning and v.told.evidence for v in answers if v.told.position is not None)


def test_an_answer_other_than_what_we_assume_is_said_to_be_so(world):
    w = world()
    w.control.switches(rejected_action_spends_nonce=False)
    [told] = ask_all(bench_of(w), ("rejected_action_spends_nonce",), lambda _: None)
    verdict = Verdict(told)
    assert (verdict.word, verdict.assumed) == ("does not hold", True)
    assert told.evidence[0].endswith("→ Invalid leverage value") and told.evidence[1].endswith("→ ok")
    assert Verdict(next(ask_all(bench_of(w), ("funding_rounding",), lambda _: None))).word == "could not be told"


def test_what_cannot_be_told_is_said_with_the_reason(world):
    w = world()  # mark and oracle are one here
    [told] = ask_all(bench_of(w), ("price_band_reference",), lambda _: None)
    assert told.position is None and "are too near each other" in told.why
    w.fault(kind="500", path="/exchange", count=1)
    [told] = ask_all(bench_of(w), ("noop_on_spent_nonce",), lambda _: None)
    assert told.position is None and told.why == "the venue could not answer: HTTP 500"


# -- nothing is left -------------------------------------------------------------------------------


class Meddled:
    """The venue's line, on which something happens at the *at*-th request."""

    def __init__(self, line: Wire, at: int, happens: Callable[[], None], *, before: bool) -> None:
        self.line, self.at, self.happens, self.before, self.count = line, at, happens, before, 0

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        self.count += 1
        if self.count == self.at and self.before:
            self.happens()
        answer = self.line.post(path, body)
        if self.count == self.at and not self.before:
            self.happens()
        return answer


HOLDING = "partial_gtc_answer,children_wake_on_partial,triggers_canceled_when_flat,new_order_margin_price"


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def lose() -> None:
    raise NetworkFault("the answer was lost", dropped=False)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(8, 120, 14))
def test_nothing_is_left_behind_when_it_is_interrupted_anywhere(world, at, before):
    w = halted(world())
    bench = bench_of(w)
    bench.venue._channel = Meddled(bench.venue._channel, at, interrupt, before=before)
    with pytest.raises(KeyboardInterrupt):
        run(bench, chosen(HOLDING), lambda _: None)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    empty(w)


@pytest.mark.parametrize("at", range(9, 120, 12))
def test_nothing_is_left_behind_when_an_answer_is_lost_anywhere(world, at):
    w = halted(world())
    bench = bench_of(w)
    bench.venue._channel = Meddled(bench.venue._channel, at, lose, before=at % 2 == 1)
    with suppress(Unavailable):  # nothing can be asked when the first greeting is not answered
        run(bench, chosen(HOLDING), lambda _: None)
    empty(w)


def test_what_a_killed_probe_left_is_removed_by_the_next(world):
    w = halted(world())
    bench = bench_of(w)
    price, offered = bench.offer()
    bench.place("main", bench.order("buy", price, 2 * offered, tif="Gtc"))
    assert w.position("main") == offered and len(bench.leftovers()) == 3
    assert bench.is_from_a_probe()
    [answer] = run(bench_of(w), ("noop_on_spent_nonce",), lambda _: None)
    assert answer.word == "holds"
    empty(w)


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command on the world's own system, whose clock does not make anybody wait."""

    def call(w: Any, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("twinleg.commands.probe.system_of", lambda _: w.system)
        capsys.readouterr()
        code = main(["doctor", "--probe-testnet", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_command_says_what_it_will_do_asks_and_prints_the_words_and_what_they_mean(world, doctor):
    w = halted(world())
    code, out, err = doctor(w, "--confirm", "paper", "--only", "noop_on_spent_nonce,market_order_cap")
    assert code == 0
    for said in ("asks 2 questions on hyperliquid:BTC", "USD in fees", "leaves no order and no position",
                 "1 of 2: noop_on_spent_nonce: holds"):  # fmt: skip
        assert said in err
    text = " ".join(out.split())
    assert "holds noop_on_spent_nonce noop → ok" in text and "Invalid nonce: duplicate nonce" in text
    assert '/_sim/switches {"market_order_cap": "15M"}' in text
    assert "2 hold, 0 do not, 0 could not be told" in text
    w.system.clock.sleep(1)
    code, out, err = doctor(w, "--confirm", "paper", "--only", "market_order_cap", "--json")
    told = json.loads(out)
    assert code == 0, err
    assert (told["network"], told["switches"]) == ("paper", {"market_order_cap": "15M"})
    [answer] = told["answers"]
    assert (answer["verdict"], answer["assumed"]) == ("holds", "15M") and "Max is $15000000" in answer["evidence"][0]


def actions(w: Any) -> int:
    return sum(w.control.ledger()["actions"].values()) if "actions" in w.control.ledger() else 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nobody is here to confirm: --confirm paper says so beforehand"),
        (("--confirm", "mainnet"), "confirmed was 'mainnet'; the network is paper: nothing was signed"),
        (("--confirm", "paper", "--only", "nonsense"), "--only: 'nonsense' is no question; known are "),
        (("--confirm", "paper", "--market", "other:BTC"), "no market is configured whose two accounts"),
    ],
)
def test_without_the_right_word_nothing_is_signed(world, doctor, monkeypatch, words, says):
    w = halted(world())
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    before = w.control.ledger()
    code, _, err = doctor(w, *words)
    assert code == 2 and says in err
    assert w.control.ledger() == before


@pytest.mark.parametrize("option", ["--only", "--market", "--confirm"])
def test_an_option_of_probing_means_nothing_without_it(option, capsys):
    assert main(["doctor", option, "testnet"]) == 2
    assert f"{option} is for doctor --probe-testnet" in capsys.readouterr().err


def test_it_refuses_while_trading_is_enabled_or_anything_is_held(world, doctor):
    w = world()
    w.alert("buy", "a1")
    assert "trading is ENABLED: twinleg halt first" in doctor(w, "--confirm", "paper")[2]
    halted(w)
    code, _, err = doctor(w, "--confirm", "paper")
    assert code == 2 and "the accounts must hold nothing, and no order may rest: main holds 0.02388 BTC" in err
    assert w.position("main") != 0 and w.system.venues.of("main").open_orders("main")


def test_a_key_that_the_venue_does_not_know_asks_nothing(world, doctor, monkeypatch):
    from twinleg.adapters.local.secrets import ChainSecrets, MappingSecrets
    from twinleg.bootstrap import paper_key

    w = halted(world())
    wrong = MappingSecrets({"TWINLEG_HEDGE_EXECUTE_KEY": paper_key("somebody", "else")})
    w.system.secrets = ChainSecrets(wrong, w.system.secrets)
    w.system.__dict__.pop("venues", None)
    code, _, err = doctor(w, "--confirm", "paper")
    assert code in (1, 2) and "execute key of hedge is taken by the venue, and does not act for that account" in err
    empty(w)


LIVE = """
mode = "live"
[venues.hyperliquid]
network = "mainnet"
confirm_address = "0x{a}, 0x{b}"
[accounts.main]
venue = "hyperliquid"
address = "0x{a}"
keys = {{ execute = "A_KEY", risk = "B_KEY", emergency = "C_KEY" }}
[accounts.hedge]
venue = "hyperliquid"
address = "0x{b}"
keys = {{ execute = "D_KEY", risk = "E_KEY", emergency = "F_KEY" }}
[[markets]]
market = "hyperliquid:BTC"
main = "main"
hedge = "hedge"
strategies = ["macd"]
[strategies.macd]
kind = "macd"
[webhook]
secret = "TWINLEG_WEBHOOK_SECRET"
[storage]
path = "twinleg.sqlite"
"""


def test_mainnet_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "live.toml"
    config.write_text(LIVE.format(a="1" * 40, b="2" * 40))
    assert main(["doctor", "--probe-testnet", "--confirm", "mainnet", "--config", str(config)]) == 2
    assert "hyperliquid is mainnet: probes place orders, and are for the testnet only" in capsys.readouterr().err


def test_the_bench_itself_refuses_mainnet() -> None:
    from twinleg.adapters.local.clocks import SystemClock
    from twinleg.adapters.local.secrets import MappingSecrets
    from twinleg.adapters.venues.hyperliquid import AccountAddress
    from twinleg.engine.ports import Steps

    owner = "0x" + "1" * 40
    venue = HyperliquidVenue(
        network="mainnet", url=None, accounts={"main": AccountAddress(owner)}, secrets=MappingSecrets({}),
        key_names={}, steps=Steps(), confirmed_mainnet_address=owner,
    )  # fmt: skip
    with pytest.raises(BadInput, match="never on mainnet"):
        Bench(venue, SystemClock(), "hyperliquid:BTC", "main", "main")


def test_client_order_ids_of_probes_are_known_by_how_they_begin(world):
    bench = bench_of(world())
    ids = {bench.new_id() for _ in range(50)}
    assert len(ids) == 50 and all(id.startswith(PREFIX) and len(id) == 34 for id in ids)


def test_by_the_wall_s_clock_it_is_the_same_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from twinleg.adapters.local.candle_files import packaged_candles
    from twinleg.bootstrap import local_system
    from twinleg.embedded.runtime import prepare
    from twinleg.paper.options import VenueOptions
    from twinleg.paper.server import serve_in_thread
    from twinleg.settings import parse

    server = serve_in_thread(VenueOptions(candles={"BTC": packaged_candles()}, clock="wall"))
    config = tmp_path / "twinleg.toml"
    config.write_text(settings_text("BTC", server.url, {}))
    system = local_system(parse(config.read_text(), {}, base=tmp_path), {})
    prepare(system)
    from twinleg.engine.ports import SignerRole

    set_trading(system.engine(SignerRole.EXECUTE), Halt.HALTED, why="probing", by="a test")
    only = "nonce_window_margin_ms,expired_action_spends_nonce"
    try:
        words = ["doctor", "--probe-testnet", "--config", str(config), "--confirm", "paper", "--only", only, "--json"]
        assert main(words) == 0
    finally:
        server.stop()
    told = json.loads(capsys.readouterr().out)["switches"]
    assert told["expired_action_spends_nonce"] is True
    assert abs(told["nonce_window_margin_ms"] - 120_000) <= 1_000
