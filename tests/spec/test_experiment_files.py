"""Every file under experiments/: what it says of itself is true, and its smoke form is small."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from dashboards.analysis.published import paper_results
from switokd.spec.experiment import load_experiment

FILES = sorted(Path(__file__).parents[2].joinpath("experiments").glob("*.yaml"))
TRAINING_IMAGES = {
    "digits": 1438,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "tiny_imagenet": 100_000,
    "imagenet": 1_281_167,
}
# docs/method.md section 6: data, pair, learning rates, epochs, milestones
RECIPES = {
    "table4_cifar10": ("wrn_16_8>wrn_16_1", [0.1, 0.1], 300, (100, 150, 200)),
    "table4_cifar100": ("wrn_16_2>mobilenet_v2_x0_5", [0.1, 0.01], 300, (140, 200, 250)),
    "table4_tiny_imagenet_resnet34": (
        "resnet34_small_stem>mobilenet_v2_x1_4",
        [0.01, 0.01],
        200,
        (100, 140, 180),
    ),
    "table4_tiny_imagenet_wrn": ("wrn_16_2>resnet20", [0.01, 0.01], 200, (100, 140, 180)),
    "table7_1t2s": ("wrn_16_10>wrn_16_2+mobilenet", [0.1, 0.1, 0.01], 270, (140, 200, 250)),
    "table7_2t1s": ("wrn_16_10+wrn_16_2>mobilenet", [0.1, 0.1, 0.01], 270, (140, 200, 250)),
    "imagenet": ("resnet34>resnet18", [0.1, 0.1], 120, (31, 61, 91)),
}


def ids(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_the_stated_cost_is_the_files(path: Path) -> None:
    experiment = load_experiment(path)
    said = re.search(r"Cost: +(\d+) trials of ([\d,]+) (epochs \(([\d,]+) )?", path.read_text())
    assert said, "the header states trials and steps"
    recipe = experiment.trials[0].recipe
    images = recipe.train_images or TRAINING_IMAGES[experiment.dataset.name]
    # where they are taken out of these, else they come on top
    images -= 0 if recipe.train_images else round(images * recipe.holdout)
    steps = recipe.epochs * math.ceil(images / recipe.batch_size)
    assert int(said[1]) == len(experiment.trials)
    assert int((said[4] or said[2]).replace(",", "")) == steps


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_the_header_names_its_command_and_paper(path: Path) -> None:
    head = path.read_text().split("name:")[0]
    assert (
        "make sweep" if path.stem == "quickstart" else f"EXPERIMENT=experiments/{path.name}"
    ) in head
    assert "# Paper:" in head


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_are_the_papers(name: str) -> None:
    pair, rates, epochs, milestones = RECIPES[name]
    batch_size, weight_decay = (512, 1e-4) if name == "imagenet" else (128, 5e-4)
    path = next(path for path in FILES if path.stem == name)
    trial = next(t for t in load_experiment(path).trials if t.method.name == "switokd")
    assert trial.pair == pair
    assert [network.learning_rate for network in trial.networks.values()] == rates
    recipe = trial.recipe
    assert (recipe.epochs, recipe.milestones) == (epochs, milestones)
    assert recipe.batch_size == batch_size
    assert recipe.augmentation in ("crop_flip", "resized_crop_flip", "random_resized_crop")
    for network in trial.networks.values():
        adam = network.model == "mobilenet"
        assert network.optimizer == ("adam" if adam else "sgd")
        assert network.weight_decay == (1e-4 if adam else weight_decay)
        scaled = adam or "tiny_imagenet" in name
        assert network.init == ("fan_in_normal" if scaled else "default")
        assert network.momentum == (0.0 if adam else 0.9)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_published_numbers_in_the_header_are_the_papers(name: str) -> None:
    path = next(path for path in FILES if path.stem == name)
    trial = next(t for t in load_experiment(path).trials if t.method.name == "switokd")
    table = paper_results()
    of_pair = table[(table["pair"] == trial.pair) & (table["role"] == "student")]
    of_pair = of_pair[of_pair["dataset"] == trial.dataset]
    head = path.read_text().split("name:")[0]
    for row in of_pair.itertuples():
        assert f"{row.method} {row.published_mean:.2f}" in head


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_smoke_form_is_small_and_apart(path: Path) -> None:
    whole, smoke = load_experiment(path), load_experiment(path, ["smoke=true"])
    assert smoke.name == f"{whole.name}-smoke"
    assert {t.method.variant for t in smoke.trials} == {t.method.variant for t in whole.trials}
    assert {t.pair for t in smoke.trials} == {t.pair for t in whole.trials}
    for trial in smoke.trials:
        assert trial.stand_in
        assert (trial.recipe.epochs, trial.recipe.batch_size, trial.seed) == (2, 8, 0)
    assert not {t.trial_id for t in smoke.trials} & {t.trial_id for t in whole.trials}
