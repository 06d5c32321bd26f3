"""The Secrets port on one machine: the environment, the system's keyring, or a mapping.

No representation and no error of these ever shows a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from twinleg.domain.errors import BadInput, Unavailable
from twinleg.engine.steps import Steps

if TYPE_CHECKING:
    from twinleg.engine.ports import Secrets


class MappingSecrets:
    """Secrets by their exact names, for a demo, a test or a replay."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def read(self, name: str) -> str:
        return _present(name, self._values.get(name), "is not set")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._values)} masked)"


class EnvironmentSecrets:
    """Secrets in environment variables: ``main-execute`` is read from ``<prefix>MAIN_EXECUTE``.

    The mapping is passed in, because the environment itself is read in one place only.
    """

    def __init__(self, environ: Mapping[str, str], prefix: str = "TWINLEG_SECRET_") -> None:
        self._environ = environ
        self._prefix = prefix

    def variable(self, name: str) -> str:
        """The environment variable that holds a secret."""
        return self._prefix + re.sub(r"[^A-Z0-9]+", "_", name.upper())

    def read(self, name: str) -> str:
        variable = self.variable(name)
        return _present(name, self._environ.get(variable), f"is not set: put it into {variable}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._prefix}…)"


class KeyringSecrets:
    """Secrets in the system's keyring, under one service name; the keyring is loaded at the first read."""

    def __init__(self, service: str = "twinleg", steps: Steps | None = None) -> None:
        self._service = service
        self._steps = steps or Steps()

    def read(self, name: str) -> str:
        try:
            import keyring
        except ImportError:
            raise BadInput(f"secret {name}: the keyring is not installed (pip install 'twinleg[local]')") from None
        self._steps.step(f"secrets.read {name}")
        try:
            value = keyring.get_password(self._service, name)
        except Exception as error:  # a backend may raise anything; its text may quote anything
            raise Unavailable(f"secret {name}: the keyring failed ({type(error).__name__})") from None
        self._steps.step(f"secrets.read {name} done")
        return _present(name, value, f"is not in the keyring: keyring set {self._service} {name}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._service!r})"


class ChainSecrets:
    """The first source that has the secret. A source that cannot be reached ends the search: another's may be stale."""

    def __init__(self, *sources: Secrets) -> None:
        self._sources = sources

    def read(self, name: str) -> str:
        missing = []
        for source in self._sources:
            try:
                return source.read(name)
            except BadInput as error:
                missing.append(str(error).removeprefix(f"secret {name} "))
        raise BadInput(f"secret {name} " + ("; ".join(missing) or "has no source"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._sources))})"


def _present(name: str, value: str | None, absent: str) -> str:
    """A line break at the end is how a secret was pasted, not part of it."""
    if value is None:
        raise BadInput(f"secret {name} {absent}")
    value = value.rstrip("\r\n")
    if not value:
        raise BadInput(f"secret {name} is empty")
    return value
