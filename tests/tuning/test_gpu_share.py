"""How many trials a GPU takes."""

from __future__ import annotations

import pytest
import torch

from switokd.spec.resources import Resources
from switokd.validation import SpecError
from tests.tuning.workplace import small_trials
from tuning.cost.gpu_share import (
    MOST_TRIALS,
    GpuUse,
    largest,
    measure_use,
    trials_per_gpu,
    with_measured_share,
)
from tuning.placement import Node, allocate


@pytest.mark.parametrize(
    ("used", "busy", "count"),
    [
        (10_000, 0.2, 5),  # idle most of the time: by time
        (30_000, 0.2, 2),  # 0.9 x 80,000 / 30,000 = 2.4: by memory
        (79_000, 0.1, 1),  # more than nine tenths: still one
        (1_000, 1.0, 1),  # a GPU that is always busy gains nothing
        (100, 0.0, MOST_TRIALS),
    ],
)
def test_memory_and_time_decide(used: float, busy: float, count: int) -> None:
    assert trials_per_gpu(GpuUse(used, 80_000, busy)) == count


def test_the_largest_trial_is_measured() -> None:
    trials = small_trials(
        cohorts=[
            {"teachers": ["wrn_16_1"], "students": ["resnet20"]},
            {"teachers": ["wrn_16_2"], "students": ["resnet20"]},
        ],
        methods=["switokd"],
    )
    assert largest(trials).pair == "wrn_16_2>resnet20"


def test_four_trials_share_a_gpu() -> None:
    placement = allocate(Resources(trials_per_gpu=4), 100, [Node(16, 2)])
    assert (placement.gpus, placement.slots, placement.cpus) == (0.25, 8, 2)


def test_without_a_gpu_nothing_is_shared() -> None:
    resources = with_measured_share(Resources(trials_per_gpu="auto"), [], total_gpus=0)
    assert allocate(resources, 4, [Node(2)]).gpus == 0


def test_a_share_is_given_in_one_way() -> None:
    with pytest.raises(ValueError, match="trials_per_gpu"):
        Resources(trials_per_gpu=2, gpus=0.5)
    with pytest.raises((SpecError, ValueError), match="whole number"):
        Resources(trials_per_gpu=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_few_steps_tell_memory_and_time() -> None:
    trial = small_trials(methods=["switokd"])[0]
    use = measure_use(trial)
    assert 0 < use.used_mib < use.total_mib
    assert 0 < use.busy <= 1
