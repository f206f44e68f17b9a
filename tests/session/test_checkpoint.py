"""Checkpoints on a disk that fails, as disks do."""

from __future__ import annotations

import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from switokd.files.storage import write_durably
from switokd.session.checkpoint import CheckpointFolder, load_tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def folder(path: Path) -> CheckpointFolder:
    return CheckpointFolder(path)


def state(value: float) -> dict[str, Any]:
    return {"weight": torch.full((64,), value), "nested": {"step": int(value), "names": ["S1"]}}


def value_of(folder: CheckpointFolder) -> float:
    latest = folder.latest()
    assert latest is not None
    return float(latest["weight"][0])


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file of this process may grow past `size` bytes: the disk refuses, as a full one does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_newest_state_comes_back_and_the_one_before_is_kept(folder: CheckpointFolder) -> None:
    assert folder.latest() is None
    for step in (8, 9, 10, 11):
        folder.save(step, state(step))
    latest = folder.latest()
    assert latest is not None
    assert torch.equal(latest["weight"], torch.full((64,), 11.0))
    assert latest["nested"] == {"step": 11, "names": ["S1"]}
    assert len(folder.names()) == 2
    folder.prune(1)
    assert value_of(folder) == 11


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_newest_falls_back_and_says_so(
    folder: CheckpointFolder, path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder.save(1, state(1))
    newest = path / folder.save(2, state(2))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"flip": content, "cut": content[:-10], "empty": b""}[damage])
    assert value_of(folder) == 1
    assert newest.name in caplog.text
    assert "damaged" in caplog.text


def test_with_every_checkpoint_damaged_there_is_none(folder: CheckpointFolder, path: Path) -> None:
    (path / folder.save(1, state(1))).write_bytes(b"")
    assert folder.latest() is None


def test_a_later_step_counts_whenever_it_was_written(folder: CheckpointFolder, path: Path) -> None:
    """A copied folder's files have the times at which they were copied."""
    earlier, later = (folder.save(step, {"step": step}) for step in (9, 10))
    os.utime(path / earlier, ns=(2_000_000_000, 2_000_000_000))
    os.utime(path / later, ns=(1_000_000_000, 1_000_000_000))
    assert folder.latest() == {"step": 10}


def test_of_one_step_the_last_written_counts(folder: CheckpointFolder, path: Path) -> None:
    # digests order files at random, so one of several values would come out wrong
    for value in range(8):
        name = folder.save(5, state(value))
        os.utime(path / name, ns=(value, value))
        assert value_of(folder) == value
        assert name in folder.names()


def test_a_full_disk_leaves_the_checkpoint_before(folder: CheckpointFolder, path: Path) -> None:
    folder.save(1, state(1))
    with files_limited_to(1000), pytest.raises(OSError, match="step-000000002") as error:
        folder.save(2, state(2))
    assert error.value.strerror
    assert value_of(folder) == 1
    assert [file.suffix for file in path.iterdir()] == [".pt"]
    folder.save(2, state(2))
    assert value_of(folder) == 2


def test_what_a_killed_process_left_half_written_is_removed(
    folder: CheckpointFolder, path: Path
) -> None:
    half = path / f"{folder.save(1, state(1))}.123.tmp"
    half.write_bytes(b"half")
    folder.save(2, state(2))
    assert not half.exists()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_durably(path, b"newer")
        # who had it open still reads the old one: it was never written into
        assert reader.read() == b"old"
    assert path.read_bytes() == b"newer"


def test_files_that_would_run_code_are_refused(tmp_path: Path) -> None:
    class Mark:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Mark()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Mark()))
    (tmp_path / "c.pt").write_bytes(b"")
    for name in ("a.pt", "b.pt", "c.pt"):
        with pytest.raises(ValueError, match=name):
            load_tensors(tmp_path / name, name)
    assert not (tmp_path / "ran").exists()
