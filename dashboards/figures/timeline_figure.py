"""The figure of timelines: gap against threshold, the mode as a band, accuracy under them."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboards.figures.theme import (
    METHOD_COLOURS,
    SPARE_COLOURS,
    laid_out,
    method_colour,
    nothing_to_show,
    translucent,
)

# learning to expert: light to dark, so that it reads in grey too
MODE_SCALE = [[0.0, "#F5E6BE"], [1.0, "#003F66"]]

GAP_PIXELS, ACCURACY_PIXELS, SPACE_PIXELS, LEGEND_PIXELS = 230, 190, 26, 110


class LineName(NamedTuple):
    """What a line is called, and the method that gives it its colour."""

    label: str
    method: str


def timeline_figure(
    points: pd.DataFrame, accuracies: pd.DataFrame, names: dict[str, LineName]
) -> go.Figure:
    """Gap against threshold, the mode as a band, and accuracy, over one axis of steps.

    `names` names every run (or group) by its id, in the order of drawing.
    """
    if points.empty:
        return nothing_to_show("No timeline: vanilla trials have none, and others leave theirs.")
    several_links = points["link"].nunique() > 1
    lines = points.groupby(["run_id", "link"], sort=False)
    drawn = set(points["run_id"])
    names = {run_id: name for run_id, name in names.items() if run_id in drawn}
    heights = [GAP_PIXELS, max(20, 36 - lines.ngroups) * lines.ngroups, ACCURACY_PIXELS]
    figure = make_subplots(
        rows=3,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=SPACE_PIXELS / (sum(heights) + 2 * SPACE_PIXELS),
        row_heights=heights,
    )
    colours = line_colours(names)
    # where lines lie on each other, those drawn first show beside the later ones
    widths = {run_id: max(1.4, 4 - 1.3 * rank) for rank, run_id in enumerate(names)}
    drawn_links = 0
    for run_id, (label, _) in names.items():
        for link in sorted(points.loc[points["run_id"] == run_id, "link"].unique()):
            name = f"{label} · {link}" if several_links else label
            line = lines.get_group((run_id, link))
            add_link(figure, line, name, colours[run_id], widths[run_id])
            add_mode(figure, line, name, drawn_links)
            drawn_links += 1
        for network, curve in accuracies[accuracies["run_id"] == run_id].groupby("network"):
            add_accuracy(figure, curve, f"{label} · {network!s}", colours[run_id])
    add_mode_legend(figure)
    laid_out(figure, height=sum(heights) + 2 * SPACE_PIXELS + LEGEND_PIXELS + 15 * lines.ngroups)
    figure.update_layout(
        coloraxis={"colorscale": MODE_SCALE, "cmin": 0, "cmax": 1, "showscale": False},
        legend={"orientation": "h", "y": -60 / sum(heights)},
        hovermode="closest",
    )
    figure.update_yaxes(title_text="gap, threshold (L1, 0 to 2)", row=1, col=1)
    figure.update_yaxes(showgrid=False, showticklabels=False, title_text="mode", row=2, col=1)
    figure.update_yaxes(title_text="top-1 (%)", row=3, col=1)
    figure.update_xaxes(title_text="training step", row=3, col=1)
    first, last = points["step"].min() - 1, points["step"].max()
    # the last epoch stands at the last step: room for its marker
    figure.update_xaxes(range=[first, last + 0.008 * (last - first)])
    return figure


def line_colours(names: dict[str, LineName]) -> dict[str, str]:
    """A colour per run: its method's for the first of a method, one that no method here has for
    the others: shades of one colour are not told apart."""
    methods = {name.method for name in names.values()}
    own = {method_colour(method) for method in methods}
    spare = itertools.cycle(
        colour for colour in (*SPARE_COLOURS, *METHOD_COLOURS.values()) if colour not in own
    )
    colours: dict[str, str] = {}
    seen: set[str] = set()
    for run_id, name in names.items():
        colours[run_id] = next(spare) if name.method in seen else method_colour(name.method)
        seen.add(name.method)
    return colours


def add_link(figure: go.Figure, points: pd.DataFrame, name: str, colour: str, width: float) -> None:
    """Gap (with its deviation over seeds, if averaged), threshold and mode of one line."""
    step = points["step"]
    if "gap_std" in points and points["gap_std"].notna().any():
        edge: dict[str, Any] = {
            "mode": "lines",
            "line": {"width": 0},
            "showlegend": False,
            "hoverinfo": "skip",
        }
        low, high = points["gap"] - points["gap_std"], points["gap"] + points["gap_std"]
        figure.add_scatter(x=step, y=high, row=1, col=1, legendgroup=name, **edge)
        figure.add_scatter(
            x=step,
            y=low,
            fill="tonexty",
            fillcolor=translucent(colour, 0.18),
            row=1,
            col=1,
            legendgroup=name,
            **edge,
        )
    styles: dict[str, dict[str, Any]] = {"gap": {"width": width}, "threshold": {"dash": "dot"}}
    for quantity, line in styles.items():
        figure.add_scatter(
            x=step,
            y=points[quantity],
            name=f"{name} {quantity}",
            legendgroup=name,
            showlegend=quantity == "gap",
            mode="lines",
            line={"color": colour, **line},
            hovertemplate=f"{name}<br>step %{{x}}: {quantity} %{{y:.3f}}<extra></extra>",
            row=1,
            col=1,
        )


def add_mode(figure: go.Figure, points: pd.DataFrame, name: str, rank: int) -> None:
    """The mode of one line as a bar under its name, the first line's on top.

    Of a line that is never in expert mode it is that which a switch would have taken.
    """
    step = points["step"]
    unswitched = not points["expert"].any() and points["would_be_expert"].any()
    quantity, told = "expert", ""
    if unswitched:
        quantity, told = "would_be_expert", " (had it a switch)"
    width = int(step.diff().median()) if len(step) > 1 else 1
    figure.add_heatmap(
        x=[int(step.iloc[0]) - width, *step],
        y=[-rank - 0.95, -rank - 0.5],
        z=points[[quantity]].to_numpy().T,
        coloraxis="coloraxis",
        hovertemplate=f"{name}<br>step %{{x:.0f}}: %{{z:.0%}} expert steps{told}<extra></extra>",
        row=2,
        col=1,
    )
    figure.add_annotation(
        text=name + told,
        x=0,
        xref="paper",
        xanchor="left",
        y=-rank - 0.5,
        yref="y2",
        yanchor="bottom",
        showarrow=False,
        font={"size": 11},
        borderpad=0,
    )


def add_mode_legend(figure: go.Figure) -> None:
    """What the ends of the mode's colours mean, as entries of the legend."""
    for (_, colour), name in zip(
        MODE_SCALE, ("learning mode: both train", "expert mode: the teacher waits"), strict=True
    ):
        figure.add_scatter(
            x=[None],
            y=[None],
            name=name,
            mode="markers",
            marker={
                **{"symbol": "square", "size": 12, "color": colour},
                "line": {"color": "gray", "width": 1},
            },
            hoverinfo="skip",
            row=3,
            col=1,
        )


def add_accuracy(figure: go.Figure, curve: pd.DataFrame, name: str, colour: str) -> None:
    is_teacher = str(curve["network"].iloc[0]).startswith("T")
    figure.add_scatter(
        x=curve["step"],
        y=curve["value"],
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 1.5, "dash": "dash" if is_teacher else "solid"},
        marker={"size": 5, "symbol": "square-open" if is_teacher else "circle"},
        showlegend=False,
        customdata=curve[["epoch"]].to_numpy(),
        hovertemplate=f"{name}<br>epoch %{{customdata[0]}}: %{{y:.2f}} %<extra></extra>",
        row=3,
        col=1,
    )
