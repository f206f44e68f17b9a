"""The files of a tracked run: fetched from it, and added to it when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from switokd.store_address import default_uri
from switokd.tracking import WEIGHTS_FOLDER, TrackingError, answering, client


def fetch_weights(run_id: str, network: str | None, which: str) -> dict[str, Path]:
    """Local copies of a run's weights by network; `network` None for all, `which` best or last.

    Raises TrackingError for a run that is not there or has no such weights.
    """
    uri = default_uri()
    mlflow_client = client(uri)
    try:
        listed = mlflow_client.list_artifacts(run_id, WEIGHTS_FOLDER)
        names = {Path(file.path).name.removesuffix(f"-{which}.pt"): file.path for file in listed}
        found = {name: path for name, path in names.items() if path.endswith(f"-{which}.pt")}
        chosen = {name: path for name, path in found.items() if network in (None, name)}
        paths = {n: Path(mlflow_client.download_artifacts(run_id, p)) for n, p in chosen.items()}
    except Exception as error:
        raise TrackingError(f"run {run_id!r} in {uri}: {' '.join(str(error).split())}") from None
    if not paths:
        wanted = f"{which} weights of {network!r}" if network else f"{which} weights"
        has = ", ".join(found) or "none"
        raise TrackingError(f"run {run_id!r} in {uri} has no {wanted} (it has those of: {has})")
    return paths


def log_files(run_id: str, files: Sequence[Path], folder: str) -> None:
    """Log files to a run that has ended. Raises TrackingError."""
    uri = default_uri()
    with answering(uri):
        for path in files:
            client(uri).log_artifact(run_id, str(path), folder)


def log_folder(run_id: str, folder: Path, name: str) -> None:
    """Log a folder's files to a run that has ended, as `name`. Raises TrackingError."""
    uri = default_uri()
    with answering(uri):
        client(uri).log_artifacts(run_id, str(folder), name)
