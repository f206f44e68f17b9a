"""What every test starts from: one thread, and torch's process-wide switches as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _process_wide_switches() -> Iterator[None]:
    """One thread (tiny operations only wait for a second one); what a trial sets is put back."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit's test harness leaves its page as `__main__`, which spawned processes run again."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before
