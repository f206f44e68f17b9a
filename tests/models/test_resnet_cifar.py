"""ResNet-20 against method.md section 5 and a float64 forward pass written from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switokd.models import build_model

State = dict[str, Tensor]
BATCH_NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def batch_norm(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    if training:
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    else:
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    scale = state[f"{key}.weight"] / (variance + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{key}.bias"][:, None, None]


def reference_logits(state: State, images: Tensor, training: bool) -> Tensor:
    x = F.conv2d(images, state["conv1.weight"], padding=1)
    x = batch_norm(x, state, "bn1", training).clamp(min=0)
    for stage in (1, 2, 3):
        for block in range(3):
            key = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            out = F.conv2d(x, state[f"{key}.conv1.weight"], stride=stride, padding=1)
            out = batch_norm(out, state, f"{key}.bn1", training).clamp(min=0)
            out = F.conv2d(out, state[f"{key}.conv2.weight"], padding=1)
            out = batch_norm(out, state, f"{key}.bn2", training)
            if stride == 2:
                kept = x[:, :, ::2, ::2]
                zeros = torch.zeros_like(kept[:, : kept.shape[1] // 2])
                x = torch.cat([zeros, kept, zeros], dim=1)
            x = (out + x).clamp(min=0)
    return x.mean(dim=(2, 3)) @ state["linear.weight"].T + state["linear.bias"]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (15, 21)])
def test_logits_equal_the_reference(
    build_shaken: Callable[[str, int], nn.Module], training: bool, size: tuple[int, int]
) -> None:
    model = build_shaken("resnet20", 10).train(training)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    images = torch.randn(4, 3, *size, dtype=torch.float64)
    expected = reference_logits(state, images, training)
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


def test_state_dict_keys_and_shapes() -> None:
    shapes = {"conv1.weight": (16, 3, 3, 3), "linear.weight": (10, 64), "linear.bias": (10,)}
    norms = {"bn1": 16}
    channels = 16
    for stage, out_channels in ((1, 16), (2, 32), (3, 64)):
        for block in range(3):
            key = f"layer{stage}.{block}"
            shapes[f"{key}.conv1.weight"] = (out_channels, channels, 3, 3)
            shapes[f"{key}.conv2.weight"] = (out_channels, out_channels, 3, 3)
            norms |= {f"{key}.bn1": out_channels, f"{key}.bn2": out_channels}
            channels = out_channels
    for key, width in norms.items():
        for part in BATCH_NORM:
            shapes[f"{key}.{part}"] = () if part == "num_batches_tracked" else (width,)
    state = build_model("resnet20", 10).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == shapes
