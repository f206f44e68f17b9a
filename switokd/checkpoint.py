"""Checkpoints that are whole or not there: written aside, flushed, renamed, read by digest.

A file is named `step-<global step>-<digest>.pt`; the digest is of the file's bytes. The newest one
before it is kept until the new one is whole, so that a damaged newest falls back to it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)

KEPT = 2
DIGEST_LENGTH = 16


class CheckpointFolder:
    """The checkpoints of one trial."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `state` durably as the checkpoint of global step `step`; prune the old ones.

        Raises OSError where the disk refuses; what was there before is then still there.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        path = self.folder / f"step-{step:09d}-{_digest(content)}.pt"
        self.folder.mkdir(parents=True, exist_ok=True)
        # a process killed while it wrote left half a file, and one trial has one writer
        for half in self.folder.glob("*.tmp"):
            half.unlink(missing_ok=True)
        write_durably(path, content)
        self.prune(KEPT)
        return path

    def prune(self, keep: int) -> None:
        """Delete all but the newest `keep` checkpoints."""
        for old in self.paths()[keep:]:
            old.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """The checkpoint files, newest first: by step, then by when they were written."""
        found = [path for path in self.folder.glob("step-*.pt") if path.name.count("-") == 2]
        return sorted(
            found,
            key=lambda path: (path.name.split("-")[1], path.stat().st_mtime_ns),
            reverse=True,
        )

    def latest(self) -> dict[str, Any] | None:
        """The newest state that reads whole, or None; a damaged file is named in the log."""
        for path in self.paths():
            try:
                content = path.read_bytes()
            except OSError as error:
                log.warning("checkpoint %s cannot be read (%s): going back one", path, error)
                continue
            if _digest(content) != path.stem.rsplit("-", 1)[1]:
                log.warning("checkpoint %s is damaged (digest differs): going back one", path)
                continue
            state: dict[str, Any] = load_tensors(io.BytesIO(content), str(path))
            return state
        return None


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


def load_tensors(source: Path | io.BytesIO, name: str) -> Any:
    """torch.load onto the CPU of tensors and plain containers only.

    Raises ValueError for a file that is none of torch's or that would run code when read.
    """
    try:
        with warnings.catch_warnings():
            # a foreign pickle is refused below; torch's remarks on it are not for users
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        # torch's own words advise to read the file unsafely
        raise ValueError(
            f"{name}: not a file of tensors and plain values alone (damaged, of another kind, or "
            "with whole pickled objects, which are refused because reading them runs their code)"
        ) from None


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
