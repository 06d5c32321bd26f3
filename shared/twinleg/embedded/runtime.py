"""All five functions in one process: each loaded by functions-framework from its real ``main.py``,
fed by the local bus with the very bodies that push would send, and by the local scheduler.
"""

from __future__ import annotations

import json
import logging
import threading
from datetime import datetime
from functools import partial
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from twinleg import wire
from twinleg.adapters.local.bus import Envelope, LocalBus
from twinleg.adapters.local.schedule import heeding
from twinleg.adapters.local.scheduler import Scheduler
from twinleg.bootstrap import System, account_addresses, function_app, paper_key, use
from twinleg.domain.candles import ms_from_utc
from twinleg.domain.control import CONTROL_ID, Halt
from twinleg.domain.errors import InvariantBroken, OutcomeUnknown, Unavailable
from twinleg.embedded.topology import FUNCTIONS, PUSHED, SCHEDULED
from twinleg.engine.control import set_trading
from twinleg.engine.ports import SignerRole

log = logging.getLogger("twinleg")

SUBSCRIPTIONS = PUSHED
WORKERS = {"intents": 4, "closes": 4}
"""An exit waits for nothing, and one market's slow entry for no other's; order per key is kept either way."""


class _Unlogged(WSGIRequestHandler):
    """Writes no access log: the webhook's path carries its secret."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing."""


class Runtime:
    """The embedded system, running. Build it once per process: functions serve the process's current system."""

    def __init__(self, system: System) -> None:
        if not isinstance(system.bus, LocalBus):
            raise InvariantBroken("the embedded runtime needs the local bus")
        self.system = system
        self.bus: LocalBus = system.bus
        use(system)
        self._apps = {name: function_app(name) for name in FUNCTIONS}
        for topic, name in SUBSCRIPTIONS.items():
            self.bus.subscribe(topic, partial(self._push, name), workers=WORKERS.get(topic, 1))
        self._server: BaseWSGIServer | None = None
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    # -- calling functions -----------------------------------------------------------------------

    def _push(self, name: str, envelope: Envelope) -> int:
        body = wire.push_body(
            data=envelope.data,
            message_id=envelope.message_id,
            topic=envelope.topic,
            key=envelope.key,
            attributes=envelope.attributes,
            attempt=envelope.delivery_attempt,
            published_at=envelope.published_at,
        )
        answer = self._apps[name].test_client().post("/", data=json.dumps(body), content_type="application/json")
        if answer.status_code >= 500:  # what the dead letter will say, should it come to that
            words = answer.text.strip().partition("\n")[0] if not answer.text.startswith("<") else "see the log"
            raise Unavailable(f"{name} answered {answer.status_code}: {words[:500]}")
        return int(answer.status_code)

    def call(self, name: str) -> int:
        """Scheduler's call of ``ingest`` or ``risk``; the HTTP status. A failure is logged and tried again."""
        status = self._call(name, "{}")
        if status >= 400:
            log.warning("%s answered %s", name, status)
        return status

    def _call(self, name: str, body: str) -> int:
        client = self._apps[name].test_client()
        return int(client.post("/", data=body, content_type="application/json").status_code)

    # -- replay ----------------------------------------------------------------------------------

    def minute(self, at: datetime) -> None:
        """One replayed minute: the clock moves, then ingest, everything it sets off, and the sweep."""
        clock: Any = self.system.clock
        if at > clock.now():
            clock.advance_to(at)
        self.call("ingest")
        self.bus.deliver_due(clock.now())
        self.call("risk")
        self.bus.deliver_due(clock.now())

    # -- wall clock ------------------------------------------------------------------------------

    def serve_webhook(self, port: int) -> int:
        """Serve the webhook function on 127.0.0.1; the port."""
        self._server = make_server("127.0.0.1", port, self._apps["webhook"], threaded=True, request_handler=_Unlogged)
        self._start(self._server.serve_forever, "webhook")
        return int(self._server.server_port)

    def start(self) -> None:
        """Start delivering and scheduling by the wall's clock."""
        store, clock = self.system.store, self.system.clock
        jobs = [(name, 60, at, heeding(store, clock, name, partial(self.call, name))) for name, at in SCHEDULED.items()]
        scheduler = Scheduler(clock, jobs)
        self._start(lambda: self.bus.run(self._stop), "bus")
        self._start(lambda: scheduler.run(self._stop), "scheduler")

    def stop(self) -> None:
        """End what was started; what is in flight is finished or will be delivered again."""
        self._stop.set()
        if self._server is not None:
            self._server.shutdown()
        for thread in self._threads:
            thread.join(timeout=15)

    def _start(self, target: Any, name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)


def prepare(system: System) -> None:
    """What a fresh paper system needs before its first minute: agents approved, trading enabled once."""
    if system.settings.mode == "paper":
        approve_agents(system)
    if system.store.get("control", CONTROL_ID) is None:
        set_trading(system.engine(SignerRole.RISK), Halt.ENABLED, why="first start on paper", by="setup")


def approve_agents(system: System) -> None:
    """Approve each account's agent keys at the paper venue, unless it knows them already."""
    from twinleg.adapters.venues.paper_setup import approve_agent

    settings = system.settings
    for name, (venue_name, _, master) in account_addresses(settings).items():
        venue, owner = system.venues.by_name[venue_name], settings.accounts[name].sub_account_of or name
        url = settings.venues[venue_name].url
        if master is not None or settings.accounts[name].address or url is None:
            continue
        nonce = ms_from_utc(venue.time())
        for offset, role in enumerate(SignerRole):
            agent = venue.signer(name, role)
            if _is_approved(system, name, role):
                continue
            try:
                approve_agent(url, paper_key(owner, "owner"), agent, f"twinleg-{role.value}"[:16], nonce=nonce + offset)
            except OutcomeUnknown as unknown:
                raise Unavailable(str(unknown)) from unknown


def _is_approved(system: System, account: str, role: SignerRole) -> bool:
    return system.venues.of(account).key_expires_at(account, role) is not None
