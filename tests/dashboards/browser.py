"""Debian's chromium, driven by Playwright, and a dashboard for it to look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from tests.forks import forking
from tests.machine import lacking
from tests.processes import await_, free_port
from tests.shared_folder import networks_at_rest

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    # else it tries to reach its maker's hosts at every start
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# generous: the two cores are shared with the server, and the first page imports everything
PATIENCE_MS = 60_000

# the pages, and what is drawn on each once it has settled
DRAWN = {
    "Pairs": ".js-plotly-plot .scatterlayer .trace",
    "Timelines": ".js-plotly-plot .heatmaplayer image",
    "Sensitivity": ".js-plotly-plot .parcoords",
    "Cost": ".js-plotly-plot .scatterlayer .trace",
    "Why": ".maps img",
    "Live": '[data-testid="stMetricValue"]',
}
PAGES = tuple(DRAWN)
MAIN = '[data-testid="stMainBlockContainer"]'
GRID = f'{MAIN} [data-testid="stDataFrame"] canvas[data-testid="data-grid-canvas"] table'


@contextmanager
def dashboard_of(store: str) -> Iterator[str]:
    """The address of a dashboard of its own on a store."""
    port = free_port()
    environment = os.environ | forking() | {"MLFLOW_TRACKING_URI": store}
    command = [sys.executable, "-m", "dashboards", f"--server.port={port}"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, "the dashboard did not start"
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except OSError:
            return False
        return True

    try:
        await_(answers)
        yield address
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def started_chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        lacking("Debian's chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        process = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield process
        process.close()


@contextmanager
def opened_tab(context: Any, address: str) -> Iterator[Any]:
    """A tab at an address, loaded; fails on anything that the browser's console reports.

    `context`: of the browser; what one of its tabs has loaded, the next need not load again.
    """
    # the browser drops its requests where the machine's networks change
    with networks_at_rest():
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        errors: list[str] = []
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        settle(page)
        yield page
        page.close()
    assert not errors, errors


def settle(page: Any) -> None:
    """Wait until the script has run to its end, and left no exception."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_selector(f'{MAIN} [data-testid="stElementContainer"]')
    # what the last run left and this one did not draw again
    page.wait_for_selector(f'{MAIN} [data-stale="true"]', state="detached")
    assert page.locator('[data-testid="stException"]').count() == 0


def go_to(page: Any, name: str) -> None:
    """Open a page by its link."""
    page.get_by_role("link", name=name, exact=True).first.click()
    page.wait_for_url(f"**/{name.lower()}")
    page.wait_for_timeout(300)
    settle(page)


def rows_of(page: Any, rank: int = 0) -> pd.DataFrame:
    """A table of the page as the page holds it for screen readers."""
    grid = page.locator(GRID).nth(rank)
    grid.wait_for(state="attached")
    cells = grid.evaluate(
        "table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return pd.DataFrame(cells[1:], columns=cells[0])
