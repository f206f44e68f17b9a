"""A run's networks as files: weights fetched from the store, and models in MLflow's format."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from switokd import names
from switokd.tracking.address import default_uri
from switokd.tracking.client import open_client
from switokd.tracking.retry import TrackingError, tracking_errors
from switokd.tracking.store import TrackingStore

if TYPE_CHECKING:
    from mlflow.entities import Run


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
    folder: Path,
    files: Mapping[str, Path],
    classes: int,
    versions: Mapping[str, str],
    about: Mapping[str, Any],
) -> None:
    """Write a network as an MLflow model to `folder`, with its preprocessing and its signature.

    `files` are its graph (`network`) and what `exported_classifier` must know (`about`);
    `versions` what it needs, by package; `about` goes into its metadata.
    """
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    # its advice on formats and on what it would pin is not for the user
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    text = np.dtype("object")
    signature = ModelSignature(
        # any array of images: MLflow has no type that stands for both uint8 and floats
        inputs=Schema([TensorSpec(text, (-1,))]),
        outputs=Schema(
            [
                TensorSpec(np.dtype("float32"), (-1, classes), "logits"),
                TensorSpec(text, (-1,), "class"),
            ]
        ),
    )
    with warnings.catch_warnings():
        # it would like an example of the input, which is as large as the images
        warnings.simplefilter("ignore", UserWarning)
        pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("exported_classifier.py")),
            artifacts={name: str(path) for name, path in files.items()},
            signature=signature,
            pip_requirements=[f"{name}=={version}" for name, version in versions.items()],
            metadata=dict(about),
        )


def log_model(run: Run, name: str, folder: Path, params: Mapping[str, str]) -> str:
    """Log a saved model as one of the run's; its address (`models:/...`). Raises TrackingError.

    The run itself is left as it ended.
    """
    from mlflow.entities import LoggedModelOutput

    uri = default_uri()
    with tracking_errors(uri):
        client = open_client(uri)
        model = client.create_logged_model(
            run.info.experiment_id,
            name=name,
            source_run_id=run.info.run_id,
            params=dict(params),
            model_type="classifier",
        )
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return f"models:/{model.model_id}"
