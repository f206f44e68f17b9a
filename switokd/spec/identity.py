"""Content ids: what makes two trials the same trial.

An id is a hash of the resolved spec less what does not change the result. Three markers, put into a
field's annotation, say how the field counts:

- ``NotIdentity``: the field never counts (where a trial runs, what its experiment is called).
- ``AddedLater(default)``: the field came into the schema after ids had been given out. While it has
  the value under which older trials ran, it is left out, so that those keep their ids.
- ``ReplacedBy(field)``: the field counts only while another, which says the same better, is None.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

ID_LENGTH = 12


@dataclass(frozen=True)
class NotIdentity:
    """Marks a field that does not change a trial's result."""


@dataclass(frozen=True)
class AddedLater:
    """Marks a field younger than the first ids; `default` is what trials did before it existed."""

    default: Any


@dataclass(frozen=True)
class ReplacedBy:
    """Marks a field that does not count beside `field`, where that has a value."""

    field: str


Mark = TypeVar("Mark", NotIdentity, AddedLater, ReplacedBy)


def walk(value: Any) -> Any:
    """`value` as plain containers, model by model and element by element, as its marks say.

    The one walk that says which fields of a trial count, and when: whoever identifies, compares or
    describes trials uses it.
    """
    if isinstance(value, BaseModel):
        later = later_fields(type(value))
        replaced = {
            name
            for name, other in replaced_fields(type(value)).items()
            if getattr(value, other) is not None
        }
        names = [name for name in counted_fields(type(value)) if name not in replaced]
        counted = ((name, getattr(value, name)) for name in names)
        return {
            name: walk(content)
            for name, content in counted
            if name not in later or later[name] != content
        }
    if isinstance(value, dict):
        return {key: walk(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [walk(content) for content in value]
    return value


def mark(field: FieldInfo, kind: type[Mark]) -> Mark | None:
    """The field's mark of a kind, if it has one."""
    return next((found for found in field.metadata if isinstance(found, kind)), None)


@cache
def counted_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a model that may count."""
    return tuple(n for n, field in model.model_fields.items() if not mark(field, NotIdentity))


@cache
def later_fields(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model that are younger than the first ids, with their introductory value."""
    marks = {name: mark(field, AddedLater) for name, field in model.model_fields.items()}
    return {name: later.default for name, later in marks.items() if later}


@cache
def replaced_fields(model: type[BaseModel]) -> dict[str, str]:
    """The fields of a model that do not count beside another, with that."""
    marks = {name: mark(field, ReplacedBy) for name, field in model.model_fields.items()}
    return {name: found.field for name, found in marks.items() if found}


def content_id(value: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of what counts in `value`, as JSON."""
    canonical = json.dumps(_numbers_alike(walk(value)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:ID_LENGTH]


def _numbers_alike(plain: Any) -> Any:
    """1 and 1.0 are one number to a user, and so one trial."""
    if isinstance(plain, dict):
        return {key: _numbers_alike(content) for key, content in plain.items()}
    if isinstance(plain, list):
        return [_numbers_alike(content) for content in plain]
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain
