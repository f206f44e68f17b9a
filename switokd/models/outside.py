"""Networks that the zoo does not have: torchvision's, timm's, or any callable of a user's module.

This is the one place that tells them apart: `torchvision/NAME`, `timm/NAME`,
`package.module:callable`; any other text is a name of the zoo. Importing this loads no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from switokd.registry import Registry
from switokd.user_modules import add_to_path, is_address, load, user_code
from switokd.validation import SpecError, nearest

if TYPE_CHECKING:
    from torch import nn

# each by the module that has it, which is installed or not
LIBRARIES = Registry(
    "library of networks",
    {
        "torchvision": "switokd.models.outside:from_torchvision",
        "timm": "switokd.models.outside:from_timm",
    },
)
# weights by these would be part of no trial's id
DOWNLOADS = frozenset({"weights", "weights_backbone", "pretrained", "checkpoint_path"})

Builder = Callable[..., Any]


@dataclass(frozen=True)
class Origin:
    """What is to be known of a network beside its name to build and explain it again.

    arguments: of its builder, beside the number of classes. target_layer: the dotted name of the
    module that Grad-CAM explains; None where it is to be found. stages: the dotted names of the
    modules whose maps a method may ask for, from the input on. module_folder: where its module was
    found. source: what identified its code then (`user_modules.source_of`).
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    target_layer: str | None = None
    module_folder: str | None = None
    source: str | None = None
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutsideNetwork:
    """A network by what `model:` says: the module to import, and how its builder is found there."""

    model: str
    module: str
    get_builder: Callable[[str | None], Builder]
    refused: frozenset[str] = frozenset()


def outside(model: str) -> OutsideNetwork | None:
    """The network that `model` names, None for a name of the zoo. Imports nothing of it.

    Raises SpecError for a text that is neither.
    """
    if is_address(model):
        return OutsideNetwork(model, model.partition(":")[0], partial(load, model))
    if "/" in model:
        library, _, name = model.partition("/")
        LIBRARIES.check(library)
        get = partial(LIBRARIES.load(library), name)
        return OutsideNetwork(model, library, get, DOWNLOADS)
    return None


def check_arguments(model: str, arguments: Mapping[str, Any]) -> None:
    """Raise SpecError for arguments that a network cannot have, as far as its name tells."""
    found = outside(model)
    if found is None:
        if arguments:
            raise SpecError(f"{model} is of the zoo and takes none (found {dict(arguments)})")
    elif "num_classes" in arguments:
        raise SpecError("num_classes is the data set's")
    elif downloaded := sorted(found.refused & arguments.keys()):
        raise SpecError(
            f"{downloaded[0]}: trained weights are taken from a file, with the key 'weights'"
        )


def build(network: OutsideNetwork, origin: Origin, num_classes: int) -> nn.Module:
    """Build a network from outside. Raises SpecError, in one line, for all that may go wrong."""
    from torch import nn

    if origin.module_folder is not None:
        add_to_path(origin.module_folder)
    builder = network.get_builder(origin.source)
    arguments = {"num_classes": num_classes, **origin.arguments}
    if not callable(builder):
        raise SpecError(f"{network.model}: must be a callable (found {type(builder).__name__})")
    _check_signature(network.model, builder, arguments)
    called = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    with user_code(f"{network.model} cannot be built with {called}"):
        built = builder(**arguments)
    if not isinstance(built, nn.Module):
        raise SpecError(
            f"{network.model}: must give a torch.nn.Module (found {type(built).__name__})"
        )
    return built


def _check_signature(model: str, builder: Builder, arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(builder)
    except (TypeError, ValueError):
        # what is written in C may not say; calling it will tell
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        taken = ", ".join(str(p) for p in signature.parameters.values())
        raise SpecError(
            f"{model}: {error} (it takes: {taken or 'nothing'}; num_classes is given, others are "
            "under 'arguments')"
        ) from None


def from_torchvision(name: str, source: str | None) -> Builder:
    """The builder of a classification network of torchvision."""
    models = load("torchvision.models", source)
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    return partial(models.get_model, name, weights=None)


def from_timm(name: str, source: str | None) -> Builder:
    """The builder of a network of timm; a tag behind a dot names trained weights, and is unused."""
    timm = load("timm", source)
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    return partial(timm.create_model, name, pretrained=False)


def _unknown(library: str, name: str, known: list[str]) -> SpecError:
    return SpecError(
        f"unknown network of {library} {name!r}{nearest(name, known)} ({library} has {len(known)})"
    )
