"""The space of a search: keys of a trial's settings, each with an interval or a list of choices.

A point gives every key of the space one value, as plain JSON. The names of the keys are those of
MLflow's params; `recipe.learning_rate` and its like are the default of every network, as in a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Strict, model_validator

from switokd.spec.entries import LIST_VALUED
from switokd.spec.network import NetworkChoice
from switokd.spec.recipe import Optimization, Recipe
from switokd.validation import FieldError, Finite, Frozen, shown

# as a sampled value is printed, tracked and hashed
SIGNIFICANT_DIGITS = 6
# what has to be equal for two trials' metrics to be comparable
NOT_SEARCHED = frozenset({"epochs", "holdout"})

SearchPoint = dict[str, Any]


class Interval(Frozen):
    """The numbers from `low` to `high`, drawn evenly, or evenly in their logarithm."""

    low: Finite
    high: Finite
    log: Annotated[bool, Strict()] = False

    @model_validator(mode="after")
    def _has_an_inside(self) -> Interval:
        if self.low >= self.high:
            raise FieldError((("high",), f"must be above low = {self.low:g} (found {self.high:g})"))
        if self.log and self.low <= 0:
            raise FieldError((("low",), f"must be above 0 where log is true (found {self.low:g})"))
        return self

    def value(self, number: float, whole: bool = False) -> float | int:
        """A number of the interval as a point has it: whole, or of 6 significant digits."""
        rounded = round(number) if whole else float(f"{number:.{SIGNIFICANT_DIGITS}g}")
        bounded = min(max(rounded, self.low), self.high)
        return int(bounded) if whole else float(bounded)

    def has(self, value: Any) -> bool:
        """Whether a value, such as an earlier search left it, is a number of the interval."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def at(self, share: float, whole: bool = False) -> float | int:
        """The value `share` (0 to 1) of the way from low to high."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return self.value(math.exp(low + share * (high - low)), whole)
        # a whole number is as likely at the ends as between them
        low, high = (self.low - 0.5, self.high + 0.5) if whole else (self.low, self.high)
        return self.value(low + share * (high - low), whole)


def _dimension(value: Any) -> Any:
    # a union would answer a wrong value once per member; this answers it once
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("must have at least one element")
        for position, element in enumerate(value):
            if element in value[:position]:
                raise ValueError(f"has {shown(element)} twice")
        return tuple(value)
    if isinstance(value, dict | Interval):
        return Interval.model_validate(value)
    raise ValueError("must be a list of choices, or {low: .., high: .., log: true or false}")


Dimension = Annotated[Interval | tuple[Any, ...], BeforeValidator(_dimension)]


def is_whole(key: str) -> bool:
    """Whether a key of the space takes whole numbers alone."""
    group, _, name = key.partition(".")
    field = Recipe.model_fields.get(name) if group == "recipe" else None
    return field is not None and _has_int(field.annotation)


def _has_int(annotation: Any) -> bool:
    return annotation is int or any(_has_int(part) for part in get_args(annotation))


def known_keys(networks: Iterable[str], method_settings: Iterable[str]) -> set[str]:
    """The keys that a search space may have, for networks such as T1 and S1."""
    recipe = {*Recipe.model_fields, *Optimization.model_fields} - NOT_SEARCHED - LIST_VALUED
    of_network = (*Optimization.model_fields, *NetworkChoice.model_fields)
    groups: Mapping[str, Iterable[str]] = {
        "recipe": recipe,
        "method": method_settings,
        **dict.fromkeys(networks, of_network),
    }
    return {"temperature"} | {
        f"{group}.{name}" for group, names in groups.items() for name in names
    }


def choices_of(key: str, dimension: Interval | tuple[Any, ...]) -> float:
    """How many values a key may take; infinitely many on an interval of real numbers."""
    if isinstance(dimension, tuple):
        return len(dimension)
    return dimension.high - dimension.low + 1 if is_whole(key) else math.inf
