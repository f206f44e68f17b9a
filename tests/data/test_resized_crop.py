"""Random resized crops and the evaluation crop against torchvision's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.transforms.v2 import functional as reference

from switokd.data.batches.resized_crop import (
    Box,
    cut_and_resize,
    draw_crops,
    evaluation_crop,
    random_box,
)


def test_boxes_have_the_distribution_of_torchvision() -> None:
    height, width, size = 300, 400, 4000
    draws = draw_crops(size, seed=1)
    ours = np.array([random_box(draws, position, height, width) for position in range(size)])
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = np.array(
        [
            transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
            for _ in range(size)
        ]
    )
    for column in range(4):
        ours_sorted, theirs_sorted = np.sort(ours[:, column]), np.sort(theirs[:, column])
        values = np.concatenate((ours_sorted, theirs_sorted))
        gap = np.abs(
            np.searchsorted(ours_sorted, values, "right")
            - np.searchsorted(theirs_sorted, values, "right")
        ).max()
        # Kolmogorov-Smirnov, two samples: P < 0.001 beyond 1.95 * sqrt(2 / size)
        assert gap / size < 1.95 * math.sqrt(2 / size)
    areas = ours[:, 2] * ours[:, 3] / (height * width)
    assert 0.07 < areas.min() < 0.1
    assert areas.max() > 0.9


@pytest.mark.parametrize(("height", "width"), [(4000, 10), (10, 4000), (1, 1), (2, 3)])
def test_boxes_lie_within_odd_images(height: int, width: int) -> None:
    draws = draw_crops(200, seed=2)
    for position in range(200):
        top, left, box_height, box_width = random_box(draws, position, height, width)
        assert top >= 0 <= left
        assert 0 < box_height <= height - top
        assert 0 < box_width <= width - left


def test_an_impossible_shape_falls_back_as_in_torchvision() -> None:
    image = torch.empty(3, 1000, 10)
    expected = transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
    assert random_box(draw_crops(1, 0), 0, 1000, 10) == Box(*expected)


def test_draws_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = draw_crops(5, seed=7)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, draw_crops(5, seed=7), strict=True))
    assert not torch.equal(first.areas, draw_crops(5, seed=8).areas)
    flips = draw_crops(2000, seed=0).flips
    assert 900 < int(flips.sum()) < 1100


def test_cutting_and_resizing_equals_torchvision() -> None:
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    for box in (Box(0, 0, 90, 120), Box(3, 50, 17, 31), Box(89, 119, 1, 1)):
        expected = reference.resized_crop(image, *box, [64, 64], antialias=True)
        assert torch.equal(cut_and_resize(image, box, 64), expected)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (90, 120), (256, 343)])
def test_the_evaluation_crop_equals_torchvision(height: int, width: int) -> None:
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    expected = reference.center_crop(reference.resize(image, [256], antialias=True), [224, 224])
    assert torch.equal(evaluation_crop(image, 224), expected)
