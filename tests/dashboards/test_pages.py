"""What the pages say in every state of a store, run without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import dashboards.pages
from switokd.tracking import tracker as tracking
from switokd.tracking.holder import Holder
from switokd.tracking.store import TrackedExperiment
from tests.dashboards.conftest import StoreWriter, record

pytestmark = pytest.mark.slow

OpenPage = Callable[[str, str], AppTest]
PAGES = ["pairs", "timelines", "sensitivity", "cost", "why", "live"]


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """Runs one page on the store at an address; the cache starts empty."""

    def run(name: str, uri: str) -> AppTest:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        st.cache_data.clear()
        st.cache_resource.clear()
        source = f"from dashboards.pages import {name}\n{name}.page()"
        return AppTest.from_string(source, default_timeout=60).run()

    return run


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(StoreWriter(tmp_path_factory.mktemp("empty")).uri)


@pytest.fixture(scope="module")
def failed_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    writer = StoreWriter(tmp_path_factory.mktemp("failed"))
    scores = {"T1": (0.0, 0.0), "S1": (0.0, 0.0)}
    writer.write(record(scores=scores, status="FAILED"), artifacts=False)
    return str(writer.uri)


def messages(app: AppTest) -> str:
    assert not app.exception, app.exception[0].value
    return " ".join(block.value for block in [*app.info, *app.warning, *app.error])


def labels(app: AppTest) -> list[str]:
    return [metric.label for metric in app.metric]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_on_a_sweeps_store(
    name: str, open_page: OpenPage, quickstart_store: str
) -> None:
    assert not open_page(name, quickstart_store).exception


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_store_says_what_fills_it(
    name: str, open_page: OpenPage, empty_store: str
) -> None:
    app = open_page(name, empty_store)
    assert f"No trial in {empty_store} yet. `make sweep`" in messages(app)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pairs", "No trial has finished yet: 1 trial failed: left out."),
        ("timelines", "No trial with a teacher and a student has run yet"),
        ("sensitivity", "No trial with a teacher and a student has finished yet."),
        ("why", "No trial has finished yet."),
        ("live", "Nothing is running. This page updates by itself."),
    ],
)
def test_a_store_of_failures_alone(
    name: str, message: str, open_page: OpenPage, failed_store: str
) -> None:
    assert message in messages(open_page(name, failed_store))


def test_one_vanilla_run_is_compared_but_has_no_timeline(open_page: OpenPage, writer: Any) -> None:
    writer.write(record((), ("resnet20",), "vanilla", scores={"S1": (95.0, 94.5)}))
    app = open_page("pairs", writer.uri)
    assert messages(app) == ""
    assert app.dataframe[0].value["S1 top-1"].tolist() == [94.5]
    assert "networks alone have no gap" in messages(open_page("timelines", writer.uri))


def test_a_missing_timeline_file_is_said_where_single_steps_are_asked_for(
    open_page: OpenPage, writer: Any
) -> None:
    writer.write(record(), artifacts=False)
    app = open_page("timelines", writer.uri)
    assert messages(app) == ""
    app.slider[0].set_range(1, 20).run()
    assert "No complete timeline (yet) of: switokd τ=1 seed 0" in messages(app)


def test_a_running_trial_shows_its_progress(open_page: OpenPage, quickstart_store: str) -> None:
    app = open_page("live", quickstart_store)
    assert [metric.value for metric in app.metric] == ["1", "33", "1", "0"]
    row = app.dataframe[0].value.iloc[0]
    assert (row["epoch"], row["epochs"], row["progress"]) == (2, 4, 0.5)


def test_a_sweep_at_work_shows_what_waits_and_the_time_left(
    open_page: OpenPage, writer: Any
) -> None:
    writer.write(record())
    sweep = tracking.open_sweep(TrackedExperiment(writer.uri, writer.experiment_id), "fixture")
    assert labels(open_page("live", writer.uri)) == ["Running", "Finished", "Failed", "Stopped"]
    with Holder("fixture", Path("runs")) as holder:
        holder.tell(lambda: {"waiting": 7, "seconds_left": 754})
        holder.claim(sweep)
        app = open_page("live", writer.uri)
        values = {metric.label: metric.value for metric in app.metric}
        assert (values["Waiting"], values["Time left"]) == ("7", "12 min 34 s")
    assert "Waiting" not in labels(open_page("live", writer.uri))


def test_a_store_that_does_not_answer_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    st.cache_resource.clear()
    script = Path(dashboards.pages.__file__).with_name("app.py")
    app = AppTest.from_file(str(script), default_timeout=60).run()
    assert "the tracking server http://127.0.0.1:9 does not answer" in messages(app)


def test_unexplained_runs_get_their_command(open_page: OpenPage, writer: Any) -> None:
    run_id = writer.write(record())
    app = open_page("why", writer.uri)
    assert "Not explained yet" in messages(app)
    assert app.code[0].value == f"switokd explain {run_id}  # wrn_16_2>resnet20 switokd τ=1"


def test_pictures_without_arrays_are_shown_and_said(open_page: OpenPage, writer: Any) -> None:
    run_id = writer.write(record())
    numbers = {"peak_overlap T1-S1": 0.75, "correlation T1-S1": 0.5, "images T1-S1": 359}
    writer.client.log_text(run_id, json.dumps(numbers), "explain/agreement.json")
    writer.client.log_text(run_id, "<p>surface</p>", "explain/surfaces.html")
    app = open_page("why", writer.uri)
    assert "explain them again to compare them" in messages(app)
    (row,) = app.dataframe[0].value.to_dict("records")
    assert (row["method"], row["peak overlap"], row["test images"]) == ("switokd τ=1", 0.75, 359)
    assert [block.label for block in app.expander] == ["Figures of one run"]


def test_filters_and_baseline_change_the_leaderboard(
    open_page: OpenPage, quickstart_store: str
) -> None:
    app = open_page("pairs", quickstart_store)
    assert len(app.dataframe[0].value) == 11
    app.multiselect(key="filter variant").select("switokd").run()
    assert set(app.dataframe[0].value["method"]) == {"switokd"}
    app.selectbox[1].select("dml").run()
    table = app.dataframe[0].value
    # 1.2 - 0.5 points of gain, whatever the temperature
    assert table["S1 − dml"].tolist() == pytest.approx([0.7] * 4)
