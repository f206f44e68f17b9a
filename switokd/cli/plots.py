"""The dashboard's figures as functions of `switokd`; each gives a plotly figure."""

from __future__ import annotations

from typing import Any

from switokd import names
from switokd.cli.functions import compare
from switokd.validation import SpecError, known_name

# what a figure shows of each line of a timeline
POINTS_PER_LINE = 2000


def comparison_figure(experiment: str | None = None, role: str = "student") -> Any:
    """Top-1 of the students (or teachers) of an experiment by name, or of all: means, 95 %
    intervals and seeds. Raises StoreError where there is no such experiment."""
    from dashboards.figures.comparison_figures import interval_figure

    known_name("role", role, ("student", "teacher"))
    return interval_figure(compare(experiment), role)


def cost_figure(experiment: str | None = None, cost: str = "train_seconds") -> Any:
    """Student accuracy against a cost, with the Pareto front.

    `cost`: train_seconds, parameters, multiply_adds or milliseconds_per_image. Raises StoreError
    where there is no such experiment, SpecError for another cost.
    """
    from dashboards.analysis.accuracy_cost import COSTS, cost_points
    from dashboards.figures.cost_figure import cost_figure as draw

    known_name("cost", cost, COSTS)
    return draw(cost_points(compare(experiment), cost), cost)


def timeline_figure(*runs: str) -> Any:
    """Gap against threshold, mode and accuracy of runs with the same links, over their steps.

    `runs`: run ids, trial ids or the beginnings of them. Raises StoreError where there is none.
    """
    import pandas as pd

    from dashboards.analysis.labels import trial_name
    from dashboards.analysis.windows import accuracy_points, links_of, resampled
    from dashboards.figures.timeline_figure import LineName
    from dashboards.figures.timeline_figure import timeline_figure as draw
    from dashboards.store.runs import RunFrames, row_of, typed
    from dashboards.store.timeline_source import link_points
    from switokd.tracking.run_names import find_run

    if not runs:
        raise SpecError("timeline_figure: name at least one run")
    store = RunFrames()
    trials = typed(pd.DataFrame.from_records([row_of(find_run(run), "") for run in runs]))
    links = links_of(trials)
    points = resampled(link_points(store, trials, links), POINTS_PER_LINE)
    networks = sorted({name for link in links for name in link.split("-")})
    histories = store.histories(
        trials["run_id"], [names.metric(names.VAL_TOP1, name) for name in networks]
    )
    accuracies = accuracy_points(histories, trials, points.groupby("run_id")["step"].max())
    lines = {
        row["run_id"]: LineName(f"{trial_name(row)} seed {row['seed']}", row["method"])
        for _, row in trials.iterrows()
    }
    return draw(points, accuracies, lines)
