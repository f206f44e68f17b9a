"""The compiled engine against the eager one, which is the reference."""

from __future__ import annotations

import pytest
import torch

from switokd.spec.experiment import Experiment
from switokd.training.build import build_trainer
from switokd.training.trainer import Trainer

STEPS = 50
BATCH = 64
# two nearly equal numbers may change places by rounding alone
ROUNDING = 1e-5
LINK = ("T1", "S1")


def trainer(engine: str) -> Trainer:
    experiment = Experiment.model_validate(
        {
            "name": "engines",
            "dataset": "digits",
            "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
            "methods": ["switokd"],
            "recipe": {"epochs": 1, "batch_size": 719, "image_size": 8, "engine": engine},
        }
    )
    return build_trainer(experiment.trials[0], torch.device("cpu"))


@pytest.mark.slow
def test_compiled_steps_agree_with_eager_ones_from_the_same_state() -> None:
    eager, compiled = trainer("eager"), trainer("compiled")
    assert list(eager.networks["S1"].state_dict()) == list(compiled.networks["S1"].state_dict())
    images, targets = next(eager.data.train_epoch())
    seen = set()
    for number in range(STEPS):
        # one shape of batch: each further one is compiled anew
        place = torch.arange(number * 11, number * 11 + BATCH) % len(targets)
        compiled.load_state_dict(eager.state_dict())
        reference, step = (t.train_step(images[place], targets[place]) for t in (eager, compiled))
        for name, loss in reference.losses.items():
            assert step.losses[name].item() == pytest.approx(loss.item(), rel=1e-5), (number, name)
        link = reference.links[LINK]
        distance = link.teacher_distance - link.student_distance
        if min(abs(link.gap - link.threshold), abs(distance)) > ROUNDING:
            assert step.paused == reference.paused, number
            seen.add(bool(step.paused))
    assert seen == {True, False}
    eager_scores, _ = eager.evaluate("test")
    compiled.load_state_dict(eager.state_dict())
    compiled_scores, _ = compiled.evaluate("test")
    for name, scores in eager_scores.items():
        assert compiled_scores[name].top1 == scores.top1
        assert compiled_scores[name].loss == pytest.approx(scores.loss, rel=1e-5)
