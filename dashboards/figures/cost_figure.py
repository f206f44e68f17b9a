"""The figure of accuracy against cost, with what is worth its cost on a line."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboards.analysis.accuracy_cost import COSTS
from dashboards.analysis.labels import trial_name
from dashboards.figures.comparison_figures import accuracy_title, percent_range, value_axis
from dashboards.figures.theme import SYMBOLS, laid_out, method_colour, nothing_to_show

FRONT_COLOUR = "#6E6E6E"


def cost_figure(points: pd.DataFrame, cost: str) -> go.Figure:
    """Student accuracy (mean, 95 % interval over seeds) against one cost.

    `points` is what `cost.cost_points` gives. Colour tells the method, the symbol the network; what
    lies on the Pareto front is filled and joined, the others are open.
    """
    if points.empty:
        return nothing_to_show("No finished student whose cost is known.")
    figure = go.Figure()
    several = points["dataset"].nunique() > 1
    for dataset, rows in points[points["on_front"]].groupby("dataset"):
        front = rows.sort_values("cost", kind="stable")
        figure.add_scatter(
            x=front["cost"],
            y=front["compared_mean"],
            mode="lines",
            line={"color": FRONT_COLOUR, "width": 1.5, "dash": "dash", "shape": "hv"},
            name=f"Pareto front, {dataset}" if several else "Pareto front",
            hoverinfo="skip",
        )
    symbols = dict(zip(sorted(points["model"].unique()), SYMBOLS * 9, strict=False))
    for (method, model), rows in points.groupby(["method", "model"], sort=True):
        colour, mean = method_colour(str(method)), rows["compared_mean"]
        symbol = symbols[str(model)]
        labels = [
            f"{trial_name(row)}<br>{row['dataset']}: {row['pair']} · {row['network']}"
            for _, row in rows.iterrows()
        ]
        figure.add_scatter(
            x=rows["cost"],
            y=mean,
            mode="markers",
            name=f"{method} · {model}" if len(symbols) > 1 else str(method),
            marker={
                "color": colour,
                "size": 11,
                "symbol": [symbol if on else f"{symbol}-open" for on in rows["on_front"]],
                "line": {"width": 2, "color": colour},
            },
            error_y={
                "array": rows["compared_interval_high"] - mean,
                "arrayminus": mean - rows["compared_interval_low"],
                "thickness": 1.2,
            },
            customdata=[[label] for label in labels],
            hovertemplate="%{customdata[0]}<br>%{y:.2f} % for %{x:.4g} "
            + f"{COSTS[cost]}<extra></extra>",
        )
    laid_out(figure, height=520)
    scale = value_axis(points["cost"], numeric=True)
    # marks at every cost would lie on each other
    figure.update_xaxes(title_text=COSTS[cost], type=scale["type"])
    extent = percent_range(
        points["compared_mean"],
        points["compared_interval_low"],
        points["compared_interval_high"],
    )
    figure.update_yaxes(title_text=accuracy_title("Student", points), range=extent)
    return figure
