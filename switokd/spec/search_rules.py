"""Whether an experiment can be searched as its file says, found without drawing a point."""

from __future__ import annotations

from switokd.spec.candidates import Cell, cells, corner_of, size_of
from switokd.spec.entries import in_short
from switokd.spec.experiment_file import ExperimentFile
from switokd.spec.grid import grid, single_choices
from switokd.spec.search import metric_problem
from switokd.spec.space import known_keys
from switokd.validation import FieldError, Problem, SpecError, known_name


def check_search(file: ExperimentFile) -> None:
    """Raise FieldError for a search that does not fit the rest of its file."""
    search = file.search
    if search.is_population and file.resources.ranks > 1:
        problem = f"must be another where {file.resources.ranks} processes train a trial"
        raise FieldError((("search", "scheduler"), f"{problem} (found {search.scheduler})"))
    if search.judges_early:
        _check_epochs(file)
    trials = grid(file) if search.judges_early and not search.draws else ()
    if search.draws:
        _check_axes(file)
        for key in search.space:
            _check_key(file, key)
        its_cells = cells(file)
        _check_number(file, len(its_cells))
        trials = tuple(cell.at(corner_of(file)) for cell in its_cells)
    for trial in trials:
        if (unfit := metric_problem(search, trial)) is not None:
            raise FieldError((("search", "metric"), unfit))


def _check_epochs(file: ExperimentFile) -> None:
    limits = {"grace_epochs": ""}
    if file.search.is_population:
        limits["perturbation_epochs"] = ", or nothing is exchanged"
    for recipe in file.recipe:
        for key, why in limits.items():
            found = getattr(file.search, key)
            if found >= recipe.epochs:
                problem = f"must be below epochs = {recipe.epochs}{why} (found {found})"
                raise FieldError((("search", key), problem))


def _check_axes(file: ExperimentFile) -> None:
    """That what is not searched is one choice, where the search could not tell several apart."""
    if len(file.seeds) > 1:
        problem = (
            "must be one in a search, which compares settings; compare the best of them over "
            f"several seeds in a grid (found {list(file.seeds)})"
        )
        raise FieldError((("seeds",), problem))
    for number, method in enumerate(file.methods):
        if not method.settings.trains_together:
            problem = f"{method.name} trains each network in a trial of its own: use a grid"
            raise FieldError((("methods", number), problem))


def _check_number(file: ExperimentFile, cell_count: int) -> None:
    search, problems = file.search, list[Problem]()
    if search.is_population and cell_count > 1:
        problem = f"{search.scheduler} needs one population: a single cohort, method, temperature "
        problem += f"and recipe (found {cell_count} combinations)"
        problems.append((("search", "scheduler"), problem))
    most, asked = size_of(file, cell_count), search.trials or 0
    if asked > most:
        problem = f"must be at most {most:g}, which is all that the space has (found {asked})"
        problems.append((("search", "trials"), problem))
    if problems:
        raise FieldError(*problems)


def _check_key(file: ExperimentFile, key: str) -> None:
    """That a key of the space is one of every cell, with values that it may have."""
    changes = False
    values = file.search.extremes(key)
    for choice in single_choices(file):
        method, cohort = choice.methods[0], choice.cohorts[0]
        settings = type(method.settings).model_fields
        try:
            known_name("key", key, known_keys(cohort.resolve(choice.recipe[0]), settings))
        except SpecError as error:
            problem = f"{error}; asked of {in_short(cohort)} by {method.variant}"
            raise FieldError((("search", "space"), problem)) from None
        ids = set()
        teachers = set()
        for value in values:
            try:
                trial = Cell(choice).at({key: value})
                ids.add(trial.trial_id)
                teachers |= set(trial.trained_by.values())
            except FieldError as error:
                told = "; ".join(text for _, text in error.problems)
                raise FieldError((("search", "space", key), told)) from None
        changes = changes or len(ids) > 1
        if len(teachers) > 1 and (file.search.is_guided or file.search.is_population):
            problem = f"changes how the teacher of {method.name} is trained, which comes first: "
            problem += "take a random search or a grid, or name the teacher's weights"
            raise FieldError((("search", "space", key), problem))
    if not changes and len(values) > 1:
        raise FieldError((("search", "space", key), "changes no trial"))
