"""Figures of the comparison: frames in, plotly figures out, nothing read and nothing stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboards.analysis.comparison import with_networks_alone
from dashboards.analysis.labels import trial_name
from dashboards.figures.theme import (
    DASHES,
    SEQUENTIAL,
    SYMBOLS,
    laid_out,
    method_colour,
    nothing_to_show,
    translucent,
)

# of the axis, between the intervals of neighbouring lines
LINE_SHIFT = 0.012
NO_VALUE = "–"
ROW_PIXELS = 50


def accuracy_title(who: str, rows: pd.DataFrame) -> str:
    """`Student top-1, last epoch (%)`: of the epochs that the rows are compared by."""
    epochs = " or ".join(sorted(set(rows["compared_epoch"])))
    return f"{who} top-1, {epochs} epoch (%)"


def interval_figure(frame: pd.DataFrame, role: str = "student") -> go.Figure:
    """Top-1 of one role's networks, a row per trial less its seed: mean, 95 % interval, seeds."""
    rows = with_networks_alone(frame, role)
    rows = rows[rows["compared_mean"].notna()]
    if rows.empty:
        return nothing_to_show(f"No finished trial with a {role}.")
    several = rows["dataset"].nunique() > 1
    labels = [
        f"<b>{trial_name(row)}</b><br>"
        + (f"{row['dataset']}: " if several else "")
        + f"{row['pair']} · {row['network']}"
        for _, row in rows.iterrows()
    ]
    rows = rows.assign(label=labels).sort_values("compared_mean", kind="stable")
    rows = rows.assign(place=range(len(rows)))
    figure = go.Figure()
    for method, points in rows.groupby("method", sort=True):
        colour, mean = method_colour(str(method)), points["compared_mean"]
        seeds = points[["place", "label", "compared_values", "seed_list"]].explode(
            ["compared_values", "seed_list"]
        )
        figure.add_scatter(
            x=seeds["compared_values"].astype(float),
            y=seeds["place"],
            mode="markers",
            legendgroup=str(method),
            showlegend=False,
            marker={"color": translucent(colour, 0.55), "size": 6},
            customdata=seeds[["seed_list", "label"]].to_numpy(),
            hovertemplate="%{customdata[1]}<br>seed %{customdata[0]}: %{x:.2f} %<extra></extra>",
        )
        figure.add_scatter(
            x=mean,
            y=points["place"],
            mode="markers",
            name=str(method),
            legendgroup=str(method),
            marker={"color": colour, "size": 11, "symbol": "diamond"},
            error_x={
                "array": points["compared_interval_high"] - mean,
                "arrayminus": mean - points["compared_interval_low"],
                "thickness": 1.5,
            },
            customdata=points[["seeds", "label"]].to_numpy(),
            hovertemplate="%{customdata[1]}<br>mean %{x:.2f} %, seeds: %{customdata[0]}"
            "<extra></extra>",
        )
    for place, label in zip(rows["place"], rows["label"], strict=True):
        # above its row and not beside it: a phone has no room there
        figure.add_annotation(
            **{"text": label, "align": "left", "showarrow": False, "font": {"size": 11}},
            **{"x": 0, "xref": "paper", "xanchor": "left"},
            **{"y": place + 0.14, "yanchor": "bottom", "borderpad": 0},
        )
    laid_out(figure, height=110 + ROW_PIXELS * len(rows))
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    extent = percent_range(
        rows["compared_values"].explode().astype(float),
        rows["compared_interval_low"],
        rows["compared_interval_high"],
    )
    figure.update_xaxes(title_text=accuracy_title(role.capitalize(), rows), range=extent)
    figure.update_yaxes(tickvals=rows["place"], showticklabels=False)
    figure.update_yaxes(range=[-0.4, len(rows) - 0.1])
    figure.update_layout(margin={"l": 16})
    return figure


def percent_range(*values: pd.Series) -> tuple[float, float]:
    """An axis that holds the values (percent), with room on both sides."""
    known = pd.concat([part for part in values if part.notna().any()]).dropna()
    low, high = known.min(), known.max()
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def pair_matrix(frame: pd.DataFrame, role: str = "student") -> go.Figure:
    """Teacher by student heat map: the best mean of a role that any method reached in a pair."""
    together = frame[(frame["topology"] != "single") & (frame["role"] == role)]
    together = together[together["compared_mean"].notna()]
    if together.empty:
        return nothing_to_show("No finished trial with a teacher and a student.")
    sides = together["pair"].str.split(">", n=1, expand=True)
    together = together.assign(teachers=sides[0], students=sides[1])
    top = together.loc[together.groupby(["teachers", "students"])["compared_mean"].idxmax()]
    means = top.pivot(index="teachers", columns="students", values="compared_mean")
    names = top.assign(name=[trial_name(row) for _, row in top.iterrows()])
    names = names.pivot(index="teachers", columns="students", values="name")
    texts = [
        ["" if pd.isna(mean) else f"{mean:.2f}<br>{name}" for mean, name in zip(*pair, strict=True)]
        for pair in zip(means.to_numpy(), names.to_numpy(), strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=means.to_numpy(),
            x=means.columns.tolist(),
            y=means.index.tolist(),
            text=texts,
            texttemplate="%{text}",
            colorscale=SEQUENTIAL,
            colorbar={"title": {"text": "top-1 (%)"}, "thickness": 14},
            hovertemplate="%{y} > %{x}: %{z:.2f} %<extra></extra>",
            xgap=2,
            ygap=2,
        )
    )
    laid_out(figure, height=170 + 80 * len(means))
    figure.update_xaxes(title_text="student", type="category", showgrid=False)
    figure.update_yaxes(title_text="teacher", type="category", showgrid=False)
    return figure


def sensitivity_figure(points: pd.DataFrame, axis: str) -> go.Figure:
    """Student accuracy against a swept key, one line per method and pair: mean, 95 % interval and
    seeds.

    `points` is what `sensitivity.sensitivity_points` gives.
    """
    if points.empty:
        return nothing_to_show(f"No finished trials differ in {axis} alone.")
    numeric = bool(pd.to_numeric(points["x"], errors="coerce").notna().all())
    figure = go.Figure()
    drawn: dict[str, int] = {}
    lines = points.groupby(["method", "line"], sort=True)
    scale = value_axis(points["x"], numeric)
    for number, ((method, line), rows) in enumerate(lines):
        rank = drawn[str(method)] = drawn.get(str(method), -1) + 1
        rows = rows.assign(x=pd.to_numeric(rows["x"])) if numeric else rows
        rows = rows.sort_values("x")
        place = number - (lines.ngroups - 1) / 2
        rows = rows.assign(place=beside(rows["x"], scale, place, points["x"]))
        colour, symbol = method_colour(str(method)), SYMBOLS[rank % len(SYMBOLS)]
        seeds = rows[["place", "values"]].explode("values")
        figure.add_scatter(
            x=seeds["place"],
            y=seeds["values"].astype(float),
            mode="markers",
            legendgroup=str(line),
            showlegend=False,
            hoverinfo="skip",
            marker={"symbol": symbol, "size": 5, "color": translucent(colour, 0.45)},
        )
        figure.add_scatter(
            x=rows["place"],
            y=rows["mean"],
            name=str(line),
            legendgroup=str(line),
            mode="lines+markers",
            line={"color": colour, "dash": DASHES[rank % len(DASHES)]},
            marker={"symbol": symbol, "size": 9},
            error_y={
                "array": rows["high"] - rows["mean"],
                "arrayminus": rows["mean"] - rows["low"],
                "thickness": 1.2,
            },
            customdata=rows[["seeds", "x"]].to_numpy(),
            hovertemplate=f"{line}<br>{axis} %{{customdata[1]}}: %{{y:.2f}} %, "
            "seeds: %{customdata[0]}<extra></extra>",
        )
    laid_out(figure, height=460 + 12 * lines.ngroups)
    unit = {"temperature": "temperature τ"}.get(axis, axis)
    figure.update_xaxes(title_text=unit, **scale)
    every = points["values"].explode().astype(float)
    extent = percent_range(every, points["low"], points["high"])
    figure.update_yaxes(title_text=accuracy_title("Student", points), range=extent)
    return figure


def beside(values: pd.Series, scale: dict[str, Any], place: float, every: pd.Series) -> pd.Series:
    """The values moved a little, by how far their line stands from the middle one, so that one
    line's intervals do not hide another's."""
    if scale["type"] == "category":
        return values
    known = pd.to_numeric(every)
    if scale["type"] == "log":
        return values * (known.max() / known.min()) ** (LINE_SHIFT * place)
    return values + LINE_SHIFT * place * (known.max() - known.min())


def value_axis(values: pd.Series, numeric: bool) -> dict[str, Any]:
    """An axis that is marked where there are values; logarithmic where these span decades."""
    if not numeric:
        return {"type": "category"}
    marks = sorted(pd.to_numeric(values).unique())
    decades = marks[0] > 0 and marks[-1] >= 8 * marks[0]
    axis: dict[str, Any] = {"type": "log" if decades else "linear"}
    if len(marks) <= 12:
        axis |= {"tickvals": marks, "ticktext": [f"{mark:g}" for mark in marks]}
    return axis


def parallel_coordinates(points: pd.DataFrame, axes: Sequence[str]) -> go.Figure:
    """Every finished trial as a line through its swept keys to its student's accuracy (percent).

    `points` has a column per axis and `accuracy`; text and True or False become categories.
    """
    if points.empty or not axes:
        return nothing_to_show("Nothing was swept: all finished trials have the same settings.")
    dimensions: list[dict[str, Any]] = [parallel_dimension(points[axis], axis) for axis in axes]
    accuracy = {"label": "student top-1 (%)", "values": points["accuracy"], "tickformat": ".2f"}
    dimensions.append(accuracy)
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": points["accuracy"],
                "colorscale": SEQUENTIAL,
                "showscale": True,
                "colorbar": {"title": {"text": "top-1 (%)", "font": {"size": 13}}, "thickness": 14},
            },
        )
    )
    laid_out(figure, height=460)
    longest = max(map(len, dimensions[0].get("ticktext", [""])))
    figure.update_layout(margin={"l": 30 + 7 * longest, "r": 30, "t": 70, "b": 30})
    return figure


def parallel_dimension(values: pd.Series, label: str) -> dict[str, Any]:
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all() and numbers.nunique() > 6:
        return {"label": label, "values": numbers}
    texts = values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
    # a method without the setting has no value there
    texts = texts.where(values.notna(), NO_VALUE)
    is_number = numbers.notna()[values.notna()].all()
    known = sorted(texts[values.notna()].unique(), key=float if is_number else str)
    order = [NO_VALUE, *known] if values.isna().any() else known
    codes = {text: code for code, text in enumerate(order)}
    return {
        "label": label,
        "values": texts.map(codes),
        "tickvals": list(codes.values()),
        "ticktext": list(codes),
    }
