"""No refactoring changes what is trained: the first 20 losses of one trial per method.

`python -m tests.golden.renew` writes the file anew, where a change is meant.
"""

from __future__ import annotations

import json

import pytest

from switokd.methods import METHODS
from tests.golden.renew import LOSSES_FILE, STEPS, losses


@pytest.mark.parametrize("method", METHODS)
def test_the_first_losses_are_the_golden_ones(method: str) -> None:
    golden = json.loads(LOSSES_FILE.read_text())[method]
    found = losses(method)
    assert found.keys() == golden.keys()
    for name, expected in golden.items():
        assert len(expected) == STEPS
        assert found[name] == pytest.approx(expected, rel=1e-6, abs=0), name
