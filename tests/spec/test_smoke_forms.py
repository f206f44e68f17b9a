"""The smoke form of every experiment under experiments/ trains, here one trial of each."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from switokd.spec.experiment import load_experiment
from switokd.spec.trial import TrialSpec
from switokd.train import run
from tests.spec.test_experiment_files import FILES, ids

pytestmark = pytest.mark.slow


def switched(path: Path) -> TrialSpec:
    trials = load_experiment(path, ["smoke=true"]).trials
    return next(trial for trial in trials if trial.method.name == "switokd")


def test_offline_methods_train_after_their_teacher(tmp_path: Path) -> None:
    (path,) = [path for path in FILES if path.stem == "offline_vs_online"]
    trials = load_experiment(path, ["smoke=true"]).trials
    taught = [trial for trial in trials if trial.trained_by]
    assert [t.method.name for t in taught] == ["kd", "fitnet", "at", "crd", "rco"]
    (teacher,) = {key for trial in taught for key in trial.trained_by.values()}
    for trial in trials:
        if trial in taught or trial.trial_id == teacher:
            result = run(trial, runs=tmp_path, threads=1)
            assert all(map(math.isfinite, result.metrics.values())), trial.label


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_smoke_trial_trains_to_its_end(path: Path, tmp_path: Path) -> None:
    trial = switched(path)
    result = run(trial, runs=tmp_path, threads=1)
    assert {f"last_val_top1/{name}" for name in trial.networks} < result.metrics.keys()
    assert all(map(math.isfinite, result.metrics.values()))
    timeline = pd.read_parquet(result.folder / "timeline.parquet")
    # 16 stand-in images in batches of 8, for two epochs
    assert len(timeline) == 2 * 2 * len(trial.links)
    assert timeline["gap"].between(0, 2).all()
