"""Tune's stopping schedulers, made to finish a trial where they would cut it off.

Tune ends a stopped trial like an interrupted one. Here the trial's worker is told instead, and the
trial ends by itself, with weights, summary and a finished run that says who stopped it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.schedulers.judged_results import EPOCH, OBJECTIVE, PastResult
from tuning.tune_internals import KnownTrial, replay, worker_of


class GracefulStop(FIFOScheduler):
    """Asks another scheduler at the end of each epoch, and lets its verdict be carried out.

    `name`: what a stopped trial's run says. `past`: what earlier calls have seen, of trials that
    are to go on too: they stand in the rungs, and are stopped, as if there had been no end.
    """

    def __init__(self, name: str, scheduler: TrialScheduler, past: Sequence[PastResult]) -> None:
        super().__init__()
        self._name = name
        self._scheduler = scheduler
        results = [(KnownTrial(p.trial_id), {EPOCH: p.epoch, OBJECTIVE: p.value}) for p in past]
        self._stopped = replay(scheduler, results)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._scheduler.on_trial_add(tune_controller, known(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        same = known(trial)
        if same.trial_id not in self._stopped and OBJECTIVE in result:
            verdict = self._scheduler.on_trial_result(tune_controller, same, result)
            if verdict == TrialScheduler.STOP:
                self._stopped.add(same.trial_id)
        if same.trial_id in self._stopped:
            worker = worker_of(trial)
            if worker is not None:
                # again where a worker died before it could obey
                worker.stop_early.remote(f"stopped by {self._name}")
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        # a failed trial ends without a value, and so does one that was stopped before
        same = known(trial)
        if OBJECTIVE in result and same.trial_id not in self._stopped:
            self._scheduler.on_trial_complete(tune_controller, same, result)

    def debug_string(self) -> str:
        return str(self._scheduler.debug_string())


def known(trial: Trial) -> KnownTrial:
    """The trial by the id that it has in every call."""
    return KnownTrial(trial.config["choice"]["trial_id"])
