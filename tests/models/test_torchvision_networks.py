"""The torchvision networks: the published form, untrained, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models

from switokd.models import build_model


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_resnet_state_dict_is_torchvisions(name: str) -> None:
    with torch.device("meta"):
        ours = build_model(name, 12).state_dict()
        theirs = getattr(torchvision_models, name)(num_classes=12).state_dict()
    assert {k: t.shape for k, t in ours.items()} == {k: t.shape for k, t in theirs.items()}


def test_mobilenet_v2_widths_are_multiples_of_eight() -> None:
    with torch.device("meta"):
        model = build_model("mobilenet_v2_x1_4", 200)
    state = model.state_dict()
    # 1.4 x 32, 16, 24, 32, 64, 96, 160, 320, 1280, rounded as by Sandler et al.
    outputs = {
        "features.0.0.weight": 48,
        "features.1.conv.1.weight": 24,
        "features.2.conv.2.weight": 32,
        "features.4.conv.2.weight": 48,
        "features.7.conv.2.weight": 88,
        "features.11.conv.2.weight": 136,
        "features.14.conv.2.weight": 224,
        "features.17.conv.2.weight": 448,
        "features.18.0.weight": 1792,
    }
    assert {key: state[key].shape[0] for key in outputs} == outputs
    assert state["classifier.1.weight"].shape == (200, 1792)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.2}
    assert sum(isinstance(m, nn.ReLU6) for m in model.modules()) == 35
