"""What a machine may lack, and still run the other tests."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

# here everything must be there: a test that cannot run has failed
MUST_RUN = any(os.environ.get(name, "") not in ("", "0", "false") for name in ("CI", "SWITOKD_CI"))


def lacking(what: str) -> NoReturn:
    """End the test as one that cannot run here: skipped, in CI failed."""
    if MUST_RUN:
        pytest.fail(f"CI must have {what} (.ci/run installs what it needs)")
    pytest.skip(f"needs {what}")
