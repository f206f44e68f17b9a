"""MobileNetV2 x 0.5 against method.md section 5 and a float64 forward pass written from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switokd.models import build_model

State = dict[str, Tensor]
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
BATCH_NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def batch_norm(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    if training:
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    else:
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    scale = state[f"{key}.weight"] / (variance + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{key}.bias"][:, None, None]


def reference_logits(state: State, images: Tensor, training: bool) -> Tensor:
    x = F.conv2d(images, state["conv1.0.weight"], stride=2, padding=1)
    x = batch_norm(x, state, "conv1.1", training).clamp(min=0)
    for stage, (_, channels, blocks, stage_stride) in enumerate(STAGES):
        for block in range(blocks):
            key = f"blocks.{stage}.{block}.conv"
            stride = stage_stride if block == 0 else 1
            out = F.conv2d(x, state[f"{key}.0.weight"])
            out = batch_norm(out, state, f"{key}.1", training).clamp(min=0)
            depthwise = state[f"{key}.3.weight"]
            out = F.conv2d(out, depthwise, stride=stride, padding=1, groups=len(depthwise))
            out = batch_norm(out, state, f"{key}.4", training).clamp(min=0)
            out = F.conv2d(out, state[f"{key}.6.weight"])
            out = batch_norm(out, state, f"{key}.7", training)
            x = x + out if stride == 1 and x.shape[1] == channels else out
    x = F.conv2d(x, state["conv2.0.weight"])
    x = batch_norm(x, state, "conv2.1", training).clamp(min=0)
    return x.mean(dim=(2, 3)) @ state["classifier.0.weight"].T + state["classifier.0.bias"]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(32, 32), (40, 21)])
def test_logits_equal_the_reference(
    build_shaken: Callable[[str, int], nn.Module], training: bool, size: tuple[int, int]
) -> None:
    model = build_shaken("mobilenet_v2_x0_5", 100).train(training)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    # large enough that ReLU6 in place of ReLU would show
    images = 20 * torch.randn(4, 3, *size, dtype=torch.float64)
    expected = reference_logits(state, images, training)
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


def test_state_dict_keys_and_shapes() -> None:
    shapes: dict[str, tuple[int, ...]] = {
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
    for key, width in norms.items():
        for part in BATCH_NORM:
            shapes[f"{key}.{part}"] = () if part == "num_batches_tracked" else (width,)
    with torch.device("meta"):
        state = build_model("mobilenet_v2_x0_5", 100).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == shapes


def test_stage_outputs() -> None:
    with torch.device("meta"):
        model = build_model("mobilenet_v2_x0_5", 100)
    seen: list[tuple[int, ...]] = []
    for stage in model.get_submodule("blocks").children():
        stage.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[1:]))
    model(torch.empty(1, 3, 32, 32, device="meta"))
    assert seen == [
        (8, 16, 16),
        (12, 16, 16),
        (16, 8, 8),
        (32, 4, 4),
        (48, 4, 4),
        (80, 2, 2),
        (160, 2, 2),
    ]
