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
    every: Annotated[
        bool, typer.Option("--all", help="also trials that longer ones of the same supersede")
    ] = False,
) -> None:
    """Compare teacher-student pairs, from what is tracked."""
    frame = print_comparison(experiment, baseline, every)
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
            write_report(RunFrames(), html, experiment, baseline, every)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error.strerror})") from None


def print_comparison(
    experiment: str | None, baseline: str | None = None, every: bool = False
) -> Any:
    """Print the comparison of an experiment, or of all; the frame that it was made from."""
    from dashboards.analysis.comparison import comparison_frame, comparison_notes
    from dashboards.analysis.lengths import newest, superseded_note
    from dashboards.reports import terminal_table
    from dashboards.store.runs import RunFrames

    trials = RunFrames().trials(experiment)
    if baseline not in (None, "vanilla"):
        known_name("baseline", baseline, {*trials["method"], *trials["variant"]})
    notes = []
    if not every:
        notes = [f"{note} (`switokd compare --all` shows them)" for note in superseded_note(trials)]
        trials = newest(trials)
    frame = comparison_frame(trials, **({"baseline": baseline} if baseline else {}))
    terminal_table.print_comparison(frame, console, [*comparison_notes(trials), *notes])
    return frame
