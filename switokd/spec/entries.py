"""The entries of an experiment file: recipe, networks, cohorts, data set and methods as written.

What an entry leaves out is resolved here; `switokd.spec.experiment_file` puts the entries together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, model_validator

from switokd.data import DATASETS, checked_dataset, describe
from switokd.data.source import Source, StreamSource
from switokd.methods.settings import checked_method, resolve_settings, settings_class
from switokd.models import checked_model
from switokd.spec.dataset import DatasetOfTrial, identified_data
from switokd.spec.network import NetworkChoice, at, identified, identified_weights
from switokd.spec.recipe import ABSENT_SETTINGS, NetworkSpec, Optimization, Recipe
from switokd.spec.trial import MethodSpec
from switokd.user_modules import is_address
from switokd.validation import (
    FieldError,
    Frozen,
    Location,
    SpecError,
    Text,
    shown,
)

# these take a list as their single value: there, an axis is a list of lists
LIST_VALUED = frozenset({"milestones"})


class FileRecipe(Recipe, Optimization):
    """A recipe as written in a file: with the networks' default optimizer settings."""

    @model_validator(mode="after")
    def _settings_that_the_optimizer_has(self) -> FileRecipe:
        for name in ABSENT_SETTINGS.get(self.optimizer, {}):
            if name in self.model_fields_set:
                raise FieldError(((name,), no_such_setting(self.optimizer, getattr(self, name))))
        return self


def no_such_setting(optimizer: str, value: float) -> str:
    return f"{optimizer} has no such setting (found {value:g})"


class NetworkEntry(Optimization, NetworkChoice):
    """A network as written in a file: what it does not set, the recipe does."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        return _with_name("model", "network", checked_model, data)

    @model_validator(mode="after")
    def _is_there(self) -> NetworkEntry:
        _ = self._identified
        return self

    @cached_property
    def _identified(self) -> dict[str, Any]:
        return identified(self)

    def resolve(self, recipe: FileRecipe) -> NetworkSpec:
        """This network with the recipe's settings where it has none of its own."""
        defaults = {name: getattr(recipe, name) for name in Optimization.model_fields}
        own = {name: getattr(self, name) for name in self.model_fields_set}
        settings = defaults | own | self._identified
        return NetworkSpec(**settings | ABSENT_SETTINGS.get(settings["optimizer"], {}))


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
    """A data set by name; `path` for the sets that a user brings, `arguments` of a callable."""

    name: Annotated[Text, AfterValidator(checked_dataset)]
    path: Text | None = None
    arguments: dict[Text, JsonValue] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, data: Any) -> Any:
        return _with_name("name", DATASETS.kind, checked_dataset, data)

    @model_validator(mode="after")
    def _has_what_it_takes(self) -> DatasetEntry:
        own = is_address(self.name)
        if self.arguments and not own:
            raise FieldError((("arguments",), f"{self.name} takes none"))
        with at("name"):
            source = self.source
        if self.path is not None and not isinstance(source, StreamSource):
            told = "the callable reads it" if own else "it is read from the folder $SWITOKD_DATA"
            raise FieldError((("path",), f"{self.name} has none: {told}"))
        if self.path is None and source.nominal_classes is None:
            raise FieldError(
                (
                    ("path",),
                    f"is required for {self.name}: a folder of class folders, or a packed LMDB",
                )
            )
        return self

    @cached_property
    def identified(self) -> dict[str, Any]:
        """What a trial has of the data: the fields of `DatasetOfTrial`."""
        return identified_data(self.name, self.path, self.arguments)

    @cached_property
    def source(self) -> Source:
        """What the set states about itself. Raises SpecError and DataError for a user's own.

        Asked for every trial of a grid, and of a callable's set its arrays are read for it.
        """
        if not is_address(self.name):
            return describe(self.name)
        return describe(self.name, DatasetOfTrial(**self.identified).data_origin)


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


def _with_name(key: str, kind: str, checked: Callable[[str], str], data: Any) -> Any:
    """What a name alone stands for: a mapping with the one key."""
    if isinstance(data, str):
        return {key: checked(data)}
    if not isinstance(data, dict | Frozen):
        raise ValueError(f"must be the name of a {kind}, or a mapping with {key!r}")
    return data


def in_short(value: Any) -> str:
    if isinstance(value, MethodSpec):
        return value.variant
    if isinstance(value, Cohort):
        sides = (value.teachers, value.students)
        return ">".join("+".join(entry.label for entry in side) for side in sides)
    return f"{value:g}" if isinstance(value, float) else str(value)


def method_choices(entry: Any) -> list[MethodSpec]:
    """`switokd` or `{switokd: {threshold: [adaptive, 0.6]}}` as one spec per choice."""
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise SpecError(
            f"must be the name of a method, or one name with its settings (found {shown(entry)})"
        )
    ((name, settings),) = entry.items()
    checked_method(name)
    if settings is not None and not isinstance(settings, dict):
        raise FieldError(((name,), f"must be a mapping of settings (found {shown(settings)})"))
    try:
        choices = expand_axes(settings or {})
    except FieldError as error:
        raise FieldError(*(((name, *place), text) for place, text in error.problems)) from None
    return [_method_spec(name, choice) for choice in choices]


def _method_spec(name: str, choice: dict[str, Any]) -> MethodSpec:
    """One choice of a method's settings; whose teachers are trained before may name their weights.

    Raises SpecError.
    """
    teacher = None
    if "teacher" in choice and settings_class(name).trained_teacher:
        choice = dict(choice)
        teacher = choice.pop("teacher")
        if not isinstance(teacher, str) or not teacher:
            told = f"must be a file of weights, or 'run:RUN' (found {shown(teacher)})"
            raise FieldError(((name, "teacher"), told))
        with at(name, "teacher"):
            identified_weights(teacher)
    return MethodSpec(name=name, settings=resolve_settings(name, choice), teacher=teacher)
