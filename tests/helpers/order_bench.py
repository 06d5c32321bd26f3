"""Both accounts and an order path on the paper venue in this process: what tests of signed actions start from."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from twinleg.adapters.local.clocks import ReplayClock
from twinleg.adapters.venues.hyperliquid import AccountAddress, HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_http import NetworkFault
from twinleg.adapters.venues.hyperliquid_wire import agent_approval_body, signer_from
from twinleg.bootstrap import account_addresses, local_system, paper_key
from twinleg.domain.candles import Candle, ms_from_utc
from twinleg.domain.ids import client_order_id
from twinleg.domain.orders import LegRole, OrderKind, OrderRequest, Side
from twinleg.embedded.replay import settings_text
from twinleg.engine.orderpath import ActionRecord, ActionState, OrderPath
from twinleg.engine.pages import action_document
from twinleg.engine.ports import (
    CancelOrders,
    Create,
    Grouping,
    PlaceEntry,
    PlaceReduction,
    SetLeverage,
    SignerRole,
    Steps,
    VenueAction,
    Venues,
)
from twinleg.engine.records import read
from twinleg.engine.system import Engine
from twinleg.paper.options import VenueOptions
from twinleg.paper.venue import Venue
from twinleg.risk.approval import Approved, ApprovedLeg
from twinleg.settings import parse

D = Decimal
START = datetime(2025, 1, 6, 12, 0, tzinfo=UTC)
BTC = "hyperliquid:BTC"
S = ActionState
LOST = {"kind": "lose_request", "path": "/exchange"}
UNHEARD = {"kind": "lose_answer", "path": "/exchange"}
STRANGER = {
    "status": "err",
    "response": "User or API Wallet 0x0000000000000000000000000000000000000bad does not exist.",
}


def lost(_: dict[str, Any]) -> tuple[int, str]:
    raise NetworkFault("the request was lost", dropped=True)


def throttled(_: dict[str, Any]) -> tuple[int, str]:
    return 429, "null"


def refused(_: dict[str, Any]) -> tuple[int, str]:
    return 200, json.dumps({"status": "err", "response": "Insufficient margin to place order."})


def unknown(_: dict[str, Any]) -> tuple[int, str]:
    return 200, json.dumps(STRANGER)


class Line:
    """From the adapter to the venue. ``seen`` has every signed action as it was sent."""

    def __init__(self, venue: Venue) -> None:
        self.venue, self.seen = venue, list[dict[str, Any]]()
        self.answers: list[Callable[[dict[str, Any]], tuple[int, str] | None]] = []
        """What is asked first of each signed action that follows; None lets the venue answer."""
        self.reads: list[str] = []
        self.altered: Callable[[dict[str, Any]], Any] = lambda _: None
        """What is answered to a read instead of the venue's answer, unless None."""

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        asked = json.loads(body)
        if path == "/exchange":
            self.seen.append(asked)
            own = self.answers.pop(0)(asked) if self.answers else None
            if own is not None:
                return own
        else:
            self.reads.append(asked["type"])
            other = self.altered(asked)
            if other is not None:
                return 200, json.dumps(other)
        reply = self.venue.reply(path, asked)
        if reply.lost:
            raise NetworkFault("no answer", dropped=True)
        return reply.status, reply.text

    def request(self, _: str, path: str, body: bytes | None) -> tuple[int, str]:
        return self.post(path, body or b"")

    @property
    def kinds(self) -> list[str]:
        return [asked["action"]["type"] for asked in self.seen]


class Desk:
    """Both accounts and one order path, at a time that only the test moves."""

    def __init__(self, folder: Path) -> None:
        bars = [Candle(START + timedelta(minutes=n), *(D(100_000),) * 4, D(100)) for n in range(30)]
        self.venue = Venue(
            VenueOptions(candles={"BTC": bars}, open_accounts=True, start_ms=ms_from_utc(START)), lambda: 0
        )
        self.clock = ReplayClock(START)
        self.clock.follow(lambda at: self.venue.set_clock(ms_from_utc(at)))
        self.line = Line(self.venue)
        settings = parse(settings_text("BTC", "http://127.0.0.1:9", {}), {})
        self.system = local_system(settings, {}, clock=self.clock, path=folder / "desk.sqlite")
        addresses = account_addresses(settings)
        self.adapter = HyperliquidVenue(
            network="paper", url="http://127.0.0.1:9", secrets=self.system.secrets, key_names=settings.key_names,
            accounts={name: AccountAddress(address, master) for name, (_, address, master) in addresses.items()},
            steps=Steps(), meta=json.loads(self.venue.reply("/info", {"type": "meta"}).text), channel=self.line,
        )  # fmt: skip
        self.venues = Venues({"hyperliquid": self.adapter}, dict.fromkeys(addresses, "hyperliquid"))
        for name in addresses:
            for number, role in enumerate(SignerRole):
                self.approve(name, role, number)
        self.path = self.process()

    def approve(self, account: str, role: SignerRole, number: int) -> None:
        owner = signer_from(paper_key(account, "owner"), "owner")
        agent = self.adapter.signer(account, role)
        nonce = ms_from_utc(self.clock.now()) - 100 + number
        self.venue.reply("/exchange", json.loads(agent_approval_body(owner, agent, f"agent-{number}", nonce=nonce)))

    def engine(self, role: SignerRole = SignerRole.EXECUTE) -> Engine:
        system = self.system
        return Engine(system.desk, self.clock, system.bus, system.store, self.venues, role, system.memory)

    def process(self, role: SignerRole = SignerRole.EXECUTE) -> OrderPath:
        """The order path of a process that starts now."""
        return OrderPath(self.engine(role))

    def write(self, action: VenueAction | None = None, path: OrderPath | None = None, step: str = "s1") -> str:
        return (path or self.path).write(
            action or entry(), trade_id="t1", claim=lambda id: [Create("steps", step, {"action": id})]
        )

    def fault(self, *rules: dict[str, Any]) -> None:
        self.venue.add_faults([{"count": 1} | rule for rule in rules])

    def position(self) -> Decimal:
        held = self.adapter.account("main").position(BTC)
        return held.size if held else D(0)

    def record(self, id: str) -> ActionRecord:
        found = read(self.system.store, "actions", id, ActionRecord)
        assert found is not None
        return found[0]

    def left(self, **state: Any) -> str:
        """An action as another process may have left it: its id."""
        id = self.write()
        stored = self.system.store.get("actions", id)
        assert stored is not None
        document = action_document(self.record(id).model_copy(update=state))
        self.system.store.compare_and_set("actions", id, document, stored.version)
        return id

    def expire(self, id: str) -> None:
        expires_at = self.record(id).expires_at
        assert expires_at is not None
        self.clock.advance_to(expires_at + timedelta(seconds=5))

    @property
    def actions(self) -> list[Any]:
        return list(self.system.store.query("actions"))


def order(number: int = 1, **changes: Any) -> OrderRequest:
    values: dict[str, Any] = {
        "client_order_id": client_order_id("t1", "main", "entry", number, 1), "market": BTC, "side": Side.BUY,
        "size": D("0.01"), "limit_price": D(101_000), "kind": OrderKind.MARKET, "reduce_only": False,
    }  # fmt: skip
    return OrderRequest(**(values | changes))


def entry(*orders: OrderRequest) -> PlaceEntry:
    leg = ApprovedLeg(
        role=LegRole.MAIN, account="main", market=BTC, side=Side.BUY, leverage=5, size=D(1),
        entry_limit_price=D(101_000), stop_price=D(99_000), target_price=D(102_000), liquidation_distance=D("0.1"),
    )  # fmt: skip
    approved = Approved(trade_id="t1", main=leg, hedge=leg, loss_at_stop_usd=D(1), reason="a test")
    return PlaceEntry("main", approved, orders or (order(),), Grouping.NONE)


def reduction(number: int = 2) -> PlaceReduction:
    return PlaceReduction("main", (order(number, side=Side.SELL, limit_price=D(99_000), reduce_only=True),))


OTHERS: list[VenueAction] = [
    SetLeverage("main", BTC, 7, True),
    CancelOrders("main", BTC, (order().client_order_id,)),
]
