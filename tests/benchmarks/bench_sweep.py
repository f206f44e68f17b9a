"""What a sweep adds to its trials: wall time beside the ideal, seconds a short trial, memory.

Real sweeps by the command line, in a folder of their own, with a store in SQLite.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from switokd import names

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.yaml"
COMMAND = [
    sys.executable,
    "-c",
    "from switokd.cli.main import main; main()",
    "sweep",
    "experiment.yaml",
]
SLOTS = 2


def sweep(content: dict[str, Any]) -> tuple[list[Run], list[tuple[int, float]]]:
    """The finished trial runs of a sweep, and the driver's MiB by the number of finished trials."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "experiment.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        away = ("RAY_", "MLFLOW_", "SWITOKD_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(away)}
        with (folder / "log").open("w") as log:
            driver = subprocess.Popen(COMMAND, cwd=folder, env=environment, stdout=log, stderr=log)
            memory = []
            while driver.poll() is None:
                finished = (folder / "log").read_text(encoding="utf-8").count("\nfinished")
                memory.append((finished, resident_mib(driver.pid)))
                time.sleep(1)
        if driver.returncode:
            raise SystemExit((folder / "log").read_text(encoding="utf-8")[-3000:])
        client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
        found = client.get_experiment_by_name(content["name"])
        runs: list[Run] = []
        token = None
        while token is not None or not runs:
            page = client.search_runs([found.experiment_id], max_results=1000, page_token=token)
            runs += page
            token = page.token
        return [run for run in runs if names.TRIAL_ID in run.data.tags], memory


def resident_mib(pid: int) -> float:
    """What a process has in memory; 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def seconds_between_first_and_last(runs: list[Run]) -> float:
    """From the first trial's start to the last one's end."""
    started = min(run.info.start_time for run in runs)
    return (max(run.info.end_time for run in runs) - started) / 1000


def short_trials(count: int) -> dict[str, Any]:
    """Trials of one small step each."""
    return {
        "name": "short",
        "dataset": "digits",
        "cohorts": [{"teachers": ["resnet20"], "students": ["resnet20"]}],
        "methods": ["vanilla"],
        "seeds": list(range(count)),
        # of the training images 71 are left, which is one batch
        "recipe": {"epochs": 1, "batch_size": 128, "holdout": 0.95, "image_size": 4},
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", type=int, default=200, help="how many one-step trials")
    parser.add_argument("--no-quickstart", action="store_true")
    options = parser.parse_args(arguments)
    if not options.no_quickstart:
        runs, _ = sweep(yaml.safe_load(QUICKSTART.read_text(encoding="utf-8")))
        wall = seconds_between_first_and_last(runs)
        ideal = sum(run.data.metrics["train_seconds"] for run in runs) / SLOTS
        print(f"quickstart: {len(runs)} trials in {wall:.1f} s; ideal {ideal:.1f} s, ", end="")
        print(f"ratio {wall / ideal:.3f} (goal 1.10)", flush=True)
    runs, memory = sweep(short_trials(options.short))
    wall = seconds_between_first_and_last(runs)
    print(f"{len(runs)} one-step trials: {wall / len(runs):.2f} s each (goal 0.40)")
    at_100 = next((mib for finished, mib in memory if finished >= 100), 0.0)
    # before the comparison, whose libraries are another matter
    trial, last = next((f, mib) for f, mib in reversed(memory) if f < len(runs))
    print(f"driver: {at_100:.0f} MiB at trial 100, {last:.0f} MiB at trial {trial}")


if __name__ == "__main__":
    main()
