"""Histories over a real MLflow server equal those of the file that it serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pandas as pd
import pytest

from dashboards.store.runs import RunFrames
from switokd.tracking import store
from tests.tuning.mlflow_server import Server

pytestmark = pytest.mark.slow

KEYS = ["gap/T1-S1", "expert/T1-S1", "val_top1/S1"]


@pytest.fixture(scope="module")
def server_uri(quickstart_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(quickstart_store.removeprefix("sqlite:///"), folder / "server.db")
    server = Server(folder)
    server.start()
    yield server.uri
    server.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [("MOST_POINTS", 25_000), ("MOST_POINTS", 30), ("BULK_ADDRESS", "/ajax-api/nowhere")],
    ids=["several runs at once", "an answer cut short", "a server without the address"],
)
def test_histories_over_a_server_are_the_files(
    name: str,
    value: object,
    server_uri: str,
    quickstart_store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, name, value)
    file, server = RunFrames(quickstart_store), RunFrames(server_uri)
    trials = file.trials()
    # more than one request has room for
    run_ids = trials["run_id"].head(store.RUNS_PER_REQUEST + 2)
    pd.testing.assert_frame_equal(server.histories(run_ids, KEYS), file.histories(run_ids, KEYS))
    assert len(server.trials()) == len(trials)
    assert len(server.unfinished()) == (trials["status"] != "FINISHED").sum()
