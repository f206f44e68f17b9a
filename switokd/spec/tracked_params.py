"""A trial as MLflow's params: texts under dotted keys, written from the one walk, read back whole.

A param that has its introductory value is not written: runs from before and after a field came in
have the same params. Whoever compares or groups runs fills them first. What is replaced by another
is written for people, and does not count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from switokd.methods.settings import SETTINGS
from switokd.spec.identity import later_fields, replaced_fields, walk
from switokd.spec.trial import TrialSpec

MODEL_PARAM = re.compile(r"([TS]\d+)\.model")
# the two params in which a longer trial may differ from the shorter one that it goes on from
EPOCHS, MILESTONES = "recipe.epochs", "recipe.milestones"

Params = Mapping[str, str]


def params_of(trial: TrialSpec) -> dict[str, str]:
    """What counts of a trial, by `dataset`, `method`, `method.threshold`, `recipe.epochs`, ..."""
    plain = walk(trial)
    method = plain.pop("method")
    groups = {"method": method["settings"], "recipe": plain.pop("recipe")} | plain.pop("networks")
    if "source" in method:
        groups["method"] = groups["method"] | {"source": method["source"]}
    params = {"method": method["name"]} | {key: _text(value) for key, value in plain.items()}
    params["temperature"] = f"{trial.temperature:g}"
    given = {name: getattr(trial, name) for name in replaced_fields(TrialSpec)}
    params |= {name: _text(value) for name, value in given.items() if value is not None}
    for group, values in groups.items():
        params |= {f"{group}.{key}": _text(value) for key, value in values.items()}
    return params


def fill_params(params: Params) -> dict[str, str]:
    """A run's params with those that it lacks because they had their introductory value."""
    fields = TrialSpec.model_fields
    groups: dict[str, Any] = {"": TrialSpec, "recipe.": fields["recipe"].annotation}
    if params.get("method") in SETTINGS:
        groups["method."] = SETTINGS[params["method"]]
    (_, network_spec) = fields["networks"].annotation.__args__  # type: ignore[union-attr]
    groups |= {f"{m[1]}.": network_spec for m in map(MODEL_PARAM.fullmatch, params) if m}
    filled = {
        f"{prefix}{name}": _text(value)
        for prefix, model in groups.items()
        for name, value in later_fields(model).items()
    }
    filled |= params
    for name, other in replaced_fields(TrialSpec).items():
        if filled[other] != "null":
            filled[name] = "null"
    return filled


def all_but_length(params: Params) -> frozenset[tuple[str, str]]:
    """What two trials have in common of which one is the other with more epochs."""
    filled = fill_params(params).items()
    return frozenset(item for item in filled if item[0] not in (EPOCHS, MILESTONES))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
