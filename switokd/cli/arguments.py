"""What several commands take and how they end: their arguments, statuses, and where they write."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from switokd.validation import DataError

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
RUNS = Path("runs")


class WhichWeights(StrEnum):
    best = "best"
    last = "last"


ExperimentFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT.yaml", help="what to train", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="override keys of the file: recipe.epochs=2"),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="an MLflow run, a trial, or the beginning of its id", show_default=False
    ),
]
Network = Annotated[
    str | None, typer.Option(metavar="NAME", help="of a run: T1, S1, ...; default all")
]
Weights = Annotated[WhichWeights, typer.Option(help="of a run: of its best or its last epoch")]


@contextmanager
def data_of(experiment: Path) -> Iterator[None]:
    """What is wrong with the data in the block is wrong with what this file names."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{experiment}: dataset: {error}") from None


def complain(line: str) -> None:
    """One line for whoever reads what went wrong."""
    print(line, file=sys.stderr)
