"""What trials leave on the disk that neither comparison nor continuation needs.

Everything that is compared lies in the tracking store. A trial's folder under `runs/` is for going
on with it, and holds copies of what the store has.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switokd import names
from switokd.tracking.store import TrackedExperiment, TrackingStore
from tuning.upkeep import in_training

COPIES = (names.WEIGHTS_FOLDER, names.TIMELINE_FILE, names.SPEC_FILE)
# what the commands of these names write here and log to the run as well
LOGGED_FOLDERS = ("explain", "export")


@dataclass(frozen=True)
class Dispensable:
    """A file or folder that may go, its bytes, and why."""

    path: Path
    size: int
    why: str

    def delete(self) -> None:
        """Raises OSError."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def find_dispensable(experiment: str, store: TrackedExperiment, runs: Path) -> list[Dispensable]:
    """What may go of an experiment's trials under `runs`. Raises TrackingError.

    Of a trial that somebody trains now, nothing; of one that has not finished, nothing but the
    whole folder where no run in the store knows of it.
    """
    tracked = store.trial_runs()
    continued = {run.data.tags.get(names.CONTINUED_FROM) for run in _finished(tracked).values()}
    found: list[Dispensable] = []
    for folder in sorted((runs / experiment / "trials").glob("*")):
        if not folder.is_dir() or in_training(folder, 0.0):
            continue
        run = tracked.get(folder.name)
        if run is None:
            found += _sized(folder, "no run in the store is of this trial")
        elif run.info.status == "FINISHED":
            found += _copies(folder, run, store)
            if folder.name in continued:
                found += _sized(folder / "checkpoints", "a longer trial went on from it")
    for name in LOGGED_FOLDERS:
        for run in _finished(tracked).values():
            found += _sized(runs / name / run.info.run_id, "logged to the run as well")
    return found


def _finished(tracked: Mapping[str, Any]) -> dict[str, Any]:
    return {key: run for key, run in tracked.items() if run.info.status == "FINISHED"}


def _copies(folder: Path, run: Any, store: TrackedExperiment) -> Iterator[Dispensable]:
    """The files of a finished trial that its run has whole."""
    reader = TrackingStore(store.uri)
    kept = {Path(path).name for path in reader.artifacts(run.info.run_id)}
    weights = {Path(p).name for p in reader.artifacts(run.info.run_id, names.WEIGHTS_FOLDER)}
    for name in COPIES:
        path = folder / name
        own = {file.name for file in path.iterdir()} if path.is_dir() else {name}
        if own <= (weights if path.is_dir() else kept):
            yield from _sized(path, "a copy of what the store has")


def _sized(path: Path, why: str) -> Iterator[Dispensable]:
    if path.is_dir():
        yield Dispensable(path, sum(f.stat().st_size for f in path.rglob("*") if f.is_file()), why)
    elif path.is_file():
        yield Dispensable(path, path.stat().st_size, why)
