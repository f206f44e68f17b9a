"""What the network tests share: a network whose every parameter and buffer matters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from switokd.models import build_model


@pytest.fixture
def build_shaken() -> Callable[[str, int], nn.Module]:
    """Build a float64 network with random biases and batch-norm weights and statistics.

    Fresh networks have zeros and ones there, which would hide a part that is left out or swapped.
    """

    def build(name: str, num_classes: int) -> nn.Module:
        torch.manual_seed(0)
        model = build_model(name, num_classes).double()
        for key, tensor in model.state_dict().items():
            if key.endswith(("running_var", "weight")) and tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5)
            elif key.endswith(("running_mean", "bias")):
                tensor.uniform_(-0.5, 0.5)
        return model

    return build
