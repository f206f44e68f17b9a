"""What the zoo knows of a network beside its layers: the facts that stand next to its builder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Blueprint:
    """A network's builder with its facts; called with a number of classes, it builds the network.

    `nominal_classes` is the number of classes its parameter count is published for, `target_layer`
    the dotted name of the module whose output (B, C, H, W) is pooled for the classifier: Grad-CAM
    looks there. `stages` are the dotted names of the modules whose outputs (B, C, H, W) are the
    network's intermediate maps, from the input on.
    """

    build: Callable[[int], nn.Module]
    nominal_classes: int
    target_layer: str
    reference: str
    stages: tuple[str, ...] = ()

    def __call__(self, num_classes: int) -> nn.Module:
        return self.build(num_classes)


def blueprint(
    *, nominal_classes: int, target_layer: str, reference: str, stages: tuple[str, ...] = ()
) -> Callable[[Callable[[int], nn.Module]], Blueprint]:
    """Decorate a builder `(num_classes) -> nn.Module` with its facts."""

    def declare(build: Callable[[int], nn.Module]) -> Blueprint:
        return Blueprint(build, nominal_classes, target_layer, reference, stages)

    return declare
