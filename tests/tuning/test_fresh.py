"""A `--fresh` that is cut off: the next call ends the deleting, and begins at first steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from switokd.files.lock import FileLock, HeldError
from switokd.session.folders import trial_folder
from switokd.spec.experiment import Experiment
from switokd.tracking import tracker as tracking
from switokd.tracking.store import TrackedExperiment
from switokd.tracking.tracker import TrialTracker
from tests.tuning.workplace import small_experiment
from tuning import sweep as sweeping
from tuning import upkeep
from tuning.plan import Plan, make_plan
from tuning.upkeep import FreshStart, start_fresh

pytestmark = pytest.mark.slow


def experiment(epochs: int) -> Experiment:
    content = small_experiment(methods=["dml"], seeds=[0, 1], recipe={"epochs": epochs})
    return Experiment.model_validate(content)


def finish_trials(runs: Path) -> TrackedExperiment:
    """A store in which both trials of one and of two epochs have finished."""
    store = tracking.open_experiment("small", f"sqlite:///{runs / 'mlflow.db'}", runs)
    for trial in (*experiment(1).trials, *experiment(2).trials):
        trial_folder(runs, "small", trial.trial_id).mkdir(parents=True)
        tracker = TrialTracker(store, trial)
        tracker.begin("cpu", 1)
        tracker.finish([], 60)
    return store


def test_a_fresh_sweep_that_is_killed_stays_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, longer = finish_trials(tmp_path), experiment(2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    folder = tmp_path / "small"
    plans: list[Plan] = []

    def train(experiment: Experiment, plan: Plan, *_: Any) -> dict[str, str]:
        """Killed while it trains, but for the last time."""
        plans.append(plan)
        if len(plans) < 3:
            raise KeyboardInterrupt
        return {}

    def sweep(fresh: bool = False) -> None:
        with pytest.raises(KeyboardInterrupt):
            sweeping.sweep(longer, runs=tmp_path, console=Console(quiet=True), fresh=fresh)

    monkeypatch.setattr(sweeping, "_train_tracked", train)
    with monkeypatch.context() as killed:

        def die(*_: Any) -> None:
            raise KeyboardInterrupt

        # the checkpoints are gone, the runs are there
        killed.setattr(upkeep.tracking, "delete_runs", die)
        sweep(fresh=True)
    assert not plans
    assert len(make_plan(longer, store).values) == 2
    for _ in range(2):
        sweep()
        assert plans[-1].missing == list(longer.trials)
        assert plans[-1].continues == {}
    sweeping.sweep(longer, runs=tmp_path, console=Console(quiet=True))
    assert plans[-1].continues == {}
    assert not FreshStart(folder).trial_ids()
    # what has come to its end is forgotten: a later trial goes on from a shorter one again
    assert set(make_plan(longer, store).continues) == {t.trial_id for t in longer.trials}


def test_a_refused_fresh_leaves_nothing_to_be_deleted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, longer = finish_trials(tmp_path), experiment(2)
    monkeypatch.setattr(upkeep, "WORKER_EXIT_SECONDS", 0.1)
    plan, started = make_plan(longer, store), FreshStart(tmp_path / "small")
    lock = trial_folder(tmp_path, "small", longer.trials[1].trial_id) / "lock"
    with FileLock(lock, "a trial"), pytest.raises(HeldError):
        start_fresh(plan, started, store, tmp_path, asked=True)
    assert not start_fresh(plan, started, store, tmp_path, asked=False)
    assert len(make_plan(longer, store).values) == 2
