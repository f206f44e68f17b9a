"""Processes that begin where the imports are done: forked, by a server of all tests of this run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from switokd.files.lock import one_at_a_time
from tests.forks.sitecustomize import AGENTS, HOOK, SERVER, SOCKET
from tests.processes import await_
from tests.shared_folder import VARIABLE


def forking(*path: Path | str) -> dict[str, str]:
    """The environment in which Ray's, MLflow's and our processes are forked.

    `path`: where else they look for modules.
    """
    folder = Path(os.environ[VARIABLE]) / "forks"
    with one_at_a_time(folder.with_suffix(".lock")):
        if not folder.is_dir():
            folder.mkdir()
            with (folder / "log").open("wb") as log:
                server = subprocess.Popen(
                    [sys.executable, "-m", "tests.forks.server", str(folder)],
                    cwd=Path(__file__).parents[2],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # it outlives the process of pytest that has started it
                    start_new_session=True,
                )
            await_((folder / SOCKET).exists, of=server)
    # Python looks for `sitecustomize` in the first
    here = Path(__file__).parent
    places = filter(None, [here, *path, os.environ.get("PYTHONPATH")])
    return {
        SERVER: str(folder),
        HOOK: str(here / "gate.py"),
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        **AGENTS,
    }


def starter(process: psutil.Process) -> psutil.Process:
    """The process that has started one, which others may stand for."""
    found: psutil.Process | None = process
    while found is not None:
        process, name = found, f"for {found.pid}"
        named = (other for other in psutil.process_iter(["name"]) if other.info["name"] == name)
        found = next(named, None)
    return process.parent()
