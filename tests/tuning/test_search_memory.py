"""What a guided search knows: Optuna told and asked, and what the tracking store remembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from switokd.spec.experiment import Experiment
from switokd.tracking import tracker as tracking
from switokd.tracking.store import TrackedExperiment
from switokd.tracking.tracker import TrialTracker
from tests.shared_folder import put_empty_store
from tuning.plan import make_plan
from tuning.search.tpe import build, tpe_study

SPACE = {
    "temperature": {"low": 1, "high": 8},
    "recipe.learning_rate": {"low": 1e-3, "high": 0.3, "log": True},
    "recipe.batch_size": {"low": 16, "high": 64},
    "S1.model": ["resnet20", "wrn_16_1"],
}


def experiment(space: dict[str, Any] = SPACE, trials: int = 12, **more: Any) -> Experiment:
    search = {"algorithm": "tpe", "trials": trials, "space": space, **more}
    return Experiment.model_validate(
        {
            "name": "searched",
            "dataset": "digits",
            "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
            "methods": ["dml", "switokd"],
            "recipe": {"epochs": 2},
            "search": search,
        }
    )


class NoProgress:
    def __init__(self) -> None:
        self.added: list[str] = []

    def add(self, trial: Any, point: Any) -> None:
        self.added.append(trial.trial_id)


@pytest.fixture
def store(tmp_path: Path) -> TrackedExperiment:
    return tracking.open_experiment("searched", put_empty_store(tmp_path / "mlflow.db"), tmp_path)


def leave_run(
    store: TrackedExperiment, searched: Experiment, trial_id: str, point: Any, top1: float
) -> str:
    """A finished run as a worker would leave it."""
    trial = next(c.at(point) for c in searched.cells if c.at(point).trial_id == trial_id)
    tracker = TrialTracker(store, trial, point)
    tracker.begin("cpu", 1)
    run_id = tracker.finish([], 60)
    MlflowClient(store.uri).log_metric(run_id, "val_top1/S1", top1)
    return run_id


def test_points_survive_the_way_through_optuna() -> None:
    searched = experiment()
    study = tpe_study(searched, 0)
    for _ in range(20):
        asked, cell, point = study.ask()
        assert searched.search.has(point)
        assert type(point["recipe.batch_size"]) is int
        again = study.enqueue(cell, point)
        assert again.params["cell"] == cell
        assert SPACE["S1.model"][again.params["S1.model"]] == point["S1.model"]
        assert again.params["temperature"] == point["temperature"]
        study.tell(asked, 1.0)
        study.tell(again, None)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_what_is_told_moves_what_is_asked(mode: str) -> None:
    space = {"temperature": SPACE["temperature"]}
    study = tpe_study(experiment(space, mode=mode), 0)
    for number in range(30):
        temperature = 1 + 7 * number / 29
        study.tell_past(number % 2, {"temperature": temperature}, temperature)
    asked = [study.ask()[2]["temperature"] for _ in range(20)]
    # at random, 10 of 20 on either side of the middle
    good = [t for t in asked if (t > 4.5) == (mode == "max")]
    assert len(good) >= 16


def test_a_failed_point_counts_as_the_worst_and_a_forgotten_one_not_at_all() -> None:
    study = tpe_study(experiment(), 0)
    for tell in (lambda a: study.tell(a, None), lambda a: study.tell(a, float("nan"))):
        asked, _, _ = study.ask()
        tell(asked)
    forgotten, _, _ = study.ask()
    study.forget(forgotten)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]


def test_the_store_remembers_points_and_a_plan_never_has_too_many(store: TrackedExperiment) -> None:
    searched = experiment()
    fresh = make_plan(searched, store)
    assert fresh.trials == searched.trials
    assert (len(fresh.missing), fresh.to_choose, fresh.total) == (10, 2, 12)

    first = searched.trials[0].trial_id
    leave_run(store, searched, first, searched.points[first].point, 50.0)
    # one that Optuna chose, of the second cell
    point = {
        "temperature": 3.25,
        "recipe.learning_rate": 0.01,
        "recipe.batch_size": 32,
        "S1.model": "resnet20",
    }
    chosen = searched.cells[1].at(point)
    leave_run(store, searched, chosen.trial_id, point, 60.0)
    plan = make_plan(searched, store)
    assert plan.values == {first: 50.0, chosen.trial_id: 60.0}
    assert plan.candidates[chosen.trial_id].cell == 1
    assert (len(plan.missing), plan.to_choose, plan.total) == (9, 1, 12)

    narrower = experiment(SPACE | {"temperature": {"low": 4, "high": 8}})
    assert chosen.trial_id not in make_plan(narrower, store).candidates
    fewer = make_plan(experiment(trials=3), store)
    assert fewer.to_choose == 0


def test_a_search_gives_what_waits_then_chooses_new_ones(store: TrackedExperiment) -> None:
    searched = experiment(trials=11)
    done = [trial.trial_id for trial in searched.trials[:9]]
    for number, trial_id in enumerate(done):
        leave_run(store, searched, trial_id, searched.points[trial_id].point, float(number))
    progress = NoProgress()
    plan = make_plan(searched, store)
    search = build(searched, plan, store, progress)
    assert search.total == 2
    waiting = search.suggest("a")["choice"]
    assert waiting["trial_id"] == searched.trials[9].trial_id
    assert progress.added == []
    new = search.suggest("b")["choice"]
    assert new["trial_id"] not in {trial.trial_id for trial in plan.trials}
    assert searched.search.has(new["point"])
    assert progress.added == [new["trial_id"]]
    assert search.exhausted
    assert search.suggest("c") == "FINISHED"

    run_id = leave_run(store, searched, new["trial_id"], new["point"], 77.0)
    search.on_trial_complete("b", {"run_id": run_id})
    search.on_trial_complete("a", None, error=True)
    told = {trial.state: trial.value for trial in search.study.trials[9:]}
    assert told == {TrialState.COMPLETE: 77.0, TrialState.PRUNED: None}


def test_a_run_that_comes_late_is_taken_up_instead_of_a_new_point(store: TrackedExperiment) -> None:
    """As a killed driver's worker may leave it, when the next driver has made its plan."""
    searched = experiment(trials=12)
    search = build(searched, make_plan(searched, store), store, NoProgress())
    for number in range(10):
        search.suggest(str(number))
    point = {
        "temperature": 3.25,
        "recipe.learning_rate": 0.01,
        "recipe.batch_size": 32,
        "S1.model": "resnet20",
    }
    late = searched.cells[0].at(point).trial_id
    leave_run(store, searched, late, point, 60.0)
    assert search.suggest("10")["choice"]["trial_id"] == late
    assert search.suggest("11")["choice"]["trial_id"] != late
    assert search.suggest("12") == "FINISHED"


def test_few_choices_are_each_tried_once(store: TrackedExperiment) -> None:
    # 2 methods x 3 x 2 points: Optuna alone would try some of them again and again
    space = {"recipe.batch_size": [16, 32, 64], "S1.model": ["resnet20", "wrn_16_1"]}
    searched = experiment(space, trials=12)
    search = build(searched, make_plan(searched, store), store, NoProgress())
    given = [search.suggest(str(n))["choice"]["trial_id"] for n in range(12)]
    assert len(set(given)) == 12
    assert search.exhausted
