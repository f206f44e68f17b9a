from __future__ import annotations

import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dashboards.analysis.comparison import comparison_frame
from dashboards.store import runs
from dashboards.store.runs import RunFrames
from switokd.tracking import address as store_address
from switokd.tracking import store
from switokd.tracking.address import StoreError
from switokd.tracking.store import MissingArtifactError
from tests.dashboards.conftest import Record, frame_of


@pytest.fixture(scope="module")
def trials(quickstart_store: str) -> pd.DataFrame:
    return RunFrames(quickstart_store).trials()


def test_one_row_per_trial_run_without_the_sweeps(
    trials: pd.DataFrame, quickstart: list[Record]
) -> None:
    assert len(trials) == len(quickstart) + 2
    assert trials["trial_id"].notna().all()
    assert trials["status"].value_counts().to_dict() == {
        "FINISHED": len(quickstart),
        "FAILED": 1,
        "RUNNING": 1,
    }


def test_a_row_is_what_was_logged(trials: pd.DataFrame, quickstart: list[Record]) -> None:
    for logged, read in zip(quickstart, trials.to_dict("records"), strict=False):
        assert read["temperature"] == float(logged["temperature"])
        assert read["seed"] == int(logged["seed"])
        same = [key for key in logged if key.startswith(("params.", "metrics."))]
        same += ["trial_id", "pair", "topology", "variant", "status", "dataset"]
        assert {key: read[key] for key in same} == {key: logged[key] for key in same}


def test_the_store_gives_the_same_comparison_as_the_records(
    trials: pd.DataFrame, quickstart: list[Record]
) -> None:
    def alike(frame: pd.DataFrame) -> pd.DataFrame:
        # a store's runs have every param there is; which keys are equal is what counts
        keys = {key: pd.factorize(frame[key])[0] for key in ("network_key", "cohort_key")}
        # windows, and so the last gap, are written with the store's runs alone
        return frame.assign(**keys).drop(columns=["run_ids", "group", "last_gap"])

    found, expected = comparison_frame(trials), comparison_frame(frame_of(quickstart))
    pd.testing.assert_frame_equal(alike(found), alike(expected))


def test_pages_are_put_together(
    quickstart_store: str, trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PAGE", 4)
    pd.testing.assert_frame_equal(RunFrames(quickstart_store).trials(), trials)


def test_an_experiment_is_chosen_by_name(quickstart_store: str, trials: pd.DataFrame) -> None:
    assert len(RunFrames(quickstart_store).trials("fixture")) == len(trials)
    with pytest.raises(StoreError, match=r"no experiment 'fixtrue'.*did you mean 'fixture'"):
        RunFrames(quickstart_store).trials("fixtrue")


def test_an_empty_store_gives_no_trials(writer: Any) -> None:
    trials = RunFrames(writer.uri).trials()
    assert trials.empty
    assert list(trials) == list(runs.TRIAL_COLUMNS)


def test_histories_are_every_logged_point(quickstart_store: str, trials: pd.DataFrame) -> None:
    two = trials[trials["method"] == "switokd"]["run_id"].iloc[:2].tolist()
    points = RunFrames(quickstart_store).histories(two, ["gap/T1-S1", "val_top1/S1", "nothing"])
    counts = points.groupby(["run_id", "metric"]).size().unstack()
    assert counts.index.tolist() == sorted(two)
    assert counts.to_dict("list") == {"gap/T1-S1": [40, 40], "val_top1/S1": [4, 4]}
    gap = points.query("run_id == @two[0] and metric == 'gap/T1-S1'")
    timeline = (
        RunFrames(quickstart_store).timeline(two[0]).query("student == 'S1' and teacher == 'T1'")
    )
    assert gap["step"].tolist() == list(range(1, 41))
    assert gap["value"].tolist() == pytest.approx(timeline["gap"].tolist())


def test_no_histories_keep_the_columns(quickstart_store: str) -> None:
    points = RunFrames(quickstart_store).histories([], ["gap/T1-S1"])
    assert list(points) == ["run_id", "metric", "step", "value", "time"]


def test_a_missing_timeline_says_which_run(quickstart_store: str, trials: pd.DataFrame) -> None:
    run_id = trials[trials["status"] == "FAILED"]["run_id"].iloc[0]
    with pytest.raises(MissingArtifactError, match=f"run {run_id} has no artifact timeline"):
        RunFrames(quickstart_store).timeline(run_id)


def test_reading_creates_no_store(tmp_path: Path) -> None:
    told = {
        f"sqlite:///{tmp_path}/runs/mlflow.db": r"no tracking store at .*: run a sweep first",
        (tmp_path / "mlruns").as_uri(): "no folder store",
    }
    for uri, reason in told.items():
        with pytest.raises(StoreError, match=reason):
            RunFrames(uri)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("not a database, but long enough to look like one" * 20)
    with pytest.raises(StoreError, match="is not a readable SQLite store"):
        RunFrames(f"sqlite:///{path}")


def test_a_store_of_another_schema_is_a_plain_error(tmp_path: Path, writer: Any) -> None:
    path = writer.uri.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = 'f00f00f00f00'")
    copy = tmp_path / "other.db"
    copy.write_bytes(Path(path).read_bytes())
    with pytest.raises(StoreError, match="cannot be used"):
        RunFrames(f"sqlite:///{copy}").trials()


def test_a_server_that_does_not_answer_is_named_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_address, "ANSWER_SECONDS", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(StoreError, match=r"server .* does not answer: .*refused"):
            RunFrames(f"http://127.0.0.1:{port}")
        listener.listen()  # takes the connection and never speaks
        with pytest.raises(StoreError, match="does not answer: timed out"):
            RunFrames(f"http://127.0.0.1:{port}")
        # MLflow's own client tries for minutes
        assert time.monotonic() - start < 30
