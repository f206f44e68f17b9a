"""An image folder into one LMDB: in parallel, to a temporary name, resumable after a kill.

Readers are threads (reading, digests and LMDB's writing all leave the interpreter lock); one writer
appends in order and commits in steps. Everything goes to `OUT.partial`, which gets the final name
only when it is whole and on disk. Killed and run again, packing continues after the last commit if
the folder is unchanged and the machine was not restarted, else it starts clean.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import lmdb
import numpy as np

from switokd.data.images.encoded import structural_fault
from switokd.data.images.folder import FolderListing, list_folder
from switokd.data.packed.lmdb_format import ABOUT, FORMAT, LABELS, PROGRESS, make_record, record_key
from switokd.data.packed.lmdb_partial import (
    COMMIT_BYTES,
    PackState,
    disk_error,
    flushing,
    locked_partial,
    open_partial,
    require_space,
    sync_folder,
)
from switokd.data.packed.lmdb_reader import LmdbRecords
from switokd.validation import DataError

CHUNK_FILES = 32
CHUNK_BYTES = 8 << 20
ORDER_SEED = 20220704

Progress = Callable[[int, int, int], None]
"""Called after each commit with (files done, files in all, image bytes packed)."""


@dataclass(frozen=True)
class PackReport:
    """What packing did. `skipped`: (file, reason) of each file left out on request; `resumed_at`:
    files that an earlier, interrupted call had done; `ignored`: files that are not images by name;
    `empty_classes` are kept in the class list."""

    out: Path
    records: int
    classes: int
    image_bytes: int
    skipped: tuple[tuple[str, str], ...]
    ignored: int
    empty_classes: tuple[str, ...]
    resumed_at: int
    already_packed: bool
    seconds: float


class _ReadFile(NamedTuple):
    """A source file, ready to be written: `number` in the listing, `fault` if it is bad."""

    number: int
    image_bytes: int
    record: bytes
    fault: str | None


def pack(
    folder: Path | str,
    out: Path | str,
    *,
    workers: int | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> PackReport:
    """Pack a folder of class folders into `out`. Packing what is packed already does nothing.

    Every file's structure is checked (`encoded.structural_fault`); the first bad one stops the
    packing, or is left out, counted and recorded with `skip_bad`. `workers`: reading threads,
    default one per core. Raises DataError naming the file: bad images, a full disk, an `out` that
    holds something else or that another process is packing.
    """
    started = time.perf_counter()
    folder, out = Path(folder).absolute(), Path(out).absolute()
    listing = list_folder(folder, allow_empty=skip_bad)
    if out.exists():
        return _already_packed(listing, out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked_partial(out) as partial:
            require_space(listing, partial)
            state, resumed_at = _pack_to(partial, listing, workers, skip_bad, progress)
            partial.replace(out)
            sync_folder(out.parent)
    except OSError as error:
        raise disk_error(error, out, 0, len(listing.files)) from error
    return PackReport(
        out=out,
        records=state.records,
        classes=len(listing.class_names),
        image_bytes=state.image_bytes,
        skipped=_named(listing, state),
        ignored=listing.ignored,
        empty_classes=listing.empty_classes,
        resumed_at=resumed_at,
        already_packed=False,
        seconds=time.perf_counter() - started,
    )


def packing_order(files: int) -> np.ndarray:
    """The fixed random order in which files become records: int64 (files,)."""
    return np.random.RandomState(ORDER_SEED).permutation(files)


def _pack_to(
    partial: Path,
    listing: FolderListing,
    workers: int | None,
    skip_bad: bool,
    progress: Progress | None,
) -> tuple[PackState, int]:
    """Write what is missing; returns the final state and where it took up an earlier call."""
    order = packing_order(len(listing.files))
    state: PackState | None = None
    try:
        environment, state = open_partial(partial, listing)
        resumed_at = state.done
        with environment:
            remaining = order[state.done :]
            with (
                closing(_read_in_order(listing, remaining, workers or _cores())) as files,
                flushing(partial) as flush,
            ):
                for _ in _write_all(environment, listing, state, files, skip_bad):
                    flush()
                    if progress:
                        progress(state.done, len(listing.files), state.image_bytes)
            _finish(environment, listing, order, state)
    except lmdb.Error as error:
        done = state.done if state else 0
        raise disk_error(error, partial, done, len(listing.files)) from error
    return state, resumed_at


def _read_in_order(
    listing: FolderListing, order: np.ndarray, workers: int
) -> Generator[_ReadFile, None, None]:
    """The files in the given order, read ahead by a few chunks per worker."""
    waiting: deque[Future[list[_ReadFile]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for chunk in _chunks(listing, order):
                waiting.append(pool.submit(_read_chunk, listing, chunk))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for job in waiting:
                job.cancel()


def _chunks(listing: FolderListing, order: np.ndarray) -> Iterator[list[int]]:
    chunk: list[int] = []
    chunk_bytes = 0
    for number in order.tolist():
        chunk.append(number)
        chunk_bytes += int(listing.sizes[number])
        if len(chunk) == CHUNK_FILES or chunk_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, chunk_bytes = [], 0
    if chunk:
        yield chunk


def _read_chunk(listing: FolderListing, chunk: list[int]) -> list[_ReadFile]:
    return [_read_file(listing, number) for number in chunk]


def _read_file(listing: FolderListing, number: int) -> _ReadFile:
    name = listing.files[number]
    try:
        image = (listing.folder / name).read_bytes()
    except OSError as error:
        return _ReadFile(number, 0, b"", f"cannot be read: {error.strerror}")
    fault = structural_fault(image)
    record = b"" if fault else make_record(int(listing.labels[number]), name, image)
    return _ReadFile(number, len(image), record, fault)


def _write_all(
    environment: lmdb.Environment,
    listing: FolderListing,
    state: PackState,
    files: Iterator[_ReadFile],
    skip_bad: bool,
) -> Iterator[None]:
    """Append the records; yields after each commit."""
    transaction = environment.begin(write=True)
    uncommitted = 0
    try:
        for number, image_bytes, record, fault in files:
            if fault and not skip_bad:
                raise DataError(
                    f"{listing.folder / listing.files[number]}: {fault}; "
                    "mend or remove it, or leave out all such files with --skip-bad"
                )
            if fault:
                state.skipped.append((number, fault))
            else:
                appended = transaction.put(record_key(state.records), record, append=True)
                assert appended, f"record {state.records} is not the last"
                state.image_bytes += image_bytes
            state.done += 1
            uncommitted += image_bytes
            if uncommitted >= COMMIT_BYTES or state.done == len(listing.files):
                transaction.put(PROGRESS, state.to_json())
                transaction.commit()
                yield
                transaction, uncommitted = environment.begin(write=True), 0
    finally:
        transaction.abort()


def _finish(
    environment: lmdb.Environment, listing: FolderListing, order: np.ndarray, state: PackState
) -> None:
    """Add what makes the file whole: the labels and the description of itself."""
    if state.records == 0:
        raise DataError(f"{listing.folder}: not one of its {state.done} files is a sound image")
    stored = order[~np.isin(order, [number for number, _ in state.skipped])]
    about = {
        "format": FORMAT,
        "records": state.records,
        "class_names": listing.class_names,
        "fingerprint": listing.fingerprint,
        "image_bytes": state.image_bytes,
        "skipped": _named(listing, state),
    }
    with environment.begin(write=True) as transaction:
        transaction.put(LABELS, listing.labels[stored].astype("<i4").tobytes())
        transaction.put(ABOUT, json.dumps(about).encode())
        transaction.delete(PROGRESS)
    environment.sync(True)


def _already_packed(listing: FolderListing, out: Path) -> PackReport:
    records = LmdbRecords(out)
    about = records.about
    records.close()
    if about["fingerprint"] != listing.fingerprint:
        raise DataError(f"{out} is there already, made from other files; remove it or name another")
    return PackReport(
        out=out,
        records=about["records"],
        classes=len(listing.class_names),
        image_bytes=about["image_bytes"],
        skipped=tuple((name, reason) for name, reason in about["skipped"]),
        ignored=listing.ignored,
        empty_classes=listing.empty_classes,
        resumed_at=about["records"],
        already_packed=True,
        seconds=0.0,
    )


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _named(listing: FolderListing, state: PackState) -> tuple[tuple[str, str], ...]:
    return tuple((listing.files[number], reason) for number, reason in state.skipped)
