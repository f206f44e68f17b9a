"""Killed in the middle of an epoch and gone on with: every kind of trial ends to the same bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from switokd.methods import METHODS, SETTINGS
from switokd.spec.recipe import OPTIMIZERS, SCHEDULES
from tests.session.killed_trials import STUDENT, TEACHER, assert_resumes, trial

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_models")]


def cohort(teachers: int, students: int, **settings: Any) -> list[dict[str, Any]]:
    own = [{"model": STUDENT, **settings} for _ in range(students)]
    return [{"teachers": [TEACHER] * teachers, "students": own}]


def of_method(name: str) -> dict[str, Any]:
    needs_holdout = SETTINGS[name]().needs_holdout
    return {"methods": [name], "recipe": {"holdout": 0.2} if needs_holdout else {}}


# every entry of the registries, and by hand what they take together
TRIALS: dict[str, dict[str, Any]] = {
    **{f"method {name}": of_method(name) for name in METHODS},
    **{f"optimizer {name}": {"recipe": {"optimizer": name}} for name in OPTIMIZERS},
    **{f"schedule {name}": {"recipe": {"schedule": name}} for name in SCHEDULES},
    "milestone at the kill": {"recipe": {"milestones": [2]}},
    "warm-up over the kill": {"recipe": {"schedule": "cosine", "warmup_epochs": 2}},
    "2T1S": {"cohorts": cohort(2, 1), "temperatures": [2]},
    "1T2S": {"cohorts": cohort(1, 2), "methods": [{"switokd": {"threshold": 0.6}}]},
    "2T2S, each its own optimizer": {
        "cohorts": cohort(2, 2, optimizer="adam", learning_rate=0.01),
        "methods": ["dml"],
    },
    "general weights from a hold-out": {
        "methods": [{"kdcl": {"variant": "general"}}],
        "recipe": {"holdout": 0.2},
    },
    "own views": {
        "methods": [{"kdcl": {"variant": "linear", "views": "own"}}],
        "recipe": {"augmentation": "crop"},
    },
    "bf16": {"recipe": {"precision": "bf16"}},
    "bf16 and adam in 2T1S": {
        "cohorts": cohort(2, 1),
        "methods": ["kdcl"],
        "recipe": {"precision": "bf16", "optimizer": "adam", "learning_rate": 0.01},
    },
    "fp64": {"recipe": {"precision": "fp64"}},
    "deterministic": {"recipe": {"deterministic": True}},
    "all images": {"recipe": {"batch_size": 256, "train_images": None}},
    # the second epoch is the second stage
    "rco in its stages": {"methods": [{"rco": {"stages": 3}}]},
    "kd with augmentation": {"methods": ["kd"], "recipe": {"augmentation": "crop"}},
    "crd in bf16": {"methods": ["crd"], "recipe": {"precision": "bf16"}},
    "patience": {"recipe": {"holdout": 0.2, "patience": 2}},
    # no epoch is better than the first, so that the second is the last
    "patience at its end": {"recipe": {"holdout": 0.2, "patience": 1, "learning_rate": 1e-9}},
}
COMPILED = {"recipe": {"engine": "compiled"}}
GRAPHED: dict[str, Any] = {"recipe": {"engine": "graphed", "milestones": [2]}}


@pytest.mark.parametrize("kind", TRIALS)
def test_a_killed_trial_goes_on_to_the_same_end(kind: str, tmp_path: Path) -> None:
    assert_resumes(trial(**TRIALS[kind]), tmp_path)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_killed_graphed_trial_likewise(optimizer: str, tmp_path: Path) -> None:
    recipe = GRAPHED["recipe"] | {"optimizer": optimizer}
    assert_resumes(trial(cohorts=cohort(2, 1), recipe=recipe), tmp_path)


def test_a_killed_compiled_trial_likewise(tmp_path: Path) -> None:
    assert_resumes(trial(**COMPILED), tmp_path)
