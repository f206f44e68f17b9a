"""Content ids: what makes two trials the same trial.

An id is a hash of the resolved spec less what does not change the result. Two markers, put into a
field's annotation, say how the field counts:

- ``NotIdentity``: the field never counts (where a trial runs, what its experiment is called).
- ``AddedLater(default)``: the field came into the schema after ids had been given out. While it has
  the value under which older trials ran, it is left out, so that those keep their ids.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

ID_LENGTH = 12


@dataclass(frozen=True)
class NotIdentity:
    """Marks a field that does not change a trial's result."""


@dataclass(frozen=True)
class AddedLater:
    """Marks a field younger than the first ids; `default` is what trials did before it existed."""

    default: Any


def identity(value: Any) -> Any:
    """The part of `value` that counts for its id, as plain JSON types.

    Models are walked field by field; mappings and sequences element by element.
    """
    if isinstance(value, BaseModel):
        counted = {}
        for name, field in type(value).model_fields.items():
            content = getattr(value, name)
            if any(isinstance(mark, NotIdentity) for mark in field.metadata):
                continue
            if any(isinstance(m, AddedLater) and m.default == content for m in field.metadata):
                continue
            counted[name] = identity(content)
        return counted
    if isinstance(value, dict):
        return {key: identity(content) for key, content in value.items()}
    if isinstance(value, list | tuple):
        return [identity(content) for content in value]
    # 1 and 1.0 are one number to a user, and so one trial
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def content_id(value: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of `value`'s identity in canonical JSON."""
    canonical = json.dumps(identity(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:ID_LENGTH]
