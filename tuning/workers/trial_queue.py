"""The trials of a grid for Tune, in their order, each once its own teachers have been trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.tune.search import Searcher

from switokd.spec.trial import TrialSpec
from tuning.plan import Plan
from tuning.progress import SweepProgress
from tuning.workers.trial_run import trial_config


class TrialQueue(Searcher):
    """Gives Tune a known list of trials; a student waits for its own teachers and for nobody else.

    Those that teach come first, so that nobody waits longer than it must. A student whose teacher
    has failed fails with that reason, without a worker.
    """

    def __init__(self, trials: Sequence[TrialSpec], plan: Plan, progress: SweepProgress) -> None:
        super().__init__()
        self.total = len(trials)
        self._plan, self._progress = plan, progress
        self._waiting = sorted(trials, key=lambda trial: trial.trial_id not in plan.teaching)
        self._given: set[str] = set()

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been given to Tune, or has failed with its teacher."""
        return not self._waiting

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """True: there is no space to give."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial that can begin; None where all that are left wait for a teacher."""
        for trial in list(self._waiting):
            if (reason := self._without_teacher(trial)) is not None:
                self._waiting.remove(trial)
                self._progress.fail(trial.trial_id, reason)
            elif all(map(self._has_finished, trial.trained_by.values())):
                self._waiting.remove(trial)
                self._given.add(trial.trial_id)
                return {"choice": self._config(trial)}
        return None if self._waiting else str(Searcher.FINISHED)

    def _config(self, trial: TrialSpec) -> dict[str, Any]:
        key = trial.trial_id
        return trial_config(trial, self._plan.points.get(key), self._plan.continues.get(key, ()))

    def _has_finished(self, trial_id: str) -> bool:
        known = self._progress.trials.get(trial_id)
        return trial_id in self._plan.values or (known is not None and known.state == "finished")

    def _without_teacher(self, trial: TrialSpec) -> str | None:
        """Why a trial will have no teacher; None where it has, or may still get one."""
        waiting = {each.trial_id for each in self._waiting}
        for name, teacher in trial.trained_by.items():
            known = self._progress.trials.get(teacher)
            in_training = teacher in self._given and known is not None and known.state != "failed"
            if not (self._has_finished(teacher) or in_training or teacher in waiting):
                reason = self._progress.failures.get(teacher, "it has not been trained")
                label = trial.networks[name].label
                return f"its teacher {name} ({label}), trial {teacher}, failed: {reason.strip()}"
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the progress knows how each trial stands."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the store remembers."""
