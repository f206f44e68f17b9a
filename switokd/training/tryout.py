"""A network from outside is tried before anything trains: one message instead of a failed sweep."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

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
