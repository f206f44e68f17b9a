"""What the commands do, as functions: `switokd.sweep`, `switokd.compare`, ... (docs/python.md)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from switokd import names
from switokd.spec.experiment import Experiment, load_experiment

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare", "epochs", "load_experiment", "sweep", "timelines"]


def sweep(
    experiment: Experiment,
    *,
    runs: Path | str = "runs",
    fresh: bool = False,
    console: Console | None = None,
) -> dict[str, str]:
    """Train every trial of the experiment that has not finished, tracked; failures by trial id.

    `fresh` runs all anew. `console`: where progress is printed; default nowhere. Raises SpecError
    and DataError for what can be mended, KeyboardInterrupt after an orderly stop.
    """
    from tuning.sweep import sweep as train_missing

    quiet = console or Console(quiet=True)
    return train_missing(experiment, runs=Path(runs), console=quiet, fresh=fresh)


def compare(experiment: str | None = None, baseline: str = "vanilla") -> pd.DataFrame:
    """The comparison of an experiment by name, or of all: a row per network of each trial less its
    seed; accuracies in percent, shares from 0 to 1 (`dashboards.analysis.comparison.COLUMNS`).

    Of trials that differ in their length alone, the longest.
    Raises StoreError where the store is missing or has no such experiment.
    """
    from dashboards.analysis.comparison import comparison_frame
    from dashboards.analysis.lengths import newest
    from dashboards.store.runs import RunFrames

    return comparison_frame(newest(RunFrames().trials(experiment)), baseline)


def timelines(run: str) -> pd.DataFrame:
    """Every training step of every link of a finished run: `step epoch teacher student gap
    threshold epsilon teacher_distance student_distance expert`.

    `run`: a run id, a trial id or the beginning of one. Raises StoreError where there is none, or
    where it has no timeline (a network alone).
    """
    from dashboards.store.runs import RunFrames
    from switokd.tracking.run_names import find_run

    return RunFrames().timeline(find_run(run).info.run_id)


def epochs(run: str) -> pd.DataFrame:
    """The metrics of every epoch of a run, `val_top1/S1` and so on, one column each, by epoch.

    `run`: a run id, a trial id or the beginning of one. Raises StoreError where there is none.
    """
    from dashboards.store.runs import RunFrames
    from switokd.tracking.run_names import find_run

    found = find_run(run)
    per_epoch = {*names.PER_NETWORK, names.AGREEMENT, names.IMAGES_PER_SECOND}
    wanted = [name for name in found.data.metrics if names.quantity_of(name) in per_epoch]
    points = RunFrames().histories([found.info.run_id], sorted(wanted))
    wide = points.pivot(index="step", columns="metric", values="value")
    return wide.rename_axis(index="epoch", columns=None)
