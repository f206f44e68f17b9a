"""The dashboard in a real browser, against the store that a real quickstart sweep left."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dashboards.analysis.comparison import comparison_frame
from dashboards.analysis.finding import finding
from dashboards.analysis.leaderboard import leaderboard
from dashboards.analysis.swept_axes import sensitivity_points, student_rows
from dashboards.reports.csv_table import comparison_csv
from dashboards.reports.html_report import write_report
from dashboards.store.runs import RunFrames
from tests.dashboards.browser import (
    DRAWN,
    MAIN,
    PAGES,
    PATIENCE_MS,
    dashboard_of,
    go_to,
    opened_tab,
    rows_of,
    settle,
    started_chromium,
)
from tests.dashboards.conftest import EXPLAINED_PAIR, explained_run
from tests.shared_folder import networks_at_rest

pytestmark = pytest.mark.slow

# what sticks out of the window and cannot be scrolled to in a box of its own
STICKING_OUT = """main => [...main.querySelectorAll('*')].filter(element => {
  const box = element.getBoundingClientRect();
  if (!box.width || box.right <= innerWidth + 1) return false;
  for (let at = element.parentElement; at && at !== main; at = at.parentElement)
    if (getComputedStyle(at).overflowX !== 'visible') return false;
  return true;
}).map(element => element.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def dashboard(chromium: Any, swept_store: str) -> Iterator[str]:
    with dashboard_of(swept_store) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with started_chromium() as process:
        yield process


@pytest.fixture(scope="module")
def laptop(chromium: Any) -> Iterator[Any]:
    viewport = {"width": 1280, "height": 900}
    with chromium.new_context(viewport=viewport, accept_downloads=True) as context:
        yield context


@pytest.fixture
def tab(laptop: Any, dashboard: str) -> Iterator[Any]:
    with opened_tab(laptop, dashboard) as page:
        yield page


def test_the_leaderboards_numbers_are_the_stores(tab: Any, swept_store: str) -> None:
    table = leaderboard(comparison_frame(RunFrames(swept_store).trials()), "vanilla", "")
    shown = rows_of(tab)
    table = table.head(len(shown))
    assert len(shown) >= 5
    assert shown["pair"].tolist() == table["pair"].tolist()
    for column in ("seeds", "S1 top-1", "S1 ±"):
        assert shown[column].astype(float).tolist() == pytest.approx(table[column].tolist())
    sentence = finding(comparison_frame(RunFrames(swept_store).trials()))
    assert tab.locator("h5").inner_text() == sentence


def test_filters_filter_and_the_download_downloads(tab: Any, swept_store: str) -> None:
    tab.get_by_role("button", name="Filter").click()
    tab.get_by_label("Methods").click()
    tab.get_by_role("option", name="dml", exact=True).click()
    tab.get_by_text("Only Methods: dml").wait_for()
    settle(tab)
    tab.keyboard.press("Escape")
    tab.keyboard.press("Escape")
    assert set(rows_of(tab)["method"]) == {"dml"}
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "comparison.csv"
    text = Path(download.value.path()).read_text()
    frame = comparison_frame(RunFrames(swept_store).trials())
    assert text == comparison_csv(frame[frame["variant"] == "dml"])
    # two temperatures of a cohort of two networks
    assert len(pd.read_csv(io.StringIO(text))) == 2 * 2


def test_timelines_show_the_chosen_steps(tab: Any, swept_store: str) -> None:
    go_to(tab, "Timelines")
    tab.wait_for_selector(".js-plotly-plot .heatmaplayer image", state="attached")
    tab.get_by_text("Mean over seeds").click()
    tab.get_by_text("switokd τ=1 seed 0").first.wait_for()
    settle(tab)
    handle = tab.get_by_role("slider").last
    handle.focus()
    for _ in range(5):
        tab.keyboard.press("ArrowLeft")
    tab.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')._fullLayout.xaxis3.range[1] < 19"
    )
    settle(tab)
    captions = tab.locator('[data-testid="stCaptionContainer"]').last.inner_text()
    assert "every single step" in captions
    drawn = tab.evaluate(
        "() => document.querySelector('.js-plotly-plot')._fullData"
        ".filter(trace => trace.name === 'switokd τ=1 seed 0 gap')"
        ".map(trace => [Array.from(trace.x), Array.from(trace.y)])[0]"
    )
    store = RunFrames(swept_store)
    trials = store.trials()
    chosen = trials[(trials["pair"] == EXPLAINED_PAIR) & (trials["method"] == "switokd")]
    (run_id,) = chosen.query("seed == 0 and temperature == 1")["run_id"]
    steps = store.timeline(run_id).query("step <= 18")
    assert drawn[0] == steps["step"].tolist()
    assert drawn[1] == pytest.approx(steps["gap"].tolist())


def test_sensitivity_draws_the_means_of_the_store(tab: Any, swept_store: str) -> None:
    go_to(tab, "Sensitivity")
    tab.wait_for_selector(".js-plotly-plot .parcoords", state="attached")
    drawn = tab.evaluate(
        "() => Object.fromEntries(document.querySelector('.js-plotly-plot')._fullData"
        ".filter(trace => trace.name && trace.showlegend !== false)"
        ".map(trace => [trace.name, Array.from(trace.y)]))"
    )
    rows = student_rows(RunFrames(swept_store).trials())
    points = sensitivity_points(rows, "temperature", ["temperature"])
    expected = {line: own["mean"].tolist() for line, own in points.groupby("line")}
    assert drawn.keys() == expected.keys()
    for line, means in expected.items():
        assert drawn[line] == pytest.approx(means)


def test_why_sets_the_methods_of_a_pair_side_by_side(tab: Any, swept: Any) -> None:
    go_to(tab, "Why")
    grid = tab.locator(".maps .line")
    grid.nth(2).wait_for()
    assert grid.locator(".name").all_inner_texts() == [
        "image and its class",
        "dml τ=1",
        "switokd τ=1",
    ]
    # six images, of each the teacher's map beside the student's
    assert grid.nth(1).locator("img").count() == 12
    assert grid.nth(0).locator("b").all_inner_texts() == list("012345")
    table = rows_of(tab)
    for variant, row in zip(("dml", "switokd"), table.to_dict("records"), strict=True):
        run_id = explained_run(swept, variant)
        path = swept.client.download_artifacts(run_id, "explain/agreement.json")
        numbers = pd.read_json(path, typ="series")
        assert row["method"] == f"{variant} τ=1"
        columns = ["peak overlap", "correlation", "test images"]
        keys = ["peak_overlap T1-S1", "correlation T1-S1", "images T1-S1"]
        assert [float(row[name]) for name in columns] == pytest.approx(numbers[keys].tolist())
    # the others are said, with what explains them
    assert tab.locator('[data-testid="stCode"]').inner_text().count("switokd explain") == 4
    tab.get_by_text("3-D surfaces", exact=True).click()
    tab.wait_for_function(
        "() => document.querySelectorAll('.js-plotly-plot .gl-container canvas').length >= 4"
    )
    settle(tab)


def test_live_says_that_all_have_finished(tab: Any) -> None:
    go_to(tab, "Live")
    values = tab.locator('[data-testid="stMetricValue"]')
    values.nth(3).wait_for()
    assert values.all_inner_texts() == ["0", "12", "0", "0"]


def test_nothing_sticks_out_of_a_phones_window(chromium: Any, dashboard: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
    with networks_at_rest(), chromium.new_context(color_scheme="dark", **phone) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        for name in PAGES:
            page.goto(dashboard if name == PAGES[0] else f"{dashboard}/{name.lower()}")
            settle(page)
            page.wait_for_selector(DRAWN[name], state="attached")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
            assert page.locator(MAIN).evaluate(STICKING_OUT) == [], name


def test_the_report_opens_offline(chromium: Any, swept_store: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(RunFrames(swept_store), path, None)
    context = chromium.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .main-svg').length")
    # the students' figure; the others are drawn when their section is opened
    assert page.locator(".js-plotly-plot").count() == 1
    assert page.evaluate("document.documentElement.scrollHeight") < 3000
    page.get_by_text("Teachers", exact=True).click()
    page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot').length == 2")
    assert asked == [path.as_uri()]
    assert not errors
    context.close()
