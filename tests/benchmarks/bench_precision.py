"""bf16 against fp32: the final accuracy of the same trials, over seeds, on digits."""

from __future__ import annotations

import argparse
import statistics
import tempfile

from rich.console import Console
from rich.table import Table

from switokd.spec.experiment import Experiment
from switokd.train import run

THREADS = 2


def accuracies(precision: str, seeds: list[int], epochs: int) -> list[float]:
    """Last top-1 in percent of the student of a SwitOKD pair, one per seed."""
    experiment = Experiment.model_validate(
        {
            "name": f"precision-{precision}",
            "dataset": "digits",
            "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
            "methods": ["switokd"],
            "seeds": seeds,
            "recipe": {
                "epochs": epochs,
                "batch_size": 64,
                "learning_rate": 0.05,
                "milestones": [max(2, epochs - 1)],
                "image_size": 8,
                "precision": precision,
            },
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        return [
            run(trial, runs=folder, threads=THREADS).metrics["last_val_top1/S1"]
            for trial in experiment.trials
        ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args(arguments)
    seeds = list(range(options.seeds))
    table = Table("precision", "mean %", "deviation", *(f"seed {s}" for s in seeds), box=None)
    for precision in ("fp32", "bf16"):
        values = accuracies(precision, seeds, options.epochs)
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        table.add_row(precision, f"{mean:.2f}", f"{deviation:.2f}", *(f"{v:.2f}" for v in values))
    console = Console(width=120)
    console.print("digits 8 x 8, wrn_16_1>resnet20, switokd: last top-1 of the student")
    console.print(table)


if __name__ == "__main__":
    main()
