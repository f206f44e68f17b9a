"""The networks, by name; torch is imported only when one is built.

A new network of the zoo is one file with a builder `(num_classes) -> nn.Module`, declared with
`@blueprint`, one line in `MODELS`, and one test. Builders take 3-channel images of any size and
return logits (B, num_classes); `build_model` lets every network take grey images too. Networks from
outside the zoo have names of another form (`switokd.models.outside`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from switokd.models.outside import Origin, build, check_arguments, outside
from switokd.registry import Registry
from switokd.user_modules import source_of
from switokd.validation import SpecError, known_name, nearest

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

OF_THE_ZOO = Origin()
# the stage of every network whose map its classifier pools
LAST_STAGE = "last"
# what networks from outside are counted with: ImageNet's
NOMINAL_CLASSES = 1000


@dataclass(frozen=True)
class ModelCard:
    """One row of `switokd models`; `parameters` are counted with `nominal_classes` classes."""

    name: str
    nominal_classes: int
    parameters: int
    reference: str


def checked_model(name: str) -> str:
    """The name, if it is one of the zoo or has the form of one from outside; else SpecError."""
    if outside(name) is None:
        MODELS.check(name)
    return name


def build_model(name: str, num_classes: int, origin: Origin = OF_THE_ZOO) -> nn.Module:
    """Build a network with fresh weights, drawn from torch's global generator.

    Images (B, 3, H, W) or (B, 1, H, W) in, logits (B, num_classes) out; of the zoo for any H and W.
    Raises ValueError for an unknown name (the nearest known one is offered) or no class, SpecError
    where a network from outside cannot be built.
    """
    blueprint = _blueprint(name, origin)
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, not {num_classes}")
    model = blueprint(num_classes)
    model.register_forward_pre_hook(_grey_as_colour)
    return model


def target_layer(
    name: str, model: nn.Module, origin: Origin = OF_THE_ZOO, images: Tensor | None = None
) -> nn.Module:
    """Find the module of `model`, a network built as `name`, whose output Grad-CAM explains.

    Its output is the map (B, C, H, W) that the classifier pools: of a network of the zoo the one
    that its blueprint names, of another the one that `origin` names, else the last that the network
    gives for `images`. Raises SpecError for an unknown name, or where there is no such map.
    """
    layer = origin.target_layer or _blueprint(name, origin).target_layer
    if not layer:
        from switokd.models.last_map import last_map

        assert images is not None, "it is looked for in a forward pass"
        return last_map(name, model, images)
    return _submodule(name, model, layer, "target_layer")


def stages_of(name: str, origin: Origin = OF_THE_ZOO) -> dict[str, str]:
    """The modules that give a network's maps, by the stages' names: `stage1`, `stage2`, ... from
    the input on. Those that `origin` names count, else those that its blueprint declares.
    """
    paths = origin.stages or _blueprint(name, origin).stages
    return {f"stage{number}": path for number, path in enumerate(paths, 1)}


def stage_of(
    name: str,
    model: nn.Module,
    stage: str,
    origin: Origin = OF_THE_ZOO,
    images: Tensor | None = None,
) -> nn.Module:
    """Find the module of `model`, a network built as `name`, that gives the map of a stage.

    `last` is the map that the classifier pools, found as in `target_layer`. Raises SpecError for a
    stage that the network does not declare, or a module that it does not have.
    """
    if stage == LAST_STAGE:
        return target_layer(name, model, origin, images)
    stages = stages_of(name, origin)
    known_name(f"stage of {name}", stage, stages)
    return _submodule(name, model, stages[stage], "stages")


def _submodule(name: str, model: nn.Module, path: str, key: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        known = [known for known, _ in model.named_modules() if known]
        raise SpecError(f"{name} has no layer {path!r}{nearest(path, known)} ({key})") from None


def describe(names: Iterable[str] = MODELS, origin: Origin = OF_THE_ZOO) -> list[ModelCard]:
    """What there is to know of networks, by default the whole zoo in the order of `MODELS`.

    Those of the zoo are counted without allocating a weight.
    """
    import torch

    cards = []
    for name in names:
        blueprint = _blueprint(name, origin)
        # code from outside may compute with its weights while it builds
        with torch.device("meta" if outside(name) is None else "cpu"):
            model = blueprint(blueprint.nominal_classes)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        cards.append(ModelCard(name, blueprint.nominal_classes, parameters, blueprint.reference))
    return cards


def _blueprint(name: str, origin: Origin) -> Blueprint:
    check_arguments(name, origin.arguments)
    from_outside = outside(name)
    if from_outside is None:
        blueprint: Blueprint = MODELS.load(name)
        return blueprint
    from switokd.models.blueprint import Blueprint

    return Blueprint(
        build=partial(build, from_outside, origin),
        nominal_classes=NOMINAL_CLASSES,
        target_layer="",
        reference=origin.source or source_of(from_outside.module),
    )


def _grey_as_colour(_model: nn.Module, images: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Forward pre-hook: (B, 1, H, W) seen as three equal channels, a view and no copy.

    A hook and not a wrapping module, so that the state dict keeps the published keys.
    """
    (batch,) = images
    return (batch.expand(-1, 3, -1, -1),) if batch.shape[1] == 1 else images
