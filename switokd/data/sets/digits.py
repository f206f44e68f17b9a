"""The 1,797 handwritten digits that scikit-learn carries: real images that need no download.

8 x 8 pixels with 17 grey levels (UCI "Optical Recognition of Handwritten Digits", its test part),
resized to 16 x 16 unless the experiment says otherwise. The split is ours and fixed: one fifth of
every class is the test set (`splits.stratified_split`), 1,438 images train and 359 test.
Crop and flip are off by default: they cost most of the accuracy at this size.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from switokd.data.source import ImageArrays, MemorySource
from switokd.data.splits import stratified_split

TEST_SHARE = 0.2
GREY_LEVELS = 16


def digits() -> MemorySource:
    """The embedded default data set."""
    return MemorySource(
        name="digits",
        nominal_classes=10,
        image_size=16,
        mean=(0.3057,),
        std=(0.3190,),
        augmentation="none",
        native_size=8,
        load=load,
    )


@cache
def load(root: Path) -> ImageArrays:
    """Read the digits from scikit-learn (`root` is not used): uint8 (N, 1, 8, 8)."""
    table = _table()
    pixels = table[:, :-1].reshape(-1, 1, 8, 8)
    images = np.rint(pixels * (255 / GREY_LEVELS)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    train, test = stratified_split(labels, TEST_SHARE)
    return ImageArrays(
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _table() -> npt.NDArray[np.float64]:
    """One row a digit: its 64 pixels, 0 to 16, and its class."""
    # the file itself, since to import what reads it takes each worker a second
    spec = find_spec("sklearn")
    assert spec is not None, "scikit-learn is a dependency"
    assert spec.origin is not None
    return np.loadtxt(Path(spec.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
