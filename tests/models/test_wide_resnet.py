"""Wide ResNets against method.md section 5 and a float64 forward pass written from it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switokd.models import build_model
from tests.models.definitions import (
    Shapes,
    State,
    activate,
    assert_logits,
    assert_state_dict,
    build_shaken,
)

WIDTHS = {"wrn_16_1": 1, "wrn_16_2": 2, "wrn_16_8": 8, "wrn_16_10": 10}


def convolve(x: Tensor, state: State, key: str, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], stride, padding)


def reference_last_map(state: State, images: Tensor, training: bool) -> Tensor:
    """Everything up to the last batch norm, which is left out."""
    x = convolve(images, state, "conv1")
    for stage in (1, 2, 3):
        for block in (0, 1):
            key = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            out = convolve(activate(x, state, f"{key}.bn1", training), state, f"{key}.conv1")
            out = activate(out, state, f"{key}.bn2", training)
            out = convolve(out, state, f"{key}.conv2", stride)
            if f"{key}.shortcut.0.weight" in state:
                x = convolve(x, state, f"{key}.shortcut.0", stride, padding=0)
            x = out + x
    return x


def reference_logits(state: State, images: Tensor, training: bool) -> Tensor:
    x = activate(reference_last_map(state, images, training), state, "bn1", training)
    return x.mean(dim=(2, 3)) @ state["linear.weight"].T + state["linear.bias"]


@pytest.mark.parametrize(("name", "size"), [("wrn_16_1", (15, 21)), ("wrn_16_2", (32, 32))])
def test_logits_equal_the_reference(name: str, size: tuple[int, int]) -> None:
    assert_logits(name, 10, reference_logits, torch.randn(4, 3, *size, dtype=torch.float64))


def test_last_batch_norm_moves_nine_tenths_of_the_way() -> None:
    model = build_shaken("wrn_16_1", 10).train()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    model(images)
    last_mean = reference_last_map(state, images, training=True).mean(dim=(0, 2, 3))
    expected = 0.1 * state["bn1.running_mean"] + 0.9 * last_mean
    torch.testing.assert_close(model.state_dict()["bn1.running_mean"], expected)
    first_mean = convolve(images, state, "conv1").mean(dim=(0, 2, 3))
    expected = 0.9 * state["layer1.0.bn1.running_mean"] + 0.1 * first_mean
    torch.testing.assert_close(model.state_dict()["layer1.0.bn1.running_mean"], expected)


@pytest.mark.parametrize("name", WIDTHS)
def test_only_the_last_batch_norm_has_another_momentum(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 10)
    momenta = {k: m.momentum for k, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert momenta.pop("bn1") == 0.9
    assert len(momenta) == 12
    assert set(momenta.values()) == {0.1}


@pytest.mark.parametrize("name", WIDTHS)
def test_state_dict_keys_and_shapes(name: str) -> None:
    width = WIDTHS[name]
    convolutions = {"conv1": (16, 3, 3, 3)}
    norms = {"bn1": 64 * width}
    channels = 16
    for stage, nominal_channels in ((1, 16), (2, 32), (3, 64)):
        out_channels = nominal_channels * width
        for block in (0, 1):
            key = f"layer{stage}.{block}"
            norms |= {f"{key}.bn1": channels, f"{key}.bn2": out_channels}
            convolutions[f"{key}.conv1"] = (out_channels, channels, 3, 3)
            convolutions[f"{key}.conv2"] = (out_channels, out_channels, 3, 3)
            if channels != out_channels:
                convolutions[f"{key}.shortcut.0"] = (out_channels, channels, 1, 1)
            channels = out_channels
    shapes: Shapes = {"linear.weight": (10, channels), "linear.bias": (10,)}
    for key, shape in convolutions.items():
        shapes |= {f"{key}.weight": shape, f"{key}.bias": shape[:1]}
    assert_state_dict(name, 10, shapes, norms)
