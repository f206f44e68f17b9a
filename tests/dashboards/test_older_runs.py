"""Runs of before a param came in stand beside those of after it, in one group if they are alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from dashboards.analysis.grouping import grouped, networks
from dashboards.store.runs import digests_by_path, row_of, typed
from switokd import names
from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec


def trial_of(spec: Any, seed: int, data: dict[str, str] | None = None, **recipe: Any) -> TrialSpec:
    return spec.model_validate(
        {
            "experiment": "one",
            **(data or {"dataset": "digits"}),
            "networks": {"T1": {"model": "wrn_16_2"}, "S1": {"model": "wrn_16_1"}},
            "method": {"name": "dml"},
            "seed": seed,
            "recipe": {"epochs": 4} | recipe,
        }
    )


def run_of(trial: TrialSpec) -> Any:
    tags = {
        names.TRIAL_ID: trial.trial_id,
        names.TOPOLOGY: trial.topology,
        names.PAIR: trial.pair,
        names.METHOD: trial.method.name,
        names.VARIANT: trial.method.variant,
    }
    metrics = {f"{names.BEST_VAL_TOP1}/S1": 90.0, f"{names.LAST_VAL_TOP1}/S1": 89.0}
    info = SimpleNamespace(
        run_id=trial.trial_id,
        run_name=trial.label,
        experiment_id="1",
        status="FINISHED",
        start_time=1,
        end_time=2,
    )
    data = SimpleNamespace(params=params_of(trial), tags=tags, metrics=metrics)
    return SimpleNamespace(info=info, data=data)


def frame_of(*trials: TrialSpec) -> pd.DataFrame:
    """The trials as a store gives their runs."""
    runs = [run_of(trial) for trial in trials]
    digests = digests_by_path(run.data.params for run in runs)
    return typed(pd.DataFrame.from_records([row_of(run, "one", digests) for run in runs]))


def test_old_and_new_runs_are_one_group_without_an_axis(later: Any) -> None:
    frame = frame_of(trial_of(TrialSpec, 0), trial_of(later, 1), trial_of(later, 2, mixup=0.0))
    together = grouped(frame)
    assert together["group"].nunique() == 1
    assert set(together["axes"]) == {""}
    assert networks(frame)["cohort_key"].nunique() == 1


def test_a_new_setting_that_is_used_is_an_axis_of_old_runs_too(later: Any) -> None:
    frame = grouped(frame_of(trial_of(TrialSpec, 0), trial_of(later, 1, mixup=0.2)))
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
    assert frame_of(trial_of(TrialSpec, 0, data))["dataset"].tolist() == [name]
