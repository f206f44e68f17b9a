"""How the settings of an experiment are searched: a space, points drawn from it, a scheduler.

A point gives every key of the space one value, as plain JSON. The names of the keys are those of
MLflow's params; `recipe.learning_rate` and its like are the default of every network, as in a file.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, Strict, field_validator, model_validator

from switokd import names
from switokd.names import metric
from switokd.spec.entries import LIST_VALUED
from switokd.spec.trial import NetworkSpec, Optimization, Recipe, Seed, TrialSpec
from switokd.validation import (
    FieldError,
    Finite,
    Frozen,
    Problem,
    SpecError,
    Text,
    Whole,
    known_name,
    shown,
)

# as a sampled value is printed, tracked and hashed
SIGNIFICANT_DIGITS = 6
# what has to be equal for two trials' metrics to be comparable
NOT_SEARCHED = frozenset({"epochs", "holdout"})
# population-based training changes these in the middle of a trial; others it could not
CHANGEABLE = frozenset({"learning_rate", "momentum", "weight_decay"})

# what may judge a trial after each epoch, and at its end
PER_NETWORK = tuple(name for name in names.PER_NETWORK if name != names.LEARNING_RATE)
PER_NETWORK_AT_END = (names.BEST_VAL_TOP1, names.LAST_VAL_TOP1)

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


# what a search wants little of, where it does not say
LESS_IS_BETTER = frozenset(
    {
        *(names.VAL_LOSS, names.TRAIN_LOSS, names.CROSS_ENTROPY),
        *(names.VAL_CALIBRATION_ERROR, names.TRAIN_SECONDS),
    }
)


class Search(Frozen):
    """Which points of the settings are trained, what they are judged by, and who stops early."""

    algorithm: Literal["grid", "random", "tpe"] = "grid"
    trials: Annotated[Whole, Field(ge=1)] | None = None
    space: dict[Text, Dimension] = Field(default_factory=dict)
    metric: Text = metric(names.VAL_TOP1, "S1")
    mode: Literal["max", "min"] = "max"
    scheduler: Literal["none", "asha", "median", "pbt"] = "none"
    grace_epochs: Annotated[Whole, Field(ge=1)] = 1
    reduction_factor: Annotated[Finite, Field(gt=1)] = 4.0
    perturbation_epochs: Annotated[Whole, Field(ge=1)] = 5
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _mode_of_the_metric(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "mode" in data:
            return data
        less = names.quantity_of(str(data.get("metric", ""))) in LESS_IS_BETTER
        return data | {"mode": "min" if less else "max"}

    @field_validator("space", mode="before")
    @classmethod
    def _dotted_keys(cls, space: Any) -> Any:
        if not isinstance(space, dict):
            return space
        # an override, search.space.S1.model=.., comes as a mapping within the mapping
        flat: dict[Any, Any] = {}
        for key, value in space.items():
            if (
                isinstance(value, dict)
                and value
                and not value.keys() & Interval.model_fields.keys()
            ):
                flat |= {f"{key}.{name}": dimension for name, dimension in value.items()}
            else:
                flat[key] = value
        return flat

    @field_validator("space")
    @classmethod
    def _values_fit_their_keys(cls, space: dict[str, Any]) -> dict[str, Any]:
        problems: list[Problem] = [
            ((key,), f"must choose among single values (found {shown(value)})")
            for key, dimension in space.items()
            for value in (dimension if isinstance(dimension, tuple) else ())
            if isinstance(value, list | dict | tuple)
        ]
        problems += [
            ((key, end), f"must be a whole number (found {number:g})")
            for key, dimension in space.items()
            if isinstance(dimension, Interval) and is_whole(key)
            for end, number in (("low", dimension.low), ("high", dimension.high))
            if not number.is_integer()
        ]
        if problems:
            raise FieldError(*problems)
        return space

    @model_validator(mode="after")
    def _has_what_its_algorithm_needs(self) -> Search:
        problems: list[Problem] = []
        for key, given in (("trials", self.trials is not None), ("space", bool(self.space))):
            if self.draws and not given:
                problems.append(((key,), f"is required for algorithm {self.algorithm!r}"))
            elif given and not self.draws:
                problems.append(
                    ((key,), "belongs to algorithm 'random' or 'tpe' (found algorithm 'grid')")
                )
        if self.scheduler == "pbt":
            problems += self._no_population()
        if problems:
            raise FieldError(*problems)
        return self

    def _no_population(self) -> Iterator[Problem]:
        if self.trials is not None and self.trials < 2:
            yield ("trials",), f"must be at least 2 for pbt (found {self.trials})"
        if self.algorithm != "random":
            yield (
                ("scheduler",),
                f"pbt takes its members from algorithm 'random' (found {self.algorithm!r})",
            )
        for key, dimension in self.space.items():
            group, _, name = key.partition(".")
            changes = key == "temperature" or group == "method" or name in CHANGEABLE
            if not (changes and isinstance(dimension, Interval)):
                yield (
                    ("space", key),
                    "cannot change while a trial is trained; pbt takes intervals of temperature, "
                    "a method's settings, learning_rate, momentum and weight_decay",
                )

    @property
    def draws(self) -> bool:
        """Whether trials are points of a space; else they are the file's grid."""
        return self.algorithm != "grid"

    def extremes(self, key: str) -> tuple[Any, ...]:
        """The values of a key that are checked before anything runs: all choices, or both ends."""
        dimension = self.space[key]
        if isinstance(dimension, tuple):
            return dimension
        return (dimension.at(0.0, is_whole(key)), dimension.at(1.0, is_whole(key)))

    def has(self, point: SearchPoint) -> bool:
        """Whether a point, such as an earlier search left it, is one of this space."""
        return point.keys() == self.space.keys() and all(
            point[key] in dimension if isinstance(dimension, tuple) else dimension.has(point[key])
            for key, dimension in self.space.items()
        )

    def draw(self, cells: int) -> Iterator[tuple[int, SearchPoint]]:
        """Endless independent points, each with one of `cells` cells; the same for a seed."""
        generator = random.Random(self.seed)
        while True:
            cell = int(generator.random() * cells)
            yield cell, {key: self._drawn(key, generator.random()) for key in sorted(self.space)}

    def _drawn(self, key: str, share: float) -> Any:
        dimension = self.space[key]
        if isinstance(dimension, tuple):
            return dimension[int(share * len(dimension))]
        return dimension.at(share, is_whole(key))


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
    groups: Mapping[str, Iterable[str]] = {
        "recipe": recipe,
        "method": method_settings,
        **dict.fromkeys(networks, NetworkSpec.model_fields),
    }
    return {"temperature"} | {
        f"{group}.{name}" for group, names in groups.items() for name in names
    }


def metric_problem(search: Search, trial: TrialSpec) -> str | None:
    """What is wrong with the search's metric for a trial, or None."""
    networks, links = trial.networks, trial.links
    known = {metric(quantity, name) for quantity in PER_NETWORK for name in networks}
    known |= {metric(names.AGREEMENT, *link) for link in links} | {names.IMAGES_PER_SECOND}
    at_end = {metric(quantity, name) for quantity in PER_NETWORK_AT_END for name in networks}
    at_end |= {metric(names.EXPERT_SHARE, *link) for link in links} | {names.TRAIN_SECONDS}
    found = f"(found {search.metric!r})"
    if search.metric.startswith("test_"):
        return f"is measured on the test set, on which nothing is tuned: use val_top1/S1 {found}"
    if search.scheduler == "none":
        known |= at_end
    elif search.metric in at_end:
        return f"exists at a trial's end alone, too late for scheduler {search.scheduler} {found}"
    try:
        known_name("metric", search.metric, known)
    except SpecError as error:
        return f"{error}; asked of {trial.label}"
    return None
