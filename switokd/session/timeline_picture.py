"""A trial's timeline as a picture, for whoever browses its run: gap, threshold, mode, accuracy."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from switokd import names
from switokd.tracking.outbox import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from switokd.training.timeline import Timeline, WindowMean

WIDTH, HEIGHT, DPI = 9.0, 5.2, 110
GAP, THRESHOLD, STUDENT, TEACHER = "#0072B2", "#6E6E6E", "#0072B2", "#CC79A7"
# from none to all of a window's steps in expert mode
MODE_SCALE = ("#FFFFFF", "#F3C08A")


def timeline_picture(
    timeline: Timeline, history: Iterable[Point], title: str, steps_per_epoch: int
) -> bytes | None:
    """A PNG of a finished trial's links, one under the other, and of its networks' accuracies.

    `history`: the points of its epochs. None where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    links = timeline.links
    figure = Figure((WIDTH, HEIGHT + 1.6 * (len(links) - 1)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=10)
    draw(figure, timeline, history, steps_per_epoch)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def draw(
    figure: Figure, timeline: Timeline, history: Iterable[Point], steps_per_epoch: int
) -> None:
    """Fill a figure: axes for each link, and for the accuracies."""
    windows = list(timeline.windows(len(timeline), 0, ended=True))
    links = timeline.links
    axes = figure.subplots(len(links) + 1, 1, sharex=True, squeeze=False)[:, 0]
    quantity = names.EXPERT if timeline.switched else names.WOULD_BE_EXPERT
    for link, place in zip(links, axes, strict=False):
        _draw_link(place, windows, link, quantity)
    _draw_accuracies(axes[-1], history, steps_per_epoch)
    axes[-1].set_xlabel("training step")
    axes[-1].set_xlim(0, max(1, len(timeline)))


def _draw_link(
    place: Axes, windows: list[WindowMean], link: tuple[str, ...], quantity: str
) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    series = {
        name: [(w.step, w.value) for w in windows if w.quantity == name and w.subject == link]
        for name in (names.GAP, names.THRESHOLD, quantity)
    }
    if series[quantity]:
        steps, shares = zip(*series[quantity], strict=True)
        # a window's point is its last step
        place.pcolormesh(
            [0, *steps],
            [0, 1],
            [shares],
            cmap=LinearSegmentedColormap.from_list("mode", MODE_SCALE),
            vmin=0,
            vmax=1,
            transform=place.get_xaxis_transform(),
        )
        told = "expert mode" if quantity == names.EXPERT else "expert mode,\nhad it a switch"
        place.add_patch(Rectangle((0, 0), 0, 0, color=MODE_SCALE[1], label=told))
    for name, colour in ((names.GAP, GAP), (names.THRESHOLD, THRESHOLD)):
        if series[name]:
            steps, values = zip(*series[name], strict=True)
            place.plot(steps, values, label=name, linewidth=1.3, color=colour)
    place.set_ylabel(f"{'-'.join(link)}\nL1 distance")
    place.set_ylim(bottom=0)
    place.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)


def _draw_accuracies(place: Axes, history: Iterable[Point], steps_per_epoch: int) -> None:
    curves: dict[str, list[tuple[int, float]]] = {}
    for point in history:
        quantity, _, network = point.name.partition("/")
        if quantity == names.VAL_TOP1:
            curves.setdefault(network, []).append((point.step * steps_per_epoch, point.value))
    for network, curve in sorted(curves.items()):
        # dashes tell networks of one side apart
        colour = TEACHER if network.startswith("T") else STUDENT
        dashes = ("solid", "dashed", "dotted")[(int(network[1:]) - 1) % 3]
        steps, values = zip(*curve, strict=True)
        place.plot(steps, values, label=network, marker=".", linestyle=dashes, color=colour)
    place.set_ylabel("top-1 (%)")
    if curves:
        place.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
