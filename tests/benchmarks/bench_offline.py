"""What an offline step takes beside one in which both networks learn, augmented images and not.

Steps of each method are timed in turn, in rounds, on the same images; the ratio is a median over
rounds. Without augmentation the teacher's answers are looked up, and their computation, once for
all images, is told apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from switokd.methods.base import Surroundings
from switokd.spec.experiment import Experiment
from switokd.training.build import build_trainer, choose_device
from switokd.training.trainer import Trainer

LEARNING = "dml"
METHODS = (LEARNING, "kd", "fitnet", "at", "crd")
WARM_UP_STEPS = 3
CIFAR_IMAGES = 50_000


def built(options: argparse.Namespace, method: str, augmentation: str) -> Trainer:
    entry = {"crd": {"negatives": options.negatives}} if method == "crd" else method
    experiment = Experiment.model_validate(
        {
            "name": "offline",
            "dataset": "cifar100",
            "smoke": True,
            "cohorts": [{"teachers": [options.teacher], "students": [options.student]}],
            "methods": [entry],
            "recipe": {"epochs": 1},
        }
    )
    trial = experiment.trials[-1]
    recipe = {"batch_size": options.batch_size, "augmentation": augmentation, "epochs": 1}
    trial = trial.model_copy(
        update={"stand_in": True, "recipe": trial.recipe.model_copy(update=recipe)}
    )
    return build_trainer(trial, choose_device())


class Contender:
    """A trainer that takes steps on one batch of noise."""

    def __init__(self, options: argparse.Namespace, method: str, augmentation: str) -> None:
        self.trainer = built(options, method, augmentation)
        device, batch = self.trainer.device, options.batch_size
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(batch, 3, 32, 32, generator=generator).to(device)
        size, classes = self.trainer.data.train_size, self.trainer.data.num_classes
        self.targets = (torch.arange(batch) % classes).to(device)
        self.indices = (torch.arange(batch) % size).to(device)
        if method == "crd":
            # its memories are as large as the data set
            recorder = self.trainer._cohort.maps
            assert recorder is not None
            shapes = recorder.shapes(self.trainer.networks, 32)
            labels = (torch.arange(CIFAR_IMAGES) % classes).to(device)
            around = Surroundings(shapes, classes, CIFAR_IMAGES, device, labels)
            for module in self.trainer.method.attach(around).values():
                module.to(device)
        if self.trainer.frozen_outputs is not None:
            # zeros are looked up as fast
            self.trainer.frozen_outputs.ready = True
        for network in self.trainer.networks.values():
            network.train(any(p.requires_grad for p in network.parameters()))
        self.step_seconds(WARM_UP_STEPS)

    def step_seconds(self, steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            self.trainer.train_step(self.images, self.targets, self.indices)
        self.trainer.timeline.flush()
        return (time.perf_counter() - started) / steps


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", default="wrn_16_2")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=3, help="of each method a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every figure there as well")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    found: dict[str, dict[str, list[float]]] = {}
    for augmentation in ("none", "crop_flip"):
        contenders = {name: Contender(options, name, augmentation) for name in METHODS}
        times: dict[str, list[float]] = {name: [] for name in METHODS}
        for _, name in itertools.product(range(options.rounds), METHODS):
            times[name].append(contenders[name].step_seconds(options.steps))
        found[augmentation] = times
    table = Table("augmentation", "method", "ms a step", f"of {LEARNING}", box=None)
    for augmentation, times in found.items():
        for name, values in times.items():
            ratios = [own / both for own, both in zip(values, times[LEARNING], strict=True)]
            step = 1000 * statistics.median(values)
            table.add_row(augmentation, name, f"{step:.1f}", f"{statistics.median(ratios):.2f}")
    console = Console(width=120)
    console.print(
        f"{options.teacher} > {options.student}, 32 x 32, batches of {options.batch_size}, "
        f"{options.threads} threads, {choose_device()}"
    )
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
