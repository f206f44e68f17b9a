"""What comes from outside is tried before anything trains: one message, and no failed sweep."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from switokd.methods.base import CohortStep, Method
from switokd.user_modules import user_code
from switokd.validation import SpecError

IMAGES = 2


def try_out(network: nn.Module, model: str, num_classes: int, image_size: int) -> None:
    """Call the network in training and in evaluation mode on two images; it is left as it was.

    Raises SpecError, in one line, where it fails, where it does not give finite logits
    (2, num_classes), or where there is nothing of it to train.
    """
    first = next(network.parameters(), None)
    if first is None:
        raise SpecError(f"{model}: has no parameters to train")
    size = (IMAGES, 3, image_size, image_size)
    devices = [first.device] if first.device.type == "cuda" else []
    before = copy.deepcopy(network.state_dict())
    training = network.training
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            images = torch.rand(size, device=first.device, dtype=first.dtype)
            for mode in ("training", "evaluation"):
                network.train(mode == "training")
                with user_code(f"{model} fails in {mode} on images {size}"):
                    logits = network(images)
                _check(logits, f"{model} in {mode}", num_classes, size)
    finally:
        network.load_state_dict(before)
        network.train(training)


def _check(logits: object, model: str, num_classes: int, size: tuple[int, ...]) -> None:
    if not isinstance(logits, Tensor):
        raise SpecError(
            f"{model}: must give one tensor of logits (found {type(logits).__name__}; auxiliary "
            "heads may have an argument that switches them off)"
        )
    if logits.shape != (IMAGES, num_classes):
        raise SpecError(
            f"{model}: must give logits {(IMAGES, num_classes)} for images {size} (found "
            f"{tuple(logits.shape)}; its builder is called with num_classes={num_classes})"
        )
    if not logits.isfinite().all():
        raise SpecError(f"{model}: gives logits that are not finite")


def try_method(method: Method, name: str, num_classes: int) -> None:
    """Ask a method once, on drawn logits: of a user's, for what would only fail in training.

    One that wants maps or modules of its own is not asked: there is nothing to show it. Raises
    SpecError, in one line.
    """
    demands = [method.demand(network) for network in method.networks]
    if any(demand.maps for demand in demands) or type(method).attach is not Method.attach:
        return
    with torch.random.fork_rng(devices=[]), user_code(f"{name} fails"):
        logits = {n: torch.randn(IMAGES, num_classes, requires_grad=True) for n in method.networks}
        step = method(logits, torch.zeros(IMAGES, dtype=torch.long))
    if not isinstance(step, CohortStep):
        raise SpecError(f"{name}: step must give a CohortStep (found {type(step).__name__})")
    learning = {n for n, demand in zip(method.networks, demands, strict=True) if demand.trained}
    for what, found, wanted in (
        ("losses", step.losses.keys(), learning),
        ("cross_entropies", step.cross_entropies.keys(), set(method.networks)),
        ("links", step.links.keys(), set(method.links)),
    ):
        if set(found) != wanted:
            raise SpecError(f"{name}: {what} must be of {sorted(wanted)} (found {sorted(found)})")
    for network, loss in step.losses.items():
        if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
            raise SpecError(
                f"{name}: the loss of {network} must be one number with a gradient (found "
                f"{tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__})"
            )
