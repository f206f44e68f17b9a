"""What a step's speed is measured of: ours, the plain script, and the roof of the same networks."""

from __future__ import annotations

import itertools
import time
import types
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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


def keep_nothing(trainer: Trainer) -> None:
    """From now on the trainer records no step."""
    for name in ("record", "row", "record_row"):
        setattr(trainer.timeline, name, types.MethodType(lambda *_, **__: None, trainer.timeline))
