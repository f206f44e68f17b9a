"""Memory of concurrent trials on one set: python -m tests.benchmarks.bench_data_sharing [--ray]

Four processes come to the 154 MB of a set of CIFAR's shape as private copies, as the mapped copy of
the shared cache, or out of Ray's object store; and batches are made from the mapped
array and from an LMDB. What they hold is the growth of their proportional set size, which counts a
page shared by n processes as 1/n in each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch

from switokd.data.batches.shared_cache import load_arrays
from tests.benchmarks.bench_data import cifar_like, in_turn, machine, rate_of

TRIALS = 4


def held_megabytes() -> float:
    """Proportional set size of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def open_private(root: Path) -> np.ndarray:
    """A copy of one's own."""
    return np.load(root / "train.npy")


def open_mapped(root: Path) -> np.ndarray:
    """The copy that all map, its checksums verified."""
    return load_arrays(cifar_like(root), root, 32).train_images


def _trial(open_images: Callable[[Path], np.ndarray], root: Path, pipe: Connection) -> None:
    before, start = held_megabytes(), time.perf_counter()
    images = open_images(root)
    seconds = time.perf_counter() - start
    images.sum(dtype=np.int64)  # every page is in use
    pipe.send(seconds)
    pipe.recv()  # until the others are as far
    pipe.send(held_megabytes() - before)
    pipe.recv()


def in_processes(open_images: Callable[[Path], np.ndarray], root: Path) -> tuple[float, float]:
    """Median seconds to open, and megabytes that the processes hold together."""
    context = multiprocessing.get_context("spawn")
    pipes, trials = [], []
    for _ in range(TRIALS):
        ours, theirs = context.Pipe()
        trials.append(context.Process(target=_trial, args=(open_images, root, theirs)))
        trials[-1].start()
        pipes.append(ours)
    seconds = [pipe.recv() for pipe in pipes]
    for pipe in pipes:
        pipe.send("measure")
    megabytes = [pipe.recv() for pipe in pipes]
    for pipe, trial in zip(pipes, trials, strict=True):
        pipe.send("end")
        trial.join()
    return statistics.median(seconds), sum(megabytes)


def in_ray(images: np.ndarray) -> tuple[float, float]:
    """The same out of the object store of a Ray of our own, whatever else runs on the machine."""
    import ray

    ray.init(address="local", num_cpus=TRIALS, include_dashboard=False, logging_level="ERROR")

    @ray.remote
    class Trial:
        def open(self, reference: list[Any]) -> float:
            self.before, start = held_megabytes(), time.perf_counter()
            self.images = ray.get(reference[0])
            seconds = time.perf_counter() - start
            self.images.sum(dtype=np.int64)
            return seconds

        def held(self) -> float:
            return held_megabytes() - self.before

    try:
        reference = [ray.put(images.view(np.ndarray))]  # a memmap would be pickled
        trials = [Trial.remote() for _ in range(TRIALS)]
        seconds = ray.get([trial.open.remote(reference) for trial in trials])
        megabytes = ray.get([trial.held.remote() for trial in trials])
    finally:
        ray.shutdown()
    return statistics.median(seconds), sum(megabytes)


def gather_or_look_up(root: Path, images: np.ndarray) -> tuple[float, float]:
    """Images a second in batches out of the mapped array, and out of an LMDB of raw images."""
    path = root / "raw.lmdb"
    with (
        lmdb.open(str(path), subdir=False, lock=False, sync=False, map_size=1 << 30) as writer,
        writer.begin(write=True) as transaction,
    ):
        for number, image in enumerate(images[:20_000]):
            transaction.put(b"%08d" % number, image.tobytes(), append=True)
    batches = np.random.RandomState(0).permutation(20_000).reshape(-1, 100)
    reader = lmdb.open(str(path), subdir=False, readonly=True, lock=False)
    with closing(reader), reader.begin(buffers=True) as transaction:

        def look_up(batch: list[int]) -> int:
            stacked = [np.frombuffer(transaction.get(b"%08d" % i), np.uint8) for i in batch]
            return len(np.stack(stacked))

        gathered, looked_up = in_turn(
            9,
            lambda: rate_of(len(images.take(batch, axis=0)) for batch in batches),
            lambda: rate_of(look_up(batch) for batch in batches.tolist()),
        )
    return gathered, looked_up


def main(arguments: list[str] | None = None) -> None:
    """Measure and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", action="store_true", help="measure Ray's object store as well")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images = load_arrays(cifar_like(root), root, 32).train_images
        np.save(root / "train.npy", images)
        results = {"private copies": in_processes(open_private, root)}
        results["mapped copy"] = in_processes(open_mapped, root)
        if parsed.ray:
            results["Ray's object store"] = in_ray(images)
        for name, (seconds, megabytes) in results.items():
            print(
                f"{name:<20} {TRIALS} processes hold {megabytes:>5,.0f} MB together, "
                f"opened in {seconds:.2f} s each",
                flush=True,
            )
        gathered, looked_up = gather_or_look_up(root, images)
        print(
            f"batches of 100       {gathered:,.0f} images/s from the mapped array, "
            f"{looked_up:,.0f} from an LMDB of raw images"
        )


if __name__ == "__main__":
    main()
