"""The demo as a person runs it: the packaged candles, the stress segment, and the two files it leaves."""

import json

import pytest

from twinleg.domain.errors import BadInput
from twinleg.embedded.demo import DemoOptions, run_demo


def options(folder, **changes) -> DemoOptions:
    values = {
        "candles": None, "live": False, "market": "BTC", "start": "2025-11-10T18:00", "end": "2025-11-10T19:45",
        "out": folder, "seed": 7, "stress": True, "as_json": True,
    }  # fmt: skip
    return DemoOptions(**{**values, **changes})


def test_the_demo_trades_both_legs_and_shows_every_protection_once(tmp_path, capsys):
    assert run_demo(options(tmp_path)) == 0
    printed = json.loads(capsys.readouterr().out)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert printed == summary
    assert summary["segments"]["replay"]["trades"] >= 2
    for trade in summary["trades"]:
        assert trade["main"]["address"] != trade["hedge"]["address"]
        assert trade["main"]["side"] != trade["hedge"]["side"]
    assert min(summary["stress"].values()) >= 1, summary["stress"]
    assert (summary["liquidations"], summary["orphans"], summary["double_orders"]) == (0, 0, 0)
    assert (summary["alerts_refused"], summary["alerts_duplicate"]) == (2, 1)
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>") or page.lower().startswith("<!doctype html")
    assert all(trade["id"] in page for trade in summary["trades"])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"market": "ETH"}, "the packaged candles are BTC"),
        ({"start": "2025-11-10T19:00", "end": "2025-11-10T18:00"}, "--to must be after --from"),
        ({"start": "2030-01-01", "end": None}, "leave 0 candles to replay"),
        ({"start": "yesterday"}, "time must look like"),
    ],
)
def test_what_cannot_be_replayed_is_one_clear_line(tmp_path, changes, line):
    with pytest.raises(BadInput, match=line):
        run_demo(options(tmp_path, **changes))
