"""Trials with a trained teacher: it does not move, is asked once, and teaches when it should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from switokd.methods import SETTINGS
from switokd.models import build_model
from switokd.spec.experiment import Experiment
from switokd.spec.identity import walk
from switokd.spec.trial import TrialSpec
from switokd.training.build import build_trainer
from switokd.training.trainer import Trainer
from switokd.validation import SpecError
from tests.cohorts import same_bits, weights_of
from tests.conftest import UserModule
from tuning.preflight import check_outside

pytestmark = pytest.mark.usefixtures("tiny_models")

CPU = torch.device("cpu")
OFFLINE = sorted(name for name in SETTINGS if SETTINGS[name].trained_teacher)
EPOCHS = 4


def trial(method: Any, **recipe: Any) -> TrialSpec:
    whole = {"epochs": EPOCHS, "batch_size": 128, "image_size": 8, "train_images": 512}
    return Experiment.model_validate(
        {
            "name": "offline",
            "dataset": "digits",
            "cohorts": [{"teachers": ["tiny_wide"], "students": ["tiny"]}],
            "methods": [method],
            "recipe": whole | recipe,
        }
    ).trials[-1]


def taught_weights(seed: int = 5) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = build_model("tiny_wide", 10)
    # statistics that would show if they moved
    network(torch.randn(64, 3, 8, 8))
    return network.state_dict()


def trainer(method: Any, **recipe: Any) -> Trainer:
    return build_trainer(trial(method, **recipe), CPU, {"T1": {EPOCHS: taught_weights()}})


def train(trained: Trainer) -> Trainer:
    while not trained.done:
        trained.run_epoch()
    return trained


@pytest.mark.parametrize("engine", ["eager", "graphed"])
@pytest.mark.parametrize("augmentation", ["none", "crop"])
@pytest.mark.parametrize("name", OFFLINE)
def test_a_trained_teacher_never_moves(name: str, augmentation: str, engine: str) -> None:
    trained = trainer(name, augmentation=augmentation, engine=engine)
    before = weights_of(trained.networks["S1"])
    train(trained)
    assert same_bits(weights_of(trained.networks["T1"]), taught_weights())
    assert not same_bits(weights_of(trained.networks["S1"]), before)
    assert trained.optimizers.keys() == {"S1"}


def test_kd_without_imitation_is_vanilla_to_the_bit() -> None:
    alone = train(build_trainer(trial("vanilla"), CPU))
    # of the two networks the last is the student
    assert trial("vanilla").pair == "tiny"
    taught = train(trainer({"kd": {"alpha": 0, "gamma": 1}}))
    assert same_bits(weights_of(taught.networks["S1"]), weights_of(alone.networks["S1"]))


@pytest.mark.parametrize("name", sorted(set(OFFLINE) - {"crd"}))
def test_a_graphed_step_is_the_eager_one(name: str) -> None:
    eager, graphed = train(trainer(name)), train(trainer(name, engine="graphed"))
    assert graphed._engine._recording is not None, "it has recorded"
    assert same_bits(weights_of(graphed.networks["S1"]), weights_of(eager.networks["S1"]))


class Calls:
    """Counts how often a network is called, and on how many images."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.images: list[int] = []
        network.register_forward_hook(lambda _, given, __: self.images.append(len(given[0])))


@pytest.mark.parametrize("name", OFFLINE)
def test_a_teacher_is_asked_once_for_each_image_that_stays_the_same(name: str) -> None:
    trained = trainer(name)
    calls = Calls(trained.networks["T1"])
    train(trained)
    # all training images, and the test set, once each
    assert sum(calls.images) == 512 + trained.data.evaluation_size("test")
    augmented = trainer(name, augmentation="crop")
    calls = Calls(augmented.networks["T1"])
    train(augmented)
    assert sum(calls.images) == 512 * EPOCHS + augmented.data.evaluation_size("test")


@pytest.mark.parametrize("name", OFFLINE)
def test_what_is_kept_of_a_teacher_is_what_it_says(name: str) -> None:
    trained = trainer(name, precision="fp64")
    trained.run_epoch()
    teacher, outputs = trained.networks["T1"], trained.frozen_outputs
    assert outputs is not None
    for images, _, indices in trained.data.train_epoch():
        assert isinstance(images, Tensor)
        with torch.no_grad():
            expected = teacher(images.double())
        torch.testing.assert_close(outputs.logits("T1", indices), expected)
        recorder = trained._cohort.maps
        if recorder is not None:
            shown = recorder.take()["T1"]
            for stage, values in outputs.maps(indices)["T1"].items():
                torch.testing.assert_close(values, shown[stage])


def test_outputs_that_would_take_too_much_memory_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # 512 images: 10 logits, or these and maps of 8 x 4 x 4 and 16 x 2 x 2, of four bytes
    monkeypatch.setattr("switokd.training.build.MOST_BYTES", 512 * 4 * 10)
    assert trainer("kd").frozen_outputs is not None
    assert trainer("at").frozen_outputs is None
    monkeypatch.setattr("switokd.training.build.MOST_BYTES", 512 * 4 * (10 + 128 + 64))
    assert trainer("at").frozen_outputs is not None


@pytest.mark.parametrize("augmentation", ["none", "crop"])
def test_rco_is_taught_by_each_snapshot_in_its_stage(augmentation: str) -> None:
    route = {2: taught_weights(1), 3: taught_weights(2), 4: taught_weights(3)}
    spec = trial({"rco": {"stages": 3}}, augmentation=augmentation)
    trained = build_trainer(spec, CPU, {"T1": route})
    teachers = []
    while not trained.done:
        trained.run_epoch()
        teachers.append(weights_of(trained.networks["T1"]))
        # and what is said of it is said of the one that taught
        gap = trained.timeline.switch(("T1", "S1"))["gap"][-1]
        if trained.frozen_outputs is not None:
            assert trained.frozen_outputs.ready
        assert gap > 0
    for taught, epoch in zip(teachers, (2, 2, 3, 4), strict=True):
        assert same_bits(taught, route[epoch])


def test_rco_goes_on_in_the_middle_of_a_stage_with_the_teacher_of_it() -> None:
    route = {2: taught_weights(1), 4: taught_weights(2)}
    spec = trial({"rco": {"stages": 2}})
    whole = train(build_trainer(spec, CPU, {"T1": route}))
    first = build_trainer(spec, CPU, {"T1": route})
    for _ in range(2):
        first.run_epoch()
    first.run_epoch(lambda: first.step_in_epoch < 2)
    assert first.step_in_epoch == 2
    second = build_trainer(spec, CPU, {"T1": route})
    second.load_state_dict(first.state_dict())
    train(second)
    assert same_bits(weights_of(second.networks["S1"]), weights_of(whole.networks["S1"]))
    assert torch.equal(second.timeline.rows(), whole.timeline.rows())


def test_snapshots_are_the_weights_after_their_epochs() -> None:
    spec = trial("vanilla").model_copy(update={"snapshots": (1, 3)})
    trained = build_trainer(spec, CPU)
    after = {}
    while not trained.done:
        trained.run_epoch()
        after[trained.epoch] = weights_of(trained.networks["S1"])
    assert trained.snapshots.keys() == {1, 3}
    for epoch, kept in trained.snapshots.items():
        assert same_bits(kept["S1"], after[epoch])
    # a trial that asks for others takes up those of its own
    other = build_trainer(trial("vanilla").model_copy(update={"snapshots": (3,)}), CPU)
    other.load_state_dict(trained.state_dict())
    assert other.snapshots.keys() == {3}


def test_what_a_switch_would_have_done_is_told_of_methods_without_one() -> None:
    trained = train(trainer("kd"))
    link = ("T1", "S1")
    switch = trained.timeline.switch(link)
    assert not switch["expert"].any()
    would = trained.timeline.would_be_expert(link)
    expected = [
        gap > threshold and teacher < student
        for gap, threshold, teacher, student in zip(
            *(switch[key] for key in ("gap", "threshold", "teacher_distance", "student_distance")),
            strict=True,
        )
    ]
    assert would.tolist() == expected
    windows = list(trained.timeline.windows(trained.total_steps, 0))
    told = [w.value for w in windows if w.quantity == "would_be_expert"]
    assert told == [float(value) for value in expected]
    switched = train(build_trainer(trial("switokd"), CPU))
    windows = list(switched.timeline.windows(switched.total_steps, 0))
    assert not any(w.quantity == "would_be_expert" for w in windows)
    assert (
        switched.timeline.would_be_expert(link) == switched.timeline.switch(link)["expert"]
    ).all()


NETWORK = """
from torch import nn

def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )
"""


def brought(module: str, method: str, **student: Any) -> TrialSpec:
    whole = {"epochs": 1, "batch_size": 128, "image_size": 8, "train_images": 256}
    return Experiment.model_validate(
        {
            "name": "offline",
            "dataset": "digits",
            "cohorts": [
                {"teachers": ["tiny_wide"], "students": [{"model": f"{module}:net"} | student]}
            ],
            "methods": [method],
            "recipe": whole,
        }
    ).trials[-1]


@pytest.mark.parametrize("method", ["fitnet", "at", "crd"])
def test_a_network_from_elsewhere_gives_the_maps_that_its_file_names(
    method: str, user_module: UserModule
) -> None:
    spec = brought(user_module(NETWORK), method, stages=["0", "2"])
    check_outside([spec])
    trained = build_trainer(spec, CPU, {"T1": {1: taught_weights()}})
    train(trained)
    shapes = {
        "fitnet": {"stage1": (6, 8, 8)},
        "at": {"stage1": (6, 8, 8), "stage2": (8, 3, 3)},
        # the last map before the pool, found without being named
        "crd": {"last": (8, 3, 3)},
    }
    recorder = trained._cohort.maps
    assert recorder is not None
    found = recorder.shapes(trained.networks, 8)["S1"]
    assert {stage: tuple(shape) for stage, shape in found.items()} == shapes[method]


def test_stages_are_part_of_a_trial_only_where_they_are_named(user_module: UserModule) -> None:
    module = user_module(NETWORK)
    one, other = brought(module, "at", stages=["0", "2"]), brought(module, "at", stages=["1", "2"])
    assert one.trial_id != other.trial_id
    assert "stages" not in walk(brought(module, "kd"))["networks"]["S1"]


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ([], "S1 has no stages: the names of its modules .* belong under 'stages'"),
        (["0", "7"], "has no layer '7'.*\\(stages\\)"),
    ],
)
def test_maps_that_are_not_there_are_told_before_anything_trains(
    stages: list[str], told: str, user_module: UserModule
) -> None:
    with pytest.raises(SpecError, match=told):
        check_outside([brought(user_module(NETWORK), "at", stages=stages)])
