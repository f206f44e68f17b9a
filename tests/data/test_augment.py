"""Whole-batch crop and flip against torchvision's image-by-image transforms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision import transforms
from torchvision.transforms import functional as reference

from switokd.data.batches.augment import (
    PADDING,
    EpochDraws,
    Normalizer,
    crop_flip,
    crop_flip_by_gather,
    crop_flip_by_slices,
    draw_epoch,
)

OUTCOMES = 9 * 9 * 2


@pytest.mark.parametrize("implementation", [crop_flip_by_slices, crop_flip_by_gather])
def test_every_offset_and_flip_equals_torchvision(
    implementation: Callable[[torch.Tensor, EpochDraws], torch.Tensor],
) -> None:
    image = torch.randint(0, 256, (3, 12, 10), dtype=torch.uint8)
    rows, columns, flips = torch.meshgrid(
        torch.arange(9), torch.arange(9), torch.arange(2), indexing="ij"
    )
    flips = flips.bool()
    draws = EpochDraws(torch.stack((rows, columns), -1).view(-1, 2), flips.reshape(-1))
    ours = implementation(image.expand(OUTCOMES, -1, -1, -1), draws)
    padded = reference.pad(image, [PADDING] * 4)
    for result, row, column, flip in zip(
        ours, rows.flatten(), columns.flatten(), flips.flatten(), strict=True
    ):
        expected = reference.crop(padded, int(row), int(column), 12, 10)
        expected = reference.hflip(expected) if flip else expected
        assert torch.equal(result, expected)


def _outcomes(images: torch.Tensor) -> np.ndarray:
    """Which of the 162 crops and flips each image shows: two pixels that are never padding."""
    pixels = images[:, 0, 8, 7:9].long()
    return (pixels[:, 0] * 256 + pixels[:, 1]).numpy()


def test_the_distribution_is_that_of_torchvision() -> None:
    image = torch.arange(256).view(1, 16, 16).to(torch.uint8)
    size = 40 * OUTCOMES
    draws = draw_epoch(size, "crop_flip", torch.Generator().manual_seed(3))
    ours = _outcomes(crop_flip(image.expand(size, -1, -1, -1), draws))
    torch.manual_seed(4)
    transform = transforms.Compose(
        [transforms.RandomCrop(16, padding=4), transforms.RandomHorizontalFlip()]
    )
    theirs = _outcomes(torch.stack([transform(image) for _ in range(size)]))
    values, their_counts = np.unique(theirs, return_counts=True)
    our_values, our_counts = np.unique(ours, return_counts=True)
    assert len(values) == OUTCOMES
    assert np.array_equal(our_values, values)
    for counts in (our_counts, their_counts):
        # chi-square of 161 degrees of freedom: mean 161, standard deviation 18
        assert ((counts - 40) ** 2 / 40).sum() < 161 + 4 * 18


def test_every_offset_is_as_likely_and_half_are_mirrored() -> None:
    size = 90_000
    draws = draw_epoch(size, "crop_flip", torch.Generator().manual_seed(1))
    assert draws.offsets is not None
    assert draws.flips is not None
    for axis in range(2):
        counts = draws.offsets[:, axis].bincount(minlength=9)
        assert (counts - 10_000).abs().max() < 500  # five standard deviations
    assert abs(int(draws.flips.sum()) - size // 2) < 5 * 150


def test_draws_are_each_images_own() -> None:
    draws = draw_epoch(4000, "crop_flip", torch.Generator().manual_seed(0))
    assert draws.offsets is not None
    assert draws.flips is not None
    columns = torch.stack((draws.offsets[:, 0], draws.offsets[:, 1], draws.flips.long())).double()
    assert (torch.corrcoef(columns) - torch.eye(3)).abs().max() < 0.05
    neighbours = torch.corrcoef(torch.stack((columns[0, :-1], columns[0, 1:])))[0, 1]
    assert abs(neighbours) < 0.05


@pytest.mark.parametrize(
    ("augmentation", "crops", "flips"),
    [("none", False, False), ("crop", True, False), ("crop_flip", True, True)],
)
def test_kinds_of_augmentation(augmentation: str, crops: bool, flips: bool) -> None:
    draws = draw_epoch(50, augmentation, torch.Generator().manual_seed(0))
    assert (draws.offsets is not None) == crops
    assert (draws.flips is not None) == flips
    both = draw_epoch(50, "crop_flip", torch.Generator().manual_seed(0))
    if crops:
        assert torch.equal(draws.offsets, both.offsets)
    images = torch.randint(0, 256, (50, 2, 8, 8), dtype=torch.uint8)
    assert torch.equal(crop_flip(images, draws), images) == (augmentation == "none")
    if draws.flips is not None:
        flips_only = EpochDraws(None, draws.flips)
        mirrored = torch.where(draws.flips.view(-1, 1, 1, 1), images.flip(-1), images)
        assert torch.equal(crop_flip_by_slices(images, flips_only), mirrored)
        assert torch.equal(crop_flip_by_gather(images, flips_only), mirrored)


def test_normalizing_is_that_of_torchvision() -> None:
    mean, std = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
    images = torch.randint(0, 256, (5, 3, 7, 7), dtype=torch.uint8)
    ours = Normalizer(mean, std, torch.device("cpu"))(images)
    theirs = reference.normalize(images.double() / 255, list(mean), list(std))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-6)
