"""Scoring networks on held-out images: top-1, top-5, loss and calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switokd.switching import full_precision
from switokd.training.exclusive import GPU

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Scores:
    """One network on one split: accuracies and calibration error in percent, loss in nats."""

    top1: float
    top5: float
    loss: float
    calibration_error: float


def score(logits: Tensor, targets: Tensor) -> Scores:
    """The scores of logits (N, K) for labels (N,); with fewer than 5 classes top-5 takes all."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices
    hits = ranked == targets.unsqueeze(1)
    return Scores(
        top1=100 * hits[:, 0].double().mean().item(),
        top5=100 * hits.any(dim=1).double().mean().item(),
        loss=F.cross_entropy(logits.double(), targets).item(),
        calibration_error=100 * calibration_error(logits, targets),
    )


def calibration_error(logits: Tensor, targets: Tensor) -> float:
    """Expected calibration error, 0 to 1, over 15 equal bins of confidence.

    The mean over images of |accuracy - confidence| of the image's bin (Guo et al., On Calibration
    of Modern Neural Networks, ICML 2017).
    """
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    correct = (predicted == targets).double()
    # not a number, where the weights diverged, counts as no confidence at all
    confidence = confidence.nan_to_num()
    # confidence 1/15 exactly belongs to the lower bin: bins are open below
    bins = (confidence * CALIBRATION_BINS).ceil().clamp(1, CALIBRATION_BINS).long() - 1
    excess = torch.zeros(CALIBRATION_BINS, dtype=torch.float64, device=logits.device)
    excess.index_add_(0, bins, correct - confidence)
    return (excess.abs().sum() / len(targets)).item()


def agreement(first: Tensor, second: Tensor) -> float:
    """The share, 0 to 1, of images on which two networks' logits (N, K) name the same class."""
    return (first.argmax(dim=1) == second.argmax(dim=1)).double().mean().item()


@torch.no_grad()
def predict(
    networks: Mapping[str, nn.Module],
    batches: Iterable[tuple[Tensor | tuple[Tensor, ...], Tensor, Tensor]],
    autocast: AbstractContextManager[None],
    dtype: torch.dtype = torch.float32,
) -> tuple[dict[str, Tensor], Tensor]:
    """The logits (N, K) of every network over all batches, in evaluation mode, and labels (N,).

    Every network sees each batch from one read. Leaves the networks in the mode they were in.
    """
    modes = {name: network.training for name, network in networks.items()}
    logits: dict[str, list[Tensor]] = {name: [] for name in networks}
    targets = []
    try:
        for network in networks.values():
            network.eval()
        # evaluation's batch sizes are its own, and not worth a compilation each
        with autocast, torch.compiler.set_stance("force_eager"):
            for images, labels, _ in batches:
                GPU.give_way()
                # every view of an image is the same where nothing is augmented
                images = images if isinstance(images, Tensor) else images[0]
                images = images.to(dtype).contiguous(memory_format=torch.channels_last)
                for name, network in networks.items():
                    logits[name].append(network(images))
                targets.append(labels)
    finally:
        for name, network in networks.items():
            network.train(modes[name])
    whole = {name: full_precision(torch.cat(parts)) for name, parts in logits.items()}
    return whole, torch.cat(targets)
