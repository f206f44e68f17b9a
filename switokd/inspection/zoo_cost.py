"""What a network costs that nobody has trained yet: by name, with fresh weights."""

from __future__ import annotations

from switokd.models import ModelCard, build_model, describe
from switokd.training.build import choose_device
from switokd.training.network_cost import NetworkCost, network_cost
from switokd.training.tryout import try_out


def zoo_cost(name: str, image_size: int) -> tuple[ModelCard, NetworkCost]:
    """Build a network with its card's number of classes and compute one image a few times.

    Raises SpecError where it fails.
    """
    (card,) = describe([name])
    network = build_model(name, card.nominal_classes).to(choose_device())
    try_out(network, name, card.nominal_classes, image_size)
    return card, network_cost(network, image_size)
