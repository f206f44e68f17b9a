"""Tune's events, passed on to the table of the sweep's progress."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tuning.progress import SweepProgress
from tuning.tune_internals import error_of


class ProgressCallback(tune.Callback):
    """Tells a `SweepProgress` what Tune does with each trial."""

    def __init__(self, progress: SweepProgress) -> None:
        super().__init__()
        self._progress = progress

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._progress.start(trial_id(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        self._progress.report(trial_id(trial), result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        self._progress.complete(trial_id(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._progress.give_up(trial_id(trial), error_of(trial))


def trial_id(trial: Trial) -> str:
    """Tune's name for a trial is its content id."""
    return str(trial.config["choice"]["trial_id"])
