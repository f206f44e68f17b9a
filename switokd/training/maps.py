"""The maps inside networks, for methods that ask for them; no forward method is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Maps = dict[str, dict[str, Tensor]]


class MapRecorder:
    """Keeps what chosen modules of a cohort's networks gave in the last forward pass.

    `stages`: by network, the modules by the names under which a method asks for their maps
    (B, C, H, W).
    """

    def __init__(self, stages: Mapping[str, Mapping[str, nn.Module]]) -> None:
        self._maps: Maps = {}
        for network, modules in stages.items():
            for stage, module in modules.items():
                module.register_forward_hook(self._keep(network, stage))

    def _keep(self, network: str, stage: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._maps.setdefault(network, {})[stage] = output

        return hook

    def take(self) -> Maps:
        """The maps of the forward passes since the last call, by network and stage."""
        taken, self._maps = self._maps, {}
        return taken

    @torch.no_grad()
    def shapes(
        self, networks: Mapping[str, nn.Module], image_size: int
    ) -> dict[str, dict[str, torch.Size]]:
        """The shapes (C, H, W) of every stage's map, found by one pass that leaves no trace."""
        for network in networks.values():
            first = next(network.parameters())
            training = network.training
            image = torch.zeros(
                1, 3, image_size, image_size, device=first.device, dtype=first.dtype
            )
            network.eval()(image)
            network.train(training)
        return {
            network: {stage: found.shape[1:] for stage, found in maps.items()}
            for network, maps in self.take().items()
        }
