"""How many trials share a GPU: from the memory and the time that a few steps of one really take."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from switokd.models import describe
from switokd.session.memory import MIB
from switokd.spec.resources import Resources
from switokd.spec.trial import TrialSpec
from switokd.training.build import build_trainer

# a training's later peaks, and other processes', must fit as well
MEMORY_SHARE = 0.9
MOST_TRIALS = 16
WARMUP_STEPS, TIMED_STEPS = 5, 20


@dataclass(frozen=True)
class GpuUse:
    """What one trial takes of a GPU: MiB with the context of its process, and of all its MiB.

    `busy`: the share of the time, 0 to 1, in which the GPU works for the trial.
    """

    used_mib: float
    total_mib: float
    busy: float


def trials_per_gpu(use: GpuUse) -> int:
    """As many trials as fit into the memory and into the time that one leaves the GPU idle."""
    by_memory = int(MEMORY_SHARE * use.total_mib / use.used_mib)
    # trials that would only wait for each other's kernels gain nothing and lose memory
    by_time = int(1 / max(use.busy, 1 / MOST_TRIALS) + 0.5)
    return max(1, min(by_memory, by_time, MOST_TRIALS))


def with_measured_share(
    resources: Resources, trials: Sequence[TrialSpec], total_gpus: float
) -> Resources:
    """The resources with `trials_per_gpu` measured where it is `auto`, on a GPU of its own.

    Where not even one trial fits, it is 1: the trial itself will say so.
    """
    if resources.trials_per_gpu != "auto":
        return resources
    count = 1
    if total_gpus >= 1 and trials and resources.gpus == "auto":
        with contextlib.suppress(torch.OutOfMemoryError):
            count = trials_per_gpu(_probe(largest(trials)))
    return resources.model_copy(update={"trials_per_gpu": count})


def _probe(trial: TrialSpec) -> GpuUse:
    """Measure in a process that gives the GPU back when it ends; in Ray, where that is running."""
    # a second to import, which only this need costs
    import ray
    from ray.exceptions import RayTaskError

    if not ray.is_initialized():
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure_use, trial).result()
    task = ray.remote(num_gpus=1, max_calls=1)(measure_use)
    try:
        use: GpuUse = ray.get(task.remote(trial))
    except RayTaskError as error:
        raise error.cause from None
    return use


def largest(trials: Sequence[TrialSpec]) -> TrialSpec:
    """The trial with the most parameters: where it fits, the others do."""
    return max(trials, key=parameters)


def parameters(trial: TrialSpec) -> int:
    """Numbers in a trial's networks, for the classes that each was published with."""
    cards = [
        card
        for network in trial.networks.values()
        for card in describe([network.model], network.origin)
    ]
    return sum(card.parameters for card in cards)


def measure_use(trial: TrialSpec) -> GpuUse:
    """Train a few steps on this process's GPU, which nobody else should be using."""
    device = torch.device("cuda")
    trainer = build_trainer(trial, device)
    try:
        batches = trainer.data.train_epoch()
        for _, batch in zip(range(WARMUP_STEPS), batches, strict=False):
            trainer.train_step(*batch)
        torch.cuda.synchronize()
        # the events lie around each step; between them the GPU waits for its next work
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True
        ) as profile:
            started = torch.cuda.Event(enable_timing=True)
            ended = torch.cuda.Event(enable_timing=True)
            started.record()
            for _, batch in zip(range(TIMED_STEPS), batches, strict=False):
                trainer.train_step(*batch)
            ended.record()
            torch.cuda.synchronize()
        trainer.timeline.flush()
    finally:
        trainer.data.close()
    working_ms = sum(event.self_device_time_total for event in profile.key_averages()) / 1000
    free, total = torch.cuda.mem_get_info(device)
    return GpuUse(
        used_mib=(total - free) / MIB,
        total_mib=total / MIB,
        busy=min(1.0, working_ms / started.elapsed_time(ended)),
    )
