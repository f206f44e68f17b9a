"""Crop, flip and normalise a whole batch at once, each image by its own random draw.

The draws have the distribution of torchvision's RandomCrop(size, padding=4) followed by
RandomHorizontalFlip (the paper's recipe, method.md section 6), and for equal draws the result
equals theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

PADDING = 4


class EpochDraws(NamedTuple):
    """One view's draws for every position of an epoch: crop offsets int64 (N, 2) as (row, column)
    in 0..2*PADDING, and flips bool (N,); None where the augmentation does not have them."""

    offsets: Tensor | None
    flips: Tensor | None

    def at(self, positions: slice) -> EpochDraws:
        """The draws of some positions."""
        return EpochDraws(
            None if self.offsets is None else self.offsets[positions],
            None if self.flips is None else self.flips[positions],
        )

    def to(self, device: torch.device) -> EpochDraws:
        """The draws on a device: one transfer an epoch instead of one a batch."""
        return EpochDraws(
            None if self.offsets is None else self.offsets.to(device),
            None if self.flips is None else self.flips.to(device),
        )


def draw_epoch(size: int, augmentation: str, generator: torch.Generator) -> EpochDraws:
    """Draw crops and flips for `size` images; "none", "crop" or "crop_flip".

    Offsets and flips are drawn whatever the augmentation, so that "crop" crops as "crop_flip" does.
    """
    offsets = torch.randint(0, 2 * PADDING + 1, (size, 2), generator=generator)
    flips = torch.rand(size, generator=generator) < 0.5
    return EpochDraws(
        offsets if augmentation in ("crop", "crop_flip") else None,
        flips if augmentation == "crop_flip" else None,
    )


def crop_flip(images: Tensor, draws: EpochDraws) -> Tensor:
    """Zero-pad, crop at each image's offset and mirror where drawn: uint8 (B, C, H, W) to the same.

    On a CPU by copying windows, elsewhere by one gather; both give the same.
    """
    if draws.offsets is None and draws.flips is None:
        return images
    return (
        crop_flip_by_slices(images, draws)
        if _on_cpu(images)
        else crop_flip_by_gather(images, draws)
    )


def crop_flip_by_gather(images: Tensor, draws: EpochDraws) -> Tensor:
    """`crop_flip` as one operation on the whole batch: an index per output pixel, shared by the
    channels."""
    offsets, flips = draws
    batch, channels, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(batch, -1)
    columns = torch.arange(width, device=device).expand(batch, -1)
    if flips is not None:
        columns = torch.where(flips[:, None], width - 1 - columns, columns)
    if offsets is not None:
        images = pad(images, (PADDING, PADDING, PADDING, PADDING))
        rows, columns = rows + offsets[:, :1], columns + offsets[:, 1:]
    stride = images.shape[3]
    index = (rows[:, :, None] * stride + columns[:, None, :]).flatten(1)
    gathered = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1))
    return gathered.view(batch, channels, height, width)


def crop_flip_by_slices(images: Tensor, draws: EpochDraws) -> Tensor:
    """`crop_flip` on one CPU core, in NumPy.

    A batch takes half a millisecond. torch's threads would have to wait for each other at each
    of several such short operations, which on a busy machine costs up to twenty times that.
    """
    batch, channels, height, width = images.shape
    padding = 0 if draws.offsets is None else PADDING
    padded = np.zeros((batch, channels, height + 2 * padding, width + 2 * padding), np.uint8)
    padded[:, :, padding : padding + height, padding : padding + width] = images.numpy()
    offsets = [(0, 0)] * batch if draws.offsets is None else draws.offsets.tolist()
    flips = [False] * batch if draws.flips is None else draws.flips.tolist()
    out = np.empty((batch, channels, height, width), np.uint8)
    for image, result, (row, column), flip in zip(padded, out, offsets, flips, strict=True):
        window = image[:, row : row + height, column : column + width]
        result[...] = window[:, :, ::-1] if flip else window
    return torch.from_numpy(out)


def select(images: Tensor, chosen: Tensor) -> Tensor:
    """The chosen images, on one core where they are on a CPU (see `crop_flip_by_slices`)."""
    if _on_cpu(images):
        return torch.from_numpy(images.numpy().take(chosen.numpy(), axis=0))
    return images.index_select(0, chosen)


class Normalizer:
    """uint8 images to float32 with the set's mean and standard deviation, per channel."""

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
    ) -> None:
        exact_mean = np.array(mean).reshape(-1, 1, 1)
        exact_std = np.array(std).reshape(-1, 1, 1)
        self._scale = (1 / (255 * exact_std)).astype(np.float32)
        self._shift = (-exact_mean / exact_std).astype(np.float32)
        self._device_scale = torch.from_numpy(self._scale).to(device)
        self._device_shift = torch.from_numpy(self._shift).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """(..., C, H, W) uint8 in 0..255 -> float32, (x / 255 - mean) / std."""
        # multiply and add apart: a fused operation would round differently on CPU and GPU
        if not _on_cpu(images):
            return images.float().mul_(self._device_scale).add_(self._device_shift)
        out = np.empty(images.shape, np.float32)
        self.write(images.numpy(), out)
        return torch.from_numpy(out)

    def write(self, images: np.ndarray, out: np.ndarray) -> None:
        """The same into a float32 array that is there already, on one CPU core."""
        np.multiply(images, self._scale, out=out)
        np.add(out, self._shift, out=out)


def _on_cpu(images: Tensor) -> bool:
    return images.device.type == "cpu"
