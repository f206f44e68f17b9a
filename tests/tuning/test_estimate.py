"""What a sweep is said to cost before it runs."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from switokd.spec.experiment import Experiment, load_experiment
from switokd.spec.recipe import Recipe
from switokd.tracking.store import find_experiment
from switokd.train import run
from switokd.validation import SpecError
from tuning.cost import measurement as costing
from tuning.cost.estimate import (
    compare_with_estimate,
    dry_run,
    format_bytes,
    load_estimate,
    print_trials,
    save_estimate,
)
from tuning.cost.measurement import Estimate, TrialCost, TrialWork, estimate
from tuning.placement import Placement
from tuning.plan import Plan, make_plan, what_a_scheduler_did

FILE = """
name: plan
dataset: digits
cohorts: [{teachers: [resnet20], students: [wrn_16_1]}]
methods: [vanilla, switokd]
temperatures: [1, 2]
seeds: [0, 1]
recipe: {epochs: 3, batch_size: 32, image_size: 8}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    (tmp_path / "plan.yaml").write_text(FILE, encoding="utf-8")
    return load_experiment(tmp_path / "plan.yaml")


def costs(experiment: Experiment, seconds: list[float], finished: int = 0) -> list[TrialCost]:
    return [
        TrialCost(trial, number < finished, TrialWork(cost, 30, 10))
        for number, (trial, cost) in enumerate(zip(experiment.trials, seconds, strict=False))
    ]


def test_trials_go_to_the_slot_that_is_free_first(experiment: Experiment) -> None:
    two = Placement(1, 0, 2)
    plan = Estimate(tuple(costs(experiment, [5, 1, 1, 1, 4])), two)
    # one slot has 5 and then 4; the other the three short ones, and 4 starts there at 3
    assert plan.wall_seconds == 7
    assert plan.device_seconds == 12
    assert Estimate(tuple(costs(experiment, [9, 1])), two).wall_seconds == 9
    assert Estimate(tuple(costs(experiment, [9, 1], finished=1)), two).wall_seconds == 1
    assert Estimate(tuple(costs(experiment, [9, 1], finished=2)), two).device_seconds == 0


def test_what_a_search_has_still_to_choose_counts_as_the_mean(experiment: Experiment) -> None:
    plan = Estimate(tuple(costs(experiment, [1, 3])), Placement(1, 0, 1), to_choose=2)
    assert plan.seconds == [1, 3, 2, 2]
    assert plan.wall_seconds == 8
    assert plan.folder_bytes == 4 * (30 + 2 * 10)


def test_the_disk_holds_a_checkpoint_and_the_weights_of_each_trial(experiment: Experiment) -> None:
    plan = Estimate(tuple(costs(experiment, [1, 1, 1], finished=1)), Placement(1, 0, 2))
    assert plan.folder_bytes == 2 * (30 + 2 * 10)
    assert plan.artifact_bytes == 2 * 2 * 10
    assert plan.running_bytes == 2 * 30
    assert [format_bytes(n) for n in (0, 999, 1500, 2.5e9)] == ["0 B", "999 B", "1.5 kB", "2.5 GB"]


def finished_plan(experiment: Experiment, finished: set[str]) -> Plan:
    return replace(make_plan(experiment, None), values=dict.fromkeys(finished, 1.0))


def test_each_kind_of_work_is_timed_once(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []

    def a_second(trial: object) -> TrialWork:
        timed.append(trial)
        return TrialWork(1.0, 30, 10)

    monkeypatch.setattr(costing, "measure", a_second)
    plan = estimate(experiment, make_plan(experiment, None))
    # vanilla resnet20, vanilla wrn_16_1 and the pair, of 2 * 2 + 2 * 2 trials
    assert len(timed) == 3
    assert plan.device_seconds == len(experiment.trials) == 8
    timed.clear()
    finished = {trial.trial_id for trial in experiment.trials if trial.method.name == "vanilla"}
    assert estimate(experiment, finished_plan(experiment, finished)).device_seconds == 4
    assert len(timed) == 1


def test_a_dry_run_lists_every_trial_and_leaves_its_estimate_alone(
    experiment: Experiment, tmp_path: Path
) -> None:
    output = io.StringIO()
    dry_run(experiment, Console(file=output, width=140))
    text = output.getvalue()
    assert all(text.count(trial.trial_id) == 1 for trial in experiment.trials)
    assert text.count("to train") == 8 + 1
    assert "8 of 8 trials to train" in text
    assert re.search(r"memory: about \d.* [GM]B for 2 at once", text)
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(map(str, left)) == ["plan.yaml", "runs/plan/estimate.json"]
    kept = load_estimate(tmp_path / "runs" / "plan", make_plan(experiment, None))
    assert kept is not None
    assert kept.trial_seconds.keys() == {trial.trial_id for trial in experiment.trials}
    assert 0 < kept.wall_seconds <= kept.device_seconds == sum(kept.trial_seconds.values())


def test_a_long_step_is_told_by_a_few_images(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    real = costing.timed_step

    def spied(trainer: Any, images: Any, targets: Any, indices: Any, count: int) -> float:
        trained.append(count)
        # as if an image took a tenth of a second
        real(trainer, images, targets, indices, count)
        return count / 10

    monkeypatch.setattr(costing, "timed_step", spied)
    monkeypatch.setattr(costing, "LONGEST_STEP_SECONDS", 2.0)
    trial = experiment.trials[0]
    trainer = costing.build_trainer(trial, torch.device("cpu"))
    batch = trial.recipe.batch_size
    assert costing.step_seconds(trainer) == (pytest.approx(batch / 10), 8 / batch)
    assert max(trained) == 8, "no whole step was run"
    trained.clear()
    monkeypatch.setattr(costing, "LONGEST_STEP_SECONDS", 1e9)
    assert costing.step_seconds(trainer) == (pytest.approx(batch / 10), 1.0)
    assert trained.count(batch) == costing.WARMUP_STEPS + costing.TIMED_STEPS


def test_bytes_are_those_of_real_checkpoints(experiment: Experiment, tmp_path: Path) -> None:
    trial = experiment.trials[-1].model_copy(
        update={"recipe": Recipe(epochs=1, batch_size=512, image_size=8)}
    )
    work = costing.measure(trial)
    result = run(trial, runs=tmp_path, threads=1)
    (checkpoint,) = (result.folder / "checkpoints").iterdir()
    weights = sum(path.stat().st_size for path in (result.folder / "weights").iterdir())
    # the files' own headers come on top, and a step of the timeline is some 100 bytes
    assert work.checkpoint_bytes < checkpoint.stat().st_size < 1.15 * work.checkpoint_bytes
    assert 2 * work.weights_bytes < weights < 1.15 * 2 * work.weights_bytes


def test_a_dry_run_tells_namesakes_apart_and_what_a_scheduler_did(
    experiment: Experiment,
) -> None:
    recipe = {"epochs": [1, 2], "batch_size": [32, 64]}
    content = yaml.safe_load(FILE) | {"recipe": recipe, "seeds": [0], "methods": ["dml"]}
    trials = Experiment.model_validate(content).trials
    short = trials[0].trial_id
    plan = replace(make_plan(Experiment.model_validate(content), None), values={short: 1.0})
    output = io.StringIO()
    told = {"switokd.stopped": "epoch 1: stopped by asha"}
    plan.guided[short] = str(what_a_scheduler_did(told))
    print_trials(plan, Console(file=output, width=160))
    head, *rows = output.getvalue().splitlines()
    assert head.split() == [
        *("trial", "pair", "method", "tau", "seed", "epochs", "recipe.batch_size", "state")
    ]
    for trial, row in zip(trials, rows, strict=True):
        assert row.split()[:7] == [
            *(trial.trial_id, trial.pair, "dml", f"{trial.temperature:g}", "0"),
            *(str(trial.recipe.epochs), str(trial.recipe.batch_size)),
        ]
    assert rows[0].rstrip().endswith("finished (epoch 1: stopped by asha)")
    assert what_a_scheduler_did({"switokd.pbt": "[]"}) == "its settings changed on the way"
    assert what_a_scheduler_did({}) is None


def test_an_estimate_is_compared_with_the_sweep_it_was_made_for(
    experiment: Experiment, tmp_path: Path
) -> None:
    plan = make_plan(experiment, None)
    placement = Placement(2, 0, 1)
    assert load_estimate(tmp_path, plan) is None
    save_estimate(Estimate(tuple(costs(experiment, [9.0] * 8)), placement), tmp_path)
    kept = load_estimate(tmp_path, plan)
    assert kept is not None
    assert load_estimate(tmp_path, replace(plan, to_choose=1)) is None
    assert load_estimate(tmp_path, finished_plan(experiment, {plan.trials[0].trial_id})) is None
    assert compare_with_estimate(kept, 144.0, 36.0, placement) == (
        "took 0:02:24 (0.02 CPU hours); estimated 0:01:12 (0.04): 2.00 and 0.50 times the estimate"
    )
    # most of a short sweep is the start of its workers
    short = replace(kept, wall_seconds=3.0)
    assert compare_with_estimate(short, 44.0, 88.0, placement).endswith("estimated 0:00:03 (0.04)")


def test_a_store_that_does_not_answer_is_no_empty_store(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_experiment(experiment.name) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(SpecError, match=r"http://127\.0\.0\.1:9 does not answer"):
        find_experiment(experiment.name)
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///broken.db")
    with pytest.raises(SpecError, match=r"broken\.db is not a readable SQLite store"):
        find_experiment(experiment.name)
