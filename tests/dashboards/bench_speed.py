"""1,000 runs of 2,000 points: what *Pairs* and *Timelines* wait for, without the browser."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dashboards.comparison import comparison_frame
from dashboards.figures import interval_figure, pair_matrix
from dashboards.grouping import finished, grouped
from dashboards.leaderboard import leaderboard
from dashboards.runs import Store
from dashboards.theme import trial_name
from dashboards.timeline_figure import LineName, timeline_figure
from dashboards.timeline_source import link_points
from dashboards.timelines import accuracy_points, resampled

pytestmark = pytest.mark.slow

RUNS = 1000
ALLOWED_SECONDS = 2.0
WINDOWS = 2000
COLUMNS = {
    "runs": "name, source_type, source_name, entry_point_name, user_id, status, start_time, "
    "end_time, source_version, lifecycle_stage, artifact_uri, experiment_id, deleted_time",
    "params": "key, value",
    "tags": "key, value",
    "metrics": "key, value, timestamp, step, is_nan",
    "latest_metrics": "key, value, timestamp, step, is_nan",
}


@pytest.fixture(scope="module")
def big_store(
    tmp_path_factory: pytest.TempPathFactory,
    make_writer: Callable[[Path], Any],
    record: Callable[..., dict[str, Any]],
) -> str:
    """Four real runs, copied in SQL with other seeds and temperatures; ten have every window."""
    writer = make_writer(tmp_path_factory.mktemp("big"))
    scores = {"T1": (97.0, 96.5), "S1": (95.0, 94.5)}
    templates = []
    for method in ("dml", "switokd"):
        for teacher in ("wrn_16_2", "wrn_16_1"):
            row = record((teacher,), method=method, scores=scores)
            templates.append(writer.write(row, steps=6000, points=667, artifacts=False))
    whole = writer.write(record(scores=scores, temperature=99.0), steps=6000, points=WINDOWS)
    database = sqlite3.connect(writer.uri.removeprefix("sqlite:///"))
    for number in range(RUNS - len(templates) - 10):
        template = templates[number % len(templates)]
        copy_run(database, template, seed=1 + number // 4 % 5, temperature=number // 20 + 2)
    for seed in range(1, 10):
        copy_run(database, whole, seed=seed, temperature=99)
    database.commit()
    database.close()
    return str(writer.uri)


def copy_run(database: sqlite3.Connection, run_id: str, seed: int, temperature: int) -> None:
    copy = uuid.uuid4().hex
    for table, columns in COLUMNS.items():
        database.execute(
            f"insert into {table} (run_uuid, {columns}) "
            f"select ?, {columns} from {table} where run_uuid = ?",
            (copy, run_id),
        )
    for table, key, value in [
        ("params", "seed", str(seed)),
        ("params", "temperature", str(temperature)),
        ("tags", "switokd.trial_id", copy[:12]),
    ]:
        database.execute(
            f"update {table} set value = ? where run_uuid = ? and key = ?", (value, copy, key)
        )
    database.execute("update metrics set value = value + ? where run_uuid = ?", (seed / 100, copy))
    noise = int(copy[:4], 16) / 2**16
    database.execute(
        "update latest_metrics set value = value + ? where run_uuid = ?", (noise, copy)
    )


def fastest(action: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of the fastest call: what a page waits for where nothing else is running."""
    seconds = []
    for _ in range(times):
        start = time.process_time()
        action()
        seconds.append(time.process_time() - start)
    return min(seconds)


def test_pairs_of_a_thousand_runs(big_store: str) -> None:
    store = Store(big_store)

    def pairs() -> None:
        trials = store.trials()
        assert len(trials) == RUNS
        frame = comparison_frame(trials, baseline="dml")
        assert frame["last_p_value"].notna().sum() > 100
        assert len(leaderboard(frame, "dml", "")) == frame["group"].nunique()
        interval_figure(frame).to_json()
        pair_matrix(frame).to_json()

    seconds = fastest(pairs)
    print(f"Pairs of {RUNS} runs, read and compared anew: {seconds:.2f} s")
    assert seconds <= ALLOWED_SECONDS


@pytest.mark.parametrize("complete", [True, False], ids=["file", "windows in the store"])
def test_timelines_of_ten_runs(big_store: str, complete: bool) -> None:
    store = Store(big_store)
    trials = grouped(finished(store.trials()))
    trials = trials[trials["temperature"] == 99]
    assert len(trials) == 10
    if complete:
        # copies in SQL have no folder of their own: all ten read the one file
        trials = trials.assign(run_id=trials["run_id"].iloc[0])
    else:
        trials = trials.assign(status="RUNNING")

    def timelines() -> None:
        points = [link_points(store, trial, ["T1-S1"]) for _, trial in trials.iterrows()]
        assert [len(part) for part in points] == [WINDOWS] * 10
        drawn = [resampled(part, 800) for part in points]
        drawn = [part.assign(run_id=f"{rank}") for rank, part in enumerate(drawn)]
        histories = store.histories(trials["run_id"], ["val_top1/S1", "val_top1/T1"])
        steps = points[0].groupby("run_id")["step"].max()
        accuracies = accuracy_points(histories, trials.drop_duplicates("run_id"), steps)
        names = {
            f"{rank}": LineName(trial_name(trial), trial["method"])
            for rank, (_, trial) in enumerate(trials.iterrows())
        }
        timeline_figure(pd.concat(drawn), accuracies, names).to_json()

    seconds = fastest(timelines)
    print(f"Timelines of 10 runs x {WINDOWS} points x 3: {seconds:.2f} s")
    assert seconds <= ALLOWED_SECONDS
