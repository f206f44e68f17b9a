"""The schema of an experiment file: what its keys may hold, each by itself and beside the others.

A list where the recipe or a method takes a single value is one more axis of the sweep; here the
axes are expanded, the trials are not.
"""

from __future__ import annotations

from typing import Annotated, Any, Self, cast

from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from switokd.spec.entries import (
    Cohort,
    DatasetEntry,
    FileRecipe,
    expand_axes,
    in_short,
    method_choices,
    no_such_setting,
)
from switokd.spec.recipe import ABSENT_SETTINGS
from switokd.spec.resources import Resources
from switokd.spec.search import Search
from switokd.spec.trial import MethodSpec, Seed, Temperature
from switokd.user_modules import is_address
from switokd.validation import FieldError, Frozen, PlainName, SpecError, field_error


class ExperimentFile(Frozen):
    """What a file says, checked key by key."""

    name: PlainName
    dataset: DatasetEntry
    cohorts: Annotated[tuple[Cohort, ...], Field(min_length=1)]
    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    temperatures: Annotated[tuple[Temperature, ...], Field(min_length=1)] = (1.0,)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    recipe: Annotated[tuple[FileRecipe, ...], Field(min_length=1)]
    resources: Resources = Resources()
    search: Search = Search()
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
                choices += method_choices(entry)
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
                raise SpecError(f"{in_short(value)} is there twice")
        return values

    @model_validator(mode="after")
    def _settings_that_every_optimizer_has(self) -> Self:
        for number, cohort in enumerate(self.cohorts):
            for place, entry in cohort.entries():
                given = entry.model_fields_set
                for recipe in self.recipe:
                    optimizer = entry.optimizer if "optimizer" in given else recipe.optimizer
                    for name in ABSENT_SETTINGS.get(optimizer, {}):
                        if name in given:
                            told = no_such_setting(optimizer, getattr(entry, name))
                            raise FieldError((("cohorts", number, *place, name), told))
        return self

    @property
    def user_modules(self) -> frozenset[str]:
        """The modules of the user's that networks, methods and data come from."""
        entries = [entry.model for cohort in self.cohorts for _, entry in cohort.entries()]
        addresses = [self.dataset.name, *entries, *(method.name for method in self.methods)]
        return frozenset(text.partition(":")[0] for text in addresses if is_address(text))

    def with_changes(self, **changes: Any) -> Self:
        """The same file with other values, which are not checked again."""
        # pydantic's own copy would take along what is cached here
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        given = self.model_fields_set | changes.keys()
        return cast("Self", type(self).model_construct(given, **fields | changes))
