"""The experiment file: YAML in, frozen trials out.

`load_experiment` reads and checks a file; `Experiment.trials` expands it. A list where the recipe
or a method takes a single value is one more axis of the sweep.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from switokd.data import DATASETS, describe
from switokd.data.source import StreamSource
from switokd.methods.settings import SETTINGS, resolve_settings
from switokd.models import MODELS
from switokd.spec import (
    MethodSpec,
    Name,
    NetworkSpec,
    Optimization,
    Recipe,
    Resources,
    Seed,
    Temperature,
    TrialSpec,
)
from switokd.validation import (
    FieldError,
    Frozen,
    Location,
    SpecError,
    Text,
    field_error,
    known_name,
    shown,
)
from switokd.yaml_file import apply_override, read_mapping

# these take a list as their single value: there, an axis is a list of lists
LIST_VALUED = frozenset({"milestones"})

SMOKE_EPOCHS = 2
SMOKE_BATCH = 8


class FileRecipe(Recipe, Optimization):
    """A recipe as written in a file: with the networks' default optimizer settings."""

    @model_validator(mode="after")
    def _momentum_where_there_is_one_to_set(self) -> FileRecipe:
        if self.optimizer == "adam" and "momentum" in self.model_fields_set:
            raise FieldError((("momentum",), f"adam has no such setting (found {self.momentum:g})"))
        return self


class NetworkEntry(NetworkSpec):
    """A network as written in a file: what it does not set, the recipe does."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        return _with_name("model", "network", MODELS, data)

    def resolve(self, recipe: FileRecipe) -> NetworkSpec:
        """This network with the recipe's settings where it has none of its own."""
        defaults = {name: getattr(recipe, name) for name in Optimization.model_fields}
        own = {name: getattr(self, name) for name in self.model_fields_set}
        settings = defaults | own
        if settings["optimizer"] == "adam":
            settings["momentum"] = 0.0
        return NetworkSpec(**settings)


class Cohort(Frozen):
    """Networks trained together: at least one teacher and one student."""

    teachers: Annotated[tuple[NetworkEntry, ...], Field(min_length=1)]
    students: Annotated[tuple[NetworkEntry, ...], Field(min_length=1)]

    def resolve(self, recipe: FileRecipe) -> dict[str, NetworkSpec]:
        """The networks by their names T1.., S1.., teachers first."""
        sides = {"T": self.teachers, "S": self.students}
        return {
            f"{letter}{number}": entry.resolve(recipe)
            for letter, side in sides.items()
            for number, entry in enumerate(side, start=1)
        }

    def entries(self) -> Iterator[tuple[Location, NetworkEntry]]:
        """Every network with its place in the cohort."""
        for side in ("teachers", "students"):
            for position, entry in enumerate(getattr(self, side)):
                yield (side, position), entry


class DatasetEntry(Frozen):
    """A data set by name; `path` for the sets that a user brings."""

    name: Text
    path: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        return _with_name("name", "dataset", DATASETS, data)

    @field_validator("name")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        known_name("dataset", name, DATASETS)
        return name

    @model_validator(mode="after")
    def _path_where_there_is_one_to_give(self) -> DatasetEntry:
        source = describe(self.name)
        if self.path is not None and not isinstance(source, StreamSource):
            raise FieldError(
                (("path",), f"{self.name} has none: it is read from the folder $SWITOKD_DATA")
            )
        if self.path is None and source.nominal_classes is None:
            raise FieldError(
                (
                    ("path",),
                    f"is required for {self.name}: a folder of class folders, or a packed LMDB",
                )
            )
        return self


class Experiment(Frozen):
    """A checked experiment file; its axes are expanded, its trials are not yet."""

    name: Name
    dataset: DatasetEntry
    cohorts: Annotated[tuple[Cohort, ...], Field(min_length=1)]
    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (1.0,)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    recipe: Annotated[tuple[FileRecipe, ...], Field(min_length=1)]
    resources: Resources = Resources()
    smoke: Annotated[bool, Strict()] = False

    @field_validator("recipe", mode="before")
    @classmethod
    def _recipe_axes(cls, recipe: Any) -> Any:
        if not isinstance(recipe, dict):
            raise ValueError("must be a mapping with at least 'epochs'")
        try:
            return [FileRecipe.model_validate(choice) for choice in expand_axes(recipe)]
        except ValidationError as error:
            raise field_error(error) from None

    @field_validator("methods", mode="before")
    @classmethod
    def _method_axes(cls, methods: Any) -> Any:
        if not isinstance(methods, list) or not methods:
            raise ValueError("must be a list with at least one method")
        choices, problems = [], []
        for position, entry in enumerate(methods):
            try:
                choices += _method_choices(entry)
            except FieldError as error:
                problems += [((position, *place), text) for place, text in error.problems]
            except SpecError as error:
                problems.append(((position,), str(error)))
        if problems:
            raise FieldError(*problems)
        return choices

    @field_validator("cohorts", "temperatures", "seeds", "methods")
    @classmethod
    def _no_duplicates(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        for position, value in enumerate(values):
            if value in values[:position]:
                raise SpecError(f"{_in_short(value)} is there twice")
        return values

    @model_validator(mode="after")
    def _momentum_where_there_is_one_to_set(self) -> Experiment:
        for number, cohort in enumerate(self.cohorts):
            for place, entry in cohort.entries():
                optimizers = {
                    entry.optimizer if "optimizer" in entry.model_fields_set else recipe.optimizer
                    for recipe in self.recipe
                }
                if "adam" in optimizers and "momentum" in entry.model_fields_set:
                    raise FieldError(
                        (
                            ("cohorts", number, *place, "momentum"),
                            f"adam has no such setting (found {entry.momentum:g})",
                        )
                    )
        return self

    def smoke_form(self) -> Experiment:
        """The same road in about a minute: stand-in images, two epochs, one seed, its own name."""
        recipes = []
        for recipe in self.recipe:
            small = {"epochs": SMOKE_EPOCHS, "batch_size": SMOKE_BATCH, "warmup_epochs": 0}
            milestones = recipe.milestones[:1] and (SMOKE_EPOCHS,)
            recipes.append(recipe.model_copy(update=small | {"milestones": milestones}))
        return self.model_copy(
            update={"name": f"{self.name}-smoke", "seeds": self.seeds[:1]}
            | {"recipe": tuple(dict.fromkeys(recipes))}
        )

    @cached_property
    def trials(self) -> tuple[TrialSpec, ...]:
        """Every trial once, in the file's order, the seeds innermost."""
        choices = itertools.product(
            self.recipe, self.cohorts, self.methods, self.temperatures, self.seeds
        )
        trials = (
            trial
            for recipe, cohort, method, temperature, seed in choices
            for trial in self._resolve(recipe, cohort, method, temperature, seed)
        )
        # vanilla networks are shared by cohorts, and some methods have no temperature
        return tuple({trial.trial_id: trial for trial in trials}.values())

    def _resolve(
        self,
        recipe: FileRecipe,
        cohort: Cohort,
        method: MethodSpec,
        temperature: float,
        seed: int,
    ) -> Iterable[TrialSpec]:
        networks = cohort.resolve(recipe)
        together = method.resolved.trains_together
        shared = {name: getattr(recipe, name) for name in Recipe.model_fields}
        # what the data set would choose is written out: stated or not, it is the same trial
        source = describe(self.dataset.name)
        shared["image_size"] = recipe.image_size or source.image_size
        if recipe.augmentation == "default":
            shared["augmentation"] = source.augmentation
        for group in [networks] if together else [{"S1": alone} for alone in networks.values()]:
            yield TrialSpec(
                experiment=self.name,
                dataset=self.dataset.name,
                dataset_path=self.dataset.path,
                stand_in=self.smoke,
                networks=group,
                method=method,
                temperature=temperature if method.resolved.uses_temperature else 1.0,
                seed=seed,
                recipe=Recipe(**shared),
                resources=self.resources,
            )


def expand_axes(mapping: dict[str, Any]) -> list[dict[str, Any]]:
    """Every choice of one value for each key that has a list where a single value belongs."""
    axes = []
    for key, value in mapping.items():
        is_axis = isinstance(value, list)
        if is_axis and key in LIST_VALUED:
            is_axis = any(isinstance(element, list) for element in value)
        if is_axis and not value:
            raise FieldError(((key,), "must have at least one element (found [])"))
        for position, element in enumerate(value if is_axis else ()):
            if element in value[:position]:
                raise FieldError(((key,), f"{shown(element)} is there twice"))
        axes.append([(key, element) for element in (value if is_axis else [value])])
    return [dict(choice) for choice in itertools.product(*axes)]


def _with_name(key: str, kind: str, known: Iterable[str], data: Any) -> Any:
    """What a name alone stands for: a mapping with the one key."""
    if isinstance(data, str):
        known_name(kind, data, known)
        return {key: data}
    if not isinstance(data, dict | Frozen):
        raise ValueError(f"must be the name of a {kind}, or a mapping with {key!r}")
    return data


def _in_short(value: Any) -> str:
    if isinstance(value, MethodSpec):
        return value.variant
    if isinstance(value, Cohort):
        sides = (value.teachers, value.students)
        return ">".join("+".join(entry.model for entry in side) for side in sides)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _method_choices(entry: Any) -> list[MethodSpec]:
    """`switokd` or `{switokd: {threshold: [adaptive, 0.6]}}` as one spec per choice."""
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise SpecError(
            f"must be the name of a method, or one name with its settings (found {shown(entry)})"
        )
    ((name, settings),) = entry.items()
    known_name("method", name, SETTINGS)
    if settings is not None and not isinstance(settings, dict):
        raise FieldError(((name,), f"must be a mapping of settings (found {shown(settings)})"))
    try:
        choices = expand_axes(settings or {})
    except FieldError as error:
        raise FieldError(*(((name, *place), text) for place, text in error.problems)) from None
    return [
        MethodSpec.model_construct(name=name, settings=resolve_settings(name, choice).model_dump())
        for choice in choices
    ]


def load_experiment(path: Path | str, overrides: Sequence[str] = ()) -> Experiment:
    """Read, override and check an experiment file.

    `overrides` are `dotted.key=value`, the value in YAML. Raises SpecError, one line per mistake,
    each naming the file and the key.
    """
    data = read_mapping(Path(path))
    for override in overrides:
        apply_override(data, override)
    try:
        experiment = Experiment.model_validate(data)
        if experiment.smoke:
            experiment = experiment.smoke_form()
        _ = experiment.trials
    except ValidationError as error:
        lines = str(field_error(error)).splitlines()
    else:
        return experiment
    source = f"{path} with {' '.join(overrides)}" if overrides else str(path)
    raise SpecError("\n".join(f"{source}: {line}" for line in lines))
