"""Schedulers and guided searches by name, and what of tuning can be had without Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from switokd.registry import Registry
from switokd.spec import search as spec_search
from tuning.schedulers import SCHEDULERS
from tuning.search import GUIDED_SEARCHES

WITHOUT_RAY = """
import os, sys
sys.modules["ray"] = sys.modules["optuna"] = None
import tuning
assert not {"torch", "mlflow", "pandas", "rich", "switokd.spec"} & set(sys.modules)
assert os.environ["RAY_AUTH_TOKEN"]

import tuning.placement, tuning.plan, tuning.preflight, tuning.progress, tuning.summary
import tuning.sweep, tuning.upkeep
from tuning.schedulers import SCHEDULERS
for name in SCHEDULERS:
    SCHEDULERS.load(name)

from switokd.spec.experiment import Experiment
experiment = Experiment.model_validate({
    "name": "guided",
    "dataset": "digits",
    "cohorts": [{"teachers": ["wrn_16_1"], "students": ["wrn_16_1"]}],
    "methods": ["dml"],
    "recipe": {"epochs": 4},
    "search": {
        "algorithm": "tpe",
        "trials": 12,
        "space": {"recipe.learning_rate": {"low": 0.001, "high": 0.1}},
        "scheduler": "asha",
    },
})
plan = tuning.plan.make_plan(experiment, None)
assert (len(plan.trials), plan.to_choose, plan.to_train) == (10, 2, 12)
"""


def test_a_file_may_name_each_scheduler_and_no_other() -> None:
    assert list(spec_search.SCHEDULERS) == list(SCHEDULERS)


def test_a_file_may_name_each_guided_search() -> None:
    guided = [name for name, entry in spec_search.ALGORITHMS.items() if entry.guided]
    assert guided == list(GUIDED_SEARCHES)


@pytest.mark.parametrize("registry", [SCHEDULERS, GUIDED_SEARCHES], ids=lambda each: each.kind)
def test_each_entry_is_there(registry: Registry) -> None:
    for name in registry:
        assert callable(registry.load(name))


def test_a_population_alone_changes_settings() -> None:
    entries = spec_search.SCHEDULERS.items()
    assert [name for name, entry in entries if entry.population] == ["pbt"]
    assert [name for name, entry in entries if not entry.judges] == ["none"]


def test_a_plan_is_made_where_ray_is_not_installed() -> None:
    away = ("RAY_", "TUNE_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(away)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
