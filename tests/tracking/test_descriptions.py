"""What MLflow's own pages say of a sweep and its trials."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from switokd import names
from switokd.spec.trial import TrialSpec
from switokd.tracking.descriptions import dataset_input, trial_note
from switokd.tracking.store import TrackedExperiment
from switokd.tracking.tracker import TrialTracker, log_result, open_experiment, open_sweep
from tests.compatibility import cases


@pytest.fixture
def tracked(tmp_path: Path, tiny_models: None) -> TrackedExperiment:
    path = tmp_path / "mlflow.db"
    path.write_bytes(gzip.decompress(cases.STORE.read_bytes()))
    return open_sweep(open_experiment("new", f"sqlite:///{path}", tmp_path), "new")


def trial(**changes: Any) -> TrialSpec:
    return cases.experiment("new", **changes).trials[0]


def test_a_trials_run_says_what_it_is_and_what_it_was_trained_on(
    tracked: TrackedExperiment,
) -> None:
    for _ in range(2):
        # a worker that goes on with it adds nothing
        tracker = TrialTracker(tracked, trial())
        tracker.begin("cpu", 1)
        tracker.end("KILLED")
    run = tracked.trial_run(trial().trial_id)
    assert run is not None
    tags = run.data.tags
    assert "**switokd** on digits: teacher T1: tiny_wide; student S1: tiny." in tags[names.NOTE]
    assert trial().trial_id in tags[names.NOTE]
    assert tags[names.USER]
    assert tags[names.SOURCE_NAME]
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, len(data.dataset.digest)) == ("digits", 8)


def test_equal_data_has_an_equal_digest() -> None:
    def digest(**changes: Any) -> str:
        return str(dataset_input(alone.model_copy(update=changes)).dataset.digest)

    alone = TrialSpec.model_validate(
        {
            "experiment": "one",
            "dataset": "digits",
            "networks": {"S1": {"model": "resnet20"}},
            "method": {"name": "vanilla"},
            "recipe": {"epochs": 1, "image_size": 8},
        }
    )
    assert digest() == digest(seed=3) == digest(experiment="other")
    few = alone.recipe.model_copy(update={"train_images": 50})
    assert len({digest(), digest(recipe=few), digest(dataset_path="/a/birds")}) == 3
    named = alone.model_copy(update={"dataset": "image_folder", "dataset_path": "/a/birds"})
    assert dataset_input(named).dataset.name == "birds"
    assert "resnet20 alone" in trial_note(alone)


def test_a_sweep_has_its_result_and_its_files(tracked: TrackedExperiment) -> None:
    client = MlflowClient(tracked.uri)
    values = {f"best_top1/pair {number}": float(number) for number in range(1001)}
    log_result(tracked, "new", "switokd helped.", {names.COMPARISON_FILE: "a,b\n1,2\n"}, values)
    run = tracked.sweep_run("new")
    assert run is not None
    assert run.data.metrics == values
    assert run.data.tags[names.NOTE].startswith("switokd helped.\n\nThe sweep `new`")
    experiment = client.get_experiment(tracked.experiment_id)
    assert experiment.tags[names.NOTE] == run.data.tags[names.NOTE]
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == [names.COMPARISON_FILE]
