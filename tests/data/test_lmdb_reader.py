"""Reading packed LMDBs: in forked and spawned workers, and when they are damaged or foreign."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path

import lmdb
import numpy as np
import pytest

from switokd.data.packed.lmdb_check import check
from switokd.data.packed.lmdb_format import ABOUT, LABELS, PAYLOAD, make_record, record_key
from switokd.data.packed.lmdb_pack import pack
from switokd.data.packed.lmdb_reader import LmdbRecords
from switokd.validation import DataError

ClassFolder = Callable[..., Path]


@pytest.fixture
def packed(tmp_path: Path, class_folder: ClassFolder) -> Path:
    """24 images of 3 classes."""
    out = tmp_path / "out.lmdb"
    pack(class_folder(tmp_path / "images"), out)
    return out


def _change(path: Path, **values: bytes) -> None:
    with (
        lmdb.open(str(path), subdir=False, lock=False, map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in values.items():
            transaction.put(key.encode(), value)


def _stored(path: Path, key: bytes) -> bytes:
    with (
        lmdb.open(str(path), subdir=False, lock=False, readonly=True) as environment,
        environment.begin() as transaction,
    ):
        return transaction.get(key)


def _sums(records: LmdbRecords) -> list[int]:
    return [int(np.frombuffer(records.read(i), np.uint8).sum()) for i in range(len(records))]


def _send_sums(records: LmdbRecords, results: Queue[list[int]]) -> None:
    results.put(_sums(records))
    records.close()


def test_forked_workers_read_what_the_parent_reads(packed: Path) -> None:
    records = LmdbRecords(packed)
    expected = _sums(records)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_send_sums, args=(records, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert found == [expected, expected]
    assert _sums(records) == expected  # a child's close leaves the parent's map alone
    records.close()


def test_spawned_workers_open_the_file_themselves(packed: Path) -> None:
    records = LmdbRecords(packed)
    # `where` reads the record, and its module is all that the worker has to import
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(records.where, range(24)))
    assert found == [records.where(index) for index in range(24)]
    records.close()


def test_a_forked_child_may_open_the_file_anew(packed: Path) -> None:
    records = LmdbRecords(packed)
    expected = _sums(records)
    child = os.fork()
    if child == 0:
        again = LmdbRecords(packed)
        os._exit(0 if _sums(again) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    records.close()


def test_a_fork_while_another_thread_opens_does_not_hang(packed: Path) -> None:
    from switokd.data.packed import lmdb_reader

    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lmdb_reader._lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for the lock for ever
        os._exit(0 if len(LmdbRecords(packed)) == 24 else 1)
    status = os.waitpid(child, 0)[1]
    release.set()
    assert status == 0
    holder.join()


def test_threads_read_at_once(packed: Path) -> None:
    records = LmdbRecords(packed)
    expected = _sums(records)
    found: list[list[int]] = []
    threads = [threading.Thread(target=lambda: found.append(_sums(records))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8
    records.close()


def test_readers_of_one_file_share_and_close_in_any_order(packed: Path) -> None:
    first = LmdbRecords(packed)
    second = pickle.loads(pickle.dumps(first))
    expected = _sums(first)
    first.close()
    first.close()
    gc.collect()
    assert _sums(second) == expected
    second.close()


def test_bytes_come_without_a_copy(packed: Path) -> None:
    records = LmdbRecords(packed)
    first, second = records.read(3), records.read(3)
    assert first.readonly
    addresses = {np.frombuffer(view, np.uint8).ctypes.data for view in (first, second)}
    assert len(addresses) == 1
    records.read_ahead(np.arange(len(records)))
    records.close()


def test_closing_releases_the_file(packed: Path) -> None:
    def descriptors() -> int:
        return sum(
            os.path.realpath(f"/proc/self/fd/{fd}") == str(packed)
            for fd in os.listdir("/proc/self/fd")  # noqa: PTH208
        )

    records = LmdbRecords(packed)
    assert descriptors() >= 1
    records.close()
    gc.collect()
    assert descriptors() == 0


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_a_truncated_file_is_refused_not_mapped(packed: Path, share: float) -> None:
    whole = packed.read_bytes()
    packed.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"out\.lmdb: (truncated|cannot be opened as an LMDB)"):
        LmdbRecords(packed)
    with pytest.raises(DataError, match=r"out\.lmdb"):
        check(packed)


def test_files_of_other_programs_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.lmdb"
    text.write_text("not a database\n" * 1000)
    with pytest.raises(DataError, match=r"text\.lmdb: cannot be opened as an LMDB"):
        LmdbRecords(text)
    foreign = tmp_path / "foreign.lmdb"
    for value in (b"12", pickle.dumps((b"jpeg", 3)), json.dumps({"format": "other 1"}).encode()):
        _change(foreign, **{"__len__": b"12", "0": value, "!about": value})
        with pytest.raises(DataError, match=r"foreign\.lmdb: not made by `switokd data pack`"):
            LmdbRecords(foreign)
    folder = tmp_path / "folder.lmdb"
    lmdb.open(str(folder)).close()
    with pytest.raises(DataError, match=r"folder\.lmdb: a folder"):
        LmdbRecords(folder)
    with pytest.raises(DataError, match=r"absent\.lmdb is not there; make it with"):
        LmdbRecords(tmp_path / "absent.lmdb")


def test_labels_that_disagree_with_the_class_list_are_refused(packed: Path) -> None:
    labels = np.frombuffer(_stored(packed, LABELS), "<i4").copy()
    about = json.loads(_stored(packed, ABOUT))
    labels[5] += 3
    _change(packed, **{"!labels": labels.tobytes()})
    with pytest.raises(DataError, match=r"labels 0\.\.\d disagree with its 3 classes"):
        LmdbRecords(packed)
    labels[5] = (labels[5] - 3 + 1) % 3
    _change(packed, **{"!labels": labels.tobytes()})
    records = LmdbRecords(packed)
    with pytest.raises(DataError, match=r"record 5 .*label \d in the record, \d in the label list"):
        records.read(5)
    records.close()
    assert len(check(packed).faults) == 1
    _change(packed, **{"!labels": labels[:-1].tobytes()})
    with pytest.raises(DataError, match="23 labels for 24 records"):
        LmdbRecords(packed)
    _change(packed, **{"!about": json.dumps({**about, "format": "switokd images 9"}).encode()})
    with pytest.raises(DataError, match="'switokd images 9', not 'switokd images 1'"):
        LmdbRecords(packed)


def test_every_flipped_byte_of_a_record_is_noticed(packed: Path) -> None:
    records = LmdbRecords(packed)
    value = bytearray(make_record(1, "class1/x.jpg", b"image bytes"))
    records.close()
    for position in range(len(value)):
        damaged = bytearray(value)
        damaged[position] ^= 0x10
        _change(packed, **{record_key(2).decode(): bytes(damaged)})
        records = LmdbRecords(packed)
        with pytest.raises(DataError, match=r"record 2 .*wrong digest.*switokd data check"):
            records.read(2)
        records.close()


def test_check_lists_all_damage(packed: Path) -> None:
    jpeg = _stored(packed, record_key(4))
    names = {4: "flipped", 9: "undecodable", 11: "short", 20: "gone"}
    flipped = bytearray(jpeg)
    flipped[-100] ^= 1
    records = LmdbRecords(packed)
    labels = records.labels
    records.close()
    broken = make_record(int(labels[9]), "class9/x.jpg", jpeg[PAYLOAD + 20 :][:500])
    _change(
        packed,
        **{"0000000004": bytes(flipped), "0000000009": broken, "0000000011": b"short"},
    )
    gc.collect()
    with (
        lmdb.open(str(packed), subdir=False, lock=False, map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.delete(record_key(20))
    calls: list[tuple[int, int]] = []
    report = check(packed, progress=lambda *call: calls.append(call))
    assert not report.sound
    assert (report.images, calls[-1]) == (24, (24, 24))
    assert len(report.faults) == len(names)
    for fault, (index, message) in zip(
        report.faults,
        {4: "wrong digest", 9: "does not decode", 11: "5 bytes", 20: "not there"}.items(),
        strict=True,
    ):
        assert f"record {index}" in fault
        assert message in fault


def test_a_folder_can_be_checked_too(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder = class_folder(tmp_path / "images")
    assert check(folder).sound
    (folder / "class0" / "0.jpg").write_bytes((folder / "class0" / "1.jpg").read_bytes()[:600])
    report = check(folder)
    assert len(report.faults) == 1
    assert "class0/0.jpg: does not decode" in report.faults[0]
