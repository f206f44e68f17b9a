"""`python -m tests.dashboards.screenshots FOLDER`: the README's pictures of the dashboard.

They show the store that MLFLOW_TRACKING_URI names (runs/mlflow.db unless it is set); for *Why*,
explain the runs of the first pair before.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dashboards.store.runs import RunFrames
from tests.dashboards.browser import (
    DRAWN,
    MAIN,
    dashboard_of,
    go_to,
    opened_tab,
    settle,
    started_chromium,
)

LAPTOP = {"width": 1366, "height": 768}
SHOTS = [("Pairs", "light"), ("Timelines", "light"), ("Timelines", "dark")]
SHOTS += [("Sensitivity", "light"), ("Cost", "light"), ("Why", "light")]
# the whole page, but no longer than a reader scrolls
TALLEST = 1250


def main() -> None:
    folder = Path(sys.argv[1])
    with dashboard_of(RunFrames().uri) as address, started_chromium() as chromium:
        for name, scheme in SHOTS:
            ending = "-dark" if scheme == "dark" else ""
            path = folder / f"{name.lower()}{ending}.png"
            shown = {"viewport": LAPTOP, "color_scheme": scheme}
            with chromium.new_context(**shown) as context, opened_tab(context, address) as page:
                show(page, name)
                page.screenshot(path=path)
            print(f"{path}: {path.stat().st_size // 1000} kB")


def show(page: Any, name: str) -> None:
    """Open the page and make the window as tall as what it shows."""
    if name != "Pairs":
        go_to(page, name)
    page.wait_for_selector(DRAWN[name], state="attached")
    height = page.locator(MAIN).evaluate("main => main.scrollHeight")
    page.set_viewport_size(LAPTOP | {"height": min(TALLEST, height + 20)})
    settle(page)
    # figures grow into place, which nothing on the page announces
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    main()
