"""ResNet-20 against method.md section 5 and a float64 forward pass written from it."""

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


def reference_logits(state: State, images: Tensor, training: bool) -> Tensor:
    x = F.conv2d(images, state["conv1.weight"], padding=1)
    x = activate(x, state, "bn1", training)
    for stage in (1, 2, 3):
        for block in range(3):
            key = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            out = F.conv2d(x, state[f"{key}.conv1.weight"], stride=stride, padding=1)
            out = activate(out, state, f"{key}.bn1", training)
            out = F.conv2d(out, state[f"{key}.conv2.weight"], padding=1)
            out = batch_norm(out, state, f"{key}.bn2", training)
            if stride == 2:
                kept = x[:, :, ::2, ::2]
                zeros = torch.zeros_like(kept[:, : kept.shape[1] // 2])
                x = torch.cat([zeros, kept, zeros], dim=1)
            x = (out + x).clamp(min=0)
    return x.mean(dim=(2, 3)) @ state["linear.weight"].T + state["linear.bias"]


@pytest.mark.parametrize("size", [(32, 32), (15, 21)])
def test_logits_equal_the_reference(size: tuple[int, int]) -> None:
    assert_logits("resnet20", 10, reference_logits, torch.randn(4, 3, *size, dtype=torch.float64))


def test_state_dict_keys_and_shapes() -> None:
    shapes: Shapes = {
        "conv1.weight": (16, 3, 3, 3),
        "linear.weight": (10, 64),
        "linear.bias": (10,),
    }
    norms = {"bn1": 16}
    channels = 16
    for stage, out_channels in ((1, 16), (2, 32), (3, 64)):
        for block in range(3):
            key = f"layer{stage}.{block}"
            shapes[f"{key}.conv1.weight"] = (out_channels, channels, 3, 3)
            shapes[f"{key}.conv2.weight"] = (out_channels, out_channels, 3, 3)
            norms |= {f"{key}.bn1": out_channels, f"{key}.bn2": out_channels}
            channels = out_channels
    assert_state_dict("resnet20", 10, shapes, norms)
