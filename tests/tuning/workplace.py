"""A place to run real sweeps in: a folder, an experiment file, and the store that it leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from switokd import names
from switokd.spec.experiment import Experiment, load_experiment
from switokd.spec.trial import TrialSpec
from switokd.train import run
from tests.forks import forking
from tests.forks.command import Command
from tests.forks.gate import HELD, STEPS
from tests.forks.sitecustomize import HOOK
from tests.processes import RAY_SETTINGS
from tests.shared_folder import put_empty_store


class Workplace:
    """A user's folder: what is started here finds its files, data and store here.

    The store is there already, empty, but where `new_store` leaves it to the first command. `path`:
    where its processes look for modules too. `hook`: a file that each of them runs as it begins.
    """

    def __init__(
        self,
        folder: Path,
        *,
        new_store: bool = False,
        path: Path | None = None,
        hook: Path | None = None,
        **environment: str,
    ) -> None:
        self.folder = folder
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))},
            "COLUMNS": "200",
            "OMP_NUM_THREADS": "1",
            **RAY_SETTINGS,
            **forking(*filter(None, [path])),
            **({HOOK: str(hook)} if hook else {}),
            **environment,
        }
        self.started: list[Command] = []
        if not new_store and "MLFLOW_TRACKING_URI" not in environment:
            put_empty_store(folder / "runs" / "mlflow.db")

    def close(self) -> None:
        """End what still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()

    @property
    def file(self) -> Path:
        return self.folder / "experiment.yaml"

    def write(self, content: dict[str, Any]) -> Experiment:
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return load_experiment(self.file)

    def start(self, *arguments: str) -> Command:
        """A `switokd` of its own process group, like one in a shell's foreground."""
        process = Command(arguments, self.folder, self.environment)
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit status and everything printed."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def sweep(self, *arguments: str, status: int = 0) -> str:
        """What a sweep prints that ends with that status."""
        return self.start("sweep", self.file.name, *arguments).ended(status)

    def train_alone(self, trial: TrialSpec) -> Path:
        """The folder of the trial, trained undisturbed in this process on one thread."""
        return run(trial, runs=self.folder / "alone", threads=1).folder

    def let(self, steps: int | None, *trials: TrialSpec) -> None:
        """Hold trials when they have done so many steps, or hold them no longer."""
        for trial in trials:
            gate = self.folder / STEPS.format(trial.trial_id)
            (self.folder / HELD.format(trial.trial_id)).unlink(missing_ok=True)
            if steps is None:
                gate.unlink()
            else:
                # who reads it finds the old number or the new one
                new = gate.with_suffix(".new")
                new.write_text(str(steps), encoding="utf-8")
                new.replace(gate)

    def held(self, trial: TrialSpec) -> bool:
        """Whether it has done all steps that it may, the last of them after a checkpoint."""
        try:
            done = (self.folder / HELD.format(trial.trial_id)).read_text()
        except OSError:
            return False
        return done == (self.folder / STEPS.format(trial.trial_id)).read_text()

    def trial_folder(self, trial: TrialSpec) -> Path:
        return self.folder / "runs" / trial.experiment / "trials" / trial.trial_id

    def checkpoints(self, trial: TrialSpec) -> list[Path]:
        return sorted((self.trial_folder(trial) / "checkpoints").glob("step-*.pt"))

    def worker_pid(self, trial: TrialSpec) -> int | None:
        """The process that trains or trained the trial."""
        try:
            pid: int = json.loads((self.trial_folder(trial) / "lock").read_text())["pid"]
        except (OSError, ValueError):
            return None
        return pid

    @property
    def client(self) -> MlflowClient:
        local = f"sqlite:///{self.folder / 'runs' / 'mlflow.db'}"
        return MlflowClient(self.environment.get("MLFLOW_TRACKING_URI", local))

    def runs(self, experiment: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
        found = self.client.get_experiment_by_name(experiment)
        return list(self.client.search_runs([found.experiment_id], run_view_type=view))

    def trial_runs(self, experiment: str) -> dict[str, Run]:
        """The runs by trial id; fails where a trial has two."""
        runs = [run for run in self.runs(experiment) if names.TRIAL_ID in run.data.tags]
        by_id = {run.data.tags[names.TRIAL_ID]: run for run in runs}
        assert len(by_id) == len(runs), "a trial has several runs"
        return by_id

    def series(self, run: Run) -> dict[str, dict[int, float]]:
        """Every series as step -> value; fails where a step has two values."""
        series = {}
        for name in run.data.metrics:
            points = self.client.get_metric_history(run.info.run_id, name)
            series[name] = {point.step: point.value for point in points}
            assert len(series[name]) == len(points), f"{name} has a step twice"
        return series


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The networks that a trial left in its folder, by file name."""
    files = sorted((folder / "weights").glob("*.pt"))
    return {path.name: torch.load(path, weights_only=True)["state_dict"] for path in files}


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one
    assert one.keys() == other.keys()
    for file, state in one.items():
        for key, tensor in state.items():
            assert torch.equal(tensor, other[file][key]), (file, key)


def small_experiment(**changes: Any) -> dict[str, Any]:
    """Few digits, two small networks, a second a trial, on one core also where it is alone."""
    recipe = {"epochs": 1, "batch_size": 64, "train_images": 200}
    recipe |= {"learning_rate": 0.05, "image_size": 8}
    return {
        "name": "small",
        "dataset": "digits",
        "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
        "methods": ["vanilla", "dml", "switokd"],
        "recipe": recipe | changes.pop("recipe", {}),
        "resources": {"cpus": 1} | changes.pop("resources", {}),
        **changes,
    }


def small_trials(**changes: Any) -> tuple[TrialSpec, ...]:
    """The trials of such an experiment."""
    return Experiment.model_validate(small_experiment(**changes)).trials
