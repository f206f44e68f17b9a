"""Tiny-ImageNet-200 in its archive's own layout, decoded once (the set fits in memory).

`<root>/tiny-imagenet-200` with `wnids.txt`, `words.txt`, `train/<wnid>/images/*.JPEG` and
`val/images/*.JPEG`, whose classes are in `val/val_annotations.txt`. The test split is `val` (the
archive's `test` has no labels). Classes are numbered in the order of the sorted WordNet ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from switokd.data.source import ImageArrays, MemorySource, missing
from switokd.validation import DataError

FOLDER = "tiny-imagenet-200"
SIZE = 64


def tiny_imagenet() -> MemorySource:
    """100,000 training and 10,000 validation photographs of 200 classes, 64 x 64."""
    return MemorySource(
        name="tiny_imagenet",
        nominal_classes=200,
        image_size=SIZE,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        augmentation="crop_flip",
        native_size=SIZE,
        load=_load,
        files=_files,
    )


def _files(root: Path) -> tuple[Path, ...]:
    """The lists, and the image folders, whose times change when an image is added or removed."""
    folder = root / FOLDER
    wnids = _wnids(root)
    return (
        folder / "wnids.txt",
        folder / "val" / "val_annotations.txt",
        folder / "val" / "images",
        *(folder / "train" / wnid / "images" for wnid in wnids),
    )


def _wnids(root: Path) -> list[str]:
    folder = root / FOLDER
    for path in (folder / "wnids.txt", folder / "train", folder / "val" / "val_annotations.txt"):
        if not path.exists():
            archive = root / f"{FOLDER}.zip"
            raise missing(path, f"unzip -q {archive} -d {root}", f" (Stanford's {archive.name})")
    wnids = sorted(set((folder / "wnids.txt").read_text().split()))
    for wnid in wnids:
        if not (folder / "train" / wnid / "images").is_dir():
            raise DataError(
                f"{folder / 'train' / wnid / 'images'} is not there, but wnids.txt lists the class"
            )
    surplus = {path.name for path in (folder / "train").iterdir() if path.is_dir()} - set(wnids)
    if surplus:
        raise DataError(f"{folder / 'train'}: classes that wnids.txt lacks: {sorted(surplus)[:5]}")
    return wnids


def _load(root: Path) -> ImageArrays:
    folder, wnids = root / FOLDER, _wnids(root)
    train_paths: list[Path] = []
    train_labels: list[int] = []
    for label, wnid in enumerate(wnids):
        images = sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
        if not images:
            raise DataError(f"{folder / 'train' / wnid / 'images'}: no image (*.JPEG) in it")
        train_paths += images
        train_labels += [label] * len(images)
    test_paths, test_labels = _read_annotations(folder / "val", wnids)
    return ImageArrays(
        train_images=_decode_all(train_paths),
        train_labels=np.array(train_labels, np.int64),
        test_images=_decode_all(test_paths),
        test_labels=np.array(test_labels, np.int64),
        class_names=_class_names(folder / "words.txt", wnids),
    )


def _read_annotations(folder: Path, wnids: Sequence[str]) -> tuple[list[Path], list[int]]:
    """val_annotations.txt: per line a file name, its class and a box, separated by tabs."""
    annotations = folder / "val_annotations.txt"
    labels: dict[str, int] = {}
    for number, line in enumerate(annotations.read_text().splitlines(), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in wnids:
            raise DataError(f"{annotations}, line {number}: class {wnid!r} is not in wnids.txt")
        if name in labels:
            raise DataError(f"{annotations}, line {number}: {name} is listed twice")
        labels[name] = wnids.index(wnid)
    present = {path.name for path in (folder / "images").glob("*.JPEG")}
    if present != labels.keys():
        unlisted, absent = sorted(present - labels.keys()), sorted(labels.keys() - present)
        raise DataError(
            f"{annotations} disagrees with {folder / 'images'}: {len(absent)} listed images are "
            f"not there {absent[:3]}, {len(unlisted)} are there but not listed {unlisted[:3]}"
        )
    return [folder / "images" / name for name in labels], list(labels.values())


def _decode_all(paths: Sequence[Path]) -> np.ndarray:
    import torch

    from switokd.data.images.decode import decode_rgb

    images = np.empty((len(paths), 3, SIZE, SIZE), np.uint8)

    def decode(position: int) -> None:
        path = paths[position]
        image = decode_rgb(path.read_bytes(), str(path))
        if image.shape[1:] != (SIZE, SIZE):
            size = f"{image.shape[2]} x {image.shape[1]}"
            raise DataError(f"{path}: {size} pixels, but the set's images are {SIZE} x {SIZE}")
        images[position] = image.numpy()

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(decode, range(len(paths))):
            pass
    return images


def _class_names(words: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """The first word for each class, or its WordNet id where there is none or two share it."""
    lines = words.read_text().splitlines() if words.exists() else []
    known = dict(line.split("\t", 1) for line in lines if "\t" in line)
    names = [known.get(wnid, wnid).split(",")[0] for wnid in wnids]
    return tuple(
        name if names.count(name) == 1 else wnid for name, wnid in zip(names, wnids, strict=True)
    )
