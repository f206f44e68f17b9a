"""The cohort step against a typical research script and against the roof, in turn, medians.

plain: `plain_loop`, data included, its loader already running. ours: the trainer with its pipeline,
data included. roof: forward, backward and optimizer of the same networks on one fixed batch, in
ours' engine, precision and layout, everything else removed. In the free runs plain, ours and roof
replay one sequence of modes. silent: ours without the timeline's record of every step. unwaited:
ours without the wait for a step's flags, which the host knows in a free run. Recording costs far
less than two runs differ by, so that it is timed by itself as well.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
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
from switokd.spec.recipe import ENGINES, NetworkSpec
from switokd.training.graphed import GraphedEngine, Recorder
from switokd.training.optimizers import build_optimizer
from switokd.training.trainer import Trainer
from tests.benchmarks import plain_loop

BATCH = 128
RECORDS = 1024
# libraries choose their algorithms, the compiler compiles, graphs are recorded
WARM_UP_STEPS = 8
# the order in which a free run's teacher is in expert mode: 6 of 10 steps, irregular
FREE_MODES = [True, False, True, True, False, True, False, True, True, False]
KINDS = ("ours", "silent", "unwaited")
MODES = {"learning": [False], "expert": [True], "free": FREE_MODES}


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


class CompiledAndGraphed(GraphedEngine):
    """Graphs of what torch.compile made of the networks."""

    prepare = staticmethod(ENGINES.load("compiled").prepare)


BENCHED: dict[str, Any] = {
    **{name: ENGINES.load(name) for name in ENGINES},
    "compiled+graphed": CompiledAndGraphed,
}


class Replay(SwitOKD):
    """SwitOKD whose teacher pauses by a given sequence; all its quantities are still measured."""

    def restart(self, modes: list[bool], device: torch.device) -> None:
        """Begin the sequence; its place is on the device, so that graphs can record it."""
        if not hasattr(self, "modes"):
            self.modes = torch.tensor(modes, device=device)
            self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.place.zero_()

    def step(self, predictions: Predictions) -> CohortStep:
        step = super().step(predictions)
        flag = self.modes.index_select(0, self.place)[0]
        self.place.add_(1).remainder_(len(self.modes))
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


@dataclass(frozen=True)
class Variant:
    """One way to run ours."""

    precision: str
    engine: str


def build_ours(case: Case, mode: str, variant: Variant, device: torch.device) -> Trainer:
    """The product's trainer, its teacher's modes replayed."""
    method = Replay(1, len(case.networks) - 1, 1.0, SwitOKDSettings())
    method.restart(MODES[mode], device)
    torch.manual_seed(0)
    names = ["T1", *(f"S{n}" for n in range(1, len(case.networks)))]
    engine = BENCHED[variant.engine]
    networks, optimizers = {}, {}
    for name, (model, rate) in zip(names, case.networks, strict=True):
        network = build_model(model, case.classes)
        networks[name] = network.to(device).to(memory_format=torch.channels_last).train()
        engine.prepare(network)
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
        precision=variant.precision,
        engine=engine,
    )


def build_plain(case: Case, device: torch.device) -> plain_loop.PlainCohort:
    torch.manual_seed(0)
    networks = [build_model(model, case.classes) for model, _ in case.networks]
    rates = [rate for _, rate in case.networks]
    return plain_loop.PlainCohort(networks[0], networks[1:], rates, case.classes, device)


class Ours:
    """The trainer and its batches."""

    def __init__(
        self, case: Case, mode: str, variant: Variant, batches: Batches, kind: str = "ours"
    ) -> None:
        self.modes = MODES[mode]
        self.batches = batches
        self.trainer = build_ours(case, mode, variant, batches.device)
        if kind == "silent":
            keep_nothing(self.trainer)
        if kind == "unwaited":
            self.trainer._engine.flags.receive = self._known  # type: ignore[method-assign]
        started = time.perf_counter()
        self.run(WARM_UP_STEPS)
        self.warm_up_seconds = time.perf_counter() - started

    def _known(self) -> frozenset[str]:
        return frozenset({"T1"} if next(self.coming) else ())

    def run(self, steps: int | None = None) -> int:
        """An epoch, or its first steps; the number of images."""
        self.trainer.method.restart(self.modes, self.batches.device)
        self.coming = itertools.cycle(self.modes)
        count = 0
        for images, targets in itertools.islice(self.batches.epoch(), steps):
            self.trainer.train_step(images, targets)
            count += len(targets)
        self.trainer.timeline.flush()
        return count


class Roof:
    """Forward, cross-entropy, backward and step of every network that is not paused."""

    def __init__(
        self, case: Case, mode: str, variant: Variant, batches: Batches, steps: int
    ) -> None:
        self.trainer = build_ours(case, mode, variant, batches.device)
        images, self.targets = next(batches.epoch())
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.modes, self.steps = MODES[mode], steps
        self.work: dict[bool, Callable[[], None]] = {
            expert: lambda expert=expert: self._step(expert) for expert in set(self.modes)
        }
        stream = None
        if issubclass(BENCHED[variant.engine], GraphedEngine) and batches.device.type == "cuda":
            stream = torch.cuda.Stream(batches.device)
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            for work in [*self.work.values()] * 3:
                work()
        if stream is not None:
            self.work = {e: Recorder(stream).record([work]) for e, work in self.work.items()}

    def _step(self, expert: bool) -> None:
        trainer = self.trainer
        with trainer._cohort.autocast():
            logits = {name: network(self.images) for name, network in trainer.networks.items()}
        for name in reversed(list(logits)):
            if name != "T1" or not expert:
                loss = torch.nn.functional.cross_entropy(logits[name].float(), self.targets)
                trainer.optimizers[name].zero_grad(set_to_none=True)
                loss.backward()
                trainer.optimizers[name].step()

    def run(self) -> int:
        for _, expert in zip(range(self.steps), itertools.cycle(self.modes), strict=False):
            self.work[expert]()
        return self.steps * len(self.targets)


def rate(action: Callable[[], int], device: torch.device) -> float:
    """Images per second of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    images = action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def say(what: str) -> None:
    """A line for whoever waits; the table comes last."""
    print(what, file=sys.stderr, flush=True)


def record_seconds(ours: Ours) -> float:
    """What recording one step costs, the transfer of whole blocks to the host included."""
    trainer = ours.trainer
    images, targets = next(ours.batches.epoch())
    step = trainer.train_step(images, targets)
    trainer.timeline.flush()
    started = time.perf_counter()
    for _ in range(RECORDS):
        trainer.timeline.record(step, images=len(targets))
    trainer.timeline.flush()
    return (time.perf_counter() - started) / RECORDS


def keep_nothing(trainer: Trainer) -> None:
    """From now on the trainer records no step."""
    for name in ("record", "row", "record_row"):
        setattr(trainer.timeline, name, types.MethodType(lambda *_, **__: None, trainer.timeline))


@dataclass(frozen=True)
class Figures:
    """Images per second, medians of runs in turn, and what follows from neighbouring runs.

    Ratios in percent are of time: what recording adds by difference and by itself, and what the
    wait for the flags adds. Warm-ups are the first steps of the first and of the last trial: it
    finds what the first one compiled.
    """

    cohort: str
    mode: str
    precision: str
    engine: str
    plain: float
    ours: float
    roof: float
    ours_to_plain: float
    ours_to_roof: float
    recording_percent_by_difference: float | None
    recording_percent_alone: float
    waiting_percent: float | None
    first_warm_up_seconds: float
    last_warm_up_seconds: float


def measure(
    case: Case,
    mode: str,
    variants: list[Variant],
    steps: int,
    repeats: int,
    workers: int,
    kinds: list[str],
    device: torch.device,
) -> list[Figures]:
    """One mode of one cohort: plain and all variants in turn, `repeats` times."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (steps * BATCH, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, case.classes, steps * BATCH)
    batches = Batches(images, labels, device)
    plain = build_plain(case, device)
    loader = plain_loop.endless(images, labels, BATCH, workers, device.type == "cuda")
    modes = FREE_MODES if mode == "free" else None
    plain.train(itertools.islice(loader, WARM_UP_STEPS), mode, modes)
    built: dict[Variant, dict[str, Ours | Roof]] = {}
    for variant in variants:
        started = time.perf_counter()
        built[variant] = {"roof": Roof(case, mode, variant, batches, steps)} | {
            kind: Ours(case, mode, variant, batches, kind) for kind in kinds
        }
        say(f"{variant} warmed up in {time.perf_counter() - started:.0f} s")
    plain_rates: list[float] = []
    rates: dict[Variant, dict[str, list[float]]] = {
        variant: {kind: [] for kind in runs} for variant, runs in built.items()
    }
    for _ in range(repeats):
        script = functools.partial(plain.train, itertools.islice(loader, steps), mode, modes)
        plain_rates.append(rate(script, device))
        say(f"plain {plain_rates[-1]:.0f} images/s")
        for variant, runs in built.items():
            for kind, run in runs.items():
                rates[variant][kind].append(rate(run.run, device))
                say(f"{variant} {kind} {rates[variant][kind][-1]:.0f} images/s")
    return [
        _figures(case, mode, variant, plain_rates, rates[variant], built[variant])
        for variant in variants
    ]


def _figures(
    case: Case,
    mode: str,
    variant: Variant,
    plain: list[float],
    rates: dict[str, list[float]],
    built: dict[str, Any],
) -> Figures:
    def ratio(first: list[float], second: list[float]) -> float:
        # of neighbouring runs, so that the machine's other work cancels out
        return statistics.median(a / b for a, b in zip(first, second, strict=True))

    def more_percent(kind: str) -> float | None:
        return 100 * (ratio(rates[kind], rates["ours"]) - 1) if kind in rates else None

    ours = statistics.median(rates["ours"])
    trials = [run for run in built.values() if isinstance(run, Ours)]
    return Figures(
        cohort=case.name,
        mode=mode,
        **asdict(variant),
        plain=statistics.median(plain),
        ours=ours,
        roof=statistics.median(rates["roof"]),
        ours_to_plain=ratio(rates["ours"], plain),
        ours_to_roof=ratio(rates["ours"], rates["roof"]),
        recording_percent_by_difference=more_percent("silent"),
        recording_percent_alone=100 * record_seconds(built["ours"]) * ours / BATCH,
        waiting_percent=more_percent("unwaited"),
        first_warm_up_seconds=built["ours"].warm_up_seconds,
        last_warm_up_seconds=trials[-1].warm_up_seconds,
    )


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is done in hardware; emulated, it is slower than fp32 and says nothing."""
    cpu = Path("/proc/cpuinfo")
    return device.type == "cuda" or (cpu.exists() and "bf16" in cpu.read_text(encoding="utf-8"))


def main(arguments: list[str] | None = None) -> list[Figures]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, help="default all; on a CPU the first")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"])
    parser.add_argument("--engines", nargs="+", choices=BENCHED, help="default eager and graphed")
    parser.add_argument("--steps", type=int, help="of a measurement; default 200, on a CPU 5")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="of the plain script's loader")
    parser.add_argument("--threads", type=int, default=2, help="torch threads on the CPU")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path, help="write every figure there as well")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    on_gpu = device.type == "cuda"
    # the wide teachers of the other two take hours on a CPU
    cases = options.cases or (list(CASES) if on_gpu else ["cifar100"])
    precisions = options.precisions or (["fp32", "bf16"] if has_bf16(device) else ["fp32"])
    engines = options.engines or (["eager", "graphed"] if on_gpu else ["eager", "compiled"])
    steps = options.steps or (200 if on_gpu else 5)
    where = torch.cuda.get_device_name() if on_gpu else platform.processor()
    console = Console(width=170)
    console.print(
        f"torch {torch.__version__}, {device.type} {where or platform.machine()}, "
        f"{options.threads} threads, batch {BATCH}, {steps} steps, median of {options.repeats}; "
        f"fp32 convolutions in TF32: {on_gpu and torch.backends.cudnn.allow_tf32}"
    )
    variants = [Variant(*each) for each in itertools.product(precisions, engines)]
    results: list[Figures] = []
    for case, mode in itertools.product(cases, options.modes):
        found = measure(
            CASES[case],
            mode,
            variants,
            steps,
            options.repeats,
            options.workers,
            options.kinds,
            device,
        )
        results += found
        console.print(_table(found))
        if options.json:
            text = json.dumps([asdict(figures) for figures in results], indent=1)
            options.json.write_text(text, encoding="utf-8")
    return results


def _table(results: list[Figures]) -> Table:
    headings = ("cohort", "mode", "precision", "engine", "plain", "ours", "roof", "ours/plain")
    more = ("ours/roof", "record on/off %", "alone %", "waiting %", "warm-ups s")
    table = Table(*headings, *more, title="images/s, data included (roof: without)", box=None)
    for row in results:
        table.add_row(
            *(row.cohort, row.mode, row.precision, row.engine),
            *(f"{rate:.0f}" for rate in (row.plain, row.ours, row.roof)),
            *(f"{ratio:.2f}" for ratio in (row.ours_to_plain, row.ours_to_roof)),
            _percent(row.recording_percent_by_difference),
            f"{row.recording_percent_alone:.3f}",
            _percent(row.waiting_percent),
            f"{row.first_warm_up_seconds:.0f}, {row.last_warm_up_seconds:.0f}",
        )
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
