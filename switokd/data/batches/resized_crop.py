"""Random resized crops as the ImageNet recipe has them, and the centre crop of the evaluation.

Same distribution as torchvision's RandomResizedCrop(scale=(0.08, 1), ratio=(3/4, 4/3)): up to ten
tries of a random area and shape, then the largest central box of an allowed shape.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

TRIES = 10
AREA = (0.08, 1.0)
LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))
EVALUATION_MARGIN = 256 / 224


class Box(NamedTuple):
    """A crop in pixels."""

    top: int
    left: int
    height: int
    width: int


class CropDraws(NamedTuple):
    """Uniform numbers in [0, 1) for a batch of one view: of areas and ratios (B, TRIES), of the
    place (B, 2), and whether to mirror, bool (B,). Drawn before the images' sizes are known."""

    areas: Tensor
    ratios: Tensor
    places: Tensor
    flips: Tensor


def draw_crops(batch: int, seed: int) -> CropDraws:
    """A batch's draws from a seed of its own, so that an epoch can be entered at any step."""
    generator = torch.Generator().manual_seed(seed)
    return CropDraws(
        torch.rand(batch, TRIES, generator=generator, dtype=torch.float64),
        torch.rand(batch, TRIES, generator=generator, dtype=torch.float64),
        torch.rand(batch, 2, generator=generator, dtype=torch.float64),
        torch.rand(batch, generator=generator) < 0.5,
    )


def random_box(draws: CropDraws, position: int, height: int, width: int) -> Box:
    """The crop of the batch's image at `position`, whose size is height x width pixels."""
    areas, ratios = draws.areas[position].tolist(), draws.ratios[position].tolist()
    for area_draw, ratio_draw in zip(areas, ratios, strict=True):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * area_draw)
        ratio = math.exp(LOG_RATIO[0] + (LOG_RATIO[1] - LOG_RATIO[0]) * ratio_draw)
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            down, right = draws.places[position].tolist()
            return Box(
                int(down * (height - box_height + 1)),
                int(right * (width - box_width + 1)),
                box_height,
                box_width,
            )
    return _largest_allowed(height, width)


def cut_and_resize(image: Tensor, box: Box, size: int) -> Tensor:
    """Cut a box out of uint8 (C, H, W) and resize it to (C, size, size), bilinear, antialiased.

    Equal to torchvision's resized_crop of a uint8 tensor on the CPU.
    """
    top, left, height, width = box
    return _resize(image[:, top : top + height, left : left + width], size, size)


def evaluation_crop(image: Tensor, size: int) -> Tensor:
    """uint8 (C, H, W) to (C, size, size): the short side to 256/224 of the size, then the centre.

    Equal to torchvision's Resize(256), CenterCrop(224) for size 224.
    """
    height, width = image.shape[1:]
    short = round(size * EVALUATION_MARGIN)
    scaled = [short * side // min(height, width) for side in (height, width)]
    image = _resize(image, *scaled)
    top, left = (round((side - size) / 2) for side in scaled)
    return image[:, top : top + size, left : left + size]


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    if image.is_cuda:  # no uint8 kernel there
        resized = interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)
        return resized.round_().clamp_(0, 255).to(torch.uint8)[0]
    # the vectorised uint8 kernel wants each pixel's channels together and nothing between rows;
    # packed by NumPy, since torch would start threads in each decoding thread
    rows = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    packed = torch.from_numpy(rows).permute(2, 0, 1)[None]
    return interpolate(packed, (height, width), mode="bilinear", antialias=True)[0]


def _largest_allowed(height: int, width: int) -> Box:
    box_height, box_width = height, width
    lowest, highest = math.exp(LOG_RATIO[0]), math.exp(LOG_RATIO[1])
    if width / height < lowest:
        box_height = round(width / lowest)
    elif width / height > highest:
        box_width = round(height * highest)
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)
