"""IDX files as MNIST and Fashion-MNIST are published, plain and gzipped, whole and damaged."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from switokd.data import open_pipeline
from switokd.data.sets import mnist
from switokd.data.sets.mnist import DEBIAN_FOLDER, FILES, read_idx
from switokd.validation import DataError
from tests.machine import lacking


def _idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def write_mnist(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """write_mnist(folder="MNIST", packed=True) -> its four arrays by file name."""

    def write(folder: str = "MNIST", packed: bool = True) -> dict[str, np.ndarray]:
        rng = np.random.RandomState(0)
        arrays = {
            FILES[0]: rng.randint(0, 256, (60, 28, 28)),
            FILES[1]: rng.permutation(np.arange(60) % 10),
            FILES[2]: rng.randint(0, 256, (20, 28, 28)),
            FILES[3]: rng.permutation(np.arange(20) % 10),
        }
        raw = tmp_path / folder / "raw"
        raw.mkdir(parents=True)
        for name, array in arrays.items():
            data = _idx(array)
            file = raw / (f"{name}.gz" if packed else name)
            file.write_bytes(gzip.compress(data) if packed else data)
        return arrays

    return write


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "folder", "mean", "std"),
    [("mnist", "MNIST", 0.1307, 0.3081), ("fashion_mnist", "FashionMNIST", 0.2860, 0.3530)],
)
def test_images_and_labels_are_those_of_the_files(
    tmp_path: Path,
    write_mnist: Callable[..., dict[str, np.ndarray]],
    name: str,
    folder: str,
    mean: float,
    std: float,
    packed: bool,
) -> None:
    arrays = write_mnist(folder, packed)
    with open_pipeline(name, batch_size=16, seed=0, root=tmp_path) as pipeline:
        for split, images, labels in (("train", *FILES[:2]), ("test", *FILES[2:])):
            batches = list(pipeline.evaluation(split))
            found = torch.cat([batch.images for batch in batches])[:, 0] * std + mean
            expected = torch.tensor(arrays[images]).float() / 255
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
            found_labels = torch.cat([batch.labels for batch in batches])
            assert found_labels.tolist() == arrays[labels].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"text, not an image", "not an IDX file"),
        (_idx(np.zeros((60, 28, 28)))[:-1], "truncated"),
        (_idx(np.zeros((60, 28, 28))) + b"x", "header"),
        (_idx(np.zeros((60, 28, 28)))[:9], "truncated"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / FILES[0]
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(file)
    assert str(file) in str(caught.value)
    packed = tmp_path / f"{FILES[0]}.gz"
    packed.write_bytes(gzip.compress(_idx(np.zeros((60, 28, 28))))[:-12])
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_idx(packed)


def test_labels_that_disagree_are_refused(
    tmp_path: Path, write_mnist: Callable[..., dict[str, np.ndarray]]
) -> None:
    write_mnist(packed=False)
    labels = tmp_path / "MNIST" / "raw" / FILES[1]
    labels.write_bytes(_idx(np.arange(59) % 10))
    with pytest.raises(DataError, match=r"\(59,\) labels for images of shape \(60, 28, 28\)"):
        open_pipeline("mnist", batch_size=16, seed=0, root=tmp_path)
    labels.write_bytes(_idx(np.arange(60) % 11))
    with pytest.raises(DataError, match="label 10, but there are 10 classes"):
        open_pipeline("mnist", batch_size=16, seed=0, root=tmp_path)


def test_one_missing_file_is_named(
    tmp_path: Path, write_mnist: Callable[..., dict[str, np.ndarray]]
) -> None:
    write_mnist()
    (tmp_path / "MNIST" / "raw" / f"{FILES[3]}.gz").unlink()
    with pytest.raises(DataError, match=f"{FILES[3]} is not there"):
        open_pipeline("mnist", batch_size=16, seed=0, root=tmp_path)


def test_fashion_mnist_that_is_nowhere_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    with pytest.raises(DataError, match=r"FashionMNIST/raw/train.* is not there \(nor in .*debian"):
        open_pipeline("fashion_mnist", batch_size=16, seed=0, root=tmp_path)


@pytest.mark.slow
def test_the_real_fashion_mnist(tmp_path: Path) -> None:
    if not DEBIAN_FOLDER.is_dir():
        lacking(f"{DEBIAN_FOLDER} (apt-get install dataset-fashion-mnist)")
    with open_pipeline("fashion_mnist", batch_size=128, seed=0, root=tmp_path) as pipeline:
        assert (pipeline.train_size, pipeline.num_classes) == (60_000, 10)
        assert pipeline.class_names[9] == "Ankle boot"
        batches = list(pipeline.evaluation("train"))
        images = torch.cat([batch.images for batch in batches])
        labels = torch.cat([batch.labels for batch in batches])
    assert abs(images.mean()) < 1e-3
    assert abs(images.std() - 1) < 1e-3
    assert labels.bincount().tolist() == [6000] * 10
    assert labels[:5].tolist() == [9, 0, 0, 3, 0]
