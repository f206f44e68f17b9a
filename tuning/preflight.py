"""What could only fail on a worker, found before one starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from switokd.data.parts import Part
from switokd.files.storage import open_folder
from switokd.spec.trial import TrialSpec
from switokd.tracking.address import is_local
from switokd.tracking.store import TrackedExperiment
from switokd.training.build import asked_stages, build_network, build_trial_method, open_data
from switokd.training.tryout import try_method
from switokd.validation import SpecError

# a method is tried with so many
TRIED_CLASSES = 10


def check_data(trials: Sequence[TrialSpec]) -> None:
    """Open each data set once, and the folder for checkpoints where they have an address; build
    and try what comes from outside once.

    Raises SpecError and DataError for what is missing or damaged.
    """
    seen = set()
    for trial in trials:
        recipe, ranks = trial.recipe, trial.resources.ranks
        request = (
            trial.dataset,
            trial.dataset_path,
            recipe.image_size,
            recipe.holdout,
            recipe.train_images,
            # whether several processes can divide its batches
            recipe.batch_size if ranks > 1 else None,
        )
        if request not in seen:
            seen.add(request)
            part = Part(0, ranks, shares_batch_norm=trial.batch_norm_parts == 1)
            open_data(trial, part=part).close()
    for storage in {trial.resources.storage for trial in trials} - {None}:
        try:
            open_folder(str(storage)).names()
        except OSError as error:
            reason = " ".join(str(error).split())
            raise SpecError(f"resources.storage: {storage} cannot be read: {reason}") from None
    check_outside(trials)


def check_outside(trials: Sequence[TrialSpec]) -> None:
    """Build and try once what comes from outside: networks, their weights and stages, methods.

    Raises SpecError.
    """
    seen: set[tuple[object, ...]] = set()
    for trial in trials:
        method = build_trial_method(trial)
        kind = (trial.method.model_dump_json(), trial.topology, trial.frozen)
        if trial.method.source is not None and kind not in seen:
            seen.add(kind)
            try_method(method, trial.method.name, TRIED_CLASSES)
        for name, spec in trial.networks.items():
            maps = method.demand(name).maps
            if spec.source is None and spec.weights_digest is None and not spec.stages:
                continue
            recipe = trial.recipe
            data = (trial.dataset, trial.dataset_path, recipe.image_size, recipe.precision)
            request = (*data, spec.model_dump_json(), maps)
            if request not in seen:
                seen.add(request)
                with open_data(trial) as opened:
                    network = build_network(trial, spec, 0, opened.num_classes, torch.device("cpu"))
                asked_stages(trial, method, name, network)


def check_store_is_shared(store: TrackedExperiment, nodes: int) -> None:
    """Raise SpecError where a cluster has nodes that do not reach the store."""
    if nodes > 1 and is_local(store.uri):
        raise SpecError(
            f"the cluster has {nodes} nodes, and {store.uri} is a file of this one: "
            "set MLFLOW_TRACKING_URI to a server that all nodes reach"
        )
