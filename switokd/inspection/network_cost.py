"""What a network costs: its parameters, the multiply-adds of an image, and its time here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from switokd.models import ModelCard, build_model, describe
from switokd.training.build import choose_device
from switokd.training.tryout import try_out

TIMED_PASSES = 3


@dataclass(frozen=True)
class NetworkCost:
    """Of one image, in evaluation, with the card's number of classes; the time is a median."""

    card: ModelCard
    multiply_adds: int
    milliseconds: float


@torch.no_grad()
def network_cost(name: str, image_size: int) -> NetworkCost:
    """Build a network and compute one image a few times. Raises SpecError where it fails."""
    (card,) = describe([name])
    device = choose_device("auto")
    network = build_model(name, card.nominal_classes).to(device).eval()
    try_out(network, name, card.nominal_classes, image_size)
    image = torch.rand(1, 3, image_size, image_size, device=device)
    with FlopCounterMode(display=False) as counter:
        network(image)
    times = []
    for _ in range(TIMED_PASSES):
        started = time.perf_counter()
        # what is on its way back has been computed
        network(image).cpu()
        times.append(time.perf_counter() - started)
    # a multiply-add is counted as two operations
    return NetworkCost(card, counter.get_total_flops() // 2, 1000 * median(times))
