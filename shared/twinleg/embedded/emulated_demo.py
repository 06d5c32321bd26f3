"""The demo behind the emulators: the scripts of the embedded demo, played by five function servers on one clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from twinleg.adapters.local.venue_clock import VenueClock
from twinleg.domain.errors import BadInput
from twinleg.embedded.emulated import Emulated, Emulators, project_named, start_emulators
from twinleg.embedded.keeper import Keeper
from twinleg.embedded.replay import Player, PostedAlert, Script, Segment, post, settings_text
from twinleg.embedded.venue_process import VenueControl, VenueProcess, start_venue
from twinleg.settings import load

RESENT_MAX = 3
"""How often TradingView sends an alert again that was answered 5xx. Source: TradingView support, resubmission."""
COUNTED = {
    200: "accepted", 400: "not_understood", 401: "unauthenticated", 403: "address", 405: "method",
    500: "no_secret", 503: "not_published",
}  # fmt: skip
"""The webhook's statuses as it counts them; its own count is in another process."""


class Stage:
    """Running emulators, on which segments are played one after the other."""

    def __init__(self, environ: Mapping[str, str], emulators: Emulators, keeper: Keeper, logs: Path | None) -> None:
        self.environ, self.emulators, self.keeper, self.logs = environ, emulators, keeper, logs

    def segment(self, script: Script, folder: Path, *, say: Callable[[str], None] = lambda _: None) -> EmulatedSegment:
        """A segment to run in this folder."""
        return EmulatedSegment(script, folder, self, say)


@contextmanager
def emulated_stage(environ: Mapping[str, str], logs: Path | None = None) -> Iterator[Stage]:
    """Emulators for a demo, ended with it. *logs*: a folder for the functions' log files, instead of each segment's."""
    keeper = Keeper()
    try:
        emulators = start_emulators(environ, keeper)
        try:
            yield Stage(environ, emulators, keeper, logs)
        finally:
            emulators.stop()
    finally:
        keeper.close()


class EmulatedSegment(Segment):
    """A replay in which each function is a process of its own."""

    def __init__(self, script: Script, folder: Path, stage: Stage, say: Callable[[str], None]) -> None:
        super().__init__(script, folder)
        self._stage, self._say = stage, say
        self.playing: Emulated | None = None
        """What plays, once it has started."""

    def venue(self, arguments: Sequence[str]) -> VenueProcess:
        """The segment's paper venue; it does not outlive us."""
        log = self.folder / "venue.log"
        return start_venue(arguments, log, detached=True, started=self._stage.keeper.watch)

    def player(self, control: VenueControl, start: datetime) -> Player:
        """The five servers, on the clock of the segment's venue."""
        config = self.folder / "twinleg.toml"
        config.write_text(settings_text(self.script.market, control.url, self.script.settings))
        settings = load(config, {})
        clock = VenueClock(control.url)
        if start > clock.now():
            clock.advance_to(start)
        logs = self._stage.logs / self.script.name if self._stage.logs else self.folder / "logs"
        for log in logs.glob("*.jsonl"):
            log.unlink()
        played = Emulated(
            settings,
            {name: value for name, value in self._stage.environ.items() if not name.startswith("TWINLEG_")},
            self._stage.emulators,
            self._stage.keeper,
            logs=logs,
            project=project_named(f"{self.folder.parent.name}-{self.script.name}"),
            replay_clock=control.url,
            ordered=True,
            say=self._say,
        )
        self.playing = played
        try:
            played.start()
            return _OnServers(played, played.serve_webhook(0))
        except BaseException:
            played.stop()
            raise


class _OnServers:
    """The emulated runtime, played."""

    def __init__(self, runtime: Emulated, port: int) -> None:
        self.system = runtime.system
        self._runtime, self._port = runtime, port
        self._refusals: Counter[str] = Counter()

    def minute(self, at: datetime) -> None:
        self._runtime.minute(at)

    def post(self, alert: PostedAlert) -> list[int]:
        """As TradingView does, which sends again what was answered 5xx."""
        codes = post(self._port, alert)
        for _ in range(RESENT_MAX):
            if codes[-1] < 500:
                break
            codes = codes[:-1] + post(self._port, alert)
        for code in codes:
            if code not in COUNTED:
                raise BadInput(f"the webhook answered {code}")
            self._refusals[COUNTED[code]] += 1
        return codes

    def deliver(self) -> None:
        self._runtime.deliver()

    def dead(self, topic: str) -> int:
        return len(self._runtime.dead(topic))

    def refusals(self) -> Counter[str]:
        return Counter(self._refusals)

    def stop(self) -> None:
        self._runtime.stop()
