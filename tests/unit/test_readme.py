"""What the documentation tells a reader to type, open or expect is there."""

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from twinleg.cli import parser
from twinleg.domain.alerts import AlertAction, parse_alert
from twinleg.domain.errors import BadInput
from twinleg.risk.limits import Limits

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

page = pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def typed(text: str) -> list[str]:
    """Every command of a page: the lines of its shell blocks, and what stands in backticks."""
    shell = "".join(fenced(text, "sh")).replace("\\\n", " ")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = [code.replace("TRADE", "x") for code in re.findall(r"`((?:\./dev|twinleg) [^`…|]+)`", prose)]
    return [line.split("#")[0].strip() for line in shell.splitlines() if line.strip()] + inline


@page
def test_every_link_leads_to_a_file_and_a_heading(path):
    text = path.read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    targets += re.findall(r"^\[[^\]]+\]: (\S+)", text, re.MULTILINE)
    for target in targets:
        if target.startswith("http"):
            continue
        name, _, heading = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{path.name} links to {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


@page
def test_every_source_file_named_exists(path):
    named = re.findall(r"`((?:[\w<>-]+/)*[\w<>-]+\.(?:py|toml|html|svg))`", path.read_text())
    homes = (ROOT, ROOT / "shared/twinleg", ROOT / "shared/twinleg/paper")
    made = {"out/report.html", "functions/<name>/main.py"}
    missing = [n for n in named if n not in made and not any((home / n).exists() for home in homes)]
    assert not missing, f"{path.name} names {missing}"


@page
def test_every_command_is_understood(path):
    usage = (ROOT / "dev").read_text()
    for line in typed(path.read_text()):
        words = shlex.split(line)
        if words[0] == "./dev" and words[1] != "run":
            assert re.search(rf"^  {words[1]}\b", usage, re.MULTILINE), line
            if words[1] == "demo":
                parser().parse_args(words[1:])
        elif words[0] in ("./dev", "twinleg"):
            wanted = words[2:] if words[0] == "./dev" else words[1:]
            if len(wanted) <= 1:
                assert wanted in ([], ["--help"]) or wanted[0] in parser().format_help().split(), line
            else:
                assert parser().parse_args(wanted).run, line
            for number, word in enumerate(wanted):
                if word == "--candles":
                    assert (ROOT / wanted[number + 1]).is_file(), line


def test_the_readme_opens_with_what_it_does_a_picture_and_two_commands():
    text = (ROOT / "README.md").read_text()
    sentence, picture = text.index("twinleg turns"), text.index("<picture>")
    demo, test = text.index("./dev demo "), text.index("./dev test ")
    assert sentence < picture < demo < test < text.index("## ")


def test_both_pictures_differ_in_their_colours_only():
    light, dark = ((ROOT / f"docs/images/flow-{name}.svg").read_text() for name in ("light", "dark"))
    for text in (light, dark):
        ElementTree.fromstring(text)
    colours = re.compile(r"svg \{ --ink.*?\}", re.DOTALL)
    assert colours.sub("", light) == colours.sub("", dark) and light != dark


def test_every_setting_named_under_protection_exists():
    text = (ROOT / "docs/protection.md").read_text()
    named = set(re.findall(r"`([a-z_]+_(?:max|min|percent|seconds|bps|allowed|ratio|warn|margin|cut|ranges))`", text))
    assert named and named <= set(Limits.model_fields)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("loss_at_stop_percent_max", "1 %"),
        ("margin_in_use_percent_max", "20 %"),
        ("leverage_max", "5, and the venue's"),
        ("hedge_seconds_max", "10 s"),
        ("budget_percent", "5 %, of which 80 % main"),
        ("entries_per_hour_max", "6, 30"),
        ("stop_of_liquidation_percent", "60 %"),
        ("net_stop_percent", "1.5 %"),
        ("slippage_bps", "0.5 % from the mark"),
        ("day_loss_reducing_percent", "5 %"),
        ("day_loss_flatten_percent", "10 %"),
    ],
)
def test_the_number_beside_a_setting_is_its_default(setting, words):
    row = next(
        line
        for line in (ROOT / "docs/protection.md").read_text().splitlines()
        if f"`{setting}`" in line and "|" in line
    )
    default = Limits.model_fields[setting].default
    shown = default / 100 if setting.endswith("bps") else default
    assert words in row and words.startswith(str(shown))


ALERTS = (ROOT / "docs/alerts.md").read_text()
FILLED = {
    "ticker": "BTCUSDT.P",
    "strategy.order.action": "buy",
    "strategy.market_position": "long",
    "strategy.prev_market_position": "flat",
    "strategy.market_position_size": "2",
    "strategy.prev_market_position_size": "0",
    "strategy.order.contracts": "2",
    "strategy.order.price": "105000.5",
    "interval": "15",
    "timenow": "2026-01-02T03:04:00Z",
}


@pytest.mark.parametrize("template", fenced(ALERTS, "json"))
def test_the_suggested_templates_are_understood_once_filled(template):
    body = re.sub(r"\{\{(.*?)\}\}", lambda found: FILLED[found[1]], template)
    alert = parse_alert(body.encode(), NOW)
    assert (alert.action, alert.market_ticker, alert.id_source) == (AlertAction.OPEN_LONG, "BTC", "template")
    assert alert.fired_at == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    "fields",
    [
        '"action": "{{strategy.order.action}}"',
        '"comment": "nothing else"',
        '"action": "hold"',
        '"action": "close buy"',
        '"action": "buy", "comment": "TP hit"',
        '"action": "sell", "market_position": "long", "prev_market_position": "flat"',
        '"action": "buy", "action": "sell"',
        '"action": "buy", "price": "NaN"',
        "BTCUSDT Crossing 100",
    ],
)
def test_a_refusal_is_worded_as_the_table_says(fields):
    body = f'{{"ticker": "BTCUSDT.P", {fields}}}' if fields.startswith('"') else fields
    with pytest.raises(BadInput) as refused:
        parse_alert(body.encode(), NOW)
    rows = ALERTS.split("## What is refused")[1].split("\n\n")[1].splitlines()
    answers = [row.split("|")[2].strip().strip("`") for row in rows if row.startswith("|")][2:]
    assert any(answer in str(refused.value) for answer in answers), refused.value
