"""Initial weights that a recipe asks for in place of a network's own."""

from __future__ import annotations

from torch import nn

from switokd.models import INITIALIZATIONS


def initialize(model: nn.Module, scheme: str) -> None:
    """Draw the weights of `model` anew, in place, from torch's global generator.

    Raises SpecError for a scheme that is not registered.
    """
    INITIALIZATIONS.load(scheme)(model)


def keep(model: nn.Module) -> None:
    """Leave what the constructor drew."""


def fan_in_normal(model: nn.Module) -> None:
    """Convolution and linear weights ~ N(0, std = 1 / fan_in), batch-norm weights 1, no bias moved.

    What Qian et al. (ECCV 2022) use on Tiny-ImageNet and in Table 7 (method.md section 6).
    The standard deviation is 1 / fan_in as published, not the usual 1 / sqrt(fan_in).
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=1 / fan_in)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
