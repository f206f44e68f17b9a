"""A trial's memory: its peak is told, and a thousand steps take no more than a hundred."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path

import pytest
import torch

from switokd.session.memory import PeakMemory
from switokd.training.build import build_trainer
from tests.tuning.workplace import small_trials

MIB = 2**20


def resident_mib() -> float:
    line = next(x for x in Path("/proc/self/status").read_text().split("\n") if "VmRSS" in x)
    return float(line.split()[1]) / 1024


def test_the_peak_counts_from_its_start_and_not_what_was_freed_before() -> None:
    before = torch.ones(512 * MIB, dtype=torch.uint8)
    freed = resident_mib()
    del before
    peak = PeakMemory(torch.device("cpu"))
    held = []
    for _ in range(2):
        block = torch.ones(48 * MIB, dtype=torch.uint8)
        held.append(resident_mib())
        del block
    # what is resident beside the blocks may shrink at any time: the system takes back old pages
    assert max(held) - 1 <= peak.mib() <= max(held) + 16 < freed - 256


@pytest.mark.slow
def test_a_thousand_steps_hold_no_more_tensors_than_a_hundred() -> None:
    (trial,) = small_trials(methods=["switokd"], recipe={"batch_size": 16})
    trainer = build_trainer(trial, torch.device("cpu"))
    batches = itertools.cycle(list(trainer.data.train_epoch())[:8])

    def held_after(steps: int) -> int:
        for batch in itertools.islice(batches, steps):
            trainer.train_step(*batch)
        # what may grow is the timeline itself: some numbers a step
        timeline = trainer.timeline.rows().nbytes
        gc.collect()
        # by exact type: what a compiler's traces keep of other tests has no size
        kinds = (torch.Tensor, torch.nn.Parameter)
        held = [t for t in gc.get_objects() if type(t) in kinds and t.device.type == "cpu"]
        return sum(t.nbytes for t in held) - timeline

    first = held_after(100)
    assert held_after(1000) <= first
    assert trainer.timeline.rows().nbytes < 1100 * 100
