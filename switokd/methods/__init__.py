"""The methods: one file each, found by name.

A method turns the logits of a cohort into one loss per network, says which networks sit a step
out, and measures every link. To add one: a file with a `Method` subclass, a line in `METHODS`, and
a line in `switokd.methods.settings.SETTINGS`. A user's own method is called `package.module:Class`,
and says what its settings are in `settings_class`. Importing this package imports no torch, so that
an experiment file is checked at once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from switokd.methods.settings import SETTINGS, resolve_settings, settings_class
from switokd.registry import Registry
from switokd.user_modules import is_address, load, user_code

if TYPE_CHECKING:
    from switokd.methods.base import Method

METHODS = Registry(
    "method",
    {
        "vanilla": "switokd.methods.vanilla:Vanilla",
        "dml": "switokd.methods.dml:DML",
        "kdcl": "switokd.methods.kdcl:KDCL",
        "switokd": "switokd.methods.switokd:SwitOKD",
        "kd": "switokd.methods.kd:KD",
        "fitnet": "switokd.methods.fitnet:FitNet",
        "at": "switokd.methods.at:AT",
        "crd": "switokd.methods.crd:CRD",
        "rco": "switokd.methods.rco:RCO",
    },
)

# the setting of a method that softens by a temperature of its own
OWN_TEMPERATURE = "temperature"

__all__ = ["METHODS", "SETTINGS", "build_method"]


def build_method(
    name: str,
    *,
    teachers: int = 1,
    students: int = 1,
    temperature: float | None = None,
    frozen: Collection[str] = (),
    network_stages: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    **settings: Any,
) -> Method:
    """Build a method for a cohort of `teachers` networks T1.. and `students` networks S1...

    The result is called with `(logits, targets)`: logits by network name, each (B, K), and labels
    (B,). `frozen`: the networks that only teach, whatever the method; `network_stages`: the
    names of those whose maps a method may ask for, from the input on. Raises ValueError for an
    unknown method, setting or impossible value.

    `temperature`: of the cohort, 1 where it is not given; of a method that has one of its own, such
    as kd, that one, and the links are then measured at 1.
    """
    if temperature is not None and OWN_TEMPERATURE in settings_class(name).model_fields:
        settings, temperature = settings | {OWN_TEMPERATURE: temperature}, None
    if temperature is None:
        temperature = 1.0
    if teachers < 0 or students < 0 or teachers + students < 1:
        raise ValueError(f"a cohort of {teachers} teachers and {students} students has no network")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be above 0 and finite; found {temperature}")
    resolved = resolve_settings(name, settings)
    if resolved.has_roles and not (teachers and students):
        raise ValueError(f"{name} needs a teacher and a student; found {teachers} and {students}")
    with user_code(f"{name} cannot be built") if is_address(name) else nullcontext():
        build = load(name) if is_address(name) else METHODS.load(name)
        method: Method = build(
            teachers=teachers, students=students, temperature=temperature, settings=resolved
        )
    method.frozen = frozenset(frozen)
    method.network_stages = dict(network_stages)
    return method
