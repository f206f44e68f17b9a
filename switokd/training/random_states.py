"""The states of torch's global generators, of each rank that trains a trial, for a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Of this process, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Go on from what `random_states` gave."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def own_states(saved: dict[str, Any], rank: int) -> dict[str, Any] | None:
    """Of a checkpoint's states, rank 0's with those of the `others`, a rank's own.

    None for a rank that was not there.
    """
    ranks = [saved, *saved.get("others", [])]
    return ranks[rank] if rank < len(ranks) else None
