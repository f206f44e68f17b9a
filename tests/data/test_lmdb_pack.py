"""Packing: what is stored, what is refused or skipped, and what a kill or a full disk leaves."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest

from switokd.data.images.folder import list_folder
from switokd.data.packed import lmdb_pack, lmdb_partial
from switokd.data.packed.lmdb_check import check
from switokd.data.packed.lmdb_pack import pack, packing_order
from switokd.data.packed.lmdb_reader import LmdbRecords
from switokd.validation import DataError
from tests.machine import lacking
from tests.processes import await_, next_line

ClassFolder = Callable[..., Path]


def _contents(path: Path) -> list[tuple[str, int, bytes]]:
    records = LmdbRecords(path)
    try:
        return [
            (record.name, record.label, bytes(record.image))
            for record in (records.record(index) for index in range(len(records)))
        ]
    finally:
        records.close()


def _expected(folder: Path) -> list[tuple[str, int, bytes]]:
    listing = list_folder(folder, allow_empty=True)
    return [
        (listing.files[i], int(listing.labels[i]), (folder / listing.files[i]).read_bytes())
        for i in packing_order(len(listing.files))
    ]


def test_every_file_is_stored_as_it_was(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder, out = class_folder(tmp_path / "images", classes=3, images=15), tmp_path / "out.lmdb"
    calls: list[tuple[int, int, int]] = []
    report = pack(folder, out, workers=3, progress=lambda *call: calls.append(call))
    assert _contents(out) == _expected(folder)
    total = sum(file.stat().st_size for file in folder.rglob("*.jpg"))
    assert calls[-1] == (45, 45, total)
    assert (report.records, report.classes, report.image_bytes) == (45, 3, total)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out.lmdb"]
    records = LmdbRecords(out)
    assert records.class_names == ("class0", "class1", "class2")
    assert records.labels.tolist() == [label for _, label, _ in _expected(folder)]
    records.close()


def test_neighbours_are_of_mixed_classes(tmp_path: Path) -> None:
    labels = np.arange(4000) // 1000
    stored = labels[packing_order(4000)]
    same = (stored[1:] == stored[:-1]).mean()
    assert abs(same - 0.25) < 0.03


def test_packing_again_does_nothing_or_refuses(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder, out = class_folder(tmp_path / "images"), tmp_path / "out.lmdb"
    pack(folder, out)
    before = out.stat()
    assert pack(folder, out).already_packed
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    (folder / "class0" / "0.jpg").unlink()
    with pytest.raises(DataError, match=r"out\.lmdb is there already, made from other files"):
        pack(folder, out)
    out.write_text("something else")
    with pytest.raises(DataError, match=r"out\.lmdb: cannot be opened as an LMDB"):
        pack(folder, out)


BAD_FILES = {
    "class0/truncated.jpg": "truncated JPEG",
    "class1/text.jpg": "not a JPEG",
    "class2/zero.png": "the file is empty",
}


@pytest.fixture
def damaged_folder(tmp_path: Path, class_folder: ClassFolder) -> Path:
    folder = class_folder(tmp_path / "images")
    whole = (folder / "class0" / "0.jpg").read_bytes()
    (folder / "class0" / "truncated.jpg").write_bytes(whole[:700])
    (folder / "class1" / "text.jpg").write_text("hello")
    (folder / "class2" / "zero.png").touch()
    return folder


def test_a_bad_file_stops_the_packing(damaged_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--skip-bad") as caught:
        pack(damaged_folder, tmp_path / "out.lmdb")
    named = [name for name in BAD_FILES if str(damaged_folder / name) in str(caught.value)]
    assert len(named) == 1
    assert BAD_FILES[named[0]] in str(caught.value)
    assert not (tmp_path / "out.lmdb").exists()


def test_bad_files_are_counted_when_skipped(damaged_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.lmdb"
    (damaged_folder / "class9").mkdir()
    report = pack(damaged_folder, out, skip_bad=True)
    assert {name: reason for name, reason in report.skipped if BAD_FILES[name] in reason} == dict(
        report.skipped
    )
    assert dict(report.skipped).keys() == BAD_FILES.keys()
    assert report.empty_classes == ("class9",)
    expected = [item for item in _expected(damaged_folder) if item[0] not in BAD_FILES]
    assert _contents(out) == expected
    records = LmdbRecords(out)
    assert records.labels.tolist() == [label for _, label, _ in expected]
    assert records.class_names == ("class0", "class1", "class2", "class9")
    assert {name for name, _ in records.about["skipped"]} == BAD_FILES.keys()
    records.close()
    assert pack(damaged_folder, out, skip_bad=True).skipped == report.skipped


def test_a_folder_of_bad_files_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "class0").mkdir(parents=True)
    (tmp_path / "images" / "class0" / "a.jpg").write_text("x")
    with pytest.raises(DataError, match="not one of its 1 files is a sound image"):
        pack(tmp_path / "images", tmp_path / "out.lmdb", skip_bad=True)
    assert not (tmp_path / "out.lmdb").exists()


class InterruptedPackingError(Exception):
    """Stands for whatever ends a packing half way."""


def _stop_after(commits: int) -> Callable[[int, int, int], None]:
    def progress(done: int, total: int, image_bytes: int) -> None:
        nonlocal commits
        commits -= 1
        if commits == 0:
            raise InterruptedPackingError

    return progress


@pytest.fixture
def interrupted(
    tmp_path: Path, class_folder: ClassFolder, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A folder, and the LMDB whose packing ended after two commits."""
    monkeypatch.setattr(lmdb_pack, "COMMIT_BYTES", 20_000)
    monkeypatch.setattr(lmdb_pack, "CHUNK_FILES", 3)
    folder, out = class_folder(tmp_path / "images", images=20), tmp_path / "out.lmdb"
    (folder / "class0" / "bad.jpg").write_text("x")
    with pytest.raises(InterruptedPackingError):
        pack(folder, out, skip_bad=True, progress=_stop_after(2))
    assert not out.exists()
    return folder, out


def test_an_interrupted_packing_continues(interrupted: tuple[Path, Path]) -> None:
    folder, out = interrupted
    report = pack(folder, out, skip_bad=True)
    assert 0 < report.resumed_at < 60
    assert _contents(out) == [item for item in _expected(folder) if "bad" not in item[0]]
    assert check(out).sound
    assert len(report.skipped) == 1
    assert sorted(path.name for path in out.parent.iterdir()) == ["images", "out.lmdb"]


@pytest.mark.parametrize("change", ["files", "reboot", "garbage"])
def test_what_cannot_be_trusted_is_not_continued(
    interrupted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    folder, out = interrupted
    if change == "files":
        (folder / "class1" / "3.jpg").unlink()
    elif change == "reboot":
        monkeypatch.setattr(lmdb_partial, "_boot_id", lambda: "another boot")
    else:
        out.with_name("out.lmdb.partial").write_bytes(b"x" * 9999)
    report = pack(folder, out, skip_bad=True)
    assert report.resumed_at == 0
    assert _contents(out) == [item for item in _expected(folder) if "bad" not in item[0]]


def test_only_one_process_packs(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder, out = class_folder(tmp_path / "images"), tmp_path / "out.lmdb"
    with (
        lmdb_partial.locked_partial(out),
        pytest.raises(DataError, match="another process is packing it"),
    ):
        pack(folder, out)
    pack(folder, out)


def test_a_packer_that_waited_out_another_does_not_reopen_its_file(tmp_path: Path) -> None:
    out = tmp_path / "out.lmdb"
    partial = tmp_path / "out.lmdb.partial"
    opened = Path.open

    def open_then_lose(self: Path, mode: str) -> object:
        file = opened(self, mode)
        partial.rename(out)
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", open_then_lose)
        with (
            pytest.raises(DataError, match="has just packed it"),
            lmdb_partial.locked_partial(out),
        ):
            pass


def test_too_little_space_is_said_before_anything_is_written(
    tmp_path: Path, class_folder: ClassFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folder(tmp_path / "images")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(lmdb_partial.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"not enough space on the disk: .* 1,000 are free"):
        pack(folder, tmp_path / "out.lmdb")
    assert not (tmp_path / "out.lmdb").exists()


def test_a_failed_write_is_one_message_and_packing_continues_after(
    tmp_path: Path, class_folder: ClassFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit on a process's file size fails a write as a full disk does."""
    monkeypatch.setattr(lmdb_pack, "COMMIT_BYTES", 30_000)
    folder, out = class_folder(tmp_path / "images", images=40), tmp_path / "out.lmdb"
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = sum(file.stat().st_size for file in folder.rglob("*.jpg"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, old_limit[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written: .* \(after \d+ of 120 images\)"):
            pack(folder, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert not out.exists()
    report = pack(folder, out)
    assert report.resumed_at > 0
    assert _contents(out) == _expected(folder)


@pytest.mark.slow
def test_a_really_full_disk(tmp_path: Path, class_folder: ClassFolder) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        lacking("the right to mount a small tmpfs")
    try:
        folder = class_folder(tmp_path / "images", images=60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lmdb_pack, "require_space", lambda listing, partial: None)
            patch.setattr(lmdb_pack, "COMMIT_BYTES", 60_000)
            with pytest.raises(DataError, match=r"the disk is full after [1-9]\d* of 180 images"):
                pack(folder, disk / "out.lmdb")
        assert not (disk / "out.lmdb").exists()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert pack(folder, disk / "out.lmdb").resumed_at > 0
        assert _contents(disk / "out.lmdb") == _expected(folder)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_unwritable_place_is_one_message(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder = class_folder(tmp_path / "images")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file/out\.lmdb: cannot be written"):
        pack(folder, tmp_path / "file" / "out.lmdb")


HELD_PACKER = """
import sys
from switokd.data.packed import lmdb_pack
lmdb_pack.COMMIT_BYTES, lmdb_pack.CHUNK_FILES = 20_000, 2
def progress(done, total, size):
    print(done, flush=True)
    sys.stdin.readline()
lmdb_pack.pack(sys.argv[1], sys.argv[2], progress=progress)
"""


@pytest.mark.parametrize("commits_before_kill", [0, 1, 4])
def test_a_killed_packer_leaves_nothing_half_done(
    tmp_path: Path, class_folder: ClassFolder, commits_before_kill: int
) -> None:
    folder, out = class_folder(tmp_path / "images", images=60), tmp_path / "out.lmdb"
    packer = subprocess.Popen(
        [sys.executable, "-c", HELD_PACKER, str(folder), str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert packer.stdin is not None
    done = 0
    for _ in range(commits_before_kill):
        done = int(next_line(packer))
        # on to the next commit, after which it waits again
        packer.stdin.write("\n")
        packer.stdin.flush()
    await_(out.with_name("out.lmdb.partial").exists, of=packer)
    packer.kill()
    packer.communicate()
    assert packer.returncode == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(DataError):
        LmdbRecords(out.with_name("out.lmdb.partial"))
    report = pack(folder, out)
    assert report.resumed_at >= done
    assert _contents(out) == _expected(folder)
    assert check(out).sound


def test_no_lock_file_and_one_file_only(tmp_path: Path, class_folder: ClassFolder) -> None:
    out = tmp_path / "out.lmdb"
    pack(class_folder(tmp_path / "images"), out)
    records = LmdbRecords(out)
    records.read(0)
    records.close()
    assert out.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out.lmdb"]
    with lmdb.open(str(out), subdir=False, readonly=True, lock=False) as environment:
        assert environment.stat()["entries"] == 24 + 2
