"""``twinleg doctor --probe-testnet`` against the paper venue in each position of each switch."""

import random
from typing import Any, get_args, get_type_hints

import pytest

from twinleg.adapters.venues.hyperliquid import HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_probe_bench import Bench
from twinleg.adapters.venues.hyperliquid_probes import PROBES, ask_all
from twinleg.paper.options import UNDECIDED, Switches

HINTS = get_type_hints(Switches)
ASKED = [name for name in PROBES if name in HINTS and name not in ("funding_rounding", "nonce_window_margin_ms")]


def positions(name: str) -> tuple[Any, ...]:
    return get_args(HINTS[name]) or (True, False)


def bench_of(w: Any) -> Bench:
    venue = w.system.venues.of("main")
    assert isinstance(venue, HyperliquidVenue)
    return Bench(venue, w.system.clock, w.market, "main", "hedge")


@pytest.mark.parametrize(("name", "position"), [(n, p) for n in ASKED for p in positions(n)])
def test_a_probe_reports_the_position_the_switch_is_in(world, name, position):
    w = world()
    w.control.switches(**{name: position}, **({"mark_gap": "0.01"} if name == "price_band_reference" else {}))
    bench = bench_of(w)
    [told] = ask_all(bench, (name,), lambda _: None)
    assert (told.position, told.why) == (position, ""), told
    assert told.evidence and bench.leftovers() == []
