"""Anybody's own data set, given by a callable of a user's module: `my_data:make`.

The callable gives a training and a test set, each with a length and, by number, an image and its
label, as torch's map-style data sets have them. They are read once, into arrays that lie under
`<data root>/.own/` for every trial to map; from there on it is a set in memory like any other.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from switokd.data.batches.shared_cache import ARRAYS, about_copy, open_copy, write_copy
from switokd.data.source import DataOrigin, ImageArrays, MemorySource
from switokd.files.lock import one_at_a_time
from switokd.user_modules import add_to_path, load, user_code
from switokd.validation import DataError

log = logging.getLogger(__name__)

FOLDER = ".own"
DIGEST_LENGTH = 16
GREY_MODES = ("1", "L")
# standard deviations of 0, of images that are all alike, would divide
LEAST_STD = 1e-3
STATISTICS_CHUNK = 4096


def own_set(address: str, origin: DataOrigin, root: Path) -> MemorySource:
    """The set that `package.module:callable` gives, read and kept at the first call.

    Classes are named by the training set's `classes`, else numbered. Raises DataError and SpecError
    for a callable that gives something else, and where it cannot be kept.
    """
    if origin.module_folder is not None:
        add_to_path(origin.module_folder)
    copy = _kept(address, origin, root)
    facts = about_copy(copy)
    return MemorySource(
        name=address,
        nominal_classes=len(facts["class_names"]),
        image_size=facts["image_size"],
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        augmentation="none",
        native_size=facts["image_size"],
        load=partial(_load, copy),
        files=partial(_files, copy),
        mapped=True,
        digest=facts["digest"],
    )


def _kept(address: str, origin: DataOrigin, root: Path) -> Path:
    """The folder of the set's arrays, made first where it is not there."""
    arguments = dict(origin.arguments)
    # the code is read first: what it gives is known by it
    make = load(address, origin.source)
    key = json.dumps([address, origin.source, arguments], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:DIGEST_LENGTH]
    copy = root / FOLDER / f"{address.replace(':', '.')}-{digest}"
    if open_copy(copy) is not None:
        return copy
    try:
        with one_at_a_time(copy.with_name(f"{copy.name}.lock")):
            # another process may have made it meanwhile
            if open_copy(copy) is None:
                arrays = _read(address, make, arguments)
                count = len(arrays.train_labels) + len(arrays.test_labels)
                log.info("%s: %d images read, kept in %s", address, count, copy)
                write_copy(arrays, copy, **_facts(arrays))
    except OSError as error:
        raise DataError(f"{address}: cannot be kept in {copy}: {error.strerror}") from None
    return copy


def _load(copy: Path, root: Path) -> ImageArrays:
    arrays = open_copy(copy)
    if arrays is None:
        raise DataError(f"{copy}: is not there any more")
    return arrays


def _files(copy: Path, root: Path) -> tuple[Path, ...]:
    return tuple(copy / f"{name}.npy" for name in ARRAYS)


def _read(address: str, make: Any, arguments: dict[str, Any]) -> ImageArrays:
    """Every image and label of what the callable gives."""
    if not callable(make):
        raise DataError(f"{address}: must be a callable (found {type(make).__name__})")
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        raise DataError(f"{address}: {error} (arguments: are {arguments})") from None
    except ValueError:
        # what is written in C may not say; calling it will tell
        pass
    called = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    with user_code(f"{address}({called}) fails"):
        made = make(**arguments)
    if not isinstance(made, tuple | list) or len(made) != 2:
        raise DataError(
            f"{address}: must give a training and a test set (found {type(made).__name__})"
        )
    train, test = (
        _Reader(f"{address}: its {split} set", each)
        for split, each in zip(("training", "test"), made, strict=True)
    )
    train_images, train_labels = train.read(None)
    test_images, test_labels = test.read(train_images.shape[1:])
    named = getattr(made[0], "classes", None)
    if named is None:
        classes = tuple(str(k) for k in range(1 + max(train_labels.max(), test_labels.max())))
    else:
        classes = tuple(map(str, named))
    for reader, labels in ((train, train_labels), (test, test_labels)):
        if labels.max() >= len(classes):
            where = int(labels.argmax())
            raise reader.wrong(where, f"has label {labels[where]}, of {len(classes)} classes")
    if len(classes) < 2:
        raise DataError(f"{address}: must have at least two classes (found {list(classes)})")
    return ImageArrays(train_images, train_labels, test_images, test_labels, classes)


class _Reader:
    """A map-style data set, read whole."""

    def __init__(self, called: str, data: Any) -> None:
        self.called, self._data = called, data
        with user_code(f"{called} must have a length, and items by number"):
            self._count = len(data)
        if not hasattr(data, "__getitem__"):
            raise DataError(f"{called} must have items by number (found {type(data).__name__})")
        if self._count < 2:
            raise DataError(f"{called} must have at least 2 images (found {self._count})")

    def read(self, shape: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 (N, C, H, H), labels int64 (N,). `shape`: that every image must have."""
        labels = np.empty(self._count, np.int64)
        images: np.ndarray | None = None
        for number in range(self._count):
            with user_code(f"{self.called}, image {number}, cannot be read"):
                item = self._data[number]
            if not isinstance(item, tuple | list) or len(item) != 2:
                raise self.wrong(number, f"is no (image, label) (found {type(item).__name__})")
            image = self._image(number, item[0])
            shape = shape or image.shape
            if image.shape != shape:
                raise self.wrong(
                    number, f"is {_size(image.shape)}, others are {_size(shape)}: make them alike"
                )
            if images is None:
                images = np.empty((self._count, *shape), np.uint8)
            images[number] = image
            labels[number] = self._label(number, item[1])
        assert images is not None, "there are at least two"
        return images, labels

    def wrong(self, number: int, told: str) -> DataError:
        """The error for an image."""
        return DataError(f"{self.called}, image {number}, {told}")

    def _image(self, number: int, given: Any) -> np.ndarray:
        """An image as uint8 (C, H, H), from Pillow, NumPy (channels last) or torch."""
        # a tensor may be on a GPU, or in a graph
        with user_code(f"{self.called}, image {number}, cannot be read"):
            if hasattr(given, "convert"):
                array = np.asarray(given.convert("L" if given.mode in GREY_MODES else "RGB"))
            else:
                array = np.asarray(given)
        if array.ndim == 2:
            array = array[None]
        elif array.ndim == 3 and not hasattr(given, "dim") and array.shape[-1] in (1, 3):
            # a tensor has its channels first
            array = array.transpose(2, 0, 1)
        if array.ndim != 3 or array.shape[0] not in (1, 3) or not array.size:
            found = f"{type(given).__name__} of shape {tuple(np.shape(given))}"
            raise self.wrong(number, f"must be grey or of three channels (found {found})")
        if array.shape[1] != array.shape[2]:
            raise self.wrong(number, f"must be square (found {_size(array.shape)})")
        if array.dtype == np.uint8:
            return array
        if not np.issubdtype(array.dtype, np.floating):
            raise self.wrong(number, f"must be uint8, or floats from 0 to 1 (found {array.dtype})")
        if not (array.min() >= 0 and array.max() <= 1):
            raise self.wrong(
                number,
                f"must be uint8, or floats from 0 to 1 (found {array.dtype} from "
                f"{array.min():.3g} to {array.max():.3g}); they are normalised here",
            )
        return np.rint(array * 255).astype(np.uint8)

    def _label(self, number: int, given: Any) -> int:
        try:
            label = int(given)
        except (TypeError, ValueError):
            label = -1
        if label < 0 or label != given:
            raise self.wrong(number, f"has label {given!r}, which is no whole number from 0 on")
        return label


def _size(shape: Iterable[int]) -> str:
    channels, height, width = shape
    return f"{height} x {width} with {channels} channel{'s' * (channels > 1)}"


def _facts(arrays: ImageArrays) -> dict[str, Any]:
    """What is measured of the set: per channel, of the training images scaled to [0, 1]."""
    images = arrays.train_images
    # sums of bytes are exact, whatever the order
    total, squares = np.zeros((2, images.shape[1]), np.int64)
    for start in range(0, len(images), STATISTICS_CHUNK):
        chunk = images[start : start + STATISTICS_CHUNK].astype(np.int64)
        total += chunk.sum(axis=(0, 2, 3))
        squares += (chunk**2).sum(axis=(0, 2, 3))
    pixels = images.size // images.shape[1]
    mean = total / pixels
    std = np.sqrt(squares / pixels - mean**2)
    digest = hashlib.sha256(json.dumps(arrays.class_names).encode())
    for name in ARRAYS:
        array = np.ascontiguousarray(getattr(arrays, name))
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.data)
    return {
        "image_size": images.shape[-1],
        "mean": [round(float(value), 4) for value in mean / 255],
        "std": [round(max(float(value), LEAST_STD), 4) for value in std / 255],
        "digest": digest.hexdigest()[:DIGEST_LENGTH],
    }
