"""What a diverged trial leaves, and what a shorter trial leaves whose data is another one now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from switokd.session.folders import checkpoint_folder
from switokd.session.state import latest_state
from switokd.session.trial_session import open_session
from switokd.spec.experiment import Experiment
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from switokd.tracking.store import TrackedExperiment
from switokd.tracking.tracker import TrialTracker
from switokd.training.timeline import DivergedError


def trial(learning_rate: float = 0.05, **recipe: Any) -> TrialSpec:
    content = {
        "name": "diverged",
        "dataset": "digits",
        "cohorts": [
            {
                "teachers": ["wrn_16_1"],
                "students": [{"model": "resnet20", "learning_rate": learning_rate}],
            }
        ],
        "methods": ["dml"],
        "recipe": {"epochs": 3, "batch_size": 256, "image_size": 4} | recipe,
        "resources": {"checkpoint_seconds": 1000},
    }
    (only,) = Experiment.model_validate(content).trials
    return only


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackedExperiment:
    folder = tmp_path_factory.mktemp("store")
    return tracking.open_experiment("diverged", f"sqlite:///{folder / 'mlflow.db'}", folder)


def diverge(spec: TrialSpec, runs: Path, store: TrackedExperiment) -> int:
    """The step at which training it, or going on with it, ends."""
    tracker = TrialTracker(store, spec)
    with (
        pytest.raises(DivergedError) as caught,
        open_session(spec, runs=runs, tracker=tracker, threads=1) as session,
    ):
        for _ in session.epochs():
            pass
    for name in session.checkpoints.names():
        assert int(name.split("-")[1]) < caught.value.step
    return caught.value.step


@pytest.mark.parametrize("saved_before", [False, True])
def test_a_diverged_trial_keeps_its_last_points_and_sends_none_twice(
    tmp_path: Path, store: TrackedExperiment, saved_before: bool
) -> None:
    spec = trial(learning_rate=1e6 if saved_before else 2e6)
    if saved_before:
        with open_session(
            spec, runs=tmp_path, tracker=TrialTracker(store, spec), threads=1
        ) as session:
            session.advance(seconds=0.0)
    client = MlflowClient(store.uri)
    for _ in range(2):
        step = diverge(spec, tmp_path, store)
        run = store.trial_run(spec.trial_id)
        assert run is not None
        assert run.info.status == "FAILED"
        history = client.get_metric_history(run.info.run_id, "gap/T1-S1")
        timeline = pd.read_parquet(
            client.download_artifacts(run.info.run_id, "timeline.parquet", str(tmp_path))
        )
        assert step in set(timeline["step"])
        finite = timeline[np.isfinite(timeline["gap"].astype(float))]
        tracked = sorted(point.step for point in history)
        assert len(tracked) == len(set(tracked))
        assert set(tracked) >= set(finite["step"])
        epochs = client.get_metric_history(run.info.run_id, "val_top1/S1")
        assert len(epochs) == len({point.step for point in epochs})


def test_a_shorter_trial_of_other_data_is_left_aside_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = trial(epochs=1), trial(epochs=2)
    with open_session(short, runs=tmp_path, threads=1) as session:
        list(session.epochs())
        session.finish()
    checkpoints = checkpoint_folder(short, tmp_path)
    state = latest_state(checkpoints)
    assert state is not None
    data = state.trainer["data"] | {"train_size": 17}
    checkpoints.save(99, replace(state, trainer=state.trainer | {"data": data}).to_dict())
    with open_session(long, runs=tmp_path, threads=1, continues=[short.trial_id]) as session:
        assert session.trainer.step == 0
        assert session.state.continued_from is None
    reason = "the data has changed since: the saved state has train_size 17, this pipeline"
    assert f"from the first step, and not from trial {short.trial_id}: {reason}" in caplog.text
