"""What the command line does with trained networks: score, explain and export them; the zoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from switokd import names
from switokd.cli.arguments import RUNS, Network, RunName, Weights, WhichWeights
from switokd.cli.terminal import console
from switokd.data import checked_dataset
from switokd.models import MODELS, checked_model
from switokd.spec.dataset import dataset_name
from switokd.user_modules import add_to_path
from switokd.validation import SpecError


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_CHECKPOINT", help="a run, a trial or a file", show_default=False
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
    for name, check in ((model, checked_model), (dataset, checked_dataset)):
        if name is not None:
            check(name)
    add_to_path(Path.cwd())
    from switokd.inspection import weights as stored_weights
    from switokd.training.build import choose_device

    if Path(target).exists() or Path(target).suffix or "/" in target:
        if network is not None:
            raise SpecError(f"--network {network}: {target} is a file, which holds one network")
        stored = {"": stored_weights.read_weights(Path(target), model, dataset)}
    else:
        if model is not None or dataset is not None:
            raise SpecError(f"--model and --dataset are of a file; {target!r} is none")
        _, paths = fetch_weights(target, network, weights)
        stored = {name: stored_weights.read_weights(path) for name, path in paths.items()}
    table = Table(box=None, header_style="bold")
    rows = [
        {
            "network": f"{name} {entry.label}".strip(),
            # as the comparison calls it
            "data": dataset_name(entry.dataset, entry.dataset_path),
        }
        | stored_weights.in_words(stored_weights.evaluate(entry, choose_device()))
        for name, entry in stored.items()
    ]
    for heading in rows[0]:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row.values())
    console.print(table)


def export(
    run: RunName,
    network: Network = None,
    weights: Weights = WhichWeights.best,
) -> None:
    """Log trained networks to their run as MLflow models."""
    run_id, paths = fetch_weights(run, network, weights)
    from switokd.files.lock import writable
    from switokd.inspection.export import save_model
    from switokd.inspection.weights import read_weights
    from switokd.tracking.address import default_uri
    from switokd.tracking.artifacts import log_model
    from switokd.tracking.run_names import find_run

    mlflow_run = find_run(run_id)
    for name, path in paths.items():
        folder = writable(RUNS) / "export" / run_id / name
        about = save_model(read_weights(path), folder)
        facts = {key: str(about[key]) for key in ("model", "dataset", "image_size")}
        address = log_model(
            mlflow_run, f"{name}-{weights.value}", folder, {"network": name} | facts
        )
        console.print(f"{name}  {address}", highlight=False, soft_wrap=True)
    console.print(
        f"read one in Python: mlflow.set_tracking_uri({default_uri()!r}), then "
        "mlflow.pyfunc.load_model(ADDRESS).predict(IMAGES), with images as uint8 or as floats from "
        "0 to 1",
        highlight=False,
        soft_wrap=True,
    )


def explain(
    run: RunName,
    images: Annotated[int, typer.Option(min=1, max=50, help="how many to show")] = 8,
    weights: Weights = WhichWeights.best,
) -> None:
    """Show where teacher and student look (Grad-CAM)."""
    run_id, paths = fetch_weights(run, None, weights)
    from dashboards.figures import heat_maps
    from switokd.files.lock import writable
    from switokd.inspection import explain as grad_cam
    from switokd.inspection.weights import read_weights
    from switokd.tracking import tracker as tracking
    from switokd.training.build import choose_device

    stored = {name: read_weights(path) for name, path in paths.items()}
    explanation = grad_cam.explain(stored, images, choose_device())
    shown_as = {name: f"{name} {model}" for name, model in explanation.models.items()}
    overlays = heat_maps.overlay_figure(
        explanation.images,
        explanation.maps,
        shown_as,
        explanation.classes,
        explanation.predicted,
    )
    surfaces = heat_maps.surface_figure(explanation.maps, shown_as, explanation.classes)
    numbers = explanation.numbers()
    folder = writable(RUNS) / "explain" / run_id
    files = {
        "heat_maps.png": heat_maps.png(overlays),
        "surfaces.html": heat_maps.surface_page(surfaces).encode(),
        names.HEAT_MAPS_FILE: explanation.arrays(),
        names.AGREEMENT_FILE: json.dumps(numbers, indent=2).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    tracking.log_folder(run_id, folder, names.EXPLAIN_FOLDER)
    for name, value in numbers.items():
        console.print(f"{name:28} {value:.4g}", highlight=False)
    console.print(f"in the run's artifacts and in {folder}", highlight=False, soft_wrap=True)


def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="as in an experiment file: resnet20, torchvision/NAME, timm/NAME, module:callable",
        ),
    ] = None,
    image_size: Annotated[
        int, typer.Option(min=4, max=4096, help="of the images that are computed with, in pixels")
    ] = 32,
) -> None:
    """List networks: parameters, multiply-adds, time."""
    add_to_path(Path.cwd())
    from switokd.inspection.zoo_cost import zoo_cost

    columns = ("name", "classes", "parameters", "multiply-adds", "ms an image", "reference")
    size = f"multiply-adds and time of an image of {image_size} x {image_size} pixels"
    table = Table(*columns, box=None, header_style="bold", caption=size, caption_justify="left")
    for name in names or MODELS:
        card, cost = zoo_cost(checked_model(name), image_size)
        table.add_row(
            name,
            str(card.nominal_classes),
            f"{card.parameters:,}",
            f"{cost.multiply_adds:,}",
            f"{cost.milliseconds:.2f}",
            card.reference,
        )
    console.print(table)


def fetch_weights(
    name: str, network: str | None, weights: WhichWeights
) -> tuple[str, dict[str, Path]]:
    """The id of the run that is meant, and copies of its weights by network; None for all."""
    from switokd.tracking import artifacts
    from switokd.tracking.address import StoreError
    from switokd.tracking.run_names import find_run

    try:
        run_id = find_run(name).info.run_id
    except StoreError as error:
        raise SpecError(f"{name!r} is no file, and {error}") from None
    return run_id, artifacts.fetch_weights(run_id, network, weights.value)
