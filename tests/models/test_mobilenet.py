"""MobileNet v1 against method.md section 5 and a float64 forward pass written from it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.definitions import Shapes, State, activate, assert_logits, assert_state_dict

# method.md section 5: "widths 64, 128/2, 128, 256/2, 256, 512/2, 512 x 5, 1024/2, 1024"
WIDTHS = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
STRIDED = {1, 3, 5, 11}


def reference_logits(state: State, images: Tensor, training: bool) -> Tensor:
    x = activate(F.conv2d(images, state["conv1.weight"], padding=1), state, "bn1", training)
    for block in range(len(WIDTHS)):
        key = f"layers.{block}"
        stride = 2 if block in STRIDED else 1
        depthwise = state[f"{key}.conv1.weight"]
        x = F.conv2d(x, depthwise, stride=stride, padding=1, groups=len(depthwise))
        x = activate(x, state, f"{key}.bn1", training)
        x = torch.einsum("oi,bihw->bohw", state[f"{key}.conv2.weight"][:, :, 0, 0], x)
        x = activate(x, state, f"{key}.bn2", training)
    return x.mean(dim=(2, 3)) @ state["linear.weight"].T + state["linear.bias"]


def test_logits_equal_the_reference() -> None:
    images = 20 * torch.randn(2, 3, 24, 17, dtype=torch.float64)
    assert_logits("mobilenet", 10, reference_logits, images)


def test_state_dict_keys_and_shapes() -> None:
    shapes: Shapes = {
        "conv1.weight": (32, 3, 3, 3),
        "linear.weight": (100, 1024),
        "linear.bias": (100,),
    }
    norms = {"bn1": 32}
    channels = 32
    for block, width in enumerate(WIDTHS):
        shapes[f"layers.{block}.conv1.weight"] = (channels, 1, 3, 3)
        shapes[f"layers.{block}.conv2.weight"] = (width, channels, 1, 1)
        norms |= {f"layers.{block}.bn1": channels, f"layers.{block}.bn2": width}
        channels = width
    assert_state_dict("mobilenet", 100, shapes, norms)
