"""Offline trials in a real sweep: each begins when its own teacher is done, from its weights."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from switokd.spec.trial import TrialSpec
from tests.processes import await_
from tests.tuning.test_rank_actors import assert_finished_as_alone
from tests.tuning.workplace import Workplace, small_experiment, weights

pytestmark = pytest.mark.slow

COHORTS = [
    {"teachers": ["wrn_16_1"], "students": ["resnet20"]},
    {"teachers": ["wrn_16_2"], "students": ["resnet20"]},
]


def staged(*methods: Any, **changes: Any) -> dict[str, Any]:
    content = {"name": "staged", "methods": list(methods), "recipe": {"epochs": 2}}
    return small_experiment(**content | changes)


def teachers_of(trials: tuple[TrialSpec, ...]) -> dict[str, TrialSpec]:
    taught = {key for trial in trials for key in trial.trained_by.values()}
    return {trial.pair: trial for trial in trials if trial.trial_id in taught}


def test_a_student_waits_for_its_own_teacher_and_rco_for_snapshots(
    tmp_path: Path, shared_ray: dict[str, str]
) -> None:
    workplace = Workplace(tmp_path, **shared_ray)
    content = staged("kd", cohorts=COHORTS)
    trials = workplace.write(content).trials
    teachers = teachers_of(trials)
    students = {t.pair: t for t in trials if t.trained_by}
    held, free = students["wrn_16_2>resnet20"], students["wrn_16_1>resnet20"]
    workplace.let(2, teachers["wrn_16_2"])
    sweep = workplace.start("sweep", workplace.file.name)
    await_(lambda: workplace.held(teachers["wrn_16_2"]), of=sweep)
    # the other pair goes all its way meanwhile
    await_((workplace.trial_folder(free) / "weights").exists, of=sweep)
    assert not workplace.trial_folder(held).exists()
    workplace.let(None, teachers["wrn_16_2"])
    output = sweep.ended(timeout=200)
    assert "2 of them train teachers; 2 students begin each when its own teacher is done" in output
    runs = workplace.trial_runs("staged")
    assert set(runs) == {trial.trial_id for trial in trials}
    for pair, student in students.items():
        teacher = teachers[pair.partition(">")[0]]
        assert runs[student.trial_id].data.params["T1.trained_by"] == teacher.trial_id
        assert_taught_by(workplace, student, teacher)

    # with rco in the file a finished teacher is trained again, for the weights it did not keep
    workplace.write(content | {"methods": ["kd", "rco"]})
    output = workplace.sweep("--dry-run")
    assert "to train again: its weights after epoch 1 teach, and were not kept" in output
    output = workplace.sweep()
    assert "6 trials, 2 finished before, 4 to train" in output
    assert output.count("again: its weights after epoch 1 teach, and were not kept") == 2
    again = workplace.trial_runs("staged")
    for student in students.values():
        assert again[student.trial_id].info.run_id == runs[student.trial_id].info.run_id
    for teacher in teachers.values():
        # the old run is deleted, restorably
        assert again[teacher.trial_id].info.run_id != runs[teacher.trial_id].info.run_id
        assert (workplace.trial_folder(teacher) / "weights" / "S1-epoch-1.pt").exists()
    output = workplace.sweep()
    assert "6 trials, 6 finished before, 0 to train" in output


def assert_taught_by(workplace: Workplace, student: TrialSpec, teacher: TrialSpec) -> None:
    taught = weights(workplace.trial_folder(student))["T1-last.pt"]
    trained = weights(workplace.trial_folder(teacher))["S1-last.pt"]
    assert taught.keys() == trained.keys()
    assert all(torch.equal(taught[key], trained[key]) for key in trained)


def test_a_failed_teacher_fails_its_students_and_nobody_else(
    tmp_path: Path, shared_ray: dict[str, str]
) -> None:
    workplace = Workplace(tmp_path, **shared_ray)
    diverging = {"model": "wrn_16_2", "learning_rate": 1e30}
    cohorts = [COHORTS[0], {"teachers": [diverging], "students": ["resnet20"]}]
    trials = workplace.write(staged("kd", "at", cohorts=cohorts)).trials
    bad = next(t for t in trials if t.pair == "wrn_16_2")
    output = workplace.sweep(status=1)
    assert "Traceback" not in output
    runs = workplace.trial_runs("staged")
    for trial in trials:
        fails = bad.trial_id in (trial.trial_id, *trial.trained_by.values())
        if trial.trained_by and fails:
            reason = f"its teacher T1 (wrn_16_2), trial {bad.trial_id}, failed: diverged at step"
            assert f"failed: {trial.label}: {reason}" in output
            assert trial.trial_id not in runs
        else:
            assert runs[trial.trial_id].info.status == ("FAILED" if fails else "FINISHED")


def test_a_killed_sweep_goes_on_with_its_stages(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    content = staged(
        "kd",
        "rco",
        resources={"checkpoint_seconds": 0},
    )
    trials = workplace.write(content).trials
    (teacher,) = teachers_of(trials).values()
    # into its second epoch
    workplace.let(5, teacher)
    sweep = workplace.start("sweep", workplace.file.name)
    await_(lambda: workplace.held(teacher), of=sweep)
    worker = workplace.worker_pid(teacher)
    assert worker is not None
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    sweep = workplace.start("sweep", workplace.file.name)
    await_(lambda: workplace.worker_pid(teacher) != worker, of=sweep)
    workplace.let(None, teacher)
    output = sweep.ended(timeout=200)
    assert "3 trials, 0 finished before, 3 to train" in output
    assert_finished_as_alone(workplace, trials)


def test_a_search_trains_teachers_first_and_counts_them_not(
    tmp_path: Path, shared_ray: dict[str, str]
) -> None:
    workplace = Workplace(tmp_path, **shared_ray)
    search = {"algorithm": "tpe", "trials": 3, "metric": "val_top1/S1"}
    search["space"] = {"method.alpha": {"low": 0.1, "high": 1.0}}
    recipe = {"epochs": 1, "holdout": 0.2}
    workplace.write(staged("kd", recipe=recipe, search=search))
    output = workplace.sweep()
    assert "4 trials, 0 finished before, 4 to train" in output
    assert "best of 3: val_top1/S1" in output
    runs = sorted(workplace.trial_runs("staged").values(), key=lambda run: run.info.start_time)
    assert [run.data.tags["switokd.method"] for run in runs] == ["vanilla", "kd", "kd", "kd"]
    assert runs[0].info.end_time <= runs[1].info.start_time
    output = workplace.sweep()
    assert "4 trials, 4 finished before, 0 to train" in output


def test_one_trial_alone_needs_its_teacher_first(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    trials = workplace.write(staged("kd", recipe={"epochs": 1})).trials
    teacher, student = trials
    output = workplace.start("train", workplace.file.name, "--trial", student.trial_id).ended(2)
    assert f"switokd train {workplace.file.name} --trial {teacher.trial_id}" in output
    workplace.start("train", workplace.file.name, "--trial", teacher.trial_id).ended()
    # another machine, or a pruned folder, has the teacher's weights from its run
    kept = workplace.trial_folder(teacher) / "weights"
    aside = kept.rename(tmp_path / "aside")
    workplace.start("train", workplace.file.name, "--trial", student.trial_id).ended()
    aside.rename(kept)
    assert_taught_by(workplace, student, teacher)
    assert set(workplace.trial_runs("staged")) == {trial.trial_id for trial in trials}
    # another file takes the same teacher by its run, and trains none
    by_run = {"kd": {"teacher": f"run:{teacher.trial_id[:8]}/S1/last"}}
    workplace.file.write_text(yaml.safe_dump(staged(by_run, name="again", recipe={"epochs": 1})))
    workplace.start("train", workplace.file.name).ended()
    (run,) = workplace.trial_runs("again").values()
    assert run.data.params["T1.frozen"] == "true"
    taught = weights(workplace.folder / "runs/again/trials" / run.data.tags["switokd.trial_id"])
    trained = weights(workplace.trial_folder(teacher))["S1-last.pt"]
    assert all(torch.equal(taught["T1-last.pt"][key], trained[key]) for key in trained)
    # what it cannot have is said where it stands
    for reference, told in (
        ("run:ffff", "has no run 'ffff'"),
        (f"run:{teacher.trial_id}/T1", "has no last weights of 'T1'"),
        (f"run:{teacher.trial_id}/S1/last/more", "must be run:RUN[/NETWORK][/best|/last]"),
    ):
        by_run["kd"]["teacher"] = reference
        workplace.file.write_text(yaml.safe_dump(staged(by_run)))
        output = workplace.start("train", workplace.file.name).ended(2)
        assert "methods.0.kd.teacher: " in output
        assert told in output
