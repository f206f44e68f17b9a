"""JPEGs on a GPU: nvJPEG against the CPU's decoder, and a whole pipeline against an ImageFolder."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from switokd.data import open_pipeline
from switokd.data.images.decode import decode_rgb, decode_rgb_on_gpu
from switokd.data.packed.lmdb_pack import pack
from switokd.data.packed.lmdb_reader import LmdbRecords
from tests.benchmarks.bench_data import (
    BATCH,
    MEAN,
    STD,
    Measurement,
    in_turn,
    machine,
    memory,
    rate_of,
    write_photographs,
)


def decoders(encoded: list[bytes], cores: int, device: torch.device) -> Measurement:
    """Whole batches, decoded and on the GPU."""
    batches = [encoded[start : start + BATCH] for start in range(0, len(encoded) - BATCH, BATCH)]
    names = ["image"] * BATCH

    def on_gpu() -> Iterator[int]:
        for batch in batches:
            yield len(decode_rgb_on_gpu(batch, names, device))
        torch.cuda.synchronize()

    def on_cpu() -> Iterator[int]:
        with ThreadPoolExecutor(cores) as pool:
            for batch in batches:
                images = list(pool.map(decode_rgb, batch, names))
                yield len([image.to(device) for image in images])
        torch.cuda.synchronize()

    sum(on_gpu()), sum(on_cpu())
    ours, plain = in_turn(3, lambda: rate_of(on_gpu()), lambda: rate_of(on_cpu()))
    return Measurement("nvJPEG", "images/s", ours, plain, f"CPU's decoder, {cores} threads", "")


def pipelines(root: Path, cores: int) -> Measurement:
    """From disk to normalised crops of 224 on the GPU."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    folder = ImageFolder(str(root / "train"), transform)
    loader = DataLoader(folder, BATCH, shuffle=True, num_workers=cores, pin_memory=True)

    def plain() -> Iterator[int]:
        for images, labels in loader:
            images.cuda(non_blocking=True)
            yield len(labels)
        torch.cuda.synchronize()

    path = root / "packed.lmdb"
    with open_pipeline(
        "image_folder", batch_size=BATCH, seed=0, path=path, device="cuda"
    ) as pipeline:

        def ours() -> Iterator[int]:
            for batch in pipeline.train_epoch():
                yield len(batch.labels)
            torch.cuda.synchronize()

        fast, slow = in_turn(3, lambda: rate_of(ours()), lambda: rate_of(plain()))
    what = "LMDB, decode, random crop to 224 (cuda)"
    return Measurement(what, "images/s", fast, slow, f"ImageFolder, {cores} workers", "")


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    if not torch.cuda.is_available():
        print("JPEGs on a GPU: needs a GPU")
        return
    cores = os.cpu_count() or 1
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_photographs(root)
        pack(root / "train", root / "packed.lmdb", workers=cores)
        records = LmdbRecords(root / "packed.lmdb")
        encoded = [bytes(records.read(index)) for index in islice(range(len(records)), 1024 + 128)]
        print(decoders(encoded, cores, torch.device("cuda")), flush=True)
        records.close()
        print(pipelines(root, cores), flush=True)
        for row in memory(root):
            print(row, flush=True)


if __name__ == "__main__":
    main()
