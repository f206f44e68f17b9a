"""The trials of a grid for Tune, in their order, each once its own teachers have been trained."""

from __future__ import annotations

import heapq
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
    has failed fails with that reason, without a worker. What is done for each trial depends
    on how many teachers are in training, and not on how many trials there are.
    """

    def __init__(self, trials: Sequence[TrialSpec], plan: Plan, progress: SweepProgress) -> None:
        super().__init__()
        self.total = len(trials)
        self._plan, self._progress = plan, progress
        self._trials = sorted(trials, key=lambda trial: trial.trial_id not in plan.teaching)
        # by their place: those that can begin, the next one first; those that wait for a teacher
        self._ready: list[int] = []
        self._lacking: dict[int, set[str]] = {}
        self._students: dict[str, list[int]] = {}
        for place, trial in enumerate(self._trials):
            lacking = set(trial.trained_by.values())
            if lacking:
                self._lacking[place] = lacking
            else:
                self._ready.append(place)
            for teacher in lacking:
                self._students.setdefault(teacher, []).append(place)
        # teachers whose end students wait for: given, or not there to be given
        self._given: set[str] = set()
        self._awaited = self._students.keys() - {trial.trial_id for trial in trials}

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been given to Tune, or has failed with its teacher."""
        return not self._ready and not self._lacking

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """True: there is no space to give."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial that can begin; None where all that are left wait for a teacher."""
        for teacher in sorted(self._awaited):
            self._look_at(teacher)
        if not self._ready:
            return None if self._lacking else str(Searcher.FINISHED)
        trial = self._trials[heapq.heappop(self._ready)]
        self._given.add(trial.trial_id)
        if trial.trial_id in self._students:
            self._awaited.add(trial.trial_id)
        return {"choice": self._config(trial)}

    def _config(self, trial: TrialSpec) -> dict[str, Any]:
        key = trial.trial_id
        return trial_config(trial, self._plan.points.get(key), self._plan.continues.get(key, ()))

    def _has_finished(self, trial_id: str) -> bool:
        known = self._progress.trials.get(trial_id)
        return trial_id in self._plan.values or (known is not None and known.state == "finished")

    def _look_at(self, teacher: str) -> None:
        """Let the students of a teacher begin, or fail, where it has ended."""
        known = self._progress.trials.get(teacher)
        if self._has_finished(teacher):
            for place in self._students.pop(teacher):
                lacking = self._lacking.get(place, set())
                lacking.discard(teacher)
                if place in self._lacking and not lacking:
                    del self._lacking[place]
                    heapq.heappush(self._ready, place)
        elif known is None or known.state == "failed" or teacher not in self._given:
            for place in self._students.pop(teacher):
                if self._lacking.pop(place, None) is not None:
                    self._progress.fail(*self._without(teacher, self._trials[place]))
        else:
            return
        self._awaited.discard(teacher)

    def _without(self, teacher: str, trial: TrialSpec) -> tuple[str, str]:
        """A trial's id, and why it has no teacher."""
        (name, *_) = (name for name, key in trial.trained_by.items() if key == teacher)
        reason = self._progress.failures.get(teacher, "it has not been trained").strip()
        label = trial.networks[name].label
        return trial.trial_id, f"its teacher {name} ({label}), trial {teacher}, failed: {reason}"

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the progress knows how each trial stands."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the store remembers."""
