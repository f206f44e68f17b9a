"""Scores by hand: top-1, top-5, loss, calibration, agreement; and how logits are collected."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from torch import nn

from switokd.training.evaluation import agreement, calibration_error, predict, score
from tests.cohorts import TinyData, tiny_networks


def test_top1_and_top5_in_percent() -> None:
    """Seven classes ranked 6, 5, .. 0 in every row: label 6 is first, 2 is fifth, 1 is sixth."""
    logits = torch.arange(7.0).expand(4, 7)
    scores = score(logits, torch.tensor([6, 2, 1, 0]))
    assert (scores.top1, scores.top5) == (25.0, 50.0)


def test_with_fewer_than_five_classes_top5_is_every_class() -> None:
    scores = score(torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert scores.top5 == 100.0


def test_loss_is_the_mean_cross_entropy_in_nats() -> None:
    logits = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    assert score(logits, torch.tensor([0, 0])).loss == pytest.approx(
        (math.log(2) + math.log(4)) / 2
    )


def two_class(confidences: list[float]) -> torch.Tensor:
    """Logits that predict class 0 with these confidences."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p, 1 - p], dim=1).log()


def test_calibration_error_on_paper() -> None:
    """Bins of 1/15: 0.61 (right) and 0.65 (wrong) share one, 0.68 is in the next, 0.94 far off.

    Per bin |right - sum of confidences|, over four images: (|1 - 1.26| + |1 - 0.68| + 0.94) / 4.
    """
    logits, targets = two_class([0.61, 0.65, 0.68, 0.94]), torch.tensor([0, 1, 0, 1])
    expected = (0.26 + 0.32 + 0.94) / 4
    assert calibration_error(logits, targets) == pytest.approx(expected)
    assert score(logits, targets).calibration_error == pytest.approx(100 * expected)


def test_within_a_bin_over_and_under_confidence_cancel() -> None:
    """Four images at 0.75, three of them right, are perfectly calibrated; alone none would be."""
    logits = two_class([0.75] * 4)
    assert calibration_error(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert calibration_error(logits, torch.tensor([1, 1, 1, 1])) == pytest.approx(0.75)


def test_confidence_1_belongs_to_the_last_bin() -> None:
    logits = torch.tensor([[1000.0, 0.0], [1000.0, 0.0]])
    assert calibration_error(logits, torch.tensor([0, 1])) == pytest.approx(0.5)


def test_agreement_is_the_share_of_equal_predictions_right_or_wrong() -> None:
    first = torch.eye(4)
    second = torch.eye(4)[[0, 1, 3, 3]]
    assert agreement(first, second) == 0.75


def test_predict_collects_every_image_in_evaluation_mode() -> None:
    networks = tiny_networks(dropout=0.5)
    networks["S1"].eval()
    data = TinyData()
    images, labels = data.splits["test"]
    before = {name: network.norm.running_mean.clone() for name, network in networks.items()}
    logits, targets = predict(networks, data.evaluation("test"), contextlib.nullcontext())
    assert targets.tolist() == labels.tolist()
    assert [network.training for network in networks.values()] == [True, False]
    for name, network in networks.items():
        assert torch.equal(network.norm.running_mean, before[name])
        assert not logits[name].requires_grad
        network.eval()
        torch.testing.assert_close(logits[name], network(images).detach())


def test_predict_restores_the_mode_also_after_an_error() -> None:
    network = nn.Linear(2, 2)  # images do not fit
    with pytest.raises(RuntimeError):
        predict({"S1": network}, TinyData().evaluation("test"), contextlib.nullcontext())
    assert network.training


def test_predict_takes_the_first_view_and_answers_in_float32() -> None:
    network = tiny_networks(0, 1)["S1"]
    images, labels = TinyData().splits["test"]
    views = [((images, torch.full_like(images, math.nan)), labels, torch.arange(30))]
    with torch.autocast("cpu", torch.bfloat16) as autocast:
        logits, _ = predict({"S1": network}, views, contextlib.nullcontext(autocast))
    assert logits["S1"].isfinite().all()
    assert logits["S1"].dtype == torch.float32
