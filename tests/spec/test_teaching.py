"""Offline methods in a file: which trial trains their teacher, once, and what identifies both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from switokd.spec.experiment import load_experiment
from switokd.spec.tracked_params import all_but_length, params_of
from switokd.spec.trial import TrialSpec
from switokd.validation import SpecError


def file(*methods: Any, **changes: Any) -> dict[str, Any]:
    return {
        "name": "staged",
        "dataset": "digits",
        "cohorts": [{"teachers": ["wrn_16_2"], "students": ["resnet20"]}],
        "methods": list(methods),
        "recipe": {"epochs": 8},
        **changes,
    }


def trials(*methods: Any, **changes: Any) -> tuple[TrialSpec, ...]:
    return load_experiment(file(*methods, **changes)).trials


def complaint(*methods: Any, **changes: Any) -> str:
    with pytest.raises(SpecError) as raised:
        load_experiment(file(*methods, **changes))
    return str(raised.value).removeprefix("the experiment: ")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.pt"
    path.write_bytes(b"weights")
    return path


def test_a_teacher_is_the_vanilla_trial_of_its_network_and_trained_before() -> None:
    alone = {t.pair: t.trial_id for t in trials("vanilla")}
    teacher, student = trials("kd")
    assert teacher.trial_id == alone["wrn_16_2"]
    assert student.trained_by == {"T1": teacher.trial_id}
    assert (student.topology, student.pair) == ("1T1S", "wrn_16_2>resnet20")
    assert student.frozen == {"T1"}
    # named by the file as well, it is still one trial
    assert [t.trial_id for t in trials("kd", "vanilla")] == [
        teacher.trial_id,
        student.trial_id,
        alone["resnet20"],
    ]


def test_all_offline_methods_and_seeds_share_teachers() -> None:
    found = trials("kd", "fitnet", "at", "crd", "rco", seeds=[0, 1])
    teachers = {t.seed: t.trial_id for t in found if t.topology == "single"}
    students = [t for t in found if t.topology != "single"]
    assert (len(teachers), len(students)) == (2, 10)
    for student in students:
        assert student.trained_by == {"T1": teachers[student.seed]}
        # nobody comes before its teacher
        order = [t.trial_id for t in found]
        assert order.index(teachers[student.seed]) < order.index(student.trial_id)


def test_what_changes_the_teachers_training_changes_its_students() -> None:
    first = {t.topology: t for t in trials("kd")}
    for changes in (
        {"recipe": {"epochs": 9}},
        {"seeds": [3]},
        {"cohorts": [{"teachers": [{"model": "wrn_16_2", "learning_rate": 0.2}]}]},
    ):
        if "cohorts" in changes:
            changes["cohorts"][0]["students"] = ["resnet20"]
        other = {t.topology: t for t in trials("kd", **changes)}
        assert other["single"].trial_id != first["single"].trial_id
        assert other["1T1S"].trial_id != first["1T1S"].trial_id
        # a longer student has another teacher: it does not go on from the shorter one
        assert all_but_length(params_of(other["1T1S"])) != all_but_length(params_of(first["1T1S"]))


def test_of_a_larger_cohort_each_link_is_a_trial_that_cohorts_share() -> None:
    cohorts = [
        {"teachers": ["wrn_16_2", "wrn_16_1"], "students": ["resnet20"]},
        {"teachers": ["wrn_16_1"], "students": ["resnet20"]},
    ]
    students = [t for t in trials("kd", cohorts=cohorts) if t.topology != "single"]
    assert [t.pair for t in students] == ["wrn_16_2>resnet20", "wrn_16_1>resnet20"]


def test_snapshots_are_asked_of_the_teacher_and_change_no_id() -> None:
    (plain, *_) = trials("kd")
    assert plain.snapshots == ()
    (teacher, *_) = trials("kd", {"rco": {"stages": [2, 4]}})
    assert teacher.trial_id == plain.trial_id
    # the last weights are kept anyway
    assert teacher.snapshots == (2, 4, 6)
    (short, *_) = trials("rco", recipe={"epochs": 2})
    assert short.snapshots == (1,)


def test_a_teacher_may_be_a_file(weights: Path, tmp_path: Path) -> None:
    (student,) = trials({"kd": {"teacher": str(weights)}})
    assert student.trained_by == {}
    assert student.networks["T1"].weights == str(weights)
    assert student.method.variant == "kd(teacher=teacher.pt)"
    by_run = student.method.model_copy(update={"teacher": "run:1fc46084/S1/best"})
    assert by_run.variant == "kd(teacher=run:1fc46084/S1/best)"
    # its content counts, its place does not
    moved = tmp_path / "moved.pt"
    moved.write_bytes(b"weights")
    assert trials({"kd": {"teacher": str(moved)}})[0].trial_id == student.trial_id
    moved.write_bytes(b"others")
    assert trials({"kd": {"teacher": str(moved)}})[0].trial_id != student.trial_id
    assert len(trials({"kd": {"teacher": [str(moved), str(weights)]}})) == 2


def test_a_teacher_with_weights_that_only_teaches_needs_no_training(weights: Path) -> None:
    entry = {"model": "wrn_16_2", "weights": str(weights), "frozen": True}
    (student,) = trials("kd", cohorts=[{"teachers": [entry], "students": ["resnet20"]}])
    assert student.trained_by == {}


def test_what_is_wrong_with_a_teacher_is_said_where_it_stands(tmp_path: Path) -> None:
    missing = tmp_path / "none.pt"
    assert complaint({"kd": {"teacher": str(missing)}}) == (
        f"methods.0.kd.teacher: {missing}: no such file (looked at {missing})"
    )
    assert "methods.0.kd.teacher: must be a file of weights" in complaint({"kd": {"teacher": 3}})
    assert "unknown key 'teacher'" in complaint({"dml": {"teacher": "a.pt"}})


def test_a_guided_search_leaves_the_teachers_training_alone() -> None:
    search = {"algorithm": "tpe", "trials": 12, "metric": "val_top1/S1"}
    recipe = {"epochs": 8, "holdout": 0.2}
    allowed = {"method.alpha": {"low": 0.1, "high": 1.0}}
    found = load_experiment(file("kd", search=search | {"space": allowed}, recipe=recipe))
    assert [t.topology for t in found.trials[:2]] == ["single", "1T1S"]
    assert sum(t.topology == "single" for t in found.trials) == 1
    space = {"recipe.learning_rate": {"low": 0.01, "high": 0.1}}
    told = complaint("kd", search=search | {"space": space}, recipe=recipe)
    assert "search.space.recipe.learning_rate: changes how the teacher of kd is trained" in told
    random = search | {"space": space, "algorithm": "random"}
    assert len(load_experiment(file("kd", search=random, recipe=recipe)).trials) == 24
