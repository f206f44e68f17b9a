"""The comparison as one HTML file that opens offline: the same tables and figures as the pages."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from dashboards.analysis.accuracy_cost import cost_points, known_costs
from dashboards.analysis.columns import PARAMS, columns_of
from dashboards.analysis.comparison import BASELINE, comparison_frame, comparison_notes, short
from dashboards.analysis.finding import finding
from dashboards.analysis.grouping import finished, grouped
from dashboards.analysis.labels import trial_name
from dashboards.analysis.leaderboard import leaderboard
from dashboards.analysis.lengths import newest, superseded_note
from dashboards.analysis.swept_axes import (
    MOST_LINES,
    lines_of,
    sensitivity_points,
    student_rows,
    swept_keys,
)
from dashboards.analysis.windows import (
    accuracy_points,
    averaged,
    links_of,
    resampled,
    window_points,
)
from dashboards.figures.comparison_figures import interval_figure, pair_matrix, sensitivity_figure
from dashboards.figures.cost_figure import cost_figure
from dashboards.figures.timeline_figure import LineName, timeline_figure
from dashboards.reports.html_page import document, figure_html, section, table_html
from dashboards.reports.latex_table import latex_table
from dashboards.reports.wording import (
    COST_CAPTION,
    INTERVAL_CAPTION,
    TIMELINE_CAPTION,
    front_in_words,
    legend,
)
from dashboards.store.runs import RunFrames
from dashboards.store.timeline_source import link_points
from switokd import names
from switokd.tracking.ui import ui_address

# what a reader of a supplement looks through; the dashboard has the others
COHORTS_WITH_TIMELINES = 6
POINTS_PER_LINE = 400


def write_report(
    store: RunFrames,
    path: Path,
    experiment: str | None,
    baseline: str = BASELINE,
    every: bool = False,
) -> None:
    """Write the comparison of an experiment (or of all) to `path`. Raises StoreError.

    Of trials that differ in length alone the longest are compared, or `every` one.
    """
    trials = store.trials(experiment)
    notes = [] if every else superseded_note(trials)
    if not every:
        trials = newest(trials)
    cohorts = timeline_cohorts(trials)
    points, accuracies = [], []
    for cohort in cohorts:
        links = links_of(cohort)
        networks = sorted({name for link in links for name in link.split("-")})
        keys = [names.metric(names.VAL_TOP1, network) for network in networks]
        accuracies.append(store.histories(cohort["run_id"], keys))
        points.append(link_points(store, cohort, links))
    page = report_html(
        experiment or "All experiments",
        trials,
        pd.concat(points) if points else window_points(store.histories([], [])),
        pd.concat(accuracies) if accuracies else store.histories([], []),
        ui_address(store.uri),
        baseline,
        notes,
    )
    path.write_text(page, encoding="utf-8")


def report_html(
    title: str,
    trials: pd.DataFrame,
    points: pd.DataFrame,
    histories: pd.DataFrame,
    ui: str,
    baseline: str = BASELINE,
    notes: Sequence[str] = (),
) -> str:
    """The whole page. `points` and `histories` are the timelines and accuracies of the cohorts."""
    frame = comparison_frame(trials, baseline)
    body = [f"<h1>{html.escape(title)}: teacher-student pairs compared</h1>"]
    if frame.empty:
        return document(title, [*body, "<p>No trial has finished yet.</p>", facts(trials, notes)])
    sentence = finding(frame)
    body += [f'<p class="finding">{html.escape(sentence)}</p>' if sentence else ""]
    body.append(facts(trials, notes))
    body += ["<h2>Pairs</h2>", table_html(leaderboard(frame, baseline, ui))]
    body.append(f'<p class="legend">{html.escape(legend(frame, baseline))}</p>')
    body += ["<h2>Students</h2>", figure_html(interval_figure(frame, "student"), INTERVAL_CAPTION)]
    parts = {
        "Teachers": figure_html(interval_figure(frame, "teacher"), INTERVAL_CAPTION),
        "Pair matrix: the best student of each pair": figure_html(
            pair_matrix(frame), "The highest mean that any method reached, sure or not."
        ),
    }
    parts["Accuracy against cost"] = cost_html(frame)
    rows = student_rows(trials)
    keys = swept_keys(rows)
    for key in keys:
        answers = sensitivity_points(rows, key, keys)
        if not answers.empty:
            shown = answers[answers["line"].isin(lines_of(answers)[:MOST_LINES])]
            left_out = answers["line"].nunique() - shown["line"].nunique()
            told = f"The {MOST_LINES} best lines; {left_out} more on the dashboard. "
            parts[f"Sensitivity to {key}"] = figure_html(
                sensitivity_figure(shown, key), (told if left_out else "") + INTERVAL_CAPTION
            )
    timelines = cohort_timelines(trials, points, histories)
    parts |= {
        name: figure_html(figure, TIMELINE_CAPTION.format("means over seeds"))
        for name, figure in timelines.items()
    }
    parts["Settings"] = settings_html(trials)
    parts["LaTeX"] = f"<pre>{html.escape(latex_table(frame))}</pre>"
    body += ["<h2>More</h2>", *(section(name, content) for name, content in parts.items())]
    return document(title, body)


def cost_html(frame: pd.DataFrame) -> str:
    """A figure for each cost that is known, with what lies on its front."""
    figures = []
    for cost in known_costs(frame):
        points = cost_points(frame, cost)
        figures.append(figure_html(cost_figure(points, cost), front_in_words(points, cost)))
    return "".join([*figures, f'<p class="legend">{html.escape(COST_CAPTION)}</p>'])


def facts(trials: pd.DataFrame, more_notes: Sequence[str]) -> str:
    """When the report was written, from which trials, and of which code."""
    done = finished(trials)
    lines = [f"Written {pd.Timestamp.now():%Y-%m-%d %H:%M}"]
    if not done.empty:
        first, last = done["start_time"].min(), done["end_time"].max()
        lines.append(
            f"{len(done)} trials, trained {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
        )
        seeds = ", ".join(map(str, sorted(done["seed"].dropna().unique())))
        lines.append(f"seeds {seeds}; {', '.join(sorted(done['dataset'].unique()))}")
        commits = sorted({short(commit) for commit in done["git_commit"].dropna()})
        lines.append(f"commit {', '.join(commits)}" if commits else "no commit known")
    told = [*comparison_notes(trials), *more_notes]
    notes = "".join(f"<li>{html.escape(note)}.</li>" for note in told)
    head = f'<p class="facts">{html.escape(" · ".join(lines))}</p>'
    return head + (f'<ul class="facts">{notes}</ul>' if notes else "")


def settings_html(trials: pd.DataFrame) -> str:
    """Every setting of the finished trials: its value, or the values that were compared."""
    done = finished(trials)
    rows = []
    for column in columns_of(done, PARAMS):
        values = sorted(done[column].dropna().unique(), key=str)
        if values:
            name = html.escape(column.removeprefix(PARAMS))
            rows.append(f"<tr><td>{name}</td><td>{html.escape(', '.join(values))}</td></tr>")
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def timeline_cohorts(trials: pd.DataFrame) -> list[pd.DataFrame]:
    """The finished trials whose timelines are shown, one frame per data set, pair and axes: every
    method at its lowest temperature."""
    done = grouped(finished(trials))
    done = done[done["topology"] != "single"]
    keys = ["dataset", "pair", "axes"]
    lowest = done.groupby([*keys, "variant"])["temperature"].transform("min")
    done = done[done["temperature"] == lowest]
    return [rows for _, rows in done.groupby(keys, sort=True)][:COHORTS_WITH_TIMELINES]


def cohort_timelines(
    trials: pd.DataFrame, points: pd.DataFrame, histories: pd.DataFrame
) -> dict[str, go.Figure]:
    """A figure per cohort and link, means over seeds."""
    figures = {}
    for cohort in timeline_cohorts(trials):
        own = histories[histories["run_id"].isin(cohort["run_id"])]
        windows = points[points["run_id"].isin(cohort["run_id"])]
        steps = windows.groupby("run_id")["step"].max()
        groups = cohort.set_index("run_id")["group"].astype(str)
        line_names = {
            groups[row["run_id"]]: LineName(trial_name(row), row["method"])
            for _, row in cohort.iterrows()
        }
        accuracies = accuracy_points(own, cohort, steps)
        accuracies = accuracies.assign(run_id=accuracies["run_id"].map(groups))
        keys = ["run_id", "network", "epoch"]
        accuracies = accuracies.groupby(keys)[["step", "value"]].mean().reset_index()
        for link, rows in windows.groupby("link"):
            lines = averaged(resampled(rows, POINTS_PER_LINE), groups)
            shown = accuracies[accuracies["network"].isin(str(link).split("-"))]
            first = cohort.iloc[0]
            name = " ".join([f"{first['dataset']}: {first['pair']}, link {link}", first["axes"]])
            figures[f"Timeline of {name.strip()}"] = timeline_figure(lines, shown, line_names)
    return figures
