"""What schedulers decide from results as workers send them, and what becomes of a stop."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from switokd.spec.experiment import Experiment
from tests.tuning.workplace import small_experiment
from tuning.progress import SweepProgress
from tuning.schedulers import SCHEDULERS
from tuning.schedulers.graceful_stop import GracefulStop
from tuning.schedulers.judged_results import PastResult


class Worker:
    """Takes down the orders that a trial's actor would get."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.stop_early = SimpleNamespace(remote=self.orders.append)


class TuneTrial:
    """What the schedulers use of Tune's trial."""

    def __init__(self, name: str) -> None:
        self.trial_id = f"tunes-own-{name}"
        self.config = {"choice": {"trial_id": name}}
        self.temporary_state: Any = SimpleNamespace(ray_actor=Worker())


def trial(name: str) -> Any:
    return TuneTrial(name)


def built(past: Sequence[PastResult] = (), **settings: Any) -> Any:
    content = small_experiment(methods=["dml"], recipe={"epochs": 16}, search=settings)
    experiment = Experiment.model_validate(content)
    progress = SweepProgress(list(experiment.trials), Console(quiet=True))
    return SCHEDULERS.load(experiment.search.scheduler)(experiment, progress, lambda: past)


def scheduler(past: Sequence[PastResult] = (), **settings: Any) -> GracefulStop:
    made = built(past, **settings)
    assert isinstance(made, GracefulStop)
    return made


def report(guide: GracefulStop, who: Any, epoch: int, value: float | None) -> list[str]:
    """The orders that one result leads to; Tune itself is always told to go on."""
    before = len(who.temporary_state.ray_actor.orders)
    result = {"epoch": epoch} | ({} if value is None else {"objective": value})
    assert guide.on_trial_result(None, who, result) == "CONTINUE"
    return who.temporary_state.ray_actor.orders[before:]


def test_without_a_scheduler_every_trial_goes_on() -> None:
    fifo = built()
    for name in ("good", "bad"):
        fifo.on_trial_add(None, trial(name))
        assert fifo.on_trial_result(None, trial(name), {"epoch": 1}) == "CONTINUE"


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_asha_stops_what_is_behind_at_a_rung(mode: str, sign: int) -> None:
    guide = scheduler(scheduler="asha", mode=mode, grace_epochs=2, reduction_factor=2)
    good, bad = trial("good"), trial("bad")
    for each in (good, bad):
        guide.on_trial_add(None, each)
    assert report(guide, good, 2, sign * 90.0) == []
    # before the first rung nothing is decided, and between rungs neither
    assert report(guide, bad, 1, sign * 10.0) == []
    assert report(guide, bad, 2, sign * 10.0) == ["stopped by asha"]
    assert report(guide, good, 3, sign * 1.0) == []


def test_a_worker_that_died_is_told_again_and_a_late_result_counts_no_more() -> None:
    guide = scheduler(scheduler="asha", grace_epochs=1, reduction_factor=2)
    good, bad = trial("good"), trial("bad")
    for each in (good, bad):
        guide.on_trial_add(None, each)
    report(guide, good, 1, 90.0)
    assert report(guide, bad, 1, 10.0) == ["stopped by asha"]
    bad.temporary_state.ray_actor = None
    assert guide.on_trial_result(None, bad, {"epoch": 1, "objective": 99.0}) == "CONTINUE"
    bad.temporary_state.ray_actor = Worker()
    assert report(guide, bad, 1, None) == ["stopped by asha"]
    guide.on_trial_complete(None, bad, {"epoch": 1})


def test_median_stops_below_the_others_means_and_never_pauses() -> None:
    guide = scheduler(scheduler="median", grace_epochs=1)
    others = [trial(str(number)) for number in range(3)]
    bad = trial("bad")
    for each in (*others, bad):
        guide.on_trial_add(None, each)
    for number, other in enumerate(others):
        for epoch in (1, 2):
            assert report(guide, other, epoch, 80.0 + number) == []
    assert report(guide, bad, 1, None) == []
    assert report(guide, bad, 2, 60.0) == ["stopped by median"]


def test_a_failed_trial_is_no_result() -> None:
    guide = scheduler(scheduler="median", grace_epochs=1)
    failed, other = trial("failed"), trial("other")
    for each in (failed, other):
        guide.on_trial_add(None, each)
    guide.on_trial_complete(None, failed, {"done": True, "failure": "diverged"})
    assert report(guide, other, 1, 50.0) == []


@pytest.mark.parametrize("name", ["asha", "median"])
def test_what_earlier_calls_finished_is_compared_with(name: str) -> None:
    past = [
        *(PastResult("first", 1, 80.0), PastResult("second", 1, 82.0)),
        *(PastResult("third", 1, 84.0), PastResult("first", 2, 81.0)),
    ]
    guide = scheduler(past, scheduler=name, grace_epochs=1)
    bad = trial("bad")
    guide.on_trial_add(None, bad)
    assert report(guide, bad, 1, 60.0) == [f"stopped by {name}"]


def test_rungs_survive_a_killed_driver_with_the_trials_that_had_not_finished() -> None:
    """Wherever the driver is killed, the later one decides as the one without an end would."""
    settings: dict[str, Any] = {"scheduler": "asha", "grace_epochs": 1, "reduction_factor": 2}
    values = {"a": [50.0, 60, 70, 80], "b": [40.0, 65, 66, 67], "c": [55.0, 56, 90, 95]}
    values |= {"d": [45.0, 80, 85, 99]}
    results = [PastResult(name, e + 1, values[name][e]) for e in range(4) for name in "abcd"]

    def verdicts(killed_after: int) -> dict[str, int]:
        """The epoch after which each trial is stopped."""
        stopped: dict[str, int] = {}
        shown: list[PastResult] = []
        guide, trials = scheduler(**settings), {name: trial(name) for name in values}
        for name in values:
            guide.on_trial_add(None, trials[name])
        for number, (name, epoch, value) in enumerate(results):
            if number == killed_after:
                guide = scheduler(shown, **settings)
                trials = {name: trial(name) for name in values if name not in stopped}
                for left in trials.values():
                    guide.on_trial_add(None, left)
            if name in stopped:
                continue
            shown.append(PastResult(name, epoch, value))
            if report(guide, trials[name], epoch, value):
                stopped[name] = epoch
        return stopped

    undisturbed = verdicts(len(results))
    assert undisturbed == {"b": 1, "d": 1, "c": 2}
    for killed_after in range(len(results)):
        assert verdicts(killed_after) == undisturbed


def test_a_trial_that_was_killed_before_it_could_obey_is_told_again() -> None:
    past = [PastResult("good", 1, 90.0), PastResult("bad", 1, 10.0)]
    guide = scheduler(past, scheduler="asha", grace_epochs=1, reduction_factor=2)
    bad = trial("bad")
    guide.on_trial_add(None, bad)
    assert report(guide, bad, 1, None) == ["stopped by asha"]
