"""How settings are searched: by which algorithm, judged by which metric, cut short by whom."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from switokd import names
from switokd.names import metric
from switokd.spec.space import Dimension, Interval, SearchPoint, is_whole
from switokd.spec.trial import Seed, TrialSpec
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


@dataclass(frozen=True)
class Algorithm:
    """Whether trials are points drawn from a space, and whether earlier results guide the draw."""

    draws: bool = True
    guided: bool = False


@dataclass(frozen=True)
class Scheduler:
    """What a file must have for a scheduler of Tune's; `tuning.schedulers` makes it.

    `judges`: it looks at every trial after each epoch; `population`: it changes the settings of
    trials in the middle, so that they must be changeable and all there from the start.
    """

    judges: bool = True
    population: bool = False


ALGORITHMS = {
    "grid": Algorithm(draws=False),
    "random": Algorithm(),
    "tpe": Algorithm(guided=True),
}
SCHEDULERS = {
    "none": Scheduler(judges=False),
    "asha": Scheduler(),
    "median": Scheduler(),
    "pbt": Scheduler(population=True),
}
# a population changes these in the middle of a trial; others it could not
CHANGEABLE = frozenset({"learning_rate", "momentum", "weight_decay"})

# what may judge a trial after each epoch, and at its end
PER_NETWORK = tuple(name for name in names.PER_NETWORK if name != names.LEARNING_RATE)
PER_NETWORK_AT_END = (names.BEST_VAL_TOP1, names.LAST_VAL_TOP1)

# what a search wants little of, where it does not say
LESS_IS_BETTER = frozenset(
    {
        *(names.VAL_LOSS, names.TRAIN_LOSS, names.CROSS_ENTROPY),
        *(names.VAL_CALIBRATION_ERROR, names.TRAIN_SECONDS),
    }
)


def _known_algorithm(name: str) -> str:
    known_name("algorithm", name, ALGORITHMS)
    return name


def _known_scheduler(name: str) -> str:
    known_name("scheduler", name, SCHEDULERS)
    return name


class Search(Frozen):
    """Which points of the settings are trained, what they are judged by, and who stops early."""

    algorithm: Annotated[Text, AfterValidator(_known_algorithm)] = "grid"
    trials: Annotated[Whole, Field(ge=1)] | None = None
    space: dict[Text, Dimension] = Field(default_factory=dict)
    metric: Text = metric(names.VAL_TOP1, "S1")
    mode: Literal["max", "min"] = "max"
    scheduler: Annotated[Text, AfterValidator(_known_scheduler)] = "none"
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
        if self.is_population:
            problems += self._no_population()
        if problems:
            raise FieldError(*problems)
        return self

    def _no_population(self) -> Iterator[Problem]:
        if self.trials is not None and self.trials < 2:
            yield ("trials",), f"must be at least 2 for {self.scheduler} (found {self.trials})"
        if self.algorithm != "random":
            yield (
                ("scheduler",),
                f"{self.scheduler} takes its members from algorithm 'random' "
                f"(found {self.algorithm!r})",
            )
        for key, dimension in self.space.items():
            group, _, name = key.partition(".")
            changes = key == "temperature" or group == "method" or name in CHANGEABLE
            if not (changes and isinstance(dimension, Interval)):
                yield (
                    ("space", key),
                    f"cannot change while a trial is trained; {self.scheduler} takes intervals of "
                    "temperature, a method's settings, learning_rate, momentum and weight_decay",
                )

    @property
    def draws(self) -> bool:
        """Whether trials are points of a space; else they are the file's grid."""
        return ALGORITHMS[self.algorithm].draws

    @property
    def is_guided(self) -> bool:
        """Whether points are chosen by the results of earlier ones."""
        return ALGORITHMS[self.algorithm].guided

    @property
    def judges_early(self) -> bool:
        """Whether a scheduler looks at trials after each of their epochs."""
        return SCHEDULERS[self.scheduler].judges

    @property
    def is_population(self) -> bool:
        """Whether the trials change each other's settings on the way."""
        return SCHEDULERS[self.scheduler].population

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
    if not search.judges_early:
        known |= at_end
    elif search.metric in at_end:
        return f"exists at a trial's end alone, too late for scheduler {search.scheduler} {found}"
    try:
        known_name("metric", search.metric, known)
    except SpecError as error:
        return f"{error}; asked of {trial.label}"
    return None
