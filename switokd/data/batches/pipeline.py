"""The one interface between data and training: what a batch is and what a pipeline can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from switokd.data.batches.random_draws import EpochGenerators
from switokd.data.parts import WHOLE, Part
from switokd.data.source import Source
from switokd.validation import DataError

Split = Literal["test", "holdout", "train"]


class Batch(NamedTuple):
    """Images float32 (B, C, H, W), normalised, on the device (a tuple of them, one per view, when
    the pipeline has several views), their labels int64 (B,), and which images of their split they
    are, int64 (B,): of training images the same number in every epoch, whatever the seed."""

    images: Tensor | tuple[Tensor, ...]
    labels: Tensor
    indices: Tensor


@dataclass(frozen=True)
class PipelineOptions:
    """A request for a pipeline with every default resolved; see `open_pipeline`."""

    batch_size: int
    seed: int
    holdout: float
    train_images: int | None
    image_size: int
    augmentation: str
    views: int
    device: str
    root: Path
    path: Path | None
    reproducible: bool = False
    part: Part = WHOLE


class Pipeline(ABC):
    """Batches of one data set for one trial. Every random draw comes from the trial's seed alone.

    The last, smaller batch of an epoch trains too, unless it has a single image for anyone (batch
    normalisation cannot train on one value per channel). Where several processes share the batches,
    each makes its part of them; order and augmentation are those of the whole batch.
    """

    def __init__(self, source: Source, options: PipelineOptions, class_names: tuple[str, ...]):
        self.name = source.name
        self.class_names = class_names
        self.num_classes = len(class_names)
        self.options = options
        self.device = torch.device(options.device)
        self._generators = EpochGenerators(options.seed, options.views)

    @property
    def image_size(self) -> int:
        """Pixels of an image's side, as networks get it."""
        return self.options.image_size

    @property
    @abstractmethod
    def train_size(self) -> int:
        """Training images in an epoch's permutation, without the hold-out."""

    @property
    @abstractmethod
    def train_labels(self) -> Tensor:
        """The label of every training image by its index, int64 (train_size,), on the device."""

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in an epoch."""
        size, batch_size = self.train_size, self.options.batch_size
        full, rest = divmod(size, batch_size)
        return full + (rest >= self.options.part.fewest)

    def images_of_step(self, step: int) -> int:
        """Images of an epoch's training batch `step` (from 0), all parts together."""
        size = self.options.batch_size
        return min(size, self.train_size - step * size)

    @abstractmethod
    def train_epoch(self, start_step: int = 0) -> Iterator[Batch]:
        """Batches start_step.. of the next epoch, shuffled and augmented.

        The epoch is drawn when this is called, so a pipeline whose epoch was left half way goes on
        to the next draw, unless `load_state_dict` put it back.
        """

    @abstractmethod
    def evaluation(self, split: Split) -> Iterator[Batch]:
        """All images of a split in fixed order, not augmented; DataError if it has none."""

    @abstractmethod
    def evaluation_size(self, split: Split) -> int:
        """Images of a split; 0 for a hold-out that there is not."""

    def state_dict(self) -> dict[str, Any]:
        """Generator states at the start of the epoch in progress (between epochs: of the next one).

        Loaded, followed by `train_epoch(start_step=k)`, it gives exactly the batches k.. of that
        epoch. Tensors and plain values only: torch.load(weights_only=True) takes it.
        """
        return {"dataset": self.name, "train_size": self.train_size} | {
            "batch_size": self.options.batch_size,
            "generators": self._generators.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved epoch start. Raises DataError if the state is of other data."""
        for key, here in {
            "dataset": self.name,
            "train_size": self.train_size,
            "batch_size": self.options.batch_size,
        }.items():
            if state[key] != here:
                raise DataError(f"the saved state has {key} {state[key]!r}, this pipeline {here!r}")
        self._generators.load(state["generators"])

    @abstractmethod
    def close(self) -> None:
        """Release files and memory; the pipeline cannot be used afterwards."""

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
