"""Trials through every kind of data, each killed in the middle of an epoch and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from switokd.data.packed.lmdb_pack import pack
from tests.session.killed_trials import assert_resumes, train, trial

pytestmark = pytest.mark.usefixtures("tiny_models")

ClassFolder = Callable[..., Path]

SMALL = {"batch_size": 6, "image_size": 16, "train_images": None}


@pytest.fixture
def images(tmp_path: Path, class_folder: ClassFolder) -> Path:
    """train/ with 27 photographs (4 steps of 6, and one of 3), val/ with 9."""
    class_folder(tmp_path / "images" / "train", images=9)
    class_folder(tmp_path / "images" / "val", images=3)
    return tmp_path / "images"


def packed(images: Path) -> Path:
    out = images.with_name("packed")
    out.mkdir()
    for name in ("train", "val"):
        pack(images / name, out / f"{name}.lmdb")
    return out


def one_lmdb(images: Path) -> Path:
    """Of which a fifth is the test set."""
    out = images.with_name("one.lmdb")
    pack(images / "train", out)
    return out


def folder_of_pngs(images: Path) -> Path:
    for path in images.rglob("*.jpg"):
        Image.open(path).convert("L").save(path.with_suffix(".png"))
        path.unlink()
    return images


OWN_VIEWS: dict[str, Any] = {"methods": [{"kdcl": {"views": "own"}}]}
STREAMED: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "folder": (lambda images: images, {}),
    "folder, a view for each network": (lambda images: images, OWN_VIEWS),
    "folder, a fifth held out": (lambda images: images, {"recipe": {"holdout": 0.2}}),
    "grey PNGs, cropped": (folder_of_pngs, {"recipe": {"augmentation": "crop"}}),
    "LMDBs": (packed, {}),
    "LMDBs, as they are": (packed, {"recipe": {"augmentation": "none"}}),
    "one LMDB, a view for each network": (one_lmdb, OWN_VIEWS),
}


@pytest.mark.parametrize("kind", STREAMED)
def test_streamed_photographs(kind: str, images: Path, tmp_path: Path) -> None:
    prepare, changes = STREAMED[kind]
    dataset = {"name": "image_folder", "path": str(prepare(images))}
    recipe = SMALL | changes.get("recipe", {})
    assert_resumes(trial(**{**changes, "dataset": dataset, "recipe": recipe}), tmp_path)


@pytest.mark.parametrize("augmentation", ["crop_flip", "none"])
def test_colour_images_in_memory(
    augmentation: str,
    tmp_path: Path,
    write_cifar: Callable[..., dict[str, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_cifar(tmp_path / "data")
    monkeypatch.setenv("SWITOKD_DATA", str(tmp_path / "data"))
    # 100 images
    recipe = {"batch_size": 17, "train_images": None, "image_size": 32}
    recipe["augmentation"] = augmentation
    assert_resumes(trial(dataset="cifar10", recipe=recipe), tmp_path)


def test_what_is_packed_trains_as_its_files_do(images: Path, tmp_path: Path) -> None:
    """One batch an epoch, unaugmented: the order of the images is all that differs."""
    recipe = SMALL | {"batch_size": 27, "augmentation": "none", "precision": "fp64"}
    results = [
        train(trial(dataset={"name": "image_folder", "path": str(path)}, recipe=recipe), runs)
        for path, runs in ((images, tmp_path / "a"), (packed(images), tmp_path / "b"))
    ]
    first, second = (result.metrics for result in results)
    for name in ("last_val_top1/S1", "best_val_top1/T1", "expert_share/T1-S1"):
        assert first[name] == second[name]
    for one, other in zip(*(r.networks["S1"].parameters() for r in results), strict=True):
        assert (one - other).abs().max() < 1e-9
