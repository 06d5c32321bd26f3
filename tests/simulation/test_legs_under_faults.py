"""Every answer a leg's orders can get, at each of their steps: both legs end hedged and guarded, or both end flat."""

import pytest

from twinleg.simulate.enumerate_all import Choice, enumerated

OPENING = ("children_rejected", "partly_filled", "little_filled", "not_filled", "order_rejected", "throttled", "slow")
LEAVING = ("throttled", "request_lost", "arrives_after_13s", "order_rejected", "partly_filled", "refused")


@pytest.mark.parametrize(
    ("scene", "kinds"),
    [
        ("market", OPENING),
        ("hedge_refused", LEAVING),
        ("limit", ("children_rejected", "answer_lost", "arrives_after_3s")),
    ],
    ids=["opening", "unwinding", "resting"],
)
def test_no_answer_leaves_a_leg_alone(scene: str, kinds: tuple[str, ...]) -> None:
    total = enumerated(Choice("execute", (scene,), ("once",), kinds, pairs=False, hidden=False), jobs=1)
    assert total.failed == {}
    assert all(total.part.cases[kind] for kind in kinds), total.part.cases
