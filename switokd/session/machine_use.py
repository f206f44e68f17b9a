"""What a trial takes of its machine while it trains: cores, and memory, once an epoch."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from switokd import names
from switokd.session.memory import MIB

STATM = Path("/proc/self/statm")


class MachineUse:
    """Asked at the end of each epoch; costs some microseconds."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def metrics(self) -> dict[str, float]:
        """The cores that this process kept busy since the last call, and the memory it holds now.

        All threads count, not other processes. Resident memory where the system tells it (Linux).
        """
        wall, cpu = time.monotonic(), time.process_time()
        busy = (cpu - self._cpu) / max(wall - self._wall, 1e-9)
        self._wall, self._cpu = wall, cpu
        found = {names.CORES_BUSY: busy}
        if STATM.exists():
            resident_pages = int(STATM.read_text(encoding="ascii").split()[1])
            found[names.PROCESS_MEMORY_MIB] = resident_pages * os.sysconf("SC_PAGE_SIZE") / MIB
        if self._device.type == "cuda":
            found[names.GPU_MEMORY_MIB] = torch.cuda.memory_allocated(self._device) / MIB
        return found
