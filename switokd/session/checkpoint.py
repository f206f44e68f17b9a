"""Checkpoints that are whole or not there: written aside, flushed, renamed, read by digest.

A file is named `step-<global step>-<digest>.pt`; the digest is of the file's bytes. The newest one
before it is kept until the new one is whole, so that a damaged newest falls back to it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from pathlib import Path
from typing import Any

import torch

from switokd.files.storage import open_folder
from switokd.models.stored_weights import load_tensors

log = logging.getLogger(__name__)

KEPT = 2
DIGEST_LENGTH = 16
FILE = r"step-\d+-[0-9a-f]+\.pt"


class CheckpointFolder:
    """The checkpoints of one trial, in a folder or at an address (`switokd.files.storage`)."""

    def __init__(self, base: Path | str, *parts: str) -> None:
        self._folder = open_folder(base, *parts)

    def save(self, step: int, state: dict[str, Any]) -> str:
        """Write `state` durably as the checkpoint of global step `step`; prune the old ones.

        The file's name. Raises OSError where the disk refuses; what was there before is then still
        there.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        name = f"step-{step:09d}-{_digest(content)}.pt"
        self._folder.write(name, content)
        self.prune(KEPT)
        return name

    def prune(self, keep: int) -> None:
        """Delete all but the newest `keep` checkpoints."""
        for old in self.names()[keep:]:
            self._folder.delete(old)

    def delete(self) -> None:
        """Delete all of them, and their folder."""
        self._folder.delete_all()

    def names(self) -> list[str]:
        """The checkpoint files, newest first: by step, then by when they were written."""
        found = [file for file in self._folder.names() if re.fullmatch(FILE, file[0])]
        found.sort(key=lambda file: (file[0].split("-")[1], file[1]), reverse=True)
        return [name for name, _ in found]

    def latest(self) -> dict[str, Any] | None:
        """The newest state that reads whole, or None; a damaged file is named in the log."""
        for name in self.names():
            path = self._folder.where(name)
            try:
                content = self._folder.read(name)
            except OSError as error:
                log.warning("checkpoint %s cannot be read (%s): going back one", path, error)
                continue
            if _digest(content) != name.removesuffix(".pt").rsplit("-", 1)[1]:
                log.warning("checkpoint %s is damaged (digest differs): going back one", path)
                continue
            state: dict[str, Any] = load_tensors(io.BytesIO(content), path)
            return state
        return None


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]
