"""The Secrets port's contract: read by name, and never shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend

from twinleg.adapters.local.secrets import ChainSecrets, EnvironmentSecrets, KeyringSecrets, MappingSecrets
from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.ports import Secrets, Steps

KEY = "0x4c0883a69102937d6231471b5dbb6204fe512961708279"


class MemoryKeyring(KeyringBackend):
    """A keyring as the keyring package defines one, kept in memory."""

    priority = 0.1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.passwords: dict[tuple[str, str], str] = {}
        self.broken = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.broken:
            raise keyring.errors.KeyringLocked(f"locked, holding {self.passwords}")
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.passwords[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.passwords[service, username]


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    made = MemoryKeyring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def _mapping(values: dict[str, str], _: MemoryKeyring) -> Secrets:
    return MappingSecrets(values)


def _environment(values: dict[str, str], _: MemoryKeyring) -> Secrets:
    names = EnvironmentSecrets({})
    return EnvironmentSecrets({names.variable(name): value for name, value in values.items()})


def _keyring(values: dict[str, str], ring: MemoryKeyring) -> Secrets:
    for name, value in values.items():
        keyring.set_password("twinleg", name, value)
    return KeyringSecrets()


def _chain(values: dict[str, str], ring: MemoryKeyring) -> Secrets:
    return ChainSecrets(MappingSecrets({}), _environment(values, ring), _keyring({}, ring))


ADAPTERS: dict[str, Callable[[dict[str, str], MemoryKeyring], Secrets]] = {
    "mapping": _mapping,
    "environment": _environment,
    "keyring": _keyring,
    "chain": _chain,
}


@pytest.fixture(params=list(ADAPTERS))
def secrets_of(request: pytest.FixtureRequest, ring: MemoryKeyring) -> Callable[[dict[str, str]], Secrets]:
    return lambda values: ADAPTERS[request.param](values, ring)


def test_a_secret_is_read_by_its_name(secrets_of: Callable[[dict[str, str]], Secrets]) -> None:
    secrets = secrets_of({"main-execute": KEY, "main-risk": "other"})
    assert (secrets.read("main-execute"), secrets.read("main-risk")) == (KEY, "other")


def test_a_line_break_at_the_end_is_not_part_of_a_secret(secrets_of: Callable[[dict[str, str]], Secrets]) -> None:
    assert secrets_of({"a": f"{KEY}\r\n"}).read("a") == KEY
    assert secrets_of({"a": " spaces are \n"}).read("a") == " spaces are "


@pytest.mark.parametrize("values", [{}, {"main-execute": ""}, {"main-execute": "\n"}])
def test_a_missing_or_empty_secret_is_named(
    secrets_of: Callable[[dict[str, str]], Secrets], values: dict[str, str]
) -> None:
    with pytest.raises(BadInput, match="main-execute") as caught:
        secrets_of(values | {"other": KEY}).read("main-execute")
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)


def test_no_representation_shows_a_value(secrets_of: Callable[[dict[str, str]], Secrets]) -> None:
    secrets = secrets_of({"main-execute": KEY})
    secrets.read("main-execute")
    assert KEY not in f"{secrets!r} {secrets!s} {[secrets]}"


def test_the_environment_names_the_variable_to_set() -> None:
    with pytest.raises(BadInput, match="TWINLEG_SECRET_MAIN_EXECUTE"):
        EnvironmentSecrets({}).read("main-execute")
    assert EnvironmentSecrets({"MAIN_EXECUTE": "k"}, prefix="").read("main.execute") == "k"


def test_a_keyring_that_fails_is_unavailable_and_its_words_are_not_repeated(ring: MemoryKeyring) -> None:
    ring.set_password("twinleg", "a", KEY)
    ring.broken = True
    with pytest.raises(Unavailable, match="secret a") as caught:
        KeyringSecrets().read("a")
    assert KEY not in str(caught.value) and caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_keyring_read_counts_as_an_outside_effect(ring: MemoryKeyring) -> None:
    names: list[str] = []
    ring.set_password("desk", "a", "v")
    assert KeyringSecrets("desk", Steps(lambda _, name: names.append(name))).read("a") == "v"
    assert names == ["secrets.read a", "secrets.read a done"]


def test_a_chain_takes_the_first_that_has_it_and_says_where_it_looked(ring: MemoryKeyring) -> None:
    chain = ChainSecrets(EnvironmentSecrets({"TWINLEG_SECRET_A": "env"}), KeyringSecrets())
    ring.set_password("twinleg", "a", "ring")
    ring.set_password("twinleg", "b", "ring")
    assert (chain.read("a"), chain.read("b")) == ("env", "ring")
    with pytest.raises(BadInput, match=r"secret c .*TWINLEG_SECRET_C.*keyring set twinleg c"):
        chain.read("c")


def test_a_chain_does_not_pass_over_a_source_that_cannot_be_reached(ring: MemoryKeyring) -> None:
    ring.broken = True
    with pytest.raises(Unavailable):
        ChainSecrets(KeyringSecrets(), MappingSecrets({"a": "stale"})).read("a")
