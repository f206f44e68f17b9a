"""Stand-in images: the shape and classes of a real set, a few random pictures, nothing to fetch.

For trying a whole experiment's road in a minute. What is learned from them means nothing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from switokd.data.source import ImageArrays, MemorySource, Source

TRAIN_IMAGES = 16
TEST_IMAGES = 8
CLASSES_OF_A_FOLDER = 4
CLASSES_SHOWN = 2


def stand_in_for(source: Source, image_size: int | None = None) -> MemorySource:
    """A set in memory that answers for `source`, its images of its own size unless given."""
    size = image_size or source.image_size
    return MemorySource(
        name=source.name,
        nominal_classes=source.nominal_classes or CLASSES_OF_A_FOLDER,
        image_size=size,
        mean=source.mean,
        std=source.std,
        augmentation=source.augmentation,
        native_size=size,
        load=partial(_draw, source.channels, size, source.nominal_classes or CLASSES_OF_A_FOLDER),
    )


def _draw(channels: int, size: int, classes: int, root: Path) -> ImageArrays:
    """Noise around one colour per class; the same every time (`root` is not used)."""
    random = np.random.default_rng(0)
    colours = random.integers(64, 192, (classes, channels, 1, 1))

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        # several images of each class shown, so that a hold-out can have one
        labels = np.arange(count) % min(classes, CLASSES_SHOWN)
        noise = random.integers(-64, 64, (count, channels, size, size))
        return (colours[labels] + noise).astype(np.uint8), labels.astype(np.int64)

    train_images, train_labels = split(TRAIN_IMAGES)
    test_images, test_labels = split(TEST_IMAGES)
    names = tuple(f"stand-in {number}" for number in range(classes))
    return ImageArrays(train_images, train_labels, test_images, test_labels, names)
