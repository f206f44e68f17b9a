"""Encoded images with labels, wherever they are kept: what the streaming pipeline reads from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from switokd.data.images.folder import FolderListing
from switokd.validation import DataError


class Records(Protocol):
    """Numbered encoded images. `labels`: int64 (N,). `sequential`: reading neighbours together is
    faster than reading in any order (one file rather than many)."""

    class_names: tuple[str, ...]
    labels: np.ndarray
    sequential: bool

    def read(self, index: int) -> bytes | memoryview:
        """Encoded bytes of one image, valid until `close`. Raises DataError if they are damaged."""

    def where(self, index: int) -> str:
        """What to call the image in a message."""

    def read_ahead(self, indices: np.ndarray) -> None:
        """Bring records that will be read soon into memory."""

    def close(self) -> None:
        """Release files; buffers returned by `read` must not be used afterwards."""


@dataclass(frozen=True)
class RecordSplits:
    """Training and test records; the same object twice, with disjoint indices, when one store was
    split. Indices: int64, ascending."""

    train: Records
    train_index: np.ndarray
    test: Records
    test_index: np.ndarray

    def close(self) -> None:
        """Release both."""
        self.train.close()
        self.test.close()


class FolderRecords:
    """The images of a folder, one file each."""

    sequential = False

    def __init__(self, listing: FolderListing) -> None:
        self.class_names = listing.class_names
        self.labels = listing.labels
        self._listing = listing

    def read(self, index: int) -> bytes:
        try:
            return self._path(index).read_bytes()
        except OSError as error:
            raise DataError(f"{self._path(index)}: cannot be read: {error.strerror}") from error

    def where(self, index: int) -> str:
        return str(self._path(index))

    def read_ahead(self, indices: np.ndarray) -> None:
        """Nothing to gain: the files are read in any order."""

    def close(self) -> None:
        """Nothing is kept open."""

    def _path(self, index: int) -> Path:
        return self._listing.folder / self._listing.files[index]
