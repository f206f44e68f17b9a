"""A trial that kills its worker each time: it ends as failed and says so, and the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning.workplace import Workplace, small_experiment

pytestmark = pytest.mark.slow

# Python reads this file at each start; a trial of two networks dies as by the kernel's hand, and
# the driver counts fewer deaths, each of which costs a worker's start
DEADLY = """
import sys

if any("default_worker" in argument for argument in sys.orig_argv):
    import os, signal
    from switokd.training.trainer import Trainer

    train_step = Trainer.train_step

    def step(self, *batch):
        if len(self.networks) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(self, *batch)

    Trainer.train_step = step
elif "sweep" in sys.orig_argv:
    from tuning.workers import scheduling

    assert scheduling.WORKER_DEATHS_SURVIVED > 1
    scheduling.WORKER_DEATHS_SURVIVED = 1
"""


def test_it_fails_with_the_reason_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "path"
    path.mkdir()
    (path / "sitecustomize.py").write_text(DEADLY, encoding="utf-8")
    workplace = Workplace(tmp_path, PYTHONPATH=f"{path}:{Path(__file__).parents[2]}")
    trials = workplace.write(small_experiment(methods=["vanilla", "dml"])).trials
    status, output = workplace.sweep()
    assert status == 1, output
    assert "Traceback" not in output
    runs = workplace.trial_runs("small")
    assert set(runs) == {trial.trial_id for trial in trials}
    for trial in trials:
        run = runs[trial.trial_id]
        deadly = trial.method.name == "dml"
        assert run.info.status == ("FAILED" if deadly else "FINISHED"), trial.label
        reason = run.data.tags.get("switokd.failure", "")
        assert ("its worker died again and again" in reason) == deadly
        assert (f"--trial {trial.trial_id}" in output) == deadly
    assert output.count("its worker ended: it goes on from its checkpoint") == 1
