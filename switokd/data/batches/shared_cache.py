"""Decoded data sets as memory-mapped files, so that concurrent trials share one copy in memory.

The first trial that needs a set decodes it (and resizes it) once and leaves the arrays as .npy
files under `<data root>/.decoded/`; every other process maps those files, and the kernel keeps one
copy of the pages for all of them. Measured with four processes on 154 MB of CIFAR's shape
(`python -m tests.benchmarks.bench_data_sharing --ray`): private copies hold 586 MB together, the
mapped copy 117, Ray's object store 114. Ray shares as well, but only below one Ray instance and
until it ends, and would bring Ray into a room that must work without it; a mapped file also serves
the next sweep without decoding. Pages of an LMDB are shared too, but make batches at a sixth of the
speed, with a look-up per image instead of one gather.

A copy is found by the sizes and times of the files it was made from, written to a temporary folder
that gets its name when whole, and checked against its checksums whenever it is opened.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from switokd.data.source import ImageArrays, MemorySource
from switokd.files.lock import one_at_a_time

log = logging.getLogger(__name__)

FOLDER = ".decoded"
FORMAT = 1
ABOUT = "about.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
RESIZE_CHUNK = 1024


def load_arrays(source: MemorySource, root: Path, image_size: int) -> ImageArrays:
    """The set's images at `image_size` pixels, mapped from the shared copy, made first if need be.

    Where no copy can be kept (read-only or full disk) the arrays are this process's own, and a
    warning says so. Raises DataError as the set's reader does.
    """
    if source.files is None or (source.mapped and image_size == source.native_size):
        return resized(source.load(root), image_size)
    # one callable may give several sets, each by its arguments
    which = "" if source.digest is None else f"-{source.digest}"
    prefix = f"{source.name}{which}-{image_size}px-"
    copy = _copy_path(source, root, prefix)
    arrays = open_copy(copy)
    if arrays is not None:
        return arrays
    fresh: ImageArrays | None = None
    try:
        with one_at_a_time(root / FOLDER / f"{source.name}.lock"):
            arrays = open_copy(copy)  # another process may have made it meanwhile
            if arrays is None:
                fresh = resized(source.load(root), image_size)
                copy = _copy_path(source, root, prefix)  # reading may have unpacked an archive
                _remove_others(copy.parent, prefix)
                write_copy(fresh, copy)
                arrays = open_copy(copy)
    except OSError as error:
        log.warning("%s: no shared copy (%s); this process keeps its own", copy, error)
    return arrays or fresh or resized(source.load(root), image_size)


def resized(arrays: ImageArrays, image_size: int) -> ImageArrays:
    """All images at image_size x image_size, bilinear with antialiasing, rounded to uint8."""
    return replace(
        arrays,
        train_images=_resize(arrays.train_images, image_size),
        test_images=_resize(arrays.test_images, image_size),
    )


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    if images.shape[2:] == (size, size):
        return images
    out = np.empty((*images.shape[:2], size, size), np.uint8)
    for start in range(0, len(images), RESIZE_CHUNK):
        chunk = torch.tensor(images[start : start + RESIZE_CHUNK], dtype=torch.float32)
        chunk = interpolate(chunk, (size, size), mode="bilinear", antialias=True)
        out[start : start + RESIZE_CHUNK] = chunk.round_().clamp_(0, 255).byte().numpy()
    return out


def _copy_path(source: MemorySource, root: Path, prefix: str) -> Path:
    """The copy of the files as they are now: other files, another name."""
    assert source.files is not None
    parts = [f"format {FORMAT}"]
    for file in source.files(root):
        stat = file.stat()
        parts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return root / FOLDER / f"{prefix}{fingerprint}"


def open_copy(copy: Path) -> ImageArrays | None:
    """Map a copy; None if it is not there or its checksums are not those it was written with."""
    try:
        about = about_copy(copy)
        # "c": writable in name only, so that torch takes it as it is; nothing ever writes to it
        arrays = {name: np.load(copy / f"{name}.npy", mmap_mode="c") for name in ARRAYS}
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is damaged (%s): made again", copy, error)
        return None
    for name, array in arrays.items():
        if _checksum(array) != about["checksums"][name]:
            log.warning("%s.npy is damaged (checksum): made again", copy / name)
            return None
    return ImageArrays(class_names=tuple(about["class_names"]), **arrays)


def about_copy(copy: Path) -> dict[str, Any]:
    """What was written with a copy. Raises OSError and ValueError."""
    about: dict[str, Any] = json.loads((copy / ABOUT).read_text(encoding="utf-8"))
    return about


def write_copy(arrays: ImageArrays, copy: Path, **facts: Any) -> None:
    """Write a copy, whole or not at all, with facts about it; no other process must write it.

    Raises OSError.
    """
    temporary = copy.with_name(f"{copy.name}.tmp")
    try:
        # the lock is ours, so what is there was left by a process that died
        for leftover in (temporary, copy):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        checksums = {}
        for name in ARRAYS:
            array = np.ascontiguousarray(getattr(arrays, name))
            with (temporary / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
            checksums[name] = _checksum(array)
        about = facts | {"class_names": arrays.class_names, "checksums": checksums}
        (temporary / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        temporary.rename(copy)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(array.data)


def _remove_others(folder: Path, prefix: str) -> None:
    """Remove copies of files that are no longer there (who has one mapped keeps its pages)."""
    for stale in folder.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
