"""A trial that runs out of its share of a GPU: once more with the whole one, then it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning.workplace import Workplace, small_experiment

pytestmark = pytest.mark.slow

# in a worker the first so many steps of all end as they do on a full GPU
FULL_GPU = """
import os, sys
from pathlib import Path

if any("default_worker" in argument for argument in sys.orig_argv):
    import torch
    from switokd.training.trainer import Trainer

    left, train_step = Path(os.environ["FAILURES_LEFT"]), Trainer.train_step

    def step(self, *batch):
        count = int(left.read_text())
        if count:
            left.write_text(str(count - 1))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return train_step(self, *batch)

    Trainer.train_step = step
"""


@pytest.fixture
def failures_left(tmp_path: Path) -> Path:
    return tmp_path / "failures_left"


@pytest.fixture
def workplace(tmp_path: Path, failures_left: Path) -> Workplace:
    """With one GPU as far as Ray knows; the trials train on the CPU."""
    hook = tmp_path / "hook.py"
    hook.write_text(FULL_GPU, encoding="utf-8")
    return Workplace(
        tmp_path,
        hook=hook,
        RAY_OVERRIDE_RESOURCES='{"GPU": 1}',
        # else Ray has none to give
        CUDA_VISIBLE_DEVICES="0",
        FAILURES_LEFT=str(failures_left),
    )


def test_it_is_run_again_alone_and_then_fails_with_the_reason(
    workplace: Workplace, failures_left: Path
) -> None:
    content = small_experiment(methods=["dml"], seeds=[0, 1])
    content["resources"] = {"trials_per_gpu": 2, "cpus": 1}
    trials = workplace.write(content).trials
    # both run out of memory together, and one of them alone as well
    failures_left.write_text("3")
    output = workplace.sweep(status=1)
    assert "2 at once, 1 CPU cores and 0.5 GPUs each" in output
    assert output.count("alone on its device") == 2
    runs = workplace.trial_runs("small")
    assert set(runs) == {trial.trial_id for trial in trials}
    by_status = {run.info.status: run for run in runs.values()}
    assert set(by_status) == {"FAILED", "FINISHED"}
    assert "out of memory" in by_status["FAILED"].data.tags["switokd.failure"]
    assert "switokd.failure" not in by_status["FINISHED"].data.tags
