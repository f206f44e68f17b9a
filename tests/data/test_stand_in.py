"""Stand-in images answer for a set: its shape, its classes, the same every time, nothing read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from switokd.data import DATASETS, describe, open_pipeline


@pytest.mark.parametrize("name", DATASETS)
def test_stand_in_has_the_sets_shape_and_classes(name: str, tmp_path: Path) -> None:
    source = describe(name)
    with open_pipeline(name, batch_size=8, seed=0, root=tmp_path / "no", stand_in=True) as data:
        images, labels, _ = next(data.train_epoch())
        assert data.num_classes == (source.nominal_classes or 4)
        assert isinstance(images, torch.Tensor)
        assert images.shape == (8, source.channels, source.image_size, source.image_size)
        assert labels.max() < data.num_classes
        assert data.steps_per_epoch == 2
        assert sum(len(y) for _, y, _ in data.evaluation("test")) == 8


@pytest.mark.parametrize("name", ["cifar100", "imagenet"])
def test_stand_in_can_hold_images_out(name: str) -> None:
    with open_pipeline(name, batch_size=8, seed=0, holdout=0.1, stand_in=True) as data:
        assert sum(len(y) for _, y, _ in data.evaluation("holdout")) >= 1


def test_stand_in_is_the_same_every_time(tmp_path: Path) -> None:
    def first() -> torch.Tensor:
        with open_pipeline("cifar10", batch_size=8, seed=3, root=tmp_path, stand_in=True) as data:
            images, *_ = next(data.train_epoch())
        assert isinstance(images, torch.Tensor)
        return images

    assert torch.equal(first(), first())
