"""The code inside an exported model: images of any size in, logits and class names out.

MLflow runs this file where the model is loaded, without this package: it imports nothing of ours,
and nothing of ours imports it. What it needs to know lies beside the network in `about.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

COLOUR, GREY = 3, 1


class ImageClassifier(mlflow.pyfunc.PythonModel):
    """Scales, crops and normalises images as the network's evaluation did, and classifies them."""

    def load_context(self, context: Any) -> None:
        """Read the network, a graph that runs no code when it is read, and its facts."""
        self.network = torch.export.load(context.artifacts["network"]).module()
        self.about = json.loads(Path(context.artifacts["about"]).read_text(encoding="utf-8"))

    # MLflow reads hints here as the types of the input, and knows none for images
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """`logits` (N, K) and `class` (N,) of images, each (H, W), (H, W, C) or (C, H, W).

        uint8 from 0 to 255, or floats from 0 to 1; where sizes differ, an array of dtype object.
        """
        images = torch.stack([self.prepared(np.asarray(image)) for image in model_input])
        with torch.inference_mode():
            logits = self.network(images).float().numpy()
        names = np.array(self.about["classes"])
        return {"logits": logits, "class": names[logits.argmax(axis=1)]}

    def prepared(self, image: np.ndarray) -> Tensor:
        """One image as the network takes it: float32 (C, size, size), normalised."""
        pixels = self.sized(as_bytes(channels_first(image, self.about["channels"])))
        mean, std = (torch.tensor(self.about[key]).view(-1, 1, 1) for key in ("mean", "std"))
        return (pixels.float() / 255 - mean) / std

    def sized(self, pixels: Tensor) -> Tensor:
        """uint8 (C, H, W) to (C, size, size), as the evaluation of its data set has it."""
        size = self.about["image_size"]
        if self.about["resize"] == "whole image":
            if pixels.shape[1:] == (size, size):
                return pixels
            resized = interpolate(
                pixels[None].float(), (size, size), mode="bilinear", antialias=True
            )
            return resized.round_().clamp_(0, 255).byte()[0]
        height, width = pixels.shape[1:]
        short = self.about["short_side"]
        scaled = [short * side // min(height, width) for side in (height, width)]
        packed = pixels[None].contiguous(memory_format=torch.channels_last)
        resized = interpolate(packed, tuple(scaled), mode="bilinear", antialias=True)[0]
        top, left = (round((side - size) / 2) for side in scaled)
        return resized[:, top : top + size, left : left + size]


def channels_first(image: np.ndarray, channels: int) -> np.ndarray:
    """(H, W), (H, W, C) or (C, H, W) as (C, H, W) with as many channels as the network takes."""
    if image.ndim == 2:
        image = image[None]
    elif image.ndim == 3 and image.shape[2] in (GREY, COLOUR):
        image = image.transpose(2, 0, 1)
    if image.ndim != 3 or image.shape[0] not in (GREY, COLOUR):
        raise ValueError(
            f"an image is (H, W), (H, W, C) or (C, H, W), C 1 or 3: found {image.shape}"
        )
    if image.shape[0] < channels:
        return np.repeat(image, channels, axis=0)
    if image.shape[0] > channels:
        raise ValueError(
            "the network was trained on grey images; convert colour ones to grey first"
        )
    return image


def as_bytes(image: np.ndarray) -> Tensor:
    """Pixels as uint8, from 0 to 255."""
    if image.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(image))
    low, high = float(image.min()), float(image.max())
    if not (np.issubdtype(image.dtype, np.floating) and low >= 0 and high <= 1):
        raise ValueError(
            f"pixels are uint8 from 0 to 255, or floats from 0 to 1: found {image.dtype} from "
            f"{low:g} to {high:g}"
        )
    return torch.from_numpy(np.rint(image * 255).astype(np.uint8))


mlflow.models.set_model(ImageClassifier())
