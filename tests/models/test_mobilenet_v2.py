"""MobileNetV2 x 0.5 against method.md section 5 and a float64 forward pass written from it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.definitions import (
    Shapes,
    State,
    activate,
    assert_logits,
    assert_state_dict,
    batch_norm,
)

# (expansion, channels, blocks, stride), channels already halved and truncated
STAGES = [
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
]


def reference_logits(state: State, images: Tensor, training: bool) -> Tensor:
    x = F.conv2d(images, state["conv1.0.weight"], stride=2, padding=1)
    x = activate(x, state, "conv1.1", training)
    for stage, (_, channels, blocks, stage_stride) in enumerate(STAGES):
        for block in range(blocks):
            key = f"blocks.{stage}.{block}.conv"
            stride = stage_stride if block == 0 else 1
            out = F.conv2d(x, state[f"{key}.0.weight"])
            out = activate(out, state, f"{key}.1", training)
            depthwise = state[f"{key}.3.weight"]
            out = F.conv2d(out, depthwise, stride=stride, padding=1, groups=len(depthwise))
            out = activate(out, state, f"{key}.4", training)
            out = F.conv2d(out, state[f"{key}.6.weight"])
            out = batch_norm(out, state, f"{key}.7", training)
            x = x + out if stride == 1 and x.shape[1] == channels else out
    x = F.conv2d(x, state["conv2.0.weight"])
    x = activate(x, state, "conv2.1", training)
    return x.mean(dim=(2, 3)) @ state["classifier.0.weight"].T + state["classifier.0.bias"]


@pytest.mark.parametrize("size", [(32, 32), (40, 21)])
def test_logits_equal_the_reference(size: tuple[int, int]) -> None:
    # large enough that ReLU6 in place of ReLU would show
    images = 20 * torch.randn(4, 3, *size, dtype=torch.float64)
    assert_logits("mobilenet_v2_x0_5", 100, reference_logits, images)


def test_state_dict_keys_and_shapes() -> None:
    shapes: Shapes = {
        "conv1.0.weight": (16, 3, 3, 3),
        "conv2.0.weight": (1280, 160, 1, 1),
        "classifier.0.weight": (100, 1280),
        "classifier.0.bias": (100,),
    }
    norms = {"conv1.1": 16, "conv2.1": 1280}
    channels = 16
    for stage, (expansion, out_channels, blocks, _) in enumerate(STAGES):
        for block in range(blocks):
            key = f"blocks.{stage}.{block}.conv"
            hidden = channels * expansion
            shapes[f"{key}.0.weight"] = (hidden, channels, 1, 1)
            shapes[f"{key}.3.weight"] = (hidden, 1, 3, 3)
            shapes[f"{key}.6.weight"] = (out_channels, hidden, 1, 1)
            norms |= {f"{key}.1": hidden, f"{key}.4": hidden, f"{key}.7": out_channels}
            channels = out_channels
    assert_state_dict("mobilenet_v2_x0_5", 100, shapes, norms)
