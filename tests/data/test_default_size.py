"""How large a user's own images are trained by default: as large as they are, at most 224."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from switokd.data import describe
from switokd.data.images.encoded import image_size
from switokd.data.packed.lmdb_pack import pack
from switokd.spec.experiment import Experiment


def write_images(folder: Path, sizes: list[tuple[int, int]], suffix: str = ".png") -> Path:
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            pixels = np.full((height, width, 3), 40 * number % 256, np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}{suffix}")
    return folder


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp"])
def test_the_size_of_a_file_from_its_beginning(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path / "x", [(31, 47)], suffix)
    head = (tmp_path / "x" / "a" / f"0{suffix}").read_bytes()[:400]
    assert image_size(head) == (None if suffix == ".webp" else (31, 47))
    assert image_size(head[:9]) is None
    assert image_size(b"") is None


def default_size(path: Path) -> int | None:
    experiment = Experiment.model_validate(
        {
            "name": "own",
            "dataset": {"name": "image_folder", "path": str(path)},
            "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
            "methods": ["dml"],
            "recipe": {"epochs": 1},
        }
    )
    return experiment.trials[0].recipe.image_size


def test_small_images_stay_small_and_large_ones_are_scaled_down(tmp_path: Path) -> None:
    small = write_images(tmp_path / "small", [(28, 28), (28, 30), (300, 28)])
    assert default_size(small) == 28
    large = write_images(tmp_path / "large", [(300, 400), (500, 260), (20, 20)], ".jpg")
    assert default_size(large) == 224
    splits = tmp_path / "splits"
    write_images(splits / "train", [(64, 80)])
    write_images(splits / "val", [(300, 300)])
    assert default_size(splits) == 64


def test_a_packed_set_tells_as_its_folder_does(tmp_path: Path) -> None:
    pack(write_images(tmp_path / "small", [(28, 28), (28, 30)]), tmp_path / "small.lmdb")
    assert default_size(tmp_path / "small.lmdb") == 28


def test_what_cannot_be_looked_at_keeps_the_default(tmp_path: Path) -> None:
    assert default_size(tmp_path / "none") == 224
    (tmp_path / "empty").mkdir()
    assert default_size(tmp_path / "empty") == 224
    (tmp_path / "text").write_text("no images")
    assert default_size(tmp_path / "text") == 224
    assert describe("cifar10").size_of(None) == 32
