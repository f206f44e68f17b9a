"""The networks, by name; torch is imported only when one is built.

A new network is one file with a builder `(num_classes) -> nn.Module`, declared with `@blueprint`,
one line in `MODELS`, and one test. Builders take 3-channel images of any size and return logits
(B, num_classes); `build_model` lets every network take grey images too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from switokd.registry import Registry
from switokd.validation import known_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from switokd.models.blueprint import Blueprint

MODELS = Registry(
    "network",
    {
        "resnet20": "switokd.models.resnet_cifar:resnet20",
        "wrn_16_1": "switokd.models.wide_resnet:wrn_16_1",
        "wrn_16_2": "switokd.models.wide_resnet:wrn_16_2",
        "wrn_16_8": "switokd.models.wide_resnet:wrn_16_8",
        "wrn_16_10": "switokd.models.wide_resnet:wrn_16_10",
        "mobilenet": "switokd.models.mobilenet:mobilenet",
        "mobilenet_v2_x0_5": "switokd.models.mobilenet_v2:mobilenet_v2_x0_5",
        "mobilenet_v2_x1_4": "switokd.models.torchvision_networks:mobilenet_v2_x1_4",
        "resnet34_small_stem": "switokd.models.resnet_small_stem:resnet34_small_stem",
        "resnet18": "switokd.models.torchvision_networks:resnet18",
        "resnet34": "switokd.models.torchvision_networks:resnet34",
    },
)

INITIALIZATIONS = Registry(
    "init",
    {
        "default": "switokd.models.initialization:keep",
        "fan_in_normal": "switokd.models.initialization:fan_in_normal",
    },
)


@dataclass(frozen=True)
class ModelCard:
    """One row of `switokd models`; `parameters` are counted with `nominal_classes` classes."""

    name: str
    nominal_classes: int
    parameters: int
    reference: str


def build_model(name: str, num_classes: int) -> nn.Module:
    """Build a network of `MODELS` with fresh weights, drawn from torch's global generator.

    Images (B, 3, H, W) or (B, 1, H, W) in, logits (B, num_classes) out, for any H and W.
    Raises ValueError for an unknown name (the nearest known one is offered) or no class.
    """
    blueprint = _blueprint(name)
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, not {num_classes}")
    model = blueprint(num_classes)
    model.register_forward_pre_hook(_grey_as_colour)
    return model


def target_layer(name: str, model: nn.Module) -> nn.Module:
    """Find the module of `model`, a network built as `name`, whose output Grad-CAM explains.

    Its output is the map (B, C, H, W) that the classifier pools. Raises ValueError for an unknown
    name.
    """
    return model.get_submodule(_blueprint(name).target_layer)


def stage_of(name: str, model: nn.Module, stage: str) -> nn.Module:
    """Find the module of `model`, a network built as `name`, that gives the map of a stage.

    Stages are called `stage1`, `stage2`, ... from the input on. Raises SpecError for one that the
    network does not declare.
    """
    stages = {f"stage{number}": path for number, path in enumerate(_blueprint(name).stages, 1)}
    known_name(f"stage of {name}", stage, stages)
    return model.get_submodule(stages[stage])


def describe() -> list[ModelCard]:
    """List the whole zoo in the order of `MODELS`, counted without allocating a weight."""
    import torch

    cards = []
    for name in MODELS:
        blueprint = _blueprint(name)
        with torch.device("meta"):
            model = blueprint(blueprint.nominal_classes)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        cards.append(ModelCard(name, blueprint.nominal_classes, parameters, blueprint.reference))
    return cards


def _blueprint(name: str) -> Blueprint:
    blueprint: Blueprint = MODELS.load(name)
    return blueprint


def _grey_as_colour(_model: nn.Module, images: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Forward pre-hook: (B, 1, H, W) seen as three equal channels, a view and no copy.

    A hook and not a wrapping module, so that the state dict keeps the published keys.
    """
    (batch,) = images
    return (batch.expand(-1, 3, -1, -1),) if batch.shape[1] == 1 else images
