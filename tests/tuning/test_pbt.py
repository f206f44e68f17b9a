"""What a population decides from results as workers send them, and what it tells the workers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.experiment import Trial
from rich.console import Console

from switokd.spec.experiment import Experiment
from switokd.spec.trial import TrialSpec
from tests.tuning.test_tune_internals import Controller
from tests.tuning.workplace import small_experiment
from tuning.progress import SweepProgress
from tuning.schedulers import SCHEDULERS
from tuning.workers.progress_callback import ProgressCallback
from tuning.workers.trial_run import trial_config

KEY = "recipe.learning_rate"


class Remote:
    """A method of a worker; takes down its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def remote(self, *arguments: Any) -> None:
        self.calls.append(arguments)


class Worker:
    """The methods of `TrialWorker` that a population calls."""

    def __init__(self) -> None:
        self.pause, self.take_over = Remote(), Remote()


class Members:
    """A population of four, each of which is running and has a worker."""

    def __init__(self, mode: str) -> None:
        content = small_experiment(
            methods=["dml"],
            recipe={"epochs": 8},
            search={
                "algorithm": "random",
                "trials": 4,
                "space": {KEY: {"low": 0.01, "high": 0.1}},
                "scheduler": "pbt",
                "mode": mode,
                "perturbation_epochs": 2,
            },
        )
        del content["recipe"]["learning_rate"]
        self.experiment = Experiment.model_validate(content)
        self.progress = SweepProgress(list(self.experiment.trials), Console(quiet=True))
        self.population = SCHEDULERS.load("pbt")(self.experiment, self.progress, list)
        self.trials = []
        for spec in self.experiment.trials:
            point = self.experiment.points[spec.trial_id].point
            config = {"choice": trial_config(spec, point)}
            trial = Trial("stub", stub=True, trial_id=spec.trial_id, config=config)
            trial.temporary_state.ray_actor = Worker()
            trial.set_status(Trial.RUNNING)
            self.trials.append(trial)
        self.controller = Controller(self.trials)
        for trial in self.trials:
            self.population.on_trial_add(self.controller, trial)

    def report(self, trial: Trial, epoch: int, value: float | None) -> str:
        point = json.dumps(trial.config["choice"]["point"])
        result = {"epoch": epoch, "point": point}
        result |= {} if value is None else {"objective": value}
        return str(self.population.on_trial_result(self.controller, trial, result))


def orders(trial: Trial) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = trial.temporary_state.ray_actor.take_over.calls
    return calls


def test_tune_can_save_it_though_it_holds_the_terminals_table() -> None:
    assert cloudpickle.dumps(Members("max").population)
    assert cloudpickle.dumps(ProgressCallback(Members("max").progress))


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_the_worst_goes_on_from_the_best_near_its_settings(mode: str, sign: int) -> None:
    members = Members(mode)
    middle, best, other, worst = members.trials
    rate = best.config["choice"]["point"][KEY]
    for epoch in (1, 2):
        members.report(middle, epoch, sign * 50.0)
        members.report(best, epoch, sign * 90.0)
        members.report(other, epoch, sign * 40.0)
        assert members.report(worst, epoch, sign * 10.0) == "CONTINUE"
    ((donor, changed, point),) = orders(worst)
    assert donor == best.config["choice"]["trial_id"]
    assert 0.01 <= point[KEY] <= 0.1
    assert point[KEY] != rate
    assert {network.learning_rate for network in networks(changed)} == {point[KEY]}
    # it stays itself: its own trial, with what it began with
    assert worst.config["choice"]["trial_id"] == worst.trial_id
    assert worst.config["choice"]["point"] == point
    assert worst.config["choice"]["sampled"] != point
    assert not orders(best)
    # its donor has a checkpoint
    assert members.controller.saved == [best]


def networks(changed: str) -> list[Any]:
    return list(TrialSpec.model_validate_json(changed).networks.values())


def test_members_are_compared_after_the_same_epoch() -> None:
    members = Members("max")
    early, late, *_ = members.trials
    for epoch, value in ((2, 10.0), (4, 70.0)):
        members.report(early, epoch, value)
    # worse than the other is by now, better than it was then
    members.report(late, 2, 50.0)
    assert not orders(late)
    members.report(late, 4, 60.0)
    assert len(orders(late)) == 1


def test_a_member_that_others_wait_for_is_paused_by_its_worker_too() -> None:
    members = Members("max")
    first, second, *_ = members.trials
    second.set_status(Trial.PENDING)
    assert members.report(first, 2, None) == "CONTINUE"
    members.progress.start(first.trial_id)
    assert members.report(first, 2, 50.0) == "PAUSE"
    assert first.temporary_state.ray_actor.pause.calls == [()]
    assert members.progress.trials[first.trial_id].state == "waiting"
