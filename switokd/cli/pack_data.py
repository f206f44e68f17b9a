"""`switokd data`: pack image folders, and check what is packed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

FAILED = 1
SHOWN = 20

app = typer.Typer(help="Pack and check image data.", no_args_is_help=True)
Workers = Annotated[int | None, typer.Option(min=1, help="threads; default one per core")]


@app.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="a folder of class folders", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT.lmdb", show_default=False)],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="leave damaged images out, and count them")
    ] = False,
    workers: Workers = None,
) -> None:
    """Store an image folder as one LMDB; goes on where it was stopped."""
    from switokd.data.packed.lmdb_pack import pack as pack_folder

    with _bar("packing") as (bar, task):
        report = pack_folder(
            folder,
            out,
            workers=workers,
            skip_bad=skip_bad,
            progress=lambda done, total, _: bar.update(task, completed=done, total=total),
        )
    console = Console(soft_wrap=True, highlight=False)
    if report.already_packed:
        console.print(f"{report.out}: packed before, {report.records} images")
        return
    if report.resumed_at:
        console.print(f"went on after {report.resumed_at} files of an earlier call")
    speed = report.image_bytes / 1e6 / max(report.seconds, 1e-9)
    console.print(
        f"{report.out}: {report.records} images of {report.classes} classes, "
        f"{report.image_bytes / 1e6:.1f} MB at {speed:.0f} MB/s"
    )
    if report.ignored:
        console.print(f"{report.ignored} files are no images by their names")
    if report.skipped:
        console.print(f"{len(report.skipped)} damaged images left out:")
        _print_some([f"{name}: {reason}" for name, reason in report.skipped], console)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="OUT.lmdb", show_default=False)],
    workers: Workers = None,
) -> None:
    """Read and decode every image of an LMDB or a class folder; list what is damaged."""
    from switokd.data.packed.lmdb_check import check as check_records

    with _bar("checking") as (bar, task):
        report = check_records(
            path,
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    console = Console(soft_wrap=True, highlight=False)
    state = "sound" if report.sound else f"{len(report.faults)} damaged"
    console.print(f"{report.path}: {report.images} images of {report.classes} classes, {state}")
    if not report.sound:
        for fault in report.faults:
            console.print(f"  {fault}", markup=False)
        raise typer.Exit(FAILED)


def _print_some(lines: list[str], console: Console) -> None:
    for line in lines[:SHOWN]:
        console.print(f"  {line}", markup=False)
    if len(lines) > SHOWN:
        console.print(f"  ... and {len(lines) - SHOWN} more; all are recorded in the LMDB")


@contextmanager
def _bar(what: str) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        yield bar, bar.add_task(what, total=None)
