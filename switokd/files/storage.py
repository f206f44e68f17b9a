"""Where checkpoints lie: a folder of a disk, or what `pyarrow.fs` opens by its address (S3, GCS).

Both kinds hold a file whole or not at all, as far as they can; a reader checks digests besides.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from switokd.validation import SpecError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


class Folder(Protocol):
    """Files by name; every call raises OSError where the disk or the store refuses."""

    def names(self) -> list[tuple[str, int]]:
        """The files with the times of their last change in ns; none where there is no folder."""
        ...

    def read(self, name: str) -> bytes: ...
    def write(self, name: str, content: bytes | memoryview) -> None: ...
    def delete(self, name: str) -> None: ...
    def delete_all(self) -> None: ...
    def where(self, name: str) -> str:
        """The file's full name, for people."""
        ...


class DiskFolder:
    """A folder of a local or mounted disk; what is written survives a loss of power."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[tuple[str, int]]:
        if not self.path.is_dir():
            return []
        found = []
        for path in self.path.iterdir():
            # its writer may have renamed or pruned it since
            with contextlib.suppress(FileNotFoundError):
                found.append((path.name, path.stat().st_mtime_ns))
        return found

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes | memoryview) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        # a process killed while it wrote left half a file, and a folder has one writer
        for half in self.path.glob("*.tmp"):
            half.unlink(missing_ok=True)
        write_durably(self.path / name, content)

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def delete_all(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path)

    def where(self, name: str) -> str:
        return str(self.path / name)


class RemoteFolder:
    """A folder of a store that publishes a file when it has all of it."""

    def __init__(self, filesystem: FileSystem, path: str) -> None:
        self._filesystem = filesystem
        self._path = path

    def names(self) -> list[tuple[str, int]]:
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path, allow_not_found=True)
        found = self._filesystem.get_file_info(selector)
        return [(f.base_name, f.mtime_ns or 0) for f in found if f.type == FileType.File]

    def read(self, name: str) -> bytes:
        with self._filesystem.open_input_stream(f"{self._path}/{name}") as file:
            content: bytes = file.read()
        return content

    def write(self, name: str, content: bytes | memoryview) -> None:
        self._filesystem.create_dir(self._path, recursive=True)
        with self._filesystem.open_output_stream(f"{self._path}/{name}") as file:
            file.write(content)

    def delete(self, name: str) -> None:
        try:
            self._filesystem.delete_file(f"{self._path}/{name}")
        except FileNotFoundError:
            return

    def delete_all(self) -> None:
        try:
            self._filesystem.delete_dir(self._path)
        except FileNotFoundError:
            return

    def where(self, name: str) -> str:
        return f"{self._path}/{name}"


def open_folder(base: Path | str, *parts: str) -> Folder:
    """The folder `base/part/part`; `base` a path or an address (`s3://bucket/path`).

    Raises SpecError for an address that nothing opens or that holds a secret.
    """
    if isinstance(base, Path) or "://" not in base:
        return DiskFolder(Path(base, *parts).absolute())
    if urlsplit(base).username is not None:
        # the address goes into files and messages
        raise SpecError("resources.storage: credentials belong in the environment, not the address")
    from pyarrow.fs import FileSystem, LocalFileSystem

    try:
        filesystem, path = FileSystem.from_uri(base)
    except (OSError, ValueError) as error:
        raise SpecError(f"resources.storage: {base!r} cannot be opened: {error}") from None
    if isinstance(filesystem, LocalFileSystem):
        return DiskFolder(Path(path, *parts))
    return RemoteFolder(filesystem, "/".join([path, *parts]))


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a crash leaves the old one or the new one, never half of it.

    Raises OSError, which names the file.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        # the system's message on a full disk does not say which disk
        raise OSError(error.errno, error.strerror, str(path)) from None
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
