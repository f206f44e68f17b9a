"""MobileNet v1 against method.md section 5 and a float64 forward pass written from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switokd.models import build_model

# method.md section 5: "widths 64, 128/2, 128, 256/2, 256, 512/2, 512 x 5, 1024/2, 1024"
WIDTHS = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
STRIDED = {1, 3, 5, 11}
State = dict[str, Tensor]
BATCH_NORM = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def activate(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    """Batch norm, then ReLU."""
    if training:
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    else:
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    scale = state[f"{key}.weight"] / (variance + 1e-5).sqrt()
    x = (x - mean[:, None, None]) * scale[:, None, None] + state[f"{key}.bias"][:, None, None]
    return x.clamp(min=0)


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


@pytest.mark.parametrize("training", [False, True])
def test_logits_equal_the_reference(
    build_shaken: Callable[[str, int], nn.Module], training: bool
) -> None:
    model = build_shaken("mobilenet", 10).train(training)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    images = 20 * torch.randn(2, 3, 24, 17, dtype=torch.float64)
    expected = reference_logits(state, images, training)
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


def test_state_dict_keys_and_shapes() -> None:
    shapes: dict[str, tuple[int, ...]] = {
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
    for key, width in norms.items():
        for part in BATCH_NORM:
            shapes[f"{key}.{part}"] = () if part == "num_batches_tracked" else (width,)
    with torch.device("meta"):
        state = build_model("mobilenet", 100).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == shapes


def test_block_outputs_halve_where_the_definition_strides() -> None:
    with torch.device("meta"):
        model = build_model("mobilenet", 100)
    seen: list[tuple[int, ...]] = []
    for block in model.get_submodule("layers").children():
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape))
    model(torch.empty(1, 3, 32, 32, device="meta"))
    side, expected = 32, []
    for block_index, width in enumerate(WIDTHS):
        side //= 2 if block_index in STRIDED else 1
        expected.append((1, width, side, side))
    assert seen == expected


def test_stride_sits_on_the_depthwise_convolution() -> None:
    with torch.device("meta"):
        model = build_model("mobilenet", 100)
    strides = {k: m.stride for k, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    strided = {key for key, stride in strides.items() if stride == (2, 2)}
    assert strided == {f"layers.{block}.conv1" for block in STRIDED}
