"""The files of a tracked run, fetched."""

from __future__ import annotations

from pathlib import Path

from switokd import names
from switokd.tracking.address import default_uri
from switokd.tracking.retry import TrackingError, in_one_line
from switokd.tracking.tracker import client


def fetch_weights(run_id: str, network: str | None, which: str) -> dict[str, Path]:
    """Local copies of a run's weights by network; `network` None for all, `which` best or last.

    Raises TrackingError for a run that is not there or has no such weights.
    """
    uri = default_uri()
    mlflow_client = client(uri)
    try:
        listed = mlflow_client.list_artifacts(run_id, names.WEIGHTS_FOLDER)
        every = {Path(file.path).name.removesuffix(f"-{which}.pt"): file.path for file in listed}
        found = {name: path for name, path in every.items() if path.endswith(f"-{which}.pt")}
        chosen = {name: path for name, path in found.items() if network in (None, name)}
        paths = {n: Path(mlflow_client.download_artifacts(run_id, p)) for n, p in chosen.items()}
    except Exception as error:
        raise TrackingError(f"run {run_id!r} in {uri}: {in_one_line(error)}") from None
    if not paths:
        wanted = f"{which} weights of {network!r}" if network else f"{which} weights"
        has = ", ".join(found) or "none"
        raise TrackingError(f"run {run_id!r} in {uri} has no {wanted} (it has those of: {has})")
    return paths
