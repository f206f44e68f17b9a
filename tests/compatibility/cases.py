"""Trials whose checkpoints and runs lie here as an earlier version of the code left them."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from switokd.spec.experiment import Experiment

HERE = Path(__file__).parent
ID_FILES = {
    HERE / "every_method.yaml": HERE / "ids.txt",
    HERE / "other_recipes.yaml": HERE / "ids_other.txt",
}
CHECKPOINTS = HERE / "checkpoints"
EXPECTED = HERE / "expected.json"
STORE = HERE / "store.sqlite.gz"
STORE_RUNS = HERE / "store_runs"
COMPARISON = HERE / "comparison.csv"

# every stop but the last ones lies in the middle of an epoch of 6 steps
STOP_AT_STEP = 8
STOPPED_IN_AN_EPOCH = ("pair", "two_students", "kdcl_general")

PAIR = {"teachers": ["tiny_wide"], "students": ["tiny"]}
RECIPE = {"epochs": 3, "milestones": [3], "batch_size": 256, "image_size": 8}


def experiment(name: str, **changes: Any) -> Experiment:
    """An experiment of tiny networks on digits."""
    return Experiment.model_validate(
        {"name": name, "dataset": "digits", "cohorts": [PAIR], "methods": ["switokd"]}
        | {"recipe": RECIPE}
        | changes
    )


def stopped_in_an_epoch() -> dict[str, Experiment]:
    """One trial each, by the folder that its checkpoint lies in."""
    two_students = {
        "teachers": ["tiny_wide"],
        "students": ["tiny", {"model": "tiny", "optimizer": "adam", "learning_rate": 0.01}],
    }
    return {
        "pair": experiment("pair"),
        "two_students": experiment(
            "two_students",
            cohorts=[two_students],
            methods=[{"switokd": {"threshold": 0.6}}],
            temperatures=[2],
            recipe=RECIPE | {"warmup_epochs": 1, "milestones": [], "schedule": "cosine"},
        ),
        "kdcl_general": experiment(
            "kdcl_general",
            methods=[{"kdcl": {"variant": "general", "views": "own"}}],
            recipe=RECIPE | {"holdout": 0.2, "augmentation": "crop", "patience": 2},
        ),
    }


def population() -> Experiment:
    """Two members, which differ in one setting."""
    return experiment(
        "population",
        search={
            "algorithm": "random",
            "trials": 2,
            "space": {"recipe.learning_rate": {"low": 0.01, "high": 0.2, "log": True}},
            "scheduler": "pbt",
            "perturbation_epochs": 1,
        },
    )


def short_and_long() -> tuple[Experiment, Experiment]:
    """A trial, and the same with more epochs."""
    recipe = RECIPE | {"milestones": []}
    return (
        experiment("extended", recipe=recipe | {"epochs": 2}),
        experiment("extended", recipe=recipe | {"epochs": 4}),
    )


def tracked() -> Experiment:
    """What the tracking store has."""
    return experiment(
        "tracked",
        methods=["vanilla", "dml", "kdcl", {"switokd": {"threshold": ["adaptive", 0.6]}}],
        seeds=[0, 1],
        recipe=RECIPE | {"epochs": 2, "milestones": []},
    )


def digest(networks: Mapping[str, nn.Module]) -> dict[str, str]:
    """Each network's weights and statistics, by their bytes."""
    found = {}
    for name, network in networks.items():
        content = hashlib.sha256()
        for key, value in network.state_dict().items():
            content.update(key.encode() + value.cpu().numpy().tobytes())
        found[name] = content.hexdigest()
    return found


def values(networks: Mapping[str, nn.Module]) -> dict[str, list[float]]:
    """Each network's last bias, for machines that round otherwise than the one of the files."""
    return {
        name: network.state_dict()["linear.bias"].tolist() for name, network in networks.items()
    }


def machine() -> dict[str, str]:
    """What equal bits depend on beside the spec."""
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
