"""The points of an epoch: the contract's names, each with its own number, made now."""

from __future__ import annotations

import time

from switokd.tracking.points import epoch_values, points
from switokd.training.evaluation import Scores
from switokd.training.trainer import EpochReport

REPORT = EpochReport(
    epoch=3,
    # T1 only teaches
    learning_rates={"S1": 0.05},
    train_losses={"T1": 1.5, "S1": 2.5},
    cross_entropies={"T1": 1.25, "S1": 2.25},
    scores={"T1": Scores(80.0, 96.0, 0.75, 4.0), "S1": Scores(70.0, 94.0, 0.875, 6.0)},
    agreements={("T1", "S1"): 85.0},
    images_per_second=1000.0,
)


def test_an_epochs_metrics_are_those_of_the_contract() -> None:
    assert epoch_values(REPORT) == {
        **{"val_top1/T1": 80.0, "val_top5/T1": 96.0, "val_loss/T1": 0.75},
        **{"val_calibration_error/T1": 4.0, "train_loss/T1": 1.5, "ce/T1": 1.25},
        **{"val_top1/S1": 70.0, "val_top5/S1": 94.0, "val_loss/S1": 0.875},
        **{"val_calibration_error/S1": 6.0, "train_loss/S1": 2.5, "ce/S1": 2.25},
        **{"lr/S1": 0.05, "agreement/T1-S1": 85.0, "images_per_second": 1000.0},
    }


def test_points_are_of_one_step_and_of_now() -> None:
    before = time.time() * 1000
    (first, second) = points({"a": 1.0, "b": 2}, step=7)
    assert (first.name, first.value, first.step) == ("a", 1.0, 7)
    assert (second.name, second.value, second.step) == ("b", 2.0, 7)
    assert int(before) <= first[3] == second[3] <= time.time() * 1000
