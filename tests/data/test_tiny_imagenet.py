"""Tiny-ImageNet in the layout of its archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from switokd.data import open_pipeline
from switokd.validation import DataError

# deliberately not in alphabetical order, as in the archive
WNIDS = ["n03444034", "n02124075", "n04067472"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three classes, four training and two validation images each; JPEGs of flat colours."""
    root = tmp_path / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True)
    (root / "test" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS))
    words = {"n03444034": "go-kart", "n02124075": "Egyptian cat", "n04067472": "reel"}
    (root / "words.txt").write_text(
        "".join(f"{wnid}\t{word}, other word\n" for wnid, word in words.items())
    )
    lines = []
    for number, wnid in enumerate(WNIDS):
        images = root / "train" / wnid / "images"
        images.mkdir(parents=True)
        colour = (60 * number + 30,) * 3
        for image in range(4):
            Image.new("RGB", (64, 64), colour).save(images / f"{wnid}_{image}.JPEG")
        boxes = "".join(f"{wnid}_{image}.JPEG\t0\t0\t63\t63\n" for image in range(4))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(boxes)
        for image in range(2):
            name = f"val_{2 * number + image}.JPEG"
            Image.new("L", (64, 64), colour[0]).save(root / "val" / "images" / name)
            lines.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    return tmp_path


def _open(root: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    with open_pipeline("tiny_imagenet", batch_size=4, seed=0, root=root) as pipeline:
        assert pipeline.class_names == ("Egyptian cat", "go-kart", "reel")
        batches = {split: next(pipeline.evaluation(split)) for split in ("train", "test")}
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return {
        split: (
            batch.images * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1),
            batch.labels,
        )
        for split, batch in batches.items()
    }


def test_labels_follow_the_sorted_ids_in_both_splits(archive: Path) -> None:
    splits = _open(archive)
    # colour 30, 90, 150 belong to the classes 1, 0 and 2 of the sorted ids
    expected = {30: 1, 90: 0, 150: 2}
    for split, size in (("train", 12), ("test", 6)):
        images, labels = splits[split]
        assert images.shape == (size, 3, 64, 64)
        colours = (images[:, 0, 5, 5] * 255).round().int()
        for colour, label in zip(colours.tolist(), labels.tolist(), strict=True):
            nearest = min(expected, key=lambda known: abs(known - colour))
            assert abs(nearest - colour) <= 2
            assert label == expected[nearest]
    assert _open(archive)["test"][1].tolist() == splits["test"][1].tolist()


def _append(path: Path, line: str) -> None:
    path.write_text(path.read_text() + line)


def test_annotations_that_disagree_are_refused(archive: Path) -> None:
    annotations = archive / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    original = annotations.read_text()
    for line, message in (
        ("val_9.JPEG\tn00000000\t0\t0\t1\t1\n", "line 7: class 'n00000000' is not in wnids.txt"),
        ("val_9.JPEG\tn02124075\t0\t0\t1\t1\n", r"1 listed images are not there \['val_9.JPEG'\]"),
        ("val_1.JPEG\tn02124075\t0\t0\t1\t1\n", "val_1.JPEG is listed twice"),
        ("garbage", "line 7: class '' is not in wnids.txt"),
    ):
        annotations.write_text(original + line)
        with pytest.raises(DataError, match=message):
            _open(archive)
    annotations.write_text("".join(original.splitlines(keepends=True)[1:]))
    with pytest.raises(DataError, match=r"1 are there but not listed \['val_5.JPEG'\]"):
        _open(archive)


def test_a_class_without_a_folder_or_an_image_is_refused(archive: Path) -> None:
    root = archive / "tiny-imagenet-200"
    _append(root / "wnids.txt", "n09999999\n")
    with pytest.raises(DataError, match=r"n09999999/images is not there, but wnids.txt lists"):
        _open(archive)
    (root / "train" / "n09999999" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match="n09999999/images: no image"):
        _open(archive)


def test_a_folder_that_is_not_listed_is_refused(archive: Path) -> None:
    (archive / "tiny-imagenet-200" / "train" / "n01111111").mkdir()
    with pytest.raises(DataError, match=r"classes that wnids.txt lacks: \['n01111111'\]"):
        _open(archive)


def test_a_damaged_or_odd_image_is_named(archive: Path) -> None:
    image = archive / "tiny-imagenet-200" / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_1.JPEG"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{WNIDS[0]}_1.JPEG: does not decode"):
        _open(archive)
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(image)
    with pytest.raises(DataError, match=f"{WNIDS[0]}_1.JPEG: 64 x 32 pixels"):
        _open(archive)
