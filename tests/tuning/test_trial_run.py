"""What a worker does with a trial's errors, without Ray."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tuning.workplace import small_trials
from tuning.workers import trial_run
from tuning.workers.trial_run import TrialRun, trial_config


@pytest.fixture
def config() -> dict[str, Any]:
    trial = small_trials(methods=["dml"])[0]
    common = {"store": ("", "", ""), "runs": "", "threads": 1, "environment": {}, "metric": None}
    return {"common": common, "choice": trial_config(trial, None)}


@pytest.mark.parametrize(
    ("error", "answers", "broken"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access"), False, True),
        (torch.AcceleratorError("CUDA error: a recording was invalidated"), True, False),
        (torch.OutOfMemoryError("CUDA out of memory"), False, False),
        (RuntimeError("shapes do not fit"), False, False),
    ],
    ids=["lasting", "passing", "memory", "of the trial"],
)
def test_only_a_gpu_that_answers_no_more_makes_the_process_unfit_for_other_trials(
    error: Exception,
    answers: bool,
    broken: bool,
    config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = TrialRun(config)
    monkeypatch.setattr(trial_run, "gpu_answers", lambda: answers)

    def fail() -> dict[str, Any]:
        raise error

    monkeypatch.setattr(run, "_advance", fail)
    progress = run.step()
    assert progress["done"]
    assert str(error) in progress["failure"]
    assert run.broken is broken
    run.close()
