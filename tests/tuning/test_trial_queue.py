"""In which order trials are given to Tune, and who waits for whom."""

from __future__ import annotations

import io
from typing import Any

from ray.tune.search import Searcher
from rich.console import Console

from switokd.spec.trial import TrialSpec
from tests.tuning.workplace import small_trials
from tuning.plan import Plan
from tuning.progress import SweepProgress
from tuning.workers.trial_queue import TrialQueue


class Sweep:
    """The trials of an experiment, and what Tune would do with them."""

    def __init__(self, finished: set[str] | None = None, **changes: Any) -> None:
        self.all = list(small_trials(**changes))
        self.finished = finished or set()
        missing = [trial for trial in self.all if trial.trial_id not in self.finished]
        self.progress = SweepProgress(missing, Console(file=io.StringIO()))
        values: dict[str, Any] = dict.fromkeys(self.finished)
        plan = Plan(tuple(self.all), {}, values, 0)
        self.queue = TrialQueue(missing, plan, self.progress)

    def next(self) -> str | None:
        """The id of the next trial, begun; None where all wait, `Searcher.FINISHED` at the end."""
        answer = self.queue.suggest("tune's")
        if not isinstance(answer, dict):
            return answer
        trial_id: str = answer["choice"]["trial_id"]
        self.progress.start(trial_id)
        return trial_id

    def fail(self, trial_id: str, reason: str) -> None:
        self.progress.report(trial_id, {"failure": reason, "out_of_memory": False})
        self.progress.complete(trial_id)


def ids(trials: list[TrialSpec]) -> list[str]:
    return [trial.trial_id for trial in trials]


def test_without_teachers_trials_come_in_their_order() -> None:
    sweep = Sweep(methods=["dml", "switokd"], seeds=[0, 1])
    assert [sweep.next() for _ in range(4)] == ids(sweep.all)
    assert sweep.queue.exhausted
    assert sweep.next() == Searcher.FINISHED


def of_two_seeds(**changes: Any) -> tuple[Sweep, list[str], list[str], list[str]]:
    """Two teachers' trials, the students of each by seed, and who waits for nobody."""
    sweep = Sweep(methods=["kd", "fitnet", "dml"], seeds=[0, 1], **changes)
    teachers = [t for t in sweep.all if t.method.name == "vanilla"]
    taught = [t for t in sweep.all if t.trained_by]
    free = [t for t in sweep.all if t.method.name == "dml"]
    return sweep, ids(teachers), ids(taught), ids(free)


def test_a_student_waits_for_its_own_teacher_and_comes_before_later_trials() -> None:
    sweep, (one, other), taught, free = of_two_seeds()
    assert [sweep.next(), sweep.next(), sweep.next()] == [one, other, free[0]]
    sweep.progress.complete(other)
    ready = [t.trial_id for t in sweep.all if t.trained_by and other in t.trained_by.values()]
    first = sweep.next()
    # the places in the file are kept among those that can begin
    order = ids(sweep.all)
    assert first == min([*ready, free[1]], key=order.index)
    assert {sweep.next(), sweep.next()} == {*ready, free[1]} - {first}
    assert sweep.next() is None
    assert not sweep.queue.exhausted
    sweep.progress.complete(one)
    assert [sweep.next(), sweep.next()] == [key for key in taught if key not in ready]
    assert sweep.next() == Searcher.FINISHED


def test_students_of_a_failed_teacher_fail_with_its_reason() -> None:
    sweep, (one, other), taught, free = of_two_seeds()
    assert [sweep.next() for _ in range(4)] == [one, other, *free]
    sweep.fail(one, "diverged at step 3")
    assert sweep.next() is None
    failed = [t.trial_id for t in sweep.all if one in t.trained_by.values()]
    assert len(failed) == 2
    for key in failed:
        told = sweep.progress.failures[key]
        assert told == f"its teacher T1 (wrn_16_1), trial {one}, failed: diverged at step 3"
        assert sweep.progress.trials[key].state == "failed"
    sweep.progress.complete(other)
    assert {sweep.next(), sweep.next()} == set(taught) - set(failed)
    assert sweep.next() == Searcher.FINISHED


def test_a_teacher_that_has_finished_before_is_not_waited_for() -> None:
    _, teachers, taught, free = of_two_seeds()
    sweep, *_ = of_two_seeds(finished=set(teachers))
    assert {sweep.next() for _ in range(6)} == {*taught, *free}
    assert sweep.next() == Searcher.FINISHED


def test_a_teacher_that_nobody_trains_fails_its_students() -> None:
    sweep, _, taught, _ = of_two_seeds()
    students = [trial for trial in sweep.all if trial.trial_id in taught]
    queue = TrialQueue(students, sweep.queue._plan, sweep.progress)
    assert queue.suggest("tune's") == Searcher.FINISHED
    assert queue.exhausted
    assert set(sweep.progress.failures) == set(taught)
    assert all("it has not been trained" in told for told in sweep.progress.failures.values())
