"""The random draws of an epoch, from generators that derive from the trial's seed alone.

They are CPU generators whatever the device, so that the batches do not depend on the device, the
method, the cohort or anything else that draws random numbers in the process.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from any values: equal parts, equal seed; unrelated for different parts."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class EpochGenerators:
    """One generator for the order and one per view for the augmentation.

    View 0 draws the same whether or not there are others, so KDCL's extra views leave the batches
    that the other methods see as they are.
    """

    def __init__(self, seed: int, views: int) -> None:
        purposes = ["order", *(f"augmentation {view}" for view in range(views))]
        self._all = [torch.Generator().manual_seed(derived_seed(seed, name)) for name in purposes]
        self._epoch_start: list[Tensor] | None = None

    @property
    def order(self) -> torch.Generator:
        """Draws the permutation of an epoch."""
        return self._all[0]

    @property
    def augmentations(self) -> list[torch.Generator]:
        """Draw crops and flips, one generator per view."""
        return self._all[1:]

    def begin_epoch(self) -> None:
        """Remember where the epoch's draws start, for `state` while it runs."""
        self._epoch_start = [generator.get_state() for generator in self._all]

    def end_epoch(self) -> None:
        """The epoch is over: `state` now means the start of the next one."""
        self._epoch_start = None

    def state(self) -> list[Tensor]:
        """Generator states, uint8 tensors, at the start of the epoch in progress or to come."""
        if self._epoch_start is not None:
            return [state.clone() for state in self._epoch_start]
        return [generator.get_state() for generator in self._all]

    def load(self, states: list[Tensor]) -> None:
        """Continue from `state`; raises ValueError if it has another number of views."""
        if len(states) != len(self._all):
            raise ValueError(
                f"the saved state has {len(states) - 1} views, this pipeline {len(self._all) - 1}"
            )
        for generator, state in zip(self._all, states, strict=True):
            generator.set_state(state)
        self._epoch_start = None
