"""Which source a timeline is read from, and what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dashboards.store import kept_by_run, timeline_source
from dashboards.store.kept_by_run import KeptByRun
from dashboards.store.runs import RunFrames
from dashboards.store.timeline_source import link_points
from switokd.tracking.store import MissingArtifactError
from tests.dashboards.conftest import record


@pytest.mark.parametrize("is_server", [False, True])
def test_finished_trials_files_are_read_but_from_a_server(
    is_server: bool, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = writer.write(record(), steps=40, points=10)
    row = record(seed=1, status="RUNNING")
    going = writer.write(row, steps=40, points=10, artifacts=False)
    store = RunFrames(writer.uri)
    trials = store.trials()
    monkeypatch.setattr(timeline_source, "is_server", lambda uri: is_server)
    points = link_points(store, trials, ["T1-S1"])
    counts = points.groupby("run_id").size().to_dict()
    assert counts == {done: 10 if is_server else 40, going: 10}


def test_only_what_is_missing_is_read_and_all_of_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []

    def read(trials: pd.DataFrame) -> pd.DataFrame:
        asked.append(trials["run_id"].tolist())
        return pd.DataFrame({"run_id": trials["run_id"], "value": len(asked)})

    kept = KeptByRun()
    trials = pd.DataFrame({"run_id": ["a", "b", "c"]})
    kept.get(trials.head(1), ["FINISHED"], ("gap",), read)
    found = kept.get(trials, ["FINISHED"] * 3, ("gap",), read)
    assert asked == [["a"], ["b", "c"]]
    assert found["value"].tolist() == [1, 2, 2]
    # a running trial's stamp changes, and other metrics are other questions
    kept.get(trials, ["FINISHED", "running 2", "FINISHED"], ("gap",), read)
    kept.get(trials.head(1), ["FINISHED"], ("threshold",), read)
    assert asked[2:] == [["b"], ["a"]]
    monkeypatch.setattr(kept_by_run, "MOST_RUNS", 1)
    kept.get(trials.tail(1), ["FINISHED"], ("gap",), read)
    kept.get(trials.head(1), ["FINISHED"], ("gap",), read)
    assert asked[4:] == [["a"]]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_named_and_the_stores_windows_stand_in(damage: str, writer: Any) -> None:
    done = writer.write(record(), steps=40, points=10)
    folder = writer.client.get_run(done).info.artifact_uri.removeprefix("file://")
    file = Path(folder) / "timeline.parquet"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[-40:-8] = bytes(32)
    file.write_bytes(content)
    store = RunFrames(writer.uri)
    with pytest.raises(MissingArtifactError, match=rf"run {done}: its timeline.parquet is damaged"):
        store.timeline(done)
    points = link_points(store, store.trials(), ["T1-S1"])
    assert points.groupby("run_id").size().to_dict() == {done: 10}
