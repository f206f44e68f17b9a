"""ResNet-34 with the small stem against method.md section 5 and against torchvision's ResNet-34."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import resnet34

from tests.models.definitions import Shapes, assert_state_dict, build_shaken

STAGES = ((1, 64, 3), (2, 128, 4), (3, 256, 6), (4, 512, 3))


def test_state_dict_keys_and_shapes() -> None:
    shapes: Shapes = {
        "conv1.0.weight": (64, 3, 3, 3),
        "fc.weight": (200, 512),
        "fc.bias": (200,),
    }
    norms = {"conv1.1": 64}
    channels = 64
    for stage, out_channels, blocks in STAGES:
        for block in range(blocks):
            key = f"layer{stage}.{block}"
            shapes[f"{key}.left.0.weight"] = (out_channels, channels, 3, 3)
            shapes[f"{key}.left.3.weight"] = (out_channels, out_channels, 3, 3)
            norms |= {f"{key}.left.1": out_channels, f"{key}.left.4": out_channels}
            if channels != out_channels:
                shapes[f"{key}.shortcut.0.weight"] = (out_channels, channels, 1, 1)
                norms[f"{key}.shortcut.1"] = out_channels
            channels = out_channels
    assert_state_dict("resnet34_small_stem", 200, shapes, norms)


def test_equals_torchvisions_resnet34_with_the_stem_replaced() -> None:
    model = build_shaken("resnet34_small_stem", 10).eval()
    reference = resnet34(num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    reference.double().eval()
    renamed = {
        "conv1.0": "conv1",
        "conv1.1": "bn1",
        "left.0": "conv1",
        "left.1": "bn1",
        "left.3": "conv2",
        "left.4": "bn2",
        "shortcut": "downsample",
    }
    state = {}
    for key, tensor in model.state_dict().items():
        part = next((ours for ours in renamed if f".{ours}." in f".{key}"), None)
        state[key.replace(part, renamed[part], 1) if part else key] = tensor
    reference.load_state_dict(state, strict=True)

    images = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    expected = reference(images)
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)
