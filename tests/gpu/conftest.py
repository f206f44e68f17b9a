"""The tests of a machine with a GPU: `make test-gpu` (docs/gpu.md).

Their first part needs neither Ray nor MLflow. Every figure that a test measures goes to a JSON file
beside the machine's description, whether or not its goal is reached.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

HERE = Path(__file__).parent
# set by `make test-gpu`; without it the tests are kept off the GPU (tests/conftest.py)
FIGURES = Path(os.environ.get("SWITOKD_GPU_FIGURES", "build/gpu.json"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a GPU none of them can run, and the other tests stay off it."""
    for item in items:
        if item.path.is_relative_to(HERE) and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU (make test-gpu)"))


@pytest.fixture(autouse=True)
def _empty_cache(tiny_models: None) -> Iterator[None]:
    yield
    torch.cuda.empty_cache()


@pytest.fixture(scope="session")
def figures() -> Iterator[Callable[..., None]]:
    """figures(name=value, ...) notes what was measured."""
    noted: dict[str, Any] = {
        "machine": {
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    }
    yield noted.update
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.write_text(json.dumps(noted, indent=1) + "\n", encoding="utf-8")
