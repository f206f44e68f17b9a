"""The grid of an experiment: every choice of recipe, cohort, method, temperature and seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from switokd.data import describe
from switokd.spec.entries import Cohort, FileRecipe
from switokd.spec.experiment_file import ExperimentFile
from switokd.spec.recipe import Recipe
from switokd.spec.search import Search
from switokd.spec.trial import MethodSpec, TrialSpec


def grid(file: ExperimentFile) -> tuple[TrialSpec, ...]:
    """Every trial of the grid, in the file's order, the seeds innermost."""
    choices = itertools.product(
        file.recipe, file.cohorts, file.methods, file.temperatures, file.seeds
    )
    trials = (trial for choice in choices for trial in _resolve(file, *choice))
    # vanilla networks are shared by cohorts, and some methods have no temperature
    return tuple({trial.trial_id: trial for trial in trials}.values())


def single_choices(file: ExperimentFile) -> Iterator[ExperimentFile]:
    """The file once for each recipe, cohort, method and temperature, without its search."""
    for recipe, cohort, method, temperature in itertools.product(
        file.recipe, file.cohorts, file.methods, file.temperatures
    ):
        yield file.with_changes(
            recipe=(recipe,),
            cohorts=(cohort,),
            methods=(method,),
            temperatures=(temperature,),
            search=Search(),
        )


def _resolve(
    file: ExperimentFile,
    recipe: FileRecipe,
    cohort: Cohort,
    method: MethodSpec,
    temperature: float,
    seed: int,
) -> Iterable[TrialSpec]:
    networks = cohort.resolve(recipe)
    together = method.settings.trains_together
    shared = {name: getattr(recipe, name) for name in Recipe.model_fields}
    # what the data set would choose is written out: stated or not, it is the same trial
    source = describe(file.dataset.name)
    shared["image_size"] = recipe.image_size or source.size_of(file.dataset.path)
    if recipe.augmentation == "default":
        shared["augmentation"] = source.augmentation
    alone = [{"S1": network} for network in networks.values() if not network.frozen]
    for group in [networks] if together else alone:
        yield TrialSpec(
            experiment=file.name,
            dataset=file.dataset.name,
            dataset_path=file.dataset.path,
            stand_in=file.smoke,
            networks=group,
            method=method,
            temperature=temperature if method.settings.uses_temperature else 1.0,
            seed=seed,
            recipe=Recipe(**shared),
            resources=file.resources,
        )
