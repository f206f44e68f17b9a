"""The other engines against the eager one, which is the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from switokd.spec.experiment import Experiment
from switokd.training.build import build_trainer
from switokd.training.graphed import create_state
from switokd.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("tiny_models")

STEPS = 50
BATCH = 64
# two nearly equal numbers may change places by rounding alone
ROUNDING = 1e-5
LINK = ("T1", "S1")
# of the tiny networks
BOTH_MODES = {"switokd": {"threshold": 0.27, "require_better_teacher": False}}


def trainer(engine: str, method: Any = "switokd", **changes: Any) -> Trainer:
    recipe = {"epochs": 1, "batch_size": 719, "image_size": 8, "engine": engine}
    experiment = Experiment.model_validate(
        {
            "name": "engines",
            "dataset": "digits",
            "cohorts": [{"teachers": ["tiny_wide"], "students": ["tiny"]}],
            "methods": [method],
            "recipe": recipe | changes,
        }
    )
    return build_trainer(experiment.trials[0], torch.device("cpu"))


@pytest.mark.slow
def test_compiled_steps_agree_with_eager_ones_from_the_same_state() -> None:
    eager, compiled = trainer("eager"), trainer("compiled")
    assert list(eager.networks["S1"].state_dict()) == list(compiled.networks["S1"].state_dict())
    images, targets, _ = next(eager.data.train_epoch())
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


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_replayed_steps_are_eager_ones_to_the_bit(optimizer: str) -> None:
    """Over partial batches and both modes, as long as float32 holds the rate exactly.

    After the milestone it does not: then to rounding.
    """
    recipe = {"batch_size": 128, "milestones": [2], "epochs": 2, "optimizer": optimizer}
    eager, graphed = (
        trainer(engine, BOTH_MODES, learning_rate=2.0**-4, **recipe)
        for engine in ("eager", "graphed")
    )
    for each in (eager, graphed):
        while not each.done:
            each.run_epoch()
    rows, replayed = eager.timeline.rows(), graphed.timeline.rows()
    steps = eager.data.steps_per_epoch
    assert torch.equal(rows[: steps + 1], replayed[: steps + 1])
    torch.testing.assert_close(rows, replayed, rtol=1e-3, atol=1e-4)
    expert = eager.timeline.switch(LINK)["expert"]
    assert 0 < expert[:steps].mean() < 1, "both modes occur"
    assert graphed._engine._recording is not None, "steps were replayed"
    # the host's rate, which schedules and checkpoints know, is a number as before
    assert graphed.optimizers["S1"].param_groups[0]["lr"] == pytest.approx(2.0**-4 / 10)


def test_what_cannot_be_recorded_is_carried_out_eagerly() -> None:
    """With the rate in double precision, too."""
    recipe = {"precision": "fp64", "batch_size": 256, "learning_rate": 0.05}
    eager, graphed = (trainer(engine, **recipe) for engine in ("eager", "graphed"))
    for each in (eager, graphed):
        each.run_epoch()
    assert graphed._engine._recording is None
    assert torch.equal(eager.timeline.rows(), graphed.timeline.rows())


def test_a_network_that_never_moved_gets_the_state_of_no_step() -> None:
    """As an optimizer would begin with, and without moving anything."""
    network = torch.nn.Linear(3, 2)
    for optimizer, keys in (
        (torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1), 1),
        (torch.optim.Adam(network.parameters(), lr=1.0, weight_decay=0.1, fused=True), 3),
    ):
        before = [parameter.clone() for parameter in network.parameters()]
        create_state(optimizer)
        for parameter, value in zip(network.parameters(), before, strict=True):
            assert torch.equal(parameter, value)
            assert parameter.grad is None
            state = [v for v in optimizer.state[parameter].values() if torch.is_tensor(v)]
            assert len(state) == keys
            assert not any(tensor.any() for tensor in state)
