"""Plain YAML, read strictly: every mistake is one SpecError that names the file and the place."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import yaml

from switokd.validation import SpecError, shown

KINDS = {type(None): "nothing", list: "a list", str: "a text", int: "a number", float: "a number"}


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads `5e-4` as a number and refuses a key given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(
                    None, None, f"key {key.value!r} is there twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises SpecError."""
    data = _parse(_read(path), str(path))
    if not isinstance(data, dict):
        kind = KINDS.get(type(data), type(data).__name__)
        raise SpecError(f"{path}: must be a YAML mapping with 'name', 'dataset', ...; found {kind}")
    return data


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file (looked at {path.absolute()})") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is no text in UTF-8 (byte {error.start} is not)") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SpecError(f"{path}: cannot be read: {reason}") from None


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(filter(None, (error.context, error.problem)))
        problem = problem.replace("tag:yaml.org,2002:", "!!")
        raise SpecError(f"{source}: {place}not plain YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        raise SpecError(
            f"{source}: not plain YAML: character {error.position} is {error.character!r}"
        ) from None
    except RecursionError:
        raise SpecError(f"{source}: not plain YAML: nested too deeply") from None
    except (ValueError, KeyError, AttributeError) as error:
        # PyYAML lets out what its constructors meet in a value that its tag does not fit
        raise SpecError(f"{source}: not plain YAML: a value does not fit: {error}") from None


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set `dotted.key=value` in `data`; numbers in the key count list elements from 0."""
    key, separator, text = override.partition("=")
    parts = key.split(".")
    if not separator or not all(parts):
        raise SpecError(f"override {override!r}: must be key=value, such as recipe.epochs=2")
    value = _parse(text, f"override {override!r}")
    place: Any = data
    for depth, part in enumerate(parts):
        above = ".".join(parts[:depth])
        index: str | int = part
        if isinstance(place, list):
            if not (part.isascii() and part.isdigit() and int(part) < len(place)):
                raise SpecError(
                    f"override {override!r}: {above} has no element {part!r} "
                    f"(it has {len(place)}, counted from 0)"
                )
            index = int(part)
        elif not isinstance(place, dict):
            raise SpecError(f"override {override!r}: {above} is {shown(place)}, which has no keys")
        if depth == len(parts) - 1:
            place[index] = value
            return
        if isinstance(place, dict) and place.get(part) is None:
            place[part] = {}
        # an anchor may name the same list elsewhere, which the override does not mean
        place[index] = copy.copy(place[index])
        place = place[index]
