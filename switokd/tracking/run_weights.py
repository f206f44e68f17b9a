"""Weights that a file names by the run that made them: `run:RUN[/NETWORK][/best|/last]`."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from switokd.tracking.artifacts import fetch_weights
from switokd.tracking.run_names import find_run
from switokd.validation import SpecError

WHICH = ("best", "last")
# weights by run, under the caller's directory
FOLDER = Path("runs") / "weights"


def weights_of_run(name: str) -> Path:
    """A local copy of one network's weights, of a run as `find_run` takes it.

    `NETWORK` may be left out of a run with one network, or with one student; without `best`, the
    last weights are meant. Raises SpecError, or TrackingError where the store has none.
    """
    return _copy(name, Path.cwd())


@cache
def _copy(name: str, _directory: Path) -> Path:
    """Once a process, however many trials begin from it."""
    run_name, *parts = name.split("/")
    which = parts.pop() if parts and parts[-1] in WHICH else "last"
    if not run_name or len(parts) > 1:
        raise SpecError(f"run:{name}: must be run:RUN[/NETWORK][/best|/last]")
    run_id = find_run(run_name).info.run_id
    found = fetch_weights(run_id, parts[0] if parts else None, which)
    students = [network for network in found if network.startswith("S")]
    if not parts and len(found) > 1 and len(students) > 1:
        raise SpecError(
            f"run:{name}: has several students; name one, as in run:{run_name}/{students[0]}"
        )
    (network,) = found if len(found) == 1 else students
    folder = FOLDER / run_id
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{network}-{which}.pt"
    shutil.copyfile(found[network], path)
    return path
