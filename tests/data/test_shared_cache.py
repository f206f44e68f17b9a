"""The decoded copy that concurrent trials share: made once, checked, never half there."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from switokd.data import open_pipeline
from switokd.data.batches.shared_cache import load_arrays
from switokd.data.sets import cifar
from switokd.data.source import ImageArrays, MemorySource


@pytest.fixture
def counted(tmp_path: Path) -> tuple[MemorySource, list[int]]:
    """A set of one file, and a list that grows at each reading of it."""
    readings: list[int] = []
    (tmp_path / "source.bin").write_bytes(bytes(range(200)))

    def load(root: Path) -> ImageArrays:
        readings.append(os.getpid())
        pixels = np.frombuffer((root / "source.bin").read_bytes()[:192], np.uint8)
        images = pixels.reshape(3, 1, 8, 8)
        return ImageArrays(images, np.arange(3), images[:2], np.arange(2), ("a", "b", "c"))

    source = MemorySource(
        name="counted",
        nominal_classes=3,
        image_size=8,
        mean=(0.5,),
        std=(0.5,),
        augmentation="none",
        native_size=8,
        load=load,
        files=lambda root: (root / "source.bin",),
    )
    return source, readings


def _copies(root: Path) -> list[Path]:
    return [path for path in (root / ".decoded").iterdir() if path.is_dir()]


def test_a_set_is_decoded_once(counted: tuple[MemorySource, list[int]], tmp_path: Path) -> None:
    source, readings = counted
    first, second = load_arrays(source, tmp_path, 8), load_arrays(source, tmp_path, 8)
    assert len(readings) == 1
    assert isinstance(second.train_images, np.memmap)
    assert np.array_equal(first.train_images.ravel(), np.arange(192) % 256)
    assert first.class_names == second.class_names == ("a", "b", "c")
    assert second.test_labels.tolist() == [0, 1]


def test_a_changed_source_is_read_again(
    counted: tuple[MemorySource, list[int]], tmp_path: Path
) -> None:
    source, readings = counted
    load_arrays(source, tmp_path, 8)
    (tmp_path / "source.bin").write_bytes(bytes(201))
    assert load_arrays(source, tmp_path, 8).train_images.max() == 0
    assert len(readings) == 2
    assert len(_copies(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "about"])
def test_a_damaged_copy_is_made_again(
    counted: tuple[MemorySource, list[int]],
    tmp_path: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, readings = counted
    load_arrays(source, tmp_path, 8)
    (copy,) = _copies(tmp_path)
    file = copy / ("about.json" if damage == "about" else "train_images.npy")
    data = bytearray(file.read_bytes())
    data[-1] ^= 0xFF
    file.write_bytes(data if damage == "flip" else data[:-20])
    if damage == "remove":
        file.unlink()
    with caplog.at_level(logging.WARNING):
        arrays = load_arrays(source, tmp_path, 8)
    assert np.array_equal(arrays.train_images.ravel(), np.arange(192) % 256)
    assert len(readings) == 2
    assert damage == "remove" or "damaged" in caplog.text


def test_a_dead_writers_leftovers_are_replaced(
    counted: tuple[MemorySource, list[int]], tmp_path: Path
) -> None:
    source, readings = counted
    load_arrays(source, tmp_path, 8)
    (copy,) = _copies(tmp_path)
    copy.rename(copy.with_name(f"{copy.name}.tmp"))
    load_arrays(source, tmp_path, 8)
    assert len(readings) == 2
    assert _copies(tmp_path) == [copy]


def test_sizes_have_copies_of_their_own(
    counted: tuple[MemorySource, list[int]], tmp_path: Path
) -> None:
    source, readings = counted
    assert load_arrays(source, tmp_path, 16).train_images.shape == (3, 1, 16, 16)
    assert load_arrays(source, tmp_path, 8).train_images.shape == (3, 1, 8, 8)
    assert load_arrays(source, tmp_path, 16).train_images.shape == (3, 1, 16, 16)
    assert len(readings) == 2


def test_without_a_place_for_the_copy_the_arrays_are_private(
    counted: tuple[MemorySource, list[int]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, readings = counted
    (tmp_path / ".decoded").write_text("a file where the folder would be")
    arrays = load_arrays(source, tmp_path, 8)
    assert np.array_equal(arrays.train_images.ravel(), np.arange(192) % 256)
    assert len(readings) == 1
    assert "this process keeps its own" in caplog.text


def _open_and_count(counted_root: str, results: multiprocessing.Queue) -> None:
    with open_pipeline("cifar10", batch_size=8, seed=0, root=counted_root) as pipeline:
        results.put(sum(int(batch.labels.sum()) for batch in pipeline.train_epoch()))


def test_processes_that_start_together_decode_once(
    tmp_path: Path,
    write_cifar: Callable[..., dict[str, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = write_cifar(tmp_path)
    load, readings = cifar._load, tmp_path / "readings"

    def counted_load(*arguments: object) -> ImageArrays:
        with readings.open("a") as file:
            file.write("read\n")
        time.sleep(0.2)
        return load(*arguments)

    monkeypatch.setattr(cifar, "_load", counted_load)
    context = multiprocessing.get_context("fork")  # keeps the test's digests
    results = context.Queue()
    workers = [
        context.Process(target=_open_and_count, args=(str(tmp_path), results)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    sums = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    # 100 images in 13 batches, the last of four
    assert sums == [int(written["labels"].sum())] * 4
    assert len(_copies(tmp_path)) == 1
    assert readings.read_text() == "read\n"


MEMORY_OF_A_READER = """
import sys, numpy as np
from pathlib import Path
from switokd.data.batches.shared_cache import open_copy
arrays = open_copy(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
lines = Path("/proc/self/smaps").read_text().splitlines()
start = next(i for i, line in enumerate(lines) if line.endswith("train_images.npy"))
fields = dict(line.split(":") for line in lines[start + 1 : start + 20] if ":" in line)
print(int(fields["Rss"].split()[0]), int(fields["Pss"].split()[0]), flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's smaps")
def test_readers_share_the_pages(tmp_path: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (2000, 3, 32, 32)).astype(np.uint8)
    source = MemorySource(
        name="big",
        nominal_classes=1,
        image_size=32,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        augmentation="none",
        native_size=32,
        load=lambda root: ImageArrays(
            images, np.zeros(2000, np.int64), images[:1], np.zeros(1, np.int64), ("a",)
        ),
        files=lambda root: (),
    )
    load_arrays(source, tmp_path, 32)
    (copy,) = _copies(tmp_path)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", MEMORY_OF_A_READER, str(copy)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write("\n")
            reader.stdin.flush()
        sizes = [tuple(map(int, reader.stdout.readline().split())) for reader in readers]
    finally:
        for reader in readers:
            reader.communicate("\n")
    for resident, proportional in sizes:
        assert resident >= images.nbytes // 1024
        # three readers (and the page cache) hold one copy between them
        assert proportional < 0.5 * resident
