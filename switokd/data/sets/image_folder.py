"""Anybody's own images: class folders, or LMDBs that `switokd data pack` made of them.

`path` may be
- a folder with `train` and `val` (or `test`), each a folder of class folders or, as `train.lmdb`
  and `val.lmdb`, a packed one;
- one folder of class folders, or one packed LMDB: then a fifth of every class, always the same, is
  the test set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from switokd.data.images.encoded import image_size, structural_fault
from switokd.data.images.folder import IMAGE_SUFFIXES, FolderListing, list_folder
from switokd.data.images.records import FolderRecords, Records, RecordSplits
from switokd.data.source import StreamSource
from switokd.data.splits import stratified_split
from switokd.validation import DataError

TEST_SHARE = 0.2
TEST_NAMES = ("val", "test")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAMPS = ".checked"
# enough images to know their usual size, and enough of each to find it stated
LOOKED_AT = 64
HEAD_BYTES = 2**16
# as the recipe's smallest image size
SMALLEST_SIDE = 4


def image_folder() -> StreamSource:
    """A user's own colour photographs by random resized crop and flip, at most 224 x 224."""
    return StreamSource(
        name="image_folder",
        nominal_classes=None,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augmentation="crop_flip",
        open=_open,
        native_size=usual_short_side,
    )


def usual_short_side(path: Path) -> int | None:
    """The median of the short sides, in pixels, of some images of every class; None without one.

    Reads the beginnings of a few files, and no more of a packed set than as many records.
    """
    train = _split_path(path, "train") or path
    try:
        sides = [min(size) for size in map(image_size, _first_bytes(train)) if size]
    except (OSError, DataError):
        # what is wrong with the set, its reader says
        return None
    return max(SMALLEST_SIDE, sorted(sides)[len(sides) // 2]) if sides else None


def _first_bytes(path: Path) -> Iterator[bytes]:
    if path.is_file():
        from switokd.data.packed.lmdb_reader import LmdbRecords

        records = LmdbRecords(path)
        try:
            step = max(1, len(records.labels) // LOOKED_AT)
            for index in range(0, len(records.labels), step):
                yield bytes(records.read(index))
        finally:
            records.close()
        return
    classes = [entry for entry in sorted(path.iterdir()) if entry.is_dir()]
    for folder in classes[:LOOKED_AT]:
        files = (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        for file in itertools.islice(files, max(1, LOOKED_AT // len(classes))):
            with file.open("rb") as opened:
                yield opened.read(HEAD_BYTES)


def _open(root: Path, path: Path | None) -> RecordSplits:
    if path is None:
        raise DataError("dataset 'image_folder' needs the path of a folder or a packed LMDB")
    return open_splits(root, path)


def open_splits(root: Path, path: Path) -> RecordSplits:
    """Training and test records below `path`, in any of the layouts above.

    Raises DataError if something is missing, damaged, or the splits' classes differ.
    """
    if not path.exists():
        raise DataError(
            f"{path} is not there; a folder of class folders or a packed LMDB is needed"
        )
    train_path = _split_path(path, "train")
    if train_path is None:
        records = _open_records(root, path)
        kept, aside = stratified_split(records.labels, TEST_SHARE)
        return RecordSplits(records, kept, records, aside)
    test_path = next(filter(None, (_split_path(path, name) for name in TEST_NAMES)), None)
    if test_path is None:
        raise DataError(f"{path} has {train_path.name} but no val or test beside it")
    train = _open_records(root, train_path)
    try:
        test = _open_records(root, test_path)
    except DataError:
        train.close()
        raise
    splits = RecordSplits(train, np.arange(len(train.labels)), test, np.arange(len(test.labels)))
    if train.class_names != test.class_names:
        splits.close()
        only_train = sorted(set(train.class_names) - set(test.class_names))
        only_test = sorted(set(test.class_names) - set(train.class_names))
        raise DataError(
            f"the classes of {train_path} and {test_path} differ, so their labels would too: "
            f"only in the first {only_train[:5]}, only in the second {only_test[:5]} "
            f"({len(only_train)} and {len(only_test)} in all)"
        )
    return splits


def _split_path(path: Path, name: str) -> Path | None:
    """The packed split if there is one, else its folder, else None."""
    candidates = (path / f"{name}.lmdb", path / name)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _open_records(root: Path, path: Path) -> Records:
    if path.is_file() or path.suffix == ".lmdb" or (path / "data.mdb").exists():
        from switokd.data.packed.lmdb_reader import LmdbRecords

        return LmdbRecords(path)
    listing = list_folder(path)
    _check_once(listing, root / STAMPS / listing.fingerprint)
    return FolderRecords(listing)


def _check_once(listing: FolderListing, stamp: Path) -> None:
    """Look through every file of a folder before it trains; once, as long as nothing changes.

    A packed LMDB was looked through when it was packed. Raises DataError naming the first bad file.
    """
    if stamp.exists():
        return
    import torch  # here, so that describing the set does not load it

    def fault(name: str) -> str | None:
        try:
            return structural_fault((listing.folder / name).read_bytes())
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        faults = [
            (name, reason)
            for name, reason in zip(listing.files, pool.map(fault, listing.files), strict=True)
            if reason
        ]
    if faults:
        name, reason = faults[0]
        raise DataError(
            f"{listing.folder / name}: {reason} ({len(faults)} bad files of {len(listing.files)}); "
            "mend or remove them, or pack the folder without them: "
            f"switokd data pack --skip-bad {listing.folder} OUT.lmdb"
        )
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(f"{listing.folder}\n")
    except OSError:
        return  # a read-only data root: looked through again the next time
