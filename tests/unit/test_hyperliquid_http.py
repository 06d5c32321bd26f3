"""The Hyperliquid adapter on the wire: networks, secrets, single sends, drops, timeouts and odd answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from eth_account import Account

from twinleg.adapters.venues.hyperliquid import AccountAddress, HyperliquidVenue
from twinleg.adapters.venues.hyperliquid_http import Channel
from twinleg.adapters.venues.paper_setup import approve_agent
from twinleg.domain.candles import ms_from_utc
from twinleg.domain.errors import BadInput, OutcomeUnknown, Rejected, Unavailable
from twinleg.domain.ids import ClientOrderId
from twinleg.domain.orders import OrderKind, OrderRequest, Side
from twinleg.engine.ports import CancelOrders, Noop, Outcome, PlaceReduction, SetLeverage, SignerRole, Steps

D = Decimal

AGENT_KEY = "0x" + "11" * 32
OWNER_KEY = "0x" + "22" * 32
AGENT = Account.from_key(AGENT_KEY).address
OWNER = Account.from_key(OWNER_KEY).address
SUB = "0x" + "5b" * 20
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
META = {
    "universe": [
        {"szDecimals": 5, "name": "BTC", "maxLeverage": 40, "marginTableId": 40},
        {"szDecimals": 1, "name": "OLD", "maxLeverage": 20, "marginTableId": 20, "isDelisted": True},
    ],
    "marginTables": [],
}
DEFAULT = b'{"status":"ok","response":{"type":"default"}}'

DROP, HANG = "drop", "hang"


@dataclass
class Recorder:
    """A tiny HTTP server that records requests and plays answers: (status, body), DROP or HANG, last one repeated."""

    answers: list = field(default_factory=lambda: [(200, DEFAULT)])
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    connections: int = 0
    close_after_answer: bool = False

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def taken(self, least: int) -> int:
        """How many requests came, once *least* did: a client that gives up may be ahead of this server's threads."""
        until = time.monotonic() + 10
        while len(self.requests) < least and time.monotonic() < until:
            time.sleep(0.01)
        return len(self.requests)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                length = 0
                while (header := stream.readline()) not in (b"\r\n", b""):
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                body = stream.read(length)
                self.requests.append((line.split()[1].decode(), body))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                answer = answer(body) if isinstance(answer, Callable) else answer
                if answer == DROP:
                    return
                if answer == HANG:
                    time.sleep(2)
                    return
                status, text = answer
                connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(text)) + text)
                if self.close_after_answer:
                    return


@pytest.fixture
def server() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


class Box:
    """Secrets held in a dict, counting reads."""

    def __init__(self, **values: str) -> None:
        self.values, self.reads = values, 0

    def read(self, name: str) -> str:
        self.reads += 1
        return self.values[name]


MAIN = {"main": AccountAddress(OWNER)}
KEYS = {("main", SignerRole.EXECUTE): "agent", ("main", SignerRole.RISK): "owner"}


def venue(server: Recorder | None = None, **changes) -> HyperliquidVenue:
    given = {
        "network": "paper",
        "url": server.url if server else "http://127.0.0.1:1",
        "accounts": MAIN,
        "secrets": Box(agent=AGENT_KEY, owner=OWNER_KEY),
        "key_names": KEYS,
        "steps": Steps(),
        "meta": META,
        "timeout_seconds": 1.0,
    }
    return HyperliquidVenue(**(given | changes))


def execute(made: HyperliquidVenue, action=None, nonce: int = 1, expires_at=None):
    return made.sign(action or Noop("main"), SignerRole.EXECUTE, nonce, expires_at)


# -- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("network, url, words", [
    ("paper", None, "must be http://127.0.0.1:PORT"),
    ("paper", "https://api.hyperliquid.xyz", "must be http://127.0.0.1:PORT"),
    ("paper", "http://127.0.0.1@example.com", "must be http://127.0.0.1:PORT"),
    ("paper", "http://127.0.0.1.example.com:80", "must be http://127.0.0.1:PORT"),
    ("paper", "http://10.0.0.1:3001", "must be http://127.0.0.1:PORT"),
    ("testnet", "http://127.0.0.1:1", "url must not be set for testnet"),
    ("mainnet", "http://127.0.0.1:1", "url must not be set for mainnet"),
    ("main", None, "network must be paper, testnet or mainnet"),
    ("", None, "network must be paper, testnet or mainnet"),
])  # fmt: skip
def test_networks_and_addresses_that_do_not_belong_together_are_refused(network, url, words):
    with pytest.raises(BadInput, match=words):
        venue(network=network, url=url)


def test_the_network_has_no_default():
    with pytest.raises(TypeError, match="network"):
        HyperliquidVenue(url=None, accounts={}, secrets=Box(), key_names={}, steps=Steps())


@pytest.mark.parametrize("typed", [None, "", AGENT, f"{OWNER} {AGENT}"])
def test_mainnet_needs_the_master_address_typed_again(typed):
    with pytest.raises(BadInput, match="confirmed_mainnet_address must be the master address"):
        venue(network="mainnet", url=None, confirmed_mainnet_address=typed)


def test_mainnet_with_the_address_typed_again():
    assert venue(network="mainnet", url=None, confirmed_mainnet_address=OWNER.lower()).network == "mainnet"
    both = {"main": AccountAddress(OWNER), "hedge": AccountAddress(AGENT)}
    made = venue(network="mainnet", url=None, accounts=both, confirmed_mainnet_address=f"{OWNER}, {AGENT}")
    assert "api.hyperliquid.xyz" in repr(made)


@pytest.mark.parametrize("network, source", [("mainnet", True), ("testnet", False), ("paper", False)])
def test_only_mainnet_is_signed_as_mainnet(network, source):
    from hyperliquid.utils.signing import recover_agent_or_user_from_l1_action as recover

    changes = {} if network == "paper" else {"url": None, "confirmed_mainnet_address": OWNER}
    body = json.loads(execute(venue(network=network, **changes)).body)
    assert recover(body["action"], body["signature"], None, 1, None, source) == AGENT


@pytest.mark.parametrize("where, words", [
    (AccountAddress("0x12"), "account main: address must be 0x and 40"),
    (AccountAddress(OWNER, "nobody"), "account main: master must be 0x and 40"),
    (AccountAddress(OWNER, OWNER.lower()), "must differ from its master's"),
])  # fmt: skip
def test_addresses_are_checked(where, words):
    with pytest.raises(BadInput, match=words):
        venue(accounts={"main": where})


def test_the_constructor_calls_nobody(server):
    box = Box(agent=AGENT_KEY)
    venue(server, secrets=box, meta=None)
    assert server.connections == 0 and box.reads == 0


def test_a_bad_metadata_document_is_refused():
    with pytest.raises(BadInput, match="meta is not a Hyperliquid metadata document"):
        venue(meta={"universe": [{"name": "BTC"}]})


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("accounts", [MAIN, {"main": AccountAddress(SUB, OWNER)}])
@pytest.mark.parametrize("network", ["testnet", "mainnet"])
def test_an_owners_key_is_refused_on_live_networks(network, accounts):
    made = venue(network=network, url=None, accounts=accounts, confirmed_mainnet_address=OWNER)
    with pytest.raises(BadInput, match="secret owner holds the owner's key") as caught:
        made.sign(Noop("main"), SignerRole.RISK, 1, None)
    assert "22" * 32 not in str(caught.value)
    assert made.signer("main", SignerRole.EXECUTE) == AGENT.lower()


def test_an_owners_key_may_trade_on_paper():
    assert venue().signer("main", SignerRole.RISK) == OWNER.lower()


def test_a_missing_key_or_account_is_named():
    made = venue()
    with pytest.raises(BadInput, match="account main: no key is configured for emergency"):
        made.signer("main", SignerRole.EMERGENCY)
    with pytest.raises(BadInput, match=r"account must be one of \['main'\], was 'other'"):
        made.account("other")


def test_secrets_are_read_once_and_shown_never(server):
    box = Box(agent=AGENT_KEY)
    made = venue(server, secrets=box)
    signed = [execute(made, nonce=n) for n in (1, 2)]
    assert box.reads == 1
    for text in (repr(made), str(made), *(repr(s) for s in signed), *(s.body for s in signed)):
        assert "11" * 32 not in text


def test_signing_is_the_same_every_time_and_needs_no_network(server):
    made = venue(server)
    assert execute(made) == execute(made)
    assert server.requests == []


# -- actions in their envelope -------------------------------------------------------------------


def test_a_sub_account_is_in_the_signed_bytes_and_its_agent_is_its_masters():
    from hyperliquid.utils.signing import recover_agent_or_user_from_l1_action as recover

    made = venue(accounts={"main": AccountAddress(SUB.upper().replace("0X", "0x"), OWNER)})
    body = json.loads(execute(made).body)
    assert body["vaultAddress"] == SUB
    assert recover(body["action"], body["signature"], SUB, 1, None, False) == AGENT


def test_expiry_is_in_the_bytes_except_for_noop():
    made = venue()
    timed = execute(made, SetLeverage("main", "hyperliquid:BTC", 3, True), expires_at=NOW)
    assert json.loads(timed.body)["expiresAfter"] == ms_from_utc(NOW) and timed.expires_at == NOW
    fence = execute(made, expires_at=NOW)
    assert json.loads(fence.body)["expiresAfter"] is None and fence.expires_at is None


def test_a_nonce_must_be_positive_and_a_market_ours():
    made = venue()
    with pytest.raises(BadInput, match="nonce must be above 0, was 0"):
        execute(made, nonce=0)
    for market in ("binance:BTC", "BTC"):
        with pytest.raises(BadInput, match="market must be hyperliquid:COIN"):
            execute(made, SetLeverage("main", market, 3, True))
    with pytest.raises(BadInput, match="lists no NOPE"):
        made.rules("hyperliquid:NOPE")


def test_a_delisted_market_takes_cancels_and_reductions_only():
    made, old = venue(), "hyperliquid:OLD"
    stop = OrderRequest(
        client_order_id=ClientOrderId("0x" + "1" * 32), market=old, side=Side.SELL, size=D(1),
        limit_price=D(1), kind=OrderKind.MARKET, reduce_only=True,
    )  # fmt: skip
    assert '"a":1' in execute(made, PlaceReduction("main", (stop,))).body
    assert '"a":1' in execute(made, CancelOrders("main", old, order_ids=("7",))).body
    with pytest.raises(BadInput, match="delisted"):
        execute(made, SetLeverage("main", old, 3, True))
    with pytest.raises(BadInput, match="delisted"):
        made.rules(old)


# -- sending -------------------------------------------------------------------------------------


def test_the_stored_bytes_are_sent_unchanged_however_often(server):
    made = venue(server)
    signed = execute(made)
    assert [made.send(signed).outcome for _ in range(2)] == [Outcome.ACCEPTED] * 2
    assert server.requests == [("/exchange", signed.body.encode())] * 2
    assert server.connections == 1


@pytest.mark.parametrize("fault", [DROP, HANG, (500, b"null"), (200, b"<html>"), (200, b"\xff\xfe")])
def test_a_signed_action_without_a_clear_answer_is_unknown_and_sent_once(server, fault):
    server.answers = [fault]
    assert venue(server).send(execute(venue(server))).outcome is Outcome.UNKNOWN
    assert server.taken(1) == 1


def test_a_connection_refused_is_unknown_too():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    made = venue(url=f"http://127.0.0.1:{port}")
    assert made.send(execute(made)).outcome is Outcome.UNKNOWN


def test_a_redirect_is_not_followed(server):
    server.answers = [(307, b"")]
    assert venue(server).send(execute(venue(server))).outcome is Outcome.UNKNOWN
    assert server.taken(1) == 1


def test_an_idle_connection_closed_by_the_venue_does_not_cost_a_signed_action(server):
    server.close_after_answer = True
    made = venue(server)
    for nonce in (1, 2, 3):
        assert made.send(execute(made, nonce=nonce)).outcome is Outcome.ACCEPTED
        time.sleep(0.02)
    assert (server.connections, len(server.requests)) == (3, 3)


def test_every_outside_call_is_two_steps(server):
    seen: list[str] = []
    made = venue(server, steps=Steps(lambda _, name: seen.append(name)))
    made.send(execute(made))
    server.answers = [(200, b'"disabled"')]
    assert made.mode("main") == "disabled"
    assert seen == ["hyperliquid.exchange"] * 2 + ["hyperliquid userAbstraction"] * 2


def test_many_threads_share_one_venue(server):
    made = venue(server, timeout_seconds=5)
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda n: made.send(execute(made, nonce=n)).outcome, range(1, 41)))
    assert bodies == [Outcome.ACCEPTED] * 40
    assert len({json.loads(body)["nonce"] for _, body in server.requests}) == 40


# -- reading -------------------------------------------------------------------------------------


def test_a_read_is_tried_again_once_after_a_drop(server):
    server.answers = [DROP, (200, b'{"time":1790000000000,"specialStatuses":null}')]
    assert venue(server).time() == datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
    assert len(server.requests) == 2


@pytest.mark.parametrize("faults, tries", [([DROP], 2), ([HANG], 1)])
def test_a_read_that_fails_is_unavailable(server, faults, tries):
    server.answers = faults
    with pytest.raises(Unavailable, match="hyperliquid exchangeStatus"):
        venue(server).time()
    assert server.taken(tries) == tries


@pytest.mark.parametrize("answer", [
    (429, b"null"), (422, b"Failed to deserialize"), (500, b"null"), (502, b"<html>"), (302, b""),
    (200, b""), (200, b"null"), (200, b"<html>"), (200, b"{}"), (200, b"[]"), (200, b"[[]]"), (200, b'"x"'),
    (200, b"3"), (200, b'{"error":"no"}'), (200, b'{"time":"soon","universe":[{}],"status":"huh","leverage":{}}'),
])  # fmt: skip
def test_reads_turn_any_nonsense_into_unavailable(server, answer):
    server.answers = [answer]
    made, btc = venue(server), "hyperliquid:BTC"
    reads = [
        made.time,
        lambda: made.snapshot(btc),
        lambda: made.account("main"),
        lambda: made.leverage("main", btc),
        lambda: made.order("main", "0x" + "1" * 32),
        lambda: venue(server, meta=None).rules(btc),
    ]
    lists = [  # an empty list is an answer to these
        lambda: made.candles(btc, NOW, NOW + timedelta(minutes=1)),
        lambda: made.open_orders("main"),
        lambda: made.fills("main", NOW),
        lambda: made.funding_paid_usd("main", btc, NOW),
        lambda: made.net_deposits_usd("main", NOW),
        lambda: made.key_expires_at("main", SignerRole.EXECUTE),
    ]
    words = [lambda: made.mode("main")] if answer[1] != b'"x"' else []
    for read in [*reads, *words, *(lists if answer[1] != b"[]" else [])]:
        with pytest.raises(Unavailable, match="hyperliquid"):
            read()


def test_reads_ask_for_the_account_and_agents_of_its_owner(server):
    server.answers = [(200, b"[]")]
    made = venue(server, accounts={"main": AccountAddress(SUB, OWNER)})
    assert made.open_orders("main") == ()
    assert made.key_expires_at("main", SignerRole.EXECUTE) is None
    assert [json.loads(body)["user"] for _, body in server.requests] == [SUB, OWNER.lower()]


def test_metadata_is_fetched_once_when_needed(server):
    server.answers = [(200, json.dumps(META).encode())]
    made = venue(server, meta=None)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: made.rules("hyperliquid:BTC").asset, range(8)))) == 1
    assert [json.loads(body)["type"] for _, body in server.requests] == ["meta"]


def fill_row(number: int) -> dict:
    return {
        "coin": "BTC", "px": "1", "sz": "1", "side": "B", "time": ms_from_utc(NOW) + number // 3, "oid": number,
        "startPosition": "0", "closedPnl": "0", "fee": "0", "tid": number,
    }  # fmt: skip


def test_fills_are_paged_without_gap_or_double(server):
    rows = [fill_row(number) for number in range(4500)]

    def page(body: bytes):
        start = json.loads(body)["startTime"]
        return 200, json.dumps([row for row in rows if row["time"] >= start][:2000]).encode()

    server.answers = [page]
    found = venue(server, timeout_seconds=5).fills("main", NOW)
    assert [fill.order_id for fill in found] == [str(number) for number in range(4500)]
    assert len(server.requests) == 3


def test_pages_that_do_not_move_on_are_unavailable(server):
    rows = json.dumps([fill_row(0) | {"oid": n, "tid": n} for n in range(2000)]).encode()
    server.answers = [(200, rows)]
    with pytest.raises(Unavailable, match="can be paged"):
        venue(server, timeout_seconds=5).fills("main", NOW)


# -- closed candles ------------------------------------------------------------------------------


class Exchange:
    """Answers candleSnapshot and exchangeStatus at a given venue time, one row per minute that traded."""

    def __init__(self, now: datetime, quiet: set[int] = frozenset()) -> None:
        self.now, self.quiet = now, quiet

    def __call__(self, body: bytes) -> tuple[int, bytes]:
        asked = json.loads(body)
        if asked["type"] == "exchangeStatus":
            return 200, json.dumps({"time": ms_from_utc(self.now)}).encode()
        first, last = asked["req"]["startTime"], min(asked["req"]["endTime"], ms_from_utc(self.now))
        opens = range(first, last + 1, 60_000)
        return 200, json.dumps(
            [
                {"t": t, "T": t + 59_999, "o": "1", "h": "1", "l": "1", "c": "1", "v": "1"}
                for t in opens
                if (t - ms_from_utc(NOW)) // 60_000 not in self.quiet
            ]
        ).encode()


@pytest.mark.parametrize("seconds, quiet, closed", [
    (125, set(), 2),  # a later row forms: the two before it are closed
    (125, {2}, 2),  # nothing traded since, but the venue's time is past their end
    (119, set(), 1),  # the second is still forming
    (119, {1}, 1),
    (30, set(), 0),
    (125, {0, 1, 2}, 0),
])  # fmt: skip
def test_the_forming_candle_is_left_out(server, seconds, quiet, closed):
    server.answers = [Exchange(NOW + timedelta(seconds=seconds), quiet)]
    found = venue(server).candles("hyperliquid:BTC", NOW, NOW + timedelta(minutes=2))
    assert [candle.opened_at for candle in found] == [NOW + timedelta(minutes=n) for n in range(closed)]


# -- paper set-up --------------------------------------------------------------------------------


def test_approving_an_agent_on_paper(server):
    approve_agent(server.url + "/", OWNER_KEY, AGENT, "twinleg", nonce=9)
    path, body = server.requests[0]
    sent = json.loads(body)
    assert path == "/exchange" and sent["nonce"] == sent["action"]["nonce"] == 9
    assert sent["action"]["agentAddress"] == AGENT


def test_approving_an_agent_elsewhere_or_with_no_answer(server):
    with pytest.raises(BadInput, match="url of the paper venue must be"):
        approve_agent("https://api.hyperliquid-testnet.xyz", OWNER_KEY, AGENT, "x", nonce=1)
    server.answers = [(200, b'{"status":"err","response":"Must deposit"}'), (500, b"null"), DROP]
    for error in (Rejected, Rejected, OutcomeUnknown):
        with pytest.raises(error, match="approving agent"):
            approve_agent(server.url, OWNER_KEY, AGENT, "x", nonce=1)


def test_a_live_channel_verifies_certificates():
    channel = Channel("https://api.hyperliquid-testnet.xyz", 1)
    assert channel._pool.scheme == "https" and channel._pool.ca_certs
