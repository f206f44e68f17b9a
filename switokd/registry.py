"""Closed choices: a name stands for `package.module:attribute`, imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import Any

from switokd.validation import known_name


class Registry(MutableMapping[str, str]):
    """What a user may choose by name, in the order in which it is listed.

    `kind` names the choice in messages: "unknown network 'wrn'; did you mean 'wrn_16_2'?".
    """

    def __init__(self, kind: str, addresses: dict[str, str]) -> None:
        self.kind = kind
        self._addresses = dict(addresses)

    def check(self, name: object) -> None:
        """Raise SpecError, with the nearest known name, for a name that is not registered."""
        if name not in self._addresses:
            known_name(self.kind, name, self._addresses)

    def checked(self, name: str) -> str:
        """The name, if it is registered: a validator of fields that hold it."""
        self.check(name)
        return name

    def load(self, name: str) -> Any:
        """Import what `name` stands for. Raises SpecError for a name that is not registered."""
        self.check(name)
        module, _, attribute = self._addresses[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __getitem__(self, name: str) -> str:
        return self._addresses[name]

    def __setitem__(self, name: str, address: str) -> None:
        self._addresses[name] = address

    def __delitem__(self, name: str) -> None:
        del self._addresses[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._addresses)

    def __len__(self) -> int:
        return len(self._addresses)
