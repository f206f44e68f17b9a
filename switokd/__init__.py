"""Switchable online knowledge distillation (SwitOKD, ECCV 2022): run, track and compare it.

`load_experiment`, `sweep`, `compare`, `timelines` and `epochs` are what the commands do,
`comparison_figure`, `cost_figure` and `timeline_figure` what the dashboard draws, each loaded when
it is first used; `switokd.train(trial)` trains one trial in this process.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# OpenMP reads this once, when torch is loaded. Its threads would otherwise spin while they wait for
# each other, and a trial of two threads beside other work takes ten times as long
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

FUNCTIONS = {
    **dict.fromkeys(
        ("load_experiment", "sweep", "compare", "timelines", "epochs"), "switokd.cli.functions"
    ),
    **dict.fromkeys(("comparison_figure", "cost_figure", "timeline_figure"), "switokd.cli.plots"),
}


def __getattr__(name: str) -> Any:
    if name == "train":
        return importlib.import_module("switokd.train")
    if name in FUNCTIONS:
        return getattr(importlib.import_module(FUNCTIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
