"""A GPU that no longer answers a worker's process: its trial fails, the next one is not lost."""

from __future__ import annotations

import sys

import pytest

from tests.tuning.workplace import Workplace, small_experiment

NETWORKS = """
import torch
from torch import nn

class Loses(nn.Sequential):
    steps = 0

    def forward(self, images):
        self.steps += self.training
        if self.steps > 4:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return super().forward(images)

def loses(num_classes):
    return Loses(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
"""


@pytest.mark.slow
def test_the_next_trial_goes_on_in_another_process(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CUDA nothing answers, as after such an error nothing does."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (workplace.folder / "lost_gpu.py").write_text(NETWORKS, encoding="utf-8")
    lost = {"teachers": ["resnet20"], "students": ["lost_gpu:loses"]}
    content = small_experiment(
        name="lost", methods=["dml"], recipe={"epochs": 2}, resources={"cpus": 2}
    )
    content["cohorts"].insert(0, lost)
    bad, good = workplace.write(content).trials
    output = workplace.sweep(status=1)
    assert "an illegal memory access" in output
    runs = workplace.trial_runs("lost")
    assert runs[bad.trial_id].info.status == "FAILED"
    assert "goes on" in output
    assert runs[good.trial_id].info.status == "FINISHED"
    assert list(workplace.series(runs[good.trial_id])["val_top1/S1"]) == [1, 2]
