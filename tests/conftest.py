"""What every test starts from: one thread, and torch's process-wide switches as they come."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import create_model

from switokd import user_modules
from switokd.methods.settings import SETTINGS, KDCLSettings
from switokd.models import MODELS
from switokd.spec import tracked_params as params_module
from switokd.spec.identity import AddedLater
from switokd.spec.recipe import NetworkSpec, Recipe
from switokd.spec.trial import TrialSpec
from tests.compatibility.tiny_networks import TINY_NETWORKS
from tests.processes import RAY_SETTINGS
from tests.shared_folder import VARIABLE, open_shared_folder
from tests.tuning.shared_ray import running_ray

UserModule = Callable[..., str]


def pytest_configure(config: pytest.Config) -> None:
    """What all processes of this run share: a folder, and how they compute beside each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # where a trial has several threads after all, they sleep while they wait for each other
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.update(RAY_SETTINGS)
    if "SWITOKD_GPU_FIGURES" not in os.environ:
        # all but those of `make test-gpu` say what a trial on a CPU does
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if VARIABLE not in os.environ:
        folder = open_shared_folder()
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        config.add_cleanup(lambda: os.environ.pop(VARIABLE))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with nothing but slow tests come first: begun last, one would run on alone."""
    slow: defaultdict[Path, bool] = defaultdict(lambda: True)
    for item in items:
        slow[item.path] &= item.get_closest_marker("slow") is not None
    items.sort(key=lambda item: not slow[item.path])


@pytest.fixture(autouse=True)
def _process_wide_switches() -> Iterator[None]:
    """One thread (tiny operations only wait for a second one); what a trial sets is put back."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zoo has the tiny networks too."""
    for name, builder in TINY_NETWORKS.items():
        monkeypatch.setitem(MODELS, name, builder)


@pytest.fixture(autouse=True)
def main_module() -> Iterator[None]:
    """Streamlit's test harness leaves its page as `__main__`, which spawned processes run again."""
    before = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = before


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UserModule]:
    """Writes a module of a user's into a folder that Python looks into, and says its name."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    monkeypatch.setattr(user_modules, "_imported", {})
    known = set(sys.modules)

    def write(text: str, name: str = "brought") -> str:
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    yield write
    for name, module in list(sys.modules.items()):
        if name not in known and str(folder) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A later version of the schema: a new field in a method's settings, a recipe, a network."""
    settings: Any = create_model(
        "LaterSettings",
        __base__=KDCLSettings,
        warmth=(Annotated[float, AddedLater(0.0)], 0.0),
    )
    recipe: Any = create_model(
        "LaterRecipe", __base__=Recipe, mixup=(Annotated[float, AddedLater(0.0)], 0.0)
    )
    network: Any = create_model(
        "LaterNetwork", __base__=NetworkSpec, nesterov=(Annotated[bool, AddedLater(False)], False)
    )
    spec: Any = create_model(
        "LaterTrial", __base__=TrialSpec, recipe=(recipe, ...), networks=(dict[str, network], ...)
    )
    monkeypatch.setitem(SETTINGS, "kdcl", settings)
    monkeypatch.setattr(params_module, "TrialSpec", spec)
    return spec


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[dict[str, str]]:
    """The environment of a sweep that joins the Ray of this process's tests."""
    with running_ray() as environment:
        yield environment
