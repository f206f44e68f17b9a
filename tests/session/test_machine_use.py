"""What a trial takes of its machine, once an epoch."""

from __future__ import annotations

import mmap

import pytest
import torch

from switokd import names
from switokd.session import machine_use
from switokd.session.machine_use import MachineUse

MIB = 2**20


def test_cores_are_counted_since_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, cpu = iter([100.0, 110.0, 112.0]), iter([5.0, 20.0, 21.0])
    monkeypatch.setattr(machine_use.time, "monotonic", lambda: next(wall))
    monkeypatch.setattr(machine_use.time, "process_time", lambda: next(cpu))
    use = MachineUse(torch.device("cpu"))
    assert [use.metrics()[names.CORES_BUSY] for _ in range(2)] == [1.5, 0.5]


def test_memory_is_what_the_process_holds_now() -> None:
    use = MachineUse(torch.device("cpu"))
    before = use.metrics()[names.PROCESS_MEMORY_MIB]
    # from the system: an allocator may have kept what another test has freed
    block = mmap.mmap(-1, 256 * MIB)
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    held = use.metrics()[names.PROCESS_MEMORY_MIB]
    assert 200 < held - before < 320
    block.close()
    assert use.metrics()[names.PROCESS_MEMORY_MIB] < held - 200
    assert names.GPU_MEMORY_MIB not in use.metrics()
