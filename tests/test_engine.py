"""The compiled engine against the eager one, which is the reference."""

from __future__ import annotations

import pytest
import torch

from switokd.experiment import Experiment
from switokd.train import build_trainer
from switokd.trainer import Trainer


def trainer(engine: str) -> Trainer:
    """Two equal batches an epoch: each shape of batch is compiled anew."""
    experiment = Experiment.model_validate(
        {
            "name": "engines",
            "dataset": "digits",
            "cohorts": [{"teachers": ["resnet20"], "students": ["resnet20"]}],
            "methods": ["switokd"],
            "recipe": {"epochs": 1, "batch_size": 719, "image_size": 8, "engine": engine},
        }
    )
    return build_trainer(experiment.trials[0], torch.device("cpu"))


@pytest.mark.slow
def test_compiled_steps_agree_with_eager_ones_from_the_same_state() -> None:
    eager, compiled = trainer("eager"), trainer("compiled")
    assert list(eager.networks["S1"].state_dict()) == list(compiled.networks["S1"].state_dict())
    for images, targets in eager.data.train_epoch():
        compiled.load_state_dict(eager.state_dict())
        reference, step = (t.train_step(images, targets) for t in (eager, compiled))
        for name in reference.losses:
            assert step.losses[name].item() == pytest.approx(
                reference.losses[name].item(), rel=1e-5
            )
        assert step.paused == reference.paused
    eager_scores, _ = eager.evaluate("test")
    compiled.load_state_dict(eager.state_dict())
    assert compiled.evaluate("test")[0] == eager_scores
