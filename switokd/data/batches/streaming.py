"""The pipeline of sets that do not fit in memory: read, decode, crop to size, a few batches ahead.

Decoding runs in threads, not worker processes: torchvision's decoders leave the interpreter lock
(two threads decode as fast as two processes here), nothing is copied between processes, the bytes
are decoded straight out of the mapped LMDB, and a damaged image raises its own error in the loop.
Every image is read and decoded once for all views of it, hence once for all networks of a cohort.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from switokd.data.batches.augment import Normalizer
from switokd.data.batches.block_shuffle import POOL, block_permutation
from switokd.data.batches.pipeline import Batch, Pipeline, PipelineOptions, Split
from switokd.data.batches.random_draws import derived_seed
from switokd.data.batches.resized_crop import (
    CropDraws,
    cut_and_resize,
    draw_crops,
    evaluation_crop,
    random_box,
)
from switokd.data.images.decode import decode_rgb, decode_rgb_on_gpu
from switokd.data.images.records import Records
from switokd.data.source import StreamSource
from switokd.data.splits import balanced_subset, stratified_split
from switokd.validation import DataError

EVALUATION_BATCH = 256
BATCHES_AHEAD = 3
IMAGES_PER_JOB = 8


class _Request(NamedTuple):
    """One batch to make: its records, which of the split's images they are, and each view's draws
    (None: not augmented)."""

    records: Records
    indices: np.ndarray
    places: np.ndarray
    draws: list[CropDraws | None]


class _Started(NamedTuple):
    """A batch in the making, and the jobs that fill it; each answers with (V, B, 3, S, S)."""

    request: _Request
    jobs: list[Future[Tensor]]


class StreamingPipeline(Pipeline):
    """Batches decoded by `torch.get_num_threads()` threads, so that concurrent trials, which share
    out the cores by that setting, share out the decoding too."""

    def __init__(self, source: StreamSource, options: PipelineOptions) -> None:
        self._splits = source.open(options.root, options.path)
        try:
            self._open(source, options)
        except BaseException:
            self._splits.close()
            raise

    def _open(self, source: StreamSource, options: PipelineOptions) -> None:
        splits = self._splits
        super().__init__(source, options, splits.train.class_names)
        labels = splits.train.labels[splits.train_index]
        kept, aside = stratified_split(labels, options.holdout)
        if options.train_images is not None:
            kept = balanced_subset(labels, kept, options.train_images)
        self._train_index = splits.train_index[kept]
        if len(self._train_index) < 2 <= options.batch_size:
            raise DataError(f"{source.name}: {len(self._train_index)} training image, need 2")
        self._evaluation_splits = {
            "train": (splits.train, self._train_index),
            "holdout": (splits.train, splits.train_index[aside]),
            "test": (splits.test, splits.test_index),
        }
        self._normalize = Normalizer(source.mean, source.std, self.device)
        name = threading.current_thread().name
        self._pool = ThreadPoolExecutor(torch.get_num_threads(), f"{name} decode")
        self._reader = ThreadPoolExecutor(1, f"{name} read-ahead")
        self._of_thread = threading.local()
        # resumed trials have ended in other bits with nvJPEG, beside other work on the GPU
        self._decodes_on_gpu = self.device.type == "cuda" and not options.reproducible

    @property
    def train_size(self) -> int:
        return len(self._train_index)

    @property
    def train_labels(self) -> Tensor:
        labels = self._splits.train.labels[self._train_index]
        return torch.from_numpy(labels).to(self.device)

    def train_epoch(self, start_step: int = 0) -> Iterator[Batch]:
        generators = self._generators
        generators.begin_epoch()
        shuffle = block_permutation if self._splits.train.sequential else torch.randperm
        order = shuffle(self.train_size, generator=generators.order).numpy()
        epoch_seeds = [
            int(torch.randint(1 << 62, (1,), generator=generator))
            for generator in generators.augmentations
        ]
        return self._train_batches(order, epoch_seeds, start_step)

    def evaluation_size(self, split: Split) -> int:
        return len(self._evaluation_splits[split][-1])

    def evaluation(self, split: Split) -> Iterator[Batch]:
        records, index = self._evaluation_splits[split]
        if len(index) == 0:
            raise DataError(f"{self.name}: the {split} split is empty (recipe.holdout is 0?)")
        every = np.arange(len(index))
        starts = range(0, len(index), EVALUATION_BATCH)
        places = [every[start : start + EVALUATION_BATCH] for start in starts]
        return self._make(_Request(records, index[place], place, [None]) for place in places)

    def close(self) -> None:
        # the threads hold buffers of the records, so they end first
        self._pool.shutdown(cancel_futures=True)
        self._reader.shutdown(cancel_futures=True)
        self._splits.close()

    def _train_batches(
        self, order: np.ndarray, epoch_seeds: list[int], start_step: int
    ) -> Iterator[Batch]:
        yield from self._make(self._train_requests(order, epoch_seeds, start_step))
        self._generators.end_epoch()

    def _train_requests(
        self, order: np.ndarray, epoch_seeds: list[int], start_step: int
    ) -> Iterator[_Request]:
        size, records = self.options.batch_size, self._splits.train
        read_up_to = start_step * size
        for step in range(start_step, self.steps_per_epoch):
            if (step + 1) * size > read_up_to - POOL // 2:
                ahead = self._train_index[order[read_up_to : read_up_to + POOL]]
                self._reader.submit(records.read_ahead, ahead)
                read_up_to += POOL
            batch = order[step * size : (step + 1) * size]
            mine = self.options.part.slice_of(len(batch))
            places = batch[mine]
            draws = [
                None if each is None else CropDraws(*(field[mine] for field in each))
                for each in self._step_draws(epoch_seeds, step, len(batch))
            ]
            yield _Request(records, self._train_index[places], places, draws)

    def _step_draws(self, epoch_seeds: list[int], step: int, batch: int) -> list[CropDraws | None]:
        if self.options.augmentation == "none":
            return [None] * len(epoch_seeds)
        draws = [draw_crops(batch, derived_seed(seed, step)) for seed in epoch_seeds]
        if self.options.augmentation == "crop":
            return [draw._replace(flips=torch.zeros_like(draw.flips)) for draw in draws]
        return list(draws)

    def _make(self, requests: Iterable[_Request]) -> Iterator[Batch]:
        """Batches in order, several in the making."""
        waiting: deque[_Started] = deque()
        try:
            for request in requests:
                waiting.append(self._start(request))
                if len(waiting) > BATCHES_AHEAD:
                    yield self._finish(waiting.popleft())
            while waiting:
                yield self._finish(waiting.popleft())
        finally:
            for started in waiting:
                for job in started.jobs:
                    job.cancel()

    def _start(self, request: _Request) -> _Started:
        size, batch = self.options.image_size, len(request.indices)
        shape = (len(request.draws), batch, 3, size, size)
        if self._decodes_on_gpu:
            # nvJPEG takes a whole batch in one call
            return _Started(request, [self._pool.submit(self._fill_gpu, request, shape)])
        # NumPy asks for huge pages; without them a tenth of the time went into page faults
        images = torch.from_numpy(np.empty(shape, np.float32))
        jobs = [
            self._pool.submit(self._fill_cpu, request, images, range(batch)[i:][:IMAGES_PER_JOB])
            for i in range(0, batch, IMAGES_PER_JOB)
        ]
        return _Started(request, jobs)

    def _fill_cpu(self, request: _Request, images: Tensor, positions: range) -> Tensor:
        """Decode some of a batch's images and write every view, normalised, into `images`.

        The writing is NumPy's: torch would start threads of its own in each of these threads.
        """
        records, out = request.records, images.numpy()
        for position in positions:
            index = int(request.indices[position])
            image = decode_rgb(records.read(index), records.where(index))
            for view, draws in enumerate(request.draws):
                cut, mirrored = _to_size(image, draws, position, self.options.image_size)
                pixels = cut.numpy()[:, :, ::-1] if mirrored else cut.numpy()
                self._normalize.write(pixels, out[view, position])
        return images

    def _fill_gpu(self, request: _Request, shape: tuple[int, ...]) -> Tensor:
        """Decode a batch on the GPU; every view, still uint8.

        nvJPEG writes on a stream of its own that waits for nobody. Its images must not get memory
        which work in progress still reads: they have a stream to themselves, idle by now.
        """
        with torch.cuda.stream(self._decoding_stream()):
            images = torch.empty(shape, dtype=torch.uint8, device=self.device)
            self._decode_into(images, request)
            torch.cuda.current_stream(self.device).synchronize()
        return images

    def _decoding_stream(self) -> torch.cuda.Stream:
        """This thread's. Of high priority, which no training stream has: there are few of each."""
        if not hasattr(self._of_thread, "stream"):
            self._of_thread.stream = torch.cuda.Stream(self.device, priority=-1)
        stream: torch.cuda.Stream = self._of_thread.stream
        return stream

    def _decode_into(self, images: Tensor, request: _Request) -> None:
        records = request.records
        indices = request.indices.tolist()
        data = [records.read(index) for index in indices]
        names = [records.where(index) for index in indices]
        for position, image in enumerate(decode_rgb_on_gpu(data, names, self.device)):
            for view, draws in enumerate(request.draws):
                cut, mirrored = _to_size(image, draws, position, self.options.image_size)
                images[view, position] = cut.flip(-1) if mirrored else cut

    def _finish(self, started: _Started) -> Batch:
        request, jobs = started
        images = [job.result() for job in jobs][-1]
        if images.is_cuda:
            # it is read by later work of this stream, and its memory is another's
            images.record_stream(torch.cuda.current_stream(self.device))
        labels = torch.from_numpy(request.records.labels[request.indices]).to(self.device)
        if images.dtype == torch.uint8:
            images = self._normalize(images)
        views = tuple(images.to(self.device))
        places = torch.from_numpy(request.places).to(self.device)
        return Batch(views[0] if len(views) == 1 else views, labels, places)


def _to_size(
    image: Tensor, draws: CropDraws | None, position: int, size: int
) -> tuple[Tensor, bool]:
    """The crop of one image, uint8 (3, size, size), and whether it is to be mirrored."""
    if draws is None:
        return evaluation_crop(image, size), False
    box = random_box(draws, position, image.shape[1], image.shape[2])
    return cut_and_resize(image, box, size), bool(draws.flips[position])
