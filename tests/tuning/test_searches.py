"""Real searches: killed and started again, cut short by a scheduler, trained as a population."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from switokd import names
from switokd.spec.tracked_params import params_of
from tests.processes import await_
from tests.tuning.workplace import Workplace, small_experiment

pytestmark = pytest.mark.slow

RATE = {"recipe.learning_rate": {"low": 1e-5, "high": 0.3, "log": True}}


def searching(name: str, search: dict[str, Any], **recipe: Any) -> dict[str, Any]:
    content = small_experiment(
        name=name,
        cohorts=[{"teachers": ["wrn_16_1"], "students": ["wrn_16_1"]}],
        methods=["dml"],
        recipe={"batch_size": 256, "holdout": 0.2, "image_size": 4, "train_images": None, **recipe},
        search=search,
    )
    # the space sets it
    del content["recipe"]["learning_rate"]
    return content


def test_a_guided_search_that_was_killed_goes_on_to_its_number_of_trials(
    workplace: Workplace,
) -> None:
    search = {"algorithm": "tpe", "trials": 12, "space": RATE | {"temperature": [1, 2, 4]}}
    first_ten = workplace.write(searching("guided", search)).trials
    driver = workplace.start("sweep", workplace.file.name)
    # in the middle of what Optuna chooses
    trials = workplace.folder / "runs" / "guided" / "trials"
    await_(lambda: trials.is_dir() and len(list(trials.iterdir())) > 10, 300, of=driver)
    driver.kill()
    driver.wait()
    before = set(workplace.trial_runs("guided"))

    output = workplace.sweep()
    runs = workplace.trial_runs("guided")
    assert len(runs) == 12
    assert before <= set(runs)
    assert {trial.trial_id for trial in first_ten} < set(runs)
    for run in runs.values():
        assert run.info.status == "FINISHED"
        point = json.loads(run.data.tags[names.POINT])
        assert run.data.params["temperature"] == f"{point['temperature']:g}"
        for name in ("T1", "S1"):
            rate = json.loads(run.data.params[f"{name}.learning_rate"])
            assert rate == point["recipe.learning_rate"]
    best = max(runs.items(), key=lambda item: item[1].data.metrics["val_top1/S1"])
    assert f"{best[1].data.metrics['val_top1/S1']:.6g}  {best[0]}" in output

    output = workplace.sweep()
    assert "12 trials, 12 finished before, 0 to train" in output
    assert len(workplace.trial_runs("guided")) == 12


@pytest.mark.parametrize(("scheduler", "own"), [("asha", {"reduction_factor": 2}), ("median", {})])
def test_a_trial_that_a_scheduler_stops_is_finished_and_says_so(
    workplace: Workplace, scheduler: str, own: dict[str, Any]
) -> None:
    search = {"algorithm": "random", "trials": 5, "space": RATE, "scheduler": scheduler, "seed": 1}
    name = f"by-{scheduler}"
    experiment = workplace.write(searching(name, search | own, epochs=4))
    workplace.sweep()
    runs = workplace.trial_runs(name)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    stopped = {key: run for key, run in runs.items() if names.STOPPED in run.data.tags}
    assert 0 < len(stopped) < 5
    for trial in experiment.trials:
        run, folder = runs[trial.trial_id], workplace.trial_folder(trial)
        series = workplace.series(run)
        epochs = list(series["val_top1/S1"])
        timeline = pd.read_parquet(folder / "timeline.parquet")
        assert epochs == list(range(1, len(epochs) + 1))
        assert timeline["epoch"].max() == len(epochs)
        assert list(series["last_val_top1/S1"]) == [len(epochs)]
        assert (folder / "weights" / "S1-last.pt").exists()
        if trial.trial_id in stopped:
            assert len(epochs) < 4
            assert run.data.tags[names.STOPPED] == f"epoch {len(epochs)}: stopped by {scheduler}"
        else:
            assert len(epochs) == 4
    ended = {key: run.info.end_time for key, run in runs.items()}

    output = workplace.sweep()
    assert "5 finished before, 0 to train" in output
    now = workplace.trial_runs(name)
    assert {key: run.info.end_time for key, run in now.items()} == ended


def test_a_killed_population_goes_on_and_tracks_every_change(workplace: Workplace) -> None:
    search = {"algorithm": "random", "trials": 4, "space": RATE, "scheduler": "pbt"}
    experiment = workplace.write(
        searching("population", search | {"perturbation_epochs": 1}, epochs=4)
    )
    driver = workplace.start("sweep", workplace.file.name)
    await_(lambda: any_changed(workplace, "population"), 300, of=driver)
    driver.kill()
    driver.wait()
    assert {run.info.status for run in workplace.trial_runs("population").values()} != {"FINISHED"}

    output = workplace.sweep()
    runs = workplace.trial_runs("population")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    changed = 0
    for trial in experiment.trials:
        run = runs[trial.trial_id]
        series = workplace.series(run)
        assert list(series["val_top1/S1"]) == [1, 2, 3, 4]
        # params stay what the member began with
        assert run.data.params == params_of(trial)
        changes = json.loads(run.data.tags.get(names.CHANGES, "[]"))
        changed += len(changes)
        rates = {change["epoch"]: change["values"]["recipe.learning_rate"] for change in changes}
        assert series.get("pbt/recipe.learning_rate", {}) == rates
        in_force = experiment.points[trial.trial_id].point["recipe.learning_rate"]
        for epoch in range(1, 5):
            assert series["lr/S1"][epoch] == pytest.approx(in_force)
            in_force = rates.get(epoch, in_force)
        for change in changes:
            assert change["donor"] in runs
            assert change["donor"] != trial.trial_id
    assert changed
    # they took turns, which is no worker's death
    assert "its worker ended" not in output
    begun = max(run.info.start_time for run in runs.values())
    assert begun < min(run.info.end_time for run in runs.values())


def any_changed(workplace: Workplace, experiment: str) -> bool:
    """Whether a member of a population has gone on from another."""
    if workplace.client.get_experiment_by_name(experiment) is None:
        return False
    runs = workplace.trial_runs(experiment).values()
    return any(name.startswith("pbt/") for run in runs for name in run.data.metrics)
