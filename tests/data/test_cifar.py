"""CIFAR archives, written as the published ones are, and what happens to damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from switokd.data import open_pipeline
from switokd.validation import DataError

WriteCifar = Callable[..., dict[str, np.ndarray]]


def _images(root: Path, name: str, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    with open_pipeline(name, batch_size=16, seed=0, root=root) as pipeline:
        batches = list(pipeline.evaluation(split))
    images = torch.cat([batch.images for batch in batches])
    return images, torch.cat([batch.labels for batch in batches])


@pytest.mark.parametrize(
    ("name", "classes", "mean", "std"),
    [
        ("cifar10", 10, (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
        ("cifar100", 100, (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    ],
)
@pytest.mark.parametrize("archive", [False, True])
def test_images_and_labels_are_those_of_the_archive(
    tmp_path: Path,
    write_cifar: WriteCifar,
    name: str,
    classes: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    archive: bool,
) -> None:
    written = write_cifar(tmp_path, classes, archive)
    for split in ("train", "test"):
        images, labels = _images(tmp_path, name, split)
        pixels = torch.tensor(written[split]).double() / 255
        expected = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(images.double(), expected, rtol=0, atol=1e-6)
        if split == "train":
            assert labels.tolist() == written["labels"].tolist()
    with open_pipeline(name, batch_size=16, seed=0, root=tmp_path) as pipeline:
        assert pipeline.class_names == tuple(f"class {c}" for c in range(classes))


def test_a_batch_file_with_a_wrong_digest_is_named(tmp_path: Path, write_cifar: WriteCifar) -> None:
    write_cifar(tmp_path)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"data_batch_3: its MD5 digest is not the published"):
        open_pipeline("cifar10", batch_size=8, seed=0, root=tmp_path)
    assert not any((tmp_path / ".decoded").glob("*/"))


def test_damage_after_a_copy_was_made_is_noticed(tmp_path: Path, write_cifar: WriteCifar) -> None:
    write_cifar(tmp_path)
    open_pipeline("cifar10", batch_size=8, seed=0, root=tmp_path).close()
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match="test_batch"):
        open_pipeline("cifar10", batch_size=8, seed=0, root=tmp_path)


def test_an_archive_with_a_wrong_digest_is_not_unpacked(
    tmp_path: Path, write_cifar: WriteCifar
) -> None:
    write_cifar(tmp_path, archive=True)
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: its MD5 digest"):
        open_pipeline("cifar10", batch_size=8, seed=0, root=tmp_path)
    assert not (tmp_path / "cifar-10-batches-py").exists()
    assert not list(tmp_path.glob(".cifar*"))


def test_a_missing_batch_file_is_named(tmp_path: Path, write_cifar: WriteCifar) -> None:
    write_cifar(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(DataError, match="data_batch_2 is not there"):
        open_pipeline("cifar10", batch_size=8, seed=0, root=tmp_path)
