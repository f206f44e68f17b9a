"""Images in, batches out: one interface for every data set of the paper and for anybody's own.

`DATASETS` names the sets; each is described by one file of this folder; `package.module:callable`
is a user's own. Importing this package loads neither torch nor torchvision, so that a spec can be
checked against `describe(name)` at once.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from switokd.data.parts import WHOLE, Part
from switokd.data.source import (
    AUGMENTATIONS,
    KNOWN_SET,
    DataOrigin,
    MemorySource,
    Source,
    StreamSource,
    validate_request,
)
from switokd.registry import Registry
from switokd.user_modules import is_address
from switokd.validation import DataError

if TYPE_CHECKING:
    import torch

    from switokd.data.batches.pipeline import Batch, Pipeline

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "Batch",
    "DataError",
    "DataOrigin",
    "Pipeline",
    "Source",
    "checked_dataset",
    "data_root",
    "describe",
    "open_pipeline",
]

DATASETS = Registry(
    "dataset",
    {
        "digits": "switokd.data.sets.digits:digits",
        "cifar10": "switokd.data.sets.cifar:cifar10",
        "cifar100": "switokd.data.sets.cifar:cifar100",
        "fashion_mnist": "switokd.data.sets.mnist:fashion_mnist",
        "mnist": "switokd.data.sets.mnist:mnist",
        "tiny_imagenet": "switokd.data.sets.tiny_imagenet:tiny_imagenet",
        "imagenet": "switokd.data.sets.imagenet:imagenet",
        "image_folder": "switokd.data.sets.image_folder:image_folder",
    },
)


def checked_dataset(name: str) -> str:
    """The name, if there is such a set or it is an address. Raises SpecError."""
    return name if is_address(name) else DATASETS.checked(name)


def describe(name: str, origin: DataOrigin = KNOWN_SET) -> Source:
    """What a data set states about itself (classes, image size, augmentation); loads no data.

    One that a user's callable gives is read for it, once, and kept under the data root. Raises
    SpecError, with the nearest known name, for a name that is not registered, and DataError.
    """
    if is_address(name):
        from switokd.data.sets.own import own_set

        return own_set(name, origin, data_root())
    source: Source = DATASETS.load(name)()
    return source


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The absolute folder that holds the data sets: `root`, else $SWITOKD_DATA, else ./data."""
    return Path(root or os.environ.get("SWITOKD_DATA") or "data").expanduser().absolute()


def open_pipeline(
    name: str,
    *,
    batch_size: int,
    seed: int,
    holdout: float = 0.0,
    train_images: int | None = None,
    image_size: int | None = None,
    augmentation: str = "default",
    views: int = 1,
    device: str | torch.device = "cpu",
    root: str | os.PathLike[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    stand_in: bool = False,
    origin: DataOrigin = KNOWN_SET,
    reproducible: bool = False,
    part: Part = WHOLE,
) -> Pipeline:
    """Open a data set for training: batches are made on `device`, every draw comes from `seed`.

    `holdout`: share of the training images set aside, the same ones for every seed.
    `train_images`: so many of the others train, as many of every class, the same ones for every
    seed; None for all.
    `image_size`: pixels; None keeps the set's own. `views`: independently augmented copies of each
    batch (KDCL), made from one read. `path`: a user's own folder or LMDB (image_folder, imagenet).
    `stand_in`: a few random images of the set's shape and classes in its place, to try things out.
    `origin`: of data from outside. `reproducible`: images are decoded on the CPU whatever the
    device, for the same pixels at every time. `part`: of every training batch, for one of several
    processes that train on it together. Raises DataError for what is missing, damaged or not
    allowed, and where the images are not those that the origin identifies.
    """
    source = describe(name, origin)
    if stand_in:
        from switokd.data.sets.stand_in import stand_in_for

        source, path = stand_in_for(source, image_size), None
    validate_request(
        source,
        batch_size=batch_size,
        holdout=holdout,
        image_size=image_size,
        augmentation=augmentation,
        views=views,
        path=path,
    )
    if origin.digest is not None and not stand_in:
        check_content(source, None if path is None else Path(path), origin.digest)
    from switokd.data.batches.pipeline import PipelineOptions

    options = PipelineOptions(
        batch_size=batch_size,
        seed=seed,
        holdout=holdout,
        train_images=train_images,
        image_size=image_size or source.image_size,
        augmentation=source.augmentation if augmentation == "default" else augmentation,
        views=views,
        device=str(device),
        root=data_root(root),
        path=None if path is None else Path(path).expanduser().absolute(),
        reproducible=reproducible,
        part=part,
    )
    if isinstance(source, MemorySource):
        from switokd.data.batches.in_memory import InMemoryPipeline

        pipeline: Pipeline = InMemoryPipeline(source, options)
    else:
        assert isinstance(source, StreamSource), source
        from switokd.data.batches.streaming import StreamingPipeline

        pipeline = StreamingPipeline(source, options)
    problem = part.problem(pipeline.train_size, batch_size)
    if problem is not None:
        pipeline.close()
        raise DataError(f"{source.name}: {problem}")
    return pipeline


def check_content(source: Source, path: Path | None, digest: str) -> None:
    """Raise DataError where the images are others than those with the digest."""
    if isinstance(source, MemorySource):
        found = source.digest
    else:
        from switokd.data.fingerprint import fingerprint

        assert path is not None, "data without a path have no digest"
        found = fingerprint(path.expanduser().absolute())
    if found != digest:
        raise DataError(
            f"{path or source.name}: other images than when the trial was made (their digest was "
            f"{digest}, and is {found}): read the experiment again, or put them back"
        )


def __getattr__(name: str) -> object:
    # Batch and Pipeline need torch, which a check of a spec must not load
    if name in ("Batch", "Pipeline"):
        return getattr(importlib.import_module("switokd.data.batches.pipeline"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
