"""Searches as users write them: the points they come to, and what they are told."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from switokd.spec.experiment import Experiment, load_experiment
from switokd.spec.search import Search
from switokd.spec.space import Interval
from switokd.validation import SpecError

BASE: dict[str, Any] = {
    "name": "searched",
    "dataset": "digits",
    "cohorts": [{"teachers": ["wrn_16_1"], "students": ["resnet20"]}],
    "methods": ["dml", "switokd"],
    "recipe": {"epochs": 4, "holdout": 0.1},
}
TEMPERATURE = {"temperature": {"low": 1, "high": 8}}
RATE = {"recipe.learning_rate": {"low": 1e-3, "high": 0.3, "log": True}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.yaml"


def experiment_of(file: Path, changes: dict[str, Any] | None = None, **search: Any) -> Experiment:
    content = BASE | (changes or {}) | {"search": search}
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_experiment(file)


def random_search(file: Path, space: dict[str, Any], trials: int = 8, **more: Any) -> Experiment:
    return experiment_of(file, algorithm="random", trials=trials, space=space, **more)


def complaint(file: Path, changes: dict[str, Any] | None = None, **search: Any) -> list[str]:
    with pytest.raises(SpecError) as raised:
        experiment_of(file, changes, **search)
    return [line.removeprefix(f"{file}: ") for line in str(raised.value).splitlines()]


def test_a_point_sets_what_its_keys_name(file: Path) -> None:
    space = {
        **TEMPERATURE,
        **RATE,
        "recipe.batch_size": [32, 64],
        "S1.model": ["resnet20", "wrn_16_2"],
        "T1.learning_rate": [0.2, 0.4],
        "method.beta": {"low": 0.5, "high": 2},
    }
    search = {"algorithm": "random", "trials": 12, "space": space}
    experiment = experiment_of(file, {"methods": [{"switokd": {"alpha": 3.0}}]}, **search)
    assert len(experiment.trials) == len(experiment.points) == 12
    for candidate in experiment.points.values():
        trial, point = candidate.trial, candidate.point
        assert trial.temperature == point["temperature"]
        assert trial.recipe.batch_size == point["recipe.batch_size"]
        assert trial.networks["S1"].model == point["S1.model"]
        assert trial.networks["T1"].learning_rate == point["T1.learning_rate"]
        # the recipe's is the default of those without their own
        assert trial.networks["S1"].learning_rate == point["recipe.learning_rate"]
        assert trial.method.settings.beta == point["method.beta"]
        assert trial.method.settings.alpha == 3.0


def test_points_lie_in_the_space_and_print_in_six_digits(file: Path) -> None:
    points = [c.point for c in random_search(file, TEMPERATURE | RATE, 200).points.values()]
    rates = [point["recipe.learning_rate"] for point in points]
    assert all(1e-3 <= rate <= 0.3 for rate in rates)
    assert all(float(f"{rate:.6g}") == rate for rate in rates)
    # as many below the geometric mean as above: 4 standard deviations of 200 coins are 28
    assert abs(sum(rate < (1e-3 * 0.3) ** 0.5 for rate in rates) - 100) < 28
    assert all(1 <= point["temperature"] <= 8 for point in points)
    assert abs(sum(point["temperature"] < 4.5 for point in points) - 100) < 28


def test_whole_numbers_stay_whole_and_reach_both_ends(file: Path) -> None:
    experiment = random_search(file, {"recipe.batch_size": {"low": 30, "high": 33}})
    sizes = {trial.recipe.batch_size for trial in experiment.trials}
    assert sizes == {30, 31, 32, 33}
    assert all(type(size) is int for size in sizes)


def test_the_same_seed_draws_the_same_and_more_trials_keep_the_first(file: Path) -> None:
    few = random_search(file, TEMPERATURE | RATE, 5)
    more = random_search(file, TEMPERATURE | RATE, 9)
    other = random_search(file, TEMPERATURE | RATE, 5, seed=1)
    assert [t.trial_id for t in more.trials][:5] == [t.trial_id for t in few.trials]
    assert not {t.trial_id for t in other.trials} & {t.trial_id for t in few.trials}


def test_the_files_axes_stay_choices_unless_they_are_searched(file: Path) -> None:
    changes = {"temperatures": [1, 2], "recipe": BASE["recipe"] | {"weight_decay": [0, 1e-4]}}
    search = {"algorithm": "random", "trials": 60}
    experiment = experiment_of(file, changes, **search, space=RATE)
    assert len(experiment.cells) == 2 * 2 * 2
    found = {
        (t.method.name, t.temperature, t.networks["S1"].weight_decay) for t in _all(experiment)
    }
    assert found == set(itertools.product(("dml", "switokd"), (1, 2), (0, 1e-4)))
    experiment = experiment_of(file, changes, **search, space=RATE | TEMPERATURE)
    assert len(experiment.cells) == 2 * 2


def _all(experiment: Experiment) -> list[Any]:
    return [candidate.trial for candidate in experiment.points.values()]


def test_no_point_is_there_twice(file: Path) -> None:
    space = {"recipe.batch_size": [32, 64], "T1.model": ["wrn_16_1", "resnet20"]}
    assert len({t.trial_id for t in random_search(file, space, 8).trials}) == 8
    assert complaint(file, algorithm="random", trials=9, space=space) == [
        "search.trials: must be at most 8, which is all that the space has (found 9)"
    ]


def test_a_guided_search_begins_with_the_random_one(file: Path) -> None:
    drawn = random_search(file, TEMPERATURE, 15)
    guided = experiment_of(file, algorithm="tpe", trials=15, space=TEMPERATURE)
    assert len(guided.trials) == 10
    assert guided.trials == drawn.trials[:10]
    assert guided.cells[0].at({"temperature": 2.5}).temperature == 2.5


def test_a_search_changes_no_identity(file: Path) -> None:
    plain = experiment_of(file)
    watched = experiment_of(file, scheduler="asha", metric="train_loss/T1", mode="min")
    assert [t.trial_id for t in plain.trials] == [t.trial_id for t in watched.trials]
    searched = random_search(file, {"temperature": [1, 2]}, 4)
    assert {t.trial_id for t in plain.trials} < {t.trial_id for t in searched.trials}


def test_the_smoke_form_searches_two_points(file: Path) -> None:
    changes = {"smoke": True, "recipe": {"epochs": 50}}
    search = {"algorithm": "tpe", "trials": 30, "scheduler": "asha", "grace_epochs": 5}
    experiment = experiment_of(file, changes, **search, space=TEMPERATURE)
    assert len(experiment.trials) == 2
    assert all(t.stand_in and t.recipe.epochs == 2 for t in experiment.trials)


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"algoritm": "tpe"}, "search: unknown key 'algoritm'; did you mean 'algorithm'?"),
        ({"algorithm": "grid", "trials": 3}, "search.trials: belongs to algorithm 'random' or"),
        ({"algorithm": "tpe", "space": TEMPERATURE}, "search.trials: is required for algorithm"),
        ({"algorithm": "tpe", "trials": 3}, "search.space: is required for algorithm 'tpe'"),
        ({"trials": 0}, "search.trials: must be at least 1 (found 0)"),
        ({"scheduler": "asha", "grace_epochs": 4}, "search.grace_epochs: must be below epochs = 4"),
        ({"scheduler": "pbt"}, "search.scheduler: pbt takes its members from algorithm 'random'"),
    ],
)
def test_a_search_that_is_none(file: Path, search: dict[str, Any], told: str) -> None:
    assert complaint(file, **search)[0].startswith(told)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"temperature": {"low": 8, "high": 1}}, "temperature.high: must be above low = 8"),
        ({"temperature": {"low": 0, "high": 1, "log": True}}, "temperature.low: must be above 0"),
        ({"temperature": {"low": 0, "high": 1}}, "temperature: must be above 0 (found 0.0)"),
        ({"temperature": 3}, "temperature: must be a list of choices, or {low: .., high: .."),
        ({"temperature": []}, "temperature: must have at least one element (found [])"),
        ({"temperature": [1, 2, 1]}, "temperature: has 1 twice (found [1, 2, 1])"),
        ({"temperature": [1, "hot"]}, "temperature: must be a number (found 'hot')"),
        ({"recipe.batch_size": [[32]]}, "recipe.batch_size: must choose among single values"),
        (
            {"recipe.batch_size": {"low": 2.5, "high": 8}},
            "recipe.batch_size.low: must be a whole number (found 2.5)",
        ),
        ({"recipe.batch_size": [1, 2]}, "recipe.batch_size: must be at least 2 (found 1)"),
        ({"S1.model": ["resnet20", "resnet21"]}, "S1.model: unknown network 'resnet21'; did you"),
        ({"recipe.learning_rte": [1]}, "unknown key 'recipe.learning_rte'; did you mean 'recipe."),
        ({"S2.learning_rate": [0.1]}, "unknown key 'S2.learning_rate'; did you mean 'S1."),
        ({"method.beta": [1, 2]}, "unknown key 'method.beta'"),
        ({"recipe.epochs": [1, 2]}, "unknown key 'recipe.epochs'"),
        (
            {"recipe.optimizer": ["sgd", "adam"], "recipe.momentum": {"low": 0, "high": 0.9}},
            "its point {'recipe.momentum':",
        ),
    ],
)
def test_a_space_that_is_none(file: Path, space: dict[str, Any], told: str) -> None:
    line = complaint(file, algorithm="random", trials=20, space=space)[0]
    assert line.removeprefix("search.space").lstrip(".: ").startswith(told)


def test_an_override_reaches_the_space(file: Path) -> None:
    random_search(file, RATE | {"S1.model": ["resnet20"]})
    overrides = ["search.space.S1.model=[wrn_16_1]", "search.space.temperature=[2, 4]"]
    trials = load_experiment(file, overrides).trials
    assert {trial.networks["S1"].model for trial in trials} == {"wrn_16_1"}
    assert {trial.temperature for trial in trials} == {2, 4}


def test_a_key_that_changes_nothing_is_none(file: Path) -> None:
    own = {"model": "wrn_16_1", "learning_rate": 0.1}
    cohorts = [{"teachers": [own], "students": [own]}]
    assert complaint(file, {"cohorts": cohorts}, algorithm="tpe", trials=2, space=RATE) == [
        "search.space.recipe.learning_rate: changes no trial"
    ]


def test_a_search_has_one_seed_and_networks_together(file: Path) -> None:
    search = {"algorithm": "random", "trials": 2, "space": TEMPERATURE}
    (seeds,) = complaint(file, {"seeds": [0, 1]}, **search)
    assert seeds.startswith("seeds: must be one in a search, which compares settings")
    (vanilla,) = complaint(file, {"methods": ["dml", "vanilla"]}, **search)
    assert vanilla.startswith("methods.1: vanilla trains each network in a trial of its own")


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"metric": "val_top1/S2"}, "unknown metric 'val_top1/S2'; did you mean 'val_top1/S1'?"),
        ({"metric": "test_top1/S1"}, "is measured on the test set, on which nothing is tuned"),
        (
            {"metric": "best_val_top1/S1", "scheduler": "median"},
            "exists at a trial's end alone, too late for scheduler median",
        ),
    ],
)
def test_a_metric_that_no_trial_has_in_time(file: Path, search: dict[str, Any], told: str) -> None:
    (line,) = complaint(file, algorithm="random", trials=2, space=TEMPERATURE, **search)
    assert line.startswith(f"search.metric: {told}")


def test_a_metric_of_the_end_serves_a_search_without_scheduler(file: Path) -> None:
    assert random_search(file, TEMPERATURE, metric="best_val_top1/T1").search.mode == "max"


@pytest.mark.parametrize(
    ("changes", "space", "told"),
    [
        ({}, TEMPERATURE, "search.scheduler: pbt needs one population"),
        ({"methods": ["dml"]}, {"temperature": [1, 2]}, "search.space.temperature: cannot change"),
        (
            {"methods": ["dml"]},
            {"recipe.batch_size": {"low": 8, "high": 9}},
            "search.space.recipe.batch_size: cannot change while a trial is trained",
        ),
        (
            {"resources": {"workers": 2}},
            TEMPERATURE,
            "search.scheduler: must be another where 2 processes train a trial (found pbt)",
        ),
    ],
)
def test_a_population_that_is_none(
    file: Path, changes: dict[str, Any], space: dict[str, Any], told: str
) -> None:
    search = {"algorithm": "random", "trials": 2, "scheduler": "pbt", "perturbation_epochs": 1}
    assert complaint(file, changes, **search, space=space)[0].startswith(told)


def test_a_population_that_would_exchange_nothing(file: Path) -> None:
    search = {"algorithm": "random", "scheduler": "pbt", "space": TEMPERATURE}
    alone = complaint(file, trials=1, perturbation_epochs=1, **search)
    assert alone == ["search.trials: must be at least 2 for pbt (found 1)"]
    (late,) = complaint(file, {"methods": ["dml"]}, trials=2, perturbation_epochs=4, **search)
    assert late.startswith("search.perturbation_epochs: must be below epochs = 4")


@pytest.mark.parametrize(
    ("metric", "mode"), [("val_loss/S1", "min"), ("ce/T1", "min"), ("val_top5/S1", "max")]
)
def test_less_of_a_loss_is_better_unless_it_is_said_otherwise(metric: str, mode: str) -> None:
    assert Search(metric=metric).mode == mode
    assert Search(metric=metric, mode="max").mode == "max"


def test_a_space_knows_its_own_points() -> None:
    search = Search(algorithm="tpe", trials=1, space={"a": Interval(low=1, high=2), "b": (1, 2)})
    assert search.has({"a": 1.5, "b": 2})
    assert not search.has({"a": 2.5, "b": 2})
    assert not search.has({"a": 1.5, "b": 3})
    # the file had choices there when the point was drawn
    assert not search.has({"a": "adaptive", "b": 2})
    assert not search.has({"a": None, "b": 2})
    assert not search.has({"a": 1.5})


def test_a_candidate_is_the_trial_of_its_point_in_its_cell(file: Path) -> None:
    experiment = random_search(file, RATE)
    for candidate in experiment.points.values():
        assert experiment.cells[candidate.cell].at(candidate.point) == candidate.trial
