"""What ``twinleg venue`` makes of its command line, and what it says when it listens."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from twinleg.cli import main, parser
from twinleg.commands.venue import KINDS, prepared, said, said_as_json
from twinleg.paper import generate
from twinleg.paper.clockwork import wall_ms
from twinleg.paper.generate import THIN_BOOK
from twinleg.paper.venue import Venue

URL = "http://127.0.0.1:8790"
MINUTE = 60_000
SHORT = ("--minutes", "30", "--history", "10")


def asked(*arguments: str):
    return prepared(parser().parse_args(["venue", *map(str, arguments)]))


def started(*arguments: str, wall=wall_ms):
    options, rules, market = asked(*arguments)
    venue = Venue(options, wall)
    venue.add_faults(rules)
    return venue, market


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two candle files of an hour in 2025."""
    made = []
    for name, price in (("btc", 100_000), ("eth", 4_000)):
        begins = round(datetime(2025, 5, 1, tzinfo=UTC).timestamp() * 1000)
        rows = [f"{begins + i * MINUTE},{price},{price},{price},{price},5" for i in range(60)]
        made.append(tmp_path / f"{name}.csv")
        made[-1].write_text("\n".join(["ts_ms,open,high,low,close,volume", *rows]))
    return made


def test_files_may_follow_one_another_or_each_its_own_option(files):
    btc, eth = files
    together, _, _ = asked("--candles", btc, eth, "--market", "BTC", "ETH")
    apart, _, _ = asked("--candles", btc, "--market", "BTC", "--candles", eth, "--market", "ETH")
    assert list(together.candles) == ["BTC", "ETH"] and together == apart
    alone, _, _ = asked("--candles", btc)
    assert list(alone.candles) == ["BTC"] and alone.clock == "wall" and alone.speed == 1


def test_gates_are_off_unless_asked_for_and_any_switch_can_be_turned(files):
    switches = asked("--candles", files[0])[0].switches
    assert not switches.volume_gates
    assert asked("--candles", files[0], "--volume-gates")[0].switches.volume_gates
    assert not asked("--candles", files[0], "--no-volume-gates")[0].switches.volume_gates
    turned = ("fill_on_touch=true", "price_band=0.5", "market_order_cap=30M", "order_memory=10")
    found = asked("--candles", files[0], *(part for text in turned for part in ("--switch", text)))[0].switches
    assert (found.fill_on_touch, found.price_band, found.market_order_cap, found.order_memory) == (
        True,
        Decimal("0.5"),
        "30M",
        10,
    )


def test_every_kind_is_made_for_several_coins():
    assert tuple(generate.KINDS) == KINDS
    for kind in KINDS:
        options, _, market = asked("--generate", kind, "--seed", "7", "--market", "BTC", "--market", "ETH", *SHORT)
        assert [len(series) for series in options.candles.values()] == [40, 40]
        assert options.history_candles == 10 and market.source == f"made up: {kind}, seed 7"
        assert (options.book == THIN_BOOK) == (kind == "thin")


def test_a_made_up_market_begins_now_on_either_clock_and_tells_what_is_ahead():
    for clock in ("--manual", "--open-accounts"):
        venue, market = started("--generate", "crash", "--seed", "7", clock, *SHORT)
        status = venue.status()
        assert abs(status["now_ms"] - wall_ms()) < 2 * MINUTE
        assert status["markets"]["BTC"]["first_ms"] <= status["now_ms"] - 10 * MINUTE
        told = json.loads(said_as_json(URL, venue, market))
        ((at_ms, what),) = told["ahead"]
        assert status["now_ms"] < at_ms <= status["now_ms"] + 10 * MINUTE and what.startswith("falls ")
        assert told["url"] == URL and told["markets"].keys() == {"BTC"} and told["notes"] == []


def test_a_made_up_market_on_a_manual_clock_starts_where_told():
    venue, _ = started("--generate", "calm", "--manual", "--start", "2026-01-02T03:04Z", *SHORT)
    assert venue.status()["now_ms"] == round(datetime(2026, 1, 2, 3, 4, tzinfo=UTC).timestamp() * 1000)


def test_recorded_candles_can_be_moved_to_now_under_a_manual_clock(files):
    old, _ = started("--candles", files[0], "--manual", "--history", "20")
    now, _ = started("--candles", files[0], "--manual", "--history", "20", "--start", "now")
    assert abs(now.status()["now_ms"] - wall_ms()) < MINUTE < abs(old.status()["now_ms"] - wall_ms())
    market = now.status()["markets"]["BTC"]
    assert market["first_ms"] <= now.status()["now_ms"] - 20 * MINUTE


def test_it_says_where_it_listens_and_how_to_go_on(files):
    rules = "lose_answer:0.02,429:0.01:path=/info"
    venue, market = started("--candles", files[0], "--manual", "--open-accounts", "--faults", rules)
    first, *rest = said(URL, venue, market).splitlines()
    assert first == f"paper venue listening on {URL}"
    rows = dict(line.strip().split(None, 1) for line in rest)
    assert rows["markets"] == "BTC at 100000; candles until 2025-05-01T01:00:00Z (btc.csv)"
    assert rows["clock"].startswith("manual, 2025-05-01T00:30:00Z; POST /_sim/clock")
    assert rows["accounts"] == "every signing key is its own, with 10000 USDC"
    assert rows["rules"] == "volume gates off; 2 fault rules"
    assert URL in rows["connect"] and "docs/foreign-bots.md" in rows["connect"]
    assert "days behind the wall's" in rows["note"] and "--switch nonce_window=false" in rows["note"]
    assert Path(__file__).resolve().parents[2].joinpath("docs/foreign-bots.md").is_file()


def test_without_open_accounts_it_says_how_money_comes_in(files):
    venue, market = started("--candles", files[0], "--speed", "60", "--volume-gates")
    shown = said(URL, venue, market)
    assert "POST /_sim/deposit" in shown and "volume gates on; 0 fault rules" in shown
    assert "the wall's at speed 60" in shown
    assert "note      after 49 minutes at this speed nonces taken from the wall's clock are refused" in shown
    for more in (("--speed", "1"), ("--speed", "60", "--switch", "nonce_window=false")):
        assert "note" not in said(URL, *started("--candles", files[0], *more))


def test_a_ledger_alone_is_enough_to_go_on(tmp_path, files):
    ledger = tmp_path / "ledger.sqlite"
    for number, arguments in enumerate((("--candles", files[0], "--manual"), ())):
        venue, market = started(*arguments, "--ledger", ledger)
        shown = said(URL, venue, market)
        assert ("continued from" if number else "written to") in shown
        assert ("those of the ledger" if number else "btc.csv") in shown
        assert venue.status()["clock"] == "manual"
        venue.close()


def test_faults_are_a_line_or_json_or_a_file(tmp_path, files):
    path = tmp_path / "rules.json"
    path.write_text('[{"kind": "429", "count": 2}]')
    for spec in ("429:count=2", '{"kind": "429", "count": 2}', '[{"kind": "429", "count": 2}]', str(path)):
        assert asked("--candles", files[0], "--faults", spec)[1] == [{"kind": "429", "count": 2}]


REFUSED = {
    "two for one": (("--candles", "BTC", "ETH"), "--market: 2 candle files need as many markets, was 1"),
    "twice": (("--generate", "calm", "--market", "BTC", "BTC"), "--market: BTC is named twice"),
    "coin": (("--generate", "calm", "--market", "DOGGO"), "generate: 'DOGGO' is not a listed coin; known are BTC"),
    "minutes": (("--generate", "calm", "--minutes", "50000"), "generate: minutes must be 1 to 44640, was 50000"),
    "history": (("--generate", "calm", "--history", "0"), "generate: history must be 1 to 10080, was 0"),
    "no minutes": (("--candles", "BTC", "--minutes", "5"), "--minutes is for made-up markets: it needs --generate"),
    "correlation": (("--generate", "calm", "--correlation", "2"), "generate: correlation must be 0 to 1, was 2"),
    "speed": (("--candles", "BTC", "--speed", "fast"), "--speed must be a decimal number, was 'fast'"),
    "no speed": (("--candles", "BTC", "--manual", "--speed", "2"), "--speed is the wall clock's"),
    "start": (("--candles", "BTC", "--start", "now"), "--start is a manual clock's"),
    "second": (("--generate", "calm", "--manual", "--start", "2026-01-02T03:04:05Z"), "must be a whole minute"),
    "equity": (("--candles", "BTC", "--equity", "much"), "--equity must be a decimal number, was 'much'"),
    "switch": (("--candles", "BTC", "--switch", "moon=1"), "'moon' is not a switch; known are"),
    "switch form": (("--candles", "BTC", "--switch", "moon"), "--switch must be NAME=VALUE, was moon"),
    "switch value": (("--candles", "BTC", "--switch", "fill_on_touch=1"), "fill_on_touch must be true or false, was 1"),
    "faults": (("--candles", "BTC", "--faults", "lose_answr"), "faults: kind must be one of lose_answer, lose_request"),
    "faults file": (("--candles", "BTC", "--faults", "none.json"), "--faults none.json: cannot be read"),
    "faults json": (("--candles", "BTC", "--faults", "[{]"), "--faults: must be JSON"),
    "candles": (("--candles", "none.csv"), "none.csv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_clear_line(name, files, capsys):
    arguments, text = REFUSED[name]
    paths = {"BTC": str(files[0]), "ETH": str(files[1])}
    given = [paths.get(word, word) if "--candles" in arguments else word for word in arguments]
    assert main(["venue", *given, "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give --candles FILE, --generate KIND, or the --ledger"),
        (["--candles", "a.csv", "--generate", "calm"], "not allowed with argument"),
        (["--generate", "moon"], "invalid choice: 'moon'"),
        (["--generate", "calm", "--port", "70000"], "must be 0 to 65535, was '70000'"),
        (["--generate", "calm", "--minutes", "0"], "must be a whole number above 0, was '0'"),
    ],
)
def test_what_no_venue_can_mean_is_refused_with_the_usage(capsys, arguments, text):
    with pytest.raises(SystemExit) as ended:
        main(["venue", *arguments])
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and "usage: twinleg venue" in shown and text in shown


def test_a_port_that_is_taken_is_said_so(capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["venue", "--generate", "calm", *SHORT, "--port", str(port)]) == 2
    assert f"port: cannot listen on 127.0.0.1:{port} (Address already in use)" in capsys.readouterr().err
