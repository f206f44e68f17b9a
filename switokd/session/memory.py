"""The most memory that a trial held on its device."""

from __future__ import annotations

from pathlib import Path

import torch

from switokd import names

MIB = 2**20
STATUS = Path("/proc/self/status")
# writing 5 here starts the kernel's count of the resident peak anew
RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """Counts from its making on: a worker trains one trial after another.

    On a GPU the allocator's own count; on the CPU the process's resident memory, libraries
    included, where the system tells it (Linux).
    """

    def __init__(self, device: torch.device, earlier_mib: float | None = None) -> None:
        """`earlier_mib`: the peak of a process that trained the same trial before."""
        self._device = device
        self._earlier_mib = earlier_mib
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif RESET.exists():
            try:
                RESET.write_text("5", encoding="ascii")
            except OSError:
                # some containers refuse; the peak is then the process's
                return

    def mib(self) -> float | None:
        """The peak so far in MiB; None where the system does not tell."""
        known = [mib for mib in (self._own_mib(), self._earlier_mib) if mib is not None]
        return max(known, default=None)

    def metrics(self) -> dict[str, float]:
        """The peak as a metric."""
        mib = self.mib()
        return {} if mib is None else {names.PEAK_MEMORY_MIB: mib}

    def _own_mib(self) -> float | None:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / MIB
        if not STATUS.exists():
            return None
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
        return None
