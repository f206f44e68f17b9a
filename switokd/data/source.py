"""What a data set states about itself, and the one error that its users see. No torch here."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from switokd.validation import DataError

if TYPE_CHECKING:
    from switokd.data.images.records import RecordSplits

AUGMENTATIONS = ("default", "none", "crop", "crop_flip")


@dataclass(frozen=True)
class DataOrigin:
    """What is to be known of data from outside, beside a name and a path, to open them again.

    arguments: of the callable that gives them. module_folder: where its module was found. source:
    what identified its code then (`user_modules.source_of`). digest: of the images' content; None
    where any are right.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    module_folder: str | None = None
    source: str | None = None
    digest: str | None = None


KNOWN_SET = DataOrigin()


@dataclass(frozen=True)
class ImageArrays:
    """A whole data set as arrays: images uint8 (N, C, H, W), labels int64 (N,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """One data set: what a spec is checked against, and the statistics of its training images.

    `nominal_classes` is None where the user's folder decides. `image_size` is the side in pixels
    that training gets by default. `mean` and `std` are per channel, of images scaled to [0, 1].
    `augmentation` is what "default" means for this set.
    """

    name: str
    nominal_classes: int | None
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: str

    def size_of(self, path: str | os.PathLike[str] | None) -> int:
        """The side in pixels that training gets by default."""
        return self.image_size

    @property
    def channels(self) -> int:
        """Planes of an image: 1 for grey sets, 3 for colour."""
        return len(self.mean)


@dataclass(frozen=True)
class MemorySource(Source):
    """A set that fits in memory: read whole, once, into uint8 arrays.

    `load(root)` reads and checks the set; `files(root)` names the files it reads, whose sizes and
    times tell whether a decoded copy is still current (None: reading is cheap, keep no copy).
    `native_size` is the side in pixels of the images that `load` returns. `mapped`: they are a
    shared copy themselves. `digest`: of their content, where that identifies them.
    """

    native_size: int
    load: Callable[[Path], ImageArrays]
    files: Callable[[Path], tuple[Path, ...]] | None = None
    mapped: bool = False
    digest: str | None = None


@dataclass(frozen=True)
class StreamSource(Source):
    """A set that is read and decoded while training: `open(root, path)` finds its records."""

    open: Callable[[Path, Path | None], RecordSplits]
    native_size: Callable[[Path], int | None] = lambda path: None

    def size_of(self, path: str | os.PathLike[str] | None) -> int:
        """The side in pixels that training gets by default: never more than the images have.

        `native_size` looks at a few images of a user's own set for their usual short side.
        """
        native = None if path is None else self.native_size(Path(path).expanduser().absolute())
        return min(self.image_size, native or self.image_size)


def validate_request(
    source: Source,
    *,
    batch_size: int,
    holdout: float,
    image_size: int | None,
    augmentation: str,
    views: int,
    path: str | os.PathLike[str] | None,
) -> None:
    """Refuse impossible pipeline options before anything is read. Raises DataError."""
    if augmentation not in AUGMENTATIONS:
        raise DataError(f"augmentation {augmentation!r}: must be one of {list(AUGMENTATIONS)}")
    if batch_size < 1:
        raise DataError(f"batch_size {batch_size}: must be at least 1")
    if not 0 <= holdout < 1:
        raise DataError(f"holdout {holdout}: must be at least 0 and less than 1")
    if image_size is not None and image_size < 1:
        raise DataError(f"image_size {image_size}: must be at least 1 pixel")
    if views < 1:
        raise DataError(f"views {views}: must be at least 1")
    if path is not None and not isinstance(source, StreamSource):
        raise DataError(f"dataset {source.name!r} takes no path (it is read from the data root)")


def missing(path: Path, command: str, note: str = "") -> DataError:
    """The error for data that is not there: the exact path, and the command that gets it."""
    return DataError(f"{path} is not there{note}; get it with:\n  {command}")


def download_command(name: str, root: Path) -> str:
    """The command that downloads a set through torchvision (nothing is downloaded unasked)."""
    return f"python -m switokd.data.download {name} --root {shlex.quote(str(root))}"
