"""The pipeline of sets that fit in memory: one uint8 tensor on the device, whole-batch operations.

No worker processes and no per-image Python: an epoch's permutation, crops and flips are drawn at
once, and each batch is a few tensor operations where the images already are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from switokd.data.batches.augment import EpochDraws, Normalizer, crop_flip, draw_epoch, select
from switokd.data.batches.pipeline import Batch, Pipeline, PipelineOptions, Split
from switokd.data.batches.shared_cache import load_arrays
from switokd.data.source import MemorySource
from switokd.data.splits import balanced_subset, stratified_split
from switokd.validation import DataError

EVALUATION_BATCH = 512


class InMemoryPipeline(Pipeline):
    """Whole data set on the device as uint8; on a CPU it is a view of pages that trials share."""

    def __init__(self, source: MemorySource, options: PipelineOptions) -> None:
        arrays = load_arrays(source, options.root, options.image_size)
        super().__init__(source, options, arrays.class_names)
        train_index, holdout_index = stratified_split(arrays.train_labels, options.holdout)
        if options.train_images is not None:
            count = options.train_images
            train_index = balanced_subset(arrays.train_labels, train_index, count)
        if len(train_index) < 2 <= options.batch_size:
            raise DataError(f"{source.name}: {len(train_index)} training image, need at least 2")
        self._train_index = self._to_device(train_index)
        self._train_images = self._to_device(arrays.train_images)
        self._train_labels = self._to_device(arrays.train_labels)
        self._evaluation_splits = {
            "train": (self._train_images, self._train_labels, self._train_index),
            "holdout": (
                self._train_images,
                self._train_labels,
                self._to_device(holdout_index),
            ),
            "test": (
                self._to_device(arrays.test_images),
                self._to_device(arrays.test_labels),
                self._to_device(np.arange(len(arrays.test_labels))),
            ),
        }
        self._normalize = Normalizer(source.mean, source.std, self.device)

    @property
    def train_size(self) -> int:
        return len(self._train_index)

    @property
    def train_labels(self) -> Tensor:
        return self._train_labels.index_select(0, self._train_index)

    def train_epoch(self, start_step: int = 0) -> Iterator[Batch]:
        generators = self._generators
        generators.begin_epoch()
        order = torch.randperm(self.train_size, generator=generators.order).to(self.device)
        views = [
            draw_epoch(self.train_size, self.options.augmentation, generator).to(self.device)
            for generator in generators.augmentations
        ]
        return self._train_batches(order, views, start_step)

    def evaluation_size(self, split: Split) -> int:
        return len(self._evaluation_splits[split][-1])

    def evaluation(self, split: Split) -> Iterator[Batch]:
        images, labels, index = self._evaluation_splits[split]
        if len(index) == 0:
            raise DataError(f"{self.name}: the {split} split is empty (recipe.holdout is 0?)")
        places = torch.arange(len(index), device=self.device).split(EVALUATION_BATCH)
        return (
            Batch(self._normalize(select(images, chosen)), labels.index_select(0, chosen), place)
            for chosen, place in zip(index.split(EVALUATION_BATCH), places, strict=True)
        )

    def close(self) -> None:
        self._evaluation_splits.clear()
        del self._train_images, self._train_labels

    def _train_batches(
        self, order: Tensor, views: list[EpochDraws], start_step: int
    ) -> Iterator[Batch]:
        for step in range(start_step, self.steps_per_epoch):
            positions = self._positions(step)
            places = order[positions]
            chosen = self._train_index.index_select(0, places)
            raw = select(self._train_images, chosen)
            images = tuple(self._normalize(crop_flip(raw, view.at(positions))) for view in views)
            labels = self._train_labels.index_select(0, chosen)
            yield Batch(images[0] if len(images) == 1 else images, labels, places)
        self._generators.end_epoch()

    def _positions(self, step: int) -> slice:
        """Where this process's part of a batch lies in the epoch."""
        first = step * self.options.batch_size
        part = self.options.part.slice_of(self.images_of_step(step))
        return slice(first + part.start, first + part.stop)

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)
