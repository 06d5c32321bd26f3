"""There is one way to a venue, and a reduction can only reduce."""

import ast
from decimal import Decimal
from pathlib import Path

import pytest

import twinleg
from twinleg.domain.ids import client_order_id
from twinleg.domain.orders import OrderKind, OrderRequest, Side
from twinleg.engine.ports import PlaceReduction

PACKAGE = Path(twinleg.__file__).parent
WAYS = {"engine/orderpath.py", "engine/emergency.py"}
"""What writes ahead, and the one exception, while there is nowhere to write."""
OUTSIDE = ("adapters/", "paper/")


def test_signed_actions_are_sent_from_the_order_path_alone() -> None:
    senders = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if ".send(" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "send"
    }
    assert {name for name in senders if not name.startswith(OUTSIDE)} == WAYS


@pytest.mark.parametrize("others", [0, 1])
def test_a_reduction_is_made_of_reduce_only_orders(others: int) -> None:
    def order(number: int, reduce_only: bool) -> OrderRequest:
        return OrderRequest(
            client_order_id=client_order_id("t", "main", "close", number, 1), market="hyperliquid:BTC", side=Side.SELL,
            size=Decimal(1), limit_price=Decimal(1), kind=OrderKind.MARKET, reduce_only=reduce_only,
        )  # fmt: skip

    kept = tuple(order(number, True) for number in range(others))
    PlaceReduction("main", (*kept, order(9, True)))
    with pytest.raises(ValueError, match="must be reduce-only"):
        PlaceReduction("main", (*kept, order(9, False)))
