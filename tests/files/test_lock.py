"""A lock has one holder, names it, and is free when its process is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from switokd.files.lock import FileLock, HeldError, writable
from switokd.validation import SpecError

HOLD = """
import sys
from pathlib import Path
from switokd.files.lock import FileLock
lock = FileLock(Path(sys.argv[1]), "the work")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    with FileLock(path, "the work"):
        with pytest.raises(HeldError) as raised:
            FileLock(path, "the work")
        assert str(raised.value) == (
            f"the work is at work already: process {os.getpid()} on host "
            f"{socket.gethostname()} (lock: {path})"
        )
    FileLock(path, "the work").release()


def test_a_killed_process_keeps_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(HeldError, match=f"process {holder.pid} on host"):
        FileLock(path, "the work")
    holder.kill()
    holder.wait()
    with FileLock(path, "the work"), pytest.raises(HeldError, match=f"process {os.getpid()} "):
        FileLock(path, "the work")


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", "not json"])
def test_a_lock_that_does_not_say_its_holder_holds_all_the_same(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "lock"
    with FileLock(path, "the work"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(HeldError, match="a process that has just started"):
            FileLock(path, "the work")


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    file.write_text("in the way", encoding="utf-8")
    for folder in (file, file / "deeper", Path("/proc/nowhere")):
        with pytest.raises(SpecError) as raised:
            writable(folder)
        assert str(raised.value).startswith(f"{folder}: cannot be written (")
    with pytest.raises(SpecError, match="cannot be written"):
        FileLock(file / "lock", "the work")
    (tmp_path / "lock").mkdir()
    with pytest.raises(SpecError, match=r"lock: cannot be written \(Is a directory\)"):
        FileLock(tmp_path / "lock", "the work")


def test_a_writable_folder_is_made_and_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert writable(Path("a/b")) == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []
