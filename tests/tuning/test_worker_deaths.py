"""Trials that kill their worker each time: they end as failed and say so, and the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning.workplace import Workplace, small_experiment

pytestmark = pytest.mark.slow

# each process runs this as it begins. As by the kernel's hand kd dies before the store has heard
# of it, dml in its first step; and the driver counts fewer deaths, each of which costs a start.
DEADLY = """
import sys

if any("default_worker" in argument for argument in sys.orig_argv):
    import os, signal, time
    from switokd.tracking.tracker import TrialTracker
    from switokd.training.trainer import Trainer

    begin, train_step, outboxes = TrialTracker.begin, Trainer.train_step, []

    def beginning(self, *about):
        if self._trial.method.name == "kd":
            os.kill(os.getpid(), signal.SIGKILL)
        outboxes[:] = [self.outbox]
        return begin(self, *about)

    def step(self, *batch):
        if len(self.networks) > 1:
            # once its run is in the store
            outboxes[-1].drain(time.monotonic() + 60)
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(self, *batch)

    TrialTracker.begin, Trainer.train_step = beginning, step
elif "sweep" in sys.orig_argv:
    from tuning.workers import scheduling

    assert scheduling.WORKER_DEATHS_SURVIVED > 1
    scheduling.WORKER_DEATHS_SURVIVED = 1
"""


def test_it_fails_with_the_reason_and_the_others_go_on(tmp_path: Path) -> None:
    hook = tmp_path / "hook.py"
    hook.write_text(DEADLY, encoding="utf-8")
    workplace = Workplace(tmp_path, hook=hook)
    trials = workplace.write(small_experiment(methods=["vanilla", "dml", "kd"])).trials
    output = workplace.sweep(status=1)
    assert "Traceback" not in output
    runs = workplace.trial_runs("small")
    assert set(runs) == {trial.trial_id for trial in trials}
    for trial in trials:
        run = runs[trial.trial_id]
        deadly = trial.method.name in ("dml", "kd")
        assert run.info.status == ("FAILED" if deadly else "FINISHED"), trial.label
        reason = run.data.tags.get("switokd.failure", "")
        assert ("its worker died again and again" in reason) == deadly
        assert (f"--trial {trial.trial_id}" in output) == deadly
    assert output.count("its worker ended: it goes on from its checkpoint") == 2
