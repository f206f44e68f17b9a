"""The dashboard and the report in a real browser, against a store on disk."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dashboards.comparison import comparison_frame
from dashboards.leaderboard import leaderboard
from dashboards.report import write_report
from dashboards.runs import Store
from dashboards.tables import comparison_csv

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    # else it tries to reach its maker's hosts at every start
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
STARTS_WITHIN_SECONDS = 60
# generous: the two cores are shared with the server, and the first page imports everything
PATIENCE_MS = 60_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and os.environ.get("CI") != "true",
        reason="needs Debian's chromium (apt-get install chromium)",
    ),
]


@pytest.fixture(scope="module")
def dashboard(quickstart_store: str) -> Iterator[str]:
    """Address of a dashboard of its own, on the quickstart's store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"MLFLOW_TRACKING_URI": quickstart_store}
    command = [sys.executable, "-m", "dashboards", f"--server.port={port}"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + STARTS_WITHIN_SECONDS
    try:
        while True:
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, "the dashboard did not start"
                assert time.monotonic() < deadline, "the dashboard does not answer"
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "CI must have chromium: .ci/run installs it"
    with sync_playwright() as playwright:
        process = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield process
        process.close()


@pytest.fixture
def tab(chromium: Any, dashboard: str) -> Iterator[Any]:
    """The dashboard's first page, loaded; fails on anything that the browser's console reports."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(dashboard)
    settle(page)
    yield page
    context.close()
    assert not errors


def settle(page: Any) -> None:
    """Wait until the script has run to its end, and left no exception."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_selector(
        '[data-testid="stMainBlockContainer"] [data-testid="stElementContainer"]'
    )
    assert page.locator('[data-testid="stException"]').count() == 0


def go_to(page: Any, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    page.wait_for_url(f"**/{name.lower()}")
    page.wait_for_timeout(300)
    settle(page)


def rows_of(page: Any) -> pd.DataFrame:
    """The leaderboard as the page holds it for screen readers."""
    grid = page.locator('[data-testid="stDataFrame"] canvas[data-testid="data-grid-canvas"] table')
    grid.first.wait_for(state="attached")
    cells = grid.first.evaluate(
        "table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return pd.DataFrame(cells[1:], columns=cells[0])


def expected(store: str) -> pd.DataFrame:
    return leaderboard(comparison_frame(Store(store).trials()), "vanilla", "")


def test_the_leaderboards_numbers_are_the_stores(tab: Any, quickstart_store: str) -> None:
    shown = rows_of(tab)
    table = expected(quickstart_store).head(len(shown))
    assert len(shown) >= 5
    assert shown["pair"].tolist() == table["pair"].tolist()
    for column in ("S1 best", "S1 last", "S1 last ±"):
        assert shown[column].astype(float).tolist() == pytest.approx(table[column].tolist())
    metric = tab.locator('[data-testid="stMetricValue"]').first.inner_text()
    assert metric == f"{table['S1 last'].iloc[0]:.2f} %"


def test_filters_filter_and_the_download_downloads(tab: Any, quickstart_store: str) -> None:
    tab.get_by_label("Methods").click()
    tab.get_by_role("option", name="dml", exact=True).click()
    tab.wait_for_timeout(500)
    settle(tab)
    assert set(rows_of(tab)["method"]) == {"dml"}
    tab.keyboard.press("Escape")
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "comparison.csv"
    text = Path(download.value.path()).read_text()
    frame = comparison_frame(Store(quickstart_store).trials())
    assert text == comparison_csv(frame[frame["variant"] == "dml"])
    assert len(pd.read_csv(io.StringIO(text))) == 2 * 2 + 2 * 3


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("Timelines", ".js-plotly-plot .heatmaplayer image"),
        ("Sensitivity", ".js-plotly-plot .parcoords"),
        ("Why", '[data-testid="stCode"]'),
        ("Live", '[data-testid="stMetricValue"]'),
    ],
)
def test_every_page_opens(tab: Any, name: str, sign: str) -> None:
    go_to(tab, name)
    tab.wait_for_selector(sign, state="attached")


def test_timelines_show_the_chosen_steps(tab: Any, quickstart_store: str) -> None:
    go_to(tab, "Timelines")
    tab.wait_for_selector(".js-plotly-plot .heatmaplayer image", state="attached")
    handle = tab.get_by_role("slider").last
    handle.focus()
    for _ in range(20):
        tab.keyboard.press("ArrowLeft")
    tab.wait_for_timeout(1000)
    settle(tab)
    tab.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')._fullLayout.xaxis3.range[1] < 21"
    )
    assert (
        "every single step" in tab.locator('[data-testid="stCaptionContainer"]').last.inner_text()
    )


@pytest.mark.parametrize("name", ["Pairs", "Timelines", "Sensitivity", "Why", "Live"])
def test_a_phone_shows_the_page_without_scrolling_sideways(
    chromium: Any, dashboard: str, name: str
) -> None:
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(dashboard if name == "Pairs" else f"{dashboard}/{name.lower()}")
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_the_report_opens_offline(chromium: Any, quickstart_store: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(Store(quickstart_store), path, None)
    context = chromium.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .main-svg').length")
    drawn = page.locator(".js-plotly-plot").count()
    assert drawn == page.locator("h2").count() - 2  # the table and the LaTeX are no figures
    assert asked == [path.as_uri()]
    assert not errors
    context.close()
