"""The unfinished file of a packing: locked, resumable, and trusted only where it can be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import lmdb

from switokd.data.images.folder import FolderListing
from switokd.data.packed.lmdb_format import PROGRESS
from switokd.files.lock import hold
from switokd.validation import DataError

COMMIT_BYTES = 16 << 20
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class PackState:
    """How far packing got; saved in the same transaction as the records it counts.

    `done`: files dealt with, in packing order. `skipped`: (number in the listing, reason).
    """

    fingerprint: str
    boot_id: str
    done: int = 0
    image_bytes: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)

    @property
    def records(self) -> int:
        """Records written."""
        return self.done - len(self.skipped)

    def to_json(self) -> bytes:
        """What `from_json` reads."""
        return json.dumps(vars(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> PackState:
        """The state as saved, skipped files as tuples again."""
        saved = json.loads(data)
        saved["skipped"] = [(number, reason) for number, reason in saved["skipped"]]
        return cls(**saved)


@contextmanager
def locked_partial(out: Path) -> Iterator[Path]:
    """The path of the unfinished file for `out`, ours alone until the block ends.

    The kernel lets go of the lock when its holder dies. Raises DataError if another process packs.
    """
    partial = out.with_name(f"{out.name}.partial")
    with partial.open("ab") as file:
        if not hold(file):
            raise DataError(f"{partial}: another process is packing it; wait for it")
        if not _is_still(file.fileno(), partial):
            raise DataError(f"{out}: another process has just packed it; run the command again")
        yield partial


def open_partial(partial: Path, listing: FolderListing) -> tuple[lmdb.Environment, PackState]:
    """Continue an interrupted packing of the same files, else start clean."""
    fresh = PackState(listing.fingerprint, _boot_id())
    if partial.stat().st_size:
        saved = _saved_state(partial, listing)
        if saved and (saved.fingerprint, saved.boot_id) == (fresh.fingerprint, fresh.boot_id):
            return _open(partial, listing), saved
        os.truncate(partial, 0)
    return _open(partial, listing), fresh


@contextmanager
def flushing(partial: Path) -> Iterator[Callable[[], None]]:
    """A call that starts to force what is written so far to the disk, beside other work.

    The last wait for the disk, when the file is whole, is then a short one.
    """
    with partial.open("rb") as file, ThreadPoolExecutor(1) as disk:
        running: list[Future[None]] = []

        def flush() -> None:
            if not running or running[-1].done():
                running[:] = [disk.submit(os.fsync, file.fileno())]

        yield flush
        for last in running:
            last.result()


def require_space(listing: FolderListing, partial: Path) -> None:
    """Raises DataError if the images cannot fit on the disk, before anything is written."""
    needed = int(listing.sizes.sum()) - partial.stat().st_size
    free = _free(partial.parent)
    if needed > free:
        raise DataError(
            f"{partial.parent}: not enough space on the disk: packing needs {needed:,} bytes, "
            f"{free:,} are free"
        )


def disk_error(error: Exception, path: Path, done: int, total: int) -> DataError:
    """What a failed write means to the user."""
    reasons = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT)]
    full = any(reason in str(error) for reason in reasons)
    # LMDB calls a write that a full disk cut short an input/output error
    full |= os.strerror(errno.EIO) in str(error) and _free(path.parent) < COMMIT_BYTES
    if full:
        return DataError(
            f"{path}: the disk is full after {done} of {total} images; make room and run the same "
            "command again: it continues"
        )
    return DataError(f"{path}: cannot be written: {error} (after {done} of {total} images)")


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _open(partial: Path, listing: FolderListing) -> lmdb.Environment:
    # the file grows as it is written; this only bounds it
    map_size = 2 * int(listing.sizes.sum()) + 16384 * len(listing.files) + (64 << 20)
    # committed steps survive a kill without being forced to disk one by one; only a crash of the
    # machine could lose them, and then the boot id differs and nothing is trusted
    return lmdb.open(
        str(partial), subdir=False, lock=False, sync=False, map_size=map_size, readahead=False
    )


def _saved_state(partial: Path, listing: FolderListing) -> PackState | None:
    try:
        with _open(partial, listing) as environment, environment.begin() as transaction:
            return PackState.from_json(transaction.get(PROGRESS) or b"")
    except (lmdb.Error, ValueError, KeyError, TypeError):
        return None


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _boot_id() -> str:
    # where the system has none, a value that matches nothing: then packing starts clean
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else f"unknown {time.time_ns()}"
