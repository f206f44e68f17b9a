"""The smoke form of an experiment: the same road on a few stand-in images, in about a minute."""

from __future__ import annotations

from typing import TypeVar

from switokd.spec.experiment_file import ExperimentFile

EPOCHS = 2
BATCH_SIZE = 8
POINTS = 2
# of so few images a smaller share is none
SMALLEST_HOLDOUT = 0.2

File = TypeVar("File", bound=ExperimentFile)


def smoke_form(file: File) -> File:
    """Stand-in images, two epochs, one seed, its own name; of a search two points."""
    recipes = []
    for recipe in file.recipe:
        batch_size = max(BATCH_SIZE, 2 * file.resources.ranks)
        small: dict[str, float | None] = {"epochs": EPOCHS, "batch_size": batch_size}
        if recipe.holdout:
            small["holdout"] = max(recipe.holdout, SMALLEST_HOLDOUT)
        # all of the few that there are
        small |= {"warmup_epochs": 0, "train_images": None}
        milestones = recipe.milestones[:1] and (EPOCHS,)
        recipes.append(recipe.model_copy(update={**small, "milestones": milestones}))
    few = min(POINTS, file.search.trials or POINTS) if file.search.draws else None
    search = {"trials": few, "grace_epochs": 1, "perturbation_epochs": 1}
    return file.with_changes(
        name=f"{file.name}-smoke",
        seeds=file.seeds[:1],
        recipe=tuple(dict.fromkeys(recipes)),
        search=file.search.model_copy(update=search),
    )
