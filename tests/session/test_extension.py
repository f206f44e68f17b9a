"""More epochs of a trial that there is: only the new ones are trained, and nobody could tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from switokd.provenance import library_versions
from switokd.session.extension import (
    first_difference,
    incompatibility,
    learning_rates,
    shorter_trials,
)
from switokd.session.state import TrialState
from switokd.session.trial_session import open_session
from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec
from switokd.tracking.outbox import Point
from tests.session.killed_trials import assert_equal_results, train
from tests.tuning.workplace import small_trials


def trial(epochs: int, **recipe: Any) -> TrialSpec:
    recipe = {"epochs": epochs, "batch_size": 100, "train_images": 600} | recipe
    return small_trials(name="longer", methods=["switokd"], recipe=recipe)[0]


@pytest.mark.slow
def test_more_epochs_equal_a_trial_that_was_as_long_from_the_start(tmp_path: Path) -> None:
    # the milestone lies in the first epoch that the shorter one did not have
    short, long = trial(2), trial(4, milestones=[3])
    train(short, tmp_path / "continued")
    continued = train(long, tmp_path / "continued", continues=[short.trial_id])
    assert_equal_results(continued, train(long, tmp_path / "whole"))


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
