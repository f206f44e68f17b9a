"""A run's networks as files: weights fetched from the store, and models in MLflow's format."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switokd import names
from switokd.tracking.address import default_uri
from switokd.tracking.retry import TrackingError
from switokd.tracking.store import TrackingStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def fetch_weights(run_id: str, network: str | None, which: str) -> dict[str, Path]:
    """Local copies of a run's weights by network; `network` None for all, `which` best or last.

    Raises TrackingError for a run that is not there or has no such weights.
    """
    store = TrackingStore(default_uri())
    listed = store.artifacts(run_id, names.WEIGHTS_FOLDER)
    every = {Path(path).name.removesuffix(f"-{which}.pt"): path for path in listed}
    found = {name: path for name, path in every.items() if path.endswith(f"-{which}.pt")}
    chosen = {name: path for name, path in found.items() if network in (None, name)}
    if not chosen:
        wanted = f"{which} weights of {network!r}" if network else f"{which} weights"
        has = ", ".join(found) or "none"
        raise TrackingError(
            f"run {run_id!r} in {store.uri} has no {wanted} (it has those of: {has})"
        )
    return {name: store.download(run_id, path) for name, path in chosen.items()}


def save_model(
    network: Any,
    images: NDArray[np.float32],
    logits: NDArray[np.float32],
    folder: Path,
    versions: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Write a network as an MLflow model to `folder`, with the signature of images and logits.

    `versions` are what it needs, by package; `about` goes with it.
    """
    from mlflow import pytorch
    from mlflow.models import infer_signature

    # its advice on formats and on what it would pin is not for the user
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    pytorch.save_model(
        network,
        str(folder),
        signature=infer_signature(images, logits),
        input_example=images,
        # a traced graph, which holds no code that runs when it is read
        serialization_format="pt2",
        pip_requirements=[f"{name}=={version}" for name, version in versions.items()],
        metadata=dict(about),
    )
