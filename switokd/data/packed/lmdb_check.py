"""Read all of a packed LMDB, or of a class folder, decode it, and list every damaged image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from switokd.data.images.decode import decode_rgb
from switokd.data.images.folder import list_folder
from switokd.data.images.records import FolderRecords, Records
from switokd.data.packed.lmdb_reader import LmdbRecords
from switokd.validation import DataError

CHUNK = 64

Progress = Callable[[int, int], None]
"""Called after each chunk with (images done, images in all)."""


@dataclass(frozen=True)
class CheckReport:
    """`faults`: one message per image that is damaged or does not decode, in order."""

    path: Path
    images: int
    classes: int
    faults: tuple[str, ...]
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether every image is as it was packed, and decodes."""
        return not self.faults


def check(
    path: Path | str, *, workers: int | None = None, progress: Progress | None = None
) -> CheckReport:
    """Verify the digest and label of every record and decode it. `workers`: threads.

    Raises DataError if the LMDB cannot be opened at all (missing, truncated, not ours).
    """
    started = time.perf_counter()
    path = Path(path).absolute()
    is_class_folder = path.is_dir() and not (path / "data.mdb").exists()
    records: Records = FolderRecords(list_folder(path)) if is_class_folder else LmdbRecords(path)
    faults: list[str] = []
    total = len(records.labels)
    try:
        with ThreadPoolExecutor(workers or torch.get_num_threads()) as pool:
            chunks = [range(total)[start:][:CHUNK] for start in range(0, total, CHUNK)]
            results = pool.map(lambda chunk: list(_faults(records, chunk)), chunks)
            for chunk, found in zip(chunks, results, strict=True):
                faults += found
                if progress:
                    progress(chunk.stop, total)
    finally:
        records.close()
    return CheckReport(
        path, total, len(records.class_names), tuple(faults), time.perf_counter() - started
    )


def _faults(records: Records, chunk: range) -> Iterator[str]:
    for index in chunk:
        try:
            decode_rgb(records.read(index), records.where(index))
        except DataError as error:
            yield str(error).partition("; list all damage")[0]
