"""What earlier versions left is taken up: ids, checkpoints, runs, and the comparison of them.

The files were made by the first version of the code, on the machine that `expected.json` names, by
the script `make.py` of the commit that brought them. Where this machine is of the same kind, the
bits must be equal too.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dashboards.analysis.comparison import comparison_frame
from dashboards.reports.csv_table import comparison_csv
from dashboards.store.runs import RunFrames
from switokd.session.trial_session import open_session
from switokd.spec.experiment import load_experiment
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from tests.compatibility import cases
from tuning.plan import make_plan

pytestmark = pytest.mark.usefixtures("tiny_models")

EXPECTED: dict[str, Any] = json.loads(cases.EXPECTED.read_text())


@pytest.mark.parametrize("file", cases.ID_FILES, ids=lambda file: file.stem)
def test_ids_stay(file: Path) -> None:
    found = [f"{trial.trial_id} {trial.label}" for trial in load_experiment(file).trials]
    assert found == cases.ID_FILES[file].read_text().splitlines()


def take_up(
    name: str, trial: TrialSpec, runs: Path, continues: tuple[str, ...] = ()
) -> tuple[int, dict[str, Any]]:
    """The step at which a session of the trial began, and what the trial came to."""
    source = cases.CHECKPOINTS / name
    for folder in source.iterdir():
        target = runs / trial.experiment / "trials" / folder.name / "checkpoints"
        shutil.copytree(folder, target)
    with open_session(trial, runs=runs, threads=1, continues=continues) as session:
        began = session.trainer.step
        for _ in session.epochs():
            pass
        result = session.finish()
    return began, {
        "digest": cases.digest(result.networks),
        "values": cases.values(result.networks),
        "metrics": result.metrics,
    }


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, values in expected["values"].items():
        assert found["values"][name] == pytest.approx(values, rel=1e-3, abs=1e-4)
    if cases.machine() == EXPECTED["machine"]:
        assert found["digest"] == expected["digest"]
        assert found["metrics"] == found["metrics"] | expected["metrics"]


@pytest.mark.parametrize("name", cases.STOPPED_IN_AN_EPOCH)
def test_a_trial_goes_on_from_the_middle_of_an_epoch(name: str, tmp_path: Path) -> None:
    (trial,) = cases.stopped_in_an_epoch()[name].trials
    assert trial.trial_id == EXPECTED[name]["trial_id"]
    began, found = take_up(name, trial, tmp_path)
    assert began == cases.STOP_AT_STEP
    check(found, EXPECTED[name])


def test_a_member_of_a_population_goes_on_under_its_changed_settings(tmp_path: Path) -> None:
    _, member = cases.population().trials
    assert member.trial_id == EXPECTED["population"]["trial_id"]
    began, found = take_up("population", member, tmp_path)
    assert began == cases.STOP_AT_STEP
    check(found, EXPECTED["population"])


def test_a_longer_trial_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    short, long = (each.trials[0] for each in cases.short_and_long())
    expected = EXPECTED["extended"]
    assert (short.trial_id, long.trial_id) == (expected["shorter"], expected["trial_id"])
    began, found = take_up("extended", long, tmp_path, (short.trial_id,))
    versions, theirs = cases.machine(), dict(EXPECTED["machine"])
    # another processor rounds otherwise, and is no reason to begin anew
    del versions["capability"], theirs["capability"]
    assert began == (12 if versions == theirs else 0)
    check(found, expected)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the store, in a folder of its own."""
    runs = tmp_path / "runs"
    shutil.copytree(cases.STORE_RUNS, runs)
    path = runs / "mlflow.db"
    path.write_bytes(gzip.decompress(cases.STORE.read_bytes()))
    with closing(sqlite3.connect(path)) as connection:
        artifacts = (runs / "artifacts").as_uri()
        connection.execute("update experiments set artifact_location = ?", (artifacts,))
        connection.execute(
            "update runs set artifact_uri = ? || '/' || run_uuid || '/artifacts'", (artifacts,)
        )
        connection.commit()
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{path}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_a_sweep_takes_up_the_store(store: str) -> None:
    experiment = cases.tracked()
    opened = tracking.open_experiment(experiment.name)
    plan = make_plan(experiment, opened)
    assert [trial.trial_id for trial in plan.missing] == [EXPECTED["tracked"]["killed"]]
    (missing,) = plan.missing
    tracker = tracking.TrialTracker(opened, missing)
    with open_session(missing, runs=Path("runs"), threads=1, tracker=tracker) as session:
        assert session.trainer.step == cases.STOP_AT_STEP
        for _ in session.epochs():
            pass
        result = session.finish()
    check(
        {
            "digest": cases.digest(result.networks),
            "values": cases.values(result.networks),
            "metrics": result.metrics,
        },
        EXPECTED["tracked"],
    )
    trials = RunFrames().trials(experiment.name)
    assert len(trials) == len(experiment.trials), "no run was made twice"
    assert set(trials["status"]) == {"FINISHED"}


def test_a_longer_experiment_finds_the_shorter_trials_of_the_store(store: str) -> None:
    tracked = cases.tracked()
    longer = cases.experiment(
        tracked.name,
        methods=["vanilla", "dml", "kdcl", {"switokd": {"threshold": ["adaptive", 0.6]}}],
        seeds=[0, 1],
        recipe=cases.RECIPE | {"epochs": 5, "milestones": []},
    )
    plan = make_plan(longer, tracking.open_experiment(longer.name))
    finished = {trial.trial_id for trial in tracked.trials} - {EXPECTED["tracked"]["killed"]}
    assert {only for (only,) in plan.continues.values()} == finished


def test_the_comparison_of_the_store_is_the_same(store: str, tmp_path: Path) -> None:
    frame = comparison_frame(RunFrames().trials("tracked"))
    written = tmp_path / "comparison.csv"
    written.write_text(comparison_csv(frame))
    found, expected = pd.read_csv(written), pd.read_csv(cases.COMPARISON)
    pd.testing.assert_frame_equal(found[expected.columns], expected)
