"""The comparison as one HTML file that opens offline: the same tables and figures as the pages."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from dashboards.analysis.comparison import BASELINE, comparison_frame, comparison_notes
from dashboards.analysis.grouping import finished, grouped
from dashboards.analysis.labels import trial_name
from dashboards.analysis.leaderboard import leaderboard, ui_address
from dashboards.analysis.lengths import newest
from dashboards.analysis.swept_axes import sensitivity_points, student_rows, swept_keys
from dashboards.analysis.windows import (
    accuracy_points,
    averaged,
    links_of,
    resampled,
    window_points,
)
from dashboards.figures.comparison_figures import interval_figure, pair_matrix, sensitivity_figure
from dashboards.figures.timeline_figure import LineName, timeline_figure
from dashboards.reports.latex_table import latex_table
from dashboards.reports.wording import legend
from dashboards.store.runs import RunFrames
from dashboards.store.timeline_source import link_points
from switokd import names

# what a reader of a supplement looks through; the dashboard has the others
COHORTS_WITH_TIMELINES = 6
POINTS_PER_LINE = 400

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --ground: #ffffff; --rule: #8884; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --ground: #15181c; } }
body { color: var(--ink); background: var(--ground); max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { position: sticky; top: 0; background: var(--ground); }
td:nth-child(-n+4), th:nth-child(-n+4) { text-align: left; }
pre { overflow-x: auto; padding: 1rem; border: 1px solid var(--rule); }
@media print { details > * { display: block; } }
"""

# figures take the page's ink, and change with it
SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)");
function ink() {
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  document.querySelectorAll(".js-plotly-plot").forEach(
    plot => Plotly.relayout(plot, {"font.color": colour}));
}
addEventListener("load", ink);
dark.addEventListener("change", ink);
"""

FORMATS = {"τ": "{:g}", "p": "{:.3g}", "p Holm": "{:.3g}", "seconds": "{:.1f}", "seeds": "{:d}"}


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
    )
    path.write_text(page, encoding="utf-8")


def report_html(
    title: str,
    trials: pd.DataFrame,
    points: pd.DataFrame,
    histories: pd.DataFrame,
    ui: str,
    baseline: str = BASELINE,
) -> str:
    """The whole page. `points` and `histories` are the timelines and accuracies of the cohorts."""
    frame = comparison_frame(trials, baseline)
    notes = "".join(f"<li>{html.escape(note)}.</li>" for note in comparison_notes(trials))
    body = [f"<h1>{html.escape(title)}: teacher-student pairs compared</h1>"]
    body.append(f"<ul>{notes}</ul>" if notes else "")
    if frame.empty:
        body.append("<p>No trial has finished yet.</p>")
        return document(title, body)
    body += ["<h2>Pairs</h2>", table_html(leaderboard(frame, baseline, ui))]
    body.append(f"<p>{html.escape(legend(frame, baseline))}</p>")
    figures = {
        "Students": interval_figure(frame, "student"),
        "Teachers": interval_figure(frame, "teacher"),
        "Pair matrix: the best student of each pair": pair_matrix(frame),
    }
    rows = student_rows(trials)
    keys = swept_keys(rows)
    for key in keys:
        answers = sensitivity_points(rows, key, keys)
        if not answers.empty:
            figures[f"Sensitivity to {key}"] = sensitivity_figure(answers, key)
    figures |= cohort_timelines(trials, points, histories)
    for name, figure in figures.items():
        body += [f"<h2>{html.escape(name)}</h2>", figure_html(figure)]
    latex = html.escape(latex_table(frame))
    body.append(f"<h2>LaTeX</h2><details><summary>Table</summary><pre>{latex}</pre></details>")
    return document(title, body)


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


def table_html(table: pd.DataFrame) -> str:
    """The leaderboard as an HTML table, numbers rounded, missing ones blank."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table)
    rows = []
    for record in table.to_dict("records"):
        cells = "".join(f"<td>{cell(str(name), value)}</td>" for name, value in record.items())
        rows.append(f"<tr>{cells}</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def cell(name: str, value: object) -> str:
    if isinstance(value, str):
        text = html.escape(value)
        return f'<a href="{text}">MLflow</a>' if name == "runs" else text
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    quantity = name.partition(" ")[2] if name[1:2].isdigit() else name
    return FORMATS.get(quantity, "{:.2f}").format(value)


def figure_html(figure: go.Figure) -> str:
    return str(figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False))


def document(title: str, body: list[str]) -> str:
    """The page around its body, with the one copy of plotly.js that its figures share."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(body)}"
        f"<script>{SCRIPT}</script></body></html>"
    )
