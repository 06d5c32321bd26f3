"""Finding, starting and ending the emulators."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import requests

from twinleg.adapters.gcp import emulators
from twinleg.adapters.gcp.emulators import Emulator, EmulatorsMissing

Start = Callable[[Mapping[str, str]], Emulator]
BOTH = pytest.mark.parametrize(
    ("start", "variable"),
    [(emulators.firestore, "FIRESTORE_EMULATOR_HOST"), (emulators.pubsub, "PUBSUB_EMULATOR_HOST")],
)


@BOTH
def test_one_that_the_environment_names_is_used_and_never_ended(start: Start, variable: str) -> None:
    named = start({variable: "127.0.0.1:8085"})
    assert named == Emulator("127.0.0.1:8085", None)
    named.stop()


@BOTH
def test_what_is_missing_is_told_in_one_line_with_the_way_to_get_it(
    start: Start, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EmulatorsMissing, match=f"^java is not here|emulator is not here.*{variable}") as caught:
        start({"PATH": str(tmp_path)})
    assert "\n" not in str(caught.value) and "gcloud components install" in str(caught.value)
    monkeypatch.setattr(emulators, "_SDK_PLACES", ())
    with pytest.raises(EmulatorsMissing, match="emulator is not here"):
        start({"PATH": str(tmp_path), "CLOUDSDK_ROOT_DIR": str(tmp_path)})


@BOTH
def test_a_jar_that_ends_at_once_is_told_and_leaves_nothing_running(
    start: Start, variable: str, tmp_path: Path, firestore_host: str
) -> None:
    for name in emulators._JARS.values():
        jar = tmp_path / name.replace("*", "0")
        jar.parent.mkdir(parents=True)
        jar.write_bytes(b"no jar")
    with pytest.raises(EmulatorsMissing, match="ended at its start with"):
        start({"PATH": os.environ["PATH"], "CLOUDSDK_ROOT_DIR": str(tmp_path)})


def test_a_started_one_answers_on_this_machine_only_and_ends_when_told(firestore_host: str) -> None:
    emulator = emulators.pubsub({name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ})
    assert requests.get(f"http://{emulator.host}/", timeout=5).ok
    host, port = emulator.host.split(":")
    assert host == "127.0.0.1" and emulator.process is not None
    emulator.stop()
    emulator.stop()
    assert emulator.process.poll() is not None
    with pytest.raises(OSError), socket.create_connection((host, int(port)), timeout=1):
        pass
