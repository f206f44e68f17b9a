"""What a machine may lack, and still run the other tests; what is measured of it."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from switokd.names import quantity_of

# here everything must be there: a test that cannot run has failed
MUST_RUN = any(os.environ.get(name, "") not in ("", "0", "false") for name in ("CI", "SWITOKD_CI"))

MEASURED = frozenset(
    {"system", "images_per_second", "train_seconds", "peak_memory_mib", "milliseconds_per_image"}
)


def lacking(what: str) -> NoReturn:
    """End the test as one that cannot run here: skipped, in CI failed."""
    if MUST_RUN:
        pytest.fail(f"CI must have {what} (.ci/run installs what it needs)")
    pytest.skip(f"needs {what}")


def is_measured(metric: str) -> bool:
    """Whether a trial's metric measures the machine, which no two runs share."""
    return quantity_of(metric) in MEASURED
