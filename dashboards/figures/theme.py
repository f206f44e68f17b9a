"""Colours and layout that every figure shares."""

from __future__ import annotations

import zlib

import plotly.graph_objects as go

# Okabe and Ito's colours, told apart under every common colour blindness; one per method, for good
METHOD_COLOURS = {
    "vanilla": "#6E6E6E",
    "dml": "#E69F00",
    "kdcl": "#009E73",
    "switokd": "#0072B2",
    "kd": "#CC79A7",
    "fitnet": "#D55E00",
    "at": "#56B4E9",
    "crd": "#8C510A",
    "rco": "#9467BD",
}
SPARE_COLOURS = ("#117733", "#882255", "#44AA99", "#AA4499", "#999933", "#7777DD")

# variants of one method share its colour and differ by these
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "x", "triangle-down")

SEQUENTIAL = "Cividis"
GRID = "rgba(128, 128, 128, 0.25)"


def method_colour(method: str) -> str:
    """The method's colour; a method that is not listed always gets the same spare one."""
    if method in METHOD_COLOURS:
        return METHOD_COLOURS[method]
    return SPARE_COLOURS[zlib.crc32(method.encode()) % len(SPARE_COLOURS)]


def translucent(colour: str, opacity: float) -> str:
    """`#0072B2` as `rgba(0, 114, 178, opacity)`."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


def laid_out(figure: go.Figure, title: str = "", height: int = 420) -> go.Figure:
    """The figure on a transparent ground, fit for a light or dark page, legend under the plot."""
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 15}},
        height=height,
        template="none",
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        margin={"l": 64, "r": 16, "t": 48 if title else 16, "b": 48},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.22, "yanchor": "top"},
        hoverlabel={"namelength": -1},
        font={"size": 13},
    )
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 10}}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def nothing_to_show(message: str) -> go.Figure:
    """A figure that says why it is empty."""
    figure = go.Figure()
    figure.add_annotation(text=message, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return laid_out(figure, height=160)
