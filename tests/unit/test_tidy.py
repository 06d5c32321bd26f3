"""The house rules that a machine can check. A failure says what to do."""

import ast
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import twinleg

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "shared" / "twinleg"
FOLDERS = ("functions", "shared", "infra", "tests", "docs", "bench", ".ci", ".github")
GENERATED = {"__pycache__", ".terraform", "node_modules", "out"}

LINES_MAX = 600
LINES_MAX_ELSEWHERE = {"shared/twinleg/paper/": 800, "tests/": 900}  # one venue's many rules; tables of cases
ENTRY_POINT_LINES_MAX = 40

VENDORS = {"google", "ccxt", "web3", "hyperliquid"}
REGISTRY_HOSTS = ("pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "deb." + "debian.org")
LEFTOVERS = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME)\b")
MACHINE_PATH = re.compile(r"(?<![\w.:/*~{}<>-])/(?:home|root|work|Users)(?=/|\b(?![\w-]))")


def test_the_package_is_ours_and_not_one_that_shares_its_name() -> None:
    assert Path(twinleg.__file__) == PACKAGE / "__init__.py", "install this tree: ./dev setup"


# -- entry points ----------------------------------------------------------------------------------


def entry_folders() -> list[Path]:
    return [f for f in sorted((ROOT / "functions").iterdir()) if f.is_dir() and f.name not in GENERATED]


def test_entry_points_are_there() -> None:
    assert {f.name for f in entry_folders()} >= {"ingest", "signal", "execute", "risk", "webhook"}


def test_function_folders_hold_main_py_only() -> None:
    # An __init__.py in functions/signal/ would hide the standard library's signal, and any other module there becomes
    # a global name: the framework puts the folder on sys.path.
    held = {f.name: [p.name for p in sorted(f.iterdir()) if p.name not in GENERATED] for f in entry_folders()}
    assert held == {name: ["main.py"] for name in held}, "move it into shared/twinleg"
    assert not (ROOT / "functions" / "__init__.py").exists()


def test_entry_points_are_short_and_named_like_their_folder() -> None:
    for folder in entry_folders():
        text = (folder / "main.py").read_text()
        count = len(text.splitlines())
        assert count < ENTRY_POINT_LINES_MAX, f"{folder.name}: {count} lines; decode, call one handler, answer"
        functions = [n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.decorator_list]
        assert functions == [folder.name], f"functions/{folder.name}/main.py has one entry point, {folder.name}"


# -- what every file keeps to ----------------------------------------------------------------------


def our_files() -> Iterator[Path]:
    """Every text file we write: what the listed folders hold, and the files at the top."""
    yield from (
        p for p in ROOT.iterdir() if p.is_file() and p.suffix not in {".sqlite", ".gz"} and p.name != ".coverage"
    )
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and not GENERATED.intersection(parts) and not any(p.endswith(".egg-info") for p in parts):
                yield path


def texts() -> Iterator[tuple[str, str]]:
    for path in our_files():
        try:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or a compressed file


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    found = dict(texts())
    assert {"pyproject.toml", "dev", "shared/twinleg/__init__.py"} <= set(found)
    return found


def places(written: dict[str, str], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in written.items()
        if pattern.search(text)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_files_can_be_read_in_one_sitting(written: dict[str, str]) -> None:
    def limit(name: str) -> int:
        return next((most for start, most in LINES_MAX_ELSEWHERE.items() if name.startswith(start)), LINES_MAX)

    long = {n: c for n, t in written.items() if n.endswith(".py") and (c := len(t.splitlines())) > limit(n)}
    assert not long, "split by what changes together, one idea a file"


def test_nothing_is_left_for_later(written: dict[str, str]) -> None:
    assert not places(written, LEFTOVERS), "do it, or say in the text how it is today"


def test_no_file_names_a_package_registry(written: dict[str, str]) -> None:
    hosts = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)))
    assert not places(written, hosts), "where packages come from is the machine's setting: name the package alone"


def test_no_file_names_a_place_on_one_machine(written: dict[str, str]) -> None:
    assert not places(written, MACHINE_PATH), "use a path relative to the repository, or tmp_path in a test"


@pytest.mark.parametrize("text", ['open("{}home/me/x")', "cd {}root", "PATH={}work/main", "see {}Users/me."])
def test_a_place_on_one_machine_is_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text.format("/"))


@pytest.mark.parametrize("text", ["https://example.com/home/x", "/workspace/x", "a/work/b", "./work", "/homepage"])
def test_an_address_or_a_longer_name_is_not_one(text: str) -> None:
    assert not MACHINE_PATH.search(text)


# -- who may do what in the package ----------------------------------------------------------------


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "functions").rglob("*.py")]:
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of everything imported anywhere in a module, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"}:
            names.update(str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant))
    return {name.partition(".")[0] for name in names}


def called(node: ast.Call) -> str:
    """The last name of what is called: ``Approved`` for ``approval.Approved(…)``."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def test_vendors_are_known_to_adapters_only() -> None:
    strays = {n: v for n, t in modules() if "/adapters/" not in n and (v := imported(t) & VENDORS)}
    assert not strays, "put the call behind a port and its adapter"


def test_only_the_gate_approves() -> None:
    makers = {
        name for name, tree in modules() for n in ast.walk(tree) if isinstance(n, ast.Call) and called(n) == "Approved"
    }
    assert makers == {"shared/twinleg/risk/gate.py"}, "ask the gate: review(intent, …) -> Approved | Refused"


# -- pins ------------------------------------------------------------------------------------------


def requirement_lines(name: str) -> list[str]:
    return (ROOT / name).read_text().splitlines()


def test_requirements_are_exact_versions_and_nothing_else() -> None:
    runtime, checks = requirement_lines("requirements.txt"), requirement_lines("requirements-dev.txt")
    assert checks[0] == "-r requirements.txt"
    for line in runtime + checks[1:]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"{line!r}: ./dev pins writes these files"
    twice = [n for n, count in Counter(line.partition("==")[0] for line in runtime + checks[1:]).items() if count > 1]
    assert not twice


def test_pins_fit_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    runs = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    runs += [line for extra, lines in extras.items() if extra != "dev" for line in lines]
    for lines, wanted in (
        (requirement_lines("requirements.txt"), runs),
        (requirement_lines("requirements.txt") + requirement_lines("requirements-dev.txt")[1:], extras["dev"]),
    ):
        pins = dict(line.split("==") for line in lines)
        for requirement in map(Requirement, wanted):
            pin = pins.get(canonicalize_name(requirement.name))
            fits = pin is not None and requirement.specifier.contains(pin, prereleases=True)
            assert fits, f"{requirement} was pinned as {pin}: run ./dev pins"


# -- the one command -------------------------------------------------------------------------------


def dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(ROOT / "dev"), *arguments], capture_output=True, text=True, timeout=30)


def test_dev_lists_its_commands() -> None:
    shown = dev("help")
    assert shown.returncode == 0 and dev().stdout == shown.stdout
    listed = set(re.findall(r"^  (\w+) ", shown.stdout, flags=re.MULTILINE))
    carried_out = set(re.findall(r"^  (\w+)\) ", (ROOT / "dev").read_text(), flags=re.MULTILINE))
    assert listed == {"setup", "demo", "run", "test", "checkov", "mutants", "pins"} <= carried_out


def test_dev_refuses_a_command_it_does_not_have() -> None:
    refused = dev("tset")
    assert (refused.returncode, refused.stdout) == (2, "") and refused.stderr.startswith("usage: ./dev COMMAND")
