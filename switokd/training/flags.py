"""The pause flags of a step on their way to the host."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class FlagReader:
    """Brings a step's pause flags to the host, overlapped with work queued after `mark`."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._names: tuple[str, ...] = ()
        self._host = torch.empty(0, dtype=torch.bool)
        self._arrived = torch.cuda.Event() if self._cuda else None

    def send(self, flags: Mapping[str, Tensor]) -> None:
        """Start the transfer of 0-dimensional boolean flags."""
        self.copy(flags)
        self.mark()

    def copy(self, flags: Mapping[str, Tensor]) -> None:
        """Queue the transfer alone; a CUDA graph that holds it repeats it when it is replayed."""
        self._names = tuple(flags)
        if not flags:
            return
        stacked = torch.stack(list(flags.values()))
        if not self._cuda:
            self._host = stacked
            return
        if len(self._host) != len(flags):
            self._host = torch.empty(len(flags), dtype=torch.bool, pin_memory=True)
        self._host.copy_(stacked, non_blocking=True)

    def mark(self) -> None:
        """What `receive` waits for is what has been queued by now."""
        if self._arrived is not None and self._names:
            self._arrived.record()

    def receive(self) -> frozenset[str]:
        """The names of the flags that are set; waits for the transfer, not for later work."""
        if not self._names:
            return frozenset()
        if self._arrived is not None:
            self._arrived.synchronize()
        flags = self._host.tolist()
        return frozenset(name for name, flag in zip(self._names, flags, strict=True) if flag)
