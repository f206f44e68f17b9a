"""Runs of before a param came in stand beside those of after it, in one group if they are alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

import pandas as pd
import pytest
from pydantic import create_model

from dashboards.analysis.grouping import grouped, networks
from dashboards.store.runs import row_of, typed
from switokd import names
from switokd.spec import tracked_params as params_module
from switokd.spec.identity import AddedLater
from switokd.spec.recipe import Recipe
from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A later version of the schema, with one more field in the recipe."""
    recipe: Any = create_model(
        "LaterRecipe", __base__=Recipe, mixup=(Annotated[float, AddedLater(0.0)], 0.0)
    )
    spec: Any = create_model("LaterTrial", __base__=TrialSpec, recipe=(recipe, ...))
    monkeypatch.setattr(params_module, "TrialSpec", spec)
    return spec


def run_of(spec: Any, number: int, data: dict[str, str] | None = None, **recipe: Any) -> Any:
    trial = spec.model_validate(
        {
            "experiment": "one",
            **(data or {"dataset": "digits"}),
            "networks": {"T1": {"model": "wrn_16_2"}, "S1": {"model": "wrn_16_1"}},
            "method": {"name": "dml"},
            "seed": number,
            "recipe": {"epochs": 4} | recipe,
        }
    )
    tags = {
        names.TRIAL_ID: trial.trial_id,
        names.TOPOLOGY: trial.topology,
        names.PAIR: trial.pair,
        names.METHOD: trial.method.name,
        names.VARIANT: trial.method.variant,
    }
    metrics = {f"{names.BEST_VAL_TOP1}/S1": 90.0, f"{names.LAST_VAL_TOP1}/S1": 89.0}
    info = SimpleNamespace(
        run_id=f"run-{number}",
        run_name=trial.label,
        experiment_id="1",
        status="FINISHED",
        start_time=number,
        end_time=number + 1,
    )
    data = SimpleNamespace(params=params_of(trial), tags=tags, metrics=metrics)
    return SimpleNamespace(info=info, data=data)


def frame_of(*runs: Any) -> pd.DataFrame:
    return typed(pd.DataFrame.from_records([row_of(run, "one") for run in runs]))


def test_old_and_new_runs_are_one_group_without_an_axis(later: Any) -> None:
    frame = frame_of(run_of(TrialSpec, 0), run_of(later, 1), run_of(later, 2, mixup=0.0))
    together = grouped(frame)
    assert together["group"].nunique() == 1
    assert set(together["axes"]) == {""}
    assert networks(frame)["cohort_key"].nunique() == 1


def test_a_new_setting_that_is_used_is_an_axis_of_old_runs_too(later: Any) -> None:
    frame = grouped(frame_of(run_of(TrialSpec, 0), run_of(later, 1, mixup=0.2)))
    assert frame["group"].nunique() == 2
    assert set(frame["axes"]) == {"recipe.mixup=0.0", "recipe.mixup=0.2"}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"dataset": "image_folder", "dataset_path": "../data/flowers"}, "flowers"),
        ({"dataset": "image_folder", "dataset_path": "/data/flowers.lmdb"}, "flowers.lmdb"),
        # one of the sets with published numbers, wherever it lies
        ({"dataset": "imagenet", "dataset_path": "/data/ILSVRC2012"}, "imagenet"),
        ({"dataset": "digits"}, "digits"),
    ],
)
def test_own_images_are_named_after_their_folder(data: dict[str, str], name: str) -> None:
    run = run_of(TrialSpec, 0, data)
    assert frame_of(run)["dataset"].tolist() == [name]
