"""The scripts a person runs against a project: which commands they give, in which order, and what they never do.

``gcloud``, ``terraform`` and ``curl`` are small programs on PATH here that note how they were called, and answer as
told.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLLBACK, UP = ROOT / "infra" / "rollback", ROOT / "infra" / "up"
FUNCTIONS = ("ingest", "webhook", "signal", "execute", "risk")
BACKWARDS = ["webhook", "ingest", "signal", "risk", "execute"]

ANSWERS = """#!{python} -IS
import json, os, re, sys
folder = os.path.dirname(os.path.abspath(__file__))
line = " ".join([os.path.basename(__file__), *sys.argv[1:]])
given = sys.stdin.read() if "--data-file=-" in line else ""
with open(folder + "/calls", "a") as file:
    file.write(json.dumps([line, given]) + "\\n")
for pattern, code, text in json.load(open(folder + "/answers")):
    if re.search(pattern, line):
        sys.stdout.write(text)
        sys.exit(code)
"""


class Cloud:
    """Programs on a PATH of their own; the first pattern that fits a command line answers it."""

    def __init__(self, folder: Path, *programs: str) -> None:
        self.folder = folder
        folder.mkdir()
        for name in programs:
            program = folder / name
            program.write_text(ANSWERS.format(python=sys.executable))
            program.chmod(0o755)
        self.answer([])

    def answer(self, answers: list[tuple[str, int, str]]) -> None:
        (self.folder / "answers").write_text(json.dumps(answers))
        (self.folder / "calls").write_text("")

    def run(self, *command: object, typed: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [str(word) for word in command],
            input=typed,
            env={"PATH": path, "HOME": str(self.folder), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        return [line for line, _ in self._noted()]

    def given(self) -> dict[str, str]:
        """secret → what was put into it."""
        return {line.split()[4]: given for line, given in self._noted() if given}

    def _noted(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


# -- back again ------------------------------------------------------------------------------------


def revision(name: str, made_at: str, ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": made_at},
        "spec": {"containers": [{"image": "r.dev/p/twinleg/twinleg@sha256:" + name[-1] * 64}]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def service(serving: str, *more: str) -> dict[str, Any]:
    traffic = [{"revisionName": name, "percent": 100 // (1 + len(more))} for name in (serving, *more)]
    return {"status": {"latestReadyRevisionName": serving, "traffic": [*traffic, {"tag": "candidate"}]}}


def answers(changes: dict[str, Any] | None = None, failing: str = "nothing") -> list[tuple[str, int, str]]:
    """Three deployments of each function, the newest serving; one in between never became ready."""
    said: list[tuple[str, int, str]] = [(f"update-traffic {failing}", 1, "")]
    for name in FUNCTIONS:
        made = [
            revision(f"{name}-1", "2026-11-01T10:00:00Z"),
            revision(f"{name}-2", "2026-11-02T10:00:00.123456Z"),
            revision(f"{name}-3", "2026-11-03T10:00:00Z", "False"),
            revision(f"{name}-4", "2026-11-04T10:05:00Z"),
        ]
        found = (changes or {}).get(name, service(f"{name}-4"))
        said.append((f"services describe {name} ", 0, json.dumps(found)))
        said.append((f"revisions list --service={name} ", 0, json.dumps(made)))
    return said


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "bin", "gcloud", "terraform", "curl")


def moved(cloud: Cloud) -> list[str]:
    found = re.findall(r"update-traffic (\S+) --to-revisions=(\S+)=100", "\n".join(cloud.calls()))
    return [f"{function}={revision}" for function, revision in found]


def back(cloud: Cloud, *words: str) -> subprocess.CompletedProcess[str]:
    return cloud.run(ROLLBACK, "--project=p", "--region=europe-west1", *words)


def test_a_rollback_shows_what_it_would_do_and_does_nothing(cloud: Cloud) -> None:
    cloud.answer(answers())
    done = back(cloud)
    assert done.returncode == 0, done.stderr
    assert moved(cloud) == [] and "Nothing was changed" in done.stdout
    assert "execute  serves    execute-4 (made 2026-11-04 10:05, image 444444444444)" in done.stdout
    assert "back to   execute-2 (made 2026-11-02 10:00, image 222222222222)" in done.stdout


def test_a_rollback_moves_producers_before_consumers_to_the_last_ready_revision(cloud: Cloud) -> None:
    cloud.answer(answers())
    assert back(cloud, "--yes").returncode == 0
    assert moved(cloud) == [f"{name}={name}-2" for name in BACKWARDS]
    assert all(" --project=p --region=europe-west1" in call for call in cloud.calls())


def test_a_function_that_the_deployment_did_not_touch_stays(cloud: Cloud) -> None:
    cloud.answer(answers({name: service(f"{name}-2") for name in FUNCTIONS if name != "risk"}))
    done = back(cloud, "--yes")
    assert moved(cloud) == ["risk=risk-2"] and "execute  stays at  execute-2" in done.stdout


def test_a_rollback_that_failed_half_way_goes_on_with_the_rest(cloud: Cloud) -> None:
    cloud.answer(answers(failing="signal"))
    failed = back(cloud, "--yes")
    assert failed.returncode == 1 and "signal was not moved, 2 of 5 were" in failed.stderr
    cloud.answer(answers({name: service(f"{name}-2") for name in ("webhook", "ingest")}))
    assert back(cloud, "--yes").returncode == 0
    assert moved(cloud) == ["signal=signal-2", "risk=risk-2", "execute=execute-2"]


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({"signal": service("signal-4", "signal-2")}, [], "signal: its traffic is split"),
        ({"risk": service("risk-1")} | {n: service(f"{n}-1") for n in FUNCTIONS}, [], "no ready revision from before"),
        ({}, ["risk=risk-3"], "risk: risk-3 is not ready"),
        ({}, ["risk=risk-9"], "risk: has no revision risk-9"),
    ],
)
def test_a_rollback_that_cannot_be_done_whole_moves_nothing(
    cloud: Cloud, changes: dict[str, Any], words: list[str], said: str
) -> None:
    cloud.answer(answers(changes))
    done = back(cloud, "--yes", *words)
    assert done.returncode == 1 and said in done.stderr and moved(cloud) == []


def test_a_revision_can_be_named(cloud: Cloud) -> None:
    cloud.answer(answers())
    assert back(cloud, "--yes", "risk=risk-1").returncode == 0
    assert moved(cloud) == ["risk=risk-1"]
    assert back(cloud, "api=api-1").returncode == 2


# -- from an empty project -------------------------------------------------------------------------

KEYS = [f"TWINLEG_{account}_{role}_KEY" for account in ("HEDGE", "MAIN") for role in ("EMERGENCY", "EXECUTE", "RISK")]
DIGEST = "r.dev/p/twinleg/twinleg@sha256:" + "a" * 64
OUTPUTS = [
    ("output -json secrets_to_fill", 0, json.dumps([*KEYS, "TWINLEG_WEBHOOK_SECRET"])),
    ("output -raw image_repository", 0, "r.dev/p/twinleg/twinleg"),
    ("output -raw webhook_url", 0, "https://webhook.example/"),
    ("docker images describe", 0, DIGEST),
    ("^curl", 0, "401"),
]
EMPTY = [("projects describe", 1, ""), ("buckets describe", 1, ""), ("services describe execute", 1, ""), *OUTPUTS]


def key(number: int) -> str:
    return "0x" + f"{number:x}" * 64


@pytest.fixture
def up(cloud: Cloud, tmp_path: Path) -> Any:
    def run(*words: str, typed: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        known = {"PROJECT": "p", "EMAIL": "me@example.com", "CONFIG": str(tmp_path / "cloud.toml")}
        return cloud.run(UP, *words, typed=typed, **known, **environ)

    return run


def test_an_empty_project_is_set_up_in_order(cloud: Cloud, up: Any, tmp_path: Path) -> None:
    cloud.answer(EMPTY)
    addresses = ["0x" + "1" * 40, "0x" + "2" * 40]
    done = up(typed="\n".join([*addresses, *map(key, range(1, 7))]) + "\n", BILLING="0123AB-4567CD-89EF01")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [
        "projects create p", "billing projects link p", "services enable", "buckets create gs://p-tfstate",
        "--versioning", "init", r"apply .*-var-file=paper.tfvars$", "secrets versions add", "builds submit",
        rf"apply .*-var-file=paper.tfvars -var=image={DIGEST} -var=config_file=", "jobs run risk", "^curl",
    ]  # fmt: skip
    assert not any("apply" in call and ("-input=false" in call or "-auto-approve" in call) for call in cloud.calls())
    at = 0
    for step in steps:
        found = [n for n, call in enumerate(cloud.calls()[at:], at) if re.search(step, call)]
        assert found, f"{step} is missing after {cloud.calls()[:at]}"
        at = found[0] + 1

    config = (tmp_path / "cloud.toml").read_text()
    assert (
        'network = "testnet"' in config
        and "url =" not in config
        and all(f'address = "{a}"' in config for a in addresses)
    )


def test_a_key_goes_to_the_secret_manager_and_nowhere_else(cloud: Cloud, up: Any) -> None:
    cloud.answer(EMPTY)
    done = up(typed="\n".join(["0x" + "1" * 40, "0x" + "2" * 40, *map(key, range(1, 7))]) + "\n")
    given = cloud.given()
    assert [given[name] for name in KEYS] == [key(number) for number in range(1, 7)]
    assert re.fullmatch("[0-9a-f]{64}", given["TWINLEG_WEBHOOK_SECRET"])
    elsewhere = done.stdout + done.stderr + "".join(cloud.calls())
    assert not any(value.removeprefix("0x") in elsewhere for value in given.values())


def test_what_is_there_stays_as_it_is(cloud: Cloud, up: Any, tmp_path: Path) -> None:
    cloud.answer(EMPTY)
    up(typed="\n".join(["0x" + "1" * 40, "0x" + "2" * 40, *map(key, range(1, 7))]) + "\n")
    cloud.answer([("versions list", 0, "1"), *OUTPUTS])
    done = up("--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    made = [call for call in cloud.calls() if re.search(r"projects create|buckets create|versions add", call)]
    applies = [call for call in cloud.calls() if " apply " in call]
    assert made == [] and len(applies) == 1 and "-var=image=" in applies[0] and "-auto-approve" in applies[0]


@pytest.mark.parametrize("network", ["mainnet", "paper"])
def test_only_a_testnet_is_set_up_by_a_script(cloud: Cloud, up: Any, tmp_path: Path, network: str) -> None:
    (tmp_path / "cloud.toml").write_text(f'mode = "live"\n[venues.hyperliquid]\nnetwork = "{network}"\n')
    refused = up()
    assert refused.returncode == 1 and 'must say network = "testnet"' in refused.stderr
    assert cloud.calls() == []


def test_what_is_typed_wrong_is_not_shown_and_not_kept(cloud: Cloud, up: Any) -> None:
    cloud.answer(EMPTY)
    typed = ["0x" + "1" * 40, "0x" + "2" * 40, key(1)[:-1]]
    refused = up(typed="\n".join(typed) + "\n")
    assert refused.returncode == 1 and f"{KEYS[0]}: a private key is 0x and 64" in refused.stderr
    assert KEYS[0] not in cloud.given() and typed[2] not in refused.stdout + refused.stderr


def test_without_a_project_it_says_what_it_wants(cloud: Cloud) -> None:
    asked = cloud.run(UP)
    assert asked.returncode == 2 and asked.stderr.startswith("usage: PROJECT=") and cloud.calls() == []
