"""Tune's stopping schedulers, made to finish a trial where they would cut it off.

Tune ends a stopped trial like an interrupted one. Here the trial's worker is told instead, and the
trial ends by itself, with weights, summary and a finished run that says who stopped it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.schedulers.judged_results import EPOCH, OBJECTIVE, History
from tuning.tune_internals import replay, worker_of


class GracefulStop(FIFOScheduler):
    """Asks another scheduler at the end of each epoch, and lets its verdict be carried out.

    `name`: what a stopped trial's run says. `past`: trials that earlier calls finished, to compare
    with.
    """

    def __init__(self, name: str, scheduler: TrialScheduler, past: Sequence[History]) -> None:
        super().__init__()
        self._name = name
        self._scheduler = scheduler
        self._stopped: set[str] = set()
        replay(
            scheduler,
            ([{EPOCH: epoch, OBJECTIVE: value} for epoch, value in trial] for trial in past),
        )

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._scheduler.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if trial.trial_id not in self._stopped and OBJECTIVE in result:
            verdict = self._scheduler.on_trial_result(tune_controller, trial, result)
            if verdict == TrialScheduler.STOP:
                self._stopped.add(trial.trial_id)
        if trial.trial_id in self._stopped:
            worker = worker_of(trial)
            if worker is not None:
                # again where a worker died before it could obey
                worker.stop_early.remote(f"stopped by {self._name}")
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        # a failed trial ends without a value, and so does one that was stopped before
        if OBJECTIVE in result and trial.trial_id not in self._stopped:
            self._scheduler.on_trial_complete(tune_controller, trial, result)

    def debug_string(self) -> str:
        return str(self._scheduler.debug_string())
