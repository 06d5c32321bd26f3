"""The Firestore and Pub/Sub emulators on this machine: Google's own jars, started directly.

The gcloud wrapper is passed by: it costs a second and leaves its child behind when it is ended.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinleg.adapters.gcp import FIRESTORE_VARIABLE as FIRESTORE_VARIABLE
from twinleg.adapters.gcp import PUBSUB_VARIABLE as PUBSUB_VARIABLE
from twinleg.adapters.local.clocks import pause
from twinleg.domain.errors import Unavailable

START_SECONDS_MAX = 30.0
_SDK_PLACES = ("/usr/lib/google-cloud-sdk", "/usr/share/google-cloud-sdk", "/google-cloud-sdk", "/opt/google-cloud-sdk")
_FIRESTORE = (
    "-Duser.language=en -cp {jar} com.google.cloud.datastore.emulator.firestore.CloudFirestore start "
    "--host=127.0.0.1 --port={port}"
)
_PUBSUB = "-jar {jar} --host=127.0.0.1 --port={port}"
_JARS = {
    "firestore": "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar",
    "pubsub": "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar",
}


class EmulatorsMissing(Unavailable):
    """An emulator, or the Java that runs it, is not on this machine; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator: its ``host:port``, and its process when we started it."""

    host: str
    process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """End the process we started; one that was running before is left alone."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


Started = Callable[[int], None]
"""Told the process id of an emulator as soon as it runs; it leads a process group of its own."""


def firestore(environ: Mapping[str, str], started: Started | None = None) -> Emulator:
    """The Firestore emulator: the one the environment names, else one of our own on a free port."""
    return _named_or_started("firestore", FIRESTORE_VARIABLE, _FIRESTORE, environ, started)


def pubsub(environ: Mapping[str, str], started: Started | None = None) -> Emulator:
    """The Pub/Sub emulator: the one the environment names, else one of our own on a free port."""
    return _named_or_started("pubsub", PUBSUB_VARIABLE, _PUBSUB, environ, started)


def _named_or_started(
    name: str, variable: str, command: str, environ: Mapping[str, str], told: Started | None
) -> Emulator:
    if environ.get(variable):
        return Emulator(environ[variable])
    java, jar = shutil.which("java", path=environ.get("PATH")), _jar(name, environ)
    if java is None or jar is None:
        lacking = f"the {name} emulator" if jar is None else "java"
        raise EmulatorsMissing(
            f"{lacking} is not here: install Java 17 and run gcloud components install {_COMPONENTS[name]} "
            f"(or apt-get install google-cloud-cli-{name}-emulator), or set {variable}"
        )
    port = free_port()
    process = subprocess.Popen(
        [java, *(word.format(jar=jar, port=port) for word in command.split())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if told is not None:
        told(process.pid)
    started = Emulator(f"127.0.0.1:{port}", process)
    try:
        _wait_until_it_answers(name, started.host, process)
    except BaseException:
        started.stop()
        raise
    return started


_COMPONENTS = {"firestore": "cloud-firestore-emulator", "pubsub": "pubsub-emulator"}


def _jar(name: str, environ: Mapping[str, str]) -> Path | None:
    gcloud = shutil.which("gcloud", path=environ.get("PATH"))
    roots = [environ.get("CLOUDSDK_ROOT_DIR", "")] + ([str(Path(gcloud).resolve().parents[1])] if gcloud else [])
    for root in [*filter(None, roots), *_SDK_PLACES]:
        if found := sorted(Path(root).glob(_JARS[name])):
            return found[-1]
    return None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(name: str, host: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(int(START_SECONDS_MAX / 0.05)):
        if process.poll() is not None:
            raise EmulatorsMissing(
                f"the {name} emulator ended at its start with {process.returncode}: is Java 17 here?"
            )
        try:
            with urllib.request.urlopen(f"http://{host}/", timeout=1):
                return
        except OSError:
            pause(0.05)
    raise Unavailable(f"the {name} emulator did not answer within {START_SECONDS_MAX:g} s")
