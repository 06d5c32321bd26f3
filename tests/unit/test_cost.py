"""The month's bill: one market stays small, markets and accounts count in straight lines, positions hardly at all."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from twinleg.cli import main
from twinleg.cost.model import (
    FUNCTIONS,
    GROUPS,
    LAST_TURN_SECONDS,
    LEVERS,
    LIVE_WARM,
    SWEEP_EVERY_SECONDS_MAX,
    Plan,
    bill,
    calls,
    operations,
    operations_of,
    priced,
    prices,
    quantities,
    with_warm_default,
)
from twinleg.domain.errors import BadInput
from twinleg.engine import between
from twinleg.engine.books import LINES_MAX
from twinleg.risk.limits import Limits

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra/terraform"
COUNTED = ("reads", "writes", "deletes", "pubsub", "requests")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*words: str) -> tuple[int, str, str]:
        try:
            code = main(["cost", *words])
        except SystemExit as left:
            code = int(left.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


# -- what was promised -----------------------------------------------------------------------------


def test_one_market_with_one_position_stays_under_five_dollars() -> None:
    assert bill(Plan(1, 1)).usd < 5
    assert bill(Plan(1, 2, region_multi=True)).usd < 5


def test_so_does_the_desk_that_the_example_of_the_variables_deploys() -> None:
    assert bill(Plan(1, 1, warm=deployed_warm())).usd < 5, "infra/terraform keeps an instance warm by default"


def deployed_warm() -> tuple[str, ...]:
    """What infra/terraform keeps warm with the variables for paper."""
    rows = re.findall(r"min_instances = (\d)", (INFRA / "main.tf").read_text())
    names = re.findall(r"^    (\w+) = \{\n      trigger", (INFRA / "main.tf").read_text(), re.MULTILINE)
    assert len(rows) == len(names) == len(FUNCTIONS)
    said = re.search(r"^warm_instances\s*=\s*\{(.*)\}", (INFRA / "paper.tfvars").read_text(), re.MULTILINE)
    chosen = dict(re.findall(r"(\w+)\s*=\s*(\d)", said[1])) if said else {}
    return tuple(name for name, count in zip(names, rows, strict=True) if chosen.get(name, count) != "0")


def test_an_instance_kept_warm_is_a_line_of_its_own() -> None:
    warm = bill(Plan(1, 1, warm=("webhook",)))
    assert warm.line("warm_cpu").usd + warm.line("warm_memory").usd == Decimal("9.72")
    assert warm.usd - bill(Plan(1, 1)).usd == pytest.approx(Decimal("9.72"))
    assert "warm instances, $9.72" in warm.lever


def used(plan: Plan) -> dict[str, Decimal]:
    return quantities(plan, operations(), prices())


@pytest.mark.parametrize("key", COUNTED)
def test_twice_the_markets_cost_twice_what_markets_cost(key: str) -> None:
    none_more, more = used(Plan(10, 100))[key], used(Plan(20, 100))[key]
    assert used(Plan(40, 100))[key] - more == 2 * (more - none_more)


@pytest.mark.parametrize("key", COUNTED)
def test_twice_the_accounts_cost_twice_what_accounts_cost(key: str) -> None:
    four, two = used(Plan(10, 100, accounts=4))[key], used(Plan(10, 100, accounts=2))[key]
    assert used(Plan(10, 100, accounts=8))[key] - four == 2 * (four - two)


def test_the_bill_without_free_tiers_is_a_straight_line_in_markets_and_accounts() -> None:
    def usd(markets: int, accounts: int) -> float:
        return float(bill(Plan(markets, 10, accounts=accounts)).usd_without_free_tier)

    market, account = usd(20, 2) - usd(10, 2), usd(10, 4) - usd(10, 2)
    assert usd(40, 2) - usd(20, 2) == pytest.approx(2 * market, rel=0.05)
    assert usd(10, 8) - usd(10, 4) == pytest.approx(2 * account, rel=0.1)


def test_a_thousand_positions_cost_no_more_operations_than_one_but_for_those_that_change() -> None:
    one, many = used(Plan(10, 1)), used(Plan(10, 1_000))
    assert many["reads"] == one["reads"] and many["pubsub"] == one["pubsub"]
    changes = prices().assumed["bucket_changes_per_day"] * 999 * 30
    written = operations().work["sweep, a changed position"].get("writes", Decimal(0))
    assert many["writes"] - one["writes"] == pytest.approx(changes * written)


def test_ten_thousand_positions_need_further_documents_one_for_each_six_hundred_trades_of_an_account() -> None:
    assert prices().assumed["lines_a_document"] == LINES_MAX
    one, many = used(Plan(10, 1)), used(Plan(10, 10_000))
    assert many["reads"] - one["reads"] == 43_200 * 2 * (math.ceil(5_000 / LINES_MAX) - 1)


def test_ten_thousand_positions_cost_a_small_part_of_what_reading_each_would() -> None:
    more = bill(Plan(10, 10_000)).usd - bill(Plan(10, 1)).usd
    each_read_every_minute = 9_999 * 43_200 * prices().prices["reads"].usd / prices().prices["reads"].per
    assert more < each_read_every_minute / 4


def test_live_has_the_fixed_address_whatever_is_said() -> None:
    live = bill(with_warm_default(Plan(1, 1, live=True), None))
    assert live.plan.warm == LIVE_WARM and live.plan.fixed_address
    assert live.line("egress_address").usd == Decimal("3.60")
    assert live.line("egress_gateway").usd == 720 * 3 * Decimal("0.0014")
    assert (
        bill(Plan(1, 1)).line("egress_address").usd == 0 < bill(Plan(1, 1, static_egress=True)).line("egress_data").usd
    )


def test_a_multi_region_doubles_what_firestore_costs() -> None:
    one, two = bill(Plan(100, 10)), bill(Plan(100, 10, region_multi=True))
    for key in ("reads", "writes", "storage"):
        assert abs(two.line(key).usd - 2 * one.line(key).usd) < Decimal("1e-20") < one.line(key).usd
    assert two.line("cpu").usd == one.line("cpu").usd


# -- arithmetic ------------------------------------------------------------------------------------


def test_a_worked_line() -> None:
    line = priced(prices().prices["reads"], Decimal(263_520_000), date(2026, 11, 21), region_multi=False)
    assert (line.free, line.billed, line.usd) == (1_500_000, 262_020_000, Decimal("78.606"))


def test_a_price_is_not_asked_before_its_day() -> None:
    before, after = bill(Plan(1, 1), on=date(2027, 8, 31)), bill(Plan(1, 1), on=date(2027, 9, 1))
    assert before.line("alarms").usd == 0 < after.line("alarms").usd
    assert after.usd - before.usd == after.line("alarms").usd + after.line("alarm_points").usd


def test_each_minute_has_one_ingest_one_candle_a_market_and_one_sweep() -> None:
    made = calls(Plan(3, 4, trades_per_day=2, alerts_per_day=1), prices().assumed)
    count = {name: sum(call.count for call in made if call.function == name) for name in FUNCTIONS}
    assert count["ingest"] == count["risk"] == 43_200
    assert count["signal"] == 3 * 43_200 + 30
    assert (count["webhook"], count["execute"]) == (30, 2 * 2 * 30)
    assert [call.count for call in made if "candle with a signal" in call.parts] == [3 * 30]


def test_every_price_has_a_line_a_source_and_a_group_with_a_lever() -> None:
    assert set(GROUPS) == set(prices().prices) == {line.price.key for line in bill(Plan(1, 1)).lines}
    assert set(GROUPS.values()) == set(LEVERS)
    for price in prices().prices.values():
        assert price.usd > 0 and price.per > 0 and price.free >= 0 and price.source
        assert price.checked in ("official", "secondary", "general knowledge")


def test_counts_are_of_every_kind_of_work() -> None:
    asked = {work for call in calls(Plan(1, 1), prices().assumed) for work in call.parts}
    assert asked == {*operations().work, "sweep, a further document"}


def test_faster_than_a_minute_keeps_one_instance_running_and_costs_no_document() -> None:
    assert LAST_TURN_SECONDS == between.LAST_TURN_SECONDS
    assert Limits.model_fields["sweep_every_seconds"].metadata[1].le == SWEEP_EVERY_SECONDS_MAX
    slow, fast = bill(Plan(1, 1)), bill(Plan(1, 1, sweep_every_seconds=5))
    assert fast.seconds("risk") == 45 > slow.seconds("risk")
    for key in ("reads", "writes", "requests", "storage"):
        assert fast.line(key).quantity == slow.line(key).quantity
    more = fast.line("cpu").quantity - slow.line("cpu").quantity
    assert 43 * 43_200 < more < 45 * 43_200
    assert "sweep_every_seconds 0" in fast.lever and "sweep_every_seconds" not in slow.lever
    assert bill(Plan(1, 0, sweep_every_seconds=5)).usd == bill(Plan(1, 0)).usd, "with nothing open it ends at once"
    assert [Plan(1, 1, sweep_every_seconds=s).turns for s in (0, 5, 20, 40)] == [0, 9, 2, 1]


def test_numbers_stay_as_they_were_written() -> None:
    text = json.dumps(
        {
            "measured_on": "2026-11-21",
            "method": "m",
            "work": {"a": {"cpu_seconds": 0.1}},
            "stored_bytes": {},
            "documents_a_trade": 23,
        }
    )
    assert operations_of(text).work["a"]["cpu_seconds"] == Decimal("0.1")


# -- what infra/terraform makes --------------------------------------------------------------------

CHANGED = "count again and change [deployed] in prices.toml"


def test_schedules_and_alarms_are_counted_as_they_are_deployed() -> None:
    deployed, text = prices().deployed, (INFRA / "monitoring.tf").read_text()
    scheduled = (INFRA / "main.tf").read_text().count('trigger         = "schedule"')
    jobs = sum(path.read_text().count('resource "google_cloud_scheduler_job"') for path in INFRA.glob("*.tf"))
    assert deployed["schedules"] == jobs - 1 + scheduled, CHANGED
    alarms = len(re.findall(r"^      kinds +\= \[\"", text, re.MULTILINE))
    figures = len(re.findall(r"^      figure +\= \{", text, re.MULTILINE))
    conditions = len(re.findall(r"^  conditions \{", text, re.MULTILINE)) - 1 + scheduled  # one of them is of each job
    assert deployed["alarm_conditions"] == alarms + figures + conditions, CHANGED


def test_memory_and_machine_are_those_deployed() -> None:
    assert re.findall(r'memory +\= "(\d+)Mi"', (INFRA / "main.tf").read_text()) == ["512"] * len(FUNCTIONS)
    assert prices().assumed["memory_gib"] == Decimal("0.5")
    assert (
        "E2_HIGHCPU_8" in (ROOT / "cloudbuild.yaml").read_text() and "E2_HIGHCPU_8" in prices().prices["builds"].source
    )


# -- the command -----------------------------------------------------------------------------------


def test_the_command_shows_a_line_each_the_total_and_the_lever(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("--markets", "1", "--positions", "1", "--warm", "webhook")
    assert (code, err) == (0, "")
    for words in (
        "Firestore, writes",
        "Warm instances, CPU",
        "together",
        "Biggest lever: warm instances",
        "2026-",
        "Assumed",
    ):
        assert words in out, words
    assert "Fixed address" not in out


def test_the_command_answers_in_json(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("--markets", "3", "--positions", "4", "--live", "--json")
    made = json.loads(out)
    assert code == 0 and made["plan"]["warm"] == list(LIVE_WARM) and made["plan"]["trades_per_day"] == 3
    assert made["usd"] == pytest.approx(sum(line["usd"] for line in made["lines"]), abs=0.01)
    assert made["usd"] == pytest.approx(float(bill(with_warm_default(Plan(3, 4, live=True), None)).usd), abs=0.001)


def test_live_without_warm_instances_can_be_asked_for(run: Callable[..., tuple[int, str, str]]) -> None:
    assert (
        json.loads(run("--markets", "1", "--positions", "1", "--live", "--warm", "none", "--json")[1])["plan"]["warm"]
        == []
    )


def test_what_cannot_work_is_said(run: Callable[..., tuple[int, str, str]]) -> None:
    out = run("--markets", "1000", "--positions", "9000")[1]
    assert "ingest would take" in out and "2 accounts hold at most 2000 positions" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--markets", "0", "--positions", "1"], "--markets: must be a whole number above 0, was '0'"),
        (["--markets", "1", "--positions", "-1"], "--positions"),
        (["--markets", "1", "--positions", "1.5"], "--positions: must be a whole number, 0 or more, was '1.5'"),
        (["--markets", "20000", "--positions", "1"], "markets must be 1 to 10,000, was 20,000"),
        (["--markets", "1", "--positions", "1", "--accounts", "1"], "accounts must be 2 to 10,000, was 1"),
        (["--markets", "1", "--positions", "1", "--warm", "web"], "warm must name functions (ingest, webhook"),
        (["--markets", "1", "--positions", "1", "--warm", "webhook,webhook"], "each function once"),
        (["--markets", "1", "--positions", "1", "--warm", "webhook,"], "--warm must be functions joined by commas"),
        (["--markets", "1", "--positions", "1", "--on", "soon"], "must be a day as YYYY-MM-DD, was 'soon'"),
        (["--positions", "1"], "--markets"),
        (["--markets", "1", "--positions", "1", "--sweep-every", "41"], "sweep_every must be 0 to 40, was 41"),
    ],
)
def test_what_is_refused_names_the_field_the_value_and_the_limit(
    words: list[str], said: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "") and said in err, err


def test_a_plan_that_means_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="positions must be 0 to 1,000,000, was -1"):
        Plan(1, -1)


# -- the page --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_cost_pages", ROOT / "bench/cost_pages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_and_its_picture_are_those_of_the_present_prices_and_counts(pages: ModuleType) -> None:
    text = pages.PAGE.read_text()
    assert pages.page(text) == text, "run bench/cost_pages.py"
    for theme, path in pages.PICTURES.items():
        assert path.read_text() == pages.picture(theme), "run bench/cost_pages.py"
        ElementTree.fromstring(path.read_text())


def test_the_obvious_design_costs_what_it_did_when_it_was_thought_through(pages: ModuleType) -> None:
    assert [round(pages.naive_usd(*size)) for size in pages.SIZES] == [6, 84, 14_380]


def test_a_page_without_a_place_for_a_table_is_refused(pages: ModuleType) -> None:
    with pytest.raises(ValueError, match="must hold"):
        pages.page("# nothing")
