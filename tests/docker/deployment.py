"""The files under `docker/` as their engines read them: merged, with the variables filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[2] / "docker"
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([?-])([^}]*))?\})")
# what is asked of who starts the services, but is no secret
OPEN_VARIABLES = {"BIND", "MLFLOW_ALLOWED_HOSTS"}


def variables() -> dict[str, set[str]]:
    """The operators (`?` must be set, `-` has a default) with which compose.yaml asks for each."""
    found: dict[str, set[str]] = {}
    for match in VARIABLE.finditer((DOCKER / "compose.yaml").read_text()):
        if match[2]:
            found.setdefault(match[2], set()).add(match[3])
    return found


def secrets_of(value: str = "secret-{}") -> dict[str, str]:
    """A value for each variable that must be set."""
    return {name: value.format(name) for name in variables() if name not in OPEN_VARIABLES}


def services(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, by name; KeyError where a variable that must be set is not."""

    def fill(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        value = environment.get(match[2], "")
        if not value and match[3] == "?":
            raise KeyError(match[2])
        return value or (match[4] if match[3] == "-" else "")

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return VARIABLE.sub(fill, node) if isinstance(node, str) else node

    content = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    found: dict[str, dict[str, Any]] = filled(content["services"])
    return found


def command_line(service: Mapping[str, Any]) -> list[str]:
    """What a service runs, its entrypoint and command together."""
    return [*service.get("entrypoint", ()), *service.get("command", ())]
