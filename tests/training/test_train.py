"""The wiring of a trial: schedules, optimizers, common random numbers, reproducibility."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

import switokd
from switokd.spec.recipe import NetworkSpec, Recipe
from switokd.spec.resources import Resources
from switokd.spec.trial import MethodSpec, TrialSpec
from switokd.train import run
from switokd.training.build import build_networks, build_trainer, choose_device, derive_seed
from switokd.training.optimizers import build_optimizer, build_schedule
from switokd.training.trainer import Trainer
from tests.cohorts import same_bits, weights_of

CPU = torch.device("cpu")


def trial_of(
    method: str = "switokd",
    teachers: Sequence[str] = ("wrn_16_1",),
    students: Sequence[str] = ("resnet20",),
    *,
    seed: int = 0,
    init: str = "default",
    settings: dict[str, Any] | None = None,
    **recipe: Any,
) -> TrialSpec:
    """A trial on the 8 x 8 digits, three steps an epoch."""
    networks = {
        f"{side}{number}": NetworkSpec(model=model, learning_rate=0.05, init=init)
        for side, models in (("T", teachers), ("S", students))
        for number, model in enumerate(models, start=1)
    }
    return TrialSpec(
        experiment="test",
        dataset="digits",
        networks=networks,
        method=MethodSpec(name=method, settings=settings or {}),
        seed=seed,
        recipe=Recipe(**{"epochs": 1, "batch_size": 512, "image_size": 8, **recipe}),
    )


def rates(recipe: Recipe, base: float = 1.0) -> list[float]:
    """The learning rate of each epoch, as the trainer steps the schedule."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=base)
    schedule, seen = build_schedule(optimizer, recipe), []
    for _ in range(recipe.epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"epochs": 3}, [1, 1, 1]),
        ({"epochs": 5, "milestones": (2, 4)}, [1, 0.1, 0.1, 0.01, 0.01]),
        ({"epochs": 3, "milestones": (1,)}, [0.1, 0.1, 0.1]),
        ({"epochs": 3, "milestones": (3,)}, [1, 1, 0.1]),
        ({"epochs": 4, "warmup_epochs": 2}, [0.01, 0.505, 1, 1]),
        (
            {"epochs": 6, "warmup_epochs": 2, "milestones": (3, 5)},
            [0.01, 0.505, 0.1, 0.1, 0.01, 0.01],
        ),
        ({"epochs": 6, "warmup_epochs": 2, "milestones": (5,)}, [0.01, 0.505, 1, 1, 0.1, 0.1]),
        (
            {"epochs": 4, "schedule": "cosine"},
            [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2],
        ),
        ({"epochs": 5, "schedule": "cosine", "warmup_epochs": 3}, [0.01, 0.34, 0.67, 1, 0.5]),
    ],
)
@pytest.mark.parametrize("base", [1.0, 0.2])
def test_learning_rates_by_epoch(
    recipe: dict[str, Any], expected: list[float], base: float
) -> None:
    assert rates(Recipe(**recipe), base) == pytest.approx([base * rate for rate in expected])


def test_the_paper_s_schedule() -> None:
    """Table 4, CIFAR-10: 300 epochs, x 0.1 at the start of epochs 100, 150 and 200."""
    by_epoch = rates(Recipe(epochs=300, milestones=(100, 150, 200)), base=0.1)
    for epoch, rate in ((99, 0.1), (100, 0.01), (149, 0.01), (150, 1e-3), (200, 1e-4), (300, 1e-4)):
        assert by_epoch[epoch - 1] == pytest.approx(rate), epoch


def test_optimizers_are_as_the_network_says() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    sgd = build_optimizer(
        [network], NetworkSpec(model="resnet20", learning_rate=0.2, momentum=0.8, weight_decay=0.3)
    )
    adam = build_optimizer(
        [network],
        NetworkSpec(model="resnet20", optimizer="adam", learning_rate=0.01, weight_decay=1e-4),
    )
    assert isinstance(sgd, SGD)
    assert isinstance(adam, Adam)
    for optimizer in (sgd, adam):
        (group,) = optimizer.param_groups
        assert group["params"] == list(network.parameters())
    wanted = {"lr": 0.2, "momentum": 0.8, "weight_decay": 0.3, "nesterov": False, "dampening": 0}
    assert wanted.items() <= sgd.param_groups[0].items()
    assert {"lr": 0.01, "weight_decay": 1e-4}.items() <= adam.param_groups[0].items()


def networks_of(trial: TrialSpec) -> dict[str, dict[str, Tensor]]:
    return {name: weights_of(network) for name, network in build_networks(trial, 10, CPU).items()}


def test_a_network_starts_alike_in_every_method_and_cohort() -> None:
    torch.manual_seed(123)
    alone = networks_of(trial_of("vanilla", (), ["resnet20"]))["S1"]
    torch.manual_seed(456)
    for trial, name in (
        (trial_of("switokd"), "S1"),
        (trial_of("dml", ["wrn_16_2"], ["wrn_16_1", "resnet20"]), "S2"),
        (trial_of("kdcl", ["resnet20"], ["wrn_16_1"], epochs=3, batch_size=64), "T1"),
        # the student of two equal networks starts as it does alone
        (trial_of("switokd", ["resnet20"], ["resnet20"]), "S1"),
    ):
        assert same_bits(networks_of(trial)[name], alone), trial.label
    for other in (trial_of(seed=1), trial_of(init="fan_in_normal")):
        assert not same_bits(networks_of(other)["S1"], alone)


def test_equal_networks_in_one_cohort_start_differently() -> None:
    networks = networks_of(trial_of("dml", ["resnet20", "resnet20"], ["resnet20", "resnet20"]))
    assert list(networks) == ["T1", "T2", "S1", "S2"]
    starts = {network["conv1.weight"].sum().item() for network in networks.values()}
    assert len(starts) == 4


def test_building_networks_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_networks(trial_of(), 10, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_are_derived_by_purpose() -> None:
    purposes = [(0, "weights"), (1, "weights"), (0, "dropout"), (0, "weights", 1)]
    seeds = [derive_seed(*purpose) for purpose in purposes]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    # in every process: half of the first 8 bytes of SHA-256("0:weights"), little-endian
    assert derive_seed(0, "weights") == 8432303663033437212


def test_no_two_purposes_of_the_code_are_one() -> None:
    """Parts are joined by colons: what tells purposes apart must not hang on where a colon is."""
    calls = [
        node.args
        for path in Path(switokd.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("derive_seed")
    ]
    purposes = []
    for _, purpose, *others in calls:
        assert isinstance(purpose, ast.Constant)
        assert ":" not in purpose.value
        purposes.append(purpose.value)
        # a free text, and a count after it: both can be told from the whole
        assert len(others) <= 2
    assert {"weights", "dropout"} < set(purposes)
    assert len(set(purposes)) == len(purposes), "one purpose in two forms"


def first_batches(trial: TrialSpec) -> list[tuple[Tensor, Tensor]]:
    data = build_trainer(trial, CPU).data
    return [batch for _ in range(2) for batch in data.train_epoch()]


def test_the_batches_depend_on_the_seed_alone() -> None:
    expected = first_batches(trial_of("vanilla", (), ["resnet20"], augmentation="crop_flip"))
    same = trial_of("switokd", ["resnet20"], ["wrn_16_1", "resnet20"], augmentation="crop_flip")
    for mine, theirs in zip(first_batches(same), expected, strict=True):
        assert torch.equal(mine[0], theirs[0])
        assert torch.equal(mine[1], theirs[1])
    other = first_batches(trial_of(seed=1, augmentation="crop_flip"))
    assert not torch.equal(other[0][1], expected[0][1])


def started(trial: TrialSpec, device: torch.device = CPU, steps: int = 3) -> Trainer:
    trainer = build_trainer(trial, device)
    trainer.run_epoch(lambda: trainer.step < steps)
    return trainer


@pytest.mark.parametrize("method", ["switokd", "kdcl"])
def test_the_same_trial_twice_is_bit_identical(method: str) -> None:
    """Also in a process that trained something else in between."""
    settings = {"views": "own"} if method == "kdcl" else {}
    trial = trial_of(method, settings=settings, batch_size=64, augmentation="crop_flip")
    first = started(trial)
    started(trial_of("dml", ["wrn_16_1"], ["wrn_16_1"], seed=5), steps=1)
    second = started(trial)
    assert torch.equal(first.timeline.rows(), second.timeline.rows())
    for name, network in first.networks.items():
        assert same_bits(weights_of(network), weights_of(second.networks[name]))


def test_the_trainer_is_built_as_the_trial_says() -> None:
    trial = trial_of(
        "switokd",
        ["wrn_16_1", "resnet20"],
        settings={"threshold": 0.6},
        epochs=4,
        batch_size=100,
        holdout=0.1,
        precision="fp64",
    ).model_copy(update={"temperature": 2.0})
    trainer = build_trainer(trial, CPU)
    assert list(trainer.networks) == ["T1", "T2", "S1"]
    assert (trainer.epochs, trainer.evaluation_split) == (4, "holdout")
    assert (trainer.method.temperature, trainer.method.settings.threshold) == (2.0, 0.6)
    assert next(trainer.networks["S1"].parameters()).dtype == torch.float64
    images, labels, _ = next(iter(trainer.data.train_epoch()))
    assert (images.shape, labels.shape) == ((100, 1, 8, 8), (100,))
    assert build_trainer(trial_of(), CPU).evaluation_split == "test"
    own_views = build_trainer(trial_of("kdcl", settings={"views": "own"}), CPU)
    images, *_ = next(iter(own_views.data.train_epoch()))
    assert [view.shape for view in images] == [(512, 1, 8, 8)] * 2


def test_deterministic_mode_is_set_and_set_back() -> None:
    build_trainer(trial_of(deterministic=True), CPU)
    assert torch.are_deterministic_algorithms_enabled()
    build_trainer(trial_of(), CPU)
    assert not torch.are_deterministic_algorithms_enabled()


def test_no_gpu_means_the_cpu() -> None:
    assert choose_device(Resources(gpus=0)) == CPU


def test_run_trains_a_trial_to_its_end(tmp_path: Path) -> None:
    """The way of a script: no Ray, no MLflow, one call; and what it trains is the trainer's."""
    trial, reports = trial_of("vanilla", (), ["wrn_16_1"], epochs=2, batch_size=360), []
    result = run(trial, runs=tmp_path, threads=1, after_epoch=reports.append)
    assert [report.epoch for report in reports] == [1, 2]
    assert result.trial_id == trial.trial_id
    expected = build_trainer(trial, CPU)
    while not expected.done:
        expected.run_epoch()
    assert same_bits(weights_of(result.networks["S1"]), weights_of(expected.networks["S1"]))
    assert result.metrics["last_val_top1/S1"] == reports[-1].scores["S1"].top1
