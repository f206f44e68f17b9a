"""Grad-CAM against its definition, and the agreement numbers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from switokd.inspection.explain import (
    _FirstOfEachClass,
    _Tally,
    compare_maps,
    heat_maps,
    predictions,
)
from switokd.models import MODELS, build_model, target_layer


def test_heat_map_is_the_gradient_weighted_sum_of_the_target_layer() -> None:
    torch.manual_seed(0)
    network = build_model("resnet20", 4).eval()
    images, targets = torch.randn(3, 3, 32, 32), torch.tensor([0, 3, 1])
    kept: list[torch.Tensor] = []
    hook = target_layer("resnet20", network).register_forward_hook(lambda *a: kept.append(a[2]))
    logits = network(images)
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[range(3), targets].sum(), kept)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    coarse = F.relu((weights * kept[0]).sum(dim=1, keepdim=True))
    fine = F.interpolate(coarse, size=(32, 32), mode="bilinear").squeeze(1).detach()
    low, high = fine.amin((1, 2), keepdim=True), fine.amax((1, 2), keepdim=True)
    expected = (fine - low) / (high - low)
    np.testing.assert_allclose(
        heat_maps(network, target_layer("resnet20", network), images, targets),
        expected.numpy(),
        atol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(set(MODELS) - {"wrn_16_8", "wrn_16_10"}))
def test_every_network_is_explained_and_left_in_its_mode(model: str) -> None:
    torch.manual_seed(0)
    network = build_model(model, 10).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    maps = heat_maps(
        network, target_layer(model, network), torch.randn(2, 3, 64, 64), torch.tensor([1, 2])
    )
    assert maps.shape == (2, 64, 64)
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_agreement_by_hand() -> None:
    # of 10 pixels the highest two are the peak: {8, 9} and {7, 9} share one of three
    teacher = np.arange(10, dtype=np.float32).reshape(1, 2, 5)
    student = teacher.copy()
    student[0, 1, 2], student[0, 1, 3] = 8, 7
    overlap, correlation = compare_maps(teacher, student)
    assert overlap == pytest.approx([1 / 3])
    assert correlation == pytest.approx([np.corrcoef(teacher.ravel(), student.ravel())[0, 1]])


def test_opposite_maps_correlate_negatively() -> None:
    teacher = np.arange(10, dtype=np.float32).reshape(1, 2, 5)
    overlap, correlation = compare_maps(teacher, 9 - teacher)
    assert overlap == pytest.approx([0])
    assert correlation == pytest.approx([-1])


def test_flat_maps_are_counted_and_left_out() -> None:
    tally = _Tally()
    shaped = np.arange(10, dtype=np.float32).reshape(1, 2, 5)
    flat = np.zeros((1, 2, 5), dtype=np.float32)
    tally.add(np.concatenate([shaped, flat]), np.concatenate([shaped, shaped]))
    agreement = tally.agreement("T1", "S1")
    assert (agreement.images, agreement.flat_images) == (2, 1)
    assert agreement.correlation == pytest.approx(1)
    alone = _Tally()
    alone.add(flat, flat)
    assert math.isnan(alone.agreement("T1", "S1").peak_overlap)


def test_images_shown_are_each_classs_first_then_its_second() -> None:
    shown = _FirstOfEachClass(5)
    labels = [2, 0, 2, 1, 0, 0]
    images = torch.arange(6, dtype=torch.float32).view(6, 1, 1, 1)
    maps = {"S1": np.arange(6, dtype=np.float32).reshape(6, 1, 1)}
    said = {"S1": [10, 11, 12, 13, 14, 15]}
    for part in (slice(4), slice(4, None)):
        own = {"S1": maps["S1"][part]}
        shown.add(labels[part], images[part], own, {"S1": said["S1"][part]})
    chosen = shown.chosen()
    assert [(one.label, one.image.item()) for one in chosen] == [
        (0, 1.0),
        (1, 3.0),
        (2, 0.0),
        (0, 4.0),
        (2, 2.0),
    ]
    assert all(one.image.item() == one.maps["S1"].item() for one in chosen)
    assert [one.predicted["S1"] for one in chosen] == [11, 13, 10, 14, 12]


def test_predictions_are_those_of_evaluation_mode() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3))
    network(torch.randn(8, 1, 2, 2))
    images = torch.randn(5, 1, 2, 2) + 2
    said = predictions(network, images)
    assert network.training
    assert said == network.eval()(images).argmax(dim=1).tolist()
    assert said != network.train()(images).argmax(dim=1).tolist()
