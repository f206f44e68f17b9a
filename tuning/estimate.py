"""What a sweep will cost: a few real steps of each kind of trial, timed and multiplied out."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import torch
from rich.console import Console
from rich.table import Table

from switokd import tracking
from switokd.experiment import Experiment
from switokd.spec import TrialSpec
from switokd.train import build_trainer, choose_device
from tuning.placement import Placement, place

WARMUP_STEPS = 2
TIMED_STEPS = 3


@dataclass(frozen=True)
class TrialCost:
    """One trial of the experiment: whether it has finished before, and its expected seconds."""

    trial: TrialSpec
    finished: bool
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """Every trial's cost on one machine, and how many run at once."""

    costs: tuple[TrialCost, ...]
    placement: Placement

    @property
    def device_seconds(self) -> float:
        return sum(cost.seconds for cost in self.costs if not cost.finished)

    @property
    def wall_seconds(self) -> float:
        """Trials handed to free slots in order; no shorter than the longest one."""
        free_at = [0.0] * self.placement.slots
        for cost in self.costs:
            if not cost.finished:
                free_at[free_at.index(min(free_at))] += cost.seconds
        return max(free_at)


def print_trials(experiment: Experiment, finished: set[str], console: Console) -> None:
    """The trials that the file expands to."""
    table = Table("trial", "pair", "method", "tau", "seed", "epochs", "state", box=None)
    for trial in experiment.trials:
        table.add_row(
            trial.trial_id,
            trial.pair,
            trial.method.variant,
            f"{trial.temperature:g}" if trial.method.resolved.uses_temperature else "-",
            str(trial.seed),
            str(trial.recipe.epochs),
            "finished" if trial.trial_id in finished else "to train",
        )
    console.print(table)


def estimate(experiment: Experiment, finished: set[str]) -> Estimate:
    """Time a few steps of each kind of trial in this process. Raises DataError."""
    trials = experiment.trials
    missing = [trial for trial in trials if trial.trial_id not in finished]
    cpus, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    placement = place(experiment.resources, max(1, len(missing)), cpus, gpus)
    torch.set_num_threads(placement.cpus)
    timed: dict[tuple[object, ...], float] = {}
    costs = []
    for trial in trials:
        done = trial.trial_id in finished
        # temperature and seed change no amount of work
        kind = (trial.pair, trial.method.variant, trial.recipe, trial.dataset)
        if not done and kind not in timed:
            timed[kind] = trial_seconds(trial)
        costs.append(TrialCost(trial, done, timed.get(kind, 0.0)))
    return Estimate(tuple(costs), placement)


def trial_seconds(trial: TrialSpec) -> float:
    """The expected seconds of one trial: timed steps and evaluation, times the epochs."""
    device = choose_device(trial.resources.gpus)
    trainer = build_trainer(trial, device)
    try:
        batches = trainer.data.train_epoch()
        times = []
        for _, (images, targets) in zip(range(WARMUP_STEPS + TIMED_STEPS), batches, strict=False):
            started = time.perf_counter()
            trainer.train_step(images, targets)
            trainer.timeline.flush()
            times.append(time.perf_counter() - started)
        timed = sorted(times[WARMUP_STEPS:] or times)
        started = time.perf_counter()
        trainer.evaluate(trainer.evaluation_split)
        evaluation = time.perf_counter() - started
        steps = trainer.data.steps_per_epoch
        return trainer.epochs * (steps * timed[len(timed) // 2] + evaluation)
    finally:
        trainer.data.close()


def print_estimate(cost: Estimate, console: Console) -> None:
    """Trials, hours, device hours and the time of finish at the given concurrency."""
    to_train = sum(not c.finished for c in cost.costs)
    wall = timedelta(seconds=round(cost.wall_seconds))
    finish = datetime.now() + wall
    device = "GPU" if cost.placement.gpus else "CPU"
    hours = cost.device_seconds * (cost.placement.gpus or cost.placement.cpus) / 3600
    console.print(
        f"{to_train} of {len(cost.costs)} trials to train, {cost.placement.slots} at once: "
        f"about {wall} ({hours:.2f} {device} hours), done at {finish:%Y-%m-%d %H:%M}",
        highlight=False,
        soft_wrap=True,
    )


def dry_run(experiment: Experiment, console: Console) -> None:
    """Print the trials and, from a few timed steps, their cost; trains nothing."""
    finished = tracking.finished_ids(experiment.name)
    print_trials(experiment, finished, console)
    print_estimate(estimate(experiment, finished), console)
