"""Reading a packed LMDB: read-only, without a lock file, without copying the image bytes.

Safe with forked workers (a child goes on with the inherited map, whose pages are shared, and begins
transactions of its own) and with spawned ones (a pickled reader opens the file anew). LMDB allows a
file to be open once per process, so readers of one file share the environment.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from switokd.data.packed.lmdb_format import (
    ABOUT,
    FORMAT,
    LABELS,
    PROGRESS,
    Record,
    read_record,
    record_key,
)
from switokd.validation import DataError

_environments: dict[Path, tuple[lmdb.Environment, int]] = {}
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it at the moment of the fork


os.register_at_fork(after_in_child=_renew_lock)


class LmdbRecords:
    """The records of a packed LMDB, by number. `labels`: int64 (N,).

    Raises DataError for a file that is missing, truncated, not an LMDB or made by something else.
    Buffers from `read` point into the mapped file: valid until `close`.
    """

    sequential = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment = _acquire(path)
        self._open = True
        self._transactions = threading.local()
        try:
            about = _read_about(self._environment, path)
            self.about = about
            self.class_names = tuple(about["class_names"])
            self.labels = self._read_labels(about["records"])
        except BaseException:
            self.close()
            raise
        self._verified = np.zeros(len(self.labels), bool)

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[type[LmdbRecords], tuple[Path]]:
        return LmdbRecords, (self.path,)

    def read(self, index: int) -> memoryview:
        """Encoded bytes of one image, zero-copy; the digest is verified at the first read."""
        record = self.record(index)
        if not self._verified[index]:
            if not record.intact:
                raise DataError(
                    f"{self._name(index, record)}: damaged (wrong digest){self._advice}"
                )
            self._verified[index] = True
        if record.label != self.labels[index]:
            raise DataError(
                f"{self._name(index, record)}: label {record.label} in the record, "
                f"{self.labels[index]} in the label list{self._advice}"
            )
        return record.image

    def record(self, index: int) -> Record:
        """One record taken apart, not verified."""
        value = self._transaction().get(record_key(index))
        if value is None:
            raise DataError(f"{self.path}: record {index} of {len(self.labels)} is not there")
        try:
            return read_record(memoryview(value))
        except ValueError as error:
            raise DataError(f"{self.path}: record {index}: {error}{self._advice}") from error

    def where(self, index: int) -> str:
        return self._name(index, self.record(index))

    def read_ahead(self, indices: np.ndarray) -> None:
        """Touch records in the order of the file, so that the disk reads long stretches."""
        transaction = self._transaction()
        for index in np.sort(indices).tolist():
            transaction.get(record_key(index))  # brings in every page of the value, without the GIL

    def close(self) -> None:
        if self._open:
            self._open = False
            self._transactions = threading.local()
            _release(self.path)

    @property
    def _advice(self) -> str:
        return f"; list all damage with: switokd data check {self.path}"

    def _name(self, index: int, record: Record) -> str:
        return f"{self.path}: record {index} ({record.name})"

    def _transaction(self) -> lmdb.Transaction:
        """This thread's read transaction in this process."""
        known = getattr(self._transactions, "of_process", None)
        if known is None or known[0] != os.getpid():
            assert self._open, f"{self.path} is read after close()"
            known = (os.getpid(), self._environment.begin(buffers=True))
            self._transactions.of_process = known
        transaction: lmdb.Transaction = known[1]
        return transaction

    def _read_labels(self, records: int) -> np.ndarray:
        value = self._transaction().get(LABELS)
        labels = np.frombuffer(value or b"", "<i4").astype(np.int64)
        if len(labels) != records:
            raise DataError(f"{self.path}: {len(labels)} labels for {records} records")
        if records and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise DataError(
                f"{self.path}: labels {labels.min()}..{labels.max()} disagree with its "
                f"{len(self.class_names)} classes"
            )
        return labels


def _acquire(path: Path) -> lmdb.Environment:
    with _lock:
        environment, users = _environments.get(path, (None, 0))
        if environment is None:
            environment = _open(path)
        _environments[path] = (environment, users + 1)
        return environment


def _release(path: Path) -> None:
    with _lock:
        environment, users = _environments.pop(path)
        if users > 1:
            _environments[path] = (environment, users - 1)
        else:
            environment.close()


def _open(path: Path) -> lmdb.Environment:
    if path.is_dir():
        raise DataError(
            f"{path}: a folder, as other programs lay out an LMDB; this reads the single file that "
            "`switokd data pack` writes"
        )
    if not path.is_file():
        raise DataError(f"{path} is not there; make it with: switokd data pack FOLDER {path}")
    try:
        environment = lmdb.open(
            str(path), subdir=False, readonly=True, lock=False, max_spare_txns=64
        )
    except lmdb.Error as error:
        raise DataError(f"{path}: cannot be opened as an LMDB: {error}") from error
    # reading a page beyond the end of the file would kill the process
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    found = path.stat().st_size
    if found < needed:
        environment.close()
        raise DataError(f"{path}: truncated: {found} bytes of {needed}")
    return environment


def _read_about(environment: lmdb.Environment, path: Path) -> dict[str, Any]:
    with environment.begin() as transaction:
        value = transaction.get(ABOUT)
        unfinished = value is None and transaction.get(PROGRESS) is not None
    if unfinished:
        raise DataError(f"{path}: packing it was not finished; run `switokd data pack` again")
    try:
        about: dict[str, Any] = json.loads(value or b"")
        if about["format"] == FORMAT:
            return about
        raise ValueError(f"its format is {about['format']!r}, not {FORMAT!r}")
    except (ValueError, KeyError, TypeError) as error:
        reason = error if value else "it has no description of itself"
        raise DataError(f"{path}: not made by `switokd data pack`: {reason}") from error
