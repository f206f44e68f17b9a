"""bf16 against fp32: the final accuracy of the same trials, over seeds."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from switokd.spec.experiment import Experiment
from switokd.train import run

THREADS = 2
METRICS = ("last_val_top1/S1", "last_val_top1/T1", "expert_share/T1-S1", "train_seconds")


def trained(options: argparse.Namespace, precision: str) -> list[dict[str, float]]:
    """What METRICS came to, seed by seed, of a SwitOKD pair."""
    experiment = Experiment.model_validate(
        {
            "name": f"precision-{precision}",
            "dataset": options.dataset,
            "cohorts": [{"teachers": [options.teacher], "students": [options.student]}],
            "methods": ["switokd"],
            "seeds": list(range(options.seeds)),
            "recipe": {
                "epochs": options.epochs,
                "batch_size": options.batch_size,
                "learning_rate": 0.05,
                "milestones": [max(2, options.epochs - 1)],
                "image_size": options.image_size,
                "precision": precision,
                "engine": options.engine,
            },
        }
    )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for trial in experiment.trials:
            metrics = run(trial, runs=folder, threads=THREADS).metrics
            found.append({name: metrics[name] for name in METRICS})
            print(precision, trial.seed, found[-1], file=sys.stderr, flush=True)
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--teacher", default="wrn_16_1")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--image-size", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--json", type=Path, help="write every figure there as well")
    options = parser.parse_args(arguments)
    headings = (f"seed {seed}" for seed in range(options.seeds))
    table = Table("what", "precision", "mean", "deviation", *headings, box=None)
    results = {precision: trained(options, precision) for precision in ("fp32", "bf16")}
    for name in METRICS:
        for precision, found in results.items():
            values = [metrics[name] for metrics in found]
            row = (statistics.mean(values), statistics.stdev(values), *values)
            table.add_row(name, precision, *(f"{value:.2f}" for value in row))
    console = Console(width=120)
    console.print(
        f"{options.dataset} {options.image_size} x {options.image_size}, "
        f"{options.teacher} > {options.student}, switokd, {options.epochs} epochs of batches of "
        f"{options.batch_size}, {options.engine}"
    )
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
