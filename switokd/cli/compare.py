"""`switokd compare`: the comparison of teacher-student pairs, in the terminal and as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from switokd.cli.terminal import console
from switokd.validation import SpecError, known_name


def compare(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="EXPERIMENT_NAME", help="default all", show_default=False),
    ] = None,
    baseline: Annotated[
        str, typer.Option(metavar="NAME", help="the method or variant to take differences from")
    ] = "vanilla",
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write the comparison as CSV")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write it with its figures as one page")
    ] = None,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write it as a LaTeX table")
    ] = None,
) -> None:
    """Compare teacher-student pairs, from what is tracked."""
    frame = print_comparison(experiment, baseline)
    from dashboards.reports.csv_table import comparison_csv
    from dashboards.reports.html_report import write_report
    from dashboards.reports.latex_table import latex_table
    from dashboards.store.runs import RunFrames

    for path, render in ((csv, comparison_csv), (latex, latex_table)):
        if path is not None:
            with _writing(path):
                path.write_text(render(frame), encoding="utf-8")
    if html is not None:
        with _writing(html):
            write_report(RunFrames(), html, experiment, baseline)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error.strerror})") from None


def print_comparison(experiment: str | None, baseline: str | None = None) -> Any:
    """Print the comparison of an experiment, or of all; the frame that it was made from."""
    from dashboards.analysis.comparison import comparison_frame, comparison_notes
    from dashboards.reports.terminal_table import print_comparison
    from dashboards.store.runs import RunFrames

    trials = RunFrames().trials(experiment)
    if baseline not in (None, "vanilla"):
        known_name("baseline", baseline, {*trials["method"], *trials["variant"]})
    frame = comparison_frame(trials, **({"baseline": baseline} if baseline else {}))
    print_comparison(frame, console, comparison_notes(trials))
    return frame
