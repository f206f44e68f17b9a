"""The experiment file: YAML in, frozen trials out.

`load_experiment` reads and checks a file; `Experiment.trials` expands it. A list where the recipe
or a method takes a single value is one more axis of the sweep. With a search over a space, trials
are points of the space, each within one cell of the grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from switokd.data import describe
from switokd.files.yaml_file import apply_override, read_mapping
from switokd.spec.entries import (
    Cohort,
    DatasetEntry,
    FileRecipe,
    expand_axes,
    in_short,
    method_choices,
)
from switokd.spec.search import Search, SearchPoint, known_keys, metric_problem
from switokd.spec.trial import MethodSpec, Name, Recipe, Resources, Seed, Temperature, TrialSpec
from switokd.validation import FieldError, Frozen, SpecError, field_error, known_name

SMOKE_EPOCHS = 2
SMOKE_BATCH = 8
SMOKE_POINTS = 2
# points drawn before any result can guide the choice, as many as Optuna's sampler wants
FIRST_POINTS = 10
# a space that gives no new point so often in a row has no more of them
DRAWS_IN_VAIN = 1000


@dataclass(frozen=True)
class Candidate:
    """A point of a search within a cell of the experiment's grid, and the trial that it makes."""

    trial: TrialSpec
    cell: int
    point: SearchPoint


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
        few = min(SMOKE_POINTS, self.search.trials or SMOKE_POINTS) if self.search.draws else None
        search = {"trials": few, "grace_epochs": 1, "perturbation_epochs": 1}
        return self._with(
            name=f"{self.name}-smoke",
            seeds=self.seeds[:1],
            recipe=tuple(dict.fromkeys(recipes)),
            search=self.search.model_copy(update=search),
        )

    def _with(self, **changes: Any) -> Experiment:
        # pydantic's own copy would take along what is cached here
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        given = self.model_fields_set | changes.keys()
        return type(self).model_construct(given, **fields | changes)

    @cached_property
    def trials(self) -> tuple[TrialSpec, ...]:
        """Every trial once that is known before any is trained.

        Of a grid all, in the file's order, the seeds innermost; of a random search all; of a
        guided one the first ones.
        """
        if self.search.algorithm == "grid":
            return self._grid
        drawn = tuple(candidate.trial for candidate in self.points.values())
        return drawn[:FIRST_POINTS] if self.search.algorithm == "tpe" else drawn

    @cached_property
    def _grid(self) -> tuple[TrialSpec, ...]:
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

    @cached_property
    def cells(self) -> tuple[Experiment, ...]:
        """The cells of a search's grid, each an experiment of one cohort, method and so on.

        What the space searches makes no cells.
        """
        cells: dict[str, Experiment] = {}
        corner = {key: self.search.extremes(key)[0] for key in self.search.space}
        for cell in self._choices():
            cells.setdefault(cell.at(corner).trial_id, cell)
        return tuple(cells.values())

    def _choices(self) -> Iterator[Experiment]:
        for recipe, cohort, method, temperature in itertools.product(
            self.recipe, self.cohorts, self.methods, self.temperatures
        ):
            yield self._with(
                recipe=(recipe,),
                cohorts=(cohort,),
                methods=(method,),
                temperatures=(temperature,),
                search=Search(),
            )

    @cached_property
    def points(self) -> dict[str, Candidate]:
        """As many random points of the search as it has trials, by trial id. Raises FieldError."""
        asked = self.search.trials or 0
        points: dict[str, Candidate] = {}
        in_vain = 0
        for cell, point in self.search.draw(len(self.cells)):
            try:
                trial = self.cells[cell].at(point)
            except FieldError as error:
                problem = f"its point {point} is no trial: {error}"
                raise FieldError((("search", "space"), problem)) from None
            in_vain = in_vain + 1 if trial.trial_id in points else 0
            points.setdefault(trial.trial_id, Candidate(trial, cell, point))
            if len(points) == asked:
                break
            if in_vain == DRAWS_IN_VAIN:
                problem = f"must be at most {len(points)}, which is all that the space has"
                raise FieldError((("search", "trials"), f"{problem} (found {asked})"))
        return points

    def at(self, point: SearchPoint) -> TrialSpec:
        """The trial of a point in this experiment of one cell. Raises FieldError."""
        data = self.model_dump(exclude_unset=True, exclude={"search", "smoke"})
        data["recipe"], method = dict(data["recipe"][0]), self.methods[0]
        data["methods"] = [{method.name: dict(method.settings)}]
        for key, value in point.items():
            group, _, name = key.partition(".")
            if group == "temperature":
                data["temperatures"] = [value]
            elif group == "recipe":
                data["recipe"][name] = value
            elif group == "method":
                data["methods"][0][method.name][name] = value
            else:
                side = "teachers" if group.startswith("T") else "students"
                data["cohorts"][0][side][int(group[1:]) - 1][name] = value
        try:
            changed = type(self).model_validate(data)
        except ValidationError as error:
            raise field_error(error) from None
        (trial,) = changed._with(smoke=self.smoke)._grid
        return trial

    @model_validator(mode="after")
    def _search_is_possible(self) -> Experiment:
        search = self.search
        if search.scheduler != "none":
            for recipe in self.recipe:
                if search.grace_epochs >= recipe.epochs:
                    problem = f"must be below epochs = {recipe.epochs}"
                    problem += f" (found {search.grace_epochs})"
                    raise FieldError((("search", "grace_epochs"), problem))
                if search.scheduler == "pbt" and search.perturbation_epochs >= recipe.epochs:
                    problem = f"must be below epochs = {recipe.epochs}, or nothing is exchanged"
                    problem += f" (found {search.perturbation_epochs})"
                    raise FieldError((("search", "perturbation_epochs"), problem))
        if search.draws:
            self._check_what_is_searched()
        if search.draws or search.scheduler != "none":
            for trial in self.trials:
                if (unfit := metric_problem(search, trial)) is not None:
                    raise FieldError((("search", "metric"), unfit))
        return self

    def _check_what_is_searched(self) -> None:
        if len(self.seeds) > 1:
            problem = (
                "must be one in a search, which compares settings; compare the best of them over "
                f"several seeds in a grid (found {list(self.seeds)})"
            )
            raise FieldError((("seeds",), problem))
        for number, method in enumerate(self.methods):
            if not method.resolved.trains_together:
                problem = f"{method.name} trains each network in a trial of its own: use a grid"
                raise FieldError((("methods", number), problem))
        for key in self.search.space:
            self._check_key(key)
        if self.search.scheduler == "pbt" and len(self.cells) > 1:
            problem = "pbt needs one population: a single cohort, method, temperature and recipe"
            problem += f" (found {len(self.cells)} combinations)"
            raise FieldError((("search", "scheduler"), problem))
        _ = self.points

    def _check_key(self, key: str) -> None:
        """That a key of the space is one of every cell, with values that it may have."""
        changes = False
        for cell in self._choices():
            method, cohort = cell.methods[0], cell.cohorts[0]
            try:
                known_name("key", key, known_keys(cohort.resolve(cell.recipe[0]), method.settings))
            except SpecError as error:
                problem = f"{error}; asked of {in_short(cohort)} by {method.variant}"
                raise FieldError((("search", "space"), problem)) from None
            ids = set()
            for value in self.search.extremes(key):
                try:
                    ids.add(cell.at({key: value}).trial_id)
                except FieldError as error:
                    told = "; ".join(text for _, text in error.problems)
                    raise FieldError((("search", "space", key), told)) from None
            changes = changes or len(ids) > 1
        if not changes and len(self.search.extremes(key)) > 1:
            raise FieldError((("search", "space", key), "changes no trial"))

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
