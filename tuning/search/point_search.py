"""A guided search's trials for Tune: first those that wait, then points that a study chooses.

Its memory is the tracking store: a point lies with its trial's run from the run's creation on, so
that a search that is started again knows all its points and never makes one too many.
"""

from __future__ import annotations

import logging
from typing import Any

from ray.tune.search import Searcher

from switokd.spec.candidates import Candidate
from switokd.spec.experiment import Experiment
from switokd.tracking.retry import TrackingError
from switokd.tracking.store import TrackedExperiment, TrackingStore
from switokd.validation import FieldError
from tuning.plan import Plan, tracked_candidates
from tuning.progress import SweepProgress
from tuning.search.optuna_study import OptunaStudy
from tuning.workers.trial_run import trial_config

log = logging.getLogger(__name__)

# Optuna repeats itself where choices are few; then a point drawn at random is as good
REPEATS_ALLOWED = 20


class PointSearch(Searcher):
    """Tells Optuna what has been tried, and asks it what to try next."""

    def __init__(
        self,
        experiment: Experiment,
        plan: Plan,
        store: TrackedExperiment,
        progress: SweepProgress,
        study: OptunaStudy,
    ) -> None:
        super().__init__()
        self._progress = progress
        self._experiment, self._store = experiment, store
        self._known = set(plan.candidates)
        # those that train teachers have come before
        missing = [trial.trial_id for trial in plan.missing]
        self._waiting = [plan.candidates[key] for key in missing if key in plan.candidates]
        self.total = len(self._waiting) + plan.to_choose
        self._left = plan.to_choose
        self._continues = plan.continues
        self._asked: dict[str, Any] = {}
        self.study = study
        for trial_id, value in plan.values.items():
            candidate = plan.candidates.get(trial_id)
            if value is not None and candidate is not None:
                self.study.tell_past(candidate.cell, candidate.point, value)

    @property
    def exhausted(self) -> bool:
        """Whether every trial of the search has been given to Tune."""
        return not self._waiting and self._left == 0

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """True: the space is the experiment's, and Tune need not give one."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial for Tune, which calls it `trial_id`."""
        if self.exhausted:
            return str(Searcher.FINISHED)
        if self._waiting:
            candidate = self._waiting.pop(0)
            asked = self.study.enqueue(candidate.cell, candidate.point)
        else:
            asked, candidate = self._created_meanwhile() or self._choose()
            self._left -= 1
            self._known.add(candidate.trial.trial_id)
            self._progress.add(candidate.trial, candidate.point)
        self._asked[trial_id] = asked
        continues = self._continues.get(candidate.trial.trial_id, ())
        return {"choice": trial_config(candidate.trial, candidate.point, continues)}

    def _created_meanwhile(self) -> tuple[Any, Candidate] | None:
        """A point whose run has come since the plan was made.

        A killed driver's workers live on for some seconds, in which they may create it.
        """
        try:
            runs = self._store.trial_runs()
        except TrackingError as error:
            log.warning("%s: the search goes on", error)
            return None
        unknown = {trial_id: run for trial_id, run in runs.items() if trial_id not in self._known}
        for candidate in tracked_candidates(self._experiment, unknown).values():
            return self.study.enqueue(candidate.cell, candidate.point), candidate
        return None

    def _choose(self) -> tuple[Any, Candidate]:
        for _ in range(REPEATS_ALLOWED):
            asked, cell, point = self.study.ask()
            try:
                trial = self._experiment.cells[cell].at(point)
            except FieldError as error:
                log.warning("the point %s is no trial: %s", point, error)
            else:
                if trial.trial_id not in self._known:
                    return asked, Candidate(trial, cell, point)
            self.study.forget(asked)
        drawn = self._experiment.draw()
        candidate = next(each for each in drawn if each.trial.trial_id not in self._known)
        return self.study.enqueue(candidate.cell, candidate.point), candidate

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna what the tracking store has of a trial that has ended."""
        run_id = (result or {}).get("run_id")
        self.study.tell(self._asked.pop(trial_id), self._tracked(run_id) if run_id else None)

    def _tracked(self, run_id: str) -> float | None:
        try:
            run = TrackingStore(self._store.uri).run(run_id)
        except TrackingError as error:
            log.warning("%s: the search goes on without this trial's result", error)
            return None
        value = run.data.metrics.get(self._experiment.search.metric)
        return None if value is None else float(value)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the store remembers."""
