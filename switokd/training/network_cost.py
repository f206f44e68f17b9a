"""What a network costs: its parameters, the multiply-adds of an image, and its time here."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from switokd import names
from switokd.names import metric

log = logging.getLogger(__name__)

TIMED_PASSES = 3


@dataclass(frozen=True)
class NetworkCost:
    """Of one image, in evaluation; the time is a median of a few passes."""

    parameters: int
    multiply_adds: int
    milliseconds: float

    def metrics(self, network: str) -> dict[str, float]:
        """As a trial's metrics of one of its networks."""
        values = {
            names.PARAMETERS: self.parameters,
            names.MULTIPLY_ADDS: self.multiply_adds,
            names.MILLISECONDS_PER_IMAGE: self.milliseconds,
        }
        return {metric(name, network): float(value) for name, value in values.items()}


@torch.no_grad()
def network_cost(network: nn.Module, image_size: int) -> NetworkCost:
    """Compute one image (1, 3, image_size, image_size) a few times; the network is left as it was.

    Multiply-adds are those of convolutions and matrix products, which torch counts.
    """
    weight = next(network.parameters())
    size = (1, 3, image_size, image_size)
    image = torch.zeros(size, device=weight.device, dtype=weight.dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    training = network.training
    network.eval()
    try:
        # one image is a size of its own, and not worth a compilation
        with torch.compiler.set_stance("force_eager"):
            with FlopCounterMode(display=False) as counter:
                network(image)
            times = [_seconds(network, image) for _ in range(TIMED_PASSES)]
    finally:
        network.train(training)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    # a multiply-add is counted as two operations
    return NetworkCost(parameters, counter.get_total_flops() // 2, 1000 * median(times))


def _seconds(network: nn.Module, image: Tensor) -> float:
    started = time.perf_counter()
    # what is on its way back has been computed
    network(image).cpu()
    return time.perf_counter() - started


def cost_metrics(name: str, network: nn.Module, image_size: int) -> dict[str, float]:
    """The metrics of a trained network's cost; none, with a warning, where it cannot be had."""
    try:
        return network_cost(network, image_size).metrics(name)
    except Exception as error:
        # hours of training are not lost over a network that nothing can be counted of
        log.warning("what %s costs is not known: %s", name, error)
        return {}
