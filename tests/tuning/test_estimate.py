"""What a sweep is said to cost before it runs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from switokd import tracking
from switokd.experiment import Experiment, load_experiment
from switokd.validation import SpecError
from tuning import estimate as estimating
from tuning.estimate import Estimate, TrialCost, dry_run, estimate
from tuning.placement import Placement

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
        TrialCost(trial, number < finished, cost)
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


def test_each_kind_of_work_is_timed_once(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []

    def a_second(trial: object) -> float:
        timed.append(trial)
        return 1.0

    monkeypatch.setattr(estimating, "trial_seconds", a_second)
    plan = estimate(experiment, set())
    # vanilla resnet20, vanilla wrn_16_1 and the pair, of 2 * 2 + 2 * 2 trials
    assert len(timed) == 3
    assert plan.device_seconds == len(experiment.trials) == 8
    timed.clear()
    finished = {trial.trial_id for trial in experiment.trials if trial.method.name == "vanilla"}
    assert estimate(experiment, finished).device_seconds == 4
    assert len(timed) == 1


def test_a_dry_run_lists_every_trial_and_leaves_nothing(
    experiment: Experiment, tmp_path: Path
) -> None:
    output = io.StringIO()
    dry_run(experiment, Console(file=output, width=140))
    text = output.getvalue()
    assert all(text.count(trial.trial_id) == 1 for trial in experiment.trials)
    assert text.count("to train") == 8 + 1
    assert "8 of 8 trials to train" in text
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_store_that_does_not_answer_is_no_empty_store(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking.finished_ids(experiment.name) == set()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(SpecError, match=r"http://127\.0\.0\.1:9 does not answer"):
        tracking.finished_ids(experiment.name)
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///broken.db")
    with pytest.raises(SpecError, match=r"broken\.db is not a readable SQLite store"):
        tracking.finished_ids(experiment.name)
