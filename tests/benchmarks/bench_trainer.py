"""The cohort step against a typical research script and against the roof, in turn, medians.

plain: `plain_loop`, data included. ours: the trainer with its pipeline, data included. roof:
forward, backward and optimizer of the same networks on one fixed batch, in ours' engine, precision
and layout, everything else removed. In the free runs plain and ours replay one sequence of modes.
silent: ours without the timeline's record of every step. Recording costs far less than two runs
differ by, so that it is timed by itself as well.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from switokd.data.batches.augment import EpochDraws, Normalizer, crop_flip, draw_epoch
from switokd.methods.base import CohortStep
from switokd.methods.losses import Predictions
from switokd.methods.settings import SwitOKDSettings
from switokd.methods.switokd import SwitOKD
from switokd.models import build_model
from switokd.spec.recipe import NetworkSpec
from switokd.training.optimizers import build_optimizer
from switokd.training.trainer import Trainer
from tests.benchmarks import plain_loop

BATCH = 128
RECORDS = 1024
# the order in which a free run's teacher is in expert mode: 6 of 10 steps, irregular
FREE_MODES = [True, False, True, True, False, True, False, True, True, False]


@dataclass(frozen=True)
class Case:
    """A cohort of the paper: networks with their learning rates, teacher first."""

    name: str
    classes: int
    networks: tuple[tuple[str, float], ...]


CASES = {
    "cifar100": Case(
        "wrn_16_2>mobilenet_v2_x0_5", 100, (("wrn_16_2", 0.1), ("mobilenet_v2_x0_5", 0.01))
    ),
    "cifar10": Case("wrn_16_8>wrn_16_1", 10, (("wrn_16_8", 0.1), ("wrn_16_1", 0.1))),
    "table7": Case(
        "wrn_16_10>wrn_16_2+mobilenet",
        100,
        (("wrn_16_10", 0.1), ("wrn_16_2", 0.1), ("mobilenet", 0.01)),
    ),
}


class Replay(SwitOKD):
    """SwitOKD whose teacher pauses by a given sequence; all its quantities are still measured."""

    modes: Iterator[bool]

    def step(self, predictions: Predictions) -> CohortStep:
        step = super().step(predictions)
        flag = torch.tensor(next(self.modes), device=predictions.targets.device)
        return CohortStep(step.losses, step.cross_entropies, step.links, {"T1": flag})


class Batches:
    """The product's in-memory pipeline over random images, so that no data set is needed."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, device: torch.device) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device)
        self.labels = torch.from_numpy(labels).to(device)
        self.device = device
        self.normalize = Normalizer(plain_loop.MEAN, plain_loop.STD, device)
        self.generator = torch.Generator().manual_seed(0)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.labels), generator=self.generator).to(self.device)
        draws: EpochDraws = draw_epoch(len(order), "crop_flip", self.generator).to(self.device)
        for start in range(0, len(order), BATCH):
            place = slice(start, start + BATCH)
            raw = self.images.index_select(0, order[place])
            yield self.normalize(crop_flip(raw, draws.at(place))), self.labels[order[place]]


def build_ours(case: Case, mode: str, precision: str, engine: str, device: torch.device) -> Trainer:
    """The product's trainer, its teacher's mode forced or replayed."""
    threshold = {"learning": 2.0, "expert": 0.0}.get(mode, "adaptive")
    settings = SwitOKDSettings(threshold=threshold, require_better_teacher=mode == "free")
    method = (Replay if mode == "free" else SwitOKD)(1, len(case.networks) - 1, 1.0, settings)
    if isinstance(method, Replay):
        method.modes = itertools.cycle(FREE_MODES)
    torch.manual_seed(0)
    names = ["T1", *(f"S{n}" for n in range(1, len(case.networks)))]
    networks, optimizers = {}, {}
    for name, (model, rate) in zip(names, case.networks, strict=True):
        network = build_model(model, case.classes)
        networks[name] = network.to(device).to(memory_format=torch.channels_last).train()
        if engine == "compiled":
            network.compile(dynamic=False)
        spec = NetworkSpec(model=model, learning_rate=rate)
        optimizers[name] = build_optimizer([network], spec)
    no_data: Any = None
    return Trainer(
        networks=networks,
        method=method,
        optimizers=optimizers,
        schedulers={},
        data=no_data,
        epochs=1,
        device=device,
        precision=precision,
    )


def build_plain(case: Case, device: torch.device) -> plain_loop.PlainCohort:
    torch.manual_seed(0)
    networks = [build_model(model, case.classes) for model, _ in case.networks]
    rates = [rate for _, rate in case.networks]
    return plain_loop.PlainCohort(networks[0], networks[1:], rates, case.classes, device)


def run_ours(trainer: Trainer, batches: Batches) -> int:
    count = 0
    for images, targets in batches.epoch():
        trainer.train_step(images, targets)
        count += len(targets)
    trainer.timeline.flush()
    return count


def run_roof(trainer: Trainer, images: Tensor, targets: Tensor, mode: str, steps: int) -> int:
    """Forward, cross-entropy, backward and step of every network that is not paused."""
    modes = {"learning": itertools.repeat(False), "expert": itertools.repeat(True)}
    paused = modes.get(mode, itertools.cycle(FREE_MODES))
    for _, expert in zip(range(steps), paused, strict=False):
        with trainer._autocast():
            logits = {name: network(images) for name, network in trainer.networks.items()}
        for name in reversed(list(logits)):
            if name != "T1" or not expert:
                loss = torch.nn.functional.cross_entropy(logits[name].float(), targets)
                trainer.optimizers[name].zero_grad(set_to_none=True)
                loss.backward()
                trainer.optimizers[name].step()
    return steps * len(targets)


def rate(action: Callable[[], int], device: torch.device) -> float:
    """Images per second of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    images = action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def replaying(trainer: Trainer) -> Trainer:
    """The trainer, its free modes from their beginning: every run has the same ones."""
    if isinstance(trainer.method, Replay):
        trainer.method.modes = itertools.cycle(FREE_MODES)
    return trainer


def record_seconds(trainer: Trainer, images: Tensor, targets: Tensor) -> float:
    """What recording one step costs, the transfer of whole blocks to the host included."""
    step = trainer.train_step(images, targets)
    trainer.timeline.flush()
    started = time.perf_counter()
    for _ in range(RECORDS):
        trainer.timeline.record(step, images=len(targets))
    trainer.timeline.flush()
    return (time.perf_counter() - started) / RECORDS


def silence(trainer: Trainer) -> Trainer:
    """The same trainer, which keeps nothing of a step."""
    trainer.timeline.record = types.MethodType(lambda *_, **__: None, trainer.timeline)
    return trainer


def measure(
    case: Case,
    mode: str,
    precision: str,
    engine: str,
    steps: int,
    repeats: int,
    device: torch.device,
) -> dict[str, float]:
    """Median images/s of plain, ours, silent and roof, run in turn `repeats` times."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (steps * BATCH, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, case.classes, steps * BATCH)
    plain = build_plain(case, device)
    ours, silent, roof = (build_ours(case, mode, precision, engine, device) for _ in range(3))
    silence(silent)
    batches = Batches(images, labels, device)
    fixed, targets = next(batches.epoch())
    fixed = fixed.contiguous(memory_format=torch.channels_last)
    workers = plain_loop.loader(images, labels, BATCH, 2, device.type == "cuda")
    modes = FREE_MODES if mode == "free" else None
    actions: dict[str, Callable[[], int]] = {
        "plain": lambda: plain.train(iter(workers), mode, modes),
        "ours": lambda: run_ours(replaying(ours), batches),
        "silent": lambda: run_ours(replaying(silent), batches),
        "roof": lambda: run_roof(roof, fixed, targets, mode, steps),
    }
    # warm-up: library initialisation, the allocator, cuDNN's choice of algorithms, compilation
    warm_ups = []
    for trainer in (ours, silent):
        started = time.perf_counter()
        run_ours(trainer, batches)
        warm_ups.append(time.perf_counter() - started)
    run_roof(roof, fixed, targets, mode, min(steps, 2))
    plain.train(itertools.islice(iter(workers), 1), mode, modes)
    rates: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            rates[name].append(rate(action, device))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    # of a pair of neighbouring runs, so that the machine's other work cancels out
    on_off = statistics.median(
        s / o - 1 for s, o in zip(rates["silent"], rates["ours"], strict=True)
    )
    alone = record_seconds(ours, fixed, targets) * medians["ours"] / BATCH
    # the second trial of a process finds what the first one compiled
    return medians | {"first": warm_ups[0], "second": warm_ups[1], "on_off": on_off, "alone": alone}


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is done in hardware; emulated, it is slower than fp32 and says nothing."""
    cpu = Path("/proc/cpuinfo")
    return device.type == "cuda" or (cpu.exists() and "bf16" in cpu.read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, help="default all; on a CPU the first")
    parser.add_argument("--modes", nargs="+", default=["learning", "expert", "free"])
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"])
    parser.add_argument("--engines", nargs="+", default=["eager", "compiled"])
    parser.add_argument("--steps", type=int, default=5, help="training steps per measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="torch threads on the CPU")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # the wide teachers of the other two take hours on a CPU
    cases = options.cases or (list(CASES) if device.type == "cuda" else ["cifar100"])
    precisions = options.precisions or (["fp32", "bf16"] if has_bf16(device) else ["fp32"])
    where = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    console = Console(width=150)
    console.print(
        f"torch {torch.__version__}, {device.type} {where or platform.machine()}, "
        f"{options.threads} threads, batch {BATCH}, {options.steps} steps, "
        f"median of {options.repeats}"
    )
    headings = ("cohort", "mode", "precision", "engine", "plain", "ours", "roof")
    ratios = ("ours/plain", "ours/roof", "on/off %", "recording %", "1st, 2nd warm-up s")
    table = Table(*headings, *ratios, title="images/s, data included (roof: without)", box=None)
    for case, precision, engine, mode in itertools.product(
        cases, precisions, options.engines, options.modes
    ):
        result = measure(
            CASES[case], mode, precision, engine, options.steps, options.repeats, device
        )
        table.add_row(
            CASES[case].name,
            mode,
            precision,
            engine,
            *(f"{result[name]:.0f}" for name in ("plain", "ours", "roof")),
            f"{result['ours'] / result['plain']:.2f}",
            f"{result['ours'] / result['roof']:.2f}",
            f"{100 * result['on_off']:.1f}",
            f"{100 * result['alone']:.3f}",
            f"{result['first']:.0f}, {result['second']:.0f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
