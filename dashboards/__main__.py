"""`python -m dashboards [streamlit options]`: the dashboard on 127.0.0.1:8501, or the next port."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from switokd.tracking.ui import free_port

FIRST_PORT = 8501
OPTIONS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    # red, Streamlit's own, would say that something is wrong
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#56B4E9",
}


def main() -> None:
    app = Path(__file__).parent / "pages" / "app.py"
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    if not any(argument.startswith("--server.port") for argument in sys.argv[1:]):
        options.append(f"--server.port={free_port(FIRST_PORT)}")
    command = ["-m", "streamlit", "run", str(app), *options, *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
