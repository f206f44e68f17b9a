"""What the command line does with trained networks: score them, export them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from switokd import names
from switokd.cli.terminal import console
from switokd.data import DATASETS
from switokd.models import MODELS
from switokd.validation import SpecError, known_name


class WhichWeights(StrEnum):
    best = "best"
    last = "last"


RunId = Annotated[str, typer.Argument(help="an MLflow run", show_default=False)]
Network = Annotated[
    str | None, typer.Option(metavar="NAME", help="of a run: T1, S1, ...; default all")
]
Weights = Annotated[WhichWeights, typer.Option(help="of a run: of its best or its last epoch")]


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN_ID_OR_CHECKPOINT", help="an MLflow run, or a file", show_default=False
        ),
    ],
    network: Network = None,
    weights: Weights = WhichWeights.best,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="of a file that does not say it")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="of a file that does not say it")
    ] = None,
) -> None:
    """Score a trained network on the test set of its data."""
    for kind, name, known in (("network", model, MODELS), ("dataset", dataset, DATASETS)):
        if name is not None:
            known_name(kind, name, known)
    from switokd.inspection import weights as stored_weights
    from switokd.training.build import choose_device

    if Path(target).exists() or Path(target).suffix or "/" in target:
        if network is not None:
            raise SpecError(f"--network {network}: {target} is a file, which holds one network")
        stored = {"": stored_weights.read_weights(Path(target), model, dataset)}
    else:
        if model is not None or dataset is not None:
            raise SpecError(f"--model and --dataset are of a file; {target!r} is none")
        paths = fetch_weights(target, network, weights)
        stored = {name: stored_weights.read_weights(path) for name, path in paths.items()}
    table = Table(box=None, header_style="bold")
    rows = [
        {"network": f"{name} {entry.model}".strip(), "data": entry.dataset}
        | stored_weights.describe(stored_weights.evaluate(entry, choose_device("auto")))
        for name, entry in stored.items()
    ]
    for heading in rows[0]:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.values())
    console.print(table)


def export(
    run_id: RunId,
    network: Network = None,
    weights: Weights = WhichWeights.best,
) -> None:
    """Log trained networks to their run as MLflow models."""
    paths = fetch_weights(run_id, network, weights)
    from switokd.files.lock import writable
    from switokd.inspection.export import save_model
    from switokd.inspection.weights import read_weights
    from switokd.tracking import tracker as tracking

    for name, path in paths.items():
        folder = writable(Path("runs")) / "export" / run_id / name
        save_model(read_weights(path), folder)
        tracking.log_folder(run_id, folder, f"{names.MODELS_FOLDER}/{name}")
        address = f"runs:/{run_id}/{names.MODELS_FOLDER}/{name}"
        console.print(f"{name}  {address}", highlight=False, soft_wrap=True)
    console.print("read one: mlflow.pytorch.load_model(ADDRESS)", highlight=False)


def fetch_weights(run_id: str, network: str | None, weights: WhichWeights) -> dict[str, Path]:
    """Local copies of a run's weights by network; None for all. Raises SpecError."""
    from switokd.tracking import artifacts as run_files
    from switokd.tracking.address import StoreError, check_answers, default_uri

    try:
        # asked first: MLflow would create a SQLite file that is not there
        check_answers(default_uri())
    except StoreError as error:
        raise SpecError(f"{run_id!r} is no file, and {error}") from None
    return run_files.fetch_weights(run_id, network, weights.value)
