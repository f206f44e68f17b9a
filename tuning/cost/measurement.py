"""What trials take: a few real steps of each kind of them, timed and multiplied out."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from switokd.session.memory import MIB, PeakMemory
from switokd.spec.experiment import Experiment
from switokd.spec.trial import TrialSpec
from switokd.training.build import build_trainer, choose_device
from switokd.training.trainer import Images, Trainer
from tuning.cost.gpu_share import with_measured_share
from tuning.placement import Node, Placement, allocate
from tuning.plan import Plan

WARMUP_STEPS = 2
TIMED_STEPS = 3
WARMUP_EVALUATION = 1
TIMED_EVALUATION = 2
# a first step on so few images tells how long a whole one takes
FIRST_IMAGES = 8
# whole steps that would take longer are not run: the few images stand for them
LONGEST_STEP_SECONDS = 5.0


@dataclass(frozen=True)
class TrialWork:
    """What one trial takes: seconds, and bytes of a checkpoint, of its networks' weights,
    and of memory on its device."""

    seconds: float = 0.0
    checkpoint_bytes: int = 0
    weights_bytes: int = 0
    memory_bytes: float = 0.0


@dataclass(frozen=True)
class TrialCost:
    """One trial of the experiment: whether it has finished before, and what it should take."""

    trial: TrialSpec
    finished: bool
    work: TrialWork


@dataclass(frozen=True)
class Estimate:
    """Every trial's cost on one machine, and how many run at once.

    `to_choose` trials more, which a search has still to find, are taken for the mean of the others.
    """

    costs: tuple[TrialCost, ...]
    placement: Placement
    to_choose: int = 0

    @property
    def seconds(self) -> list[float]:
        """Of each trial that is to be trained."""
        known = [cost.work.seconds for cost in self.costs if not cost.finished]
        timed = known or [0.0]
        return known + [sum(timed) / len(timed)] * self.to_choose

    @property
    def device_seconds(self) -> float:
        return sum(self.seconds)

    @property
    def wall_seconds(self) -> float:
        """Trials handed to free slots in order, those that teach first and before their students;
        no shorter than the longest one."""
        teaching = {key for cost in self.costs for key in cost.trial.trained_by.values()}
        costs = sorted(self.costs, key=lambda cost: cost.trial.trial_id not in teaching)
        free_at = [0.0] * self.placement.slots
        done_at: dict[str, float] = {}
        for cost in costs:
            if not cost.finished:
                slot = free_at.index(min(free_at))
                taught = [done_at.get(key, 0.0) for key in cost.trial.trained_by.values()]
                free_at[slot] = max([free_at[slot], *taught]) + cost.work.seconds
                done_at[cost.trial.trial_id] = free_at[slot]
        for seconds in self.seconds[len(done_at) :]:
            free_at[free_at.index(min(free_at))] += seconds
        return max(free_at)

    @property
    def folder_bytes(self) -> float:
        """What the trials leave under runs/: a checkpoint and last and best weights each."""
        return self._bytes(lambda work: work.checkpoint_bytes + 2 * work.weights_bytes)

    @property
    def artifact_bytes(self) -> float:
        """What they leave in the artifact store: the weights again."""
        return self._bytes(lambda work: 2 * work.weights_bytes)

    @property
    def memory_bytes(self) -> float:
        """What as many trials as run at once hold in the memory of their devices together."""
        at_once = min(self.placement.slots, len(self.seconds)) * self.placement.ranks
        return at_once * max((cost.work.memory_bytes for cost in self.costs), default=0.0)

    @property
    def running_bytes(self) -> int:
        """What is there besides while they run: two checkpoints where one will stay."""
        at_once = min(self.placement.slots, len(self.seconds))
        return at_once * max((cost.work.checkpoint_bytes for cost in self.costs), default=0)

    def _bytes(self, of: Callable[[TrialWork], int]) -> float:
        known = [of(cost.work) for cost in self.costs if not cost.finished]
        return sum(known) * len(self.seconds) / max(1, len(known))


def estimate(
    experiment: Experiment, plan: Plan, on_kind: Callable[[TrialSpec, int, int], None] | None = None
) -> Estimate:
    """Time a few steps of each kind of trial in this process. Raises DataError.

    `on_kind(trial, number, of)` is called before each kind is timed, with a trial of it.
    """
    cpus, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    resources = with_measured_share(experiment.resources, plan.missing or plan.trials, gpus)
    placement = allocate(resources, max(1, plan.to_train), [Node(cpus, gpus)])
    torch.set_num_threads(placement.cpus)
    kinds = {kind_of_work(trial): trial for trial in reversed(plan.missing)}
    timed: dict[tuple[Any, ...], TrialWork] = {}
    for number, (kind, trial) in enumerate(reversed(kinds.items()), start=1):
        if on_kind is not None:
            on_kind(trial, number, len(kinds))
        timed[kind] = measure(trial)
    costs = [
        TrialCost(trial, trial.trial_id in plan.values, timed.get(kind_of_work(trial), TrialWork()))
        for trial in plan.trials
    ]
    return Estimate(tuple(costs), placement, plan.to_choose)


def kind_of_work(trial: TrialSpec) -> tuple[Any, ...]:
    """Equal for trials of equal work: seed, temperature and the weights of losses change none."""
    settings = trial.method.settings.model_dump().items()
    kinds = tuple((key, value if isinstance(value, str) else None) for key, value in settings)
    networks = tuple(
        (each.model, str(each.arguments), each.source, each.frozen, each.optimizer)
        for each in trial.networks.values()
    )
    return (networks, trial.method.name, kinds, trial.recipe, trial.dataset)


def measure(trial: TrialSpec) -> TrialWork:
    """The expected work of one trial: timed steps and evaluation batches, times their number."""
    device = choose_device(trial.resources)
    trainer = build_trainer(trial, device)
    if trainer.frozen_outputs is not None:
        # to be computed once: in each step they are looked up, which takes as long for zeros
        trainer.frozen_outputs.ready = True
    try:
        memory = PeakMemory(device)
        steps = trainer.data.steps_per_epoch
        step, share = step_seconds(trainer, trial.resources.ranks)
        epoch = steps * step + evaluation_seconds(trainer)
        weights = sum(_bytes_in(network.state_dict()) for network in trainer.networks.values())
        momenta = sum(_bytes_in(each.state_dict()) for each in trainer.optimizers.values())
        # the best epoch's weights lie in a checkpoint beside the newest
        return TrialWork(
            trainer.epochs * epoch,
            2 * weights + momenta,
            weights,
            (memory.mib() or 0.0) * MIB / share,
        )
    finally:
        trainer.data.close()


def step_seconds(trainer: Trainer, ranks: int = 1) -> tuple[float, float]:
    """The seconds of a training step, and the share of its images that were really trained on.

    Of a trial over several ranks, a rank's step on its part, without the exchange between them.
    The median of a few steps, after some that are not typical. Where a step of a few images shows
    that a whole one would be long, such small steps are timed and multiplied out.
    """
    times: list[float] = []
    share = 1.0
    batches = trainer.data.train_epoch()
    for number, batch in enumerate(batches):
        part = -(-len(batch[1]) // ranks)
        few = FIRST_IMAGES / part
        if number == 0 and few < 1:
            timed_step(trainer, *batch, FIRST_IMAGES)
            small = timed_step(trainer, *batch, FIRST_IMAGES)
            share = few if small / few > LONGEST_STEP_SECONDS else 1.0
        count = FIRST_IMAGES if share < 1 else part
        times.append(timed_step(trainer, *batch, count))
        if len(times) == WARMUP_STEPS + TIMED_STEPS:
            break
    timed = sorted(times[WARMUP_STEPS:] or times)
    return timed[len(timed) // 2] / share, share


def timed_step(
    trainer: Trainer, images: Images, targets: Tensor, indices: Tensor, count: int
) -> float:
    """The seconds of one training step on the first `count` images of a batch."""
    views = images if isinstance(images, tuple) else (images,)
    cut = tuple(view[:count] for view in views)
    started = time.perf_counter()
    shown = cut if isinstance(images, tuple) else cut[0]
    trainer.train_step(shown, targets[:count], indices[:count])
    trainer.timeline.flush()
    return time.perf_counter() - started


def evaluation_seconds(trainer: Trainer) -> float:
    """An evaluation's seconds, from a few batches of it and the number of its images."""
    split, data = trainer.evaluation_split, trainer.data
    for batches in (WARMUP_EVALUATION, TIMED_EVALUATION):
        first = FirstBatches(data, batches)
        trainer.data = first
        started = time.perf_counter()
        trainer.evaluate(split)
        seconds = time.perf_counter() - started
    trainer.data = data
    return seconds * data.evaluation_size(split) / first.images


class FirstBatches:
    """The first batches of an evaluation, and how many images they had."""

    def __init__(self, data: Any, batches: int) -> None:
        self._data, self._batches = data, batches
        self.images = 0

    def evaluation(self, split: Any) -> Iterator[tuple[Images, Tensor, Tensor]]:
        for batch in itertools.islice(self._data.evaluation(split), self._batches):
            self.images += len(batch[1])
            yield batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)


def _bytes_in(state: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(state))


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _tensors(part)
