"""A folder with one subfolder per class, as torchvision's ImageFolder takes it, listed and checked.

Classes are numbered in the order of their sorted names, as ImageFolder does, so that checkpoints
mean the same classes.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from switokd.validation import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".webp"})
# known as images, but not to torchvision's decoders: to be named, not passed over in silence
FOREIGN_SUFFIXES = frozenset({".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".heic", ".avif", ".jp2"})
SPLIT_NAMES = frozenset({"train", "val", "test"})


@dataclass(frozen=True)
class FolderListing:
    """The images below `folder`, by class and name: relative paths, labels int64 (N,), sizes in
    bytes. `ignored` counts files that are not images by their name; `empty_classes` have none."""

    folder: Path
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray
    sizes: np.ndarray
    fingerprint: str
    ignored: int
    empty_classes: tuple[str, ...]


def list_folder(folder: Path, *, allow_empty: bool = False) -> FolderListing:
    """List the images of a class folder tree; names, sizes and times are read, not the files.

    Raises DataError for a folder without class folders, classes whose names differ only by case
    or Unicode form, a class without an image (unless `allow_empty`), image formats that cannot be
    decoded and names that are not valid Unicode.
    """
    class_names = _class_names(folder)
    files: list[str] = []
    labels: list[int] = []
    sizes: list[int] = []
    ignored = 0
    empty: list[str] = []
    digest = hashlib.sha256(repr(class_names).encode())
    for label, class_name in enumerate(class_names):
        before = len(files)
        for entry, relative in _walk(folder / class_name, class_name):
            suffix = Path(entry.name).suffix.lower()
            if suffix in FOREIGN_SUFFIXES and not entry.name.startswith("."):
                raise DataError(
                    f"{entry.path}: {suffix} images are not supported; convert them to PNG or JPEG"
                )
            if suffix not in IMAGE_SUFFIXES or entry.name.startswith("."):
                ignored += 1
                continue
            stat = entry.stat()
            digest.update(f"{relative}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
            files.append(relative)
            labels.append(label)
            sizes.append(stat.st_size)
        if len(files) == before:
            empty.append(class_name)
    if empty and not allow_empty:
        raise DataError(
            f"{folder / empty[0]}: a class folder with no image in it "
            f"({len(empty)} of {len(class_names)} classes; images end in {sorted(IMAGE_SUFFIXES)})"
        )
    if not files:
        raise DataError(f"{folder}: no image in any of its {len(class_names)} class folders")
    return FolderListing(
        folder=folder,
        class_names=class_names,
        files=tuple(files),
        labels=np.array(labels, np.int64),
        sizes=np.array(sizes, np.int64),
        fingerprint=digest.hexdigest(),
        ignored=ignored,
        empty_classes=tuple(empty),
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is not there"
        raise DataError(f"{folder} {found}; a folder with one subfolder per class is needed")
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from error
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise DataError(f"{folder}: no class folders in it ({len(entries)} other entries)")
    if len(SPLIT_NAMES.intersection(names)) > 1:
        raise DataError(
            f"{folder} holds the splits {names}, not classes: name one, such as {folder / 'train'}"
        )
    seen: dict[str, str] = {}
    for name in names:
        _require_unicode(folder / name)
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            raise DataError(
                f"{folder}: the classes {seen[key]!r} and {name!r} differ only by case or Unicode "
                "form and would be one class on some file systems; rename one"
            )
        seen[key] = name
    return tuple(names)


def _walk(folder: Path, relative: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    """All files below a folder with their paths relative to the set's, in a fixed order."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from error
    for entry in entries:
        _require_unicode(Path(entry.path))
        below = f"{relative}/{entry.name}"
        if entry.is_dir():
            yield from _walk(folder / entry.name, below)
        elif entry.is_file():
            yield entry, below
        else:
            raise DataError(f"{entry.path}: neither a file nor a folder (a broken link?)")


def _require_unicode(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{os.fsencode(path)!r}: the name is not valid Unicode; rename it"
        ) from error
