"""MNIST and Fashion-MNIST, from the IDX files where torchvision's download leaves them.

`<root>/MNIST/raw` and `<root>/FashionMNIST/raw`, plain or gzipped as published, and for
Fashion-MNIST Debian's package `dataset-fashion-mnist`. The IDX format (a magic number, the sizes,
the bytes) is read here because torchvision's reader takes no .gz and answers a short file with an
assertion.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from switokd.data.source import ImageArrays, MemorySource, download_command, missing
from switokd.validation import DataError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
UNSIGNED_BYTE = 8
DIGIT_NAMES = tuple(str(digit) for digit in range(10))
FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def mnist() -> MemorySource:
    """60,000 training and 10,000 test handwritten digits, 28 x 28, grey.

    Cropped but not mirrored: a mirrored digit is another digit or none.
    """
    return _source("mnist", "MNIST", DIGIT_NAMES, (0.1307,), (0.3081,), "crop")


def fashion_mnist() -> MemorySource:
    """60,000 training and 10,000 test pictures of clothes, 28 x 28, grey.

    Cropped and mirrored, like photographs: a mirrored shoe is a shoe of the other foot.
    """
    names, mean, std = FASHION_NAMES, (0.2860,), (0.3530,)
    return _source("fashion_mnist", "FashionMNIST", names, mean, std, "crop_flip")


def _source(
    name: str,
    folder: str,
    class_names: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augmentation: str,
) -> MemorySource:
    return MemorySource(
        name=name,
        nominal_classes=len(class_names),
        image_size=28,
        mean=mean,
        std=std,
        augmentation=augmentation,
        native_size=28,
        load=partial(_load, name, folder, class_names),
        files=partial(_files, name, folder),
    )


def _files(name: str, folder: str, root: Path) -> tuple[Path, ...]:
    places = [root / folder / "raw"]
    if name == "fashion_mnist":
        places.append(DEBIAN_FOLDER)
    for place in places:
        found = [
            next((path for path in (place / file, place / f"{file}.gz") if path.is_file()), None)
            for file in FILES
        ]
        if any(found):
            for file, path in zip(FILES, found, strict=True):
                if path is None:
                    raise missing(place / file, download_command(name, root))
            return tuple(path for path in found if path is not None)
    also = f" (nor in {places[1]}, Debian's dataset-fashion-mnist)" if places[1:] else ""
    raise missing(places[0] / FILES[0], download_command(name, root), also)


def _load(name: str, folder: str, class_names: tuple[str, ...], root: Path) -> ImageArrays:
    paths = _files(name, folder, root)
    train_images, train_labels, test_images, test_labels = map(read_idx, paths)
    for path, images, labels in (
        (paths[1], train_images, train_labels),
        (paths[3], test_images, test_labels),
    ):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(f"{path}: {labels.shape} labels for images of shape {images.shape}")
        if labels.max(initial=0) >= len(class_names):
            raise DataError(
                f"{path}: label {labels.max()}, but there are {len(class_names)} classes"
            )
    return ImageArrays(
        train_images=train_images[:, None],
        train_labels=train_labels.astype(np.int64),
        test_images=test_images[:, None],
        test_labels=test_labels.astype(np.int64),
        class_names=class_names,
    )


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped. Raises DataError naming a damaged file."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked: {error}") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTE:
        raise DataError(f"{path}: not an IDX file of bytes (it starts with {data[:4].hex()!r})")
    header = 4 + 4 * data[3]
    # a header cut short reads as a shape that the file cannot have
    shape = struct.unpack(f">{data[3]}I", data[4:header].ljust(header - 4, b"\xff"))
    if len(data) != header + math.prod(shape):
        raise DataError(
            f"{path}: {len(data)} bytes, but its header {shape} asks for "
            f"{header + math.prod(shape)}: truncated?"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()
