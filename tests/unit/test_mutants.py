"""The command that prints the mutation score: what it changes, and that it tells a test that notices from none."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def mutations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutations", ROOT / "bench" / "mutations.py")
    assert spec and spec.loader
    module = sys.modules["mutations"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changes(mutations: ModuleType, text: str, **enums: list[str]) -> set[str]:
    """Every changed version of a text, each of which must be Python."""
    source = text.encode()
    found = [m.applied(source).decode() for m in mutations.mutants(source, enums)]
    for one in found:
        compile(one, "changed", "exec")
    assert text not in found and len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("x = (a + b) < c", {"x = (a - b) < c", "x = (a + b) <= c", "x = (a + b) >= c"}),
        ("x = a is not b", {"x = a is b"}),
        ("x = a and b", {"x = a or b", "x = (a)", "x = (b)"}),
        ("x = min(a, 2)", {"x = max(a, 2)", "x = min(a, 3)"}),
        ("x = f(up=True)", {"x = f(up=False)"}),
        ("x = -a", {"x = (a)"}),
        ("x = a * side.sign", {"x = a * -side.sign"}),
        ('x = D("2")', {'x = D("2.21")'}),
        ("x = b if a else c", {"x = b if (not (a)) else c"}),
        ("x = Side.BUY", {"x = Side.SELL"}),
        ("x = {'a': b, 'c': d}", {"x = {'c': d}", "x = {'a': b, }"}),
        ("if a:\n    f()", {"if (not (a)):\n    f()", "if a:\n    pass"}),
        ("for a in b:\n    continue", {"for a in b:\n    break"}),
        ("def f():\n    return a.b", {"def f():\n    return None"}),
        (
            "match a:\n    case 1 | 2 if b:\n        raise c",
            {
                "match a:\n    case 1 | 2 if (not (b)):\n        raise c",
                "match a:\n    case 1 | 2 if False:\n        raise c",
                "match a:\n    case 1 if b:\n        raise c",
                "match a:\n    case 2 if b:\n        raise c",
                "match a:\n    case 1 | 2 if b:\n        pass",
            },
        ),
    ],
)
def test_what_is_changed(mutations: ModuleType, text: str, changed: set[str]) -> None:
    assert changes(mutations, text, Side=["BUY", "SELL"]) == changed


@pytest.mark.parametrize(
    "text",
    [
        '"""About a module with 3 rules."""',
        'x = f"{a + 1} is more than {b}"',
        'x = "a sentence"',
        'log.warning("%s", 1)',
        "def f(a: int | None) -> dict[str, int]:\n    pass",
        "for a, b in zip(c, d, strict=True):\n    pass",
        "from a import b",
    ],
)
def test_what_only_says_something_is_left_as_it_is(mutations: ModuleType, text: str) -> None:
    assert changes(mutations, text) == set()


def test_a_change_is_shown_as_a_diff_with_its_line(mutations: ModuleType) -> None:
    source = b"x = 1\n\nif a \xe2\x89\xa0 b:\n".replace(b"\xe2\x89\xa0", b"== '\xe2\x89\xa0' <")
    source += b"    f()\n"
    found = mutations.mutants(source, {})
    shown = {(m.line, *m.shown(source)) for m in found}
    assert (1, "- x = 1", "+ x = 2") in shown
    assert (3, "- if a == '≠' < b:", "+ if a == '≠' <= b:") in shown


def mutants(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "mutants.py"), *arguments, "--jobs", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)


def test_the_score_tells_tests_that_notice_from_tests_that_do_not() -> None:
    tests = ("--tests", "tests/unit/test_breakers.py")
    noticed = mutants("risk/breakers", "--sample", "6", "--at-least", "60", *tests)
    assert noticed.returncode == 0, noticed.stderr
    assert noticed.stdout.splitlines()[-2].split()[:2] == ["risk/breakers", "6"]
    unseen = mutants("risk/margin", "--sample", "3", "--at-least", "50", *tests)
    assert unseen.returncode == 1, unseen.stderr
    assert unseen.stdout.splitlines()[-2].split() == ["risk/margin", "3", "0", "0", "3", "0.0", "%"]
    assert unseen.stdout.count("shared/twinleg/risk/margin.py:") == 3 and "    - " in unseen.stdout


def test_a_module_that_no_unit_test_imports_is_judged_by_no_others_unasked() -> None:
    found = mutants("engine/closing")
    assert found.returncode == 1 and "name tests with --tests" in found.stderr
