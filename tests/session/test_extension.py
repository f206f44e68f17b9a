"""More epochs of a trial that there is: only the new ones are trained, and nobody could tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from switokd.provenance import library_versions
from switokd.session.checkpoint import CheckpointFolder
from switokd.session.extension import (
    first_difference,
    incompatibility,
    learning_rates,
    shorter_trials,
)
from switokd.session.state import TrialState
from switokd.session.trial_session import TrialResult, open_session
from switokd.spec.experiment import Experiment
from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec
from switokd.tracking.outbox import Point
from tests.machine import is_measured

RECIPE = {"batch_size": 100, "train_images": 600, "image_size": 8, "learning_rate": 0.05}


def trial(epochs: int, **recipe: Any) -> TrialSpec:
    experiment = Experiment.model_validate(
        {
            "name": "longer",
            "dataset": "digits",
            "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
            "methods": ["switokd"],
            "recipe": RECIPE | {"epochs": epochs} | recipe,
        }
    )
    return experiment.trials[0]


def train(spec: TrialSpec, runs: Path, *continues: TrialSpec) -> TrialResult:
    ids = [shorter.trial_id for shorter in continues]
    with open_session(spec, runs=runs, threads=1, continues=ids) as session:
        epochs = [report.epoch for report in session.epochs()]
        result = session.finish()
    assert epochs == list(range(epochs[0], spec.recipe.epochs + 1))
    return result


def points(result: TrialResult) -> dict[tuple[str, int], float]:
    """Every point, once; untracked ones wait in the last checkpoint."""
    state = CheckpointFolder(result.folder / "checkpoints").latest()
    assert state is not None
    found = {(name, step): value for name, value, step, _ in state["outbox"]}
    assert len(found) == len(state["outbox"])
    return {key: value for key, value in found.items() if not is_measured(key[0])}


@pytest.mark.slow
def test_more_epochs_equal_a_trial_that_was_as_long_from_the_start(tmp_path: Path) -> None:
    # the milestone lies in the first epoch that the shorter one did not have
    short, long = trial(2), trial(4, milestones=[3])
    train(short, tmp_path / "continued")
    continued = train(long, tmp_path / "continued", short)
    whole = train(long, tmp_path / "whole")
    for name, network in whole.networks.items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, continued.networks[name].state_dict()[key]), key
    assert points(continued) == points(whole)
    timelines = [(r.folder / "timeline.parquet").read_bytes() for r in (continued, whole)]
    assert timelines[0] == timelines[1]


@pytest.mark.slow
def test_another_schedule_starts_from_scratch_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = trial(1, schedule="cosine"), trial(2, schedule="cosine", warmup_epochs=1)
    train(short, tmp_path)
    with open_session(long, runs=tmp_path, threads=1, continues=[short.trial_id]) as session:
        assert session.trainer.step == 0
    assert "epoch 1 of T1 had learning rate 0.05 and has 0.0005 now" in caplog.text


def test_what_cannot_be_gone_on_from_says_why() -> None:
    whole = TrialState(
        trainer={"epoch": 2},
        threads=1,
        in_force=trial(2).model_dump_json(),
        versions=library_versions(),
        history=(Point("val_top1/S1", 50.0, 1, 0),),
    )
    assert incompatibility(whole, trial(4)) is None
    # begun by a version that kept no history, and ended by one that does
    late = (Point("val_top1/S1", 50.0, 2, 0),)
    for spoilt, told in (
        (None, "gone"),
        (replace(whole, history=late), "lacks the metrics"),
        (replace(whole, history=()), "lacks the metrics"),
        (replace(whole, changes=({},)), "settings changed"),
        (replace(whole, versions={"torch": "1.0"}), "other versions"),
    ):
        reason = incompatibility(spoilt, trial(4))
        assert reason is not None
        assert told in reason


def test_a_shorter_trial_differs_in_its_epochs_alone() -> None:
    wanted = trial(8, milestones=[6])
    others = [trial(4), trial(6, milestones=[6]), trial(9), trial(4, batch_size=64), wanted]
    finished = {spec.trial_id: params_of(spec) for spec in others}
    found = shorter_trials([wanted, trial(3)], finished)
    assert found == {wanted.trial_id: [others[1].trial_id, others[0].trial_id]}


def test_rates_are_compared_over_the_epochs_that_were_trained() -> None:
    assert learning_rates(trial(3, milestones=[2]), "S1") == pytest.approx([0.05, 0.005, 0.005])
    assert first_difference(trial(2), trial(4, milestones=[3]), epochs=2) is None
    assert first_difference(trial(2), trial(4, milestones=[2]), epochs=1) is None
    difference = first_difference(trial(2), trial(4, milestones=[2]), epochs=2)
    assert difference is not None
    assert difference.startswith("epoch 2 of T1 had learning rate 0.05")
    # a half cosine over more epochs falls more slowly
    cosine = (trial(epochs, schedule="cosine") for epochs in (4, 8))
    difference = first_difference(*cosine, epochs=4)
    assert difference is not None
    assert difference.startswith("epoch 2")
