"""Which Ray a sweep asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray

from switokd.validation import SpecError
from tuning.workers.cluster import ray_session


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """What a session would start Ray with."""

    def ask() -> dict[str, Any]:
        asked: dict[str, Any] = {}

        def init(**settings: Any) -> None:
            asked.update(settings)
            raise ConnectionError("asked")

        monkeypatch.setattr(ray, "init", init)
        with pytest.raises(SpecError, match="asked"), ray_session():
            pass
        return asked

    return ask


@pytest.mark.parametrize("address", [None, ""])
def test_without_an_address_nobody_elses_ray_is_joined(
    asked_for: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    """Ray notes the cluster that was started last, in a file that outlives a killed one."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert asked_for()["address"] == "local"


def test_with_an_address_ray_reads_it_itself(
    asked_for: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "address" not in asked_for()
