"""Speed of the data pipelines beside the plain alternatives: python -m tests.benchmarks.bench_data

Every row measures ours and the alternative in turn, in the same process, on the same data, several
rounds, and prints the medians. Threads and workers are set to TWO throughout, as on the two cores
that the goals are stated for.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import platform
import shutil
import statistics
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from switokd.data import open_pipeline
from switokd.data.batches.augment import Normalizer
from switokd.data.batches.in_memory import InMemoryPipeline
from switokd.data.batches.pipeline import PipelineOptions
from switokd.data.batches.resized_crop import cut_and_resize, draw_crops, random_box
from switokd.data.batches.shared_cache import load_arrays
from switokd.data.images.decode import decode_rgb
from switokd.data.packed.lmdb_pack import pack
from switokd.data.packed.lmdb_reader import LmdbRecords
from switokd.data.source import ImageArrays, MemorySource
from tests.benchmarks.plain_loop import Pictures

TWO = 2
BATCH = 128
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
PHOTOGRAPHS, DISTINCT = 2000, 100


@dataclass(frozen=True)
class Measurement:
    """One row: rates of ours and of the alternative, and the goal for their ratio."""

    name: str
    unit: str
    ours: float
    plain: float
    alternative: str
    goal: str

    def __str__(self) -> str:
        return (
            f"{self.name:<42} {self.ours:>10,.0f} {self.plain:>10,.0f} {self.unit:<9} "
            f"{self.ours / self.plain:>6.2f}x  {self.goal:<8} {self.alternative}"
        )


def in_turn(rounds: int, *runs: Callable[[], float]) -> list[float]:
    """Median rate of each run; they take turns, so that all meet the same disturbances."""
    rates: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, measured in zip(runs, rates, strict=True):
            measured.append(run())
    return [statistics.median(measured) for measured in rates]


def rate_of(amounts: Iterator[int]) -> float:
    """Sum of the amounts a second, from the first request on."""
    start = time.perf_counter()
    return sum(amounts) / (time.perf_counter() - start)


# --- sets in memory


def cifar_like(root: Path, images: int = 50_000) -> MemorySource:
    """A set of CIFAR-10's shape; what the pixels show makes no difference to the speed."""

    def load(_: Path) -> ImageArrays:
        rng = np.random.RandomState(0)
        pixels = rng.randint(0, 256, (images, 3, 32, 32)).astype(np.uint8)
        labels = np.arange(images) % 10
        return ImageArrays(pixels, labels, pixels[:10], labels[:10], tuple(map(str, range(10))))

    return MemorySource("like", 10, 32, MEAN, STD, "crop_flip", 32, load, lambda _: ())


def open_cifar_like(root: Path, device: str) -> InMemoryPipeline:
    """The pipeline that the trainer would get for it."""
    options = PipelineOptions(
        batch_size=BATCH,
        seed=0,
        holdout=0.0,
        train_images=None,
        image_size=32,
        augmentation="crop_flip",
        views=1,
        device=device,
        root=root,
        path=None,
    )
    return InMemoryPipeline(cifar_like(root), options)


def memory(root: Path) -> list[Measurement]:
    """CIFAR's shape against a DataLoader with two workers."""
    images = load_arrays(cifar_like(root), root, 32).train_images
    pictures = Pictures(images[:10_000].transpose(0, 2, 3, 1), np.arange(10_000) % 10)
    loader = DataLoader(pictures, BATCH, shuffle=True, num_workers=TWO)

    def plain() -> float:
        return rate_of(len(labels) for _, labels in loader)

    rows = []
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        with open_cifar_like(root, device) as pipeline:

            def ours(pipeline: InMemoryPipeline = pipeline) -> float:
                return rate_of(_synchronized(pipeline))

            fast, slow = in_turn(5, ours, plain)
        goal = ">= 50" if device == "cuda" else ">= 8"
        rows.append(
            Measurement(
                f"CIFAR crop, flip, normalise ({device})",
                "images/s",
                fast,
                slow,
                "torchvision transforms, DataLoader, 2 workers",
                goal,
            )
        )
    return rows


def _synchronized(pipeline: InMemoryPipeline) -> Iterator[int]:
    for batch in pipeline.train_epoch():
        yield len(batch.labels)
    if pipeline.device.type == "cuda":
        torch.cuda.synchronize()


# --- photographs


def write_photographs(root: Path) -> Path:
    """train/ and val/ with JPEGs like ImageNet's (about 500 x 375, 110 kB) in ten classes."""
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.RandomState(0)
    encoded = []
    for number in range(DISTINCT):
        left, top = rng.randint(0, 60), rng.randint(0, 40)
        photo = photographs[number % 2].crop((left, top, left + 560, top + 380))
        buffer = io.BytesIO()
        size = (rng.randint(440, 560), rng.randint(330, 420))
        photo.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=96)
        encoded.append(buffer.getvalue())
    for number in range(PHOTOGRAPHS):
        folder = root / "train" / f"class{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        # bytes after the end make every file another one
        (folder / f"{number}.jpg").write_bytes(encoded[number % DISTINCT] + b"%d" % number)
    shutil.copytree(root / "train" / "class0", root / "val" / "class0")
    return root


def pickle_photographs(folder: Path, out: Path) -> None:
    """The other LMDB that is about: pickled (bytes, label) tuples."""
    samples = ImageFolder(str(folder)).samples
    with (
        lmdb.open(str(out), subdir=False, lock=False, sync=False, map_size=1 << 33) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number, (path, label) in enumerate(samples):
            value = pickle.dumps((Path(path).read_bytes(), label))
            transaction.put(b"%08d" % number, value)


def packing(root: Path) -> list[Measurement]:
    """Packing against copying the folder (neither forced to disk, then both)."""
    total = sum(path.stat().st_size for path in (root / "train").rglob("*.jpg")) / 1e6
    out, copy = root / "packed.lmdb", root / "copy"

    def ours() -> float:
        out.unlink(missing_ok=True)
        start = time.perf_counter()
        pack(root / "train", out, workers=TWO)
        return total / (time.perf_counter() - start)

    def plain(synced: bool) -> float:
        shutil.rmtree(copy, ignore_errors=True)
        os.sync()
        start = time.perf_counter()
        shutil.copytree(root / "train", copy)
        if synced:
            os.sync()
        return total / (time.perf_counter() - start)

    fast, copied, synced = in_turn(5, ours, lambda: plain(False), lambda: plain(True))
    shutil.rmtree(copy)
    return [
        Measurement("packing", "MB/s", fast, copied, "shutil.copytree", ">= 0.5"),
        Measurement("packing", "MB/s", fast, synced, "shutil.copytree, then sync", ">= 0.5"),
    ]


def reading(root: Path) -> list[Measurement]:
    """Bytes a second in random order, not decoded: handed over, and every byte looked at."""
    records = LmdbRecords(root / "packed.lmdb")
    samples = ImageFolder(str(root / "train")).samples
    pickled = lmdb.open(str(root / "pickled.lmdb"), subdir=False, readonly=True, lock=False)
    order = np.random.RandomState(0).permutation(len(samples)).tolist()
    for index in order:
        records.read(index)  # the first reading verifies the digests

    def from_folder(index: int) -> bytes:
        with open(samples[index][0], "rb") as file:  # noqa: PTH123 - as torchvision does it
            return file.read()

    def from_pickle(index: int) -> bytes:
        with pickled.begin() as transaction:
            return pickle.loads(transaction.get(b"%08d" % index))[0]

    rows = []
    for look, what in ((len, "handed over"), (_look_at_all, "every byte looked at")):

        def run(read: Callable[[int], Any], look: Callable[[Any], int] = look) -> float:
            return rate_of(look(read(index)) for index in order) / 1e6

        ours, folder, tuples = in_turn(
            9, lambda: run(records.read), lambda: run(from_folder), lambda: run(from_pickle)
        )
        goal = ">= 3" if look is len else ""
        name = f"LMDB reading, {what}"
        rows.append(Measurement(name, "MB/s", ours, folder, "ImageFolder's files", goal))
        rows.append(Measurement(name, "MB/s", ours, tuples, "LMDB of pickled tuples", ""))
    records.close()
    pickled.close()
    return rows


def _look_at_all(data: bytes | memoryview) -> int:
    zlib.crc32(data)
    return len(data)


def decoding(root: Path) -> list[Measurement]:
    """Decoding out of the LMDB against the decoder alone (bytes in memory), two threads each; with
    the crop to 224 and normalisation; and against ImageFolder and a DataLoader with two workers."""
    records = LmdbRecords(root / "packed.lmdb")
    encoded = [bytes(records.read(index)) for index in range(len(records))]
    chunks = [range(start, start + 8) for start in range(0, len(encoded) - 8, 8)]
    normalize = Normalizer(MEAN, STD, torch.device("cpu"))

    def decode(read: Callable[[int], Any]) -> float:
        def work(chunk: range) -> int:
            return sum(decode_rgb(read(index), "image").shape[0] // 3 for index in chunk)

        with ThreadPoolExecutor(TWO) as pool:
            return rate_of(pool.map(work, chunks))

    def fill(images: np.ndarray, first: int, positions: range) -> None:
        draws = draw_crops(len(images), first)
        for position in positions:
            image = decode_rgb(encoded[first + position], "image")
            box = random_box(draws, position, *image.shape[1:])
            normalize.write(cut_and_resize(image, box, 224).numpy(), images[position])

    def batches_alone() -> Iterator[int]:
        """Batches as ours, two in the making, from bytes that are in memory already."""
        waiting: deque[list[Future[None]]] = deque()
        with ThreadPoolExecutor(TWO) as pool:
            for first in range(0, len(encoded) - BATCH, BATCH):
                images = np.empty((BATCH, 3, 224, 224), np.float32)
                parts = [range(BATCH)[start:][:8] for start in range(0, BATCH, 8)]
                waiting.append([pool.submit(fill, images, first, part) for part in parts])
                if len(waiting) == TWO:
                    yield sum(job.result() is None for job in waiting.popleft()) * 8
            yield sum(job.result() is None for jobs in waiting for job in jobs) * 8

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    folder = ImageFolder(str(root / "train"), transform)
    loader = DataLoader(folder, BATCH, shuffle=True, num_workers=TWO)
    path = root / "packed.lmdb"
    with open_pipeline("image_folder", batch_size=BATCH, seed=0, path=path) as pipeline:
        ours, alone = in_turn(5, lambda: decode(records.read), lambda: decode(encoded.__getitem__))
        cropped, cropped_alone, loaded = in_turn(
            5,
            lambda: rate_of(len(batch.labels) for batch in pipeline.train_epoch()),
            lambda: rate_of(batches_alone()),
            lambda: rate_of(len(labels) for _, labels in loader),
        )
    records.close()
    whole = "LMDB, decode, random crop to 224"
    return [
        Measurement("LMDB, decode", "images/s", ours, alone, "decoder alone", ">= 0.9"),
        Measurement(
            whole, "images/s", cropped, cropped_alone, "same batches from memory", ">= 0.9"
        ),
        Measurement(whole, "images/s", cropped, loaded, "ImageFolder, DataLoader, 2 workers", ""),
    ]


def machine() -> str:
    """What the figures were measured on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{next(islice(models, 1), platform.processor())}, {os.cpu_count()} cores, {gpu}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision "
        f"{torchvision.__version__}; load {os.getloadavg()[0]:.1f} at the start"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where to put the data (default: a temporary folder)")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(TWO)
    print(machine())
    print(f"{'':<42} {'ours':>10} {'plain':>10} {'':<9} {'ratio':>7}  {'goal':<8} alternative")
    with tempfile.TemporaryDirectory(dir=parsed.folder) as folder:
        root = Path(folder)
        for row in memory(root):
            print(row, flush=True)
        write_photographs(root)
        for row in packing(root):
            print(row, flush=True)
        pickle_photographs(root / "train", root / "pickled.lmdb")
        for row in [*reading(root), *decoding(root)]:
            print(row, flush=True)


if __name__ == "__main__":
    main()
