"""What a sweep has to do: which trials there are, which have finished, how many are still to find.

All of it follows from the experiment file and the tracking store, so that it is found anew by
every call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from switokd import names
from switokd.session.extension import shorter_trials
from switokd.spec.candidates import Candidate
from switokd.spec.experiment import Experiment
from switokd.spec.space import SearchPoint
from switokd.spec.teaching import with_teachers
from switokd.spec.trial import TrialSpec
from switokd.tracking.store import TrackedExperiment, TrackingStore
from switokd.validation import FieldError
from tuning.changed_trials import changed_since
from tuning.schedulers.judged_results import PastResult


@dataclass(frozen=True)
class Plan:
    """The trials known so far, with their points where they are a search's.

    `values`: the search's metric of finished trials by id, None where a run has none; `run_ids`:
    their runs; `all_run_ids`: those of unfinished trials too. `to_choose`: how many trials a guided
    search adds to the known ones. `continues`: for a missing trial, by id, finished ones that are
    it with fewer epochs. `changed`: for a missing trial a finished one that the file had before,
    and the params in which they differ. `again`: why a finished trial is trained once more.
    `guided`: what a scheduler did to a finished trial.
    """

    trials: tuple[TrialSpec, ...]
    candidates: dict[str, Candidate]
    values: dict[str, float | None]
    to_choose: int
    run_ids: dict[str, str] = field(default_factory=dict)
    all_run_ids: dict[str, str] = field(default_factory=dict)
    continues: dict[str, list[str]] = field(default_factory=dict)
    changed: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)
    guided: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[TrialSpec]:
        """The known trials without a finished run."""
        return [trial for trial in self.trials if trial.trial_id not in self.values]

    @cached_property
    def points(self) -> dict[str, SearchPoint]:
        """The points of a search's trials by id."""
        return {key: candidate.point for key, candidate in self.candidates.items()}

    @cached_property
    def teaching(self) -> frozenset[str]:
        """The ids of the trials that train a teacher of another."""
        return frozenset(key for trial in self.trials for key in trial.trained_by.values())

    @property
    def total(self) -> int:
        return len(self.trials) + self.to_choose

    @property
    def to_train(self) -> int:
        """How many trials have not finished, those that are still to be chosen included."""
        return self.total - len(self.values)

    def best(self, mode: str) -> str | None:
        """The finished trial of a search with the best value; None without one.

        `mode`: max or min.
        """
        found = {
            key: value
            for key, value in self.values.items()
            if value is not None and key in self.candidates
        }
        return (max if mode == "max" else min)(found, key=lambda key: found[key], default=None)


def make_plan(experiment: Experiment, store: TrackedExperiment | None) -> Plan:
    """What the store, where there is one, says of an experiment. Raises TrackingError."""
    runs = store.trial_runs() if store else {}
    search = experiment.search
    candidates = dict(experiment.points) if search.draws else {}
    # points of a search are known by the ids that the file gives
    listed = experiment.trials if search.draws else as_begun(experiment.trials, runs)
    trials = {trial.trial_id: trial for trial in listed}
    to_choose = 0
    if search.is_guided:
        chosen = tracked_candidates(experiment, runs)
        candidates = candidates | chosen
        known = with_teachers(candidate.trial for candidate in candidates.values())
        trials = {trial.trial_id: trial for trial in known}
        to_choose = max(0, (search.trials or 0) - len(candidates))
    ended = {key: run for key, run in runs.items() if run.info.status == "FINISHED"}
    again = {
        key: reason
        for key, trial in trials.items()
        if key in ended and (reason := unkept_snapshots(trial, ended[key].data.tags))
    }
    finished = {key: ended[key] for key in trials if key in ended and key not in again}
    values = {key: run.data.metrics.get(search.metric) for key, run in finished.items()}
    run_ids = {key: run.info.run_id for key, run in finished.items()}
    missing = [trial for key, trial in trials.items() if key not in finished]
    params = {key: run.data.params for key, run in ended.items()}
    continues = shorter_trials(missing, params)
    former = {key: value for key, value in params.items() if key not in trials}
    # a guided search's earlier points are no older form of its first ones
    changed = {} if search.draws else changed_since(missing, former)
    all_run_ids = {key: runs[key].info.run_id for key in trials if key in runs}
    return Plan(
        tuple(trials.values()),
        candidates,
        values,
        to_choose,
        run_ids,
        all_run_ids,
        continues,
        changed,
        again,
        {
            key: told
            for key, run in finished.items()
            if (told := what_a_scheduler_did(run.data.tags))
        },
    )


def what_a_scheduler_did(tags: Mapping[str, str]) -> str | None:
    """In words, where one ended a run's training early or changed its settings."""
    changed = "its settings changed on the way" if names.CHANGES in tags else None
    return tags.get(names.STOPPED, changed)


def as_begun(trials: Sequence[TrialSpec], runs: Mapping[str, Any]) -> Iterator[TrialSpec]:
    """The trials, those with the id that they have in the store which were begun before images were
    identified by their content.

    One that teaches another is known by the other's spec and has a new id.
    """
    teaching = {key for trial in trials for key in trial.trained_by.values()}
    for trial in trials:
        is_known = trial.trial_id in runs or trial.trial_id in teaching
        if not is_known and trial.dataset_path is not None and trial.dataset_digest is not None:
            former = TrialSpec.model_validate(trial.model_dump() | {"dataset_digest": None})
            yield former if former.trial_id in runs else trial
        else:
            yield trial


def unkept_snapshots(trial: TrialSpec, tags: Mapping[str, str]) -> str | None:
    """Why a finished trial does not do for those that it teaches; None where it does."""
    kept = json.loads(tags.get(names.SNAPSHOTS, "[]"))
    lacking = [epoch for epoch in trial.snapshots if epoch not in kept]
    if not lacking:
        return None
    return f"its weights after epoch {', '.join(map(str, lacking))} teach, and were not kept"


def past_results(plan: Plan, store: TrackedExperiment, metric: str) -> list[PastResult]:
    """The plan's trials after each tracked epoch, oldest first, unfinished trials too.

    Raises TrackingError.
    """
    # teachers are not judged: they come before those that are
    judged = {key: run for key, run in plan.all_run_ids.items() if key not in plan.teaching}
    ids = {run_id: trial_id for trial_id, run_id in judged.items()}
    found = TrackingStore(store.uri).histories(ids, [metric])
    found.sort(key=lambda point: (point[4], point[2]))
    return [PastResult(ids[run_id], epoch, value) for run_id, _, epoch, value, _ in found]


def tracked_candidates(experiment: Experiment, runs: dict[str, Any]) -> dict[str, Candidate]:
    """The points of the experiment's space that earlier calls chose, oldest first, by trial id."""
    found = {}
    for trial_id, run in reversed(runs.items()):
        point = json.loads(run.data.tags.get(names.POINT, "null"))
        if not isinstance(point, dict) or not experiment.search.has(point):
            continue
        for number, cell in enumerate(experiment.cells):
            # another recipe, say, makes it another trial, whose result says nothing here
            try:
                trial = cell.at(point)
            except FieldError:
                # the file has changed since, and does not allow it any more
                continue
            if trial.trial_id == trial_id:
                found[trial_id] = Candidate(trial, number, point)
    return found
