"""CIFAR-10 and CIFAR-100, read by torchvision from the archives' own layout.

`<root>/cifar-10-batches-py` or, when only the archive was fetched, `<root>/cifar-10-python.tar.gz`
(`cifar-100-...` likewise). Every file must have the published MD5 digest: the batches are pickles,
which must not be opened otherwise. Mean and standard deviation: method.md section 6.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from switokd.data.source import ImageArrays, MemorySource, download_command, missing
from switokd.validation import DataError


def cifar10() -> MemorySource:
    """50,000 training and 10,000 test colour photographs of 10 classes, 32 x 32."""
    return MemorySource(
        name="cifar10",
        nominal_classes=10,
        image_size=32,
        mean=(0.491, 0.482, 0.447),
        std=(0.247, 0.243, 0.262),
        augmentation="crop_flip",
        native_size=32,
        load=partial(_load, "cifar10", "CIFAR10"),
        files=partial(_files, "cifar10", "CIFAR10"),
    )


def cifar100() -> MemorySource:
    """50,000 training and 10,000 test colour photographs of 100 fine classes, 32 x 32."""
    return MemorySource(
        name="cifar100",
        nominal_classes=100,
        image_size=32,
        mean=(0.507, 0.487, 0.441),
        std=(0.267, 0.256, 0.276),
        augmentation="crop_flip",
        native_size=32,
        load=partial(_load, "cifar100", "CIFAR100"),
        files=partial(_files, "cifar100", "CIFAR100"),
    )


def _reader(class_name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, class_name)


def _digests(reader: Any) -> dict[str, str]:
    meta = {reader.meta["filename"]: reader.meta["md5"]}
    return dict(reader.train_list + reader.test_list) | meta


def _files(name: str, class_name: str, root: Path) -> tuple[Path, ...]:
    """The files that will be read: the unpacked batches, else the archive."""
    reader = _reader(class_name)
    folder, archive = root / reader.base_folder, root / reader.filename
    if folder.is_dir():
        files = tuple(folder / file for file in _digests(reader))
        for file in files:
            if not file.is_file():
                raise missing(file, download_command(name, root))
        return files
    if archive.is_file():
        return (archive,)
    raise missing(folder, download_command(name, root), f" (nor is {archive.name} beside it)")


def _load(name: str, class_name: str, root: Path) -> ImageArrays:
    from torchvision.datasets.utils import check_integrity

    reader = _reader(class_name)
    first, *_ = _files(name, class_name, root)
    if first == root / reader.filename:
        _unpack(first, reader, name)
    for file, md5 in _digests(reader).items():
        path = root / reader.base_folder / file
        if not check_integrity(str(path), md5):
            raise DataError(
                f"{path}: its MD5 digest is not the published {md5}: damaged or not the original; "
                f"remove {path.parent} and get it again with:\n  {download_command(name, root)}"
            )
    train, test = reader(root, train=True), reader(root, train=False)
    return ImageArrays(
        train_images=np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),
        train_labels=np.array(train.targets, np.int64),
        test_images=np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
        test_labels=np.array(test.targets, np.int64),
        class_names=tuple(train.classes),
    )


def _unpack(archive: Path, reader: Any, name: str) -> None:
    """Unpack a verified archive next to it; its folder appears only when whole."""
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(str(archive), reader.tgz_md5):
        raise DataError(
            f"{archive}: its MD5 digest is not the published {reader.tgz_md5}: damaged or not the "
            "original; remove it and get it again with:\n"
            f"  {download_command(name, archive.parent)}"
        )
    temporary = Path(tempfile.mkdtemp(prefix=f".{reader.base_folder}-", dir=archive.parent))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
        (temporary / reader.base_folder).rename(archive.parent / reader.base_folder)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{archive}: cannot be unpacked beside itself: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
