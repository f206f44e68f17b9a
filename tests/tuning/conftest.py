"""One workplace for the tests of a module: they look at the same sweeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tuning.mlflow_server import Server
from tests.tuning.workplace import Workplace


@pytest.fixture(scope="module")
def workplace(
    tmp_path_factory: pytest.TempPathFactory, shared_ray: dict[str, str]
) -> Iterator[Workplace]:
    """Its sweeps join a Ray that runs already."""
    place = Workplace(tmp_path_factory.mktemp("workplace"), **shared_ray)
    yield place
    place.close()


@pytest.fixture(scope="module")
def lone_workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Its first command makes the store, and each sweep starts a Ray of its own, as users' do."""
    place = Workplace(tmp_path_factory.mktemp("workplace"), new_store=True)
    yield place
    place.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tracking server, to be stopped and started."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()
