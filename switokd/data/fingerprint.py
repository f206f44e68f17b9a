"""What tells a user's own images from others, wherever they lie: a hash of their content.

Cheap enough for every call: of a folder the name and size of each image, of a packed LMDB its
labels, and of both the content of some images. Another image of the same name and size goes unseen
unless it is one of those.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from switokd.data.images.folder import IMAGE_SUFFIXES
from switokd.validation import DataError

DIGEST_LENGTH = 16
# images whose content is looked at, evenly spread, and as many bytes of each
LOOKED_AT = 64
LOOKED_AT_BYTES = 2**16
PACKED_SUFFIX = ".lmdb"


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits of what a folder of images or a packed LMDB holds.

    Equal for a copy elsewhere. Raises DataError for what cannot be read.
    """
    digest = hashlib.sha256()
    try:
        if path.is_file():
            _add_packed(digest, "", path)
        else:
            _add_folder(digest, path)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
    return digest.hexdigest()[:DIGEST_LENGTH]


def _add_folder(digest: hashlib._Hash, folder: Path) -> None:
    images = []
    for name, file in sorted(_files(folder, "")):
        if name.endswith(PACKED_SUFFIX):
            _add_packed(digest, name, file)
        elif file.suffix.lower() in IMAGE_SUFFIXES:
            digest.update(f"{name}\0{file.stat().st_size}\n".encode(errors="surrogateescape"))
            images.append(file)
    for image in images[:: max(1, len(images) // LOOKED_AT)]:
        with image.open("rb") as opened:
            digest.update(opened.read(LOOKED_AT_BYTES))


def _files(folder: Path, below: str) -> Iterator[tuple[str, Path]]:
    """Every file of a folder and those in it, but hidden ones, by its relative name."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{below}{entry.name}/")
            elif entry.is_file():
                yield f"{below}{entry.name}", Path(entry.path)


def _add_packed(digest: hashlib._Hash, name: str, path: Path) -> None:
    from switokd.data.packed.lmdb_reader import LmdbRecords

    records = LmdbRecords(path)
    try:
        count = len(records)
        digest.update(f"{name}\0{count}\0{records.class_names}\n".encode())
        digest.update(records.labels.tobytes())
        for index in range(0, count, max(1, count // LOOKED_AT)):
            digest.update(records.record(index).digest)
    finally:
        records.close()
