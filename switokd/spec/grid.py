"""The grid of an experiment: every choice of recipe, cohort, method, temperature and seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from switokd.spec.entries import Cohort, FileRecipe
from switokd.spec.experiment_file import ExperimentFile
from switokd.spec.network import identified_weights
from switokd.spec.recipe import NetworkSpec, Recipe
from switokd.spec.search import Search
from switokd.spec.teaching import taught
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
    shared = {name: getattr(recipe, name) for name in Recipe.model_fields}
    # what the data set would choose is written out: stated or not, it is the same trial
    source = file.dataset.source
    shared["image_size"] = recipe.image_size or source.size_of(file.dataset.path)
    if recipe.augmentation == "default":
        shared["augmentation"] = source.augmentation
    common = {
        "experiment": file.name,
        **file.dataset.identified,
        "stand_in": file.smoke,
        "seed": seed,
        "recipe": Recipe(**shared),
        "resources": file.resources,
        "batch_norm_parts": file.resources.batch_norm_parts,
    }
    if file.smoke:
        # the images themselves are not used, nor need they be there
        common["dataset_digest"] = None
    for group in _trained_together(networks, method):
        if method.settings.trained_teacher:
            group = group | {"T1": taught(group["T1"], common)}
        yield TrialSpec(
            **common,
            networks=group,
            method=method,
            temperature=temperature if method.settings.uses_temperature else 1.0,
        )


def _trained_together(
    networks: dict[str, NetworkSpec], method: MethodSpec
) -> Iterator[dict[str, NetworkSpec]]:
    """The groups of a cohort's networks that are trained in a trial each.

    All of them; of a method without peers each alone; with a trained teacher each link.
    """
    if not method.settings.trains_together:
        yield from ({"S1": network} for network in networks.values() if not network.frozen)
    elif method.settings.trained_teacher:
        sides = [[n for n in networks if n.startswith(letter)] for letter in "TS"]
        for teacher, student in itertools.product(*sides):
            yield {"T1": _with_weights(networks[teacher], method), "S1": networks[student]}
    else:
        yield networks


def _with_weights(network: NetworkSpec, method: MethodSpec) -> NetworkSpec:
    """A teacher with the weights that the method's entry names, where it names some."""
    if method.teacher is None:
        return network
    found = identified_weights(method.teacher)
    return network.model_copy(update={**found, "frozen": True})
