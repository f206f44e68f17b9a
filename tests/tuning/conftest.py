"""One workplace for the tests of a module: they look at the same sweeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tuning.workplace import Workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("workplace"))
    yield place
    for process in place.started:
        if process.poll() is None:
            process.kill()
            process.wait()
