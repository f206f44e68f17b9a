"""Write the golden losses anew: `python -m tests.golden.renew`, from the repository's root.

Only where a change is meant to change what is trained, and the diff of `losses.json` belongs into
the commit that does so. A refactoring never renews it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from switokd.methods import METHODS, SETTINGS
from switokd.spec.recipe import NetworkSpec, Recipe
from switokd.spec.trial import MethodSpec, TrialSpec
from switokd.training.build import build_trainer

LOSSES_FILE = Path(__file__).with_name("losses.json")
STEPS = 20


def golden_trial(method: str) -> TrialSpec:
    """Digits in float64, where a difference is one of the code and not of rounding."""
    # a teacher trained before stands there with its first weights
    taught = SETTINGS[method].trained_teacher
    teacher = {"frozen": True, "trained_by": "nobody"} if taught else {}
    networks = {
        "T1": NetworkSpec(model="resnet20", learning_rate=0.05, **teacher),
        "S1": NetworkSpec(model="wrn_16_1", learning_rate=0.01),
    }
    return TrialSpec(
        experiment="golden",
        dataset="digits",
        networks={"S1": networks["S1"]} if method == "vanilla" else networks,
        method=MethodSpec(name=method),
        recipe=Recipe(epochs=1, batch_size=32, image_size=8, precision="fp64"),
    )


def losses(method: str) -> dict[str, list[float]]:
    """Every network's loss in the first 20 steps of the method's golden trial, on one thread."""
    torch.set_num_threads(1)
    trainer = build_trainer(golden_trial(method), torch.device("cpu"))
    trainer.run_epoch(lambda: trainer.step < STEPS)
    return {name: trainer.timeline.losses(name)[0].tolist() for name in trainer.networks}


if __name__ == "__main__":
    LOSSES_FILE.write_text(json.dumps({name: losses(name) for name in METHODS}, indent=1) + "\n")
