"""The runs folder: whether it can be written, and by one process at a time.

A lock names its holder, and a dead process cannot keep it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from switokd.validation import SpecError


class HeldError(SpecError):
    """Somebody else holds the lock; the message names the process and its host."""


def writable(folder: Path) -> Path:
    """The absolute folder, made if need be; raises SpecError where it cannot be written."""
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def _unwritable(path: Path, error: OSError) -> SpecError:
    return SpecError(f"{path}: cannot be written ({error.strerror}); all output goes there")


def hold(file: IO[Any], *, wait: bool = False) -> bool:
    """Hold an open file's lock until it is closed or the process ends; False where another does.

    With `wait` there is always an end to that: the kernel lets go when a holder dies.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process is in the block of the same path. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        hold(file, wait=True)
        yield


class FileLock:
    """An exclusive lock on a file, let go of when the process ends, however it ends."""

    def __init__(self, path: Path, what: str) -> None:
        """`what` names the work for the message of the one who comes second."""
        writable(path.parent)
        try:
            self._file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise _unwritable(path, error) from None
        if not hold(self._file):
            message = f"{what} is at work already: {self._holder()} (lock: {path})"
            self._file.close()
            raise HeldError(message)
        self._file.seek(0)
        self._file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, self._file)
        self._file.flush()

    def _holder(self) -> str:
        self._file.seek(0)
        try:
            holder = json.load(self._file)
            return f"process {holder['pid']} on host {holder['host']}"
        except (ValueError, KeyError, TypeError):
            return "a process that has just started"

    def release(self) -> None:
        self._file.close()

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
