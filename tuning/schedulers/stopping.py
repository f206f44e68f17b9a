"""Tune's schedulers, made to finish a trial where they would cut it off.

Tune ends a stopped trial like an interrupted one. Here the trial's worker is told instead, and the
trial ends by itself, with weights, summary and a finished run that says who stopped it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from switokd.spec.search import Search

TIME, OBJECTIVE = "epoch", "objective"


def stopping_scheduler(search: Search, epochs: int) -> FinishStopped | None:
    """The scheduler that a search asks for to stop trials of up to `epochs` epochs, or None."""
    settings = {"time_attr": TIME, "metric": OBJECTIVE, "mode": search.mode}
    if search.scheduler == "asha":
        return FinishStopped(
            "asha",
            ASHAScheduler(
                max_t=epochs,
                grace_period=search.grace_epochs,
                reduction_factor=search.reduction_factor,
                **settings,
            ),
        )
    if search.scheduler == "median":
        # it would put trials aside to get others' results sooner; a slice without end forbids that
        rule = MedianStoppingRule(
            grace_period=search.grace_epochs, min_time_slice=float("inf"), **settings
        )
        return FinishStopped("median", rule)
    return None


class FinishStopped(FIFOScheduler):
    """Asks another scheduler at the end of each epoch, and lets its verdict be carried out."""

    def __init__(self, name: str, scheduler: TrialScheduler) -> None:
        super().__init__()
        self._name = name
        self._scheduler = scheduler
        self._stopped: set[str] = set()

    def recall(self, histories: Iterable[Sequence[tuple[int, float]]]) -> None:
        """Compare with trials that earlier calls finished, too: their values by epoch."""
        for number, history in enumerate(histories):
            earlier = EarlierTrial(f"earlier-{number}")
            self._scheduler.on_trial_add(None, earlier)
            for epoch, value in history:
                result = {TIME: epoch, OBJECTIVE: value}
                self._scheduler.on_trial_result(None, earlier, result)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._scheduler.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if trial.trial_id not in self._stopped and OBJECTIVE in result:
            verdict = self._scheduler.on_trial_result(tune_controller, trial, result)
            if verdict == TrialScheduler.STOP:
                self._stopped.add(trial.trial_id)
        if trial.trial_id in self._stopped:
            # again where a worker died before it could obey
            tell_worker(trial, "stop_early", f"stopped by {self._name}")
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        # a failed trial ends without a value, and so does one that was stopped before
        if OBJECTIVE in result and trial.trial_id not in self._stopped:
            self._scheduler.on_trial_complete(tune_controller, trial, result)

    def debug_string(self) -> str:
        return str(self._scheduler.debug_string())


@dataclass(frozen=True)
class EarlierTrial:
    """A trial that is not Tune's any more, as far as its schedulers look."""

    trial_id: str


def tell_worker(trial: Trial, order: str, *arguments: Any) -> None:
    """Call a method of the trial's worker, which comes before the next step that Tune asks of it.

    `order` is a method of `tuning.workers.trial_worker.TrialWorker`.
    """
    worker = trial.temporary_state.ray_actor
    if worker is not None:
        getattr(worker, order).remote(*arguments)
