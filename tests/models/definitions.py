"""What each network is held against: batch norm by hand, logits, and a state dict's shapes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from switokd.models import build_model

State = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


def build_shaken(name: str, num_classes: int) -> nn.Module:
    """A float64 network with random biases and batch-norm weights and statistics.

    Fresh networks have zeros and ones there, which would hide a part that is left out or swapped.
    """
    torch.manual_seed(0)
    model = build_model(name, num_classes).double()
    for key, tensor in model.state_dict().items():
        if key.endswith(("running_var", "weight")) and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
        elif key.endswith(("running_mean", "bias")):
            tensor.uniform_(-0.5, 0.5)
    return model


def batch_norm(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    if training:
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    else:
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    scale = state[f"{key}.weight"] / (variance + 1e-5).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + state[f"{key}.bias"][:, None, None]


def activate(x: Tensor, state: State, key: str, training: bool) -> Tensor:
    """Batch norm, then ReLU."""
    return batch_norm(x, state, key, training).clamp(min=0)


def assert_logits(
    name: str, num_classes: int, reference: Callable[[State, Tensor, bool], Tensor], images: Tensor
) -> None:
    """In both modes they are the reference's."""
    for training in (False, True):
        model = build_shaken(name, num_classes).train(training)
        state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        expected = reference(state, images, training)
        torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


def assert_state_dict(name: str, num_classes: int, shapes: Shapes, norms: dict[str, int]) -> None:
    """Exactly these tensors, and those of batch norms with so many channels."""
    for key, width in norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{key}.{part}"] = (width,)
        shapes[f"{key}.num_batches_tracked"] = ()
    with torch.device("meta"):
        state = build_model(name, num_classes).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == shapes
