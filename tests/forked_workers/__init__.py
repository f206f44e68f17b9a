"""Ray's workers, begun where the imports are done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from switokd.files.lock import one_at_a_time
from tests.forked_workers.sitecustomize import SERVER
from tests.processes import await_
from tests.shared_folder import VARIABLE


def forking() -> dict[str, str]:
    """The environment of a Ray whose workers are forked, by a server of all tests of this run."""
    folder = Path(os.environ[VARIABLE]) / "forks"
    with one_at_a_time(folder.with_suffix(".lock")):
        if not folder.is_dir():
            folder.mkdir()
            with (folder / "log").open("wb") as log:
                server = subprocess.Popen(
                    [sys.executable, "-m", "tests.forked_workers.server", str(folder)],
                    cwd=Path(__file__).parents[2],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # it outlives the process of pytest that has started it
                    start_new_session=True,
                )
            await_((folder / "namespaces").exists, of=server)
    # Python looks for `sitecustomize` there
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {SERVER: str(folder), "PYTHONPATH": os.pathsep.join(filter(None, path))}
