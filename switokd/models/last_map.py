"""The layer to explain of a network that names none: the one with the last map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from switokd.validation import SpecError


@torch.no_grad()
def last_map(name: str, network: nn.Module, images: Tensor) -> nn.Module:
    """The last module of a forward pass of images (B, C, H, W) whose output is a map of some size.

    Of modules within each other the outermost ends last. A map of one pixel is what a pool gives:
    it counts only where there is no other. Raises SpecError where there is none.
    """
    found: dict[bool, nn.Module] = {}

    def look(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found[output[0, 0].numel() > 1] = module

    hooks = [module.register_forward_hook(look) for module in network.modules()]
    training = network.training
    network.eval()
    try:
        network(images[:1])
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    module = found.get(True, found.get(False))
    if module is None:
        raise SpecError(
            f"{name}: none of its layers gives a map (B, C, H, W) to explain; one may be named "
            "with 'target_layer' in the experiment file"
        )
    return module
