"""ImageNet (ILSVRC2012), packed or as class folders: method.md section 6.

`<root>/imagenet` (or the given path) holds `train.lmdb` and `val.lmdb`, or `train/` and `val/` with
a folder per WordNet id each. The archives need an account at the project's site, and `val` its
images moved into class folders, as for torchvision's ImageFolder.
"""

from __future__ import annotations

from pathlib import Path

from switokd.data.images.records import RecordSplits
from switokd.data.sets.image_folder import IMAGENET_MEAN, IMAGENET_STD, open_splits
from switokd.data.source import StreamSource, missing
from switokd.validation import DataError

CLASSES = 1000


def imagenet() -> StreamSource:
    """1,281,167 training and 50,000 validation photographs of 1,000 classes, 224 x 224."""
    return StreamSource(
        name="imagenet",
        nominal_classes=CLASSES,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augmentation="crop_flip",
        open=_open,
    )


def _open(root: Path, path: Path | None) -> RecordSplits:
    path = path or root / "imagenet"
    if not path.exists():
        raise missing(
            path,
            f"switokd data pack ILSVRC2012/train {path}/train.lmdb\n"
            f"  switokd data pack ILSVRC2012/val {path}/val.lmdb",
            " (the archives come from the ImageNet site, after registration)",
        )
    splits = open_splits(root, path)
    found = len(splits.train.class_names)
    if found != CLASSES:
        splits.close()
        raise DataError(
            f"{path}: {found} classes, but ImageNet has {CLASSES}: a class folder that is missing "
            "would shift every label after it (for a subset use dataset: image_folder)"
        )
    return splits
