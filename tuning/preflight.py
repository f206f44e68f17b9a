"""What could only fail on a worker, found before one starts."""

from __future__ import annotations

from collections.abc import Sequence

from switokd.files.storage import open_folder
from switokd.spec.trial import TrialSpec
from switokd.tracking.address import is_local
from switokd.tracking.store import TrackedExperiment
from switokd.training.build import open_data
from switokd.validation import SpecError


def check_data(trials: Sequence[TrialSpec]) -> None:
    """Open each data set once, and the folder for checkpoints where they have an address.

    Raises SpecError and DataError for what is missing or damaged.
    """
    seen = set()
    for trial in trials:
        recipe = trial.recipe
        request = (
            trial.dataset,
            trial.dataset_path,
            recipe.image_size,
            recipe.holdout,
            recipe.train_images,
        )
        if request not in seen:
            seen.add(request)
            open_data(trial).close()
    for storage in {trial.resources.storage for trial in trials} - {None}:
        try:
            open_folder(str(storage)).names()
        except OSError as error:
            reason = " ".join(str(error).split())
            raise SpecError(f"resources.storage: {storage} cannot be read: {reason}") from None


def check_store_is_shared(store: TrackedExperiment, nodes: int) -> None:
    """Raise SpecError where a cluster has nodes that do not reach the store."""
    if nodes > 1 and is_local(store.uri):
        raise SpecError(
            f"the cluster has {nodes} nodes, and {store.uri} is a file of this one: "
            "set MLFLOW_TRACKING_URI to a server that all nodes reach"
        )
